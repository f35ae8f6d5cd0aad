//! What slow readers hold up, bounded in bytes: batches that wait for them, snapshots that they are sent.

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
};

/// What a slow reader holds up, and can do without: it gets the current values instead.
pub(super) trait Emptied {
    fn empty(&self);
}

/// Members read in order, so a batch that someone still needs is needed no longer than all after
/// it: those that nobody needs are always the oldest here.
#[derive(Debug)]
pub(super) struct Backlog<T> {
    limit: usize,
    bytes: usize,
    waiting: VecDeque<(Weak<T>, usize)>,
}

impl<T: Emptied> Backlog<T> {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, bytes: 0, waiting: VecDeque::new() }
    }

    /// Notes what is about to be sent, and empties the oldest ones over the limit.
    pub(super) fn push(&mut self, newest: &Arc<T>, bytes: usize) {
        while self.waiting.front().is_some_and(|(oldest, _)| oldest.strong_count() == 0) {
            self.pop();
        }
        self.bytes += bytes;
        self.waiting.push_back((Arc::downgrade(newest), bytes));
        // The newest stays: it may be longer than the limit, and the fast readers need it.
        while self.bytes > self.limit && self.waiting.len() > 1 {
            self.pop();
        }
    }

    /// Empties all: their readers get the current values instead.
    pub(super) fn clear(&mut self) {
        while !self.waiting.is_empty() {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some((oldest, bytes)) = self.waiting.pop_front() {
            self.bytes -= bytes;
            if let Some(oldest) = oldest.upgrade() {
                oldest.empty();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{budget::Budget, room::batch::Batch};

    #[test]
    fn the_oldest_that_wait_are_emptied_over_the_limit() {
        let batch = || Arc::new(Batch::new(vec![], 0, Budget::new(0).share().open()));
        let [read, old, big, new] = [batch(), batch(), batch(), batch()];
        let mut backlog = Backlog::new(100);
        backlog.push(&read, 90);
        drop(read);
        backlog.push(&old, 50);
        assert!(old.content().is_some());
        backlog.push(&big, 200);
        assert!(old.content().is_none() && big.content().is_some());
        backlog.push(&new, 10);
        assert!(big.content().is_none() && new.content().is_some());
        backlog.clear();
        assert!(new.content().is_none());
    }
}
