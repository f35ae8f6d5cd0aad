//! What a room makes of its broker's answers and messages.

use std::{collections::HashSet, sync::Arc, time::Instant};

use super::{
    Asking, Cause, Pace, PendingWrite, Phase, Progress, Replica, Step, What, Wish,
    pending::{Ask, Sent},
};
use crate::{
    close::{Close, CloseCode},
    relay::{
        RelayAnswer, RelayChange, RelayMessage, RelayNews, RelayRequest, RelayRevision, RelayRoom,
        RelayWrite, RelayWrites,
    },
    room::{join::another_tab, members::MemberId, order::Author, state::State},
    wire::{self, Json, Text},
};

/// What came of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    Applied,
    /// It is not of the room's order.
    News(RelayNews),
}

fn closed() -> Close {
    Close::new(CloseCode::GoingAway, "the room was closed")
}

impl State {
    /// Makes a new room the replica of one that this node has entered.
    pub(crate) fn replicate(
        &mut self,
        node: &Arc<str>,
        (revision, taken): (RelayRevision, u64),
        room: &RelayRoom,
        pace: Pace,
        now: Instant,
    ) {
        let charge = self.budget.open();
        let mut replica = Replica::new(node, (revision, taken), pace, charge, now);
        for ban in &room.bans {
            replica.ban(ban.who.clone(), ban.millis, now);
        }
        self.replica = Some(replica);
        self.is_locked = room.is_locked;
        self.max_members = usize::try_from(room.max_members).unwrap_or(usize::MAX);
        self.closed = room.closed;
    }

    /// The room as a broker keeps it.
    pub(crate) fn as_relayed(&self, now: Instant) -> RelayRoom {
        RelayRoom {
            stored: self.stored(),
            max_members: self.max_members as u64,
            is_locked: self.is_locked,
            closed: self.closed,
            bans: self.replica.as_ref().map_or_else(Vec::new, |replica| replica.bans(now)),
        }
    }

    /// What is to be done next at the broker.
    pub(crate) fn next_step(&mut self, now: Instant) -> Step {
        let most = self.rules.limits.variables_per_room as u64;
        self.replica.as_mut().map_or(Step::Over, |replica| replica.next(most, now))
    }

    /// Whether messages may be handed in.
    pub(crate) fn listens(&self) -> bool {
        self.replica.as_ref().is_some_and(Replica::listens)
    }

    pub(crate) fn progress(&mut self) -> Progress {
        self.replica.as_mut().map_or_else(Progress::default, Replica::progress)
    }

    /// Whether the broker may not have all that happened here.
    pub(crate) fn is_untold(&self) -> bool {
        self.replica.as_ref().is_some_and(Replica::is_behind)
    }

    /// What the room's node is called.
    pub(crate) fn node(&self) -> Option<&Arc<str>> {
        self.replica.as_ref().map(Replica::node)
    }

    pub(crate) fn wish(&mut self, ticket: u64, wish: Wish) -> bool {
        self.replica.as_mut().is_some_and(|replica| replica.wish(ticket, wish))
    }

    /// Nobody waits for a wish any more, or acts on it.
    pub(crate) fn give_up(&mut self, ticket: u64, now: Instant) {
        if let Some(replica) = &mut self.replica {
            replica.give_up(ticket);
        }
        self.give_back(ticket, now);
    }

    /// Gives back the seat of a session that has not become a member. Those whose places it took have
    /// lost them.
    fn give_back(&mut self, session: u64, now: Instant) {
        let is_member = self.members.iter().any(|(_, member)| member.session == Some(session));
        if is_member {
            return;
        }
        for member in self.replaced(session) {
            self.put_out(member, &another_tab(), now);
        }
        if let Some(replica) = &mut self.replica {
            replica.end(session);
        }
    }

    /// The members whose places the session took.
    pub(in crate::room) fn replaced(&self, session: u64) -> Vec<MemberId> {
        let replaced = self.replica.as_ref().map(|replica| replica.seats.replaced(session));
        self.members_of(replaced.unwrap_or_default())
    }

    /// They are put out.
    pub(in crate::room) fn forget_replaced(&mut self, session: u64) {
        if let Some(replica) = &mut self.replica {
            replica.seats.forget_replaced(session);
        }
    }

    fn members_of(&self, sessions: &[u64]) -> Vec<MemberId> {
        let is_of = |session: Option<u64>| session.is_some_and(|it| sessions.contains(&it));
        let members = self.members.iter();
        members.filter_map(|(id, member)| is_of(member.session).then_some(id)).collect()
    }

    fn put_sessions_out(&mut self, sessions: &[u64], close: &Close, now: Instant) {
        for member in self.members_of(sessions) {
            self.put_out(member, close, now);
        }
    }

