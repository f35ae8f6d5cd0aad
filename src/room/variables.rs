//! The values of a room, and a record of their writers.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    time::{Duration, Instant},
};

use indexmap::IndexMap;

use super::members::MemberId;
use crate::{
    limits::cost,
    wire::{self, Json, Text},
};

/// The bytes of a handshake's JSON besides the room and the variables: its field names and a username.
const HANDSHAKE_OVERHEAD: usize = 256;

/// Quotes, colon and comma around one entry of a handshake's variables.
const ENTRY_OVERHEAD: usize = 6;

#[derive(Debug)]
pub(super) struct Variable {
    pub(super) value: Text,
    /// The position at which it was created.
    pub(super) created: u64,
    /// The position of the last write, and its writer (`None`: the host, or the creator).
    pub(super) last: u64,
    pub(super) writer: Option<MemberId>,
    /// The last write by anyone other than `writer`.
    other: Told,
    pub(super) written: Instant,
    /// The time between the last two writes if `writer` made both, otherwise zero.
    pub(super) pause: Duration,
    /// The time at which the last writer is to be corrected, while its write is contested.
    pub(super) due: Option<Instant>,
    /// Whether the store still has to save the value.
    pub(super) is_unsaved: bool,
}

/// A value that a member is sent, and its position in the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) position: u64,
    /// `None` if it is not known which value the member is sent.
    pub(super) value: Option<Fingerprint>,
}

/// A stand-in for a value that is no longer the room's. Equal values have equal fingerprints. Different
/// values have different ones, because no client knows the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint(u64);

/// A value in the order, for its variable.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) value: Text,
    pub(super) writer: Option<MemberId>,
    pub(super) position: u64,
    pub(super) now: Instant,
    /// Whether the value before it, by another writer, is never sent because it was coalesced with this one.
    pub(super) hides_other: bool,
}

impl Variable {
    /// Returns the last write by anyone other than its writer.
    pub(super) fn other(&self) -> Told {
        self.other
    }
}

#[derive(Debug, Default)]
pub(super) struct Variables {
    /// The variables, in the order in which they were created.
    map: IndexMap<Text, Variable>,
    keys: RandomState,
    /// The bytes of a handshake that carries all names and values.
    handshake: usize,
    /// The position at which variables were last dropped. A variable that is created later may have been
    /// another variable to members that are still being sent that one.
    dropped: u64,
}

impl Variables {
    pub(super) fn new(room: &str) -> Self {
        let room = Json::from_plain(room).as_json().len();
        Self { handshake: HANDSHAKE_OVERHEAD + room, ..Self::default() }
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

    pub(super) fn fingerprint(&self, value: &Text) -> Fingerprint {
        Fingerprint(self.keys.hash_one(value))
    }

    /// Adds a variable that nobody has written yet.
    pub(super) fn insert(&mut self, name: Text, value: Text, now: Instant) {
        self.create(name, Written { value, writer: None, position: 0, now, hides_other: false });
    }

    /// Adds a variable with the write that creates it.
    pub(super) fn create(&mut self, name: Text, written: Written) -> &mut Variable {
        let Written { value, writer, position, now, .. } = written;
        self.handshake += entry_len(name.as_json(), value.as_json());
        let variable = Variable {
            value,
            created: position,
            last: position,
            writer,
            other: Told { position: self.dropped, value: None },
            written: now,
            pause: Duration::ZERO,
            due: None,
            is_unsaved: false,
        };
        self.map.entry(name).insert_entry(variable).into_mut()
    }

    /// Sets the next value of a variable.
    pub(super) fn set(&mut self, name: &Text, written: Written) -> Option<&mut Variable> {
        let Written { value, writer, position, now, hides_other } = written;
        let variable = self.map.get_mut(name.as_json())?;
        self.handshake = self.handshake + value.as_json().len() - variable.value.as_json().len();
        if variable.writer == writer {
            variable.pause = now.saturating_duration_since(variable.written);
        } else {
            let before = Some(Fingerprint(self.keys.hash_one(&variable.value)));
            variable.other = Told { position: variable.last, value: before };
            variable.pause = Duration::ZERO;
        }
        if hides_other {
            variable.other.value = None;
        }
        (variable.value, variable.writer) = (value, writer);
        (variable.last, variable.written, variable.due) = (position, now, None);
        Some(variable)
    }

    /// Returns whether these are the room's names, all of them.
    pub(super) fn same_names(&self, variables: &[(Json<'_>, Json<'_>)]) -> bool {
        variables.len() == self.map.len()
            && variables.iter().all(|(name, _)| self.contains(name.as_json()))
    }

    /// Removes all variables except those that `stays` accepts, at this position. Returns their names, and
    /// the bytes that they counted in the budget.
    pub(super) fn retain(
        &mut self,
        stays: impl Fn(&str) -> bool,
        position: u64,
    ) -> (Vec<Text>, usize) {
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
        if !removed.is_empty() {
            self.dropped = position;
        }
        (removed, freed)
    }

    pub(super) fn handshake_len(&self) -> usize {
        self.handshake
    }

    /// Iterates over all variables, in the order in which they were created.
    #[cfg(feature = "inspector")]
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Text, &Variable)> {
        self.map.iter()
    }

    /// Returns these names in the order in which the variables were created. Names without a variable come
    /// last.
    pub(super) fn in_order(&self, names: &HashSet<Text>) -> Vec<Text> {
        let mut names: Vec<_> = names.iter().cloned().collect();
        names.sort_by_key(|name| self.map.get_index_of(name).unwrap_or(usize::MAX));
        names
    }

    /// Returns about how many bytes all of them take as sets.
    pub(super) fn sets_len(&self) -> usize {
        self.handshake + self.map.len() * wire::set_len("", "")
    }

    /// Returns names and values, in the order in which the variables were created.
    pub(super) fn values(&self) -> Vec<(Text, Text)> {
        self.map.iter().map(|(name, variable)| (name.clone(), variable.value.clone())).collect()
    }
}

fn entry_len(name: &str, value: &str) -> usize {
    ENTRY_OVERHEAD + name.len() + value.len()
}
