//! Requests of a node to a room's broker, and the broker's answers.

use std::fmt;

use super::{RelayChange, RelayNews, RelayWrite};
use crate::{
    redacted::{Count, Redacted},
    store::StoredRoom,
};

/// A node that makes a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "brokers outside this crate read them")]
pub struct RelayNode<'a> {
    /// Its name. A process that enters a room again does so under another name.
    pub name: &'a str,
    /// The last of its numbers that the node knows the broker has taken. A broker that has not taken it has
    /// lost it: it answers [`RelayAnswer::Lost`] to any request, and changes nothing. Otherwise a number that
    /// is taken after a loss would hide the loss.
    pub acknowledged: u64,
}

/// A request of a node to a room's broker.
///
/// Requests that change a room are numbered, in ascending order per node. The broker takes each number once,
/// even if it refuses the request: a request whose number it has already taken changes nothing, and is
/// answered with [`RelayAnswer::Done`]. So an attempt has no effect if it arrives late, after the node has
/// given up on it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a broker that ignores one keeps wrong rooms")]
pub enum RelayRequest {
    /// The node enters the room. Answered with [`RelayAnswer::Room`] or [`RelayAnswer::Nowhere`].
    ///
    /// The room is created if it does not exist and `create` is set. It is also created from `create`, in
    /// place of the existing room, if `known` is a later revision of the same epoch: the broker has then lost
    /// the room's latest changes. It is neither created nor entered if `known` is of another room, or of a
    /// room that was removed within the last two leases.
    Enter {
        /// The room to create.
        create: Option<RelayRoom>,
        /// The epoch of a room that is created; never used twice.
        epoch: String,
        /// The revision at which the node has the room, if it has it. A room that is created from it keeps
        /// its identity and begins at the next revision.
        known: Option<RelayRevision>,
        /// The name under which the process was in the room before. That node is removed from the room, and
        /// its sessions end.
        was: Option<String>,
    },
    /// A session begins. Answered with [`RelayAnswer::Done`], also if it has begun already, or with a
    /// refusal, which changes nothing.
    Join {
        /// The request's number.
        number: u64,
        /// The session.
        session: RelaySession,
        /// Sessions of the node that end if this one begins, so that their names and places are free.
        replaces: Vec<u64>,
    },
    /// Sessions end. Answered with [`RelayAnswer::Done`].
    Leave {
        /// The request's number.
        number: u64,
        /// The numbers of the sessions.
        sessions: Vec<u64>,
    },
    /// Writes values of variables. Answered with [`RelayAnswer::Done`].
    Write {
        /// The number of the first write; each further write has the next number.
        first: u64,
        /// How many variables the room may have.
        most: u64,
        /// The writes, in order.
        writes: Vec<RelayWrite>,
    },
    /// Changes the room for all nodes. Answered with [`RelayAnswer::Done`].
    Change {
        /// The request's number.
        number: u64,
        /// The change.
        change: RelayChange,
    },
    /// Removes the room; all nodes receive [`RelayNews::Removed`]. Answered with [`RelayAnswer::Done`].
    Remove {
        /// The request's number.
        number: u64,
    },
    /// Renews the node's lease. Answered with [`RelayAnswer::Done`].
    Renew,
    /// Reads the room. Answered with [`RelayAnswer::Room`].
    Read,
    /// The node leaves the room, which is deleted if no other node is in it. Nothing happens if the id
    /// belongs to another room by now. Answered with [`RelayAnswer::Done`] or [`RelayAnswer::Nowhere`].
    Forget {
        /// The identity of the room, as in [`RelayRevision::room`].
        room: String,
    },
    /// Sends news to all nodes. Answered with [`RelayAnswer::Done`]. News that a session is
    /// [wanted](RelayNews::Wanted) also shortens the lease of its node to [`RelayNews::TIME_TO_RENEW`].
    Tell(RelayNews),
    /// The node leads the room until its lease is over, unless another node leads it, or this node leads it
    /// under another lead. Answered with [`RelayAnswer::Done`] or [`RelayAnswer::Led`].
    Lead {
        /// The request's number.
        number: u64,
        /// Identifies the lead; never used twice by the node.
        lead: u64,
    },
    /// The node's lead ends. Answered with [`RelayAnswer::Done`].
    Resign {
        /// The request's number.
        number: u64,
        /// The lead, as in [`Lead`](Self::Lead).
        lead: u64,
    },
}

