//! Evicts vacant rooms, in the order in which they became vacant, when their time is over or their place is needed.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::time::sleep_until;

use super::{EnterError, Inner, cluster::LeftRoom, tasks::Spawned};
use crate::room::{Eviction, Shared, State};

/// The queue of vacant rooms. Each room is in it no more than once, and not after it is gone. A queued room
/// may have members again, or may have been emptied once more: this is checked when its turn comes.
#[derive(Debug)]
pub(super) struct EvictionQueue {
    queue: Mutex<Queue>,
    registry: Weak<Inner>,
}

#[derive(Debug, Default)]
struct Queue {
    rooms: BTreeMap<Ticket, Weak<Shared>>,
    /// The unclaimed rooms among them, which are evicted first if there is no place.
    nobodys: BTreeSet<Ticket>,
    tickets: HashMap<Arc<str>, Ticket>,
    last: u64,
    /// The task that evicts them, which runs while there are any.
    task: Spawned,
    /// Whether the registry has shut down, so that no task of it may be left.
    is_closed: bool,
}

/// The moment since which a room is vacant, and a number that no other ticket has.
type Ticket = (Instant, u64);

impl Queue {
    fn take_out(&mut self, id: &str) {
        if let Some(ticket) = self.tickets.remove(id) {
            self.rooms.remove(&ticket);
            self.nobodys.remove(&ticket);
        }
    }

    fn pop(&mut self, ticket: Ticket) -> Option<(Instant, Weak<Shared>)> {
        let room = self.rooms.remove(&ticket)?;
        self.nobodys.remove(&ticket);
        if let Some(room) = room.upgrade() {
            self.tickets.remove(room.id());
        }
        Some((ticket.0, room))
    }
}

impl EvictionQueue {
    pub(super) fn new(registry: Weak<Inner>) -> Self {
        Self { queue: Mutex::default(), registry }
    }

    /// Queues a room, to be evicted when its time is over.
    pub(super) fn push(&self, since: Instant, room: &Arc<Shared>) {
        let mut queue = self.queue.lock();
        // Checked under this lock. A room that ends after the check is taken out under the same lock later,
        // so none stays queued.
        if queue.is_closed || !room.read(State::is_vacant) {
            return;
        }
        queue.take_out(room.id());
        queue.last += 1;
        let ticket = (since, queue.last);
        queue.rooms.insert(ticket, Arc::downgrade(room));
        if room.read(State::is_nobodys) {
            queue.nobodys.insert(ticket);
        }
        queue.tickets.insert(room.id().clone(), ticket);
        // A task may also have died with its runtime.
        if !queue.task.is_alive()
            && let Some(registry) = self.registry.upgrade()
        {
            let forgetting = forget(self.registry.clone(), registry.empty_room_ttl());
            queue.task = registry.tasks.spawn(forgetting);
        }
    }

    /// Takes the room of this id out, which is gone.
    pub(super) fn take_out(&self, id: &str) {
        self.queue.lock().take_out(id);
    }

    /// Empties the queue, and takes no more rooms.
    pub(super) fn close(&self) {
        let mut queue = self.queue.lock();
        queue.is_closed = true;
        queue.rooms.clear();
        queue.nobodys.clear();
        queue.tickets.clear();
    }

    /// Returns all queued rooms, and since when they are empty as far as the queue knows.
    pub(super) fn rooms(&self) -> Vec<(Instant, Arc<Shared>)> {
        let queue = self.queue.lock();
        let rooms = queue.rooms.iter().map(|((since, _), room)| Some((*since, room.upgrade()?)));
        rooms.flatten().collect()
    }

    /// Takes out the first unclaimed room or, if there is none, the first of all. Returns it, and since when
    /// it is empty as far as the queue knows.
    pub(super) fn pop(&self) -> Option<(Instant, Weak<Shared>)> {
        let mut queue = self.queue.lock();
        let first = queue.nobodys.first().or_else(|| queue.rooms.keys().next()).copied()?;
        queue.pop(first)
    }

    /// Takes out the first room if its time is over. The error is the time of the next attempt, or `None` if
    /// the task is to end.
    fn pop_due(
        &self,
        now: Instant,
        ttl: Duration,
    ) -> Result<(Instant, Weak<Shared>), Option<Instant>> {
        let mut queue = self.queue.lock();
        let Some(first) = queue.rooms.keys().next().copied() else {
            queue.task = Spawned::default();
            return Err(None);
        };
        match first.0 + ttl {
            due if due > now => Err(Some(due)),
            _ => queue.pop(first).ok_or(None),
        }
    }
}

