//! Players of the same rooms on one, two and three nodes; needs `redis-server`:
//! `cargo bench --features redis --bench nodes`.
//!
//! The nodes are registries of one process on core 0, and each player connects to the next one. The
//! broker runs beside the players on core 1.

use std::time::{Duration, Instant};

mod load;

use load::{
    redis::Redis,
    work::{Record, Work, run, run_beside},
};

fn main() {
    load::begin();
    let game = Work { rooms: 50, players: 20, writers: 20, rate: Some(8.0), ..Work::default() };
    let pairs = Work { rooms: 400, players: 3, writers: 3, rate: Some(8.0), ..Work::default() };
    for (title, work) in
        [("50 rooms of 20, 8 sets/s each", game), ("400 rooms of 3, 8 sets/s each", pairs)]
    {
        println!("\n{title}");
        println!(
            "{:>10}{:>14}{:>12}{:>10}{:>10}{:>8}{:>12}{:>11}",
            "", "deliveries/s", "CPU s/M", "p50 ms", "p99 ms", "cores", "redis core", "scripts/s"
        );
        let work = Work { time: Duration::from_secs(10), ..work };
        print("no relay", &run("ours", work), 0.0, 0.0);
        for nodes in 1..=3 {
            let redis = Redis::start();
            let kind = format!("nodes:{nodes}:{}", redis.port);
            let ask = async || (Instant::now(), redis.processor(), redis.scripts().await);
            let (record, [before, after]) = run_beside(&kind, work, ask);
            let seconds = (after.0 - before.0).as_secs_f64();
            let core = (after.1 - before.1).as_secs_f64() / seconds;
            let scripts = (after.2 - before.2) as f64 / seconds;
            print(&format!("{nodes} nodes"), &record, core, scripts);
        }
    }
}

fn print(name: &str, record: &Record, core: f64, scripts: f64) {
    let Record { deliveries_per_second, cpu, p50, p99, cores, .. } = record;
    println!(
        "{name:>10}{deliveries_per_second:>14.0}{cpu:>12.3}{p50:>10.2}{p99:>10.2}{cores:>8.2}{core:>12.2}\
         {scripts:>11.0}"
    );
}
