//! P1: a room has one order, which includes its host's writes. The test has a process of its own, because the
//! observer of 2,000 writes a second must not wait for a processor.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::time::Duration;

use axum_cloud_variables::{Limits, RoomRegistry, events::RoomEvent};
use common::{Server, within};

const VARIABLES: &[(&str, &str)] = &[("x", "0"), ("end", "")];

/// Host writes among those of many members are in the one order of the room.
#[tokio::test(flavor = "multi_thread")]
async fn host_and_members_share_one_order() {
    const MEMBERS: usize = 50;
    let limits = Limits::default();
    let server = Server::with(RoomRegistry::builder().limits(limits)).await;
    let arena = server.rooms.open("arena").variables(VARIABLES.iter().copied()).await.unwrap();
    let mut events = arena.events();
    let mut watcher = server.join("arena", "watcher", VARIABLES).await;
    watcher.frame().await;
    let mut writers = Vec::new();
    for i in 0..MEMBERS {
        let mut client = server.join("arena", &format!("p{i}"), VARIABLES).await;
        writers.push(tokio::spawn(async move {
            for n in 0..20 {
                client.set("x", &format!("p{i}.{n}")).await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            client
        }));
    }
    // The events of the room are the order. They are read on a separate thread, because their buffer
    // holds 256.
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let read = async move {
        let mut order = Vec::new();
        while order.last().is_none_or(|last| last != "over") {
            match events.next().await.unwrap() {
                RoomEvent::Wrote { value, .. } => order.push(value.to_string()),
                RoomEvent::Missed(_) => panic!("too slow"),
                _ => {}
            }
        }
        order
    };
    let order = tokio::task::spawn_blocking(move || runtime.block_on(read));
    // The host makes 1,000 writes within a second.
    let mut beat = tokio::time::interval(Duration::from_millis(1));
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for n in 0..1_000 {
        beat.tick().await;
        arena.set("x", format!("host.{n}")).unwrap();
    }
    let mut players = Vec::new();
    for writer in writers {
        players.push(writer.await.unwrap());
    }
    for player in &mut players {
        player.sync().await;
    }
    arena.set("x", "over").unwrap();
    let order = within("order", order).await.unwrap();
    assert_eq!(order.len(), 1_000 + MEMBERS * 20 + 1);
    let seen: Vec<_> =
        watcher.until("x", "over").await.into_iter().map(|(_, value)| value).collect();
    assert_eq!(seen, order, "one order for all");
    assert_eq!(arena.get("x").as_deref(), Some("over"));
    for player in &mut players {
        player.until("x", "over").await;
    }
}
