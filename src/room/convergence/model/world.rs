//! Clients, links and faults, in simulated time.

#![allow(clippy::unwrap_used, reason = "a test")]

mod client;
mod server;
mod weather;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use fastrand::Rng;

use crate::{
    budget::Budget,
    close::LeaveCause,
    room::{Due, MemberId, Newcomer, Shared, State, Submitted, Write},
    session::{Conflation, Liveness, Submission},
    session::{Item, Outbox},
    wire::{self, ClientMessage, Dialect, Json, ScratchValues, Text},
};

pub(super) use weather::Weather;

/// The number of bytes above which the room refuses a value (promise P5).
const VALUE_BYTES: usize = 12;

/// The client that is the bot, if there is one.
pub(super) const BOT: usize = 0;

pub(super) type View = BTreeMap<String, String>;

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
    /// The host writes a variable.
    Host,
    /// A client reads a variable and adds one.
    Add(usize),
    /// A client adds one to a variable, this many times, by sets that count only if nobody else wrote
    /// before.
    Update(usize, u64),
    Leave(usize),
    Come(usize),
    Stall(usize),
    /// A client's network side sends.
    Send(usize, u64, Up),
    /// A message of a client is at the server.
    Arrive(usize, u64, Up),
    /// The client's network side may read.
    Read(usize, u64),
    /// The client's application handles a frame.
    Handle(usize, u64, String),
    Advance,
    KeepAlive(usize, u64),
    /// The position that a client has proven to have read may become its base.
    Mature(usize, u64),
    /// The writes that a session holds back may be due.
    Release(usize, u64),
    /// The server learns that a connection is gone.
    Gone(Box<Session>),
}

#[derive(Debug, Default)]
struct Client {
    dialect: Dialect,
    view: View,
    /// The number of its connection. An event of another connection is lost.
    connection: u64,
    connected: bool,
    stalled_until: u64,
    /// The last value that it wrote to each variable.
    own: View,
    /// How many sets with terms it has sent on this connection, and how many outcomes it has received.
    acks: u64,
    told: u64,
    /// How often it still has to add one, and the set that does so.
    pub(super) to_add: u64,
    asked: Option<u64>,
    /// How often it was sent a value that it already saw because it had written that itself.
    echoes: u64,
    // Nothing overtakes anything on these.
    sent: u64,
    arrived: u64,
    delivered: u64,
    handled: u64,
    session: Option<Session>,
}

/// The server's side of a connection.
#[derive(Debug)]
pub(super) struct Session {
    member: MemberId,
    outbox: Outbox,
    liveness: Liveness,
    conflation: Conflation,
    /// The items in the socket, with the time from which the client can read each of them.
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
    room: Arc<Shared>,
    clients: Vec<Client>,
    pub(super) written: u64,
    /// The number of sets that the bot has received.
    pub(super) heard: u64,
    /// When the server is next woken to advance the room.
    alarm: Option<u64>,
}

impl World {
    /// Creates a world in which the seed plans everything that can happen.
    pub(super) fn of_seed(seed: u64, settle: Option<Duration>) -> Self {
        let mut rng = Rng::with_seed(seed);
        let weather = Weather::new(&mut rng, settle);
        let mut world = Self::new(rng, weather);
        world.plan();
        world
    }

    pub(super) fn new(mut rng: Rng, weather: Weather) -> Self {
        let start = Instant::now();
        let initial = variables(&weather, "init");
        let budget = Budget::new(usize::MAX);
        let rules = Arc::new(weather.rules.clone());
        let initial = (!weather.grows).then_some(&initial[..]);
        let state =
            State::new(&rules, &"room".into(), initial, &budget, &Arc::default(), start).unwrap();
        let clients = (0..weather.clients).map(|_| Client {
            dialect: match weather.grows {
                true => Dialect::Scratch,
                false => *rng.choice(&weather.dialects).unwrap(),
            },
            ..Client::default()
        });
        Self {
            clients: clients.collect(),
            rng,
            weather,
            start,
            now: 0,
            events: BinaryHeap::new(),
            payloads: BTreeMap::new(),
            scheduled: 0,
            room: Arc::new(Shared::alone(state)),
            written: 0,
            heard: 0,
            alarm: None,
        }
    }

    /// Plans when each client comes, writes, stalls and leaves.
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
            let is_hosts = self.weather.host && self.rng.u64(0..4) == 0;
            self.at(when, if is_hosts { Event::Host } else { Event::Write(writer) });
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

    /// Runs until nothing but keepalive can happen any more.
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
            Event::Host => self.host_writes(),
            Event::Add(client) => {
                let value = self.clients[client].view["☁ 0"].parse().unwrap_or(0) + 1;
                self.set(client, "☁ 0".into(), value.to_string());
            }
            Event::Update(client, times) => {
                self.clients[client].to_add += times;
                self.add(client);
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
                while let Some(Due::Push) = self.room.state.write().advance(now) {}
            }
            Event::KeepAlive(client, connection) => self.keep_alive(client, connection),
            Event::Mature(client, connection) => self.mature(client, connection),
            Event::Release(client, connection) => self.release(client, connection),
            Event::Gone(session) => self.gone(*session),
        }
    }

    fn link(&mut self) -> u64 {
        let (near, far) = self.weather.link;
        self.rng.u64(near..=far)
    }

    /// Returns whether each connected client has received all the outcomes that it asked for.
    pub(super) fn has_told_all(&self) -> bool {
        let is_told = |client: &Client| client.told == client.acks && client.to_add == 0;
        self.clients.iter().filter(|client| client.connected).all(is_told)
    }

    /// Returns how often clients were sent their own values for nothing.
    pub(super) fn echoes(&self) -> u64 {
        self.clients.iter().map(|client| client.echoes).sum()
    }

    pub(super) fn count(&self) -> usize {
        self.clients.len()
    }

    /// Returns the room's values.
    pub(super) fn truth(&self) -> View {
        let values = self.room.state.read().variables.values();
        let plain = |text: &Text| text.as_json().to_owned();
        values.iter().map(|(name, value)| (plain(name), plain(value))).collect()
    }

    /// Returns whether every connected client sees the room's values.
    pub(super) fn agrees(&self) -> bool {
        let room = self.truth();
        let agrees =
            |client: &Client| room.iter().all(|(name, value)| client.view.get(name) == Some(value));
        self.clients.iter().filter(|client| client.connected).all(agrees)
    }
}

fn variables(weather: &Weather, value: &str) -> Vec<(Json<'static>, Json<'static>)> {
    let json = Json::from_plain;
    (0..weather.variables).map(|i| (json(&format!("☁ {i}")), json(value))).collect()
}

fn view(variables: &[(Json<'_>, Json<'_>)]) -> View {
    let plain = |json: &Json<'_>| json.plain().unwrap().into_owned();
    variables.iter().map(|(name, value)| (plain(name), plain(value))).collect()
}
