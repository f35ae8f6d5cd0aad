//! How a room comes back from the store, and how the store learns of a new one.

use std::sync::Arc;

use tokio::time::timeout;

use super::{EnterError, Inner};
use crate::{
    relay::RelayMessages,
    room::{Shared, State},
    store::{StoreError, StoredRoom, seconds_since_1970},
    turns::Turn,
    wire::Json,
};

/// Where a room is, after the store was asked.
pub(super) enum Recalled {
    /// Here now, or it was a moment ago.
    Here,
    /// Nowhere. Until the turn is given up nobody else creates it.
    Nowhere(Option<Turn>),
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
            None => matches!(self.recall(id).await?, Recalled::Here),
        })
    }

    /// Looks for a room that is not here.
    pub(super) async fn recall(self: &Arc<Self>, id: &str) -> Result<Recalled, EnterError> {
        if let Some(node) = &self.node {
            return self.recall_relayed(node, id).await;
        }
        let Some(keeper) = &self.keeper else { return Ok(Recalled::Nowhere(None)) };
        let recall = async {
            let turn = keeper.turn(id).await;
            // Whoever had the turn may have brought it.
            if self.find(id)?.is_some() {
                return Ok(Recalled::Here);
            }
            let Some(stored) = keeper.load(id).await? else {
                return Ok(Recalled::Nowhere(Some(turn)));
            };
            self.revive(id, &stored, |_| (), Kept::default())?;
            Ok(Recalled::Here)
        };
        let too_late = |_| Err(keeper.late().into());
        timeout(self.rules.limits.admit_timeout, recall).await.unwrap_or_else(too_late)
    }

    /// Puts a stored room among those that are empty.
    pub(super) fn revive(
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
        let places = (&self.budget, &self.watchers);
        let mut relay = Some(relay);
        loop {
            let now = tokio::time::Instant::now().into_std();
            let state = State::new(&self.rules, &id, Some(&variables), places, now);
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
    pub(super) async fn keep(
        &self,
        turn: Option<Turn>,
        state: Option<&mut State>,
    ) -> Result<Option<Kept>, EnterError> {
        // Without memory there is no room, as will be found.
        let Some(state) = state else { return Ok(Some(Kept::default())) };
        if let Some(node) = &self.node {
            return self.keep_relayed(node, turn, state).await;
        }
        let (Some(keeper), Some(turn)) = (&self.keeper, turn) else {
            return Ok(Some(Kept::default()));
        };
        let creation = state.creation(seconds_since_1970());
        let turn = keeper.order(turn, creation, self.rules.limits.admit_timeout).await?;
        Ok(Some(Kept { turn: Some(turn), messages: None }))
    }
}

/// What a new room has beside its state until it is there.
#[derive(Default)]
pub(super) struct Kept {
    /// Until then nobody else creates it.
    pub(super) turn: Option<Turn>,
    pub(super) messages: Option<RelayMessages>,
}

impl Kept {
    /// The room is there.
    pub(super) fn begin(self, registry: &Arc<Inner>, room: &Arc<Shared>) {
        let Self { turn, messages } = self;
        if messages.is_some() {
            registry.begin_sync(room, messages);
        }
        drop(turn);
    }
}
