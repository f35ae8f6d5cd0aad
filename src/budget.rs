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
        Charge { budget: self.clone(), bytes: 0 }
    }

    /// `None` where the budget does not have these bytes.
    pub(crate) fn charge(&self, bytes: usize) -> Option<Charge> {
        let mut charge = self.open();
        charge.grow(bytes).then_some(charge)
    }
}

/// Bytes taken from a budget, given back on drop.
#[derive(Debug)]
pub(crate) struct Charge {
    budget: Budget,
    bytes: usize,
}

impl Charge {
    /// Takes more bytes; false, and nothing taken, where the budget does not have them.
    #[must_use]
    pub(crate) fn grow(&mut self, more: usize) -> bool {
        if more == 0 {
            // All rooms' threads meet at this count: not for nothing.
            return true;
        }
        let Inner { limit, used } = &*self.budget.0;
        let taken = used.fetch_update(Relaxed, Relaxed, |used| {
            used.checked_add(more).filter(|total| total <= limit)
        });
        self.bytes += if taken.is_ok() { more } else { 0 };
        taken.is_ok()
    }

    /// Takes more bytes, over the limit if need be.
    pub(crate) fn force(&mut self, more: usize) {
        self.budget.0.used.fetch_add(more, Relaxed);
        self.bytes += more;
    }

    pub(crate) fn shrink(&mut self, less: usize) {
        let less = less.min(self.bytes);
        self.bytes -= less;
        if less > 0 {
            self.budget.0.used.fetch_sub(less, Relaxed);
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
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
}
