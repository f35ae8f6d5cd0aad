//! Rooms that are created or removed in the store before whoever wants that is answered.

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::Keeper;
use crate::{
    store::{Change, StoreError},
    turns::Turn,
};

/// Has the id's turn until it is done, also where nobody waits for it any more.
#[derive(Debug)]
pub(super) struct Order {
    change: Change,
    turn: Turn,
    /// Orders that wait are bounded, also where nobody waits for them any more.
    _place: OwnedSemaphorePermit,
    done: oneshot::Sender<Result<Turn, StoreError>>,
}

impl Order {
    fn answer(self, result: Result<(), StoreError>) {
        _ = self.done.send(result.map(|()| self.turn));
    }
}

impl Keeper {
    /// Commits a change of the room whose turn it is; gives the turn back.
    pub(crate) async fn order(&self, turn: Turn, change: Change) -> Result<Turn, StoreError> {
        let over = |_| Err(StoreError::Failed("the registry is gone".into()));
        let Ok(place) = self.places.clone().acquire_owned().await else { return over(()) };
        let (done, answer) = oneshot::channel();
        {
            let mut queue = self.queue.lock();
            if !queue.is_over {
                queue.orders.push(Order { change, turn, _place: place, done });
            }
        }
        self.changed.notify_one();
        answer.await.unwrap_or_else(|_| over(()))
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
