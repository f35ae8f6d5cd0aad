//! Connections send frames of every kind, pause and break, in any order: each gets the close, and each
//! room has the members and values, of a model of the specification.

#![no_main]

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use axum_cloud_variables::{Limits, RoomRegistry};
use futures_util::{SinkExt, StreamExt};
use hyper::{Request, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use libfuzzer_sys::fuzz_target;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    runtime::{Builder, Runtime},
    time::{Instant, sleep, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};
use tower::ServiceExt;

thread_local! {
    /// A runtime whose time stands still, except when all tasks wait for it.
    static RUNTIME: RefCell<Runtime> = RefCell::new(
        Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime"),
    );
}

const ROOMS: [&str; 3] = ["one", "two", ""];
const USERS: [&str; 5] = ["ann", "ANN", "ben", "no spaces", "admin"];
const NAMES: [&str; 3] = ["x", "y", "z"];
const CONNECTIONS: usize = 3;
/// Enough for a handshake of all names with the longest values, so that no set is refused because of it.
const MESSAGE_BYTES: usize = 1_000;

/// The beginning of a frame.
const HALF: [u8; 8] = [0x81, 0xfe, 1, 0, 0, 0, 0, 0];

type Values = BTreeMap<&'static str, String>;

/// A client, and its state in the model.
struct Client {
    socket: WebSocketStream<DuplexStream>,
    since: Instant,
    /// Its room, its name, and its view.
    joined: Option<(&'static str, &'static str, Values)>,
}

#[derive(Default)]
struct World {
    rooms: BTreeMap<&'static str, Values>,
    /// The rooms that somebody other than their creator has joined.
    of_players: BTreeSet<&'static str>,
    clients: [Option<Client>; CONNECTIONS],
}

impl World {
    /// Returns a handshake, and the code of the close that answers it, if any.
    fn handshake(&mut self, who: usize, bits: usize) -> (String, Option<u16>) {
        let (room, user) = (ROOMS[bits % 3], USERS[bits / 3 % 5]);
        let names = &NAMES[..1 + bits / 15 % 3];
        let brought: Values = names.iter().map(|name| (*name, format!("{who}"))).collect();
        let text = json!({
            "kind": "handshake", "room": room, "username": user, "variables": brought,
        });
        (text.to_string(), self.admit(who, room, user, brought))
    }

    fn admit(
        &mut self,
        who: usize,
        room: &'static str,
        user: &'static str,
        brought: Values,
    ) -> Option<u16> {
        let is_taken = self.clients.iter().flatten().any(|other| {
            let there = other.joined.as_ref();
            there.is_some_and(|(r, u, _)| *r == room && u.eq_ignore_ascii_case(user))
        });
        let client = self.clients[who].as_ref()?;
        if client.joined.is_some() || room.is_empty() {
            return Some(4000);
        }
        if ["no spaces", "admin"].contains(&user) {
            return Some(4002);
        }
        let is_vacant = self.is_vacant(room);
        if let Some(values) = self.rooms.get_mut(room)
            && !values.keys().eq(brought.keys())
        {
            let is_next_version = values.keys().all(|name| brought.contains_key(name));
            match self.of_players.contains(room) {
                // Only its creator ever used it.
                false if is_vacant => *values = brought.clone(),
                true if is_vacant && is_next_version => {
                    for (name, value) in &brought {
                        values.entry(name).or_insert_with(|| value.clone());
                    }
                }
                _ => return Some(4001),
            }
        }
        if is_taken {
            return Some(4002);
        }
        if self.rooms.contains_key(room) {
            self.of_players.insert(room);
        }
        let values = self.rooms.entry(room).or_insert(brought).clone();
        self.clients[who].as_mut()?.joined = Some((room, user, values));
        None
    }

    fn is_vacant(&self, room: &str) -> bool {
        let mut rooms = self.clients.iter().flatten().flat_map(|client| &client.joined);
        rooms.all(|(there, ..)| *there != room)
    }

    fn set(&mut self, who: usize, name: &'static str, value: &str) -> Option<u16> {
        let Some((room, ..)) = self.clients[who].as_ref()?.joined else { return Some(4000) };
        let Some(held) = self.rooms.get_mut(room).and_then(|values| values.get_mut(name)) else {
            return Some(4000);
        };
        // A longer value is ignored and healed.
        if value.len() <= 100 {
            *held = value.into();
        }
        None
    }

    /// Lets everything in flight arrive, and checks the closes.
    async fn settle(&mut self, closing: Option<(usize, u16)>) {
        self.pass(Duration::from_millis(600), closing).await;
    }

    async fn pass(&mut self, time: Duration, closing: Option<(usize, u16)>) {
        let mut closed = [None; CONNECTIONS];
        // The answer to a ping, which is sent when a name is claimed, may cause a close.
        for _ in 0..2 {
            sleep(time).await;
            for (client, closed) in self.clients.iter_mut().zip(&mut closed) {
                if let Some(client) = client {
                    *closed = closed.or(client.read().await);
                }
            }
        }
        for (who, closed) in closed.into_iter().enumerate() {
            let Some(client) = &self.clients[who] else { continue };
            let told = closing.filter(|(other, _)| *other == who).map(|(_, code)| code);
            // A client that takes too long for its handshake is closed, too.
            let is_late = client.joined.is_none() && client.since.elapsed().as_secs() >= 10;
            let expected = told.or(is_late.then_some(4000));
            assert_eq!(closed, expected, "connection {who}");
            if closed.is_some() {
                self.clients[who] = None;
            }
        }
    }

    /// Pauses for longer than the room waits for a steady writer, and checks that all agree.
    async fn agree(&mut self) {
        self.pass(Duration::from_secs(6), None).await;
        for client in self.clients.iter().flatten() {
            if let Some((room, _, seen)) = &client.joined {
                assert_eq!(*seen, self.rooms[room], "{room}");
            }
        }
    }

    async fn run(&mut self, rooms: &RoomRegistry, mut ops: impl Iterator<Item = u8>) -> Option<()> {
        loop {
            let (op, bits) = (usize::from(ops.next()?), usize::from(ops.next()?));
            let who = op / 16 % CONNECTIONS;
            if self.clients[who].is_none() {
                self.clients[who] = Some(Client::connect(rooms).await);
            }
            let (message, close) = match op % 16 {
                0..=3 => {
                    let (text, close) = self.handshake(who, bits);
                    (Message::text(text), close)
                }
                4..=7 => {
                    let name = NAMES[bits % 3];
                    let value = "v".repeat(if bits > 240 { 101 } else { bits / 8 });
                    let set = json!({ "kind": "set", "variable": name, "value": value });
                    if let Some((.., seen)) =
                        self.clients[who].as_mut().and_then(|c| c.joined.as_mut())
                        && seen.contains_key(name)
                    {
                        seen.insert(name, value.clone());
                    }
                    (Message::text(set.to_string()), self.set(who, name, &value))
                }
                8 => {
                    let junk =
                        ["", "[]", "{}", "{\"kind\":\"leave\"}", "{\"kind\":\"set\"}\n{}", "\u{0}"];
                    (Message::text(junk[bits % junk.len()]), Some(4000))
                }
                9 => (Message::binary(vec![0; bits]), Some(1003)),
                10 => (Message::Ping(vec![1; bits % 126].into()), None),
                11 => (Message::Pong(vec![1; bits % 126].into()), None),
                12 => (Message::text("x".repeat(MESSAGE_BYTES + 1 + bits)), Some(1009)),
                13 => (Message::Close(None), Some(1005)),
                14 => {
                    // The connection is gone, perhaps in the middle of a frame.
                    let client = self.clients[who].take()?;
                    client.ends_in(&HALF[..bits % HALF.len()]).await;
                    self.settle(None).await;
                    continue;
                }
                15 if bits % 2 == 0 => {
                    let client = self.clients[who].as_mut()?;
                    // Clients must mask.
                    _ = client.socket.get_mut().write_all(&[0x81, 1, b'x']).await;
                    self.settle(Some((who, 1002))).await;
                    continue;
                }
                _ => {
                    self.agree().await;
                    continue;
                }
            };
            let client = self.clients[who].as_mut()?;
            _ = client.socket.send(message).await;
            self.settle(close.map(|code| (who, code))).await;
        }
    }
}

impl Client {
    async fn connect(rooms: &RoomRegistry) -> Self {
        let (mut near, far) = duplex(4_096);
        let router = rooms.router::<()>();
        tokio::spawn(async move {
            let service = service_fn(|request: Request<hyper::body::Incoming>| {
                router.clone().oneshot(request)
            });
            _ = http1::Builder::new()
                .serve_connection(TokioIo::new(far), service)
                .with_upgrades()
                .await;
        });
        let request = "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
        near.write_all(request.as_bytes()).await.expect("a server");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(near.read_u8().await.expect("an answer"));
        }
        assert!(head.starts_with(b"HTTP/1.1 101"));
        let socket = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
        Self { socket, since: Instant::now(), joined: None }
    }

    async fn ends_in(mut self, half: &[u8]) {
        _ = self.socket.get_mut().write_all(half).await;
    }

    /// Reads the messages that have come, and returns the code of a close.
    async fn read(&mut self) -> Option<u16> {
        while let Ok(Some(Ok(message))) = timeout(Duration::ZERO, self.socket.next()).await {
            match message {
                Message::Text(text) => self.apply(&text),
                Message::Close(close) => return Some(close.map_or(1005, |c| c.code.into())),
                _ => {}
            }
        }
        None
    }

    fn apply(&mut self, frame: &str) {
        let (.., seen) = self.joined.as_mut().expect("only members are told anything");
        for line in frame.split('\n') {
            let set: serde_json::Value = serde_json::from_str(line).expect("JSON");
            assert_eq!(set["kind"], "set");
            let name = NAMES.into_iter().find(|name| set["variable"] == **name).expect("a name");
            let value = set["value"].as_str().expect("a string").to_owned();
            assert!(seen.insert(name, value).is_some(), "of another room");
        }
    }
}

fuzz_target!(|input: &[u8]| {
    RUNTIME.with_borrow_mut(|runtime| {
        runtime.block_on(async {
            let limits = Limits::default()
                .message_bytes(MESSAGE_BYTES)
                .value_bytes(100)
                .name_bytes(10)
                .room_id_chars(10);
            let rooms = RoomRegistry::builder().limits(limits).build().expect("fair limits");
            let mut world = World::default();
            world.run(&rooms, input.iter().copied()).await;
            world.agree().await;
            let there = world.clients.iter().flatten().filter(|client| client.joined.is_some());
            assert_eq!(rooms.stats().members, there.count());
            drop(world);
            sleep(Duration::from_secs(3)).await;
            let stats = rooms.stats();
            assert_eq!((stats.members, stats.sessions), (0, 0), "who stayed?");
        });
    });
});
