//! The interface for the driver of a room's end of the broker: steps, answers and subscriptions.

use std::{collections::HashSet, sync::Arc, time::Instant};

use super::{
    Asking, AtBroker, Cause, Phase, Progress, Replica, Reply, Step, Stream, What, Wish,
    pending::Ask,
};
use crate::{
    close::Close,
    relay::{RelayAnswer, RelayRequest, RelayRevision},
    room::{members::MemberId, state::State, terms::Outcome},
};

impl State {
    /// Returns the next step at the broker.
    pub(crate) fn next_step(&mut self, now: Instant) -> Step {
        let most = self.max_variables as u64;
        self.replica.as_mut().map_or(Step::Over, |replica| replica.next(most, now))
    }

    /// Returns whether messages may be handed in.
    pub(crate) fn listens(&self) -> bool {
        self.replica.as_ref().is_some_and(Replica::listens)
    }

    pub(crate) fn progress(&mut self) -> Progress {
        self.replica.as_mut().map_or_else(Progress::default, Replica::progress)
    }

    /// Returns whether the broker may lack something that happened here.
    pub(crate) fn is_untold(&self) -> bool {
        self.replica.as_ref().is_some_and(Replica::is_behind)
    }

    /// Returns the name of the room's node.
    pub(crate) fn node(&self) -> Option<&Arc<str>> {
        self.replica.as_ref().map(Replica::node)
    }

    /// Returns the name of the room's node and the revision that it has; `None` if no broker has the room.
    pub(crate) fn at_broker(&self) -> Option<(&Arc<str>, &RelayRevision)> {
        self.replica.as_ref().map(|replica| (replica.node(), replica.revision()))
    }

    pub(crate) fn wish(&mut self, ticket: u64, wish: Wish) -> bool {
        self.replica.as_mut().is_some_and(|replica| replica.wish(ticket, wish))
    }

    /// Gives up a wish, because nobody waits for it any more or acts on it.
    pub(crate) fn give_up(&mut self, ticket: u64, now: Instant) {
        if let Some(replica) = &mut self.replica {
            replica.give_up(ticket);
        }
        self.give_back(ticket, now);
    }

    /// Gives back the membership of a session that has not become a member. The members whose places it
    /// took have lost them.
    fn give_back(&mut self, session: u64, now: Instant) {
        let is_member = self.members.iter().any(|(_, member)| member.session == Some(session));
        if is_member {
            return;
        }
        for member in self.replaced(session) {
            self.put_out(member, &Close::another_tab(), now);
        }
        if let Some(replica) = &mut self.replica {
            replica.end(session);
        }
    }

    /// Returns the members whose places the session took.
    pub(in crate::room) fn replaced(&self, session: u64) -> Vec<MemberId> {
        let replaced = self.replica.as_ref().map(|replica| replica.sessions.replaced(session));
        self.members_of(replaced.unwrap_or_default())
    }

    /// Forgets the members whose places the session took, because they have been put out.
    pub(in crate::room) fn forget_replaced(&mut self, session: u64) {
        if let Some(replica) = &mut self.replica {
            replica.sessions.forget_replaced(session);
        }
    }

    fn members_of(&self, sessions: &[u64]) -> Vec<MemberId> {
        let sessions: HashSet<_> = sessions.iter().copied().collect();
        let is_of = |session: Option<u64>| session.is_some_and(|it| sessions.contains(&it));
        let members = self.members.iter();
        members.filter_map(|(id, member)| is_of(member.session).then_some(id)).collect()
    }

    pub(super) fn put_sessions_out(&mut self, sessions: &[u64], close: &Close, now: Instant) {
        for member in self.members_of(sessions) {
            self.put_out(member, close, now);
        }
    }

    /// Begins to enter the room again, as a node of this name, and returns the request.
    pub(crate) fn enter_again(
        &mut self,
        node: &Arc<str>,
        epoch: String,
        now: Instant,
    ) -> Option<RelayRequest> {
        let create = Some(self.as_relayed(now));
        let replica = self.replica.as_mut()?;
        replica.begin(What::Enter(node.clone()));
        let known = Some(replica.revision.clone());
        let was = Some(replica.node.to_string());
        Some(RelayRequest::Enter { create, epoch, known, was })
    }

    pub(crate) fn subscribed(&mut self, is_done: bool, now: Instant) {
        if let Some(replica) = &mut self.replica {
            if is_done {
                replica.subscribed(now);
            } else {
                replica.ended(now);
            }
        }
    }

    /// Notes that the stream of messages has ended.
    pub(crate) fn unsubscribed(&mut self, now: Instant) {
        if let Some(replica) = &mut self.replica {
            replica.ended(now);
        }
    }

    /// Begins a new driver, and returns its number. The request under way is in doubt, and messages may be
    /// missing.
    pub(crate) fn begin_driver(&mut self, now: Instant) -> Option<u64> {
        let replica = self.replica.as_mut()?;
        if replica.driver > 0 {
            if let Some(asking) = replica.asking.take() {
                replica.put_back(asking);
            }
            replica.stream = Stream::Ended(now);
        }
        replica.waits_since = None;
        replica.driver += 1;
        Some(replica.driver)
    }

