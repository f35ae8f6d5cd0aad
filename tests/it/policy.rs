//! The host's decisions: which clients may join, under which name, and which values may be written.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    future::pending,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use crate::common::{Client, Server, eventually, serve, unlimited_rate, within};
use axum::{Router, extract::Request, middleware};
use axum_cloud_variables::{
    CloseCode, Dialect, Identity, Limits, RoomRegistry, RoomRegistryBuilder, Schema,
    policy::{Join, Policy, Rejection, Rights, Verdict, Write},
};
use tokio::sync::mpsc;

const VARIABLES: &[(&str, &str)] = &[("x", "0"), ("end", "")];

/// Starts a host whose auth layer gives everyone this identity.
async fn server(identity: Identity, builder: RoomRegistryBuilder) -> Server {
    let rooms = builder.build().unwrap();
    let app = Router::new().merge(rooms.mount("/cloud").require_identity(true)).layer(
        middleware::map_request(move |mut request: Request| {
            request.extensions_mut().insert(identity.clone());
            std::future::ready(request)
        }),
    );
    Server { addr: serve(app).await, rooms }
}

fn builder() -> RoomRegistryBuilder {
    RoomRegistry::builder().limits(unlimited_rate())
}

async fn with(policy: impl Policy) -> Server {
    Server::with(builder().policy(policy)).await
}

/// A policy that asks another service need not ask for a client that has left.
#[tokio::test]
async fn a_client_that_has_gone_is_asked_about_no_more() {
    struct Slow(Arc<()>);
    impl Policy for Slow {
        async fn admit(&self, _: &Join<'_>) -> Result<Identity, Rejection> {
            let _asked = self.0.clone();
            pending().await
        }
    }
    let asked = Arc::new(());
    let limits = unlimited_rate().admit_timeout(Duration::MAX);
    let server = Server::with(builder().limits(limits).policy(Slow(asked.clone()))).await;
    let mut ann = server.connect().await;
    ann.handshake("room", "ann", VARIABLES).await;
    eventually("the policy to be asked", || Arc::strong_count(&asked) == 3).await;
    drop(ann);
    eventually("the question to be dropped", || Arc::strong_count(&asked) == 2).await;
}

#[tokio::test]
async fn the_name_of_another_is_refused() {
    let server = server(Identity::new().with_username("ann smith"), builder()).await;
    let (code, reason) = server.refusal("room", "ben", VARIABLES).await;
    assert_eq!(code, 4002);
    assert!(reason.contains("logged in"), "{reason}");
    // The host knows this name, so no rule for usernames applies.
    server.join("room", "ann smith", VARIABLES).await;
    server.members(1).await;
}

#[tokio::test]
async fn the_name_of_another_is_overruled() {
    struct Ann;
    impl Policy for Ann {
        fn write(&self, write: &Write<'_>) -> Verdict {
            Verdict::Replace(write.username().into())
        }
    }
    let identity = Identity::new().with_assigned_username("ann smith");
    let server = server(identity, builder().policy(Ann)).await;
    let mut ben = server.join("room", "ben", VARIABLES).await;
    ben.set("x", "1").await;
    assert_eq!(ben.frame().await, [("x".into(), "ann smith".into())]);
    let refused = server.refusal("room", "cat", VARIABLES);
    assert_eq!(ben.reading_until(refused).await.0, 4002, "the name it got is in use");
}

