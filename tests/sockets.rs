//! Sockets that are blocked, half-closed or written to by other tasks: there is always a task that
//! writes, and the writes are in order.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::Duration,
};

use axum::Router;
use axum_cloud_variables::RoomRegistry;
use common::{Client, Server, eventually, serve, unlimited_rate, within};
use futures_util::{SinkExt, StreamExt};
use tokio::{
    runtime::{self, Runtime},
    time::sleep,
};
use tokio_tungstenite::tungstenite::Message;

const VARIABLES: &[(&str, &str)] = &[("x", "0"), ("y", "0"), ("z", "0"), ("w", "0")];

#[tokio::test]
async fn a_host_may_write_from_a_runtime_that_is_gone_the_next_moment() {
    let server = Server::start().await;
    let mut ann = server.join("room", "ann", VARIABLES).await;
    let mut ben = server.join("room", "ben", VARIABLES).await;
    let room = server.rooms.room("room").unwrap();
    let host = thread::spawn(move || {
        let runtime = runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async { room.set("x", "1").unwrap() });
    });
    host.join().unwrap();
    within("the host's", ann.until("x", "1")).await;
    ben.set("y", "2").await;
    within("ben's", ann.until("y", "2")).await;
}

#[test]
fn a_room_may_be_opened_in_a_runtime_that_is_gone_when_it_is_played() {
    let rooms = RoomRegistry::new();
    let variables = VARIABLES.iter().copied();
    let before = Runtime::new().unwrap();
    let room = before.block_on(async { rooms.open("room").variables(variables).await.unwrap() });
    drop(before);
    Runtime::new().unwrap().block_on(async {
        let address = serve(Router::new().merge(rooms.mount("/cloud"))).await;
        let url = format!("ws://{address}/cloud");
        let mut ann = Client::join(&url, "room", "ann", VARIABLES).await;
        let mut ben = Client::join(&url, "room", "ben", VARIABLES).await;
        thread::spawn(move || room.set("x", "1").unwrap()).join().unwrap();
        within("the host's", ann.until("x", "1")).await;
        ben.set("y", "2").await;
        within("ben's", ann.until("y", "2")).await;
    });
}

/// A reader that lagged reads again when there is no memory for its snapshot. It waits, and nobody else
/// does.
#[tokio::test]
async fn a_reader_that_waits_for_memory_disturbs_nobody() {
    let limits = unlimited_rate().state_bytes(2_000_000).backlog_bytes(100_000);
    let rooms = RoomRegistry::builder().limits(limits).build().unwrap();
    let (told, address) = mpsc::channel();
    let app = Router::new().merge(rooms.mount("/cloud"));
    // All sessions share one thread, so that one that does not yield is noticed.
    thread::spawn(move || {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            told.send(serve(app).await).unwrap();
            std::future::pending::<()>().await;
        });
    });
    let url = format!("ws://{}/cloud", address.recv().unwrap());
    let mut writer = Client::join(&url, "room", "writer", VARIABLES).await;
    let mut slow = Client::join(&url, "room", "slow", VARIABLES).await;
    for i in 0..200 {
        writer.set("x", &format!("{i:03}{}", "v".repeat(90_000))).await;
        writer.sync().await;
    }
    for name in ["y", "z", "w"] {
        writer.set(name, &"w".repeat(90_000)).await;
    }
    writer.sync().await;
    for length in [90_000, 20_000, 1_000] {
        for i in 0.. {
            let value = "v".repeat(length);
            let opened = rooms.open(format!("{length} {i}")).variables([("a", value)]).await;
            if opened.is_err() {
                break;
            }
        }
    }
    // A socket that accepts nothing for five seconds drops its batches.
    sleep(Duration::from_millis(5_500)).await;
    tokio::spawn(async move { while let Some(Ok(_)) = slow.socket.next().await {} });
    for _ in 0..20 {
        within("the answer to a ping", writer.sync()).await;
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_close_is_answered_behind_the_frame_that_blocks() {
    let server = Server::start().await;
    let mut slow = server.join("room", "slow", VARIABLES).await;
    let room = server.rooms.room("room").unwrap();
    // This is more than sockets buffer.
    for i in 0..200 {
        room.set("x", format!("{i:03}{}", "v".repeat(90_000))).unwrap();
        sleep(Duration::from_millis(2)).await;
    }
    slow.socket.send(Message::Close(None)).await.unwrap();
    server.members(0).await;
    while let Some(message) = within("the end", slow.socket.next()).await {
        message.expect("whole frames, and the answer to the close");
    }
    eventually("no session", || server.rooms.stats().sessions == 0).await;
}

/// RFC 6455, section 5.5.1: nothing is sent after a close.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_goes_behind_the_answer_to_a_close() {
    let builder = RoomRegistry::builder().limits(unlimited_rate()).tick(Duration::from_micros(50));
    let server = Server::with(builder).await;
    let variables = VARIABLES.iter().copied();
    let room = server.rooms.open("room").variables(variables).await.unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let host = thread::spawn({
        let is_over = is_over.clone();
        move || {
            for i in 0.. {
                if is_over.load(Relaxed) {
                    return;
                }
                room.set("x", i).unwrap();
                thread::sleep(Duration::from_micros(20));
            }
        }
    });
    for i in 0..100 {
        let mut ann = server.connect().await;
        ann.handshake("room", &format!("ann{i}"), VARIABLES).await;
        ann.frame().await;
        ann.socket.send(Message::Close(None)).await.unwrap();
        while let Some(message) = within("the end", ann.socket.next()).await {
            message.unwrap();
        }
    }
    is_over.store(true, Relaxed);
    host.join().unwrap();
}

#[tokio::test]
async fn the_last_of_many_pings_before_the_handshake_is_answered() {
    let server = Server::start().await;
    let mut ann = server.connect().await;
    for i in 0..200_u8 {
        ann.socket.feed(Message::Ping(vec![i].into())).await.unwrap();
    }
    ann.socket.flush().await.unwrap();
    let last = async {
        while let Some(message) = ann.socket.next().await {
            if message.unwrap() == Message::Pong(vec![199].into()) {
                return;
            }
        }
        panic!("closed");
    };
    within("the last pong", last).await;
}
