//! What a room has done so far.

use std::ops::AddAssign;

/// Counts since a room is in memory, or of all rooms since their registry is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Activity {
    /// Values that became a variable's, of members and of the host.
    pub writes: u64,
    /// The sets that members were due for them: one for each other member of the room.
    pub deliveries: u64,
    /// Sets that told one member a room's value again, as it might have seen another or as its own was
    /// refused.
    pub corrections: u64,
}

impl AddAssign for Activity {
    fn add_assign(&mut self, other: Self) {
        self.writes += other.writes;
        self.deliveries += other.deliveries;
        self.corrections += other.corrections;
    }
}
