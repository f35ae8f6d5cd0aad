//! P9 for hosts with several runtimes: rooms continue when one ends or stands still, and no task outlives
//! a shutdown, however short its grace period is.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use axum_cloud_variables::{RoomRegistry, RoomRegistryBuilder, relay::RedisRelay};
use common::{Client, Redis, ShakyBroker, eventually, unlimited_rate, within};
use futures_util::future::join_all;
use tokio::{
    runtime::{Builder, Runtime},
    time::{sleep, timeout},
};

const X: &[(&str, &str)] = &[("x", "0")];

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// Returns a runtime that runs only while something is awaited on it.
fn idle_runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn builder() -> RoomRegistryBuilder {
    RoomRegistry::builder().limits(unlimited_rate().members_per_room(1_000))
}

fn with_broker() -> (RoomRegistry, Arc<ShakyBroker>) {
    let broker: Arc<ShakyBroker> = Arc::default();
    (builder().relay(broker.clone()).build().unwrap(), broker)
}

fn serve_on(runtime: &Runtime, rooms: &RoomRegistry) -> String {
    let app = axum::Router::new().merge(rooms.mount("/cloud"));
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("ws://{}/cloud", listener.local_addr().unwrap());
    runtime.spawn(async move { axum::serve(listener, app).await.unwrap() });
    url
}

/// The host's runtime is dropped while the thread unwinds.
#[test]
fn a_host_that_panics_ends_as_any_program() {
    let rooms = builder().settle(Some(Duration::from_secs(60))).build().unwrap();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let runtime = idle_runtime();
        let url = serve_on(&runtime, &rooms);
        runtime.block_on(async {
            let mut ann = Client::join(&url, "arena", "ann", X).await;
            let mut ben = Client::join(&url, "arena", "ben", X).await;
            ben.frame().await;
            // This makes a correction due in the room.
            ann.set("x", "1").await;
            ben.set("x", "2").await;
            ann.until("x", "2").await;
            panic!("the host's own");
        });
    }));
    let panicked = panicked.unwrap_err();
    assert_eq!(panicked.downcast_ref(), Some(&"the host's own"));
    assert_eq!(rooms.room("arena").unwrap().get("x").as_deref(), Some("2"));
}

/// Lets two members play on one runtime, while another runtime, by which a third one came, ends.
async fn play_on_when_one_ends(rooms: &RoomRegistry, first: Runtime, second: &Runtime) {
    let urls = [&first, second].map(|runtime| serve_in_thread(runtime, rooms));
    let mut ann = Client::join(&urls[1], "arena", "ann", X).await;
    let mut ben = Client::join(&urls[1], "arena", "ben", X).await;
    let eve = Client::join(&urls[0], "arena", "eve", X).await;
    ann.set("x", "1").await;
    ben.until("x", "1").await;
    drop(eve);
    tokio::task::spawn_blocking(move || drop(first)).await.unwrap();
    for n in 2..6 {
        ann.set("x", &n.to_string()).await;
        ben.until("x", &n.to_string()).await;
    }
}

/// Serves like [`serve_on`], from within a runtime.
fn serve_in_thread(runtime: &Runtime, rooms: &RoomRegistry) -> String {
    std::thread::scope(|scope| scope.spawn(|| serve_on(runtime, rooms)).join().unwrap())
}

fn block_on<T>(test: impl Future<Output = T>) -> T {
    let clients = runtime();
    let done = clients.block_on(test);
    clients.shutdown_background();
    done
}

#[test]
fn a_room_outlives_the_runtime_of_its_last_joiner() {
    let rooms = builder().build().unwrap();
    let (first, second) = (runtime(), runtime());
    block_on(play_on_when_one_ends(&rooms, first, &second));
    second.shutdown_background();
}

#[test]
fn so_does_one_of_a_broker() {
    let (rooms, broker) = with_broker();
    let (first, second) = (runtime(), runtime());
    block_on(async {
        play_on_when_one_ends(&rooms, first, &second).await;
        // Writes from another node also arrive, when nobody here does anything.
        let other = builder().relay(broker.clone()).build().unwrap();
        let room = other.open("arena").await.unwrap();
        room.set("x", "far").unwrap();
        let here = rooms.room("arena").unwrap();
        eventually("it is heard", || here.get("x").as_deref() == Some("far")).await;
    });
    second.shutdown_background();
}

#[test]
fn a_room_opened_on_a_runtime_that_stands_still_is_played_in() {
    for rooms in [builder().build().unwrap(), with_broker().0] {
        let (setup, serving) = (idle_runtime(), runtime());
        let room = setup.block_on(async { rooms.open("arena").variables(X.iter().copied()).await });
        room.unwrap().set("x", "1").unwrap();
        let url = serve_on(&serving, &rooms);
        block_on(async {
            let mut ann = Client::join(&url, "arena", "ann", X).await;
            let mut ben = Client::join(&url, "arena", "ben", X).await;
            ann.set("x", "2").await;
            ben.until("x", "2").await;
            let _other = Client::join(&url, "other", "ann", X).await;
        });
        serving.shutdown_background();
        drop(setup);
    }
}

