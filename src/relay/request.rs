//! What a node asks of a room's broker, and what it answers.

use super::{RelayNews, RelayWrite};
use crate::store::{StoredRoom, StoredSchema};

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
    /// Values for variables. Answered with [`RelayAnswer::Done`].
    Write {
        /// The number of the first; each further one's is the next.
        first: u64,
        /// Variables that the room has at most.
        most: u64,
        /// In order.
        writes: Vec<RelayWrite>,
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
    /// Which names the room may get; all nodes hear [`RelayNews::Schema`]. Answered with
    /// [`RelayAnswer::Done`].
    Schema(StoredSchema),
    /// The node leads the room until its lease is over, unless another does, or it does under another
    /// number. Answered with [`RelayAnswer::Done`] or [`RelayAnswer::Led`].
    Lead {
        /// Never used twice by the node.
        number: u64,
    },
    /// It leads the room no more. Answered with [`RelayAnswer::Done`].
    Resign {
        /// As it led.
        number: u64,
    },
}

/// A member of a room, as the broker knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "brokers outside this crate read them")]
pub struct RelaySession {
    /// Never used twice by its node.
    pub number: u64,
    /// The name that it has.
    pub name: String,
    /// Whether it may have it where another session has it already.
    pub shares: bool,
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
