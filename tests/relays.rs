//! What every `Relay` must do, of each that there is: the one of the docs, and Redis.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use axum_cloud_variables::{RedisRelay, RelaySession};
use common::{Redis, within};

include!("../src/relay/memory.rs");

fn pairs(values: &[(&str, &str)]) -> Vec<(String, String)> {
    values.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

fn enter(epoch: &str, variables: Option<&[(&str, &str)]>) -> RelayRequest {
    let room =
        |variables| StoredRoom { schema: StoredSchema::Scratch, variables: pairs(variables) };
    RelayRequest::Enter { create: variables.map(room), epoch: epoch.into(), lost: None }
}

fn join(number: u64, name: &str, left: &[u64]) -> RelayRequest {
    let session = session(number, name, false);
    RelayRequest::Join { session, left: left.into() }
}

fn share(number: u64, name: &str) -> RelayRequest {
    RelayRequest::Join { session: session(number, name, true), left: Vec::new() }
}

fn session(number: u64, name: &str, shares: bool) -> RelaySession {
    let who = vec![format!("name:{name}")];
    RelaySession { number, name: name.into(), shares, who, most: 3 }
}

const MOST: u64 = 100;

fn write(first: u64, writes: &[(&str, &str)]) -> RelayRequest {
    RelayRequest::Write { first, most: MOST, writes: values(writes) }
}

/// Each may create its variable.
fn values(writes: &[(&str, &str)]) -> Vec<RelayWrite> {
    let value = |(name, value)| RelayWrite { name, value: Some(value), creates: true };
    pairs(writes).into_iter().map(value).collect()
}

fn done(epoch: &str, number: u64) -> RelayAnswer {
    RelayAnswer::Done(RelayRevision { epoch: epoch.into(), number })
}

fn wrote(message: Option<RelayMessage>) -> RelayWrites {
    match message {
        Some(RelayMessage::Wrote(writes)) => writes,
        other => panic!("{other:?}"),
    }
}

async fn contract(relay: &dyn Relay) {
    let ask = async |node: &'static str, room: &'static str, request: RelayRequest| {
        relay.request(room, node, &request).await.unwrap()
    };
    let read = async |node: &'static str, room: &'static str| {
        let RelayAnswer::Room { revision, room, is_new, written } =
            ask(node, room, RelayRequest::Read).await
        else {
            panic!("no room")
        };
        assert!(!is_new);
        (revision.number, room.variables, written)
    };
    use RelayAnswer::{Banned, Fenced, Full, Led, Locked, NameInUse, Nowhere};
    use RelayRequest::{Ban, Lead, Leave, Lock, Read, Remove, Renew, Resign, Schema, Tell};

    // There is nothing, and one creates it.
    assert_eq!(ask("a", "r", Read).await, Nowhere);
    assert_eq!(ask("a", "r", enter("", None)).await, Nowhere);
    assert_eq!(ask("a", "r", Renew).await, Nowhere);
    let created = ask("a", "r", enter("e", Some(&[("x", "0"), ("☁\\n", "")]))).await;
    let RelayAnswer::Room { revision, room, is_new: true, written: 0 } = created else { panic!() };
    assert_eq!((&*revision.epoch, revision.number), ("e", 0));
    assert_eq!(room.schema, StoredSchema::Scratch);
    let other = ask("b", "r", enter("f", Some(&[("y", "0")]))).await;
    let RelayAnswer::Room { revision: there, is_new: false, .. } = other else { panic!() };
    assert_eq!(revision, there);
    assert_eq!(read("b", "r").await.1, pairs(&[("x", "0"), ("☁\\n", "")]));

    // Messages come in order, to all, and one that is sent again changes nothing.
    let mut heard = relay.subscribe("r").await.unwrap();
    let mut elsewhere = relay.subscribe("other").await.unwrap();
    assert_eq!(ask("a", "r", write(1, &[("x", "1"), ("x", "2")])).await, done("e", 1));
    assert_eq!(
        ask("b", "r", write(1, &[("x", "3"), ("new {}", "\\\"\\ud800")])).await,
        done("e", 2)
    );
    assert_eq!(ask("a", "r", write(1, &[("x", "1"), ("x", "2")])).await, done("e", 2));
    assert_eq!(ask("a", "r", write(3, &[("x", "4")])).await, done("e", 3));
    let mut messages = Vec::new();
    for _ in 0..3 {
        let message = wrote(within("message", heard.next()).await);
        messages.push((message.revision.number, message.node, message.first, message.writes));
    }
    let expected = [
        (1, "a".to_owned(), 1, values(&[("x", "1"), ("x", "2")])),
        (2, "b".to_owned(), 1, values(&[("x", "3"), ("new {}", "\\\"\\ud800")])),
        (3, "a".to_owned(), 3, values(&[("x", "4")])),
    ];
    assert_eq!(messages, expected);
    // In the order of their creation, as in all that follows.
    let there = pairs(&[("x", "4"), ("☁\\n", ""), ("new {}", "\\\"\\ud800")]);
    assert_eq!(read("a", "r").await, (3, there.clone(), 3));
    assert_eq!(read("b", "r").await, (3, there, 2));

    // A name is one session's, unless who comes shares it; sessions have a limit; who leaves frees both.
    assert_eq!(ask("a", "r", join(1, "ann", &[])).await, done("e", 3));
    let name_in_use = NameInUse { node: "a".into(), session: 1 };
    assert_eq!(ask("b", "r", join(1, "ann", &[])).await, name_in_use);
    assert_eq!(ask("a", "r", join(1, "ann", &[])).await, done("e", 3), "its answer was lost");
    assert_eq!(ask("b", "r", share(2, "ann")).await, done("e", 3));
    assert_eq!(ask("b", "r", share(3, "guest")).await, done("e", 3));
    assert_eq!(ask("b", "r", join(4, "bob", &[])).await, Full);
    assert_eq!(ask("b", "r", join(4, "bob", &[3, 77])).await, done("e", 3));
    assert_eq!(ask("b", "r", Leave { sessions: vec![1] }).await, done("e", 3), "another node's");
    assert!(matches!(ask("b", "r", join(5, "ann", &[4])).await, NameInUse { .. }));
    assert_eq!(ask("a", "r", Leave { sessions: vec![1] }).await, done("e", 3));
    let name_in_use = NameInUse { node: "b".into(), session: 2 };
    assert_eq!(ask("b", "r", join(5, "ann", &[])).await, name_in_use, "the other has it still");
    assert_eq!(ask("b", "r", join(5, "ann", &[2])).await, done("e", 3));

    // A locked room, and who is banned.
    assert_eq!(ask("a", "r", Lock { locked: true }).await, done("e", 3));
    assert_eq!(ask("b", "r", share(6, "guest")).await, Locked);
    assert_eq!(ask("b", "r", Lock { locked: false }).await, done("e", 3));
    for (name, millis) in [("eve", 100_000), ("sue", 0)] {
        let ban = Ban { who: format!("name:{name}"), millis };
        assert_eq!(ask("a", "r", ban).await, done("e", 3));
    }
    assert_eq!(ask("b", "r", join(6, "eve", &[])).await, Banned);
    assert_eq!(ask("b", "r", join(6, "sue", &[])).await, done("e", 3));
    assert_eq!(ask("b", "r", Leave { sessions: vec![6] }).await, done("e", 3));

    // One leads, once.
    let (lead, again) = (Lead { number: 1 }, Lead { number: 2 });
    assert_eq!(ask("a", "r", lead.clone()).await, done("e", 3));
    assert_eq!(ask("a", "r", lead.clone()).await, done("e", 3));
    assert_eq!(ask("a", "r", again).await, Led);
    assert_eq!(ask("b", "r", lead.clone()).await, Led);
    for (node, number) in [("b", 1), ("a", 2)] {
        assert_eq!(ask(node, "r", Resign { number }).await, done("e", 3), "another's");
    }
    assert_eq!(ask("b", "r", lead.clone()).await, Led);
    assert_eq!(ask("a", "r", Resign { number: 1 }).await, done("e", 3));
    assert_eq!(ask("b", "r", lead.clone()).await, done("e", 3));

    // News reach all, and variables go.
    let news = RelayNews::Wanted { node: "a".into(), session: 1, person: None, replaces: true };
    assert_eq!(ask("b", "r", Tell(news.clone())).await, done("e", 3));
    assert_eq!(within("news", heard.next()).await, Some(RelayMessage::Told(news)));
    assert_eq!(ask("b", "r", Schema(StoredSchema::Growing)).await, done("e", 3));
    let news = RelayNews::Schema(StoredSchema::Growing);
    assert_eq!(within("news", heard.next()).await, Some(RelayMessage::Told(news)));
    let RelayAnswer::Room { room, .. } = ask("a", "r", Read).await else { panic!() };
    assert_eq!(room.schema, StoredSchema::Growing);
    let write = |name: &str, value: Option<&str>, creates| {
        let (name, value) = (name.to_owned(), value.map(str::to_owned));
        RelayWrite { name, value, creates }
    };
    let writes = vec![
        write("x", None, false),
        write("x", Some("left out"), false),
        write("y", Some("1"), true),
        write("y", Some("2"), false),
        write("y", None, false),
        write("new {}", None, false),
        write("new {}", Some("back"), true),
        write("new {}", Some("again"), false),
        write("never", Some("there"), false),
        write("z", None, false),
    ];
    let write_all = RelayRequest::Write { first: 3, most: MOST, writes: writes.clone() };
    assert_eq!(ask("b", "r", write_all).await, done("e", 4));
    let message = wrote(within("message", heard.next()).await);
    assert_eq!((message.most, message.writes), (MOST, writes));
    assert_eq!(read("a", "r").await.1, pairs(&[("☁\\n", ""), ("new {}", "again")]));
    // There is place for two.
    let writes = vec![
        write("third", Some("no"), true),
        write("☁\\n", Some("set"), true),
        write("new {}", None, false),
        write("third", Some("yes"), true),
        write("fourth", Some("no"), true),
        write("third", Some("yes!"), false),
    ];
    let write_all = RelayRequest::Write { first: 13, most: 2, writes };
    assert_eq!(ask("b", "r", write_all).await, done("e", 5));
    assert_eq!(wrote(within("message", heard.next()).await).revision.number, 5);
    assert_eq!(read("a", "r").await.1, pairs(&[("☁\\n", "set"), ("third", "yes!")]));

    // Who is not in the room changes nothing there.
    let leave = Leave { sessions: vec![] };
    let requests = [crate::write(9, &[("x", "no")]), share(1, "guest"), Renew, leave, lead, Remove];
    for request in requests {
        assert_eq!(ask("c", "r", request).await, Fenced);
    }
    assert_eq!(ask("b", "r", Renew).await, done("e", 5));

    // Another room has an order of its own.
    ask("a", "other", enter("o", Some(&[]))).await;
    assert_eq!(ask("a", "other", crate::write(1, &[("z", "1")])).await, done("o", 1));
    let message = wrote(within("message", elsewhere.next()).await);
    assert_eq!((message.revision.number, message.first), (1, 1));
    assert_eq!(message.writes, values(&[("z", "1")]));
    assert_eq!(read("a", "r").await.0, 5);
    for odd in ["{}", "a}b", "{", "%7B", "☁"] {
        ask("a", odd, enter(odd, Some(&[("id", odd)]))).await;
    }
    assert_eq!(read("a", "{").await.1, pairs(&[("id", "{")]));

    // A room that is removed leaves nothing behind.
    assert_eq!(ask("a", "r", Remove).await, done("e", 5));
    assert_eq!(
        within("news", heard.next()).await,
        Some(RelayMessage::Told(RelayNews::Removed { epoch: "e".into() }))
    );
    assert_eq!(ask("b", "r", Renew).await, Nowhere);
    // And a node that did not hear of it does not make it again.
    let restored = Some(StoredRoom { schema: StoredSchema::Fixed, variables: Vec::new() });
    let lost = Some("e".into());
    let restore = RelayRequest::Enter { create: restored, epoch: "f".into(), lost };
    assert_eq!(ask("b", "r", restore).await, Nowhere);
    let created = ask("b", "r", enter("g", Some(&[]))).await;
    let RelayAnswer::Room { room, is_new: true, written: 0, .. } = created else { panic!() };
    assert_eq!(room.variables, []);
    assert_eq!(ask("b", "r", join(1, "ann", &[])).await, done("g", 0));
}

#[tokio::test]
async fn the_relay_of_the_docs_keeps_the_contract() {
    contract(&MemoryRelay::default()).await;
}

#[tokio::test]
async fn redis_keeps_the_contract() {
    let redis = Redis::start("contract-redis");
    contract(&RedisRelay::new(redis.url()).unwrap()).await;
}

/// Rooms are spread over several brokers, and each loses its own alone.
#[tokio::test]
async fn several_brokers_keep_the_contract() {
    contract(&vec![MemoryRelay::default(), MemoryRelay::default()]).await;
    contract(&(0..3).map(|_| MemoryRelay::default()).collect::<Vec<_>>()).await;
    let mut brokers = [Redis::start("shard-a"), Redis::start("shard-b")];
    let relay: Vec<_> = brokers.iter().map(|at| RedisRelay::new(at.url()).unwrap()).collect();
    contract(&relay).await;
    brokers[1].crash();
    let mut answers = Vec::new();
    for n in 0..20 {
        let create = enter("e", Some(&[]));
        answers.push(relay.request(&format!("room {n}"), "a", &create).await.is_ok());
    }
    assert!(answers.contains(&true) && answers.contains(&false), "{answers:?}");
    let empty = Vec::<RedisRelay>::new();
    empty.request("r", "a", &RelayRequest::Renew).await.unwrap_err();
    assert!(empty.subscribe("r").await.is_err());
}

/// A node that is silent for longer than its lease is out, and its names are free; but not where all
/// were silent.
#[tokio::test]
async fn a_lease_ends() {
    let redis = Redis::start("lease");
    let relay = RedisRelay::new(redis.url()).unwrap().lease(Duration::from_millis(600));
    let ask =
        async |node: &str, request: RelayRequest| relay.request("r", node, &request).await.unwrap();
    let pause = async || tokio::time::sleep(Duration::from_millis(200)).await;
    for node in ["a", "b"] {
        ask(node, enter("e", Some(&[]))).await;
    }
    assert_eq!(ask("a", join(1, "ann", &[])).await, done("e", 0));
    for _ in 0..4 {
        let answer = ask("b", join(1, "ann", &[])).await;
        assert!(matches!(answer, RelayAnswer::NameInUse { .. }), "{answer:?}");
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    let wait = async {
        while ask("b", join(1, "ann", &[])).await != done("e", 0) {
            ask("b", RelayRequest::Renew).await;
            pause().await;
        }
    };
    within("the name is free", wait).await;
    assert_eq!(ask("a", write(1, &[("x", "1")])).await, RelayAnswer::Fenced);
    assert_eq!(ask("b", RelayRequest::Renew).await, done("e", 0));
}
