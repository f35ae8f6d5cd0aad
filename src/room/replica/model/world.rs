//! Nodes, their broker and the links between them, in simulated time.

mod host;
mod rest;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    sync::Arc,
    time::{Duration, Instant},
};

use fastrand::Rng;

use super::{
    broker::Broker,
    node::{Node, Player, Waiting},
};
use crate::{
    close::{Close, CloseCode, LeaveCause},
    limits::Limits,
    names::DuplicateNames,
    relay::{RelayAnswer, RelayChange, RelayMessage, RelayNews, RelayRequest, RelayRoom},
    room::{
        AtBroker, Caller, Eviction, Heard, MemberId, Opening, Outcome, Pace, Reply, Rules, Schema,
        State, Step, Wish, Write,
    },
    store::{StoredRoom, StoredSchema},
    wire::{Json, entries},
};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(1);
/// How long everything goes wrong, and how long everything then has to come to rest.
const TROUBLE: Duration = Duration::from_secs(20);
const CALM: Duration = Duration::from_secs(45);
const LEASE: Duration = Duration::from_secs(10);
/// The number of writes and joins that a node may have on their way: more is a leak.
const MOST_PENDING: usize = 400;

#[derive(Debug)]
enum Event {
    Player(usize, usize),
    Host(usize),
    Trouble,
    /// A request is at the broker; the flag is whether its answer is awaited.
    Request(usize, u64, Caller, Box<RelayRequest>, bool),
    Answer(usize, u64, Arc<str>, Option<Box<RelayAnswer>>),
    Subscribed(usize, bool),
    Message(usize, u64, Box<RelayMessage>),
    /// A node's stream of messages ends.
    Ended(usize, u64),
    Alarm(usize, u64),
    GiveUp(usize, u64),
    /// A caller takes the outcome of its wish.
    Outcome(usize, u64, RelayAnswer),
}

/// The faults that may occur in a run.
#[derive(Debug)]
pub(super) struct Weather {
    pub(super) grows: bool,
    pub(super) loses_messages: bool,
    pub(super) loses_requests: bool,
    pub(super) loses_memory: bool,
    pub(super) freezes: bool,
    pub(super) clock_jumps: bool,
    pub(super) hosts: bool,
}

#[derive(Debug)]
pub(super) struct World {
    rng: Rng,
    pub(super) weather: Weather,
    start: Instant,
    now: Instant,
    queue: BinaryHeap<Reverse<(Instant, u64)>>,
    events: BTreeMap<u64, Event>,
    last: u64,
    pub(super) broker: Broker,
    pub(super) nodes: Vec<Node>,
    /// When the next message of each stream may come, because messages come in order.
    streams: BTreeMap<(usize, u64), Instant>,
    /// The version of a fixed room, which decides its variables.
    version: usize,
    written: u64,
    /// The room and the outcome of each write that adds one, by the number of the write.
    updates: BTreeMap<u64, (String, Option<Outcome>)>,
    pub(super) faults: Vec<String>,
}

const VERSIONS: [[&str; 2]; 2] = [["x", "y"], ["x", "z"]];
/// A variable that both versions have as well. Players add one to it by writes that count only if nobody
/// else wrote before.
const COUNTER: &str = "count";

impl World {
    pub(super) fn of_seed(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let weather = Weather {
            grows: rng.bool(),
            loses_messages: rng.bool(),
            loses_requests: rng.bool(),
            loses_memory: rng.u8(0..3) == 0,
            freezes: rng.u8(0..3) == 0,
            clock_jumps: rng.u8(0..6) == 0,
            hosts: rng.u8(0..3) > 0,
        };
        let start = Instant::now();
        let rules = Arc::new(Rules {
            schema: if weather.grows { Schema::Growing } else { Schema::Fixed },
            tick: Duration::from_millis(16),
            settle: None,
            limits: Limits::default().members_per_room(rng.usize(3..12)),
            ..Rules::new(start)
        });
        let nodes = (0..rng.usize(1..4)).map(|_| Node::new(rules.clone(), rng.usize(1..5), start));
        let nodes: Vec<_> = nodes.collect();
        let mut world = Self {
            rng: rng.fork(),
            start,
            now: start,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            last: 0,
            broker: Broker::new(weather.loses_memory),
            nodes,
            streams: BTreeMap::new(),
            version: 0,
            written: 0,
            updates: BTreeMap::new(),
            faults: Vec::new(),
            weather,
        };
        for node in 0..world.nodes.len() {
            for player in 0..world.nodes[node].players.len() {
                let pause = world.rng.u64(0..2_000);
                world.at(pause, Event::Player(node, player));
            }
            if world.weather.hosts {
                world.at(3_000, Event::Host(node));
            }
        }
        world.at(2_000, Event::Trouble);
        world
    }

