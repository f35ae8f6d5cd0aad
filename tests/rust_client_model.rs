//! The client in Rust against the real server in simulated time, over links that delay and break and leave
//! ghosts behind. The server is slow, refuses clients, and closes rooms.
//!
//! - A program's last value that nobody overwrote is the room's in the end.
//! - No client shows a value that the room never had, except those that its program has set.
//! - `x += 1`, by one client at a time that sees the room's value, is never lost.
//! - Updates that succeeded count once, and those with an unknown outcome no more than once.
//!
//! A failing seed is printed. To replay it:
//! `CLOUD_VARIABLES_SEED=<seed> cargo test --test rust_client_model`.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Body};
use axum_cloud_variables::{
    Identity, Limits, Room, RoomRegistry,
    client::{Client, ClientEvent, UpdateError},
    events::{Events, RoomEvent},
    policy::{Join, Policy, Rejection},
};
use fastrand::Rng;
use futures_util::{FutureExt, future::pending};
use hyper::{Request, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split},
    sync::Notify,
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};
use tower::ServiceExt;

const CLIENTS: usize = 3;
/// The time for which things go wrong, and the time after that for everything to come to rest, which is
/// longer than any ghost is kept, and than a client ever waits.
const TROUBLE: u64 = 25_000;
const REST: u64 = 45_000;
const NAMES: [&str; 5] = ["x", "u", "p0", "p1", "p2"];

/// A policy that takes its time, and does not admit everyone at once.
struct Moody;

impl Policy for Moody {
    async fn admit(&self, join: &Join<'_>) -> Result<Identity, Rejection> {
        if fastrand::u8(0..4) == 0 {
            sleep(Duration::from_millis(fastrand::u64(0..4_500))).await;
        }
        match fastrand::u8(0..8) {
            0 => Err(Rejection::try_later("not now")),
            _ => Ok(join.identity().clone()),
        }
    }
}

/// A handle to cut the link of one connection.
#[derive(Clone, Default)]
struct Cut {
    now: Arc<Notify>,
    /// The time after which the server notices.
    ghost: Arc<Mutex<Duration>>,
}

/// The links of one client, the last of which may be whole.
#[derive(Clone)]
struct Line {
    app: Router,
    delay: u64,
    cut: Arc<Mutex<Cut>>,
}

impl Line {
    async fn open(self) -> io::Result<DuplexStream> {
        let cut = Cut::default();
        *self.cut.lock().unwrap() = cut.clone();
        sleep(some_time(self.delay)).await;
        let (client, near) = duplex(64 * 1024);
        let (far, server) = duplex(64 * 1024);
        let app = self.app;
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                app.clone().oneshot(request.map(Body::new))
            });
            let connection = http1::Builder::new().serve_connection(TokioIo::new(server), service);
            _ = connection.with_upgrades().await;
        });
        tokio::spawn(carry(near, far, self.delay, cut));
        Ok(client)
    }
}

/// Carries bytes both ways, until the link is cut.
async fn carry(near: DuplexStream, far: DuplexStream, delay: u64, cut: Cut) {
    let ((near_in, near_out), (far_in, far_out)) = (split(near), split(far));
    let deaf = Arc::new(Notify::new());
    let up = tokio::spawn(copy(near_in, far_out, delay, deaf.clone()));
    let down = tokio::spawn(copy(far_in, near_out, delay, Arc::default()));
    let (stop_up, stop_down) = (up.abort_handle(), down.abort_handle());
    tokio::select! {
        _ = async { _ = (up.await, down.await) } => {}
        () = cut.now.notified() => {
            stop_down.abort();
            // Usually the client notices at once. Otherwise it continues to send, and receives nothing.
            if fastrand::u8(0..4) > 0 {
                deaf.notify_one();
            }
            let ghost = *cut.ghost.lock().unwrap();
            sleep(ghost).await;
            stop_up.abort();
        }
    }
}

