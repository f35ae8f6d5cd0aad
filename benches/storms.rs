//! The worst moments: a deploy, many slow readers, and many rooms that change at once:
//! `cargo bench --features __internals --bench storms [-- deploy | lag | rooms]`.

use std::{
    env,
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use axum_cloud_variables::{Limits, RoomRegistry, internals};
use tokio::{
    runtime,
    task::{LocalSet, spawn_local},
};

mod load;

use load::{
    Server,
    player::{Pace, Player, Reading, Seen},
    quantile,
    work::{Work, run},
};

fn main() {
    load::begin();
    let asked: Vec<_> = env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let storms: [(&str, fn()); 3] = [("deploy", deploy), ("lag", lag), ("rooms", rooms)];
    for (name, storm) in storms {
        if asked.is_empty() || asked.iter().any(|word| word == name) {
            println!("\n{name}");
            storm();
        }
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, work)
}

/// Closes 10,000 players in rooms of 20, which come back at once. Each room holds 200 KB.
fn deploy() {
    const ROOMS: usize = 500;
    const SIZE: usize = 20;
    const VARIABLES: usize = 10;
    let mut server = Server::start(&format!("ours:rooms:{ROOMS}:{VARIABLES}:20000"));
    block_on(async {
        let (epoch, seen) = (Instant::now(), Rc::new(Seen::default()));
        let address = server.address;
        let join = async move |i: usize, seen: Rc<Seen>| {
            let id = (&*format!("room{}", i / SIZE), &*format!("player{}", i % SIZE));
            let player = Player::join(
                address,
                id,
                VARIABLES,
                Reading { epoch, seen: &seen, pace: Pace::AtOnce, deflate: false },
            )
            .await;
            let player = player.expect("a place");
            while player.own.get() < VARIABLES as u64 {
                player.progress.notified().await;
            }
            player
        };
        let mut players = Vec::new();
        for i in 0..ROOMS * SIZE {
            players.push(join(i, seen.clone()).await);
        }
        println!("{} MB with all in their rooms", server.memory().0 / 1024);
        let start = Instant::now();
        server.close_rooms();
        let back: Vec<_> = players
            .into_iter()
            .enumerate()
            .map(|(i, player)| {
                let (seen, join) = (seen.clone(), join);
                spawn_local(async move {
                    _ = player.reading.await;
                    let closed = Instant::now();
                    (join(i, seen).await, closed.elapsed().as_secs_f64())
                })
            })
            .collect();
        let (mut there, mut times) = (Vec::new(), Vec::new());
        for player in back {
            let (player, time) = player.await.expect("it came back");
            there.push(player);
            times.push(time);
        }
        let all = start.elapsed().as_secs_f64();
        let (median, p99) = (quantile(&mut times, 0.5), quantile(&mut times, 0.99));
        println!(
            "all have their snapshot after {all:.2} s; from close to snapshot: median {median:.2} s, \
             p99 {p99:.2} s; at most {} MB",
            server.memory().1 / 1024
        );
    });
}

/// Runs rooms of 100 members, ten of which write 10 KB values as fast as the default limits allow.
fn lag() {
    let time = Duration::from_secs(10);
    // The default limits allow a member 1 MB a second.
    let rate = Some(100.0);
    let work = Work { players: 100, writers: 10, rate, bytes: 10_000, time, ..Work::default() };
    for (title, slow) in [("all read", (0, 0)), ("50 read 100 KB/s", (50, 100_000))] {
        let record = run("ours:limited", Work { slow, ..work });
        println!(
            "{title:>20}: {:.0} deliveries/s, {:.2} of a core, p50 {:.1} ms, p99 {:.1} ms, at most {:.0} MB",
            record.deliveries_per_second, record.cores, record.p50, record.p99, record.peak
        );
    }
}

/// Runs threads that join, write ten times and leave, as fast as they can and without sockets. If a lock
/// were the limit, more threads would do no more.
fn rooms() {
    const VISITS: usize = 400_000;
    let cores = thread::available_parallelism().map_or(1, usize::from);
    println!("{cores} cores; thousands of visits a second (by so many threads)");
    for rooms in [1, 100, 16_384] {
        print!("{rooms:>8} rooms:");
        for threads in [1, 2, 4] {
            let limits = Limits::default().rooms(16_384).members_per_room(100);
            let registry = RoomRegistry::builder().limits(limits).build().expect("valid limits");
            let start = Instant::now();
            thread::scope(|scope| {
                for thread in 0..threads {
                    let (registry, name) = (&registry, format!("player{thread}"));
                    scope.spawn(move || {
                        let mut rng = fastrand::Rng::with_seed(thread as u64);
                        for _ in 0..VISITS / threads {
                            let room = rng.usize(0..rooms);
                            internals::visit(registry, &format!("room{room}"), &name, 10);
                        }
                    });
                }
            });
            print!("{:>8.0} ({threads})", VISITS as f64 / start.elapsed().as_secs_f64() / 1e3);
        }
        println!();
    }
}
