//! P11 when the broker is away, stops, loses its data, or cannot be reached.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use crate::common::{Cable, Redis, Server, count, redis_node, redis_nodes, unlimited_rate, within};
use axum_cloud_variables::{Dialect, RoomRegistry, relay::RedisRelay};

const X: &[(&str, &str)] = &[("x", "0")];

/// The broker is stopped for ten seconds, and is killed and restarted with its append-only file.
#[tokio::test(flavor = "multi_thread")]
async fn members_stay_while_the_broker_is_away() {
    for is_killed in [false, true] {
        let mut redis = Redis::start("away");
        let nodes = redis_nodes(&redis, 2).await;
        let variables = &[("x", "0"), ("y", "0")];
        let mut ann = nodes[0].join("arena", "ann", variables).await;
        let mut bob = nodes[1].join("arena", "bob", variables).await;
        ann.set("x", "1").await;
        bob.until("x", "1").await;
        if is_killed {
            redis.crash();
        } else {
            redis.stand_still(true);
        }
        ann.set("x", "while away").await;
        bob.set("y", "too").await;
        assert_eq!(nodes[0].refusal("arena", "eve", variables).await.0, 4003);
        let mut scratch = nodes[1].connect().await;
        scratch.handshake_in(Dialect::Scratch, "new", "player", &[]).await;
        assert_eq!(scratch.closed().await.0, 1013);
        let pause = tokio::time::sleep(Duration::from_secs(count(2, 12) as u64));
        bob.reading_until(pause).await;
        if is_killed {
            redis.restart();
        } else {
            redis.stand_still(false);
        }
        bob.until("x", "while away").await;
        ann.until("y", "too").await;
        let join =
            async { while nodes[1].refusal_or_join("arena", "eve", variables).await.is_some() {} };
        within("who comes is let in", join).await;
    }
}

/// The other side is gone without notice, as after a power cut: no connection reports it.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_has_fallen_silent_is_left() {
    let redis = Redis::start("silent");
    let cable = Cable::to(format!("127.0.0.1:{}", redis.port())).await;
    let (a, b) =
        (redis_node(&format!("redis://{}/", cable.addr)).await, redis_node(&redis.url()).await);
    let mut ann = a.join("arena", "ann", X).await;
    let mut bob = b.join("arena", "bob", X).await;
    cable.forsake();
    ann.set("x", "1").await;
    bob.until("x", "1").await;
    bob.set("x", "2").await;
    ann.until("x", "2").await;
    let join = async { while a.refusal_or_join("arena", "eve", X).await.is_some() {} };
    ann.reading_until(within("eve is let in", join)).await;
}

/// A failover: the address leads to a replica, and then to another server.
#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_became_a_replica_is_left() {
    let (old, new) = (Redis::start("old"), Redis::start("new"));
    let cable = Cable::to(format!("127.0.0.1:{}", old.port())).await;
    let node = redis_node(&format!("redis://{}/", cable.addr)).await;
    let mut ann = node.join("arena", "ann", X).await;
    cable.lead_to(format!("127.0.0.1:{}", new.port()));
    let client = redis::Client::open(old.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut follow = redis::cmd("REPLICAOF");
    follow.arg("127.0.0.1").arg(new.port());
    let () = follow.query_async(&mut connection).await.unwrap();
    let join = async { while node.refusal_or_join("arena", "bob", X).await.is_some() {} };
    ann.reading_until(within("bob is let in", join)).await;
}

/// One node cannot reach the broker, and the others can.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_cut_off_catches_up() {
    let redis = Redis::start("cut");
    let cable = Cable::to(format!("127.0.0.1:{}", redis.port())).await;
    let cut = redis_node(&format!("redis://{}/", cable.addr)).await;
    let whole = redis_node(&redis.url()).await;
    let variables = &[("x", "0"), ("y", "0")];
    let mut ann = cut.join("arena", "ann", variables).await;
    let mut bob = whole.join("arena", "bob", variables).await;
    ann.set("x", "1").await;
    bob.until("x", "1").await;
    cable.cut(true);
    ann.set("x", "while cut").await;
    for n in 0..100 {
        bob.set("y", &n.to_string()).await;
    }
    assert_eq!(cut.refusal("arena", "eve", variables).await.0, 4003);
    let _eve = whole.join("arena", "eve", variables).await;
    ann.reading_until(tokio::time::sleep(Duration::from_secs(2))).await;
    cable.cut(false);
    bob.until("x", "while cut").await;
    ann.until("y", "99").await;
    let _sue = cut.join("arena", "sue", variables).await;
    for node in [&cut, &whole] {
        assert_eq!(node.rooms.room("arena").unwrap().get("y").as_deref(), Some("99"));
    }
}

