//! The state of the store, for the host and the log.

use std::time::SystemTime;

use parking_lot::Mutex;
use tracing::{info, warn};

use crate::store::StoreError;

/// The state of a registry's store, as [`RoomRegistry::store_stats`](crate::RoomRegistry::store_stats)
/// returns it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct StoreStats {
    /// The number of values that wait for the next commit, and of rooms whose bans do.
    pub unsaved: usize,
    /// The time when values were last saved.
    pub last_flush: Option<SystemTime>,
    /// The time when the store last failed, and the error.
    pub last_error: Option<(SystemTime, StoreError)>,
    /// Whether the last commit failed. If so, values wait for another attempt. Callers that wanted to create
    /// or remove a room have received an error.
    pub is_failing: bool,
    /// The size of the store in bytes, if the store knows it.
    pub bytes: Option<u64>,
}

/// The state of the store.
#[derive(Debug)]
pub(super) struct Health(Mutex<State>);

#[derive(Debug)]
struct State {
    stats: StoreStats,
    /// Whether the last load failed.
    is_unreadable: bool,
}

/// The purpose for which the store is used.
#[derive(Debug, Clone, Copy)]
pub(super) enum Use {
    Load,
    Save,
}

impl Health {
    pub(super) fn new(stats: StoreStats) -> Self {
        Self(Mutex::new(State { stats, is_unreadable: false }))
    }

    /// Returns the stats without the number of values that wait.
    pub(super) fn stats(&self) -> StoreStats {
        self.0.lock().stats.clone()
    }

    pub(super) fn flushed(&self) {
        self.0.lock().stats.last_flush = Some(SystemTime::now());
    }

    pub(super) fn takes_up(&self, bytes: Option<u64>) {
        self.0.lock().stats.bytes = bytes;
    }

    pub(super) fn note(&self, purpose: Use, error: Option<&StoreError>) {
        // Decided under the lock, but logged after it, because a log subscriber may ask for the stats.
        match (self.changes(purpose, error), error) {
            (true, Some(error)) => warn!(%error, ?purpose, "the store fails"),
            (true, None) => info!(?purpose, "the store works again"),
            (false, _) => {}
        }
    }

    /// Notes the result. Returns whether the store has just begun to fail, or to work again.
    fn changes(&self, purpose: Use, error: Option<&StoreError>) -> bool {
        let State { stats, is_unreadable } = &mut *self.0.lock();
        if let Some(error) = error {
            stats.last_error = Some((SystemTime::now(), error.clone()));
        }
        let is_failing = match purpose {
            Use::Save => &mut stats.is_failing,
            Use::Load => is_unreadable,
        };
        match error {
            // A store that has no place for more rooms has not failed.
            Some(StoreError::Full) => false,
            Some(_) => !std::mem::replace(is_failing, true),
            None => std::mem::take(is_failing),
        }
    }
}
