//! The bytes on the wire with compression and without, and what compressing costs:
//! `cargo bench --features deflate --bench traffic [-- --rounds 3]`.

use std::{env, fs, time::Duration};

mod load;

use load::{
    median,
    work::{Record, Work, run_beside},
};

/// Title, work, and the kinds of servers, the first of which compresses nothing.
fn rows() -> Vec<(&'static str, Work, [&'static str; 2])> {
    let plain = ["ours", "ours:deflate"];
    let game = Work {
        rooms: 50,
        players: 20,
        writers: 20,
        rate: Some(8.0),
        bytes: 12,
        time: Duration::from_secs(4),
        ..Work::default()
    };
    vec![
        ("50 rooms of 20, 8 sets/s each, 60 batches/s", game, plain),
        (
            "50 rooms of 20, 8 sets/s each, 20 batches/s",
            game,
            ["ours:tick50", "ours:tick50:deflate"],
        ),
        ("50 rooms of 20, 30 sets/s each, 60 batches/s", Work { rate: Some(30.0), ..game }, plain),
        (
            "50 rooms of 20, 10 sets/s each of 200 digits",
            Work { rate: Some(10.0), bytes: 200, ..game },
            plain,
        ),
        ("1 to 100, 200 sets/s", Work { rate: Some(200.0), ..Work::default() }, plain),
        (
            "1 to 1000, 50 sets/s",
            Work { players: 1_001, rate: Some(50.0), ..Work::default() },
            plain,
        ),
        ("1 to 1000, saturated", Work { players: 1_001, ..Work::default() }, plain),
        (
            "2000 players who only sit there",
            Work { rooms: 100, players: 20, rate: Some(0.01), ..Work::default() },
            plain,
        ),
    ]
}

fn main() {
    load::begin();
    let arguments: Vec<_> = env::args().collect();
    let rounds = arguments.iter().position(|argument| argument == "--rounds");
    let rounds = rounds.and_then(|at| arguments.get(at + 1)?.parse().ok()).unwrap_or(3);
    for (title, work, kinds) in rows() {
        println!("\n{title}");
        println!(
            "{:>20}{:>14}{:>16}{:>16}{:>10}{:>10}{:>10}{:>14}",
            "",
            "deliveries/s",
            "frame bytes",
            "wire bytes",
            "CPU s/M",
            "p50 ms",
            "p99 ms",
            "bytes/player"
        );
        let mut results = vec![Vec::new(); kinds.len()];
        for _ in 0..rounds {
            for (kind, results) in kinds.iter().zip(&mut results) {
                let work = Work { deflate: kind.contains("deflate"), ..work };
                let (record, [before, after]) = run_beside(kind, work, async || received());
                results.push(fields(&record, (after - before) as f64, work));
            }
        }
        let medians: Vec<_> = results.iter().map(|results| of(results)).collect();
        kinds.iter().zip(&medians).for_each(|(kind, fields)| print(kind, fields));
        print("ratio", &std::array::from_fn(|i| medians[1][i] / medians[0][i]));
    }
}

/// The bytes that the loopback interface has received, in both directions and with all headers.
fn received() -> u64 {
    let devices = fs::read_to_string("/proc/net/dev").expect("Linux's /proc");
    let lo = devices.lines().find_map(|line| line.trim().strip_prefix("lo:")).expect("a loopback");
    lo.split_whitespace().next().and_then(|bytes| bytes.parse().ok()).expect("a number")
}

/// Bytes are those of a delivery: of the frames that players read, and on the wire.
fn fields(record: &Record, wire: f64, work: Work) -> [f64; 7] {
    let Record { deliveries_per_second, cpu, p50, p99, memory, frame_bytes, .. } = *record;
    let deliveries = deliveries_per_second * work.time.as_secs_f64();
    [deliveries_per_second, frame_bytes, wire / deliveries, cpu, p50, p99, memory]
}

fn of(records: &[[f64; 7]]) -> [f64; 7] {
    std::array::from_fn(|i| median(records.iter().map(|record| record[i]).collect()))
}

fn print(name: &str, [deliveries, frames, wire, cpu, p50, p99, memory]: &[f64; 7]) {
    let digits = if *deliveries < 100.0 { 2 } else { 0 };
    println!(
        "{name:>20}{deliveries:>14.digits$}{frames:>16.2}{wire:>16.2}{cpu:>10.3}{p50:>10.2}{p99:>10.2}{memory:>14.digits$}"
    );
}
