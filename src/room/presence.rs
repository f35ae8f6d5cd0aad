//! Variables that are removed some time after their player has left.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use super::{host::SetError, order::Source, replica::Replica, state::State, terms::Terms};
use crate::{
    names::NameKey,
    wire::{Json, Text},
};

/// The players that have left, in the order in which their variables are removed.
#[derive(Debug, Default)]
pub(super) struct Departures {
    queue: VecDeque<(Instant, Arc<str>)>,
    /// When the room next looks for players of a node that has ended.
    sweep: Option<Instant>,
}

/// The number of leases between two searches for players of a node that has ended.
const SWEEP: u32 = 3;

impl Departures {
    pub(super) fn next(&self) -> Option<Instant> {
        self.queue.front().map(|(due, _)| *due).into_iter().chain(self.sweep).min()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    fn push(&mut self, due: Instant, username: Arc<str>) {
        if !self.queue.iter().any(|(_, other)| *other == username) {
            self.queue.push_back((due, username));
        }
    }

    fn pop(&mut self, now: Instant) -> Option<Arc<str>> {
        let (due, _) = self.queue.front()?;
        if *due <= now { self.queue.pop_front().map(|(_, username)| username) } else { None }
    }
}

impl State {
    /// Schedules the removal of a player's variables, after the player has left.
    pub(super) fn depart_later(&mut self, username: &Arc<str>, now: Instant) {
        if self.grows() && !self.rules.leave_with.is_empty() {
            self.departures.push(now + self.rules.leave_grace, username.clone());
        }
    }

    /// Schedules the removal of every player's variables. A room that came from a store or a broker may
    /// have variables of players that left while nobody looked.
    pub(super) fn depart_all(&mut self, now: Instant) {
        let owners: Vec<Arc<str>> = {
            let names = self.variables.values();
            let owner = |(name, _): &(Text, Text)| {
                let name = name.lossy();
                let mut patterns = self.rules.leave_with.iter();
                patterns.find_map(|pattern| pattern.owner(&name).map(Arc::from))
            };
            names.iter().filter_map(owner).collect()
        };
        for owner in owners {
            self.depart_later(&owner, now);
        }
    }

    /// Looks from time to time for variables whose player is not here, because a node that has ended says
    /// nothing about its players. The broker knows whether a player is on any node.
    pub(super) fn sweep_departed(&mut self, now: Instant) {
        let has_presence = self.grows() && !self.rules.leave_with.is_empty();
        let lease = self.replica.as_ref().map(Replica::lease);
        let Some(lease) = lease.filter(|_| has_presence && self.members.len() > 0) else {
            self.departures.sweep = None;
            return;
        };
        match self.departures.sweep {
            Some(sweep) if sweep > now => return,
            Some(_) => self.depart_all(now),
            None => {}
        }
        self.departures.sweep = Some(now + lease * SWEEP);
    }

    /// Removes the variables of players that have been gone for long enough.
    pub(super) fn depart_due(&mut self, now: Instant) {
        self.sweep_departed(now);
        while let Some(username) = self.departures.pop(now) {
            let key = NameKey::new(&username);
            if !self.members.holders(&key).is_empty() {
                continue;
            }
            let is_own = |(name, _): &(Text, Text)| {
                let name = name.lossy();
                let mut patterns = self.rules.leave_with.iter();
                patterns.any(|pattern| pattern.owner(&name) == Some(&*username))
            };
            let names = self.variables.values();
            let own: Vec<_> = names.into_iter().filter(is_own).map(|(name, _)| name).collect();
            for name in own {
                self.take_out(&name, Some(&key), now);
            }
        }
    }

    /// Removes a variable of a growing room. Its members see the empty value.
    pub(crate) fn unset(&mut self, name: &Json<'_>, now: Instant) -> Result<(), SetError> {
        if self.is_gone() {
            return Err(SetError::Gone);
        }
        if !self.grows() {
            return Err(SetError::FixedNames);
        }
        let known = self.variables.key(name.as_json()).cloned();
        self.take_out(&known.ok_or(SetError::UnknownVariable)?, None, now);
        Ok(())
    }

    /// Removes a variable, after giving it the empty value, because no kind of client has a message for a
    /// removed variable. With a broker, nothing happens if a session on another node has the name `unless`.
    fn take_out(&mut self, name: &Text, unless: Option<&NameKey>, now: Instant) {
        let empty = Json::from_plain("");
        if self.replica.is_some() {
            let unless: Option<Arc<str>> = unless.map(|key| key.as_str().into());
            return self.hand_over_removal(name, &empty, unless);
        }
        let Some(json) = Json::stored(name.as_stored()) else { return };
        _ = self.accept_by(Source::Host, Terms::default(), &json, &empty, now);
        self.broadcast.depart(now);
        self.drop_names(|other| other != name.as_json(), now);
    }
}
