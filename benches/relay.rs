//! The cost and the capacity of a broker between nodes; needs `redis-server`:
//! `cargo bench --features redis --bench relay`.
//!
//! The nodes are registries of this process, and the hosts write. This measures the way through the
//! broker, without sockets of players.

use std::time::{Duration, Instant};

use axum_cloud_variables::{Room, RoomRegistry, events::RoomEvent, relay::RedisRelay};
use futures_util::future::join_all;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

mod load;

use load::{processor::processor, redis::Redis};

const TIME: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() {
    println!(
        "nodes  rooms  sets/s      heard/s   p50 ms   p99 ms  redis core  our cores  scripts/s"
    );
    for (nodes, rooms, rate) in
        [(1, 50, 160), (2, 50, 160), (3, 50, 160), (2, 200, 160), (2, 400, 160), (2, 1_600, 10)]
    {
        work(nodes, rooms, rate).await;
    }
}

/// Sets each room `rate` times a second, by its nodes in turn.
async fn work(nodes: usize, rooms: usize, rate: u64) {
    let redis = Redis::start();
    let url = format!("redis://127.0.0.1:{}/", redis.port);
    let mut registries = Vec::new();
    let mut opened: Vec<Vec<Room>> = Vec::new();
    for _ in 0..nodes {
        let relay = RedisRelay::new(&url).expect("an address");
        let registry = RoomRegistry::builder().relay(relay).build().expect("settings");
        let open =
            |n: usize| registry.open(format!("room {n}")).variables([("x", "0")]).into_future();
        let all = join_all((0..rooms).map(open)).await;
        opened.push(all.into_iter().map(|room| room.expect("a room")).collect());
        registries.push(registry);
    }
    let epoch = Instant::now();
    let now = move || epoch.elapsed().as_micros() as u64;
    let listeners: Vec<_> = opened
        .iter()
        .flatten()
        .map(|room| {
            let mut events = room.events();
            tokio::spawn(async move {
                let mut waits = Vec::new();
                while let Ok(Some(event)) = timeout(Duration::from_secs(3), events.next()).await {
                    match event {
                        RoomEvent::Wrote { value, .. } => {
                            let sent: u64 = value.parse().expect("a moment");
                            waits.push(now() - sent);
                        }
                        RoomEvent::Missed(count) => panic!("{count} missed"),
                        _ => {}
                    }
                }
                waits
            })
        })
        .collect();
    let before = (redis.processor(), processor("self"), redis.scripts().await);
    let writers: Vec<_> = (0..rooms)
        .map(|n| {
            let rooms: Vec<Room> = opened.iter().map(|opened| opened[n].clone()).collect();
            tokio::spawn(async move {
                // The rooms are not all set at the same moments.
                sleep(Duration::from_micros(997 * n as u64 % 100_000)).await;
                let mut tick = interval(Duration::from_secs(1) / rate as u32);
                tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
                let mut sets = 0;
                let end = Instant::now() + TIME;
                while Instant::now() < end {
                    tick.tick().await;
                    let room = &rooms[sets % rooms.len()];
                    room.set("x", now()).expect("a room");
                    sets += 1;
                }
                sets
            })
        })
        .collect();
    let sets: usize = join_all(writers).await.into_iter().map(|sets| sets.expect("sets")).sum();
    let after = (redis.processor(), processor("self"), redis.scripts().await);
    let mut waits = Vec::new();
    for listener in listeners {
        waits.extend(listener.await.expect("waits"));
    }
    assert_eq!(waits.len(), sets * nodes, "some were lost");
    waits.sort_unstable();
    let at = |share: f64| waits[(waits.len() as f64 * share) as usize] as f64 / 1_000.0;
    let seconds = TIME.as_secs_f64();
    println!(
        "{nodes:>5} {rooms:>6} {:>7.0} {:>12.0} {:>8.2} {:>8.2} {:>11.2} {:>10.2} {:>10.0}",
        sets as f64 / seconds,
        waits.len() as f64 / seconds,
        at(0.5),
        at(0.99),
        (after.0 - before.0).as_secs_f64() / seconds,
        (after.1 - before.1).as_secs_f64() / seconds,
        (after.2 - before.2) as f64 / seconds,
    );
    for registry in registries {
        registry.shutdown(Duration::from_secs(5)).await;
    }
}
