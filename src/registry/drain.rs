//! Which sessions there are, and how they come to an end together.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
};

use tokio::sync::Notify;

/// Counts sessions, and tells them when the registry drains.
#[derive(Debug, Default)]
pub(crate) struct Drain {
    draining: AtomicBool,
    begun: Notify,
    sessions: AtomicUsize,
    ended: Notify,
}

/// One session, from its upgrade to the end of its task.
#[derive(Debug)]
pub(crate) struct Session {
    drain: Arc<Drain>,
    /// How many there were with it when it began.
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

    pub(crate) fn begin(&self) {
        self.draining.store(true, SeqCst);
        self.begun.notify_waiters();
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(SeqCst)
    }

    /// Ends when the registry drains.
    pub(crate) async fn begun(&self) {
        wait_until(&self.begun, || self.is_draining()).await;
    }

    /// Ends when there is no session.
    pub(crate) async fn empty(&self) {
        wait_until(&self.ended, || self.sessions() == 0).await;
    }
}

async fn wait_until(notify: &Notify, done: impl Fn() -> bool) {
    loop {
        let mut notified = pin!(notify.notified());
        notified.as_mut().enable();
        if done() {
            return;
        }
        notified.await;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.drain.sessions.fetch_sub(1, SeqCst) == 1 {
            self.drain.ended.notify_waiters();
        }
    }
}
