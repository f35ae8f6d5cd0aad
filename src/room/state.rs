//! The state that a room's lock guards: its members, its variables and their order.
//!
//! It knows neither sockets nor clocks: the caller passes the time.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::broadcast;

use super::{
    activity::Activity,
    batch::Batch,
    broadcast::Broadcast,
    convergence::Settle,
    event::{Observers, RoomEvent, Watchers},
    history::History,
    intake::Intake,
    life::{End, Life},
    members::{MemberId, Members},
    owner::Owner,
    presence::Departures,
    replica::Replica,
    session_handle::SessionHandle,
    snapshot::{Snapshot, Snapshots},
    unsaved::Unsaved,
    variables::Variables,
};
use crate::{
    budget::{Budget, Charge, Share},
    close::LeaveCause,
    host_data::HostData,
    limits::{self, Bound, Limits},
    policy::{AnyPolicy, OwnerPattern},
    store::StoredSchema,
    wire::Json,
};

/// The rule for the variables of a room: only those of its creator, or new ones too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Schema {
    /// The room's names are those of its creator. A client that brings other names is refused with 4001, and
    /// a client that sets another variable is closed with 4000 (the protocol's rules). The default.
    #[default]
    Fixed,
    /// New names, in a handshake or a set, are created within the limits.
    ///
    /// A room that is created by a client of [`Dialect::Scratch`](crate::Dialect::Scratch), which brings no
    /// names, always grows by sets.
    Growing,
}

impl From<Schema> for StoredSchema {
    fn from(schema: Schema) -> Self {
        match schema {
            Schema::Fixed => Self::Fixed,
            Schema::Growing => Self::Growing,
        }
    }
}

/// The rules by which the rooms of a registry behave.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// The moment from which the beats of all rooms are counted.
    pub(crate) epoch: Instant,
    pub(crate) schema: Schema,
    pub(crate) tick: Duration,
    pub(crate) coalesce: bool,
    pub(crate) settle: Option<Duration>,
    pub(crate) limits: Limits,
    pub(crate) policy: Option<Arc<dyn AnyPolicy>>,
    /// Whether there is a store.
    pub(crate) is_stored: bool,
    /// The number of past writes that a room remembers.
    pub(crate) history: usize,
    /// Patterns for the variables of a growing room that are removed after their player leaves, and the delay
    /// before that.
    pub(crate) leave_with: Vec<OwnerPattern>,
    pub(crate) leave_grace: Duration,
}

impl Rules {
    /// Creates the rules of a registry without settings, whose beats are counted from this moment.
    pub(crate) fn new(epoch: Instant) -> Self {
        Self {
            epoch,
            schema: Schema::default(),
            tick: Duration::from_micros(1_000_000 / 60),
            coalesce: false,
            settle: Some(Duration::from_millis(500)),
            limits: Limits::default(),
            policy: None,
            is_stored: false,
            history: 0,
            leave_with: Vec::new(),
            leave_grace: Duration::from_secs(3),
        }
    }
}

/// A receiver of batches with its starting position, and the snapshot to send first, if any.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) receiver: broadcast::Receiver<Arc<Batch>>,
    pub(crate) position: u64,
    pub(crate) snapshot: Option<Arc<Snapshot>>,
}

/// The result of an attempt to evict a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Eviction {
    Evicted,
    InUse,
    /// The store or the broker does not have all of it yet.
    Unsaved,
    /// The room had members again, and became empty at this moment.
    EmptiedLater(Instant),
}

/// The bytes that a room costs before it has variables: its channel, maps and locks.
const ROOM_COST: usize = 3_000;

