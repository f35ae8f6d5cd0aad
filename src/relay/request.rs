//! What a node asks of a room's broker, and what the broker answers.

use std::fmt;

use super::{RelayChange, RelayNews, RelayWrite};
use crate::{
    redacted::{Count, Redacted},
    store::StoredRoom,
};

/// A node that asks for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "brokers outside this crate read them")]
pub struct RelayNode<'a> {
    /// Its name. A process that enters a room again does so by another one.
    pub name: &'a str,
    /// The last of its numbers of which it knows that the broker has taken it. A broker that has not, has lost
    /// it: it answers [`RelayAnswer::Lost`], whatever is asked for, and nothing changes. Otherwise a number
    /// that is taken after a loss would hide it.
    pub acknowledged: u64,
}

/// What a node asks of a room's broker.
///
/// Requests that change a room have numbers, which a node gives in ascending order. The broker takes
/// each number once, also when it refuses the request: a request of a number that it has taken already
/// changes nothing, and is answered with [`RelayAnswer::Done`]. So an attempt that arrives late, after
/// the node has given it up and gone on, has no effect.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a broker that ignores one keeps wrong rooms")]
pub enum RelayRequest {
    /// The node enters the room. Answered with [`RelayAnswer::Room`] or [`RelayAnswer::Nowhere`].
    ///
    /// The room is created if it is not there and `create` has one. It is created from `create` too,
    /// instead of the one that is there, if `known` is a later revision of the same epoch: then the
    /// broker has lost the last of it. It is neither created nor entered if `known` is of another room,
    /// or of one that was removed within two leases.
    Enter {
        /// The room to create.
        create: Option<RelayRoom>,
        /// The epoch of a room that is created; never used twice.
        epoch: String,
        /// The revision at which the node has the room, if it has it. A room that is created from it
        /// keeps its identity and begins at the next revision.
        known: Option<RelayRevision>,
        /// The name under which the process was in the room before: that node is out, and its sessions
        /// are over.
        was: Option<String>,
    },
    /// A session begins. Answered with [`RelayAnswer::Done`], also if it has begun already, or with a
    /// refusal; then nothing has changed.
    Join {
        /// The request's number.
        number: u64,
        /// The session.
        session: RelaySession,
        /// Sessions of the node that end if this one begins, so that their name and places are free.
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
        /// The number of the first write; each further write has the next.
        first: u64,
        /// How many variables the room may have.
        most: u64,
        /// The writes, in order.
        writes: Vec<RelayWrite>,
    },
    /// Changes what the room is, for all nodes. Answered with [`RelayAnswer::Done`].
    Change {
        /// The request's number.
        number: u64,
        /// The change.
        change: RelayChange,
    },
    /// Removes the room; all nodes hear [`RelayNews::Removed`]. Answered with [`RelayAnswer::Done`].
    Remove {
        /// The request's number.
        number: u64,
    },
    /// Renews the node's lease. Answered with [`RelayAnswer::Done`].
    Renew,
    /// Reads the room. Answered with [`RelayAnswer::Room`].
    Read,
    /// The node has left the room, which is deleted if no other node is in it. Nothing happens if the
    /// room is another by now. Answered with [`RelayAnswer::Done`] or [`RelayAnswer::Nowhere`].
    Forget {
        /// Which room it is, as in [`RelayRevision::room`].
        room: String,
    },
    /// Sends news to all nodes. Answered with [`RelayAnswer::Done`].
    Tell(RelayNews),
    /// The node leads the room until its lease is over, unless another node leads it, or this node does
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
    /// The numbers that the broker takes with this request: the first and the last.
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

/// A member of a room, as the broker knows it.
#[derive(Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "brokers outside this crate read them")]
pub struct RelaySession {
    /// Identifies the session; never used twice by its node.
    pub number: u64,
    /// The member's name.
    pub name: String,
    /// Whether the member may have the name beside another session that has it, and shares it too.
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
    /// Its variables, and which names it may get.
    pub stored: StoredRoom,
    /// How many sessions it may have.
    pub max_members: u64,
    /// How many variables it may have: nodes give it with each write.
    pub max_variables: u64,
    /// How many bytes of names and values nodes let it grow to.
    pub max_bytes: u64,
    /// Whether sessions are refused.
    pub is_locked: bool,
    /// The number of the revision at which everyone was put out last; 0 if nobody ever was.
    pub closed: u64,
    /// Whose sessions are refused, and for how much longer.
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
    /// For how long, in milliseconds.
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

/// What a broker answers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "nodes understand all")]
pub enum RelayAnswer {
    /// The request is done.
    Done {
        /// The room's revision.
        revision: RelayRevision,
        /// The last number of the node's that was taken before this request; 0 is none. If that is
        /// lower than one that was answered, the broker has lost something.
        before: u64,
    },
    /// The room as it is now.
    Room {
        /// Its revision.
        revision: RelayRevision,
        /// The room.
        room: RelayRoom,
        /// Whether it was created by this request.
        is_new: bool,
        /// The last number of the node's that was taken; 0 is none.
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
    /// The room has as many sessions as it may have; or, to [`RelayRequest::Enter`], the broker has no
    /// memory for another room.
    Full,
    /// There is no such room.
    Nowhere,
    /// The node is not in the room, or no longer. Nothing has changed.
    Fenced,
    /// The broker has lost what it had taken of the node: see [`RelayNode::acknowledged`]. Nothing has changed.
    Lost,
}

/// A moment of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "brokers outside this crate make them")]
pub struct RelayRevision {
    /// Identifies the room: another one that is created under the same id has another.
    pub room: String,
    /// Identifies the order of its steps: a room that a node has restored, because the broker had lost
    /// it or the last of it, has another.
    pub epoch: String,
    /// Grows by one with each [`RelayRequest::Write`] and [`RelayRequest::Change`].
    pub number: u64,
}
