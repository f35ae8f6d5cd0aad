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

use super::{receipts::Receipts, terms::Acks};
use crate::{close::Close, sync};

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
pub(crate) struct SessionHandle {
    opened: Instant,
    /// Milliseconds from `opened` to the last sign of life.
    alive: AtomicU64,
    /// Microseconds from the last ping to its answer; 0 where none has come.
    round_trip: AtomicU64,
    /// One more than the microseconds from `opened` to the ping that was answered last; 0 if none was.
    answered_ping: AtomicU64,
    /// The rate limit keeps the session from reading, so it cannot hear.
    paused: AtomicBool,
    /// A newcomer wants the member's name, and a ping answered now. Set under the room's lock, so that one
    /// newcomer at a time asks.
    probed: AtomicBool,
    /// The member is none any more.
    left: AtomicBool,
    /// A ping was answered while a probe asks for that, the member left, or the probe has ended.
    answered: Notify,
    acks: Acks,
    receipts: Receipts,
    stop: OnceLock<Close>,
    prodded: AtomicBool,
    session: AtomicWaker,
}

impl SessionHandle {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            opened: now,
            alive: AtomicU64::new(0),
            round_trip: AtomicU64::new(0),
            answered_ping: AtomicU64::new(0),
            paused: AtomicBool::new(false),
            probed: AtomicBool::new(false),
            left: AtomicBool::new(false),
            answered: Notify::new(),
            acks: Acks::default(),
            receipts: Receipts::default(),
            stop: OnceLock::new(),
            prodded: AtomicBool::new(false),
            session: AtomicWaker::new(),
        }
    }

    /// What the member asked to be told of its sets.
    pub(crate) fn acks(&self) -> &Acks {
        &self.acks
    }

    /// Which of the member's sets were taken.
    pub(crate) fn receipts(&self) -> &Receipts {
        &self.receipts
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
    }

    /// The moment of the last sign of life.
    pub(crate) fn heard_at(&self) -> Instant {
        self.opened + Duration::from_millis(self.alive.load(Relaxed))
    }

    /// Notes the answer to a ping, and how long it took.
    pub(crate) fn answer(&self, time: Duration, now: Instant) {
        self.round_trip.store((time.as_micros() as u64).max(1), Relaxed);
        let sent = self.micros(now).saturating_sub(time.as_micros() as u64);
        self.answered_ping.store(sent + 1, Relaxed);
        if self.probed.load(Relaxed) {
            self.answered.notify_waiters();
        }
    }

    /// Whether a ping was answered that was sent since then. Any other frame may have been on its way
    /// from a connection that is gone.
    pub(crate) fn has_answered(&self, since: Instant) -> bool {
        self.answered_ping.load(Relaxed) > self.micros(since)
    }

    /// Whether nothing came since then, of one that would have been read.
    pub(crate) fn is_silent(&self, since: Instant) -> bool {
        !self.is_paused() && self.heard_at() <= since
    }

    fn micros(&self, time: Instant) -> u64 {
        time.saturating_duration_since(self.opened).as_micros() as u64
    }

    #[cfg(feature = "inspector")]
    pub(super) fn round_trip(&self) -> Option<Duration> {
        let micros = self.round_trip.load(Relaxed);
        (micros > 0).then(|| Duration::from_micros(micros))
    }

    /// Whether its connection was made after the other's.
    pub(super) fn is_newer_than(&self, other: &Self) -> bool {
        self.opened > other.opened
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

    /// Begins a probe. To be called under the room's lock, if none is under way.
    pub(super) fn begin_probe(&self) {
        self.probed.store(true, Relaxed);
    }

    /// Asks for a ping. The future ends when one is answered that was sent since now, or when the member
    /// leaves; true if it is there.
    pub(crate) fn probe(&self, now: Instant) -> impl Future<Output = bool> {
        self.prod();
        async move {
            sync::wait_for(&self.answered, || {
                let is_there = !self.left.load(Relaxed);
                (!is_there || self.has_answered(now)).then_some(is_there)
            })
            .await
        }
    }

    pub(crate) fn end_probe(&self) {
        self.probed.store(false, Relaxed);
        self.answered.notify_waiters();
    }

    /// Ends when no newcomer asks any more, or the member has left.
    pub(crate) async fn unprobed(&self) {
        sync::wait_for(&self.answered, || {
            (!self.is_probed() || self.left.load(Relaxed)).then_some(())
        })
        .await;
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

#[cfg(all(test, not(shuttle)))]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::room::Outlived;

    #[tokio::test]
    async fn a_probe_ends_when_the_member_leaves() {
        let now = Instant::now();
        let handle = SessionHandle::new(now);
        handle.begin_probe();
        let mut probe = std::pin::pin!(handle.probe(now));
        assert!(probe.as_mut().now_or_never().is_none());
        // It is asked for: whoever waits is woken.
        let waiting = tokio::time::timeout(Duration::from_secs(5), probe);
        let (there, ()) = tokio::join!(waiting, async { handle.leave() });
        assert_eq!(there, Ok(false));
    }

    #[test]
    fn a_holder_that_has_come_back_to_life_is_not_outlived() {
        let now = Instant::now();
        let handle = std::sync::Arc::new(SessionHandle::new(now));
        let asked = now + Duration::from_secs(1);
        let outlived = Outlived::alone(handle.clone(), asked);
        assert!(outlived.has(&handle));
        handle.heard(asked + Duration::from_secs(1));
        assert!(!outlived.has(&handle));
    }
}
