//! P11: one room on many nodes through the broker of the docs, which is lost or slow on request.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use crate::common::{
    Client, Server, ShakyBroker, eventually, nodes, serve, unlimited_rate, within,
};
use axum::{Extension, Router, extract::Request, middleware};
use axum_cloud_variables::{
    BanTarget, CloseCode, Dialect, DuplicateNames, Identity, OpenError, Room, RoomError,
    RoomRegistry, Schema, SetError,
    events::{RoomEvent, Writer},
    relay::Relay,
};

const X: &[(&str, &str)] = &[("x", "0")];

async fn node(broker: &Arc<ShakyBroker>) -> Server {
    let limits = unlimited_rate();
    Server::with(RoomRegistry::builder().limits(limits).relay(broker.clone())).await
}

async fn nodes(count: usize) -> (Arc<ShakyBroker>, Vec<Server>) {
    let broker = Arc::default();
    let mut nodes = Vec::new();
    for _ in 0..count {
        nodes.push(node(&broker).await);
    }
    (broker, nodes)
}

#[tokio::test]
async fn a_set_reaches_the_members_on_every_node() {
    let (_, nodes) = nodes(3).await;
    let mut ann = nodes[0].join("arena", "ann", X).await;
    let mut bob = nodes[1].join("arena", "bob", X).await;
    let mut eve = nodes[2].join_in(Dialect::Forkphorus2020, "arena", "eve", X).await;
    ann.set("x", "1").await;
    bob.until("x", "1").await;
    eve.until("x", "1").await;
    eve.set("x", "2").await;
    ann.until("x", "2").await;
    bob.until("x", "2").await;
    // A client that joins later receives the values, on any node.
    let mut sue = nodes[1].join("arena", "sue", X).await;
    sue.until("x", "2").await;
    assert_eq!(nodes[0].refusal("arena", "tom", &[("y", "0")]).await.0, 4001);
    let room = nodes[2].rooms.room("arena").unwrap();
    room.set("x", 3).unwrap();
    for client in [&mut ann, &mut bob, &mut eve, &mut sue] {
        client.until("x", "3").await;
    }
    assert_eq!(room.get("x").as_deref(), Some("3"));
}

#[tokio::test]
async fn a_name_is_one_members_on_all_nodes() {
    let (_, nodes) = nodes(2).await;
    let mut ann = nodes[0].join("arena", "ann", X).await;
    let mut bob = nodes[1].join("arena", "bob", X).await;
    let refused = nodes[1].refusal("arena", "Ann", X);
    assert_eq!(ann.reading_until(refused).await.0, 4002);
    let refused = nodes[0].refusal("arena", "bob", X);
    assert_eq!(bob.reading_until(refused).await.0, 4002);
    // The name is still free in another room.
    let _other = nodes[1].join("other", "ann", X).await;
    ann.close().await;
    let free = async { while nodes[1].refusal_or_join("arena", "ann", X).await.is_some() {} };
    within("the name is free", free).await;
}

/// A member that gives no sign of life loses its name, on any node.
#[tokio::test]
async fn the_name_of_a_ghost_is_free() {
    let broker: Arc<ShakyBroker> = Arc::default();
    let limits = unlimited_rate().takeover_probe(Duration::from_millis(200));
    let builder = || RoomRegistry::builder().limits(limits.clone()).relay(broker.clone());
    let (a, b) = (Server::with(builder()).await, Server::with(builder()).await);
    // The ghost no longer reads its socket.
    let mut ghost = a.join("arena", "ann", X).await;
    let _bob = b.join("arena", "bob", X).await;
    b.join("arena", "ann", X).await;
    assert_eq!(ghost.closed().await.0, 4000);
}

