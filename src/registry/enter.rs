//! How a newcomer gets into a room, which is created if need be.

use std::{
    sync::{Arc, Weak},
    time::Instant,
};

use super::{Creators, Inner, Membership, id_locks::IdLock, persistence::Loaded};
use crate::{
    host_data::HostData,
    room::{JoinError, Joined, Newcomer, Refusal, Shared, State},
};

/// The reason why the registry has no room for a newcomer.
#[derive(Debug)]
pub(crate) enum EnterError {
    Draining,
    /// There is no place or no memory for the room, and no room that can be evicted for it.
    Full,
    /// There is no such room, and only the host creates rooms.
    NoSuchRoom,
    /// The store or the broker does not answer.
    Unreachable,
    Refused(Refusal),
}

impl Inner {
    /// Lets a newcomer into the room of this id, which is loaded or created if need be.
    pub(crate) async fn enter(
        self: &Arc<Self>,
        id: &str,
        newcomer: &Newcomer<'_>,
    ) -> Result<(Membership, Joined), EnterError> {
        let mut is_creator = false;
        loop {
            // Boxed, because every session would otherwise reserve space for these futures.
            let entered = match (self.find(id)?, &self.node) {
                (Some(room), Some(node)) => {
                    room.serve_here();
                    self.hear_announcements(node);
                    Box::pin(self.join_relayed(node, room, newcomer, is_creator)).await?
                }
                (Some(room), None) => self.join(room, newcomer)?,
                (None, _) => Box::pin(self.load_or_create(id, newcomer, &mut is_creator)).await?,
            };
            if let Some(entered) = entered {
                return Ok(entered);
            }
        }
    }

    /// Loads or creates a room. Returns `None` if the room exists now, or if another had to be evicted first.
    async fn load_or_create(
        self: &Arc<Self>,
        id: &str,
        newcomer: &Newcomer<'_>,
        is_creator: &mut bool,
    ) -> Result<Option<(Membership, Joined)>, EnterError> {
        match self.load_room(id).await? {
            Loaded::Here => Ok(None),
            Loaded::Nowhere(id_lock) => self.create(id, id_lock, newcomer, is_creator).await,
        }
    }

    /// Lets a newcomer into a room. Returns `None` if the room is gone, or if another had to be evicted
    /// first.
    fn join(
        self: &Arc<Self>,
        room: Arc<Shared>,
        newcomer: &Newcomer<'_>,
    ) -> Result<Option<(Membership, Joined)>, EnterError> {
        room.serve_here();
        // A ban is in force before its members are disconnected under the room's lock. So under that lock,
        // either the newcomer is refused here, or the ban finds it in the room.
        let join = |state: &mut State, now| {
            self.check_ban(room.id(), newcomer, now)?;
            state.join(newcomer.clone(), now)
        };
        match room.change(join) {
            Ok(joined) => self.entered(room, joined),
            Err(error) => self.refused(&room, error),
        }
    }

    pub(super) fn entered(
        self: &Arc<Self>,
        room: Arc<Shared>,
        joined: Joined,
    ) -> Result<Option<(Membership, Joined)>, EnterError> {
        let membership = Membership::new(room, joined.id);
        // Draining may have begun since the look-up, and may have passed this room already.
        if self.drain.is_draining() {
            return Err(EnterError::Draining);
        }
        Ok(Some((membership, joined)))
    }

    /// Maps the error of a join. Returns `None` if the room is gone, or if another had to be evicted first.
    pub(super) fn refused<T>(
        self: &Arc<Self>,
        room: &Arc<Shared>,
        error: JoinError,
    ) -> Result<Option<T>, EnterError> {
        match error {
            JoinError::Evicted => Ok(None),
            JoinError::NoBudget if self.evict_longest_empty(Some(room)) => Ok(None),
            JoinError::NoBudget => Err(EnterError::Full),
            JoinError::Refused(refusal) => Err(EnterError::Refused(refusal)),
        }
    }

