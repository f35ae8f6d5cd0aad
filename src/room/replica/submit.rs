//! Changes that a room hands to its broker instead of applying them at once.

use std::{collections::HashSet, sync::Arc};

use super::PendingWrite;
use crate::{
    room::{host::SetError, order::Source, state::State, terms::Terms},
    wire::{Json, Text},
};

impl State {
    /// Hands a write to the broker. Returns `None` if there is no broker, and an error if there is no
    /// memory for the write.
    pub(in crate::room) fn hand_over(
        &mut self,
        source: &Source,
        terms: Terms,
        name: &Json<'_>,
        value: &Json<'_>,
    ) -> Option<Result<(), SetError>> {
        self.replica.as_ref()?;
        let known = self.variables.key(name.as_json()).cloned();
        let creates = self.grows() || known.is_none();
        let replica = self.replica.as_mut()?;
        let (name, value) = (known.unwrap_or_else(|| name.to_text()), Some(value.to_text()));
        let by = self.members.username(source);
        let write = PendingWrite::new(source.clone(), name, value, creates).by(by).on(terms);
        Some(replica.submit(write).then_some(()).ok_or(SetError::NoMemory))
    }

    /// Has the broker give variables these values of the host's, all at once. Returns `None` if there is no
    /// broker, and an error if there is no memory for all of them.
    pub(in crate::room) fn hand_over_all(
        &mut self,
        values: &[(Json<'_>, Json<'_>)],
    ) -> Option<Result<(), SetError>> {
        self.replica.as_ref()?;
        for (name, value) in values {
            let handed = self.hand_over(&Source::Host, Terms::default(), name, value)?;
            if handed.is_err() {
                return Some(handed);
            }
            self.mark_last(|last| last.is_more = true);
        }
        self.mark_last(|last| last.is_more = false);
        Some(Ok(()))
    }

    fn mark_last(&mut self, mark: impl FnOnce(&mut PendingWrite)) {
        let last = self.replica.as_mut().and_then(|replica| replica.pending.last_write());
        if let Some(last) = last {
            mark(last);
        }
    }

    /// Has the broker drop all variables except those for which `stays` is true. Returns `false` if there
    /// is no broker.
    pub(in crate::room) fn hand_over_names(&mut self, stays: impl Fn(&str) -> bool) -> bool {
        let Some(replica) = &mut self.replica else { return false };
        let here = self.variables.values().into_iter().map(|(name, _)| name);
        let coming: Vec<_> = replica.pending.writes().map(|write| write.name.clone()).collect();
        for name in here.chain(coming).collect::<HashSet<_>>() {
            if !stays(name.as_json()) {
                _ = replica.submit(PendingWrite::new(Source::Host, name, None, false));
            }
        }
        true
    }

    /// Has the broker remove a variable, after an empty value for it, unless a session has the name
    /// `unless`.
    pub(in crate::room) fn hand_over_removal(
        &mut self,
        name: &Text,
        empty: &Json<'_>,
        unless: Option<Arc<str>>,
    ) {
        let Some(replica) = &mut self.replica else { return };
        let write = |value| PendingWrite::new(Source::Host, name.clone(), value, false);
        let mut emptied = write(Some(empty.to_text())).unless(unless.clone());
        emptied.is_more = true;
        if replica.submit(emptied) {
            _ = replica.submit(write(None).unless(unless));
        }
    }

    /// Makes the write that was handed over last create its variable, even if the variable still exists,
    /// because its removal waits.
    pub(in crate::room) fn have_created(&mut self) {
        self.mark_last(|last| last.creates = true);
    }

    /// Returns whether a variable will exist when all waiting writes are in the order.
    pub(in crate::room) fn will_have(&self, name: &str) -> bool {
        let mut pending = self.replica.iter().flat_map(|replica| replica.pending.writes().rev());
        let last = pending
            .find(|write| write.name.as_json() == name && (write.value.is_none() || write.creates));
        last.map_or_else(|| self.variables.contains(name), |write| write.value.is_some())
    }

    /// Returns how many variables there will be in addition to this one, including those that
    /// waiting writes create.
    pub(in crate::room) fn count_beside(&self, name: &str) -> usize {
        let pending = self.replica.iter().flat_map(|replica| replica.pending.writes());
        let names = pending.filter(|write| write.creates).map(|write| &write.name);
        let is_new =
            |other: &&Text| other.as_json() != name && !self.variables.contains(other.as_json());
        self.variables.len() + names.filter(is_new).collect::<HashSet<_>>().len()
    }

    /// Returns how many writes were ever handed to the broker.
    pub(crate) fn handed_over(&self) -> u64 {
        self.replica.as_ref().map_or(0, |replica| replica.pending.queued())
    }

    /// Returns whether the first `handed_over` of them are in the order.
    pub(crate) fn has_settled(&self, handed_over: u64) -> bool {
        self.replica.as_ref().is_none_or(|replica| replica.pending.has_settled(handed_over))
    }

    /// Notifies the broker that a session is over.
    pub(in crate::room) fn hand_over_end(&mut self, session: Option<u64>) {
        if let Some((replica, session)) = self.replica.as_mut().zip(session) {
            replica.end(session);
        }
    }
}
