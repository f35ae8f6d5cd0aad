//! Compressed messages (RFC 7692), by a client that reads and writes its frames byte by byte.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    process::Stdio,
    time::{Duration, Instant},
};

use axum::{Router, response::Html, routing::get};
use axum_cloud_variables::{Compression, Limits, RoomRegistry};
use flate2::{Compress, Decompress, FlushCompress};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::Command,
};

use crate::common::{
    Client, Driver, eventually, inflated, masked, read_frame, serve, unlimited_rate, within,
};

const THRESHOLD: usize = 100;

async fn server(limits: Limits) -> (SocketAddr, RoomRegistry) {
    let rooms = RoomRegistry::builder().limits(limits).build().unwrap();
    let mount = rooms.mount("/cloud").compression(Compression::From(THRESHOLD));
    (serve(Router::new().merge(mount)).await, rooms)
}

/// A frame as it came.
#[derive(Debug, PartialEq)]
struct Raw {
    first: u8,
    payload: Vec<u8>,
}

struct Raws {
    socket: TcpStream,
    answer: String,
    inflater: Decompress,
    /// What a client shows: its own sets at once, the server's as they come.
    view: BTreeMap<String, String>,
}

impl Raws {
    async fn connect(addr: SocketAddr, offer: &str) -> Self {
        let mut socket = TcpStream::connect(addr).await.unwrap();
        let request = format!(
            "GET /cloud HTTP/1.1\r\nHost: {addr}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{offer}\r\n"
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(within("the answer", socket.read_u8()).await.unwrap());
        }
        let answer = String::from_utf8(answer).unwrap();
        Self { socket, answer, inflater: Decompress::new(false), view: BTreeMap::new() }
    }

    async fn join(addr: SocketAddr, name: &str, variables: &Value) -> Self {
        let mut raws =
            Self::connect(addr, "Sec-WebSocket-Extensions: permessage-deflate\r\n").await;
        assert!(raws.answer.contains("permessage-deflate"), "{}", raws.answer);
        raws.handshake(name, variables).await;
        raws
    }

    async fn handshake(&mut self, name: &str, variables: &Value) {
        let handshake = json!({
            "kind": "handshake", "room": "arena", "username": name, "variables": variables,
        });
        self.send(0xc1, &deflate(handshake.to_string().as_bytes())).await;
    }

    async fn send(&mut self, first: u8, payload: &[u8]) {
        self.socket.write_all(&masked(first, payload)).await.unwrap();
    }

    async fn set(&mut self, name: &str, value: &str) {
        self.view.insert(name.into(), value.into());
        let set = json!({ "kind": "set", "variable": name, "value": value });
        self.send(0xc1, &deflate(set.to_string().as_bytes())).await;
    }

    async fn frame(&mut self) -> Raw {
        let read = within("a frame", read_frame(&mut self.socket));
        let (first, payload) = read.await.unwrap();
        Raw { first, payload }
    }

    /// The next text or close, as it came and as it reads.
    async fn message(&mut self) -> (Raw, String) {
        loop {
            let frame = self.frame().await;
            match frame.first {
                0x89 => self.send(0x8a, &frame.payload).await,
                0x81 => return text(frame),
                0xc1 => {
                    let text = inflated(&mut self.inflater, &frame.payload);
                    return (frame, String::from_utf8(text).unwrap());
                }
                0x88 => {
                    let reason = String::from_utf8(frame.payload[2..].to_vec()).unwrap();
                    return (frame, reason);
                }
                _ => panic!("{frame:?}"),
            }
        }
    }

    /// The next sets, which it shows.
    async fn sets(&mut self) -> (Raw, String) {
        let (frame, text) = self.message().await;
        for line in text.lines() {
            let set: Value = serde_json::from_str(line).unwrap();
            let text = |field: &str| set[field].as_str().unwrap().to_owned();
            self.view.insert(text("variable"), text("value"));
        }
        (frame, text)
    }

    /// Reads until a variable has this value, and returns the frame with it.
    async fn until(&mut self, value: &str) -> Raw {
        loop {
            let (frame, text) = self.sets().await;
            if text.contains(&format!("\"{value}\"")) {
                return frame;
            }
        }
    }

    async fn closed(&mut self) -> (u16, String) {
        let (mut frame, mut reason) = self.message().await;
        while frame.first != 0x88 {
            (frame, reason) = self.message().await;
        }
        (u16::from_be_bytes([frame.payload[0], frame.payload[1]]), reason)
    }
}

fn text(frame: Raw) -> (Raw, String) {
    let text = String::from_utf8(frame.payload.clone()).unwrap();
    (frame, text)
}

fn deflate(message: &[u8]) -> Vec<u8> {
    let mut compressed = Vec::with_capacity(message.len() + 64);
    let mut compressor = Compress::new(flate2::Compression::default(), false);
    compressor.compress_vec(message, &mut compressed, FlushCompress::Sync).unwrap();
    compressed.truncate(compressed.len() - 4);
    compressed
}

