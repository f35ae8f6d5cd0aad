//! P11 for joins: a place is reserved at the broker before the newcomer replaces anybody, and a join that
//! fails on the way gives it back.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use crate::common::{Server, ShakyBroker, eventually, unlimited_rate};
use axum_cloud_variables::{
    Identity, RoomRegistry, RoomRegistryBuilder,
    policy::{Join, Policy, Rejection},
};

const X: &[(&str, &str)] = &[("x", "0")];

fn builder(broker: &Arc<ShakyBroker>) -> RoomRegistryBuilder {
    RoomRegistry::builder().limits(unlimited_rate().members_per_room(3)).relay(broker.clone())
}

/// A policy by which all clients are one person.
struct OnePerson;

impl Policy for OnePerson {
    async fn admit(&self, _: &Join<'_>) -> Result<Identity, Rejection> {
        Ok(Identity::new().with_id("7"))
    }
}

#[tokio::test]
async fn a_newcomer_that_is_refused_puts_nobody_out() {
    let broker: Arc<ShakyBroker> = Arc::default();
    let server = Server::with(builder(&broker).policy(OnePerson)).await;
    let mut first = server.join("arena", "ann", X).await;
    let room = server.rooms.room("arena").unwrap();
    room.lock().await.unwrap();
    let refusal = server.refusal("arena", "ann", X).await;
    assert_eq!(refusal, (4003, "the room is locked: try again later".into()));
    broker.is_away.store(true, SeqCst);
    assert_eq!(server.refusal("arena", "ann", X).await.0, 4003);
    broker.is_away.store(false, SeqCst);
    first.sync().await;
    assert_eq!(room.len(), 1);
    // When the newcomer is let in, it takes the place.
    room.unlock().await.unwrap();
    let _second = server.join("arena", "ann", X).await;
    assert_eq!(first.closed().await, (4002, "you joined from another tab: go on there".into()));
    assert_eq!((room.len(), broker.sessions("arena")), (1, 1));
}

/// A connection stalls and is replaced by another; its requests arrive when it continues.
#[tokio::test]
async fn a_join_that_comes_late_takes_no_place() {
    let broker: Arc<ShakyBroker> = Arc::default();
    let server = Server::with(builder(&broker)).await;
    let mut ann = server.join("arena", "ann", X).await;
    for delay in [1_100, 3_000] {
        broker.late_joins.store(delay, SeqCst);
        for name in ["p1", "p2", "p3"] {
            let refused = server.refusal("arena", name, X);
            assert_eq!(ann.reading_until(refused).await.0, 4003);
        }
        broker.late_joins.store(0, SeqCst);
        let arrived = tokio::time::sleep(Duration::from_millis(delay + 200));
        ann.reading_until(arrived).await;
        assert_eq!(broker.sessions("arena"), 1);
    }
    let (_ben, _eve) = (server.join("arena", "ben", X).await, server.join("arena", "eve", X).await);
}

#[tokio::test]
async fn joins_during_an_outage_leave_nothing_to_be_told() {
    let broker: Arc<ShakyBroker> = Arc::default();
    let server = Server::with(builder(&broker)).await;
    let mut ann = server.join("arena", "ann", X).await;
    broker.is_away.store(true, SeqCst);
    let names: Vec<_> = (0..200).map(|n| format!("p{n}")).collect();
    let all = names.iter().map(|name| server.refusal("arena", name, X));
    let refusals = ann.reading_until(futures_util::future::join_all(all)).await;
    assert!(refusals.iter().all(|(code, _)| *code == 4003));
    broker.is_away.store(false, SeqCst);
    ann.set("x", "1").await;
    let room = server.rooms.room("arena").unwrap();
    eventually("the broker is told again", || room.get("x").as_deref() == Some("1")).await;
    let most = broker.most_left.load(SeqCst);
    assert!(most <= 1, "{most} sessions were over at once");
    assert_eq!(broker.sessions("arena"), 1);
}

#[tokio::test]
async fn a_room_has_as_many_members_as_its_host_says_on_all_nodes() {
    let broker: Arc<ShakyBroker> = Arc::default();
    let (a, b) = (Server::with(builder(&broker)).await, Server::with(builder(&broker)).await);
    a.rooms.open("duel").variables(X.iter().copied()).max_members(2).await.unwrap();
    let _p1 = a.join("duel", "p1", X).await;
    let mut p2 = b.join("duel", "p2", X).await;
    for node in [&a, &b] {
        let refused = node.refusal_or_join("duel", "p3", X);
        assert_eq!(p2.reading_until(refused).await, Some(4003));
    }
    // The node that opens the room again decides for all nodes.
    b.rooms.open("duel").max_members(3).await.unwrap();
    eventually("all know", || a.rooms.rooms("", 1)[0].max_members == 3).await;
    let _p3 = a.join("duel", "p3", X).await;
}