/// Connections to the broker that were made on such a runtime stand still, too.
#[test]
fn connections_of_a_runtime_that_stands_still_are_left() {
    let redis = Redis::start("idle-runtime");
    let relay = RedisRelay::new(redis.url()).unwrap();
    let rooms = builder().relay(relay).build().unwrap();
    let (setup, serving) = (idle_runtime(), runtime());
    let room = setup.block_on(async { rooms.open("arena").variables(X.iter().copied()).await });
    room.unwrap();
    let url = serve_on(&serving, &rooms);
    block_on(async {
        for id in ["arena", "other"] {
            let join = async {
                loop {
                    let mut ann = Client::connect(&url).await;
                    ann.handshake(id, "ann", X).await;
                    ann.ping().await;
                    if ann.next_is_close().await.is_none() {
                        break ann;
                    }
                }
            };
            let mut ann = within("it is let in", join).await;
            ann.set("x", "1").await;
            let room = rooms.room(id).unwrap();
            eventually("it is set", || room.get("x").as_deref() == Some("1")).await;
        }
    });
    serving.shutdown_background();
    drop(setup);
}

/// The request was at the broker when its runtime ended.
#[test]
fn a_write_under_way_when_its_runtime_ends_is_not_lost() {
    let (rooms, broker) = with_broker();
    let (first, second) = (runtime(), runtime());
    let url = serve_on(&second, &rooms);
    let room = first.block_on(async {
        let room = rooms.open("arena").variables(X.iter().copied()).await.unwrap();
        broker.is_silent.store(true, SeqCst);
        room.set("x", "1").unwrap();
        sleep(Duration::from_millis(100)).await;
        room
    });
    drop(first);
    broker.is_silent.store(false, SeqCst);
    block_on(async {
        let _ann = Client::join(&url, "arena", "ann", X).await;
        eventually("it is there", || room.get("x").as_deref() == Some("1")).await;
    });
    second.shutdown_background();
}

#[test]
fn a_room_is_led_after_the_runtime_that_opened_it_has_ended() {
    let rooms = builder().build().unwrap();
    let room = runtime().block_on(async { rooms.open("arena").await.unwrap() });
    let main = runtime();
    main.block_on(async {
        let lead = room.lead().await.unwrap();
        sleep(Duration::from_millis(50)).await;
        assert!(!lead.is_lost());
        assert!(rooms.shutdown(Duration::from_secs(1)).await.is_complete());
        within("it is lost", lead.lost()).await;
    });
    main.block_on(eventually("no task is left", || main.metrics().num_alive_tasks() == 0));
}

#[test]
fn a_host_chooses_where_tasks_run() {
    let (chosen, serving) = (runtime(), runtime());
    let rooms = builder().runtime(chosen.handle().clone()).build().unwrap();
    let url = serve_on(&serving, &rooms);
    block_on(async {
        let mut ann = Client::join(&url, "arena", "ann", X).await;
        let mut ben = Client::join(&url, "arena", "ben", X).await;
        ann.set("x", "1").await;
        // The variable is contested, so the room's task waits for it to settle.
        ben.set("x", "2").await;
        ann.until("x", "2").await;
        eventually("it is where it should be", || chosen.metrics().num_alive_tasks() == 1).await;
    });
    serving.shutdown_background();
}

/// Shuts down. Checks that all members receive the close, and that no task is left.
fn shut_down(grace: Duration, is_dropped: bool) {
    const MEMBERS: usize = 500;
    let host = runtime();
    let rooms = builder().build().unwrap();
    let url = serve_on(&host, &rooms);
    block_on(async {
        let mut members = Vec::new();
        for n in 0..MEMBERS {
            let (room, name) = (format!("room {}", n % 10), format!("p{n}"));
            members.push(Client::join(&url, &room, &name, X).await);
        }
        // Now a variable has to settle, and somebody leads.
        members[0].set("x", "1").await;
        members[10].set("x", "2").await;
        members[0].set("x", "3").await;
        let lead = rooms.room("room 0").unwrap().lead().await.unwrap();
        let began = std::time::Instant::now();
        if is_dropped {
            let shutdown = timeout(Duration::from_millis(1), rooms.shutdown(grace));
            assert!(shutdown.await.is_err());
        } else {
            rooms.shutdown(grace).await;
            assert!(began.elapsed() < grace + Duration::from_secs(2), "{:?}", began.elapsed());
        }
        let closed = join_all(members.iter_mut().map(|member| within("closed", member.closed())));
        let closed = closed.await;
        let told = closed.iter().filter(|(code, _)| *code == 1001).count();
        assert_eq!(told, MEMBERS);
        eventually("the lead is lost", || lead.is_lost()).await;
        // The one task is axum's own.
        eventually("no task is left", || host.metrics().num_alive_tasks() == 1).await;
    });
    host.shutdown_background();
}

#[test]
fn a_shutdown_without_grace_tells_everyone_and_leaves_no_task() {
    shut_down(Duration::ZERO, false);
    shut_down(Duration::from_millis(20), false);
}

#[test]
fn a_shutdown_that_nobody_awaits_goes_on() {
    shut_down(Duration::from_secs(2), true);
}
