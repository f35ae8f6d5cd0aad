//! The timed work of a session: pings, the idle timeout, and the release of memory that a blocked
//! socket holds.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use super::{Socket, reader::End, writer::Flow};
use crate::{close::Close, limits::Limits, room::SessionHandle};

/// How long a socket may be blocked before its session releases the batches of the room.
const STALLED: Duration = Duration::from_secs(5);

/// How much longer it may be blocked before its session releases the snapshot too. A socket that has
/// buffered some megabytes takes nothing until a good part of them is read.
const STOPPED: Duration = Duration::from_secs(25);

/// How soon to ask again for a snapshot that there was no memory for.
const RETRY: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Upkeep<'a> {
    socket: &'a Socket,
    handle: &'a SessionHandle,
    ping_interval: Duration,
    idle_timeout: Duration,
    next_ping: Instant,
    /// The time since which the socket has taken nothing, and how many bytes it had taken by then.
    blocked: Option<(Instant, u64)>,
}

impl<'a> Upkeep<'a> {
    pub(super) fn new(socket: &'a Socket, handle: &'a SessionHandle, limits: &Limits) -> Self {
        Self {
            socket,
            handle,
            ping_interval: limits.ping_interval,
            idle_timeout: limits.idle_timeout,
            next_ping: Instant::now() + limits.ping_interval,
            blocked: None,
        }
    }

    /// Maintains the session until it is stopped, or its connection is gone.
    pub(super) async fn run(mut self) -> End {
        let mut timer = pin!(sleep_until(self.next_ping));
        loop {
            let now = Instant::now();
            let due = self.keep_alive(now);
            if let Some(close) = self.handle.stop_told() {
                return End::Close(close.clone());
            }
            let due = match poll_fn(|cx| Poll::Ready(self.socket.write(cx))).await {
                Flow::Open => {
                    self.flows_again(now);
                    due
                }
                Flow::Blocked => due.min(self.wait_patiently(now)),
                Flow::Starved => {
                    self.flows_again(now);
                    due.min(now + RETRY)
                }
                Flow::Broken => return End::Gone,
            };
            timer.as_mut().reset(due);
            self.wait(timer.as_mut()).await;
        }
    }

    /// Stops a session that shows no sign of life, and pings when it is time to. Returns when to call
    /// it again.
    fn keep_alive(&mut self, now: Instant) -> Instant {
        let silent = self.silent_at(now);
        if now >= silent {
            self.handle.stop(Close::no_sign_of_life());
        }
        self.socket.with(|writer| {
            let due = writer.liveness().due().map_or(self.next_ping, |due| due.into());
            if now >= self.next_ping {
                self.next_ping = now + self.ping_interval;
                writer.ping();
            } else if now >= due || self.handle.is_probed() {
                writer.ping();
            }
            let due = writer.liveness().due().map_or(silent, |due| silent.min(due.into()));
            due.min(self.next_ping)
        })
    }

    /// Returns when the session will have shown no sign of life for too long. A session that is not
    /// being read cannot be heard, so its time begins anew.
    fn silent_at(&self, now: Instant) -> Instant {
        let heard = if self.handle.is_paused() { now } else { self.handle.heard_at().into() };
        heard + self.idle_timeout
    }

    /// Releases the memory that a blocked socket holds, step by step. Returns when the next step is
    /// due.
    fn wait_patiently(&mut self, now: Instant) -> Instant {
        let written = self.socket.with(|writer| writer.written());
        if self.blocked.is_some_and(|(_, before)| before < written) {
            self.flows_again(now);
        }
        let (since, _) = *self.blocked.get_or_insert((now, written));
        let stalled = since + STALLED.min(self.idle_timeout);
        if now < stalled {
            return stalled;
        }
        let stopped = stalled + STOPPED.min(self.idle_timeout);
        self.socket.with(|writer| {
            let Some(outbox) = writer.outbox() else { return };
            outbox.release_batches();
            if now >= stopped {
                outbox.release_snapshot();
            }
        });
        if now < stopped { stopped } else { now + self.idle_timeout }
    }

    /// Notes that the socket takes bytes. If it was blocked, the other side has read earlier bytes,
    /// which is a sign of life.
    fn flows_again(&mut self, now: Instant) {
        if self.blocked.take().is_some() {
            self.handle.heard(now.into_std());
        }
    }

    /// Waits until something is asked of the session, a blocked socket takes something, or the timer is
    /// due.
    async fn wait(&self, mut timer: Pin<&mut Sleep>) {
        poll_fn(|cx| {
            let is_due = self.handle.poll_prodded(cx).is_ready()
                || timer.as_mut().poll(cx).is_ready()
                || self
                    .blocked
                    .is_some_and(|(_, written)| self.socket.poll_progress(written, cx).is_ready());
            if is_due { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
