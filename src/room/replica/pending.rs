//! The requests of a room that wait for their place in the broker's order, in one queue.

use std::{collections::VecDeque, sync::Arc};

use crate::{
    budget::Charge,
    relay::{RelayChange, RelayNews, RelayRequest, RelaySession, RelayWrite},
    room::{
        order::Source,
        terms::{Asker, Terms},
    },
    wire::Text,
};

/// A write that is not in the order yet.
#[derive(Debug)]
pub(in crate::room) struct PendingWrite {
    pub(in crate::room) source: Source,
    /// The username of the member that wrote it.
    pub(in crate::room) by: Option<Arc<str>>,
    pub(in crate::room) name: Text,
    /// The new value. `None` drops the variable.
    pub(in crate::room) value: Option<Text>,
    /// Whether the variable need not exist.
    pub(in crate::room) creates: bool,
    /// The condition of the write, and the asker that receives its outcome.
    pub(in crate::room) terms: Terms,
    /// If a session has this name, the write is left out.
    pub(in crate::room) unless: Option<Arc<str>>,
    /// Whether the next write is to be seen together with this one.
    pub(in crate::room) is_more: bool,
    /// The position of the write among all that were ever queued.
    turn: u64,
}

/// A request whose outcome a caller waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wish {
    Join {
        session: RelaySession,
        replaces: Vec<u64>,
    },
    Change(RelayChange),
    Remove,
    Tell(RelayNews),
    /// A lead begins, or is renewed.
    Lead {
        lead: u64,
        is_renewal: bool,
    },
    Resign(u64),
}

/// A wish, and the ticket by which its outcome is known.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) ticket: u64,
    pub(super) wish: Wish,
    /// The number of the last attempt, if there was one. The broker may have taken it.
    pub(super) attempt: Option<u64>,
}

impl Ask {
    /// Returns the request of the next attempt. A change keeps its number, because it must not be made
    /// twice. The others may be repeated, and get a new number, because a refusal takes a number too.
    fn request(&mut self, numbered: &mut u64) -> RelayRequest {
        let number = match (&self.wish, self.attempt) {
            (Wish::Change(_) | Wish::Remove, Some(number)) => number,
            _ => {
                *numbered += 1;
                *numbered
            }
        };
        self.attempt = Some(number);
        match self.wish.clone() {
            Wish::Join { session, replaces } => RelayRequest::Join { number, session, replaces },
            Wish::Change(change) => RelayRequest::Change { number, change },
            Wish::Remove => RelayRequest::Remove { number },
            Wish::Tell(news) => RelayRequest::Tell(news),
            Wish::Lead { lead, .. } => RelayRequest::Lead { number, lead },
            Wish::Resign(lead) => RelayRequest::Resign { number, lead },
        }
    }
}

#[derive(Debug)]
enum Entry {
    Write(PendingWrite),
    Ask(Ask),
}

/// An entry that the broker was sent, and that has not come back through the order.
#[derive(Debug)]
pub(super) enum Sent {
    Write(PendingWrite),
    Change(Ask),
}

/// The content of the next request.
#[derive(Debug)]
pub(super) enum Taken {
    Leave(Vec<u64>),
    Writes,
    Ask(Ask),
}

#[derive(Debug)]
pub(super) struct Pending {
    /// The entries that the broker was not sent yet, in order. While the broker is away or does not keep
    /// up, they hold the latest value of each variable.
    entries: VecDeque<Entry>,
    /// The cost of the writes among `entries`.
    bytes: usize,
    /// The entries that the broker was sent, by number.
    sent: VecDeque<(u64, Sent)>,
    /// The first number of the writes that were sent and not answered.
    doubtful: Option<u64>,
    /// The sessions that are over and must leave at the broker.
    leaves: Vec<u64>,
    /// The number of writes that were ever queued.
    queued: u64,
    charge: Charge,
}

/// The bytes that a waiting write costs in addition to its texts.
const PENDING_COST: usize = 120;
/// The approximate number of bytes of texts in one request.
const REQUEST_BYTES: usize = 64 << 10;

