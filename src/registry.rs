//! The registry of a host's rooms: how they are found, created, emptied and evicted.

mod bans;
mod builder;
mod cluster;
mod drain;
mod enter;
mod eviction;
mod handle;
mod host;
mod id_locks;
mod membership;
mod moderation;
mod open;
mod persistence;
mod readiness;
mod shortage;
mod shutdown;
mod stored;
mod tasks;
mod transfer;
mod update;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use tokio::task::unconstrained;

pub use builder::{BuildError, Creators, RoomRegistryBuilder};
pub use cluster::{Lead, RelayStats};
pub(crate) use drain::{Drain, Session};
pub(crate) use enter::EnterError;
pub use handle::{Room, RoomError};
pub(crate) use membership::Membership;
pub use open::{OpenError, OpenRoom};
pub use persistence::StoreStats;
pub use readiness::NotReady;
pub use shutdown::ShutdownReport;
pub use stored::StoredSummary;
pub use transfer::{ImportReport, TransferError};
use update::Update;
pub use update::UpdateError;

use crate::{
    budget::Budget,
    log_limit::LogLimit,
    names::{DuplicateNames, UsernameRules},
    policy::Judging,
    room::{Activity, Caretaker, Rules, Shared, Task, Watchers},
    sync::{Handle, RwLock},
    wire::{Dialect, ScratchValues},
};
use bans::Bans;
use cluster::Node;
use eviction::EvictionQueue;
use persistence::Persister;
use shortage::Shortage;
#[cfg(feature = "inspector")]
pub(crate) use tasks::Spawned;
use tasks::Tasks;

/// All rooms of a host, served by any number of mounts. Cheap to clone: each clone is a handle on the same
/// rooms. When the last handle and the last mount are dropped, the rooms and all tasks end.
///
/// ```
/// use axum::{Extension, Router};
/// use axum_cloud_variables::RoomRegistry;
///
/// let rooms = RoomRegistry::new();
/// let app: Router = Router::new()
///     .merge(rooms.mount("/cloud"))
///     .layer(Extension(rooms.clone()));
/// ```
#[derive(Clone)]
pub struct RoomRegistry {
    inner: Arc<Inner>,
}

/// A handle that does not keep the registry alive. It is for values that the registry itself owns, such as
/// its policy or a value in an [`Identity`](crate::Identity): a strong handle there would keep the registry
/// for ever. Created by [`RoomRegistry::downgrade`].
#[derive(Debug, Clone)]
pub struct WeakRoomRegistry(Weak<Inner>);

impl WeakRoomRegistry {
    /// Returns the registry, if it still has a handle or a mount.
    ///
    /// ```
    /// use axum_cloud_variables::RoomRegistry;
    ///
    /// let rooms = RoomRegistry::new();
    /// let weak = rooms.downgrade();
    /// assert!(weak.upgrade().is_some());
    /// drop(rooms);
    /// assert!(weak.upgrade().is_none());
    /// ```
    #[must_use]
    pub fn upgrade(&self) -> Option<RoomRegistry> {
        self.0.upgrade().map(|inner| RoomRegistry { inner })
    }
}

impl fmt::Debug for RoomRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

pub(crate) struct Inner {
    pub(crate) rules: Arc<Rules>,
    pub(crate) admission: Admission,
    pub(crate) drain: Arc<Drain>,
    /// Locked before a room's lock, never after it. A synchronous lock, because it is held only for short
    /// work, such as a look-up or an insertion.
    rooms: RwLock<HashMap<Arc<str>, Arc<Shared>>>,
    evictions: EvictionQueue,
    bans: Arc<Bans>,
    watchers: Arc<Watchers>,
    budget: Budget,
    shortage: Shortage,
    /// The activity of rooms that no longer exist.
    gone: Mutex<Activity>,
    /// Limits the log lines of closes, by their code, and of refused upgrades, by their status.
    pub(crate) log_limit: LogLimit,
    pub(crate) tasks: Arc<Tasks>,
    /// Present if there is a store.
    persister: Option<Arc<Persister>>,
    /// Present if there is a broker.
    node: Option<Arc<Node>>,
    itself: Weak<Self>,
}

/// The rules for newcomers, and for the values that they send.
#[derive(Debug, Clone, Default)]
pub(crate) struct Admission {
    pub(crate) usernames: UsernameRules,
    duplicate_names: HashMap<Dialect, DuplicateNames>,
    pub(crate) scratch_values: ScratchValues,
    creators: Creators,
}

impl Admission {
    pub(crate) fn duplicate_names(&self, dialect: Dialect) -> DuplicateNames {
        let default = match dialect {
            Dialect::Scratch => DuplicateNames::Allow,
            Dialect::Spec | Dialect::Forkphorus2020 => DuplicateNames::Reject,
        };
        self.duplicate_names.get(&dialect).copied().unwrap_or(default)
    }
}

