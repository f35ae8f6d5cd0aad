//! A room whose members, host and clock are moved by hand.

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

/// Texts are plain. What is asked of somebody who is not there does nothing.
#[derive(Debug)]
pub struct Play {
    room: Arc<Shared>,
    budget: Budget,
    now: Instant,
    members: Vec<Option<(MemberId, Outbox)>>,
}

impl Play {
    /// A room that somebody made with these variables and left; one without grows. `None` where the
    /// limits have no bytes for it.
    pub fn new(variables: &[(&str, &str)], limits: Limits, policy: impl Policy) -> Option<Self> {
        let now = Instant::now();
        let policy: Arc<dyn AnyPolicy> = Arc::new(policy);
        let budget = Budget::new(limits.state_bytes);
        let rules = Rules { policy: Some(policy), ..rules(now, limits) };
        let initial = plain(variables);
        let initial = (!initial.is_empty()).then_some(&*initial);
        let mut state =
            State::new(&Arc::new(rules), &"room".into(), initial, &budget, &Arc::default(), now)?;
        // Of players: one of nobody's would become what the next brings.
        state.claim();
        let room = Arc::new(Shared::alone(state));
        Some(Self { room, budget, now, members: Vec::new() })
    }

    /// The number of the new member; `None` where it is refused.
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

    /// As its session does when it ends.
    pub fn leave(&mut self, member: usize) {
        if let Some((id, _)) = self.members[member].take() {
            let now = self.now;
            self.room.change(|state, _| state.leave(id, LeaveCause::Closed, now));
        }
    }

    /// As the host does; its session still has its outbox.
    pub fn kick(&mut self, member: usize) {
        if let Some((id, _)) = self.members[member] {
            let now = self.now;
            self.room.change(|state, _| state.put_out(id, &Close::protocol("enough"), now));
        }
    }

    /// Whether it is still in the room.
    #[must_use]
    pub fn is_member(&self, member: usize) -> bool {
        let id = self.members[member].as_ref().map(|(id, _)| *id);
        id.is_some_and(|id| {
            self.room.read(|state| state.member_infos().iter().any(|member| member.id == id))
        })
    }

    /// A member sets a variable, having proven nothing of what it has seen; whether its session goes
    /// on.
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

    /// The host sets variables; whether that was possible.
    pub fn set_all(&mut self, values: &[(&str, &str)]) -> bool {
        let (values, now) = (plain(values), self.now);
        self.room.change(|state, _| state.set_all(&values, now)).is_ok()
    }

    /// Its socket has taken nothing for long.
    pub fn stall(&mut self, member: usize) {
        if let Some((_, outbox)) = &mut self.members[member] {
            outbox.release_batches();
            outbox.release_snapshot();
        }
    }

    /// The frames that there are for a member, and whether that is all.
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

    /// Time passes, and what becomes due is done.
    pub fn pass(&mut self, time: Duration) {
        self.now += time;
        let now = self.now;
        self.room.change(|state, _| while let Some(Due::Push) = state.advance(now) {});
    }

    /// The room's values, which [`leave`](Self::leave) does not change.
    #[must_use]
    pub fn values(&self) -> BTreeMap<String, String> {
        let values = self.room.read(State::values).into_iter();
        values.map(|(name, value)| (name.lossy(), value.lossy())).collect()
    }

    /// Bytes of the budget in use.
    #[must_use]
    pub fn used(&self) -> usize {
        self.budget.used()
    }

    /// Everybody goes and the room is forgotten; the bytes that are still in use.
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
