//! What makes the rooms of many processes one: a broker that has their order.

mod memory;
mod message;
#[cfg(feature = "redis")]
mod redis;
mod request;
mod sharded;

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use futures_util::{Stream, future::BoxFuture};

#[cfg(feature = "redis")]
pub use self::redis::RedisRelay;
pub use memory::MemoryRelay;
pub use message::{RelayChange, RelayMessage, RelayNews, RelayWrite, RelayWrites};
pub use request::{
    RelayAnswer, RelayBan, RelayNode, RelayRequest, RelayRevision, RelayRoom, RelaySession,
};
pub use sharded::Sharded;

/// A broker between nodes (processes with a registry each) that have rooms in common. It keeps each
/// room: its variables, who is in it under which name, which nodes are there, and one order of writes.
///
/// - **Ordering.** Each [`request`](Self::request) about a room is one step; steps come one after
///   another. Each [`RelayRequest::Write`] that is taken in makes a [`RelayMessage`] of the next
///   revision, also where all of it is left out.
/// - **Messages.** What [`subscribe`](Self::subscribe) returned gives every message of each step that
///   begins after it, in the order of their revisions, also to the node that caused it. It may end, or
///   leave some out: then nodes see a gap between revisions, and read a snapshot.
/// - **Leases.** A node is in a room from its first [`RelayRequest::Enter`] on, and stays for as long as
///   it renews in time. One that does not is out, and all its sessions with it: their names are free.
///   A broker that was itself out of reach gives all a new one.
/// - **Fencing.** Who is out and asks for anything but to enter or to read is told so
///   ([`RelayAnswer::Fenced`]), and nothing has changed. A process that enters a room again does so as
///   another node, so that what it sent before, and comes late, changes nothing either.
/// - **Losses.** A broker that comes back without the last of what it had says so to each node that knows better
///   ([`RelayAnswer::Lost`]), and is given it back when the node enters again.
/// - **Names of variables.** A write of a variable that is not there is left out, unless it creates it
///   and the room has place for it. Nodes leave out the same when they hear of it.
/// - **Retries.** Writes have numbers. One that was taken in already is not taken in again, nor is a
///   session that is there already.
/// - Texts are given and taken as they stand in JSON between their quotes; no broker needs to read them.
///
/// [`MemoryRelay`] is a whole one, of some 300 lines, for registries of one process:
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
    /// One step of a room, by a node.
    ///
    /// # Errors
    ///
    /// [`RelayError`] where it is not known whether the step was made.
    fn request<'a>(
        &'a self,
        room: &'a str,
        node: RelayNode<'a>,
        request: &'a RelayRequest,
    ) -> BoxFuture<'a, Result<RelayAnswer, RelayError>>;

    /// The registry has shut down: no task and no connection of this relay's is to stay for its sake.
    /// Default: nothing is done.
    fn end(&self) {}

    /// How long a node is in a room without renewing. Nodes renew three times in it. Default 10 s.
    fn lease(&self) -> Duration {
        Duration::from_secs(10)
    }

    /// How long an answer may take before the broker counts as away. Default 1 s.
    fn timeout(&self) -> Duration {
        Duration::from_secs(1)
    }

    /// Sends news to every node, whichever rooms it is in: to those that have
    /// [subscribed](Self::subscribe) to the empty id, which no room has.
    ///
    /// # Errors
    ///
    /// [`RelayError`].
    fn announce<'a>(&'a self, news: &'a RelayNews) -> BoxFuture<'a, Result<(), RelayError>>;

    /// The messages of a room. Ends where some may be missing.
    ///
    /// # Errors
    ///
    /// [`RelayError`].
    fn subscribe<'a>(&'a self, room: &'a str) -> BoxFuture<'a, Result<RelayMessages, RelayError>>;
}

impl<R: Relay + ?Sized> Relay for Arc<R> {
    fn end(&self) {
        (**self).end();
    }

    fn lease(&self) -> Duration {
        (**self).lease()
    }

    fn timeout(&self) -> Duration {
        (**self).timeout()
    }

    fn request<'a>(
        &'a self,
        room: &'a str,
        node: RelayNode<'a>,
        request: &'a RelayRequest,
    ) -> BoxFuture<'a, Result<RelayAnswer, RelayError>> {
        (**self).request(room, node, request)
    }

    fn announce<'a>(&'a self, news: &'a RelayNews) -> BoxFuture<'a, Result<(), RelayError>> {
        (**self).announce(news)
    }

    fn subscribe<'a>(&'a self, room: &'a str) -> BoxFuture<'a, Result<RelayMessages, RelayError>> {
        (**self).subscribe(room)
    }
}

/// See [`Relay::subscribe`].
pub type RelayMessages = Pin<Box<dyn Stream<Item = RelayMessage> + Send>>;

/// The broker cannot be reached, or did not answer in time.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "brokers outside this crate make it")]
pub struct RelayError(pub String);

impl RelayError {
    /// No answer came in time.
    pub(crate) fn late() -> Self {
        Self("it does not answer".into())
    }
}

/// As a text, for people.
#[cfg(feature = "serde")]
impl serde::Serialize for RelayError {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for RelayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the broker failed: {}", self.0)
    }
}

impl std::error::Error for RelayError {}
