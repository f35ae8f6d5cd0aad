//! Changes that the store commits before their callers are answered, such as a room's creation or removal.

use std::{sync::mpsc, time::Duration};

use tokio::{sync::OwnedSemaphorePermit, time::timeout};

use super::Persister;
use crate::{
    registry::id_locks::IdLock,
    store::{Change, StoreError},
};

/// A change to commit. It has the id's lock until it is done, even if nobody waits for it any more.
#[derive(Debug)]
pub(super) struct Order {
    change: Change,
    id_lock: IdLock,
    /// Bounds the orders that wait, including those that nobody waits for any more.
    _place: OwnedSemaphorePermit,
    done: mpsc::SyncSender<Result<IdLock, StoreError>>,
}

impl Order {
    fn answer(self, result: Result<(), StoreError>) {
        _ = self.done.send(result.map(|()| self.id_lock));
    }
}

impl Persister {
    /// Commits a change of the room whose lock this is, and gives the lock back.
    pub(crate) async fn order(
        &self,
        id_lock: IdLock,
        change: Change,
        patience: Duration,
    ) -> Result<IdLock, StoreError> {
        let place = timeout(patience, self.places.clone().acquire_owned()).await;
        let Ok(Ok(place)) = place else { return Err(self.late()) };
        let (done, answer) = mpsc::sync_channel(1);
        {
            let mut queue = self.queue.lock();
            if !queue.is_over {
                queue.orders.push(Order { change, id_lock, _place: place, done });
            }
        }
        self.changed.notify_one();
        self.wait_for(answer, patience).await
    }

    /// Commits all orders at once. If the store has no place for all of them, commits those for which it has.
    pub(super) fn fill(&self, orders: Vec<Order>) {
        if orders.is_empty() {
            return;
        }
        let changes: Vec<_> = orders.iter().map(|order| order.change.clone()).collect();
        match self.commit(&changes) {
            Err(StoreError::Full) if orders.len() > 1 => {
                for order in orders {
                    let result = self.commit(std::slice::from_ref(&order.change));
                    order.answer(result);
                }
            }
            result => orders.into_iter().for_each(|order| order.answer(result.clone())),
        }
    }
}
