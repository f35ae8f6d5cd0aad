//! Writes that count only if the room still has the value that they build on, and the answers to their
//! writers.

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

/// The condition of a write, and the asker that receives its outcome.
#[derive(Debug, Clone, Default)]
pub(in crate::room) struct Terms {
    /// The value that the room must have at this place in the order. A variable that does not exist has the
    /// empty value.
    pub(in crate::room) was: Option<Text>,
    pub(in crate::room) asker: Option<Asker>,
}

/// The receiver of a write's outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::room) enum Asker {
    /// A member, with a number of its own for the write.
    Member(MemberId, u64),
    /// The host, with a ticket of its node.
    Host(u64),
}

/// The outcome of a write whose writer asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The write is in the room's order.
    Stands,
    /// The write is not in the room's order. A member has been sent the room's value.
    Refused,
    /// The outcome is not known, because no answer of the broker decides it.
    Unknown,
}

/// An answer to a member, which is sent after everything that was ordered before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ack {
    /// The position of the last write that is sent before it.
    position: u64,
    pub(crate) number: u64,
    pub(crate) outcome: Outcome,
}

/// The answers that wait until their member has been sent everything before them.
#[derive(Debug, Default)]
pub(crate) struct Acks {
    waiting: Mutex<VecDeque<Ack>>,
    /// The number of waiting answers. It saves the lock, because each batch checks every member, and most
    /// members never ask for an answer.
    count: AtomicUsize,
}

/// The number of waiting answers at which a member's session stops reading.
const MOST_WAITING: usize = 256;

impl Acks {
    fn push(&self, ack: Ack) {
        let mut waiting = self.waiting.lock();
        waiting.push_back(ack);
        self.count.store(waiting.len(), Release);
    }

    /// Returns the next answer to a member that has been sent everything up to this position.
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
    /// Returns whether the room has this value, or whether the write does not depend on a value. A number
    /// equals its text.
    pub(in crate::room) fn has_value(&self, name: &str, was: Option<&str>) -> bool {
        let has = || self.variables.get(name).map_or("", |variable| variable.value.as_json());
        was.is_none_or(|was| was == has())
    }

    /// Reports the outcome of a write to its asker. A member receives it after everything that was ordered
    /// before.
    pub(in crate::room) fn answer(&mut self, asker: Asker, outcome: Outcome) {
        match asker {
            Asker::Member(member, number) => {
                let Some(member) = self.members.get(member) else { return };
                let position = self.broadcast.last_position();
                member.handle.acks().push(Ack { position, number, outcome });
                // The member is woken, because nothing else may be due to it.
                member.handle.prod();
            }
            Asker::Host(ticket) => self.settle_update(ticket, outcome),
        }
    }

    /// Sets a variable for the host, if it still has the value that the new one builds on. With a broker,
    /// returns `None`, and the outcome is reported by the ticket.
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
