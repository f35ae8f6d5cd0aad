//! The one order of a room: each submitted write is ordered, applied and queued under one lock.

use std::{sync::Arc, time::Instant};

use super::{
    batch::Part,
    event::RoomEvent,
    history::History,
    host::SetError,
    members::MemberId,
    state::State,
    terms::{Asker, Outcome, Terms},
    variables::{Told, Written},
};
use crate::{
    close::Close,
    identity::Identity,
    limits::{self, Bound},
    policy::{self, Judging, Verdict},
    wire::{Dialect, Json, Text},
};

/// One `set` as a member sent it.
#[derive(Debug)]
pub(crate) struct Write<'a> {
    pub(crate) member: MemberId,
    /// The position up to which the member had seen everything when it wrote this.
    pub(crate) base: u64,
    pub(crate) name: &'a Json<'a>,
    /// `None` for a value that its dialect does not allow.
    pub(crate) value: Option<&'a Json<'a>>,
    /// The write counts only if the room has this value in the order.
    pub(crate) was: Option<&'a Json<'a>>,
    /// The number by which its writer is notified of the outcome.
    pub(crate) ack: Option<u64>,
}

impl Write<'_> {
    fn author(&self) -> Author {
        Author { member: self.member, base: self.base }
    }

    fn asker(&self) -> Option<Asker> {
        self.ack.map(|number| Asker::Member(self.member, number))
    }

    fn terms(&self) -> Terms {
        Terms { was: self.was.map(Json::to_text), asker: self.asker() }
    }
}

/// The member that wrote a value, and the position up to which it had seen everything when it wrote it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Author {
    pub(super) member: MemberId,
    pub(super) base: u64,
}

/// The origin of a write.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// The host, on this node or another.
    Host,
    Member(Author),
    /// A member that was sent another value, so it receives this one too, like all other members.
    Told(MemberId),
    /// A member of another node, or one that has left.
    Remote(Arc<str>),
    /// The broker has the value, and this node does not know its writer.
    Unknown,
}

impl Source {
    fn author(&self) -> Option<Author> {
        match self {
            Self::Member(author) => Some(*author),
            Self::Host | Self::Told(_) | Self::Remote(_) | Self::Unknown => None,
        }
    }

    pub(super) fn member(&self) -> Option<MemberId> {
        match self {
            Self::Member(author) => Some(author.member),
            Self::Told(member) => Some(*member),
            Self::Host | Self::Remote(_) | Self::Unknown => None,
        }
    }
}

/// The reason why a write ends its session.
#[derive(Debug, PartialEq)]
pub(crate) enum WriteError {
    UnknownVariable,
    /// The host rejected the write.
    Rejected(Close),
    /// The writer is no longer a member.
    Gone,
}

/// The predicted outcome of a write that the room is not to take yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outlook {
    /// The room has the variable.
    Known,
    /// The write would create the variable.
    New,
    /// The room would refuse the value and send its own.
    Refused,
}

/// The result of the host's rules for a write.
enum Judged<'a> {
    AsSent(&'a Json<'a>),
    Replaced(Json<'static>),
    Ignored,
}

/// The result of a member's write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Submitted {
    Done(WriteCost),
    /// There is no memory for the write, and nothing has changed.
    Starved,
}

/// The cost of a member's write to its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WriteCost {
    /// The bytes of the correction that the writer of a refused write receives; 0 if the write is in the
    /// order.
    pub(crate) healed: usize,
    /// The time at which its writer may write again, if not at once.
    pub(crate) next: Option<Instant>,
}

/// The effect of a write on a variable.
struct Change {
    is_new: bool,
    name: Text,
    value: Text,
    /// The bytes that it takes from the budget, or gives back.
    growth: usize,
    shrinkage: usize,
}