/// The broker is restarted with nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_lost_all_gets_the_members_values() {
    let mut redis = Redis::start("empty");
    let nodes = redis_nodes(&redis, 2).await;
    let mut ann = nodes[0].join("arena", "ann", X).await;
    let mut bob = nodes[1].join("arena", "bob", X).await;
    ann.set("x", "1").await;
    bob.until("x", "1").await;
    redis.crash();
    ann.set("x", "2").await;
    redis.restart_empty();
    bob.until("x", "2").await;
    bob.set("x", "3").await;
    ann.until("x", "3").await;
    let refused = nodes[1].refusal("arena", "ann", X);
    assert_eq!(ann.reading_until(refused).await.0, 4002);
}

/// Nobody writes, and still the room keeps the values that its members saw, also for a client that joins
/// at another node.
#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_room_is_given_back_to_a_broker_that_lost_it() {
    let mut redis = Redis::start("quiet");
    let nodes = redis_nodes(&redis, 3).await;
    let mut ann = nodes[0].join("arena", "ann", X).await;
    let mut bob = nodes[1].join("arena", "bob", X).await;
    ann.set("x", "1").await;
    bob.until("x", "1").await;
    redis.crash();
    redis.restart_empty();
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let given_back = async {
        let key = redis::cmd("EXISTS").arg("cv:{arena}:m").clone();
        while key.query_async::<u8>(&mut connection).await.unwrap() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    ann.reading_until(within("it is given back", given_back)).await;
    let mut eve = nodes[2].join("arena", "eve", X).await;
    eve.until("x", "1").await;
    eve.set("x", "2").await;
    ann.until("x", "2").await;
    bob.until("x", "2").await;
}

/// The node is cut off for longer than its lease: its writes from that time arrive, but change nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_cut_off_for_too_long_is_fenced() {
    let redis = Redis::start("fence");
    let cable = Cable::to(format!("127.0.0.1:{}", redis.port())).await;
    let node = async |url: String| {
        let relay = RedisRelay::new(url).unwrap().with_lease(Duration::from_secs(2));
        Server::with(RoomRegistry::builder().limits(unlimited_rate()).relay(relay)).await
    };
    let (cut, whole) = (node(format!("redis://{}/", cable.addr)).await, node(redis.url()).await);
    let mut ann = cut.join("arena", "ann", X).await;
    let mut bob = whole.join("arena", "bob", X).await;
    ann.set("x", "1").await;
    bob.until("x", "1").await;
    cable.cut(true);
    for n in 0..5 {
        ann.set("x", &format!("late {n}")).await;
    }
    let free = async {
        while whole.refusal_or_join("arena", "ann", X).await.is_some() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    bob.reading_until(within("the name is free", free)).await;
    cable.cut(false);
    assert_eq!(ann.closed().await.0, 1012);
    let mut ann = cut.join("arena", "ann", X).await;
    for n in 2..10 {
        ann.set("x", &n.to_string()).await;
        bob.until("x", &n.to_string()).await;
    }
    bob.set("x", "last").await;
    ann.until("x", "last").await;
    bob.sync().await;
    bob.apply_waiting();
    assert_eq!(bob.view["x"], "last");
}

/// The broker gets its password later than the node.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_refuses_a_node_at_first_is_tried_again() {
    let redis = Redis::start("password");
    let url = format!("redis://:later@127.0.0.1:{}/", redis.port());
    let node = redis_node(&url).await;
    assert_eq!(node.refusal("arena", "ann", X).await.0, 4003);
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut set = redis::cmd("CONFIG");
    set.arg("SET").arg("requirepass").arg("later");
    let () = set.query_async(&mut connection).await.unwrap();
    let joined = async { while node.refusal_or_join("arena", "ann", X).await.is_some() {} };
    within("ann is let in", joined).await;
}
