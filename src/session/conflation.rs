//! The writes of a client over its message rate: the latest value of each variable, until its turn
//! comes.
//!
//! The room receives the client's writes in their order, without the values that the client has
//! overwritten meanwhile. This module knows no socket, and no clock except the time that it is given.

use std::time::Instant;

use indexmap::IndexMap;

use crate::{
    budget::{Budget, Charge},
    limits::Limits,
    rate::Bucket,
    room::Outlook,
    wire::{Json, Terms},
};

/// The cost of a held write besides its texts: its place in the map, and its allocations.
const HELD_COST: usize = 200;

/// One `set` of a member, on its way from its session into the room.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Submission<'a> {
    /// The position up to which the member had seen everything when this was read. Conflation delays a
    /// write, but the member knew no more when it made it.
    pub(crate) base: u64,
    pub(crate) name: Json<'a>,
    /// The value, or `None` if it was refused: its sender then receives the room's value.
    pub(crate) value: Option<Json<'a>>,
    /// The terms of the write. A write that has any is never held, because it counts by itself.
    pub(crate) terms: Terms<'a>,
}

/// The message rate of one client, and its writes that wait for it.
#[derive(Debug)]
pub(crate) struct Conflation {
    rate: Bucket,
    /// The time before which the room takes no more writes from this member, because its members
    /// together write too much.
    deferred: Option<Instant>,
    /// The held writes by name, in the order in which they were last written.
    held: IndexMap<Json<'static>, Held>,
    charge: Charge,
    /// The number of held writes from which on refused ones are dropped.
    most: usize,
}

#[derive(Debug)]
struct Held {
    base: u64,
    value: Option<Json<'static>>,
    /// A later value was refused: after `value`, the sender receives the room's value.
    heals: bool,
    is_new: bool,
}

impl Conflation {
    pub(crate) fn new(limits: &Limits, budget: &Budget, now: Instant) -> Self {
        Self {
            rate: Bucket::new(limits.messages_per_second, limits.message_burst, now),
            deferred: None,
            held: IndexMap::new(),
            charge: budget.share().open(),
            most: limits.variables_per_room,
        }
    }

    /// Returns whether a write may go to the room at once, and counts it if so. No write overtakes the
    /// held ones.
    pub(crate) fn lets_pass(&mut self, now: Instant) -> bool {
        let passes = self.held.is_empty() && self.turn(now) <= now;
        if passes {
            self.rate.take(1, now);
        }
        passes
    }

    /// Returns when the held writes are due, or `None` if nothing is held.
    pub(crate) fn due(&mut self, now: Instant) -> Option<Instant> {
        (!self.held.is_empty()).then(|| self.turn(now))
    }

    /// Returns when the next write may go to the room.
    pub(crate) fn turn(&mut self, now: Instant) -> Instant {
        let turn = self.rate.has(1, now);
        self.deferred.map_or(turn, |deferred| turn.max(deferred))
    }

    /// Sets when the room takes the next write, or `None` if it takes it at once.
    pub(crate) fn defer(&mut self, until: Option<Instant>) {
        self.deferred = until;
    }

    /// Returns how many held writes would create a variable, not counting one of this name.
    pub(crate) fn creates_beside(&self, name: &Json<'_>) -> usize {
        self.held.iter().filter(|(held, of)| of.is_new && *held != name).count()
    }

    /// Holds a write instead of an earlier one of the same variable. Returns `false`, with nothing
    /// changed, if the budget does not have the bytes.
    #[must_use]
    pub(crate) fn hold(&mut self, write: &Submission<'_>, outlook: Outlook) -> bool {
        let refused = outlook == Outlook::Refused;
        if refused && let Some(earlier) = self.held.get_mut(write.name.as_json()) {
            // The value before the refused one still counts. It keeps its place, so that the bases of
            // the released writes never go back.
            earlier.heals = true;
            return true;
        }
        // No game writes more names than a room may have, so the client receives no correction for
        // those.
        if refused && self.held.len() >= self.most {
            return true;
        }
        let name = write.name.clone().into_owned();
        let before = self.held.get(name.as_json()).map_or(0, |held| held.cost(&name));
        let held = Held {
            base: write.base,
            value: write.value.clone().filter(|_| !refused).map(Json::into_owned),
            heals: refused,
            is_new: outlook == Outlook::New,
        };
        let after = held.cost(&name);
        if !self.charge.grow(after.saturating_sub(before)) {
            return false;
        }
        self.charge.shrink(before.saturating_sub(after));
        self.held.shift_remove(name.as_json());
        self.held.insert(name, held);
        true
    }

    /// Takes out all held writes. The client pays for them by waiting longer for its next turn. Because
    /// they leave together, the room gets the values that the client had at one moment.
    pub(crate) fn release(&mut self, now: Instant) -> Vec<Submission<'static>> {
        let held = std::mem::take(&mut self.held);
        self.charge.shrink(self.charge.bytes());
        self.rate.take(held.len(), now);
        let mut writes = Vec::with_capacity(held.len());
        for (name, Held { base, value, heals, .. }) in held {
            if value.is_some() {
                writes.push(Submission {
                    base,
                    name: name.clone(),
                    value,
                    terms: Terms::default(),
                });
            }
            if heals {
                writes.push(Submission { base, name, value: None, terms: Terms::default() });
            }
        }
        writes
    }
}

