//! Applies the broker's room and its messages to the room of this node.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{AtBroker, Pace, PendingWrite, Phase, Replica, Reply, What, pending::Sent};
use crate::{
    ban::{Ban, BanTarget},
    close::Close,
    relay::{
        RelayAnswer, RelayBan, RelayChange, RelayMessage, RelayNews, RelayRevision, RelayRoom,
        RelayWrite, RelayWrites,
    },
    room::{
        order::Source,
        state::State,
        terms::{Asker, Outcome},
    },
    wire::{self, Json, Text},
};

/// The outcome of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    Applied,
    /// The message is not part of the room's order.
    News(RelayNews),
}

impl State {
    /// Makes a new room the replica of one that this node has entered.
    pub(crate) fn replicate(
        &mut self,
        node: &Arc<str>,
        there: AtBroker<'_>,
        pace: Pace,
        now: Instant,
    ) {
        let charge = self.share.open();
        self.replica = Some(Replica::new(node, there, pace, charge, now));
        self.adopt_settings(there.room, now);
        self.closed = there.room.closed;
    }

    /// Adopts the state that all nodes have in common, except the variables and a close, which have to be
    /// applied.
    fn adopt_settings(&mut self, room: &RelayRoom, now: Instant) {
        if let Some(replica) = &mut self.replica {
            replica.adopt_bans(&room.bans, now);
        }
        room.bans.iter().for_each(|ban| self.put_out_banned(&ban.who, now));
        self.schema = room.stored.schema;
        self.is_locked = room.is_locked;
        self.set_max_members(room.max_members);
        self.set_max_variables(room.max_variables);
        self.set_max_bytes(room.max_bytes);
    }

    fn set_max_bytes(&mut self, bytes: u64) {
        self.max_bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    }

    fn set_max_variables(&mut self, count: u64) {
        self.max_variables = usize::try_from(count).unwrap_or(usize::MAX);
    }

    fn set_max_members(&mut self, count: u64) {
        self.max_members = usize::try_from(count).unwrap_or(usize::MAX);
    }

    /// Returns the bans that the broker keeps.
    pub(crate) fn bans(&self, now: Instant) -> Vec<Ban> {
        let bans = self.replica.as_ref().map_or_else(Vec::new, |replica| replica.bans(now));
        let ban = |RelayBan { who, name, millis }: &RelayBan| Ban {
            target: BanTarget::kept(who, name),
            left: Duration::from_millis(*millis),
        };
        bans.iter().map(ban).collect()
    }

    /// Returns the room as a broker keeps it.
    pub(crate) fn as_relayed(&self, now: Instant) -> RelayRoom {
        RelayRoom {
            stored: self.stored(),
            max_members: self.max_members as u64,
            max_variables: self.max_variables as u64,
            max_bytes: self.max_bytes as u64,
            is_locked: self.is_locked,
            closed: self.closed,
            bans: self.replica.as_ref().map_or_else(Vec::new, |replica| replica.bans(now)),
        }
    }

    /// Replaces the state of the room with the broker's. Members are sent the values that differ, and every
    /// variable for which a write of theirs came into the order unseen.
    pub(super) fn take_over(
        &mut self,
        AtBroker { revision, room, taken }: AtBroker<'_>,
        now: Instant,
    ) {
        let Some(replica) = &mut self.replica else { return };
        let before = std::mem::replace(&mut replica.revision, revision.clone());
        let (mut unseen, mut in_doubt) = (HashSet::new(), Vec::new());
        while let Some((_, back)) = replica.pending.came_back(taken) {
            match back {
                Sent::Write(write) => {
                    in_doubt.extend(write.terms.asker);
                    unseen.insert(write.name);
                }
                Sent::Change(ask) => replica.fulfil(ask.ticket),
            }
        }
        self.adopt_settings(room, now);
        if room.closed > self.closed {
            self.close_before(room.closed, now);
        }
        for (name, value) in &room.stored.variables {
            let here = self.variables.get(name);
            let is_same = here.is_some_and(|here| here.value.as_stored() == *value);
            if !is_same || unseen.contains(name.as_str()) {
                self.apply_anyway(&Source::Unknown, name, value, now);
            }
        }
        self.resolve_missing(&room.stored.variables, before.epoch != revision.epoch, now);
        // Only the messages, which this node missed, said whether the broker took them or left them out.
        for asker in in_doubt {
            self.answer(asker, Outcome::Unknown);
        }
        self.broadcast.depart(now);
    }

