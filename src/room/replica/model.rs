//! Tests promise P11 on the real room: several nodes, a broker that loses answers, requests, its last
//! second or everything, delays either way, nodes that stand still, a clock that jumps, and hosts that
//! open, close, lock, ban and remove. A failing seed is printed. To replay it:
//! `CLOUD_VARIABLES_SEED=<seed> cargo test --lib replica::model`.

#![allow(clippy::unwrap_used, reason = "a test")]

mod broker;
mod node;
mod world;

use world::World;

/// The number of runs. `tests/run` optimises this crate for them.
const RUNS: u64 = if cfg!(debug_assertions) { 1_000 } else { 20_000 };

#[test]
fn nodes_come_to_rest_with_one_room() {
    let seeds = match std::env::var("CLOUD_VARIABLES_SEED") {
        Ok(seed) => {
            let seed = seed.parse().unwrap();
            seed..seed + 1
        }
        // Rare failures show only in the long run.
        Err(_) if std::env::var_os("CLOUD_VARIABLES_LONG").is_some() => 0..5 * RUNS,
        Err(_) => 0..RUNS,
    };
    let mut failed = Vec::new();
    for seed in seeds {
        let mut world = World::of_seed(seed);
        world.run();
        let wrongs = world.wrongs();
        if !wrongs.is_empty() {
            failed.push((seed, wrongs));
        }
    }
    for (seed, wrongs) in failed.iter().take(10) {
        println!("seed {seed}: {wrongs:#?}");
    }
    assert!(failed.is_empty(), "{} runs failed", failed.len());
}
