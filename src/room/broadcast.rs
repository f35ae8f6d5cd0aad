//! The open batch, and the channel through which batches reach the members.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::broadcast;

use super::{
    backlog::Backlog,
    batch::{Batch, Content, ENCODINGS, Link, Part},
    members::MemberId,
    state::Rules,
};
use crate::{
    budget::{Charge, Share},
    deflate::AVAILABLE,
    wire::{self, FRAME_BYTES, Text},
};

/// The number of beats in a tick. Batches leave on beats, which all rooms have in common, so a machine with
/// many rooms wakes for several at once. More beats spread the work better; fewer save more.
const BEATS: u32 = 4;

/// The longest batch, in bytes, to which the next may refer. Longer ones gain little, and a quiet room keeps its
/// last batch.
const REFERRED: usize = 1_024;

/// The open batch, which collects the writes of a tick. The first write in a quiet room leaves at once.
#[derive(Debug)]
pub(super) struct Broadcast {
    tick: Duration,
    /// The time of one beat, from which the others are counted.
    epoch: Instant,
    /// Whether a later write of a variable removes the earlier one from the open batch.
    coalesce: bool,
    parts: Vec<Part>,
    /// The position of the last part that was ever queued.
    last: u64,
    bytes: usize,
    /// The number of encodings that each batch will have.
    dialects: usize,
    share: Share,
    /// The cost of the open batch. Each batch has only one charge, because all rooms contend for the budget.
    charge: Charge,
    /// The time at which the open batch may leave.
    next: Instant,
    /// The time at which the first batch left for which the members have not been pushed yet.
    left: Option<Instant>,
    sender: broadcast::Sender<Arc<Batch>>,
    /// The number of batches that were sent.
    sent: u64,
    /// The last batch, if the next may refer to it. It keeps its charge.
    previous: Option<Arc<Content>>,
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
            sent: 0,
            previous: None,
            backlog: Backlog::new(rules.limits.backlog_bytes),
        }
    }

    pub(super) fn set_tick(&mut self, tick: Duration, now: Instant) {
        self.tick = tick;
        // The open batch need not wait for the beat of a longer tick.
        self.next = self.next.min(self.beat_before(now + tick));
    }

    /// Notes how many dialects are spoken in the room.
    pub(super) fn speak(&mut self, dialects: usize) {
        self.dialects = dialects;
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<Arc<Batch>> {
        self.sender.subscribe()
    }

    /// Makes room for a part that is to be pushed, and pays for it. Returns its cost, or `None` if the budget
    /// does not have it, even without the batches that wait for slow readers.
    pub(super) fn pay(&mut self, name: &Text, value: &Text, now: Instant) -> Option<usize> {
        let (name, value) = (name.as_json(), value.as_json());
        self.make_room(wire::set_len(name, value), now);
        let cost = Part::cost(name, value, self.dialects);
        let is_paid = self.charge.step(cost) || {
            self.backlog.clear();
            self.previous = None;
            self.charge.step(cost)
        };
        is_paid.then_some(cost)
    }

    /// Like [`pay`](Self::pay), but goes over the limit if necessary.
    pub(super) fn pay_anyway(&mut self, name: &Text, value: &Text, now: Instant) -> usize {
        self.pay(name, value, now).unwrap_or_else(|| {
            let cost = Part::cost(name.as_json(), value.as_json(), self.dialects);
            self.charge.force(cost);
            cost
        })
    }

    /// Returns whether a correction of this variable for this member, ordered after `position`, is about to
    /// leave. Takes back an older one, because the member may have written since.
    pub(super) fn corrects(&mut self, member: MemberId, name: &Text, position: u64) -> bool {
        let is_correction = |part: &Part| part.to == Some(member) && part.name == *name;
        let newest = self.parts.iter().rev().find(|part| is_correction(part));
        if newest.is_some_and(|part| part.position > position) {
            return true;
        }
        self.take_back(is_correction);
        false
    }

    /// Sends the open batch first if these bytes would not fit into one frame with it.
    pub(super) fn make_room(&mut self, len: usize, now: Instant) {
        if self.bytes + len > FRAME_BYTES {
            self.send(now);
        }
    }

    /// Removes the earlier values of a variable from the open batch, if the host wants writes coalesced. Must
    /// be called before a write is pushed. Returns whether a value by anyone other than this writer was among
    /// them.
    pub(super) fn supersede(&mut self, name: &Text, writer: Option<MemberId>) -> bool {
        if !self.coalesce {
            return false;
        }
        let is_earlier = |part: &Part| part.to.is_none() && part.name == *name;
        let hides_other = self.parts.iter().any(|part| is_earlier(part) && part.from != writer);
        self.take_back(is_earlier);
        hides_other
    }

    /// Queues a part that is paid for. The caller holds the room's lock, so that queueing is ordering.
    pub(super) fn push(&mut self, part: Part) {
        self.bytes += part.len();
        self.last = part.position;
        self.parts.push(part);
    }

    /// Returns the position of the last part that was ever queued.
    pub(super) fn last_position(&self) -> u64 {
        self.last
    }

    /// Sends the open batch at once in a quiet room. Must be called when everything that belongs together is
    /// queued.
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

    /// Returns the time at which [`flush`](Self::flush) or [`has_left`](Self::has_left) has something to do,
    /// or `None` in a quiet room.
    pub(super) fn due(&self) -> Option<Instant> {
        self.left.or((!self.parts.is_empty()).then_some(self.next))
    }

    /// Returns whether batches have left since the last call, so that the members must be pushed.
    pub(super) fn has_left(&mut self) -> bool {
        self.left.take().is_some()
    }

    /// Sends the open batch if its time has come.
    pub(super) fn flush(&mut self, now: Instant) {
        if now >= self.next {
            self.send(now);
        }
    }

    /// Discards the open batch.
    pub(super) fn clear(&mut self) {
        self.parts = Vec::new();
        self.bytes = 0;
        self.charge = self.share.open();
        self.left = None;
        self.previous = None;
    }

    /// Forgets the last batch, because nobody's window ends with it.
    pub(super) fn rest(&mut self) {
        self.previous = None;
    }

    fn beat_before(&self, time: Instant) -> Instant {
        let beat = (self.tick / BEATS).as_nanos().max(1);
        let over = time.saturating_duration_since(self.epoch).as_nanos() % beat;
        time - Duration::from_nanos(over as u64)
    }

    /// Sends the open batch, even if its time has not come.
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
        self.sent += 1;
        let previous = self.previous.take().map(|content| content.messages()).unwrap_or_default();
        let link = Link { number: self.sent, previous };
        let batch = Arc::new(Batch::new(parts, bytes, link, charge));
        if AVAILABLE && bytes <= REFERRED {
            self.previous = batch.content();
        }
        self.backlog.push(&batch, (1 + ENCODINGS * self.dialects) * bytes);
        // Sending fails if the room has no members.
        let _ = self.sender.send(batch);
    }
}
