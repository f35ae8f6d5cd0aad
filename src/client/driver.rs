//! The task of a client, which connects, transfers frames, and reconnects.

use std::{future::poll_fn, sync::Arc, time::Duration};

use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use tokio::time::{Instant, interval, sleep, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tracing::debug;
use tungstenite::{Error, Message};

use super::{
    Shared, Status,
    connection::Happened,
    error::ClientError,
    reconnect::Reconnect,
    transport::{AnyStream, Transport},
    values::End,
};

const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// A server counts as gone if it sends nothing for this long, and answers no ping.
const SILENCE: Duration = Duration::from_secs(60);
/// How long a close waits for its answer.
const GOODBYE: Duration = Duration::from_secs(2);

type Socket = WebSocketStream<AnyStream>;

/// Ends the client when its task does, however that comes: a program that waits must not wait for ever.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.state.lock().end(End::Broken);
        self.0.tell_left(ClientError::Unreachable("the client's task has ended".into()), None);
    }
}

/// Runs until the client has left for good.
pub(super) async fn run(shared: Arc<Shared>, transport: Transport) {
    let ended = Ended(shared.clone());
    let mut reconnect = Reconnect::new(Instant::now().into_std());
    loop {
        let opened = tokio::select! {
            opened = timeout(CONNECT_WITHIN, transport.open()) => opened,
            () = shared.leaving.cancelled() => Ok(Err(ClientError::Left)),
        };
        let late = |_| Err(ClientError::Unreachable("it does not answer".into()));
        let began = Instant::now();
        let error = match opened.unwrap_or_else(late) {
            Ok(socket) => play(&shared, socket).await,
            Err(error) => error,
        };
        let end = match error {
            ClientError::Closed { code: 4000, .. } => End::Refused,
            ClientError::Closed { code: 1009, .. } => End::TooLarge,
            _ => End::Broken,
        };
        let was_joined = shared.state.lock().end(end);
        let now = Instant::now();
        let stay = was_joined.then(|| now - began);
        let delay = reconnect.after(&error, stay, random(), now.into_std());
        // If the first attempt fails, the program receives the error and decides itself.
        let delay = delay.filter(|_| reconnect.has_joined());
        debug!(%error, ?delay, "the client is away");
        shared.tell_left(error, delay);
        let Some(delay) = delay else { break };
        tokio::select! {
            () = sleep(delay) => {}
            () = shared.leaving.cancelled() => {
                shared.tell_left(ClientError::Left, None);
                break;
            }
        }
    }
    drop(ended);
}

/// Runs one connection until it ends.
async fn play(shared: &Shared, socket: Socket) -> ClientError {
    shared.begin();
    let (sink, mut source) = socket.split();
    let mut outgoing = Outgoing { sink, next: None };
    let error = tokio::select! {
        error = read(shared, &mut source) => error,
        error = outgoing.write(shared) => error,
        () = watch(shared) => return ClientError::Unreachable("it has gone silent".into()),
        () = shared.leaving.cancelled() => ClientError::Left,
    };
    // Answers a close; or sends the rest and a close, and waits for its answer, because a connection that ends
    // with something unread may lose what it has sent.
    let goodbye = async {
        if error == ClientError::Left {
            outgoing.send_rest(shared).await?;
        }
        outgoing.sink.close().await?;
        while let Some(Ok(_)) = source.next().await {}
        Ok::<_, Error>(())
    };
    _ = timeout(GOODBYE, goodbye).await;
    error
}

/// The frames that go out.
struct Outgoing {
    sink: SplitSink<Socket, Message>,
    /// The message whose turn it is. It stays here until the socket takes it, so that none is lost if the
    /// connection is to end.
    next: Option<Message>,
}

