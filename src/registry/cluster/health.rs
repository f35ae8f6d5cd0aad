//! How a broker does, for the host and the log.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant, SystemTime},
};

use parking_lot::Mutex;
use tracing::{info, warn};

use crate::relay::RelayError;

/// How a registry's broker does, as [`RoomRegistry::relay_stats`](crate::RoomRegistry::relay_stats)
/// tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct RelayStats {
    /// Whether the last request failed. Who wants to join a room is refused, and it is tried again.
    pub is_failing: bool,
    /// Rooms whose members' writes wait, as the broker does not answer.
    pub rooms_waiting: usize,
    /// When a request failed last, and why.
    pub last_error: Option<(SystemTime, RelayError)>,
}

#[derive(Debug, Default)]
pub(super) struct Health {
    state: Mutex<State>,
    rooms_waiting: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    /// Without the rooms.
    stats: RelayStats,
    /// When the log was told that it fails, and whether it was told since that it works.
    told: Option<(Instant, bool)>,
}

/// Between two failures that the log is told of: of several brokers one may be away.
const AGAIN: Duration = Duration::from_secs(10);

impl Health {
    pub(super) fn note(&self, error: Option<&RelayError>) {
        // Under the lock it is decided what to say, and said after it: who writes logs may be slow, or ask.
        {
            let State { stats, told } = &mut *self.state.lock();
            stats.is_failing = error.is_some();
            if let Some(error) = error {
                stats.last_error = Some((SystemTime::now(), error.clone()));
            }
            match (error, *told) {
                (Some(_), None) => *told = Some((Instant::now(), false)),
                (Some(_), Some((at, true))) if at.elapsed() > AGAIN => {
                    *told = Some((Instant::now(), false));
                }
                (None, Some((at, false))) => *told = Some((at, true)),
                _ => return,
            }
        }
        match error {
            Some(error) => warn!(%error, "the broker does not answer"),
            None => info!("the broker answers again"),
        }
    }

    /// A room waits for the broker, or does so no more.
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