    fn at(&mut self, millis: u64, event: Event) {
        self.at_time(self.now + Duration::from_millis(millis), event);
    }

    fn at_time(&mut self, time: Instant, event: Event) {
        self.last += 1;
        self.queue.push(Reverse((time, self.last)));
        self.events.insert(self.last, event);
    }

    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn is_troubled(&self) -> bool {
        self.now < self.start + TROUBLE
    }

    pub(super) fn run(&mut self) {
        while let Some(Reverse((time, number))) = self.queue.pop()
            && time < self.start + TROUBLE + CALM
        {
            self.now = time;
            if let Some(event) = self.events.remove(&number) {
                self.happen(event);
            }
        }
        self.now = self.start + TROUBLE + CALM;
    }

    /// Makes everyone leave, and each node forget its room.
    pub(super) fn end(&mut self) {
        for node in &mut self.nodes {
            node.forget(Close::new(CloseCode::GoingAway, "the end"), self.now);
        }
    }

    fn happen(&mut self, event: Event) {
        // An event for a node that stands still waits.
        if let Event::Player(node, _)
        | Event::Host(node)
        | Event::Answer(node, ..)
        | Event::Subscribed(node, _)
        | Event::Message(node, ..)
        | Event::Ended(node, _)
        | Event::Alarm(node, _)
        | Event::GiveUp(node, _)
        | Event::Outcome(node, ..) = &event
            && self.nodes[*node].frozen > self.now
        {
            let until = self.nodes[*node].frozen;
            return self.at_time(until, event);
        }
        match event {
            Event::Player(node, player) => self.play(node, player),
            Event::Host(node) => self.host(node),
            Event::Trouble => self.trouble(),
            Event::Request(node, asked, caller, request, is_awaited) => {
                self.arrive(node, asked, caller, &request, is_awaited);
            }
            Event::Answer(node, asked, name, answer) => self.answer(node, asked, &name, answer),
            Event::Subscribed(node, is_done) => {
                let now = self.now;
                if is_done {
                    self.nodes[node].stream = self.next();
                }
                if let Some(state) = &mut self.nodes[node].state {
                    state.subscribed(is_done, now);
                }
                self.drive(node);
            }
            Event::Message(node, stream, message) => self.hear(node, stream, *message),
            Event::Ended(node, stream) => {
                let now = self.now;
                if self.nodes[node].stream == stream {
                    self.nodes[node].stream = 0;
                    if let Some(state) = &mut self.nodes[node].state {
                        state.unsubscribed(now);
                    }
                    self.drive(node);
                }
            }
            Event::Alarm(node, alarm) if self.nodes[node].alarm == alarm => self.drive(node),
            Event::Alarm(..) => {}
            Event::GiveUp(node, ticket) => {
                let now = self.now;
                self.nodes[node].give_up(ticket, now);
                self.drive(node);
            }
            Event::Outcome(node, ticket, outcome) => {
                let now = self.now;
                if let Some((holder, session)) = self.nodes[node].outcome(ticket, &outcome, now) {
                    self.want(node, holder, session);
                }
                self.drive(node);
            }
        }
    }

