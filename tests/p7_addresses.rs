//! P7 behind a limit per address: `tower_governor` in front of a mount, as `SECURITY.md` shows it.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::net::SocketAddr;

use axum::Router;
use axum_cloud_variables::RoomRegistry;
use tokio::net::TcpListener;
use tokio_tungstenite::{connect_async, tungstenite::Error};
use tower_governor::{GovernorLayer, governor::GovernorConfigBuilder};

#[tokio::test]
async fn an_address_that_connects_too_often_is_told_429_and_the_rest_play() {
    let rooms = RoomRegistry::new();
    let limit = GovernorConfigBuilder::default().per_second(60).burst_size(5).finish().unwrap();
    let cloud = Router::from(rooms.mount("/cloud")).layer(GovernorLayer::new(limit));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let app = cloud.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });

    let url = format!("ws://{addr}/cloud");
    let mut members = Vec::new();
    for i in 0..5 {
        members.push(common::Client::join(&url, "room", &format!("p{i}"), &[("x", "0")]).await);
    }
    for _ in 0..20 {
        let Err(Error::Http(refused)) = connect_async(&url).await else { panic!("let in") };
        assert_eq!(refused.status(), 429);
    }
    members[0].set("x", "1").await;
    for member in &mut members[1..] {
        member.until("x", "1").await;
    }
}
