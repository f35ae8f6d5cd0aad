//! How a room comes back from the store, and how the store learns of a new one.

use std::sync::Arc;

use serde_json::value::RawValue;
use tokio::time::timeout;

use super::{EnterError, Inner};
use crate::{
    room::State,
    store::{StoreError, StoredRoom, Turn, seconds_since_1970},
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
            _ => Self::Store,
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
        let Some(keeper) = &self.rules.keeper else { return Ok(Recalled::Nowhere(None)) };
        let recall = async {
            let turn = keeper.turn(id).await;
            // Whoever had the turn may have brought it.
            if self.find(id)?.is_some() {
                return Ok(Recalled::Here);
            }
            let Some(stored) = keeper.load(id).await? else {
                return Ok(Recalled::Nowhere(Some(turn)));
            };
            self.revive(id, &stored)?;
            Ok(Recalled::Here)
        };
        let too_late = |_| Err(keeper.late().into());
        timeout(self.rules.limits.admit_timeout, recall).await.unwrap_or_else(too_late)
    }

    /// Puts a stored room among those that are empty.
    fn revive(self: &Arc<Self>, id: &str, stored: &StoredRoom) -> Result<(), EnterError> {
        let variables: Option<Vec<_>> =
            stored.variables.iter().map(|(name, value)| parse(name).zip(parse(value))).collect();
        let variables = variables.ok_or(EnterError::Store)?;
        let id: Arc<str> = id.into();
        let places = (&self.budget, &self.watchers);
        loop {
            let now = tokio::time::Instant::now().into_std();
            let state = State::new(&self.rules, &id, Some(&variables), places, now);
            let revived = self.insert(id.clone(), state, |state| state.revive(stored, now))?;
            if let Some((room, since)) = revived {
                // The store learns that the room is used.
                room.change(|_, _| ());
                if let Some(since) = since {
                    self.emptied.push(since, &room, self);
                }
                return Ok(());
            }
            if self.find(&id)?.is_some() {
                return Ok(());
            }
        }
    }

    /// Has the store keep a new room, before anybody learns of it. Whoever has the turn afterwards
    /// creates the room.
    pub(super) async fn keep(
        &self,
        turn: Option<Turn>,
        state: Option<&State>,
    ) -> Result<Option<Turn>, EnterError> {
        let (Some(keeper), Some(turn), Some(state)) = (&self.rules.keeper, turn, state) else {
            return Ok(None);
        };
        let kept = keeper.order(turn, state.creation(seconds_since_1970()));
        let too_late = |_| Err(keeper.late());
        let kept = timeout(self.rules.limits.admit_timeout, kept).await;
        Ok(Some(kept.unwrap_or_else(too_late)?))
    }
}

/// A text as it stands in JSON between its quotes.
pub(super) fn parse(text: &str) -> Option<Json<'static>> {
    let quoted: Box<RawValue> = serde_json::from_str(&format!("\"{text}\"")).ok()?;
    Some(Json::parse(&quoted)?.into_owned())
}