/// One project with one id, for many groups: through a mount for each, or by the host's data about a
/// player.
#[tokio::test]
async fn one_id_is_a_room_for_each_group() {
    let rooms = builder().build().unwrap();
    let class = middleware::from_fn(async |mut request: Request, next: middleware::Next| {
        if let Some(class) = request.uri().query() {
            let identity = Identity::new().with_assigned_room(format!("class-{class}"));
            request.extensions_mut().insert(identity.with_rooms(["another"]));
        }
        next.run(request).await
    });
    let app = Router::new()
        .merge(rooms.mount("/7").rooms_in("seven"))
        .merge(rooms.mount("/8").rooms_in("eight"))
        .layer(class);
    let addr = serve(app).await;
    let join = async |path: &str, name: &str| {
        Client::join(&format!("ws://{addr}{path}"), "project", name, VARIABLES).await
    };
    let mut ann = join("/7", "ann").await;
    let _ben = join("/8", "ben").await;
    let mut cat = join("/7", "cat").await;
    let _dan = join("/7?9", "dan").await;
    let ids: Vec<_> = rooms.rooms("", 9).into_iter().map(|room| room.id.to_string()).collect();
    assert_eq!(ids, ["class-9", "eight/project", "seven/project"]);
    ann.set("x", "1").await;
    cat.until("x", "1").await;
    assert_eq!(rooms.room("eight/project").unwrap().get("x").as_deref(), Some("0"));
    let mut eve = Client::connect(&format!("ws://{addr}/7?{}", "9".repeat(2_000))).await;
    eve.handshake("project", "eve", VARIABLES).await;
    assert_eq!(eve.closed().await.0, 4001, "no id has so many characters");
}

#[tokio::test]
async fn a_room_that_is_not_ones_own_is_refused() {
    let server = server(Identity::new().with_rooms(["lobby", "arena"]), builder()).await;
    let (code, reason) = server.refusal("vault", "ann", VARIABLES).await;
    assert_eq!(code, 4001);
    assert!(reason.contains("room"), "{reason}");
    server.join("arena", "ann", VARIABLES).await;
    let mut cat = server.connect().await;
    cat.handshake_in(Dialect::Scratch, "vault", "cat", &[]).await;
    assert_eq!(cat.closed().await.0, 4004, "4001 would bring it back for ever");
}

#[tokio::test]
async fn a_read_only_member_writes_nothing() {
    let server =
        server(Identity::new().with_read_only(true), builder().schema(Schema::Growing)).await;
    let mut ann = server.join("room", "ann", VARIABLES).await;
    let mut ben = server.join("room", "ben", &[("x", "0"), ("mine", "1")]).await;
    ben.frame().await;
    ann.set("x", "1").await;
    assert_eq!(ann.frame().await, [("x".into(), "0".into())], "its view is healed");
    ann.sync().await;
    assert_eq!(ben.next_frame_or_none().await, None);
    let mut late = server.join("room", "cat", VARIABLES).await;
    assert_eq!(late.frame().await.len(), 2, "nobody created another");
}

#[tokio::test]
async fn admit_sees_the_request_and_decides_the_identity() {
    struct Doorman;
    impl Policy for Doorman {
        async fn admit(&self, join: &Join<'_>) -> Result<Identity, Rejection> {
            assert_eq!(join.dialect(), Dialect::Spec);
            assert_eq!(join.variables().count(), 2);
            match join.request().uri.query() {
                Some("token=ann") => {
                    Ok(Identity::new().with_assigned_username("ann").with_data(7_u8))
                }
                Some("token=late") if join.room_exists() => Err(Rejection::try_later("too late")),
                Some("token=bad") => Err(Rejection::kick("we remember you")),
                _ => Err(Rejection::permanent("no token")),
            }
        }
        fn write(&self, write: &Write<'_>) -> Verdict {
            assert_eq!((write.username(), write.identity().data::<u8>()), ("ann", Some(&7)));
            Verdict::Accept
        }
    }
    let server = with(Doorman).await;
    let mut ann =
        Client::join(&format!("{}?token=ann", server.url()), "room", "x", VARIABLES).await;
    ann.set("x", "1").await;
    ann.sync().await;
    for (query, code) in [("token=late", 4003), ("token=bad", 4004), ("", 4001)] {
        let mut client = Client::connect(&format!("{}?{query}", server.url())).await;
        client.handshake("room", "ben", VARIABLES).await;
        let (told, reason) = client.closed().await;
        assert_eq!(told, code);
        assert!(!reason.is_empty());
    }
}

