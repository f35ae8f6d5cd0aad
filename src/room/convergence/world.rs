//! Clients, links and misery, in simulated time.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use fastrand::Rng;
use futures_util::FutureExt;

use crate::{
    budget::Budget,
    identity::Identity,
    limits::Limits,
    outbox::{Item, Outbox},
    room::{Link, MemberId, Newcomer, Room, Rules, Schema, State, Write},
    session::Liveness,
    wire::{self, ClientMessage, Dialect, Json, Text},
};

/// A longer value is refused by the room (promise P5).
const VALUE_BYTES: usize = 12;

pub(super) type View = BTreeMap<String, String>;

/// The misery of one run.
#[derive(Debug)]
pub(super) struct Weather {
    pub(super) clients: usize,
    pub(super) variables: usize,
    pub(super) writes: usize,
    /// Milliseconds.
    pub(super) link: (u64, u64),
    /// Milliseconds that a client's application is behind its network side, and ahead of it.
    pub(super) queues: (u64, u64),
    pub(super) pause: u64,
    pub(super) stalls: bool,
    pub(super) leaves: bool,
    pub(super) refusals: bool,
    /// What a client sends may be held up for long, in its network or by the server's rate limit.
    pub(super) jams: bool,
    pub(super) window: usize,
    pub(super) rules: Rules,
}

impl Weather {
    pub(super) fn new(rng: &mut Rng, settle: Option<Duration>) -> Self {
        let slow = rng.u64(0..4) == 0;
        let queue = if slow { 4_000 } else { rng.u64(1..200) };
        let far = rng.u64(2..=600);
        Self {
            clients: rng.usize(2..=8),
            variables: rng.usize(1..=3),
            writes: rng.usize(2..60),
            link: (rng.u64(1..far), far),
            queues: (queue, queue),
            pause: *rng.choice(&[5, 20, 100, 600, 3_000]).unwrap(),
            stalls: rng.u64(0..4) == 0,
            leaves: rng.bool(),
            refusals: rng.u64(0..3) == 0,
            jams: rng.u64(0..4) == 0,
            window: rng.usize(1..4),
            rules: Rules {
                schema: Schema::Fixed,
                tick: Duration::from_millis(*rng.choice(&[0, 16, 16, 900]).unwrap()),
                coalesce: rng.u64(0..4) == 0,
                settle: settle.map(|settle| if rng.u64(0..4) == 0 { settle / 100 } else { settle }),
                limits: Limits::default()
                    .value_bytes(VALUE_BYTES)
                    .backlog_batches(*rng.choice(&[1, 4, 64]).unwrap()),
            },
        }
    }
}

#[derive(Debug, Clone)]
pub(super) enum Up {
    Join,
    Text(String),
    Pong([u8; 8]),
}

#[derive(Debug)]
pub(super) enum Event {
    /// A client writes a variable.
    Write(usize),
    /// A client reads a variable and adds one.
    Add(usize),
    Leave(usize),
    Come(usize),
    Stall(usize),
    /// A client's network side sends.
    Send(usize, u64, Up),
    /// What a client sent is at the server.
    Arrive(usize, u64, Up),
    /// The client's network side may read.
    Read(usize, u64),
    /// The client's application handles a frame.
    Handle(usize, u64, String),
    Advance,
    KeepAlive(usize, u64),
    /// The server learns that a connection is gone.
    Gone(MemberId),
}

#[derive(Debug, Default)]
struct Client {
    view: View,
    /// Which of its connections this is; what belongs to another is lost.
    connection: u64,
    connected: bool,
    stalled_until: u64,
    // Nothing overtakes anything on these.
    sent: u64,
    arrived: u64,
    delivered: u64,
    handled: u64,
    session: Option<Session>,
}

/// The server's side of a connection.
#[derive(Debug)]
struct Session {
    member: MemberId,
    outbox: Outbox,
    liveness: Liveness,
    /// In the socket, with the time from which the client can read it.
    socket: VecDeque<(u64, Item, Option<[u8; 8]>)>,
}

