//! A broker in Redis or Valkey.

mod address;
mod channels;
mod connection;
mod diagnosis;
mod payload;
mod scripts;

use std::{fmt, sync::Arc, time::Duration};

use redis::{ErrorKind, RedisError, Value};
use tokio::time::timeout;
use tracing::warn;

use super::{Relay, RelayAnswer, RelayError, RelayMessages, RelayNews, RelayNode, RelayRequest};
use address::Address;
use channels::Channels;
use connection::{Commands, Link};
use scripts::{Scripts, decode};

/// A [`Relay`] over Redis (6.2 and later) or Valkey: one server, a primary with replicas and Sentinels, or a
/// cluster (Redis 7 and later). Each step is one script on one room's keys, which share a hash tag; each room has
/// a channel for its messages.
pub struct RedisRelay {
    address: Arc<Address>,
    commands: Commands,
    channels: Channels,
    scripts: Scripts,
    prefix: String,
    timeout: Duration,
    lease: Duration,
    empty_room_ttl: Duration,
}

impl fmt::Debug for RedisRelay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Omits the address, because it may contain a password.
        f.debug_struct("RedisRelay").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl RedisRelay {
    /// Creates a relay for an address of one of these kinds. `rediss` in place of `redis` means TLS, which accepts
    /// the servers that the system's certificates, or those of `SSL_CERT_FILE`, vouch for.
    ///
    /// | address | broker |
    /// |---|---|
    /// | `redis://:password@host:6379/0` | one server; `unix:///path` for a Unix socket |
    /// | `redis+sentinel://:password@host,host:26379/name/0` | the primary that these Sentinels know by this name; `?sentinel_password=` if they have one |
    /// | `redis+cluster://:password@host,host:6379` | the cluster of these servers, with sharded channels |
    ///
    /// Connects when a connection is first needed, and reconnects as necessary. TLS uses rustls with the process's
    /// default provider; if there is none by then, ring becomes the default.
    ///
    /// # Errors
    ///
    /// Returns [`RelayError`] if the address is invalid.
    pub fn new(url: impl AsRef<str>) -> Result<Self, RelayError> {
        let address = Arc::new(Address::parse(url.as_ref())?);
        Ok(Self {
            commands: Commands::new(address.clone()),
            channels: Channels::new(address.clone()),
            scripts: Scripts::new(address.is_cluster()),
            address,
            prefix: "cv:".into(),
            timeout: Duration::from_secs(1),
            lease: Duration::from_secs(10),
            empty_room_ttl: Duration::from_secs(3_600),
        })
    }

    /// Presents a certificate with this key, both as PEM, to servers that ask for one (`tls-auth-clients`).
    /// Default: none.
    ///
    /// # Errors
    ///
    /// Returns [`RelayError`] if the address is one without TLS, or the certificate or the key cannot be read.
    pub fn with_client_certificate(
        self,
        certificate: impl Into<Vec<u8>>,
        key: impl Into<Vec<u8>>,
    ) -> Result<Self, RelayError> {
        let address = Arc::new(self.address.with_certificate(certificate.into(), key.into())?);
        let (commands, channels) = (Commands::new(address.clone()), Channels::new(address.clone()));
        Ok(Self { address, commands, channels, ..self })
    }

    /// Sets the prefix of all keys and channels. Default `cv:`.
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets how long a node may be silent before the others go on without it, and its members' names become
    /// free, unless somebody wants one of them before. Nodes renew three times per lease, and at least every
    /// 1.5 s. Default 10 s.
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

    /// Looks at the server's settings, once for a connection, and warns of those with which rooms get lost.
    async fn look_at(&self, link: &mut Link) {
        if !self.commands.is_new() {
            return;
        }
        // A user who may not ask has a server all the same.
        if let Ok(Ok(info)) = timeout(self.timeout, link.info()).await {
            for fault in diagnosis::faults(&info, self.address.is_cluster()) {
                warn!(fault, "the broker's settings");
            }
        }
    }

    /// Returns the channel of a room. Channels belong to no database, so the name includes the database's
    /// number.
    fn channel(&self, room: &str) -> String {
        self.key(room, &format!("c{}", self.address.database()))
    }

    /// Returns a key of a room. Escapes braces, which would begin or end the hash tag. An empty tag would not count
    /// as one, so no room has a tag that no other room can have.
    fn key(&self, room: &str, part: &str) -> String {
        if room.is_empty() {
            return format!("{}{{%}}:{part}", self.prefix);
        }
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
        let (count, mut link) = self.commands.link(self.timeout).await?;
        self.look_at(&mut link).await;
        let answer: Result<Vec<Value>, RedisError> =
            match timeout(self.timeout, call.invoke_async(&mut link)).await {
                Ok(answer) => answer,
                // The server may be gone without closing the connection.
                Err(_) => {
                    self.commands.give_up(count, self.timeout).await;
                    return Err(RelayError::late());
                }
            };
        if let Err(error) = &answer {
            let is_replica = error.code() == Some("READONLY");
            if is_replica || is_of_connection(error) {
                self.commands.give_up(count, self.timeout).await;
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
        self.commands.end();
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
        let mut command = redis::cmd(scripts::publish(self.address.is_cluster()));
        command.arg(self.channel("")).arg(payload::encode_news(news));
        let (count, mut link) = self.commands.link(self.timeout).await?;
        let published = timeout(self.timeout, command.query_async::<()>(&mut link)).await;
        if !matches!(published, Ok(Ok(()))) {
            // The server may be gone without closing the connection.
            self.commands.give_up(count, self.timeout).await;
        }
        published.map_err(|_| RelayError::late())?.map_err(failed)
    }

    async fn subscribe(&self, room: &str) -> Result<RelayMessages, RelayError> {
        self.channels.subscribe(self.channel(room), self.timeout).await
    }
}

/// Returns whether another connection may succeed: this one is broken, or the server no longer accepts it.
fn is_of_connection(error: &RedisError) -> bool {
    let is_refused = matches!(error.code(), Some("NOAUTH" | "WRONGPASS" | "NOPERM"));
    let is_broken = error.is_io_error() || error.is_connection_dropped();
    is_refused || is_broken || error.is_timeout() || error.kind() == ErrorKind::AuthenticationFailed
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).min(1 << 50)
}

/// Converts an error. Not a `From`, which would be part of the public API and tie it to a major version of
/// redis.
fn failed(error: impl Into<RedisError>) -> RelayError {
    RelayError::new(diagnosis::explained(&error.into()))
}
