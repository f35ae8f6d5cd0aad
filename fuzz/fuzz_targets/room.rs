//! Members and a host act in a room in any order: its values are those of a model, its members end up
//! with them, and its bytes are freed.

#![no_main]

use std::{collections::BTreeMap, time::Duration};

use axum_cloud_variables::{
    Dialect, DuplicateNames, Limits, ScratchValues,
    internals::{Decoded, Play, decoded},
    policy::{Policy, Verdict, Write},
};
use libfuzzer_sys::fuzz_target;

type View = BTreeMap<String, String>;

const DIALECTS: [Dialect; 3] = [Dialect::Spec, Dialect::Forkphorus2020, Dialect::Scratch];
const DUPLICATES: [DuplicateNames; 3] =
    [DuplicateNames::Reject, DuplicateNames::Replace, DuplicateNames::Allow];
const NAMES: [&str; 8] = ["☁ a", "☁ b", "☁ c", "☁ d", "☁ e", "☁ too long a name", "☁ \"", "☁ \n"];
const VALUES: [&str; 8] = ["", "1", "12", "no", "re", "\"\\\n", "☁☁☁", "longer than it may be"];
const MEMBERS: usize = 5;

/// A policy that ignores `no`, and replaces `re` by `1`.
struct Host;

impl Policy for Host {
    fn write(&self, write: &Write<'_>) -> Verdict {
        match write.value() {
            "no" => Verdict::Ignore,
            "re" => Verdict::Replace("1".into()),
            _ => Verdict::Accept,
        }
    }
}

struct World {
    play: Play,
    limits: Limits,
    grows: bool,
    /// The last values that each member applied: its own sets and the server's, in order of arrival.
    views: Vec<(Dialect, View)>,
    /// The model's values; `None` if bytes are scarce, so that anything may be refused.
    truth: Option<View>,
}

impl World {
    /// Sets a variable in the model if the rules and the limits allow it, and returns whether they do.
    fn accept(&mut self, name: &str, value: &str) -> bool {
        let Some(truth) = &mut self.truth else { return true };
        let has_place =
            truth.contains_key(name) || truth.len() < self.limits.variables_per_room && self.grows;
        let fits = name.len() <= self.limits.name_bytes && value.len() <= self.limits.value_bytes;
        if has_place && fits {
            truth.insert(name.into(), value.into());
        }
        has_place && fits
    }

    fn write(&mut self, member: usize, name: &str, value: Option<&str>) {
        if !self.play.is_member(member) {
            assert!(!self.play.write(member, name, value), "it is out");
            return;
        }
        let exists = self.grows || self.play.values().contains_key(name);
        assert_eq!(self.play.write(member, name, value), exists);
        if !exists {
            // The member's session ends.
            self.play.leave(member);
            return;
        }
        if let Some(value) = value {
            self.views[member].1.insert(name.into(), value.into());
        }
        match value {
            None | Some("no") => {}
            Some("re") => _ = self.accept(name, "1"),
            Some(value) => _ = self.accept(name, value),
        }
    }

    fn set_all(&mut self, values: &[(&str, &str)]) {
        let is_set = self.play.set_all(values);
        let Some(truth) = self.truth.clone() else { return };
        let all = values.iter().all(|(name, value)| self.accept(name, value));
        if !all {
            // The model sets all or nothing.
            self.truth = Some(truth);
        }
        assert_eq!(is_set, all, "{values:?}");
    }

    /// Reads a member's frames, and returns whether none is missing.
    fn read(&mut self, member: usize) -> bool {
        let (frames, is_all) = self.play.read(member);
        let (dialect, view) = &mut self.views[member];
        for frame in frames {
            assert!(!frame.is_empty());
            for line in frame.split('\n') {
                let said = decoded(*dialect, ScratchValues::Strings, line);
                let Some(Decoded::Set { name, value: Some(value) }) = said else {
                    panic!("{frame}")
                };
                view.insert(plain(&name), plain(&value));
            }
        }
        is_all
    }