    fn check_ban(&self, room: &str, newcomer: &Newcomer<'_>, now: Instant) -> Result<(), Refusal> {
        let is_banned = self.bans.holds(room, &newcomer.identity, &newcomer.key, now);
        if is_banned { Err(Refusal::Banned) } else { Ok(()) }
    }

    /// Returns whether a room is in memory, as [`is_live`](Self::is_live) does, and has the store learn that
    /// it is used.
    pub(super) fn is_in_use(&self, id: &str) -> bool {
        let room = self.rooms.read().get(id).cloned();
        room.is_some_and(|room| {
            room.change(|state, _| state.touch());
            true
        })
    }

    /// Returns the data that the host has attached to a room in memory.
    pub(crate) fn data_of(&self, id: &str) -> HostData {
        let room = self.rooms.read().get(id).cloned();
        room.map_or_else(HostData::default, |room| room.read(State::data))
    }

    pub(super) fn is_live(&self, id: &str) -> bool {
        self.rooms.read().contains_key(id)
    }

    pub(super) fn find(&self, id: &str) -> Result<Option<Arc<Shared>>, EnterError> {
        let rooms = self.rooms.read();
        if self.drain.is_draining() {
            return Err(EnterError::Draining);
        }
        Ok(rooms.get(id).cloned())
    }

    /// Creates a room. Returns `None` if somebody else created it meanwhile, or if a room had to be evicted
    /// first.
    async fn create(
        self: &Arc<Self>,
        id: &str,
        id_lock: Option<IdLock>,
        creator: &Newcomer<'_>,
        is_creator: &mut bool,
    ) -> Result<Option<(Membership, Joined)>, EnterError> {
        if self.admission.creators == Creators::Host {
            return Err(EnterError::NoSuchRoom);
        }
        let id: Arc<str> = id.into();
        let now = tokio::time::Instant::now().into_std();
        self.check_ban(&id, creator, now).map_err(EnterError::Refused)?;
        self.make_place()?;
        let mut state =
            State::new(&self.rules, &id, creator.variables, &self.budget, &self.watchers, now);
        let Some(kept) = self.keep(id_lock, state.as_mut()).await? else { return Ok(None) };
        if self.node.is_some() {
            // The creator joins like everyone else, because the broker decides about joins.
            if let Some((room, ())) = self.insert(id, state, |state| state.found_empty(now))? {
                kept.begin(self, &room);
                *is_creator = true;
            }
            return Ok(None);
        }
        let created = self.insert(id, state, |state| state.found(creator.clone()))?;
        let Some((room, joined)) = created else { return Ok(None) };
        kept.begin(self, &room);
        Ok(Some((Membership::new(room, joined.id), joined)))
    }

    /// Calls `first` on the state of a room, and puts the room into the map. Returns `None` in the cases in
    /// which [`create`](Self::create) does. Without a state there was no memory for one.
    pub(super) fn insert<T>(
        self: &Arc<Self>,
        id: Arc<str>,
        state: Option<State>,
        first: impl FnOnce(&mut State) -> T,
    ) -> Result<Option<(Arc<Shared>, T)>, EnterError> {
        let inserted = {
            let mut rooms = self.rooms.write();
            if self.drain.is_draining() {
                return Err(EnterError::Draining);
            }
            if rooms.contains_key(&id) {
                return Ok(None);
            }
            if rooms.len() < self.rules.limits.rooms
                && let Some(mut state) = state
            {
                let done = first(&mut state);
                let caretaker: Weak<Self> = Arc::downgrade(self);
                let room = Arc::new(Shared::new(state, caretaker));
                rooms.insert(id, room.clone());
                Some((room, done))
            } else {
                None
            }
        };
        if let Some((room, done)) = inserted {
            // Triggers the work that follows a change: the store learns of the room, and an empty room is
            // queued.
            room.change(|_, _| ());
            return Ok(Some((room, done)));
        }
        if self.evict_longest_empty(None) { Ok(None) } else { Err(EnterError::Full) }
    }
}
