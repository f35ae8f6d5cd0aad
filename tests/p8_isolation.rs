//! P8: nothing leaks between rooms or registries; two mounts of one registry share its rooms.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use axum::Router;
use axum_cloud_variables::RoomRegistry;
use common::{Client, serve};

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
    // Same room and name, other variables: another room.
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
    let server = common::Server::start().await;
    let mut ann = server.join("one", "ann", &[("x", "1")]).await;
    let mut ben = server.join("two", "ben", &[("x", "2")]).await;
    let mut cem = server.join("two", "cem", &[("x", "")]).await;
    assert_eq!(cem.frame().await, [("x".into(), "2".into())]);
    ann.set("x", "3").await;
    ann.sync().await;
    ben.set("x", "4").await;
    assert_eq!(cem.frame().await, [("x".into(), "4".into())], "nothing of ann's");
}
