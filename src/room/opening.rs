//! The settings that the host gives a room.

use std::time::{Duration, Instant};

use super::{
    host::SetError,
    life::Life,
    order::Source,
    state::{Schema, State},
};
use crate::{
    close::Close,
    host_data::HostData,
    wire::{Dialect, Json},
};

/// The settings of a room that the host opens. `None` leaves a setting unchanged.
#[derive(Debug, Default)]
pub(crate) struct Opening {
    pub(crate) variables: Option<Vec<(Json<'static>, Json<'static>)>>,
    pub(crate) schema: Option<Schema>,
    pub(crate) max_members: Option<usize>,
    pub(crate) max_variables: Option<usize>,
    pub(crate) max_bytes: Option<usize>,
    pub(crate) tick: Option<Duration>,
    pub(crate) data: HostData,
}

/// The reason why a room cannot take the host's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReopenError {
    /// The room is gone: start over at the registry.
    Evicted,
    NoMemory,
}

impl State {
    pub(crate) fn tell_created(&self) {
        self.observers.created();
    }

    /// Applies the host's settings to an existing room. If memory runs out, the room is already the host's,
    /// but lacks some variables.
    pub(crate) fn reopen(&mut self, opening: &Opening, now: Instant) -> Result<(), ReopenError> {
        if self.is_gone() {
            return Err(ReopenError::Evicted);
        }
        self.settings(opening, now);
        if let Some(variables) = &opening.variables {
            self.rename(variables, now).map_err(|_| ReopenError::NoMemory)?;
        }
        Ok(())
    }

    /// Applies the settings to a room and makes it the host's.
    pub(crate) fn settings(&mut self, opening: &Opening, now: Instant) {
        self.life = Life::Kept;
        self.claim();
        if let Some(schema) = opening.schema {
            self.schema = schema.into();
            self.touch();
        }
        if let Some(max_members) = opening.max_members {
            self.max_members = max_members;
        }
        if let Some(max_variables) = opening.max_variables {
            self.max_variables = max_variables;
        }
        if let Some(max_bytes) = opening.max_bytes {
            self.max_bytes = max_bytes;
        }
        if let Some(tick) = opening.tick {
            self.broadcast.set_tick(tick, now);
        }
        if !opening.data.is_empty() {
            self.data = opening.data.clone();
        }
    }

    /// Removes all variables except those that `stays` accepts. If the room's names are fixed, also removes
    /// the members that know the names.
    pub(super) fn drop_names(&mut self, stays: impl Fn(&str) -> bool, now: Instant) {
        self.position += 1;
        let (removed, freed) = self.variables.retain(stays, self.position);
        if let Some(unsaved) = &mut self.unsaved {
            removed.into_iter().for_each(|name| unsaved.insert(name));
        }
        self.charge.shrink(freed);
        self.snapshots.outdate();
        if self.grows() {
            return;
        }
        let close = Close::game_updated();
        for id in self.member_ids() {
            let knows_names =
                self.members.get(id).is_some_and(|member| member.dialect != Dialect::Scratch);
            if knows_names {
                self.put_out(id, &close, now);
            }
        }
    }

    fn rename(
        &mut self,
        variables: &[(Json<'static>, Json<'static>)],
        now: Instant,
    ) -> Result<(), SetError> {
        // Writes that wait for a broker may have other names than the variables here.
        if !self.grows() && (self.replica.is_some() || !self.variables.same_names(variables)) {
            let is_given = |name: &str| variables.iter().any(|(given, _)| given.as_json() == name);
            if !self.hand_over_names(is_given) {
                // The room is the host's, so it need not be queued as an empty one.
                self.drop_names(is_given, now);
            }
        }
        for (name, value) in variables {
            if !self.will_have(name.as_json()) {
                self.accept(Source::Host, name, value, now)?;
                self.have_created();
            }
        }
        self.broadcast.depart(now);
        Ok(())
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        budget::Budget,
        room::{Newcomer, Rules, Write},
    };

    #[test]
    fn a_shorter_tick_holds_at_once() {
        let now = Instant::now();
        let rules = Rules { tick: Duration::from_secs(60), settle: None, ..Rules::new(now) };
        let state = State::new(
            &Arc::new(rules),
            &"room".into(),
            None,
            &Budget::new(usize::MAX),
            &Arc::default(),
            now,
        );
        let mut state = state.expect("there is memory");
        let newcomer = Newcomer::guest(Dialect::Scratch, None, now);
        let member = state.join(newcomer, now).expect("there is a place").id;
        let (name, value) = (Json::from_plain("\u{2601} x"), Json::from_plain("1"));
        for _ in 0..2 {
            let write =
                Write { member, base: 0, name: &name, value: Some(&value), was: None, ack: None };
            state.submit(&write, now).expect("a member");
        }
        assert!(state.broadcast.has_left(), "the first left at once");
        assert!(state.broadcast.due() > Some(now + Duration::from_secs(30)));
        let tick = Some(Duration::from_millis(16));
        state.settings(&Opening { tick, ..Opening::default() }, now);
        assert!(state.broadcast.due() <= Some(now + Duration::from_millis(16)));
    }
}