impl PendingWrite {
    pub(in crate::room) fn new(
        source: Source,
        name: Text,
        value: Option<Text>,
        creates: bool,
    ) -> Self {
        let terms = Terms::default();
        Self {
            source,
            by: None,
            name,
            value,
            creates,
            terms,
            unless: None,
            is_more: false,
            turn: 0,
        }
    }

    /// Sets the username of the member that wrote it.
    pub(in crate::room) fn by(mut self, username: Option<Arc<str>>) -> Self {
        self.by = username;
        self
    }

    pub(in crate::room) fn unless(mut self, name: Option<Arc<str>>) -> Self {
        self.unless = name;
        self
    }

    pub(in crate::room) fn on(mut self, terms: Terms) -> Self {
        self.terms = terms;
        self
    }

    fn cost(&self) -> usize {
        let texts = [Some(&self.name), self.value.as_ref(), self.terms.was.as_ref()];
        let len = |text: &Text| text.as_json().len();
        PENDING_COST + texts.into_iter().flatten().map(len).sum::<usize>()
    }

    fn as_sent(&self) -> RelayWrite {
        RelayWrite {
            name: self.name.as_json().to_owned(),
            value: self.value.as_ref().map(|value| value.as_stored().to_owned()),
            creates: self.creates,
            by: self.by.as_deref().map(str::to_owned),
            was: self.terms.was.as_ref().map(|was| was.as_json().to_owned()),
            unless: self.unless.as_deref().map(str::to_owned),
        }
    }
}

