//! Strangers with raw sockets beside a game that continues, at a server in a process of its own.

use std::{
    net::{Ipv4Addr, SocketAddr},
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    runtime::Runtime,
    sync::Mutex,
    task::JoinSet,
    time::{interval, sleep},
};
use tokio_tungstenite::tungstenite::Message;

use axum_cloud_variables::Limits;

use super::{Process, eventually};

const PLAYERS: usize = 20;

/// Returns the names of the game's variables: one for each player, and one that none of them sets.
pub fn names() -> impl Iterator<Item = String> {
    (0..PLAYERS).map(|i| format!("p{i}")).chain(["other".into()])
}

/// A set by another player that a player received.
#[derive(Debug, Clone)]
pub struct Seen {
    at: Instant,
    took: Duration,
    /// The number of sets of the same player that it missed before this one, because it lagged.
    skipped: u64,
}

/// Twenty players on a thread of their own, each with eight sets a second.
pub struct Game {
    over: Arc<AtomicBool>,
    thread: thread::JoinHandle<Vec<Seen>>,
}

impl Game {
    pub fn start(url: String) -> Self {
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

    /// Ends the game. Returns when sets arrived, and how long they took.
    pub fn end(self) -> Vec<Seen> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().expect("no player was thrown out")
    }
}

/// Plays until the game is over. No value may go back, but one may come again in a snapshot.
async fn play(url: String, me: usize, epoch: Instant, over: Arc<AtomicBool>) -> Vec<Seen> {
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    let variables: serde_json::Map<_, _> = names().map(|name| (name, "".into())).collect();
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
                    assert!(nth + 1 >= next[from], "p{from}: {nth} after {}", next[from]);
                    if nth + 1 == next[from] {
                        continue;
                    }
                    let skipped = if next[from] > 0 { nth - next[from] } else { 0 };
                    next[from] = nth + 1;
                    let left = epoch + Duration::from_micros(left.parse().unwrap());
                    seen.push(Seen { at: Instant::now(), took: left.elapsed(), skipped });
                }
            }
        }
    }
    seen
}

pub fn p99(seen: &[Seen], during: Range<Instant>) -> Duration {
    let mut times: Vec<_> =
        seen.iter().filter(|seen| during.contains(&seen.at)).map(|seen| seen.took).collect();
    assert!(times.len() > 100, "the game plays on: {} sets arrived", times.len());
    times.sort();
    times[times.len() * 99 / 100]
}

/// Connects and upgrades, without a WebSocket layer. Returns `None` if there is no place.
pub async fn upgraded(addr: &str) -> Option<TcpStream> {
    upgraded_from(Ipv4Addr::LOCALHOST, addr).await
}

/// Connects like [`upgraded`], from this address.
pub async fn upgraded_from(from: Ipv4Addr, addr: &str) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().ok()?;
    socket.bind(SocketAddr::from((from, 0))).ok()?;
    let mut socket = socket.connect(addr.parse().ok()?).await.ok()?;
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

/// Returns the head of a text frame of `len` bytes, with a mask of zeros, which changes nothing.
pub fn head(len: usize) -> Vec<u8> {
    let mut head = vec![0x81, 0xff];
    head.extend((len as u64).to_be_bytes());
    head.extend([0; 4]);
    head
}

pub fn frame(text: &str) -> Vec<u8> {
    [head(text.len()), text.into()].concat()
}

pub fn handshake(room: &str, name: &str) -> Vec<u8> {
    let hello =
        json!({ "kind": "handshake", "room": room, "username": name, "variables": { "x": "" } });
    frame(&hello.to_string())
}

/// Reads and discards everything until the other side closes.
pub async fn read_to_end(socket: &mut (impl AsyncReadExt + Unpin)) {
    let mut buffer = [0; 4096];
    while matches!(socket.read(&mut buffer).await, Ok(1..)) {}
}

/// The version of HTTP of a connection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Http {
    One,
    Two,
}

/// Returns how many bytes so many connections may hold, beside their rooms, whatever they send and do not
/// read: half a message, its buffers, and two frames that were being sent; over HTTP/2 also the bytes that
/// are not read and not sent yet.
pub fn worst_case(connections: usize, http: Http) -> usize {
    let half = Limits::default().message_bytes + (12 << 10);
    let unsent = 2 * (64 << 10);
    let http = if http == Http::Two { (256 << 10) + (64 << 10) } else { 0 };
    connections * (half + unsent + http)
}

/// The cost of the strangers.
pub struct Siege {
    /// The 99th percentile of the time that sets of the game took: before, in the first second, after it,
    /// at the end.
    pub p99: [Duration; 4],
    /// The time from the end until memory was back at its size from before.
    pub restored: Duration,
    /// The number of other players' values that players missed because they lagged, without the first
    /// second.
    pub skipped: u64,
    /// The peak of memory, less the memory before, in KiB.
    pub cost: u64,
}

/// Allows one siege at a time, because each needs the machine for itself.
static ONE: Mutex<()> = Mutex::const_new(());

/// Runs an attack by strangers beside a game.
pub async fn siege(
    what: &str,
    args: &[&str],
    time: Duration,
    attack: impl FnOnce(&str, &mut JoinSet<()>),
) -> Siege {
    let _one = ONE.lock().await;
    let server = Process::giving_memory_back(args);
    let game = Game::start(server.url());
    let quiet = Instant::now();
    sleep(Duration::from_secs(3)).await;
    let (before, _) = server.memory();
    server.reset_peak();
    let attacked = Instant::now();
    let mut strangers = JoinSet::new();
    attack(&server.addr, &mut strangers);
    sleep(time).await;
    let gone = Instant::now();
    strangers.shutdown().await;
    let (_, peak) = server.memory();
    // Compared to 20 members, a server's fixed needs are not small, nor is the allocator's bookkeeping
    // for the gigabytes that it once had.
    let back = || server.memory().0 <= (before * 12 / 10).max(before + 16 * 1024);
    eventually("memory to come back", back).await;
    let (after, restored) = (server.memory().0, gone.elapsed());
    sleep(Duration::from_secs(1)).await;
    let end = Instant::now();
    let seen = game.end();
    // A hundred joins at once are a second's work for both clients and server.
    let joined = attacked + Duration::from_secs(1);
    let last = end - Duration::from_secs(1);
    let p99 = [quiet..attacked, attacked..joined, joined..gone, last..end]
        .map(|during| p99(&seen, during));
    let is_early = |seen: &&Seen| (attacked..joined).contains(&seen.at);
    let early: u64 = seen.iter().filter(is_early).map(|seen| seen.skipped).sum();
    let skipped = seen.iter().map(|seen| seen.skipped).sum::<u64>() - early;
    println!(
        "{what}: p99 {:.1?} before, {:.1?} in the first second, {:.1?} after it, {:.1?} at the end; \
         {early} values skipped in the first second, {skipped} else; {} MB before, at most {}, {} after {restored:.1?}",
        p99[0],
        p99[1],
        p99[2],
        p99[3],
        before / 1024,
        peak / 1024,
        after / 1024,
    );
    Siege { p99, restored, skipped, cost: peak - before }
}
