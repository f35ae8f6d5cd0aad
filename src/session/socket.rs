//! The socket of a connection: read by its session, written by its session and its room.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Instant,
};

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep_until},
};

use super::{Writer, frames::Frames, writer::Flow};
use crate::{
    limits::Limits,
    rate::Bucket,
    room::{Outlet, SessionHandle},
};

#[derive(Debug)]
pub(super) struct Socket {
    handle: Arc<SessionHandle>,
    /// Held for as long as a socket takes what it takes at once.
    shared: Mutex<Shared>,
    /// Apart, so that who reads does not wait for who writes.
    intake: Mutex<Intake>,
}

#[derive(Debug)]
struct Shared {
    io: TokioIo<Upgraded>,
    writer: Writer,
}

/// The rate of all bytes that are read, whatever they are: before the handshake, of control frames and
/// fragments, and after the close.
#[derive(Debug)]
struct Intake {
    bytes: Bucket,
    frames: Frames,
}

/// What a frame counts towards the rate beside its bytes: what reading and answering it costs.
/// Otherwise a client could send frames of nothing as fast as its socket allows.
const FRAME_COST: usize = 64;
/// What a connection may send at once before it has earned more, so that those who come anew each time
/// have no burst each time.
const FIRST_BURST: u32 = 512 << 10;

impl Socket {
    pub(super) fn new(upgraded: Upgraded, handle: &Arc<SessionHandle>, limits: &Limits) -> Self {
        let mut bytes = Bucket::new(limits.bytes_per_second, limits.byte_burst, now());
        bytes.take(limits.byte_burst.saturating_sub(FIRST_BURST) as usize, now());
        let shared = Shared { io: TokioIo::new(upgraded), writer: Writer::default() };
        let intake = Mutex::new(Intake { bytes, frames: Frames::new() });
        Self { handle: handle.clone(), shared: Mutex::new(shared), intake }
    }

    /// Changes what is to be written.
    pub(super) fn with<T>(&self, change: impl FnOnce(&mut Writer) -> T) -> T {
        change(&mut self.shared.lock().writer)
    }

    /// Writes; the task is woken when it can go on.
    pub(super) fn write(&self, cx: &mut Context<'_>) -> Flow {
        let Shared { io, writer } = &mut *self.shared.lock();
        writer.write(io, cx)
    }

    /// Ready when all is written, or nothing more can be.
    pub(super) fn poll_written(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self.write(cx) {
            Flow::Blocked => Poll::Pending,
            Flow::Open | Flow::Starved | Flow::Broken => Poll::Ready(()),
        }
    }

    /// Counts bytes towards the rate that were not read here.
    pub(super) fn pay(&self, count: usize) {
        if count > 0 {
            self.intake.lock().bytes.take(count, now());
        }
    }

    /// Until when the rate has reading pause, if it does.
    pub(super) fn paused_until(&self) -> Option<Instant> {
        let now = now();
        Some(self.intake.lock().bytes.has(0, now)).filter(|until| *until > now)
    }

    /// Reads and forgets what comes, until the other side has ended, at the rate. Ready then. To be
    /// called under a timeout: over the rate nothing wakes the task.
    pub(super) fn poll_forget(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut bytes = [0; 1024];
        loop {
            if self.paused_until().is_some() {
                return Poll::Pending;
            }
            let mut buffer = ReadBuf::new(&mut bytes);
            let read = Pin::new(&mut self.shared.lock().io).poll_read(cx, &mut buffer);
            if ready!(read).is_err() || buffer.filled().is_empty() {
                return Poll::Ready(());
            }
            self.pay(buffer.filled().len());
        }
    }

    /// Ends what is written.
    pub(super) fn poll_end(&self, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.shared.lock().io).poll_shutdown(cx).map(|_| ())
    }

    /// Ready when a blocked socket that had taken so much has taken more.
    pub(super) fn poll_progress(&self, written: u64, cx: &mut Context<'_>) -> Poll<()> {
        let Shared { io, writer } = &mut *self.shared.lock();
        let is_blocked = writer.resume(io, cx) == Flow::Blocked;
        if is_blocked && writer.written() == written { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Writes as far as the socket takes it at once, and leaves the rest to the session.
    fn write_at_once(&self) {
        let Shared { io, writer } = &mut *self.shared.lock();
        // Where it flows not, its session is at it already.
        let flows = writer.flow() == Flow::Open;
        if flows && writer.write(io, &mut Context::from_waker(Waker::noop())) != Flow::Open {
            self.handle.prod();
        }
    }
}

impl Outlet for Socket {
    fn push(&self) {
        self.write_at_once();
    }

    #[cfg(feature = "inspector")]
    fn waiting(&self) -> usize {
        self.with(|writer| writer.outbox().map_or(0, |outbox| outbox.waiting()))
    }
}

/// What the WebSocket layer reads from, and writes its replies to.
#[derive(Debug)]
pub(super) struct Ear {
    socket: Arc<Socket>,
    /// Until the rate lets it read on.
    pause: Option<Pin<Box<Sleep>>>,
}

impl Ear {
    pub(super) fn new(socket: &Arc<Socket>) -> Self {
        Self { socket: socket.clone(), pause: None }
    }

    /// Ready when the rate lets it read.
    fn poll_rate(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(until) = self.socket.paused_until() {
            // Boxed, because few members ever pause: the others need no place for it.
            let pause = self.pause.get_or_insert_with(|| Box::pin(sleep_until(until.into())));
            self.socket.handle.pause(true);
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        if self.socket.handle.is_paused() {
            // It could not be heard meanwhile.
            self.socket.handle.pause(false);
            self.socket.handle.heard(now());
        }
        Poll::Ready(())
    }
}

impl AsyncRead for Ear {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let ear = self.get_mut();
        let is_paused = ear.poll_rate(cx).is_pending();
        let Shared { io, writer } = &mut *ear.socket.shared.lock();
        // Before the handshake nobody else does.
        writer.resume(io, cx);
        if is_paused {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        ready!(Pin::new(io).poll_read(cx, buffer))?;
        let piece = &buffer.filled()[before..];
        let Intake { bytes, frames } = &mut *ear.socket.intake.lock();
        bytes.take(piece.len() + frames.count(piece) * FRAME_COST, now());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Ear {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        frame: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.socket.with(|writer| writer.reply(frame));
        // The answer to a close is not flushed.
        self.socket.write_at_once();
        Poll::Ready(Ok(frame.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.socket.poll_written(cx));
        Poll::Ready(Ok(()))
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
