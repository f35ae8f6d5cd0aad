//! What a client sends: messages at the allowed rate, and what ends them.

use std::{
    convert::Infallible,
    future::{pending, poll_fn},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use tokio::time::sleep_until;
use tokio_tungstenite::WebSocketStream;
use tungstenite::{
    Message, Utf8Bytes,
    error::{CapacityError, Error as WsError, ProtocolError},
    protocol::{Role, WebSocketConfig},
};

use super::{
    Submission,
    ahead::Ahead,
    conflation::Conflation,
    receipt::Receipt,
    socket::{Ear, Socket},
};
use crate::{
    budget::Budget,
    close::{Close, CloseCode, LeaveCause},
    limits::Limits,
    metrics,
    registry::Membership,
    room::{Outlet, SessionHandle, WriteError},
    wire::{self, ClientMessage, Dialect, Frame, Malformed, ScratchValues},
};

/// The WebSocket layer's read buffer. It is allocated for each connection and zeroed at each read:
/// tungstenite's default of 128 KiB costs more than all else together.
const READ_BUFFER: usize = 1024;

/// How soon to look again at a client that does not read what it asked to be told.
const UNREAD: Duration = Duration::from_millis(20);

/// How a session ended.
#[derive(Debug, PartialEq)]
pub(super) enum End {
    /// The client closed, or its connection is gone: there is nobody to tell.
    Gone,
    /// The client was told already, and has until then to answer.
    Told(tokio::time::Instant),
    /// The client is told.
    Close(Close),
}

impl From<Close> for End {
    fn from(close: Close) -> Self {
        Self::Close(close)
    }
}

impl From<Malformed> for End {
    fn from(malformed: Malformed) -> Self {
        Self::Close(Close::new(malformed.code(), malformed.to_string()))
    }
}

#[derive(Debug)]
pub(super) struct Reader {
    stream: WebSocketStream<Ear>,
    /// Over the rate of messages writes are conflated, so that nobody falls behind.
    conflation: Conflation,
    /// What the client is told of its sets, if it asked for that.
    receipt: Option<Receipt>,
    handle: Arc<SessionHandle>,
    socket: Arc<Socket>,
    /// The liveness' base, which moves with its pongs.
    base: u64,
    /// That of the handshake, once one came.
    dialect: Dialect,
    values: ScratchValues,
    /// The client has closed.
    is_closed: bool,
    /// The WebSocket layer reads no further.
    broken: bool,
    ahead: Ahead,
}

impl Reader {
    pub(super) async fn new(
        socket: &Arc<Socket>,
        handle: &Arc<SessionHandle>,
        limits: &Limits,
        budget: &Budget,
        values: ScratchValues,
    ) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            // Only replies are written through it.
            .write_buffer_size(0)
            .max_message_size(Some(limits.message_bytes))
            .max_frame_size(Some(limits.message_bytes));
        let ear = Ear::new(socket);
        let now = now();
        Self {
            stream: WebSocketStream::from_raw_socket(ear, Role::Server, Some(config)).await,
            conflation: Conflation::new(limits, budget, now),
            receipt: None,
            handle: handle.clone(),
            socket: socket.clone(),
            base: 0,
            dialect: Dialect::default(),
            values,
            is_closed: false,
            broken: false,
            ahead: Ahead::default(),
        }
    }

    pub(super) fn speak(&mut self, dialect: Dialect) {
        self.dialect = dialect;
    }

    /// Has the client told which of its sets were taken, and at once that it will be.
    pub(super) fn acknowledge(&mut self) {
        self.receipt = Some(Receipt::default());
        self.notify(wire::joining());
    }

    fn notify(&self, notice: Frame) {
        self.socket.with(|writer| writer.notify(notice));
        self.socket.push();
    }

    /// How a member leaves whose session ends so.
    pub(super) fn cause(&self, end: &End) -> LeaveCause {
        match end {
            End::Gone if self.is_closed => LeaveCause::Closed,
            End::Gone => LeaveCause::Lost,
            End::Told(_) => LeaveCause::Shutdown,
            End::Close(close) => close.cause,
        }
    }

    pub(super) fn dialect(&self) -> Dialect {
        self.dialect
    }

    pub(super) fn decode<'a>(&self, message: &'a str) -> Result<ClientMessage<'a>, Malformed> {
        wire::decode(self.dialect, self.values, message)
    }

    /// The next message of any kind. May be dropped and called again.
    pub(super) async fn message(&mut self) -> Result<Message, End> {
        match self.ahead.pop() {
            Some(message) => Ok(message),
            None => self.receive().await,
        }
    }

    /// Reads ahead while a join waits, and ends when the client has gone. One that has sent something for the
    /// room before it went is still to join, so that this arrives.
    pub(super) async fn gone(&mut self) -> End {
        while !self.ahead.is_full() {
            match self.receive().await {
                // What follows is the end of the stream, by which the answer to the close goes out.
                Ok(Message::Close(_)) => self.is_closed = true,
                Ok(message) => self.ahead.push(message),
                Err(End::Gone) if self.ahead.has_texts() => break,
                Err(end) => return end,
            }
        }
        pending().await
    }

    async fn receive(&mut self) -> Result<Message, End> {
        match self.stream.next().await {
            Some(Ok(message)) => Ok(message),
            Some(Err(error)) => {
                self.broken = true;
                Err(end_of(error))
            }
            None => Err(End::Gone),
        }
    }

    /// The first text.
    pub(super) async fn first_text(&mut self) -> Result<Utf8Bytes, End> {
        loop {
            if let Some(text) = self.text().await? {
                return Ok(text);
            }
        }
    }

    /// The text of the next message; `None` if it was of another kind. May be dropped and called
    /// again.
    async fn text(&mut self) -> Result<Option<Utf8Bytes>, End> {
        let message = self.message().await?;
        let now = now();
        if matches!(message, Message::Close(_)) {
            self.is_closed = true;
        } else {
            self.handle.heard(now);
        }
        match message {
            Message::Text(text) => return Ok(Some(text)),
            Message::Pong(payload) => {
                self.base = self.socket.with(|writer| {
                    if let Some(time) = writer.liveness().pong(&payload, now) {
                        self.handle.answer(time, now);
                        metrics::answered(time);
                    }
                    writer.liveness().base()
                });
                self.handle.prod();
            }
            // As Scratch's servers do.
            Message::Binary(_) if self.dialect == Dialect::Scratch => {}
            Message::Binary(_) => {
                return Err(End::Close(Close::binary()));
            }
            // The answer to a close goes out with the next look at the stream, which is its end.
            // Raw frames are given to those who write them.
            Message::Ping(_) | Message::Close(_) | Message::Frame(_) => {}
        }
        Ok(None)
    }

    async fn pause(&self, until: Instant) {
        self.handle.pause(true);
        // Boxed, because few members ever pause: the others need no place for it.
        Box::pin(sleep_until(until.into())).await;
        self.handle.pause(false);
        self.handle.heard(now());
    }

    /// Takes the writes of a member until its session ends; first those that came in one frame
    /// behind its handshake.
    pub(super) async fn play(&mut self, membership: &Membership, behind: String) -> End {
        let Err(end) = self.play_on(membership, behind).await;
        end
    }

    async fn play_on(
        &mut self,
        membership: &Membership,
        behind: String,
    ) -> Result<Infallible, End> {
        if !behind.is_empty() {
            self.take(membership, &behind).await?;
        }
        drop(behind);
        loop {
            self.rest(membership).await?;
            let text = match self.due() {
                None => self.text().await?,
                Some(due) => tokio::select! {
                    // A flood has something to read at any time: what is due comes first.
                    biased;
                    () = Box::pin(sleep_until(due.into())) => {
                        self.do_due(membership)?;
                        continue;
                    }
                    text = self.text() => text?,
                },
            };
            if let Some(text) = text {
                self.take(membership, &text).await?;
            }
        }
    }

    /// When something is to be done without the client: what is held is due, or its receipt.
    fn due(&mut self) -> Option<Instant> {
        let held = self.conflation.due(now());
        // What is held was not taken yet.
        held.or_else(|| self.receipt.as_ref().and_then(Receipt::due))
    }

    fn do_due(&mut self, membership: &Membership) -> Result<(), End> {
        let now = now();
        if self.conflation.due(now).is_some() {
            return self.release(membership);
        }
        if self.receipt.as_mut().is_some_and(|receipt| receipt.take(now))
            && let Some(sets) = self.handle.receipts().news()
        {
            self.notify(wire::taken(sets));
        }
        Ok(())
    }

    /// Waits while the rate of bytes has reading pause; what is held and due leaves meanwhile.
    async fn rest(&mut self, membership: &Membership) -> Result<(), End> {
        while let Some(until) = self.socket.paused_until() {
            match self.due().filter(|due| *due < until) {
                Some(due) => {
                    self.pause(due).await;
                    self.do_due(membership)?;
                }
                None => self.pause(until).await,
            }
        }
        Ok(())
    }

    /// Takes the messages of a frame.
    async fn take(&mut self, membership: &Membership, frame: &str) -> Result<(), End> {
        for message in self.dialect.messages(frame) {
            self.take_message(membership, message).await?;
            // What heals the view of a client is that client's doing: one frame may cause many.
            self.rest(membership).await?;
        }
        Ok(())
    }

    async fn take_message(&mut self, membership: &Membership, message: &str) -> Result<(), End> {
        let (name, value, terms) = match self.decode(message)? {
            ClientMessage::Set { name, value, terms } => (name, value, terms),
            ClientMessage::Ignored => return Ok(()),
            ClientMessage::Handshake(_) => {
                return Err(End::Close(Close::second_handshake()));
            }
        };
        // Nobody reads them, so no more are made.
        while terms.ack.is_some() && self.handle.acks().are_full() {
            self.pause(now() + UNREAD).await;
        }
        let write = Submission { base: self.base, name, value, terms };
        if let Some(receipt) = &mut self.receipt {
            receipt.note(now());
        }
        if self.conflation.due(now()).is_some_and(|due| due <= now()) {
            self.release(membership)?;
        }
        if self.conflation.lets_pass(now()) {
            return self.submit(membership, &write);
        }
        if write.terms.are_none() {
            let outlook = membership.outlook(&write, &self.conflation).map_err(|e| self.end(e))?;
            if self.conflation.hold(&write, outlook) {
                return Ok(());
            }
        }
        // It counts by itself, or there is no memory to hold it: it waits here for its turn.
        let turn = self.conflation.turn(now());
        self.pause(turn).await;
        self.release(membership)?;
        self.submit(membership, &write)
    }

    /// Submits all that is held.
    fn release(&mut self, membership: &Membership) -> Result<(), End> {
        let held = self.conflation.release(now());
        held.iter().try_for_each(|write| self.submit(membership, write))
    }

    /// Takes the writes that were under way when the client was told that its session ends, until it has
    /// closed.
    pub(super) async fn last_words(&mut self, membership: &Membership) {
        while let Ok(text) = self.text().await {
            if let Some(text) = text
                && self.take(membership, &text).await.is_err()
            {
                break;
            }
        }
        self.conclude(membership);
    }

    /// Submits what is held of a member that leaves: the last value of each variable arrives.
    pub(super) fn conclude(&mut self, membership: &Membership) {
        // It may have been put out: then it writes no more.
        _ = self.release(membership);
    }

    fn submit(&mut self, membership: &Membership, write: &Submission<'_>) -> Result<(), End> {
        if let Some(receipt) = &self.receipt {
            self.handle.receipts().note(receipt.sets());
        }
        let cost = membership.write(write).map_err(|error| self.end(error))?;
        // Otherwise a short message would buy a long one.
        self.socket.pay(cost.healed);
        self.conflation.defer(cost.next);
        Ok(())
    }

    fn end(&self, error: WriteError) -> End {
        match error {
            WriteError::UnknownVariable => End::Close(Close::unknown_variable()),
            WriteError::Rejected(close) => End::Close(close.because(LeaveCause::Kicked)),
            // It was put out, and told so before.
            WriteError::Gone => self.handle.stop_told().cloned().map_or(End::Gone, End::Close),
        }
    }

    /// Reads on, looking at nothing, until the client has closed or its connection is gone.
    pub(super) async fn drain(&mut self) {
        self.ahead = Ahead::default();
        while let Some(Ok(_)) = self.stream.next().await {}
        if self.broken {
            // The WebSocket layer reads no further, so the answer to a close cannot be seen. A client
            // that is told by TCP as well that nothing more comes need not wait for our patience.
            poll_fn(|cx| self.socket.poll_end(cx)).await;
            poll_fn(|cx| self.socket.poll_forget(cx)).await;
        }
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

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
