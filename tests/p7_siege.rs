//! P7 and P8 under attack: strangers do what they can, at once, beside a game that plays on.
//!
//! The server is a process of its own with its default limits, so that its memory can be seen. The
//! figures are printed. The long counts stay under 20,000 open files a process.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use common::{Process, count, eventually};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Runtime,
    task::JoinSet,
    time::{interval, sleep},
};
use tokio_tungstenite::tungstenite::Message;

const PLAYERS: usize = 20;

/// Twenty players, eight sets a second each, on a thread of their own.
struct Game {
    over: Arc<AtomicBool>,
    thread: thread::JoinHandle<Vec<(Instant, Duration)>>,
}

impl Game {
    fn start(url: String) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let is_over = over.clone();
        let thread = thread::spawn(move || {
            Runtime::new().unwrap().block_on(async {
                let epoch = Instant::now();
                let mut players = JoinSet::new();
                for i in 0..PLAYERS {
                    players.spawn(play(url.clone(), i, epoch, is_over.clone()));
                }
                players.join_all().await.concat()
            })
        });
        Self { over, thread }
    }

    /// When sets arrived, and how long after they left.
    fn end(self) -> Vec<(Instant, Duration)> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().expect("no player was thrown out")
    }
}

/// Plays until the game is over; that it saw every set of every other is asserted.
async fn play(
    url: String,
    me: usize,
    epoch: Instant,
    over: Arc<AtomicBool>,
) -> Vec<(Instant, Duration)> {
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    let variables: serde_json::Map<_, _> =
        (0..PLAYERS).map(|i| (format!("p{i}"), "".into())).collect();
    let name = format!("player{me}");
    let hello =
        json!({ "kind": "handshake", "room": "game", "username": name, "variables": variables });
    socket.send(Message::text(hello.to_string())).await.unwrap();
    let mut tick = interval(Duration::from_millis(125));
    let mut seen = Vec::new();
    let mut next = [0; PLAYERS];
    let mut sets = 0;
    while !over.load(Ordering::Relaxed) {
        tokio::select! {
            _ = tick.tick() => {
                let value = format!("{sets} {}", epoch.elapsed().as_micros());
                let set = json!({ "kind": "set", "variable": format!("p{me}"), "value": value });
                socket.send(Message::text(set.to_string())).await.unwrap();
                sets += 1;
            }
            message = socket.next() => {
                let Message::Text(text) = message.unwrap().unwrap() else { continue };
                for line in text.lines() {
                    let set: Value = serde_json::from_str(line).unwrap();
                    let Some((nth, left)) = set["value"].as_str().unwrap().split_once(' ') else { continue };
                    let from: usize = set["variable"].as_str().unwrap()[1..].parse().unwrap();
                    let nth: u64 = nth.parse().unwrap();
                    assert!(next[from] == 0 || nth == next[from], "p{from}: {nth} after {}", next[from]);
                    next[from] = nth + 1;
                    let left = epoch + Duration::from_micros(left.parse().unwrap());
                    seen.push((Instant::now(), left.elapsed()));
                }
            }
        }
    }
    seen
}

fn p99(seen: &[(Instant, Duration)], during: std::ops::Range<Instant>) -> Duration {
    let mut times: Vec<_> =
        seen.iter().filter(|(at, _)| during.contains(at)).map(|(_, took)| *took).collect();
    assert!(times.len() > 100, "the game plays on: {} sets arrived", times.len());
    times.sort();
    times[times.len() * 99 / 100]
}

/// An upgraded connection without a WebSocket layer; `None` where there is no place.
async fn upgraded(addr: &str) -> Option<TcpStream> {
    let mut socket = TcpStream::connect(addr).await.ok()?;
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {addr}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await.ok()?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.ok()?);
    }
    head.starts_with(b"HTTP/1.1 101").then_some(socket)
}

/// The head of a text frame of so many bytes, masked with zeros, which change nothing.
fn head(len: usize) -> Vec<u8> {
    let mut head = vec![0x81, 0xff];
    head.extend((len as u64).to_be_bytes());
    head.extend([0; 4]);
    head
}

fn frame(text: &str) -> Vec<u8> {
    [head(text.len()), text.into()].concat()
}

fn handshake(room: &str, name: &str) -> Vec<u8> {
    let hello =
        json!({ "kind": "handshake", "room": room, "username": name, "variables": { "x": "" } });
    frame(&hello.to_string())
}

/// Reads and forgets until the other side closes.
async fn read_to_end(socket: &mut (impl AsyncReadExt + Unpin)) {
    let mut buffer = [0; 4096];
    while matches!(socket.read(&mut buffer).await, Ok(1..)) {}
}

async fn never_sends(addr: String) {
    loop {
        if let Some(mut socket) = upgraded(&addr).await {
            read_to_end(&mut socket).await;
        }
        sleep(Duration::from_secs(1)).await;
    }
}