impl Pending {
    pub(super) fn new(charge: Charge) -> Self {
        Self {
            entries: VecDeque::new(),
            bytes: 0,
            sent: VecDeque::new(),
            doubtful: None,
            leaves: Vec::new(),
            queued: 0,
            charge,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.sent.is_empty() && self.leaves.is_empty()
    }

    /// Queues a write. Returns `false` if there is no memory for it. If the broker is away or does not keep
    /// up, the write replaces an older value of its variable.
    pub(super) fn submit(&mut self, mut write: PendingWrite, is_away: bool) -> bool {
        // A write that depends on an older value needs that value in the order.
        let is_plain = write.terms.are_none() && write.unless.is_none();
        let is_behind = is_plain && (is_away || self.bytes > REQUEST_BYTES);
        let replaced = if is_behind { self.replaced_by(&write) } else { None };
        let freed = replaced.map_or(0, |(_, cost)| cost);
        if !self.charge.grow(write.cost().saturating_sub(freed)) {
            return false;
        }
        self.charge.shrink(freed.saturating_sub(write.cost()));
        if let Some(Entry::Write(old)) = replaced.and_then(|(at, _)| self.entries.remove(at)) {
            write.creates |= old.creates;
        }
        self.bytes = self.bytes + write.cost() - freed;
        self.queued += 1;
        write.turn = self.queued;
        self.entries.push_back(Entry::Write(write));
        true
    }

    /// Returns the position and the cost of an older value that the broker need not be sent any more.
    fn replaced_by(&self, write: &PendingWrite) -> Option<(usize, usize)> {
        let is_same = |entry: &Entry| matches!(entry, Entry::Write(old) if old.name == write.name);
        let at = self.entries.iter().rposition(is_same)?;
        match &self.entries[at] {
            Entry::Write(old)
                if old.value.is_some()
                    && write.value.is_some()
                    && old.terms.are_none()
                    && old.unless.is_none() =>
            {
                Some((at, old.cost()))
            }
            _ => None,
        }
    }

    /// Returns the write that was queued last, if nothing else was queued since.
    pub(super) fn last_write(&mut self) -> Option<&mut PendingWrite> {
        match self.entries.back_mut()? {
            Entry::Write(write) => Some(write),
            Entry::Ask(_) => None,
        }
    }

    pub(super) fn ask(&mut self, ticket: u64, wish: Wish) {
        self.entries.push_back(Entry::Ask(Ask { ticket, wish, attempt: None }));
    }

    /// Puts back a request that was not answered, or not done.
    pub(super) fn ask_again(&mut self, ask: Ask) {
        self.entries.push_front(Entry::Ask(ask));
    }

    /// Takes back a wish that waits, and returns it with its last attempt, if there was one.
    pub(super) fn cancel(&mut self, ticket: u64) -> Option<Ask> {
        let is_it = |entry: &Entry| matches!(entry, Entry::Ask(ask) if ask.ticket == ticket);
        let at = self.entries.iter().position(is_it)?;
        match self.entries.remove(at)? {
            Entry::Ask(ask) => Some(ask),
            Entry::Write(_) => None,
        }
    }

    /// Returns the tickets of all wishes, and of the writes whose outcome the host asks for.
    pub(super) fn tickets(&self) -> impl Iterator<Item = u64> {
        let of_write = |write: &PendingWrite| match write.terms.asker {
            Some(Asker::Host(ticket)) => Some(ticket),
            Some(Asker::Member(..)) | None => None,
        };
        let waiting = self.entries.iter().filter_map(move |entry| match entry {
            Entry::Ask(ask) => Some(ask.ticket),
            Entry::Write(write) => of_write(write),
        });
        waiting.chain(self.sent.iter().filter_map(move |(_, sent)| match sent {
            Sent::Change(ask) => Some(ask.ticket),
            Sent::Write(write) => of_write(write),
        }))
    }

    pub(super) fn leave(&mut self, session: u64) {
        self.leaves.push(session);
    }

    pub(super) fn leave_again(&mut self, sessions: Vec<u64>) {
        self.leaves.extend(sessions);
    }

    /// Starts the queue anew for a node that has entered under a new name: the sessions of the old name are
    /// over, and its numbers no longer count. Its writes and changes wait again, except the sent writes
    /// whose outcome somebody asks for: the broker may have taken them, and they must not count twice.
    /// Returns the askers of these.
    pub(super) fn renumber(&mut self) -> Vec<Asker> {
        let mut in_doubt = Vec::new();
        self.leaves.clear();
        self.doubtful = None;
        for entry in &mut self.entries {
            if let Entry::Ask(ask) = entry {
                ask.attempt = None;
            }
        }
        for (_, sent) in std::mem::take(&mut self.sent).into_iter().rev() {
            match sent {
                Sent::Write(write) => match write.terms.asker {
                    Some(asker) => {
                        self.charge.shrink(write.cost());
                        in_doubt.push(asker);
                    }
                    None => {
                        self.bytes += write.cost();
                        self.entries.push_front(Entry::Write(write));
                    }
                },
                Sent::Change(ask) => {
                    self.entries.push_front(Entry::Ask(Ask { attempt: None, ..ask }));
                }
            }
        }
        in_doubt
    }

    /// Takes the next request, of a room that may have `most` variables.
    pub(super) fn take(
        &mut self,
        numbered: &mut u64,
        most: u64,
        may_write: bool,
    ) -> Option<(Taken, RelayRequest)> {
        // Writes in doubt come first, because a higher number would keep them out.
        if let Some(first) = self.doubtful
            && let Some(request) = self.sent_from(first, most)
        {
            return Some((Taken::Writes, request));
        }
        if !self.leaves.is_empty() {
            *numbered += 1;
            let sessions = std::mem::take(&mut self.leaves);
            let request = RelayRequest::Leave { number: *numbered, sessions: sessions.clone() };
            return Some((Taken::Leave(sessions), request));
        }
        match self.entries.front()? {
            Entry::Ask(_) => {
                let Some(Entry::Ask(mut ask)) = self.entries.pop_front() else { return None };
                let request = ask.request(numbered);
                Some((Taken::Ask(ask), request))
            }
            Entry::Write(_) if may_write => {
                let first = *numbered + 1;
                self.send(numbered);
                self.doubtful = Some(first);
                Some((Taken::Writes, self.sent_from(first, most)?))
            }
            Entry::Write(_) => None,
        }
    }

    /// Returns whether a write is next.
    pub(super) fn is_write_next(&self) -> bool {
        self.leaves.is_empty() && matches!(self.entries.front(), Some(Entry::Write(_)))
    }

    /// Moves as many writes to `sent` as fit one request.
    fn send(&mut self, numbered: &mut u64) {
        let mut bytes = 0;
        while let (count, cost) = self.next_group()
            && count > 0
            && (bytes == 0 || bytes + cost <= REQUEST_BYTES)
        {
            bytes += cost;
            self.bytes -= cost;
            for entry in self.entries.drain(..count) {
                if let Entry::Write(write) = entry {
                    *numbered += 1;
                    self.sent.push_back((*numbered, Sent::Write(write)));
                }
            }
        }
    }

    /// Returns how many writes are to be sent together next, and their cost.
    fn next_group(&self) -> (usize, usize) {
        let (mut count, mut cost) = (0, 0);
        for entry in &self.entries {
            let Entry::Write(write) = entry else { break };
            count += 1;
            cost += write.cost();
            if !write.is_more {
                break;
            }
        }
        (count, cost)
    }

    /// Returns the request for the writes that were sent under the number `first` or a higher one; `None`
    /// if all of them have come back.
    fn sent_from(&mut self, first: u64, most: u64) -> Option<RelayRequest> {
        let sent = self.sent.iter().skip_while(|(number, _)| *number < first);
        let writes: Vec<_> = sent
            .filter_map(|(number, sent)| match sent {
                Sent::Write(write) => Some((*number, write.as_sent())),
                Sent::Change(_) => None,
            })
            .collect();
        let Some((first, _)) = writes.first() else {
            self.doubtful = None;
            return None;
        };
        let (first, writes) = (*first, writes.into_iter().map(|(_, write)| write).collect());
        Some(RelayRequest::Write { first, most, writes })
    }

    /// Notes that the broker has taken the writes that it was sent last.
    pub(super) fn answered(&mut self) {
        self.doubtful = None;
    }

    /// Notes that the broker has taken a change, which will come back.
    pub(super) fn changed(&mut self, number: u64, ask: Ask) {
        self.sent.push_back((number, Sent::Change(ask)));
    }

    /// Takes out the entry that was sent under the lowest number, if that is not above `number`.
    pub(super) fn came_back(&mut self, number: u64) -> Option<(u64, Sent)> {
        let (first, _) = self.sent.front()?;
        let back = if *first <= number { self.sent.pop_front()? } else { return None };
        if let Sent::Write(write) = &back.1 {
            self.charge.shrink(write.cost());
        }
        Some(back)
    }

    /// Returns how many writes were ever queued.
    pub(super) fn queued(&self) -> u64 {
        self.queued
    }

    /// Returns whether the first `queued` writes are in the order, or replaced by later ones.
    pub(super) fn has_settled(&self, queued: u64) -> bool {
        self.writes().next().is_none_or(|write| write.turn > queued)
    }

    /// Returns the writes that wait, in order.
    pub(super) fn writes(&self) -> impl DoubleEndedIterator<Item = &PendingWrite> {
        let sent = self.sent.iter().filter_map(|(_, sent)| match sent {
            Sent::Write(write) => Some(write),
            Sent::Change(_) => None,
        });
        sent.chain(self.entries.iter().filter_map(|entry| match entry {
            Entry::Write(write) => Some(write),
            Entry::Ask(_) => None,
        }))
    }

    #[cfg(all(test, not(shuttle)))]
    pub(super) fn lens(&self) -> [usize; 3] {
        [self.entries.len(), self.sent.len(), self.leaves.len()]
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::{budget::Budget, wire::Json};

    fn write(value: &str, creates: bool) -> PendingWrite {
        let text = |plain: &str| Json::from_plain(plain).to_text();
        let (name, value) = (text("x"), Some(text(value)));
        PendingWrite::new(Source::Host, name, value, creates)
    }

    #[test]
    fn the_latest_value_still_creates_and_costs_its_own_size() {
        let budget = Budget::new(usize::MAX);
        let mut pending = Pending::new(budget.share().open());
        assert!(pending.submit(write("a longer one", true), true));
        assert!(pending.submit(write("1", false), true));
        assert_eq!(budget.used(), write("1", true).cost());
        let (mut numbered, most) = (7, 128);
        let (_, request) = pending.take(&mut numbered, most, true).expect("a write waits");
        let value = Some("1".to_owned());
        let writes = vec![RelayWrite {
            name: "x".into(),
            value,
            creates: true,
            by: None,
            was: None,
            unless: None,
        }];
        assert_eq!(request, RelayRequest::Write { first: 8, most, writes });
        // A write in the order costs only its variable's bytes.
        assert!(matches!(pending.came_back(8), Some((8, Sent::Write(_)))));
        assert_eq!(budget.used(), 0);
    }
}
