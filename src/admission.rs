//! Who may play: the checks of a handshake, in the order in which a client learns of them.

use std::{borrow::Cow, future::ready, pin::pin, sync::Arc};

use axum::http::request::Parts;
use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::{Instant, timeout};
use tracing::{Span, debug};

use crate::{
    close::{Close, CloseCode},
    identity::Identity,
    limits::Limits,
    metrics,
    names::NameKey,
    outbox::Outbox,
    policy::{self, AnyPolicy},
    registry::{EnterError, Inner, Seat},
    room::{Link, MemberId, Newcomer, Outlet, Refusal, Shared},
    wire::{self, Dialect, Handshake, Json, ScratchFraming},
};

/// Lets a client into the room that its handshake names, or says why not. The order of the checks
/// is part of the public behaviour.
pub(crate) async fn admit(
    registry: &Arc<Inner>,
    dialect: Dialect,
    handshake: Handshake<'_>,
    caller: Caller,
    line: Line,
) -> Result<(Seat, Outbox), Close> {
    let limits = &registry.rules.limits;
    let framing = caller.scratch_framing;
    let room = room_id(&handshake.room, dialect, limits)?;
    let name = handshake
        .username
        .plain()
        .unwrap_or_else(|| char::REPLACEMENT_CHARACTER.to_string().into());
    if !caller.identity.vouches_for(&name) {
        let usernames = &registry.admission.usernames;
        usernames.judge(&name).map_err(|reason| Close::new(CloseCode::Username, reason))?;
    }
    let variables = handshake.variables.as_deref();
    let identity = match (&registry.rules.policy, &caller.request) {
        (Some(policy), Some(request)) => {
            let join = policy::Join {
                room: &room,
                username: &name,
                dialect,
                variables: variables.unwrap_or_default(),
                identity: &caller.identity,
                parts: request,
                exists: registry.has(&room).await.map_err(refusal)?,
            };
            ask(&**policy, &join, registry).await?
        }
        _ => caller.identity,
    };
    let name = identity.name(&name)?;
    identity.check_room(&room)?;
    let brought = limits.check_variables(variables.unwrap_or_default());
    brought.map_err(|over| Close::protocol(over.to_string()))?;

    let mut newcomer = Newcomer {
        dialect,
        variables,
        name: &name,
        key: NameKey::new(&name),
        duplicates: registry.admission.duplicate_names(dialect),
        identity: identity.clone(),
        session: None,
        link: line.link,
        outlet: line.outlet,
        outlived: None,
    };
    loop {
        match registry.enter(&room, &newcomer).await {
            Ok((seat, joined)) => {
                metrics::joined(newcomer.link.age(Instant::now().into_std()));
                let span = Span::current();
                span.record("username", &*name).record("dialect", tracing::field::debug(dialect));
                debug!("joined");
                let greeting = handshake.acknowledge.then(|| wire::joined(joined.created));
                let outbox = Outbox::new(seat.room().clone(), dialect, joined).framed(framing);
                let outbox = match greeting {
                    Some(greeting) => outbox.greeting(greeting),
                    None => outbox,
                };
                return Ok((seat, outbox));
            }
            Err(EnterError::Room(room, Refusal::NameInUse(holders))) if !holders.is_empty() => {
                let (holders, links): (_, Vec<_>) = holders.into_iter().unzip();
                let probe = Probe { room, holders };
                // A second time, one has come back to life meanwhile.
                if newcomer.outlived.is_some() {
                    return Err(name_in_doubt());
                }
                let asked = Instant::now().into_std();
                match timeout(limits.takeover_probe, any_answers(&links, asked)).await {
                    Ok(true) => return Err(name_in_use()),
                    // What came may have been on its way from a connection that is gone.
                    Err(_) if !links.iter().all(|link| link.is_silent(asked)) => {
                        return Err(name_in_doubt());
                    }
                    // They have left: who comes first has the name.
                    Ok(false) => {}
                    Err(_) => newcomer.outlived = Some((links, asked)),
                }
                drop(probe);
            }
            Err(error) => return Err(refusal(error)),
        }
    }
}

