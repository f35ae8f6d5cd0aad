//! What a client sends: messages at the allowed rate, and what ends them.

use std::{future::pending, sync::Arc, time::Duration};

use axum::extract::ws::{Message, Utf8Bytes};
use futures_util::{Stream, StreamExt};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};
use tungstenite::error::{CapacityError, Error as WsError, ProtocolError};

use super::{Liveness, rate::Rate};
use crate::{
    close::{Close, CloseCode},
    limits::Limits,
    registry::Seat,
    room::{Link, WriteError},
    wire::{self, ClientMessage, Dialect, Malformed, ScratchValues},
};

/// How a session ended.
#[derive(Debug, PartialEq)]
pub(super) enum End {
    /// The client closed, or its connection is gone: there is nobody to tell.
    Gone,
    /// The client is told.
    Close(Close),
}

impl From<Malformed> for End {
    fn from(malformed: Malformed) -> Self {
        Self::Close(Close::protocol(malformed.to_string()))
    }
}

#[derive(Debug)]
pub(super) struct Reader<S> {
    stream: S,
    rate: Rate,
    link: Arc<Link>,
    liveness: Arc<Mutex<Liveness>>,
    /// The liveness' base, which moves with its pongs.
    base: u64,
    /// That of the handshake, once one came.
    dialect: Dialect,
    values: ScratchValues,
    /// The WebSocket layer reads no further, so an answered close cannot be seen.
    broken: bool,
}

impl<S> Reader<S>
where
    S: Stream<Item = Result<Message, axum::Error>> + Unpin,
{
    pub(super) fn new(
        stream: S,
        limits: &Limits,
        values: ScratchValues,
        (link, liveness): (&Arc<Link>, &Arc<Mutex<Liveness>>),
    ) -> Self {
        let rate = Rate::new(limits, Instant::now().into_std());
        let (link, liveness) = (link.clone(), liveness.clone());
        let dialect = Dialect::default();
        Self { stream, rate, link, liveness, base: 0, dialect, values, broken: false }
    }

    pub(super) fn speak(&mut self, dialect: Dialect) {
        self.dialect = dialect;
    }

    pub(super) fn dialect(&self) -> Dialect {
        self.dialect
    }

    pub(super) fn decode<'a>(&self, message: &'a str) -> Result<ClientMessage<'a>, Malformed> {
        wire::decode(self.dialect, self.values, message)
    }

    /// The next text.
    pub(super) async fn text(&mut self) -> Result<Utf8Bytes, End> {
        loop {
            let message = match self.stream.next().await {
                Some(Ok(message)) => message,
                Some(Err(error)) => {
                    self.broken = true;
                    return Err(end_of(error));
                }
                None => return Err(End::Gone),
            };
            let now = Instant::now().into_std();
            if !matches!(message, Message::Close(_)) {
                self.link.heard(now);
            }
            let pause = self.rate.take(length(&message), now);
            match message {
                Message::Text(text) => {
                    self.pause(pause).await;
                    return Ok(text);
                }
                Message::Pong(payload) => {
                    let mut liveness = self.liveness.lock();
                    liveness.pong(&payload, now);
                    self.base = liveness.base();
                    self.link.prod();
                }
                Message::Ping(_) => {}
                Message::Binary(_) => {
                    let reason = "binary frames are not part of the protocol: send text";
                    return Err(End::Close(Close::new(CloseCode::Unsupported, reason)));
                }
                // The answer goes out with the next look at the stream, which is its end.
                Message::Close(_) => {}
            }
            self.pause(pause).await;
        }
    }

    async fn pause(&mut self, time: Duration) {
        if !time.is_zero() {
            self.link.pause(true);
            sleep(time).await;
            self.link.pause(false);
            self.link.heard(Instant::now().into_std());
        }
    }

    /// Takes the writes of a member until its session ends; first those that came in one frame
    /// behind its handshake.
    pub(super) async fn play(&mut self, seat: &Seat, behind: String) -> End {
        if !behind.is_empty()
            && let Err(end) = self.take(seat, &behind).await
        {
            return end;
        }
        drop(behind);
        loop {
            let frame = match self.text().await {
                Ok(next) => next,
                Err(end) => return end,
            };
            if let Err(end) = self.take(seat, &frame).await {
                return end;
            }
        }
    }

    /// Takes the messages of a frame, of which the rate has the first already.
    async fn take(&mut self, seat: &Seat, frame: &str) -> Result<(), End> {
        for (nth, message) in self.dialect.messages(frame).enumerate() {
            if nth > 0 {
                let pause = self.rate.take(0, Instant::now().into_std());
                self.pause(pause).await;
            }
            let (name, value) = match self.decode(message)? {
                ClientMessage::Set { name, value } => (name, value),
                ClientMessage::Ignored => continue,
                ClientMessage::Handshake(_) => {
                    return Err(End::Close(Close::protocol("you have joined a room already")));
                }
            };
            match seat.write(self.base, &name, value.as_ref()) {
                // What it is sent back is its doing: else a short message would buy a long one.
                Ok(healed) => {
                    let pause = self.rate.owe(healed, Instant::now().into_std());
                    self.pause(pause).await;
                }
                Err(WriteError::UnknownVariable) => {
                    let reason = "the room has no variable of that name";
                    return Err(End::Close(Close::protocol(reason)));
                }
                Err(WriteError::Rejected(close)) => return Err(End::Close(close)),
                // It was put out, and told so.
                Err(WriteError::Gone) => {
                    return Err(End::Close(self.link.stopped().await.clone()));
                }
            }
        }
        Ok(())
    }

    /// Reads on, heeding nothing, until the client closes or its connection is gone. Does not end
    /// where that cannot be seen.
    pub(super) async fn drain(&mut self) {
        while let Some(Ok(_)) = self.stream.next().await {}
        if self.broken {
            pending::<()>().await;
        }
    }
}

fn length(message: &Message) -> usize {
    match message {
        Message::Text(text) => text.len(),
        Message::Binary(bytes) | Message::Ping(bytes) | Message::Pong(bytes) => bytes.len(),
        Message::Close(_) => 0,
    }
}

/// The close that an error of the WebSocket layer deserves. The error is axum's; what is inside is
/// known only if our tungstenite is axum's: `tests/p6_closes.rs` asserts each code.
fn end_of(error: axum::Error) -> End {
    let Ok(error) = error.into_inner().downcast::<WsError>() else { return End::Gone };
    let (code, reason) = match *error {
        WsError::Capacity(CapacityError::MessageTooLong { max_size, .. }) => {
            (CloseCode::TooLarge, format!("a message must have at most {max_size} bytes"))
        }
        WsError::Utf8(_) => (CloseCode::InvalidText, "a text must be UTF-8".into()),
        WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => return End::Gone,
        WsError::Protocol(error) => (CloseCode::Framing, error.to_string()),
        _ => return End::Gone,
    };
    End::Close(Close::new(code, reason))
}
