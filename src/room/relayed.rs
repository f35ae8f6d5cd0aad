//! A room whose order is a broker's: what members write waits until it comes back in that order.

use std::{collections::HashSet, sync::Arc, time::Instant};

use tokio::sync::Notify;

use super::{
    order::Author,
    state::State,
    waiting::{Relayed, Waiting},
};
use crate::{
    relay::{RelayRequest, RelayRevision, RelayWrite, RelayWrites},
    store::StoredRoom,
    wire::{self, Json, Text},
};

/// What came of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The moment, where that left the room empty.
    Applied(Option<Instant>),
    /// Something is missing before it: the room is to be read.
    Gap,
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

    /// What the room's node is called.
    pub(crate) fn node(&self) -> Option<Arc<str>> {
        self.relayed.as_ref().map(|relayed| relayed.node.clone())
    }

    /// The task that tells and hears has ended with its runtime.
    pub(crate) fn leave_alone(&mut self) {
        if let Some(relayed) = &mut self.relayed {
            relayed.is_alone = true;
        }
    }

    /// Whether another such task is to begin; true once.
    pub(crate) fn take_alone(&mut self) -> bool {
        self.relayed.as_mut().is_some_and(|relayed| std::mem::take(&mut relayed.is_alone))
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
        let known = self.variables.key(name.as_json()).cloned();
        let creates = self.grows || known.is_none();
        let (name, value) = (known.unwrap_or_else(|| name.to_text()), Some(value.to_text()));
        Some(relayed.submit(Waiting { author, name, value, creates, is_more: false }))
    }

    /// Has the broker give variables these values of the host's, all at once. `None` where there is no
    /// broker; false where there is no memory for all.
    pub(super) fn hand_over_all(&mut self, values: &[(Json<'_>, Json<'_>)]) -> Option<bool> {
        self.relayed.as_ref()?;
        for (name, value) in values {
            if !self.hand_over(None, name, value)? {
                return Some(false);
            }
            if let Some(last) = self.relayed.as_mut()?.unsent.back_mut() {
                last.is_more = true;
            }
        }
        if let Some(last) = self.relayed.as_mut()?.unsent.back_mut() {
            last.is_more = false;
        }
        Some(true)
    }

    /// Has the broker drop all other variables. False where there is no broker.
    pub(super) fn hand_over_names(&mut self, stays: impl Fn(&str) -> bool) -> bool {
        let Some(relayed) = &mut self.relayed else { return false };
        let here = self.variables.values().into_iter().map(|(name, _)| name);
        let coming: Vec<_> = relayed.waiting().map(|waiting| waiting.name.clone()).collect();
        for name in here.chain(coming).collect::<HashSet<_>>() {
            if !stays(name.as_json()) {
                let (author, value, creates, is_more) = (None, None, false, false);
                _ = relayed.submit(Waiting { author, name, value, creates, is_more });
            }
        }
        true
    }

    /// The write that was handed over last creates its variable, also where that is here still: its
    /// removal waits.
    pub(super) fn have_created(&mut self) {
        if let Some(last) = self.relayed.as_mut().and_then(|relayed| relayed.unsent.back_mut()) {
            last.creates = true;
        }
    }

    /// Whether a variable will be there when all that waits is in the order.
    pub(super) fn will_have(&self, name: &str) -> bool {
        let mut waiting = self.relayed.iter().flat_map(|relayed| relayed.waiting().rev());
        let last = waiting.find(|waiting| {
            waiting.name.as_json() == name && (waiting.value.is_none() || waiting.creates)
        });
        last.map_or_else(|| self.variables.contains(name), |waiting| waiting.value.is_some())
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
        let len = |write: &RelayWrite| {
            wire::set_len(&write.name, write.value.as_deref().unwrap_or_default())
        };
        self.outgoing.make_room(message.writes.iter().map(len).sum(), now);
        let mut gone = HashSet::new();
        for (number, RelayWrite { name, value, creates }) in (message.first..).zip(&message.writes)
        {
            let relayed = self.relayed.as_mut().filter(|_| is_ours);
            let ours = relayed.and_then(|relayed| relayed.came_back(number));
            let is_there = self.variables.contains(name) && !gone.contains(&**name);
            let has_place = *creates && ((self.variables.len() - gone.len()) as u64) < message.most;
            match value {
                Some(value) if is_there || has_place => {
                    gone.remove(&**name);
                    self.apply_anyway(ours.and_then(|(_, ours)| ours.author), name, value, now);
                }
                // Left out, as by the broker.
                Some(_) => {}
                None if is_there => _ = gone.insert(&**name),
                None => {}
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
        // All that was heard before it was read is in it, unless the broker lost that.
        let here = self.revision()?;
        let is_lost = revision.epoch != here.epoch || revision.number < here.number;
        self.take_over((revision, room), (written, is_lost), now)
    }

    /// Becomes the broker's room; where that has lost what it was told, it is to be told again.
    fn take_over(
        &mut self,
        (revision, room): (&RelayRevision, &StoredRoom),
        (written, is_lost): (u64, bool),
        now: Instant,
    ) -> Option<Instant> {
        self.adopt(room.schema);
        let relayed = self.relayed.as_mut()?;
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
            let is_same = here.is_some_and(|here| here.value.as_stored() == value);
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

    /// As [`reread`](Self::reread), of a room that the broker knows under another node from now on.
    pub(crate) fn reenter(
        &mut self,
        node: Arc<str>,
        there: (&RelayRevision, &StoredRoom),
        written: u64,
        now: Instant,
    ) -> Option<Instant> {
        self.relayed.as_mut()?.node = node;
        // Whatever its number: what the other node had told is nobody's any more.
        self.take_over(there, (written, true), now)
    }

    /// What the broker is to be told next.
    pub(crate) fn next_request(&mut self) -> Option<RelayRequest> {
        let most = self.rules.limits.variables_per_room as u64;
        self.relayed.as_mut()?.take(most)
    }

    /// The request was answered.
    pub(crate) fn told(&mut self) {
        if let Some(relayed) = &mut self.relayed {
            (relayed.is_telling, relayed.told_from) = (false, relayed.last + 1);
        }
    }

    /// How many variables there will be beside this one, with those that wait.
    pub(super) fn count_beside(&self, name: &str) -> usize {
        let waiting = self.relayed.iter().flat_map(Relayed::waiting);
        let names = waiting.filter(|waiting| waiting.creates).map(|waiting| &waiting.name);
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
