//! The growth of the server's costs with players, rooms and variables: `cargo bench --bench growth`.

mod load;

use load::{
    Server,
    work::{Work, run},
};

/// The approximate number of deliveries per second in each row of the first table.
const DELIVERIES: f64 = 20_000.0;

fn main() {
    load::begin();
    println!(
        "{:>10}{:>10}{:>14}{:>12}{:>12}{:>10}",
        "players", "in rooms", "deliveries/s", "us each", "p99 ms", "KB each"
    );
    for players in [10, 100, 1_000, 10_000] {
        for size in [2, 20, 100, 1_000] {
            if size > players {
                continue;
            }
            let rooms = players / size;
            // The sets of each room. One player sets no more than ten times a second.
            let sets = (DELIVERIES / (rooms * (size - 1)) as f64).min(10.0 * size as f64);
            let writers = (sets / 10.0).ceil() as usize;
            let rate = Some(sets / writers as f64);
            let work = Work { rooms, players: size, writers, rate, ..Work::default() };
            let record = run("ours:tick0", work);
            println!(
                "{players:>10}{size:>10}{:>14.0}{:>12.2}{:>12.2}{:>10.1}",
                record.deliveries_per_second,
                record.cpu,
                record.p99,
                record.memory / 1024.0
            );
        }
    }
    println!(
        "\n{:>10}{:>12}{:>10}{:>14}{:>16}",
        "rooms", "variables", "bytes", "KB a room", "bytes a variable"
    );
    let none = memory(0, 0, 0);
    for (rooms, variables, bytes) in
        [(1_000, 10, 10), (16_384, 10, 10), (100, 128, 10), (1_000, 128, 10), (1_000, 128, 100)]
    {
        let all = memory(rooms, variables, bytes) - none;
        println!(
            "{rooms:>10}{variables:>12}{bytes:>10}{:>14.2}{:>16.0}",
            all / 1024.0 / rooms as f64,
            all / (rooms * variables) as f64
        );
    }
}

/// Returns the memory of a server with these rooms and nobody in them, in bytes.
fn memory(rooms: usize, variables: usize, bytes: usize) -> f64 {
    let server = Server::start(&format!("ours:rooms:{rooms}:{variables}:{bytes}"));
    server.memory().0 as f64 * 1024.0
}
