//! Rooms and sessions come and go at the same time: nothing is lost, left behind or let in late.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use crate::common::{Client, Server, eventually, unlimited_rate, within};
use axum_cloud_variables::RoomRegistry;
use futures_util::SinkExt;
use tokio_tungstenite::tungstenite::Message;

const VARIABLES: &[(&str, &str)] = &[("x", "0")];

#[tokio::test(flavor = "multi_thread")]
async fn joins_leaves_and_evictions_race() {
    let limits = unlimited_rate().rooms(3).empty_room_ttl(Duration::from_millis(20));
    let server = Server::with(RoomRegistry::builder().limits(limits)).await;
    let players = (0..8).map(|player| {
        let url = server.url();
        tokio::spawn(async move {
            let mut played = 0;
            for _ in 0..60 {
                let room = format!("room {}", fastrand::u8(0..6));
                let mut client = Client::connect(&url).await;
                client.handshake(&room, &format!("player{player}"), VARIABLES).await;
                client.socket.send(Message::Ping(vec![].into())).await.unwrap();
                if let Some(code) = client.next_is_close().await {
                    // All three rooms have members.
                    assert_eq!(code, 4003);
                    continue;
                }
                played += 1;
                if fastrand::bool() {
                    client.close().await;
                }
            }
            played
        })
    });
    let mut played = 0;
    for player in players.collect::<Vec<_>>() {
        played += within("players", player).await.unwrap();
    }
    assert!(played > 100, "{played} of 480 joins went through");
    server.members(0).await;
    eventually("no room", || server.rooms.stats().rooms == 0).await;
    eventually("no bytes", || server.rooms.stats().state_bytes == 0).await;
    eventually("no session", || server.rooms.stats().sessions == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_join_slips_past_a_shutdown() {
    for _ in 0..20 {
        let server = Server::start().await;
        let first = server.join("room", "first", VARIABLES).await;
        let players = (0..10).map(|player| {
            let url = server.url();
            tokio::spawn(async move {
                let mut client = Client::connect(&url).await;
                client.handshake("room", &format!("player{player}"), VARIABLES).await;
                client.closed().await
            })
        });
        let players: Vec<_> = players.collect();
        tokio::time::sleep(Duration::from_micros(fastrand::u64(0..3_000))).await;
        drop(first);
        assert!(
            server.rooms.shutdown(Duration::from_secs(10)).await.is_complete(),
            "everyone is gone in time"
        );
        for player in players {
            let (code, _) = within("players", player).await.unwrap();
            assert!([1001, 4003].contains(&code), "{code}");
        }
    }
}
