//! P10 when much goes wrong at once: full registries, stores that hang, inputs that pause.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::{
    sync::{Arc, OnceLock, atomic::Ordering::SeqCst},
    time::Duration,
};

use axum_cloud_variables::{Limits, OpenError, RoomRegistry, RoomRegistryBuilder, TransferError};
use common::{Server, ShakyStore, eventually, unlimited_rate, within};
use tokio::{
    io::{AsyncWriteExt, BufReader, duplex},
    task::JoinSet,
};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt},
    util::SubscriberInitExt,
};

const X: &[(&str, &str)] = &[("x", "0")];

fn with(store: &Arc<ShakyStore>) -> RoomRegistryBuilder {
    RoomRegistry::builder().store(store.clone())
}

fn registry(store: &Arc<ShakyStore>) -> RoomRegistry {
    with(store).build().unwrap()
}

/// A removed room may still be in the list of empty rooms.
#[tokio::test]
async fn a_removed_room_does_not_take_its_successor_along() {
    let store = Arc::default();
    let limits = unlimited_rate().rooms(1);
    let builder = with(&store).limits(limits).flush_interval(Duration::from_secs(5));
    let server = Server::with(builder).await;
    server.join("a", "ann", X).await.close().await;
    server.members(0).await;
    server.rooms.room("a").unwrap().remove().await.unwrap();
    let _bob = server.join("a", "bob", X).await;
    assert_eq!(server.refusal("b", "eve", X).await.0, 4003);
    assert_eq!(server.rooms.room("a").map(|room| room.len()), Some(1));
}

/// The changes are more than one commit holds: those after the failed commit are saved as well.
#[tokio::test]
async fn all_is_saved_behind_a_commit_that_failed() {
    let store: Arc<ShakyStore> = Arc::default();
    let rooms = with(&store).flush_interval(Duration::from_secs(60)).build().unwrap();
    let mut opened = Vec::new();
    for n in 0..120 {
        opened.push(rooms.open(format!("{n}")).variables([("x", "0")]).await.unwrap());
    }
    for room in &opened {
        room.set("x", "9".repeat(99_000)).unwrap();
    }
    store.is_broken.store(true, SeqCst);
    assert!(matches!(rooms.export(Vec::new()).await, Err(TransferError::Store(_))));
    store.is_broken.store(false, SeqCst);
    assert!(rooms.shutdown(Duration::from_secs(20)).await.is_complete());
    for n in 0..120 {
        assert_eq!(store.value(&n.to_string(), "x").map(|value| value.len()), Some(99_000), "{n}");
    }
}

/// No value is lost, and no place is lost for good.
#[tokio::test]
async fn rooms_that_could_not_go_make_place_once_they_are_saved() {
    let store: Arc<ShakyStore> = Arc::default();
    let limits = unlimited_rate().rooms(2);
    let builder = with(&store).limits(limits).flush_interval(Duration::from_secs(60));
    let server = Server::with(builder).await;
    for room in ["a", "b"] {
        let mut ann = server.join(room, "ann", X).await;
        ann.set("x", room).await;
        ann.close().await;
    }
    server.members(0).await;
    store.is_read_only.store(true, SeqCst);
    assert_eq!(server.refusal("c", "eve", X).await.0, 4003);
    store.is_read_only.store(false, SeqCst);
    // Each try causes a save.
    let mut codes = Vec::new();
    while server.rooms.room("c").is_none() && codes.len() < 50 {
        codes.push(server.refusal_or_join("c", "eve", X).await);
        tokio::task::yield_now().await;
    }
    assert!(server.rooms.room("c").is_some(), "{codes:?}");
    let _again = server.join("a", "ann", X).await;
    assert_eq!(server.rooms.room("a").unwrap().get("x").as_deref(), Some("a"));
}

#[tokio::test]
async fn a_failure_that_is_over_delays_no_shutdown() {
    let store: Arc<ShakyStore> = Arc::default();
    let rooms = with(&store).flush_interval(Duration::from_secs(60)).build().unwrap();
    let room = rooms.open("a").variables([("x", "0")]).await.unwrap();
    store.is_broken.store(true, SeqCst);
    rooms.open("b").await.unwrap_err();
    room.set("x", 1).unwrap();
    let failed = within("export", rooms.export(Vec::new())).await;
    assert!(matches!(failed, Err(TransferError::Store(_))), "{failed:?}");
    store.is_broken.store(false, SeqCst);
    assert!(rooms.shutdown(Duration::from_secs(10)).await.is_complete());
    assert_eq!(store.value("a", "x").as_deref(), Some("1"));
}

