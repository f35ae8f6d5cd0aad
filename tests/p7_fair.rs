//! P7 and P8: a hundred strangers, half of them from one address, get no more than their share beside a
//! game that continues. Each test is one way to take more. The figures are printed.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::{
    future::Future,
    net::Ipv4Addr,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use axum::{
    body::Body,
    extract::Request,
    http::{Method, header},
};
use axum_cloud_variables::Limits;
use common::{
    Redis, count,
    siege::{Http, Siege, frame, names, read_to_end, siege, upgraded_from, worst_case},
};
use hyper::ext::Protocol;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::sleep,
};

const STRANGERS: u8 = 100;

/// The number of rooms that strangers have left.
static ROOMS: AtomicU64 = AtomicU64::new(0);

/// One of the strangers.
#[derive(Clone)]
struct Stranger {
    number: u8,
    server: String,
}

impl Stranger {
    /// Connects, and sends a handshake.
    async fn join(&self, room: &str, variables: &[(String, String)]) -> Option<TcpStream> {
        let mut socket = self.connect().await?;
        let variables: serde_json::Map<_, _> =
            variables.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
        let name = format!("s{}", self.number);
        let hello =
            json!({ "kind": "handshake", "room": room, "username": name, "variables": variables });
        socket.write_all(&frame(&hello.to_string())).await.ok()?;
        Some(socket)
    }

    async fn connect(&self) -> Option<TcpStream> {
        let address = match self.number {
            0..50 => Ipv4Addr::LOCALHOST,
            number => Ipv4Addr::new(127, 0, 1, number),
        };
        upgraded_from(address, &self.server).await
    }
}

/// Lets a hundred strangers attack again and again beside a game. Checks that each set of the game arrives
/// in time, and that memory is back to normal within ten seconds of the end.
async fn attack<F: Future<Output = Option<()>> + Send + 'static>(
    what: &str,
    args: &[&str],
    attack: impl Fn(Stranger) -> F + Copy + Send + Sync + 'static,
) -> Siege {
    let time = Duration::from_secs(count(4, 30) as u64);
    let siege = siege(what, args, time, |addr, strangers| {
        for number in 0..STRANGERS {
            let stranger = Stranger { number, server: addr.to_owned() };
            strangers.spawn(async move {
                loop {
                    _ = attack(stranger.clone()).await;
                    sleep(Duration::from_millis(100)).await;
                }
            });
        }
    })
    .await;
    assert_eq!(siege.skipped, 0, "each set reaches each player, but for the second of the joins");
    // The strangers share two cores with the server. Usually the latency is the same as before.
    let [before, _, during, _] = siege.p99;
    assert!(during < 3 * before.max(Duration::from_millis(100)), "{before:?}, then {during:?}");
    assert!(siege.restored < Duration::from_secs(10), "{:?}", siege.restored);
    siege
}

fn set(name: &str, value: &str) -> Vec<u8> {
    frame(&json!({ "kind": "set", "variable": name, "value": value }).to_string())
}

