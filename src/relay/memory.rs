use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum_cloud_variables::{
    relay::{
        Relay, RelayAnswer, RelayBan, RelayChange, RelayError, RelayMessage, RelayMessages,
        RelayNews, RelayNode, RelayRequest, RelayRevision, RelayRoom, RelayWrite, RelayWrites,
    },
    store::{StoredRoom, StoredSchema},
};
use futures_util::{StreamExt, stream};
use tokio::sync::broadcast;

/// How long a node stays in a room without renewing.
const LEASE: Duration = Duration::from_secs(10);

/// A broker in memory, for registries of one process, such as those of a test. It is shared through an `Arc`,
/// and is gone with the process.
#[derive(Default)]
pub struct MemoryRelay(Mutex<HashMap<String, Kept>>);

impl fmt::Debug for MemoryRelay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryRelay").finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Kept {
    /// `None` until it is created.
    room: Option<Room>,
    /// The identities of the rooms that were removed last, the newest first.
    removed: Vec<String>,
    /// The name and the end of each ban, by key. Bans outlive the room.
    bans: BTreeMap<String, (String, Instant)>,
    messages: broadcast::Sender<RelayMessage>,
}

#[derive(Debug, Clone)]
struct Room {
    revision: RelayRevision,
    schema: StoredSchema,
    max_members: u64,
    max_variables: u64,
    max_bytes: u64,
    is_locked: bool,
    closed: u64,
    /// In the order of their creation.
    variables: Vec<(String, String)>,
    /// The end of each node's lease, and the last number of the node that was taken.
    nodes: HashMap<String, (Instant, u64)>,
    /// The name of each session, and whether it may be shared, by node and number.
    sessions: BTreeMap<(String, u64), (String, bool)>,
    /// The node that leads it, its lead, and when that ends.
    leader: Option<(String, u64, Instant)>,
}

impl Room {
    fn leave(&mut self, node: &str, sessions: &[u64]) {
        for session in sessions {
            self.sessions.remove(&(node.into(), *session));
        }
    }

    /// Applies the writes in order, except those to variables that do not exist. Returns the numbers of those
    /// that are left out because a session has a name.
    fn write(&mut self, first: u64, writes: &[RelayWrite], most: u64) -> Vec<u64> {
        let mut left_out = Vec::new();
        for (number, write) in (first..).zip(writes) {
            let RelayWrite { name, value, creates, was, unless, .. } = write;
            if self.sessions.values().any(|(name, _)| Some(name) == unless.as_ref()) {
                left_out.push(number);
                continue;
            }
            let has_place = *creates && (self.variables.len() as u64) < most;
            let at = self.variables.iter().position(|(known, _)| known == name);
            // A number has a quotation mark before it.
            let has = at.map_or("", |at| self.variables[at].1.as_str());
            let text = has.strip_prefix('"').unwrap_or(has);
            if was.as_ref().is_some_and(|was| was != text) {
                continue;
            }
            match (value, at) {
                (None, Some(at)) => _ = self.variables.remove(at),
                (Some(value), Some(at)) => self.variables[at].1 = value.clone(),
                (Some(value), None) if has_place => {
                    self.variables.push((name.clone(), value.clone()));
                }
                _ => {}
            }
        }
        left_out
    }

    fn expire(&mut self, now: Instant) {
        self.nodes.retain(|_, (lease, _)| *lease > now);
        self.sessions.retain(|(node, _), _| self.nodes.contains_key(node));
    }
}

impl Kept {
    fn new() -> Self {
        let messages = broadcast::channel(64).0;
        Self { room: None, removed: Vec::new(), bans: BTreeMap::new(), messages }
    }

    fn step(&mut self, node: RelayNode<'_>, request: &RelayRequest, now: Instant) -> RelayAnswer {
        let RelayNode { name: node, acknowledged } = node;
        if let Some(room) = &mut self.room {
            room.expire(now);
            if room.nodes.get(node).is_some_and(|(_, taken)| *taken < acknowledged) {
                return RelayAnswer::Lost;
            }
        }
        match request {
            RelayRequest::Enter { .. } => self.enter(node, request, now),
            RelayRequest::Read => self.read(node, false, now),
            RelayRequest::Forget { room } => self.forget(node, room),
            _ => self.change(node, request, now),
        }
    }

