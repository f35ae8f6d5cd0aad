//! Shortage of memory for a write: empty rooms are evicted, and the host is warned.

use std::{
    cmp::Reverse,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tracing::warn;

use super::Inner;
use crate::metrics;

/// The times of the last warnings, and of the last search for empty rooms.
#[derive(Debug, Default)]
pub(super) struct Shortage {
    told: Mutex<Option<Instant>>,
    told_of_broker: Mutex<Option<Instant>>,
    looked: Mutex<Option<Instant>>,
}

/// The least time between two warnings, and between two searches of all empty rooms.
const TELL: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(100);

/// Returns whether the pause since the last time is over. If so, notes this time.
fn is_due(last: &Mutex<Option<Instant>>, pause: Duration, now: Instant) -> bool {
    let mut last = last.lock();
    let is_due = last.is_none_or(|last| now >= last + pause);
    if is_due {
        *last = Some(now);
    }
    is_due
}

impl Inner {
    /// Warns the host that the broker has no memory for another room.
    pub(in crate::registry) fn broker_is_full(&self) {
        if is_due(&self.shortage.told_of_broker, TELL, tokio::time::Instant::now().into_std()) {
            warn!("the broker has no memory for another room");
        }
    }

    /// Evicts empty rooms, the largest and longest empty first, until a sixteenth of the budget is free.
    /// Returns `false` if nothing was freed.
    pub(super) fn make_memory(self: &Arc<Self>) -> bool {
        let now = tokio::time::Instant::now().into_std();
        metrics::starved();
        let limit = self.rules.limits.state_bytes;
        if is_due(&self.shortage.told, TELL, now) {
            let used = self.budget.used();
            warn!(used, limit, "no memory for a write: see Limits::state_bytes");
        }
        if !is_due(&self.shortage.looked, LOOK, now) {
            // A single room is cheap to find. A writer whose set needs more memory tries again.
            return self.evict_longest_empty(None);
        }
        let weight = |since: Instant, bytes: usize| {
            let idle = now.saturating_duration_since(since).as_secs() as usize;
            bytes.saturating_mul(idle + 1)
        };
        let mut vacant = self.evictions.rooms();
        vacant.sort_by_cached_key(|(since, room)| Reverse(weight(*since, room.bytes())));
        let before = self.budget.used();
        for (since, room) in vacant {
            if self.budget.used() + limit / 16 <= before.min(limit) {
                break;
            }
            self.evict(since, &room);
        }
        if let Some(persister) = &self.persister
            && self.budget.used() >= before
        {
            // Rooms that the store does not have yet can be evicted once they are saved.
            persister.hurry();
        }
        self.budget.used() < before
    }
}
