//! A broker in Redis or Valkey.

mod channels;

use std::{collections::HashMap, fmt, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use parking_lot::Mutex;
use redis::{
    Client, ConnectionAddr, IntoConnectionInfo, RedisError, Script, Value,
    aio::{ConnectionManager, ConnectionManagerConfig},
    from_redis_value,
    io::tcp::TcpSettings,
};
use tokio::time::timeout;

use super::{
    Relay, RelayAnswer, RelayError, RelayMessages, RelayRequest, RelayRevision, RelaySession,
};
use crate::store::{StoredRoom, StoredSchema};
use channels::Channels;

/// A [`Relay`] by Redis (6.2 and later) or Valkey. Each step is one script on one room's keys, which
/// share a hash tag; messages go through a channel for each room.
#[derive(Debug)]
pub struct RedisRelay {
    client: Client,
    commands: Mutex<Commands>,
    channels: Channels,
    scripts: Scripts,
    prefix: String,
    timeout: Duration,
    lease: Duration,
    empty_room_ttl: Duration,
}

/// The connection that commands go by, and how many there were before it.
#[derive(Default)]
struct Commands {
    manager: Option<ConnectionManager>,
    count: u64,
}

impl fmt::Debug for Commands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Commands")
    }
}

impl RedisRelay {
    /// By an address such as `redis://:password@127.0.0.1:6379/0`, or `rediss://` for TLS, by which
    /// servers are believed that the system's certificates vouch for, or those of `SSL_CERT_FILE`.
    /// Connects when it is first needed, and again whenever it must. TLS is rustls' with the process's
    /// default provider; where there is none by then, ring becomes it.
    ///
    /// # Errors
    ///
    /// [`RelayError`] where the address is none.
    pub fn new(url: impl AsRef<str>) -> Result<Self, RelayError> {
        let tcp = TcpSettings::default().set_nodelay(true);
        let client = Client::open(url.as_ref().into_connection_info()?.set_tcp_settings(tcp))?;
        Ok(Self {
            channels: Channels::new(client.clone()),
            client,
            commands: Mutex::default(),
            scripts: Scripts::default(),
            prefix: "cv:".into(),
            timeout: Duration::from_secs(1),
            lease: Duration::from_secs(10),
            empty_room_ttl: Duration::from_secs(3_600),
        })
    }

    /// What all keys and channels begin with. Default `cv:`.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// How long a node may be silent before the others go on without it: its members' names are free
    /// then. Nodes renew it three times in it. Default 10 s.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// How long the broker keeps a room that no node is in. Default 1 h.
    #[must_use]
    pub fn empty_room_ttl(mut self, ttl: Duration) -> Self {
        self.empty_room_ttl = ttl;
        self
    }

    /// How long a command, or connecting, may take before it counts as failed. Default 1 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    fn commands(&self) -> Result<(u64, ConnectionManager), RelayError> {
        let mut commands = self.commands.lock();
        if commands.manager.is_none() {
            // Few attempts and short pauses: whoever asks tries again by itself.
            let config = ConnectionManagerConfig::new()
                .set_number_of_retries(1)
                .set_min_delay(Duration::from_millis(50))
                .set_max_delay(Duration::from_millis(200))
                .set_connection_timeout(Some(self.timeout))
                .set_response_timeout(Some(self.timeout));
            provide_cryptography(&self.client);
            let manager = ConnectionManager::new_lazy_with_config(self.client.clone(), config)?;
            commands.manager = Some(manager);
        }
        let manager = commands.manager.clone().ok_or_else(|| RelayError("no connection".into()))?;
        Ok((commands.count, manager))
    }

    /// Has the next command go by another connection than this one.
    fn give_up(&self, count: u64) {
        let mut commands = self.commands.lock();
        if commands.count == count {
            *commands = Commands { manager: None, count: count + 1 };
        }
    }

    /// The channel of a room: of no database, so that its number must stand in the name.
    fn channel(&self, room: &str) -> String {
        let database = self.client.get_connection_info().redis_settings().db();
        self.key(room, &format!("c{database}"))
    }

    /// The keys of a room. Braces would begin or end the hash tag.
    fn key(&self, room: &str, part: &str) -> String {
        let room = room.replace('%', "%25").replace('{', "%7B").replace('}', "%7D");
        format!("{}{{{room}}}:{part}", self.prefix)
    }

    async fn run(
        &self,
        room: &str,
        node: &str,
        request: &RelayRequest,
    ) -> Result<RelayAnswer, RelayError> {
        let (script, args) = self.scripts.of(request, &self.channel(room));
        let mut call = script.prepare_invoke();
        for part in ["m", "v", "n", "s", "u", "w", "b", "l"] {
            call.key(self.key(room, part));
        }
        call.arg(node).arg(millis(self.lease)).arg(millis(self.empty_room_ttl)).arg(args);
        let (count, mut commands) = self.commands()?;
        let answer: Result<Vec<Value>, RedisError> =
            match timeout(self.timeout, call.invoke_async(&mut commands)).await {
                Ok(answer) => answer,
                // The other side may be gone without a word.
                Err(_) => {
                    self.give_up(count);
                    return Err(RelayError("it does not answer".into()));
                }
            };
        if let Err(error) = &answer {
            let is_replica = error.code() == Some("READONLY");
            if is_replica || error.is_timeout() {
                self.give_up(count);
            }
            if is_replica {
                // It is the primary no more, and the address may be another's by now.
                self.channels.give_up();
            }
        }
        decode(answer?).ok_or_else(|| RelayError("an answer of another version".into()))
    }
}

impl Relay for RedisRelay {
    fn lease(&self) -> Duration {
        self.lease
    }

