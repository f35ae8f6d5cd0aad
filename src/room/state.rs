//! What a room's lock guards: its members, its variables and their order.
//!
//! Knows neither sockets nor clocks: the time is handed in.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use tokio::sync::broadcast;

use super::{
    activity::Activity,
    batch::Batch,
    event::{Observers, RoomEvent, Watchers},
    history::History,
    link::Link,
    members::{MemberId, Members},
    outgoing::Outgoing,
    settle::Settle,
    snapshot::Snapshot,
    unsaved::Unsaved,
    variables::{self, Variables},
    waiting::Relayed,
};
use crate::{
    budget::{Budget, Charge},
    limits::Limits,
    policy::AnyPolicy,
    store::Keeper,
    wire::{self, Dialect, Json, Text},
};

/// Whether a room's variables are those of its creator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Schema {
    /// The creator's names are the room's. Who brings other names is refused with 4001, who sets
    /// another variable is closed with 4000 (the protocol's rules). The default.
    #[default]
    Fixed,
    /// Names that are new, in a handshake or a set, are created, within the limits.
    ///
    /// A room that is created by a client of [`Dialect::Scratch`](crate::Dialect::Scratch), which
    /// brings no names, grows by sets in any case.
    Growing,
}

/// How the rooms of a registry behave.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// From when the beats of all rooms are counted.
    pub(crate) epoch: Instant,
    pub(crate) schema: Schema,
    pub(crate) tick: Duration,
    pub(crate) coalesce: bool,
    pub(crate) settle: Option<Duration>,
    pub(crate) limits: Limits,
    pub(crate) policy: Option<Arc<dyn AnyPolicy>>,
    /// Where there is a store.
    pub(crate) keeper: Option<Arc<Keeper>>,
    /// How many writes of the past a room knows.
    pub(crate) history: usize,
}

/// What a receiver that starts at a position needs besides.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) receiver: broadcast::Receiver<Arc<Batch>>,
    pub(crate) position: u64,
    pub(crate) snapshot: Option<Arc<Snapshot>>,
}

/// What came of the wish to forget a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Eviction {
    Evicted,
    InUse,
    /// The store, or the broker, does not have all of it yet.
    Unsaved,
    /// It had members again, and was emptied at this moment.
    EmptiedLater(Instant),
}

/// What a room costs before it has variables: its channel, maps and locks.
const ROOM_COST: usize = 3_000;

#[derive(Debug)]
pub(crate) struct State {
    pub(super) id: Arc<str>,
    pub(super) observers: Observers,
    pub(super) schema: Schema,
    pub(super) max_members: usize,
    pub(super) is_locked: bool,
    /// The host opened it: it stays when it is empty.
    pub(super) is_kept: bool,
    pub(super) rules: Arc<Rules>,
    /// Whether a set creates a variable that is not there.
    pub(super) grows: bool,
    pub(super) variables: Variables,
    pub(super) members: Members,
    /// The position of what was ordered last: a write, a snapshot or a correction.
    pub(super) position: u64,
    pub(super) outgoing: Outgoing,
    pub(super) settle: Settle,
    /// The snapshot that somebody is being sent, for the next who needs it, until a write makes it
    /// old.
    pub(super) snapshot: Weak<Snapshot>,
    pub(super) charge: Charge,
    pub(super) budget: Budget,
    /// Where there is a store.
    pub(super) unsaved: Option<Unsaved>,
    /// Where the order is a broker's.
    pub(super) relayed: Option<Relayed>,
    /// Where the host wants one.
    pub(super) history: Option<History>,
    pub(super) activity: Activity,
    /// When somebody will look after the room by itself.
    pub(super) alarm: Option<Instant>,
    /// When the last member left last.
    emptied: Instant,
    /// The room stands among the emptied ones.
    awaits_eviction: bool,
    /// Whoever finds the room so starts over at the registry.
    pub(super) evicted: bool,
}

