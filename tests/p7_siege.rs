//! P7 and P8 under attack: strangers do their worst, at once, beside a game that continues.
//!
//! The server is a process of its own with its default limits, so that its memory can be measured. The
//! figures are printed. The long counts stay under 20,000 open files a process.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::time::Duration;

use common::{
    count,
    siege::{frame, handshake, head, read_to_end, siege, upgraded},
};
use tokio::{io::AsyncWriteExt, time::sleep};

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

#[tokio::test(flavor = "multi_thread")]
async fn a_game_plays_on_under_every_attack() {
    let time = Duration::from_secs(count(8, 40) as u64);
    let siege = siege("all at once", &[], time, |addr, strangers| {
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
    assert_eq!(siege.skipped, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_without_their_last_byte_cost_no_more_than_the_limit() {
    let connections = count(400, 16_000);
    let time = Duration::from_secs(count(8, 30) as u64);
    // This is the longest allowed message, as a client that knows the limit would send it.
    let len = axum_cloud_variables::Limits::default().message_bytes;
    let siege = siege("all but the last byte", &[], time, |addr, strangers| {
        for _ in 0..connections {
            strangers.spawn(sends_all_but_the_last_byte(addr.to_owned(), len));
        }
    })
    .await;
    // The rest is for the game, as in `siege`.
    let bound = connections * (len + 12 * 1024) + 8 * 1024 * 1024;
    let cost = siege.cost;
    assert_eq!(siege.skipped, 0);
    assert!(cost as usize * 1024 <= bound, "{cost} KiB");
}
