//! How the store does, for the host and the log.

use std::time::SystemTime;

use parking_lot::Mutex;
use tracing::{info, warn};

use crate::store::StoreError;

/// How a registry's store does, as [`RoomRegistry::store_stats`](crate::RoomRegistry::store_stats)
/// tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct StoreStats {
    /// Values that wait for the next commit.
    pub unsaved: usize,
    /// When values were saved last.
    pub last_flush: Option<SystemTime>,
    /// When the store failed last, and why.
    pub last_error: Option<(SystemTime, StoreError)>,
    /// Whether the last commit failed. Values wait, and it is tried again; whoever wanted to create or
    /// remove a room was told.
    pub is_failing: bool,
    /// What it takes up, in bytes, where it knows.
    pub bytes: Option<u64>,
}

/// How the store does.
#[derive(Debug)]
pub(super) struct Health(Mutex<State>);

#[derive(Debug)]
struct State {
    stats: StoreStats,
    /// Rooms could not be loaded last time.
    is_unreadable: bool,
}

/// What the store is used for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Use {
    Load,
    Save,
}

impl Health {
    pub(super) fn new(stats: StoreStats) -> Self {
        Self(Mutex::new(State { stats, is_unreadable: false }))
    }

    /// Without what waits.
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
        // Under the lock it is decided what to say, and said after it: a log may ask how the store does.
        match (self.changes(purpose, error), error) {
            (true, Some(error)) => warn!(%error, ?purpose, "the store fails"),
            (true, None) => info!(?purpose, "the store works again"),
            (false, _) => {}
        }
    }

    /// Whether it fails or works since now.
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
            // That there is no place for more rooms is no failure.
            Some(StoreError::Full) => false,
            Some(_) => !std::mem::replace(is_failing, true),
            None => std::mem::take(is_failing),
        }
    }
}