impl State {
    /// Takes a member's write into the room's order, or refuses it and heals the member's view
    /// (promise P5).
    pub(crate) fn submit(
        &mut self,
        write: &Write<'_>,
        now: Instant,
    ) -> Result<Submitted, WriteError> {
        if self.members.get(write.member).is_none() {
            return Err(WriteError::Gone);
        }
        if !self.grows() && !self.variables.contains(write.name.as_json()) {
            return Err(WriteError::UnknownVariable);
        }
        // With a broker, the condition is checked when the write has its place in the order.
        let was = write.was.filter(|_| self.replica.is_none()).map(Json::as_json);
        let holds = self.has_value(write.name.as_json(), was);
        // A policy may panic in this call, so nothing has been changed yet.
        let judged = if holds { self.judge(write)? } else { Judged::Ignored };
        let is_sent = !matches!(judged, Judged::Ignored);
        let stands = match judged {
            Judged::AsSent(value) => {
                let (source, terms) = (Source::Member(write.author()), write.terms());
                match self.accept_by(source, terms, write.name, value, now) {
                    Err(SetError::NoMemory) => return Ok(Submitted::Starved),
                    taken => taken.is_ok(),
                }
            }
            // The sender sees another value, so it makes no difference whether this one is accepted. From a
            // broker it comes after the correction, so the sender must receive it too.
            Judged::Replaced(value) => {
                let source = match self.replica {
                    Some(_) => Source::Told(write.member),
                    None => Source::Member(write.author()),
                };
                let terms = Terms { asker: None, ..write.terms() };
                _ = self.accept_by(source, terms, write.name, &value, now);
                false
            }
            Judged::Ignored => false,
        };
        let healed = if stands { 0 } else { self.heal(write.member, write.name, now) };
        if let Some(asker) = write.asker()
            && !(stands && self.replica.is_some())
        {
            self.answer(asker, if stands { Outcome::Stands } else { Outcome::Refused });
        }
        let next = if is_sent { self.count(write, now) } else { None };
        self.broadcast.depart(now);
        Ok(Submitted::Done(WriteCost { healed, next }))
    }

    /// Counts a member's write against its quota. Returns when it may write again, if not at once.
    fn count(&mut self, write: &Write<'_>, now: Instant) -> Option<Instant> {
        let Self { members, intake, .. } = self;
        let count = members.len();
        let writer = members.get_mut(write.member)?;
        let value = write.value.map_or(0, |value| value.as_json().len());
        intake.take(&mut writer.quota, count, write.name.as_json().len() + value, now)
    }

    /// Refuses a write for which there is no memory, and heals its writer. Returns the bytes sent for that.
    pub(crate) fn refuse(&mut self, write: &Write<'_>, now: Instant) -> usize {
        let healed = self.heal(write.member, write.name, now);
        if let Some(asker) = write.asker() {
            self.answer(asker, Outcome::Refused);
        }
        self.broadcast.depart(now);
        healed
    }

    /// Sends a member the room's value of a variable. If there is none, sends the value that a new variable
    /// has with clients of its dialect. Returns the bytes sent.
    pub(super) fn heal(&mut self, member: MemberId, name: &Json<'_>, now: Instant) -> usize {
        if let Some(name) = self.variables.key(name.as_json()).cloned() {
            return self.correct(member, &name, now);
        }
        let Some(healed) = self.members.get(member) else { return 0 };
        // No game has more names than a room may have, so the client receives nothing for further ones.
        if healed.told.len() >= 2 * self.max_variables {
            return 0;
        }
        let value = match healed.dialect {
            Dialect::Scratch => "0",
            Dialect::Spec | Dialect::Forkphorus2020 => "",
        };
        // The member may create the variable before this reaches it, so this is noted like any correction.
        self.tell(member, name.to_text(), Json::from_plain(value).to_text(), now)
    }

    /// Returns the outcome that the limits allow a write, if the waiting writes create `created` variables.
    pub(crate) fn outlook(
        &self,
        name: &Json<'_>,
        value: Option<&Json<'_>>,
        created: usize,
    ) -> Result<Outlook, WriteError> {
        let is_taken = value.is_some_and(|value| self.fits(name, value).is_ok());
        if self.variables.contains(name.as_json()) {
            return Ok(if is_taken { Outlook::Known } else { Outlook::Refused });
        }
        if !self.grows() {
            return Err(WriteError::UnknownVariable);
        }
        let has_place = self.variables.len() + created < self.max_variables;
        Ok(if is_taken && has_place { Outlook::New } else { Outlook::Refused })
    }

