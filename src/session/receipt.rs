//! The times at which a client that asks for it is notified of its sets that were taken.

use std::time::{Duration, Instant};

/// How long sets are counted before the client is notified of them: the next message often follows
/// soon.
const COLLECTED: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub(super) struct Receipt {
    sets: u64,
    /// When the first set arrived of which the client has not been notified.
    since: Option<Instant>,
}

impl Receipt {
    /// Counts a set.
    pub(super) fn note(&mut self, now: Instant) {
        self.sets += 1;
        self.since.get_or_insert(now);
    }

    /// Returns when the client is to be notified, if there is something to report.
    pub(super) fn due(&self) -> Option<Instant> {
        Some(self.since? + COLLECTED)
    }

    /// Returns whether the client is to be notified now, and counts it as notified if so.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let is_due = self.due().is_some_and(|due| due <= now);
        if is_due {
            self.since = None;
        }
        is_due
    }

    /// Returns how many sets were read.
    pub(super) fn sets(&self) -> u64 {
        self.sets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_sets_are_told_of_at_once() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut receipt = Receipt::default();
        assert_eq!((receipt.due(), receipt.take(at(0))), (None, false));
        receipt.note(at(10));
        receipt.note(at(50));
        assert_eq!(receipt.due(), Some(at(110)));
        assert!(!receipt.take(at(109)));
        assert!(receipt.take(at(110)) && !receipt.take(at(500)));
        receipt.note(at(600));
        assert!(receipt.take(at(700)));
        assert_eq!(receipt.sets(), 3);
    }
}
