//! The checks of a handshake, in the order in which a client learns of them.

use std::{borrow::Cow, future::Future, pin::Pin, sync::Arc};

use axum::http::request::Parts;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{Span, debug};

use super::{
    Outbox,
    reader::End,
    takeover::{Probe, Probed},
};
use crate::{
    close::{Close, CloseCode},
    deflate::Deflate,
    identity::Identity,
    limits::Limits,
    metrics,
    names::NameKey,
    policy::{self, AnyPolicy},
    registry::{EnterError, Inner, Membership},
    room::{Mismatch, Newcomer, Outlet, Refusal, SessionHandle},
    wire::{self, Dialect, Handshake, Json, ScratchFraming},
};

/// Admits a client to the room that its handshake names, or returns the reason for the refusal. The
/// order of the checks is part of the public behaviour. `gone` completes when the client has left: this
/// then waits for nothing more.
pub(crate) async fn admit(
    registry: &Arc<Inner>,
    dialect: Dialect,
    handshake: Handshake<'_>,
    caller: Caller,
    line: Line,
    mut gone: Pin<&mut impl Future<Output = End>>,
) -> Result<(Membership, Outbox), End> {
    let limits = &registry.rules.limits;
    let framing = caller.scratch_framing;
    let named = room_id(&handshake.room, dialect, limits)?;
    let named = format!("{}{named}", caller.namespace);
    let room = caller.identity.assigned_room().unwrap_or(&named);
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
                room,
                username: &name,
                dialect,
                variables: variables.unwrap_or_default(),
                identity: &caller.identity,
                parts: request,
                exists: registry.has(room).await.map_err(refusal)?,
                data: registry.data_of(room),
            };
            unless(gone.as_mut(), ask(&**policy, &join, registry)).await??
        }
        _ => caller.identity.clone(),
    };
    let name = identity.name(&name)?;
    let room = match identity.assigned_room() {
        Some(room) if limits.allow_room_id(room) => room,
        Some(_) => return Err(Close::another_room().into()),
        None => {
            identity.check_room(room)?;
            room
        }
    };
    let brought = limits.check_variables(variables.unwrap_or_default());
    brought.map_err(|over| Close::protocol(over.to_string()))?;

    let mut newcomer = Newcomer {
        dialect,
        variables,
        name: &name,
        key: NameKey::new(&name),
        duplicates: registry.admission.duplicate_names(dialect),
        identity: identity.clone(),
        resume: handshake.resume.as_ref().map(|resume| resume.as_json().into()),
        session: None,
        handle: line.handle,
        outlet: line.outlet,
        outlived: None,
    };
    let mut queued = None;
    loop {
        match registry.enter(room, &newcomer).await {
            Ok((membership, joined)) => {
                metrics::joined(newcomer.handle.age(Instant::now().into_std()));
                let span = Span::current();
                span.record("username", &*name).record("dialect", tracing::field::debug(dialect));
                debug!("joined");
                let greeting = handshake.acknowledge.then(|| wire::joined(joined.created));
                let outbox =
                    Outbox::new(membership.room().clone(), dialect, joined).framed(framing);
                let outbox = match greeting {
                    Some(greeting) => outbox.greeting(greeting),
                    None => outbox,
                };
                return Ok((membership, outbox));
            }
            Err(EnterError::Refused(Refusal::NameInUse(holders))) if !holders.is_empty() => {
                let probe = Probe::new(holders);
                // On a second refusal, a holder must have come back to life meanwhile.
                if newcomer.outlived.is_some() {
                    return Err(Close::name_in_doubt().into());
                }
                match unless(gone.as_mut(), probe.ask(limits.takeover_probe)).await? {
                    Probed::Answered => return Err(Close::name_in_use().into()),
                    Probed::InDoubt => return Err(Close::name_in_doubt().into()),
                    Probed::Left => {}
                    Probed::Outlived(outlived) => newcomer.outlived = Some(outlived),
                }
            }
            // Another newcomer is already probing. It may be the same player, whose connection broke
            // twice, so this one waits for its turn.
            Err(EnterError::Refused(Refusal::NameInDoubt(holder))) => {
                let until = *queued
                    .get_or_insert_with(|| Instant::now() + Probe::longest(limits.takeover_probe));
                let turn = timeout_at(until, holder.unprobed());
                if unless(gone.as_mut(), turn).await?.is_err() {
                    return Err(Close::name_in_doubt().into());
                }
            }
            Err(error) => return Err(refusal(error).into()),
        }
    }
}

/// The client that opened a connection, and the settings of the mount that it came through.
#[derive(Debug)]
pub(crate) struct Caller {
    /// The identity of the request, or a guest's.
    pub(crate) identity: Identity,
    /// The request, if there is a policy that may look at it.
    pub(crate) request: Option<Box<Parts>>,
    /// The framing of the mount.
    pub(crate) scratch_framing: ScratchFraming,
    /// Whether the mount admits clients of each dialect.
    pub(crate) dialects: [bool; Dialect::COUNT],
    /// The prefix of the room id that the handshake names.
    pub(crate) namespace: Arc<str>,
    /// The compression that was agreed with the client.
    pub(crate) deflate: Option<Deflate>,
}

/// The handles by which a room and a session reach each other.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) handle: Arc<SessionHandle>,
    pub(crate) outlet: Arc<dyn Outlet>,
}

/// Waits for something, unless the client leaves first.
async fn unless<T>(
    gone: Pin<&mut impl Future<Output = End>>,
    wait: impl Future<Output = T>,
) -> Result<T, End> {
    tokio::select! {
        biased;
        done = wait => Ok(done),
        end = gone => Err(end),
    }
}

/// Asks the host's policy for the identity of the client that wants to join.
async fn ask(
    policy: &dyn AnyPolicy,
    join: &policy::Join<'_>,
    registry: &Inner,
) -> Result<Identity, Close> {
    tokio::select! {
        answer = timeout(registry.rules.limits.admit_timeout, policy.admit(join)) => match answer {
            Ok(answer) => answer.map_err(|rejection| rejection.0),
            Err(_) => Err(Close::undecided()),
        },
        () = registry.drain.begun() => Err(refusal(EnterError::Draining)),
    }
}

fn room_id<'a>(id: &'a Json<'_>, dialect: Dialect, limits: &Limits) -> Result<Cow<'a, str>, Close> {
    let (field, code) = match dialect {
        // Scratch clients come back with the same id after all close codes except a few.
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
        EnterError::Draining => Close::draining(),
        EnterError::NoSuchRoom => Close::no_such_room(),
        EnterError::Unreachable => Close::unreachable(),
        EnterError::Full => Close::server_full(),
        EnterError::Refused(refusal) => match refusal {
            Refusal::Full => Close::room_full(),
            Refusal::Banned => Close::banned(),
            Refusal::Locked => Close::room_locked(),
            Refusal::NamesDiffer(mismatch) => {
                let Mismatch { missing, unknown } = &mismatch;
                debug!(?missing, ?unknown, "the names of the variables differ");
                Close::names_differ(&mismatch)
            }
            Refusal::TooManyVariables => Close::too_many_variables(),
            Refusal::NameInUse(_) => Close::name_in_use(),
            Refusal::NameInDoubt(_) => Close::name_in_doubt(),
            Refusal::Overtaken => Close::another_tab(),
        },
    }
}
