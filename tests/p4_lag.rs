//! P4: a member that reads slowly, or not at all, delays nobody and costs bounded memory. When it reads
//! again, it receives the current values.
//!
//! The server is a process of its own, so that its memory can be measured.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{Client, Process, within};

const VARIABLES: &[(&str, &str)] = &[("x", "start"), ("y", "start")];

/// Returns how much memory a flood of writes costs the server if some readers have stopped, in KiB.
async fn flood(count: usize, value_bytes: usize, stopped: usize) -> u64 {
    let server = Process::standalone(&["--messages-per-second", "0"]);
    let url = server.url();
    let join = |name: String| {
        let url = url.clone();
        async move { Client::join(&url, "room", &name, VARIABLES).await }
    };
    let mut writer = join("writer".into()).await;
    let mut readers = Vec::new();
    for i in 0..3 {
        readers.push(join(format!("reader{i}")).await);
    }
    let value = |i: usize| format!("{i:09}{}", "v".repeat(value_bytes - 9));
    // A server under this load needs this memory anyway.
    for i in 0..100 {
        writer.set("x", &value(i)).await;
    }
    for reader in &mut readers {
        reader.until("x", &value(99)).await;
    }
    let mut sleepers = Vec::new();
    for i in 0..stopped {
        sleepers.push(join(format!("sleeper{i}")).await);
    }
    server.reset_peak();
    let (before, _) = server.memory();
    let last = value(count - 1);
    let reading = readers.into_iter().map(|mut reader| {
        let last = last.clone();
        tokio::spawn(async move {
            while reader.view["x"] != last {
                reader.frame().await;
            }
        })
    });
    let reading: Vec<_> = reading.collect();
    for i in 0..count {
        writer.set("x", &value(i)).await;
    }
    for reader in reading {
        within("readers", reader).await.unwrap();
    }
    let (_, peak) = server.memory();
    // The readers missed everything, and end up with the room's values.
    writer.set("y", "end").await;
    for mut sleeper in sleepers {
        while sleeper.view["y"] != "end" || sleeper.view["x"] != last {
            sleeper.frame().await;
        }
    }
    let grown = peak.saturating_sub(before);
    println!("{count} x {value_bytes} B past {stopped} stopped: {before} KiB + {grown} KiB");
    grown
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_reader_costs_less_than_8_mb() {
    assert!(flood(20_000, 1_000, 1).await < 8 * 1024);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_large_values_less_than_16_mb() {
    assert!(flood(2_000, 100_000, 1).await < 16 * 1024);
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_stopped_readers_less_than_32_mb() {
    assert!(flood(20_000, 1_000, 20).await < 32 * 1024);
    assert!(flood(2_000, 100_000, 20).await < 32 * 1024);
}

#[tokio::test]
async fn a_client_that_writes_and_never_reads_stays() {
    use axum_cloud_variables::RoomRegistry;
    use std::time::Duration;

    let limits = common::unlimited_rate()
        .idle_timeout(Duration::from_millis(300))
        .ping_interval(Duration::from_millis(50));
    let server = common::Server::with(RoomRegistry::builder().limits(limits)).await;
    let mut writer = server.connect().await;
    writer.handshake("room", "writer", VARIABLES).await;
    server.members(1).await;
    // The writer answers no ping for several times the idle timeout.
    let mut pace = tokio::time::interval(Duration::from_millis(50));
    for i in 0..30 {
        pace.tick().await;
        writer.set("x", &i.to_string()).await;
        assert_eq!(server.rooms.stats().members, 1);
    }
    // Then the writer is silent.
    server.members(0).await;
}