    fn judge<'a>(&self, write: &Write<'a>) -> Result<Judged<'a>, WriteError> {
        let writer = self.members.get(write.member).ok_or(WriteError::Gone)?;
        let Some(value) = write.value else { return Ok(Judged::Ignored) };
        match self.ask(&writer.name, &writer.identity, write.name, value) {
            Verdict::Accept => Ok(Judged::AsSent(value)),
            Verdict::Replace(other) => Ok(Judged::Replaced(Json::from_plain(&other))),
            Verdict::Ignore => Ok(Judged::Ignored),
            Verdict::Reject(rejection) => Err(WriteError::Rejected(rejection.0)),
        }
    }

    /// Asks the host's policy about a value that a client wants to set.
    pub(super) fn ask(
        &self,
        username: &str,
        identity: &Identity,
        name: &Json<'_>,
        value: &Json<'_>,
    ) -> Verdict {
        if identity.is_read_only() {
            return Verdict::Ignore;
        }
        let Some(policy) = &self.rules.policy else { return Verdict::Accept };
        let look_up = |name: &str| {
            let name = Json::from_plain(name);
            self.variables.get(name.as_json()).map(|variable| variable.value.clone())
        };
        let _judging = Judging::begin();
        policy.write(&policy::Write {
            room: &self.id,
            username,
            identity,
            data: &self.data,
            name: name.lossy(),
            value: value.lossy(),
            look_up: &look_up,
        })
    }

    /// Like [`accept_by`](Self::accept_by), without terms.
    pub(super) fn accept(
        &mut self,
        source: Source,
        name: &Json<'_>,
        value: &Json<'_>,
        now: Instant,
    ) -> Result<(), SetError> {
        self.accept_by(source, Terms::default(), name, value, now)
    }

    /// Takes a write into the order if the limits and the budget allow it. Otherwise, nothing changes. With a
    /// broker, the write is ordered there, and its terms are checked there.
    pub(super) fn accept_by(
        &mut self,
        source: Source,
        terms: Terms,
        name: &Json<'_>,
        value: &Json<'_>,
        now: Instant,
    ) -> Result<(), SetError> {
        self.fits(name, value)?;
        if let Some(handed) = self.hand_over(&source, terms, name, value) {
            return handed;
        }
        let change = self.change(name, value);
        let cost = self.pay(&change, now).ok_or(SetError::NoMemory)?;
        self.apply(&source, change, cost, now);
        Ok(())
    }

    /// Applies a write that already has its place in the order, regardless of the limits.
    pub(super) fn take_in(
        &mut self,
        source: &Source,
        name: &Json<'_>,
        value: &Json<'_>,
        now: Instant,
    ) {
        let change = self.change(name, value);
        self.charge.force(change.growth);
        let cost = self.broadcast.pay_anyway(&change.name, &change.value, now);
        self.apply(source, change, cost, now);
    }

    fn change(&self, name: &Json<'_>, value: &Json<'_>) -> Change {
        let known = self.variables.key(name.as_json()).cloned();
        let old = self.variables.get(name.as_json()).map_or(0, |v| v.value.as_json().len());
        let new = match known {
            Some(_) => value.as_json().len(),
            None => limits::cost(name.as_json(), value.as_json()),
        };
        Change {
            is_new: known.is_none(),
            name: known.unwrap_or_else(|| name.to_text()),
            value: value.to_text(),
            growth: new.saturating_sub(old),
            shrinkage: old.saturating_sub(new),
        }
    }

    /// Returns the cost of a new variable and of the part that carries it.
    pub(super) fn cost(&self, name: &Json<'_>, value: &Json<'_>) -> usize {
        let (name, value) = (name.as_json(), value.as_json());
        let dialects = self.members.dialects() + 1;
        limits::cost(name, value) + Part::cost(name, value, dialects)
    }

    /// Pays for a value and the part that carries it, by forgetting past writes if necessary. Returns `None`
    /// if the room grows by the value and there is no memory.
    fn pay(&mut self, change: &Change, now: Instant) -> Option<usize> {
        if change.growth == 0 {
            // The batches that wait for slow readers go first, so no more than an open batch is over the
            // limit.
            return Some(self.broadcast.pay_anyway(&change.name, &change.value, now));
        }
        loop {
            if self.charge.grow(change.growth) {
                let cost = self.broadcast.pay(&change.name, &change.value, now);
                if cost.is_some() {
                    return cost;
                }
                self.charge.shrink(change.growth);
            }
            if !self.history.as_mut().is_some_and(History::forget_oldest) {
                return None;
            }
        }
    }

    pub(super) fn fits(&self, name: &Json<'_>, value: &Json<'_>) -> Result<(), SetError> {
        let most = &self.rules.limits;
        if value.byte_len() > most.value_bytes {
            return Err(SetError::TooLong);
        }
        let cost = limits::cost(name.as_json(), value.as_json());
        let Some(variable) = self.variables.get(name.as_json()) else {
            return if !(1..=most.name_bytes).contains(&name.byte_len()) {
                Err(SetError::TooLong)
            } else if self.count_beside(name.as_json()) >= self.max_variables
                || !self.has_place_for(cost, cost)
            {
                Err(SetError::RoomFull)
            } else {
                Ok(())
            };
        };
        let (old, new) = (variable.value.as_json().len(), value.as_json().len());
        let more = new.saturating_sub(old);
        // A handshake must still be able to join a fixed room.
        let share =
            most.share_of(Bound::of_handshake(most.message_bytes), new, self.variables.len());
        let is_joinable = self.grows() || self.variables.handshake_len() + more <= share;
        let fits = more == 0 || self.has_place_for(cost, more) && is_joinable;
        if fits { Ok(()) } else { Err(SetError::RoomFull) }
    }

    fn apply(&mut self, source: &Source, change: Change, cost: usize, now: Instant) {
        let Change { is_new, name, value, shrinkage, .. } = change;
        self.charge.shrink(shrinkage);
        self.position += 1;
        self.snapshots.outdate();
        let author = source.author();
        let writer = author.map(|author| author.member);
        let is_here = writer.is_some_and(|writer| self.members.get(writer).is_some());
        self.activity.writes += 1;
        self.activity.deliveries += (self.members.len() - usize::from(is_here)) as u64;
        if let Some(history) = &mut self.history {
            history.note(&name, &value, self.members.username(source), now);
        }
        self.observers.tell_room(|| RoomEvent::Wrote {
            name: name.lossy().into(),
            value: value.lossy().into(),
            by: self.members.writer(source),
        });
        let position = self.position;
        let hides_other = self.broadcast.supersede(&name, writer);
        let written = Written { value: value.clone(), writer, position, now, hides_other };
        if let Some(author) = author {
            self.remember_snapshot(author, &name);
        }
        if is_new {
            self.variables.create(name.clone(), written);
        } else {
            self.variables.set(&name, written);
        }
        if let Some(author) = author {
            self.contest(author, &name);
        }
        self.note_unsaved(&name);
        self.broadcast.push(Part { position, name, value, from: writer, to: None, cost });
    }

    /// Sends one member the room's value of a variable, in its place in the order, once per batch. Returns
    /// the bytes sent.
    pub(super) fn correct(&mut self, member: MemberId, name: &Text, now: Instant) -> usize {
        let (Some(variable), Some(corrected)) =
            (self.variables.get(name.as_json()), self.members.get(member))
        else {
            return 0;
        };
        // The member is not sent the parts of an open batch that are older than its snapshot, so a correction
        // among them does not count.
        let since = variable.last.max(corrected.snapshot);
        if self.broadcast.corrects(member, name, since) {
            return 0;
        }
        let (name, value) = (name.clone(), variable.value.clone());
        self.tell(member, name, value, now)
    }

    /// Sends one member a value of the room, in its place in the order. Returns the bytes sent.
    fn tell(&mut self, member: MemberId, name: Text, value: Text, now: Instant) -> usize {
        let Some(corrected) = self.members.get_mut(member) else { return 0 };
        self.position += 1;
        let position = self.position;
        let told = Told { position, value: Some(self.variables.fingerprint(&value)) };
        corrected.told.insert(name.clone(), told);
        self.activity.corrections += 1;
        let cost = self.broadcast.pay_anyway(&name, &value, now);
        let part = Part { position, name, value, from: None, to: Some(member), cost };
        let bytes = part.len();
        self.broadcast.push(part);
        bytes
    }
}
