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
    RelayRequest::Enter { create: variables.map(room), epoch: epoch.into() }
}

fn join(number: u64, name: Option<&str>, left: &[u64]) -> RelayRequest {
    let session = RelaySession { number, name: name.map(Into::into), most: 3 };
    RelayRequest::Join { session, left: left.into() }
}

fn write(first: u64, writes: &[(&str, &str)]) -> RelayRequest {
    RelayRequest::Write { first, writes: pairs(writes) }
}

fn done(epoch: &str, number: u64) -> RelayAnswer {
    RelayAnswer::Done(RelayRevision { epoch: epoch.into(), number })
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
    use RelayAnswer::{Fenced, Full, NameInUse, Nowhere};
    use RelayRequest::{Leave, Read, Renew};

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
        let message = within("message", heard.next()).await.unwrap();
        messages.push((message.revision.number, message.node, message.first, message.writes));
    }
    let expected = [
        (1, "a", 1, pairs(&[("x", "1"), ("x", "2")])),
        (2, "b", 1, pairs(&[("x", "3"), ("new {}", "\\\"\\ud800")])),
        (3, "a", 3, pairs(&[("x", "4")])),
    ];
    let expected = expected.map(|(n, node, first, writes)| (n, node.to_owned(), first, writes));
    assert_eq!(messages, expected);
    let values = pairs(&[("new {}", "\\\"\\ud800"), ("x", "4"), ("☁\\n", "")]);
    assert_eq!(read("a", "r").await, (3, values.clone(), 3));
    assert_eq!(read("b", "r").await, (3, values, 2));

    // A name is one session's; sessions have a limit; who leaves frees both.
    assert_eq!(ask("a", "r", join(1, Some("ann"), &[])).await, done("e", 3));
    assert_eq!(ask("b", "r", join(1, Some("ann"), &[])).await, NameInUse);
    assert_eq!(ask("b", "r", join(2, None, &[])).await, done("e", 3));
    assert_eq!(ask("b", "r", join(3, None, &[])).await, done("e", 3));
    assert_eq!(ask("b", "r", join(4, Some("bob"), &[])).await, Full);
    assert_eq!(ask("b", "r", join(4, Some("bob"), &[2, 77])).await, done("e", 3));
    assert_eq!(ask("b", "r", Leave { sessions: vec![1] }).await, done("e", 3), "another node's");
    assert_eq!(ask("b", "r", join(5, Some("ann"), &[4])).await, NameInUse);
    assert_eq!(ask("a", "r", Leave { sessions: vec![1] }).await, done("e", 3));
    assert_eq!(ask("b", "r", join(5, Some("ann"), &[])).await, done("e", 3));

    // Who is not in the room changes nothing there.
    for request in [write(9, &[("x", "no")]), join(1, None, &[]), Renew, Leave { sessions: vec![] }]
    {
        assert_eq!(ask("c", "r", request).await, Fenced);
    }
    assert_eq!(ask("b", "r", Renew).await, done("e", 3));

    // Another room has an order of its own.
    ask("a", "other", enter("o", Some(&[]))).await;
    assert_eq!(ask("a", "other", write(1, &[("z", "1")])).await, done("o", 1));
    let message = within("message", elsewhere.next()).await.unwrap();
    assert_eq!((message.revision.number, message.writes), (1, pairs(&[("z", "1")])));
    assert_eq!(read("a", "r").await.0, 3);
    for odd in ["{}", "a}b", "{", "%7B", "☁"] {
        ask("a", odd, enter(odd, Some(&[("id", odd)]))).await;
    }
    assert_eq!(read("a", "{").await.1, pairs(&[("id", "{")]));
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
        assert_eq!(ask("b", join(1, Some("ann"), &[])).await, RelayAnswer::NameInUse);
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    let wait = async {
        while ask("b", join(1, Some("ann"), &[])).await == RelayAnswer::NameInUse {
            ask("b", RelayRequest::Renew).await;
            pause().await;
        }
    };
    within("the name is free", wait).await;
    assert_eq!(ask("a", write(1, &[("x", "1")])).await, RelayAnswer::Fenced);
    assert_eq!(ask("b", RelayRequest::Renew).await, done("e", 0));
}