/// The same person joins in a second tab, through another node.
#[tokio::test]
async fn a_second_tab_takes_the_name_along() {
    let broker: Arc<ShakyBroker> = Arc::default();
    let node = async || {
        let rooms = RoomRegistry::builder().relay(broker.clone()).build().unwrap();
        let person = Extension(Identity::new().with_id("7"));
        let app = Router::new().merge(rooms.mount("/cloud")).layer(person);
        format!("ws://{}/cloud", crate::common::serve(app).await)
    };
    let (a, b) = (node().await, node().await);
    let mut first = Client::join(&a, "arena", "ann", X).await;
    let mut second = Client::join(&b, "arena", "ann", X).await;
    let (code, reason) = first.closed().await;
    assert_eq!((code, &*reason), (4002, "you joined from another tab: go on there"));
    second.sync().await;
}

#[tokio::test]
async fn a_host_locks_bans_closes_and_removes_on_all_nodes() {
    let (_, nodes) = nodes(2).await;
    let mut ann = nodes[0].join("arena", "ann", X).await;
    let mut bob = nodes[1].join("arena", "bob", X).await;
    let room = nodes[0].rooms.room("arena").unwrap();
    room.lock().await.unwrap();
    for node in &nodes {
        assert_eq!(
            node.refusal("arena", "eve", X).await,
            (4003, "the room is locked: try again later".into())
        );
    }
    let is_locked = || nodes[1].rooms.rooms("", 1)[0].locked;
    eventually("it shows", is_locked).await;
    room.unlock().await.unwrap();

    room.ban(room.members()[0].id, Duration::from_secs(60)).await.unwrap();
    assert_eq!(ann.closed().await.0, 4002);
    for node in &nodes {
        assert_eq!(node.refusal("arena", "ann", X).await.1, "you are banned from this room");
    }

    let mut eve = nodes[0].join("arena", "eve", X).await;
    room.close().await.unwrap();
    assert_eq!(bob.closed().await.0, 1001);
    assert_eq!(eve.closed().await.0, 1001);

    let mut bob = nodes[1].join("arena", "bob", X).await;
    bob.set("x", "1").await;
    bob.sync().await;
    nodes[0].rooms.open("arena").await.unwrap().remove().await.unwrap();
    assert_eq!(bob.closed().await.0, 1001);
    let _new = nodes[1].join("arena", "bob", &[("other", "0")]).await;
}

