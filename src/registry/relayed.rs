//! How a room comes from a broker, and how the broker learns of a room and of who joins it.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use tokio::time::{Instant, sleep, timeout};

use super::{
    EnterError, Inner, Seat,
    host::closed,
    recall::{Kept, Recalled},
};
use crate::{
    close::Close,
    names::DuplicateNames,
    relay::{
        self, Holder, Hub, RelayAnswer, RelayError, RelayNews, RelayRequest, RelaySession, unique,
    },
    room::{Link, MemberId, Newcomer, Refusal, RoomError, Shared, State, who},
    turns::Turn,
};

impl From<RelayError> for EnterError {
    fn from(_: RelayError) -> Self {
        Self::Unreachable
    }
}

impl Inner {
    /// Looks at the broker for a room that is not here.
    pub(super) async fn recall_relayed(
        self: &Arc<Self>,
        hub: &Arc<Hub>,
        id: &str,
    ) -> Result<Recalled, EnterError> {
        let turn = hub.turn(id).await?;
        if self.find(id)?.is_some() {
            return Ok(Recalled::Here);
        }
        // Before the room is read, so that nothing is missed in between.
        let messages = hub.subscribe(id).await?;
        let enter = RelayRequest::Enter { create: None, epoch: String::new(), lost: None };
        let node = hub.node();
        let answer = hub.request(id, &node, &enter).await?;
        let RelayAnswer::Room { revision, room, written, .. } = answer else {
            return Ok(Recalled::Nowhere(Some(turn)));
        };
        let relay = |state: &mut State| state.relay(&node, revision, written);
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
        let create = Some(state.stored());
        let enter = RelayRequest::Enter { create, epoch: unique(), lost: None };
        let node = hub.node();
        match hub.request(&id, &node, &enter).await? {
            RelayAnswer::Room { revision, is_new: true, written, .. } => {
                state.relay(&node, revision, written);
                Ok(Some(Kept { turn, messages: Some(messages) }))
            }
            _ => Ok(None),
        }
    }

