//! A broker in Redis or Valkey.

mod channels;
mod diagnosis;
mod scripts;

use std::{fmt, time::Duration};

use parking_lot::Mutex;
use redis::{
    Client, ConnectionAddr, ErrorKind, IntoConnectionInfo, RedisError, Value,
    aio::{ConnectionManager, ConnectionManagerConfig},
    io::tcp::TcpSettings,
};
use tokio::time::timeout;
use tracing::warn;

use super::{Relay, RelayAnswer, RelayError, RelayMessages, RelayNews, RelayNode, RelayRequest};
use channels::Channels;
use scripts::{Scripts, decode};

/// A [`Relay`] over Redis (6.2 and later) or Valkey. Each step is one script on one room's keys, which share
/// a hash tag; each room has a channel for its messages.
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

/// The connection for commands, and how many came before it.
#[derive(Default)]
struct Commands {
    manager: Option<ConnectionManager>,
    count: u64,
    /// Whether the server's settings have been looked at since the last failure.
    is_known: bool,
}

impl fmt::Debug for RedisRelay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Omits the address, because it may contain a password.
        f.debug_struct("RedisRelay").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl RedisRelay {
    /// Creates a relay for an address such as `redis://:password@127.0.0.1:6379/0`, or `rediss://` for TLS,
    /// which accepts the servers that the system's certificates, or those of `SSL_CERT_FILE`, vouch for.
    /// Connects when a connection is first needed, and reconnects as necessary. TLS uses rustls with the
    /// process's default provider; if there is none by then, ring becomes the default.
    ///
    /// # Errors
    ///
    /// Returns [`RelayError`] if the address is invalid.
    pub fn new(url: impl AsRef<str>) -> Result<Self, RelayError> {
        let tcp = TcpSettings::default().set_nodelay(true);
        let info = url.as_ref().into_connection_info().map_err(failed)?;
        let client = Client::open(info.set_tcp_settings(tcp)).map_err(failed)?;
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

    /// Sets the prefix of all keys and channels. Default `cv:`.
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets how long a node may be silent before the others go on without it, and its members' names become
    /// free. Nodes renew three times per lease. Default 10 s.
    #[must_use]
    pub fn with_lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Sets how long the broker keeps a room that no node is in. Default 1 h.
    #[must_use]
    pub fn with_empty_room_ttl(mut self, ttl: Duration) -> Self {
        self.empty_room_ttl = ttl;
        self
    }

    /// Sets how long a command or a connection attempt may take before it counts as failed. Default 1 s.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    fn commands(&self) -> Result<(u64, ConnectionManager), RelayError> {
        let mut commands = self.commands.lock();
        if commands.manager.is_none() {
            // Few attempts and short pauses: the caller retries by itself.
            let config = ConnectionManagerConfig::new()
                .set_number_of_retries(1)
                .set_min_delay(Duration::from_millis(50))
                .set_max_delay(Duration::from_millis(200))
                .set_connection_timeout(Some(self.timeout))
                .set_response_timeout(Some(self.timeout));
            provide_cryptography(&self.client);
            let manager = ConnectionManager::new_lazy_with_config(self.client.clone(), config);
            let manager = manager.map_err(failed)?;
            commands.manager = Some(manager);
        }
        let manager = commands.manager.clone().ok_or_else(|| RelayError::new("no connection"))?;
        Ok((commands.count, manager))
    }

    /// Discards this connection, so that the next command uses another.
    fn give_up(&self, count: u64) {
        let mut commands = self.commands.lock();
        // Many calls may fail on one connection: only the first of them discards it.
        if commands.count == count {
            *commands = Commands { manager: None, count: count + 1, is_known: false };
        }
    }

    /// Looks at the server's settings, once for a connection, and warns of those with which rooms get lost.
    async fn look_at(&self, commands: &mut ConnectionManager) {
        if std::mem::replace(&mut self.commands.lock().is_known, true) {
            return;
        }
        let info = redis::cmd("INFO");
        // A user who may not ask has a server all the same.
        if let Ok(Ok(info)) = timeout(self.timeout, info.query_async::<String>(commands)).await {
            for fault in diagnosis::faults(&info) {
                warn!(fault, "the broker's settings");
            }
        }
    }

    /// Returns the channel of a room. Channels belong to no database, so the name includes the database's
    /// number.
    fn channel(&self, room: &str) -> String {
        let database = self.client.get_connection_info().redis_settings().db();
        self.key(room, &format!("c{database}"))
    }

    /// Returns a key of a room. Escapes braces, which would begin or end the hash tag.
    fn key(&self, room: &str, part: &str) -> String {
        let room = room.replace('%', "%25").replace('{', "%7B").replace('}', "%7D");
        format!("{}{{{room}}}:{part}", self.prefix)
    }

    async fn run(
        &self,
        room: &str,
        node: RelayNode<'_>,
        request: &RelayRequest,
    ) -> Result<RelayAnswer, RelayError> {
        let (script, args) = self.scripts.of(request, &self.channel(room));
        let mut call = script.prepare_invoke();
        for part in ["m", "v", "n", "s", "u", "w", "b", "l", "o"] {
            call.key(self.key(room, part));
        }
        call.arg(node.name).arg(node.acknowledged);
        call.arg(millis(self.lease)).arg(millis(self.empty_room_ttl)).arg(args);
        let (count, mut commands) = self.commands()?;
        self.look_at(&mut commands).await;
        let answer: Result<Vec<Value>, RedisError> =
            match timeout(self.timeout, call.invoke_async(&mut commands)).await {
                Ok(answer) => answer,
                // The server may be gone without closing the connection.
                Err(_) => {
                    self.give_up(count);
                    return Err(RelayError::late());
                }
            };
        if let Err(error) = &answer {
            let is_replica = error.code() == Some("READONLY");
            if is_replica || is_of_connection(error) {
                self.give_up(count);
            }
            if is_replica {
                // The server is no longer the primary, and the address may belong to another server by now.
                self.channels.give_up();
            }
        }
        if let Err(error) = &answer
            && error.code() == Some("OOM")
            && matches!(request, RelayRequest::Enter { .. })
        {
            return Ok(RelayAnswer::Full);
        }
        decode(answer.map_err(failed)?)
    }
}

