//! The socket of a connection: read by its session, written by its session and its room.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Writer, writer::Flow};
use crate::room::{Outlet, SessionHandle};

#[derive(Debug)]
pub(super) struct Socket {
    handle: Arc<SessionHandle>,
    /// Held for as long as a socket takes what it takes at once.
    shared: Mutex<Shared>,
}

#[derive(Debug)]
struct Shared {
    io: TokioIo<Upgraded>,
    writer: Writer,
}

impl Socket {
    pub(super) fn new(upgraded: Upgraded, handle: &Arc<SessionHandle>) -> Self {
        let shared = Shared { io: TokioIo::new(upgraded), writer: Writer::default() };
        Self { handle: handle.clone(), shared: Mutex::new(shared) }
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

    /// Reads and forgets what comes, until the other side has ended. Ready then.
    pub(super) fn poll_forget(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut bytes = [0; 1024];
        loop {
            let mut buffer = ReadBuf::new(&mut bytes);
            let read = Pin::new(&mut self.shared.lock().io).poll_read(cx, &mut buffer);
            if ready!(read).is_err() || buffer.filled().is_empty() {
                return Poll::Ready(());
            }
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
pub(super) struct Ear(pub(super) Arc<Socket>);

impl AsyncRead for Ear {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Shared { io, writer } = &mut *self.0.shared.lock();
        // Before the handshake nobody else does.
        writer.resume(io, cx);
        Pin::new(io).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Ear {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        frame: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.with(|writer| writer.reply(frame));
        // The answer to a close is not flushed.
        self.0.write_at_once();
        Poll::Ready(Ok(frame.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.0.poll_written(cx));
        Poll::Ready(Ok(()))
    }
}
