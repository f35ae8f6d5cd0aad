//! The values of a client: a copy of the room's, and the sets that the room may not have yet.
//!
//! The rules are those of `client.js`.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, RandomState},
};

use indexmap::IndexMap;

use crate::wire::{Json, Text};

/// How many values of one variable are remembered that may be in flight: those of a game at 60 frames a second,
/// on a connection that has been stalled for half an hour.
const MOST_UNKNOWN: usize = 100_000;

/// How many variables a client shows. A server that names more is at fault, and may not fill the memory.
const MOST: usize = 65_536;

/// How many connections in a row the server must close with 4000 before a set that each carried counts as the
/// reason. The server closes with 4000 for others too.
const REFUSALS: u32 = 2;

/// The variables that a client shows, in the order in which it first saw them.
#[derive(Debug)]
pub(super) struct Values {
    shown: IndexMap<Text, Text>,
    declared: IndexMap<Text, Text>,
    /// The values that the room may have, unless another member has set the variable since; usually one.
    known: HashMap<Text, Vec<Text>>,
    /// The last set of each variable that the room may not have taken yet, in order.
    own: IndexMap<Text, Own>,
    /// The variables received on this connection.
    fresh: HashSet<Text>,
    /// How many sets were sent on this connection.
    sets: u64,
    /// How many connections in a row the server has closed with 4000.
    refusals: u32,
    hasher: RandomState,
}

/// Why a connection ended, as far as it concerns the sets that it carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// They may be sent again.
    Broken,
    /// The server has closed it with 4000, perhaps because the room has no place for a variable.
    Refused,
    /// The server does not take a frame that long.
    TooLarge,
}

#[derive(Debug)]
struct Own {
    value: Text,
    /// Hashes of the values that the room may have if the set was lost, and no other member has set the
    /// variable; of `None` if it has no such variable.
    instead: HashSet<u64>,
    /// The set's place among those of the connection; `None` until it is sent.
    place: Option<u64>,
    /// Whether it was sent on a connection that is gone.
    is_in_doubt: bool,
}

impl Own {
    fn may_be_instead(&mut self, hash: u64) {
        if self.instead.len() < MOST_UNKNOWN {
            self.instead.insert(hash);
        }
    }
}

/// A variable with a new value, or the same value set again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Changed {
    pub(super) name: Text,
    pub(super) value: Text,
}

impl Values {
    pub(super) fn new(declared: &[(Json<'_>, Json<'_>)]) -> Self {
        let declared: IndexMap<_, _> =
            declared.iter().map(|(name, value)| (name.to_text(), value.to_text())).collect();
        Self {
            shown: declared.clone(),
            declared,
            known: HashMap::new(),
            own: IndexMap::new(),
            fresh: HashSet::new(),
            sets: 0,
            refusals: 0,
            hasher: RandomState::new(),
        }
    }

    pub(super) fn shown(&self) -> &IndexMap<Text, Text> {
        &self.shown
    }

    pub(super) fn declared(&self) -> &IndexMap<Text, Text> {
        &self.declared
    }

    /// Sets a variable for the program.
    pub(super) fn set(&mut self, name: Text, value: Text) {
        // Moved to the end, because sets are sent in the order in which they were made.
        let mut own = match self.own.shift_remove(&name) {
            Some(mut before) => {
                // An earlier set that was sent may have arrived.
                if before.place.is_some() || before.is_in_doubt {
                    before.may_be_instead(self.hasher.hash_one(Some(&before.value)));
                }
                before
            }
            None => Own {
                value: value.clone(),
                instead: match self.known.get(&name) {
                    Some(known) => {
                        known.iter().map(|value| self.hasher.hash_one(Some(value))).collect()
                    }
                    // Or the room has no such variable.
                    None => HashSet::from([self.hasher.hash_one(None::<&Text>)]),
                },
                place: None,
                is_in_doubt: false,
            },
        };
        (own.value, own.place, own.is_in_doubt) = (value.clone(), None, false);
        self.own.insert(name.clone(), own);
        self.shown.insert(name, value);
    }

    /// Begins a connection.
    pub(super) fn begin(&mut self) {
        self.fresh.clear();
        self.sets = 0;
    }

    /// Notes that the room has this value. Until the client has joined, this does not replace its own sets.
    pub(super) fn receive(&mut self, name: Text, value: Text, is_joined: bool) -> Option<Changed> {
        if self.shown.len() >= MOST && !self.shown.contains_key(&name) {
            return None;
        }
        self.fresh.insert(name.clone());
        self.known.insert(name.clone(), vec![value.clone()]);
        if let Some(own) = self.own.get_mut(&name) {
            if !is_joined {
                return None;
            }
            own.may_be_instead(self.hasher.hash_one(Some(&value)));
        }
        // Reported even if it is the same: a set may be a message.
        self.shown.insert(name.clone(), value.clone());
        Some(Changed { name, value })
    }

