//! Rooms that are created or removed in the store before whoever wants that is answered.

use std::{sync::mpsc, time::Duration};

use tokio::{sync::OwnedSemaphorePermit, time::timeout};

use super::Persister;
use crate::{
    registry::id_locks::IdLock,
    store::{Change, StoreError},
};

/// Has the id's lock until it is done, also where nobody waits for it any more.
#[derive(Debug)]
pub(super) struct Order {
    change: Change,
    id_lock: IdLock,
    /// Orders that wait are bounded, also where nobody waits for them any more.
    _place: OwnedSemaphorePermit,
    done: mpsc::SyncSender<Result<IdLock, StoreError>>,
}

impl Order {
    fn answer(self, result: Result<(), StoreError>) {
        _ = self.done.send(result.map(|()| self.id_lock));
    }
}

impl Persister {
    /// Commits a change of the room whose lock it is; gives the lock back.
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

    /// All in one commit; where there is no place for all of them, those for which there is.
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
