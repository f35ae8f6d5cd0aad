//! The kit for a host's tests makes the same things as a server, in no time.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    future::ready,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, extract::Request, middleware};
use axum_cloud_variables::{
    Dialect, Identity, RoomRegistry,
    client::{Client, ClientError},
    policy::{Join, Policy, Rejection, Verdict, Write},
    store::{Change, MemoryStore, RoomStore, StoreError, StoredBan, StoredEntry, StoredRoom},
    testing::{self, JoinBuilder, WriteBuilder, store_contract},
};
use tokio::time::{Instant, sleep};

#[tokio::test(start_paused = true)]
async fn an_hour_is_over_in_a_moment() {
    let (began, real) = (Instant::now(), std::time::Instant::now());
    let rooms = RoomRegistry::new();
    let app = Router::new().merge(rooms.mount("/cloud"));
    let ann = testing::client(&app, "/cloud", "lobby", "ann").variables([("x", "0")]);
    let ann = ann.connect().await.unwrap();
    ann.set("x", 1);
    sleep(Duration::from_secs(3_600)).await;
    assert!(ann.is_joined(), "both sides answer pings");
    assert_eq!(rooms.room("lobby").unwrap().get("x").as_deref(), Some("1"));
    ann.close().await;
    sleep(Duration::from_secs(3_700)).await;
    assert!(rooms.room("lobby").is_none(), "an empty room is forgotten");
    assert!(began.elapsed() > Duration::from_secs(7_200));
    assert!(real.elapsed() < Duration::from_secs(20));
}

#[tokio::test(start_paused = true)]
async fn a_client_passes_the_layers_of_the_app() {
    let rooms = RoomRegistry::new();
    let auth = middleware::from_fn(async |mut request: Request, next: middleware::Next| {
        if request.uri().query() == Some("token=7") {
            request.extensions_mut().insert(Identity::new().with_assigned_username("ann"));
        }
        next.run(request).await
    });
    let mount = rooms.mount("/cloud").require_identity(true);
    let app = Router::new().merge(mount).layer(auth);
    let refused = testing::client(&app, "/cloud", "lobby", "eve").connect().await;
    assert!(matches!(refused, Err(ClientError::Refused { status: 401, .. })));
    let _ann = testing::client(&app, "/cloud?token=7", "lobby", "guest").connect().await.unwrap();
    assert_eq!(&*rooms.room("lobby").unwrap().members()[0].username, "ann");
}

/// A policy that records its questions.
#[derive(Default)]
struct Noting(Mutex<Vec<String>>);

impl Policy for Noting {
    async fn admit(&self, join: &Join<'_>) -> Result<Identity, Rejection> {
        let variables: Vec<_> =
            join.variables().map(|(name, value)| format!("{name}={value}")).collect();
        let request = join.request();
        self.0.lock().unwrap().push(format!(
            "{} {} {:?} {variables:?} {} {} {:?} {:?} {} {}",
            join.room(),
            join.username(),
            join.dialect(),
            request.uri,
            request.headers["ticket"].to_str().unwrap(),
            request.extensions.get::<u8>(),
            join.room_data::<u16>(),
            join.room_exists(),
            join.identity().is_read_only(),
        ));
        Ok(join.identity().clone())
    }

    fn write(&self, write: &Write<'_>) -> Verdict {
        self.0.lock().unwrap().push(format!(
            "{} {} {}={} {:?} {:?} {:?} {}",
            write.room(),
            write.username(),
            write.name(),
            write.value(),
            write.get("x \"☁\""),
            write.get("y"),
            write.room_data::<u16>(),
            write.identity().is_read_only(),
        ));
        Verdict::Accept
    }
}