/// How many rooms that cannot be evicted yet are looked at before the search gives up.
const LOOKED_AT: usize = 64;

impl Inner {
    /// Returns how long an empty room stays in memory. With a relay this is short, because the broker keeps
    /// the room.
    pub(super) fn empty_room_ttl(&self) -> Duration {
        let ttl = self.rules.limits.empty_room_ttl;
        if self.node.is_some() { ttl.min(Duration::from_secs(5)) } else { ttl }
    }

    /// Evicts an empty room if there is no place for another.
    pub(super) fn make_place(self: &Arc<Self>) -> Result<(), EnterError> {
        while self.rooms.read().len() >= self.rules.limits.rooms {
            if !self.evict_longest_empty(None) {
                return Err(EnterError::Full);
            }
        }
        Ok(())
    }

    /// Evicts the room that has been empty for longest, unclaimed rooms first. Spares the room that a
    /// newcomer is about to join, and rooms that the store does not have yet. Returns whether a room was
    /// evicted.
    pub(super) fn evict_longest_empty(self: &Arc<Self>, joined: Option<&Arc<Shared>>) -> bool {
        let mut kept = Vec::new();
        let mut evicted = false;
        while !evicted
            && kept.len() < LOOKED_AT
            && let Some((since, room)) = self.evictions.pop()
        {
            let Some(room) = room.upgrade() else { continue };
            let is_joined = joined.is_some_and(|joined| Arc::ptr_eq(joined, &room));
            let eviction = if is_joined { Eviction::Unsaved } else { self.evict(since, &room) };
            match eviction {
                Eviction::Evicted => evicted = true,
                Eviction::Unsaved => kept.push((since, room)),
                Eviction::EmptiedLater(_) | Eviction::InUse => {}
            }
        }
        kept.iter().for_each(|(since, room)| self.evictions.push(*since, room));
        if let Some(persister) = self.persister.as_ref().filter(|_| !evicted && !kept.is_empty()) {
            // Once it has saved, there will be a room that can be evicted.
            persister.hurry();
        }
        evicted
    }

    /// Evicts a room if it has been empty since that moment.
    pub(super) fn evict(self: &Arc<Self>, since: Instant, room: &Arc<Shared>) -> Eviction {
        let left = self.node.as_ref().and_then(|_| LeftRoom::of(room));
        // Both under the lock of the map, so that nobody finds an evicted room there.
        let mut rooms = self.rooms.write();
        let eviction = room.evict(since);
        match eviction {
            Eviction::Evicted => {
                self.take_out(&mut rooms, room);
                left.into_iter().for_each(|left| self.note_left(left));
            }
            Eviction::EmptiedLater(since) => self.evictions.push(since, room),
            Eviction::Unsaved | Eviction::InUse => {}
        }
        eviction
    }
}

/// The pause before the next attempt to evict a room that the store does not have yet.
const AGAIN: Duration = Duration::from_secs(1);

async fn forget(registry: Weak<Inner>, ttl: Duration) {
    loop {
        let next = {
            let Some(registry) = registry.upgrade() else { return };
            loop {
                let now = tokio::time::Instant::now().into_std();
                match registry.evictions.pop_due(now, ttl) {
                    Ok((since, room)) => {
                        let Some(room) = room.upgrade() else { continue };
                        if registry.evict(since, &room) == Eviction::Unsaved {
                            registry.evictions.push(now + AGAIN - ttl, &room);
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

#[cfg(all(test, not(shuttle)))]
mod tests {
    use crate::RoomRegistry;

    #[tokio::test]
    async fn a_removed_room_does_not_wait_to_be_forgotten() {
        let rooms = RoomRegistry::new();
        for n in 0..1_000 {
            let room = rooms.open(format!("match {n}")).variables([("x", "0")]).await.unwrap();
            room.close().await.unwrap();
            room.close().await.unwrap();
            assert_eq!(rooms.inner().evictions.queue.lock().rooms.len(), 1);
            room.remove().await.unwrap();
        }
        let queue = rooms.inner().evictions.queue.lock();
        assert_eq!((queue.rooms.len(), queue.tickets.len()), (0, 0));
    }
}
