//! A room as a list of rooms has it.

use std::sync::Arc;

use super::Activity;

/// A room in a list of rooms.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct RoomSummary {
    /// Its id.
    pub id: Arc<str>,
    /// How many members are there.
    pub members: usize,
    /// How many there may be.
    pub max_members: usize,
    /// Whether it is [locked](crate::Room::lock).
    pub locked: bool,
    /// How many variables it has.
    pub variables: usize,
    /// Bytes that its variables count towards
    /// [`Limits::state_bytes`](crate::Limits#structfield.state_bytes).
    pub bytes: usize,
    /// What it has done since it is in memory.
    pub activity: Activity,
}
