//! P11 for the host's actions on a room: each has its place in the room's order, on every node.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use axum_cloud_variables::{RoomRegistry, Schema};
use common::{Client, Redis, Server, ShakyBroker, eventually, redis_nodes, unlimited_rate};
use tokio::time::timeout;

const X: &[(&str, &str)] = &[("x", "0")];

async fn node(broker: &Arc<ShakyBroker>, schema: Schema) -> Server {
    let builder = RoomRegistry::builder().schema(schema).limits(unlimited_rate());
    Server::with(builder.relay(broker.clone())).await
}

async fn stays(client: &mut Client) {
    let closed = timeout(Duration::from_millis(300), client.closed()).await;
    assert!(closed.is_err(), "{closed:?}");
}

#[tokio::test]
async fn a_close_puts_out_those_who_were_there_before_it() {
    let broker: Arc<ShakyBroker> = Arc::default();
    let (a, b) = (node(&broker, Schema::Fixed).await, node(&broker, Schema::Fixed).await);
    let room = a.rooms.open("arena").variables(X.iter().copied()).await.unwrap();
    let mut ann = a.join("arena", "ann", X).await;
    let mut ben = b.join("arena", "ben", X).await;
    broker.delay.store(150, SeqCst);
    room.close().await.unwrap();
    assert_eq!(ann.closed().await.0, 1001);
    // The host opens the next match, and clients join at once, one at the node that does not know of the
    // close yet.
    let room = a.rooms.open("arena").variables(X.iter().copied()).await.unwrap();
    let mut ann = a.join("arena", "ann", X).await;
    let mut eve = b.join("arena", "eve", X).await;
    assert_eq!(ben.closed().await.0, 1001);
    stays(&mut ann).await;
    stays(&mut eve).await;
    ann.close().await;
    eve.close().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(room.variables().len(), 1, "it is the host's");
}

#[tokio::test(flavor = "multi_thread")]
async fn by_redis_too() {
    let redis = Redis::start("close-log");
    let nodes = redis_nodes(&redis, 1).await;
    let room = nodes[0].rooms.open("arena").variables(X.iter().copied()).await.unwrap();
    for _ in 0..100 {
        let mut next = nodes[0].connect().await;
        room.close().await.unwrap();
        next.handshake("arena", "ann", X).await;
        next.ping().await;
        assert_eq!(next.next_is_close().await, None);
        assert!(timeout(Duration::from_millis(10), next.closed()).await.is_err());
    }
}

/// A node missed that the room was removed and created anew.
#[tokio::test]
async fn the_members_of_a_removed_room_are_not_those_of_the_next() {
    let broker: Arc<ShakyBroker> = Arc::default();
    let (a, b) = (node(&broker, Schema::Fixed).await, node(&broker, Schema::Fixed).await);
    let room = a.rooms.open("arena").variables(X.iter().copied()).await.unwrap();
    let mut ben = b.join("arena", "ben", X).await;
    broker.is_deaf.store(true, SeqCst);
    room.remove().await.unwrap();
    let room = a.rooms.open("arena").variables(X.iter().copied()).await.unwrap();
    ben.set("x", "of the old match").await;
    assert_eq!(ben.closed().await, (1001, "the room was closed".into()));
    assert_eq!(room.get("x").as_deref(), Some("0"));
    assert_eq!(broker.sessions("arena"), 0);
}

/// A broker that saves every second, or a replica that took over, is behind the nodes.
#[tokio::test]
async fn a_broker_that_lost_its_last_second_gets_it_back() {
    for schema in [Schema::Growing, Schema::Fixed] {
        let broker: Arc<ShakyBroker> = Arc::default();
        let (a, b) = (node(&broker, schema).await, node(&broker, schema).await);
        let mut ann = a.join("arena", "ann", X).await;
        ann.set("x", "1").await;
        eventually("it is there", || broker.revision("arena") == Some(1)).await;
        let restore = broker.save("arena");
        let mut ben = b.join("arena", "ben", X).await;
        ann.set("x", "2").await;
        ben.until("x", "2").await;
        if schema == Schema::Growing {
            ann.set("p_ann", "1").await;
            ben.until("p_ann", "1").await;
        }
        restore(&broker);
        ann.set("x", "3").await;
        ben.until("x", "3").await;
        ben.set("x", "4").await;
        ann.until("x", "4").await;
        if schema == Schema::Growing {
            assert_eq!(broker.variables("arena"), ["x", "p_ann"]);
        }
        eventually("both are there", || broker.sessions("arena") == 2).await;
        ann.sync().await;
        ben.sync().await;
    }
}
