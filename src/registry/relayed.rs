//! How a room comes from a broker, and how the broker learns of a room and of who joins it.

use std::sync::Arc;

use super::{
    EnterError, Inner, Seat,
    recall::{Kept, Recalled},
};
use crate::{
    names::DuplicateNames,
    relay::{Hub, RelayAnswer, RelayError, RelayRequest, RelaySession, unique},
    room::{Newcomer, Refusal, State},
    turns::Turn,
};

impl From<RelayError> for EnterError {
    fn from(_: RelayError) -> Self {
        Self::Unreachable
    }
}

impl Inner {
    pub(crate) fn hub(&self) -> Option<&Arc<Hub>> {
        self.hub.as_ref()
    }

    /// Looks at the broker for a room that is not here.
    pub(super) async fn recall_relayed(
        self: &Arc<Self>,
        hub: &Arc<Hub>,
        id: &str,
    ) -> Result<Recalled, EnterError> {
        let turn = hub.turn(id).await;
        if self.find(id)?.is_some() {
            return Ok(Recalled::Here);
        }
        // Before the room is read, so that nothing is missed in between.
        let messages = hub.subscribe(id).await?;
        let enter = RelayRequest::Enter { create: None, epoch: String::new() };
        let answer = hub.request(id, &enter).await?;
        let RelayAnswer::Room { revision, room, written, .. } = answer else {
            return Ok(Recalled::Nowhere(Some(turn)));
        };
        let relay = |state: &mut State| state.relay(&hub.node, revision, written);
        let kept = Kept { turn: Some(turn), messages: Some(messages) };
        self.revive(id, &room, relay, kept)?;
        Ok(Recalled::Here)
    }

    /// Has the broker create a room; `None` where another node did.
    pub(super) async fn keep_relayed(
        &self,
        hub: &Hub,
        turn: Option<Turn>,
        state: &mut State,
    ) -> Result<Option<Kept>, EnterError> {
        let id = state.id().clone();
        let messages = hub.subscribe(&id).await?;
        let enter = RelayRequest::Enter { create: Some(state.restored()), epoch: unique() };
        match hub.request(&id, &enter).await? {
            RelayAnswer::Room { revision, is_new: true, written, .. } => {
                state.relay(&hub.node, revision, written);
                Ok(Some(Kept { turn, messages: Some(messages) }))
            }
            _ => Ok(None),
        }
    }

    /// Has the broker know of who has joined here, if there is one; else it may not stay.
    pub(super) async fn announce(
        &self,
        seat: &Seat,
        newcomer: &Newcomer<'_>,
    ) -> Result<(), EnterError> {
        let (Some(hub), Some(number)) = (&self.hub, newcomer.session) else { return Ok(()) };
        let room = seat.room();
        let (left, most) = room.change(|state, _| (state.take_left(), state.max_members()));
        let name = (newcomer.duplicates != DuplicateNames::Allow)
            .then(|| newcomer.key.as_str().to_owned());
        let session = RelaySession { number, name, most: most as u64 };
        let join = RelayRequest::Join { session, left: left.clone() };
        match hub.request(room.id(), &join).await {
            Ok(RelayAnswer::Done(_)) => Ok(()),
            Ok(RelayAnswer::NameInUse) => {
                Err(EnterError::Room(room.clone(), Refusal::NameInUse(Vec::new())))
            }
            Ok(RelayAnswer::Full) => Err(EnterError::Room(room.clone(), Refusal::Full)),
            // The room's own task finds that out too, and sees to it.
            Ok(_) => Err(EnterError::Unreachable),
            Err(error) => {
                room.change(|state, _| {
                    left.into_iter().for_each(|session| state.hand_over_end(Some(session)));
                });
                Err(error.into())
            }
        }
    }
}
