//! P2: a set reaches every other member, and is not echoed to its sender.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use crate::common::Server;
use axum_cloud_variables::{Dialect, RoomRegistry};
use tokio::time::timeout;

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

/// The room's task sends to some of its members at a time.
#[tokio::test]
async fn a_set_reaches_a_hundred_members() {
    let server = Server::start().await;
    let mut members = Vec::new();
    for n in 0..100 {
        members.push(server.join("room", &format!("p{n}"), &[("x", "0")]).await);
    }
    for member in &mut members[1..] {
        member.until("x", "0").await;
    }
    members[0].set("x", "1").await;
    for member in &mut members[1..] {
        member.until("x", "1").await;
    }
}

/// Meanwhile the room's task waits for something later: a correction.
#[tokio::test]
async fn a_set_in_a_quiet_room_leaves_at_once_even_if_a_correction_is_due() {
    let settle = Duration::from_secs(60);
    let server = Server::with(RoomRegistry::builder().settle(Some(settle))).await;
    let mut ann = server.join("room", "ann", &[("x", "0")]).await;
    let mut ben = server.join("room", "ben", &[("x", "0")]).await;
    ben.frame().await;
    for round in 0..20 {
        // Both write before either has seen the other's value.
        ann.set("x", &format!("a{round}")).await;
        ben.set("x", &format!("b{round}")).await;
        ann.until("x", &format!("b{round}")).await;
        ben.until("x", &format!("a{round}")).await;
    }
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
        .limits(crate::common::unlimited_rate())
        .tick(Duration::from_millis(500))
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
    // One write is sent at once, the last one with the tick.
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

/// A program with one connection answers a request by resetting the variable. Its answer comes back once,
/// because the server cannot know that it had already received the request.
#[tokio::test]
async fn a_bot_hears_its_answer_once_at_most() {
    for dialect in [Dialect::Spec, Dialect::Scratch] {
        let server = Server::start().await;
        let mut bot = server.join_in(dialect, "room", "bot", &[("☁ queue", "")]).await;
        let mut ann = server.join_in(dialect, "room", "ann", &[("☁ queue", "")]).await;
        ann.set("☁ queue", "1234").await;
        let mut heard = Vec::new();
        // If it did not end, the fourth would come after seven times `settle`.
        while let Ok(frame) = timeout(Duration::from_secs(5), bot.frame()).await {
            for (name, value) in frame {
                heard.push(value);
                bot.set(&name, "0").await;
            }
        }
        assert_eq!(heard, ["1234", "0"], "{dialect:?}");
        ann.until("☁ queue", "0").await;
    }
}

/// Its snapshot did not contain the variable, so it cannot have seen another value.
#[tokio::test]
async fn a_variable_that_one_member_alone_ever_wrote_does_not_come_back() {
    let server = Server::start().await;
    let mut ann = server.join_in(Dialect::Scratch, "room", "ann", &[]).await;
    ann.set("☁ other", "1").await;
    ann.sync().await;
    let mut ben = server.join_in(Dialect::Scratch, "room", "ben", &[]).await;
    ben.frame().await;
    for value in ["1", "2"] {
        ben.set("☁ fresh", value).await;
        let echo = timeout(Duration::from_secs(1), ben.frame()).await;
        assert!(echo.is_err(), "{echo:?}");
    }
}