pub(super) struct World {
    rng: Rng,
    weather: Weather,
    start: Instant,
    now: u64,
    events: BinaryHeap<Reverse<(u64, u64)>>,
    payloads: BTreeMap<u64, Event>,
    scheduled: u64,
    room: Arc<Room>,
    clients: Vec<Client>,
    written: u64,
    /// When the server will be woken to advance the room.
    alarm: Option<u64>,
}

impl World {
    /// A world in which everything that can happen is planned by the seed.
    pub(super) fn of_seed(seed: u64, settle: Option<Duration>) -> Self {
        let mut rng = Rng::with_seed(seed);
        let weather = Weather::new(&mut rng, settle);
        let mut world = Self::new(rng, weather);
        world.plan();
        world
    }

    pub(super) fn new(rng: Rng, weather: Weather) -> Self {
        let start = Instant::now();
        let initial = variables(&weather, "init");
        let budget = Budget::new(usize::MAX);
        let rules = Arc::new(weather.rules.clone());
        let state = State::new(&rules, "room", &initial, &budget, start).unwrap();
        Self {
            clients: (0..weather.clients).map(|_| Client::default()).collect(),
            rng,
            weather,
            start,
            now: 0,
            events: BinaryHeap::new(),
            payloads: BTreeMap::new(),
            scheduled: 0,
            room: Arc::new(Room::new("room".into(), state)),
            written: 0,
            alarm: None,
        }
    }

    /// Who comes, writes, stalls and leaves when.
    fn plan(&mut self) {
        let span = self.weather.writes as u64 * self.weather.pause;
        for client in 0..self.weather.clients {
            let come = if self.rng.bool() { 0 } else { self.rng.u64(0..=span) };
            self.at(come, Event::Come(client));
            if self.weather.leaves && self.rng.bool() {
                let leave = self.rng.u64(0..=span);
                self.at(leave, Event::Leave(client));
                let back = leave + self.rng.u64(1..3_000);
                self.at(back, Event::Come(client));
            }
            if self.weather.stalls && self.rng.bool() {
                let stall = self.rng.u64(0..=span);
                self.at(stall, Event::Stall(client));
            }
        }
        for _ in 0..self.weather.writes {
            let writer = self.rng.usize(0..self.weather.clients);
            let when = self.rng.u64(0..=span);
            self.at(when, Event::Write(writer));
        }
    }

    pub(super) fn at(&mut self, time: u64, event: Event) {
        self.scheduled += 1;
        self.events.push(Reverse((time.max(self.now), self.scheduled)));
        self.payloads.insert(self.scheduled, event);
    }

    fn instant(&self) -> Instant {
        self.start + Duration::from_millis(self.now)
    }

    /// Runs until nothing can happen any more but keepalive.
    pub(super) fn run(&mut self) {
        while let Some(Reverse((time, id))) = self.events.pop() {
            self.now = time;
            let event = self.payloads.remove(&id).unwrap();
            self.happen(event);
            for client in 0..self.clients.len() {
                self.pump(client);
            }
            self.arm();
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Come(client) => self.come(client),
            Event::Leave(client) => self.leave(client),
            Event::Write(client) => self.write(client),
            Event::Add(client) => {
                let value = self.clients[client].view["v0"].parse().unwrap_or(0) + 1;
                self.set(client, "v0".into(), value.to_string());
            }
            Event::Stall(client) => {
                self.clients[client].stalled_until = self.now + self.rng.u64(1..60_000);
            }
            Event::Send(client, connection, up) => {
                let jam = if self.weather.jams && self.rng.u64(0..20) == 0 { 20_000 } else { 0 };
                let arrival = self.now + self.link() + self.rng.u64(0..=jam);
                let of = &mut self.clients[client];
                of.arrived = of.arrived.max(arrival);
                let arrival = of.arrived;
                self.at(arrival, Event::Arrive(client, connection, up));
            }
            Event::Arrive(client, connection, up) => self.arrive(client, connection, up),
            Event::Read(client, connection) => self.read(client, connection),
            Event::Handle(client, connection, frame) => {
                if self.clients[client].connection == connection {
                    self.handle(client, &frame);
                }
            }
            Event::Advance => {
                self.alarm = None;
                let now = self.instant();
                self.room.state.write().advance(now);
            }
            Event::KeepAlive(client, connection) => self.keep_alive(client, connection),
            Event::Gone(member) => {
                let now = self.instant();
                _ = self.room.state.write().leave(member, now);
            }
        }
    }

