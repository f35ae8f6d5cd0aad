//! Bans and kicks hold despite failures of the store or the broker, and despite races.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use crate::common::{
    Client, Server, ShakyBroker, ShakyStore, eventually, serve, unlimited_rate, within,
};
use axum::Router;
use axum_cloud_variables::{
    BanTarget, CloseCode, Identity, Room, RoomError, RoomRegistry, RoomRegistryBuilder, Schema,
    policy::{Join, Policy, Rejection},
    testing,
};
use futures_util::future::join_all;
use tokio::{
    runtime::Runtime,
    time::{sleep, timeout},
};

const X: &[(&str, &str)] = &[("x", "0")];
const MINUTE: Duration = Duration::from_secs(60);
const BANNED: &str = "you are banned from this room";

fn stored(store: &Arc<ShakyStore>) -> RoomRegistryBuilder {
    let limits = unlimited_rate()
        .admit_timeout(Duration::from_millis(300))
        .empty_room_ttl(Duration::from_millis(20));
    let builder = RoomRegistry::builder().limits(limits).store(store.clone());
    builder.flush_interval(Duration::from_millis(20))
}

/// Returns a server with a store, and a room of the host's.
async fn arena() -> (Arc<ShakyStore>, Server, Room) {
    let store = Arc::default();
    let server = Server::with(stored(&store)).await;
    let room = server.rooms.open("arena").variables(X.to_vec()).await.unwrap();
    (store, server, room)
}

/// Returns the names that are banned from the arena according to the store.
fn kept(store: &ShakyStore) -> Vec<String> {
    store.inner().bans("arena").unwrap().into_iter().map(|ban| ban.name).collect()
}

fn banned(room: &Room) -> Vec<BanTarget> {
    room.bans().into_iter().map(|ban| ban.target).collect()
}

fn named(names: &[&str]) -> Vec<BanTarget> {
    names.iter().map(|name| BanTarget::Name((*name).into())).collect()
}

#[tokio::test]
async fn bans_do_not_wait_for_ever_for_a_store_that_hangs() {
    let (store, server, room) = arena().await;
    store.is_stuck.store(true, SeqCst);
    for name in ["eve", "bob"] {
        let banned = tokio::time::timeout(MINUTE / 6, room.ban_name(name, MINUTE)).await.unwrap();
        assert_eq!(banned, Err(RoomError::NotSaved));
        assert_eq!(server.refusal("arena", name, X).await.1, BANNED);
    }
    let removed = tokio::time::timeout(MINUTE / 6, room.remove()).await.unwrap();
    assert_eq!(removed, Err(RoomError::Unreachable));
    store.is_stuck.store(false, SeqCst);
    eventually("the bans are saved after all", || kept(&store) == ["bob", "eve"]).await;
}

#[tokio::test]
async fn bans_that_the_store_failed_to_save_are_saved_later() {
    let (store, server, room) = arena().await;
    room.ban_name("eve", MINUTE).await.unwrap();
    store.is_read_only.store(true, SeqCst);
    assert_eq!(room.unban_name("eve").await, Err(RoomError::NotSaved));
    assert_eq!(room.ban_name("bob", MINUTE).await, Err(RoomError::NotSaved));
    assert_eq!(server.rooms.store_stats().unwrap().unsaved, 1, "the bans of a room");
    store.is_read_only.store(false, SeqCst);
    eventually("saved", || kept(&store) == ["bob"]).await;
    eventually("nothing is left", || server.rooms.store_stats().unwrap().unsaved == 0).await;
}

#[tokio::test]
async fn a_shutdown_saves_bans() {
    let (store, server, room) = arena().await;
    store.is_read_only.store(true, SeqCst);
    assert_eq!(room.ban_name("eve", MINUTE).await, Err(RoomError::NotSaved));
    store.is_read_only.store(false, SeqCst);
    assert!(server.rooms.shutdown(Duration::from_secs(10)).await.is_complete());
    assert_eq!(kept(&store), ["eve"]);
}