/// Reads and discards everything, and writes these bytes forever.
async fn flood(socket: TcpStream, bytes: Vec<u8>) -> Option<()> {
    let (mut reading, mut writing) = socket.into_split();
    tokio::select! {
        () = read_to_end(&mut reading) => {}
        () = async { while writing.write_all(&bytes).await.is_ok() {} } => {}
    }
    Some(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_full_of_values_leave_memory_for_a_game() {
    attack("rooms full of values", &[], async |stranger: Stranger| {
        let names: Vec<_> = (0..10).map(|n| (format!("v{n}"), String::new())).collect();
        let mut socket = stranger.join(&format!("mine{}", stranger.number), &names).await?;
        for (name, _) in &names {
            socket.write_all(&set(name, &"9".repeat(100_000))).await.ok()?;
        }
        read_to_end(&mut socket).await;
        Some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_who_write_all_that_they_may_do_not_drown_the_others() {
    attack("members at their full rate", &[], async |stranger: Stranger| {
        let names: Vec<_> = names().map(|name| (name, String::new())).collect();
        let socket = stranger.join("game", &names).await?;
        flood(socket, set("other", &"9".repeat(10_000))).await
    })
    .await;
}

/// Writes values that the others do not read.
async fn stall(mut socket: impl AsyncReadExt + AsyncWriteExt + Unpin, number: u8) -> Option<()> {
    let bytes = set(&format!("v{}", number % 10), &"9".repeat(30_000));
    for _ in 0..300 {
        socket.write_all(&bytes).await.ok()?;
        sleep(Duration::from_millis(30)).await;
    }
    Some(())
}

/// Checks the bound in `SECURITY.md` for these connections, plus the four rooms of these strangers.
fn assert_within(siege: &Siege, http: Http) {
    let limits = Limits::default();
    let rooms = 4 * (limits.backlog_bytes + 2 * limits.room_bytes);
    let bound = worst_case(STRANGERS.into(), http) + rooms;
    assert!(siege.cost as usize * 1024 <= bound, "{} KiB, at most {bound} bytes", siege.cost);
}

#[test]
fn the_worst_case_is_the_one_that_is_written_down() {
    let sessions = Limits::default().sessions;
    for http in [Http::One, Http::Two] {
        let gib = worst_case(sessions, http) as f64 / f64::from(1 << 30);
        let written = format!("{gib:.1} GiB");
        assert!(include_str!("../SECURITY.md").contains(&written), "{http:?}: {written}");
    }
}

fn ten() -> Vec<(String, String)> {
    (0..10).map(|n| (format!("v{n}"), String::new())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_stop_hold_little() {
    let siege = attack("readers that stop", &[], async |stranger: Stranger| {
        let room = format!("hall{}", stranger.number / 25);
        stall(stranger.join(&room, &ten()).await?, stranger.number).await
    })
    .await;
    assert_within(&siege, Http::One);
}

/// This is over HTTP/2, with a window of one byte.
#[tokio::test(flavor = "multi_thread")]
async fn a_window_of_nothing_holds_little() {
    let siege = attack("a window of nothing", &[], async |stranger: Stranger| {
        let stream = TokioIo::new(TcpStream::connect(&stranger.server).await.ok()?);
        let mut http = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        http.initial_stream_window_size(1).adaptive_window(false);
        let (mut requests, connection) = http.handshake(stream).await.ok()?;
        let connection = tokio::spawn(connection);
        let request = Request::builder()
            .method(Method::CONNECT)
            .extension(Protocol::from_static("websocket"))
            .uri(format!("http://{}/", stranger.server))
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .body(Body::empty())
            .unwrap();
        requests.ready().await.ok()?;
        let response = requests.send_request(request).await.ok()?;
        let mut socket = TokioIo::new(hyper::upgrade::on(response).await.ok()?);
        let room = format!("hall{}", stranger.number / 25);
        let (name, variables) = (format!("s{}", stranger.number), ten());
        let variables: serde_json::Map<_, _> =
            variables.into_iter().map(|(name, value)| (name, value.into())).collect();
        let hello =
            json!({ "kind": "handshake", "room": room, "username": name, "variables": variables });
        socket.write_all(&frame(&hello.to_string())).await.ok()?;
        let stalled = stall(socket, stranger.number).await;
        connection.abort();
        stalled
    })
    .await;
    assert_within(&siege, Http::Two);
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_of_nothing_are_rated() {
    attack("frames of nothing", &[], async |stranger: Stranger| {
        let mut socket = stranger.connect().await?;
        // This message never ends.
        socket.write_all(&[0x01, 0x80, 0, 0, 0, 0]).await.ok()?;
        flood(socket, [0x00, 0x80, 0, 0, 0, 0].repeat(1_000)).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_after_a_close_are_rated() {
    attack("bytes behind a close", &[], async |stranger: Stranger| {
        let mut socket = stranger.connect().await?;
        socket.write_all(&frame("no JSON")).await.ok()?;
        flood(socket, vec![0; 10_000]).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn joins_of_a_large_room_are_rated() {
    attack("joins of a large room", &[], async |stranger: Stranger| {
        let mut socket = stranger.join("big", &ten()).await?;
        for (name, _) in ten() {
            socket.write_all(&set(&name, &"9".repeat(14_000))).await.ok()?;
        }
        for _ in 0..10 {
            drop(stranger.join("big", &ten()).await);
        }
        Some(())
    })
    .await;
}

/// A node leaves rooms at the broker for players that come back, and others need the broker's memory too.
#[tokio::test(flavor = "multi_thread")]
async fn rooms_that_are_left_at_the_broker_leave_memory_for_a_game() {
    let redis = Redis::start("fair");
    attack("rooms left at the broker", &["--redis", &redis.url()], async |stranger: Stranger| {
        let values: Vec<_> = (0..10).map(|n| (format!("v{n}"), "9".repeat(14_000))).collect();
        for _ in 0..10 {
            let room = format!("left{}", ROOMS.fetch_add(1, Relaxed));
            drop(stranger.join(&room, &values).await);
        }
        Some(())
    })
    .await;
}