#[derive(Debug)]
pub(crate) struct State {
    pub(super) id: Arc<str>,
    pub(super) observers: Observers,
    /// The rule for names that the room may get.
    pub(super) schema: StoredSchema,
    pub(super) max_members: usize,
    pub(super) max_variables: usize,
    /// The limit for the bytes of names and values.
    pub(super) max_bytes: usize,
    pub(super) is_locked: bool,
    /// The host's data about the room.
    pub(super) data: HostData,
    /// The number of the broker's revision at which all members were last removed.
    pub(super) closed: u64,
    pub(super) rules: Arc<Rules>,
    pub(super) variables: Variables,
    pub(super) members: Members,
    pub(super) intake: Intake,
    /// The position of the last write, snapshot or correction in the order.
    pub(super) position: u64,
    pub(super) broadcast: Broadcast,
    pub(super) settle: Settle,
    pub(super) snapshots: Snapshots,
    pub(super) charge: Charge,
    /// The room's share of the registry's budget for values and batches.
    pub(super) share: Share,
    /// `Some` if there is a store.
    pub(super) unsaved: Option<Unsaved>,
    /// `Some` if a broker decides the order.
    pub(super) replica: Option<Replica>,
    /// `Some` if the host wants a history.
    pub(super) history: Option<History>,
    pub(super) activity: Activity,
    /// The time at which the room's task will next look after it, if there is one.
    pub(super) alarm: Option<Instant>,
    pub(super) life: Life,
    pub(super) owner: Owner,
    pub(super) departures: Departures,
    aftermath: Aftermath,
}

/// The work that follows a change of a room, once its lock is free.
#[derive(Debug, Default)]
pub(super) struct Aftermath {
    /// The moment since which the room is vacant, if it is to be queued for eviction.
    pub(super) vacated: Option<Instant>,
    /// Whether the task between the room and its broker has something to do.
    pub(super) is_stirred: bool,
    /// Whether that task has not run for a long time.
    pub(super) is_stalled: bool,
}

impl State {
    /// Creates a room with the creator's variables, or an empty one that grows. Returns `None` if the budget
    /// does not have the bytes for it.
    pub(crate) fn new(
        rules: &Arc<Rules>,
        id: &Arc<str>,
        initial: Option<&[(Json<'_>, Json<'_>)]>,
        budget: &Budget,
        watchers: &Arc<Watchers>,
        now: Instant,
    ) -> Option<Self> {
        let schema = match rules.schema {
            Schema::Fixed if initial.is_none() => StoredSchema::Scratch,
            schema => schema.into(),
        };
        let initial = initial.unwrap_or_default();
        let share = budget.share();
        let charge = share
            .charge(ROOM_COST + id.len() + initial.iter().map(limits::entry_cost).sum::<usize>())?;
        let mut variables = Variables::new(id);
        for (name, value) in initial {
            variables.insert(name.to_text(), value.to_text(), now);
        }
        let limits = &rules.limits;
        let broadcast = Broadcast::new(rules, &share, now);
        Some(Self {
            id: id.clone(),
            observers: Observers::new(id.clone(), watchers),
            schema,
            max_members: limits.members_per_room,
            max_variables: limits.variables_per_room,
            max_bytes: limits.room_bytes,
            is_locked: false,
            data: HostData::default(),
            closed: 0,
            rules: rules.clone(),
            variables,
            members: Members::default(),
            intake: Intake::new(limits, now),
            position: 0,
            broadcast,
            settle: Settle::new(rules.settle),
            snapshots: Snapshots::new(rules.limits.backlog_bytes, budget.share()),
            charge,
            unsaved: rules.is_stored.then(Unsaved::default),
            replica: None,
            history: (rules.history > 0)
                .then(|| History::new(rules.history, budget.share().open())),
            share,
            activity: Activity::default(),
            alarm: None,
            life: Life::Vacant(now),
            owner: Owner::default(),
            departures: Departures::default(),
            aftermath: Aftermath::default(),
        })
    }

    /// Returns whether a set creates a variable that does not exist.
    pub(super) fn grows(&self) -> bool {
        self.schema != StoredSchema::Fixed
    }

    /// Returns whether the room may have this many more bytes of names and values.
    pub(super) fn has_place(&self, bytes: usize) -> bool {
        self.charge.bytes() + bytes <= self.max_bytes + ROOM_COST
    }

    /// Like [`has_place`](Self::has_place), for a variable that then has `variable` bytes.
    pub(super) fn has_place_for(&self, variable: usize, more: usize) -> bool {
        let limits = &self.rules.limits;
        let share = limits.share_of(Bound::of_room(self.max_bytes), variable, self.max_variables);
        self.charge.bytes() + more <= share + ROOM_COST
    }

    pub(crate) fn data(&self) -> HostData {
        self.data.clone()
    }

    pub(super) fn start(&self) -> Start {
        Start { receiver: self.broadcast.subscribe(), position: self.position, snapshot: None }
    }

