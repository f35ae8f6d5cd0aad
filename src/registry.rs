//! The rooms of a host: found, created, emptied and evicted.

mod bans;
mod builder;
mod cluster;
mod drain;
mod emptied;
mod enter;
mod host;
mod open;
mod recall;
mod seat;
mod transfer;

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};

pub use builder::{BuildError, Creators, RoomRegistryBuilder};
pub use cluster::{Lead, RelayStats};
pub(crate) use drain::{Drain, Session};
pub(crate) use enter::EnterError;
pub use host::RoomSummary;
pub use open::{OpenError, OpenRoom};
pub(crate) use seat::Seat;
pub use transfer::{Imported, TransferError};

use crate::{
    budget::Budget,
    close::{Close, CloseCode},
    names::{DuplicateNames, UsernameRules},
    policy::Judging,
    room::{Activity, Caretaker, Rules, Shared, State, Watchers},
    store::StoreStats,
    sync::RwLock,
    wire::{Dialect, ScratchValues},
};
use bans::Bans;
use cluster::Node;
use emptied::Emptied;

/// All rooms of a host, behind any number of mounts. Cheap to clone; each clone is a handle on the
/// same rooms. When the last handle and the last mount are gone, so are the rooms and every task.
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
#[derive(Debug, Clone)]
pub struct RoomRegistry {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) rules: Arc<Rules>,
    pub(crate) admission: Admission,
    pub(crate) drain: Arc<Drain>,
    /// Taken before a room's lock, never after it. Synchronous: a look-up or an insertion.
    rooms: RwLock<HashMap<Arc<str>, Arc<Shared>>>,
    emptied: Emptied,
    bans: Bans,
    watchers: Arc<Watchers>,
    budget: Budget,
    /// What rooms did that are no more.
    gone: Mutex<Activity>,
    /// If there is a broker.
    node: Option<Arc<Node>>,
}

/// What is asked of a newcomer, and of what it sends.
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

/// What a registry holds at one moment, as [`RoomRegistry::stats`] counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Rooms, emptied ones included.
    pub rooms: usize,
    /// Members of all rooms.
    pub members: usize,
    /// Connections, before and after their handshake.
    pub sessions: usize,
    /// Bytes that count towards [`Limits::state_bytes`](crate::Limits#structfield.state_bytes).
    pub state_bytes: usize,
    /// What all rooms did since the registry is there, those included that are no more.
    pub activity: Activity,
}

impl Default for RoomRegistry {
    fn default() -> Self {
        Self::new()
    }
}

impl RoomRegistry {
    /// A registry with every setting at its default; needs no runtime.
    #[must_use]
    pub fn new() -> Self {
        RoomRegistryBuilder::default().make()
    }

    fn with(rules: Rules, admission: Admission, node: Option<Arc<Node>>) -> Self {
        let budget = Budget::new(rules.limits.state_bytes);
        let inner = Arc::new_cyclic(|inner| Inner {
            rules: Arc::new(rules),
            admission,
            drain: Arc::default(),
            rooms: RwLock::default(),
            emptied: Emptied::new(inner.clone()),
            bans: Bans::default(),
            watchers: Arc::default(),
            budget,
            gone: Mutex::default(),
            node,
        });
        Self { inner }
    }

    /// A registry with settings.
    pub fn builder() -> RoomRegistryBuilder {
        RoomRegistryBuilder::default()
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// Counts what is there now. Looks at each room, so it takes about 100 ns a room.
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

    /// How the store does; `None` where there is none.
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
        self.inner.rules.keeper.as_ref().map(|keeper| keeper.stats())
    }

    /// How the relay's broker does; `None` where there is none. One node's view.
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

    /// Whether [`shutdown`](Self::shutdown) was called.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.inner.drain.is_draining()
    }

    /// Closes every session with 1001 and refuses new ones; ends when all are gone, and the store
    /// has all values, or `grace` is over. Returns whether that is so; then no task of the registry
    /// is left. Where sessions do not end in time, saving still gets a second.
    ///
    /// Sessions are closed in no order, and, where there are many, over some time (at most a quarter
    /// of `grace`), so that their clients do not come back in one instant.
    ///
    /// axum's graceful shutdown does not wait for upgraded connections (HTTP/1), or waits for them
    /// for ever (HTTP/2): call this on the same signal.
    pub async fn shutdown(&self, grace: Duration) -> bool {
        Judging::refuse();
        // Half of the time is for the rest: the broker and the store.
        let last_words_until = Instant::now() + LONGEST_GRACE.min(grace) / 2;
        let rooms: Vec<_> = {
            // Under the lock, so that no room is created after it; a join looks at it once more.
            let rooms = self.inner.rooms.write();
            self.inner.drain.begin(last_words_until);
            rooms.values().cloned().collect()
        };
        let links: Vec<_> = rooms.iter().flat_map(|room| room.links()).collect();
        let close = Close::new(CloseCode::GoingAway, "the server is shutting down");
        let all_gone = async {
            let groups = links.chunks(AT_ONCE);
            let pause = PAUSE.min(grace / (4 * groups.len().max(1) as u32));
            for group in groups {
                group.iter().for_each(|link| link.stop(close.clone()));
                sleep(pause).await;
            }
            self.inner.drain.empty().await;
        };
        let begun = Instant::now();
        let mut is_done = timeout(grace, all_gone).await.is_ok();
        // The broker is to have what was written last, and to know who has left.
        let told = async {
            while rooms.iter().any(|room| room.read(State::is_untold)) {
                sleep(PAUSE).await;
            }
        };
        is_done &= timeout(grace.saturating_sub(begun.elapsed()).max(SAVING), told).await.is_ok();
        if let Some(keeper) = &self.inner.rules.keeper {
            let left = grace.saturating_sub(begun.elapsed()).max(SAVING);
            let saved = async {
                while keeper.flush(left).await.is_err() {
                    sleep(AGAIN).await;
                }
            };
            is_done &= timeout(left, saved).await.is_ok();
        }
        if let Some(node) = &self.inner.node {
            node.end();
        }
        self.inner.emptied.close();
        is_done
    }
}

/// How many sessions a shutdown closes at once, and how long it then waits.
const AT_ONCE: usize = 64;
const PAUSE: Duration = Duration::from_millis(10);

/// Members may go on writing for half of this at most: no moment lies so far ahead as some graces.
const LONGEST_GRACE: Duration = Duration::from_secs(60);

/// Between two attempts of a shutdown to save.
const AGAIN: Duration = Duration::from_millis(200);
/// How long a shutdown tries to save what is not saved yet, at least.
const SAVING: Duration = Duration::from_secs(1);

impl Inner {
    /// What all rooms and sessions pay from.
    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }
}

impl Caretaker for Inner {
    fn vacated(&self, room: &Arc<Shared>, since: std::time::Instant) {
        self.emptied.push(since, room);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(keeper) = &self.rules.keeper {
            keeper.end();
        }
    }
}
