//! Whether a room is in use, vacant or gone.

use std::time::Instant;

/// What keeps a room, or how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// It has members.
    Occupied,
    /// The host opened it: it stays when it is empty.
    Kept,
    /// Nobody is there since this moment.
    Vacant(Instant),
    /// It is not in memory any more. Whoever still finds it starts over at the registry.
    Gone(End),
}

/// How a room left the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// A store or a broker may still have it.
    Unloaded,
    Removed,
}