async fn sends_a_byte_a_second(addr: String, i: usize) {
    loop {
        if let Some(mut socket) = upgraded(&addr).await {
            _ = socket.write_all(&handshake(&format!("slow{}", i / 100), &format!("s{i}"))).await;
            _ = socket.write_all(&head(100_000)).await;
            while socket.write_all(b"x").await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        }
        sleep(Duration::from_secs(1)).await;
    }
}

async fn floods_with_sets(addr: String, i: usize) {
    let set = frame(r#"{"kind":"set","variable":"x","value":"1"}"#);
    loop {
        if let Some(mut socket) = upgraded(&addr).await {
            _ = socket.write_all(&handshake(&format!("flood{}", i / 20), &format!("f{i}"))).await;
            let (mut reading, mut writing) = socket.split();
            tokio::select! {
                () = read_to_end(&mut reading) => {}
                () = async { while writing.write_all(&set).await.is_ok() {} } => {}
            }
        }
        sleep(Duration::from_secs(1)).await;
    }
}

async fn floods_with_junk(addr: String, i: usize) {
    let junk: Vec<u8> = (0..10_000).map(|n| (n * 31 + i * 17 + n * n / 7) as u8).collect();
    let junk = [junk, frame("}{\"kind"), frame(&"[".repeat(10_000))];
    for n in i.. {
        if let Some(mut socket) = upgraded(&addr).await {
            while socket.write_all(&junk[n % 3]).await.is_ok() && n % 2 == 0 {}
            read_to_end(&mut socket).await;
        }
        sleep(Duration::from_millis(200)).await;
    }
}

async fn drops(addr: String) {
    loop {
        drop(upgraded(&addr).await);
        sleep(Duration::from_millis(200)).await;
    }
}

async fn sends_all_but_the_last_byte(addr: String, len: usize) {
    let all = vec![b'x'; len];
    loop {
        if let Some(mut socket) = upgraded(&addr).await {
            _ = socket.write_all(&head(len)).await;
            _ = socket.write_all(&all[1..]).await;
            read_to_end(&mut socket).await;
        }
        sleep(Duration::from_secs(1)).await;
    }
}

/// Lets them loose beside a game. The memory at its highest, in KiB.
async fn siege(
    what: &str,
    args: &[&str],
    time: Duration,
    attack: impl FnOnce(&str, &mut JoinSet<()>),
) -> u64 {
    let server = Process::giving_memory_back(args);
    let game = Game::start(server.url());
    let quiet = Instant::now();
    sleep(Duration::from_secs(5)).await;
    let (before, _) = server.memory();
    server.reset_peak();
    let attacked = Instant::now();
    let mut strangers = JoinSet::new();
    attack(&server.addr, &mut strangers);
    sleep(time).await;
    let gone = Instant::now();
    strangers.shutdown().await;
    let (_, peak) = server.memory();
    // Beside 20 members it is not little what a server needs whatever happens to it, and what its
    // allocator needs to know of the gigabytes that it once had.
    let back = || server.memory().0 <= (before * 12 / 10).max(before + 16 * 1024);
    eventually("memory to come back", back).await;
    let (after, _) = server.memory();
    let seen = game.end();
    println!(
        "{what}: p99 {:.1?} before, {:.1?} during; {} MB before, at most {}, {} after",
        p99(&seen, quiet..attacked),
        p99(&seen, attacked..gone),
        before / 1024,
        peak / 1024,
        after / 1024
    );
    peak - before
}

#[tokio::test(flavor = "multi_thread")]
async fn a_game_plays_on_whatever_strangers_do() {
    let time = Duration::from_secs(count(8, 40) as u64);
    siege("all at once", &[], time, |addr, strangers| {
        let addr = || addr.to_owned();
        for _ in 0..count(400, 12_000) {
            strangers.spawn(never_sends(addr()));
        }
        for i in 0..count(100, 4_000) {
            strangers.spawn(sends_a_byte_a_second(addr(), i));
        }
        for i in 0..count(20, 1_000) {
            strangers.spawn(floods_with_sets(addr(), i));
            strangers.spawn(floods_with_junk(addr(), i));
        }
        for _ in 0..count(10, 500) {
            strangers.spawn(drops(addr()));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_without_their_last_byte_cost_what_the_limit_says() {
    let connections = count(400, 16_000);
    let time = Duration::from_secs(count(8, 30) as u64);
    // The longest that is let in, as a client that knows the limit would.
    let len = axum_cloud_variables::Limits::default().message_bytes;
    let cost = siege("all but the last byte", &[], time, |addr, strangers| {
        for _ in 0..connections {
            strangers.spawn(sends_all_but_the_last_byte(addr.to_owned(), len));
        }
    })
    .await;
    // What the game needs meanwhile, as `siege` has it.
    let bound = connections * (len + 12 * 1024) + 8 * 1024 * 1024;
    assert!(cost as usize * 1024 <= bound, "{cost} KiB");
}
