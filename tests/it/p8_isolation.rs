//! P8: nothing leaks between rooms or registries; two mounts of one registry share its rooms.

#![allow(clippy::unwrap_used, reason = "a test")]

use crate::common::{Client, Server, serve, unlimited_rate};
use axum::Router;
use axum_cloud_variables::{Dialect, RoomRegistry};

#[tokio::test]
async fn a_registry_knows_nothing_of_another() {
    let (rooms, others) = (RoomRegistry::new(), RoomRegistry::new());
    let app = Router::new()
        .merge(rooms.mount("/cloud"))
        .merge(rooms.mount("/second/door"))
        .merge(others.mount("/other"));
    let addr = serve(app).await;
    let join = async |path: &str, name: &str, variable: &str| {
        Client::join(&format!("ws://{addr}{path}"), "room", name, &[(variable, "0")]).await
    };
    let mut ann = join("/cloud", "ann", "x").await;
    let mut ben = join("/second/door", "ben", "x").await;
    // The same room id and name with other variables is another room.
    let mut other = join("/other", "ann", "y").await;
    let mut friend = join("/other", "cem", "y").await;
    assert_eq!((ben.frame().await.len(), friend.frame().await.len()), (1, 1));
    ann.set("x", "1").await;
    assert_eq!(ben.frame().await, [("x".into(), "1".into())]);
    other.set("y", "2").await;
    assert_eq!(friend.frame().await, [("y".into(), "2".into())]);
    assert_eq!((rooms.stats().members, others.stats().members), (2, 2));
}

#[tokio::test]
async fn rooms_of_one_registry_know_nothing_of_another() {
    let server = crate::common::Server::start().await;
    let mut ann = server.join("one", "ann", &[("x", "1")]).await;
    let mut ben = server.join("two", "ben", &[("x", "2")]).await;
    let mut cem = server.join("two", "cem", &[("x", "")]).await;
    assert_eq!(cem.frame().await, [("x".into(), "2".into())]);
    ann.set("x", "3").await;
    ann.sync().await;
    ben.set("x", "4").await;
    assert_eq!(cem.frame().await, [("x".into(), "4".into())], "nothing of ann's");
}

/// An empty room that only its creator ever used does not keep another game out.
#[tokio::test]
async fn an_unused_room_takes_the_variables_of_the_next_client() {
    let server = Server::start().await;
    server.join("lobby", "eve", &[("junk", "1")]).await.close().await;
    server.join_in(Dialect::Spec, "60917032", "eve", &[]).await.close().await;
    server.members(0).await;
    let mut ann = server.join("lobby", "ann", &[("x", "0")]).await;
    ann.until("x", "0").await;
    // The room is ann's now, and clients that join her must have the same variables.
    let (code, _) = server.refusal("lobby", "eve", &[("junk", "1")]).await;
    assert_eq!(code, 4001);
    let mut ben = server.join("lobby", "ben", &[("x", "0")]).await;
    ben.frame().await;
    // A Scratch project's players bring no names, and set any variable.
    let mut cat = server.join_in(Dialect::Scratch, "60917032", "cat", &[]).await;
    cat.set("☁ score", "5").await;
    cat.sync().await;
    assert_eq!(server.rooms.room("60917032").unwrap().get("☁ score").as_deref(), Some("5"));
    // A room that is full of junk does not keep them out either.
    let mut eve = server.join_in(Dialect::Scratch, "full", "eve", &[]).await;
    for n in 0..128 {
        eve.set(&format!("☁ junk {n}"), "1").await;
    }
    eve.sync().await;
    eve.close().await;
    server.members(3).await;
    let mut dog = server.join_in(Dialect::Scratch, "full", "dog", &[]).await;
    dog.set("☁ score", "5").await;
    dog.sync().await;
    assert_eq!(server.rooms.room("full").unwrap().get("☁ score").as_deref(), Some("5"));
    dog.close().await;
    // The room stays theirs, also when it is empty.
    ann.close().await;
    ben.close().await;
    cat.close().await;
    server.members(0).await;
    assert_eq!(server.refusal("lobby", "eve", &[("junk", "1")]).await.0, 4001);
}

/// A version with one more variable gets in once nobody plays the old one.
#[tokio::test]
async fn the_next_version_of_a_game_gets_its_variables() {
    let server = Server::start().await;
    let (old, new) = (&[("x", "0")], &[("x", "0"), ("lives", "3")]);
    let mut ann = server.join("lobby", "ann", old).await;
    let ben = server.join("lobby", "ben", old).await;
    ann.set("x", "7").await;
    ann.sync().await;
    assert_eq!(server.refusal("lobby", "cem", new).await.0, 4001, "the old one is played");
    ann.close().await;
    ben.close().await;
    server.members(0).await;
    let mut cem = server.join("lobby", "cem", new).await;
    cem.until("lives", "3").await;
    assert_eq!(cem.view["x"], "7", "what was there stays");
    assert_eq!(server.refusal("lobby", "ann", old).await.0, 4001);
}

/// A stranger's rooms go first if there is no place, however many there are.
#[tokio::test]
async fn rooms_that_nobody_came_back_to_go_first() {
    let limits = unlimited_rate().rooms(10);
    let server = Server::with(RoomRegistry::builder().limits(limits)).await;
    let mut ann = server.join("of ours", "ann", &[("x", "0")]).await;
    let ben = server.join("of ours", "ben", &[("x", "0")]).await;
    ann.set("x", "1").await;
    ann.close().await;
    ben.close().await;
    server.members(0).await;
    for n in 0..50 {
        server.join(&format!("junk {n}"), "eve", &[]).await.close().await;
        server.members(0).await;
    }
    assert_eq!(server.rooms.room("of ours").unwrap().get("x").as_deref(), Some("1"));
}

/// Only the host may change a room that it has locked.
#[tokio::test]
async fn a_locked_room_of_nobodys_stays_as_it_is() {
    let server = Server::start().await;
    server.join("room", "eve", &[("junk", "0")]).await.close().await;
    server.members(0).await;
    let room = server.rooms.room("room").unwrap();
    room.lock().await.unwrap();
    assert_eq!(server.refusal("room", "ann", &[("score", "0")]).await.0, 4001);
    assert_eq!(room.get("junk").as_deref(), Some("0"));
    room.unlock().await.unwrap();
    server.join("room", "ann", &[("score", "0")]).await;
    assert_eq!(room.get("junk"), None);
}
