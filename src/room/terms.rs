//! Writes that count only if the room still has the value that they build on, and who is told what came of
//! them.

use std::{
    collections::VecDeque,
    sync::atomic::{
        AtomicUsize,
        Ordering::{Acquire, Release},
    },
    time::Instant,
};

use parking_lot::Mutex;

use super::{host::SetError, members::MemberId, order::Source, state::State};
use crate::wire::{Json, Text};

/// On what a write depends, and who asks what came of it.
#[derive(Debug, Clone, Default)]
pub(in crate::room) struct Terms {
    /// The value that the room must have in the order. A variable that is not there has the empty one.
    pub(in crate::room) was: Option<Text>,
    pub(in crate::room) asker: Option<Asker>,
}

/// Who is told what came of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::room) enum Asker {
    /// A member, by a number of its own.
    Member(MemberId, u64),
    /// The host, by a ticket of its node.
    Host(u64),
}

/// What came of a write whose writer asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is in the room's order.
    Stands,
    /// It is not. A member has been told what the room has.
    Refused,
    /// The broker has answered nothing that tells.
    Unknown,
}

/// An answer to a member, which goes behind all that was ordered before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ack {
    /// The position of the last that goes before it.
    position: u64,
    pub(crate) number: u64,
    pub(crate) outcome: Outcome,
}

/// The answers that wait for their member to be sent what goes before them.
#[derive(Debug, Default)]
pub(crate) struct Acks {
    waiting: Mutex<VecDeque<Ack>>,
    /// How many there are, because most members never ask for any, and each is looked at with each batch.
    count: AtomicUsize,
}

/// How many answers wait for a member before it is read no further.
const MOST_WAITING: usize = 256;

impl Acks {
    fn push(&self, ack: Ack) {
        let mut waiting = self.waiting.lock();
        waiting.push_back(ack);
        self.count.store(waiting.len(), Release);
    }

    /// The next answer to a member that has been sent all up to this position.
    pub(crate) fn take_due(&self, sent: u64) -> Option<Ack> {
        if self.count.load(Acquire) == 0 {
            return None;
        }
        let mut waiting = self.waiting.lock();
        let is_due = waiting.front().is_some_and(|ack| ack.position <= sent);
        let due = if is_due { waiting.pop_front() } else { None };
        self.count.store(waiting.len(), Release);
        due
    }

    pub(crate) fn are_full(&self) -> bool {
        self.count.load(Acquire) >= MOST_WAITING
    }
}

impl Terms {
    pub(in crate::room) fn are_none(&self) -> bool {
        self.was.is_none() && self.asker.is_none()
    }
}

impl State {
    /// Whether the room has this value, or nothing depends on that. A number is its text.
    pub(in crate::room) fn has_value(&self, name: &str, was: Option<&str>) -> bool {
        let has = || self.variables.get(name).map_or("", |variable| variable.value.as_json());
        was.is_none_or(|was| was == has())
    }

    /// Tells whoever asks what came of a write, behind what was ordered before.
    pub(in crate::room) fn answer(&mut self, asker: Asker, outcome: Outcome) {
        match asker {
            Asker::Member(member, number) => {
                let Some(member) = self.members.get(member) else { return };
                let position = self.broadcast.last_position();
                member.handle.acks().push(Ack { position, number, outcome });
                // Nothing else may be due to it.
                member.handle.prod();
            }
            Asker::Host(ticket) => self.settle_update(ticket, outcome),
        }
    }

    /// Gives a variable a value of the host's, if it still has the value that this builds on. With a
    /// broker, what came of it is told by the ticket, and `None` is returned.
    pub(crate) fn set_if(
        &mut self,
        ticket: u64,
        name: &Json<'_>,
        was: Option<&Text>,
        value: &Json<'_>,
        now: Instant,
    ) -> Result<Option<Outcome>, SetError> {
        if self.is_gone() {
            return Err(SetError::Gone);
        }
        if !self.grows() && !self.variables.contains(name.as_json()) {
            return Err(SetError::UnknownVariable);
        }
        let was = was.cloned().unwrap_or_else(|| Json::from_plain("").to_text());
        if self.replica.is_none() && !self.has_value(name.as_json(), Some(was.as_json())) {
            return Ok(Some(Outcome::Refused));
        }
        let terms = Terms { was: Some(was), asker: Some(Asker::Host(ticket)) };
        self.accept_by(Source::Host, terms, name, value, now)?;
        self.broadcast.depart(now);
        Ok(self.replica.is_none().then_some(Outcome::Stands))
    }
}
