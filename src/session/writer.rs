//! The writer of a session, and its order: the frames of the outbox, pings, replies, and the close.

use std::{
    io::{self, IoSlice},
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::{io::AsyncWrite, time::Instant};

use super::{
    Liveness,
    outbox::{Item, Outbox},
};
use crate::{
    deflate::{Deflate, Window},
    wire::Frame,
};

/// The outcome of the last attempt to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Flow {
    /// Everything is written.
    #[default]
    Open,
    /// The socket takes nothing more for now.
    Blocked,
    /// There is no memory for the next frame.
    Starved,
    /// The connection cannot be written to any more.
    Broken,
}

/// A writer that takes frames from the outbox only when the socket takes bytes, so that nothing is kept
/// twice.
#[derive(Debug, Default)]
pub(super) struct Writer {
    /// The rest of the frame under way, and the frame behind it. Nothing comes in between.
    frames: [Bytes; 2],
    /// The WebSocket layer's answer to a ping or a close. A newer one replaces one that waits (RFC
    /// 6455, section 5.5.3).
    reply: Option<Bytes>,
    /// The notice of the client's join or its sets, if it asked for that. A newer one replaces one that
    /// waits.
    notice: Option<Frame>,
    phase: Phase,
    liveness: Liveness,
    /// The compression that was agreed with the client.
    deflate: Option<Deflate>,
    window: Window,
    flow: Flow,
    written: u64,
}

/// The phase of the session, as far as it concerns writing.
#[derive(Debug, Default)]
enum Phase {
    #[default]
    Joining,
    Open {
        outbox: Outbox,
        /// A ping that waits to be written.
        ping: Option<Frame>,
    },
    /// The room has ended the session: everything that was ordered before that is written first.
    Closing { outbox: Outbox, close: Bytes },
    /// The close was written, or is next: nothing goes behind it.
    Closed,
}

impl Writer {
    pub(super) fn new(deflate: Option<Deflate>) -> Self {
        Self { deflate, ..Self::default() }
    }

    /// Starts to write the frames of the outbox.
    pub(super) fn open(&mut self, outbox: Outbox) {
        self.phase = Phase::Open { outbox, ping: None };
    }

    /// Ends the stream with this close frame. It goes behind the frame under way or, if the room has
    /// ended the session, behind everything that is due to the member.
    pub(super) fn close(&mut self, close: Frame) {
        let close = close.bytes().clone();
        self.phase = match mem::take(&mut self.phase) {
            Phase::Open { outbox, .. } if outbox.is_concluded() => Phase::Closing { outbox, close },
            _ => return self.end(close),
        };
    }

    fn end(&mut self, close: Bytes) {
        self.notice = None;
        self.reply = Some(close);
        self.phase = Phase::Closed;
    }

    /// Queues a notice for the client, in place of one that waits.
    pub(super) fn notify(&mut self, notice: Frame) {
        // Nothing goes behind a close (RFC 6455, section 5.5.1).
        if !self.is_closed() {
            self.notice = Some(notice);
        }
    }

    /// Takes a whole frame from the WebSocket layer.
    pub(super) fn reply(&mut self, frame: &[u8]) {
        const CLOSE: u8 = 8;
        let reply = Bytes::copy_from_slice(frame);
        match frame.first() {
            _ if self.is_closed() => {}
            Some(start) if start & 0x0f == CLOSE => self.end(reply),
            _ => self.reply = Some(reply),
        }
    }