/// Who opened a connection.
#[derive(Debug)]
pub(crate) struct Caller {
    /// The request's, or a guest's.
    pub(crate) identity: Identity,
    /// The request, where there is a policy that may look at it.
    pub(crate) request: Option<Box<Parts>>,
    /// That of the mount.
    pub(crate) scratch_framing: ScratchFraming,
}

/// How a room and a session reach each other.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) link: Arc<Link>,
    pub(crate) outlet: Arc<dyn Outlet>,
}

/// Who it is that wants to join, by the host's policy.
async fn ask(
    policy: &dyn AnyPolicy,
    join: &policy::Join<'_>,
    registry: &Inner,
) -> Result<Identity, Close> {
    tokio::select! {
        answer = timeout(registry.rules.limits.admit_timeout, policy.admit(join)) => match answer {
            Ok(answer) => answer.map_err(|rejection| rejection.0),
            Err(_) => {
                let reason = "the server did not decide in time whether you may join";
                Err(Close::new(CloseCode::Internal, reason))
            }
        },
        () = registry.drain.begun() => Err(refusal(EnterError::Draining)),
    }
}

fn room_id<'a>(id: &'a Json<'_>, dialect: Dialect, limits: &Limits) -> Result<Cow<'a, str>, Close> {
    let (field, code) = match dialect {
        // Its clients come back after all codes but a few, with the same id.
        Dialect::Scratch => ("project_id", CloseCode::Incompatible),
        Dialect::Spec => ("room", CloseCode::Protocol),
        Dialect::Forkphorus2020 => ("id", CloseCode::Protocol),
    };
    let Some(plain) = id.plain() else {
        return Err(Close::new(code, format!("'{field}' must be a valid Unicode string")));
    };
    if !limits.allow_room_id(&plain) {
        let most = limits.room_id_chars;
        return Err(Close::new(code, format!("'{field}' must have 1 to {most} characters")));
    }
    Ok(plain)
}

fn refusal(error: EnterError) -> Close {
    match error {
        EnterError::Draining => Close::new(CloseCode::Unavailable, "the server is shutting down"),
        EnterError::NoSuchRoom => Close::new(CloseCode::Incompatible, "there is no such room"),
        EnterError::Banned => Close::new(CloseCode::Username, "you are banned from this room"),
        EnterError::Unreachable => {
            let reason = "the server cannot reach its rooms: try again later";
            Close::new(CloseCode::Unavailable, reason)
        }
        EnterError::Full => {
            Close::new(CloseCode::Overloaded, "the server is full: try again later")
        }
        EnterError::Room(_, Refusal::Full) => {
            Close::new(CloseCode::Overloaded, "the room is full: try again later")
        }
        EnterError::Room(_, Refusal::Locked) => {
            Close::new(CloseCode::Unavailable, "the room is locked: try again later")
        }
        EnterError::Room(_, Refusal::NamesDiffer) => Close::new(
            CloseCode::Incompatible,
            "your variables do not match those of the room: reload the game",
        ),
        EnterError::Room(_, Refusal::TooManyVariables) => {
            Close::protocol("the room has no place for your variables")
        }
        EnterError::Room(_, Refusal::NameInUse(_)) => name_in_use(),
        EnterError::Room(_, Refusal::NameInDoubt) => name_in_doubt(),
    }
}

fn name_in_use() -> Close {
    Close::new(CloseCode::Username, "that username is in use: choose another one")
}

fn name_in_doubt() -> Close {
    let reason = "your username's last connection may still be there: try again in a moment";
    Close::new(CloseCode::Unavailable, reason)
}

/// Ends with the first of these members that answers a ping, or when all have left.
async fn any_answers(links: &[Arc<Link>], now: std::time::Instant) -> bool {
    let answers: FuturesUnordered<_> = links.iter().map(|link| link.probe(now)).collect();
    pin!(answers.any(ready)).await
}

/// One newcomer at a time asks whether members still answer; it ends with this.
struct Probe {
    room: Arc<Shared>,
    holders: Vec<MemberId>,
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.holders.iter().for_each(|holder| self.room.unchallenge(*holder));
    }
}
