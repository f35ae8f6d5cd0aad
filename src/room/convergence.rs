//! Promise P3, proven on the real room, outbox and ping barrier over a simulated link.
//!
//! Clients do what 'sees' means in P3: they apply their own sets at once and the server's in order
//! of arrival. Everything else is as bad as the promise allows. A failing seed is printed; to
//! replay it: `CLOUD_VARIABLES_SEED=<seed> cargo test --lib convergence`.

mod world;

use std::time::Duration;

use fastrand::Rng;
use world::{Event, Weather, World};

const RUNS: u64 = 20_000;

fn converges(seed: u64, settle: Option<Duration>) -> bool {
    let mut world = World::of_seed(seed, settle);
    world.run();
    world.agrees()
}

fn seeds() -> std::ops::Range<u64> {
    match std::env::var("CLOUD_VARIABLES_SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("a number");
            seed..seed + 1
        }
        Err(_) => 0..RUNS,
    }
}

#[test]
fn everyone_ends_up_seeing_the_same_values() {
    let diverged: Vec<_> =
        seeds().filter(|seed| !converges(*seed, Some(Duration::from_millis(500)))).collect();
    assert!(diverged.is_empty(), "{} runs diverged, with the seeds {diverged:?}", diverged.len());
}

#[test]
fn without_the_rule_they_do_not() {
    let runs = seeds().take(2_000).count();
    let diverged = seeds().take(runs).filter(|seed| !converges(*seed, None)).count();
    println!("{diverged} of {runs} runs diverge without the rule");
    assert!(diverged * 4 > runs, "the model is too kind: {diverged} of {runs}");
}

/// `x += 1` every 0.55 s at a round trip of 120 ms, beside one early write of another.
#[test]
fn a_steady_writer_keeps_its_steps() {
    const STEPS: u64 = 1_000;
    let mut rng = Rng::with_seed(0);
    let weather = Weather {
        clients: 2,
        variables: 1,
        writes: 0,
        link: (59, 61),
        queues: (1, 1),
        stalls: false,
        leaves: false,
        refusals: false,
        jams: false,
        grows: false,
        host: false,
        ..Weather::new(&mut rng, Some(Duration::from_millis(500)))
    };
    let mut world = World::new(rng, weather);
    world.at(0, Event::Come(0));
    world.at(0, Event::Come(1));
    world.at(900, Event::Write(1));
    for step in 0..STEPS {
        world.at(1_000 + step * 550, Event::Add(0));
    }
    world.run();
    assert!(world.agrees());
    // The other's writes are numbers too: the highest is where the steps may have begun.
    let kept = world.truth()["☁ 0"].parse::<u64>().unwrap() - world.written;
    println!("{kept} of {STEPS} steps kept");
    assert!(kept * 100 >= STEPS * 99, "{kept} of {STEPS}");
}
