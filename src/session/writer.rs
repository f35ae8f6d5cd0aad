//! What a member is sent: its outbox's frames and the session's pings, with their timeouts.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use axum::extract::ws::Message;
use futures_util::{Sink, SinkExt};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, sleep_until};

use super::Liveness;
use crate::{
    close::Close,
    limits::Limits,
    outbox::{Item, Outbox},
    room::Link,
};

/// After this long a reader that has stopped holds no batches of the room any more.
const STALLED: Duration = Duration::from_secs(5);

/// And after this long more, no snapshot. A socket that has buffered some megabytes takes nothing
/// until a good part of them is read.
const STOPPED: Duration = Duration::from_secs(25);

/// How soon to ask for a snapshot again that there was no memory for.
const RETRY: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Writer<S> {
    sink: S,
    outbox: Outbox,
    link: Arc<Link>,
    liveness: Arc<Mutex<Liveness>>,
    ping_interval: Duration,
    next_ping: Instant,
    idle_timeout: Duration,
    close_timeout: Duration,
}

/// The connection cannot be written to any more.
struct Broken;

impl<S> Writer<S>
where
    S: Sink<Message, Error = axum::Error> + Unpin,
{
    pub(super) fn new(
        sink: S,
        outbox: Outbox,
        limits: &Limits,
        link: &Arc<Link>,
        liveness: &Arc<Mutex<Liveness>>,
    ) -> Self {
        Self {
            sink,
            outbox,
            link: link.clone(),
            liveness: liveness.clone(),
            ping_interval: limits.ping_interval,
            next_ping: Instant::now() + limits.ping_interval,
            idle_timeout: limits.idle_timeout,
            close_timeout: limits.close_timeout,
        }
    }

    /// Writes until the session is stopped, and gives the sink back for its close; `None` where
    /// the connection is broken.
    pub(super) async fn run(mut self) -> Option<S> {
        let link = self.link.clone();
        let mut timer = pin!(sleep_until(self.due()));
        while !link.is_stopped() {
            if timer.is_elapsed() {
                self.keep_alive().await.ok()?;
                timer.as_mut().reset(self.due());
            } else if link.is_probed() {
                self.ping().await.ok()?;
            }
            let may_ping = || !self.liveness.lock().is_outstanding();
            let item = tokio::select! {
                biased;
                item = self.outbox.next(may_ping) => item,
                () = link.prodded() => {
                    timer.as_mut().reset(self.due());
                    continue;
                }
                () = &mut timer => continue,
            };
            let sent = match item {
                Item::Frame(frame) => self.send(Message::Text(frame)).await,
                Item::Barrier(position) => self.send_ping(position, true).await,
                Item::NoBudget => {
                    sleep(RETRY).await;
                    Ok(())
                }
            };
            sent.ok()?;
        }
        Some(self.sink)
    }

    fn due(&self) -> Instant {
        let due = self.next_ping.min(silent_at(&self.link, self.idle_timeout));
        match self.liveness.lock().due() {
            Some(ping) => due.min(ping.into()),
            None => due,
        }
    }

    /// Stops a session without a sign of life, and pings where it is time to.
    async fn keep_alive(&mut self) -> Result<(), Broken> {
        let now = Instant::now();
        if now >= silent_at(&self.link, self.idle_timeout) {
            self.link.stop(no_sign_of_life());
        } else if now >= self.next_ping {
            self.next_ping = now + self.ping_interval;
            self.ping().await?;
        } else if now >= self.due() {
            self.ping().await?;
        }
        Ok(())
    }

    /// Pings, unless a ping is outstanding: then its answer serves.
    async fn ping(&mut self) -> Result<(), Broken> {
        if self.liveness.lock().is_outstanding() {
            return Ok(());
        }
        let position = self.outbox.prove();
        self.send_ping(position, false).await
    }

    async fn send_ping(&mut self, position: u64, is_barrier: bool) -> Result<(), Broken> {
        let now = Instant::now().into_std();
        let payload = self.liveness.lock().ping(position, is_barrier, now);
        match payload {
            Some(payload) => self.send(Message::Ping(payload.to_vec().into())).await,
            None => Ok(()),
        }
    }

    async fn send(&mut self, message: Message) -> Result<(), Broken> {
        let Self { sink, outbox, link, .. } = self;
        let mut sending = pin!(sink.send(message));
        let at_once = poll_fn(|cx| Poll::Ready(sending.as_mut().poll(cx))).await;
        if let Poll::Ready(sent) = at_once {
            return sent.map_err(|_| Broken);
        }
        // Boxed, as few members ever block: the others need no place for it.
        let patience = Box::pin(patience(outbox, link, self.idle_timeout, self.close_timeout));
        tokio::select! {
            biased;
            sent = sending => {
                // A blocked write that went through is a sign of life.
                link.heard(Instant::now().into_std());
                sent.map_err(|_| Broken)
            }
            () = patience => Err(Broken),
        }
    }
}

/// How long a blocked write is waited for.
async fn patience(outbox: &mut Outbox, link: &Link, idle: Duration, close: Duration) {
    let silent = async {
        sleep(STALLED.min(idle)).await;
        outbox.release_batches();
        sleep(STOPPED.min(idle)).await;
        outbox.release_snapshot();
        while Instant::now() < silent_at(link, idle) {
            sleep_until(silent_at(link, idle)).await;
        }
    };
    tokio::select! {
        // A close can follow only when the frame under way has gone.
        _ = link.stopped() => sleep(close).await,
        () = silent => link.stop(no_sign_of_life()),
    }
}

/// When a session will have shown no sign of life for too long. One that is not read cannot be
/// heard.
fn silent_at(link: &Link, idle: Duration) -> Instant {
    let heard = if link.is_paused() { Instant::now() } else { Instant::from_std(link.heard_at()) };
    heard + idle
}

fn no_sign_of_life() -> Close {
    Close::protocol("no sign of life: neither a frame nor a pong came")
}