impl State {
    /// A room with the creator's variables, or one that grows from none; `None` where the budget
    /// does not have it.
    pub(crate) fn new(
        rules: &Arc<Rules>,
        id: &Arc<str>,
        initial: Option<&[(Json<'_>, Json<'_>)]>,
        (budget, watchers): (&Budget, &Arc<Watchers>),
        now: Instant,
    ) -> Option<Self> {
        let grows = initial.is_none() || rules.schema == Schema::Growing;
        let initial = initial.unwrap_or_default();
        let cost =
            |(name, value): &(Json<'_>, Json<'_>)| variables::cost(name.as_json(), value.as_json());
        let charge =
            budget.charge(ROOM_COST + id.len() + initial.iter().map(cost).sum::<usize>())?;
        let mut variables = Variables::new(id);
        for (name, value) in initial {
            variables.insert(name.to_text(), value.to_text(), now);
        }
        let limits = &rules.limits;
        let outgoing = Outgoing::new(rules, budget, now);
        Some(Self {
            id: id.clone(),
            observers: Observers::new(id.clone(), watchers),
            schema: rules.schema,
            max_members: limits.members_per_room,
            is_locked: false,
            is_kept: false,
            rules: rules.clone(),
            grows,
            variables,
            members: Members::default(),
            position: 0,
            outgoing,
            settle: Settle::new(rules.settle),
            snapshot: Weak::new(),
            charge,
            budget: budget.clone(),
            unsaved: rules.keeper.as_ref().map(Unsaved::new),
            relayed: None,
            history: (rules.history > 0).then(|| History::new(rules.history, budget.open())),
            activity: Activity::default(),
            alarm: None,
            emptied: now,
            awaits_eviction: false,
            evicted: false,
        })
    }

    pub(super) fn start(&self) -> Start {
        Start { receiver: self.outgoing.subscribe(), position: self.position, snapshot: None }
    }

    /// A fresh start for a member that lagged; `None` where the budget has no snapshot now, or the
    /// member is none any more.
    pub(crate) fn resync(&mut self, id: MemberId) -> Option<Start> {
        let dialect = self.members.get_mut(id)?.dialect;
        let snapshot = self.snapshot(dialect)?;
        let member = self.members.get_mut(id)?;
        self.position += 1;
        member.snapshot = self.position;
        Some(Start { snapshot: Some(snapshot), ..self.start() })
    }

    /// All values, for a member that speaks this dialect.
    pub(super) fn snapshot(&mut self, dialect: Dialect) -> Option<Arc<Snapshot>> {
        let is_new = !self.members.speak(dialect);
        if let Some(snapshot) = self.snapshot.upgrade()
            && !is_new
        {
            return Some(snapshot);
        }
        let values = self.variables.values();
        // The texts, which may be overwritten while it is sent, and their encodings.
        let copies = 1 + self.members.dialects() + usize::from(is_new);
        let len = |(name, value): &(Text, Text)| wire::set_len(name.as_json(), value.as_json());
        let cost = copies * values.iter().map(len).sum::<usize>();
        let snapshot = Arc::new(Snapshot::new(values, self.budget.charge(cost)?));
        self.snapshot = Arc::downgrade(&snapshot);
        Some(snapshot)
    }

    /// Removes a member. `Some` where that leaves the room empty and nobody knows it yet.
    pub(crate) fn leave(&mut self, id: MemberId, now: Instant) -> Option<Instant> {
        let member = self.members.remove(id)?;
        self.hand_over_end(member.session);
        self.observers.tell(|| RoomEvent::Left(member.info(id)));
        self.outgoing.speak(self.members.dialects());
        if self.members.len() > 0 {
            return None;
        }
        self.observers.tell(|| RoomEvent::Emptied);
        self.vacate(now)
    }

    /// Notes that nobody is there any more. `Some` where the room is to be queued for it.
    pub(super) fn vacate(&mut self, now: Instant) -> Option<Instant> {
        self.emptied = now;
        // The store learns when it was last used.
        self.touch();
        if self.is_kept {
            return None;
        }
        (!std::mem::replace(&mut self.awaits_eviction, true)).then_some(now)
    }

    /// Marks the room as evicted if it has been empty since that moment.
    pub(crate) fn evict(&mut self, since: Instant) -> Eviction {
        if self.evicted || self.members.len() > 0 || self.is_kept {
            self.awaits_eviction = false;
            return Eviction::InUse;
        }
        if self.emptied > since {
            return Eviction::EmptiedLater(self.emptied);
        }
        if self.is_unsaved() || self.is_untold() {
            return Eviction::Unsaved;
        }
        self.forget();
        Eviction::Evicted
    }

    /// Gives all back that the room has; whoever still finds it starts over.
    pub(super) fn forget(&mut self) {
        self.evicted = true;
        self.observers.close();
        // A task may look after the room for a moment still: its bytes are free now.
        self.variables = Variables::default();
        self.unsaved = None;
        self.relayed = None;
        self.history = None;
        self.settle.clear();
        self.outgoing.clear();
        self.charge = self.budget.open();
    }

    pub(crate) fn links(&self) -> Vec<Arc<Link>> {
        self.members.iter().map(|(_, member)| member.link.clone()).collect()
    }

    pub(crate) fn activity(&self) -> Activity {
        self.activity
    }

    pub(crate) fn member_count(&self) -> usize {
        self.members.len()
    }
}
