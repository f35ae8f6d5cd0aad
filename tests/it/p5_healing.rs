//! P5: the writer of an ignored value receives the room's value, so that its view is correct again.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use crate::common::{Server, unlimited_rate};
use axum_cloud_variables::{Limits, RoomRegistry, Schema};

async fn server(limits: Limits) -> Server {
    Server::with(RoomRegistry::builder().limits(limits)).await
}

#[tokio::test]
async fn a_value_over_the_limit_is_ignored_and_its_sender_healed() {
    let server = server(unlimited_rate().value_bytes(10)).await;
    let variables = &[("x", "0"), ("end", "")];
    let mut ann = server.join("room", "ann", variables).await;
    let mut ben = server.join("room", "ben", variables).await;
    ben.frame().await;
    ann.set("x", "1234567890").await;
    ann.sync().await;
    ann.set("x", "12345678901").await;
    assert_eq!(ann.frame().await, [("x".into(), "1234567890".into())], "P5");
    ann.set("end", "1").await;
    let seen = ben.until("end", "1").await;
    assert_eq!(seen, [("x".into(), "1234567890".into()), ("end".into(), "1".into())]);
}

#[tokio::test]
async fn a_flood_of_refused_writes_gets_one_correction_a_tick() {
    let tick = Duration::from_millis(200);
    let builder = RoomRegistry::builder().limits(unlimited_rate().value_bytes(10)).tick(tick);
    let server = Server::with(builder).await;
    let variables = &[("x", "0"), ("y", "0"), ("end", "")];
    let mut ann = server.join("room", "ann", variables).await;
    let mut ben = server.join("room", "ben", variables).await;
    ben.frame().await;
    let began = std::time::Instant::now();
    for _ in 0..500 {
        ann.set("x", "far too long a value").await;
        ann.set("y", "far too long a value").await;
    }
    ann.sync().await;
    ben.set("end", "1").await;
    let seen = ann.until("end", "1").await;
    // The first value is sent at once, then no more than one of each variable with each tick.
    let ticks = began.elapsed().as_millis() / tick.as_millis() + 1;
    let healed = seen.len() as u128 - 1;
    assert!((1..=2 * (ticks + 1)).contains(&healed), "{healed} corrections in {ticks} ticks");
    assert_eq!((&*ann.view["x"], &*ann.view["y"]), ("0", "0"));
    ann.set("end", "2").await;
    let seen = ben.until("end", "2").await;
    assert_eq!(seen.len(), 1, "nobody else hears of it");
}

#[tokio::test]
async fn a_writer_sees_its_write_between_two_refused_ones() {
    let builder = RoomRegistry::builder()
        .limits(unlimited_rate().value_bytes(10))
        .tick(Duration::from_millis(200))
        .settle(None);
    let server = Server::with(builder).await;
    let variables = &[("x", "0"), ("end", "")];
    let mut ann = server.join("room", "ann", variables).await;
    let mut ben = server.join("room", "ben", variables).await;
    ben.frame().await;
    // The first write is sent at once; the others wait for the tick, together.
    ann.set("end", "0").await;
    for value in ["far too long a value", "good", "far too long a value"] {
        ann.set("x", value).await;
    }
    ann.sync().await;
    ben.set("end", "1").await;
    ann.until("end", "1").await;
    assert_eq!(ann.view["x"], "good");
}

#[tokio::test]
async fn a_write_that_creates_no_variable_is_answered_too() {
    let limits = unlimited_rate().variables_per_room(1);
    let builder = RoomRegistry::builder().limits(limits).schema(Schema::Growing);
    let server = Server::with(builder).await;
    let mut ann = server.join("room", "ann", &[("x", "")]).await;
    let mut ben = server.join("room", "ben", &[]).await;
    ben.frame().await;
    ann.set("no place", "1").await;
    ann.sync().await;
    assert_eq!(ann.frame().await, [("no place".into(), String::new())]);
    ben.set("x", "1").await;
    assert_eq!(ann.frame().await, [("x".into(), "1".into())]);
    assert_eq!(ben.view.get("no place"), None);
}