impl Held {
    fn cost(&self, name: &Json<'_>) -> usize {
        let value = self.value.as_ref().map_or(0, |value| value.as_json().len());
        HELD_COST + name.as_json().len() + value
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::time::Duration;

    use super::*;

    fn write(name: &str, value: Option<&str>, base: u64) -> Submission<'static> {
        let (name, value) = (Json::from_plain(name), value.map(Json::from_plain));
        Submission { base, name, value, terms: Terms::default() }
    }

    /// Creates a conflation at one message a second.
    fn conflation(burst: u32, budget: &Budget, now: Instant) -> Conflation {
        let limits = Limits::default().messages_per_second(1).message_burst(burst);
        Conflation::new(&limits, budget, now)
    }

    #[test]
    fn under_the_rate_all_pass_and_then_nothing_overtakes() {
        let (now, budget) = (Instant::now(), Budget::new(usize::MAX));
        let mut conflation = conflation(2, &budget, now);
        assert!(conflation.lets_pass(now) && conflation.lets_pass(now));
        assert!(!conflation.lets_pass(now));
        assert_eq!(conflation.due(now), None, "nothing is held yet");
        assert!(conflation.hold(&write("x", Some("1"), 0), Outlook::Known));
        let due = now + Duration::from_secs(1);
        assert_eq!(conflation.due(now), Some(due));
        assert!(!conflation.lets_pass(due), "it would overtake x");
        assert_eq!(conflation.release(due), [write("x", Some("1"), 0)]);
        assert!(conflation.lets_pass(due + Duration::from_secs(1)));
    }

    #[test]
    fn a_write_that_the_room_defers_waits_also_under_the_rate() {
        let (now, budget) = (Instant::now(), Budget::new(usize::MAX));
        let mut conflation = conflation(9, &budget, now);
        let until = now + Duration::from_secs(2);
        assert!(conflation.lets_pass(now));
        conflation.defer(Some(until));
        assert!(!conflation.lets_pass(now));
        assert!(conflation.hold(&write("x", Some("1"), 0), Outlook::Known));
        assert_eq!(conflation.due(now), Some(until));
        assert_eq!(conflation.release(until).len(), 1);
        assert!(conflation.lets_pass(until));
    }

    #[test]
    fn the_latest_of_each_leave_in_the_order_of_their_writing() {
        let (now, budget) = (Instant::now(), Budget::new(usize::MAX));
        let mut conflation = conflation(1, &budget, now);
        for (name, value, base) in [("x", "1", 3), ("y", "1", 4), ("x", "2", 5), ("z", "1", 6)] {
            assert!(conflation.hold(&write(name, Some(value), base), Outlook::Known));
        }
        assert!(budget.used() > 3 * HELD_COST);
        let released = conflation.release(now);
        let latest = [("y", "1", 4), ("x", "2", 5), ("z", "1", 6)];
        assert_eq!(released, latest.map(|(name, value, base)| write(name, Some(value), base)));
        assert_eq!(budget.used(), 0);
        // Three took one token and owe two.
        assert!(conflation.hold(&write("x", Some("3"), 7), Outlook::Known));
        assert_eq!(conflation.due(now), Some(now + Duration::from_secs(3)));
    }

    #[test]
    fn a_refused_value_leaves_the_one_before_it() {
        let (now, budget) = (Instant::now(), Budget::new(usize::MAX));
        let mut conflation = conflation(1, &budget, now);
        assert!(conflation.hold(&write("x", Some("1"), 3), Outlook::Known));
        // The room does not know x yet.
        assert!(conflation.hold(&write("x", None, 4), Outlook::Refused));
        assert!(conflation.hold(&write("y", Some("long"), 4), Outlook::Refused));
        assert_eq!(
            conflation.release(now),
            [write("x", Some("1"), 3), write("x", None, 3), write("y", None, 4)]
        );
        assert!(conflation.hold(&write("x", None, 5), Outlook::Refused));
        assert!(conflation.hold(&write("x", Some("2"), 6), Outlook::Known));
        assert_eq!(conflation.release(now), [write("x", Some("2"), 6)], "seen by its writer too");
    }

    #[test]
    fn a_write_without_memory_is_not_held() {
        let (now, budget) = (Instant::now(), Budget::new(300));
        let mut conflation = conflation(1, &budget, now);
        assert!(conflation.hold(&write("x", Some("1"), 0), Outlook::New));
        assert_eq!(conflation.creates_beside(&Json::from_plain("y")), 1);
        assert_eq!(conflation.creates_beside(&Json::from_plain("x")), 0);
        assert!(!conflation.hold(&write("x", Some(&"v".repeat(200)), 0), Outlook::Known));
        assert!(!conflation.hold(&write("y", Some("1"), 0), Outlook::New));
        assert_eq!(conflation.release(now), [write("x", Some("1"), 0)]);
        assert_eq!(budget.used(), 0);
    }
}
