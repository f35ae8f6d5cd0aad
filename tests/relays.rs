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

fn join(number: u64, name: Option<&str>, left: &[u64]) -> RelayRequest {
    let who = vec![format!("name:{}", name.unwrap_or("guest"))];
    let session = RelaySession { number, name: name.map(Into::into), who, most: 3 };
    RelayRequest::Join { session, left: left.into() }
}

fn write(first: u64, writes: &[(&str, &str)]) -> RelayRequest {
    let writes = pairs(writes).into_iter();
    RelayRequest::Write { first, writes: writes.map(|(name, value)| (name, Some(value))).collect() }
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
        let mut variables = room.variables;
        variables.sort();
        (revision.number, variables, written)
    };
    use RelayAnswer::{Banned, Fenced, Full, Led, Locked, NameInUse, Nowhere};
    use RelayRequest::{Ban, Lead, Leave, Lock, Read, Remove, Renew, Resign, Tell};

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
        (1, "a", 1, pairs(&[("x", "1"), ("x", "2")])),
        (2, "b", 1, pairs(&[("x", "3"), ("new {}", "\\\"\\ud800")])),
        (3, "a", 3, pairs(&[("x", "4")])),
    ];
    let expected = expected.map(|(n, node, first, writes)| {
        let writes: Vec<_> = writes.into_iter().map(|(name, value)| (name, Some(value))).collect();
        (n, node.to_owned(), first, writes)
    });
    assert_eq!(messages, expected);
    let values = pairs(&[("new {}", "\\\"\\ud800"), ("x", "4"), ("☁\\n", "")]);
    assert_eq!(read("a", "r").await, (3, values.clone(), 3));
    assert_eq!(read("b", "r").await, (3, values, 2));

    // A name is one session's; sessions have a limit; who leaves frees both.
    assert_eq!(ask("a", "r", join(1, Some("ann"), &[])).await, done("e", 3));
    let name_in_use = NameInUse { node: "a".into(), session: 1 };
    assert_eq!(ask("b", "r", join(1, Some("ann"), &[])).await, name_in_use);
    assert_eq!(ask("b", "r", join(2, None, &[])).await, done("e", 3));
    assert_eq!(ask("b", "r", join(3, None, &[])).await, done("e", 3));
    assert_eq!(ask("b", "r", join(4, Some("bob"), &[])).await, Full);
    assert_eq!(ask("b", "r", join(4, Some("bob"), &[2, 77])).await, done("e", 3));
    assert_eq!(ask("b", "r", Leave { sessions: vec![1] }).await, done("e", 3), "another node's");
    assert_eq!(ask("b", "r", join(5, Some("ann"), &[4])).await, name_in_use);
    assert_eq!(ask("a", "r", Leave { sessions: vec![1] }).await, done("e", 3));
    assert_eq!(ask("b", "r", join(5, Some("ann"), &[])).await, done("e", 3));

    // A locked room, and who is banned.
    assert_eq!(ask("b", "r", Leave { sessions: vec![3] }).await, done("e", 3));
    assert_eq!(ask("a", "r", Lock { locked: true }).await, done("e", 3));
    assert_eq!(ask("b", "r", join(6, None, &[])).await, Locked);
    assert_eq!(ask("b", "r", Lock { locked: false }).await, done("e", 3));
    for (name, millis) in [("eve", 100_000), ("sue", 0)] {
        let ban = Ban { who: format!("name:{name}"), millis };
        assert_eq!(ask("a", "r", ban).await, done("e", 3));
    }
    assert_eq!(ask("b", "r", join(6, Some("eve"), &[])).await, Banned);
    assert_eq!(ask("b", "r", join(6, Some("sue"), &[])).await, done("e", 3));
    assert_eq!(ask("b", "r", Leave { sessions: vec![6] }).await, done("e", 3));

    // One leads.
    assert_eq!(ask("a", "r", Lead).await, done("e", 3));
    assert_eq!(ask("b", "r", Lead).await, Led);
    assert_eq!(ask("b", "r", Resign).await, done("e", 3), "another's");
    assert_eq!(ask("b", "r", Lead).await, Led);
    assert_eq!(ask("a", "r", Resign).await, done("e", 3));
    assert_eq!(ask("b", "r", Lead).await, done("e", 3));

    // News reach all, and variables go.
    let news = RelayNews::Wanted { node: "a".into(), session: 1, person: None, replaces: true };
    assert_eq!(ask("b", "r", Tell(news.clone())).await, done("e", 3));
    assert_eq!(within("news", heard.next()).await, Some(RelayMessage::Told(news)));
    let value = |value: &str| Some(value.to_owned());
    let writes = vec![
        ("x".into(), None),
        ("y".into(), value("1")),
        ("y".into(), None),
        ("new {}".into(), None),
        ("new {}".into(), value("back")),
    ];
    let write_all = RelayRequest::Write { first: 3, writes: writes.clone() };
    assert_eq!(ask("b", "r", write_all).await, done("e", 4));
    assert_eq!(wrote(within("message", heard.next()).await).writes, writes);
    assert_eq!(read("a", "r").await.1, pairs(&[("new {}", "back"), ("☁\\n", "")]));

    // Who is not in the room changes nothing there.
    let leave = Leave { sessions: vec![] };
    for request in [write(9, &[("x", "no")]), join(1, None, &[]), Renew, leave, Lead, Remove] {
        assert_eq!(ask("c", "r", request).await, Fenced);
    }
    assert_eq!(ask("b", "r", Renew).await, done("e", 4));

    // Another room has an order of its own.
    ask("a", "other", enter("o", Some(&[]))).await;
    assert_eq!(ask("a", "other", write(1, &[("z", "1")])).await, done("o", 1));
    let message = wrote(within("message", elsewhere.next()).await);
    assert_eq!((message.revision.number, message.first), (1, 1));
    assert_eq!(message.writes, [("z".into(), value("1"))]);
    assert_eq!(read("a", "r").await.0, 4);
    for odd in ["{}", "a}b", "{", "%7B", "☁"] {
        ask("a", odd, enter(odd, Some(&[("id", odd)]))).await;
    }
    assert_eq!(read("a", "{").await.1, pairs(&[("id", "{")]));

    // A room that is removed leaves nothing behind.
    assert_eq!(ask("a", "r", Remove).await, done("e", 4));
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
    assert_eq!(ask("b", "r", join(1, Some("ann"), &[])).await, done("g", 0));
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
    assert_eq!(ask("a", join(1, Some("ann"), &[])).await, done("e", 0));
    for _ in 0..4 {
        let answer = ask("b", join(1, Some("ann"), &[])).await;
        assert!(matches!(answer, RelayAnswer::NameInUse { .. }), "{answer:?}");
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    let wait = async {
        while ask("b", join(1, Some("ann"), &[])).await != done("e", 0) {
            ask("b", RelayRequest::Renew).await;
            pause().await;
        }
    };
    within("the name is free", wait).await;
    assert_eq!(ask("a", write(1, &[("x", "1")])).await, RelayAnswer::Fenced);
    assert_eq!(ask("b", RelayRequest::Renew).await, done("e", 0));
}
