//! P11 when brokers and connections fail in part: messages are lost, refused or too many.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use crate::common::{Server, ShakyBroker, eventually, unlimited_rate, within};
use axum_cloud_variables::{Limits, RoomRegistry, Schema, relay::RelayAnswer};

const X: &[(&str, &str)] = &[("x", "0")];

async fn nodes<const COUNT: usize>(broker: &Arc<ShakyBroker>, limits: Limits) -> [Server; COUNT] {
    let mut nodes = Vec::new();
    for _ in 0..COUNT {
        let builder = RoomRegistry::builder().schema(Schema::Growing).limits(limits.clone());
        nodes.push(Server::with(builder.relay(broker.clone())).await);
    }
    nodes.try_into().ok().unwrap()
}

#[tokio::test]
async fn a_member_that_leaves_during_an_outage_is_forgotten_after_it() {
    let broker: Arc<ShakyBroker> = Arc::default();
    let [node] = nodes(&broker, unlimited_rate()).await;
    let ann = node.join("arena", "ann", X).await;
    broker.is_away.store(true, SeqCst);
    ann.close().await;
    node.members(0).await;
    assert!(
        !node.rooms.shutdown(Duration::from_millis(100)).await.is_complete(),
        "the broker does not know"
    );
    assert_eq!(broker.sessions("arena"), 1);

    let [node] = nodes(&broker, unlimited_rate()).await;
    broker.is_away.store(false, SeqCst);
    let bob = node.join("arena", "bob", X).await;
    broker.is_away.store(true, SeqCst);
    bob.close().await;
    node.members(0).await;
    broker.is_away.store(false, SeqCst);
    eventually("the broker knows that bob has left", || broker.sessions("arena") == 1).await;
}

#[tokio::test]
async fn a_client_that_the_broker_refuses_creates_nothing() {
    let broker: Arc<ShakyBroker> = Arc::default();
    let [a, b] = nodes(&broker, unlimited_rate().members_per_room(1)).await;
    let mut ann = a.join("arena", "ann", X).await;
    assert_eq!(b.refusal("arena", "eve", &[("x", "0"), ("junk", "1")]).await.0, 4003);
    // Eve's variables would come before this in the order.
    ann.set("x", "1").await;
    let room = a.rooms.room("arena").unwrap();
    eventually("it came back", || room.get("x").as_deref() == Some("1")).await;
    assert_eq!(room.get("junk"), None);
}

