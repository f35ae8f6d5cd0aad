//! Receipts for a member's sets, if its client asks for them.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Release},
};

/// Counts of one member's sets. The session notes a set before the set enters the room, so that the member
/// receives the count before anything that was ordered after the set. Otherwise, a client whose connection
/// breaks could not know whether its own value or the one that it received is the later.
#[derive(Debug, Default)]
pub(crate) struct Receipts {
    taken: AtomicU64,
    told: AtomicU64,
}

impl Receipts {
    /// Notes how many sets were taken; 0 if the client does not ask.
    pub(crate) fn note(&self, sets: u64) {
        self.taken.store(sets, Release);
    }

    /// Returns how many sets were taken, if the client has not been notified of that yet. The caller must
    /// notify it at once.
    pub(crate) fn news(&self) -> Option<u64> {
        let taken = self.taken.load(Acquire);
        if self.told.load(Acquire) == taken {
            return None;
        }
        // Of concurrent callers, only one reports a count.
        (self.told.swap(taken, AcqRel) < taken).then_some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_count_is_told_once() {
        let receipts = Receipts::default();
        assert_eq!(receipts.news(), None);
        receipts.note(1);
        receipts.note(3);
        assert_eq!((receipts.news(), receipts.news()), (Some(3), None));
        receipts.note(4);
        assert_eq!(receipts.news(), Some(4));
    }
}
