//! The byte budget that all rooms of a registry share, and each room's share of it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// The bytes that every share may have, even when most of the budget is used, so that no room, however
/// large, keeps small ones from working.
pub(crate) const ASSURED: usize = 64 << 10;

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

    /// Creates the share of a room, or of a session that is in no room.
    pub(crate) fn share(&self) -> Share {
        Share(Arc::new(Part { budget: self.clone(), used: AtomicUsize::new(0) }))
    }
}

/// The part of a budget that one room or one session has; cheap to clone. The last quarter of the
/// budget is reserved for shares of no more than [`ASSURED`] bytes.
#[derive(Debug, Clone)]
pub(crate) struct Share(Arc<Part>);

#[derive(Debug)]
struct Part {
    budget: Budget,
    used: AtomicUsize,
}

impl Share {
    /// Returns how many bytes the share has.
    pub(crate) fn used(&self) -> usize {
        self.0.used.load(Relaxed)
    }

    /// Creates a charge of no bytes, which can grow.
    pub(crate) fn open(&self) -> Charge {
        Charge { share: self.clone(), bytes: 0, ahead: 0 }
    }

    /// Charges the share. Returns `None` if the budget does not have these bytes for it.
    pub(crate) fn charge(&self, bytes: usize) -> Option<Charge> {
        let mut charge = self.open();
        charge.grow(bytes).then_some(charge)
    }

    /// Returns how much of the budget may be used once this share has taken `bytes` more.
    fn limit(&self, bytes: usize) -> usize {
        let limit = self.0.budget.0.limit;
        let is_small = self.used().saturating_add(bytes) <= ASSURED;
        if is_small { limit } else { limit - limit / 4 }
    }

    /// Takes bytes if the budget's total then stays within `limit`.
    fn take_within(&self, bytes: usize, limit: usize) -> bool {
        let used = &self.0.budget.0.used;
        // The threads of all rooms contend for this count, so nothing touches it for zero bytes.
        // Relaxed, because the counts guard no other memory.
        let is_taken = bytes == 0
            || used
                .fetch_update(Relaxed, Relaxed, |used| {
                    used.checked_add(bytes).filter(|total| *total <= limit)
                })
                .is_ok();
        if is_taken {
            self.0.used.fetch_add(bytes, Relaxed);
        }
        is_taken
    }

    fn give_back(&self, bytes: usize) {
        if bytes > 0 {
            self.0.used.fetch_sub(bytes, Relaxed);
            self.0.budget.0.used.fetch_sub(bytes, Relaxed);
        }
    }
}

/// Bytes taken from a budget, given back on drop.
#[derive(Debug)]
pub(crate) struct Charge {
    share: Share,
    bytes: usize,
    /// The bytes that were taken in advance for small steps.
    ahead: usize,
}

/// How many bytes a charge that grows in small steps takes at once.
const BLOCK: usize = 4_096;

impl Charge {
    /// Takes more bytes. Returns `false`, with nothing taken, if the budget does not have them for this
    /// share.
    #[must_use]
    pub(crate) fn grow(&mut self, more: usize) -> bool {
        self.grow_within(more, self.share.limit(more))
    }

    /// Takes more bytes as [`grow`](Self::grow) does, but only if half of the budget is left for
    /// others.
    #[must_use]
    pub(crate) fn grow_to_half(&mut self, more: usize) -> bool {
        self.grow_within(more, self.share.0.budget.0.limit / 2)
    }

    fn grow_within(&mut self, more: usize, limit: usize) -> bool {
        let is_taken = self.share.take_within(more, limit);
        self.bytes += if is_taken { more } else { 0 };
        is_taken
    }

    /// Takes more bytes as [`grow`](Self::grow) does, in one of many small steps: the charge takes a
    /// block of the budget at a time, as long as the budget has one.
    #[must_use]
    pub(crate) fn step(&mut self, more: usize) -> bool {
        if more > self.ahead && self.share.take_within(BLOCK, self.share.limit(BLOCK)) {
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

    /// Gives back the bytes that were taken for steps that have not come.
    pub(crate) fn settle(&mut self) {
        self.share.give_back(std::mem::take(&mut self.ahead));
    }

    /// Takes more bytes, beyond the limit if necessary.
    pub(crate) fn force(&mut self, more: usize) {
        self.share.0.used.fetch_add(more, Relaxed);
        self.share.0.budget.0.used.fetch_add(more, Relaxed);
        self.bytes += more;
    }

    pub(crate) fn shrink(&mut self, less: usize) {
        let less = less.min(self.bytes);
        self.bytes -= less;
        self.share.give_back(less);
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
        let share = budget.share();
        let mut a = share.charge(60).unwrap();
        assert!(share.charge(41).is_none());
        assert!(!a.grow(41));
        assert!(a.grow(40));
        assert_eq!((budget.used(), share.used()), (100, 100));
        a.shrink(90);
        assert_eq!((budget.used(), share.used()), (10, 10));
        drop(a);
        assert_eq!((budget.used(), share.used()), (0, 0));
    }

    #[test]
    fn the_last_quarter_is_for_small_shares() {
        let budget = Budget::new(8 * ASSURED);
        let (large, small, other) = (budget.share(), budget.share(), budget.share());
        let mut all = large.open();
        assert!(all.grow(6 * ASSURED));
        assert!(!all.grow(1), "three quarters are used");
        let mut few = small.open();
        assert!(few.grow(ASSURED) && !few.grow(1));
        assert!(other.charge(ASSURED).is_some());
        all.force(3 * ASSURED);
        assert!(other.charge(1).is_none(), "all is used");
    }

    #[test]
    fn steps_take_blocks_while_there_are_any() {
        let budget = Budget::new(2 * BLOCK + 10);
        let share = budget.share();
        let mut a = share.open();
        assert!(a.step(100) && a.step(100));
        assert_eq!(budget.used(), BLOCK);
        assert!(a.step(BLOCK));
        assert_eq!(budget.used(), 2 * BLOCK);
        assert!(a.step(BLOCK - 200), "what was taken ahead");
        assert!(!a.step(11));
        assert!(a.step(10));
        assert_eq!(budget.used(), 2 * BLOCK + 10);
        drop(a);
        let mut b = share.open();
        assert!(b.step(1));
        b.settle();
        assert_eq!((budget.used(), share.used()), (1, 1));
    }
}
