//! Locks by room id: one task at a time loads, creates or removes the room of an id.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

type Locks = Arc<Mutex<HashMap<Arc<str>, Arc<AsyncMutex<()>>>>>;

/// The ids whose lock somebody holds or waits for.
#[derive(Debug, Default)]
pub(crate) struct IdLocks(Locks);

/// The lock of an id. Others wait while this is held.
#[derive(Debug)]
pub(crate) struct IdLock {
    id: Arc<str>,
    locks: Locks,
    guard: Option<OwnedMutexGuard<()>>,
}

impl IdLocks {
    pub(crate) async fn take(&self, id: &str) -> IdLock {
        let (mut id_lock, lock) = self.waiting(id);
        id_lock.guard = Some(lock.lock_owned().await);
        id_lock
    }

    /// Takes the lock, or returns `None` if somebody has it.
    pub(crate) fn try_take(&self, id: &str) -> Option<IdLock> {
        let (mut id_lock, lock) = self.waiting(id);
        id_lock.guard = Some(lock.try_lock_owned().ok()?);
        Some(id_lock)
    }

    /// Returns the lock of an id, and an [`IdLock`] without it that forgets the id even if its caller stops
    /// waiting.
    fn waiting(&self, id: &str) -> (IdLock, Arc<AsyncMutex<()>>) {
        let mut locks = self.0.lock();
        let (id, lock) = match locks.get_key_value(id) {
            Some((id, lock)) => (id.clone(), lock.clone()),
            None => {
                let (id, lock): (Arc<str>, Arc<AsyncMutex<()>>) = (id.into(), Arc::default());
                locks.insert(id.clone(), lock.clone());
                (id, lock)
            }
        };
        (IdLock { id, locks: self.0.clone(), guard: None }, lock)
    }
}

impl IdLock {
    pub(crate) fn id(&self) -> &str {
        &self.id
    }
}

impl Drop for IdLock {
    fn drop(&mut self) {
        self.guard = None;
        let mut locks = self.locks.lock();
        // A waiter has a clone of the `Arc`, and gets it under this lock.
        if locks.get(&self.id).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            locks.remove(&self.id);
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_at_a_time_for_an_id() {
        let id_locks = IdLocks::default();
        let a = id_locks.take("a").await;
        let _b = id_locks.take("b").await;
        assert!(id_locks.try_take("a").is_none());
        let soon = Duration::from_secs(1);
        assert!(timeout(soon, id_locks.take("a")).await.is_err());
        drop(a);
        let a = timeout(soon, id_locks.take("a")).await.unwrap();
        assert_eq!(id_locks.0.lock().len(), 2);
        drop(a);
        assert_eq!(id_locks.0.lock().len(), 1, "nobody has it");
    }
}