    /// Sends a request, which may get lost, come late, or be answered in vain.
    fn ask(&mut self, node: usize, caller: Caller, request: RelayRequest) {
        let name = caller.name.clone();
        let asked = self.next();
        self.nodes[node].asked = asked;
        let is_lossy = self.is_troubled() && self.weather.loses_requests;
        let way = if self.rng.u8(0..20) == 0 { 1..400 } else { 1..20 };
        let mut delay = self.rng.u64(way);
        let mut is_awaited = true;
        if is_lossy {
            match self.rng.u8(0..24) {
                0 => {
                    let answer = Event::Answer(node, asked, name, None);
                    return self.at_time(self.now + TIMEOUT, answer);
                }
                1 => is_awaited = false,
                2 => (is_awaited, delay) = (false, self.rng.u64(900..5_000)),
                _ => {}
            }
        }
        if !is_awaited {
            self.at_time(self.now + TIMEOUT, Event::Answer(node, asked, name, None));
        }
        self.at(delay, Event::Request(node, asked, caller, Box::new(request), is_awaited));
    }

    fn arrive(
        &mut self,
        node: usize,
        asked: u64,
        caller: Caller,
        request: &RelayRequest,
        is_awaited: bool,
    ) {
        let (answer, message) = self.broker.step(caller.as_node(), request, self.now);
        let name = caller.name;
        if is_awaited {
            let delay = self.rng.u64(1..20);
            self.at(delay, Event::Answer(node, asked, name, Some(Box::new(answer))));
        }
        let Some(message) = message else { return };
        for node in 0..self.nodes.len() {
            let stream = self.nodes[node].stream;
            if stream == 0 {
                continue;
            }
            if self.is_troubled() && self.weather.loses_messages && self.rng.u8(0..12) == 0 {
                // The message is lost without a sign, or the stream ends.
                if self.rng.bool() {
                    self.at(5, Event::Ended(node, stream));
                }
                continue;
            }
            let delay = Duration::from_millis(self.rng.u64(1..20));
            let earliest = self.streams.entry((node, stream)).or_insert(self.now);
            *earliest = (*earliest).max(self.now + delay);
            let time = *earliest;
            self.at_time(time, Event::Message(node, stream, Box::new(message.clone())));
        }
    }

    fn answer(
        &mut self,
        node: usize,
        asked: u64,
        name: &Arc<str>,
        answer: Option<Box<RelayAnswer>>,
    ) {
        let (now, it) = (self.now, &mut self.nodes[node]);
        if it.asked != asked {
            return;
        }
        if std::mem::take(&mut it.is_entering) {
            if let Some(RelayAnswer::Room { revision, room, taken, .. }) = answer.map(|it| *it) {
                let pace = Pace { tick: it.rules.tick, lease: LEASE };
                let there = AtBroker { revision: &revision, room: &room, taken };
                it.load(name, there, pace, now);
            }
        } else if let Some(state) = &mut it.state {
            state.answered(answer.map(|answer| *answer), now);
        }
        self.drive(node);
    }

    fn hear(&mut self, node: usize, stream: u64, message: RelayMessage) {
        let (now, it) = (self.now, &mut self.nodes[node]);
        let Some(state) = it.state.as_mut().filter(|_| it.stream == stream) else { return };
        if !state.listens() {
            // The message waits in the stream.
            let message = Event::Message(node, stream, Box::new(message));
            return self.at(1, message);
        }
        if let Heard::News(_) = state.hear(message, now) {}
        self.drive(node);
    }

