//! How a room is loaded from the store, and how the store learns of a new one.

use std::sync::Arc;

use tokio::time::timeout;

use super::persister::seconds_since_1970;
use crate::{
    registry::{EnterError, Inner, id_locks::IdLock},
    relay::RelayMessages,
    room::{Shared, State},
    store::{RoomStore, StoreError, StoredRoom},
    wire::Json,
};

/// The result of looking for a room in the store.
pub(in crate::registry) enum Loaded {
    /// The room is in memory now, or was a moment ago.
    Here,
    /// The room does not exist. Nobody else creates it until the lock is released.
    Nowhere(Option<IdLock>),
}

impl From<StoreError> for EnterError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full => Self::Full,
            _ => Self::Unreachable,
        }
    }
}

impl Inner {
    /// Returns whether there is such a room, in memory or in the store. If there is, it is in memory then.
    pub(crate) async fn has(self: &Arc<Self>, id: &str) -> Result<bool, EnterError> {
        Ok(match self.find(id)? {
            Some(_) => true,
            None => matches!(self.load_room(id).await?, Loaded::Here),
        })
    }

    /// Looks for a room that is not in memory.
    pub(in crate::registry) async fn load_room(
        self: &Arc<Self>,
        id: &str,
    ) -> Result<Loaded, EnterError> {
        if let Some(node) = &self.node {
            return self.load_relayed(node, id).await;
        }
        let Some(persister) = &self.persister else { return Ok(Loaded::Nowhere(None)) };
        let load_room = async {
            let id_lock = persister.id_lock(id).await;
            // The task that had the lock may have loaded or created the room.
            if self.find(id)?.is_some() {
                return Ok(Loaded::Here);
            }
            let of = id.to_owned();
            let read = move |store: &dyn RoomStore| Ok((store.load(&of)?, store.bans(&of)?));
            let (stored, bans) = persister.read(read).await?;
            // Restored before anybody can join the room.
            if self.bans.restore(id, bans, tokio::time::Instant::now().into_std()) {
                persister.later();
            }
            let Some(stored) = stored else {
                return Ok(Loaded::Nowhere(Some(id_lock)));
            };
            self.revive(id, &stored, |_| (), Kept::default())?;
            Ok(Loaded::Here)
        };
        let too_late = |_| Err(persister.late().into());
        timeout(self.rules.limits.admit_timeout, load_room).await.unwrap_or_else(too_late)
    }

    /// Brings a stored room into memory, as an empty one.
    pub(in crate::registry) fn revive(
        self: &Arc<Self>,
        id: &str,
        stored: &StoredRoom,
        relay: impl FnOnce(&mut State),
        kept: Kept,
    ) -> Result<(), EnterError> {
        let variables: Option<Vec<_>> = stored
            .variables
            .iter()
            .map(|(name, value)| Json::stored(name).zip(Json::stored(value)))
            .collect();
        let variables = variables.ok_or(EnterError::Unreachable)?;
        let id: Arc<str> = id.into();
        let mut relay = Some(relay);
        loop {
            let now = tokio::time::Instant::now().into_std();
            let state =
                State::new(&self.rules, &id, Some(&variables), &self.budget, &self.watchers, now);
            let first = |state: &mut State| {
                if let Some(relay) = relay.take() {
                    relay(state);
                }
                state.revive(stored, now);
            };
            if let Some((room, ())) = self.insert(id.clone(), state, first)? {
                kept.begin(self, &room);
                return Ok(());
            }
            if self.find(&id)?.is_some() {
                return Ok(());
            }
        }
    }

    /// Has the store or the broker keep a new room, before anybody learns of it. Returns `None` if somebody
    /// else has created it.
    pub(in crate::registry) async fn keep(
        &self,
        id_lock: Option<IdLock>,
        state: Option<&mut State>,
    ) -> Result<Option<Kept>, EnterError> {
        // Without memory there is no room to keep. `insert` deals with that.
        let Some(state) = state else { return Ok(Some(Kept::default())) };
        if let Some(node) = &self.node {
            return self.keep_relayed(node, id_lock, state).await;
        }
        let (Some(persister), Some(id_lock)) = (&self.persister, id_lock) else {
            return Ok(Some(Kept::default()));
        };
        let creation = state.creation(seconds_since_1970());
        let id_lock = persister.order(id_lock, creation, self.rules.limits.admit_timeout).await?;
        Ok(Some(Kept { id_lock: Some(id_lock), messages: None }))
    }
}

/// The resources that a new room has beside its state until it is in memory.
#[derive(Default)]
pub(in crate::registry) struct Kept {
    /// Keeps others from creating the room until then.
    pub(in crate::registry) id_lock: Option<IdLock>,
    pub(in crate::registry) messages: Option<RelayMessages>,
}

impl Kept {
    /// Starts the room's sync task if it has messages, and releases the lock, now that the room is in memory.
    pub(in crate::registry) fn begin(self, registry: &Arc<Inner>, room: &Arc<Shared>) {
        let Self { id_lock, messages } = self;
        if messages.is_some() {
            registry.begin_sync(room, messages);
        }
        drop(id_lock);
    }
}
