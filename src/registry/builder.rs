//! The builder of a registry.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Admission, RoomRegistry,
    cluster::Node,
    persistence::{Expiry, Persister},
    tasks::Tasks,
};
use crate::{
    limits::Limits,
    names::{DuplicateNames, UsernameRules},
    policy::{OwnerPattern, Policy},
    relay::{ErasedRelay, Relay},
    room::{Rules, Schema},
    store::RoomStore,
    sync::Handle,
    wire::{Dialect, ScratchValues},
};

/// The settings of a [`RoomRegistry`]. Each has a default.
#[must_use = "a builder does nothing until `build`"]
pub struct RoomRegistryBuilder {
    rules: Rules,
    admission: Admission,
    store: Option<Box<dyn RoomStore>>,
    relay: Option<Box<dyn ErasedRelay>>,
    runtime: Option<Handle>,
    flush_interval: Duration,
    stored_room_ttl: Option<Duration>,
}

impl fmt::Debug for RoomRegistryBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoomRegistryBuilder")
            .field("limits", &self.rules.limits)
            .finish_non_exhaustive()
    }
}

/// The parties that may create rooms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Creators {
    /// The first client that joins a room creates it. The host may create rooms too. The default.
    #[default]
    Clients,
    /// Clients can join only rooms that the host [opened](RoomRegistry::open). A join of any other room is
    /// refused with 4001.
    Host,
}

/// How long the store keeps a room that nobody uses.
const YEAR: Duration = Duration::from_secs(365 * 24 * 3_600);
/// The longest lease.
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// The JSON around a name and a value.
const MESSAGE_OVERHEAD: usize = 128;

pub(super) const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);

/// The reason why a registry could not be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// This field of [`Limits`] is zero, but nothing works without it.
    #[error("Limits::{0} must not be zero")]
    ZeroLimit(&'static str),
    /// A value, name or room id at its limit would not fit
    /// [`Limits::message_bytes`](Limits#structfield.message_bytes).
    #[error("Limits::message_bytes is less than a value and a name at their limits")]
    MessageTooSmall,
    /// Both a store and a relay were given. With a relay, the broker keeps rooms.
    #[error("with a relay the broker keeps rooms: leave out the store")]
    StoreAndRelay,
    /// The relay's lease is less than 50 ms, its timeout is zero, or one of them is longer than a day.
    #[error(
        "the relay's lease must be 50 ms to a day, its timeout more than zero and a day at most"
    )]
    RelayTime,
    /// The system could not start a thread for the store.
    #[error("there is no thread for the store")]
    NoThread,
}

impl Default for RoomRegistryBuilder {
    fn default() -> Self {
        Self {
            rules: Rules::new(Instant::now()),
            admission: Admission::default(),
            store: None,
            relay: None,
            runtime: None,
            flush_interval: Duration::from_millis(100),
            stored_room_ttl: Some(YEAR),
        }
    }
}