    /// Returns whether this driver is the last that began.
    pub(crate) fn is_driven_by(&self, driver: u64) -> bool {
        self.replica.as_ref().is_some_and(|replica| replica.driver == driver)
    }

    /// Takes the answer to the request under way; `None` if none came.
    pub(crate) fn answered(&mut self, answer: Option<RelayAnswer>, now: Instant) {
        let Some(replica) = &mut self.replica else { return };
        let Some(asking) = replica.asking.take() else { return };
        let Some(answer) = answer else { return replica.failed(asking, now) };
        replica.away = None;
        match answer {
            RelayAnswer::Done { revision, before } => self.done(asking, &revision, before, now),
            RelayAnswer::Room { revision, room, is_new, taken } => {
                self.read(
                    asking,
                    AtBroker { revision: &revision, room: &room, taken },
                    is_new,
                    now,
                );
            }
            RelayAnswer::Lost => {
                replica.phase = Phase::Entering(Cause::Lost);
                replica.put_back(asking);
            }
            RelayAnswer::Fenced | RelayAnswer::Nowhere => match asking.what {
                // The room was removed, and this node did not receive the message.
                What::Enter(_) => replica.over(Close::room_closed()),
                _ => {
                    replica.phase = Phase::Entering(Cause::Fenced);
                    replica.put_back(asking);
                }
            },
            // The broker has no memory for the room that it has lost.
            RelayAnswer::Full if matches!(asking.what, What::Enter(_)) => {
                replica.failed(asking, now);
            }
            refusal => self.refused(asking, refusal, now),
        }
    }

    fn done(&mut self, asking: Asking, revision: &RelayRevision, before: u64, now: Instant) {
        let Some(replica) = &mut self.replica else { return };
        // A revision or a number that goes back means that the broker has lost something that it had taken.
        if asking.at.is_later_than(revision) || before < replica.acknowledged {
            replica.phase = Phase::Entering(Cause::Lost);
            return replica.put_back(asking);
        }
        if !matches!(asking.what, What::Renew | What::Ask(Ask { wish: Wish::Tell(_), .. })) {
            replica.acknowledged = replica.numbered;
        }
        let unwanted = match &asking.what {
            What::Ask(ask) if asking.is_given_up => Some(ask.ticket),
            _ => None,
        };
        let changed = match &asking.what {
            What::Ask(Ask { wish: Wish::Change(change), attempt: Some(number), .. }) => {
                Some((change.clone(), *number))
            }
            _ => None,
        };
        replica.done(asking, revision, now);
        if let Some(ticket) = unwanted {
            self.give_back(ticket, now);
        }
        // The change is applied here, so that its caller need not wait for its message. If messages before
        // it are missing, the room is read.
        if let Some((change, number)) = changed
            && self.is_next(revision)
            && let Some(node) = self.node().cloned()
        {
            self.apply_change(revision, change, now);
            self.came_back(&node, number);
        }
    }

    /// Handles a refusal, which takes a number too.
    fn refused(&mut self, asking: Asking, refusal: RelayAnswer, now: Instant) {
        let Some(replica) = &mut self.replica else { return };
        match asking.what {
            What::Ask(ask) if !asking.is_given_up => {
                replica.outcomes.push((ask.ticket, Reply::Broker(refusal)));
            }
            What::Rejoin(session) => {
                replica.sessions.remove(session);
                let close = match refusal {
                    RelayAnswer::Full => Close::room_full(),
                    _ => Close::was_away(),
                };
                self.put_sessions_out(&[session], &close, now);
            }
            _ => {}
        }
    }

    /// Handles an answer that has the whole room.
    fn read(&mut self, asking: Asking, there: AtBroker<'_>, is_new: bool, now: Instant) {
        let Some(replica) = &mut self.replica else { return };
        let AtBroker { revision, taken, .. } = there;
        let (is_room, is_epoch) =
            (revision.room == asking.at.room, revision.epoch == asking.at.epoch);
        match asking.what {
            What::Enter(_)
                if replica.phase == Phase::Entering(Cause::Fenced) && is_epoch && !is_new =>
            {
                // Others may have its names and places by now.
                replica.over(Close::was_away());
            }
            What::Enter(node) => {
                replica.node = node;
                (replica.numbered, replica.acknowledged) = (taken, taken);
                replica.renew_at = now + replica.pace.renewal();
                replica.renewed = None;
                let in_doubt = replica.pending.renumber();
                // A broker that has lost the last of the room counts from an earlier revision.
                self.closed = self.closed.min(there.room.closed);
                replica.sessions.rejoin_all(self.closed);
                replica.phase = Phase::Live;
                self.take_over(there, now);
                for asker in in_doubt {
                    self.answer(asker, Outcome::Unknown);
                }
            }
            What::Read if !is_room || !is_epoch || asking.at.is_later_than(revision) => {
                replica.phase = Phase::Entering(Cause::Lost);
            }
            What::Read if taken < replica.acknowledged => {
                // The broker has lost something, or the node is out. The answer to a renewal says which.
                replica.phase = Phase::Live;
                replica.renew_at = now;
            }
            What::Read => {
                replica.phase = Phase::Live;
                self.take_over(there, now);
            }
            _ => {}
        }
    }
}
