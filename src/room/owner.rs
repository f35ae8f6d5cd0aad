//! The owner of a room, and how a room without an owner becomes a newcomer's.

use std::time::Instant;

use super::{join::Newcomer, life::Life, order::Source, state::State};
use crate::{
    store::StoredSchema,
    wire::{Dialect, Json, Text},
};

/// The owner of a room, which decides which variables it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Owner {
    /// Only its creator's connection has ever used the room.
    #[default]
    Nobody,
    /// Somebody has joined the room after its creator, or has come back to it.
    Players,
}

impl State {
    /// Makes the room its players'. Must be called when somebody other than its creator joins, or when the
    /// host uses it.
    pub(crate) fn claim(&mut self) {
        self.owner = Owner::Players;
    }

    /// Returns whether the room has no owner. Such a room is evicted before others if there is no space.
    pub(crate) fn is_nobodys(&self) -> bool {
        self.owner == Owner::Nobody && self.life != Life::Kept
    }

    /// Changes a room that does not match a newcomer into one that does, if it may. A room without an owner
    /// and without members gets the newcomer's variables in place of its own. A room of players that has no
    /// members gets the variables that the next version of its game adds. A broker's room stays as it is,
    /// because its order is not this node's.
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
            // Scratch clients bring no names, and the names that they set begin with a cloud.
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
            // The room is full of variables that nobody else has ever seen.
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

    /// Adds the variables that are missing, as far as there is memory.
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