#[tokio::test]
async fn a_room_has_no_more_variables_than_it_may_have() {
    let broker: Arc<ShakyBroker> = Arc::default();
    let [node] = nodes(&broker, unlimited_rate().variables_per_room(10)).await;
    let mut ann = node.join("arena", "ann", X).await;
    for is_away in [false, true] {
        broker.is_away.store(is_away, SeqCst);
        for n in 0..1_000 {
            ann.set(&format!("{is_away}{n}"), "1").await;
        }
        ann.sync().await;
    }
    broker.is_away.store(false, SeqCst);
    ann.set("x", "last").await;
    let room = node.rooms.room("arena").unwrap();
    eventually("all came back", || room.get("x").as_deref() == Some("last")).await;
    assert_eq!(room.variables().len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_writes_more_than_a_broker_takes_leaves_memory_for_the_others() {
    let broker: Arc<ShakyBroker> = Arc::default();
    let [node] = nodes(&broker, unlimited_rate().state_bytes(32 << 20)).await;
    let other = node.rooms.open("other").variables([("y", "0")]).await.unwrap();
    let mut ann = node.join("arena", "ann", X).await;
    for n in 0..600 {
        ann.set("x", &format!("{n}{}", "v".repeat(90_000))).await;
        other.set("y", "v".repeat(1_000)).unwrap();
    }
}

#[tokio::test]
async fn a_removed_room_does_not_come_back_by_a_node_that_did_not_hear_of_it() {
    let broker: Arc<ShakyBroker> = Arc::default();
    let [a, b] = nodes(&broker, unlimited_rate()).await;
    let _ann = a.join("arena", "ann", X).await;
    let mut bob = b.join("arena", "bob", X).await;
    broker.is_deaf.store(true, SeqCst);
    a.rooms.room("arena").unwrap().remove().await.unwrap();
    bob.set("x", "1").await;
    assert_eq!(bob.closed().await.0, 1001);
    assert_eq!(broker.revision("arena"), None);
}

#[tokio::test]
async fn a_room_whose_unlocking_was_not_heard_is_open() {
    let broker: Arc<ShakyBroker> = Arc::default();
    let [a, b] = nodes(&broker, unlimited_rate()).await;
    let _ann = a.join("arena", "ann", X).await;
    let mut bob = b.join("arena", "bob", X).await;
    let room = a.rooms.room("arena").unwrap();
    room.lock().await.unwrap();
    eventually("heard", || b.rooms.rooms("", 1)[0].locked).await;
    broker.is_deaf.store(true, SeqCst);
    room.unlock().await.unwrap();
    let join = b.refusal_or_join("arena", "eve", X);
    assert_eq!(bob.reading_until(join).await, None);
}

#[tokio::test]
async fn a_newcomer_is_refused_in_time_while_the_broker_is_silent() {
    let broker: Arc<ShakyBroker> = Arc::default();
    let [node] = nodes(&broker, unlimited_rate()).await;
    broker.is_silent.store(true, SeqCst);
    // If they waited one after another, it would take longer than any timeout here.
    let names: Vec<_> = (0..30).map(|n| format!("p{n}")).collect();
    let all = names.iter().map(|name| node.refusal("arena", name, X));
    let refusals = within("all", futures_util::future::join_all(all)).await;
    assert!(refusals.iter().all(|(code, _)| *code == 4003));
}

#[tokio::test]
async fn a_write_that_the_broker_lost_is_sent_again() {
    let broker: Arc<ShakyBroker> = Arc::default();
    let [a, b] = nodes(&broker, unlimited_rate()).await;
    let mut ann = a.join("arena", "ann", X).await;
    let mut bob = b.join("arena", "bob", X).await;
    broker.is_deaf.store(true, SeqCst);
    ann.set("x", "1").await;
    eventually("the broker takes it in", || broker.revision("arena") == Some(1)).await;
    broker.lose("arena");
    broker.is_deaf.store(false, SeqCst);
    bob.until("x", "1").await;
}

/// A node's write from before the end of its lease may reach the broker when the node is back.
#[tokio::test]
async fn a_write_of_before_that_comes_late_changes_nothing() {
    let broker: Arc<ShakyBroker> = Arc::default();
    let [a, b] = nodes(&broker, unlimited_rate()).await;
    let mut ann = a.join("arena", "ann", X).await;
    let mut bob = b.join("arena", "bob", X).await;
    for n in 0..10 {
        ann.set("x", &format!("before {n}")).await;
        bob.until("x", &format!("before {n}")).await;
    }
    broker.end_lease_of("arena", "ann");
    ann.set("x", "lost").await;
    assert_eq!(ann.closed().await.0, 1012);
    let mut ann = a.join("arena", "ann", X).await;
    assert_eq!(broker.repeat("arena").await, RelayAnswer::Fenced);
    ann.set("x", "after").await;
    let seen = bob.until("x", "after").await;
    assert_eq!(seen, [("x".to_owned(), "after".to_owned())]);
}

/// Variables that the host dropped stay away, even if a client that does not know of it sets them.
#[tokio::test]
async fn a_variable_that_is_set_while_it_is_dropped_does_not_come_back() {
    let broker: Arc<ShakyBroker> = Arc::default();
    let node = async || {
        Server::with(RoomRegistry::builder().limits(unlimited_rate()).relay(broker.clone())).await
    };
    let (a, b) = (node().await, node().await);
    let old = &[("old", "0"), ("stays", "0")];
    a.rooms.open("arena").variables(old.iter().copied()).await.unwrap();
    let mut bob = b.join("arena", "bob", old).await;
    broker.is_deaf.store(true, SeqCst);
    a.rooms.open("arena").variables([("stays", "0"), ("new", "1")]).await.unwrap();
    eventually("it is dropped", || broker.variables("arena") == ["stays", "new"]).await;
    let revision = broker.revision("arena");
    bob.set("old", "late").await;
    eventually("the broker hears of it", || broker.revision("arena") > revision).await;
    assert_eq!(broker.variables("arena"), ["stays", "new"]);
    // When the node receives messages again, its member is notified.
    broker.is_deaf.store(false, SeqCst);
    a.rooms.room("arena").unwrap().set("stays", "1").unwrap();
    assert_eq!(bob.closed().await.0, 4001);
    let mut eve = b.join("arena", "eve", &[("stays", "0"), ("new", "0")]).await;
    eve.until("stays", "1").await;
}

/// Each node counts the variables that it creates, and the broker those of all nodes.
#[tokio::test]
async fn nodes_together_create_no_more_variables_than_a_room_may_have() {
    let broker: Arc<ShakyBroker> = Arc::default();
    let [a, b] = nodes(&broker, unlimited_rate().variables_per_room(10)).await;
    let mut ann = a.join("arena", "ann", X).await;
    let mut bob = b.join("arena", "bob", X).await;
    for n in 0..9 {
        ann.set(&format!("a{n}"), "1").await;
        bob.set(&format!("b{n}"), "1").await;
    }
    ann.set("x", "last").await;
    bob.until("x", "last").await;
    bob.set("x", "really").await;
    ann.until("x", "really").await;
    for node in [&a, &b] {
        let room = node.rooms.room("arena").unwrap();
        let names: Vec<_> = room.variables().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, broker.variables("arena"));
        assert_eq!(names.len(), 10);
    }
}

/// The node that has the name is gone, but its lease is not over.
#[tokio::test]
async fn a_returning_client_at_another_node_is_asked_to_try_again() {
    let broker: Arc<ShakyBroker> = Arc::default();
    let limits = unlimited_rate().takeover_probe(Duration::from_millis(100));
    let [a, b] = nodes(&broker, limits).await;
    let _ann = a.join("arena", "ann", X).await;
    let mut bob = b.join("arena", "bob", X).await;
    // The node receives nothing and sends nothing, as if it were killed.
    broker.is_deaf.store(true, SeqCst);
    let refused = b.refusal("arena", "ann", X);
    assert_eq!(bob.reading_until(refused).await.0, 4003, "4002 would keep it away for ever");
}

/// A host opens its rooms before the runtime that serves them exists.
#[tokio::test]
async fn a_room_outlives_the_runtime_that_opened_it() {
    let broker: Arc<ShakyBroker> = Arc::default();
    let [a, b] = nodes(&broker, unlimited_rate()).await;
    let rooms = a.rooms.clone();
    let open = move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async { rooms.open("arena").variables(X.iter().copied()).await.unwrap() });
    };
    std::thread::spawn(open).join().unwrap();
    let mut ann = a.join("arena", "ann", X).await;
    let mut bob = b.join("arena", "bob", X).await;
    ann.set("x", "1").await;
    bob.until("x", "1").await;
    bob.set("x", "2").await;
    ann.until("x", "2").await;
}

