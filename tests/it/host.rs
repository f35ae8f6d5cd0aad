//! The host in its rooms: it opens, reads, writes, observes and kicks.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::{collections::HashMap, time::Duration};

use crate::common::{Client, Server, eventually, serve, unlimited_rate, within};
use axum::{Router, extract::Request, middleware};
use axum_cloud_variables::{
    CloseCode, Creators, Dialect, DuplicateNames, Identity, LeaveCause, Limits, MemberId,
    OpenError, Room, RoomError, RoomRegistry, Schema, SetError,
    events::RoomEvent,
    policy::{Policy, Verdict, Write},
};
use futures_util::{StreamExt, stream::FusedStream};

const VARIABLES: &[(&str, &str)] = &[("x", "0"), ("end", "")];

fn frame(sets: &[(&str, &str)]) -> Vec<(String, String)> {
    sets.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

async fn opened(server: &Server) -> Room {
    server.rooms.open("arena").variables(VARIABLES.iter().copied()).await.unwrap()
}

#[tokio::test]
async fn a_room_has_its_schema_before_any_player() {
    let server = Server::start().await;
    let arena = opened(&server).await;
    assert_eq!((arena.id(), arena.len(), arena.is_empty()), ("arena", 0, true));
    assert_eq!(server.refusal("arena", "ann", &[("y", "0")]).await.0, 4001);
    let mut ann = server.join("arena", "ann", &[("x", "mine"), ("end", "mine")]).await;
    ann.frame().await;
    assert_eq!(ann.view["x"], "0", "the host's value");
    assert_eq!(arena.members()[0].username.as_ref(), "ann");
    assert_eq!(arena.members()[0].dialect, Dialect::Spec);
    assert_eq!(server.rooms.room("arena").unwrap().len(), 1);
    assert!(server.rooms.room("else").is_none());
}

#[tokio::test]
async fn the_host_reads_and_writes() {
    let server = Server::start().await;
    let arena = opened(&server).await;
    let mut ann = server.join("arena", "ann", VARIABLES).await;
    let mut cat = server.join_in(Dialect::Scratch, "arena", "cat", &[]).await;
    ann.frame().await;
    cat.frame().await;
    arena.set("x", 4.5).unwrap();
    assert_eq!(ann.frame().await, frame(&[("x", "4.5")]));
    assert_eq!(cat.frame().await, frame(&[("x", "4.5")]));
    // Nobody sees half of it, although the room was quiet.
    tokio::time::sleep(Duration::from_millis(50)).await;
    arena.set_all([("x", "7"), ("end", "8")]).unwrap();
    assert_eq!(ann.frame().await, frame(&[("x", "7"), ("end", "8")]));
    ann.set("x", "\"☁\"").await;
    ann.sync().await;
    assert_eq!(arena.get("x").as_deref(), Some("\"☁\""));
    let variables: HashMap<_, _> = arena.variables().into_iter().collect();
    assert_eq!(variables, HashMap::from_iter(frame(&[("x", "\"☁\""), ("end", "8")])));
    assert_eq!(arena.get("y"), None);
}

#[tokio::test]
async fn an_impossible_call_is_an_error_and_changes_nothing() {
    let limits = unlimited_rate().value_bytes(10).variables_per_room(3);
    let server = Server::with(RoomRegistry::builder().limits(limits)).await;
    let arena = opened(&server).await;
    assert_eq!(arena.set("y", 1), Err(SetError::UnknownVariable));
    assert_eq!(arena.set_all([("x", "1"), ("y", "1")]), Err(SetError::UnknownVariable));
    assert_eq!(arena.set_all([("x", "1"), ("end", "far too long")]), Err(SetError::TooLong));
    assert_eq!(arena.get("x").as_deref(), Some("0"));
    let grows = server.rooms.open("grows").schema(Schema::Growing).await.unwrap();
    grows.set_all([("a", 1), ("b", 2)]).unwrap();
    assert_eq!(grows.set_all([("c", 3), ("d", 4)]), Err(SetError::RoomFull));
    assert_eq!(grows.set("", 1), Err(SetError::TooLong));
    assert_eq!(grows.variables().len(), 2);
    let four = ["a", "b", "c", "d"].map(|name| (name, ""));
    assert_eq!(server.rooms.open("big").variables(four).await.unwrap_err(), OpenError::TooLarge);
    assert_eq!(server.rooms.open("").await.unwrap_err(), OpenError::InvalidId);
}

#[tokio::test]
async fn events_name_each_member_and_its_action() {
    let server = Server::start().await;
    let mut all = server.rooms.events();
    let arena = opened(&server).await;
    let mut events = arena.events();
    let mut ann = server.join("arena", "ann", VARIABLES).await;
    ann.frame().await;
    ann.set("x", "1").await;
    ann.sync().await;
    arena.set("x", 2).unwrap();
    ann.close().await;
    let mut seen = Vec::new();
    while seen.last().is_none_or(|last| last != "emptied") {
        seen.push(match within("event", events.next()).await.unwrap() {
            RoomEvent::Joined(member) => format!("{} joined", member.username),
            RoomEvent::Left { member, cause } => format!("{} left: {cause:?}", member.username),
            RoomEvent::Wrote { name, value, by } => {
                format!("{name}={value} by {}", by.username().unwrap_or("host"))
            }
            RoomEvent::Emptied => "emptied".into(),
            other => format!("{other:?}"),
        });
    }
    assert_eq!(seen, ["ann joined", "x=1 by ann", "x=2 by host", "ann left: Closed", "emptied"]);
    arena.remove().await.unwrap();
    assert!(matches!(events.next().await, Some(RoomEvent::Closed)));
    assert!(events.next().await.is_none(), "they end with the room");
    assert!(events.next().await.is_none(), "and stay so");
    assert!(FusedStream::is_terminated(&events));
    let mut seen = Vec::new();
    while seen.len() < 5 {
        let event = within("event", all.next()).await.unwrap();
        assert_eq!(event.room(), Some("arena"));
        seen.push(format!("{event:?}").split(['(', ' ']).next().unwrap().to_owned());
    }
    assert_eq!(seen, ["Created", "Joined", "Left", "Emptied", "Closed"]);
}

#[tokio::test]
async fn a_slow_observer_learns_how_much_it_missed_and_slows_nobody() {
    let server = Server::start().await;
    let arena = opened(&server).await;
    let mut events = arena.events();
    for i in 0..1_000 {
        arena.set("x", i).unwrap();
    }
    let Some(RoomEvent::Missed(missed)) = events.next().await else { panic!("not told") };
    let Some(RoomEvent::Wrote { value, .. }) = events.next().await else { panic!("no more") };
    assert_eq!(*value, *missed.to_string(), "and then goes on behind them");
    assert_eq!(arena.get("x").as_deref(), Some("999"));
}

#[tokio::test]
async fn a_kicked_member_receives_the_reason_and_its_name_is_free() {
    let server = Server::start().await;
    let arena = opened(&server).await;
    let mut ann = server.join("arena", "ann", VARIABLES).await;
    let mut cat = server.join_in(Dialect::Scratch, "arena", "cat", &[]).await;
    let ids: Vec<_> = arena.members().iter().map(|member| member.id).collect();
    arena.kick(ids[0], CloseCode::Kicked, "no shouting").await.unwrap();
    assert_eq!(arena.len(), 1);
    let again = server.join("arena", "ann", VARIABLES).await;
    ann.frame().await;
    assert_eq!(ann.closed().await, (4004, "no shouting".into()));
    let gone = arena.kick(ids[0], CloseCode::Kicked, "").await;
    assert_eq!(gone, Err(RoomError::NoSuchMember));
    arena.kick(ids[1], CloseCode::Kicked, "no shouting").await.unwrap();
    cat.frame().await;
    assert_eq!(cat.closed().await, (4000, "no shouting".into()), "4004 would keep it away");
    drop(again);
}

#[tokio::test]
async fn a_ban_is_over_after_its_time() {
    let server = Server::start().await;
    let arena = opened(&server).await;
    let mut ann = server.join("arena", "ann", VARIABLES).await;
    ann.frame().await;
    arena.ban(arena.members()[0].id, Duration::from_millis(400)).await.unwrap();
    assert_eq!(ann.closed().await.0, 4002);
    let (code, reason) = server.refusal("arena", "Ann", VARIABLES).await;
    assert_eq!(code, 4002);
    assert!(reason.contains("banned"), "{reason}");
    server.join("arena", "ben", VARIABLES).await;
    server.join("else", "ann", VARIABLES).await;
    within("the end of the ban", async {
        while server.refusal_or_join("arena", "ann", VARIABLES).await.is_some() {}
    })
    .await;
}

#[tokio::test]
async fn a_locked_room_keeps_its_members_and_refuses_others() {
    let server = Server::start().await;
    let arena = opened(&server).await;
    let mut ann = server.join("arena", "ann", VARIABLES).await;
    arena.lock().await.unwrap();
    assert!(server.rooms.rooms("", 10)[0].locked);
    assert_eq!(server.refusal("arena", "ben", VARIABLES).await.0, 4003);
    let mut cat = server.connect().await;
    cat.handshake_in(Dialect::Scratch, "arena", "cat", &[]).await;
    assert_eq!(cat.closed().await.0, 1013);
    ann.set("x", "1").await;
    ann.sync().await;
    assert_eq!(arena.get("x").as_deref(), Some("1"));
    arena.unlock().await.unwrap();
    server.join("arena", "ben", VARIABLES).await;
}

#[tokio::test]
async fn a_closed_room_keeps_its_variables_and_a_removed_one_nothing() {
    let server = Server::start().await;
    let arena = opened(&server).await;
    for gone in [false, true] {
        let mut ann = server.join("arena", "ann", VARIABLES).await;
        ann.frame().await;
        arena.set("x", 5).unwrap();
        ann.until("x", "5").await;
        match gone {
            true => arena.remove().await.unwrap(),
            false => arena.close().await.unwrap(),
        }
        let (code, reason) = ann.closed().await;
        assert_eq!((code, &*reason), (1001, "the room was closed"));
        assert_eq!(arena.get("x").is_none(), gone);
    }
    assert_eq!(arena.set("x", 1), Err(SetError::Gone));
    assert_eq!(arena.lock().await, Err(RoomError::Gone));
    assert!(arena.variables().is_empty() && arena.members().is_empty());
    assert!(arena.events().next().await.is_none());
    assert_eq!(server.rooms.stats().rooms, 0);
    eventually("all bytes back", || server.rooms.stats().state_bytes == 0).await;
}

#[tokio::test]
async fn a_room_of_the_host_stays_until_it_is_closed() {
    let limits = unlimited_rate().rooms(2).empty_room_ttl(Duration::from_millis(1));
    let server = Server::with(RoomRegistry::builder().limits(limits)).await;
    let arena = opened(&server).await;
    for room in ["a", "b", "c"] {
        server.join(room, "ann", VARIABLES).await.close().await;
        server.members(0).await;
    }
    server.join("arena", "ann", VARIABLES).await.close().await;
    server.members(0).await;
    eventually("the other is forgotten", || server.rooms.stats().rooms == 1).await;
    assert_eq!(arena.get("x").as_deref(), Some("0"));
    arena.close().await.unwrap();
    eventually("it is forgotten", || server.rooms.stats().rooms == 0).await;
    assert_eq!(arena.get("x"), None);
}

#[tokio::test]
async fn clients_join_only_rooms_of_the_host() {
    let server = Server::with(RoomRegistry::builder().creators(Creators::Host)).await;
    let _arena = opened(&server).await;
    server.join("arena", "ann", VARIABLES).await;
    assert_eq!(server.refusal("else", "ann", VARIABLES).await.0, 4001);
    assert_eq!(server.rooms.stats().rooms, 1);
}

#[tokio::test]
async fn a_game_that_was_updated_has_its_new_names() {
    let server = Server::start().await;
    let arena = opened(&server).await;
    arena.set("x", 5).unwrap();
    let mut ann = server.join("arena", "ann", VARIABLES).await;
    let mut cat = server.join_in(Dialect::Scratch, "arena", "cat", &[]).await;
    ann.frame().await;
    cat.frame().await;
    let before = server.rooms.stats().state_bytes;
    let arena = server.rooms.open("arena").variables([("x", "1"), ("level", "2")]).await.unwrap();
    assert_eq!(ann.closed().await.0, 4001);
    assert_eq!(cat.frame().await, frame(&[("level", "2")]), "it brought no names");
    let now: HashMap<_, _> = arena.variables().into_iter().collect();
    assert_eq!(now, HashMap::from_iter(frame(&[("x", "5"), ("level", "2")])));
    assert_eq!(server.refusal("arena", "ben", VARIABLES).await.0, 4001);
    server.join("arena", "ben", &[("x", ""), ("level", "")]).await;
    assert!(server.rooms.stats().state_bytes < before + 2_000);
}

#[tokio::test]
async fn a_room_has_settings_of_its_own() {
    let server = Server::start().await;
    let duel = server
        .rooms
        .open("duel")
        .variables(VARIABLES.iter().copied())
        .max_members(1)
        .tick(Duration::ZERO)
        .await
        .unwrap();
    let _ann = server.join("duel", "ann", VARIABLES).await;
    assert_eq!(server.refusal("duel", "ben", VARIABLES).await.0, 4003);
    assert_eq!(server.rooms.rooms("", 10)[0].max_members, 1);
    drop(duel);
    let small = server.rooms.open("small").schema(Schema::Growing).variables([("x", "0")]);
    let small = small.max_variables(2).await.unwrap();
    small.set("y", 1).unwrap();
    assert_eq!(small.set("z", 1), Err(SetError::RoomFull));
    let mut eve = server.join("small", "eve", &[("x", "0")]).await;
    eve.set("mine", "1").await;
    eve.sync().await;
    assert_eq!(small.variables().len(), 2);
    server.rooms.open("small").max_variables(3).await.unwrap();
    eve.set("mine", "2").await;
    eve.sync().await;
    assert_eq!(small.get("mine").as_deref(), Some("2"));
    small.remove().await.unwrap();
    for id in ["a", "b", "c"] {
        server.rooms.open(id).await.unwrap();
    }
    let ids = |after, count| -> Vec<String> {
        server.rooms.rooms(after, count).iter().map(|room| room.id.to_string()).collect()
    };
    assert_eq!(ids("", 3), ["a", "b", "c"]);
    assert_eq!(ids("c", 3), ["duel"]);
}

/// The host may write from a thread without a runtime.
#[tokio::test]
async fn any_thread_may_write() {
    let server = Server::start().await;
    let arena = opened(&server).await;
    let mut ann = server.join("arena", "ann", VARIABLES).await;
    ann.frame().await;
    let writes = {
        let arena = arena.clone();
        std::thread::spawn(move || (1..=100).for_each(|i| arena.set("x", i).unwrap()))
    };
    ann.until("x", "100").await;
    writes.join().unwrap();
}

#[tokio::test]
async fn a_host_learns_why_somebody_left() {
    let limits = unlimited_rate();
    let builder = RoomRegistry::builder()
        .limits(limits)
        .duplicate_names(Dialect::Spec, DuplicateNames::Replace);
    let server = Server::with(builder).await;
    let room = opened(&server).await;
    let mut events = room.events();
    let id = |room: &Room| room.members()[0].id;
    let mut seen = Vec::new();
    for how in ["close", "drop", "junk", "kick", "ban", "take", "end", "shutdown"] {
        let mut member = server.join("arena", &format!("{how}_it"), VARIABLES).await;
        match how {
            "close" => member.close().await,
            "drop" => drop(member),
            "junk" => {
                member.send("no JSON").await;
                member.closed().await;
            }
            "kick" => room.kick(id(&room), CloseCode::Kicked, "enough").await.unwrap(),
            "ban" => room.ban(id(&room), Duration::from_secs(60)).await.unwrap(),
            "take" => {
                let newer = server.join("arena", "take_it", VARIABLES).await;
                newer.close().await;
            }
            "end" => room.close().await.unwrap(),
            _ => {
                let rooms = server.rooms.clone();
                tokio::spawn(async move { rooms.shutdown(Duration::from_secs(5)).await });
                member.closed().await;
                drop(member);
            }
        }
        let count = if how == "take" { 2 } else { 1 };
        let before = seen.len();
        while seen.len() < before + count {
            if let Some(RoomEvent::Left { cause, .. }) =
                within("somebody left", events.next()).await
            {
                seen.push(cause);
            }
        }
    }
    use LeaveCause::{Banned, Closed, Kicked, Lost, Protocol, RoomClosed, Shutdown, TakenOver};
    let causes = [Closed, Lost, Protocol, Kicked, Banned, TakenOver, Closed, RoomClosed, Shutdown];
    assert_eq!(seen, causes);
}

#[tokio::test]
async fn an_absent_player_can_be_banned_and_let_in_again() {
    let rooms = RoomRegistry::builder().limits(unlimited_rate()).build().unwrap();
    let auth = middleware::from_fn(async |mut request: Request, next: middleware::Next| {
        if let Some(account) = request.uri().query().map(str::to_owned) {
            request.extensions_mut().insert(Identity::new().with_id(account));
        }
        next.run(request).await
    });
    let addr = serve(Router::new().merge(rooms.mount("/cloud")).layer(auth)).await;
    let room = rooms.open("arena").variables(VARIABLES.iter().copied()).await.unwrap();
    let refusal = async |account: &str, name: &str| {
        let mut client = Client::connect(&format!("ws://{addr}/cloud{account}")).await;
        client.handshake("arena", name, VARIABLES).await;
        within("a close", client.closed()).await.1
    };
    let join = async |account: &str, name: &str| {
        Client::join(&format!("ws://{addr}/cloud{account}"), "arena", name, VARIABLES).await
    };
    let minute = Duration::from_secs(60);
    room.ban_person("7", minute).await.unwrap();
    room.ban_name("eve", minute).await.unwrap();
    assert_eq!(refusal("?7", "whoever").await, "you are banned from this room");
    assert_eq!(refusal("", "EVE").await, "you are banned from this room");
    let mut ann = join("?8", "ann").await;
    room.ban_person("8", minute).await.unwrap();
    assert_eq!(ann.closed().await.0, 4002);
    for (account, name) in [("?7", "whoever"), ("", "eve")] {
        room.unban_person("7").await.unwrap();
        room.unban_name("eve").await.unwrap();
        join(account, name).await.close().await;
    }
    assert_eq!(refusal("?8", "ann").await, "you are banned from this room");
}

#[tokio::test]
async fn values_that_are_set_together_have_place_together() {
    let limits = Limits::default().variables_per_room(2);
    let rooms = RoomRegistry::builder().limits(limits).schema(Schema::Growing).build().unwrap();
    let room = rooms.open("arena").variables([("x", "0")]).await.unwrap();
    assert_eq!(room.set_all([("a", "1"), ("b", "1")]), Err(SetError::RoomFull));
    assert_eq!(room.variables().len(), 1, "none of them counts");
    room.set_all([("a", "1"), ("x", "1")]).unwrap();
    assert_eq!(room.set_all([("b", "1")]), Err(SetError::RoomFull));
}

/// For a log or a page of the host's own. The host's data about a person is not included.
#[tokio::test]
async fn events_and_stats_can_be_written_as_json() {
    let server = Server::with(RoomRegistry::builder().limits(unlimited_rate()).history(10)).await;
    let arena = opened(&server).await;
    let mut events = arena.events();
    let mut ann = server.join("arena", "ann", VARIABLES).await;
    ann.set("x", "1").await;
    ann.close().await;
    let json = |event: &RoomEvent| serde_json::to_value(event).unwrap();
    let member = serde_json::json!({ "id": 1, "username": "ann", "dialect": "spec" });
    let expected = [
        serde_json::json!({ "joined": member }),
        serde_json::json!({ "wrote": { "name": "x", "value": "1", "by": { "member": member } } }),
        serde_json::json!({ "left": { "member": member, "cause": "closed" } }),
        serde_json::json!("emptied"),
    ];
    for expected in expected {
        let event = within("an event", events.next()).await.unwrap();
        assert_eq!(json(&event), expected);
    }
    assert_eq!(json(&RoomEvent::Missed(3)), serde_json::json!({ "missed": 3 }));
    let past = serde_json::to_value(arena.history()).unwrap();
    assert_eq!((&past[0]["name"], &past[0]["by"]), (&"x".into(), &"ann".into()));
    let stats = serde_json::to_value(server.rooms.stats()).unwrap();
    assert_eq!((&stats["rooms"], &stats["activity"]["writes"]), (&1.into(), &1.into()));
    let listed = serde_json::to_value(server.rooms.rooms("", 10)).unwrap();
    assert_eq!((&listed[0]["id"], &listed[0]["variables"]), (&"arena".into(), &2.into()));
}

#[tokio::test]
async fn a_room_ends_with_the_hosts_words() {
    let server = Server::with(RoomRegistry::builder().limits(unlimited_rate())).await;
    let arena = opened(&server).await;
    let events = arena.events();
    let mut ann = server.join("arena", "ann", VARIABLES).await;
    let mut cat = server.join_in(Dialect::Scratch, "arena", "cat", &[]).await;
    arena.set("end", "ann has won").unwrap();
    arena.end(CloseCode::Incompatible, "the match is over").await.unwrap();
    ann.until("end", "ann has won").await;
    assert_eq!(ann.closed().await, (4001, "the match is over".into()));
    cat.until("end", "ann has won").await;
    assert_eq!(cat.closed().await, (4004, "the match is over".into()), "its clients stay away too");
    assert_eq!(arena.end(CloseCode::Incompatible, "again").await, Err(RoomError::Gone));
    assert!(server.rooms.room("arena").is_none());
    let causes = events.filter_map(async |event| match event {
        RoomEvent::Left { cause, .. } => Some(cause),
        _ => None,
    });
    assert_eq!(causes.collect::<Vec<_>>().await, [LeaveCause::RoomClosed; 2]);
}

/// A member's rights, and the host's data about it, can change while it plays.
#[tokio::test]
async fn a_member_gets_another_identity_while_it_plays() {
    #[derive(Clone)]
    struct Level(u32);
    struct Doors;
    impl Policy for Doors {
        fn write(&self, write: &Write<'_>) -> Verdict {
            match write.identity().data::<Level>() {
                Some(Level(3..)) => Verdict::Accept,
                _ => Verdict::Ignore,
            }
        }
    }
    let server = Server::with(RoomRegistry::builder().limits(unlimited_rate()).policy(Doors)).await;
    let room = opened(&server).await;
    let mut ann = server.join("arena", "ann", VARIABLES).await;
    let info = room.members()[0].clone();
    let mut set = async |value: &str| {
        ann.set("x", value).await;
        ann.sync().await;
        room.get("x").unwrap()
    };
    assert_eq!(set("1").await, "0", "no level yet");
    room.set_identity(info.id, info.identity.clone().with_data(Level(3))).unwrap();
    assert_eq!(set("2").await, "2");
    let identity = room.members()[0].identity.clone();
    room.set_identity(info.id, identity.with_read_only(true)).unwrap();
    assert_eq!(set("3").await, "2");
    assert!(room.members()[0].identity.is_read_only());
    assert_eq!(&*room.members()[0].username, "ann");
    let nobody = MemberId::from(99);
    assert_eq!(room.set_identity(nobody, Identity::new()), Err(RoomError::NoSuchMember));
}

/// The Rust API Guidelines, C-SEND-SYNC and C-GOOD-ERR.
#[test]
fn public_types_can_be_shared_by_threads_and_errors_are_errors() {
    fn shared<T: Send + Sync>() {}
    fn error<E: std::error::Error + Send + Sync + 'static>() {}
    shared::<RoomRegistry>();
    shared::<axum_cloud_variables::Room>();
    shared::<axum_cloud_variables::Mount>();
    shared::<axum_cloud_variables::events::Events<RoomEvent>>();
    shared::<axum_cloud_variables::client::Client>();
    shared::<axum_cloud_variables::client::ClientBuilder>();
    shared::<axum_cloud_variables::policy::Write<'_>>();
    shared::<axum_cloud_variables::policy::Join<'_>>();
    error::<axum_cloud_variables::BuildError>();
    error::<axum_cloud_variables::OpenError>();
    error::<axum_cloud_variables::RoomError>();
    error::<axum_cloud_variables::SetError>();
    error::<axum_cloud_variables::TransferError>();
    error::<axum_cloud_variables::UpdateError>();
    error::<axum_cloud_variables::client::ClientError>();
    error::<axum_cloud_variables::client::UpdateError>();
    error::<axum_cloud_variables::policy::Rejection>();
    error::<axum_cloud_variables::relay::RelayError>();
    error::<axum_cloud_variables::store::StoreError>();
}
