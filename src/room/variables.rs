//! The values of a room, and what is remembered of who wrote them.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::members::MemberId;
use crate::wire::{Json, Text};

/// What a variable costs beside its name and value: the map's entry and two allocations.
const OVERHEAD: usize = 200;

/// What a handshake's JSON costs beside room and variables: its field names and a username.
const HANDSHAKE_OVERHEAD: usize = 256;

/// Quotes, colon and comma around one entry of a handshake's variables.
const ENTRY_OVERHEAD: usize = 6;

#[derive(Debug)]
pub(super) struct Variable {
    pub(super) value: Text,
    /// The position of the last write, and who it was (`None`: the host, or the creator).
    pub(super) last: u64,
    pub(super) writer: Option<MemberId>,
    /// The position of the last write by any other than `writer`.
    pub(super) other: u64,
    pub(super) written: Instant,
    /// Between the last two writes, where both are the writer's; else zero.
    pub(super) pause: Duration,
    /// Set while the last write is contested: when its writer is to be corrected.
    pub(super) due: Option<Instant>,
    /// The store is to learn the value.
    pub(super) is_unsaved: bool,
}

impl Variable {
    /// The position of the last write by any other than `member`.
    pub(super) fn written_by_another(&self, member: MemberId) -> u64 {
        if self.writer == Some(member) { self.other } else { self.last }
    }

    fn write(&mut self, value: Text, writer: Option<MemberId>, position: u64, now: Instant) {
        if self.writer == writer {
            self.pause = now.saturating_duration_since(self.written);
        } else {
            (self.other, self.pause) = (self.last, Duration::ZERO);
        }
        (self.value, self.writer, self.last, self.written) = (value, writer, position, now);
        self.due = None;
    }
}

#[derive(Debug, Default)]
pub(super) struct Variables {
    map: HashMap<Text, Variable>,
    /// The bytes of a handshake that carries all names and values.
    handshake: usize,
}

impl Variables {
    pub(super) fn new(room: &str) -> Self {
        let room = Json::from_plain(room).as_json().len();
        Self { map: HashMap::new(), handshake: HANDSHAKE_OVERHEAD + room }
    }

    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.map.contains_key(name)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Variable> {
        self.map.get(name)
    }

    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut Variable> {
        self.map.get_mut(name)
    }

    pub(super) fn key(&self, name: &str) -> Option<&Text> {
        self.map.get_key_value(name).map(|(key, _)| key)
    }

    pub(super) fn insert(&mut self, name: Text, value: Text, now: Instant) {
        self.handshake += entry_len(name.as_json(), value.as_json());
        let variable = Variable {
            value,
            last: 0,
            writer: None,
            other: 0,
            written: now,
            pause: Duration::ZERO,
            due: None,
            is_unsaved: false,
        };
        self.map.insert(name, variable);
    }

    /// Gives a variable its value of this position.
    pub(super) fn set(
        &mut self,
        name: &Text,
        value: Text,
        writer: Option<MemberId>,
        position: u64,
        now: Instant,
    ) -> Option<&mut Variable> {
        let variable = self.map.get_mut(name.as_json())?;
        self.handshake = self.handshake + value.as_json().len() - variable.value.as_json().len();
        variable.write(value, writer, position, now);
        Some(variable)
    }

    /// Whether these are the room's names, all of them.
    pub(super) fn same_names(&self, variables: &[(Json<'_>, Json<'_>)]) -> bool {
        variables.len() == self.map.len()
            && variables.iter().all(|(name, _)| self.contains(name.as_json()))
    }

    /// Removes all others: their names, and what they counted in the budget.
    pub(super) fn retain(&mut self, stays: impl Fn(&str) -> bool) -> (Vec<Text>, usize) {
        let (mut removed, mut freed) = (Vec::new(), 0);
        self.map.retain(|text, variable| {
            let (name, value) = (text.as_json(), variable.value.as_json());
            let stays = stays(name);
            if !stays {
                freed += cost(name, value);
                self.handshake -= entry_len(name, value);
                removed.push(text.clone());
            }
            stays
        });
        (removed, freed)
    }

    pub(super) fn handshake_len(&self) -> usize {
        self.handshake
    }

    #[cfg(feature = "inspector")]
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Text, &Variable)> {
        self.map.iter()
    }

    pub(super) fn values(&self) -> Vec<(Text, Text)> {
        self.map.iter().map(|(name, variable)| (name.clone(), variable.value.clone())).collect()
    }
}

/// What a variable counts in the budget.
pub(super) fn cost(name: &str, value: &str) -> usize {
    OVERHEAD + name.len() + value.len()
}

fn entry_len(name: &str, value: &str) -> usize {
    ENTRY_OVERHEAD + name.len() + value.len()
}
