//! One connection, from its upgrade to its close.

mod liveness;
mod rate;
mod reader;
mod writer;

use std::{panic::AssertUnwindSafe, sync::Arc};

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures_util::{FutureExt, Sink, SinkExt, Stream, StreamExt};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};
use tracing::debug;

pub(crate) use liveness::Liveness;

use crate::{
    admission::{Caller, admit},
    close::{Close, CloseCode},
    outbox::Outbox,
    registry::{Inner, Seat, Session},
    room::Link,
    wire::{ClientMessage, Dialect},
};
use reader::{End, Reader};
use writer::Writer;

/// Serves one connection. Reading and writing are tasks of their own, so that a frame written does
/// not poll the reader, nor the other way round.
pub(crate) async fn serve(
    socket: WebSocket,
    registry: Arc<Inner>,
    caller: Caller,
    session: Session,
) {
    let (sink, stream) = socket.split();
    let link = Arc::new(Link::new(Instant::now().into_std()));
    let liveness = Arc::default();
    let limits = &registry.rules.limits;
    let values = registry.admission.scratch_values;
    let mut reader = Reader::new(stream, limits, values, (&link, &liveness));
    let (sink, end) = if session.ordinal > limits.sessions {
        (Some(sink), End::Close(full()))
    } else {
        let talk = Talk { registry: &registry, link: &link, liveness: &liveness };
        talk.run(sink, &mut reader, caller).await
    };
    if let (Some(sink), End::Close(close)) = (sink, end) {
        debug!(%close, "closing");
        let goodbye = hang_up(sink, &mut reader, &close);
        // Whoever does not answer in time is dropped.
        _ = timeout(limits.close_timeout, goodbye).await;
    }
}

/// What a session shares with its room and its writer.
struct Talk<'a> {
    registry: &'a Arc<Inner>,
    link: &'a Arc<Link>,
    liveness: &'a Arc<Mutex<Liveness>>,
}

impl Talk<'_> {
    /// Handshake, then play. Gives the sink back, if it can still be written to.
    async fn run<W, R>(&self, sink: W, reader: &mut Reader<R>, caller: Caller) -> (Option<W>, End)
    where
        W: Sink<Message, Error = axum::Error> + Unpin + Send + 'static,
        R: Stream<Item = Result<Message, axum::Error>> + Unpin,
    {
        // Boxed, so that its place is free again while the member plays.
        let handshake = AssertUnwindSafe(Box::pin(self.handshake(reader, caller)));
        let (seat, outbox, behind) = match handshake.catch_unwind().await {
            Ok(Ok(joined)) => joined,
            Ok(Err(end)) => return (Some(sink), end),
            Err(_) => return (Some(sink), End::Close(fault())),
        };
        let limits = &self.registry.rules.limits;
        let writer = Writer::new(sink, outbox, limits, self.link, self.liveness);
        let mut writer = tokio::spawn(writer.run());
        let played = AssertUnwindSafe(reader.play(&seat, behind)).catch_unwind();
        let end = tokio::select! {
            end = played => end.unwrap_or_else(|_| End::Close(fault())),
            sink = &mut writer => {
                // It was stopped, or the connection is broken.
                drop(seat);
                let close = self.link.stopped().now_or_never().cloned();
                return (sink.ok().flatten(), close.map_or(End::Gone, End::Close));
            }
        };
        // The name is free before the client learns that it is out.
        drop(seat);
        match &end {
            End::Gone => {
                writer.abort();
                (None, end)
            }
            End::Close(close) => {
                self.link.stop(close.clone());
                (writer.await.ok().flatten(), end)
            }
        }
    }

    /// Also gives what came in one frame behind the handshake.
    async fn handshake<R>(
        &self,
        reader: &mut Reader<R>,
        caller: Caller,
    ) -> Result<(Seat, Outbox, String), End>
    where
        R: Stream<Item = Result<Message, axum::Error>> + Unpin,
    {
        let limit = self.registry.rules.limits.handshake_timeout;
        let first = tokio::select! {
            biased;
            first = timeout(limit, reader.text()) => first,
            () = self.registry.drain.begun() => {
                let reason = "the server is shutting down";
                return Err(End::Close(Close::new(CloseCode::GoingAway, reason)));
            }
        };
        let frame = first.map_err(|_| End::Close(Close::protocol("no handshake came")))??;
        let dialect = Dialect::detect(&frame)?;
        reader.speak(dialect);
        let mut messages = dialect.messages(&frame);
        let first = messages.next().unwrap_or_default();
        match reader.decode(first)? {
            ClientMessage::Handshake(handshake) => {
                let admission = admit(self.registry, dialect, handshake, caller, self.link);
                let (seat, outbox) = admission.await.map_err(End::Close)?;
                Ok((seat, outbox, messages.collect::<Vec<_>>().join("\n")))
            }
            ClientMessage::Set { .. } | ClientMessage::Ignored => {
                let reason = "the first message must be a handshake";
                Err(End::Close(Close::protocol(reason)))
            }
        }
    }
}

/// Sends the close and waits for its answer.
async fn hang_up<W, R>(mut sink: W, reader: &mut Reader<R>, close: &Close)
where
    W: Sink<Message, Error = axum::Error> + Unpin,
    R: Stream<Item = Result<Message, axum::Error>> + Unpin,
{
    let frame =
        CloseFrame { code: close.code.code(reader.dialect()), reason: close.reason().into() };
    if sink.send(Message::Close(Some(frame))).await.is_ok() {
        reader.drain().await;
    }
}

fn full() -> Close {
    Close::new(CloseCode::Overloaded, "the server is full: try again later")
}

fn fault() -> Close {
    Close::new(CloseCode::Internal, "a fault of the server's")
}