    /// Runs a node's task until it waits.
    fn drive(&mut self, node: usize) {
        loop {
            let (now, it) = (self.now, &mut self.nodes[node]);
            let Some(state) = &mut it.state else { return };
            state.advance(now);
            let step = state.next_step(now);
            let progress = state.progress();
            it.vacated = state.take_aftermath(now).vacated.or(it.vacated);
            let lens = state.replica.as_ref().unwrap().pending.lens();
            if lens.iter().any(|len| *len > MOST_PENDING) {
                self.faults.push(format!("node {node} has {lens:?} waiting"));
            }
            it.observe();
            for (number, outcome) in it.told() {
                let (_, told) = self.updates.get_mut(&number).unwrap();
                assert_eq!(told.replace(outcome), None, "told twice of {number}");
            }
            for (ticket, outcome) in progress.outcomes {
                if let Reply::Broker(outcome) = outcome {
                    // Its caller is a task of its own, which may run later.
                    let delay = self.rng.u64(0..4);
                    self.at(delay, Event::Outcome(node, ticket, outcome));
                }
            }
            let it = &mut self.nodes[node];
            if let Some(close) = progress.ended {
                it.forget(close, now);
            }
            match step {
                Step::Ask(caller, request) => self.ask(node, caller, *request),
                Step::Enter => {
                    let number = self.next();
                    let name: Arc<str> = format!("n{node}.{number}").into();
                    let state = self.nodes[node].state.as_mut();
                    let enter = |state: &mut crate::room::State| {
                        state.enter_again(&name, format!("e{number}"), now)
                    };
                    if let Some(request) = state.and_then(enter) {
                        self.ask(node, Caller::new(&name), request);
                    }
                }
                Step::Subscribe => {
                    let is_done = !(self.is_troubled() && self.rng.u8(0..4) == 0);
                    let delay = self.rng.u64(1..30);
                    self.at(delay, Event::Subscribed(node, is_done));
                }
                Step::Over => return,
                Step::Wait(until) => {
                    let alarm = self.next();
                    self.nodes[node].alarm = alarm;
                    if let Some(until) = until {
                        self.at_time(until.max(self.now), Event::Alarm(node, alarm));
                    }
                    return;
                }
            }
        }
    }

    fn play(&mut self, node: usize, player: usize) {
        let now = self.now;
        if !self.is_troubled() {
            return self.check_closed(node, player);
        }
        let pause = self.rng.u64(10..800);
        self.at(pause, Event::Player(node, player));
        self.check_closed(node, player);
        let choice = self.rng.u8(0..20);
        let it = &mut self.nodes[node];
        match (&it.players[player], &mut it.state) {
            (Player::Away, None) => {
                if !it.is_entering {
                    self.enter(node);
                }
                return;
            }
            (Player::Away, Some(state)) => {
                if choice == 0 && state.is_vacant() && it.waiting.is_empty() {
                    // The room is evicted, because nobody is there for long.
                    if state.evict(now) == Eviction::Evicted {
                        it.forget(Close::new(CloseCode::GoingAway, "nobody was there"), now);
                    }
                    return;
                }
                let session = self.next();
                if self.nodes[node].reserve(player, session, now) {
                    self.at_time(now + TIMEOUT, Event::GiveUp(node, session));
                }
            }
            (Player::Playing { member, .. }, Some(state)) => {
                let member = *member;
                if choice < 3 {
                    state.leave(member, LeaveCause::Closed, now);
                    it.players[player] = Player::Away;
                } else if choice == 3 {
                    self.written += 1;
                    let room = &state.replica.as_ref().unwrap().revision.room;
                    self.updates.insert(self.written, (room.clone(), None));
                    add_one(state, member, self.written, now);
                } else {
                    self.written += 1;
                    let room = &state.replica.as_ref().unwrap().revision.room;
                    let value = Json::from_plain(&format!("{room}|{}", self.written));
                    let name = if self.weather.grows && choice == 4 {
                        format!("v{}", self.rng.u8(0..20))
                    } else {
                        VERSIONS[self.version][self.rng.usize(0..2)].to_owned()
                    };
                    let (name, base) = (Json::from_plain(&name), 0);
                    let write = Write {
                        member,
                        base,
                        name: &name,
                        value: Some(&value),
                        was: None,
                        ack: None,
                    };
                    _ = state.submit(&write, now);
                }
            }
            _ => {}
        }
        self.drive(node);
    }

    /// Notifies the node of a session that a player wants its name.
    fn want(&mut self, node: usize, holder: String, session: u64) {
        let ticket = self.next();
        let wanted = RelayNews::Wanted {
            node: holder,
            session,
            person: None,
            resume: None,
            replaces: false,
            age: 0,
        };
        if let Some(state) = &mut self.nodes[node].state {
            _ = state.wish(ticket, Wish::Tell(wanted));
        }
    }