impl RoomRegistryBuilder {
    /// Sets the limits for clients. Default [`Limits::default`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.rules.limits = limits;
        self
    }

    /// Sets whether new variables may be added to rooms that are created by clients with variables of their
    /// own. Default [`Schema::Fixed`].
    pub fn schema(mut self, schema: Schema) -> Self {
        self.rules.schema = schema;
        self
    }

    /// Sets the time between two batches of a room. Default 1/60 s. The first write in a quiet room is sent
    /// at once, and the writes that follow within the tick are sent together. All rooms share the same beat,
    /// four beats to a tick, so the first tick after a pause may be shorter by up to a beat. If the tick is
    /// zero, all waiting writes are sent together as soon as the room gets its turn.
    pub fn tick(mut self, tick: Duration) -> Self {
        self.rules.tick = tick;
        self
    }

    /// Sets whether only the last write of each variable in a tick is sent. Default `false`: every write is
    /// sent, because projects send streams of messages through one variable.
    pub fn coalesce(mut self, coalesce: bool) -> Self {
        self.rules.coalesce = coalesce;
        self
    }

    /// Sets how long a variable must have been quiet before a client that may see another value is sent the
    /// room's (promise 'everyone ends up seeing the same values'). For a steady writer the time is longer, so
    /// that it is not corrected between two of its own writes. Default 500 ms. `None` switches the rule off:
    /// clients that write at the same moment may then disagree for ever.
    pub fn settle(mut self, settle: Option<Duration>) -> Self {
        self.rules.settle = settle;
        self
    }

    /// Sets the rules for usernames. Default [`UsernameRules::default`].
    pub fn usernames(mut self, rules: UsernameRules) -> Self {
        self.admission.usernames = rules;
        self
    }

    /// Sets the rule for a newcomer of this dialect that has the username of a member. Default
    /// [`DuplicateNames::Allow`] for [`Dialect::Scratch`], [`DuplicateNames::Reject`] for the others.
    pub fn duplicate_names(mut self, dialect: Dialect, rule: DuplicateNames) -> Self {
        self.admission.duplicate_names.insert(dialect, rule);
        self
    }

    /// Sets the kind of values that clients of [`Dialect::Scratch`] may write. Default
    /// [`ScratchValues::Numbers`]. The other dialects' values are strings of any kind.
    pub fn scratch_values(mut self, values: ScratchValues) -> Self {
        self.admission.scratch_values = values;
        self
    }

    /// Sets the parties that may create rooms. Default [`Creators::Clients`].
    pub fn creators(mut self, creators: Creators) -> Self {
        self.admission.creators = creators;
        self
    }

    /// Sets the host's own rules for joins and writes. Default: none, so all are allowed.
    pub fn policy(mut self, policy: impl Policy) -> Self {
        self.rules.policy = Some(Arc::new(policy));
        self
    }

    /// Keeps rooms in a store, beyond the end of the process and beyond
    /// [`Limits::empty_room_ttl`](crate::Limits#structfield.empty_room_ttl): a room that is not in memory is
    /// loaded from the store when it is next joined or opened. Default: none. A store belongs to one
    /// registry, which would not notice the writes of another.
    ///
    /// While the store fails, members play on, but a newcomer that needs a room from it is refused with 4003
    /// (1013 in [`Dialect::Scratch`]). [`RoomRegistry::store_stats`] gives the reason.
    pub fn store(mut self, store: impl RoomStore) -> Self {
        self.store = Some(Box::new(store));
        self
    }

    /// Shares rooms with the other processes whose relays have the same broker. Default: none. The broker
    /// keeps rooms, so a store together with a relay is [`BuildError::StoreAndRelay`].
    pub fn relay(mut self, relay: impl Relay) -> Self {
        self.relay = Some(Box::new(relay));
        self
    }

    /// Sets the runtime for the registry's tasks, except those of sessions, which run on the runtime that
    /// serves the connection. Default: a runtime that serves sessions or, until there is one, the
    /// caller's. If the runtime ends or does not run the tasks, another runs them.
    #[cfg_attr(not(shuttle), expect(clippy::useless_conversion, reason = "a stand-in has one"))]
    pub fn runtime(mut self, runtime: tokio::runtime::Handle) -> Self {
        self.runtime = Some(runtime.into());
        self
    }

    /// Sets how many past writes each room remembers, with their writers and times
    /// ([`Room::history`](crate::Room::history)). They count towards
    /// [`Limits::state_bytes`](crate::Limits#structfield.state_bytes), and are kept as long as half of those
    /// bytes are free for the games themselves. They are not stored. Default 0: none.
    pub fn history(mut self, writes: usize) -> Self {
        self.rules.history = writes;
        self
    }

    /// Removes a player's variables from a growing room some time after the player has left
    /// ([`leave_grace`](Self::leave_grace)), unless somebody with that name is there by then, on any node. A
    /// player's variables are those that match the pattern, as in
    /// [`Rights::owner_only`](crate::policy::Rights::owner_only). Members see the empty value, members that
    /// join later do not see the variable, and its place is free. May be called several times. Default: none.
    /// A room that is loaded from a store or a broker loses the variables of players who have not joined by
    /// then.
    ///
    /// ```
    /// use axum_cloud_variables::{RoomRegistry, Schema};
    ///
    /// let rooms =
    ///     RoomRegistry::builder().schema(Schema::Growing).leave_with("p_{name}").build()?;
    /// # Ok::<(), axum_cloud_variables::BuildError>(())
    /// ```
    ///
    /// # Panics
    ///
    /// Panics in the same cases as [`Rights::owner_only`](crate::policy::Rights::owner_only).
    pub fn leave_with(mut self, pattern: &str) -> Self {
        self.rules.leave_with.push(OwnerPattern::new(pattern));
        self
    }

    /// Sets how long a player who has left may take to come back before the player's variables are removed.
    /// Default 3 s. See [`leave_with`](Self::leave_with).
    pub fn leave_grace(mut self, grace: Duration) -> Self {
        self.rules.leave_grace = LONGEST.min(grace);
        self
    }

    /// Sets the longest time that a new value waits before it is saved, not counting the time that saving
    /// takes. A crash loses the values of that time. Default 100 ms. A new room is saved before its creator
    /// has joined.
    pub fn flush_interval(mut self, interval: Duration) -> Self {
        self.flush_interval = interval;
        self
    }

    /// Sets how long the store keeps an unused room: one that is not in memory, and that nobody has been in
    /// for this time. The time is exact to a tenth of it or to an hour, whichever is shorter. Default one
    /// year; `None` is for ever.
    pub fn stored_room_ttl(mut self, ttl: Option<Duration>) -> Self {
        self.stored_room_ttl = ttl;
        self
    }

    /// Builds the registry. Needs no runtime. A time longer than ten years counts as ten years.
    ///
    /// # Errors
    ///
    /// [`BuildError`] if a limit makes every room impossible, if other settings contradict one another, or if
    /// the store's thread cannot be started.
    pub fn build(mut self) -> Result<RoomRegistry, BuildError> {
        let limits = &self.rules.limits;
        for (field, value) in [
            ("rooms", limits.rooms),
            ("sessions", limits.sessions),
            ("members_per_room", limits.members_per_room),
            ("name_bytes", limits.name_bytes),
            ("room_id_chars", limits.room_id_chars),
            ("message_bytes", limits.message_bytes),
            ("backlog_batches", limits.backlog_batches),
            ("message_burst", limits.message_burst as usize),
            ("byte_burst", limits.byte_burst as usize),
            ("state_bytes", limits.state_bytes),
            ("handshake_timeout", limits.handshake_timeout.as_millis() as usize),
            ("admit_timeout", limits.admit_timeout.as_millis() as usize),
            ("ping_interval", limits.ping_interval.as_millis() as usize),
            ("idle_timeout", limits.idle_timeout.as_millis() as usize),
        ] {
            if value == 0 {
                return Err(BuildError::ZeroLimit(field));
            }
        }
        let longest = limits.value_bytes.max(limits.room_id_chars.saturating_mul(4));
        let longest = limits.name_bytes.saturating_add(longest);
        if limits.message_bytes < longest.saturating_add(MESSAGE_OVERHEAD) {
            return Err(BuildError::MessageTooSmall);
        }
        if self.store.is_some() && self.relay.is_some() {
            return Err(BuildError::StoreAndRelay);
        }
        if let Some(relay) = &self.relay {
            // A shorter lease would be over before it can be renewed.
            let is_lease = (Duration::from_millis(50)..=DAY).contains(&relay.lease());
            if !is_lease || relay.timeout().is_zero() || relay.timeout() > DAY {
                return Err(BuildError::RelayTime);
            }
        }
        let Some(store) = self.store.take() else { return Ok(self.make(None)) };
        let persister = Persister::new(store, LONGEST.min(self.flush_interval));
        let ttl = self.stored_room_ttl;
        self.rules.is_stored = true;
        let registry = self.make(Some(persister.clone()));
        let expiry = ttl.map(|ttl| {
            let inner = Arc::downgrade(registry.inner());
            let is_live = move |id: &str| inner.upgrade().is_none_or(|inner| inner.is_in_use(id));
            Expiry::new(LONGEST.min(ttl), Box::new(is_live))
        });
        persister.start(expiry).map_err(|_| BuildError::NoThread)?;
        Ok(registry)
    }

    pub(super) fn make(mut self, persister: Option<Arc<Persister>>) -> RoomRegistry {
        // Callers write `Duration::MAX` for 'never', but no `Instant` lies so far ahead.
        let limits = &mut self.rules.limits;
        for time in [
            &mut limits.handshake_timeout,
            &mut limits.admit_timeout,
            &mut limits.ping_interval,
            &mut limits.idle_timeout,
            &mut limits.takeover_probe,
            &mut limits.close_timeout,
            &mut limits.empty_room_ttl,
            &mut self.rules.tick,
        ] {
            *time = LONGEST.min(*time);
        }
        self.rules.settle = self.rules.settle.map(|settle| LONGEST.min(settle));
        let node = self.relay.map(|relay| Arc::new(Node::new(relay)));
        let tasks = Tasks::new(self.runtime);
        RoomRegistry::with(self.rules, self.admission, persister, node, tasks)
    }
}
