//! The handle by which a room makes requests to a member's session and reads its state.

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

/// The sending side of a member. Its room pushes it when a batch has left. If the socket does not take
/// everything at once, the session writes the rest.
pub(crate) trait Outlet: fmt::Debug + Send + Sync {
    /// Writes the member's pending frames, as far as the socket takes them at once.
    fn push(&self);

    /// Returns the number of batches that wait for the socket.
    #[cfg(feature = "inspector")]
    fn waiting(&self) -> usize {
        0
    }
}

/// The state that a session and its room share.
#[derive(Debug)]
pub(crate) struct SessionHandle {
    opened: Instant,
    /// Milliseconds from `opened` to the last sign of life.
    alive: AtomicU64,
    /// Microseconds from the last ping to its answer; 0 if there was no answer.
    round_trip: AtomicU64,
    /// Microseconds from `opened` to the last ping that was answered, plus one; 0 if none was.
    answered_ping: AtomicU64,
    /// Whether the rate limit keeps the session from reading, so that its silence proves nothing.
    paused: AtomicBool,
    /// Whether a newcomer wants the member's name and waits for the answer to a ping. Set under the room's
    /// lock, so that only one newcomer probes at a time.
    probed: AtomicBool,
    /// Whether the member has left.
    left: AtomicBool,
    /// Notified when a ping is answered during a probe, when the member leaves, and when the probe ends.
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

    /// Returns the answers that the member requested about its sets.
    pub(crate) fn acks(&self) -> &Acks {
        &self.acks
    }

    /// Returns the receipts of the member's sets.
    pub(crate) fn receipts(&self) -> &Receipts {
        &self.receipts
    }

    /// Ends the session with this close. Only the first close counts.
    pub(crate) fn stop(&self, close: Close) {
        if self.stop.set(close).is_ok() {
            self.prod();
        }
    }

    /// Returns the close that the session is to end with, if there is one.
    pub(crate) fn stop_told(&self) -> Option<&Close> {
        self.stop.get()
    }

    /// Notes a sign of life.
    pub(crate) fn heard(&self, now: Instant) {
        let millis = now.saturating_duration_since(self.opened).as_millis() as u64;
        self.alive.store(millis, Relaxed);
    }

    /// Returns the time of the last sign of life.
    pub(crate) fn heard_at(&self) -> Instant {
        self.opened + Duration::from_millis(self.alive.load(Relaxed))
    }

    /// Notes the answer to a ping, and the time that it took.
    pub(crate) fn answer(&self, time: Duration, now: Instant) {
        self.round_trip.store((time.as_micros() as u64).max(1), Relaxed);
        let sent = self.micros(now).saturating_sub(time.as_micros() as u64);
        self.answered_ping.store(sent + 1, Relaxed);
        if self.probed.load(Relaxed) {
            self.answered.notify_waiters();
        }
    }

    /// Returns whether a ping that was sent since then was answered. Any other frame may have been in flight
    /// from a connection that is gone.
    pub(crate) fn has_answered(&self, since: Instant) -> bool {
        self.answered_ping.load(Relaxed) > self.micros(since)
    }

    /// Returns whether nothing has arrived since then, although the session reads.
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

    /// Returns whether its connection was made after the other's.
    pub(super) fn is_newer_than(&self, other: &Self) -> bool {
        self.opened > other.opened
    }

    /// Returns how long ago the connection was made.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.opened)
    }

    pub(crate) fn pause(&self, paused: bool) {
        self.paused.store(paused, Relaxed);
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Relaxed)
    }

    /// Notes that the member has left.
    pub(super) fn leave(&self) {
        self.left.store(true, Relaxed);
        self.answered.notify_waiters();
    }

    /// Begins a probe. Must be called under the room's lock, and only if none is under way.
    pub(super) fn begin_probe(&self) {
        self.probed.store(true, Relaxed);
    }

    /// Requests a ping. The future completes when a ping that is sent from now on is answered, or when the
    /// member leaves. It returns true if the member is still there.
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

    /// Waits until no newcomer probes the member any more, or the member has left.
    pub(crate) async fn unprobed(&self) {
        sync::wait_for(&self.answered, || {
            (!self.is_probed() || self.left.load(Relaxed)).then_some(())
        })
        .await;
    }

    pub(crate) fn is_probed(&self) -> bool {
        self.probed.load(Relaxed)
    }

    /// Wakes the session, which then looks at the requests to it.
    pub(crate) fn prod(&self) {
        self.prodded.store(true, Release);
        self.session.wake();
    }

    /// Polls for requests to look at. Only the session may call this.
    pub(crate) fn poll_prodded(&self, cx: &Context<'_>) -> Poll<()> {
        // The waker is registered before the flag is read, so that no request is lost in between.
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
        // The probe is polled before the member leaves, so leaving must wake it.
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
