//! The rule for contested writes (promise P3): their writer may end up seeing another value.
//!
//! A member applies its own writes at once, and the values that it is sent in order of arrival. So the
//! value that it sees last is its own write, or the newest value that it is sent without having seen it
//! before: another member's write, a value of its snapshot, or a correction. Links keep their order, so it
//! is no older one. If that newest value equals the write, every interleaving ends with the room's value.

use crate::room::{
    order::Author,
    state::State,
    variables::{Told, Variable},
};
use crate::wire::Text;

impl State {
    /// Remembers the value of the variable that the member's snapshot had, because the write replaces it.
    /// To be called before a member's write is applied.
    pub(in crate::room) fn remember_snapshot(&mut self, author: Author, name: &Text) {
        let (Some(member), Some(variable)) =
            (self.members.get_mut(author.member), self.variables.get(name.as_json()))
        else {
            return;
        };
        let position = member.snapshot;
        let is_earlier = |told: &Told| told.position < position;
        if position > author.base
            && is_of_snapshot(variable, position)
            && member.told.get(name).is_none_or(is_earlier)
        {
            let value = Some(self.variables.fingerprint(&variable.value));
            member.told.insert(name.clone(), Told { position, value });
        }
    }

    /// Has the member corrected once the variable is quiet, if it may see another value then. To be called
    /// after a member's write was applied.
    pub(in crate::room) fn contest(&mut self, author: Author, name: &Text) {
        let Some(member) = self.members.get_mut(author.member) else { return };
        let Some(variable) = self.variables.get(name.as_json()) else { return };
        // The writes of a member are applied in the order of their bases, so none needs these entries any
        // more.
        member.told.retain(|_, told| told.position > author.base);
        let told = member.told.get(name).copied();
        let newest = told.into_iter().chain([variable.other()]).max_by_key(|told| told.position);
        let seen = author.base.max(member.joined);
        let Some(newest) = newest.filter(|newest| newest.position > seen) else { return };
        let value = Some(self.variables.fingerprint(&variable.value));
        if newest.value != value
            && let Some(variable) = self.variables.get_mut(name.as_json())
        {
            self.settle.contest(name, variable);
        }
    }
}

/// Returns whether a variable still has the value that a snapshot at this position has of it.
fn is_of_snapshot(variable: &Variable, position: u64) -> bool {
    variable.created <= position && variable.last <= position
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::{
        sync::Arc,
        time::{Duration, Instant},
    };

    use super::*;
    use crate::{
        budget::Budget,
        room::{MemberId, Newcomer, Rules, Write},
        wire::{Dialect, Json},
    };

    const X: &str = "\u{2601} x";

    struct Room {
        state: State,
        now: Instant,
    }

    impl Room {
        /// Creates a room that grows.
        fn new(coalesce: bool) -> Self {
            let now = Instant::now();
            let rules = Rules { tick: Duration::from_secs(1), coalesce, ..Rules::new(now) };
            let state = State::new(
                &Arc::new(rules),
                &"room".into(),
                None,
                &Budget::new(usize::MAX),
                &Arc::default(),
                now,
            );
            Self { state: state.expect("there is memory"), now }
        }

        fn join(&mut self) -> MemberId {
            let newcomer = Newcomer::guest(Dialect::Scratch, None, self.now);
            let id = self.state.join(newcomer, self.now).expect("there is a place").id;
            // The member's outbox does the same.
            self.state.resync(id, self.now).expect("there is memory");
            id
        }

        /// Submits a write of a member that has not proven to have seen anything. Returns whether it is
        /// contested.
        fn write(&mut self, member: MemberId, value: &str) -> bool {
            let (name, value) = (Json::from_plain(X), Json::from_plain(value));
            let write =
                Write { member, base: 0, name: &name, value: Some(&value), was: None, ack: None };
            self.state.submit(&write, self.now).expect("a member");
            self.state.variables.get(name.as_json()).is_some_and(|variable| variable.due.is_some())
        }
    }

    #[test]
    fn a_snapshot_without_the_variable_contests_nothing() {
        let mut room = Room::new(false);
        let ann = room.join();
        room.state.position = 5;
        let informed = room.state.resync(ann, room.now).expect("there is memory");
        assert_eq!(informed.position, 6);
        assert!(!room.write(ann, "1") && !room.write(ann, "2"));
        let ben = room.join();
        assert!(room.write(ben, "3"), "its snapshot has another value");
    }

    #[test]
    fn the_same_value_as_the_newest_contests_nothing() {
        let mut room = Room::new(false);
        let (ann, ben) = (room.join(), room.join());
        room.write(ann, "1");
        assert!(!room.write(ben, "1"));
        assert!(room.write(ben, "2"), "ann's 1 may be on its way");
        assert!(!room.write(ben, "1"));
        room.write(ann, "2");
        room.write(ann, "3");
        assert!(room.write(ben, "2"), "the newest is 3");
        let name = Json::from_plain(X).to_text();
        room.state.correct(ben, &name, room.now);
        assert!(!room.write(ben, "2"), "the newest is the correction");
        assert!(room.write(ben, "3") && !room.write(ben, "2"));
        room.state.resync(ann, room.now);
        assert!(!room.write(ann, "2") && room.write(ann, "4"), "the snapshot has 2");
        room.state.resync(ann, room.now);
        assert!(room.write(ann, "2") && !room.write(ann, "4"), "and this one 4");
    }

    #[test]
    fn a_coalesced_value_does_not_count_as_sent_to_the_member() {
        let mut room = Room::new(true);
        let (ann, ben) = (room.join(), room.join());
        // A quiet room sends the first at once; the second waits in the open batch.
        room.write(ann, "1");
        room.write(ann, "2");
        assert!(room.write(ben, "2"), "it is sent 1, and never the 2 of ann");
    }

    #[test]
    fn a_variable_that_is_created_again_may_be_the_old_one_to_somebody() {
        let mut room = Room::new(false);
        let (ann, ben) = (room.join(), room.join());
        room.write(ben, "1");
        room.state.drop_names(|_| false, room.now);
        assert!(room.write(ann, "2"), "1 is on its way to ann");
        assert!(room.write(ann, "1"), "what ann will see last is not known");
        let cem = room.join();
        room.state.drop_names(|_| false, room.now);
        let dan = room.join();
        assert!(room.write(cem, "3"));
        room.state.drop_names(|_| false, room.now);
        assert!(room.write(dan, "3"), "dan was there when it was dropped");
        let eve = room.join();
        assert!(!room.write(eve, "3"), "eve came later, and saw no other than dan's");
    }
}
