//! Internals that benchmarks, fuzzers and tests use, and hosts do not: the decoder, a room without sockets,
//! and a socket without a room. Not part of the public API.

#![allow(missing_docs, reason = "not public")]

mod play;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Router, extract::Request, response::Response};
use futures_util::FutureExt;

pub use play::Play;

use crate::{
    Dialect, Limits, RoomRegistry, ScratchValues, UsernameRules,
    budget::Budget,
    deflate::Compression,
    identity::Identity,
    mount::{extension, upgrade},
    names::{DuplicateNames, NameKey},
    room::{Due, MemberId, Newcomer, Outlet, Rules, SessionHandle, Shared, State, Write},
    session::{self, Item, Outbox, Submission},
    wire::{self, ClientMessage, Handshake, Json, Terms},
};

/// Decodes one message, and returns whether it is valid.
#[must_use]
pub fn decode(dialect: Dialect, message: &str) -> bool {
    wire::decode(dialect, ScratchValues::default(), message).is_ok()
}

/// The contents of a message, in JSON texts without their quotes.
#[derive(Debug, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "not public")]
pub enum Decoded {
    Handshake { room: String, username: String, variables: Option<Vec<(String, String)>> },
    Set { name: String, value: Option<String> },
    Ignored,
}

/// Decodes one message like [`decode`], and returns its contents.
#[must_use]
pub fn decoded(dialect: Dialect, values: ScratchValues, message: &str) -> Option<Decoded> {
    let owned = |json: &Json<'_>| json.as_json().to_owned();
    Some(match wire::decode(dialect, values, message).ok()? {
        ClientMessage::Handshake(Handshake { room, username, variables, .. }) => {
            Decoded::Handshake {
                room: owned(&room),
                username: owned(&username),
                variables: variables
                    .map(|all| all.iter().map(|(n, v)| (owned(n), owned(v))).collect()),
            }
        }
        ClientMessage::Set { name, value, .. } => {
            Decoded::Set { name: owned(&name), value: value.as_ref().map(owned) }
        }
        ClientMessage::Ignored => Decoded::Ignored,
    })
}

/// Returns the line that notifies a client of a set that was [`decoded`].
///
/// # Panics
///
/// Panics if it was not decoded.
#[must_use]
pub fn encoded(dialect: Dialect, name: &str, value: &str) -> String {
    let text = |json: &str| Json::stored(json).expect("JSON").to_text();
    let mut line = String::new();
    dialect.push_set(&text(name), &text(value), &mut line);
    line
}

/// Applies the rules to a username. `Err` is a sentence for the player.
///
/// # Errors
///
/// Returns an error if the name is refused.
pub fn judge(rules: &UsernameRules, name: &str) -> Result<(), String> {
    rules.judge(name)
}

/// Joins a room of one variable, which is created if necessary, writes `sets` times, and leaves.
///
/// # Panics
///
/// Panics if there is no place.
pub fn visit(rooms: &RoomRegistry, room: &str, name: &str, sets: usize) {
    let variables = [(Json::from_plain("v"), Json::from_plain("0"))];
    let newcomer = newcomer(name, &variables);
    let entered = rooms.inner().enter(room, &newcomer).now_or_never().expect("without a store");
    let (membership, _) = entered.expect("a place");
    for n in 0..sets {
        let value = Some(Json::from_plain(&n.to_string()));
        let name = variables[0].0.clone();
        membership
            .write(&Submission { base: u64::MAX, name, value, terms: Terms::default() })
            .expect("a member");
    }
}

fn newcomer<'a>(name: &'a str, variables: &'a [(Json<'a>, Json<'a>)]) -> Newcomer<'a> {
    Newcomer {
        dialect: Dialect::Spec,
        variables: Some(variables),
        name,
        key: NameKey::new(name),
        duplicates: DuplicateNames::Reject,
        identity: Identity::new(),
        resume: None,
        session: None,
        handle: Arc::new(SessionHandle::new(Instant::now())),
        outlet: Arc::new(Silent),
        outlived: None,
    }
}

