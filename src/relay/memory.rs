use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum_cloud_variables::{
    Relay, RelayAnswer, RelayError, RelayMessage, RelayMessages, RelayNews, RelayRequest,
    RelayRevision, RelayWrite, RelayWrites, StoredRoom, StoredSchema,
};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream};
use tokio::sync::broadcast;

/// How long a node is in a room without renewing.
const LEASE: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
struct MemoryRelay(Mutex<HashMap<String, Kept>>);

#[derive(Debug)]
struct Kept {
    /// `None` until it is created.
    room: Option<Room>,
    /// The epoch of the one that was removed last.
    removed: Option<String>,
    messages: broadcast::Sender<RelayMessage>,
}

#[derive(Debug)]
struct Room {
    revision: RelayRevision,
    schema: StoredSchema,
    /// In the order in which they were created.
    variables: Vec<(String, String)>,
    /// When a node's lease ends, and its last write.
    nodes: HashMap<String, (Instant, u64)>,
    /// By node and number: the session's name.
    sessions: HashMap<(String, u64), String>,
    is_locked: bool,
    /// Until when.
    bans: HashMap<String, Instant>,
    /// Who leads it, under which number, and until when.
    leader: Option<(String, u64, Instant)>,
}

impl Room {
    fn read(&self, node: &str, is_new: bool) -> RelayAnswer {
        let variables = self.variables.clone();
        RelayAnswer::Room {
            revision: self.revision.clone(),
            room: StoredRoom { schema: self.schema, variables },
            is_new,
            written: self.nodes.get(node).map_or(0, |node| node.1),
        }
    }

    fn leave(&mut self, node: &str, sessions: &[u64]) {
        for session in sessions {
            self.sessions.remove(&(node.into(), *session));
        }
    }

    /// In order, but for those of variables that are not there.
    fn write(&mut self, writes: &[RelayWrite], most: u64) {
        for RelayWrite { name, value, creates } in writes {
            let has_place = *creates && (self.variables.len() as u64) < most;
            let at = self.variables.iter().position(|(known, _)| known == name);
            match (value, at) {
                (None, Some(at)) => _ = self.variables.remove(at),
                (Some(value), Some(at)) => self.variables[at].1 = value.clone(),
                (Some(value), None) if has_place => {
                    self.variables.push((name.clone(), value.clone()));
                }
                _ => {}
            }
        }
    }

    fn expire(&mut self) {
        let now = Instant::now();
        self.nodes.retain(|_, (lease, _)| *lease > now);
        self.sessions.retain(|(node, _), _| self.nodes.contains_key(node));
    }
}