/// The callers that waited in vain are gone, but the threads and their data are not.
#[tokio::test]
async fn a_store_that_hangs_takes_few_threads_and_little_memory() {
    let store: Arc<ShakyStore> = Arc::default();
    let limits = Limits::default().admit_timeout(Duration::from_millis(50));
    let rooms = with(&store).limits(limits).build().unwrap();
    store.is_stuck.store(true, SeqCst);
    for round in 0..5 {
        let mut opening = JoinSet::new();
        for n in 0..16 {
            let rooms = rooms.clone();
            opening.spawn(async move { rooms.open(format!("{round} {n}")).await.is_err() });
        }
        assert!(opening.join_all().await.iter().all(|failed| *failed));
    }
    let most = store.most_loading.load(SeqCst);
    store.is_stuck.store(false, SeqCst);
    assert!(most <= 16, "{most} threads load at once");
    assert_eq!(rooms.stats().state_bytes, 0);
    let opened = async { while rooms.open("at last").await.is_err() {} };
    within("it works again", opened).await;
}

#[tokio::test]
async fn orders_that_wait_are_bounded() {
    let store: Arc<ShakyStore> = Arc::default();
    let limits = Limits::default().admit_timeout(Duration::from_millis(20));
    let rooms = with(&store).limits(limits).build().unwrap();
    store.delay.store(3_000, SeqCst);
    let mut opening = JoinSet::new();
    for n in 0..1_000 {
        let rooms = rooms.clone();
        opening.spawn(async move { rooms.open(n.to_string()).await.is_err() });
    }
    assert!(opening.join_all().await.iter().all(|failed| *failed));
    store.delay.store(0, SeqCst);
    assert!(rooms.shutdown(Duration::from_secs(10)).await.is_complete());
    let kept = store.inner().rooms("", 1_000).unwrap().len();
    assert!((1..=256).contains(&kept), "{kept} waited");
}

#[tokio::test]
async fn an_import_that_waits_for_its_input_keeps_nobody_out() {
    let store = Arc::default();
    let rooms = registry(&store);
    let (mut to, from) = duplex(1 << 20);
    let import = {
        let rooms = rooms.clone();
        tokio::spawn(async move { rooms.import(BufReader::new(from)).await })
    };
    for n in 0..300 {
        let line = format!("{{\"room\":\"{n}\",\"schema\":\"fixed\",\"variables\":{{}}}}\n");
        to.write_all(line.as_bytes()).await.unwrap();
    }
    eventually("all are there", || store.inner().rooms("", 1_000).unwrap().len() == 300).await;
    for room in ["0", "299", "another"] {
        let opened: Result<_, OpenError> = rooms.open(room).await;
        opened.unwrap();
    }
    drop(to);
    assert_eq!(import.await.unwrap().unwrap().created, 300);
}

/// A log that asks for the store's state when it receives an event.
struct Asks(OnceLock<RoomRegistry>);

static ASKS: Asks = Asks(OnceLock::new());

impl<S: Subscriber> Layer<S> for &'static Asks {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() == Level::WARN
            && let Some(rooms) = self.0.get()
        {
            _ = (rooms.store_stats(), rooms.stats());
        }
    }
}

#[tokio::test]
async fn a_log_may_ask_how_the_store_does() {
    let store: Arc<ShakyStore> = Arc::default();
    let rooms = registry(&store);
    ASKS.0.set(rooms.clone()).ok().unwrap();
    tracing_subscriber::registry().with(&ASKS).init();
    store.is_broken.store(true, SeqCst);
    let opened = within("it is refused", async { rooms.open("a").await });
    assert_eq!(opened.await.unwrap_err(), OpenError::Unreachable);
    assert!(rooms.store_stats().unwrap().last_error.is_some());
}

/// Everyone leaves in time, but the shutdown reports that a value is not saved.
#[tokio::test]
async fn a_shutdown_that_cannot_save_says_so() {
    let store = Arc::new(ShakyStore::default());
    let server = Server::with(RoomRegistry::builder().store(store.clone())).await;
    let mut ann = server.join("arena", "ann", &[("x", "0")]).await;
    store.is_broken.store(true, SeqCst);
    ann.set("x", "1").await;
    ann.sync().await;
    let rooms = server.rooms.clone();
    let shutdown = tokio::spawn(async move { rooms.shutdown(Duration::from_secs(2)).await });
    ann.closed().await;
    drop(ann);
    let report = within("the shutdown", shutdown).await.unwrap();
    assert_eq!((report.unanswered, report.unsaved, report.is_complete()), (0, 1, false));
}
