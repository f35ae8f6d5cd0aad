//! The sessions of a registry, and how they end together.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use tokio::{sync::Notify, time::Instant};

use crate::sync;

/// The count of sessions, and the signal that the registry drains.
#[derive(Debug, Default)]
pub(crate) struct Drain {
    draining: AtomicBool,
    /// Whether the drain was announced.
    expected: AtomicBool,
    /// The time until which members that were notified of the drain may go on writing.
    last_words_until: OnceLock<Instant>,
    begun: Notify,
    sessions: AtomicUsize,
    ended: Notify,
}

/// One session, from its upgrade to the end of its task.
#[derive(Debug)]
pub(crate) struct Session {
    drain: Arc<Drain>,
    /// The number of sessions when it began, itself included.
    pub(crate) ordinal: usize,
}

impl Drain {
    pub(crate) fn enter(self: &Arc<Self>) -> Session {
        let ordinal = self.sessions.fetch_add(1, SeqCst) + 1;
        Session { drain: self.clone(), ordinal }
    }

    pub(crate) fn sessions(&self) -> usize {
        self.sessions.load(SeqCst)
    }

    /// Begins the drain. Members that are notified of it may write until `last_words_until`.
    pub(crate) fn begin(&self, last_words_until: Instant) {
        _ = self.last_words_until.set(last_words_until);
        self.draining.store(true, SeqCst);
        self.begun.notify_waiters();
    }

    pub(super) fn expect(&self) {
        self.expected.store(true, SeqCst);
    }

    /// Returns whether the registry drains, or is about to.
    pub(super) fn is_expected(&self) -> bool {
        self.expected.load(SeqCst) || self.is_draining()
    }

    pub(crate) fn last_words_until(&self) -> Instant {
        self.last_words_until.get().copied().unwrap_or_else(Instant::now)
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(SeqCst)
    }

    /// Waits until the registry drains.
    pub(crate) async fn begun(&self) {
        sync::wait_for(&self.begun, || self.is_draining().then_some(())).await;
    }

    /// Waits until there is no session.
    pub(crate) async fn empty(&self) {
        sync::wait_for(&self.ended, || (self.sessions() == 0).then_some(())).await;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.drain.sessions.fetch_sub(1, SeqCst) == 1 {
            self.drain.ended.notify_waiters();
        }
    }
}
