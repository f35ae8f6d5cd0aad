//! The open batch, and the channel through which batches reach the members.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::broadcast;

use super::{
    backlog::Backlog,
    batch::{Batch, Part},
    members::MemberId,
};
use crate::{
    budget::{Budget, Charge},
    wire::{self, FRAME_BYTES, Text},
};

/// Collects the writes of a tick. The first write in a quiet room leaves at once.
#[derive(Debug)]
pub(super) struct Outgoing {
    tick: Duration,
    /// Whether a later write of a variable takes the earlier one's place in the open batch.
    coalesce: bool,
    parts: Vec<Part>,
    bytes: usize,
    charge: Charge,
    budget: Budget,
    /// When the open batch may leave.
    next: Instant,
    sender: broadcast::Sender<Arc<Batch>>,
    backlog: Backlog,
}

impl Outgoing {
    pub(super) fn new(
        (tick, coalesce): (Duration, bool),
        (batches, bytes): (usize, usize),
        budget: &Budget,
        now: Instant,
    ) -> Self {
        Self {
            tick,
            coalesce,
            parts: Vec::new(),
            bytes: 0,
            charge: budget.open(),
            budget: budget.clone(),
            next: now,
            sender: broadcast::Sender::new(batches.max(1)),
            backlog: Backlog::new(bytes),
        }
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<Arc<Batch>> {
        self.sender.subscribe()
    }

    /// Pays for a part that is to be pushed; false where the budget does not have it, not even
    /// without what waits for slow readers.
    #[must_use]
    pub(super) fn reserve(&mut self, cost: usize) -> bool {
        self.charge.grow(cost) || {
            self.backlog.clear();
            self.charge.grow(cost)
        }
    }

    /// Takes back what was paid for a part that is not pushed after all.
    pub(super) fn give_back(&mut self, cost: usize) {
        self.charge.shrink(cost);
    }

    /// Pays for a part that must go out, over the limit if need be.
    pub(super) fn reserve_anyway(&mut self, cost: usize) {
        if !self.reserve(cost) {
            self.charge.force(cost);
        }
    }

    /// Whether a correction of this variable for this member is about to leave.
    pub(super) fn corrects(&self, member: MemberId, name: &Text) -> bool {
        self.parts.iter().any(|part| part.to == Some(member) && part.name == *name)
    }

    /// Queues a part; the caller holds the room's lock, so that queueing is ordering.
    pub(super) fn push(&mut self, part: Part, now: Instant) {
        let len = wire::set_len(&part.name, &part.value);
        if self.bytes + len > FRAME_BYTES {
            self.send(now);
        }
        if self.coalesce && part.to.is_none() {
            self.parts.retain(|old| old.to.is_some() || old.name != part.name);
        }
        self.bytes += len;
        self.parts.push(part);
        if !self.tick.is_zero() && now >= self.next {
            self.send(now);
        }
    }

    /// When [`flush`](Self::flush) has something to do; `None` in a quiet room.
    pub(super) fn due(&self) -> Option<Instant> {
        (!self.parts.is_empty()).then_some(self.next)
    }

    /// Sends the open batch if its time has come.
    pub(super) fn flush(&mut self, now: Instant) {
        if now >= self.next {
            self.send(now);
        }
    }

    /// Forgets the open batch.
    pub(super) fn clear(&mut self) {
        self.parts = Vec::new();
        self.bytes = 0;
        self.charge = self.budget.open();
    }

    fn send(&mut self, now: Instant) {
        if self.parts.is_empty() {
            return;
        }
        self.next = now + self.tick;
        let parts = std::mem::take(&mut self.parts);
        let charge = std::mem::replace(&mut self.charge, self.budget.open());
        let bytes = std::mem::take(&mut self.bytes);
        let batch = Arc::new(Batch::new(parts, bytes, charge));
        self.backlog.push(&batch, 2 * bytes);
        // It fails where the room has no members.
        let _ = self.sender.send(batch);
    }
}
