//! A room whose members, host and clock are driven by hand.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{newcomer, rules};
use crate::{
    Dialect, Limits,
    budget::Budget,
    close::{Close, LeaveCause},
    names::DuplicateNames,
    policy::AnyPolicy,
    policy::Policy,
    room::{Due, MemberId, Newcomer, Rules, Shared, State, Submitted, Write},
    session::{Item, Outbox},
    wire::Json,
};

/// Texts are plain. An operation on a member that is not in the room does nothing.
#[derive(Debug)]
pub struct Play {
    room: Arc<Shared>,
    budget: Budget,
    now: Instant,
    members: Vec<Option<(MemberId, Outbox)>>,
}

impl Play {
    /// Creates a room as if a client had made it with these variables and left. Without variables, it grows.
    /// Returns `None` if the limits have no bytes for it.
    pub fn new(variables: &[(&str, &str)], limits: Limits, policy: impl Policy) -> Option<Self> {
        let now = Instant::now();
        let policy: Arc<dyn AnyPolicy> = Arc::new(policy);
        let budget = Budget::new(limits.state_bytes);
        let rules = Rules { policy: Some(policy), ..rules(now, limits) };
        let initial = plain(variables);
        let initial = (!initial.is_empty()).then_some(&*initial);
        let mut state =
            State::new(&Arc::new(rules), &"room".into(), initial, &budget, &Arc::default(), now)?;
        // Gives the room to players: an unclaimed room would take over the variables of the next newcomer.
        state.claim();
        let room = Arc::new(Shared::alone(state));
        Some(Self { room, budget, now, members: Vec::new() })
    }

    /// Returns the number of the new member; `None` if it is refused.
    pub fn join(
        &mut self,
        dialect: Dialect,
        name: &str,
        variables: Option<&[(&str, &str)]>,
        duplicates: DuplicateNames,
    ) -> Option<usize> {
        let variables = variables.map(plain);
        let newcomer = Newcomer {
            dialect,
            variables: variables.as_deref(),
            duplicates,
            ..newcomer(name, &[])
        };
        let now = self.now;
        let joined = self.room.change(|state, _| state.join(newcomer, now)).ok()?;
        let (id, outbox) = (joined.id, Outbox::new(self.room.clone(), dialect, joined));
        self.members.push(Some((id, outbox)));
        Some(self.members.len() - 1)
    }

    /// Ends a membership as its session does.
    pub fn leave(&mut self, member: usize) {
        if let Some((id, _)) = self.members[member].take() {
            let now = self.now;
            self.room.change(|state, _| state.leave(id, LeaveCause::Closed, now));
        }
    }

    /// Removes a member as the host does; its session still has its outbox.
    pub fn kick(&mut self, member: usize) {
        if let Some((id, _)) = self.members[member] {
            let now = self.now;
            self.room.change(|state, _| state.put_out(id, &Close::protocol("enough"), now));
        }
    }

    /// Returns whether it is still in the room.
    #[must_use]
    pub fn is_member(&self, member: usize) -> bool {
        let id = self.members[member].as_ref().map(|(id, _)| *id);
        id.is_some_and(|id| {
            self.room.read(|state| state.member_infos().iter().any(|member| member.id == id))
        })
    }

    /// Sets a variable for a member that has not proven which writes it has seen. Returns whether its session
    /// goes on.
    pub fn write(&mut self, member: usize, name: &str, value: Option<&str>) -> bool {
        let Some((id, _)) = self.members[member] else { return false };
        let (name, value) = (Json::from_plain(name), value.map(Json::from_plain));
        let value = value.as_ref();
        let write = Write { member: id, base: 0, name: &name, value, was: None, ack: None };
        let now = self.now;
        let submitted = self.room.change(|state, _| state.submit(&write, now));
        if submitted == Ok(Submitted::Starved) {
            self.room.change(|state, _| state.refuse(&write, now));
        }
        submitted.is_ok()
    }

    /// Sets variables for the host. Returns whether that was possible.
    pub fn set_all(&mut self, values: &[(&str, &str)]) -> bool {
        let (values, now) = (plain(values), self.now);
        self.room.change(|state, _| state.set_all(&values, now)).is_ok()
    }

    /// Simulates that the member's socket has accepted nothing for long.
    pub fn stall(&mut self, member: usize) {
        if let Some((_, outbox)) = &mut self.members[member] {
            outbox.release_batches();
            outbox.release_snapshot();
        }
    }

    /// Returns the pending frames of a member, and whether these are all.
    pub fn read(&mut self, member: usize) -> (Vec<String>, bool) {
        let mut frames = Vec::new();
        let Some((_, outbox)) = &mut self.members[member] else { return (frames, true) };
        loop {
            match outbox.next(false) {
                Some(Item::Frame(frame)) => frames.push(frame.as_text().to_owned()),
                Some(Item::Barrier(_)) => {}
                Some(Item::NoBudget) => return (frames, false),
                None => return (frames, true),
            }
        }
    }

    /// Advances the clock, and performs the work that becomes due.
    pub fn pass(&mut self, time: Duration) {
        self.now += time;
        let now = self.now;
        self.room.change(|state, _| while let Some(Due::Push) = state.advance(now) {});
    }

    /// Returns the room's values, which [`leave`](Self::leave) does not change.
    #[must_use]
    pub fn values(&self) -> BTreeMap<String, String> {
        let values = self.room.read(State::values).into_iter();
        values.map(|(name, value)| (name.lossy(), value.lossy())).collect()
    }

    /// Returns how many bytes of the budget are in use.
    #[must_use]
    pub fn used(&self) -> usize {
        self.budget.used()
    }

    /// Removes all members and the room, and returns how many bytes are still in use.
    #[must_use]
    pub fn end(self) -> usize {
        let Self { room, budget, members, .. } = self;
        drop((room, members));
        budget.used()
    }
}

fn plain(values: &[(&str, &str)]) -> Vec<(Json<'static>, Json<'static>)> {
    values.iter().map(|(name, value)| (Json::from_plain(name), Json::from_plain(value))).collect()
}