    /// Has a room's task begin again, if it ended with its runtime.
    pub(super) fn resume(self: &Arc<Self>, room: &Arc<Shared>) {
        if let Some(hub) = &self.hub
            && room.change(|state, _| state.take_alone())
        {
            // What it would have heard it reads.
            relay::begin(hub, self, room, stream::empty().boxed());
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
        let refused = |refusal| Err(EnterError::Room(room.clone(), refusal));
        let session = RelaySession {
            number,
            name: newcomer.key.as_str().to_owned(),
            shares: newcomer.duplicates == DuplicateNames::Allow,
            who: who(&newcomer.identity, &newcomer.key),
            most: room.read(State::max_members) as u64,
        };
        let mut kept = hub.kept.subscribe();
        // Who has the name, and until when it may show that it is alive.
        let mut asked: Option<(Holder, Instant)> = None;
        loop {
            match self.join_at(hub, room, &session).await? {
                RelayAnswer::Done(_) => {
                    room.change(|state, now| {
                        state.bring(seat.member(), newcomer, now);
                        // It may have been put out meanwhile, and the broker have heard that first.
                        state.end_ghost(number);
                    });
                    return Ok(());
                }
                RelayAnswer::NameInUse { node, session } => {
                    let holder = Holder { room: room.id().clone(), node, session };
                    let Some((_, until)) = asked.as_ref().filter(|(old, _)| *old == holder) else {
                        asked =
                            Some((holder.clone(), self.want(hub, room, holder, newcomer).await?));
                        continue;
                    };
                    if *until <= Instant::now() {
                        // Its node is gone; the name is free when its lease is over.
                        return Err(EnterError::Unreachable);
                    }
                    let is_kept =
                        async { while kept.recv().await.ok().as_ref() != Some(&holder) {} };
                    tokio::select! {
                        () = is_kept => return refused(Refusal::NameInUse(Vec::new())),
                        () = self.drain.begun() => return Err(EnterError::Draining),
                        () = sleep(YIELDING / 10) => {}
                    }
                }
                RelayAnswer::Full => return refused(Refusal::Full),
                RelayAnswer::Locked => return refused(Refusal::Locked),
                RelayAnswer::Banned => return Err(EnterError::Banned),
                // The room's own task finds that out too, and sees to it.
                _ => return Err(EnterError::Unreachable),
            }
        }
    }

    /// Tells a name's holder that somebody wants it, who yields it or shows that it is alive: by when.
    async fn want(
        &self,
        hub: &Hub,
        room: &Arc<Shared>,
        Holder { node, session, .. }: Holder,
        newcomer: &Newcomer<'_>,
    ) -> Result<Instant, RelayError> {
        let person = newcomer.identity.person().map(Into::into);
        let replaces = newcomer.duplicates == DuplicateNames::Replace;
        let wanted = RelayNews::Wanted { node, session, person, replaces };
        hub.request_of(room, &RelayRequest::Tell(wanted)).await?;
        Ok(Instant::now() + self.rules.limits.takeover_probe + YIELDING)
    }

    async fn join_at(
        &self,
        hub: &Hub,
        room: &Arc<Shared>,
        session: &RelaySession,
    ) -> Result<RelayAnswer, RelayError> {
        let left = room.change(|state, _| state.take_left());
        let join = RelayRequest::Join { session: session.clone(), left };
        let answer = hub.request_of(room, &join).await;
        if let (Err(_), RelayRequest::Join { left, .. }) = (&answer, join) {
            room.change(|state, _| {
                left.into_iter().for_each(|session| state.hand_over_end(Some(session)));
            });
        }
        answer
    }

    /// What a node has told of a room.
    pub(crate) fn hear_news(self: &Arc<Self>, room: &Arc<Shared>, news: RelayNews) {
        match news {
            RelayNews::Wanted { node, session, person, replaces } => {
                if room.read(State::node).is_none_or(|here| *here != *node) {
                    return;
                }
                room.change(|state, _| state.end_ghost(session));
                let wanted = (person.as_deref(), replaces);
                match room.change(|state, _| state.yields_name(session, wanted)) {
                    Some((member, Ok(close))) => _ = self.put_out(room, member, &close),
                    Some((member, Err(link))) => {
                        let holder = ((node, session), (member, link));
                        let (registry, room) = (self.clone(), room.clone());
                        tokio::spawn(yield_or_answer(registry, room, holder.0, holder.1));
                    }
                    None => {}
                }
            }
            RelayNews::Kept { node, session } => {
                if let Some(hub) = &self.hub {
                    _ = hub.kept.send(Holder { room: room.id().clone(), node, session });
                }
            }
            RelayNews::Schema(schema) => room.change(|state, _| state.adopt(schema)),
            RelayNews::Locked(locked) => room.change(|state, _| state.set_locked(locked)),
            RelayNews::Closed => self.close_here(room),
            RelayNews::Removed { epoch } => {
                let is_it =
                    |state: &State| state.revision().is_some_and(|here| here.epoch == epoch);
                if room.read(is_it) {
                    self.put_all_out(room, &closed());
                }
            }
        }
    }

    /// Has all nodes do what the host of one does.
    pub(super) async fn tell(
        &self,
        room: &Arc<Shared>,
        request: RelayRequest,
    ) -> Result<(), RoomError> {
        let Some(hub) = &self.hub else { return Ok(()) };
        match hub.request_of(room, &request).await {
            Ok(RelayAnswer::Done(_)) => Ok(()),
            _ => Err(RoomError::Unreachable),
        }
    }
}

/// What a name's holder may take to hear that it is wanted, and the broker that it is free.
const YIELDING: Duration = Duration::from_secs(1);

/// Puts a member out that gives no sign of life.
async fn yield_or_answer(
    registry: Arc<Inner>,
    room: Arc<Shared>,
    (node, session): (String, u64),
    (member, link): (MemberId, Arc<Link>),
) {
    let asked = tokio::time::Instant::now().into_std();
    let answers = timeout(registry.rules.limits.takeover_probe, link.probe(asked)).await;
    room.unchallenge(member);
    match answers {
        Err(_) if link.is_silent(asked) => {
            registry.put_out(&room, member, &Close::protocol("you gave no sign of life"));
        }
        // It has left; or what came may have been on its way from a connection that is gone, and then
        // whoever wants the name is to try again.
        Ok(false) | Err(_) => {}
        Ok(true) => {
            let news = RelayNews::Kept { node, session };
            _ = registry.tell(&room, RelayRequest::Tell(news)).await;
        }
    }
}
