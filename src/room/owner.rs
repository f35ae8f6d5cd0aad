//! Whose a room is, and how one that is nobody's becomes somebody else's.

use std::time::Instant;

use super::{join::Newcomer, life::Life, order::Source, state::State};
use crate::{
    store::StoredSchema,
    wire::{Dialect, Json, Text},
};

/// Who has a room, which decides over what it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Owner {
    /// Only its creator's connection ever used it.
    #[default]
    Nobody,
    /// Somebody has come to it, or come back.
    Players,
}

impl State {
    /// To be called when somebody joins who has not created the room, or when the host uses it.
    pub(crate) fn claim(&mut self) {
        self.owner = Owner::Players;
    }

    /// Whether the room is nobody's: such a room goes before others if there is no place.
    pub(crate) fn is_nobodys(&self) -> bool {
        self.owner == Owner::Nobody && self.life != Life::Kept
    }

    /// Makes a room what a newcomer brings that does not match it, if it may be that. A room that is
    /// nobody's, and has nobody in it, gets the newcomer's variables in place of its own. One of players
    /// that has none in it gets those that a next version of their game adds. A broker's room stays as
    /// it is, because its order is not this node's.
    pub(super) fn refound(&mut self, newcomer: &Newcomer<'_>, now: Instant) {
        let is_the_hosts = self.life == Life::Kept || self.is_locked;
        if self.replica.is_some() || is_the_hosts || self.is_gone() {
            return;
        }
        let is_vacant = matches!(self.life, Life::Vacant(_));
        let is_nobodys = self.is_nobodys() && is_vacant;
        match newcomer.variables {
            Some(brought) if is_nobodys && !self.matches(brought) => {
                self.drop_names(|_| false, now);
                self.schema = self.rules.schema.into();
                self.bring(brought, now);
            }
            Some(brought) if is_vacant && self.schema == StoredSchema::Fixed => {
                let old = self.variables.values();
                let has =
                    |name: &Text| brought.iter().any(|(new, _)| new.as_json() == name.as_json());
                if brought.len() > old.len() && old.iter().all(|(name, _)| has(name)) {
                    self.bring(brought, now);
                }
            }
            // Clients of this kind bring no names, and theirs begin with a cloud.
            None if self.schema == StoredSchema::Fixed
                && newcomer.dialect == Dialect::Scratch
                && self.is_nobodys()
                && (is_vacant || self.variables.len() == 0)
                && !self.has_scratch_names() =>
            {
                self.drop_names(|_| false, now);
                self.schema = StoredSchema::Scratch;
                self.touch();
            }
            // Full of what nobody else has ever seen.
            None if is_nobodys && self.variables.len() >= self.max_variables => {
                self.drop_names(|_| false, now);
                self.touch();
            }
            _ => {}
        }
    }

    fn has_scratch_names(&self) -> bool {
        let values = self.variables.values();
        values.iter().any(|(name, _)| name.as_json().starts_with('\u{2601}'))
    }

    /// Adds the variables that are not there, as far as there is memory.
    fn bring(&mut self, brought: &[(Json<'_>, Json<'_>)], now: Instant) {
        for (name, value) in brought {
            if !self.variables.contains(name.as_json()) {
                _ = self.accept(Source::Host, name, value, now);
            }
        }
        self.touch();
        self.broadcast.depart(now);
    }
}