#[tokio::test]
async fn bans_that_are_over_leave_the_store_when_their_room_is_loaded() {
    let store = Arc::default();
    let server = Server::with(stored(&store)).await;
    let ann = server.join("arena", "ann", X).await;
    let room = server.rooms.room("arena").unwrap();
    room.ban_name("eve", MINUTE).await.unwrap();
    room.ban_name("bob", Duration::from_millis(50)).await.unwrap();
    eventually("the ban is over", || room.bans().len() == 1).await;
    drop(ann);
    eventually("the room left the memory", || server.rooms.stats().rooms == 0).await;
    assert_eq!(kept(&store), ["bob", "eve"]);
    assert!(server.rooms.shutdown(Duration::from_secs(10)).await.is_complete());
    let server = Server::with(stored(&store)).await;
    let _ann = server.join("arena", "ann", X).await;
    eventually("it is out of the store", || kept(&store) == ["eve"]).await;
}

async fn node(broker: &Arc<ShakyBroker>) -> Server {
    let builder = RoomRegistry::builder().limits(unlimited_rate()).policy(ByName);
    Server::with(builder.relay(broker.clone())).await
}

/// A policy by which everybody's account is their name.
struct ByName;

impl Policy for ByName {
    async fn admit(&self, join: &Join<'_>) -> Result<Identity, Rejection> {
        Ok(Identity::new().with_id(join.username()))
    }
}