#[tokio::test]
async fn a_client_that_offers_nothing_gets_nothing_compressed() {
    let (addr, rooms) = server(unlimited_rate()).await;
    let mut plain = Raws::connect(addr, "").await;
    assert!(!plain.answer.contains("extensions"), "{}", plain.answer);
    let handshake = r#"{"kind":"handshake","room":"arena","username":"ann","variables":{"x":""}}"#;
    plain.send(0x81, handshake.as_bytes()).await;
    eventually("ann is in", || rooms.stats().members == 1).await;
    let value = "v".repeat(1_000);
    rooms.room("arena").unwrap().set("x", &value).unwrap();
    assert_eq!(plain.until(&value).await.first, 0x81);
    // A message that it compresses all the same is against the RFC.
    plain.set("x", "1").await;
    assert_eq!(plain.closed().await.0, 1002);

    let off = serve(Router::new().merge(rooms.mount("/cloud"))).await;
    let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    assert!(!Raws::connect(off, offer).await.answer.contains("extensions"));
}

#[tokio::test]
async fn members_share_a_compressed_frame_and_small_ones_go_as_they_are() {
    let (addr, rooms) = server(unlimited_rate()).await;
    let variables = json!({ "x": "", "y": "" });
    let mut ann = Raws::join(addr, "ann", &variables).await;
    let mut bob = Raws::join(addr, "bob", &variables).await;
    let mut eve = Raws::join(addr, "eve", &variables).await;
    eventually("all are in", || rooms.stats().members == 3).await;
    let value = "abc".repeat(300);
    ann.set("x", &value).await;
    let frame = bob.until(&value).await;
    assert_eq!(frame.first, 0xc1);
    assert!(frame.payload.len() < 100, "{}", frame.payload.len());
    assert_eq!(eve.until(&value).await, frame);
    bob.set("y", "1").await;
    assert_eq!(ann.until("1").await.first, 0x81);
    // A snapshot is compressed, too.
    let mut sue = Raws::join(addr, "sue", &variables).await;
    assert_eq!(sue.until(&value).await.first, 0xc1);
}

/// Every member ends up with the same values, whatever was compressed on the way.
#[tokio::test]
async fn all_members_agree() {
    let (addr, rooms) = server(unlimited_rate()).await;
    let variables: Value = (0..8).map(|n| (format!("v{n}"), json!(""))).collect();
    let mut random = fastrand::Rng::with_seed(7);
    let mut players = Vec::new();
    for name in ["ann", "bob", "eve"] {
        players.push(Raws::join(addr, name, &variables).await);
    }
    eventually("all are in", || rooms.stats().members == 3).await;
    for n in 0..600 {
        let player = &mut players[n % 3];
        let value = format!("{n}-").repeat(random.usize(1..60));
        player.set(&format!("v{}", random.usize(0..8)), &value).await;
    }
    let room = rooms.room("arena").unwrap();
    let values = || room.variables().into_iter().collect::<BTreeMap<_, _>>();
    for player in &mut players {
        while player.view != values() {
            player.sets().await;
        }
    }
}

/// The window of a member ends with the batch that it was sent last.
#[tokio::test]
async fn a_batch_may_refer_to_the_one_before() {
    let (addr, rooms) = server(unlimited_rate()).await;
    let variables = json!({ "x": "" });
    let mut ann = Raws::join(addr, "ann", &variables).await;
    let mut bob = Raws::join(addr, "bob", &variables).await;
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n";
    let mut eve = Raws::connect(addr, offer).await;
    assert!(eve.answer.contains("server_no_context_takeover"), "{}", eve.answer);
    eve.handshake("eve", &variables).await;
    eventually("all are in", || rooms.stats().members == 3).await;
    let mut random = fastrand::Rng::with_seed(7);
    let noise: String = std::iter::repeat_with(|| random.alphanumeric()).take(300).collect();
    let mut lengths = Vec::new();
    for n in 0..3 {
        let value = format!("{noise}{n}");
        ann.set("x", &value).await;
        lengths.push(bob.until(&value).await.payload.len());
        // Eve forgets, as she has said.
        eve.inflater.reset(false);
        assert!(eve.until(&value).await.payload.len() > 200);
    }
    assert!(lengths[0] > 200 && lengths[1..].iter().all(|length| *length < 30), "{lengths:?}");
    // Whoever was sent something else has another window.
    bob.set("x", &noise).await;
    ann.until(&noise).await;
    let value = format!("{noise}!");
    ann.set("x", &value).await;
    assert!(bob.until(&value).await.payload.len() > 200);
}

#[tokio::test]
async fn a_compressed_message_may_come_in_fragments() {
    let (addr, rooms) = server(unlimited_rate()).await;
    let mut ann = Raws::join(addr, "ann", &json!({ "x": "" })).await;
    let set = json!({ "kind": "set", "variable": "x", "value": "v".repeat(500) }).to_string();
    let compressed = deflate(set.as_bytes());
    let (start, end) = compressed.split_at(compressed.len() / 2);
    ann.send(0x41, start).await;
    ann.send(0x89, b"ping").await;
    ann.send(0x00, b"").await;
    ann.send(0x80, end).await;
    let value = || rooms.room("arena").and_then(|room| room.get("x"));
    eventually("it is taken", || value().is_some_and(|value| value.len() == 500)).await;
    assert!(rooms.stats().members == 1);
}