/// A new version of a game has other variables.
#[tokio::test]
async fn a_host_renames_variables_on_all_nodes() {
    let (_, nodes) = nodes(2).await;
    let open = async |node: &Server, variables: &[(&str, &str)]| {
        node.rooms.open("arena").variables(variables.iter().copied()).await.unwrap()
    };
    open(&nodes[0], &[("old", "1"), ("stays", "2")]).await;
    let mut bob = nodes[1].join("arena", "bob", &[("old", "0"), ("stays", "0")]).await;
    open(&nodes[0], &[("stays", "0"), ("new", "3")]).await;
    assert_eq!(bob.closed().await.0, 4001);
    let mut bob = nodes[1].join("arena", "bob", &[("stays", "0"), ("new", "0")]).await;
    let mut seen = bob.frame().await;
    seen.sort();
    let expected = [("new", "3"), ("stays", "2")].map(|(n, v)| (n.to_owned(), v.to_owned()));
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_room_has_the_bytes_and_variables_that_its_host_says_on_all_nodes() {
    let (_, nodes) = nodes(2).await;
    let a = nodes[0].rooms.open("arena").variables(X.iter().copied()).max_bytes(5_000);
    let a = a.await.unwrap();
    let b = nodes[1].rooms.open("arena").await.unwrap();
    let long = "v".repeat(6_000);
    for room in [&a, &b] {
        assert_eq!(room.set("x", &long), Err(SetError::RoomFull));
    }
    nodes[1].rooms.open("arena").max_bytes(10_000).await.unwrap();
    eventually("all know", || a.set("x", &long).is_ok()).await;
    let growing = nodes[0].rooms.open("growing").schema(Schema::Growing);
    let a = growing.max_variables(1).await.unwrap();
    let b = nodes[1].rooms.open("growing").await.unwrap();
    b.set("x", 1).unwrap();
    eventually("all know", || a.get("x").is_some()).await;
    for room in [&a, &b] {
        assert_eq!(room.set("y", 1), Err(SetError::RoomFull));
    }
    nodes[1].rooms.open("growing").max_variables(2).await.unwrap();
    eventually("all know", || a.set("y", 1).is_ok()).await;
}

/// The lead is lost before the broker lets another node lead.
#[tokio::test]
async fn a_lead_is_lost_when_its_broker_is_away_for_a_lease() {
    let (broker, nodes) = nodes(1).await;
    let room = nodes[0].rooms.open("arena").variables([("ball", "0")]).await.unwrap();
    let lead = room.lead().await.unwrap();
    broker.is_silent.store(true, SeqCst);
    let began = std::time::Instant::now();
    tokio::time::timeout(Relay::lease(&broker), lead.lost()).await.expect("within a lease");
    assert!(began.elapsed() > Relay::lease(&broker) / 2, "{:?}", began.elapsed());
}

#[tokio::test]
async fn one_node_leads_a_room() {
    let (_, mut nodes) = nodes(2).await;
    let a = nodes[0].rooms.open("arena").variables([("ball", "0")]).await.unwrap();
    let b = nodes[1].rooms.open("arena").await.unwrap();
    let lead = a.lead().await.unwrap();
    let other = tokio::spawn(async move { b.lead().await.map(|lead| (b, lead)) });
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert!(!lead.is_lost() && !other.is_finished());
    drop(lead);
    let (b, lead) = within("the other leads", other).await.unwrap().unwrap();
    assert!(!lead.is_lost());
    // The lead ends with its room.
    b.remove().await.unwrap();
    within("it is lost", lead.lost()).await;
    nodes.clear();

    let alone = RoomRegistry::new();
    let room = alone.open("arena").await.unwrap();
    let lead = within("at once", room.lead()).await.unwrap();
    assert!(!lead.is_lost());
    room.remove().await.unwrap();
    within("it is lost", lead.lost()).await;
}

#[tokio::test]
async fn names_may_be_shared_where_the_host_says_so() {
    let broker: Arc<ShakyBroker> = Arc::default();
    let builder = || RoomRegistry::builder().duplicate_names(Dialect::Spec, DuplicateNames::Allow);
    let a = Server::with(builder().relay(broker.clone())).await;
    let b = Server::with(builder().relay(broker.clone())).await;
    let _a = a.join("arena", "ann", X).await;
    let _b = b.join("arena", "ann", X).await;
}

/// A shared name is taken too: the newcomer's own dialect decides whether it may share it.
#[tokio::test]
async fn a_newcomer_that_wants_a_name_alone_does_not_get_a_shared_one() {
    let (_, nodes) = nodes(2).await;
    let variables = &[("☁ x", "0")];
    let mut scratch = nodes[0].join_in(Dialect::Scratch, "arena", "ann", &[]).await;
    scratch.set("☁ x", "1").await;
    scratch.sync().await;
    let refused = nodes[1].refusal("arena", "ann", variables);
    assert_eq!(scratch.reading_until(refused).await.0, 4002);
    let mut other = nodes[1].join_in(Dialect::Scratch, "arena", "ann", &[]).await;
    scratch.close().await;
    let refused = nodes[0].refusal("arena", "ann", variables);
    assert_eq!(other.reading_until(refused).await.0, 4002, "the other has it still");
}

#[tokio::test]
async fn values_that_a_host_sets_together_are_seen_together() {
    let (_, nodes) = nodes(2).await;
    let variables = &[("x", "0"), ("y", "0"), ("z", "0")];
    let room = nodes[0].rooms.open("arena").variables(variables.iter().copied()).await.unwrap();
    let mut bob = nodes[1].join("arena", "bob", variables).await;
    bob.frame().await;
    for round in 0..5 {
        for _ in 0..5 {
            room.set("z", "z".repeat(20_000)).unwrap();
        }
        let value = format!("{round}{}", "v".repeat(25_000));
        room.set_all([("x", &value), ("y", &value)]).unwrap();
        while bob.view["x"] != value {
            bob.frame().await;
        }
        assert!(bob.view["y"] == value, "half of it in round {round}");
    }
}

/// A host's schema applies on all nodes.
#[tokio::test]
async fn a_room_that_the_host_lets_grow_grows_everywhere() {
    let (broker, nodes) = nodes(2).await;
    let _room = nodes[0].rooms.open("arena").variables([("x", "0")]).await.unwrap();
    let mut bob = nodes[1].join("arena", "bob", X).await;
    let opening = nodes[0].rooms.open("arena").schema(Schema::Growing);
    opening.await.unwrap();
    let joined = async {
        while nodes[1]
            .refusal_or_join("arena", "eve", &[("x", "0"), ("p_eve", "1")])
            .await
            .is_some()
        {}
    };
    bob.reading_until(within("eve is let in", joined)).await;
    bob.until("p_eve", "1").await;
    drop(broker);
}

#[tokio::test]
async fn a_room_is_full_on_all_nodes() {
    let broker: Arc<ShakyBroker> = Arc::default();
    let builder = || RoomRegistry::builder().limits(unlimited_rate().members_per_room(2));
    let a = Server::with(builder().relay(broker.clone())).await;
    let b = Server::with(builder().relay(broker.clone())).await;
    let _ann = a.join("arena", "ann", X).await;
    let _bob = b.join("arena", "bob", X).await;
    assert_eq!(a.refusal("arena", "eve", X).await.0, 4003);
    assert_eq!(b.refusal("arena", "eve", X).await.0, 4003);
}

#[tokio::test]
async fn of_two_creators_and_of_two_of_a_name_one_wins() {
    nodes::one_of_two_wins(&nodes(2).await.1, 50).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_on_many_nodes_end_up_seeing_the_same() {
    nodes::contested(&nodes(3).await.1, 9, 20).await;
}

#[tokio::test]
async fn while_the_broker_is_away_members_stay_and_their_writes_wait() {
    let (broker, nodes) = nodes(2).await;
    let mut ann = nodes[0].join("arena", "ann", &[("x", "0"), ("y", "0")]).await;
    let mut bob = nodes[1].join("arena", "bob", &[("x", "0"), ("y", "0")]).await;
    broker.is_away.store(true, SeqCst);
    for n in 0..1_000 {
        ann.set("x", &n.to_string()).await;
    }
    bob.set("y", "7").await;
    let (code, reason) = nodes[0].refusal("other", "eve", X).await;
    assert_eq!(code, 4003);
    assert!(reason.contains("try again"), "{reason}");
    let mut scratch = nodes[0].connect().await;
    scratch.handshake_in(Dialect::Scratch, "arena", "player", &[]).await;
    assert_eq!(scratch.closed().await.0, 1013);
    assert_eq!(nodes[0].rooms.open("other").await.unwrap_err(), OpenError::Unreachable);
    ann.sync().await;
    broker.is_away.store(false, SeqCst);
    let seen = bob.until("x", "999").await;
    assert!(seen.len() < 500, "the latest alone, but for those on their way: {}", seen.len());
    ann.until("y", "7").await;
    nodes[1].join("other", "eve", X).await;
}

/// The broker comes back without data, and the nodes agree on one state again.
#[tokio::test]
async fn a_broker_that_lost_all_gets_the_members_values() {
    let (broker, nodes) = nodes(2).await;
    let mut ann = nodes[0].join("arena", "ann", X).await;
    let mut bob = nodes[1].join("arena", "bob", X).await;
    ann.set("x", "1").await;
    bob.until("x", "1").await;
    broker.lose("arena");
    ann.set("x", "2").await;
    bob.until("x", "2").await;
    bob.set("x", "3").await;
    ann.until("x", "3").await;
    let refused = nodes[1].refusal("arena", "ann", X);
    assert_eq!(ann.reading_until(refused).await.0, 4002, "names are known again");
    let mut eve = nodes[1].join("arena", "eve", X).await;
    eve.until("x", "3").await;
}

/// A node is away for longer than its lease.
#[tokio::test]
async fn a_node_that_is_out_changes_nothing_and_its_members_come_back() {
    let (broker, nodes) = nodes(2).await;
    let mut ann = nodes[0].join("arena", "ann", X).await;
    let mut bob = nodes[1].join("arena", "bob", X).await;
    bob.set("x", "1").await;
    ann.until("x", "1").await;
    broker.end_lease_of("arena", "ann");
    ann.set("x", "late").await;
    assert_eq!(ann.closed().await.0, 1012);
    let mut ann = nodes[0].join("arena", "ann", X).await;
    ann.set("x", "2").await;
    let seen = bob.until("x", "2").await;
    assert!(!seen.iter().any(|(_, value)| value == "late"), "{seen:?}");
}

#[tokio::test]
async fn a_shutdown_frees_its_names_and_loses_nothing() {
    let (broker, mut nodes) = nodes(2).await;
    let mut bob = nodes[1].join("arena", "bob", X).await;
    let mut ann = nodes[0].join("arena", "ann", X).await;
    ann.set("x", "last").await;
    ann.sync().await;
    let gone = nodes.remove(0);
    let (all_gone, _) = tokio::join!(gone.rooms.shutdown(Duration::from_secs(10)), ann.closed());
    assert!(all_gone.is_complete());
    bob.until("x", "last").await;
    let _ann = nodes[0].join("arena", "ann", X).await;
    drop(broker);
}

/// A room without members on this node is unloaded, and comes back from the broker.
#[tokio::test(start_paused = true)]
async fn an_emptied_room_is_the_brokers() {
    let (_, nodes) = nodes(2).await;
    let mut ann = nodes[0].join("arena", "ann", X).await;
    ann.set("x", "1").await;
    ann.close().await;
    eventually("it is let go", || nodes[0].rooms.stats().rooms == 0).await;
    let mut bob = Client::join(&nodes[0].url(), "arena", "bob", X).await;
    bob.until("x", "1").await;
}

/// A value that the host sets before it removes members arrives first, on all nodes.
#[tokio::test(flavor = "multi_thread")]
async fn the_hosts_last_word_comes_before_the_close() {
    for how in ["kick", "ban", "close", "remove", "shutdown"] {
        let (_, nodes) = nodes(2).await;
        let mut ann = nodes[0].join("arena", "ann", X).await;
        let mut bob = nodes[1].join("arena", "bob", X).await;
        let room = nodes[0].rooms.room("arena").unwrap();
        room.set("x", "1").unwrap();
        room.set("x", "last").unwrap();
        let member = room.members()[0].id;
        let second = Duration::from_secs(1);
        match how {
            "kick" => room.kick(member, CloseCode::Kicked, "enough").await.unwrap(),
            "ban" => room.ban(member, second).await.unwrap(),
            "close" => room.close().await.unwrap(),
            "remove" => room.remove().await.unwrap(),
            _ => {
                let rooms = nodes[0].rooms.clone();
                tokio::spawn(async move { rooms.shutdown(5 * second).await });
            }
        }
        within(how, ann.until("x", "last")).await;
        within(how, bob.until("x", "last")).await;
        within(how, ann.closed()).await;
    }
}

/// A match is over: players on all nodes receive the reason and do not come back, and the next match
/// begins anew.
#[tokio::test]
async fn a_room_ends_on_all_nodes_with_the_hosts_words() {
    let (_, nodes) = nodes(2).await;
    let mut ann = nodes[0].join("arena", "ann", X).await;
    let mut bob = nodes[1].join("arena", "bob", X).await;
    let room = nodes[1].rooms.room("arena").unwrap();
    room.set("x", "ann has won").unwrap();
    room.end(CloseCode::Incompatible, "the match is over").await.unwrap();
    for client in [&mut ann, &mut bob] {
        client.until("x", "ann has won").await;
        assert_eq!(client.closed().await, (4001, "the match is over".into()));
    }
    assert_eq!(room.set("x", "1"), Err(SetError::Gone));
    for node in &nodes {
        eventually("it is gone", || node.rooms.stats().rooms == 0).await;
    }
    let _ann = nodes[0].join("arena", "ann", X).await;
    assert_eq!(nodes[0].rooms.room("arena").unwrap().get("x").as_deref(), Some("0"), "a new one");
}

/// A host learns which member wrote a value, on any node.
#[tokio::test]
async fn a_host_learns_the_writer_on_another_node() {
    let (_, nodes) = nodes(2).await;
    let mut ann = nodes[0].join("arena", "ann", X).await;
    let mut bob = nodes[1].join("arena", "bob", X).await;
    let rooms = [0, 1].map(|n| nodes[n].rooms.room("arena").unwrap());
    let mut events = [rooms[0].events(), rooms[1].events()];
    ann.set("x", "1").await;
    bob.until("x", "1").await;
    bob.set("x", "2").await;
    ann.until("x", "2").await;
    rooms[1].set("x", "3").unwrap();
    ann.until("x", "3").await;
    let mut seen = [Vec::new(), Vec::new()];
    for (events, seen) in events.iter_mut().zip(&mut seen) {
        while seen.len() < 3 {
            match within("a write", events.next()).await.unwrap() {
                RoomEvent::Wrote { by: Writer::Member(member), .. } => {
                    seen.push(format!("{} here", member.username));
                }
                RoomEvent::Wrote { by: Writer::Remote { username }, .. } => {
                    seen.push(format!("{username} elsewhere"));
                }
                RoomEvent::Wrote { by: Writer::Host, .. } => seen.push("the host".into()),
                _ => {}
            }
        }
    }
    assert_eq!(seen[0], ["ann here", "bob elsewhere", "the host"]);
    assert_eq!(seen[1], ["ann elsewhere", "bob here", "the host"]);
}

/// A ban does not need a present member, holds on all nodes, removes matching members of any node, and
/// can be lifted.
#[tokio::test]
async fn bans_by_name_and_person_hold_on_all_nodes_until_they_are_lifted() {
    let (_, nodes) = nodes(2).await;
    let _ann = nodes[0].join("arena", "ann", X).await;
    let mut bob = nodes[1].join("arena", "bob", X).await;
    let (here, there) = (nodes[0].rooms.room("arena"), nodes[1].rooms.room("arena"));
    let (here, there) = (here.unwrap(), there.unwrap());
    let minute = Duration::from_secs(60);
    here.ban_name("eve", minute).await.unwrap();
    here.ban_name("BOB", minute).await.unwrap();
    assert_eq!(bob.closed().await.0, 4002, "on another node, and by a name that looks like it");
    for node in &nodes {
        for name in ["eve", "bob"] {
            assert_eq!(node.refusal("arena", name, X).await.1, "you are banned from this room");
        }
    }
    let banned = |room: &Room| room.bans().into_iter().map(|ban| ban.target).collect::<Vec<_>>();
    let named = |name: &str| BanTarget::Name(name.into());
    assert_eq!(banned(&here), [named("eve"), named("BOB")]);
    assert_eq!(banned(&there), banned(&here));
    there.unban_name("eve").await.unwrap();
    eventually("the other node knows", || banned(&here) == [named("BOB")]).await;
    for node in &nodes {
        node.join("arena", "eve", X).await.close().await;
        eventually("eve left", || {
            node.rooms.room("arena").unwrap().len() == 1
                || node.rooms.room("arena").unwrap().is_empty()
        })
        .await;
    }
    assert_eq!(nodes[0].refusal("arena", "bob", X).await.1, "you are banned from this room");
}

/// A node that has missed a ban removes the banned members when it reads the room.
#[tokio::test]
async fn a_ban_that_a_node_has_missed_holds_for_its_members() {
    let (broker, nodes) = nodes(2).await;
    let mut ann = nodes[0].join("arena", "ann", X).await;
    let mut bob = nodes[1].join("arena", "bob", X).await;
    let room = nodes[0].rooms.room("arena").unwrap();
    broker.is_deaf.store(true, SeqCst);
    let banned = tokio::spawn(async move { room.ban_name("bob", Duration::from_secs(60)).await });
    eventually("the broker has it", || broker.revision("arena") == Some(1)).await;
    broker.is_deaf.store(false, SeqCst);
    ann.set("x", "1").await;
    assert_eq!(bob.closed().await.0, 4002);
    banned.await.unwrap().unwrap();
}

/// A node that has missed the removal of a variable removes it when it reads the room, and does not bring it back.
#[tokio::test]
async fn a_variable_that_was_removed_unheard_stays_removed() {
    let broker: Arc<ShakyBroker> = Arc::default();
    let growing = |broker: &Arc<ShakyBroker>| {
        let builder = RoomRegistry::builder().limits(unlimited_rate()).schema(Schema::Growing);
        Server::with(builder.relay(broker.clone()))
    };
    let nodes = [growing(&broker).await, growing(&broker).await];
    let _ann = nodes[0].join("arena", "ann", X).await;
    let mut bob = nodes[1].join("arena", "bob", X).await;
    let room = nodes[0].rooms.room("arena").unwrap();
    room.set("ball", 1).unwrap();
    bob.until("ball", "1").await;
    let before = broker.revision("arena").unwrap();
    broker.is_deaf.store(true, SeqCst);
    room.unset("ball").unwrap();
    eventually("the broker has it", || broker.revision("arena") > Some(before)).await;
    broker.is_deaf.store(false, SeqCst);
    eventually("it is gone here", || {
        _ = room.set("x", broker.revision("arena").unwrap());
        nodes.iter().all(|node| node.rooms.room("arena").unwrap().get("ball").is_none())
    })
    .await;
    bob.until("ball", "").await;
    assert_eq!(broker.variables("arena"), ["x"]);
}

/// A person is removed from every room on every node, and receives the reason; others stay.
#[tokio::test]
async fn a_person_is_kicked_from_all_rooms_of_all_nodes() {
    let broker: Arc<ShakyBroker> = Arc::default();
    let auth = middleware::from_fn(async |mut request: Request, next: middleware::Next| {
        let account = request.uri().query().unwrap_or_default().to_owned();
        request.extensions_mut().insert(Identity::new().with_id(account));
        next.run(request).await
    });
    let mut nodes = Vec::new();
    for _ in 0..2 {
        let rooms = RoomRegistry::builder().relay(broker.clone()).build().unwrap();
        let addr = serve(Router::new().merge(rooms.mount("/cloud")).layer(auth.clone())).await;
        nodes.push((rooms, format!("ws://{addr}/cloud")));
    }
    let mut eves = Vec::new();
    for (n, (_, url)) in nodes.iter().enumerate() {
        for room in ["arena", "lobby"] {
            eves.push(Client::join(&format!("{url}?eve"), room, &format!("eve{n}"), X).await);
        }
    }
    let mut ann = Client::join(&format!("{}?ann", nodes[1].1), "arena", "ann", X).await;
    nodes[0].0.room("arena").unwrap().set("x", "last").unwrap();
    nodes[0].0.kick_person("eve", CloseCode::Kicked, "enough").await.unwrap();
    for eve in &mut eves {
        assert_eq!(eve.closed().await, (4004, "enough".into()));
    }
    ann.until("x", "last").await;
    ann.sync().await;
    // If the broker is unreachable, the call returns an error.
    broker.is_away.store(true, SeqCst);
    let kicked = nodes[0].0.kick_person("ann", CloseCode::Kicked, "").await;
    assert_eq!(kicked, Err(RoomError::Unreachable));
}
