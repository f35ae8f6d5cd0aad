//! P7 with limits per address: those of a mount, and `tower_governor` in front of one.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::net::SocketAddr;

use axum::{
    Router,
    extract::Request,
    http::StatusCode,
    middleware::{Next, from_fn},
};
use axum_cloud_variables::{ClientAddress, RoomRegistry, serve};
use tokio::net::TcpListener;
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Error, client::IntoClientRequest},
};
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

#[tokio::test]
async fn an_address_has_no_more_sessions_than_the_mount_allows() {
    let rooms = RoomRegistry::new();
    let mount = rooms.mount("/cloud").sessions_per_address(2);
    let named = async |mut request: Request, next: Next| {
        // As a proxy would say it.
        let header = request.headers().get("x-forwarded-for");
        let address = header.map(|address| address.to_str().unwrap().parse().unwrap());
        address.map(|address| request.extensions_mut().insert(ClientAddress(address)));
        next.run(request).await
    };
    let app = Router::new().merge(mount).layer(from_fn(named));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/cloud", listener.local_addr().unwrap());
    tokio::spawn(serve(listener, app).into_future());
    let from = |address: &str| {
        let mut request = url.clone().into_client_request().unwrap();
        request.headers_mut().insert("x-forwarded-for", address.parse().unwrap());
        request
    };
    let mut first = common::Client::request(from("192.0.2.1")).await.unwrap();
    let _second = common::Client::request(from("192.0.2.1")).await.unwrap();
    assert_eq!(
        common::Client::request(from("192.0.2.1")).await.err(),
        Some(StatusCode::TOO_MANY_REQUESTS)
    );
    let _another = common::Client::request(from("192.0.2.2")).await.unwrap();
    // Without a name, the address is the connection's.
    let _local = common::Client::request(url.clone()).await.unwrap();
    // A session that has ended gives its place back, whether it has joined or not.
    first.handshake("room", "ann", &[("x", "0")]).await;
    first.sync().await;
    first.close().await;
    let again = async { while common::Client::request(from("192.0.2.1")).await.is_err() {} };
    common::within("a place", again).await;
}