/// The contents of a registry at one moment, as [`RoomRegistry::stats`] counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Stats {
    /// The number of rooms, including empty ones.
    pub rooms: usize,
    /// The number of members of all rooms.
    pub members: usize,
    /// The number of sessions, before and after their handshake.
    pub sessions: usize,
    /// The number of bytes that count towards [`Limits::state_bytes`](crate::Limits#structfield.state_bytes).
    pub state_bytes: usize,
    /// The activity of all rooms since the registry was created, including rooms that no longer exist.
    pub activity: Activity,
}

impl Default for RoomRegistry {
    fn default() -> Self {
        Self::new()
    }
}

impl RoomRegistry {
    /// Creates a registry with every setting at its default. Needs no runtime.
    #[must_use]
    pub fn new() -> Self {
        RoomRegistryBuilder::default().make(None)
    }

    fn with(
        rules: Rules,
        admission: Admission,
        persister: Option<Arc<Persister>>,
        node: Option<Arc<Node>>,
        tasks: Arc<Tasks>,
    ) -> Self {
        let budget = Budget::new(rules.limits.state_bytes);
        let bans =
            persister.as_ref().map_or_else(Arc::default, |persister| persister.bans().clone());
        let inner = Arc::new_cyclic(|inner| Inner {
            rules: Arc::new(rules),
            admission,
            drain: Arc::default(),
            rooms: RwLock::default(),
            evictions: EvictionQueue::new(inner.clone()),
            bans,
            watchers: Arc::default(),
            budget,
            shortage: Shortage::default(),
            gone: Mutex::default(),
            log_limit: LogLimit::default(),
            tasks,
            persister,
            node,
            itself: inner.clone(),
        });
        Self { inner }
    }

    /// Returns a handle that does not keep the registry alive.
    #[must_use]
    pub fn downgrade(&self) -> WeakRoomRegistry {
        WeakRoomRegistry(Arc::downgrade(&self.inner))
    }

    /// Returns a builder for a registry with other settings.
    pub fn builder() -> RoomRegistryBuilder {
        RoomRegistryBuilder::default()
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// Returns the current counts. Visits each room, so it takes about 100 ns a room.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Judging::refuse();
        let rooms = self.inner.rooms.read();
        let (mut members, mut activity) = (0, *self.inner.gone.lock());
        for room in rooms.values() {
            room.read(|state| {
                members += state.member_count();
                activity += state.activity();
            });
        }
        Stats {
            rooms: rooms.len(),
            members,
            sessions: self.inner.drain.sessions(),
            state_bytes: self.inner.budget.used(),
            activity,
        }
    }

    /// Returns the state of the store, or `None` if there is no store.
    ///
    /// ```
    /// use axum_cloud_variables::RoomRegistry;
    ///
    /// let rooms = RoomRegistry::new();
    /// assert_eq!(rooms.store_stats(), None);
    /// ```
    #[must_use]
    pub fn store_stats(&self) -> Option<StoreStats> {
        Judging::refuse();
        self.inner.persister.as_ref().map(|persister| persister.stats())
    }

    /// Returns the state of the relay's broker as this node sees it, or `None` if there is no relay.
    ///
    /// ```
    /// use axum_cloud_variables::RoomRegistry;
    ///
    /// let rooms = RoomRegistry::new();
    /// assert_eq!(rooms.relay_stats(), None);
    /// ```
    #[must_use]
    pub fn relay_stats(&self) -> Option<RelayStats> {
        Judging::refuse();
        self.inner.node.as_ref().map(|node| node.stats())
    }

    /// Returns whether [`shutdown`](Self::shutdown) was called.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.inner.drain.is_draining()
    }
}

impl Inner {
    /// Returns the budget from which all rooms and sessions pay.
    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }
}

impl Caretaker for Inner {
    fn vacated(&self, room: &Arc<Shared>, since: std::time::Instant) {
        self.evictions.push(since, room);
    }

    fn unsaved(&self, room: &Arc<Shared>) {
        if let Some(persister) = &self.persister {
            persister.list(room.clone());
        }
    }

    fn stalled(&self, room: &Arc<Shared>) {
        if let Some(registry) = self.itself.upgrade() {
            registry.begin_sync(room, None);
        }
    }

    fn starved(&self) -> bool {
        self.itself.upgrade().is_some_and(|registry| registry.make_memory())
    }

    fn runtime(&self, preferred: Option<&Handle>) -> Option<Handle> {
        self.tasks.runtime(preferred)
    }

    fn spawn(&self, runtime: &Handle, task: Task) {
        // The task yields by itself. With tokio's cooperative budget, a socket could seem blocked to it.
        self.tasks.spawn_on(runtime, unconstrained(task));
    }
}

/// Short, however many rooms there are. Takes no lock, because the caller may hold any of them.
impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoomRegistry")
            .field("sessions", &self.drain.sessions())
            .field("state_bytes", &self.budget.used())
            .field("is_draining", &self.drain.is_draining())
            .finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(persister) = &self.persister {
            persister.end();
        }
        self.tasks.end();
    }
}
