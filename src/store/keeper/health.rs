//! How the store does, for the host and the log.

use std::time::SystemTime;

use tracing::{info, warn};

use crate::store::StoreError;

/// How a registry's store does, as [`RoomRegistry::store_stats`](crate::RoomRegistry::store_stats)
/// tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
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
pub(super) struct Health {
    pub(super) stats: StoreStats,
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
        Self { stats, is_unreadable: false }
    }

    pub(super) fn note(&mut self, purpose: Use, error: Option<&StoreError>) {
        if let Some(error) = error {
            self.stats.last_error = Some((SystemTime::now(), error.clone()));
        }
        let is_failing = match purpose {
            Use::Save => &mut self.stats.is_failing,
            Use::Load => &mut self.is_unreadable,
        };
        // Said once, and not where there is no place for more rooms: that is no failure.
        match error.filter(|error| **error != StoreError::Full) {
            Some(error) if !std::mem::replace(is_failing, true) => {
                warn!(%error, ?purpose, "the store fails");
            }
            None if error.is_none() && std::mem::take(is_failing) => {
                info!(?purpose, "the store works again");
            }
            _ => {}
        }
    }
}