#[tokio::test]
async fn builders_make_the_arguments_of_a_policy() {
    let noting = Noting::default();
    let join = JoinBuilder::new("arena", "ann")
        .dialect(Dialect::Scratch)
        .variables([("x", 1)])
        .identity(Identity::new().with_read_only(true))
        .uri("/cloud?token=7")
        .header("ticket", "8")
        .extension(9_u8)
        .room_data(10_u16)
        .room_exists(true);
    noting.admit(&join.build()).await.unwrap();
    let write = WriteBuilder::new("arena", "ann", "x", 2.5)
        .identity(Identity::new().with_read_only(true))
        .values([("x \"☁\"", "\n")])
        .room_data(10_u16);
    assert_eq!(noting.write(&write.build()), Verdict::Accept);
    let expected = [
        r#"arena ann Scratch ["x=1"] /cloud?token=7 8 Some(9) Some(10) true true"#,
        r#"arena ann x=2.5 Some("\n") None Some(10) true"#,
    ];
    assert_eq!(*noting.0.lock().unwrap(), expected);
    assert!(format!("{join:?} {write:?}").contains("arena"));
}

/// A store that forgets dropped variables, but not the order in which variables were created.
#[derive(Debug, Default)]
struct Sloppy(MemoryStore);

impl RoomStore for Sloppy {
    fn load(&self, room: &str) -> Result<Option<StoredRoom>, StoreError> {
        let mut stored = self.0.load(room)?;
        if let Some(stored) = &mut stored {
            stored.variables.sort();
        }
        Ok(stored)
    }

    fn bans(&self, room: &str) -> Result<Vec<StoredBan>, StoreError> {
        self.0.bans(room)
    }

    fn commit(&self, changes: &[Change]) -> Result<(), StoreError> {
        self.0.commit(changes)
    }

    fn rooms(&self, after: &str, count: usize) -> Result<Vec<StoredEntry>, StoreError> {
        self.0.rooms(after, count)
    }
}

#[test]
#[should_panic(expected = "left == right")]
fn a_store_that_breaks_the_contract_is_found() {
    store_contract(&Sloppy::default());
}

/// The client chooses the app for each connection.
#[tokio::test(start_paused = true)]
async fn a_client_comes_back_to_the_server_that_replaces_its_own() {
    let store = Arc::new(MemoryStore::default());
    let registry = || RoomRegistry::builder().store(store.clone()).build().unwrap();
    let app = |rooms: &RoomRegistry| Router::new().merge(rooms.mount("/cloud"));
    let before = registry();
    let current = Arc::new(Mutex::new(app(&before)));
    let of_now = current.clone();
    let ann = Client::builder("ws://in-process/cloud", "lobby", "ann")
        .variables([("x", "0")])
        .over(move || ready(Ok(testing::connect(&of_now.lock().unwrap()))));
    let ann = ann.connect().await.unwrap();
    ann.set("x", 1);
    assert!(before.shutdown(Duration::from_secs(1)).await.is_complete());
    let after = registry();
    *current.lock().unwrap() = app(&after);
    let bob = testing::client(&app(&after), "/cloud", "lobby", "bob").variables([("x", "0")]);
    let bob = bob.connect().await.unwrap();
    assert_eq!(bob.get("x").as_deref(), Some("1"));
    bob.set("x", 2);
    assert_eq!(ann.wait_for("x", |x| x == "2").await.as_deref(), Ok("2"));
    let waiting = ann.wait_for("x", |_| false);
    let (waited, ()) = futures_util::join!(waiting, ann.close());
    assert_eq!(waited, Err(ClientError::Left));
}

#[tokio::test]
async fn a_secret_that_servers_ignore_is_an_error() {
    let app = Router::new().merge(RoomRegistry::new().mount("/cloud"));
    for length in [0, 15, 129] {
        let ann = testing::client(&app, "/cloud", "lobby", "ann").resume("s".repeat(length));
        assert_eq!(ann.connect().await.unwrap_err(), ClientError::Secret);
    }
    let ann = testing::client(&app, "/cloud", "lobby", "ann").resume("s".repeat(16));
    ann.connect().await.unwrap();
}
