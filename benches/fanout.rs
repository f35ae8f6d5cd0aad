//! This server compared to one that is written by hand, with the same work in the same run:
//! `cargo bench --bench fanout [-- --rounds 3] [--json FILE]`.

use std::{env, fs, time::Duration};

use serde_json::{Value, json};

mod load;

use load::{
    median,
    work::{Record, Work, run},
};

/// Returns the rows: title, work, and the servers that do it. The others are compared to the last one.
fn rows() -> Vec<(&'static str, Work, Vec<&'static str>)> {
    let all = vec!["ours", "ours:tick0", "naive"];
    let game = Work { rooms: 50, players: 20, writers: 20, rate: Some(8.0), ..Work::default() };
    let idle = Work { rooms: 100, players: 20, writers: 1, rate: Some(0.01), ..Work::default() };
    vec![
        ("1 to 100, 200 sets/s", Work { rate: Some(200.0), ..Work::default() }, all.clone()),
        (
            "1 to 1000, 50 sets/s",
            Work { players: 1_001, rate: Some(50.0), ..Work::default() },
            all.clone(),
        ),
        ("1 to 100, saturated", Work::default(), all.clone()),
        ("1 to 1000, saturated", Work { players: 1_001, ..Work::default() }, all),
        ("50 rooms of 20, 8 sets/s each", game, vec!["ours", "ours:policy", "naive"]),
        (
            "50 rooms of 20, 40 sets/s each",
            Work { rate: Some(40.0), ..game },
            vec!["ours", "ours:policy", "naive"],
        ),
        (
            "2000 players who only sit there",
            Work { time: Duration::from_secs(1), ..idle },
            vec!["ours", "naive"],
        ),
    ]
}

fn main() {
    load::begin();
    let arguments: Vec<_> = env::args().collect();
    let option = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let rounds = option("--rounds").and_then(|count| count.parse().ok()).unwrap_or(3);
    let mut table = Vec::new();
    for (title, work, kinds) in rows() {
        println!("\n{title}");
        println!(
            "{:>12}{:>14}{:>12}{:>10}{:>10}{:>10}{:>14}",
            "", "deliveries/s", "CPU s/M", "p50 ms", "p99 ms", "cores", "bytes/player"
        );
        let mut records = vec![Vec::new(); kinds.len()];
        for _ in 0..rounds {
            for (kind, records) in kinds.iter().zip(&mut records) {
                records.push(run(kind, work));
            }
        }
        let medians: Vec<_> = records.iter().map(|records| of(records)).collect();
        for (kind, record) in kinds.iter().zip(&medians) {
            print(kind, record);
            table.push(row(title, kind, record));
        }
        if let [ours, .., naive] = &medians[..] {
            print("ours / naive", &ratio(ours, naive));
        }
    }
    if let Some(file) = option("--json") {
        fs::write(file, json!(table).to_string()).expect("a file that can be written");
    }
}

fn fields(record: &Record) -> [f64; 6] {
    let Record { deliveries_per_second, cpu, p50, p99, cores, memory, .. } = *record;
    [deliveries_per_second, cpu, p50, p99, cores, memory]
}

fn of(records: &[Record]) -> [f64; 6] {
    std::array::from_fn(|i| median(records.iter().map(|record| fields(record)[i]).collect()))
}

fn ratio(ours: &[f64; 6], naive: &[f64; 6]) -> [f64; 6] {
    std::array::from_fn(|i| ours[i] / naive[i])
}

fn print(name: &str, [deliveries, cpu, p50, p99, cores, memory]: &[f64; 6]) {
    let digits = if *deliveries < 100.0 { 2 } else { 0 };
    println!(
        "{name:>12}{deliveries:>14.digits$}{cpu:>12.3}{p50:>10.2}{p99:>10.2}{cores:>10.2}{memory:>14.digits$}"
    );
}

fn row(title: &str, kind: &str, fields: &[f64; 6]) -> Value {
    let [deliveries, cpu, p50, p99, cores, memory] = fields;
    json!({
        "work": title, "server": kind, "deliveries_per_second": deliveries, "cpu": cpu,
        "p50": p50, "p99": p99, "cores": cores, "memory": memory,
    })
}