/// Copies bytes in order, with some delay each. Once it is deaf, some of the bytes in flight arrive, and the
/// other end stays open.
async fn copy(
    from: ReadHalf<DuplexStream>,
    mut to: WriteHalf<DuplexStream>,
    delay: u64,
    deaf: Arc<Notify>,
) {
    let (mut on_way, mut last) = (VecDeque::new(), Instant::now());
    let (mut buffer, mut from) = (vec![0; 4_096], Some(from));
    loop {
        let next = on_way.front().map_or_else(never, |(at, _)| *at);
        let read = async {
            match &mut from {
                Some(from) => from.read(&mut buffer).await.unwrap_or(0),
                None => pending().await,
            }
        };
        tokio::select! {
            count = read => {
                last = last.max(Instant::now() + some_time(delay));
                on_way.push_back((last, buffer[..count].to_vec()));
                from.take_if(|_| count == 0);
            }
            () = sleep_until(next) => {
                let (_, bytes): (_, Vec<u8>) = on_way.pop_front().unwrap();
                let done = match bytes.is_empty() {
                    true => to.shutdown().await,
                    false => to.write_all(&bytes).await,
                };
                if done.is_err() || bytes.is_empty() {
                    return;
                }
            }
            () = deaf.notified() => {
                from = None;
                on_way.retain(|(_, bytes)| !bytes.is_empty());
                on_way.truncate(fastrand::usize(0..=on_way.len()));
            }
        }
    }
}

fn some_time(most: u64) -> Duration {
    Duration::from_millis(fastrand::u64(0..=most))
}

fn never() -> Instant {
    Instant::now() + Duration::from_secs(1_000_000)
}

struct Player {
    client: Client,
    events: Events<ClientEvent>,
    line: Line,
    /// The last value that its program set, by variable, and those that it tried by updates.
    set: BTreeMap<String, String>,
    updates: Vec<JoinHandle<Result<String, UpdateError>>>,
}

impl Player {
    async fn new(app: &Router, delay: u64, number: usize) -> Self {
        let line = Line { app: app.clone(), delay, cut: Arc::default() };
        loop {
            let opened = line.clone();
            let username = format!("player{number}");
            let builder = Client::builder("ws://host/cloud", "room", username)
                .variables(NAMES.map(|name| (name, "0")))
                .over(move || opened.clone().open());
            match builder.connect().await {
                Ok(client) => {
                    let events = client.events();
                    let (set, updates) = (BTreeMap::new(), Vec::new());
                    return Self { client, events, line, set, updates };
                }
                Err(_) => sleep(Duration::from_secs(1)).await,
            }
        }
    }

    fn set(&mut self, name: &str, value: String) {
        self.client.set(name, &value);
        self.set.insert(name.into(), value);
    }
}

struct World {
    rng: Rng,
    rooms: RoomRegistry,
    players: Vec<Player>,
    written: Events<RoomEvent>,
    /// Every value that the room had, by variable.
    had: BTreeMap<String, HashSet<String>>,
    /// The last increment.
    count: u64,
}

