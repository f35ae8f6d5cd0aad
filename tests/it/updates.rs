//! Values that build on others: a set counts only if the room still has the value that its writer saw, and
//! its writer is informed of the outcome. Two writers that each add one add two.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::{sync::Arc, time::Duration};

use crate::common::{Client, Redis, Server, ShakyBroker, redis_nodes, unlimited_rate, within};
use axum_cloud_variables::{
    Dialect, Limits, RoomRegistry, Schema, SetError, UpdateError, client, policy::Rights,
};
use serde_json::{Value, json};

const SCORE: &[(&str, &str)] = &[("score", "0"), ("x", "0")];

/// Sends a set with these terms.
async fn set_if(client: &mut Client, name: &str, value: &str, was: Option<&str>, ack: u64) {
    let set = json!({ "kind": "set", "variable": name, "value": value, "was": was, "ack": ack });
    client.send(&set.to_string()).await;
}

/// Returns the messages up to and including the answer with this number.
async fn until_ack(client: &mut Client, ack: u64) -> Vec<Value> {
    let mut all = Vec::new();
    loop {
        for line in within("an answer", client.text()).await.split('\n') {
            all.push(serde_json::from_str::<Value>(line).unwrap());
        }
        if all.last().is_some_and(|last| last["ack"] == ack) {
            return all;
        }
    }
}