#[tokio::test]
async fn an_admit_that_fails_is_told_as_a_fault_and_disturbs_nobody() {
    struct Broken;
    impl Policy for Broken {
        async fn admit(&self, join: &Join<'_>) -> Result<Identity, Rejection> {
            match join.username() {
                "panic" => panic!("as it is meant"),
                "never" => pending().await,
                _ => Ok(join.identity().clone()),
            }
        }
    }
    let limits = unlimited_rate().admit_timeout(Duration::from_millis(200));
    let server = Server::with(RoomRegistry::builder().limits(limits).policy(Broken)).await;
    let mut ann = server.join("room", "ann", VARIABLES).await;
    for name in ["panic", "never"] {
        assert_eq!(server.refusal("room", name, VARIABLES).await.0, 1011, "{name}");
    }
    let mut ben = server.join("room", "ben", VARIABLES).await;
    ben.frame().await;
    ann.set("x", "1").await;
    assert_eq!(ben.frame().await, [("x".into(), "1".into())]);
    server.members(2).await;
}

#[tokio::test]
async fn a_write_that_panics_ends_its_writers_session_alone() {
    struct Broken;
    impl Policy for Broken {
        fn write(&self, write: &Write<'_>) -> Verdict {
            assert_ne!(write.value(), "13", "as it is meant");
            Verdict::Accept
        }
    }
    let server = Server::with(builder().schema(Schema::Growing).policy(Broken)).await;
    let mut ann = server.join("room", "ann", VARIABLES).await;
    let mut ben = server.join("room", "ben", VARIABLES).await;
    ben.frame().await;
    ann.set("x", "13").await;
    assert_eq!(ann.closed().await.0, 1011);
    server.members(1).await;
    ben.set("x", "1").await;
    ben.sync().await;
    // A client that brings such a value into a room that grows is refused.
    assert_eq!(server.refusal("room", "cat", &[("new", "13")]).await.0, 1011);
    server.members(1).await;
    let mut ann = server.join("room", "ann", VARIABLES).await;
    ann.frame().await;
    assert_eq!(ann.view["x"], "1");
}

#[tokio::test]
async fn a_write_that_calls_the_registry_does_not_hang() {
    struct Curious(Arc<OnceLock<RoomRegistry>>);
    impl Policy for Curious {
        fn write(&self, _: &Write<'_>) -> Verdict {
            let stats = self.0.get().unwrap().stats();
            panic!("it was not told off: {stats:?}");
        }
    }
    let registry = Arc::new(OnceLock::new());
    let server = with(Curious(registry.clone())).await;
    registry.set(server.rooms.clone()).unwrap();
    let mut ann = server.join("room", "ann", VARIABLES).await;
    ann.set("x", "1").await;
    assert_eq!(ann.closed().await.0, 1011);
    server.members(0).await;
    assert_eq!(server.rooms.stats().rooms, 1, "the lock is free");
}

#[tokio::test]
async fn a_cheaters_write_is_seen_by_nobody_and_healed() {
    struct Referee {
        rights: Rights,
        asked: Arc<AtomicUsize>,
    }
    impl Policy for Referee {
        fn write(&self, write: &Write<'_>) -> Verdict {
            self.asked.fetch_add(1, SeqCst);
            let number = |text: &str| text.parse::<f64>().unwrap_or(0.0);
            let before = number(&write.get(write.name()).unwrap());
            let now = number(write.value());
            match write.name() {
                _ if now == 666.0 => Verdict::Reject(Rejection::kick("no")),
                "p_ann" if (now - before).abs() > 10.0 => Verdict::Ignore,
                "p_ann" if now < 0.0 => Verdict::Replace("0".into()),
                _ => self.rights.write(write),
            }
        }
    }
    let asked = Arc::new(AtomicUsize::new(0));
    let rights = Rights::new().host_only("ball").owner_only("p_{name}");
    let server = with(Referee { rights, asked: asked.clone() }).await;
    let variables = &[("ball", "5"), ("p_ann", "1"), ("p_ben", "1"), ("end", "")];
    let mut ann = server.join("room", "ann", variables).await;
    let mut ben = server.join("room", "ben", variables).await;
    ben.frame().await;
    let healed = |name: &str, value: &str| [(name.to_owned(), value.to_owned())];
    ann.set("ball", "9").await;
    assert_eq!(ann.frame().await, healed("ball", "5"));
    ann.set("p_ben", "2").await;
    assert_eq!(ann.frame().await, healed("p_ben", "1"));
    ann.set("p_ann", "100").await;
    assert_eq!(ann.frame().await, healed("p_ann", "1"));
    ann.set("p_ann", "-3").await;
    assert_eq!(ann.frame().await, healed("p_ann", "0"));
    ann.set("p_ann", "4").await;
    ann.set("end", "1").await;
    let seen = ben.until("end", "1").await;
    let expected =
        [("p_ann", "0"), ("p_ann", "4"), ("end", "1")].map(|(n, v)| (n.into(), v.into()));
    assert_eq!(seen, expected);
    assert_eq!(asked.load(SeqCst), 6);
    ann.set("p_ann", "666").await;
    let (code, reason) = ann.closed().await;
    assert_eq!((code, &*reason), (4004, "no"));
}

