//! The life of a room: in use, kept, vacant or gone.

use std::time::Instant;

/// The phase of a room's life, or how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// The room has members.
    Occupied,
    /// The host opened the room, so it stays when it is empty.
    Kept,
    /// The room has had no members since this moment.
    Vacant(Instant),
    /// The room is not in memory any more. A caller that still finds it starts over at the registry.
    Gone(End),
}

/// The way in which a room left the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// A store or a broker may still have the room.
    Unloaded,
    Removed,
}