    /// Has the node enter the room again under this name: the request.
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
                replica.subscribed();
            } else {
                replica.ended(now);
            }
        }
    }

    /// The stream of messages has ended.
    pub(crate) fn unsubscribed(&mut self, now: Instant) {
        if let Some(replica) = &mut self.replica {
            replica.ended(now);
        }
    }

    /// A new driver begins: its number. What was under way is in doubt, and messages may be missing.
    pub(crate) fn begin_driver(&mut self, now: Instant) -> Option<u64> {
        let replica = self.replica.as_mut()?;
        if replica.driver > 0 {
            if let Some(asking) = replica.asking.take() {
                replica.put_back(asking);
            }
            replica.stream = super::Stream::Ended(now);
        }
        replica.waits_since = None;
        replica.driver += 1;
        Some(replica.driver)
    }

    /// Whether this driver is the last that began.
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
                self.read(asking, (&revision, &room), (is_new, taken), now);
            }
            RelayAnswer::Fenced | RelayAnswer::Nowhere => match asking.what {
                // The room was removed, and this node did not hear of it.
                What::Enter(_) => replica.over(closed()),
                _ => {
                    replica.phase = Phase::Entering(Cause::Fenced);
                    replica.put_back(asking);
                }
            },
            refusal => self.refused(asking, refusal, now),
        }
    }

    fn done(&mut self, asking: Asking, revision: &RelayRevision, before: u64, now: Instant) {
        let Some(replica) = &mut self.replica else { return };
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
        // Whoever asked for it need not wait for its message. If there are others before it, the room
        // is read.
        if let Some((change, number)) = changed
            && self.is_next(revision)
            && let Some(node) = self.node().cloned()
        {
            self.apply_change(revision, change, now);
            self.came_back(&node, number);
        }
    }

    /// Takes a refusal. It takes a number too.
    fn refused(&mut self, asking: Asking, refusal: RelayAnswer, now: Instant) {
        let Some(replica) = &mut self.replica else { return };
        match asking.what {
            What::Ask(ask) if !asking.is_given_up => replica.outcomes.push((ask.ticket, refusal)),
            What::Rejoin(session) => {
                replica.seats.remove(session);
                let close = match refusal {
                    RelayAnswer::Full => Close::new(CloseCode::Overloaded, "the room is full"),
                    _ => Close::new(CloseCode::Restart, "the server was away: come back"),
                };
                self.put_sessions_out(&[session], &close, now);
            }
            _ => {}
        }
    }

    /// Takes the whole room.
    fn read(
        &mut self,
        asking: Asking,
        there: (&RelayRevision, &RelayRoom),
        (is_new, taken): (bool, u64),
        now: Instant,
    ) {
        let Some(replica) = &mut self.replica else { return };
        let revision = there.0;
        let (is_room, is_epoch) =
            (revision.room == asking.at.room, revision.epoch == asking.at.epoch);
        match asking.what {
            What::Enter(_)
                if replica.phase == Phase::Entering(Cause::Fenced) && is_epoch && !is_new =>
            {
                // Names and places are others' by now.
                replica.over(Close::new(CloseCode::Restart, "the server was away: come back"));
            }
            What::Enter(node) => {
                replica.node = node;
                (replica.numbered, replica.acknowledged) = (taken, taken);
                replica.renew_at = now + replica.pace.renewal();
                replica.renewed = None;
                replica.pending.renumber();
                replica.seats.rejoin_all();
                replica.phase = Phase::Live;
                self.take_over(there, taken, now);
            }
            What::Read if !is_room || !is_epoch || asking.at.is_later_than(revision) => {
                replica.phase = Phase::Entering(Cause::Lost);
            }
            What::Read if taken < replica.acknowledged => {
                // The broker has lost something, or the node is out, which it tells who renews.
                replica.phase = Phase::Live;
                replica.renew_at = now;
            }
            What::Read => {
                replica.phase = Phase::Live;
                self.take_over(there, taken, now);
            }
            _ => {}
        }
    }

    /// Becomes what the broker's room is. Members are sent what differs, and every variable of which
    /// they wrote something that came into the order unseen.
    fn take_over(
        &mut self,
        (revision, room): (&RelayRevision, &RelayRoom),
        taken: u64,
        now: Instant,
    ) {
        let Some(replica) = &mut self.replica else { return };
        replica.revision = revision.clone();
        let mut unseen = HashSet::new();
        while let Some((_, back)) = replica.pending.came_back(taken) {
            match back {
                Sent::Write(write) => _ = unseen.insert(write.name),
                Sent::Change(ask) => replica.fulfil(ask.ticket),
            }
        }
        for ban in &room.bans {
            replica.ban(ban.who.clone(), ban.millis, now);
        }
        self.adopt(room.stored.schema);
        self.is_locked = room.is_locked;
        self.max_members = usize::try_from(room.max_members).unwrap_or(usize::MAX);
        if room.closed > self.closed {
            self.close_before(room.closed, now);
        }
        for (name, value) in &room.stored.variables {
            let here = self.variables.get(name);
            let is_same = here.is_some_and(|here| here.value.as_stored() == value);
            if !is_same || unseen.contains(&**name) {
                self.apply_anyway(None, name, value, now);
            }
        }
        self.resolve_missing(&room.stored.variables, now);
        self.outgoing.depart(now);
    }

    /// Nobody drops variables of a room that grows, so the broker has lost those that are here alone.
    fn resolve_missing(&mut self, there: &[(String, String)], now: Instant) {
        let there: HashSet<_> = there.iter().map(|(name, _)| &**name).collect();
        let here = self.variables.values().into_iter();
        let missing: Vec<_> = here.filter(|(name, _)| !there.contains(name.as_json())).collect();
        if missing.is_empty() {
            return;
        }
        if self.grows && self.restore(missing) {
            return;
        }
        self.drop_names(|name| there.contains(name), now);
    }

    /// Has the broker create these variables again. False if there is no memory for all.
    fn restore(&mut self, variables: Vec<(Text, Text)>) -> bool {
        let Some(replica) = &mut self.replica else { return false };
        variables.into_iter().all(|(name, value)| {
            let (author, value, creates, is_more) = (None, Some(value), true, false);
            replica.submit(PendingWrite { author, name, value, creates, is_more })
        })
    }

    /// Takes a message of the room's stream.
    pub(crate) fn hear(&mut self, message: RelayMessage, now: Instant) -> Heard {
        let Some(replica) = &mut self.replica else { return Heard::Applied };
        match message {
            RelayMessage::Told(RelayNews::Removed { room }) => {
                if room == replica.revision.room {
                    replica.over(closed());
                }
            }
            RelayMessage::Told(news) => return Heard::News(news),
            RelayMessage::Wrote(writes) => {
                if self.is_next(&writes.revision) {
                    self.apply_writes(&writes, now);
                }
            }
            RelayMessage::Changed { revision, node, number, change } => {
                if self.is_next(&revision) {
                    self.apply_change(&revision, change, now);
                    self.came_back(&node, number);
                }
            }
        }
        Heard::Applied
    }

    /// Whether this is the next revision; then it is the room's. If one before it is missing, the room
    /// is to be read.
    fn is_next(&mut self, new: &RelayRevision) -> bool {
        let Some(replica) = &mut self.replica else { return false };
        let here = &replica.revision;
        let is_same = new.room == here.room && new.epoch == here.epoch;
        if is_same && new.number == here.number + 1 && replica.phase == Phase::Live {
            replica.revision = new.clone();
            return true;
        }
        if !is_same || new.number > here.number {
            replica.catch_up();
        }
        false
    }

    /// A change of this node's is in the order.
    fn came_back(&mut self, node: &str, number: u64) {
        let Some(replica) = self.replica.as_mut().filter(|replica| *replica.node == *node) else {
            return;
        };
        if let Some(asking) = &mut replica.asking
            && let What::Ask(ask) = &asking.what
            && ask.attempt == Some(number)
        {
            let ticket = ask.ticket;
            asking.what = What::Settled;
            replica.fulfil(ticket);
        } else if let Some((_, Sent::Change(ask))) = replica.pending.came_back(number) {
            replica.fulfil(ask.ticket);
        }
    }

    fn apply_change(&mut self, revision: &RelayRevision, change: RelayChange, now: Instant) {
        match change {
            RelayChange::Locked(is_locked) => self.is_locked = is_locked,
            RelayChange::MaxMembers(count) => {
                self.max_members = usize::try_from(count).unwrap_or(usize::MAX);
            }
            RelayChange::Schema(schema) => self.adopt(schema),
            RelayChange::Ban { who, millis } => {
                if let Some(replica) = &mut self.replica {
                    replica.ban(who, millis, now);
                }
            }
            RelayChange::Closed => self.close_before(revision.number, now),
        }
    }

    /// Puts those out who joined before this revision.
    fn close_before(&mut self, revision: u64, now: Instant) {
        self.closed = revision;
        let Some(replica) = &mut self.replica else { return };
        let sessions = replica.seats.close(revision);
        self.put_sessions_out(&sessions, &closed(), now);
        self.let_go(now);
    }

    fn apply_writes(&mut self, message: &RelayWrites, now: Instant) {
        let len = |write: &RelayWrite| {
            wire::set_len(&write.name, write.value.as_deref().unwrap_or_default())
        };
        self.outgoing.make_room(message.writes.iter().map(len).sum(), now);
        let is_ours = self.node().is_some_and(|node| **node == *message.node);
        let mut gone = HashSet::new();
        for (number, RelayWrite { name, value, creates }) in (message.first..).zip(&message.writes)
        {
            let replica = self.replica.as_mut().filter(|_| is_ours);
            let author = match replica.and_then(|replica| replica.pending.came_back(number)) {
                Some((_, Sent::Write(write))) => write.author,
                _ => None,
            };
            let is_there = self.variables.contains(name) && !gone.contains(&**name);
            let has_place = *creates && ((self.variables.len() - gone.len()) as u64) < message.most;
            match value {
                Some(value) if is_there || has_place => {
                    gone.remove(&**name);
                    self.apply_anyway(author, name, value, now);
                }
                // Left out, as by the broker.
                Some(_) => {}
                None if is_there => _ = gone.insert(&**name),
                None => {}
            }
        }
        if !gone.is_empty() {
            self.drop_names(|name| !gone.contains(name), now);
        }
        self.outgoing.depart(now);
    }

    /// As [`accept`](Self::accept), of what is the room's value already.
    fn apply_anyway(&mut self, author: Option<Author>, name: &str, value: &str, now: Instant) {
        if let (Some(name), Some(value)) = (Json::stored(name), Json::stored(value)) {
            self.take_in(author, &name, &value, now);
        }
    }

    /// Hands a write to the broker, if there is one. False if there is no memory for it.
    pub(in crate::room) fn hand_over(
        &mut self,
        author: Option<Author>,
        name: &Json<'_>,
        value: &Json<'_>,
    ) -> Option<bool> {
        let replica = self.replica.as_mut()?;
        let known = self.variables.key(name.as_json()).cloned();
        let creates = self.grows || known.is_none();
        let (name, value) = (known.unwrap_or_else(|| name.to_text()), Some(value.to_text()));
        Some(replica.submit(PendingWrite { author, name, value, creates, is_more: false }))
    }

    /// Has the broker give variables these values of the host's, all at once. `None` if there is no
    /// broker; false if there is no memory for all.
    pub(in crate::room) fn hand_over_all(
        &mut self,
        values: &[(Json<'_>, Json<'_>)],
    ) -> Option<bool> {
        self.replica.as_ref()?;
        for (name, value) in values {
            if !self.hand_over(None, name, value)? {
                return Some(false);
            }
            self.mark_last(|last| last.is_more = true);
        }
        self.mark_last(|last| last.is_more = false);
        Some(true)
    }

    fn mark_last(&mut self, mark: impl FnOnce(&mut PendingWrite)) {
        let last = self.replica.as_mut().and_then(|replica| replica.pending.last_write());
        if let Some(last) = last {
            mark(last);
        }
    }

    /// Has the broker drop all other variables. False if there is no broker.
    pub(in crate::room) fn hand_over_names(&mut self, stays: impl Fn(&str) -> bool) -> bool {
        let Some(replica) = &mut self.replica else { return false };
        let here = self.variables.values().into_iter().map(|(name, _)| name);
        let coming: Vec<_> = replica.pending.writes().map(|write| write.name.clone()).collect();
        for name in here.chain(coming).collect::<HashSet<_>>() {
            if !stays(name.as_json()) {
                let (author, value, creates, is_more) = (None, None, false, false);
                _ = replica.submit(PendingWrite { author, name, value, creates, is_more });
            }
        }
        true
    }

    /// The write that was handed over last creates its variable, also if that is here still: its
    /// removal waits.
    pub(in crate::room) fn have_created(&mut self) {
        self.mark_last(|last| last.creates = true);
    }

    /// Whether a variable will be there when all that waits is in the order.
    pub(in crate::room) fn will_have(&self, name: &str) -> bool {
        let mut pending = self.replica.iter().flat_map(|replica| replica.pending.writes().rev());
        let last = pending
            .find(|write| write.name.as_json() == name && (write.value.is_none() || write.creates));
        last.map_or_else(|| self.variables.contains(name), |write| write.value.is_some())
    }

    /// How many variables there will be beside this one, with those that wait.
    pub(in crate::room) fn count_beside(&self, name: &str) -> usize {
        let pending = self.replica.iter().flat_map(|replica| replica.pending.writes());
        let names = pending.filter(|write| write.creates).map(|write| &write.name);
        let is_new =
            |other: &&Text| other.as_json() != name && !self.variables.contains(other.as_json());
        self.variables.len() + names.filter(is_new).collect::<HashSet<_>>().len()
    }

    /// Tells the broker of a session that is over.
    pub(in crate::room) fn hand_over_end(&mut self, session: Option<u64>) {
        if let Some((replica, session)) = self.replica.as_mut().zip(session) {
            replica.end(session);
        }
    }
}

impl Replica {
    fn fulfil(&mut self, ticket: u64) {
        let (revision, before) = (self.revision.clone(), self.acknowledged);
        self.outcomes.push((ticket, RelayAnswer::Done { revision, before }));
    }
}
