//! The changes of a room that its store does not have yet.

use std::{collections::HashSet, time::Instant};

use super::state::State;
use crate::{
    store::{Change, StoredRoom},
    wire::Text,
};

/// The unsaved changes. They are noted by name, because a variable is saved with the value that it has when
/// it is taken.
#[derive(Debug, Default)]
pub(super) struct Unsaved {
    names: HashSet<Text>,
    /// Whether the store still has to save the room's schema or its last use.
    is_touched: bool,
    /// Whether the persister knows that there is something to save.
    is_listed: bool,
    /// Whether something was taken and is not saved yet.
    is_under_way: bool,
}

/// The names of the variables that the persister took out of a room to save them.
#[derive(Debug)]
pub(crate) struct Taken(HashSet<Text>);

impl Unsaved {
    pub(super) fn insert(&mut self, name: Text) {
        self.names.insert(name);
    }

    pub(super) fn touch(&mut self) {
        self.is_touched = true;
    }

    fn is_empty(&self) -> bool {
        self.names.is_empty() && !self.is_touched
    }

    /// Returns true once, until the persister has taken the changes.
    fn list(&mut self) -> bool {
        !self.is_empty() && !std::mem::replace(&mut self.is_listed, true)
    }
}

impl State {
    /// Returns whether there is something to save that the persister does not know of. Must be called after
    /// each change.
    pub(super) fn list(&mut self) -> bool {
        self.unsaved.as_mut().is_some_and(Unsaved::list)
    }

    /// Notes a write of a variable.
    pub(super) fn note_unsaved(&mut self, name: &Text) {
        if let Some(unsaved) = &mut self.unsaved
            && let Some(variable) = self.variables.get_mut(name.as_json())
            && !std::mem::replace(&mut variable.is_unsaved, true)
        {
            unsaved.insert(name.clone());
        }
    }

    /// Notes that the room is used, so that the store learns of it.
    pub(crate) fn touch(&mut self) {
        if let Some(unsaved) = &mut self.unsaved {
            unsaved.touch();
        }
    }

    /// Returns whether the store lacks something.
    pub(super) fn is_unsaved(&self) -> bool {
        self.unsaved.as_ref().is_some_and(|unsaved| !unsaved.is_empty() || unsaved.is_under_way)
    }

    /// Returns how many variables the store lacks, except those that are being saved at the moment.
    pub(crate) fn unsaved_len(&self) -> usize {
        self.unsaved.as_ref().map_or(0, |unsaved| unsaved.names.len())
    }

    /// Takes the changes to save, stamped with the time in seconds since 1970. The caller passes the result
    /// to [`saved`](Self::saved).
    pub(crate) fn take_unsaved(&mut self, used: u64) -> Option<(Change, Taken)> {
        let schema = self.schema;
        let unsaved = self.unsaved.as_mut()?;
        unsaved.is_listed = false;
        if unsaved.is_empty() {
            return None;
        }
        (unsaved.is_under_way, unsaved.is_touched) = (true, false);
        let names = std::mem::take(&mut unsaved.names);
        let (mut values, mut dropped) = (Vec::with_capacity(names.len()), Vec::new());
        for name in self.variables.in_order(&names) {
            let json = name.as_json().to_owned();
            match self.variables.get_mut(name.as_json()) {
                Some(variable) => {
                    variable.is_unsaved = false;
                    values.push((json, variable.value.as_stored().to_owned()));
                }
                None => dropped.push(json),
            }
        }
        let change = Change::Put { room: (&*self.id).into(), schema, used, values, dropped };
        Some((change, Taken(names)))
    }

    /// Notes the result of saving the changes that were taken. Returns true if they are to be saved again and
    /// the persister is not listing the room already.
    pub(crate) fn saved(&mut self, taken: Taken, is_done: bool) -> bool {
        // A room that is gone has no unsaved changes.
        let Some(unsaved) = &mut self.unsaved else { return false };
        unsaved.is_under_way = false;
        if is_done {
            return false;
        }
        unsaved.is_touched = true;
        for name in taken.0 {
            if let Some(variable) = self.variables.get_mut(name.as_json()) {
                variable.is_unsaved = true;
            }
            unsaved.insert(name);
        }
        unsaved.list()
    }

    /// Returns the room as a store or a broker keeps it.
    pub(crate) fn stored(&self) -> StoredRoom {
        let owned = |text: &Text| text.as_stored().to_owned();
        let values = self.variables.values();
        StoredRoom {
            schema: self.schema,
            variables: values.iter().map(|(name, value)| (owned(name), owned(value))).collect(),
        }
    }

    /// Returns the change by which a store learns of a new room.
    pub(crate) fn creation(&self, used: u64) -> Change {
        let StoredRoom { schema, variables: values } = self.stored();
        Change::Put { room: (&*self.id).into(), schema, used, values, dropped: Vec::new() }
    }

    /// Gives a new room, which has the variables of a stored one, the rest of its state. The room counts as
    /// emptied.
    pub(crate) fn revive(&mut self, stored: &StoredRoom, now: Instant) {
        self.observers.created();
        self.schema = stored.schema;
        self.claim();
        self.vacate(now);
        self.depart_all(now);
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::{sync::Arc, time::Instant};

    use super::*;
    use crate::{
        budget::Budget,
        room::{Eviction, Rules},
    };

    #[test]
    fn a_change_in_flight_is_not_saved_yet() {
        let now = Instant::now();
        let rules = Arc::new(Rules { is_stored: true, ..Rules::new(now) });
        let (id, budget) = ("room".into(), Budget::new(usize::MAX));
        let state = State::new(&rules, &id, None, &budget, &Arc::default(), now);
        let mut state = state.expect("there is memory");
        state.touch();
        let (_, taken) = state.take_unsaved(0).expect("it was used");
        assert_eq!(state.evict(now), Eviction::Unsaved);
        assert!(state.saved(taken, false), "it is to be tried again");
        let (_, taken) = state.take_unsaved(0).expect("it failed");
        assert!(!state.saved(taken, true));
        assert_eq!(state.evict(now), Eviction::Evicted);
    }
}
