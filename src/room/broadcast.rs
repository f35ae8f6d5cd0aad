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
    state::Rules,
};
use crate::{
    budget::{Charge, Share},
    wire::{self, FRAME_BYTES, Text},
};

/// How many beats a tick has. Batches leave on beats, which all rooms have in common: a machine with
/// many rooms wakes for several at once. More beats spread the work better, fewer save more.
const BEATS: u32 = 4;

/// Collects the writes of a tick. The first write in a quiet room leaves at once.
#[derive(Debug)]
pub(super) struct Broadcast {
    tick: Duration,
    /// When a beat was.
    epoch: Instant,
    /// Whether a later write of a variable puts the earlier one out of the open batch.
    coalesce: bool,
    parts: Vec<Part>,
    /// The position of the last part that was ever queued.
    last: u64,
    bytes: usize,
    /// How many encodings of each batch there will be.
    dialects: usize,
    share: Share,
    /// What the open batch costs. One a batch, as all rooms meet at the budget.
    charge: Charge,
    /// When the open batch may leave.
    next: Instant,
    /// When the first batch left of which the members were not told.
    left: Option<Instant>,
    sender: broadcast::Sender<Arc<Batch>>,
    backlog: Backlog<Batch>,
}

impl Broadcast {
    pub(super) fn new(rules: &Rules, share: &Share, now: Instant) -> Self {
        Self {
            tick: rules.tick,
            epoch: rules.epoch,
            coalesce: rules.coalesce,
            parts: Vec::new(),
            last: 0,
            bytes: 0,
            dialects: 0,
            share: share.clone(),
            charge: share.open(),
            next: now,
            left: None,
            sender: broadcast::Sender::new(rules.limits.backlog_batches),
            backlog: Backlog::new(rules.limits.backlog_bytes),
        }
    }

    pub(super) fn set_tick(&mut self, tick: Duration, now: Instant) {
        self.tick = tick;
        // What is open need not wait for the beat of a longer tick.
        self.next = self.next.min(self.beat_before(now + tick));
    }

    /// Notes how many dialects are spoken in the room.
    pub(super) fn speak(&mut self, dialects: usize) {
        self.dialects = dialects;
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<Arc<Batch>> {
        self.sender.subscribe()
    }

    /// Makes room for a part that is to be pushed, and pays for it: what it costs, or `None` where
    /// the budget does not have it, not even without what waits for slow readers.
    pub(super) fn pay(&mut self, name: &Text, value: &Text, now: Instant) -> Option<usize> {
        let (name, value) = (name.as_json(), value.as_json());
        self.make_room(wire::set_len(name, value), now);
        let cost = Part::cost(name, value, self.dialects);
        let is_paid = self.charge.step(cost) || {
            self.backlog.clear();
            self.charge.step(cost)
        };
        is_paid.then_some(cost)
    }

    /// As [`pay`](Self::pay), over the limit if need be.
    pub(super) fn pay_anyway(&mut self, name: &Text, value: &Text, now: Instant) -> usize {
        self.pay(name, value, now).unwrap_or_else(|| {
            let cost = Part::cost(name.as_json(), value.as_json(), self.dialects);
            self.charge.force(cost);
            cost
        })
    }

    /// Whether a correction of this variable for this member, ordered after `position`, is about
    /// to leave. An older one is taken back: the member may have written since.
    pub(super) fn corrects(&mut self, member: MemberId, name: &Text, position: u64) -> bool {
        let is_correction = |part: &Part| part.to == Some(member) && part.name == *name;
        let newest = self.parts.iter().rev().find(|part| is_correction(part));
        if newest.is_some_and(|part| part.position > position) {
            return true;
        }
        self.take_back(is_correction);
        false
    }

    /// Sends the open batch first, where these bytes would not fit into one frame with it.
    pub(super) fn make_room(&mut self, len: usize, now: Instant) {
        if self.bytes + len > FRAME_BYTES {
            self.send(now);
        }
    }

    /// To be called before a write is pushed: where the host has it so, the earlier values of its
    /// variable leave the open batch. Whether one by another than this writer was among them.
    pub(super) fn supersede(&mut self, name: &Text, writer: Option<MemberId>) -> bool {
        if !self.coalesce {
            return false;
        }
        let is_earlier = |part: &Part| part.to.is_none() && part.name == *name;
        let hides_other = self.parts.iter().any(|part| is_earlier(part) && part.from != writer);
        self.take_back(is_earlier);
        hides_other
    }

    /// Queues a part that is paid for; the caller holds the room's lock, so that queueing is
    /// ordering.
    pub(super) fn push(&mut self, part: Part) {
        self.bytes += part.len();
        self.last = part.position;
        self.parts.push(part);
    }

    /// The position of the last part that was ever queued.
    pub(super) fn last_position(&self) -> u64 {
        self.last
    }

    /// To be called when all that belongs together is queued: in a quiet room it leaves at once.
    pub(super) fn depart(&mut self, now: Instant) {
        if !self.tick.is_zero() && now >= self.next {
            self.send(now);
        }
    }

    fn take_back(&mut self, which: impl Fn(&Part) -> bool) {
        let (bytes, charge) = (&mut self.bytes, &mut self.charge);
        self.parts.retain(|part| {
            let stays = !which(part);
            if !stays {
                *bytes -= part.len();
                charge.shrink(part.cost);
            }
            stays
        });
    }

    /// When [`flush`](Self::flush) or [`has_left`](Self::has_left) has something to do; `None` in a
    /// quiet room.
    pub(super) fn due(&self) -> Option<Instant> {
        self.left.or((!self.parts.is_empty()).then_some(self.next))
    }

    /// Whether batches have left since this was asked last: the members are to be pushed.
    pub(super) fn has_left(&mut self) -> bool {
        self.left.take().is_some()
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
        self.charge = self.share.open();
        self.left = None;
    }

    fn beat_before(&self, time: Instant) -> Instant {
        let beat = (self.tick / BEATS).as_nanos().max(1);
        let over = time.saturating_duration_since(self.epoch).as_nanos() % beat;
        time - Duration::from_nanos(over as u64)
    }

    /// Sends the open batch, whenever its time comes.
    pub(super) fn send(&mut self, now: Instant) {
        if self.parts.is_empty() {
            return;
        }
        self.next = self.beat_before(now + self.tick);
        self.left.get_or_insert(now);
        let parts = std::mem::take(&mut self.parts);
        let bytes = std::mem::take(&mut self.bytes);
        let mut charge = std::mem::replace(&mut self.charge, self.share.open());
        charge.settle();
        let batch = Arc::new(Batch::new(parts, bytes, charge));
        self.backlog.push(&batch, (1 + self.dialects) * bytes);
        // It fails where the room has no members.
        let _ = self.sender.send(batch);
    }
}
