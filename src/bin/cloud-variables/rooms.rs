//! The registry of the server's rooms.

use std::{error::Error, fs, path::Path, time::Duration};

use axum_cloud_variables::{
    Creators, Identity, Limits, RoomRegistry, ScratchValues, UsernameRules,
    policy::{Join, Policy, Rejection},
    relay::{RedisRelay, RelayError, Sharded},
    store::RedbStore,
};

use super::{WrongSetting, settings::Settings};

pub(crate) fn registry(settings: &Settings) -> Result<RoomRegistry, Box<dyn Error>> {
    let mut builder = RoomRegistry::builder();
    if let Some(file) = &settings.store {
        let store = RedbStore::open(file).map_err(|error| super::at("--store", file, &error))?;
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
        .policy(Doors::of(settings))
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

/// The rooms that players may create and join, by patterns of their ids.
struct Doors {
    create: Pattern,
    allow: Vec<Pattern>,
    block: Vec<Pattern>,
}

impl Doors {
    fn of(settings: &Settings) -> Self {
        let patterns = |texts: &[String]| texts.iter().cloned().map(Pattern).collect();
        let create = match &*settings.create_rooms {
            // For `never`, `Creators::Host` refuses new rooms.
            "any" | "never" => "*".into(),
            pattern => pattern.to_owned(),
        };
        Self {
            create: Pattern(create),
            allow: patterns(&settings.allow_room),
            block: patterns(&settings.block_room),
        }
    }
}

impl Policy for Doors {
    async fn admit(&self, join: &Join<'_>) -> Result<Identity, Rejection> {
        let id = join.room();
        let is_in = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(id));
        if is_in(&self.block) || !self.allow.is_empty() && !is_in(&self.allow) {
            return Err(Rejection::permanent("this room is closed"));
        }
        match join.room_exists() || self.create.matches(id) {
            true => Ok(join.identity().clone()),
            false => Err(Rejection::permanent("there is no such room")),
        }
    }
}

/// A pattern of room ids, in which a star stands for any text.
struct Pattern(String);

impl Pattern {
    fn matches(&self, id: &str) -> bool {
        let mut pieces = self.0.split('*');
        let first = pieces.next().unwrap_or_default();
        let Some(mut rest) = id.strip_prefix(first) else { return false };
        let Some(last) = pieces.next_back() else { return rest.is_empty() };
        for piece in pieces {
            let Some((_, behind)) = rest.split_once(piece) else { return false };
            rest = behind;
        }
        rest.ends_with(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, id, matches) in [
            ("*", "", true),
            ("arena-*", "arena-1", true),
            ("arena-*", "arena", false),
            ("a*b*c", "abc", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("lobby", "lobby", true),
            ("lobby", "lobby2", false),
        ] {
            assert_eq!(Pattern(pattern.into()).matches(id), matches, "{pattern} {id}");
        }
    }
}