    fn link(&mut self) -> u64 {
        let (near, far) = self.weather.link;
        self.rng.u64(near..=far)
    }

    fn send(&mut self, client: usize, up: Up) {
        let leaves = self.now + self.rng.u64(0..=self.weather.queues.1);
        let of = &mut self.clients[client];
        of.sent = of.sent.max(leaves);
        let (leaves, connection) = (of.sent, of.connection);
        self.at(leaves, Event::Send(client, connection, up));
    }

    fn come(&mut self, client: usize) {
        if self.clients[client].connected {
            return;
        }
        let of = &mut self.clients[client];
        of.connected = true;
        of.connection += 1;
        (of.sent, of.arrived, of.delivered, of.handled) = (self.now, self.now, self.now, self.now);
        if of.view.is_empty() {
            of.view = view(&variables(&self.weather, &format!("mine{client}")));
        }
        self.send(client, Up::Join);
        // Some send what they have at once, behind the handshake.
        for _ in 0..self.rng.usize(0..3) {
            self.write(client);
        }
    }

    fn leave(&mut self, client: usize) {
        let clean = self.rng.bool();
        let later = self.now + if clean { self.link() } else { self.rng.u64(0..60_000) };
        let of = &mut self.clients[client];
        of.connected = false;
        of.connection += 1;
        if let Some(session) = of.session.take() {
            self.at(later, Event::Gone(session.member));
        }
    }

    fn write(&mut self, client: usize) {
        if !self.clients[client].connected {
            return;
        }
        self.written += 1;
        let refused = self.weather.refusals && self.rng.u64(0..4) == 0;
        let value = if refused {
            format!("{:0>1$}", self.written, VALUE_BYTES + 1)
        } else {
            self.written.to_string()
        };
        let name = format!("v{}", self.rng.usize(0..self.weather.variables));
        self.set(client, name, value);
    }

    fn set(&mut self, client: usize, name: String, value: String) {
        let text = serde_json::json!({ "kind": "set", "variable": name, "value": value });
        self.clients[client].view.insert(name, value);
        self.send(client, Up::Text(text.to_string()));
    }

    fn arrive(&mut self, client: usize, connection: u64, up: Up) {
        let now = self.instant();
        let of = &mut self.clients[client];
        if of.connection != connection {
            return;
        }
        match (up, &mut of.session) {
            (Up::Join, None) => {
                let brought = variables(&self.weather, "");
                let newcomer = Newcomer {
                    variables: &brought,
                    key: None,
                    identity: Identity::new(),
                    link: Arc::new(Link::new(now)),
                    replaces: false,
                    outlived: None,
                };
                let joined = self.room.state.write().join(newcomer, now).unwrap();
                let member = joined.id;
                let outbox = Outbox::new(self.room.clone(), Dialect::Spec, joined);
                let (liveness, socket) = (Liveness::default(), VecDeque::new());
                of.session = Some(Session { member, outbox, liveness, socket });
                self.at(self.now + 25_000, Event::KeepAlive(client, connection));
            }
            (Up::Text(text), Some(session)) => {
                let Ok(ClientMessage::Set { name, value }) = wire::decode(&text) else {
                    panic!("{text}");
                };
                let (member, base) = (session.member, session.liveness.base());
                let write = Write { member, base, name: &name, value: &value };
                self.room.state.write().submit(&write, now).unwrap();
            }
            (Up::Pong(payload), Some(session)) => session.liveness.pong(&payload, now),
            (up, session) => panic!("{up:?} {session:?}"),
        }
    }

    /// The writer of a session: sends while the socket takes it.
    fn pump(&mut self, client: usize) {
        loop {
            let (delay, now) = (self.link(), self.instant());
            let of = &mut self.clients[client];
            let Some(session) = &mut of.session else { return };
            if session.socket.len() >= self.weather.window {
                return;
            }
            let liveness = &session.liveness;
            let next = session.outbox.next(|| !liveness.is_outstanding()).now_or_never();
            let Some(item) = next else { return };
            let ping = match item {
                Item::Barrier(position) => session.liveness.ping(position, true, now),
                Item::Frame(_) => None,
                Item::NoBudget => unreachable!("the budget has no end"),
            };
            of.delivered = of.delivered.max(self.now + delay);
            session.socket.push_back((of.delivered, item, ping));
            let (time, connection) = (of.delivered, of.connection);
            self.at(time, Event::Read(client, connection));
        }
    }

