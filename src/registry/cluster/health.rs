//! The state of a broker, for the host and the log.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant, SystemTime},
};

use parking_lot::Mutex;
use tracing::{info, warn};

use crate::relay::RelayError;

/// The state of a registry's broker, as [`RoomRegistry::relay_stats`](crate::RoomRegistry::relay_stats)
/// returns it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct RelayStats {
    /// Whether the last request failed. If so, newcomers are refused, and requests are tried again.
    pub is_failing: bool,
    /// The number of rooms whose members' writes wait because the broker does not answer.
    pub rooms_waiting: usize,
    /// The time when a request last failed, and the error.
    pub last_error: Option<(SystemTime, RelayError)>,
}

#[derive(Debug, Default)]
pub(super) struct Health {
    state: Mutex<State>,
    rooms_waiting: AtomicUsize,
}

/// What a broker does for a node. One may work while another fails, for example if the node's user may publish
/// and not run scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    Requests,
    Messages,
    Announcements,
}

#[derive(Debug, Default)]
struct State {
    /// The stats, without the number of rooms.
    stats: RelayStats,
    /// The services that failed when they were used last.
    failing: [bool; 3],
    /// The time when a failure was last logged, and whether a recovery has been logged since.
    told: Option<(Instant, bool)>,
}

/// The least time between two logged failures, because one of several brokers may be away.
const AGAIN: Duration = Duration::from_secs(10);

impl Health {
    pub(super) fn note(&self, service: Service, error: Option<&RelayError>) {
        // Decided under the lock, but logged after it, because a log subscriber may be slow, or ask for the
        // stats.
        {
            let State { stats, failing, told } = &mut *self.state.lock();
            failing[service as usize] = error.is_some();
            stats.is_failing = failing.contains(&true);
            if let Some(error) = error {
                stats.last_error = Some((SystemTime::now(), error.clone()));
            }
            match (error, *told) {
                (None, _) if stats.is_failing => return,
                (Some(_), None) => *told = Some((Instant::now(), false)),
                (Some(_), Some((at, true))) if at.elapsed() > AGAIN => {
                    *told = Some((Instant::now(), false));
                }
                (None, Some((at, false))) => *told = Some((at, true)),
                _ => return,
            }
        }
        match error {
            Some(error) => warn!(%error, "the broker fails"),
            None => info!("the broker works again"),
        }
    }

    /// Notes that a room waits for the broker, or no longer does.
    pub(super) fn note_waiting(&self, is_waiting: bool) {
        match is_waiting {
            true => self.rooms_waiting.fetch_add(1, Relaxed),
            false => self.rooms_waiting.fetch_sub(1, Relaxed),
        };
    }

    pub(super) fn stats(&self) -> RelayStats {
        let rooms_waiting = self.rooms_waiting.load(Relaxed);
        RelayStats { rooms_waiting, ..self.state.lock().stats.clone() }
    }
}
