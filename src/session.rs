//! One connection, from its upgrade to its close.

mod ahead;
mod conflation;
#[cfg(feature = "__internals")]
mod echo;
mod frames;
mod handshake;
mod inflate;
mod liveness;
mod outbox;
mod reader;
mod receipt;
mod socket;
mod takeover;
mod upkeep;
mod writer;

use std::{
    future::poll_fn, panic::AssertUnwindSafe, pin::pin, sync::Arc, task::Poll, time::Duration,
};

use futures_util::{FutureExt, future::Abortable};
use hyper::upgrade::Upgraded;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{Instrument, debug, debug_span, field, info};

pub(crate) use conflation::{Conflation, Submission};
#[cfg(feature = "__internals")]
pub(crate) use echo::echo;
pub(crate) use handshake::Caller;
#[cfg(all(feature = "deflate", feature = "__internals"))]
pub(crate) use inflate::inflated;
pub(crate) use liveness::Liveness;
#[cfg(any(test, feature = "__internals"))]
pub(crate) use outbox::Item;
pub(crate) use outbox::Outbox;
pub(crate) use takeover::{Probe, Probed};

use crate::{
    close::{Close, CloseCode},
    log_limit::LogLimit,
    metrics,
    registry::{Inner, Membership, Session},
    room::{Outlet, SessionHandle},
    wire::{ClientMessage, Dialect, Frame},
};
use handshake::{Line, admit};
use reader::{End, Reader};
use socket::Socket;
use upkeep::Upkeep;
use writer::{Flow, Writer};

/// Serves one connection in one task. The writes of other members reach the socket without this task,
/// as long as the socket takes them.
pub(crate) async fn serve(
    upgraded: Upgraded,
    registry: Arc<Inner>,
    caller: Caller,
    session: Session,
) {
    // The span does not name the room, because its id may be a secret that is shared as a link.
    let span = debug_span!("session", username = field::Empty, dialect = field::Empty);
    talk(upgraded, registry, caller, session).instrument(span).await;
}

async fn talk(upgraded: Upgraded, registry: Arc<Inner>, caller: Caller, session: Session) {
    let handle = Arc::new(SessionHandle::new(Instant::now().into_std()));
    let socket = Arc::new(Socket::new(upgraded, &handle, caller.deflate, &registry.rules.limits));
    let limits = &registry.rules.limits;
    let (budget, values) = (registry.budget(), registry.admission.scratch_values);
    let mut reader = Reader::new(&socket, &handle, limits, budget, values).await;
    let talk = Talk { registry: &registry, handle: &handle, socket: &socket };
    let played = async {
        let talked = AssertUnwindSafe(async {
            match session.ordinal > limits.sessions {
                true => End::Close(talk.refuse(&mut reader).await),
                false => talk.run(&mut reader, caller).await,
            }
        });
        let end = talked.catch_unwind().await.unwrap_or_else(|_| End::Close(Close::fault()));
        conclude(&registry.log_limit, &socket, &mut reader, end, limits.close_timeout).await;
    };
    let (registration, _registered) = registry.tasks.register();
    // An abort drops the session and its membership, so the member has left.
    if Abortable::new(played, registration).await.is_err() {
        let close = Close::shutting_down();
        socket.with(|writer| {
            if !writer.is_closed() {
                // This close has the same code in all dialects.
                writer.close(Frame::close(close.code.code(Dialect::Spec), close.reason()));
            }
        });
        // Writes only as much as the socket takes at once. Input that has arrived is read as well,
        // because dropping a socket with unread input resets the connection, and the client may not see
        // the close.
        poll_fn(|cx| {
            _ = (socket.poll_written(cx), socket.poll_forget(cx));
            Poll::Ready(())
        })
        .await;
    }
}

/// The parts that a session and its room share.
struct Talk<'a> {
    registry: &'a Arc<Inner>,
    handle: &'a Arc<SessionHandle>,
    socket: &'a Arc<Socket>,
}

