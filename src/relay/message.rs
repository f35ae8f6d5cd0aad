//! What nodes hear of a room.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::RelayRevision;
use crate::{redacted::Redacted, store::StoredSchema};

/// What nodes hear of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "nodes understand all")]
pub enum RelayMessage {
    /// Of each [`RelayRequest::Write`](super::RelayRequest::Write).
    Wrote(RelayWrites),
    /// Of each [`RelayRequest::Change`](super::RelayRequest::Change).
    Changed {
        /// The room's revision after the change.
        revision: RelayRevision,
        /// The node that asked for it.
        node: String,
        /// The request's number.
        number: u64,
        /// The change.
        change: RelayChange,
    },
    /// Of each [`RelayRequest::Tell`](super::RelayRequest::Tell) and
    /// [`RelayRequest::Remove`](super::RelayRequest::Remove).
    Told(RelayNews),
}

/// One write of a room's variables.
#[derive(Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "brokers outside this crate read them")]
pub struct RelayWrite {
    /// The variable's name.
    pub name: String,
    /// Its value; `None` drops the variable.
    pub value: Option<String>,
    /// Whether the variable is created if it is not there.
    pub creates: bool,
    /// The username of the member whose write it is; `None` is the host. Plain text, unlike the others.
    pub by: Option<String>,
    /// The write is left out unless this is the variable's value in the order. A variable that is not there
    /// has the empty one, and a number is its text.
    pub was: Option<String>,
    /// The write is left out if a session has this name: see
    /// [`RelayWrites::left_out`](RelayWrites#structfield.left_out).
    pub unless: Option<String>,
}

impl fmt::Debug for RelayWrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayWrite")
            .field("name", &self.name)
            .field("value", &self.value.as_deref().map(Redacted))
            .field("creates", &self.creates)
            .field("by", &self.by)
            .field("was", &self.was.as_deref().map(Redacted))
            .field("unless", &self.unless)
            .finish()
    }
}

/// Writes that came into a room's order together.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "brokers outside this crate make them")]
pub struct RelayWrites {
    /// The room's revision after them.
    pub revision: RelayRevision,
    /// The node that asked for them.
    pub node: String,
    /// The number of the first, as in [`RelayRequest::Write`](super::RelayRequest::Write).
    pub first: u64,
    /// As in [`RelayRequest::Write`](super::RelayRequest::Write).
    pub most: u64,
    /// The writes, in order, as they were asked for, those included that were left out.
    pub writes: Vec<RelayWrite>,
    /// The numbers of those that were left out because a session has a name, which only the broker knows.
    pub left_out: Vec<u64>,
}

/// What changes a room for all nodes, in its order.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_enums, reason = "nodes understand all")]
pub enum RelayChange {
    /// Whether sessions are refused.
    Locked(bool),
    /// How many sessions the room may have.
    MaxMembers(u64),
    /// How many variables it may have: nodes give it with each write.
    MaxVariables(u64),
    /// How many bytes of names and values nodes let it grow to.
    MaxBytes(u64),
    /// Which names the room may get.
    Schema(StoredSchema),
    /// Sessions with one of these keys are refused for so many milliseconds.
    Ban {
        /// One of [`RelaySession::who`](super::RelaySession::who).
        who: String,
        /// The username, as [`RelayBan::name`](super::RelayBan::name). Plain text, unlike those of variables.
        name: String,
        /// For how long, in milliseconds; 0 ends the ban.
        millis: u64,
    },
    /// Everyone is put out whose session began before this; the broker ends all sessions.
    Closed,
}

impl fmt::Debug for RelayChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked(is_locked) => f.debug_tuple("Locked").field(is_locked).finish(),
            Self::MaxMembers(count) => f.debug_tuple("MaxMembers").field(count).finish(),
            Self::MaxVariables(count) => f.debug_tuple("MaxVariables").field(count).finish(),
            Self::MaxBytes(bytes) => f.debug_tuple("MaxBytes").field(bytes).finish(),
            Self::Schema(schema) => f.debug_tuple("Schema").field(schema).finish(),
            Self::Ban { who, name: _, millis } => {
                f.debug_struct("Ban").field("who", &Redacted(who)).field("millis", millis).finish()
            }
            Self::Closed => f.write_str("Closed"),
        }
    }
}

/// What nodes tell each other beside the order of a room: it may be lost.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_enums, reason = "nodes understand all")]
pub enum RelayNews {
    /// Somebody wants the name that a session has.
    Wanted {
        /// The session's node.
        node: String,
        /// Its number.
        session: u64,
        /// The person that wants it, if the host has said who it is.
        person: Option<String>,
        /// What it resumes by: the session that has the same is its own, of before.
        resume: Option<String>,
        /// Whether the newcomer gets the name in any case.
        replaces: bool,
        /// How long ago its connection was made, in milliseconds: one that was made later keeps the name.
        age: u64,
    },
    /// The member that has such a name is alive, and keeps it.
    Kept {
        /// The session's node.
        node: String,
        /// Its number.
        session: u64,
    },
    /// The room is about to be removed, and its members are told so by the host.
    Ending {
        /// The code of their close, as [`CloseCode`](crate::CloseCode) has it for
        /// [`Dialect::Spec`](crate::Dialect::Spec).
        code: u16,
        /// A sentence for players.
        reason: String,
    },
    /// The room was removed.
    Removed {
        /// Its identity, as in [`RelayRevision::room`]: another may be there since.
        room: String,
    },
    /// The host puts a person out of every room. [Announced](super::Relay::announce), because no room has it.
    Kick {
        /// The node that announces it, and has put the person out itself.
        node: String,
        /// The [`Identity::id`](crate::Identity::id) of the person.
        person: String,
        /// The code of the close, as in [`Ending`](Self::Ending).
        code: u16,
        /// A sentence for the player.
        reason: String,
    },
}

impl fmt::Debug for RelayNews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Neither the person nor what it resumes by.
            Self::Wanted { node, session, .. } => f
                .debug_struct("Wanted")
                .field("node", node)
                .field("session", session)
                .finish_non_exhaustive(),
            Self::Kept { node, session } => {
                f.debug_struct("Kept").field("node", node).field("session", session).finish()
            }
            Self::Ending { code, reason } => {
                f.debug_struct("Ending").field("code", code).field("reason", reason).finish()
            }
            Self::Removed { room } => f.debug_struct("Removed").field("room", room).finish(),
            Self::Kick { node, person: _, code, reason } => f
                .debug_struct("Kick")
                .field("node", node)
                .field("code", code)
                .field("reason", reason)
                .finish_non_exhaustive(),
        }
    }
}
