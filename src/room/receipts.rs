//! Which of a member's sets were taken, if its client asks to be told.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Release},
};

/// Counts of one member's sets. Noted by its session before a set enters the room, so that a member is told
/// of it before it is sent anything that was ordered behind it: otherwise a client whose connection breaks
/// could not know whether its own value or the one that it heard is the later.
#[derive(Debug, Default)]
pub(crate) struct Receipts {
    taken: AtomicU64,
    told: AtomicU64,
}

impl Receipts {
    /// Notes that so many sets were taken; 0 of a client that does not ask.
    pub(crate) fn note(&self, sets: u64) {
        self.taken.store(sets, Release);
    }

    /// Returns how many sets were taken, if the client has not been told. Then it is to be told at once.
    pub(crate) fn news(&self) -> Option<u64> {
        let taken = self.taken.load(Acquire);
        if self.told.load(Acquire) == taken {
            return None;
        }
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