/// The host changes its mind before the broker has received the first change.
#[tokio::test]
async fn a_variable_that_is_opened_again_while_its_drop_waits_is_there() {
    let broker: Arc<ShakyBroker> = Arc::default();
    let relay = RoomRegistry::builder().limits(unlimited_rate()).relay(broker.clone());
    let node = Server::with(relay).await;
    let open = async |names: &[&str]| {
        let variables = names.iter().map(|name| (*name, "0"));
        node.rooms.open("arena").variables(variables).await.unwrap()
    };
    open(&["a", "b"]).await;
    broker.is_away.store(true, SeqCst);
    open(&["a"]).await;
    open(&["a", "b"]).await;
    open(&["a", "b", "c"]).await;
    open(&["a", "b"]).await;
    broker.is_away.store(false, SeqCst);
    let room = open(&["a", "b"]).await;
    room.set("a", 1).unwrap();
    eventually("all came back", || room.get("a").as_deref() == Some("1")).await;
    assert_eq!(broker.variables("arena"), ["a", "b"]);
    let names: Vec<_> = room.variables().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

/// Also if nobody is in a room yet.
#[tokio::test]
async fn it_shows_that_the_broker_is_away() {
    let broker: Arc<ShakyBroker> = Arc::default();
    let [node] = nodes(&broker, unlimited_rate()).await;
    broker.is_away.store(true, SeqCst);
    assert_eq!(node.refusal("arena", "ann", X).await.0, 4003);
    let stats = node.rooms.relay_stats().unwrap();
    assert!(stats.is_failing && stats.last_error.is_some(), "{stats:?}");
    broker.is_away.store(false, SeqCst);
    let _ann = node.join("arena", "ann", X).await;
    assert!(!node.rooms.relay_stats().unwrap().is_failing);
}