impl Relay for RedisRelay {
    fn end(&self) {
        self.commands.lock().manager = None;
        self.channels.give_up();
    }

    fn lease(&self) -> Duration {
        self.lease
    }

    /// Returns twice the timeout of a command, because commands already time out by themselves.
    fn timeout(&self) -> Duration {
        self.timeout.saturating_mul(2)
    }

    async fn request(
        &self,
        room: &str,
        node: RelayNode<'_>,
        request: &RelayRequest,
    ) -> Result<RelayAnswer, RelayError> {
        self.run(room, node, request).await
    }

    async fn announce(&self, news: &RelayNews) -> Result<(), RelayError> {
        let mut command = redis::cmd("PUBLISH");
        command.arg(self.channel("")).arg(channels::encode_news(news));
        let (count, mut commands) = self.commands()?;
        let published = timeout(self.timeout, command.query_async::<()>(&mut commands)).await;
        if !matches!(published, Ok(Ok(()))) {
            // The server may be gone without closing the connection.
            self.give_up(count);
        }
        published.map_err(|_| RelayError::late())?.map_err(failed)
    }

    async fn subscribe(&self, room: &str) -> Result<RelayMessages, RelayError> {
        self.channels.subscribe(self.channel(room), self.timeout).await
    }
}

/// Returns whether another connection may succeed: this one was never made, or the server no longer accepts
/// it.
fn is_of_connection(error: &RedisError) -> bool {
    let is_refused = matches!(error.code(), Some("NOAUTH" | "WRONGPASS" | "NOPERM"));
    is_refused || error.is_timeout() || error.kind() == ErrorKind::AuthenticationFailed
}

/// Installs the provider just before connecting, so that the host's own choice comes first.
fn provide_cryptography(client: &Client) {
    let address = client.get_connection_info().addr();
    if matches!(address, ConnectionAddr::TcpTls { .. }) {
        // Fails if the process has one already.
        _ = rustls::crypto::ring::default_provider().install_default();
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).min(1 << 50)
}

/// Converts an error. Not a `From`, which would be part of the public API and tie it to a major version of
/// redis.
fn failed(error: impl Into<RedisError>) -> RelayError {
    RelayError::new(diagnosis::explained(&error.into()))
}
