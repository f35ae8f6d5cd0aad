//! The lock of a room and of the registry, under which no value of the host's is dropped.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    ops::{Deref, DerefMut},
};

#[cfg(not(shuttle))]
use parking_lot as raw;
#[cfg(shuttle)]
use shuttle_parking_lot as raw;

thread_local! {
    /// The number of locks that this thread holds.
    static HELD: Cell<usize> = const { Cell::new(0) };
    /// The values to drop once this thread holds no lock any more.
    static DEFERRED: RefCell<Vec<Box<dyn Any>>> = const { RefCell::new(Vec::new()) };
}

/// Drops a value of the host's. If this thread holds a lock, the value is dropped once the lock is
/// free: its `Drop` may ask the room or the registry for something, and would deadlock.
pub(crate) fn drop_unlocked(value: impl Any) {
    // A thread whose locals are gone is at its end, and holds no lock.
    let is_held = HELD.try_with(|held| held.get() > 0).unwrap_or(false);
    if is_held {
        DEFERRED.with(|deferred| deferred.borrow_mut().push(Box::new(value)));
    } else {
        drop(value);
    }
}

/// A marker of a lock that this thread holds.
#[derive(Debug)]
pub(crate) struct Held(());

impl Held {
    pub(crate) fn begin() -> Self {
        HELD.with(|held| held.set(held.get() + 1));
        Self(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let left = HELD.with(|held| {
            held.set(held.get() - 1);
            held.get()
        });
        if left == 0 {
            // Popped one at a time, because the drop of one may defer others.
            while let Some(value) = DEFERRED.with(|deferred| deferred.borrow_mut().pop()) {
                drop(value);
            }
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct RwLock<T>(raw::RwLock<T>);

// The fields of a guard are dropped in this order: the lock is free before deferred values are dropped.
pub(crate) struct ReadGuard<'a, T>(raw::RwLockReadGuard<'a, T>, Held);
pub(crate) struct WriteGuard<'a, T>(raw::RwLockWriteGuard<'a, T>, Held);

impl<T> RwLock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(raw::RwLock::new(value))
    }

    pub(crate) fn read(&self) -> ReadGuard<'_, T> {
        ReadGuard(self.0.read(), Held::begin())
    }

    pub(crate) fn write(&self) -> WriteGuard<'_, T> {
        WriteGuard(self.0.write(), Held::begin())
    }
}

impl<T> Deref for ReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> Deref for WriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for WriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::sync::Arc;

    use super::*;

    struct Asks(Arc<RwLock<usize>>);

    impl Drop for Asks {
        fn drop(&mut self) {
            *self.0.write() += 1;
        }
    }

    #[test]
    fn a_value_dropped_under_locks_is_dropped_after_the_last_lock() {
        let (inner, outer) = (Arc::new(RwLock::new(0)), RwLock::new(()));
        {
            let _outer = outer.write();
            let inner_guard = inner.read();
            drop_unlocked(Asks(inner.clone()));
            drop_unlocked(Asks(inner.clone()));
            drop(inner_guard);
            assert_eq!(*inner.read(), 0);
        }
        assert_eq!(*inner.read(), 2);
        drop_unlocked(Asks(inner.clone()));
        assert_eq!(*inner.read(), 3);
    }
}
