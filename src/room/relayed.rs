//! A room whose order is a broker's: what members write waits here until it comes back in that order.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::Instant,
};

use tokio::sync::Notify;

use super::{
    members::{Member, MemberId},
    order::Author,
    state::State,
};
use crate::{
    budget::Charge,
    relay::{RelayMessage, RelayRequest, RelayRevision, RelaySession},
    store::StoredRoom,
    wire::{Json, Text},
};

#[derive(Debug)]
pub(super) struct Relayed {
    node: Arc<str>,
    /// What was applied last.
    revision: RelayRevision,
    /// What the broker was not told of yet. While it cannot be reached, the latest of each variable.
    unsent: VecDeque<Waiting>,
    /// What it was told and has not come back, by number.
    sent: VecDeque<(u64, Waiting)>,
    /// The number of the last of them.
    last: u64,
    is_away: bool,
    /// Sessions that are over, which the broker was not told of.
    left: Vec<u64>,
    charge: Charge,
    /// Rings when there is something to tell, and when the room is gone.
    bell: Arc<Notify>,
}

impl Drop for Relayed {
    fn drop(&mut self) {
        self.bell.notify_one();
    }
}

#[derive(Debug)]
struct Waiting {
    author: Option<Author>,
    name: Text,
    value: Text,
}

/// What came of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    Applied,
    /// Something is missing before it: the room is to be read.
    Gap,
}

/// What a write has beside its texts while it waits.
const WAITING_COST: usize = 120;
/// What one request has of texts, about.
const REQUEST_BYTES: usize = 64 << 10;

impl Waiting {
    fn cost(&self) -> usize {
        WAITING_COST + self.name.as_json().len() + self.value.as_json().len()
    }
}

impl Relayed {
    fn new(node: &Arc<str>, revision: RelayRevision, written: u64, charge: Charge) -> Self {
        Self {
            node: node.clone(),
            revision,
            unsent: VecDeque::new(),
            sent: VecDeque::new(),
            last: written,
            is_away: false,
            left: Vec::new(),
            charge,
            bell: Arc::default(),
        }
    }

    /// False where there is no memory for it.
    fn submit(&mut self, waiting: Waiting) -> bool {
        if self.is_away
            && let Some(at) = self.unsent.iter().position(|old| old.name == waiting.name)
            && let Some(old) = self.unsent.remove(at)
        {
            self.charge.shrink(old.cost());
        }
        let is_paid = self.charge.grow(waiting.cost());
        if is_paid {
            self.unsent.push_back(waiting);
            self.bell.notify_one();
        }
        is_paid
    }

    /// Takes out those up to this number, the last of them last.
    fn came_back(&mut self, number: u64) -> Option<(u64, Waiting)> {
        let (first, _) = self.sent.front()?;
        let back = if *first <= number { self.sent.pop_front()? } else { return None };
        self.charge.shrink(back.1.cost());
        Some(back)
    }

    /// The next request, if there is anything to tell.
    fn take(&mut self) -> Option<RelayRequest> {
        if !self.left.is_empty() {
            return Some(RelayRequest::Leave { sessions: std::mem::take(&mut self.left) });
        }
        let (first, mut bytes, mut writes) = (self.last + 1, 0, Vec::new());
        while bytes < REQUEST_BYTES
            && let Some(next) = self.unsent.pop_front()
        {
            bytes += next.cost();
            writes.push((next.name.as_json().to_owned(), next.value.as_json().to_owned()));
            self.last += 1;
            self.sent.push_back((self.last, next));
        }
        (!writes.is_empty()).then_some(RelayRequest::Write { first, writes })
    }
}

impl State {
    /// Makes a new room one of a broker's, as it is there at this revision.
    pub(crate) fn relay(&mut self, node: &Arc<str>, revision: RelayRevision, written: u64) {
        let charge = self.budget.open();
        self.relayed = Some(Relayed::new(node, revision, written, charge));
    }

    pub(crate) fn id(&self) -> &Arc<str> {
        &self.id
    }

    pub(crate) fn max_members(&self) -> usize {
        self.max_members
    }

    pub(crate) fn bell(&self) -> Option<Arc<Notify>> {
        self.relayed.as_ref().map(|relayed| relayed.bell.clone())
    }

    /// Hands a write to the broker, where there is one. False where there is no memory for it.
    pub(super) fn hand_over(
        &mut self,
        author: Option<Author>,
        name: &Json<'_>,
        value: &Json<'_>,
    ) -> Option<bool> {
        let relayed = self.relayed.as_mut()?;
        let name = self.variables.key(name.as_json()).cloned().unwrap_or_else(|| name.to_text());
        Some(relayed.submit(Waiting { author, name, value: value.to_text() }))
    }

