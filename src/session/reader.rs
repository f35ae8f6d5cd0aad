//! Reads a client's messages at the allowed rate, until its session ends.

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
    deflate::InflateError,
    limits::Limits,
    metrics,
    registry::Membership,
    room::{Outlet, SessionHandle, WriteError},
    wire::{self, ClientMessage, Dialect, Frame, Malformed, ScratchValues},
};

/// The size of the WebSocket layer's read buffer. It is allocated for each session and zeroed at
/// each read: tungstenite's default of 128 KiB would cost more than everything else together.
const READ_BUFFER: usize = 1024;

/// How soon to check again on a client that does not read the acknowledgements that it asked for.
const UNREAD: Duration = Duration::from_millis(20);

/// How a session ended.
#[derive(Debug, PartialEq)]
pub(super) enum End {
    /// The client closed, or its connection is gone: there is nobody to notify.
    Gone,
    /// The client was already sent its close, and has until then to answer.
    Told(tokio::time::Instant),
    /// The client is to be sent this close.
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
    /// The writes over the rate of messages, which are conflated so that no member falls behind.
    conflation: Conflation,
    /// The notices of sets that were taken, if the client asked for them.
    receipt: Option<Receipt>,
    handle: Arc<SessionHandle>,
    socket: Arc<Socket>,
    /// The base of the liveness, which moves with its pongs.
    base: u64,
    /// The dialect of the handshake, once it has arrived.
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
        let ear = Ear::new(socket, limits.message_bytes);
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

    /// Starts to acknowledge the client's sets, and announces that to the client at once.
    pub(super) fn acknowledge(&mut self) {
        self.receipt = Some(Receipt::default());
        self.notify(wire::joining());
    }

    fn notify(&self, notice: Frame) {
        self.socket.with(|writer| writer.notify(notice));
        self.socket.push();
    }

    /// Returns the cause for which a member leaves if its session ends like this.
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

    /// Returns the next message of any kind. May be dropped and called again.
    pub(super) async fn message(&mut self) -> Result<Message, End> {
        match self.ahead.pop() {
            Some(message) => Ok(message),
            None => self.receive().await,
        }
    }

    /// Reads ahead while a join waits, and returns when the client has gone. If the client sent
    /// something for the room before it went, this never returns: the client is still to join, so that
    /// its writes arrive.
    pub(super) async fn gone(&mut self) -> End {
        while !self.ahead.is_full() {
            match self.receive().await {
                // The end of the stream follows. Polling for it sends the answer to the close.
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

    /// Returns the first text.
    pub(super) async fn first_text(&mut self) -> Result<Utf8Bytes, End> {
        loop {
            if let Some(text) = self.text().await? {
                return Ok(text);
            }
        }
    }

    /// Returns the text of the next message, or `None` if it was of another kind. May be dropped and
    /// called again.
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
            // Ignored, as by Scratch's servers.
            Message::Binary(_) if self.dialect == Dialect::Scratch => {}
            Message::Binary(_) => {
                return Err(End::Close(Close::binary()));
            }
            // The answer to a close is sent by the next poll of the stream, which returns its end. Raw
            // frames are only ever written.
            Message::Ping(_) | Message::Close(_) | Message::Frame(_) => {}
        }
        Ok(None)
    }

    async fn pause(&self, until: Instant) {
        self.handle.pause(true);
        // Boxed, because few members ever pause, and the others then need no memory for it.
        Box::pin(sleep_until(until.into())).await;
        self.handle.pause(false);
        self.handle.heard(now());
    }

    /// Takes the writes of a member until its session ends, beginning with those that came in one frame
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
                    // Biased, because a flood always has something to read, and work that is due comes
                    // first.
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

    /// Returns when something is due without the client: its held writes, or its receipt.
    fn due(&mut self) -> Option<Instant> {
        let held = self.conflation.due(now());
        // The held writes have not been taken yet, so a receipt is not due before them.
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

    /// Waits while the rate of bytes pauses reading. Held writes that become due are submitted
    /// meanwhile.
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
            // A client pays for the corrections that its writes cause, and one frame may cause many.
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
        // The client does not read its acknowledgements, so no more are made.
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
        // The write has terms and counts by itself, or there is no memory to hold it. It waits here for
        // its turn.
        let turn = self.conflation.turn(now());
        self.pause(turn).await;
        self.release(membership)?;
        self.submit(membership, &write)
    }

    /// Submits all held writes.
    fn release(&mut self, membership: &Membership) -> Result<(), End> {
        let held = self.conflation.release(now());
        held.iter().try_for_each(|write| self.submit(membership, write))
    }

    /// Takes the writes that were under way when the client was notified that its session ends, until
    /// it has closed.
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

    /// Submits the held writes of a member that leaves, so that the last value of each variable
    /// arrives.
    pub(super) fn conclude(&mut self, membership: &Membership) {
        // The member may have been removed already: then it may not write any more.
        _ = self.release(membership);
    }

    fn submit(&mut self, membership: &Membership, write: &Submission<'_>) -> Result<(), End> {
        if let Some(receipt) = &self.receipt {
            // Noted before the set enters the room, so that the count is sent before anything that is
            // ordered after the set.
            self.handle.receipts().note(receipt.sets());
        }
        let cost = membership.write(write).map_err(|error| self.end(error))?;
        // The client pays for the correction too. Otherwise a short message would buy a long one.
        self.socket.pay(cost.healed);
        self.conflation.defer(cost.next);
        Ok(())
    }

    fn end(&self, error: WriteError) -> End {
        match error {
            WriteError::UnknownVariable => End::Close(Close::unknown_variable()),
            WriteError::Rejected(close) => End::Close(close.because(LeaveCause::Kicked)),
            // The member was removed, and its handle already has the close.
            WriteError::Gone => self.handle.stop_told().cloned().map_or(End::Gone, End::Close),
        }
    }

    /// Reads and discards everything until the client has closed or its connection is gone.
    pub(super) async fn drain(&mut self) {
        self.ahead = Ahead::default();
        while let Some(Ok(_)) = self.stream.next().await {}
        if self.broken {
            // The WebSocket layer reads no further, so the answer to a close cannot be seen. A
            // half-close on TCP shows the client that nothing more follows, so it need not wait for our
            // timeout.
            poll_fn(|cx| self.socket.poll_end(cx)).await;
            poll_fn(|cx| self.socket.poll_forget(cx)).await;
        }
    }
}

/// Returns the end of a session for an error of the WebSocket layer.
fn end_of(error: WsError) -> End {
    let (code, reason) = match error {
        WsError::Capacity(CapacityError::MessageTooLong { max_size, .. }) => {
            (CloseCode::TooLarge, format!("a message must have at most {max_size} bytes"))
        }
        WsError::Utf8(_) => (CloseCode::InvalidText, "a text must be UTF-8".into()),
        WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => return End::Gone,
        WsError::Protocol(error) => (CloseCode::Framing, error.to_string()),
        WsError::Io(error) => match error.downcast::<InflateError>() {
            Ok(error @ InflateError::TooLong { .. }) => (CloseCode::TooLarge, error.to_string()),
            Ok(error) => (CloseCode::Framing, error.to_string()),
            Err(_) => return End::Gone,
        },
        _ => return End::Gone,
    };
    End::Close(Close::new(code, reason))
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
