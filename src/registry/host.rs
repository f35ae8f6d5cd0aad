//! The host's view of all rooms, and its actions on rooms and their members.

#[cfg(feature = "inspector")]
use std::time::Duration;
use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use tokio::time::timeout;

use super::{Inner, Room, RoomError, RoomRegistry};
use crate::{
    close::Close,
    policy::Judging,
    relay::{RelayChange, RelayNews},
    room::{Events, MemberId, RegistryEvent, RoomSummary, Shared, State, Wish},
    store::Change,
    wire::Dialect,
};

impl RoomRegistry {
    /// Returns the room of this id, if it is in memory.
    #[must_use]
    pub fn room(&self, id: &str) -> Option<Room> {
        Judging::refuse();
        let room = self.inner.rooms.read().get(id).cloned()?;
        Some(Room::new(&room, &self.inner))
    }

    /// Returns a page of the rooms in memory, in the order of their ids: up to `count` of those after
    /// `after`. All ids come after the empty one. Looks at the ids of all rooms, which takes some
    /// milliseconds for 16,384.
    ///
    /// ```
    /// use axum_cloud_variables::RoomRegistry;
    ///
    /// let rooms = RoomRegistry::new();
    /// let first = rooms.rooms("", 50);
    /// let second = first.last().map(|last| rooms.rooms(&last.id, 50));
    /// assert!(second.is_none(), "nobody has come yet");
    /// ```
    #[must_use]
    pub fn rooms(&self, after: &str, count: usize) -> Vec<RoomSummary> {
        Judging::refuse();
        let mut rooms: Vec<_> = {
            let rooms = self.inner.rooms.read();
            rooms.values().filter(|room| &**room.id() > after).cloned().collect()
        };
        rooms.sort_unstable_by(|a, b| a.id().cmp(b.id()));
        rooms.truncate(count);
        rooms.iter().map(|room| room.summary()).collect()
    }

    /// Returns the events of all rooms from now on: members and rooms that come and go, but not writes. Up to
    /// 4,096 events wait for an observer. A slower observer is notified of how many it missed.
    ///
    /// ```no_run
    /// use axum_cloud_variables::{RoomRegistry, events::RegistryEvent};
    ///
    /// async fn log(rooms: RoomRegistry) {
    ///     let mut events = rooms.events();
    ///     while let Some(event) = events.next().await {
    ///         match event {
    ///             RegistryEvent::Joined { room, member } => println!("{} joined {room}", member.username),
    ///             RegistryEvent::Emptied { room } => println!("nobody is left in {room}"),
    ///             _ => {}
    ///         }
    ///     }
    /// }
    /// ```
    #[must_use]
    pub fn events(&self) -> Events<RegistryEvent> {
        Events::new(self.inner.watchers.subscribe(), RegistryEvent::Missed)
    }
}

impl Inner {
    /// Returns summaries of all rooms, in no particular order, and the mean of all members' last round trips,
    /// if anybody has answered a ping.
    #[cfg(feature = "inspector")]
    pub(crate) fn sample(&self) -> (Vec<RoomSummary>, Option<Duration>) {
        let rooms: Vec<_> = self.rooms.read().values().cloned().collect();
        let mut round_trips = (Duration::ZERO, 0);
        rooms.iter().for_each(|room| room.add_round_trips(&mut round_trips));
        let summaries = rooms.iter().map(|room| room.summary()).collect();
        (summaries, round_trips.0.checked_div(round_trips.1))
    }

    #[cfg(feature = "inspector")]
    pub(crate) fn activity_of_gone(&self) -> crate::room::Activity {
        *self.gone.lock()
    }

    #[cfg(feature = "inspector")]
    pub(crate) fn state_bytes(&self) -> usize {
        self.budget.used()
    }

    /// Disconnects a member. Returns `false` if there is no such member.
    pub(crate) fn put_out(
        self: &Arc<Self>,
        room: &Arc<Shared>,
        member: MemberId,
        close: &Close,
    ) -> bool {
        room.change(|state, now| state.put_out(member, close, now))
    }

    /// Disconnects everyone, and removes the room from this node.
    pub(crate) fn put_all_out(&self, room: &Arc<Shared>, close: &Close) {
        self.forget(room, close);
    }

    pub(crate) async fn close(self: &Arc<Self>, room: &Arc<Shared>) -> Result<(), RoomError> {
        if self.node.is_some() {
            // This node closes the room when the change comes back in the room's order.
            return self.at_broker(room, Wish::Change(RelayChange::Closed)).await;
        }
        room.change(|state, now| state.close(&Close::room_closed(), now));
        Ok(())
    }

    pub(crate) async fn lock(&self, room: &Arc<Shared>, locked: bool) -> Result<(), RoomError> {
        if self.node.is_some() {
            return self.at_broker(room, Wish::Change(RelayChange::Locked(locked))).await;
        }
        room.change(|state, _| state.set_locked(locked));
        Ok(())
    }

    /// Loads a room that has left the memory, from the store or the broker.
    pub(crate) async fn load(self: &Arc<Self>, id: &str) -> Result<Arc<Shared>, RoomError> {
        match self.has(id).await {
            Ok(true) => self.find(id).ok().flatten().ok_or(RoomError::Gone),
            Ok(false) => Err(RoomError::Gone),
            Err(_) => Err(RoomError::Unreachable),
        }
    }

    /// Removes a room, and disconnects its members with this close.
    pub(crate) async fn remove(
        self: &Arc<Self>,
        room: &Arc<Shared>,
        close: &Close,
    ) -> Result<(), RoomError> {
        let patience = self.rules.limits.admit_timeout;
        let id_lock = match &self.persister {
            Some(persister) => {
                let id_lock = timeout(patience, persister.id_lock(room.id())).await;
                Some((persister, id_lock.map_err(|_| RoomError::Unreachable)?))
            }
            None => None,
        };
        self.settled(room).await;
        // Announced first, because other nodes disconnect their members with another close when they receive
        // the removal.
        if self.node.is_some() && *close != Close::room_closed() {
            let (code, reason) = (close.code.code(Dialect::Spec), close.reason().into());
            self.at_broker(room, Wish::Tell(RelayNews::Ending { code, reason })).await?;
        }
        match self.at_broker(room, Wish::Remove).await {
            // The room's task may have received the removal first.
            Err(RoomError::Gone) if room.is_evicted() => {}
            done => done?,
        }
        // There may be another room of this id by now.
        if !self.forget(room, close) && self.node.is_none() {
            return Err(RoomError::Gone);
        }
        if let Some((persister, id_lock)) = id_lock {
            let remove = Change::Remove { room: (&**room.id()).into() };
            persister.order(id_lock, remove, patience).await.map_err(|_| RoomError::Kept)?;
        }
        Ok(())
    }

    /// Takes a room out of the map and the eviction queue. Its activity still counts.
    pub(super) fn take_out(&self, rooms: &mut HashMap<Arc<str>, Arc<Shared>>, room: &Arc<Shared>) {
        rooms.remove(room.id());
        self.evictions.take_out(room.id());
        *self.gone.lock() += room.read(State::activity);
    }

    /// Removes a room from this registry. Returns `false` if it is no longer one of the registry's rooms.
    fn forget(&self, room: &Arc<Shared>, close: &Close) -> bool {
        let mut rooms = self.rooms.write();
        let is_there = rooms.get(room.id()).is_some_and(|there| Arc::ptr_eq(there, room));
        if is_there {
            room.was_removed().store(true, Relaxed);
            room.change(|state, now| state.remove(close, now));
            self.take_out(&mut rooms, room);
        }
        is_there
    }
}
