//! Variables that are removed some time after their player has left, and those that a host removes.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::{sync::Arc, time::Duration};

use crate::common::{Client, Redis, Server, eventually, unlimited_rate, within};
use axum_cloud_variables::{
    Dialect, RoomRegistry, RoomRegistryBuilder, Schema, SetError,
    relay::{MemoryRelay, RedisRelay},
    store::MemoryStore,
};

fn builder() -> RoomRegistryBuilder {
    RoomRegistry::builder()
        .limits(unlimited_rate())
        .schema(Schema::Growing)
        .leave_with("p_{name}")
        .leave_with("{name}.*")
        .leave_grace(Duration::from_millis(200))
}

async fn come(server: &Server, name: &str) -> Client {
    let mut player = server.join("room", name, &[]).await;
    player.set(&format!("p_{name}"), "here").await;
    player.set(&format!("{name}.hp"), "9").await;
    player.set("score", name).await;
    player.sync().await;
    player
}

fn names(server: &Server) -> Vec<String> {
    let room = server.rooms.room("room").unwrap();
    let mut names: Vec<_> = room.variables().into_iter().map(|(name, _)| name).collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn the_variables_of_a_player_go_with_the_player() {
    let mut limits = unlimited_rate();
    limits.variables_per_room = 5;
    let server = Server::with(builder().limits(limits)).await;
    let mut ann = come(&server, "ann").await;
    let mut cat = server.join_in(Dialect::Scratch, "room", "cat", &[]).await;
    let bob = come(&server, "bob").await;
    ann.until("bob.hp", "9").await;
    cat.until("bob.hp", "9").await;
    bob.close().await;
    for member in [&mut ann, &mut cat] {
        // Clients that know the variables receive empty values.
        within("p_bob", member.until("p_bob", "")).await;
        while !member.view["bob.hp"].is_empty() {
            member.frame().await;
        }
    }
    eventually("they go", || names(&server) == ["ann.hp", "p_ann", "score"]).await;
    let mut dan = server.join("room", "dan", &[]).await;
    assert_eq!(dan.frame().await.len(), 3, "who comes later does not see them");
    // Their places are free, too.
    dan.set("p_dan", "here").await;
    dan.set("dan.hp", "9").await;
    ann.until("dan.hp", "9").await;
    assert_eq!(ann.view["score"], "bob", "what is everyone's stays");
}

#[tokio::test]
async fn a_player_that_comes_back_in_time_keeps_them() {
    let server = Server::with(builder()).await;
    let mut cat = come(&server, "cat").await;
    let ann = come(&server, "ann").await;
    let bob = come(&server, "bob").await;
    ann.close().await;
    let _again = server.join("room", "ann", &[]).await;
    // The variables of players that leave later go later.
    bob.close().await;
    within("p_bob", cat.until("p_bob", "")).await;
    eventually("bob's go", || names(&server) == ["ann.hp", "cat.hp", "p_ann", "p_cat", "score"])
        .await;
}

/// A process that starts again does not know which players were there.
#[tokio::test]
async fn a_stored_room_loses_those_of_players_who_do_not_come_back() {
    let store = Arc::new(MemoryStore::default());
    let server = Server::with(builder().store(store.clone())).await;
    let (_ann, _bob) = (come(&server, "ann").await, come(&server, "bob").await);
    assert!(server.rooms.shutdown(Duration::from_secs(5)).await.is_complete());
    let server = Server::with(builder().store(store)).await;
    let mut bob = server.join("room", "bob", &[]).await;
    bob.until("p_ann", "").await;
    eventually("ann's go", || names(&server) == ["bob.hp", "p_bob", "score"]).await;
}

async fn on_two_nodes(nodes: [Server; 2]) {
    let mut cat = come(&nodes[1], "cat").await;
    let ann = come(&nodes[0], "ann").await;
    let bob = come(&nodes[0], "bob").await;
    within("all are here", cat.until("bob.hp", "9")).await;
    ann.close().await;
    let _again = nodes[1].join("room", "ann", &[]).await;
    bob.close().await;
    within("p_bob", cat.until("p_bob", "")).await;
    let left = ["ann.hp", "cat.hp", "p_ann", "p_cat", "score"];
    eventually("bob's go", || names(&nodes[1]) == left).await;
    // The node that ann has left has checked by then.
    let mut dan = nodes[0].join("room", "dan", &[]).await;
    dan.set("score", "dan").await;
    within("order", cat.until("score", "dan")).await;
    assert_eq!(names(&nodes[1]), left);
    eventually("on both", || names(&nodes[0]) == left).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_that_continues_at_another_node_keeps_them() {
    let broker = Arc::new(MemoryRelay::default());
    let node = || Server::with(builder().relay(broker.clone()));
    on_two_nodes([node().await, node().await]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_that_continues_at_another_node_keeps_them_by_redis() {
    let redis = Redis::start("presence");
    let node = || Server::with(builder().relay(RedisRelay::new(redis.url()).unwrap()));
    on_two_nodes([node().await, node().await]).await;
}

/// A node that dies does not report that its players have left: the others find out.
#[tokio::test(flavor = "multi_thread")]
async fn those_of_players_of_a_node_that_died_go() {
    let redis = Redis::start("presence-dead");
    let lease = Duration::from_millis(300);
    let relay = || RedisRelay::new(redis.url()).unwrap().with_lease(lease);
    let live = Server::with(builder().relay(relay())).await;
    let mut cat = come(&live, "cat").await;
    // An idle player on the surviving node keeps its variables.
    let _dan = come(&live, "dan").await;
    let (dead, is_to_die) = (builder().relay(relay()), tokio::sync::oneshot::channel::<()>());
    let (url, is_there) = tokio::sync::oneshot::channel();
    let node = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let server = runtime.block_on(Server::with(dead));
        url.send(server.url()).unwrap();
        _ = is_to_die.1.blocking_recv();
        runtime.shutdown_background();
    });
    let mut bob = Client::join(&is_there.await.unwrap(), "room", "bob", &[]).await;
    bob.set("p_bob", "here").await;
    within("bob is here", cat.until("p_bob", "here")).await;
    // While the node is alive, its player's variables stay, for longer than the interval of checks.
    tokio::time::sleep(lease * 5).await;
    cat.sync().await;
    cat.apply_waiting();
    assert_eq!(cat.view["p_bob"], "here");
    is_to_die.0.send(()).unwrap();
    tokio::task::spawn_blocking(|| node.join()).await.unwrap().unwrap();
    within("p_bob", cat.until("p_bob", "")).await;
    let left = ["cat.hp", "dan.hp", "p_cat", "p_dan", "score"];
    eventually("bob's go", || names(&live) == left).await;
}

#[tokio::test]
async fn a_host_removes_variables() {
    let server = Server::with(builder()).await;
    let mut ann = come(&server, "ann").await;
    let room = server.rooms.room("room").unwrap();
    assert_eq!(room.unset("other"), Err(SetError::UnknownVariable));
    room.unset("score").unwrap();
    ann.until("score", "").await;
    assert_eq!(room.get("score"), None);
    ann.set("score", "1").await;
    ann.sync().await;
    assert_eq!(room.get("score").as_deref(), Some("1"), "it can be created again");
    let fixed = server.rooms.open("fixed").schema(Schema::Fixed).variables([("x", "0")]);
    assert_eq!(fixed.await.unwrap().unset("x"), Err(SetError::FixedNames));
}
