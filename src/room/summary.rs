//! A room as it appears in a list of rooms.

use std::sync::Arc;

use super::Activity;

/// A room in a list of rooms.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct RoomSummary {
    /// The id of the room.
    pub id: Arc<str>,
    /// The number of members in the room.
    pub members: usize,
    /// The number of members that it may have.
    pub max_members: usize,
    /// Whether it is [locked](crate::Room::lock).
    pub locked: bool,
    /// The number of its variables.
    pub variables: usize,
    /// The bytes of its variables that count towards
    /// [`Limits::state_bytes`](crate::Limits#structfield.state_bytes).
    pub bytes: usize,
    /// Its activity since it came into memory.
    pub activity: Activity,
}
