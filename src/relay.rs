//! What makes the rooms of many processes one: a broker that has their order.

mod hub;
mod line;
#[cfg(feature = "redis")]
mod redis;
mod shards;

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use futures_util::{Stream, future::BoxFuture};
use serde::{Deserialize, Serialize};

#[cfg(feature = "redis")]
pub use self::redis::RedisRelay;
pub(crate) use hub::{Hub, unique};
pub(crate) use line::begin;

use crate::store::StoredRoom;

/// A broker between nodes (processes with a registry each) that have rooms in common. It keeps each
/// room: its variables, who is in it under which name, which nodes are there, and one order of writes.
///
/// - **Ordering.** Each [`request`](Self::request) about a room is one step; steps come one after
///   another. One that changes variables makes a [`RelayMessage`] of the next revision.
/// - **Messages.** What [`subscribe`](Self::subscribe) returned gives every message of each step that
///   begins after it, in the order of their revisions, also to the node that caused it. It may end, or
///   leave some out: then nodes see a gap between revisions, and read a snapshot.
/// - **Leases.** A node is in a room from its first [`RelayRequest::Enter`] on, and stays for as long as
///   it renews in time. One that does not is out, and all its sessions with it: their names are free.
///   A broker that was itself out of reach gives all a new one.
/// - **Fencing.** Who is out and asks for anything but to enter or to read is told so
///   ([`RelayAnswer::Fenced`]), and nothing has changed.
/// - **Retries.** Writes have numbers. One that was taken in already is not taken in again.
/// - Texts are given and taken as they stand in JSON between their quotes; no broker needs to read them.
///
/// A whole one, for registries of one process:
///
/// ```
#[doc = include_str!("relay/memory.rs")]
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
        node: &'a str,
        request: &'a RelayRequest,
    ) -> BoxFuture<'a, Result<RelayAnswer, RelayError>>;

    /// How long a node is in a room without renewing. Nodes renew three times in it. Default 10 s.
    fn lease(&self) -> Duration {
        Duration::from_secs(10)
    }

    /// How long an answer may take before the broker counts as away. Default 1 s.
    fn timeout(&self) -> Duration {
        Duration::from_secs(1)
    }

    /// The messages of a room. Ends where some may be missing.
    ///
    /// # Errors
    ///
    /// [`RelayError`].
    fn subscribe<'a>(&'a self, room: &'a str) -> BoxFuture<'a, Result<RelayMessages, RelayError>>;
}

impl<R: Relay + ?Sized> Relay for Arc<R> {
    fn lease(&self) -> Duration {
        (**self).lease()
    }

    fn timeout(&self) -> Duration {
        (**self).timeout()
    }

    fn request<'a>(
        &'a self,
        room: &'a str,
        node: &'a str,
        request: &'a RelayRequest,
    ) -> BoxFuture<'a, Result<RelayAnswer, RelayError>> {
        (**self).request(room, node, request)
    }

    fn subscribe<'a>(&'a self, room: &'a str) -> BoxFuture<'a, Result<RelayMessages, RelayError>> {
        (**self).subscribe(room)
    }
}

/// See [`Relay::subscribe`].
pub type RelayMessages = Pin<Box<dyn Stream<Item = RelayMessage> + Send>>;

