//! Tests promise P3 on the real room, outbox and ping barrier over a simulated link.
//!
//! Clients do as 'sees' means in P3: they apply their own sets at once and the server's in order of
//! arrival. Everything else is as bad as the promise allows. A failing seed is printed. To replay it:
//! `CLOUD_VARIABLES_SEED=<seed> cargo test --lib convergence`.

mod world;

use std::time::Duration;

use fastrand::Rng;
use world::{Event, Weather, World};

use crate::{limits::Limits, wire::Dialect};

/// The number of runs. `tests/run` optimises this crate for them.
const RUNS: u64 = if cfg!(debug_assertions) { 1_000 } else { 20_000 };

fn converges(seed: u64, settle: Option<Duration>) -> bool {
    run(seed, settle).agrees()
}

fn run(seed: u64, settle: Option<Duration>) -> World {
    let mut world = World::of_seed(seed, settle);
    world.run();
    world
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
    let (mut diverged, mut written, mut echoes) = (Vec::new(), 0, 0);
    for seed in seeds() {
        let world = run(seed, Some(Duration::from_millis(500)));
        if !world.agrees() || !world.has_told_all() {
            diverged.push(seed);
        }
        written += world.written;
        echoes += world.echoes();
    }
    println!("{written} writes, {echoes} of them came back to their writers for nothing");
    assert!(diverged.is_empty(), "{} runs diverged, with the seeds {diverged:?}", diverged.len());
}

#[test]
fn without_the_rule_they_do_not() {
    let runs = seeds().take(1_000).count();
    let diverged = seeds().take(runs).filter(|seed| !converges(*seed, None)).count();
    println!("{diverged} of {runs} runs diverge without the rule");
    assert!(diverged * 4 > runs, "the model is too kind: {diverged} of {runs}");
}

/// Tests bots that answer a set by setting the same variable, once or twice, always to the same value in
/// the end.
#[test]
fn a_bot_that_answers_hears_itself_once() {
    for bot in [&["0"][..], &["1", "0"]] {
        let mut rng = Rng::with_seed(0);
        let weather = Weather { bot: Some(bot), ..calm(&mut rng) };
        let mut world = World::new(rng, weather);
        world.at(0, Event::Come(0));
        world.at(0, Event::Come(1));
        world.at(40_000, Event::Write(1));
        world.run();
        assert!(world.agrees());
        // The bot receives the snapshot, the other client's write, and its own answer to each of them.
        assert_eq!(world.heard, 4, "{bot:?}");
    }
}

/// Tests that, whatever its pauses, a client that alone writes its variables is sent no more than one value
/// back, soon after its snapshot.
#[test]
fn a_lone_writer_hears_itself_once_at_most() {
    for pause in [300, 2_000, 7_000, 9_900, 10_100, 10_600, 12_000, 14_900, 16_000, 25_000] {
        let mut rng = Rng::with_seed(0);
        let weather = calm(&mut rng);
        let mut world = World::new(rng, weather);
        world.at(0, Event::Come(0));
        world.at(0, Event::Come(1));
        for step in 0..20 {
            world.at(1_000 + step * pause, Event::Write(0));
        }
        world.run();
        assert!(world.agrees());
        assert!(world.echoes() <= 1, "{} with pauses of {pause} ms", world.echoes());
    }
}

/// Returns conditions with two clients, one variable, a round trip of 120 ms, and nothing else.
fn calm(rng: &mut Rng) -> Weather {
    let mut weather = Weather {
        clients: 2,
        variables: 1,
        writes: 0,
        values: u64::MAX,
        link: (59, 61),
        queues: (1, 1),
        stalls: false,
        leaves: false,
        refusals: false,
        jams: false,
        grows: false,
        updates: false,
        host: false,
        ..Weather::new(rng, Some(Duration::from_millis(500)))
    };
    weather.rules.coalesce = false;
    weather.rules.settle = Some(Duration::from_millis(500));
    weather.rules.limits = Limits::default();
    weather
}

/// Tests `x += 1` every 0.55 s at a round trip of 120 ms, beside one early write of another client.
#[test]
fn a_steady_writer_keeps_its_steps() {
    const STEPS: u64 = 1_000;
    let mut rng = Rng::with_seed(0);
    let weather = calm(&mut rng);
    let mut world = World::new(rng, weather);
    world.at(0, Event::Come(0));
    world.at(0, Event::Come(1));
    world.at(900, Event::Write(1));
    for step in 0..STEPS {
        world.at(1_000 + step * 550, Event::Add(0));
    }
    world.run();
    assert!(world.agrees());
    // The other client's writes are numbers too: the steps may have begun at the highest of them.
    let kept = world.truth()["☁ 0"].parse::<u64>().unwrap() - world.written;
    println!("{kept} of {STEPS} steps kept");
    assert!(kept * 100 >= STEPS * 99, "{kept} of {STEPS}");
}

/// Tests that clients that add one, by sets that count only if nobody else wrote before, lose none,
/// whatever the links.
#[test]
fn no_update_is_lost() {
    let runs = (RUNS / 20).max(50);
    for seed in 0..runs {
        let mut rng = Rng::with_seed(seed);
        let weather = Weather::new(&mut rng, Some(Duration::from_millis(500)));
        let rules = weather.rules.clone();
        let stalls = weather.stalls;
        let mut weather = calm(&mut rng);
        (weather.clients, weather.link) = (rng.usize(2..5), (1, rng.u64(2..200)));
        (weather.rules, weather.stalls) = (rules, stalls);
        weather.dialects = vec![Dialect::Spec, Dialect::Forkphorus2020];
        let mut world = World::new(rng, weather);
        let mut total = 0;
        for client in 0..world.count() {
            world.at(0, Event::Come(client));
            let times = 5 + seed % 7;
            total += times;
            world.at(1_000, Event::Update(client, times));
            if stalls {
                world.at(1_500, Event::Stall(client));
            }
        }
        world.run();
        assert!(world.agrees() && world.has_told_all(), "seed {seed}");
        assert_eq!(world.truth()["☁ 0"], total.to_string(), "seed {seed}");
    }
}