#[tokio::test]
async fn only_if_it_is_empty_is_no_race() {
    struct First;
    impl Policy for First {
        fn write(&self, write: &Write<'_>) -> Verdict {
            match write.get(write.name()).unwrap().is_empty() {
                true => Verdict::Accept,
                false => Verdict::Ignore,
            }
        }
    }
    let server = Server::with(builder().limits(Limits::default()).policy(First)).await;
    let variables = &[("winner", "")];
    let mut players = Vec::new();
    for i in 0..20 {
        players.push(server.join("room", &format!("p{i}"), variables).await);
    }
    for (i, player) in players.iter_mut().enumerate() {
        player.set("winner", &i.to_string()).await;
    }
    let mut winners = Vec::new();
    for player in &mut players {
        player.sync().await;
    }
    let mut late = server.join("room", "late", variables).await;
    late.frame().await;
    for (i, player) in players.iter_mut().enumerate() {
        player.apply_waiting();
        while player.view["winner"] != late.view["winner"] {
            player.frame().await;
        }
        if late.view["winner"] == i.to_string() {
            winners.push(i);
        }
    }
    assert_eq!(winners.len(), 1);
}

/// A value of the host's that reads the room when its member leaves, as a session's log might.
#[derive(Clone)]
struct Watch(#[expect(dead_code, reason = "it is dropped")] Arc<WatchInner>);

struct WatchInner {
    rooms: RoomRegistry,
    dropped: mpsc::UnboundedSender<Option<usize>>,
}

impl Drop for WatchInner {
    fn drop(&mut self) {
        let there = self.rooms.room("arena").map(|room| room.len());
        _ = self.rooms.stats();
        _ = self.dropped.send(there);
    }
}

struct Watches(OnceLock<(RoomRegistry, mpsc::UnboundedSender<Option<usize>>)>);

impl Policy for &'static Watches {
    async fn admit(&self, join: &Join<'_>) -> Result<Identity, Rejection> {
        let (rooms, dropped) = self.0.get().unwrap().clone();
        Ok(join.identity().clone().with_data(Watch(Arc::new(WatchInner { rooms, dropped }))))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hosts_data_of_a_member_may_ask_the_room_when_it_is_dropped() {
    static WATCHES: Watches = Watches(OnceLock::new());
    let server =
        Server::with(RoomRegistry::builder().limits(unlimited_rate()).policy(&WATCHES)).await;
    let (sender, mut dropped) = mpsc::unbounded_channel();
    WATCHES.0.set((server.rooms.clone(), sender)).ok().unwrap();
    // The buffers of events hold it for longer.
    let _events = server.rooms.events();
    let mut next = async || within("it is dropped", dropped.recv()).await.unwrap();
    let mut members = Vec::new();
    for name in ["ann", "ben", "eve", "sue"] {
        members.push(server.join("arena", name, VARIABLES).await);
    }
    // Members go by leaving, by a kick, and with the whole room.
    let arena = server.rooms.room("arena").unwrap();
    drop(members.pop());
    server.members(3).await;
    let kicked = arena.members()[0].id;
    arena.kick(kicked, CloseCode::Username, "out").await.unwrap();
    arena.close().await.unwrap();
    arena.remove().await.unwrap();
    assert_eq!(server.rooms.stats().rooms, 0);
    // Other events overwrite those that still hold the values.
    for n in 0..5_000 {
        let room = server.rooms.open(format!("room {}", n % 50)).await.unwrap();
        room.remove().await.unwrap();
    }
    for _ in 0..4 {
        next().await;
    }
}
