//! P11 by Redis: one room on many nodes, which are killed, stopped and cut off, as is the broker.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::time::Duration;

use axum_cloud_variables::{Dialect, RedisRelay, RoomEvent, RoomRegistry};
use common::{Cable, Client, Process, Redis, Server, count, nodes, unlimited_rate, within};

const X: &[(&str, &str)] = &[("x", "0")];

async fn node(url: &str) -> Server {
    let relay = RedisRelay::new(url).unwrap();
    Server::with(RoomRegistry::builder().limits(unlimited_rate()).relay(relay)).await
}

async fn nodes_of(redis: &Redis, count: usize) -> Vec<Server> {
    let mut nodes = Vec::new();
    for _ in 0..count {
        nodes.push(node(&redis.url()).await);
    }
    nodes
}

/// Case 1: one order, whoever looks.
#[tokio::test(flavor = "multi_thread")]
async fn members_and_hosts_on_three_nodes_see_one_order() {
    const MEMBERS: usize = 30;
    let sets = count(100, 1_000);
    let redis = Redis::start("order");
    let nodes = nodes_of(&redis, 3).await;
    let mut players = Vec::new();
    for n in 0..MEMBERS {
        players.push(nodes[n % 3].join("arena", &format!("p{n}"), X).await);
    }
    let rooms = nodes.iter().map(|node| node.rooms.room("arena").unwrap());
    let hosts: Vec<_> = rooms
        .map(|room| {
            let mut events = room.subscribe();
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
                // All but the creator are sent a snapshot.
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
        // But for corrections, which are sent when all is at rest.
        let others: Vec<_> = orders[0].iter().filter(|value| !value.starts_with(&own)).collect();
        assert!(seen.iter().take(others.len()).eq(others), "{n} saw another order");
    }
}

/// Case 1: 10,000 rounds, of which each is over sooner than with the defaults.
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

/// Case 2.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_creators_and_of_two_of_a_name_one_wins() {
    let redis = Redis::start("two");
    nodes::one_of_two_wins(&nodes_of(&redis, 2).await, count(50, 1_000)).await;
}

