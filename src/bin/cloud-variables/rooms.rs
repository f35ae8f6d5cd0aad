//! The registry of the server's rooms.

use std::{error::Error, fs, path::Path, time::Duration};

use axum_cloud_variables::{
    ClientAddress, Creators, Identity, Limits, RoomRegistry, ScratchValues, UsernameRules,
    policy::{Join, Policy, Rejection, Verdict, Write},
    relay::{RedisRelay, RelayError, Sharded},
    store::RedbStore,
};

use super::{
    WrongSetting,
    audit::Audit,
    lists::{Lists, Pattern, ROOM_CLOSED},
    settings::Settings,
};

pub(crate) fn registry(
    settings: &Settings,
    store: Option<&Path>,
    lists: Lists,
    audit: Option<Audit>,
) -> Result<RoomRegistry, Box<dyn Error>> {
    let mut builder = RoomRegistry::builder();
    if let Some(file) = store {
        let store = RedbStore::open(file).map_err(|error| {
            super::at("--store", settings.store.as_deref().unwrap_or(file), &error)
        })?;
        builder = builder.store(store).flush_interval(Duration::from_millis(settings.flush_ms));
    }
    if !settings.redis.is_empty() {
        let relays = settings.redis.iter().enumerate().map(|(at, url)| {
            // The error leaves out the address itself, which may contain a password.
            let which =
                if settings.redis.len() > 1 { format!(" ({}.)", at + 1) } else { String::new() };
            relay(url, settings).map_err(|error| WrongSetting(format!("--redis{which}: {error}")))
        });
        let relays = relays.collect::<Result<Vec<_>, _>>()?;
        builder = builder.relay(Sharded::new(relays).ok_or("--redis: no address")?);
    }
    if settings.create_rooms == "never" {
        builder = builder.creators(Creators::Host);
    }
    Ok(builder
        .policy(Doors::of(settings, lists, audit))
        .limits(limits(settings))
        .history(settings.history)
        .tick(settings.tick_ms)
        .settle((settings.settle_ms > 0).then(|| Duration::from_millis(settings.settle_ms)))
        .scratch_values(match settings.any_value {
            true => ScratchValues::Strings,
            false => ScratchValues::Numbers,
        })
        .usernames(match settings.any_username {
            true => UsernameRules::any(),
            false => UsernameRules::default()
                .allow_impersonation(settings.staff_usernames)
                .refuse_profanity(true),
        })
        .build()
        .map_err(|error| WrongSetting(error.to_string()))?)
}

fn relay(url: &str, settings: &Settings) -> Result<RedisRelay, String> {
    let failed = |error: RelayError| error.to_string();
    let mut relay = RedisRelay::new(url).map_err(failed)?;
    if let (Some(certificate), Some(key)) = (&settings.redis_cert, &settings.redis_key) {
        let read =
            |flag, file: &Path| fs::read(file).map_err(|error| super::at(flag, file, &error));
        let (certificate, key) = (read("--redis-cert", certificate)?, read("--redis-key", key)?);
        relay = relay.with_client_certificate(certificate, key).map_err(failed)?;
    }
    let relay = relay.with_empty_room_ttl(Duration::from_secs(settings.empty_room_ttl));
    let Settings { redis_prefix, redis_lease, redis_timeout, .. } = settings;
    let relay = redis_prefix.iter().fold(relay, |relay, prefix| relay.with_prefix(prefix));
    let relay = redis_lease.iter().fold(relay, |relay, lease| relay.with_lease(*lease));
    Ok(redis_timeout.iter().fold(relay, |relay, time| relay.with_timeout(*time)))
}

fn limits(settings: &Settings) -> Limits {
    let mut limits = Limits::default()
        .rooms(settings.rooms)
        .members_per_room(settings.members_per_room)
        .variables_per_room(settings.variables_per_room)
        .room_bytes(settings.room_bytes)
        .value_bytes(settings.value_bytes)
        .messages_per_second(settings.messages_per_second)
        .empty_room_ttl(Duration::from_secs(settings.empty_room_ttl));
    limits.sessions = limits.sessions.max(settings.members_per_room);
    // A message must have room for the longest value, escaped, and its other fields.
    limits.message_bytes =
        limits.message_bytes.max(settings.value_bytes.saturating_add(settings.value_bytes / 2));
    match settings.messages_per_second {
        0 => (limits.bytes_per_second, limits.room_bytes_per_second) = (0, 0),
        rate => limits.message_burst = rate.saturating_mul(2),
    }
    limits
}

/// Decides about joins, and notes writes in the audit log.
struct Doors {
    create: Pattern,
    lists: Lists,
    audit: Option<Audit>,
}

impl Doors {
    fn of(settings: &Settings, lists: Lists, audit: Option<Audit>) -> Self {
        let create = match &*settings.create_rooms {
            // For `never`, `Creators::Host` refuses new rooms.
            "any" | "never" => "*".into(),
            pattern => pattern.to_owned(),
        };
        Self { create: Pattern(create), lists, audit }
    }
}

impl Policy for Doors {
    async fn admit(&self, join: &Join<'_>) -> Result<Identity, Rejection> {
        let id = join.room();
        if !self.lists.allows_room(id) {
            return Err(Rejection::permanent(ROOM_CLOSED));
        }
        if !join.room_exists() && !self.create.matches(id) {
            return Err(Rejection::permanent("there is no such room"));
        }
        let address = join.request().extensions.get::<ClientAddress>().copied();
        if let Some(audit) = self.audit.as_ref().filter(|_| !join.room_exists()) {
            audit.creates(join, address.map(|ClientAddress(address)| address));
        }
        let identity = join.identity().clone();
        Ok(match address {
            Some(address) => identity.with_data(address),
            None => identity,
        })
    }

    fn write(&self, write: &Write<'_>) -> Verdict {
        if let Some(audit) = &self.audit {
            audit.wrote(write);
        }
        Verdict::Accept
    }
}
