//! A bound in bytes for the data that slow readers hold: batches that wait for them, and snapshots that they
//! are being sent.

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
};

/// Data that a slow reader holds and can do without, because it receives the current values instead.
pub(super) trait Emptied {
    fn empty(&self);
}

/// The data that readers may still need, oldest first. Members read in order, so a batch is needed for
/// no longer than those after it. The batches that nobody needs are therefore always the oldest here.
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

    /// Notes data that is about to be sent, and empties the oldest while the backlog is over the limit.
    pub(super) fn push(&mut self, newest: &Arc<T>, bytes: usize) {
        while self.waiting.front().is_some_and(|(oldest, _)| oldest.strong_count() == 0) {
            self.pop();
        }
        self.bytes += bytes;
        self.waiting.push_back((Arc::downgrade(newest), bytes));
        // The newest stays, because it may be longer than the limit and the fast readers need it.
        while self.bytes > self.limit && self.waiting.len() > 1 {
            self.pop();
        }
    }

    /// Empties everything. The readers receive the current values instead.
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
    use crate::{
        budget::Budget,
        room::batch::{Batch, Link},
    };

    #[test]
    fn the_oldest_that_wait_are_emptied_over_the_limit() {
        let batch =
            || Arc::new(Batch::new(vec![], 0, Link::default(), Budget::new(0).share().open()));
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