    /// Completes the join. If the server has confirmed it, a variable that was not received on this
    /// connection has its declared value, or does not exist.
    ///
    /// A set in doubt was lost if the room has a value from before it. If the room has another value, another
    /// member has set the variable since.
    pub(super) fn join(&mut self, is_known: bool, is_new: bool) -> Vec<Changed> {
        let mut changed = Vec::new();
        if is_known {
            let all = self.shown.keys().chain(self.declared.keys());
            let missing: HashSet<_> =
                all.filter(|name| !self.fresh.contains(*name)).cloned().collect();
            missing.into_iter().for_each(|name| self.is_as_declared(name, &mut changed));
        }
        for (name, mut own) in std::mem::take(&mut self.own) {
            let now = self.known.get(&name).and_then(|known| known.last()).cloned();
            let differs = now.as_ref() != Some(&own.value);
            let hash = self.hasher.hash_one(now.as_ref());
            let is_lost = differs && (is_new || own.instead.contains(&hash));
            if !own.is_in_doubt || is_lost {
                own.instead = HashSet::from([hash]);
                self.show(&name, own.value.clone(), &mut changed);
                self.own.insert(name, own);
            } else if let Some(now) = now {
                self.show(&name, now, &mut changed);
            } else {
                self.shown.shift_remove(&name);
            }
        }
        changed
    }

    fn is_as_declared(&mut self, name: Text, changed: &mut Vec<Changed>) {
        let is_own = self.own.contains_key(&name);
        if let Some(declared) = self.declared.get(&name).cloned() {
            self.known.insert(name.clone(), vec![declared.clone()]);
            if !is_own {
                self.show(&name, declared, changed);
            }
        } else {
            self.known.remove(&name);
            if !is_own {
                self.shown.shift_remove(&name);
            }
        }
    }

    /// Takes the next set to send, in the order in which they were made.
    pub(super) fn next_unsent(&mut self) -> Option<Changed> {
        let (name, own) = self.own.iter_mut().find(|(_, own)| own.place.is_none())?;
        self.sets += 1;
        own.place = Some(self.sets);
        Some(Changed { name: name.clone(), value: own.value.clone() })
    }

    /// Notes a conditional set, which applies only if the room has the value that is shown. It is not sent
    /// again.
    pub(super) fn update(&mut self, name: Text, value: Text) {
        self.sets += 1;
        // The room may have it from now on, also if a later set is lost.
        match self.own.get_mut(&name) {
            Some(own) => own.may_be_instead(self.hasher.hash_one(Some(&value))),
            None => self.known.entry(name.clone()).or_default().push(value.clone()),
        }
        self.shown.insert(name, value);
    }

    /// Notes that the room has taken this many of the connection's sets.
    pub(super) fn taken(&mut self, sets: u64) {
        self.refusals = 0;
        let Self { own, known, shown, .. } = self;
        own.retain(|name, own| {
            let is_taken = own.place.is_some_and(|place| place <= sets);
            if is_taken {
                // If another value has come since it was set, either may be the later one.
                let shown = shown.get(name).cloned();
                known.insert(name.clone(), [own.value.clone()].into_iter().chain(shown).collect());
            }
            !is_taken
        });
    }

    /// Returns how many sets were sent on this connection.
    pub(super) fn sent(&self) -> u64 {
        self.sets
    }

    /// Ends the connection. A set that would only be refused again is given up.
    pub(super) fn end(&mut self, end: End) {
        self.refusals = if end == End::Refused { self.refusals + 1 } else { 0 };
        let is_refused = self.refusals >= REFUSALS;
        let sent = self.own.iter().filter(|(_, own)| own.place.is_some());
        let longest = sent.max_by_key(|(_, own)| own.value.as_json().len());
        let longest = longest.map(|(name, _)| name.clone()).filter(|_| end == End::TooLarge);
        let declared = &self.declared;
        self.own.retain(|name, own| {
            let was_sent = own.place.take().is_some();
            own.is_in_doubt |= was_sent;
            let is_unknown = was_sent && is_refused && !declared.contains_key(name);
            !is_unknown && Some(name) != longest.as_ref()
        });
    }

