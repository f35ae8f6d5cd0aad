//! A room whose order is a broker's: what members write waits here until it comes back in that order.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::Instant,
};

use tokio::sync::Notify;

use super::{order::Author, state::State};
use crate::{
    budget::Charge,
    relay::{RelayRequest, RelayRevision, RelayWrites},
    store::StoredRoom,
    wire::{Json, Text},
};

#[derive(Debug)]
pub(super) struct Relayed {
    node: Arc<str>,
    /// What was applied last.
    revision: RelayRevision,
    /// What the broker was not told of yet. While it cannot be reached, or does not keep up, the latest of
    /// each variable.
    unsent: VecDeque<Waiting>,
    unsent_bytes: usize,
    /// What it was told and has not come back, by number.
    sent: VecDeque<(u64, Waiting)>,
    /// The number of the last of them.
    last: u64,
    /// A request is under way, which may be with the broker or not; and the number of the first write of
    /// it, or of the next.
    is_telling: bool,
    told_from: u64,
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
    /// `None` where the variable is to go.
    value: Option<Text>,
}

/// What came of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The moment, where that left the room empty.
    Applied(Option<Instant>),
    /// Something is missing before it: the room is to be read.
    Gap,
}

/// What a write has beside its texts while it waits.
const WAITING_COST: usize = 120;
/// What one request has of texts, about.
const REQUEST_BYTES: usize = 64 << 10;

impl Waiting {
    fn cost(&self) -> usize {
        let value = self.value.as_ref().map_or(0, |value| value.as_json().len());
        WAITING_COST + self.name.as_json().len() + value
    }
}