/// Case 4: stopped for ten seconds, and killed and restarted with its append-only file.
#[tokio::test(flavor = "multi_thread")]
async fn members_stay_while_the_broker_is_away() {
    for is_killed in [false, true] {
        let mut redis = Redis::start("away");
        let nodes = nodes_of(&redis, 2).await;
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

/// There is always more to tell, and still the node says that it is there.
#[tokio::test(flavor = "multi_thread")]
async fn who_writes_all_the_time_keeps_its_lease() {
    let redis = Redis::start("busy");
    let node = async || {
        let relay = RedisRelay::new(redis.url()).unwrap().lease(Duration::from_millis(900));
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

/// A node lets go of what it does not need any more, and what it makes does not stay for ever.
#[tokio::test(flavor = "multi_thread")]
async fn channels_and_keys_do_not_outlive_their_rooms() {
    let redis = Redis::start("channels");
    let nodes = nodes_of(&redis, 2).await;
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
        // -2 is of one that is gone by now: a ban empties some.
        assert_ne!(left, -1, "{key} stays for ever");
    }
}

/// The other side is gone without a word, as after a power cut: no connection tells.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_has_fallen_silent_is_left() {
    let redis = Redis::start("silent");
    let cable = Cable::to(format!("127.0.0.1:{}", redis.port())).await;
    let (a, b) = (node(&format!("redis://{}/", cable.addr)).await, node(&redis.url()).await);
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

/// A failover: what the address leads to is a replica now, and then another server.
#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_became_a_replica_is_left() {
    let (old, new) = (Redis::start("old"), Redis::start("new"));
    let cable = Cable::to(format!("127.0.0.1:{}", old.port())).await;
    let node = node(&format!("redis://{}/", cable.addr)).await;
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

/// Case 4: one node cannot reach it, and the others can.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_cut_off_catches_up() {
    let redis = Redis::start("cut");
    let cable = Cable::to(format!("127.0.0.1:{}", redis.port())).await;
    let cut = node(&format!("redis://{}/", cable.addr)).await;
    let whole = node(&redis.url()).await;
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

/// A game that the server runs goes on when the server that leads is killed.
#[tokio::test(flavor = "multi_thread")]
async fn another_server_moves_the_ball() {
    let redis = Redis::start("ball");
    let url = redis.url();
    let leads = Process::example("host_authority", &["--redis", &url]);
    let other = Process::example("host_authority", &["--redis", &url]);
    let url = format!("ws://{}/cloud", other.addr);
    let mut ann = Client::join(&url, "court", "ann", &[("p_ann", "400")]).await;
    let mut bounces = async || {
        let from = ann.view.get("ball_y").cloned();
        while ann.view.get("ball_y") == from.as_ref() {
            ann.frame().await;
        }
    };
    bounces().await;
    leads.crash();
    // What had been sent by then.
    for _ in 0..60 {
        bounces().await;
    }
}

/// `rediss://`, with a password and the number of a database; who does not trust it does not talk to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_by_tls_and_with_a_password() {
    let redis = Redis::secret("tls");
    let (url, certificate) = (redis.url(), redis.certificate());
    let nodes = [0, 1].map(|_| Process::trusting(&certificate, &["--redis", &url]));
    let mut ann = Client::join(&nodes[0].url(), "arena", "ann", X).await;
    let mut bob = Client::join(&nodes[1].url(), "arena", "bob", X).await;
    bob.set("x", "1").await;
    ann.until("x", "1").await;
    assert_eq!(node(&url).await.refusal("arena", "eve", X).await.0, 4003);
    let guessed = url.replace("secret", "guessed");
    let stranger = Process::trusting(&certificate, &["--redis", &guessed]);
    let mut eve = Client::connect(&stranger.url()).await;
    eve.handshake("arena", "eve", X).await;
    assert_eq!(eve.closed().await.0, 4003);
}

/// Names, passwords and numbers of databases, as addresses have them.
#[tokio::test]
async fn addresses_are_understood_before_anything_connects() {
    for url in ["redis://:secret@127.0.0.1:1/3", "rediss://name:secret@example.org/"] {
        RedisRelay::new(url).unwrap();
    }
    for url in ["", "http://127.0.0.1/", "redis://127.0.0.1/none", "127.0.0.1"] {
        RedisRelay::new(url).unwrap_err();
    }
    let redis = Redis::start("numbers");
    let [a, b] = [1, 2].map(|number| format!("redis://127.0.0.1:{}/{number}", redis.port()));
    let (a, b) = (node(&a).await, node(&b).await);
    let mut ann = a.join("arena", "ann", X).await;
    let mut other = b.join("arena", "ann", &[("y", "0")]).await;
    // Channels are of no database, and still nobody hears the others.
    let redis = redis::Client::open(redis.url()).unwrap();
    let mut redis = redis.get_multiplexed_async_connection().await.unwrap();
    let heard: Vec<String> =
        redis::cmd("PUBSUB").arg("CHANNELS").query_async(&mut redis).await.unwrap();
    assert_eq!(heard.len(), 2, "{heard:?}");
    ann.set("x", "1").await;
    other.set("y", "1").await;
    ann.sync().await;
    other.sync().await;
}

/// Case 4: restarted with nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_lost_all_gets_what_members_saw() {
    let mut redis = Redis::start("empty");
    let nodes = nodes_of(&redis, 2).await;
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

/// Case 3: a node is killed under load.
#[tokio::test(flavor = "multi_thread")]
async fn when_a_node_is_killed_the_others_go_on() {
    let redis = Redis::start("killed");
    let url = redis.url();
    let args = ["--redis", &url, "--messages-per-second", "0"];
    let stays = Process::standalone(&args);
    let mut bob = Client::join(&stays.url(), "arena", "bob", X).await;
    for round in 0..count(2, 50) {
        let killed = Process::standalone(&args);
        let name = format!("ann{round}");
        let mut ann = Client::join(&killed.url(), "arena", &name, X).await;
        let value = |n: usize| format!("{round} {n}");
        for n in 0..20 {
            ann.set("x", &value(n)).await;
        }
        bob.until("x", &value(19)).await;
        ann.set("x", &value(20)).await;
        killed.crash();
        bob.set("x", &format!("bob {round}")).await;
        bob.sync().await;
        // What was delivered is there for whoever comes.
        let mut eve = Client::join(&stays.url(), "arena", &format!("eve{round}"), X).await;
        let seen = eve.frame().await;
        assert!(
            [format!("bob {round}"), value(19), value(20)].contains(&seen[0].1),
            "{seen:?} in {round}"
        );
        eve.close().await;
        if round == 0 {
            let free = async {
                loop {
                    let mut client = Client::connect(&stays.url()).await;
                    client.handshake("arena", &name, X).await;
                    client.ping().await;
                    if client.next_is_close().await.is_none() {
                        break;
                    }
                    bob.sync().await;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            };
            within("its lease is over", free).await;
        }
    }
}

/// Case 3: a node that stood still for longer than its lease.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stood_still_is_fenced() {
    let redis = Redis::start("fenced");
    let url = redis.url();
    let args = ["--redis", &url, "--messages-per-second", "0"];
    let (stays, stops) = (Process::standalone(&args), Process::standalone(&args));
    let mut bob = Client::join(&stays.url(), "arena", "bob", X).await;
    let mut ann = Client::join(&stops.url(), "arena", "ann", X).await;
    ann.set("x", "1").await;
    bob.until("x", "1").await;
    stops.stand_still(true);
    ann.set("x", "late").await;
    let free = async {
        loop {
            let mut client = Client::connect(&stays.url()).await;
            client.handshake("arena", "ann", X).await;
            client.ping().await;
            if client.next_is_close().await.is_none() {
                break client;
            }
            bob.sync().await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let mut other = within("its lease is over", free).await;
    stops.stand_still(false);
    assert_eq!(ann.closed().await.0, 1012);
    other.set("x", "2").await;
    let seen = bob.until("x", "2").await;
    assert!(!seen.iter().any(|(_, value)| value == "late"), "{seen:?}");
}
