//! P2: a set reaches every other member, and is not echoed to its sender.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::Server;

#[tokio::test]
async fn a_set_reaches_every_other_member_and_not_its_sender() {
    let server = Server::start().await;
    let variables = &[("x", "0"), ("end", "")];
    let mut ann = server.join("room", "ann", variables).await;
    let mut ben = server.join("room", "ben", variables).await;
    let mut cem = server.join("room", "cem", variables).await;
    assert_eq!((ben.frame().await.len(), cem.frame().await.len()), (2, 2));

    ann.set("x", "1").await;
    ann.sync().await;
    assert_eq!(ben.frame().await, [("x".into(), "1".into())]);
    assert_eq!(cem.frame().await, [("x".into(), "1".into())]);

    ben.set("end", "ben").await;
    assert_eq!(ann.frame().await, [("end".into(), "ben".into())], "nothing before it");
}

#[tokio::test]
async fn own_sets_are_left_out_of_a_batch() {
    let server = Server::start().await;
    let variables = &[("x", ""), ("y", ""), ("end", "")];
    let mut ann = server.join("room", "ann", variables).await;
    let mut ben = server.join("room", "ben", variables).await;
    ben.frame().await;
    for i in 0..50 {
        ann.set("x", &i.to_string()).await;
        ben.set("y", &i.to_string()).await;
    }
    ann.sync().await;
    ben.sync().await;
    ann.set("end", "ann").await;
    let seen = ben.until("end", "ann").await;
    assert!(seen.iter().all(|(name, _)| name != "y"));
    assert_eq!(seen.iter().filter(|(name, _)| name == "x").count(), 50);
}

#[tokio::test]
async fn the_creator_receives_nothing_and_a_joiners_values_are_ignored() {
    let server = Server::start().await;
    let mut ann = server.join("room", "ann", &[("x", "ann's"), ("end", "")]).await;
    let mut ben = server.join("room", "ben", &[("x", "ben's"), ("end", "ben's")]).await;
    let mut snapshot = ben.frame().await;
    snapshot.sort();
    assert_eq!(snapshot, [("end".into(), "".into()), ("x".into(), "ann's".into())]);
    ben.set("end", "1").await;
    assert_eq!(ann.frame().await, [("end".into(), "1".into())], "nothing before it");
}

#[tokio::test]
async fn a_coalescing_room_sends_the_last_write_of_a_tick() {
    let builder = axum_cloud_variables::RoomRegistry::builder()
        .limits(common::unlimited_rate())
        .tick(std::time::Duration::from_millis(500))
        .coalesce(true);
    let server = Server::with(builder).await;
    let variables = &[("x", ""), ("end", "")];
    let mut ann = server.join("room", "ann", variables).await;
    let mut ben = server.join("room", "ben", variables).await;
    ben.frame().await;
    let long = "v".repeat(1_000);
    for i in 0..1_000 {
        ann.set("x", &format!("{i}{long}")).await;
    }
    ann.set("end", "1").await;
    let seen = ben.until("end", "1").await;
    // One leaves at once, the last with the tick.
    let writes = seen.iter().filter(|(name, _)| name == "x").count();
    assert_eq!((writes, &ben.view["x"]), (2, &format!("999{long}")));
}

#[tokio::test]
async fn a_room_without_variables_is_a_room() {
    let server = Server::start().await;
    let _ann = server.join("room", "ann", &[]).await;
    let _ben = server.join("room", "ben", &[]).await;
    server.members(2).await;
    assert_eq!(server.refusal("room", "cem", &[("x", "")]).await.0, 4001);
}
