//! How a room comes back from the store, and how the store learns of a new one.

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

/// Where a room is, after the store was asked.
pub(in crate::registry) enum Loaded {
    /// Here now, or it was a moment ago.
    Here,
    /// Nowhere. Until the lock is given up nobody else creates it.
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
    /// Whether there is such a room, here or in the store; then it is here.
    pub(crate) async fn has(self: &Arc<Self>, id: &str) -> Result<bool, EnterError> {
        Ok(match self.find(id)? {
            Some(_) => true,
            None => matches!(self.load_room(id).await?, Loaded::Here),
        })
    }

    /// Looks for a room that is not here.
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
            // Whoever had the lock may have brought it.
            if self.find(id)?.is_some() {
                return Ok(Loaded::Here);
            }
            let of = id.to_owned();
            let read = move |store: &dyn RoomStore| Ok((store.load(&of)?, store.bans(&of)?));
            let (stored, bans) = persister.read(read).await?;
            // Before anybody can join it.
            self.bans.restore(id, &bans, tokio::time::Instant::now().into_std());
            let Some(stored) = stored else {
                return Ok(Loaded::Nowhere(Some(id_lock)));
            };
            self.revive(id, &stored, |_| (), Kept::default())?;
            Ok(Loaded::Here)
        };
        let too_late = |_| Err(persister.late().into());
        timeout(self.rules.limits.admit_timeout, load_room).await.unwrap_or_else(too_late)
    }

    /// Puts a stored room among those that are empty.
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

    /// Has the store or the broker keep a new room, before anybody learns of it; `None` where somebody
    /// else has created it.
    pub(in crate::registry) async fn keep(
        &self,
        id_lock: Option<IdLock>,
        state: Option<&mut State>,
    ) -> Result<Option<Kept>, EnterError> {
        // Without memory there is no room, as will be found.
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

/// What a new room has beside its state until it is there.
#[derive(Default)]
pub(in crate::registry) struct Kept {
    /// Until then nobody else creates it.
    pub(in crate::registry) id_lock: Option<IdLock>,
    pub(in crate::registry) messages: Option<RelayMessages>,
}

impl Kept {
    /// The room is there.
    pub(in crate::registry) fn begin(self, registry: &Arc<Inner>, room: &Arc<Shared>) {
        let Self { id_lock, messages } = self;
        if messages.is_some() {
            registry.begin_sync(room, messages);
        }
        drop(id_lock);
    }
}