    /// Returns a fresh start for a member that has just joined or lagged. Returns `None` if the room has no
    /// snapshot for it now, or if the member has left.
    pub(crate) fn resync(&mut self, id: MemberId, now: Instant) -> Option<Start> {
        self.members.get(id)?;
        let Self { variables, snapshots, .. } = self;
        let snapshot = match variables.len() {
            0 => None,
            _ => Some(snapshots.take(|| variables.values(), variables.sets_len(), now)?),
        };
        let member = self.members.get_mut(id)?;
        self.position += 1;
        member.snapshot = self.position;
        Some(Start { snapshot, ..self.start() })
    }

    /// Removes a member.
    pub(crate) fn leave(&mut self, id: MemberId, cause: LeaveCause, now: Instant) {
        let Some(member) = self.members.remove(id) else { return };
        self.hand_over_end(member.session);
        self.observers.tell(|| RoomEvent::Left { member: member.info(id), cause });
        self.depart_later(&member.name, now);
        self.broadcast.speak(self.members.dialects());
        if self.members.len() == 0 {
            self.observers.tell(|| RoomEvent::Emptied);
            // The store records when the room was last used.
            self.touch();
            if self.life == Life::Occupied {
                self.vacate(now);
            }
        }
    }

    /// Marks the room as vacant, so that it is evicted if it stays so for long.
    pub(super) fn vacate(&mut self, now: Instant) {
        self.touch();
        self.broadcast.rest();
        self.life = Life::Vacant(now);
        self.aftermath.vacated = Some(now);
    }

    /// Stops keeping the room: it is evicted like any other.
    pub(super) fn let_go(&mut self, now: Instant) {
        if self.members.len() == 0 {
            self.vacate(now);
        } else if self.life == Life::Kept {
            self.life = Life::Occupied;
        }
    }

    /// Takes the work to do once the room's lock is free. Must be called after each change.
    pub(super) fn take_aftermath(&mut self, now: Instant) -> Aftermath {
        let Aftermath { vacated, mut is_stirred, .. } = std::mem::take(&mut self.aftermath);
        let mut is_stalled = false;
        if let Some(replica) = &mut self.replica {
            is_stirred |= replica.take_stirred(now);
            is_stalled = replica.is_stalled(now);
        }
        Aftermath { vacated, is_stirred, is_stalled }
    }

    /// Evicts the room if it has been vacant since that moment.
    pub(crate) fn evict(&mut self, since: Instant) -> Eviction {
        match self.life {
            Life::Vacant(vacated) if vacated > since => Eviction::EmptiedLater(vacated),
            Life::Vacant(_)
                if self.is_unsaved() || self.is_untold() || !self.departures.is_empty() =>
            {
                Eviction::Unsaved
            }
            Life::Vacant(_) => {
                self.forget(End::Unloaded);
                Eviction::Evicted
            }
            Life::Occupied | Life::Kept | Life::Gone(_) => Eviction::InUse,
        }
    }

    /// Frees everything that the room has. A caller that still finds the room starts over.
    pub(super) fn forget(&mut self, end: End) {
        self.life = Life::Gone(end);
        self.observers.close();
        // A task may hold the room for a moment longer, so its bytes are freed here.
        self.variables = Variables::default();
        self.unsaved = None;
        self.replica = None;
        self.aftermath = Aftermath { is_stirred: true, ..Aftermath::default() };
        self.history = None;
        self.settle.clear();
        self.broadcast.clear();
        self.charge = self.share.open();
    }

    pub(crate) fn is_vacant(&self) -> bool {
        matches!(self.life, Life::Vacant(_))
    }

    pub(crate) fn is_gone(&self) -> bool {
        matches!(self.life, Life::Gone(_))
    }

    /// Returns whether the room left memory while a store or a broker may still have it.
    pub(crate) fn is_unloaded(&self) -> bool {
        self.life == Life::Gone(End::Unloaded)
    }

    pub(crate) fn id(&self) -> &Arc<str> {
        &self.id
    }

    pub(crate) fn handles(&self) -> Vec<Arc<SessionHandle>> {
        self.members.iter().map(|(_, member)| member.handle.clone()).collect()
    }

    pub(crate) fn activity(&self) -> Activity {
        self.activity
    }

    pub(crate) fn member_count(&self) -> usize {
        self.members.len()
    }
}