impl World {
    async fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        fastrand::seed(rng.u64(..));
        let rooms = RoomRegistry::builder().policy(Moody).limits(Limits::default());
        let rooms = rooms.build().unwrap();
        let app = Router::new().merge(rooms.mount("/cloud"));
        let delay = *rng.choice(&[0, 20, 200, 1_000]).unwrap();
        let mut players = Vec::new();
        for number in 0..CLIENTS {
            players.push(Player::new(&app, delay, number).await);
        }
        let written = rooms.room("room").unwrap().events();
        let had = NAMES.map(|name| (name.into(), HashSet::from(["0".into()])));
        Self { rng, rooms, players, written, had: had.into(), count: 0 }
    }

    fn room(&self) -> Room {
        self.rooms.room("room").expect("it is kept for an hour")
    }

    async fn run(mut self) {
        let end = Instant::now() + Duration::from_millis(TROUBLE);
        while Instant::now() < end {
            sleep(Duration::from_millis(self.rng.u64(1..800))).await;
            self.look();
            self.trouble();
        }
        for _ in 0..REST / 1_000 {
            sleep(Duration::from_secs(1)).await;
            self.look();
        }
        self.check().await;
    }

    /// Plays a move, or causes a fault.
    fn trouble(&mut self) {
        let number = self.rng.usize(0..CLIENTS);
        match self.rng.u8(0..20) {
            0..6 => {
                let value = self.rng.u32(..).to_string();
                self.players[number].set(&format!("p{number}"), value);
            }
            6..12 => self.increment(number),
            12..15 => {
                let client = self.players[number].client.clone();
                let add = |old: &str| old.parse::<u64>().unwrap() + 1;
                let update = tokio::spawn(async move { client.update("u", add).await });
                self.players[number].updates.push(update);
            }
            15..19 => {
                let cut = self.players[number].line.cut.lock().unwrap().clone();
                let ghost = *self.rng.choice(&[0, 500, 3_000, 20_000]).unwrap();
                *cut.ghost.lock().unwrap() = Duration::from_millis(ghost);
                cut.now.notify_one();
            }
            // This is like a deploy, or a restart of a server that has kept its rooms.
            _ => self.room().close().now_or_never().unwrap().unwrap(),
        }
    }

    /// Increments `x`, if no other increment is in flight and the client sees the room's value.
    fn increment(&mut self, number: usize) {
        let there = self.room().get("x").unwrap();
        let player = &mut self.players[number];
        if there == self.count.to_string() && player.client.get("x").as_ref() == Some(&there) {
            self.count += 1;
            player.set("x", self.count.to_string());
        }
    }

    /// Checks that no client shows a value that the room never had, except those that its program has
    /// set.
    fn look(&mut self) {
        while let Some(event) = self.written.next().now_or_never() {
            match event.expect("the room stays") {
                RoomEvent::Wrote { name, value, .. } => {
                    self.had.get_mut(&*name).unwrap().insert(value.to_string());
                }
                RoomEvent::Missed(count) => panic!("missed {count}"),
                _ => {}
            }
        }
        for (number, player) in self.players.iter_mut().enumerate() {
            while let Some(event) = player.events.next().now_or_never() {
                let Some(ClientEvent::Set { name, value }) = event else { continue };
                let was_there = self.had[&*name].contains(&*value);
                let is_own = player.set.get(&*name).is_some_and(|own| **own == *value);
                assert!(was_there || is_own, "{number} saw {name} = {value}, which never was");
            }
        }
    }

    async fn check(self) {
        let there: BTreeMap<_, _> = self.room().variables().into_iter().collect();
        let (mut sure, mut unknown) = (0, 0);
        for (number, player) in self.players.into_iter().enumerate() {
            assert!(player.client.is_joined(), "{number} is not back");
            let seen: BTreeMap<_, _> = player.client.variables().into_iter().collect();
            assert_eq!(seen, there, "what {number} sees");
            let own = format!("p{number}");
            if let Some(value) = player.set.get(&own) {
                assert_eq!(there[&own], *value, "what {number} set last");
            }
            for update in player.updates {
                match update.now_or_never().expect("it has ended").unwrap() {
                    Ok(_) => sure += 1,
                    Err(UpdateError::Unknown) => unknown += 1,
                    Err(error) => panic!("{error}"),
                }
            }
        }
        assert_eq!(there["x"], self.count.to_string(), "increments");
        let updated = there["u"].parse::<u64>().unwrap();
        assert!((sure..=sure + unknown).contains(&updated), "{updated}: {sure} + {unknown}");
    }
}

#[test]
fn a_client_keeps_its_programs_values_and_shows_the_rooms() {
    common::play_seeds(500, 20_000, async |seed| World::new(seed).await.run().await);
}
