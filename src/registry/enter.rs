//! How a newcomer gets into a room, which is created if need be, and how rooms are forgotten.

use std::{sync::Arc, time::Instant};

use super::{Creators, Inner, Seat};
use crate::room::{Eviction, JoinError, Joined, MemberId, Newcomer, Refusal, Shared, State};

/// Why the registry has no room for a newcomer.
#[derive(Debug)]
pub(crate) enum EnterError {
    Draining,
    /// Every room has members, or the rest have no bytes left.
    Full,
    /// Only the host creates rooms.
    NoSuchRoom,
    Banned,
    Room(Arc<Shared>, Refusal),
}

impl Inner {
    /// Lets a newcomer into the room of this id, created if need be.
    pub(crate) fn enter(
        self: &Arc<Self>,
        id: &str,
        newcomer: &Newcomer<'_>,
    ) -> Result<(Seat, Joined), EnterError> {
        loop {
            if let Some(room) = self.find(id)? {
                self.check_ban(room.id(), newcomer)?;
                match room.join(newcomer.clone()) {
                    Ok(joined) => {
                        let seat = Seat::new(self, room, joined.id);
                        // Draining may have begun since the look-up, and have passed this room.
                        if self.drain.is_draining() {
                            return Err(EnterError::Draining);
                        }
                        return Ok((seat, joined));
                    }
                    Err(JoinError::Evicted) => {}
                    Err(JoinError::NoBudget) if self.evict_longest_empty(Some(&room)) => {}
                    Err(JoinError::NoBudget) => return Err(EnterError::Full),
                    Err(JoinError::Refused(refusal)) => {
                        return Err(EnterError::Room(room, refusal));
                    }
                }
            } else if let Some(entered) = self.create(id, newcomer)? {
                return Ok(entered);
            }
        }
    }

    fn check_ban(&self, room: &Arc<str>, newcomer: &Newcomer<'_>) -> Result<(), EnterError> {
        let now = tokio::time::Instant::now().into_std();
        let is_banned = self.bans.holds(room, (&newcomer.identity, &newcomer.key), now);
        if is_banned { Err(EnterError::Banned) } else { Ok(()) }
    }

    pub(crate) fn has(&self, id: &str) -> bool {
        self.rooms.read().contains_key(id)
    }

    pub(super) fn find(&self, id: &str) -> Result<Option<Arc<Shared>>, EnterError> {
        let rooms = self.rooms.read();
        if self.drain.is_draining() {
            return Err(EnterError::Draining);
        }
        Ok(rooms.get(id).cloned())
    }

    /// `None` where somebody else created it meanwhile, or a room had to go first.
    fn create(
        self: &Arc<Self>,
        id: &str,
        creator: &Newcomer<'_>,
    ) -> Result<Option<(Seat, Joined)>, EnterError> {
        if self.admission.creators == Creators::Host {
            return Err(EnterError::NoSuchRoom);
        }
        let id: Arc<str> = id.into();
        self.check_ban(&id, creator)?;
        let now = tokio::time::Instant::now().into_std();
        let places = (&self.budget, &self.watchers);
        let state = State::new(&self.rules, &id, creator.variables, places, now);
        let created = self.insert(id, state, |state| state.found(creator.clone()))?;
        Ok(created.map(|(room, joined)| (Seat::new(self, room, joined.id), joined)))
    }

    /// Puts a room into the map, after what is first to be done in it; as
    /// [`create`](Self::create). No state is one for which there was no memory.
    pub(super) fn insert<T>(
        self: &Arc<Self>,
        id: Arc<str>,
        state: Option<State>,
        first: impl FnOnce(&mut State) -> T,
    ) -> Result<Option<(Arc<Shared>, T)>, EnterError> {
        {
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
                let room = Arc::new(Shared::new(id.clone(), state));
                rooms.insert(id, room.clone());
                return Ok(Some((room, done)));
            }
        }
        if self.evict_longest_empty(None) { Ok(None) } else { Err(EnterError::Full) }
    }

    /// Forgets the room that is empty for longest, but not the one that somebody is about to join.
    pub(super) fn evict_longest_empty(self: &Arc<Self>, joined: Option<&Arc<Shared>>) -> bool {
        let mut kept = None;
        let evicted = loop {
            let Some((since, room)) = self.emptied.pop() else { break false };
            match room.upgrade() {
                Some(room) if joined.is_some_and(|joined| Arc::ptr_eq(joined, &room)) => {
                    kept = Some((since, room));
                }
                Some(room) if self.evict(since, &room) => break true,
                _ => {}
            }
        };
        if let Some((since, room)) = kept {
            self.emptied.push(since, &room, self);
        }
        evicted
    }

    /// Forgets a room if it has been empty since that moment.
    pub(super) fn evict(self: &Arc<Self>, since: Instant, room: &Arc<Shared>) -> bool {
        let mut rooms = self.rooms.write();
        match room.evict(since) {
            Eviction::Evicted => rooms.remove(room.id()).is_some(),
            Eviction::EmptiedLater(since) => {
                self.emptied.push(since, room, self);
                false
            }
            Eviction::InUse => false,
        }
    }

    /// Takes a member out of its room.
    pub(super) fn leave(self: &Arc<Self>, room: &Arc<Shared>, member: MemberId) {
        if let Some(since) = room.leave(member) {
            self.emptied.push(since, room, self);
        }
    }
}
