//! P11 with Redis: one room on many nodes.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::{sync::Arc, time::Duration};

use crate::common::{
    Client, Process, Redis, Server, count, delayed, eventually, nodes, redis_node, redis_nodes,
    unlimited_rate, within,
};
use axum_cloud_variables::{BuildError, RoomRegistry, events::RoomEvent, relay::RedisRelay};

const X: &[(&str, &str)] = &[("x", "0")];

/// All hosts and members see one order.
#[tokio::test(flavor = "multi_thread")]
async fn members_and_hosts_on_three_nodes_see_one_order() {
    const MEMBERS: usize = 30;
    let sets = count(100, 1_000);
    let redis = Redis::start("order");
    let nodes = redis_nodes(&redis, 3).await;
    let mut players = Vec::new();
    for n in 0..MEMBERS {
        players.push(nodes[n % 3].join("arena", &format!("p{n}"), X).await);
    }
    let rooms = nodes.iter().map(|node| node.rooms.room("arena").unwrap());
    let hosts: Vec<_> = rooms
        .map(|room| {
            let mut events = room.events();
            tokio::spawn(async move {
                let mut seen = Vec::new();
                while seen.len() < MEMBERS * sets {
                    match events.next().await.unwrap() {
                        RoomEvent::Wrote { value, .. } => seen.push(value.to_string()),
                        RoomEvent::Missed(count) => panic!("{count} missed"),
                        _ => {}
                    }
                }
                seen
            })
        })
        .collect();
    let members: Vec<_> = players
        .into_iter()
        .enumerate()
        .map(|(n, mut player)| {
            tokio::spawn(async move {
                let mut seen = Vec::new();
                // All except the creator receive a snapshot.
                if n > 0 {
                    assert_eq!(player.frame().await, [("x".into(), "0".into())]);
                }
                for set in 0..sets {
                    player.set("x", &format!("{n}.{set}")).await;
                    if let Some(frame) = player.next_frame_or_none().await {
                        seen.extend(frame);
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                while seen.len() < (MEMBERS - 1) * sets {
                    seen.extend(player.frame().await);
                }
                seen.into_iter().map(|(_, value)| value).collect::<Vec<_>>()
            })
        })
        .collect();
    let mut orders = Vec::new();
    for host in hosts {
        orders.push(within("the hosts", host).await.unwrap());
    }
    assert!(orders.iter().all(|order| *order == orders[0]), "the hosts differ");
    for (n, member) in members.into_iter().enumerate() {
        let seen = within("the members", member).await.unwrap();
        let own = format!("{n}.");
        // This leaves out corrections, which are sent when all is at rest.
        let others: Vec<_> = orders[0].iter().filter(|value| !value.starts_with(&own)).collect();
        assert!(seen.iter().take(others.len()).eq(others), "{n} saw another order");
    }
}

/// The rounds are shorter than with the defaults, so that 10,000 of them are possible.
#[tokio::test(flavor = "multi_thread")]
async fn members_on_three_nodes_end_up_seeing_the_same() {
    let redis = Redis::start("contested");
    let mut nodes = Vec::new();
    for _ in 0..3 {
        let builder = RoomRegistry::builder().limits(unlimited_rate());
        let builder =
            builder.tick(Duration::from_millis(2)).settle(Some(Duration::from_millis(20)));
        let relay = RedisRelay::new(redis.url()).unwrap();
        nodes.push(Server::with(builder.relay(relay)).await);
    }
    nodes::contested(&nodes, 6, count(100, 10_000)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_creators_and_of_two_of_a_name_one_wins() {
    let redis = Redis::start("two");
    nodes::one_of_two_wins(&redis_nodes(&redis, 2).await, count(50, 1_000)).await;
}

/// There is always another write to send, and still the node renews its lease.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_writes_all_the_time_keeps_its_lease() {
    let redis = Redis::start("busy");
    let node = async || {
        let relay = RedisRelay::new(redis.url()).unwrap().with_lease(Duration::from_millis(900));
        Server::with(RoomRegistry::builder().limits(unlimited_rate()).relay(relay)).await
    };
    let (a, b) = (node().await, node().await);
    let mut ann = a.join("arena", "ann", X).await;
    let mut bob = b.join("arena", "bob", X).await;
    let began = std::time::Instant::now();
    let mut n = 0;
    while began.elapsed() < Duration::from_secs(3) {
        for _ in 0..10 {
            n += 1;
            ann.set("x", &n.to_string()).await;
        }
        ann.sync().await;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    bob.until("x", &n.to_string()).await;
}

/// A node unsubscribes from channels that it no longer needs, and no key stays forever.
#[tokio::test(flavor = "multi_thread")]
async fn channels_and_keys_do_not_outlive_their_rooms() {
    let redis = Redis::start("channels");
    let nodes = redis_nodes(&redis, 2).await;
    let mut ann = nodes[0].join("arena", "ann", X).await;
    nodes[1].join("arena", "bob", X).await.close().await;
    let forgotten = async {
        while nodes[1].rooms.stats().rooms > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    ann.reading_until(within("forgotten", forgotten)).await;
    ann.set("x", "1").await;
    ann.sync().await;
    let _other = nodes[1].join("other", "bob", X).await;
    let room = nodes[0].rooms.room("arena").unwrap();
    let _lead = room.lead().await.unwrap();
    room.ban(room.members()[0].id, Duration::from_secs(1)).await.unwrap();

    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut count = redis::cmd("PUBSUB");
    count.arg("NUMSUB").arg("cv:{arena}:c0");
    let (_, hear): (String, u64) = count.query_async(&mut connection).await.unwrap();
    assert_eq!(hear, 1, "bob's node hears it still");
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
    assert!(keys.len() > 10, "{keys:?}");
    for key in keys {
        let left: i64 = redis::cmd("PTTL").arg(&key).query_async(&mut connection).await.unwrap();
        // A value of -2 means that the key is gone by now: a ban empties some.
        assert_ne!(left, -1, "{key} stays for ever");
    }
}

async fn command<T: redis::FromRedisValue>(redis: &Redis, words: &[&str]) -> T {
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut command = redis::cmd(words[0]);
    words[1..].iter().for_each(|word| _ = command.arg(*word));
    command.query_async(&mut connection).await.unwrap()
}

/// Players that create and leave rooms occupy no more of the broker than a node may leave there, and
/// these rooms go before rooms that were used.
#[tokio::test(flavor = "multi_thread")]
async fn rooms_that_are_left_do_not_fill_the_broker() {
    let redis = Redis::start("left");
    let mut limits = unlimited_rate();
    (limits.rooms, limits.empty_room_ttl) = (10, Duration::from_millis(10));
    let relay = RedisRelay::new(redis.url()).unwrap();
    let node = Server::with(RoomRegistry::builder().limits(limits).relay(relay)).await;
    let forgotten = async || eventually("forgotten", || node.rooms.stats().rooms == 0).await;
    for name in ["ann", "bob"] {
        let mut player = node.join("game", name, X).await;
        player.set("x", name).await;
        player.sync().await;
        player.close().await;
        forgotten().await;
    }
    for n in 0..30 {
        node.join(&format!("squat {n}"), "eve", X).await.close().await;
        forgotten().await;
    }
    let rooms = async {
        while command::<Vec<String>>(&redis, &["KEYS", "cv:*:v"]).await.len() > 10 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within("the broker has as many rooms as the node may leave", rooms).await;
    let mut cat = node.join("game", "cat", X).await;
    assert_eq!(cat.frame().await, [("x".into(), "bob".into())]);
}

/// Existing rooms continue when the broker's memory is full, but no room is created until there is memory
/// again.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_without_memory_keeps_its_rooms_going() {
    let redis = Redis::start("memory");
    let nodes = redis_nodes(&redis, 2).await;
    let mut ann = nodes[0].join("game", "ann", X).await;
    () = command(&redis, &["CONFIG", "SET", "maxmemory", "1"]).await;
    let mut bob = nodes[1].join("game", "bob", X).await;
    for n in 0..100 {
        ann.set("x", &n.to_string()).await;
        bob.until("x", &n.to_string()).await;
    }
    let (code, reason) = nodes[0].refusal("other", "cat", X).await;
    assert_eq!((code, &*reason), (4003, "the server is full: try again later"));
    assert_eq!(nodes[0].rooms.relay_stats().map(|stats| stats.is_failing), Some(false));
    () = command(&redis, &["CONFIG", "SET", "maxmemory", "0"]).await;
    _ = nodes[0].join("other", "cat", X).await;
}

/// `rediss://`, with a password and the number of a database. A node that does not trust the certificate
/// does not connect.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_by_tls_and_with_a_password() {
    let redis = Redis::secret("tls");
    let (url, certificate) = (redis.url(), redis.certificate());
    let nodes = [0, 1].map(|_| Process::trusting(&certificate, &["--redis", &url]));
    let mut ann = Client::join(&nodes[0].url(), "arena", "ann", X).await;
    let mut bob = Client::join(&nodes[1].url(), "arena", "bob", X).await;
    bob.set("x", "1").await;
    ann.until("x", "1").await;
    assert_eq!(redis_node(&url).await.refusal("arena", "eve", X).await.0, 4003);
    let guessed = url.replace("secret", "guessed");
    let stranger = Process::trusting(&certificate, &["--redis", &guessed]);
    let mut eve = Client::connect(&stranger.url()).await;
    eve.handshake("arena", "eve", X).await;
    assert_eq!(eve.closed().await.0, 4003);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_asks_for_a_certificate() {
    let redis = Redis::certified("certified");
    let (url, certificate, key) = (redis.url(), redis.certificate(), redis.key());
    let args = ["--redis", &url, "--redis-cert", &certificate, "--redis-key", &key];
    let nodes = [0, 1].map(|_| Process::trusting(&certificate, &args));
    let mut ann = Client::join(&nodes[0].url(), "arena", "ann", X).await;
    let mut bob = Client::join(&nodes[1].url(), "arena", "bob", X).await;
    bob.set("x", "1").await;
    ann.until("x", "1").await;
    let stranger = Process::trusting(&certificate, &["--redis", &url]);
    let mut eve = Client::connect(&stranger.url()).await;
    eve.handshake("arena", "eve", X).await;
    assert_eq!(eve.closed().await.0, 4003);
}

/// Addresses contain names, passwords and numbers of databases.
#[tokio::test]
async fn addresses_are_understood_before_anything_connects() {
    for url in ["redis://:secret@127.0.0.1:1/3", "rediss://name:secret@example.org/"] {
        RedisRelay::new(url).unwrap();
    }
    for url in ["", "http://127.0.0.1/", "redis://127.0.0.1/none", "127.0.0.1"] {
        RedisRelay::new(url).unwrap_err();
    }
    for time in [Duration::ZERO, Duration::MAX] {
        let relays = [
            RedisRelay::new("redis://127.0.0.1/").unwrap().with_lease(time),
            RedisRelay::new("redis://127.0.0.1/").unwrap().with_timeout(time),
        ];
        for relay in relays {
            let built = RoomRegistry::builder().relay(relay).build();
            assert_eq!(built.unwrap_err(), BuildError::RelayTime);
        }
    }
    let redis = Redis::start("numbers");
    let [a, b] = [1, 2].map(|number| format!("redis://127.0.0.1:{}/{number}", redis.port()));
    let (a, b) = (redis_node(&a).await, redis_node(&b).await);
    let mut ann = a.join("arena", "ann", X).await;
    let mut other = b.join("arena", "ann", &[("y", "0")]).await;
    // Channels do not belong to a database, and still no node receives messages of another database.
    let redis = redis::Client::open(redis.url()).unwrap();
    let mut redis = redis.get_multiplexed_async_connection().await.unwrap();
    let mut heard: Vec<String> =
        redis::cmd("PUBSUB").arg("CHANNELS").query_async(&mut redis).await.unwrap();
    // Each node eventually also subscribes to a channel that belongs to no room.
    heard.retain(|channel| channel.contains("arena"));
    heard.sort();
    assert_eq!(heard, ["cv:{arena}:c1", "cv:{arena}:c2"]);
    ann.set("x", "1").await;
    other.set("y", "1").await;
    ann.sync().await;
    other.sync().await;
}

/// All rooms subscribe again when a connection is lost, and none waits for the answers to others.
#[tokio::test(flavor = "multi_thread")]
async fn many_rooms_over_a_slow_line_are_there_at_once() {
    let redis = Redis::start("storm");
    let slow = delayed(format!("127.0.0.1:{}", redis.port()), Duration::from_millis(20)).await;
    let (far, near) =
        (redis_node(&format!("redis://{slow}/")).await, redis_node(&redis.url()).await);
    // If they were opened one after another, it would take twenty seconds.
    let ids: Vec<_> = (0..1_000).map(|n| format!("room {n}")).collect();
    let open = |id: &String| far.rooms.open(id.clone()).variables([("x", "0")]).into_future();
    let opened = futures_util::future::join_all(ids.iter().map(open));
    let rooms: Vec<_> = within("all", opened).await.into_iter().map(Result::unwrap).collect();
    for room in &rooms {
        room.set("x", 1).unwrap();
    }
    let all_heard = || rooms.iter().all(|room| room.get("x").as_deref() == Some("1"));
    eventually("all have heard", all_heard).await;
    drop(near);
}

#[tokio::test]
async fn registries_of_one_process_share_a_relay() {
    let redis = Redis::start("shared");
    let relay = Arc::new(RedisRelay::new(redis.url()).unwrap());
    let node = async || Server::with(RoomRegistry::builder().relay(relay.clone())).await;
    let (a, b) = (node().await, node().await);
    let mut ann = a.join("arena", "ann", X).await;
    let mut bob = b.join("arena", "bob", X).await;
    ann.set("x", "1").await;
    bob.until("x", "1").await;
    a.rooms.shutdown(Duration::from_secs(1)).await;
    let _ann = b.join("arena", "ann", X).await;
    bob.set("x", "2").await;
    let room = b.rooms.room("arena").unwrap();
    eventually("it is heard", || room.get("x").as_deref() == Some("2")).await;
}

/// P9 with a broker.
#[test]
fn no_task_is_left_after_a_shutdown() {
    let redis = Redis::start("tasks");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let relay = Arc::new(RedisRelay::new(redis.url()).unwrap());
    let rooms = RoomRegistry::builder().relay(relay).build().unwrap();
    runtime.block_on(async {
        let room = rooms.open("arena").variables([("x", "0")]).await.unwrap();
        let _lead = room.lead().await.unwrap();
        room.set("x", 1).unwrap();
        eventually("it is heard", || room.get("x").as_deref() == Some("1")).await;
        assert!(tokio::runtime::Handle::current().metrics().num_alive_tasks() > 2);
        assert!(rooms.shutdown(Duration::from_secs(5)).await.is_complete());
        let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        eventually("no task is left", || tasks() == 0).await;
    });
}

/// A server with `maxmemory-policy allkeys-lru` may drop each key of a room by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_broker_evicts_closes_nobody() {
    let redis = Redis::start("evicted");
    let nodes = redis_nodes(&redis, 2).await;
    for part in ["m", "v", "n", "s", "u", "w", "b", "l", "o"] {
        let id = format!("arena {part}");
        let two = &[("x", "0"), ("y", "0")];
        let mut ann = nodes[0].join(&id, "ann", two).await;
        let mut bob = nodes[1].join(&id, "bob", two).await;
        ann.set("y", "7").await;
        bob.until("y", "7").await;
        let _: i64 = command(&redis, &["DEL", &format!("cv:{{{id}}}:{part}")]).await;
        for n in 0..20 {
            ann.set("x", &n.to_string()).await;
            bob.sync().await;
            bob.set("x", &format!("{n}.5")).await;
            ann.sync().await;
        }
        let alike = async {
            while ann.view != bob.view || ann.view["y"] != "7" {
                for client in [&mut ann, &mut bob] {
                    client.sync().await;
                    client.apply_waiting();
                }
            }
        };
        within(&format!("both see the same without {part}"), alike).await;
        let mut cat = nodes[0].join(&id, "cat", two).await;
        ann.set("x", "the end").await;
        cat.until("x", "the end").await;
        bob.until("x", "the end").await;
        assert_eq!(cat.view.get("y").map(String::as_str), Some("7"), "{part}");
    }
}
