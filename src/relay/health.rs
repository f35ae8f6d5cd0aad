//! How a broker does, for the host.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::SystemTime,
};

use parking_lot::Mutex;

use super::RelayError;

/// How a registry's broker does, as [`RoomRegistry::relay_stats`](crate::RoomRegistry::relay_stats)
/// tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
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
    /// Without the rooms.
    stats: Mutex<RelayStats>,
    rooms_waiting: AtomicUsize,
}

impl Health {
    pub(super) fn note(&self, error: Option<&RelayError>) {
        let mut stats = self.stats.lock();
        stats.is_failing = error.is_some();
        if let Some(error) = error {
            stats.last_error = Some((SystemTime::now(), error.clone()));
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
        RelayStats { rooms_waiting, ..self.stats.lock().clone() }
    }
}
