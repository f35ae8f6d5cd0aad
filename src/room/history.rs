//! The past writes of a room, as many as the host wants to keep.

use std::{
    collections::VecDeque,
    fmt,
    sync::Arc,
    time::{Instant, SystemTime},
};

use super::state::State;
use crate::{budget::Charge, redacted::Redacted, wire::Text};

/// A past write, as returned by [`Room::history`](crate::Room::history).
///
/// `Debug` shows the length of a value instead of the value.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct PastWrite {
    /// The time at which the write entered the room's order.
    pub at: SystemTime,
    /// The variable's name. A lone surrogate, which no Rust string can hold, is replaced.
    pub name: String,
    /// The value that was written, with lone surrogates replaced as well.
    pub value: String,
    /// The username of the member that wrote it, on whichever node. `None` stands for the host or, with a
    /// relay, for a member whose write this node had missed.
    pub by: Option<Arc<str>>,
}

impl fmt::Debug for PastWrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PastWrite")
            .field("at", &self.at)
            .field("name", &self.name)
            .field("value", &Redacted(&self.value))
            .field("by", &self.by)
            .finish()
    }
}

/// The bytes that an entry costs in addition to its value.
const OVERHEAD: usize = 100;

/// The newest writes of a room, which count towards the budget like its values.
#[derive(Debug)]
pub(super) struct History {
    most: usize,
    entries: VecDeque<Entry>,
    charge: Charge,
}

/// A past write as the room keeps it.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    at: Instant,
    name: Text,
    value: Text,
    by: Option<Arc<str>>,
}

impl Entry {
    fn cost(&self) -> usize {
        OVERHEAD + self.value.as_json().len()
    }

    /// Converts the entry for the host, with the current time of both clocks. Must not be called under the
    /// room's lock, because values may be long.
    pub(crate) fn look(&self, now: Instant, today: SystemTime) -> PastWrite {
        PastWrite {
            at: today - now.saturating_duration_since(self.at),
            name: self.name.lossy(),
            value: self.value.lossy(),
            by: self.by.clone(),
        }
    }
}

impl History {
    pub(super) fn new(most: usize, charge: Charge) -> Self {
        Self { most, entries: VecDeque::new(), charge }
    }

    /// Records a write. If there is no memory for it, older ones are forgotten. All histories together use
    /// no more than half of the budget.
    pub(super) fn note(&mut self, name: &Text, value: &Text, by: Option<Arc<str>>, at: Instant) {
        let entry = Entry { at, name: name.clone(), value: value.clone(), by };
        while self.entries.len() >= self.most || !self.charge.grow_to_half(entry.cost()) {
            if !self.forget_oldest() {
                return;
            }
        }
        self.entries.push_back(entry);
    }

    /// Forgets the oldest write. Returns `false` if there is nothing to forget.
    pub(super) fn forget_oldest(&mut self) -> bool {
        let Some(oldest) = self.entries.pop_front() else { return false };
        self.charge.shrink(oldest.cost());
        true
    }
}

impl State {
    /// Returns how many past writes it keeps.
    #[cfg(feature = "inspector")]
    pub(crate) fn history_len(&self) -> usize {
        self.history.as_ref().map_or(0, |history| history.entries.len())
    }

    /// Returns up to `most` of the newest writes, the oldest of them first.
    pub(crate) fn history(&self, most: usize) -> Vec<Entry> {
        let Some(history) = &self.history else { return Vec::new() };
        let skipped = history.entries.len().saturating_sub(most);
        history.entries.iter().skip(skipped).cloned().collect()
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::{budget::Budget, wire::Json};

    #[test]
    fn the_oldest_goes_first_and_gives_its_bytes_back() {
        let text = |text: &str| Json::from_plain(text).to_text();
        let budget = Budget::new(20 * OVERHEAD);
        let mut history = History::new(3, budget.share().open());
        let now = Instant::now();
        let values = |history: &History| -> Vec<String> {
            history.entries.iter().map(|entry| entry.value.lossy()).collect()
        };
        for n in 0..5 {
            history.note(&text("x"), &text(&n.to_string()), None, now);
        }
        assert_eq!(values(&history), ["2", "3", "4"]);
        assert_eq!(budget.used(), 3 * (OVERHEAD + 1));
        let long = "v".repeat(8 * OVERHEAD);
        history.note(&text("x"), &text(&long), None, now);
        assert_eq!(values(&history), [long]);
        history.note(&text("x"), &text(&"v".repeat(10 * OVERHEAD)), None, now);
        assert_eq!(values(&history), [""; 0], "no place for that one");
        assert_eq!(budget.used(), 0);
    }
}
