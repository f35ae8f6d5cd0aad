//! Emptied rooms, in the order in which they will be forgotten.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{task::AbortHandle, time::sleep_until};

use super::Inner;
use crate::room::{Eviction, Shared};

/// Each room stands here at most once. It may have members again, or have been emptied once more:
/// that is looked at when its turn comes.
#[derive(Debug, Default)]
pub(super) struct Emptied(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    rooms: BTreeMap<(Instant, u64), Weak<Shared>>,
    last: u64,
    /// The task that forgets them; runs while there are any.
    janitor: Option<AbortHandle>,
    /// The registry has shut down, and no task of it is to be left.
    is_closed: bool,
}

impl Emptied {
    /// Queues a room, and has the janitor come when its time is over.
    pub(super) fn push(&self, since: Instant, room: &Arc<Shared>, registry: &Arc<Inner>) {
        let mut queue = self.0.lock();
        if queue.is_closed {
            return;
        }
        queue.last += 1;
        let ticket = (since, queue.last);
        queue.rooms.insert(ticket, Arc::downgrade(room));
        // One may also have died with its runtime.
        if queue.janitor.as_ref().is_none_or(AbortHandle::is_finished) {
            let ttl = registry.empty_room_ttl();
            let task = forget(Arc::downgrade(registry), ttl);
            queue.janitor = room.runtime().map(|runtime| runtime.spawn(task).abort_handle());
        }
    }

    /// Ends the janitor for good.
    pub(super) fn close(&self) {
        let mut queue = self.0.lock();
        queue.is_closed = true;
        queue.rooms.clear();
        if let Some(janitor) = queue.janitor.take() {
            janitor.abort();
        }
    }

    /// The first room, and since when it is empty as far as is known here.
    pub(super) fn pop(&self) -> Option<(Instant, Weak<Shared>)> {
        self.0.lock().rooms.pop_first().map(|((since, _), room)| (since, room))
    }

    /// The first room if its time is over; else when to come again, or `None` and the janitor ends.
    fn pop_due(
        &self,
        now: Instant,
        ttl: Duration,
    ) -> Result<(Instant, Weak<Shared>), Option<Instant>> {
        let mut queue = self.0.lock();
        let Some(first) = queue.rooms.first_entry() else {
            queue.janitor = None;
            return Err(None);
        };
        let since = first.key().0;
        match since + ttl {
            due if due > now => Err(Some(due)),
            _ => Ok((since, first.remove())),
        }
    }
}

impl Drop for Emptied {
    fn drop(&mut self) {
        if let Some(janitor) = self.0.get_mut().janitor.take() {
            janitor.abort();
        }
    }
}

/// When to come again to a room that its store does not have yet.
const AGAIN: Duration = Duration::from_secs(1);

async fn forget(registry: Weak<Inner>, ttl: Duration) {
    loop {
        let next = {
            let Some(registry) = registry.upgrade() else { return };
            loop {
                let now = tokio::time::Instant::now().into_std();
                match registry.emptied.pop_due(now, ttl) {
                    Ok((since, room)) => {
                        let Some(room) = room.upgrade() else { continue };
                        if registry.evict(since, &room) == Eviction::Unsaved {
                            registry.emptied.push(now + AGAIN - ttl, &room, &registry);
                        }
                    }
                    Err(Some(next)) => break next,
                    Err(None) => return,
                }
            }
        };
        sleep_until(next.into()).await;
    }
}
