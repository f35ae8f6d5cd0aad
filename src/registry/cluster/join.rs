//! How a room is loaded from a broker, and how the broker lets a newcomer into it.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    Node,
    node::{Holder, unique},
    sync_task,
};
use crate::{
    names::DuplicateNames,
    registry::{
        EnterError, Inner, Membership,
        id_locks::IdLock,
        persistence::{Kept, Loaded},
    },
    relay::{RelayAnswer, RelayError, RelayMessages, RelayNews, RelayRequest, RelayRoom},
    room::{AtBroker, Joined, Newcomer, Refusal, Shared, State, Wish},
    session::Probe,
};

impl From<RelayError> for EnterError {
    fn from(_: RelayError) -> Self {
        Self::Unreachable
    }
}

/// How long it may take until a name's holder learns that the name is wanted, and the broker that it is free.
const YIELDING: Duration = Duration::from_secs(1);

impl Inner {
    /// Asks the broker for a room that is not on this node.
    pub(in crate::registry) async fn load_relayed(
        self: &Arc<Self>,
        node: &Arc<Node>,
        id: &str,
    ) -> Result<Loaded, EnterError> {
        let id_lock = node.id_lock(id).await?;
        if self.find(id)?.is_some() {
            return Ok(Loaded::Here);
        }
        // Subscribed before the room is read, so that no message is missed in between.
        let messages = node.subscribe(id).await?;
        let enter =
            RelayRequest::Enter { create: None, epoch: String::new(), known: None, was: None };
        let (name, answer) = node.enter(id, &enter).await?;
        let RelayAnswer::Room { revision, room, taken, .. } = answer else {
            return Ok(Loaded::Nowhere(Some(id_lock)));
        };
        let pace = node.pace(self.rules.tick);
        let replicate = |state: &mut State| {
            let now = Instant::now().into_std();
            state.replicate(&name, AtBroker { revision: &revision, room: &room, taken }, pace, now);
        };
        let kept = Kept { id_lock: Some(id_lock), messages: Some(messages) };
        self.revive(id, &room.stored, replicate, kept)?;
        node.left.take_out(id);
        Ok(Loaded::Here)
    }

    /// Has the broker create a room. Returns `None` if another node did.
    pub(in crate::registry) async fn keep_relayed(
        &self,
        node: &Node,
        id_lock: Option<IdLock>,
        state: &mut State,
    ) -> Result<Option<Kept>, EnterError> {
        let id = state.id().clone();
        let messages = node.subscribe(&id).await?;
        let create: Option<RelayRoom> = Some(state.as_relayed(Instant::now().into_std()));
        let enter = RelayRequest::Enter { create, epoch: unique(), known: None, was: None };
        let (name, answer) = node.enter(&id, &enter).await?;
        match answer {
            RelayAnswer::Room { revision, room, is_new: true, taken } => {
                let (now, pace) = (Instant::now().into_std(), node.pace(self.rules.tick));
                state.replicate(
                    &name,
                    AtBroker { revision: &revision, room: &room, taken },
                    pace,
                    now,
                );
                node.left.take_out(&id);
                Ok(Some(Kept { id_lock, messages: Some(messages) }))
            }
            RelayAnswer::Full => {
                self.broker_is_full();
                Err(EnterError::Full)
            }
            _ => Ok(None),
        }
    }

    /// Starts the sync task of a room that was loaded from the broker or, without messages, of a room whose
    /// task does not run.
    pub(in crate::registry) fn begin_sync(
        self: &Arc<Self>,
        room: &Arc<Shared>,
        messages: Option<RelayMessages>,
    ) {
        if let Some(node) = &self.node {
            sync_task::begin(node, self, room, messages);
        }
    }

    /// Lets a newcomer into a room by way of the broker: reserves a place, asks the broker, and then acts.
    /// Nobody is disconnected, announced or counted before the broker has agreed. If this ends early for any
    /// reason, the place is given back. Returns `None` if the room is gone, or if another had to be evicted
    /// first.
    pub(in crate::registry) async fn join_relayed(
        self: &Arc<Self>,
        node: &Node,
        room: Arc<Shared>,
        newcomer: &Newcomer<'_>,
        is_creator: bool,
    ) -> Result<Option<(Membership, Joined)>, EnterError> {
        let session = node.number();
        let mut kept = node.kept.subscribe();
        // The holder of the name, and the time until which it may show that it is alive.
        let mut asked: Option<(Holder, Instant)> = None;
        loop {
            let join = match room.change(|state, _| state.reserve(newcomer, session)) {
                Ok(join) => join,
                Err(error) => return self.refused(&room, error),
            };
            let (answer, reservation) = node.reserve(&room, session, join).await?;
            match answer {
                RelayAnswer::Done { .. } => {
                    let join = |state: &mut State, now| {
                        state.join_reserved(newcomer.clone(), session, is_creator, now)
                    };
                    return match room.change(join) {
                        Ok(joined) => {
                            reservation.keep();
                            self.entered(room.clone(), joined)
                        }
                        Err(error) => self.refused(&room, error),
                    };
                }
                RelayAnswer::NameInUse { node: there, session } => {
                    drop(reservation);
                    let holder = Holder { room: room.id().clone(), node: there, session };
                    let Some((_, until)) = asked.as_ref().filter(|(old, _)| *old == holder) else {
                        asked = Some((holder.clone(), self.want(&room, holder, newcomer).await?));
                        continue;
                    };
                    if *until <= Instant::now() {
                        // Its node is gone; the name is free when its lease is over.
                        return Err(EnterError::Unreachable);
                    }
                    let is_kept =
                        async { while kept.recv().await.ok().as_ref() != Some(&holder) {} };
                    tokio::select! {
                        () = is_kept => {
                            return Err(EnterError::Refused(Refusal::NameInUse(Vec::new())));
                        }
                        () = self.drain.begun() => return Err(EnterError::Draining),
                        () = sleep(YIELDING / 10) => {}
                    }
                }
                RelayAnswer::Full => return Err(EnterError::Refused(Refusal::Full)),
                RelayAnswer::Locked => return Err(EnterError::Refused(Refusal::Locked)),
                RelayAnswer::Banned => return Err(EnterError::Refused(Refusal::Banned)),
                // The room is gone.
                RelayAnswer::Nowhere => return Ok(None),
                RelayAnswer::Room { .. }
                | RelayAnswer::Led
                | RelayAnswer::Fenced
                | RelayAnswer::Lost => {
                    return Err(EnterError::Unreachable);
                }
            }
        }
    }

    /// Notifies a name's holder that a newcomer wants the name. Returns the time by which the holder yields
    /// it or shows that it is alive.
    async fn want(
        &self,
        room: &Arc<Shared>,
        Holder { node, session, .. }: Holder,
        newcomer: &Newcomer<'_>,
    ) -> Result<Instant, EnterError> {
        let person = newcomer.identity.id().map(Into::into);
        let replaces = newcomer.duplicates == DuplicateNames::Replace;
        let resume = newcomer.resume.as_deref().map(Into::into);
        let age = newcomer.handle.age(Instant::now().into_std()).as_millis();
        let age = u64::try_from(age).unwrap_or(u64::MAX);
        let wanted = RelayNews::Wanted { node, session, person, resume, replaces, age };
        let told = self.at_broker(room, Wish::Tell(wanted)).await;
        told.map_err(|_| EnterError::Unreachable)?;
        Ok(Instant::now() + Probe::longest(self.rules.limits.takeover_probe) + YIELDING)
    }
}