impl Relayed {
    fn new(node: &Arc<str>, revision: RelayRevision, written: u64, charge: Charge) -> Self {
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
        }
    }

    /// False where there is no memory for it.
    fn submit(&mut self, waiting: Waiting) -> bool {
        if (self.is_away || self.unsent_bytes > REQUEST_BYTES)
            && let Some(at) = self.unsent.iter().position(|old| old.name == waiting.name)
            && let Some(old) = self.unsent.remove(at)
        {
            self.unsent_bytes -= old.cost();
            self.charge.shrink(old.cost());
        }
        let is_paid = self.charge.grow(waiting.cost());
        if is_paid {
            self.unsent_bytes += waiting.cost();
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
            self.is_telling = true;
            return Some(RelayRequest::Leave { sessions: std::mem::take(&mut self.left) });
        }
        let (first, mut bytes, mut writes) = (self.last + 1, 0, Vec::new());
        while bytes < REQUEST_BYTES
            && let Some(next) = self.unsent.pop_front()
        {
            bytes += next.cost();
            self.unsent_bytes -= next.cost();
            let value = next.value.as_ref().map(|value| value.as_json().to_owned());
            writes.push((next.name.as_json().to_owned(), value));
            self.last += 1;
            self.sent.push_back((self.last, next));
        }
        self.is_telling = !writes.is_empty();
        self.is_telling.then_some(RelayRequest::Write { first, writes })
    }

    /// The names that wait.
    fn names(&self) -> impl Iterator<Item = &Text> {
        let sent = self.sent.iter().map(|(_, waiting)| waiting);
        sent.chain(&self.unsent).map(|waiting| &waiting.name)
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
        Some(relayed.submit(Waiting { author, name, value: Some(value.to_text()) }))
    }

    /// Has the broker drop all other variables. False where there is no broker.
    pub(super) fn hand_over_names(&mut self, stays: impl Fn(&str) -> bool) -> bool {
        let Some(relayed) = &mut self.relayed else { return false };
        for (name, _) in self.variables.values() {
            if !stays(name.as_json()) {
                _ = relayed.submit(Waiting { author: None, name, value: None });
            }
        }
        true
    }

    /// Notes a session that is over.
    pub(crate) fn hand_over_end(&mut self, session: Option<u64>) {
        if let Some((relayed, session)) = self.relayed.as_mut().zip(session) {
            relayed.left.push(session);
            relayed.bell.notify_one();
        }
    }

    /// Applies writes in the broker's order.
    pub(crate) fn hear(&mut self, message: &RelayWrites, now: Instant) -> Heard {
        let Some(relayed) = &mut self.relayed else { return Heard::Applied(None) };
        let (new, there) = (&message.revision, &relayed.revision);
        if new.epoch != there.epoch || new.number > there.number + 1 {
            return Heard::Gap;
        }
        if new.number <= there.number {
            return Heard::Applied(None);
        }
        let is_ours = *message.node == *relayed.node;
        if is_ours && relayed.sent.front().is_some_and(|(oldest, _)| *oldest < message.first) {
            // The broker had taken it in, and has lost it since.
            return Heard::Gap;
        }
        relayed.revision.number = new.number;
        let mut gone = HashSet::new();
        for (number, (name, value)) in (message.first..).zip(&message.writes) {
            let relayed = self.relayed.as_mut().filter(|_| is_ours);
            let ours = relayed.and_then(|relayed| relayed.came_back(number));
            match value {
                Some(value) => {
                    gone.remove(&**name);
                    self.apply_anyway(ours.and_then(|(_, ours)| ours.author), name, value, now);
                }
                None => _ = gone.insert(&**name),
            }
        }
        let emptied = match gone.is_empty() {
            true => None,
            false => self.drop_names(|name| !gone.contains(name), now),
        };
        self.outgoing.depart(now);
        Heard::Applied(emptied)
    }

    /// Becomes what the broker's room is: members are sent what differs, and every variable of which
    /// they wrote something that came into the order unseen. The moment, where that leaves the room
    /// empty.
    pub(crate) fn reread(
        &mut self,
        (revision, room): (&RelayRevision, &StoredRoom),
        written: u64,
        now: Instant,
    ) -> Option<Instant> {
        let relayed = self.relayed.as_mut()?;
        // All that was heard before it was read is in it, unless the broker lost that.
        let is_lost =
            revision.epoch != relayed.revision.epoch || revision.number < relayed.revision.number;
        relayed.revision = revision.clone();
        let mut unseen = HashSet::new();
        while let Some((_, waiting)) = relayed.came_back(written) {
            unseen.insert(waiting.name);
        }
        if is_lost {
            // It has not heard of the others, or has forgotten them; but what is being told may come.
            let (from, sent) = (relayed.told_from, std::mem::take(&mut relayed.sent));
            for (number, waiting) in sent.into_iter().rev() {
                if number >= from && relayed.is_telling {
                    relayed.sent.push_front((number, waiting));
                } else {
                    relayed.unsent_bytes += waiting.cost();
                    relayed.unsent.push_front(waiting);
                }
            }
            relayed.bell.notify_one();
        }
        for (name, value) in &room.variables {
            let here = self.variables.get(name);
            let is_same = here.is_some_and(|here| here.value.as_json() == value);
            if !is_same || unseen.contains(&**name) {
                self.apply_anyway(None, name, value, now);
            }
        }
        let there: HashSet<_> = room.variables.iter().map(|(name, _)| &**name).collect();
        let has_gone = self.variables.values().iter().any(|(n, _)| !there.contains(n.as_json()));
        let emptied = has_gone.then(|| self.drop_names(|name| there.contains(name), now)).flatten();
        self.outgoing.depart(now);
        emptied
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

    /// The request was answered.
    pub(crate) fn told(&mut self) {
        if let Some(relayed) = &mut self.relayed {
            (relayed.is_telling, relayed.told_from) = (false, relayed.last + 1);
        }
    }

    /// How many variables there will be beside this one, with those that wait.
    pub(super) fn count_beside(&self, name: &str) -> usize {
        let names = self.relayed.iter().flat_map(Relayed::names);
        let is_new =
            |other: &&Text| other.as_json() != name && !self.variables.contains(other.as_json());
        self.variables.len() + names.filter(is_new).collect::<HashSet<_>>().len()
    }

    /// Sessions that are over, for a request of one's own.
    pub(crate) fn take_left(&mut self) -> Vec<u64> {
        self.relayed.as_mut().map_or_else(Vec::new, |relayed| std::mem::take(&mut relayed.left))
    }

    /// Whether the broker may not have all that happened here.
    pub(crate) fn is_untold(&self) -> bool {
        let is_untold = |relayed: &Relayed| {
            relayed.is_telling
                || !relayed.unsent.is_empty()
                || !relayed.sent.is_empty()
                || !relayed.left.is_empty()
        };
        self.relayed.as_ref().is_some_and(is_untold)
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
}