/// What a node asks of a room's broker.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a broker that ignores one keeps wrong rooms")]
pub enum RelayRequest {
    /// The node is in the room, which is created where it is not there, if it may be. Answered with
    /// [`RelayAnswer::Room`] or [`RelayAnswer::Nowhere`].
    Enter {
        /// The room to create.
        create: Option<StoredRoom>,
        /// Names the room, should it be created: never used twice.
        epoch: String,
        /// Where the node has a room that the broker does not know: its epoch. A room that was removed
        /// within two leases is not created again for that.
        lost: Option<String>,
    },
    /// A session begins, and these are over. Answered with [`RelayAnswer::Done`], or with a refusal;
    /// what is over is over in any case.
    Join {
        /// Who joins.
        session: RelaySession,
        /// Numbers of sessions of the node.
        left: Vec<u64>,
    },
    /// Values for variables, which are created where they are not there. Answered with
    /// [`RelayAnswer::Done`].
    Write {
        /// The number of the first; each further one's is the next.
        first: u64,
        /// Names and values, in order; `None` where there is to be no such variable any more.
        writes: Vec<(String, Option<String>)>,
    },
    /// These sessions are over. Answered with [`RelayAnswer::Done`].
    Leave {
        /// Their numbers.
        sessions: Vec<u64>,
    },
    /// The node is still there. Answered with [`RelayAnswer::Done`].
    Renew,
    /// Answered with [`RelayAnswer::Room`].
    Read,
    /// Whether sessions may begin. Answered with [`RelayAnswer::Done`].
    Lock {
        /// They may not.
        locked: bool,
    },
    /// Sessions of these may not begin. Answered with [`RelayAnswer::Done`].
    Ban {
        /// One of [`RelaySession::who`].
        who: String,
        /// For how long, in milliseconds.
        millis: u64,
    },
    /// Something that all nodes are to hear. Answered with [`RelayAnswer::Done`].
    Tell(RelayNews),
    /// The room is no more, and all nodes hear [`RelayNews::Removed`]. Answered with
    /// [`RelayAnswer::Done`].
    Remove,
    /// The node leads the room until its lease is over, unless another does. Answered with
    /// [`RelayAnswer::Done`] or [`RelayAnswer::Led`].
    Lead,
    /// It leads the room no more. Answered with [`RelayAnswer::Done`].
    Resign,
}

/// What nodes tell each other of a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_enums, reason = "nodes understand all")]
pub enum RelayNews {
    /// Somebody wants the name that a session has.
    Wanted {
        /// Whose session it is.
        node: String,
        /// Its number.
        session: u64,
        /// Who wants it, where the host has said.
        person: Option<String>,
        /// Whoever comes later has it in any case.
        replaces: bool,
    },
    /// Whoever has such a name is alive, and keeps it.
    Kept {
        /// Whose session it is.
        node: String,
        /// Its number.
        session: u64,
    },
    /// Whether it is locked.
    Locked(bool),
    /// Everyone is put out.
    Closed,
    /// It is no more.
    Removed {
        /// The room that was meant: another of its id may be there since.
        epoch: String,
    },
}

/// A member of a room, as the broker knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "brokers outside this crate read them")]
pub struct RelaySession {
    /// Never used twice by its node.
    pub number: u64,
    /// The name that it has for itself, if it is to have one.
    pub name: Option<String>,
    /// Under which it may be banned.
    pub who: Vec<String>,
    /// Sessions that a room has at most.
    pub most: u64,
}

/// What a broker answers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "nodes understand all")]
pub enum RelayAnswer {
    /// It is done; the room is at this revision.
    Done(RelayRevision),
    /// The room, as it is now.
    Room {
        /// Where it is.
        revision: RelayRevision,
        /// Its variables.
        room: StoredRoom,
        /// Whether it was created by this request.
        is_new: bool,
        /// The number of this node's last write that was taken in; 0 is none.
        written: u64,
    },
    /// A session has that name already.
    NameInUse {
        /// Whose it is.
        node: String,
        /// Its number.
        session: u64,
    },
    /// The room is locked.
    Locked,
    /// The session is banned.
    Banned,
    /// Another node leads the room.
    Led,
    /// As many sessions as there may be are there.
    Full,
    /// There is no such room.
    Nowhere,
    /// The node is not in the room, or no more. Nothing has changed.
    Fenced,
}

/// A moment of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "brokers outside this crate make them")]
pub struct RelayRevision {
    /// The room that is meant: another of the same id, made after this was lost, has another.
    pub epoch: String,
    /// Grows by one with each step that changes variables.
    pub number: u64,
}

/// What nodes hear of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "nodes understand all")]
pub enum RelayMessage {
    /// Of each [`RelayRequest::Write`].
    Wrote(RelayWrites),
    /// Of each [`RelayRequest::Tell`].
    Told(RelayNews),
}

/// Writes that came into a room's order together.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "brokers outside this crate make them")]
pub struct RelayWrites {
    /// After it.
    pub revision: RelayRevision,
    /// Whose they are.
    pub node: String,
    /// The number of the first, as in [`RelayRequest::Write`].
    pub first: u64,
    /// Names and values, in order, as they were asked for.
    pub writes: Vec<(String, Option<String>)>,
}

/// The broker cannot be reached, or did not answer in time.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "brokers outside this crate make it")]
pub struct RelayError(pub String);

impl fmt::Display for RelayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the broker failed: {}", self.0)
    }
}

impl std::error::Error for RelayError {}
