//! What a room can ask of a member's session, and what it can know of it.

use std::{
    fmt,
    future::Future,
    sync::{
        OnceLock,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{AcqRel, Relaxed, Release},
        },
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_util::task::AtomicWaker;
use tokio::sync::Notify;

use crate::close::Close;

/// A member's way out. Its room pushes it when a batch has left; to what its socket does not take at
/// once, its session sees.
pub(crate) trait Outlet: fmt::Debug + Send + Sync {
    /// Writes what the member is to be sent, as far as that goes at once.
    fn push(&self);

    /// How many batches wait until its socket takes them.
    #[cfg(feature = "inspector")]
    fn waiting(&self) -> usize {
        0
    }
}

/// Shared by a session and its room.
#[derive(Debug)]
pub(crate) struct Link {
    opened: Instant,
    /// Milliseconds from `opened` to the last sign of life.
    alive: AtomicU64,
    /// Microseconds from the last ping to its answer; 0 where none has come.
    round_trip: AtomicU64,
    /// The rate limit keeps the session from reading, so it cannot hear.
    paused: AtomicBool,
    /// Somebody wants a ping answered now.
    probed: AtomicBool,
    /// The member is none any more.
    left: AtomicBool,
    /// A sign of life came, or the member left.
    answered: Notify,
    stop: OnceLock<Close>,
    prodded: AtomicBool,
    session: AtomicWaker,
}

impl Link {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            opened: now,
            alive: AtomicU64::new(0),
            round_trip: AtomicU64::new(0),
            paused: AtomicBool::new(false),
            probed: AtomicBool::new(false),
            left: AtomicBool::new(false),
            answered: Notify::new(),
            stop: OnceLock::new(),
            prodded: AtomicBool::new(false),
            session: AtomicWaker::new(),
        }
    }

    /// Ends the session with this close; the first one counts.
    pub(crate) fn stop(&self, close: Close) {
        if self.stop.set(close).is_ok() {
            self.prod();
        }
    }

    /// The close that the session was told, if it was.
    pub(crate) fn stop_told(&self) -> Option<&Close> {
        self.stop.get()
    }

    /// Notes a sign of life.
    pub(crate) fn heard(&self, now: Instant) {
        let millis = now.saturating_duration_since(self.opened).as_millis() as u64;
        self.alive.store(millis, Relaxed);
        if self.probed.load(Relaxed) {
            self.answered.notify_waiters();
        }
    }

    /// The moment of the last sign of life.
    pub(crate) fn heard_at(&self) -> Instant {
        self.opened + Duration::from_millis(self.alive.load(Relaxed))
    }

    /// Notes how long the answer to a ping took.
    pub(crate) fn note_round_trip(&self, time: Duration) {
        self.round_trip.store((time.as_micros() as u64).max(1), Relaxed);
    }

    #[cfg(feature = "inspector")]
    pub(super) fn round_trip(&self) -> Option<Duration> {
        let micros = self.round_trip.load(Relaxed);
        (micros > 0).then(|| Duration::from_micros(micros))
    }

    /// How long ago the connection was made.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.opened)
    }

    pub(crate) fn pause(&self, paused: bool) {
        self.paused.store(paused, Relaxed);
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Relaxed)
    }

    /// Notes that the member is none any more.
    pub(super) fn leave(&self) {
        self.left.store(true, Relaxed);
        self.answered.notify_waiters();
    }

    /// Asks for a ping. The future ends with the first sign of life after this call, or when the
    /// member leaves; true where it is there.
    pub(crate) fn probe(&self) -> impl Future<Output = bool> {
        let answered = self.answered.notified();
        self.probed.store(true, Relaxed);
        self.prod();
        async move {
            if !self.is_paused() && !self.left.load(Relaxed) {
                answered.await;
            }
            !self.left.load(Relaxed)
        }
    }

    pub(crate) fn end_probe(&self) {
        self.probed.store(false, Relaxed);
    }

    pub(crate) fn is_probed(&self) -> bool {
        self.probed.load(Relaxed)
    }

    /// Has the session look at what is asked of it.
    pub(crate) fn prod(&self) {
        self.prodded.store(true, Release);
        self.session.wake();
    }

    /// Whether there is something to look at; for the session only.
    pub(crate) fn poll_prodded(&self, cx: &Context<'_>) -> Poll<()> {
        self.session.register(cx.waker());
        if self.prodded.swap(false, AcqRel) { Poll::Ready(()) } else { Poll::Pending }
    }
}
