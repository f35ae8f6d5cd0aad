//! The queue of contested writes that wait for their variable to come to rest (promise P3).
//!
//! A write is contested if its writer may have made it without having seen the writes that were ordered
//! before it. The writer applied it at once and is never sent it back. So once the variable has been quiet
//! for a while, the writer alone is sent the room's value. `ARCHITECTURE.md` has the argument.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use crate::{room::variables::Variable, wire::Text};

/// How long a client may take to handle a message that its network side has received, and how long it may
/// queue a message that it sends: the one assumption about clients.
pub(crate) const CLIENT_LAG: Duration = Duration::from_secs(10);

/// The pause below which a writer is steady: it is not corrected between two of its writes. This is longer
/// than a correction takes to be in a member's base ([`CLIENT_LAG`] and two round trips), so no correction
/// ever contests the next write of a writer that pauses for longer.
const STEADY: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(in crate::room) struct Settle {
    /// How long a variable must be quiet; `None` switches the rule off.
    quiet: Option<Duration>,
    /// The queue, with no more than one entry per variable, at or before its `due`.
    queue: BTreeSet<(Instant, Text)>,
    queued: HashMap<Text, Instant>,
}

impl Settle {
    pub(in crate::room) fn new(quiet: Option<Duration>) -> Self {
        Self { quiet, queue: BTreeSet::new(), queued: HashMap::new() }
    }

    /// Notes that the last write of this variable is contested. A steady writer is not corrected between
    /// two of its own writes: the room waits for twice the writer's pause.
    pub(in crate::room) fn contest(&mut self, name: &Text, variable: &mut Variable) {
        let Some(quiet) = self.quiet else { return };
        let patience = match variable.pause {
            pause if pause < STEADY => STEADY.min(pause * 2),
            _ => Duration::ZERO,
        };
        let due = variable.written + quiet.max(patience);
        variable.due = Some(due);
        self.enqueue(name, due);
    }

    /// Returns when [`pop`](Self::pop) has something to do.
    pub(in crate::room) fn next(&self) -> Option<Instant> {
        self.queue.first().map(|(due, _)| *due)
    }

    /// Takes out a variable to look at. Its `due` is over, or was put off or withdrawn.
    pub(in crate::room) fn pop(&mut self, now: Instant) -> Option<Text> {
        self.next().filter(|due| *due <= now)?;
        let (_, name) = self.queue.pop_first()?;
        self.queued.remove(&name);
        Some(name)
    }

    pub(in crate::room) fn clear(&mut self) {
        self.queue.clear();
        self.queued.clear();
    }

    pub(in crate::room) fn enqueue(&mut self, name: &Text, due: Instant) {
        match self.queued.get(name) {
            Some(earlier) if *earlier <= due => return,
            Some(later) => _ = self.queue.remove(&(*later, name.clone())),
            None => {}
        }
        self.queued.insert(name.clone(), due);
        self.queue.insert((due, name.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Json;

    #[test]
    fn a_variable_is_looked_at_no_later_than_it_is_due() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let name = Json::from_plain("x").to_text();
        let mut settle = Settle::new(Some(Duration::from_millis(500)));
        for seconds in [8, 2, 5] {
            settle.enqueue(&name, at(seconds));
        }
        assert_eq!(settle.next(), Some(at(2)));
        assert_eq!(settle.pop(at(1)), None);
        assert_eq!(settle.pop(at(2)), Some(name.clone()));
        assert_eq!((settle.pop(at(9)), settle.next()), (None, None));
        settle.enqueue(&name, at(9));
        assert_eq!(settle.next(), Some(at(9)));
    }
}
