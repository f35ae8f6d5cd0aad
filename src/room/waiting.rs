//! What waits in a room for its place in a broker's order.

use std::{collections::VecDeque, sync::Arc};

use tokio::sync::Notify;

use super::order::Author;
use crate::{
    budget::Charge,
    relay::{RelayRequest, RelayRevision, RelayWrite},
    wire::Text,
};

#[derive(Debug)]
pub(super) struct Relayed {
    pub(super) node: Arc<str>,
    /// What was applied last.
    pub(super) revision: RelayRevision,
    /// What the broker was not told of yet. While it cannot be reached, or does not keep up, the latest of
    /// each variable.
    pub(super) unsent: VecDeque<Waiting>,
    pub(super) unsent_bytes: usize,
    /// What it was told and has not come back, by number.
    pub(super) sent: VecDeque<(u64, Waiting)>,
    /// The number of the last of them.
    pub(super) last: u64,
    /// A request is under way, which may be with the broker or not; and the number of the first write of
    /// it, or of the next.
    pub(super) is_telling: bool,
    pub(super) told_from: u64,
    pub(super) is_away: bool,
    /// Sessions that are over, which the broker was not told of.
    pub(super) left: Vec<u64>,
    charge: Charge,
    /// Rings when there is something to tell, and when the room is gone.
    pub(super) bell: Arc<Notify>,
    /// The task that rings are for has ended with its runtime.
    pub(super) is_alone: bool,
}

impl Drop for Relayed {
    fn drop(&mut self) {
        self.bell.notify_one();
    }
}

#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) author: Option<Author>,
    pub(super) name: Text,
    /// `None` where the variable is to go.
    pub(super) value: Option<Text>,
    /// The variable need not be there.
    pub(super) creates: bool,
    /// What comes next is to be seen together with it.
    pub(super) is_more: bool,
}

/// What a write has beside its texts while it waits.
const WAITING_COST: usize = 120;
/// What one request has of texts, about.
const REQUEST_BYTES: usize = 64 << 10;

impl Waiting {
    pub(super) fn cost(&self) -> usize {
        let value = self.value.as_ref().map_or(0, |value| value.as_json().len());
        WAITING_COST + self.name.as_json().len() + value
    }
}

impl Relayed {
    pub(super) fn new(
        node: &Arc<str>,
        revision: RelayRevision,
        written: u64,
        charge: Charge,
    ) -> Self {
        Self {
            node: node.clone(),
            revision,
            unsent: VecDeque::new(),
            unsent_bytes: 0,
            sent: VecDeque::new(),
            last: written,
            is_telling: false,
            told_from: written + 1,
            is_away: false,
            left: Vec::new(),
            charge,
            bell: Arc::default(),
            is_alone: false,
        }
    }

    /// False where there is no memory for it.
    pub(super) fn submit(&mut self, mut waiting: Waiting) -> bool {
        let replaced = self.replaced_by(&waiting);
        let freed = replaced.map_or(0, |at| self.unsent[at].cost());
        if !self.charge.grow(waiting.cost().saturating_sub(freed)) {
            return false;
        }
        self.charge.shrink(freed.saturating_sub(waiting.cost()));
        if let Some(old) = replaced.and_then(|at| self.unsent.remove(at)) {
            waiting.creates |= old.creates;
        }
        self.unsent_bytes = self.unsent_bytes + waiting.cost() - freed;
        self.unsent.push_back(waiting);
        self.bell.notify_one();
        true
    }

    /// What need not be told any more where the broker does not keep up: an older value.
    fn replaced_by(&self, waiting: &Waiting) -> Option<usize> {
        if !self.is_away && self.unsent_bytes <= REQUEST_BYTES {
            return None;
        }
        let at = self.unsent.iter().rposition(|old| old.name == waiting.name)?;
        (self.unsent[at].value.is_some() && waiting.value.is_some()).then_some(at)
    }

    /// Takes out those up to this number, the last of them last.
    pub(super) fn came_back(&mut self, number: u64) -> Option<(u64, Waiting)> {
        let (first, _) = self.sent.front()?;
        let back = if *first <= number { self.sent.pop_front()? } else { return None };
        self.charge.shrink(back.1.cost());
        Some(back)
    }

    /// The next request, if there is anything to tell, of a room that has so many variables at most.
    pub(super) fn take(&mut self, most: u64) -> Option<RelayRequest> {
        if !self.left.is_empty() {
            self.is_telling = true;
            return Some(RelayRequest::Leave { sessions: std::mem::take(&mut self.left) });
        }
        let (first, mut bytes, mut writes) = (self.last + 1, 0, Vec::new());
        while let (count, cost) = self.next_group()
            && count > 0
            && (bytes == 0 || bytes + cost <= REQUEST_BYTES)
        {
            bytes += cost;
            self.unsent_bytes -= cost;
            for next in self.unsent.drain(..count) {
                let value = next.value.as_ref().map(|value| value.as_stored().to_owned());
                let name = next.name.as_json().to_owned();
                writes.push(RelayWrite { name, value, creates: next.creates });
                self.last += 1;
                self.sent.push_back((self.last, next));
            }
        }
        self.is_telling = !writes.is_empty();
        self.is_telling.then_some(RelayRequest::Write { first, most, writes })
    }

    /// How many writes are to be told together next, and what they cost.
    fn next_group(&self) -> (usize, usize) {
        let more = self.unsent.iter().take_while(|waiting| waiting.is_more).count();
        let count = self.unsent.len().min(more + 1);
        (count, self.unsent.iter().take(count).map(Waiting::cost).sum())
    }

    /// What waits, in order.
    pub(super) fn waiting(&self) -> impl DoubleEndedIterator<Item = &Waiting> {
        self.sent.iter().map(|(_, waiting)| waiting).chain(&self.unsent)
    }
}