    fn show(&mut self, name: &Text, value: Text, changed: &mut Vec<Changed>) {
        if self.shown.get(name) == Some(&value) {
            return;
        }
        self.shown.insert(name.clone(), value.clone());
        changed.push(Changed { name: name.clone(), value });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Text {
        Json::from_plain(text).to_text()
    }

    fn values() -> Values {
        let mut values = Values::new(&[(Json::from_plain("x"), Json::from_plain("0"))]);
        values.begin();
        values
    }

    fn unsent(values: &mut Values) -> Vec<String> {
        std::iter::from_fn(|| values.next_unsent()).map(|set| set.value.lossy()).collect()
    }

    #[test]
    fn a_server_does_not_fill_the_memory_with_names() {
        let mut values = values();
        for n in 0..MOST + 10 {
            values.receive(text(&n.to_string()), text("0"), true);
        }
        assert_eq!(values.shown().len(), MOST);
        assert_eq!((values.known.len(), values.fresh.len()), (MOST - 1, MOST - 1));
    }

    #[test]
    fn a_set_that_was_lost_is_sent_again() {
        let mut values = values();
        values.join(true, false);
        values.set(text("x"), text("1"));
        assert_eq!(unsent(&mut values), ["1"]);
        values.end(End::Broken);
        values.begin();
        assert_eq!(values.receive(text("x"), text("0"), false), None, "its own is shown");
        values.join(true, false);
        assert_eq!(unsent(&mut values), ["1"]);
        assert_eq!(values.shown()["x"], text("1"));
    }

    #[test]
    fn a_set_that_somebody_has_overwritten_is_not_sent_again() {
        let mut values = values();
        values.join(true, false);
        values.set(text("x"), text("1"));
        assert_eq!(unsent(&mut values), ["1"]);
        values.end(End::Broken);
        values.begin();
        values.receive(text("x"), text("2"), false);
        let changed = values.join(true, false);
        assert_eq!(changed, [Changed { name: text("x"), value: text("2") }]);
        assert_eq!(unsent(&mut values), [""; 0]);
    }

    #[test]
    fn a_taken_set_is_known() {
        let mut values = values();
        values.join(true, true);
        values.set(text("x"), text("1"));
        assert_eq!(unsent(&mut values).len(), 1);
        values.taken(1);
        values.end(End::Broken);
        values.begin();
        values.receive(text("x"), text("0"), false);
        // The room was reset: this is not a lost set of the client.
        assert_eq!(values.join(true, false), []);
        assert_eq!(values.shown()["x"], text("0"));
    }

    #[test]
    fn a_variable_that_is_refused_is_given_up() {
        let mut values = values();
        values.join(true, false);
        values.set(text("mine"), text("1"));
        values.set(text("x"), text("1"));
        assert_eq!(unsent(&mut values).len(), 2);
        // Once, the server may have had another reason.
        values.end(End::Refused);
        values.begin();
        values.join(true, false);
        assert_eq!(unsent(&mut values).len(), 2);
        values.end(End::Refused);
        values.begin();
        values.join(true, false);
        assert_eq!(values.shown().len(), 1);
        assert_eq!(unsent(&mut values), ["1"], "of the declared variable");
    }

    #[test]
    fn of_sets_that_are_too_long_the_longest_is_given_up() {
        let mut values = values();
        values.join(true, false);
        values.set(text("x"), text("a long value"));
        values.set(text("y"), text("1"));
        assert_eq!(unsent(&mut values).len(), 2);
        values.end(End::TooLarge);
        values.begin();
        values.receive(text("x"), text("0"), false);
        values.join(true, false);
        assert_eq!(unsent(&mut values), ["1"]);
        assert_eq!(values.shown()["x"], text("0"));
    }

    #[test]
    fn a_set_after_an_update_is_sent_again_if_it_was_lost() {
        let mut values = values();
        values.join(true, false);
        values.update(text("x"), text("1"));
        values.set(text("x"), text("5"));
        assert_eq!(unsent(&mut values), ["5"]);
        values.end(End::Broken);
        values.begin();
        values.receive(text("x"), text("1"), false);
        values.join(true, false);
        assert_eq!(unsent(&mut values), ["5"]);
    }

    #[test]
    fn the_last_of_many_sets_in_flight_is_not_lost() {
        let mut values = values();
        values.receive(text("x"), text("0"), false);
        values.join(true, false);
        for value in 1..=1_000 {
            values.set(text("x"), text(&value.to_string()));
            assert_eq!(unsent(&mut values).len(), 1);
        }
        values.end(End::Broken);
        values.begin();
        values.receive(text("x"), text("0"), false);
        values.join(true, false);
        assert_eq!(unsent(&mut values), ["1000"]);
    }
}