impl Kept {
    fn step(&mut self, node: &str, request: &RelayRequest) -> RelayAnswer {
        let until = Instant::now() + LEASE;
        if let Some(room) = &mut self.room {
            room.expire();
        }
        let is_new = self.room.is_none();
        if let RelayRequest::Enter { create: Some(create), epoch, lost } = request
            && (lost.is_none() || *lost != self.removed)
        {
            self.room.get_or_insert_with(|| Room {
                revision: RelayRevision { epoch: epoch.clone(), number: 0 },
                schema: create.schema,
                variables: create.variables.clone(),
                nodes: HashMap::new(),
                sessions: HashMap::new(),
                is_locked: false,
                bans: HashMap::new(),
                leader: None,
            });
        }
        let Some(room) = &mut self.room else { return RelayAnswer::Nowhere };
        let is_in = room.nodes.contains_key(node);
        match request {
            RelayRequest::Read => return room.read(node, false),
            RelayRequest::Enter { .. } => {
                room.nodes.entry(node.into()).or_insert((until, 0)).0 = until;
                return room.read(node, is_new);
            }
            _ if !is_in => return RelayAnswer::Fenced,
            RelayRequest::Write { first, most, writes } => {
                let written = &mut room.nodes.entry(node.into()).or_insert((until, 0)).1;
                if *first > *written {
                    *written = first + writes.len() as u64 - 1;
                    room.write(writes, *most);
                    room.revision.number += 1;
                    let message = RelayWrites {
                        revision: room.revision.clone(),
                        node: node.into(),
                        first: *first,
                        most: *most,
                        writes: writes.clone(),
                    };
                    _ = self.messages.send(RelayMessage::Wrote(message));
                }
            }
            RelayRequest::Join { session, left } => {
                room.leave(node, left);
                let key = (node.to_owned(), session.number);
                if room.sessions.contains_key(&key) {
                    // The answer was lost.
                    return RelayAnswer::Done(room.revision.clone());
                }
                let name = &session.name;
                let has_name = |(_, other): &(_, &String)| !session.shares && *other == name;
                if room.is_locked {
                    return RelayAnswer::Locked;
                }
                let is_banned = |who| room.bans.get(who).is_some_and(|until| *until > Instant::now());
                if session.who.iter().any(is_banned) {
                    return RelayAnswer::Banned;
                }
                if let Some(((node, session), _)) = room.sessions.iter().find(has_name) {
                    return RelayAnswer::NameInUse { node: node.clone(), session: *session };
                }
                if room.sessions.len() as u64 >= session.most {
                    return RelayAnswer::Full;
                }
                room.sessions.insert(key, name.clone());
            }
            RelayRequest::Leave { sessions } => room.leave(node, sessions),
            RelayRequest::Lock { locked } => room.is_locked = *locked,
            RelayRequest::Ban { who, millis } => {
                let until = Instant::now() + Duration::from_millis(*millis);
                room.bans.insert(who.clone(), until);
            }
            RelayRequest::Tell(news) => _ = self.messages.send(RelayMessage::Told(news.clone())),
            RelayRequest::Remove => {
                let revision = room.revision.clone();
                self.room = None;
                self.removed = Some(revision.epoch.clone());
                let news = RelayNews::Removed { epoch: revision.epoch.clone() };
                _ = self.messages.send(RelayMessage::Told(news));
                return RelayAnswer::Done(revision);
            }
            RelayRequest::Schema(schema) => {
                room.schema = *schema;
                _ = self.messages.send(RelayMessage::Told(RelayNews::Schema(*schema)));
            }
            RelayRequest::Lead { number } => {
                let is_led = |(leader, other, until): &(String, u64, Instant)| {
                    (leader != node || other != number) && *until > Instant::now()
                };
                if room.leader.as_ref().is_some_and(is_led) {
                    return RelayAnswer::Led;
                }
                room.leader = Some((node.into(), *number, until));
            }
            RelayRequest::Resign { number } => {
                room.leader.take_if(|(leader, other, _)| leader == node && other == number);
            }
            RelayRequest::Renew => room.nodes.entry(node.into()).or_insert((until, 0)).0 = until,
        }
        RelayAnswer::Done(room.revision.clone())
    }
}

impl MemoryRelay {
    fn with<T>(&self, id: &str, work: impl FnOnce(&mut Kept) -> T) -> T {
        let mut rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Kept { room: None, removed: None, messages: broadcast::channel(64).0 };
        work(rooms.entry(id.into()).or_insert_with(new))
    }
}

impl Relay for MemoryRelay {
    fn request<'a>(
        &'a self,
        room: &'a str,
        node: &'a str,
        request: &'a RelayRequest,
    ) -> BoxFuture<'a, Result<RelayAnswer, RelayError>> {
        async move { Ok(self.with(room, |room| room.step(node, request))) }.boxed()
    }

    fn subscribe<'a>(
        &'a self,
        room: &'a str,
    ) -> BoxFuture<'a, Result<RelayMessages, RelayError>> {
        let receiver = self.with(room, |room| room.messages.subscribe());
        let messages = stream::unfold(receiver, |mut receiver| async {
            // Ends where some are missing.
            let message = receiver.recv().await.ok()?;
            Some((message, receiver))
        });
        async { Ok(messages.boxed()) }.boxed()
    }
}
