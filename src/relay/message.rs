//! What nodes hear of a room.

use serde::{Deserialize, Serialize};

use super::RelayRevision;
use crate::store::StoredSchema;

/// What nodes hear of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "nodes understand all")]
pub enum RelayMessage {
    /// Of each [`RelayRequest::Write`](super::RelayRequest::Write).
    Wrote(RelayWrites),
    /// Of each [`RelayRequest::Tell`](super::RelayRequest::Tell) and
    /// [`RelayRequest::Schema`](super::RelayRequest::Schema).
    Told(RelayNews),
}

/// One write of a room's variables.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "brokers outside this crate read them")]
pub struct RelayWrite {
    /// The variable's name.
    pub name: String,
    /// Its value; `None` where there is to be no such variable any more.
    pub value: Option<String>,
    /// Whether the variable is created where it is not there.
    pub creates: bool,
}

/// Writes that came into a room's order together.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "brokers outside this crate make them")]
pub struct RelayWrites {
    /// After it.
    pub revision: RelayRevision,
    /// Whose they are.
    pub node: String,
    /// The number of the first, as in [`RelayRequest::Write`](super::RelayRequest::Write).
    pub first: u64,
    /// As in [`RelayRequest::Write`](super::RelayRequest::Write).
    pub most: u64,
    /// In order, as they were asked for, those that were left out too.
    pub writes: Vec<RelayWrite>,
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
    /// Which names the room may get.
    Schema(StoredSchema),
    /// Everyone is put out.
    Closed,
    /// It is no more.
    Removed {
        /// The room that was meant: another of its id may be there since.
        epoch: String,
    },
}