impl Talk<'_> {
    /// Runs the handshake, and then the session. When it returns, the member has left: the name is free
    /// before the client learns that its session ended.
    async fn run(&self, reader: &mut Reader, caller: Caller) -> End {
        // Boxed, so that its memory is free again while the member plays.
        let (membership, outbox, behind) = match Box::pin(self.handshake(reader, caller)).await {
            Ok(joined) => joined,
            Err(end) => return end,
        };
        self.socket.with(|writer| writer.open(outbox));
        // Pushed before the first set is read, so that the member is sent the values that the room had
        // when it joined.
        self.socket.push();
        let upkeep = Upkeep::new(self.socket, self.handle, &self.registry.rules.limits);
        let end = tokio::select! {
            end = upkeep.run() => end,
            end = reader.play(&membership, behind) => end,
        };
        reader.conclude(&membership);
        if self.handle.stop_told().is_some() {
            // The room ended the session: the member is still sent everything that the room had ordered
            // by now, which includes the batch that waits for the next tick.
            let last = membership.room().change(|state, now| state.say_last(now));
            self.socket.with(|writer| writer.conclude(last));
        }
        let end = match end {
            End::Close(close) if close.code == CloseCode::GoingAway => {
                self.part(reader, &membership, &close).await
            }
            end => end,
        };
        membership.end(reader.cause(&end));
        end
    }

    /// Closes the session of a member because the server shuts down. Writes that are under way
    /// meanwhile are still taken, so that a deploy costs no input, but only for as long as the shutdown
    /// has time, because the member must have left by then.
    async fn part(&self, reader: &mut Reader, membership: &Membership, close: &Close) -> End {
        let patience = Instant::now() + self.registry.rules.limits.close_timeout;
        let goodbye = Box::pin(async {
            say(&self.registry.log_limit, self.socket, reader, close).await;
            reader.last_words(membership).await;
        });
        _ = timeout_at(patience.min(self.registry.drain.last_words_until()), goodbye).await;
        End::Told(patience)
    }

    /// Waits for the handshake and admits the client. Also returns the messages behind the handshake in
    /// the same frame.
    async fn handshake(
        &self,
        reader: &mut Reader,
        caller: Caller,
    ) -> Result<(Membership, Outbox, String), End> {
        let deadline = Instant::now() + self.registry.rules.limits.handshake_timeout;
        loop {
            let first = tokio::select! {
                biased;
                first = timeout_at(deadline, reader.first_text()) => first,
                () = self.registry.drain.begun() => {
                    return Err(End::Close(Close::shutting_down()));
                }
            };
            let frame = first.map_err(|_| End::Close(Close::no_handshake()))??;
            let dialect = Dialect::detect(&frame)?;
            reader.speak(dialect);
            if !caller.dialects[dialect.index()] {
                return Err(End::Close(Close::another_kind()));
            }
            let mut messages = dialect.messages(&frame);
            while let Some(message) = messages.next() {
                match reader.decode(message)? {
                    ClientMessage::Handshake(handshake) => {
                        if handshake.acknowledge {
                            reader.acknowledge();
                        }
                        let line =
                            Line { handle: self.handle.clone(), outlet: self.socket.clone() };
                        let gone = pin!(reader.gone());
                        let (membership, outbox) =
                            admit(self.registry, dialect, handshake, caller, line, gone).await?;
                        return Ok((membership, outbox, messages.collect::<Vec<_>>().join("\n")));
                    }
                    // Scratch clients may delete and rename at any time, without effect.
                    ClientMessage::Ignored => {}
                    ClientMessage::Set { .. } => {
                        return Err(End::Close(Close::set_before_handshake()));
                    }
                }
            }
        }
    }

    /// Refuses a client for which there is no place, with the close code of its dialect: the code that
    /// makes clients of one dialect come back makes those of another stay away for ever.
    async fn refuse(&self, reader: &mut Reader) -> Close {
        let patience = self.registry.rules.limits.close_timeout;
        if let Ok(Ok(frame)) = timeout(patience, reader.first_text()).await
            && let Ok(dialect) = Dialect::detect(&frame)
        {
            reader.speak(dialect);
        }
        Close::server_full()
    }
}

/// How many times longer a client has to answer a close if its socket is blocked.
const SLOWER: u32 = 5;

/// Sends the close, if one is due, and waits for its answer. A client that takes too long is dropped.
async fn conclude(
    log: &LogLimit,
    socket: &Socket,
    reader: &mut Reader,
    end: End,
    patience: Duration,
) {
    // A slow client gets more time, because a client that does not receive its close comes back and
    // takes its name again.
    let is_slow = socket.with(|writer| writer.flow()) == Flow::Blocked;
    let patience = if is_slow { patience.saturating_mul(SLOWER) } else { patience };
    if matches!(end, End::Gone) {
        debug!("left");
    }
    match end {
        End::Close(close) => {
            let goodbye = Box::pin(async {
                say(log, socket, reader, &close).await;
                reader.drain().await;
            });
            _ = timeout(patience, goodbye).await;
        }
        // The answer to the client's close may wait behind a frame that is half written.
        End::Gone if socket.with(|writer| writer.is_closed()) => {
            let written = poll_fn(|cx| socket.poll_written(cx));
            _ = timeout(patience, written).await;
        }
        End::Told(until) => _ = timeout_at(until, reader.drain()).await,
        End::Gone => {}
    }
}

/// Sends the close.
async fn say(log: &LogLimit, socket: &Socket, reader: &Reader, close: &Close) {
    let code = close.code.code(reader.dialect());
    let reason = close.reason();
    match log.pass(code, Instant::now().into_std()) {
        Some(left_out) => info!(code, reason, left_out, "closing"),
        None => debug!(code, reason, "closing"),
    }
    metrics::closed(code);
    socket.with(|writer| writer.close(Frame::close(code, reason)));
    poll_fn(|cx| socket.poll_written(cx)).await;
}
