//! The shutdown of a registry: sessions are closed, unsaved values are saved, and no task is left.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout};

use super::{Inner, RoomRegistry};
use crate::{
    close::Close,
    policy::Judging,
    room::{Shared, State},
};

/// How many sessions are notified at once, and the pause after them.
const AT_ONCE: usize = 64;
const PAUSE: Duration = Duration::from_millis(10);

/// Members may go on writing for no more than half of this, because no `Instant` lies as far ahead as some
/// graces.
const LONGEST_GRACE: Duration = Duration::from_secs(60);

/// The least time that sessions have to say goodbye.
const GOODBYE: Duration = Duration::from_millis(250);

/// The pause between two attempts to save.
const AGAIN: Duration = Duration::from_millis(200);
/// The least time for which the shutdown tries to save unsaved values.
const SAVING: Duration = Duration::from_secs(1);

/// The outcome of a [`RoomRegistry::shutdown`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct ShutdownReport {
    /// The number of sessions whose clients did not answer their close in time.
    pub unanswered: usize,
    /// The number of values that the store did not save, and of rooms whose bans it did not save.
    pub unsaved: usize,
    /// The number of rooms whose last writes, or the leaves of whose members, the broker does not have.
    pub untold: usize,
    #[cfg_attr(feature = "serde", serde(skip))]
    has_ended: bool,
}

impl ShutdownReport {
    /// Returns whether everything was done: every client has answered, everything is saved, and no task of the
    /// registry is left.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        (self.unanswered, self.unsaved, self.untold) == (0, 0, 0) && self.has_ended
    }
}

impl RoomRegistry {
    /// Closes every session with 1001 and refuses new ones. Waits until all are gone and the store has all
    /// values, or until `grace` is over. Reports the work that was not done by then.
    ///
    /// In either case no task of the registry is left. A session that has not ended when `grace` is over is
    /// sent as much of its close as its socket takes at once, and is dropped. For sessions, a grace of less
    /// than 250 ms counts as 250 ms. Saving has no less than a second. Once begun, the shutdown goes on even
    /// if this future is dropped.
    ///
    /// Sessions are notified in no particular order and, if there are many, over some time (no more than a
    /// quarter of `grace`), so that their clients do not all come back at once.
    ///
    /// axum's graceful shutdown does not wait for upgraded connections (HTTP/1), or waits for them
    /// for ever (HTTP/2): call this on the same signal.
    ///
    /// # Panics
    ///
    /// Panics if called outside a tokio runtime.
    pub async fn shutdown(&self, grace: Duration) -> ShutdownReport {
        Judging::refuse();
        // Runs in a task of its own, because this future may be dropped.
        tokio::spawn(self.inner.clone().shut_down(grace)).await.unwrap_or_default()
    }
}

impl Inner {
    async fn shut_down(self: Arc<Self>, grace: Duration) -> ShutdownReport {
        let begun = Instant::now();
        let left = || grace.saturating_sub(begun.elapsed());
        // The other half of the time is for the broker and the store.
        let last_words_until = begun + LONGEST_GRACE.min(grace) / 2;
        let rooms: Vec<_> = {
            // Begun under the lock, so that no room is created afterwards. A join checks once more for a
            // drain.
            let rooms = self.rooms.write();
            self.drain.begin(last_words_until);
            rooms.values().cloned().collect()
        };
        _ = timeout(grace / 4, join_all(rooms.iter().map(|room| self.settled(room)))).await;
        tell_everyone(&rooms, grace).await;
        let mut report = ShutdownReport::default();
        if timeout(left().max(GOODBYE), self.drain.empty()).await.is_err() {
            report.unanswered = self.drain.sessions();
        }
        if timeout(left().max(SAVING), told(&rooms)).await.is_err() {
            report.untold = rooms.iter().filter(|room| room.read(State::is_untold)).count();
        }
        if let Some(persister) = &self.persister {
            let left = left().max(SAVING);
            let saved = async {
                while persister.flush(left).await.is_err() {
                    sleep(AGAIN).await;
                }
            };
            if timeout(left, saved).await.is_err() {
                // At least one: a store that hangs may have the last values in its hands.
                report.unsaved = persister.stats().unsaved.max(1);
            }
        }
        self.tasks.end();
        report.has_ended = self.tasks.ended().await;
        self.evictions.close();
        if let Some(node) = &self.node {
            node.end();
        }
        report
    }
}

async fn tell_everyone(rooms: &[Arc<Shared>], grace: Duration) {
    let handles: Vec<_> = rooms.iter().flat_map(|room| room.handles()).collect();
    let groups = handles.chunks(AT_ONCE);
    let pause = PAUSE.min(grace / (4 * u32::try_from(groups.len()).unwrap_or(u32::MAX / 4).max(1)));
    for group in groups {
        group.iter().for_each(|handle| handle.stop(Close::shutting_down()));
        if !pause.is_zero() {
            sleep(pause).await;
        }
    }
}

/// Waits until the broker has received the last writes, and knows which members have left.
async fn told(rooms: &[Arc<Shared>]) {
    while rooms.iter().any(|room| room.read(State::is_untold)) {
        sleep(PAUSE).await;
    }
}
