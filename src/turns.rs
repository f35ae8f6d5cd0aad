//! Who loads, creates or removes a room: one at a time for each id.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

type Locks = Arc<Mutex<HashMap<Arc<str>, Arc<AsyncMutex<()>>>>>;

/// The ids that somebody has the turn of, or waits for.
#[derive(Debug, Default)]
pub(crate) struct Turns(Locks);

/// Others wait while this is held.
#[derive(Debug)]
pub(crate) struct Turn {
    id: Arc<str>,
    locks: Locks,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    pub(crate) async fn take(&self, id: &str) -> Turn {
        let (mut turn, lock) = self.waiting(id);
        turn.guard = Some(lock.lock_owned().await);
        turn
    }

    /// `None` where somebody has it.
    pub(crate) fn try_take(&self, id: &str) -> Option<Turn> {
        let (mut turn, lock) = self.waiting(id);
        turn.guard = Some(lock.try_lock_owned().ok()?);
        Some(turn)
    }

    /// So that the id is forgotten also where nobody waits any more.
    fn waiting(&self, id: &str) -> (Turn, Arc<AsyncMutex<()>>) {
        let mut locks = self.0.lock();
        let (id, lock) = match locks.get_key_value(id) {
            Some((id, lock)) => (id.clone(), lock.clone()),
            None => {
                let (id, lock): (Arc<str>, Arc<AsyncMutex<()>>) = (id.into(), Arc::default());
                locks.insert(id.clone(), lock.clone());
                (id, lock)
            }
        };
        (Turn { id, locks: self.0.clone(), guard: None }, lock)
    }
}

impl Turn {
    pub(crate) fn id(&self) -> &str {
        &self.id
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.guard = None;
        let mut locks = self.locks.lock();
        // Whoever waits has it too, and gets it under this lock.
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
        let turns = Turns::default();
        let a = turns.take("a").await;
        let _b = turns.take("b").await;
        assert!(turns.try_take("a").is_none());
        let soon = Duration::from_secs(1);
        assert!(timeout(soon, turns.take("a")).await.is_err());
        drop(a);
        let a = timeout(soon, turns.take("a")).await.unwrap();
        assert_eq!(turns.0.lock().len(), 2);
        drop(a);
        assert_eq!(turns.0.lock().len(), 1, "nobody has it");
    }
}