impl Outgoing {
    async fn write(&mut self, shared: &Shared) -> ClientError {
        // The client sends its own pings, because those of the server may be far apart. The first follows the
        // handshake.
        let mut pings = interval(SILENCE / 3);
        self.next = Some(Message::text(next_frame(shared).await));
        loop {
            if let Err(error) = self.send().await {
                // A close may have arrived, which gives a better reason.
                sleep(GOODBYE).await;
                return broken(&error);
            }
            self.next = Some(tokio::select! {
                // Pings come first, so that a steady flow of frames does not starve them.
                biased;
                _ = pings.tick() => Message::Ping(Vec::new().into()),
                frame = next_frame(shared) => Message::text(frame),
            });
        }
    }

    /// Sends the message whose turn it is.
    async fn send(&mut self) -> Result<(), Error> {
        poll_fn(|cx| self.sink.poll_ready_unpin(cx)).await?;
        if let Some(message) = self.next.take() {
            self.sink.start_send_unpin(message)?;
        }
        self.sink.flush().await
    }

    /// Sends every frame that waits.
    async fn send_rest(&mut self, shared: &Shared) -> Result<(), Error> {
        self.send().await?;
        loop {
            let frame = shared.state.lock().next_frame(Instant::now().into_std());
            let Some(frame) = frame else { return Ok(()) };
            self.next = Some(Message::text(frame));
            self.send().await?;
        }
    }
}

async fn read(shared: &Shared, source: &mut SplitStream<Socket>) -> ClientError {
    loop {
        let message = source.next().await;
        *shared.heard.lock() = Instant::now();
        match message {
            Some(Ok(Message::Text(text))) => shared.receive(&text),
            Some(Ok(Message::Pong(_))) => shared.answered(),
            Some(Ok(Message::Close(close))) => {
                let (code, reason) = close.map_or((1006, String::new()), |close| {
                    (close.code.into(), close.reason.to_string())
                });
                return ClientError::Closed { code, reason };
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => return broken(&error),
            None => return ClientError::Unreachable("the connection ended".into()),
        }
    }
}

async fn next_frame(shared: &Shared) -> String {
    loop {
        let frame = shared.state.lock().next_frame(Instant::now().into_std());
        match frame {
            Some(frame) => return frame,
            None => shared.stirred.notified().await,
        }
    }
}

/// Performs timed events. Returns when the server has been silent for too long, or does not answer.
async fn watch(shared: &Shared) {
    *shared.heard.lock() = Instant::now();
    loop {
        let silent_at = *shared.heard.lock() + SILENCE;
        let is_stalled = shared.state.lock().is_stalled(Instant::now().into_std());
        if is_stalled || silent_at <= Instant::now() {
            return;
        }
        let due = shared.state.lock().due().map_or(silent_at, Instant::from_std);
        tokio::select! {
            () = sleep_until(due.min(silent_at)) => shared.pass(),
            () = shared.rescheduled.notified() => {}
        }
    }
}

fn broken(error: &Error) -> ClientError {
    ClientError::Unreachable(error.to_string())
}

/// Returns a random number from 0 to 1.
fn random() -> f64 {
    f64::from(getrandom::u32().unwrap_or(u32::MAX / 2)) / f64::from(u32::MAX)
}

impl Shared {
    fn begin(&self) {
        let mut state = self.state.lock();
        let handshake = self.handshake(&state);
        state.begin(handshake, Instant::now().into_std());
    }

    fn answered(&self) {
        self.state.lock().answered(Instant::now().into_std());
        self.rescheduled.notify_one();
    }

    fn receive(&self, frame: &str) {
        let happened = self.state.lock().receive(frame, Instant::now().into_std());
        self.tell(happened);
    }

    fn pass(&self) {
        let happened = self.state.lock().pass(Instant::now().into_std());
        self.tell(happened);
    }

    fn tell(&self, happened: Vec<Happened>) {
        for happened in happened {
            if happened == Happened::Joined {
                self.status.send_replace(Status::Joined);
            }
            self.announce(happened);
        }
        // A received message may have made something ready to send, or changed the next due time.
        self.stirred.notify_one();
        self.rescheduled.notify_one();
    }
}
