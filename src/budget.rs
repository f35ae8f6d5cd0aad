//! The byte budget that all rooms of a registry share.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// A count of bytes with a limit; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: usize,
    used: AtomicUsize,
}

impl Budget {
    pub(crate) fn new(limit: usize) -> Self {
        Self(Arc::new(Inner { limit, used: AtomicUsize::new(0) }))
    }

    pub(crate) fn used(&self) -> usize {
        self.0.used.load(Relaxed)
    }

    /// A charge of nothing, to grow.
    pub(crate) fn open(&self) -> Charge {
        Charge { budget: self.clone(), bytes: 0, ahead: 0 }
    }

    /// `None` where the budget does not have these bytes.
    pub(crate) fn charge(&self, bytes: usize) -> Option<Charge> {
        let mut charge = self.open();
        charge.grow(bytes).then_some(charge)
    }

    fn take(&self, bytes: usize) -> bool {
        self.take_within(bytes, self.0.limit)
    }

    /// Takes bytes where all that is taken then is no more than this.
    fn take_within(&self, bytes: usize, limit: usize) -> bool {
        let used = &self.0.used;
        // All rooms' threads meet at this count: not for nothing.
        bytes == 0
            || used
                .fetch_update(Relaxed, Relaxed, |used| {
                    used.checked_add(bytes).filter(|total| *total <= limit)
                })
                .is_ok()
    }

    fn give_back(&self, bytes: usize) {
        if bytes > 0 {
            self.0.used.fetch_sub(bytes, Relaxed);
        }
    }
}

/// Bytes taken from a budget, given back on drop.
#[derive(Debug)]
pub(crate) struct Charge {
    budget: Budget,
    bytes: usize,
    /// Taken, and not needed yet.
    ahead: usize,
}

/// What is taken at once by a charge that grows by steps.
const BLOCK: usize = 4_096;

impl Charge {
    /// Takes more bytes; false, and nothing taken, where the budget does not have them.
    #[must_use]
    pub(crate) fn grow(&mut self, more: usize) -> bool {
        self.grow_within(more, self.budget.0.limit)
    }

    /// As [`grow`](Self::grow), where half of the budget is left for others.
    #[must_use]
    pub(crate) fn grow_to_half(&mut self, more: usize) -> bool {
        self.grow_within(more, self.budget.0.limit / 2)
    }

    fn grow_within(&mut self, more: usize, limit: usize) -> bool {
        let is_taken = self.budget.take_within(more, limit);
        self.bytes += if is_taken { more } else { 0 };
        is_taken
    }

    /// As [`grow`](Self::grow), for many small steps: the budget is asked for a block at a time, as
    /// long as it has one.
    #[must_use]
    pub(crate) fn step(&mut self, more: usize) -> bool {
        if more > self.ahead && self.budget.take(BLOCK) {
            self.ahead += BLOCK;
        }
        if more > self.ahead {
            return self.grow(more);
        }
        self.ahead -= more;
        self.bytes += more;
        true
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives back what was taken for steps that have not come.
    pub(crate) fn settle(&mut self) {
        self.budget.give_back(std::mem::take(&mut self.ahead));
    }

    /// Takes more bytes, over the limit if need be.
    pub(crate) fn force(&mut self, more: usize) {
        self.budget.0.used.fetch_add(more, Relaxed);
        self.bytes += more;
    }

    pub(crate) fn shrink(&mut self, less: usize) {
        let less = less.min(self.bytes);
        self.bytes -= less;
        self.budget.give_back(less);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.settle();
        self.shrink(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charge_is_given_back() {
        let budget = Budget::new(100);
        let mut a = budget.charge(60).unwrap();
        assert!(budget.charge(41).is_none());
        assert!(!a.grow(41));
        assert!(a.grow(40));
        assert_eq!(budget.used(), 100);
        a.shrink(90);
        assert_eq!(budget.used(), 10);
        drop(a);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn steps_take_blocks_while_there_are_any() {
        let budget = Budget::new(2 * BLOCK + 10);
        let mut a = budget.open();
        assert!(a.step(100) && a.step(100));
        assert_eq!(budget.used(), BLOCK);
        assert!(a.step(BLOCK));
        assert_eq!(budget.used(), 2 * BLOCK);
        assert!(a.step(BLOCK - 200), "what was taken ahead");
        assert!(!a.step(11));
        assert!(a.step(10));
        assert_eq!(budget.used(), 2 * BLOCK + 10);
        drop(a);
        let mut b = budget.open();
        assert!(b.step(1));
        b.settle();
        assert_eq!(budget.used(), 1);
    }
}