    fn enter(&mut self, node: &str, request: &RelayRequest, now: Instant) -> RelayAnswer {
        let RelayRequest::Enter { create, epoch, known, was } = request else {
            return RelayAnswer::Nowhere;
        };
        if let Some((room, known)) = self.room.as_mut().zip(known.as_ref()) {
            if room.revision.room != known.room {
                return RelayAnswer::Nowhere;
            }
            if let Some(was) = was {
                room.nodes.remove(was);
                room.expire(now);
            }
            let there = &room.revision;
            if there.epoch == known.epoch && there.number < known.number {
                // The broker has lost the room's latest changes, but the node has them.
                self.room = None;
                self.bans.clear();
            }
        }
        let is_new = self.room.is_none();
        if is_new {
            let is_removed = known.as_ref().is_some_and(|known| self.removed.contains(&known.room));
            let create = create.as_ref().filter(|_| !is_removed);
            let Some(create) = create else { return RelayAnswer::Nowhere };
            let (room, number) = match known {
                Some(known) => (known.room.clone(), known.number + 1),
                None => (epoch.clone(), 0),
            };
            for RelayBan { who, name, millis } in &create.bans {
                let until = now + Duration::from_millis(*millis);
                self.bans.insert(who.clone(), (name.clone(), until));
            }
            self.room = Some(Room {
                revision: RelayRevision { room, epoch: epoch.clone(), number },
                schema: create.stored.schema,
                max_members: create.max_members,
                max_variables: create.max_variables,
                max_bytes: create.max_bytes,
                is_locked: create.is_locked,
                closed: create.closed,
                variables: create.stored.variables.clone(),
                nodes: HashMap::new(),
                sessions: BTreeMap::new(),
                leader: None,
            });
        }
        if let Some(room) = &mut self.room {
            room.nodes.entry(node.into()).or_insert((now, 0)).0 = now + LEASE;
        }
        self.read(node, is_new, now)
    }

    fn read(&mut self, node: &str, is_new: bool, now: Instant) -> RelayAnswer {
        let Some(room) = &self.room else { return RelayAnswer::Nowhere };
        self.bans.retain(|_, (_, until)| *until > now);
        let ban = |(who, (name, until)): (&String, &(String, Instant))| {
            let millis = (*until - now).as_millis() as u64;
            RelayBan { who: who.clone(), name: name.clone(), millis }
        };
        RelayAnswer::Room {
            revision: room.revision.clone(),
            room: RelayRoom {
                stored: StoredRoom { schema: room.schema, variables: room.variables.clone() },
                max_members: room.max_members,
                max_variables: room.max_variables,
                max_bytes: room.max_bytes,
                is_locked: room.is_locked,
                closed: room.closed,
                bans: self.bans.iter().map(ban).collect(),
            },
            is_new,
            taken: room.nodes.get(node).map_or(0, |node| node.1),
        }
    }

    fn forget(&mut self, node: &str, identity: &str) -> RelayAnswer {
        let room = self.room.as_mut().filter(|room| room.revision.room == identity);
        let Some(room) = room else { return RelayAnswer::Nowhere };
        let (revision, taken) = (room.revision.clone(), room.nodes.remove(node));
        room.sessions.retain(|(there, _), _| there != node);
        if room.nodes.is_empty() {
            self.room = None;
        }
        RelayAnswer::Done { revision, before: taken.map_or(0, |(_, taken)| taken) }
    }