/// Returns the rules of a registry, except for its limits.
fn rules(epoch: Instant, limits: Limits) -> Rules {
    Rules { tick: Duration::from_millis(16), limits, ..Rules::new(epoch) }
}

/// Inflates the compressed messages in a stream of frames, which comes in pieces of this size. Returns the stream
/// as the WebSocket layer reads it, and the error that ends it.
#[cfg(feature = "deflate")]
#[must_use]
pub fn inflated(stream: &[u8], piece: usize, limit: usize) -> (Vec<u8>, Option<String>) {
    let deflate = Compression::ALL.agree(15, true).expect("it is on");
    let (read, error) = session::inflated(deflate, stream, piece, limit);
    (read, error.map(|error| error.to_string()))
}

/// Returns a server that echoes every text and binary message. Its WebSockets are upgraded, read, written and
/// closed like those of sessions.
pub fn echo(message_bytes: usize) -> Router {
    Router::new().fallback(async move |request: Request| {
        let mut parts = request.into_parts().0;
        let (deflate, extension) = extension::negotiate(&parts.headers, Compression::ALL).unzip();
        let (response, upgrade) = upgrade::accept(&mut parts, extension).await?;
        tokio::spawn(async move {
            if let Ok(upgraded) = upgrade.await {
                session::echo(upgraded, deflate, message_bytes).await;
            }
        });
        Ok::<Response, Response>(response)
    })
}

/// A room whose members read their outboxes on demand.
#[derive(Debug)]
pub struct Bench {
    room: Arc<Shared>,
    now: Instant,
    members: Vec<(MemberId, Outbox)>,
    names: Vec<Json<'static>>,
}

#[derive(Debug)]
struct Silent;

impl Outlet for Silent {
    fn push(&self) {}
}

impl Bench {
    /// Creates a room of members that all speak this dialect, with this many bytes in each variable.
    ///
    /// # Panics
    ///
    /// Panics if there is no place or memory for them.
    #[must_use]
    pub fn new(dialect: Dialect, members: usize, variables: usize, bytes: usize) -> Self {
        let now = Instant::now();
        let rules = rules(now, Limits::default().members_per_room(members));
        let names: Vec<_> = (0..variables).map(|i| Json::from_plain(&format!("☁ {i}"))).collect();
        let value = Json::from_plain(&"v".repeat(bytes));
        let initial: Vec<_> = names.iter().map(|name| (name.clone(), value.clone())).collect();
        let state = State::new(
            &Arc::new(rules),
            &"room".into(),
            Some(&initial),
            &Budget::new(usize::MAX),
            &Arc::default(),
            now,
        );
        let room = Arc::new(Shared::alone(state.expect("there is memory")));
        let members = (0..members).map(|i| {
            let name = format!("player{i}");
            let newcomer = Newcomer { dialect, ..newcomer(&name, &initial) };
            let joined =
                room.change(|state, now| state.join(newcomer, now)).expect("there is a place");
            (joined.id, Outbox::new(room.clone(), dialect, joined))
        });
        let members = members.collect();
        let mut bench = Self { room, now, members, names };
        bench.deliver();
        bench
    }

    /// Sets a variable for a member.
    ///
    /// # Panics
    ///
    /// Panics if there is no such member or variable.
    pub fn set(&self, member: usize, variable: usize, value: &str) {
        let write = Write {
            member: self.members[member].0,
            base: u64::MAX,
            name: &self.names[variable],
            value: Some(&Json::from_plain(value)),
            was: None,
            ack: None,
        };
        let submitted = self.room.submit(&write);
        assert!(submitted.is_ok(), "{submitted:?}");
    }

    /// Advances by a tick and sends every member its frames. Returns how many bytes were sent.
    pub fn deliver(&mut self) -> usize {
        self.now += Duration::from_secs(1);
        let now = self.now;
        self.room.change(|state, _| while let Some(Due::Push) = state.advance(now) {});
        let mut bytes = 0;
        for (_, outbox) in &mut self.members {
            while let Some(Item::Frame(frame)) = outbox.next(false) {
                bytes += frame.bytes().len();
            }
        }
        bytes
    }
}