#[tokio::test]
async fn a_message_that_is_too_long_or_junk_ends_the_session() {
    let (addr, _rooms) = server(unlimited_rate()).await;
    let bomb = deflate(&vec![b' '; 10 << 20]);
    assert!(bomb.len() < 20_000, "{}", bomb.len());
    let most = Limits::default().message_bytes;
    let too_long = (1009, format!("a message must have at most {most} bytes"));
    for (message, close) in [
        (&bomb, too_long),
        (&vec![0xff; 20], (1002, "a compressed message cannot be inflated".into())),
        (&deflate(b"\xff\xff"), (1007, "a text must be UTF-8".into())),
    ] {
        let mut ann = Raws::join(addr, "ann", &json!({ "x": "" })).await;
        ann.send(0xc1, message).await;
        assert_eq!(ann.closed().await, close);
    }
    let mut ann = Raws::join(addr, "ann", &json!({ "x": "" })).await;
    ann.send(0x41, b"").await;
    ann.send(0x81, b"x").await;
    assert_eq!(ann.closed().await, (1002, "a message began within another".into()));
}

/// Otherwise a few bytes would buy a lot of work.
#[tokio::test]
async fn a_message_counts_towards_the_rate_as_it_is_when_inflated() {
    let limits = unlimited_rate().bytes_per_second(50_000).byte_burst(50_000);
    let (addr, rooms) = server(limits).await;
    let mut ann = Raws::join(addr, "ann", &json!({ "x": "" })).await;
    eventually("ann is in", || rooms.stats().members == 1).await;
    let began = Instant::now();
    for n in 0..10 {
        ann.set("x", &format!("{n}").repeat(15_000)).await;
    }
    let room = rooms.room("arena").unwrap();
    eventually("all are taken", || room.get("x").unwrap().starts_with('9')).await;
    assert!(began.elapsed() > Duration::from_millis(1_500), "{:?}", began.elapsed());
}

/// Clients that other people wrote, each with its own inflater and window.
#[tokio::test(flavor = "multi_thread")]
async fn python_node_and_chromium_play_compressed() {
    let rooms = RoomRegistry::builder().limits(unlimited_rate()).build().unwrap();
    let mount = rooms.mount("/cloud").compression(Compression::From(64));
    let page = get(async || Html("<!doctype html>"));
    let addr = serve(Router::new().merge(mount).route("/", page)).await;
    let url = format!("ws://{addr}/cloud");
    let folder = env!("CARGO_MANIFEST_DIR");
    let python = format!("{folder}/target/clients/cloudiamond-scratch-0.1.0/bin/python");
    let programs = [
        (python, "deflate_client.py", "agreed PerMessageDeflate"),
        ("node".into(), "deflate_client.cjs", "agreed permessage-deflate"),
    ];
    for (program, script, agreed) in programs {
        let mut command = Command::new(program);
        command.args([&format!("{folder}/tests/clients/{script}"), &url]);
        let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = within("the first line", lines.next_line()).await.unwrap();
        assert_eq!(line.as_deref(), Some(agreed));
        ask(&url, &rooms).await;
    }

    let driver = Driver::start();
    let browser = driver.browser().await;
    browser.0.goto(&format!("http://{addr}/")).await.unwrap();
    let script = r#"
        const socket = new WebSocket(URL);
        const variables = { question: '', answer: '' };
        const handshake = { kind: 'handshake', room: 'arena', username: 'chromium', variables };
        socket.onopen = () => socket.send(JSON.stringify(handshake));
        socket.onmessage = ({ data }) => {
            for (const line of data.split('\n')) {
                const { variable, value } = JSON.parse(line);
                if (variable === 'question') {
                    socket.send(JSON.stringify({ kind: 'set', variable: 'answer', value }));
                }
            }
        };
        window.socket = socket;"#;
    browser.run(&script.replace("URL", &format!("'{url}'"))).await;
    browser.until("window.socket.extensions.includes('permessage-deflate')").await;
    ask(&url, &rooms).await;
    browser.0.close().await.unwrap();
}

/// Asks the other member questions that are long and much alike, and waits for each answer.
async fn ask(url: &str, rooms: &RoomRegistry) {
    eventually("the other one is in", || rooms.stats().members == 1).await;
    let mut ann = Client::join(url, "arena", "ann", &[("question", ""), ("answer", "")]).await;
    let mut random = fastrand::Rng::with_seed(7);
    let noise: String = std::iter::repeat_with(|| random.alphanumeric()).take(300).collect();
    for n in 0..50 {
        let question = format!("{noise}{n}").repeat(n % 4 + 1);
        ann.set("question", &question).await;
        ann.until("answer", &question).await;
    }
    ann.close().await;
    rooms.room("arena").unwrap().remove().await.unwrap();
    eventually("all are gone", || rooms.stats().members == 0).await;
}