    /// Returns whether the close is queued or written.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closing { .. } | Phase::Closed)
    }

    /// Queues a ping behind everything that was sent, unless a ping is outstanding: then its answer
    /// serves.
    pub(super) fn ping(&mut self) {
        if let Phase::Open { outbox, ping } = &mut self.phase
            && !self.liveness.is_outstanding()
        {
            let position = outbox.prove();
            *ping = self.liveness.ping(position, false, now()).map(Frame::ping);
        }
    }

    /// Ends the outbox because the room has ended the session: the member is sent nothing more once it
    /// has everything up to this position.
    pub(super) fn conclude(&mut self, last: u64) {
        if let Some(outbox) = self.outbox() {
            outbox.conclude(last);
        }
    }

    pub(super) fn outbox(&mut self) -> Option<&mut Outbox> {
        match &mut self.phase {
            Phase::Open { outbox, .. } => Some(outbox),
            Phase::Joining | Phase::Closing { .. } | Phase::Closed => None,
        }
    }

    pub(super) fn liveness(&mut self) -> &mut Liveness {
        &mut self.liveness
    }

    /// Returns the compression that was agreed with the client.
    pub(super) fn deflate(&self) -> Option<Deflate> {
        self.deflate
    }

    pub(super) fn flow(&self) -> Flow {
        self.flow
    }

    /// Returns how many bytes the socket has taken.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Writes as much as the socket takes. If something is left, the task is woken when the socket
    /// takes more.
    pub(super) fn write<W>(&mut self, socket: &mut W, cx: &mut Context<'_>) -> Flow
    where
        W: AsyncWrite + Unpin,
    {
        self.flow = match self.poll_write(socket, cx) {
            Poll::Ready(Ok(flow)) => flow,
            Poll::Ready(Err(_)) => Flow::Broken,
            Poll::Pending => Flow::Blocked,
        };
        self.flow
    }

    /// Continues to write if the socket was blocked.
    pub(super) fn resume<W>(&mut self, socket: &mut W, cx: &mut Context<'_>) -> Flow
    where
        W: AsyncWrite + Unpin,
    {
        if self.flow == Flow::Blocked { self.write(socket, cx) } else { self.flow }
    }

    fn poll_write<W>(&mut self, socket: &mut W, cx: &mut Context<'_>) -> Poll<io::Result<Flow>>
    where
        W: AsyncWrite + Unpin,
    {
        let mut filled = Ok(true);
        let flow = loop {
            // The frames under way go first, so that a blocked socket holds no more than these.
            if self.frames[0].is_empty() {
                if let Ok(true) = filled {
                    filled = self.fill();
                }
                if self.frames[0].is_empty() {
                    break filled.err().unwrap_or(Flow::Open);
                }
            }
            let taken = ready!(poll_write_both(&self.frames, socket, cx))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.take(taken);
        };
        ready!(Pin::new(socket).poll_flush(cx))?;
        Poll::Ready(Ok(flow))
    }

    /// Takes the next frames, and returns whether there may be more. Code that adds more also has the
    /// socket written to once more.
    fn fill(&mut self) -> Result<bool, Flow> {
        for place in 0..self.frames.len() {
            let Some(frame) = self.next()? else { return Ok(false) };
            self.frames[place] = frame;
        }
        Ok(true)
    }

    /// Notes that the socket has taken this many bytes.
    fn take(&mut self, taken: usize) {
        self.written += taken as u64;
        let [first, second] = &mut self.frames;
        let of_first = taken.min(first.len());
        first.advance(of_first);
        second.advance(taken - of_first);
        if first.is_empty() {
            *first = mem::take(second);
        }
    }

    fn next(&mut self) -> Result<Option<Bytes>, Flow> {
        let ping = match &mut self.phase {
            Phase::Open { ping, .. } => ping.take(),
            Phase::Joining | Phase::Closing { .. } | Phase::Closed => None,
        };
        let control = ping.map(|ping| ping.bytes().clone()).or_else(|| self.reply.take());
        let first = control.or_else(|| self.notice.take().map(|notice| notice.bytes().clone()));
        if first.is_some() {
            return Ok(first);
        }
        if let Phase::Closing { outbox, close } = &mut self.phase {
            if let Some(Item::Frame(frame)) = outbox.next(false) {
                return Ok(Some(encoded(&frame, self.deflate, &mut self.window)));
            }
            let close = close.clone();
            self.phase = Phase::Closed;
            return Ok(Some(close));
        }
        let Phase::Open { outbox, .. } = &mut self.phase else { return Ok(None) };
        match outbox.next(!self.liveness.is_outstanding()) {
            Some(Item::Frame(frame)) => Ok(Some(encoded(&frame, self.deflate, &mut self.window))),
            Some(Item::Barrier(position)) => {
                let ping = self.liveness.ping(position, true, now());
                Ok(ping.map(|ping| Frame::ping(ping).bytes().clone()))
            }
            Some(Item::NoBudget) => Err(Flow::Starved),
            None => Ok(None),
        }
    }
}

/// Returns the bytes of a frame as this client receives it.
pub(super) fn encoded(frame: &Frame, deflate: Option<Deflate>, window: &mut Window) -> Bytes {
    deflate.map_or_else(|| frame.bytes().clone(), |deflate| frame.compressed(deflate, window))
}

/// Writes both frames at once: a snapshot and the ping behind it leave together, and so do batches that
/// have waited.
fn poll_write_both<W>(
    [first, second]: &[Bytes; 2],
    socket: &mut W,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>>
where
    W: AsyncWrite + Unpin,
{
    if second.is_empty() {
        return Pin::new(socket).poll_write(cx, first);
    }
    let both = [IoSlice::new(first), IoSlice::new(second)];
    Pin::new(socket).poll_write_vectored(cx, &both)
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}
