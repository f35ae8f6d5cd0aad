//! Runs of a model with many seeds, each in simulated time.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
};

use tokio::runtime::Builder;

use super::count;

/// Plays the first `small` seeds, or `long` with `tests/run --long`, or only the one in
/// `CLOUD_VARIABLES_SEED`. Prints each seed that fails.
pub fn play_seeds(small: usize, long: usize, play: impl AsyncFn(u64) + Sync) {
    if let Ok(seed) = std::env::var("CLOUD_VARIABLES_SEED") {
        assert!(passes(&play, seed.parse().expect("a number")));
        return;
    }
    let runs = count(small, long) as u64;
    let threads = thread::available_parallelism().map_or(1, usize::from) as u64;
    let failed: Vec<u64> = thread::scope(|scope| {
        let of = |first: u64| {
            let (seeds, play) = ((first..runs).step_by(threads as usize), &play);
            scope.spawn(move || seeds.filter(|seed| !passes(play, *seed)).collect::<Vec<_>>())
        };
        let all: Vec<_> = (0..threads).map(of).collect();
        all.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    println!("{} of {runs} runs failed", failed.len());
    assert!(failed.is_empty(), "{} runs failed, with the seeds {failed:?}", failed.len());
}

fn passes(play: impl AsyncFn(u64), seed: u64) -> bool {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let played = catch_unwind(AssertUnwindSafe(|| runtime.block_on(play(seed))));
    if played.is_err() {
        eprintln!("of seed {seed}");
    }
    played.is_ok()
}
