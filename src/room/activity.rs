//! Counts of a room's activity.

use std::ops::AddAssign;

/// Counts since a room came into memory, or of all rooms since their registry was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Activity {
    /// The number of values that variables took on, whether members or the host wrote them.
    pub writes: u64,
    /// The number of sets that members were due to receive for these writes: one for each other member of
    /// the room.
    pub deliveries: u64,
    /// The number of sets that sent a single member the room's value again, because it might have seen
    /// another value or because its own was refused.
    pub corrections: u64,
}

impl AddAssign for Activity {
    fn add_assign(&mut self, other: Self) {
        self.writes += other.writes;
        self.deliveries += other.deliveries;
        self.corrections += other.corrections;
    }
}