impl RelayRevision {
    pub(crate) fn is_later_than(&self, other: &Self) -> bool {
        self.epoch == other.epoch && self.number > other.number
    }
}

impl RelayRequest {
    /// Returns the numbers that the broker takes with this request: the first and the last.
    #[must_use]
    pub fn numbers(&self) -> Option<(u64, u64)> {
        match self {
            Self::Write { first, writes, .. } => {
                Some((*first, *first + (writes.len() as u64).saturating_sub(1)))
            }
            Self::Join { number, .. }
            | Self::Leave { number, .. }
            | Self::Change { number, .. }
            | Self::Remove { number }
            | Self::Lead { number, .. }
            | Self::Resign { number, .. } => Some((*number, *number)),
            Self::Enter { .. } | Self::Renew | Self::Read | Self::Forget { .. } | Self::Tell(_) => {
                None
            }
        }
    }
}

/// A member of a room, as the broker sees it.
#[derive(Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "brokers outside this crate read them")]
pub struct RelaySession {
    /// Identifies the session; never used twice by its node.
    pub number: u64,
    /// The member's name.
    pub name: String,
    /// Whether the member may share its name with other sessions that also share it.
    pub shares: bool,
    /// The keys under which the member may be banned.
    pub who: Vec<String>,
}

impl fmt::Debug for RelaySession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelaySession")
            .field("number", &self.number)
            .field("name", &self.name)
            .field("shares", &self.shares)
            .field("who", &Count(self.who.len()))
            .finish()
    }
}

/// A room, as the broker keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "brokers outside this crate make them")]
pub struct RelayRoom {
    /// Its variables, and the names that it accepts.
    pub stored: StoredRoom,
    /// How many sessions it may have.
    pub max_members: u64,
    /// How many variables it may have; nodes pass this limit with each write.
    pub max_variables: u64,
    /// How many bytes of names and values it may have; nodes enforce this limit.
    pub max_bytes: u64,
    /// Whether sessions are refused.
    pub is_locked: bool,
    /// The number of the revision at which all sessions were last closed; 0 if they never were.
    pub closed: u64,
    /// The active bans, and how much longer each lasts.
    pub bans: Vec<RelayBan>,
}

/// A ban.
#[derive(Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "brokers outside this crate make them")]
pub struct RelayBan {
    /// One of [`RelaySession::who`].
    pub who: String,
    /// The username, as it was written; empty for a person.
    pub name: String,
    /// How long the ban lasts, in milliseconds.
    pub millis: u64,
}

impl fmt::Debug for RelayBan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayBan")
            .field("who", &Redacted(&self.who))
            .field("name", &self.name)
            .field("millis", &self.millis)
            .finish()
    }
}

/// A broker's answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "nodes understand all")]
pub enum RelayAnswer {
    /// The request is done.
    Done {
        /// The room's revision.
        revision: RelayRevision,
        /// The last number of the node that was taken before this request; 0 if none was. If it is lower than
        /// a number that was already answered, the broker has lost something.
        before: u64,
    },
    /// The room as it is now.
    Room {
        /// Its revision.
        revision: RelayRevision,
        /// The room.
        room: RelayRoom,
        /// Whether this request created it.
        is_new: bool,
        /// The last number of the node that was taken; 0 if none was.
        taken: u64,
    },
    /// Another session has that name.
    NameInUse {
        /// The node of the session.
        node: String,
        /// The session's number.
        session: u64,
    },
    /// The room is locked.
    Locked,
    /// The session is banned.
    Banned,
    /// Another node leads the room.
    Led,
    /// The room has as many sessions as it may have; or, in answer to [`RelayRequest::Enter`], the broker has
    /// no memory for another room.
    Full,
    /// There is no such room.
    Nowhere,
    /// The node is not, or no longer, in the room. Nothing has changed.
    Fenced,
    /// The broker has lost requests of the node that it had taken: see [`RelayNode::acknowledged`]. Nothing
    /// has changed.
    Lost,
}

/// A point in a room's history.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "brokers outside this crate make them")]
pub struct RelayRevision {
    /// Identifies the room. Another room that is created later under the same id has another identity.
    pub room: String,
    /// Identifies the order of its steps. A room that a node has restored, because the broker had lost all or
    /// the latest part of it, has another epoch.
    pub epoch: String,
    /// Grows by one with each [`RelayRequest::Write`] and [`RelayRequest::Change`].
    pub number: u64,
}
