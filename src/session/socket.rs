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

use super::{Writer, frames::Frames, inflate::Inflater, writer::Flow};
use crate::{
    deflate::Deflate,
    limits::Limits,
    rate::Bucket,
    room::{Outlet, SessionHandle},
};

#[derive(Debug)]
pub(super) struct Socket {
    handle: Arc<SessionHandle>,
    /// The lock is held while the socket takes as many bytes as it can at once.
    shared: Mutex<Shared>,
    /// Locked separately, so that reading does not wait for writing.
    intake: Mutex<Intake>,
}

#[derive(Debug)]
struct Shared {
    io: TokioIo<Upgraded>,
    writer: Writer,
}

/// The rate of all bytes that are read, of any kind: before the handshake, of control frames and
/// fragments, and after the close.
#[derive(Debug)]
struct Intake {
    bytes: Bucket,
    frames: Frames,
}

/// The number of bytes that a frame counts towards the rate besides its own: the cost of reading and
/// answering it. Otherwise a client could send empty frames as fast as its socket allows.
const FRAME_COST: usize = 64;
/// How many bytes a connection may send at once before it has earned more, so that clients that keep
/// reconnecting do not get a full burst each time.
const FIRST_BURST: u32 = 512 << 10;

impl Socket {
    pub(super) fn new(
        upgraded: Upgraded,
        handle: &Arc<SessionHandle>,
        deflate: Option<Deflate>,
        limits: &Limits,
    ) -> Self {
        let mut bytes = Bucket::new(limits.bytes_per_second, limits.byte_burst, now());
        bytes.take(limits.byte_burst.saturating_sub(FIRST_BURST) as usize, now());
        let shared = Shared { io: TokioIo::new(upgraded), writer: Writer::new(deflate) };
        let intake = Mutex::new(Intake { bytes, frames: Frames::default() });
        Self { handle: handle.clone(), shared: Mutex::new(shared), intake }
    }

    /// Calls `change` with the writer, under its lock.
    pub(super) fn with<T>(&self, change: impl FnOnce(&mut Writer) -> T) -> T {
        change(&mut self.shared.lock().writer)
    }

    /// Writes as much as the socket takes. The task is woken when it can go on.
    pub(super) fn write(&self, cx: &mut Context<'_>) -> Flow {
        let Shared { io, writer } = &mut *self.shared.lock();
        writer.write(io, cx)
    }

    /// Completes when everything is written, or when nothing more can be.
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

    /// Returns until when the rate pauses reading, if it does.
    pub(super) fn paused_until(&self) -> Option<Instant> {
        let now = now();
        Some(self.intake.lock().bytes.has(0, now)).filter(|until| *until > now)
    }

    /// Reads and discards input, at the rate, and completes when the other side has ended. Must be
    /// called under a timeout, because over the rate nothing wakes the task.
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

    /// Shuts down the writing half of the connection.
    pub(super) fn poll_end(&self, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.shared.lock().io).poll_shutdown(cx).map(|_| ())
    }

    /// Completes when a blocked socket that had taken `written` bytes has taken more.
    pub(super) fn poll_progress(&self, written: u64, cx: &mut Context<'_>) -> Poll<()> {
        let Shared { io, writer } = &mut *self.shared.lock();
        let is_blocked = writer.resume(io, cx) == Flow::Blocked;
        if is_blocked && writer.written() == written { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Writes as much as the socket takes at once, and leaves the rest to the session.
    fn write_at_once(&self) {
        let Shared { io, writer } = &mut *self.shared.lock();
        // If the flow is not open, the session is already taking care of it.
        let flows = writer.flow() == Flow::Open;
        // Nothing wakes the noop waker, so the session has to poll the socket with its own.
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

/// The stream that the WebSocket layer reads from and writes its replies to.
#[derive(Debug)]
pub(super) struct Ear {
    socket: Arc<Socket>,
    /// The wait until the rate allows the next read.
    pause: Option<Pin<Box<Sleep>>>,
    inflater: Option<Box<Inflater>>,
}

impl Ear {
    /// Creates a stream in which compressed messages are inflated, up to this length, if compression was agreed.
    pub(super) fn new(socket: &Arc<Socket>, message_bytes: usize) -> Self {
        let deflate = socket.with(|writer| writer.deflate());
        let inflater = deflate.map(|deflate| Box::new(Inflater::new(deflate, message_bytes)));
        Self { socket: socket.clone(), pause: None, inflater }
    }

    /// Completes when the rate allows reading.
    fn poll_rate(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(until) = self.socket.paused_until() {
            // Boxed, because few members ever pause, and the others then need no memory for it.
            let pause = self.pause.get_or_insert_with(|| Box::pin(sleep_until(until.into())));
            self.socket.handle.pause(true);
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        if self.socket.handle.is_paused() {
            // The client could not be heard meanwhile, so its silence does not count.
            self.socket.handle.pause(false);
            self.socket.handle.heard(now());
        }
        Poll::Ready(())
    }

    /// Reads bytes as the client sent them.
    fn poll_raw(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let is_paused = self.poll_rate(cx).is_pending();
        let Shared { io, writer } = &mut *self.socket.shared.lock();
        // Before the handshake, nothing else resumes a blocked write.
        writer.resume(io, cx);
        if is_paused {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        ready!(Pin::new(io).poll_read(cx, buffer))?;
        let piece = &buffer.filled()[before..];
        // Always locked after `shared`, never before it.
        let Intake { bytes, frames } = &mut *self.socket.intake.lock();
        bytes.take(piece.len() + frames.count(piece) * FRAME_COST, now());
        Poll::Ready(Ok(()))
    }

    /// Reads bytes in which compressed messages are inflated. They count towards the rate as they are then.
    fn poll_inflated(
        &mut self,
        inflater: &mut Inflater,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if inflater.holds_back() {
                // The message before may have used the rate up.
                ready!(self.poll_rate(cx));
            }
            let is_read = inflater.read(buffer);
            self.socket.pay(inflater.take_cost());
            if is_read? {
                return Poll::Ready(Ok(()));
            }
            let mut bytes = [0; 1024];
            let mut raw = ReadBuf::new(&mut bytes);
            ready!(self.poll_raw(cx, &mut raw))?;
            if raw.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            inflater.push(raw.filled());
        }
    }
}

impl AsyncRead for Ear {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let ear = self.get_mut();
        if let Some(mut inflater) = ear.inflater.take() {
            let read = ear.poll_inflated(&mut inflater, cx, buffer);
            ear.inflater = Some(inflater);
            return read;
        }
        ear.poll_raw(cx, buffer)
    }
}

impl AsyncWrite for Ear {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        frame: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.socket.with(|writer| writer.reply(frame));
        // Written at once, because the WebSocket layer does not flush the answer to a close.
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
