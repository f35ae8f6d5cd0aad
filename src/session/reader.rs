//! What a client sends: messages at the allowed rate, and what ends them.

use std::{future::pending, sync::Arc, time::Duration};

use futures_util::StreamExt;
use tokio::time::{Instant, sleep};
use tokio_tungstenite::WebSocketStream;
use tungstenite::{
    Message, Utf8Bytes,
    error::{CapacityError, Error as WsError, ProtocolError},
    protocol::{Role, WebSocketConfig},
};

use super::{
    rate::Rate,
    socket::{Ear, Socket},
};
use crate::{
    close::{Close, CloseCode},
    limits::Limits,
    metrics,
    registry::Seat,
    room::{Link, WriteError},
    wire::{self, ClientMessage, Dialect, Malformed, ScratchValues},
};

/// The WebSocket layer's read buffer. It is allocated for each connection and zeroed at each read:
/// tungstenite's default of 128 KiB costs more than all else together.
const READ_BUFFER: usize = 1024;

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
pub(super) struct Reader {
    stream: WebSocketStream<Ear>,
    rate: Rate,
    link: Arc<Link>,
    socket: Arc<Socket>,
    /// The liveness' base, which moves with its pongs.
    base: u64,
    /// That of the handshake, once one came.
    dialect: Dialect,
    values: ScratchValues,
    /// The WebSocket layer reads no further, so an answered close cannot be seen.
    broken: bool,
}

impl Reader {
    pub(super) async fn new(
        socket: &Arc<Socket>,
        link: &Arc<Link>,
        limits: &Limits,
        values: ScratchValues,
    ) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            // Only replies are written through it.
            .write_buffer_size(0)
            .max_message_size(Some(limits.message_bytes))
            .max_frame_size(Some(limits.message_bytes));
        let ear = Ear(socket.clone());
        Self {
            stream: WebSocketStream::from_raw_socket(ear, Role::Server, Some(config)).await,
            rate: Rate::new(limits, Instant::now().into_std()),
            link: link.clone(),
            socket: socket.clone(),
            base: 0,
            dialect: Dialect::default(),
            values,
            broken: false,
        }
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

    /// The next message of any kind.
    pub(super) async fn message(&mut self) -> Result<Message, End> {
        match self.stream.next().await {
            Some(Ok(message)) => Ok(message),
            Some(Err(error)) => {
                self.broken = true;
                Err(end_of(error))
            }
            None => Err(End::Gone),
        }
    }

    /// The next text.
    pub(super) async fn text(&mut self) -> Result<Utf8Bytes, End> {
        loop {
            let message = self.message().await?;
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
                    self.base = self.socket.with(|writer| {
                        if let Some(time) = writer.liveness().pong(&payload, now) {
                            self.link.note_round_trip(time);
                            metrics::answered(time);
                        }
                        writer.liveness().base()
                    });
                    self.link.prod();
                }
                Message::Ping(_) => {}
                Message::Binary(_) => {
                    let reason = "binary frames are not part of the protocol: send text";
                    return Err(End::Close(Close::new(CloseCode::Unsupported, reason)));
                }
                // The answer goes out with the next look at the stream, which is its end.
                Message::Close(_) => {}
                // Given to those who write frames.
                Message::Frame(_) => {}
            }
            self.pause(pause).await;
        }
    }

    async fn pause(&mut self, time: Duration) {
        if !time.is_zero() {
            self.link.pause(true);
            // Boxed, as few members ever pause: the others need no place for it.
            Box::pin(sleep(time)).await;
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
            // What it is sent back is its doing: else a short message would buy a long one.
            let healed = self.write(seat, message)?;
            let pause = self.rate.owe(healed, Instant::now().into_std());
            self.pause(pause).await;
        }
        Ok(())
    }

    /// Takes one message; the bytes that heal its writer's view.
    fn write(&self, seat: &Seat, message: &str) -> Result<usize, End> {
        let (name, value) = match self.decode(message)? {
            ClientMessage::Set { name, value } => (name, value),
            ClientMessage::Ignored => return Ok(0),
            ClientMessage::Handshake(_) => {
                return Err(End::Close(Close::protocol("you have joined a room already")));
            }
        };
        seat.write(self.base, &name, value.as_ref()).map_err(|error| match error {
            WriteError::UnknownVariable => {
                End::Close(Close::protocol("the room has no variable of that name"))
            }
            WriteError::Rejected(close) => End::Close(close),
            // It was put out, and told so before.
            WriteError::Gone => self.link.stop_told().cloned().map_or(End::Gone, End::Close),
        })
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
        Message::Close(_) | Message::Frame(_) => 0,
    }
}

/// The close that an error of the WebSocket layer deserves.
fn end_of(error: WsError) -> End {
    let (code, reason) = match error {
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