    fn run(&mut self, mut ops: impl Iterator<Item = u8>) -> Option<()> {
        loop {
            let (op, which) = (ops.next()?, usize::from(ops.next()?));
            let (name, value) = (NAMES[which % 8], VALUES[which / 8 % 8]);
            let member = usize::from(op / 16) % MEMBERS.min(self.views.len().max(1));
            let is_there = member < self.views.len();
            match op % 16 {
                0..=2 => self.join(which),
                3 if is_there => self.play.leave(member),
                4 if is_there => self.play.kick(member),
                5 if is_there => self.play.stall(member),
                6 | 7 if is_there => _ = self.read(member),
                8 => self.set_all(&[(name, value)]),
                9 => self.set_all(&[(name, value), (NAMES[which / 7 % 8], VALUES[which % 8])]),
                10 => self.play.pass(Duration::from_millis(1 << (which % 12))),
                11 if is_there => self.write(member, name, None),
                _ if is_there => self.write(member, name, Some(value)),
                _ => {}
            }
            if let Some(truth) = &self.truth {
                assert_eq!(self.play.values(), *truth);
            }
        }
    }

    fn join(&mut self, which: usize) {
        if self.views.len() >= 64 {
            return;
        }
        let dialect = DIALECTS[which % 3];
        let values = self.play.values();
        let mut brought: Vec<_> = values.keys().map(|name| (name.as_str(), "mine")).collect();
        if which.is_multiple_of(17) {
            brought.pop();
        }
        let matches = dialect == Dialect::Scratch || brought.len() == values.len();
        let brought = (dialect != Dialect::Scratch).then_some(&*brought);
        let name = ["ann", "ANN", "ben", "bеn"][which / 3 % 4];
        let joined = self.play.join(dialect, name, brought, DUPLICATES[which / 12 % 3]);
        if let Some(joined) = joined {
            assert!(matches, "its variables differ");
            assert_eq!(joined, self.views.len());
            let mine = brought.unwrap_or_default().iter();
            let view = mine.map(|(name, value)| (name.to_string(), value.to_string())).collect();
            self.views.push((dialect, view));
        }
    }

    /// Lets everyone read until the room is quiet, and checks that all agree.
    fn agree(&mut self) {
        // A correction comes after 10 s at the latest, and its reader may have to ask for a snapshot.
        for _ in 0..4 {
            self.play.pass(Duration::from_secs(10));
            for member in 0..self.views.len() {
                self.read(member);
            }
        }
        let truth = self.play.values();
        for member in 0..self.views.len() {
            if self.play.is_member(member) && self.read(member) {
                let mut view = self.views[member].1.clone();
                // Nobody else knows the variables that it wrote and the room had no place for.
                view.retain(|name, _| truth.contains_key(name));
                assert_eq!(view, truth, "member {member}");
            }
        }
    }
}

/// Returns the string of a JSON text without its quotes.
fn plain(json: &str) -> String {
    serde_json::from_str(&format!("\"{json}\"")).expect("JSON")
}

fuzz_target!(|input: &[u8]| {
    let Some((how, ops)) = input.split_first() else { return };
    let (grows, is_short) = (how & 1 == 1, how & 2 == 2);
    let limits = Limits::default()
        .members_per_room(MEMBERS)
        .variables_per_room(5)
        .name_bytes(12)
        .value_bytes(9)
        .backlog_batches(2)
        .state_bytes(if is_short { 3_600 + usize::from(*how) * 4 } else { 1 << 30 });
    let variables = [("☁ a", "0"), ("☁ b", "0"), ("☁ \"", "0")];
    let variables = if grows { &[][..] } else { &variables };
    let Some(play) = Play::new(variables, limits.clone(), Host) else { return };
    let truth = (!is_short).then(|| play.values());
    let mut world = World { play, limits, grows, views: Vec::new(), truth };
    world.run(ops.iter().copied());
    world.agree();
    assert_eq!(world.play.end(), 0, "bytes that nobody gave back");
});