    fn keep_alive(&mut self, client: usize, connection: u64) {
        let now = self.instant();
        let of = &mut self.clients[client];
        let Some(session) = of.session.as_mut().filter(|_| of.connection == connection) else {
            return;
        };
        let position = session.outbox.prove();
        if let Some(ping) = session.liveness.ping(position, false, now) {
            session.socket.push_back((self.now, Item::Barrier(position), Some(ping)));
            let time = self.now.max(of.delivered);
            self.at(time, Event::Read(client, connection));
        }
        // Only while the world has something else to do.
        if self.events.len() > self.clients.len() {
            self.at(self.now + 25_000, Event::KeepAlive(client, connection));
        }
    }

    fn read(&mut self, client: usize, connection: u64) {
        let now = self.now;
        let of = &mut self.clients[client];
        let Some(session) = of.session.as_mut().filter(|_| of.connection == connection) else {
            return;
        };
        if now < of.stalled_until {
            let time = of.stalled_until;
            self.at(time, Event::Read(client, connection));
            return;
        }
        while session.socket.front().is_some_and(|(time, ..)| *time <= now) {
            let (_, item, ping) = session.socket.pop_front().unwrap();
            match item {
                Item::Frame(frame) => {
                    let lag = self.rng.u64(0..=self.weather.queues.0);
                    of.handled = of.handled.max(now + lag);
                    let event = Event::Handle(client, connection, frame.to_string());
                    let time = of.handled;
                    self.scheduled += 1;
                    self.events.push(Reverse((time, self.scheduled)));
                    self.payloads.insert(self.scheduled, event);
                }
                // The network side answers by itself.
                Item::Barrier(_) | Item::NoBudget => {
                    let up = Up::Pong(ping.unwrap());
                    self.scheduled += 1;
                    self.events.push(Reverse((now, self.scheduled)));
                    self.payloads.insert(self.scheduled, Event::Send(client, connection, up));
                }
            }
        }
    }

    fn handle(&mut self, client: usize, frame: &str) {
        for line in frame.split('\n') {
            let Ok(ClientMessage::Set { name, value }) = wire::decode(line) else {
                panic!("{line}");
            };
            let (name, value) = (name.as_json().to_owned(), value.as_json().to_owned());
            self.clients[client].view.insert(name, value);
        }
    }

    /// Sees to it that the room is advanced when something is due.
    fn arm(&mut self) {
        let mut state = self.room.state.write();
        _ = state.alarm();
        let due = state.alarm.map(|due| (due - self.start).as_micros().div_ceil(1000) as u64);
        drop(state);
        if let Some(due) = due
            && self.alarm.is_none_or(|alarm| due < alarm)
        {
            self.alarm = Some(due);
            self.at(due, Event::Advance);
        }
    }

    /// The room's values.
    pub(super) fn truth(&self) -> View {
        let values = self.room.state.read().variables.values();
        let plain = |text: &Text| text.as_json().to_owned();
        values.iter().map(|(name, value)| (plain(name), plain(value))).collect()
    }

    /// Whether every client that is there sees the room's values.
    pub(super) fn agrees(&self) -> bool {
        let room = self.truth();
        self.clients.iter().filter(|client| client.connected).all(|client| client.view == room)
    }
}

fn variables(weather: &Weather, value: &str) -> Vec<(Json<'static>, Json<'static>)> {
    let json = Json::from_plain;
    (0..weather.variables).map(|i| (json(&format!("v{i}")), json(value))).collect()
}

fn view(variables: &[(Json<'_>, Json<'_>)]) -> View {
    let plain = |json: &Json<'_>| json.plain().unwrap().into_owned();
    variables.iter().map(|(name, value)| (plain(name), plain(value))).collect()
}