    /// Checks that a player that was put out because the room was closed had joined before.
    fn check_closed(&mut self, node: usize, player: usize) {
        let it = &mut self.nodes[node];
        let Player::Playing { handle, session, .. } = &it.players[player] else { return };
        let Some(close) = handle.stop_told() else { return };
        if close.reason() == "the room was closed" && !self.weather.loses_memory {
            let key = (session.0.to_string(), session.1);
            let joined = self.broker.joined.get(&key);
            let closed = self.broker.closed.last();
            if joined.zip(closed).is_none_or(|(joined, closed)| joined > closed) {
                self.faults.push(format!("{key:?} was put out by a close before it came"));
            }
        }
        // Lost messages alone put nobody out, even if a name is wanted.
        let Weather { loses_requests, loses_memory, freezes, clock_jumps, .. } = self.weather;
        let may_be_away = loses_requests || loses_memory || freezes || clock_jumps;
        if close.reason() == Close::was_away().reason() && !may_be_away {
            self.faults.push(format!("node {node} was put out while it was there"));
        }
        it.players[player] = Player::Away;
    }

    fn enter(&mut self, node: usize) {
        let number = self.next();
        let it = &mut self.nodes[node];
        (it.is_entering, it.stream) = (true, number);
        let [first, second] = VERSIONS[self.version];
        let names = [first, second, COUNTER];
        let text = |text: &str| Json::from_plain(text).to_text().as_stored().to_owned();
        let schema = if self.weather.grows { StoredSchema::Growing } else { StoredSchema::Fixed };
        let create = RelayRoom {
            stored: StoredRoom {
                schema,
                variables: names.iter().map(|name| (text(name), text("0"))).collect(),
            },
            max_members: it.rules.limits.members_per_room as u64,
            max_variables: it.rules.limits.variables_per_room as u64,
            max_bytes: it.rules.limits.room_bytes as u64,
            is_locked: false,
            closed: 0,
            bans: Vec::new(),
        };
        let (create, epoch) = (Some(create), format!("e{number}"));
        let enter = RelayRequest::Enter { create, epoch, known: None, was: None };
        self.ask(node, Caller::new(&format!("n{node}.{number}").into()), enter);
    }

    fn trouble(&mut self) {
        if !self.is_troubled() {
            return;
        }
        let pause = self.rng.u64(500..6_000);
        self.at(pause, Event::Trouble);
        let (now, node) = (self.now, self.rng.usize(0..self.nodes.len()));
        match self.rng.u8(0..4) {
            0 if self.weather.loses_memory => {
                if self.rng.bool() {
                    self.broker.lose_last(now);
                } else {
                    self.broker.lose_all();
                }
                // The broker's connections are gone with it.
                for node in 0..self.nodes.len() {
                    let stream = self.nodes[node].stream;
                    self.at(1, Event::Ended(node, stream));
                }
            }
            1 if self.weather.freezes => {
                let time = Duration::from_millis(self.rng.u64(100..14_000));
                self.nodes[node].frozen = now + time;
            }
            2 if self.weather.clock_jumps => {
                let time = Duration::from_millis(self.rng.u64(100..20_000));
                self.broker.set_clock_forward(time);
            }
            _ => {}
        }
    }
}

/// Adds one, like a client that has seen the room's value.
fn add_one(state: &mut State, member: MemberId, number: u64, now: Instant) {
    let (name, was) = (Json::from_plain(COUNTER), state.value(&Json::from_plain(COUNTER)));
    let was = was.map_or_else(|| "0".into(), |was| was.lossy());
    let value = Json::from_plain(&(was.parse::<u64>().unwrap() + 1).to_string());
    let was = Json::from_plain(&was);
    let write = Write {
        member,
        base: 0,
        name: &name,
        value: Some(&value),
        was: Some(&was),
        ack: Some(number),
    };
    _ = state.submit(&write, now);
}