/// The broker has admitted eve, and bans her before her node knows.
#[tokio::test]
async fn a_ban_between_a_place_and_its_answer_holds() {
    let broker = Arc::default();
    let (here, there) = (node(&broker).await, node(&broker).await);
    let (_ann, _bob) = (here.join("arena", "ann", X).await, there.join("arena", "bob", X).await);
    let room = here.rooms.room("arena").unwrap();
    broker.late_answers.store(300, SeqCst);
    let mut eve = there.connect().await;
    eve.handshake("arena", "eve", X).await;
    eventually("eve has a place", || broker.sessions("arena") == 3).await;
    room.ban_person("eve", MINUTE).await.unwrap();
    assert_eq!(eve.closed().await, (4002, BANNED.into()));
    eventually("the place is given back", || broker.sessions("arena") == 2).await;
    // A node that does not know yet that a ban is over admits a client that the broker admits.
    broker.late_answers.store(0, SeqCst);
    broker.delay.store(300, SeqCst);
    let unbanned = tokio::spawn(async move { room.unban_person("eve").await });
    eventually("the broker knows", || broker.revision("arena") == Some(2)).await;
    there.join("arena", "eve", X).await;
    unbanned.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_node_that_missed_the_end_of_a_ban_lists_it_no_longer() {
    let broker = Arc::default();
    let (here, there) = (node(&broker).await, node(&broker).await);
    let _bob = there.join("arena", "bob", X).await;
    let _ann = here.join("arena", "ann", X).await;
    let rooms = [&here, &there].map(|node| node.rooms.room("arena").unwrap());
    rooms[0].ban_name("eve", MINUTE).await.unwrap();
    rooms[0].ban_name("tom", MINUTE).await.unwrap();
    eventually("both know", || rooms.iter().all(|room| room.bans().len() == 2)).await;
    broker.is_deaf.store(true, SeqCst);
    let room = rooms[0].clone();
    let unbanned = tokio::spawn(async move { room.unban_name("eve").await });
    eventually("the broker knows", || broker.revision("arena") == Some(3)).await;
    broker.is_deaf.store(false, SeqCst);
    rooms[0].set("x", 1).unwrap();
    unbanned.await.unwrap().unwrap();
    eventually("caught up", || rooms[1].get("x").as_deref() == Some("1")).await;
    assert_eq!(rooms.each_ref().map(banned), [named(&["tom"]), named(&["tom"])]);
}

#[tokio::test]
async fn kicks_in_quick_succession_all_arrive() {
    let broker = Arc::default();
    let (here, there) = (node(&broker).await, node(&broker).await);
    let names: Vec<_> = (0..100).map(|n| format!("p{n}")).collect();
    let mut players = join_all(names.iter().map(|name| there.join(name, name, X))).await;
    for name in &names {
        here.rooms.kick_person(name, CloseCode::Kicked, "out").await.unwrap();
    }
    for player in &mut players {
        assert_eq!(player.closed().await, (4004, "out".into()));
    }
}

/// A kick waits until earlier sets are in the room's order.
#[tokio::test(start_paused = true)]
async fn a_kick_from_a_slow_room_delays_no_other() {
    let broker = Arc::<ShakyBroker>::default();
    let registry = || RoomRegistry::builder().policy(ByName).relay(broker.clone()).build().unwrap();
    let (here, there) = (registry(), registry());
    let app = Router::new().merge(there.mount("/cloud"));
    let player = async |room: &str| {
        let player = testing::client(&app, "/cloud", room, room).variables(X.to_vec());
        player.connect().await.unwrap()
    };
    let (slow, quick) = (player("slow").await, player("quick").await);
    broker.is_silent.store(true, SeqCst);
    there.room("slow").unwrap().set("x", 1).unwrap();
    sleep(Duration::from_millis(100)).await;
    broker.is_silent.store(false, SeqCst);
    for name in ["slow", "quick"] {
        here.kick_person(name, CloseCode::Kicked, "out").await.unwrap();
    }
    sleep(Duration::from_millis(100)).await;
    assert!(slow.is_joined(), "its write is on its way");
    assert!(!quick.is_joined());
    sleep(Duration::from_secs(1)).await;
    assert!(!slow.is_joined());
}

#[tokio::test(start_paused = true)]
async fn a_kick_soon_after_a_lost_subscription_arrives() {
    let broker = Arc::<ShakyBroker>::default();
    let registry = || RoomRegistry::builder().policy(ByName).relay(broker.clone()).build().unwrap();
    let (here, there) = (registry(), registry());
    let app = Router::new().merge(there.mount("/cloud"));
    let eve = testing::client(&app, "/cloud", "arena", "eve").variables(X.to_vec());
    let eve = eve.connect().await.unwrap();
    // All streams of announcements end.
    broker.save("")(&broker);
    sleep(Duration::from_millis(100)).await;
    here.kick_person("eve", CloseCode::Kicked, "out").await.unwrap();
    sleep(Duration::from_millis(100)).await;
    assert!(!eve.is_joined());
}

/// A host may open its first room on a runtime that ends before the serving one.
#[test]
fn kicks_arrive_after_the_runtime_of_the_first_room_has_ended() {
    let (first, second) = (Runtime::new().unwrap(), Runtime::new().unwrap());
    let broker = Arc::<ShakyBroker>::default();
    let builder = || RoomRegistry::builder().limits(unlimited_rate()).policy(ByName);
    let rooms = builder().relay(broker.clone()).build().unwrap();
    first.block_on(async {
        rooms.open("first").variables(X.to_vec()).await.unwrap().remove().await.unwrap();
    });
    second.block_on(async {
        let address = serve(Router::new().merge(rooms.mount("/cloud"))).await;
        let here = node(&broker).await;
        let url = format!("ws://{address}/cloud");
        let mut ann = Client::join(&url, "arena", "ann", X).await;
        first.shutdown_background();
        // A kick is lost if it comes before the task has begun again, but not a later one.
        let closed = within("a kick", async {
            loop {
                here.rooms.kick_person("ann", CloseCode::Kicked, "out").await.unwrap();
                if let Ok(close) = timeout(Duration::from_millis(200), ann.closed()).await {
                    break close;
                }
            }
        });
        assert_eq!(closed.await, (4004, "out".into()));
    });
}

#[tokio::test]
async fn a_registry_that_has_shut_down_announces_nothing() {
    let broker = Arc::default();
    let (here, there) = (node(&broker).await, node(&broker).await);
    let mut ann = there.join("arena", "ann", X).await;
    here.rooms.shutdown(Duration::from_secs(1)).await;
    let kicked = here.rooms.kick_person("ann", CloseCode::Kicked, "out").await;
    assert_eq!(kicked, Err(RoomError::Unreachable));
    ann.sync().await;
}

/// The host has lowered the bound since the room grew.
#[tokio::test]
async fn a_growing_room_over_its_bound_lets_in_those_that_bring_nothing_new() {
    let builder = RoomRegistry::builder().limits(unlimited_rate()).schema(Schema::Growing);
    let server = Server::with(builder).await;
    let variables = [("x", "0"), ("y", "0"), ("z", "0")];
    server.rooms.open("arena").variables(variables).await.unwrap();
    server.rooms.open("arena").max_variables(2).await.unwrap();
    let _ann = server.join("arena", "ann", &[]).await;
    let _bob = server.join("arena", "bob", X).await;
    assert_eq!(server.refusal_or_join("arena", "eve", &[("new", "0")]).await, Some(4000));
}