    /// Restores or drops the variables that only this node has. If the broker has lost something, its room began a
    /// new epoch, and a room that grows may have lost them. Within one epoch another node has dropped them.
    fn resolve_missing(&mut self, there: &[(String, String)], is_after_loss: bool, now: Instant) {
        let there: HashSet<_> = there.iter().map(|(name, _)| &**name).collect();
        let here = self.variables.values().into_iter();
        let missing: Vec<_> = here.filter(|(name, _)| !there.contains(name.as_json())).collect();
        if missing.is_empty() {
            return;
        }
        let names: Vec<_> = missing.iter().map(|(name, _)| name.clone()).collect();
        if self.grows() {
            if is_after_loss && self.restore(missing) {
                return;
            }
            // No kind of client has a message for a removed variable, so the empty value comes first.
            for name in names {
                self.apply_anyway(&Source::Unknown, name.as_stored(), "", now);
            }
            self.broadcast.depart(now);
        }
        self.drop_names(|name| there.contains(name), now);
    }

    /// Has the broker create these variables again. Returns `false` if there is no memory for all of them.
    fn restore(&mut self, variables: Vec<(Text, Text)>) -> bool {
        let Some(replica) = &mut self.replica else { return false };
        variables.into_iter().all(|(name, value)| {
            replica.submit(PendingWrite::new(Source::Unknown, name, Some(value), true))
        })
    }