    /// Handles a request that only a node in the room may make.
    fn change(&mut self, node: &str, request: &RelayRequest, now: Instant) -> RelayAnswer {
        let Some(room) = &mut self.room else { return RelayAnswer::Nowhere };
        let Some((lease, taken)) = room.nodes.get_mut(node) else { return RelayAnswer::Fenced };
        let before = *taken;
        let done = |room: &Room| RelayAnswer::Done { revision: room.revision.clone(), before };
        if let Some((first, last)) = request.numbers() {
            if first <= before {
                return done(room);
            }
            // Taken even if it is refused below, so that a late attempt has no effect.
            *taken = last;
        }
        match request {
            RelayRequest::Join { session, replaces, .. } => {
                let key = (node.to_owned(), session.number);
                if room.sessions.contains_key(&key) {
                    // The session has begun already: the answer was lost.
                    return done(room);
                }
                if room.is_locked {
                    return RelayAnswer::Locked;
                }
                let is_banned = |who| self.bans.get(who).is_some_and(|(_, until)| *until > now);
                if session.who.iter().any(is_banned) {
                    return RelayAnswer::Banned;
                }
                let is_other =
                    |(there, number): &(String, u64)| there != node || !replaces.contains(number);
                let others = || room.sessions.iter().filter(|(key, _)| is_other(key));
                let has_name = |(_, (name, shares)): &(_, &(String, bool))| {
                    *name == session.name && !(*shares && session.shares)
                };
                if let Some(((node, session), _)) = others().find(has_name) {
                    return RelayAnswer::NameInUse { node: node.clone(), session: *session };
                }
                if others().count() as u64 >= room.max_members {
                    return RelayAnswer::Full;
                }
                room.leave(node, replaces);
                room.sessions.insert(key, (session.name.clone(), session.shares));
            }
            RelayRequest::Leave { sessions, .. } => room.leave(node, sessions),
            RelayRequest::Write { first, most, writes } => {
                let left_out = room.write(*first, writes, *most);
                room.revision.number += 1;
                let (revision, node) = (room.revision.clone(), node.into());
                let (first, most, writes) = (*first, *most, writes.clone());
                let writes = RelayWrites { revision, node, first, most, writes, left_out };
                _ = self.messages.send(RelayMessage::Wrote(writes));
            }
            RelayRequest::Change { number, change } => {
                room.revision.number += 1;
                match change {
                    RelayChange::Locked(is_locked) => room.is_locked = *is_locked,
                    RelayChange::MaxMembers(count) => room.max_members = *count,
                    RelayChange::MaxVariables(count) => room.max_variables = *count,
                    RelayChange::MaxBytes(bytes) => room.max_bytes = *bytes,
                    RelayChange::Schema(schema) => room.schema = *schema,
                    RelayChange::Ban { who, name, millis } => {
                        let until = now + Duration::from_millis(*millis);
                        self.bans.insert(who.clone(), (name.clone(), until));
                    }
                    RelayChange::Closed => {
                        room.closed = room.revision.number;
                        room.sessions.clear();
                    }
                }
                let (revision, node) = (room.revision.clone(), node.into());
                let (number, change) = (*number, change.clone());
                _ = self.messages.send(RelayMessage::Changed { revision, node, number, change });
            }
            RelayRequest::Remove { .. } => {
                let (answer, removed) = (done(room), room.revision.room.clone());
                self.room = None;
                self.removed.insert(0, removed.clone());
                self.removed.truncate(8);
                let news = RelayNews::Removed { room: removed };
                _ = self.messages.send(RelayMessage::Told(news));
                return answer;
            }
            RelayRequest::Lead { lead, .. } => {
                let is_led = |(leader, other, until): &(String, u64, Instant)| {
                    (leader != node || other != lead) && *until > now
                };
                if room.leader.as_ref().is_some_and(is_led) {
                    return RelayAnswer::Led;
                }
                room.leader = Some((node.into(), *lead, now + LEASE));
            }
            RelayRequest::Resign { lead, .. } => {
                room.leader.take_if(|(leader, other, _)| leader == node && other == lead);
            }
            RelayRequest::Tell(news) => {
                if let RelayNews::Wanted { node, .. } = news
                    && let Some((lease, _)) = room.nodes.get_mut(node)
                {
                    *lease = (*lease).min(now + RelayNews::TIME_TO_RENEW);
                }
                _ = self.messages.send(RelayMessage::Told(news.clone()));
            }
            RelayRequest::Renew => *lease = now + LEASE,
            RelayRequest::Enter { .. } | RelayRequest::Read | RelayRequest::Forget { .. } => {}
        }
        done(room)
    }
}

impl MemoryRelay {
    fn with<T>(&self, id: &str, work: impl FnOnce(&mut Kept) -> T) -> T {
        let mut rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        work(rooms.entry(id.into()).or_insert_with(Kept::new))
    }
}

impl Relay for MemoryRelay {
    async fn request(
        &self,
        room: &str,
        node: RelayNode<'_>,
        request: &RelayRequest,
    ) -> Result<RelayAnswer, RelayError> {
        Ok(self.with(room, |room| room.step(node, request, Instant::now())))
    }

    async fn announce(&self, news: &RelayNews) -> Result<(), RelayError> {
        // Fails if there are no subscribers.
        self.with("", |none| _ = none.messages.send(RelayMessage::Told(news.clone())));
        // Lets the subscribers on this thread run, because a subscriber that is far behind misses messages.
        tokio::task::yield_now().await;
        Ok(())
    }

    async fn subscribe(&self, room: &str) -> Result<RelayMessages, RelayError> {
        let receiver = self.with(room, |room| room.messages.subscribe());
        let messages = stream::unfold(receiver, |mut receiver| async {
            // Ends when messages are missing.
            let message = receiver.recv().await.ok()?;
            Some((message, receiver))
        });
        Ok(messages.boxed())
    }
}
