//! Shares rooms between processes through a broker, which decides the order of writes.

mod erased;
mod memory;
mod message;
#[cfg(feature = "redis")]
mod redis;
mod request;
mod sharded;

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use futures_util::Stream;

#[cfg(feature = "redis")]
pub use self::redis::RedisRelay;
pub(crate) use erased::ErasedRelay;
pub use memory::MemoryRelay;
pub use message::{RelayChange, RelayMessage, RelayNews, RelayWrite, RelayWrites};
pub use request::{
    RelayAnswer, RelayBan, RelayNode, RelayRequest, RelayRevision, RelayRoom, RelaySession,
};
pub use sharded::Sharded;

/// A broker between nodes (processes with a registry each) that share rooms. For each room it keeps the
/// variables, the sessions and their names, the nodes in the room, and one order of writes.
///
/// - **Ordering.** Each [`request`](Self::request) about a room is one step, and steps happen one after
///   another. Each accepted [`RelayRequest::Write`] produces a [`RelayMessage`] with the next revision, even
///   if all its writes are left out.
/// - **Messages.** A stream from [`subscribe`](Self::subscribe) yields every message of each step that begins
///   after the call, in the order of their revisions, including those that the node itself caused. The stream
///   may end or skip messages; nodes then see a gap between revisions, and read a snapshot.
/// - **Leases.** A node is in a room from its first [`RelayRequest::Enter`], for as long as it renews its
///   lease in time. A node that does not is removed with all its sessions, and their names become free. If a
///   newcomer [wants](RelayNews::Wanted) the name of a session, the lease of the session's node ends after
///   [`RelayNews::TIME_TO_RENEW`] unless the node renews it. A broker that was itself out of reach gives every
///   node a new lease.
/// - **Fencing.** If a removed node sends any request except to enter or to read, the broker answers
///   [`RelayAnswer::Fenced`] and changes nothing. A process that enters a room again does so as another node,
///   so that its earlier requests have no effect if they arrive late.
/// - **Losses.** A broker that has lost its latest changes answers [`RelayAnswer::Lost`] to each node that
///   knows of them. The node restores them when it enters again.
/// - **Names of variables.** A write to a variable that does not exist is left out, unless the write creates
///   the variable and the room has space for it. Nodes leave out the same writes when they receive the
///   message.
/// - **Retries.** Writes are numbered. A write that was already accepted is not accepted again, and a session
///   that exists already is not added again.
/// - Texts are passed as they appear in JSON between their quotes; no broker needs to parse them.
///
/// [`MemoryRelay`] is a complete implementation in some 300 lines, for registries of one process:
///
/// ```
/// use std::sync::Arc;
/// use axum_cloud_variables::{RoomRegistry, relay::MemoryRelay};
///
/// let broker = Arc::new(MemoryRelay::default());
/// let nodes = [0, 1].map(|_| RoomRegistry::builder().relay(broker.clone()).build());
/// assert!(nodes.iter().all(Result::is_ok));
/// ```
pub trait Relay: fmt::Debug + Send + Sync + 'static {
    /// Performs one step of a room on behalf of a node.
    ///
    /// # Errors
    ///
    /// Returns [`RelayError`] if it is unknown whether the step was made.
    fn request(
        &self,
        room: &str,
        node: RelayNode<'_>,
        request: &RelayRequest,
    ) -> impl Future<Output = Result<RelayAnswer, RelayError>> + Send;

    /// Fails if a broker does not answer, for [`RoomRegistry::readiness`](crate::RoomRegistry::readiness).
    /// Default: reads the empty id, which no room has.
    ///
    /// # Errors
    ///
    /// Returns [`RelayError`] with the reason.
    fn probe(&self) -> impl Future<Output = Result<(), RelayError>> + Send {
        async {
            let node = RelayNode { name: "", acknowledged: 0 };
            self.request("", node, &RelayRequest::Read).await.map(|_| ())
        }
    }

    /// Releases the tasks and connections that the relay holds for the registry, which has shut down.
    /// Default: does nothing.
    fn end(&self) {}

    /// Returns how long a node stays in a room without renewing. Nodes renew three times per lease, and at least
    /// every 1.5 s. Default 10 s.
    fn lease(&self) -> Duration {
        Duration::from_secs(10)
    }

    /// Returns how long an answer may take before the broker counts as unreachable. Default 1 s.
    fn timeout(&self) -> Duration {
        Duration::from_secs(1)
    }

    /// Sends news to every node, regardless of its rooms: to all that have [subscribed](Self::subscribe) to
    /// the empty id, which no room has.
    ///
    /// # Errors
    ///
    /// Returns [`RelayError`] if the broker fails.
    fn announce(&self, news: &RelayNews) -> impl Future<Output = Result<(), RelayError>> + Send;

    /// Subscribes to the messages of a room. The stream ends when messages may be missing.
    ///
    /// # Errors
    ///
    /// Returns [`RelayError`] if the broker fails.
    fn subscribe(
        &self,
        room: &str,
    ) -> impl Future<Output = Result<RelayMessages, RelayError>> + Send;
}

impl<R: Relay> Relay for Arc<R> {
    fn end(&self) {
        (**self).end();
    }

    fn lease(&self) -> Duration {
        (**self).lease()
    }

    fn timeout(&self) -> Duration {
        (**self).timeout()
    }

    fn request(
        &self,
        room: &str,
        node: RelayNode<'_>,
        request: &RelayRequest,
    ) -> impl Future<Output = Result<RelayAnswer, RelayError>> + Send {
        (**self).request(room, node, request)
    }

    fn probe(&self) -> impl Future<Output = Result<(), RelayError>> + Send {
        (**self).probe()
    }

    fn announce(&self, news: &RelayNews) -> impl Future<Output = Result<(), RelayError>> + Send {
        (**self).announce(news)
    }

    fn subscribe(
        &self,
        room: &str,
    ) -> impl Future<Output = Result<RelayMessages, RelayError>> + Send {
        (**self).subscribe(room)
    }
}

/// A stream of messages, as [`Relay::subscribe`] returns it.
pub type RelayMessages = Pin<Box<dyn Stream<Item = RelayMessage> + Send>>;

/// The broker cannot be reached, did not answer in time, or its address is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("broker: {0}")]
pub struct RelayError(String);

impl RelayError {
    /// Returns the error of a broker that fails for this reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }

    /// Returns the error for an answer that did not come in time.
    pub(crate) fn late() -> Self {
        Self("it does not answer".into())
    }
}

/// Serializes as human-readable text.
#[cfg(feature = "serde")]
impl serde::Serialize for RelayError {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