    /// Handles a message of the room's stream.
    pub(crate) fn hear(&mut self, message: RelayMessage, now: Instant) -> Heard {
        let Some(replica) = &mut self.replica else { return Heard::Applied };
        match message {
            RelayMessage::Told(RelayNews::Removed { room }) => {
                if room == replica.revision.room {
                    replica.over(Close::room_closed());
                }
            }
            RelayMessage::Told(news) => {
                if let RelayNews::Wanted { node, .. } = &news
                    && **node == *replica.node
                {
                    replica.renew_soon(now);
                }
                return Heard::News(news);
            }
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

    /// Adopts this revision if it is the next one, and returns whether it is. If one before it is missing,
    /// the room is to be read.
    pub(super) fn is_next(&mut self, new: &RelayRevision) -> bool {
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

    /// Handles a change that is in the order, if it is one of this node's.
    pub(super) fn came_back(&mut self, node: &str, number: u64) {
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
        } else if let Some(Sent::Change(ask)) = replica.take_back(number) {
            replica.fulfil(ask.ticket);
        }
    }

    pub(super) fn apply_change(
        &mut self,
        revision: &RelayRevision,
        change: RelayChange,
        now: Instant,
    ) {
        match change {
            RelayChange::Locked(is_locked) => self.is_locked = is_locked,
            RelayChange::MaxMembers(count) => self.set_max_members(count),
            RelayChange::MaxVariables(count) => self.set_max_variables(count),
            RelayChange::MaxBytes(bytes) => self.set_max_bytes(bytes),
            RelayChange::Schema(schema) => self.schema = schema,
            RelayChange::Ban { who, name, millis } => {
                // A ban of no duration ends a ban.
                if millis > 0 {
                    self.put_out_banned(&who, now);
                }
                if let Some(replica) = &mut self.replica {
                    replica.ban(RelayBan { who, name, millis }, now);
                }
            }
            RelayChange::Closed => self.close_before(revision.number, now),
        }
    }

    /// Puts out the members that joined before this revision.
    fn close_before(&mut self, revision: u64, now: Instant) {
        self.closed = revision;
        let Some(replica) = &mut self.replica else { return };
        let sessions = replica.sessions.close(revision);
        self.put_sessions_out(&sessions, &Close::room_closed(), now);
        self.let_go(now);
    }

    fn apply_writes(&mut self, message: &RelayWrites, now: Instant) {
        let len = |write: &RelayWrite| {
            wire::set_len(&write.name, write.value.as_deref().unwrap_or_default())
        };
        self.broadcast.make_room(message.writes.iter().map(len).sum(), now);
        let is_ours = self.node().is_some_and(|node| **node == *message.node);
        let mut gone = HashSet::new();
        for (number, write) in (message.first..).zip(&message.writes) {
            let RelayWrite { name, value, creates, by, was, unless: _ } = write;
            let replica = self.replica.as_mut().filter(|_| is_ours);
            let (own, asker) = match replica.and_then(|replica| replica.take_back(number)) {
                Some(Sent::Write(write)) => (Some(write.source), write.terms.asker),
                _ => (None, None),
            };
            let is_here =
                |own: &Source| own.member().is_none_or(|member| self.members.get(member).is_some());
            let source = own.filter(is_here).unwrap_or_else(|| match by {
                Some(username) => Source::Remote(username.as_str().into()),
                None => Source::Host,
            });
            let is_there = self.variables.contains(name) && !gone.contains(&**name);
            let has_place = *creates && ((self.variables.len() - gone.len()) as u64) < message.most;
            if message.left_out.contains(&number) {
                continue;
            }
            let has_value = match was.as_deref() {
                Some(was) if !is_there => was.is_empty(),
                was => self.has_value(name, was),
            };
            let stands = match value {
                Some(value) if (is_there || has_place) && has_value => {
                    gone.remove(&**name);
                    self.apply_anyway(&source, name, value, now);
                    true
                }
                // The write does not count, and the broker has left it out as well.
                Some(_) => false,
                None if is_there => gone.insert(&**name),
                None => false,
            };
            if let Some(asker) = asker {
                self.settle(asker, name, stands, now);
            }
        }
        if !gone.is_empty() {
            self.drop_names(|name| !gone.contains(name), now);
        }
        self.broadcast.depart(now);
    }

    /// Reports to the asker whether a write is in the order. If it is not, a member is sent the room's
    /// value first.
    fn settle(&mut self, asker: Asker, name: &str, stands: bool, now: Instant) {
        if let Asker::Member(member, _) = asker
            && !stands
            && let Some(name) = Json::stored(name)
        {
            self.heal(member, &name, now);
        }
        self.answer(asker, if stands { Outcome::Stands } else { Outcome::Refused });
    }

    /// Applies a value like [`accept`](Self::accept), except that the value is the room's already.
    fn apply_anyway(&mut self, source: &Source, name: &str, value: &str, now: Instant) {
        if let (Some(name), Some(value)) = (Json::stored(name), Json::stored(value)) {
            self.take_in(source, &name, &value, now);
        }
    }
}

impl Replica {
    /// Takes out the entry that was sent under this number and has come back. Changes before it have been
    /// read.
    fn take_back(&mut self, number: u64) -> Option<Sent> {
        while let Some((at, sent)) = self.pending.came_back(number) {
            match sent {
                sent if at == number => return Some(sent),
                Sent::Change(ask) => self.fulfil(ask.ticket),
                Sent::Write(_) => {}
            }
        }
        None
    }

    pub(super) fn fulfil(&mut self, ticket: u64) {
        let (revision, before) = (self.revision.clone(), self.acknowledged);
        self.outcomes.push((ticket, Reply::Broker(RelayAnswer::Done { revision, before })));
    }
}

impl State {
    /// Reports the outcome of a write to the host's node, which has asked for it.
    pub(in crate::room) fn settle_update(&mut self, ticket: u64, outcome: Outcome) {
        if let Some(replica) = &mut self.replica {
            replica.outcomes.push((ticket, Reply::Update(outcome)));
            replica.is_stirred = true;
        }
    }
}