    /// Longer than a command may take, as it sees to that by itself.
    fn timeout(&self) -> Duration {
        self.timeout.saturating_mul(2)
    }

    fn request<'a>(
        &'a self,
        room: &'a str,
        node: &'a str,
        request: &'a RelayRequest,
    ) -> BoxFuture<'a, Result<RelayAnswer, RelayError>> {
        self.run(room, node, request).boxed()
    }

    fn subscribe<'a>(&'a self, room: &'a str) -> BoxFuture<'a, Result<RelayMessages, RelayError>> {
        self.channels.subscribe(self.channel(room), self.timeout).boxed()
    }
}

/// Not before it connects, so that the host's own choice comes first.
fn provide_cryptography(client: &Client) {
    let address = client.get_connection_info().addr();
    if matches!(address, ConnectionAddr::TcpTls { .. }) {
        // Fails where the process has one.
        _ = rustls::crypto::ring::default_provider().install_default();
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).min(1 << 50)
}

struct Scripts {
    enter: Script,
    join: Script,
    write: Script,
    leave: Script,
    renew: Script,
    read: Script,
    host: Script,
}

macro_rules! script {
    ($file:literal) => {
        Script::new(concat!(include_str!("redis/room.lua"), include_str!($file)))
    };
}

impl Default for Scripts {
    fn default() -> Self {
        Self {
            enter: script!("redis/enter.lua"),
            join: script!("redis/join.lua"),
            write: script!("redis/write.lua"),
            leave: script!("redis/leave.lua"),
            renew: script!("redis/renew.lua"),
            read: script!("redis/read.lua"),
            host: script!("redis/host.lua"),
        }
    }
}

impl Scripts {
    /// The script for a request, and its own arguments.
    fn of(&self, request: &RelayRequest, channel: &str) -> (&Script, Vec<String>) {
        match request {
            RelayRequest::Enter { create, epoch, lost } => {
                let schema = create.as_ref().map_or("", |room| room.schema.name());
                let lost = lost.clone().unwrap_or_default();
                let mut args = vec![epoch.clone(), schema.into(), lost];
                for (name, value) in create.iter().flat_map(|room| &room.variables) {
                    args.extend([name.clone(), value.clone()]);
                }
                (&self.enter, args)
            }
            RelayRequest::Join { session: RelaySession { number, name, who, most }, left } => {
                let name = name.clone().unwrap_or_default();
                let mut args = vec![number.to_string(), name, most.to_string()];
                args.push(who.len().to_string());
                args.extend(who.iter().cloned().chain(left.iter().map(u64::to_string)));
                (&self.join, args)
            }
            RelayRequest::Write { first, writes } => {
                let last = first + writes.len() as u64 - 1;
                let mut args = vec![first.to_string(), last.to_string()];
                args.extend([channel.into(), channels::encode(writes)]);
                // Of each name the last counts.
                let last: HashMap<_, _> =
                    writes.iter().map(|(name, value)| (name, value)).collect();
                let gone = last.iter().filter(|(_, value)| value.is_none());
                let gone: Vec<_> = gone.map(|(name, _)| (*name).clone()).collect();
                args.push(gone.len().to_string());
                args.extend(gone);
                for (name, value) in last {
                    args.extend(value.iter().flat_map(|value| [name.clone(), value.clone()]));
                }
                (&self.write, args)
            }
            RelayRequest::Leave { sessions } => {
                (&self.leave, sessions.iter().map(u64::to_string).collect())
            }
            RelayRequest::Renew => (&self.renew, Vec::new()),
            RelayRequest::Read => (&self.read, Vec::new()),
            RelayRequest::Lock { locked: true } => (&self.host, vec!["lock".into()]),
            RelayRequest::Lock { locked: false } => (&self.host, vec!["unlock".into()]),
            RelayRequest::Ban { who, millis } => {
                (&self.host, vec!["ban".into(), who.clone(), millis.to_string()])
            }
            RelayRequest::Tell(news) => {
                (&self.host, vec!["tell".into(), channel.into(), channels::encode_news(news)])
            }
            RelayRequest::Remove => (&self.host, vec!["remove".into(), channel.into()]),
            RelayRequest::Lead => (&self.host, vec!["lead".into()]),
            RelayRequest::Resign => (&self.host, vec!["resign".into()]),
        }
    }
}

impl fmt::Debug for Scripts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scripts")
    }
}

/// `None` where no script of this version answers so.
fn decode(answer: Vec<Value>) -> Option<RelayAnswer> {
    let mut parts = answer.into_iter();
    let mut next = || from_redis_value::<String>(parts.next()?).ok();
    Some(match &*next()? {
        "done" => {
            RelayAnswer::Done(RelayRevision { epoch: next()?, number: next()?.parse().ok()? })
        }
        "nowhere" => RelayAnswer::Nowhere,
        "fenced" => RelayAnswer::Fenced,
        "name" => RelayAnswer::NameInUse { node: next()?, session: next()?.parse().ok()? },
        "locked" => RelayAnswer::Locked,
        "banned" => RelayAnswer::Banned,
        "led" => RelayAnswer::Led,
        "full" => RelayAnswer::Full,
        "room" => {
            let revision = RelayRevision { epoch: next()?, number: next()?.parse().ok()? };
            let schema = StoredSchema::from_name(&next()?)?;
            let (is_new, written) = (next()? == "1", next()?.parse().ok()?);
            let variables = from_redis_value(parts.next()?).ok()?;
            RelayAnswer::Room { revision, room: StoredRoom { schema, variables }, is_new, written }
        }
        _ => return None,
    })
}

impl From<RedisError> for RelayError {
    fn from(error: RedisError) -> Self {
        Self(error.to_string())
    }
}