    /// Notes a session that is over.
    pub(crate) fn hand_over_end(&mut self, session: Option<u64>) {
        if let Some((relayed, session)) = self.relayed.as_mut().zip(session) {
            relayed.left.push(session);
            relayed.bell.notify_one();
        }
    }

    /// Applies writes in the broker's order.
    pub(crate) fn hear(&mut self, message: &RelayMessage, now: Instant) -> Heard {
        let Some(relayed) = &mut self.relayed else { return Heard::Applied };
        let (new, there) = (&message.revision, &relayed.revision);
        if new.epoch != there.epoch || new.number > there.number + 1 {
            return Heard::Gap;
        }
        if new.number <= there.number {
            return Heard::Applied;
        }
        relayed.revision.number = new.number;
        let is_ours = *message.node == *relayed.node;
        for (number, (name, value)) in (message.first..).zip(&message.writes) {
            let relayed = self.relayed.as_mut().filter(|_| is_ours);
            let ours = relayed.and_then(|relayed| relayed.came_back(number));
            self.apply_anyway(ours.and_then(|(_, ours)| ours.author), name, value, now);
        }
        self.outgoing.depart(now);
        Heard::Applied
    }

    /// Becomes what the broker's room is: members are sent what differs, and every variable of which
    /// they wrote something that came into the order unseen.
    pub(crate) fn reread(
        &mut self,
        (revision, room): (&RelayRevision, &StoredRoom),
        written: u64,
        now: Instant,
    ) {
        let Some(relayed) = &mut self.relayed else { return };
        // All that was heard before it was read is in it, unless the broker lost that.
        let is_lost =
            revision.epoch != relayed.revision.epoch || revision.number < relayed.revision.number;
        relayed.revision = revision.clone();
        let mut unseen = HashSet::new();
        while let Some((_, waiting)) = relayed.came_back(written) {
            unseen.insert(waiting.name);
        }
        if is_lost {
            // It has not heard of the others, or has forgotten them.
            let sent = std::mem::take(&mut relayed.sent);
            sent.into_iter().rev().for_each(|(_, waiting)| relayed.unsent.push_front(waiting));
        }
        for (name, value) in &room.variables {
            let here = self.variables.get(name);
            let is_same = here.is_some_and(|here| here.value.as_json() == value);
            if !is_same || unseen.contains(&**name) {
                self.apply_anyway(None, name, value, now);
            }
        }
        self.outgoing.depart(now);
    }

    /// As [`accept`](Self::accept), of what is the room's value already.
    fn apply_anyway(&mut self, author: Option<Author>, name: &str, value: &str, now: Instant) {
        if let (Some(name), Some(value)) = (Json::stored(name), Json::stored(value)) {
            self.take_in(author, &name, &value, now);
        }
    }

    /// What the broker is to be told next.
    pub(crate) fn next_request(&mut self) -> Option<RelayRequest> {
        self.relayed.as_mut()?.take()
    }

    /// Sessions that are over, for a request of one's own.
    pub(crate) fn take_left(&mut self) -> Vec<u64> {
        self.relayed.as_mut().map_or_else(Vec::new, |relayed| std::mem::take(&mut relayed.left))
    }

    /// Whether the broker may not have all that happened here.
    pub(crate) fn is_untold(&self) -> bool {
        let is_untold = |relayed: &Relayed| {
            !relayed.unsent.is_empty() || !relayed.sent.is_empty() || !relayed.left.is_empty()
        };
        self.relayed.as_ref().is_some_and(is_untold)
    }

    /// The sessions of the members, by number: their names, where these are theirs alone.
    pub(crate) fn sessions(&self) -> Vec<(MemberId, RelaySession)> {
        let session = |(id, member): (MemberId, &Member)| {
            let most = self.max_members as u64;
            let name = member.is_only.then(|| member.key.as_str().to_owned());
            Some((id, RelaySession { number: member.session?, name, most }))
        };
        self.members.iter().filter_map(session).collect()
    }

    /// Whether the broker cannot be reached.
    pub(crate) fn set_away(&mut self, is_away: bool) {
        if let Some(relayed) = &mut self.relayed {
            relayed.is_away = is_away;
        }
    }

    pub(crate) fn revision(&self) -> Option<&RelayRevision> {
        self.relayed.as_ref().map(|relayed| &relayed.revision)
    }

    /// The room as a broker is to have it that lost it.
    pub(crate) fn restored(&self) -> StoredRoom {
        let owned = |text: &Text| text.as_json().to_owned();
        let values = self.variables.values();
        StoredRoom {
            schema: self.stored_schema(),
            variables: values.iter().map(|(name, value)| (owned(name), owned(value))).collect(),
        }
    }
}
