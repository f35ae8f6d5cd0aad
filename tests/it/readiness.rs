//! A load balancer learns whether newcomers can join, before the first member is closed.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use crate::common::{Client, Server, ShakyBroker, ShakyStore, eventually, unlimited_rate, within};
use axum::Router;
use axum_cloud_variables::{NotReady, RoomRegistry, relay::Sharded, serve};
use tokio::{net::TcpListener, sync::Notify};

const X: &[(&str, &str)] = &[("x", "0")];

#[tokio::test]
async fn a_store_that_fails_makes_it_unready_until_it_works_again() {
    let store: Arc<ShakyStore> = Arc::default();
    let interval = Duration::from_millis(10);
    let builder = RoomRegistry::builder().store(store.clone()).flush_interval(interval);
    let server = Server::with(builder.limits(unlimited_rate())).await;
    let mut ann = server.join("arena", "ann", X).await;
    assert_eq!(server.rooms.readiness().await, Ok(()));
    store.is_broken.store(true, SeqCst);
    assert!(matches!(server.rooms.readiness().await, Err(NotReady::Store(_))));
    store.is_broken.store(false, SeqCst);
    assert_eq!(server.rooms.readiness().await, Ok(()));
    // A store on a full disk can still be read.
    store.is_read_only.store(true, SeqCst);
    ann.set("x", "1").await;
    let is_failing = || server.rooms.store_stats().unwrap().is_failing;
    eventually("it cannot save", is_failing).await;
    assert!(matches!(server.rooms.readiness().await, Err(NotReady::Store(_))));
    store.is_read_only.store(false, SeqCst);
    eventually("it saves", || !is_failing()).await;
    assert_eq!(server.rooms.readiness().await, Ok(()));
}

#[tokio::test]
async fn a_store_that_hangs_is_reported_in_time() {
    let store: Arc<ShakyStore> = Arc::default();
    let limits = unlimited_rate().admit_timeout(Duration::from_millis(100));
    let rooms = RoomRegistry::builder().limits(limits).store(store.clone()).build().unwrap();
    store.is_stuck.store(true, SeqCst);
    let ready = within("an answer", rooms.readiness()).await;
    store.is_stuck.store(false, SeqCst);
    assert!(matches!(ready, Err(NotReady::Store(_))), "{ready:?}");
}

/// The check asks the broker itself: without rooms, nothing else would notice that it is back.
#[tokio::test]
async fn a_broker_that_is_away_makes_it_unready_until_it_is_back() {
    let broker: Arc<ShakyBroker> = Arc::default();
    let rooms = RoomRegistry::builder().relay(broker.clone()).build().unwrap();
    assert_eq!(rooms.readiness().await, Ok(()));
    broker.is_away.store(true, SeqCst);
    let reason = rooms.readiness().await.unwrap_err();
    assert_eq!(reason.to_string(), "broker: away");
    broker.is_away.store(false, SeqCst);
    assert_eq!(rooms.readiness().await, Ok(()));
}

/// Of several brokers, each one has rooms, so each has to answer.
#[tokio::test]
async fn one_broker_of_several_that_is_away_makes_it_unready() {
    let brokers: [Arc<ShakyBroker>; 3] = Default::default();
    let relay = Sharded::new(brokers.clone()).unwrap();
    let rooms = RoomRegistry::builder().relay(relay).build().unwrap();
    for (n, broker) in brokers.iter().enumerate() {
        broker.is_away.store(true, SeqCst);
        let reason = rooms.readiness().await.unwrap_err();
        assert_eq!(reason.to_string(), format!("broker: away (broker {} of 3)", n + 1));
        broker.is_away.store(false, SeqCst);
        assert_eq!(rooms.readiness().await, Ok(()));
    }
}

#[tokio::test]
async fn newcomers_are_sent_elsewhere_before_the_first_close() {
    let rooms = RoomRegistry::new();
    let app = Router::new().merge(rooms.mount("/cloud"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/cloud", listener.local_addr().unwrap());
    let stop = Arc::new(Notify::new());
    let signal = stop.clone();
    let server = serve(listener, app)
        .shutdown_on(&rooms, async move { signal.notified().await })
        .drain_delay(Duration::from_millis(300));
    let serving = tokio::spawn(server.into_future());
    let mut ann = Client::connect(&url).await;
    ann.handshake("arena", "ann", X).await;
    ann.sync().await;
    stop.notify_one();
    while rooms.readiness().await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(rooms.readiness().await, Err(NotReady::ShuttingDown));
    // Newcomers can still join, because the load balancer may not have asked yet.
    let mut ben = Client::connect(&url).await;
    ben.handshake("arena", "ben", X).await;
    ann.set("x", "1").await;
    ben.until("x", "1").await;
    for client in [&mut ann, &mut ben] {
        assert_eq!(client.closed().await.0, 1001);
    }
    assert!(within("its end", serving).await.unwrap().unwrap().is_complete());
}
