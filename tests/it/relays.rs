//! The requirements of `Relay`, checked for each implementation: the one in memory, and Redis.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "../../src/testing/relay_contract/requests.rs"]
#[allow(dead_code, reason = "the contract uses the rest")]
mod requests;

use std::time::Duration;

use crate::common::{Redis, within};
use axum_cloud_variables::{
    relay::{MemoryRelay, RedisRelay, Relay, RelayAnswer, RelayRequest, Sharded},
    testing::relay_contract,
};
use requests::{ask, ban_of_eve, done, enter, join, named, write};

use RelayAnswer::{Banned, Fenced, Led, NameInUse, Nowhere};
use RelayRequest::{Change, Lead, Read, Renew};

#[tokio::test]
async fn the_relay_of_the_docs_keeps_the_contract() {
    relay_contract(&MemoryRelay::default()).await;
}

#[tokio::test]
async fn redis_keeps_the_contract() {
    let redis = Redis::start("contract-redis");
    relay_contract(&RedisRelay::new(redis.url()).unwrap()).await;
}

/// Rooms are spread over several brokers, and each broker loses only its own.
#[tokio::test]
async fn several_brokers_keep_the_contract() {
    for count in [1, 2, 3] {
        let relays = (0..count).map(|_| MemoryRelay::default());
        relay_contract(&Sharded::new(relays).unwrap()).await;
    }
    let mut brokers = [Redis::start("shard-a"), Redis::start("shard-b")];
    let relays = brokers.iter().map(|at| RedisRelay::new(at.url()).unwrap());
    let relay = Sharded::new(relays).unwrap();
    relay_contract(&relay).await;
    brokers[1].crash();
    let mut answers = Vec::new();
    for n in 0..20 {
        let create = enter("e", Some(&[]));
        answers.push(relay.request(&format!("room {n}"), named("a"), &create).await.is_ok());
    }
    assert!(answers.contains(&true) && answers.contains(&false), "{answers:?}");
    assert!(Sharded::<RedisRelay>::new([]).is_none());
}

/// A node that is silent for longer than its lease is out, and its names are free, except if all nodes
/// were silent.
#[tokio::test]
async fn a_lease_ends() {
    let redis = Redis::start("lease");
    let relay = RedisRelay::new(redis.url()).unwrap().with_lease(Duration::from_millis(600));
    let ask = async |node: &str, request: RelayRequest| ask(&relay, node, "r", request).await;
    let pause = async || tokio::time::sleep(Duration::from_millis(200)).await;
    for node in ["a", "b"] {
        ask(node, enter("e", Some(&[]))).await;
    }
    assert_eq!(ask("a", join(1, 1, "ann", &[])).await, done(0, 1));
    for number in 1..=4 {
        let answer = ask("b", join(number, 1, "ann", &[])).await;
        assert!(matches!(answer, NameInUse { .. }), "{answer:?}");
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    let wait = async {
        let mut number = 5;
        while ask("b", join(number, 1, "ann", &[])).await != done(0, number) {
            ask("b", Renew).await;
            pause().await;
            number += 1;
        }
    };
    within("the name is free", wait).await;
    assert_eq!(ask("a", write(2, &[("x", "1")])).await, Fenced);
}

/// If the broker's clock is set back by an hour, a node that is gone must not stay in the room for that
/// hour; if it is set forward, two nodes must not lead.
#[tokio::test]
async fn a_clock_is_set() {
    let redis = Redis::start("clock");
    let lease = Duration::from_millis(900);
    let relay = RedisRelay::new(redis.url()).unwrap().with_lease(lease);
    let ask = async |node: &str, request: RelayRequest| ask(&relay, node, "r", request).await;
    for node in ["dead", "live"] {
        ask(node, enter("e", Some(&[]))).await;
    }
    let lead = |number| Lead { number, lead: 1 };
    assert_eq!(ask("dead", join(1, 1, "ann", &[])).await, done(0, 1));
    assert_eq!(ask("dead", lead(2)).await, done(0, 2));
    let client = redis::Client::open(redis.url()).unwrap();
    let mut redis = client.get_multiplexed_async_connection().await.unwrap();
    let mut set_clock = async |millis: i64| {
        // This changes all times as if a clock that was ahead by `millis` had written them.
        let keys = [("ZINCRBY", "n", "dead"), ("ZINCRBY", "n", "live")];
        for (command, key, member) in keys {
            let mut command = redis::cmd(command);
            command.arg(format!("cv:{{r}}:{key}")).arg(millis).arg(member);
            let _: redis::Value = command.query_async(&mut redis).await.unwrap();
        }
        for (key, field) in [("m", "heard"), ("l", "until")] {
            let mut command = redis::cmd("HINCRBY");
            command.arg(format!("cv:{{r}}:{key}")).arg(field).arg(millis);
            let _: redis::Value = command.query_async(&mut redis).await.unwrap();
        }
    };
    set_clock(-3_600_000).await;
    assert_eq!(ask("live", lead(1)).await, Led);
    set_clock(3_600_000).await;
    let mut number = 2;
    let wait = async {
        while ask("live", join(number, 1, "ann", &[])).await != done(0, number) {
            ask("live", Renew).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
            number += 1;
        }
    };
    within("the name is free", wait).await;
    tokio::time::sleep(lease).await;
    assert_eq!(ask("live", lead(number + 1)).await, done(0, number + 1));
}

/// A ban holds for its full time, even if the room is gone meanwhile.
#[tokio::test]
async fn a_ban_outlives_its_room() {
    let redis = Redis::start("ban");
    let short = Duration::from_millis(300);
    let relay = RedisRelay::new(redis.url()).unwrap().with_lease(short).with_empty_room_ttl(short);
    let ask = async |node: &str, request: RelayRequest| ask(&relay, node, "r", request).await;
    ask("a", enter("e", Some(&[]))).await;
    let ban = ban_of_eve(86_400_000);
    ask("a", Change { number: 1, change: ban }).await;
    let wait = async {
        while ask("b", Read).await != Nowhere {
            tokio::time::sleep(short).await;
        }
    };
    within("the room is gone", wait).await;
    ask("b", enter("f", Some(&[]))).await;
    assert_eq!(ask("b", join(1, 1, "eve", &[])).await, Banned);
}