/// Lets 20 clients add one to a score, 50 times each, beside hosts that do so 20 times each.
async fn a_thousand(nodes: &[Server]) {
    let mut members = Vec::new();
    for n in 0..20 {
        let url = nodes[n % nodes.len()].url();
        let name = format!("p{n}");
        let joining = client::Client::connect(&url, "arena", &name, SCORE.iter().copied());
        let client = joining.await.unwrap();
        members.push(tokio::spawn(async move {
            for _ in 0..50 {
                let add = |old: &str| old.parse::<u64>().unwrap() + 1;
                client.update("score", add).await.unwrap();
            }
            client
        }));
    }
    let mut hosts = Vec::new();
    for node in nodes {
        let room = node.rooms.room("arena").unwrap();
        hosts.push(tokio::spawn(async move {
            for _ in 0..20 {
                room.update("score", |old| old.parse::<u64>().unwrap() + 1).await.unwrap();
            }
        }));
    }
    // A node unloads its room when the last member there leaves, so all members stay until each node was
    // checked.
    let mut stay = Vec::new();
    for member in members {
        stay.push(member.await.unwrap());
    }
    for host in hosts {
        host.await.unwrap();
    }
    let all = (1_000 + 20 * nodes.len()).to_string();
    for node in nodes {
        let room = node.rooms.room("arena").unwrap();
        let there = async {
            while room.get("score").as_ref() != Some(&all) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within(&all, there).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_addition_is_lost_on_one_node() {
    a_thousand(&[Server::with(RoomRegistry::builder().limits(unlimited_rate())).await]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_addition_is_lost_on_three_nodes() {
    let redis = Redis::start("updates");
    a_thousand(&redis_nodes(&redis, 3).await).await;
}

/// With default settings and their rate, beside a running game.
#[tokio::test(flavor = "multi_thread")]
async fn additions_over_the_rate_wait_for_their_turn() {
    let limits = Limits::default().messages_per_second(100).message_burst(10);
    let server = Server::with(RoomRegistry::builder().limits(limits)).await;
    let mut ann = server.join("arena", "ann", SCORE).await;
    let mut bob = server.join("arena", "bob", SCORE).await;
    for n in 1..=40 {
        ann.set("x", &n.to_string()).await;
        set_if(&mut ann, "score", &n.to_string(), Some(&(n - 1).to_string()), n).await;
    }
    let told = until_ack(&mut ann, 40).await;
    assert!(told.iter().all(|told| told["kind"] == "ack" && told["ok"] == true), "{told:?}");
    assert_eq!(told.len(), 40, "each is told of");
    bob.until("score", "40").await;
    let room = server.rooms.room("arena").unwrap();
    assert_eq!(room.get("x").as_deref(), Some("40"));
}

/// The answer comes after the room's value, so that a refused writer knows on which value to build.
#[tokio::test]
async fn a_refused_writer_receives_the_rooms_value_first() {
    let policy = Rights::new().host_only("x");
    let server = Server::with(RoomRegistry::builder().policy(policy)).await;
    let mut ann = server.join("arena", "ann", SCORE).await;
    let mut bob = server.join("arena", "bob", SCORE).await;
    assert_eq!(bob.frame().await.len(), 2);
    let ack = |ack: u64, ok: bool| json!({ "kind": "ack", "ack": ack, "ok": ok });
    let set = |name, value| json!({ "kind": "set", "variable": name, "value": value });
    set_if(&mut ann, "score", "5", Some("0"), 1).await;
    assert_eq!(until_ack(&mut ann, 1).await, [ack(1, true)]);
    set_if(&mut bob, "score", "1", Some("0"), 7).await;
    let told = until_ack(&mut bob, 7).await;
    assert_eq!(told.last(), Some(&ack(7, false)));
    assert_eq!(told[told.len() - 2], set("score", "5"), "{told:?}");
    // A set with a number but without terms counts, and its writer is informed.
    set_if(&mut bob, "score", "6", None, 8).await;
    assert_eq!(until_ack(&mut bob, 8).await, [ack(8, true)]);
    // The same holds for a set that a policy or a limit refuses.
    set_if(&mut bob, "x", "1", Some("0"), 9).await;
    assert_eq!(until_ack(&mut bob, 9).await, [set("x", "0"), ack(9, false)]);
    let long = "1".repeat(110_000);
    set_if(&mut bob, "score", &long, Some("6"), 10).await;
    assert_eq!(until_ack(&mut bob, 10).await, [set("score", "6"), ack(10, false)]);
    // Nobody else receives an answer.
    ann.set("score", "7").await;
    bob.until("score", "7").await;
    while ann.next_frame_or_none().await.is_some() {}
}

/// A variable that is not there has the empty value; numbers of Scratch clients are their texts.
#[tokio::test]
async fn missing_variables_are_empty_and_numbers_are_texts() {
    let server = Server::with(RoomRegistry::builder().schema(Schema::Growing)).await;
    let mut ann = server.join("arena", "ann", &[]).await;
    let mut cat = server.join_in(Dialect::Scratch, "arena", "cat", &[]).await;
    set_if(&mut ann, "new", "1", Some("0"), 1).await;
    assert_eq!(until_ack(&mut ann, 1).await.last().unwrap()["ok"], false);
    set_if(&mut ann, "new", "1", Some(""), 2).await;
    assert_eq!(until_ack(&mut ann, 2).await.last().unwrap()["ok"], true);
    cat.send(r#"{"method":"set","name":"new","value":5}"#).await;
    ann.until("new", "5").await;
    set_if(&mut ann, "new", "6", Some("5"), 3).await;
    assert_eq!(until_ack(&mut ann, 3).await.last().unwrap()["ok"], true);
}

#[tokio::test]
async fn a_host_that_cannot_set_is_told_why() {
    let rooms = RoomRegistry::new();
    let room = rooms.open("arena").variables([("score", "41")]).await.unwrap();
    assert_eq!(room.update("score", |old| old.parse().unwrap_or(0) + 1).await, Ok("42".into()));
    let unknown = Err(UpdateError::Set(SetError::UnknownVariable));
    assert_eq!(room.update("other", |_| 1).await, unknown);
    // Somebody else is always faster.
    let (other, mut calls) = (room.clone(), 0);
    let contended = room.update("score", |_| {
        calls += 1;
        other.set("score", calls).unwrap();
        0
    });
    assert_eq!(contended.await, Err(UpdateError::Contested));
    room.remove().await.unwrap();
    assert_eq!(room.update("score", |_| 1).await, Err(UpdateError::Set(SetError::Gone)));
}

/// While the broker is away, the outcome is unknown.
#[tokio::test(start_paused = true)]
async fn without_the_broker_a_host_is_told_that_nobody_knows() {
    let broker: Arc<ShakyBroker> = Arc::default();
    let rooms = RoomRegistry::builder().relay(broker.clone()).build().unwrap();
    let room = rooms.open("arena").variables([("score", "0")]).await.unwrap();
    assert_eq!(room.update("score", |_| 1).await, Ok("1".into()));
    broker.is_away.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(room.update("score", |_| 2).await, Err(UpdateError::Unknown));
}
