//! The rooms that this node has left at the broker, of which it keeps count.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Weak},
};

use futures_util::future::join_all;
use parking_lot::Mutex;

use super::Node;
use crate::{
    registry::{Inner, tasks::Spawned},
    relay::RelayRequest,
    room::{Caller, Shared},
};

/// The rooms that this node has left at the broker. A node evicts a room soon after its last member has left,
/// because the broker keeps it. Without a bound, players who create rooms and leave would fill the broker.
#[derive(Debug, Default)]
pub(super) struct LeftRooms(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    rooms: BTreeMap<Place, LeftRoom>,
    places: HashMap<Arc<str>, Place>,
    bytes: usize,
    last: u64,
    /// The task that has the broker forget rooms, which runs while there are too many.
    task: Spawned,
}

/// The order of rooms: unclaimed rooms come first, and otherwise those that were left first.
type Place = (bool, u64);

/// A room as it was when this node left it.
#[derive(Debug)]
pub(in crate::registry) struct LeftRoom {
    id: Arc<str>,
    node: Arc<str>,
    /// Identifies the room among all that ever had this id.
    identity: String,
    bytes: usize,
    is_nobodys: bool,
}

/// How many requests are on their way at once.
const AT_ONCE: usize = 32;

impl LeftRoom {
    /// Describes a room. To be called before the room is evicted here. Returns `None` if it is not at a
    /// broker.
    pub(in crate::registry) fn of(room: &Arc<Shared>) -> Option<Self> {
        let bytes = room.bytes();
        room.read(|state| {
            let (node, revision) = state.at_broker()?;
            Some(Self {
                id: state.id().clone(),
                node: node.clone(),
                identity: revision.room.clone(),
                bytes,
                is_nobodys: state.is_nobodys(),
            })
        })
    }
}

impl Queue {
    fn take_out(&mut self, id: &str) {
        if let Some(room) = self.places.remove(id).and_then(|place| self.rooms.remove(&place)) {
            self.bytes -= room.bytes;
        }
    }

    fn push(&mut self, room: LeftRoom) {
        self.take_out(&room.id);
        self.last += 1;
        let place = (!room.is_nobodys, self.last);
        self.bytes += room.bytes;
        self.places.insert(room.id.clone(), place);
        self.rooms.insert(place, room);
    }

    fn is_over(&self, most: Most) -> bool {
        self.rooms.len() > most.rooms || self.bytes > most.bytes
    }

    /// Takes out the first rooms while there are too many, up to [`AT_ONCE`].
    fn take_excess(&mut self, most: Most) -> Vec<LeftRoom> {
        let mut excess = Vec::new();
        while excess.len() < AT_ONCE
            && self.is_over(most)
            && let Some((_, room)) = self.rooms.pop_first()
        {
            self.places.remove(&room.id);
            self.bytes -= room.bytes;
            excess.push(room);
        }
        excess
    }
}

/// The bound on the rooms that a node may have left at the broker.
#[derive(Debug, Clone, Copy)]
struct Most {
    rooms: usize,
    bytes: usize,
}

impl Inner {
    /// Notes that the node has left a room that the broker keeps.
    pub(in crate::registry) fn note_left(self: &Arc<Self>, room: LeftRoom) {
        let Some(node) = &self.node else { return };
        let mut left = node.left.0.lock();
        left.push(room);
        let most = self.most_left();
        // A broker that does not answer must not make the queue grow.
        while left.rooms.len() > 2 * most.rooms {
            left.take_excess(most);
        }
        if left.is_over(most) && !left.task.is_alive() {
            left.task = self.tasks.spawn(forget_excess(Arc::downgrade(self), node.clone()));
        }
    }

    fn most_left(&self) -> Most {
        let limits = &self.rules.limits;
        Most { rooms: limits.rooms, bytes: limits.state_bytes / 2 }
    }
}

impl LeftRooms {
    /// Takes the room of this id out, because the node has it again.
    pub(super) fn take_out(&self, id: &str) {
        self.0.lock().take_out(id);
    }
}

async fn forget_excess(registry: Weak<Inner>, node: Arc<Node>) {
    loop {
        let excess = {
            let Some(registry) = registry.upgrade() else { return };
            let mut left = node.left.0.lock();
            let excess = left.take_excess(registry.most_left());
            if excess.is_empty() {
                // Reset under the lock, so that the next room that is left starts another task.
                left.task = Spawned::default();
                return;
            }
            excess
        };
        // If a request fails, its room stays for as long as the broker keeps any.
        join_all(excess.iter().map(|room| async {
            let forget = RelayRequest::Forget { room: room.identity.clone() };
            _ = node.request(&room.id, Caller::new(&room.node).as_node(), &forget).await;
        }))
        .await;
    }
}
