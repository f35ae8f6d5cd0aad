//! Messages about a room that nodes receive.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::RelayRevision;
use crate::{redacted::Redacted, store::StoredSchema};

/// A message about a room that nodes receive.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "nodes understand all")]
pub enum RelayMessage {
    /// Sent for each [`RelayRequest::Write`](super::RelayRequest::Write).
    Wrote(RelayWrites),
    /// Sent for each [`RelayRequest::Change`](super::RelayRequest::Change).
    Changed {
        /// The room's revision after the change.
        revision: RelayRevision,
        /// The node that requested it.
        node: String,
        /// The request's number.
        number: u64,
        /// The change.
        change: RelayChange,
    },
    /// Sent for each [`RelayRequest::Tell`](super::RelayRequest::Tell) and
    /// [`RelayRequest::Remove`](super::RelayRequest::Remove).
    Told(RelayNews),
}

/// One write to a room's variables.
#[derive(Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "brokers outside this crate read them")]
pub struct RelayWrite {
    /// The variable's name.
    pub name: String,
    /// Its value; `None` drops the variable.
    pub value: Option<String>,
    /// Whether the write creates the variable if it does not exist.
    pub creates: bool,
    /// The username of the member that wrote; `None` is the host. Plain text, unlike the other texts.
    pub by: Option<String>,
    /// The value that the variable must have at this point of the order; otherwise the write is left out. A
    /// variable that does not exist counts as empty, and a number as its text.
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

/// Writes that entered a room's order together.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "brokers outside this crate make them")]
pub struct RelayWrites {
    /// The room's revision after them.
    pub revision: RelayRevision,
    /// The node that requested them.
    pub node: String,
    /// The number of the first, as in [`RelayRequest::Write`](super::RelayRequest::Write).
    pub first: u64,
    /// The limit of variables, as in [`RelayRequest::Write`](super::RelayRequest::Write).
    pub most: u64,
    /// The writes, in order, as they were requested, including those that were left out.
    pub writes: Vec<RelayWrite>,
    /// The numbers of the writes that were left out because a session has a name, which only the broker
    /// knows.
    pub left_out: Vec<u64>,
}

/// A change of a room for all nodes, in the room's order.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_enums, reason = "nodes understand all")]
pub enum RelayChange {
    /// Whether sessions are refused.
    Locked(bool),
    /// How many sessions the room may have.
    MaxMembers(u64),
    /// How many variables it may have; nodes pass this limit with each write.
    MaxVariables(u64),
    /// How many bytes of names and values it may have; nodes enforce this limit.
    MaxBytes(u64),
    /// The names that the room accepts.
    Schema(StoredSchema),
    /// Refuses sessions with this key for `millis` milliseconds.
    Ban {
        /// One of [`RelaySession::who`](super::RelaySession::who).
        who: String,
        /// The username, as [`RelayBan::name`](super::RelayBan::name). Plain text, unlike those of variables.
        name: String,
        /// How long the ban lasts, in milliseconds; 0 ends it.
        millis: u64,
    },
    /// Closes every session that began before this change. The broker ends all sessions.
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

/// News between nodes outside the order of a room. It may be lost.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_enums, reason = "nodes understand all")]
pub enum RelayNews {
    /// A newcomer wants the name of a session, whose node shows that it is alive by renewing its lease.
    Wanted {
        /// The session's node.
        node: String,
        /// Its number.
        session: u64,
        /// The newcomer's person, if the host has identified one.
        person: Option<String>,
        /// The newcomer's resume key: a session with the same key is its own earlier one.
        resume: Option<String>,
        /// Whether the newcomer receives the name in any case.
        replaces: bool,
        /// The age of the newcomer's connection, in milliseconds. A session whose connection is younger keeps
        /// the name.
        age: u64,
    },
    /// The member that has the name is alive, and keeps it.
    Kept {
        /// The session's node.
        node: String,
        /// Its number.
        session: u64,
    },
    /// The room is about to be removed, and the host notifies its members.
    Ending {
        /// The close code, as [`CloseCode`](crate::CloseCode) has it for
        /// [`Dialect::Spec`](crate::Dialect::Spec).
        code: u16,
        /// A sentence for the players.
        reason: String,
    },
    /// The room was removed.
    Removed {
        /// Its identity, as in [`RelayRevision::room`]: the id may belong to another room since.
        room: String,
    },
    /// The host removes a person from every room. [Announced](super::Relay::announce), because it belongs to
    /// no room.
    Kick {
        /// The node that announces it, and has already removed the person itself.
        node: String,
        /// The [`Identity::id`](crate::Identity::id) of the person.
        person: String,
        /// The close code, as in [`Ending`](Self::Ending).
        code: u16,
        /// A sentence for the player.
        reason: String,
    },
}

impl RelayNews {
    /// How long the node of a [wanted](Self::Wanted) session stays in the room without renewing: 2 s, or the rest
    /// of its lease if that is shorter. Nodes renew more often than that, so one that does not receive this news
    /// stays, too.
    pub const TIME_TO_RENEW: Duration = Duration::from_secs(2);
}

impl fmt::Debug for RelayNews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Omits the person and the resume key.
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
