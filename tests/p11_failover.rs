//! P11 with brokers of several servers: Sentinels that choose another primary, and a cluster whose slots move.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::{
    fs,
    process::{Command, Output},
    time::Duration,
};

use axum_cloud_variables::{relay::RedisRelay, testing::relay_contract};
use common::{Client, Folder, Redis, Server, redis_node, within};

const X: &[(&str, &str)] = &[("x", "0")];

fn cli(port: u16, words: &[&str]) -> String {
    let Output { status, stdout, .. } =
        Command::new("redis-cli").args(["-p", &port.to_string()]).args(words).output().unwrap();
    let text = String::from_utf8(stdout).unwrap();
    assert!(status.success(), "{words:?}: {text}");
    text
}

async fn until_cli_says(port: u16, words: &[&str], expected: &str) {
    let says = async {
        while !cli(port, words).contains(expected) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within(expected, says).await;
}

/// Two players of one room, each on a node of its own.
struct Game {
    room: String,
    ann: Client,
    ben: Client,
    round: usize,
}

impl Game {
    async fn start(room: String, nodes: &[Server]) -> Self {
        let ann = nodes[0].join(&room, "ann", X).await;
        let ben = nodes[1].join(&room, "ben", X).await;
        Self { room, ann, ben, round: 0 }
    }

    /// Has each player set a value, and waits until the other has it. Neither may be closed.
    async fn play(&mut self) {
        self.round += 1;
        let values = ["ann", "ben"].map(|name| format!("{name} {}", self.round));
        self.ann.set("x", &values[0]).await;
        self.ben.until("x", &values[0]).await;
        self.ben.set("x", &values[1]).await;
        self.ann.until("x", &values[1]).await;
    }
}

/// Waits until a newcomer is let into each room, and sees the latest value.
async fn newcomers_see(games: &mut [Game], node: &Server) {
    for game in games {
        let (room, url) = (game.room.clone(), node.url());
        let value = game.ann.view["x"].clone();
        let join = async {
            while node.refusal_or_join(&room, "eve", X).await.is_some() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        game.ann.reading_until(within("eve is let in", join)).await;
        let mut eve = Client::join(&url, &room, "eve", X).await;
        eve.until("x", &value).await;
    }
}

/// The primary is killed, and the Sentinel makes its replica the primary. Another Sentinel of the address is gone.
#[tokio::test(flavor = "multi_thread")]
async fn players_stay_when_a_sentinel_chooses_another_primary() {
    let mut primary = Redis::start("primary");
    let follows = ["--replicaof", "127.0.0.1", &primary.port().to_string()];
    let replica = Redis::with("follower", &follows);
    let folder = Folder::new("watch");
    let file = folder.file("sentinel.conf");
    let settings = format!(
        "sentinel monitor main 127.0.0.1 {} 1\nsentinel down-after-milliseconds main 500\n\
         sentinel failover-timeout main 2000\n",
        primary.port()
    );
    fs::write(&file, settings).unwrap();
    let sentinel = Redis::sentinel("watcher", &file);
    until_cli_says(replica.port(), &["INFO", "replication"], "master_link_status:up").await;
    until_cli_says(sentinel.port(), &["SENTINEL", "REPLICAS", "main"], "slave-priority").await;
    let url = format!("redis+sentinel://127.0.0.1:1,127.0.0.1:{}/main/0", sentinel.port());
    let nodes = [redis_node(&url).await, redis_node(&url).await];
    let mut games = vec![Game::start("arena".into(), &nodes).await];
    games[0].play().await;
    primary.crash();
    games[0].ann.set("x", "meanwhile").await;
    games[0].ben.until("x", "meanwhile").await;
    games[0].play().await;
    newcomers_see(&mut games, &nodes[1]).await;
    let name = cli(sentinel.port(), &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main"]);
    assert!(name.contains(&replica.port().to_string()), "{name}");

    // An address with another name says so.
    let other = redis_node(&url.replace("main", "other")).await;
    assert_eq!(other.refusal("arena", "bob", X).await.0, 4003);
    let (_, error) = other.rooms.relay_stats().unwrap().last_error.unwrap();
    assert!(error.to_string().contains("know no primary named other"), "{error}");
}

/// Three primaries, and a replica of the first.
struct Cluster {
    primaries: Vec<Redis>,
    replica: Redis,
}

impl Cluster {
    async fn start() -> Self {
        let options = ["--cluster-node-timeout", "1000"];
        let start = |n| Redis::cluster_with(&format!("cluster_{n}"), &options);
        let primaries: Vec<_> = (0..3).map(start).collect();
        let replica = start(3);
        let address = |redis: &Redis| format!("127.0.0.1:{}", redis.port());
        let all: Vec<_> = primaries.iter().map(address).collect();
        let first = primaries[0].port();
        let create = ["--cluster", "create"].into_iter().chain(all.iter().map(String::as_str));
        cli(first, &create.chain(["--cluster-yes"]).collect::<Vec<_>>());
        for node in &primaries {
            until_cli_says(node.port(), &["CLUSTER", "INFO"], "cluster_state:ok").await;
        }
        let id = Self::id(&primaries[0]);
        let add = ["--cluster", "add-node", &address(&replica), &all[0], "--cluster-slave"];
        cli(first, &add.into_iter().chain(["--cluster-master-id", &id]).collect::<Vec<_>>());
        until_cli_says(replica.port(), &["INFO", "replication"], "master_link_status:up").await;
        until_cli_says(replica.port(), &["CLUSTER", "INFO"], "cluster_state:ok").await;
        Self { primaries, replica }
    }

    fn id(node: &Redis) -> String {
        cli(node.port(), &["CLUSTER", "MYID"]).trim().into()
    }

    /// Returns the addresses of two of the servers.
    fn url(&self) -> String {
        let [first, second, _] = &self.primaries[..] else { panic!() };
        format!("redis+cluster://127.0.0.1:{},127.0.0.1:{}", first.port(), second.port())
    }

    /// Returns the slot of a room, and which primary has it.
    fn slot(&self, room: &str) -> (String, usize) {
        let first = self.primaries[0].port();
        let slot = cli(first, &["CLUSTER", "KEYSLOT", &format!("cv:{{{room}}}:m")]);
        let count = |node: &Redis| cli(node.port(), &["CLUSTER", "COUNTKEYSINSLOT", slot.trim()]);
        let at = self.primaries.iter().position(|node| count(node).trim() != "0");
        (slot.trim().into(), at.expect("a primary has the room"))
    }

    /// Moves the slot of a room to the next primary, as `redis-cli --cluster reshard` does.
    fn move_room(&self, room: &str) {
        let (slot, from) = self.slot(room);
        let (from, to) = (&self.primaries[from], &self.primaries[(from + 1) % 3]);
        let [from_id, to_id] = [from, to].map(Self::id);
        cli(to.port(), &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]);
        cli(from.port(), &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]);
        let keys = cli(from.port(), &["CLUSTER", "GETKEYSINSLOT", &slot, "100"]);
        let port = to.port().to_string();
        let migrate = ["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
        cli(from.port(), &migrate.into_iter().chain(keys.lines()).collect::<Vec<_>>());
        for node in [to, from].into_iter().chain(&self.primaries) {
            cli(node.port(), &["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]);
        }
    }
}

/// Slots move and a primary fails, while games play in rooms on all primaries.
#[tokio::test(flavor = "multi_thread")]
async fn players_stay_when_slots_of_a_cluster_move_and_a_primary_fails() {
    let mut cluster = Cluster::start().await;
    relay_contract(&RedisRelay::new(cluster.url()).unwrap()).await;
    let nodes = [redis_node(&cluster.url()).await, redis_node(&cluster.url()).await];
    let mut games = Vec::new();
    for n in 0..9 {
        games.push(Game::start(format!("room {n}"), &nodes).await);
    }
    for game in &mut games {
        game.play().await;
    }
    let places: Vec<_> = games.iter().map(|game| cluster.slot(&game.room).1).collect();
    assert!((0..3).all(|node| places.contains(&node)), "{places:?}");
    for game in &mut games[..6] {
        cluster.move_room(&game.room);
        game.play().await;
        game.play().await;
    }
    let moved: Vec<_> = games.iter().map(|game| cluster.slot(&game.room).1).collect();
    assert!((0..6).all(|n| moved[n] == (places[n] + 1) % 3), "{places:?} {moved:?}");
    for game in &mut games {
        game.play().await;
    }

    // The replica needs all writes before its primary is killed.
    cli(cluster.primaries[0].port(), &["WAIT", "1", "5000"]);
    cluster.primaries[0].crash();
    for game in &mut games {
        game.play().await;
    }
    until_cli_says(cluster.replica.port(), &["ROLE"], "master").await;
    newcomers_see(&mut games, &nodes[0]).await;
    // What belongs to no room also reaches all nodes.
    let kicked = axum_cloud_variables::CloseCode::Kicked;
    nodes[0].rooms.kick_person("nobody", kicked, "out").await.unwrap();
}
