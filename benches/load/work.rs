//! Rooms full of players that write, and the server's cost for them.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::{
    runtime,
    task::{LocalSet, spawn_local},
    time::{Instant as Timer, sleep, sleep_until, timeout},
};

use super::{
    Server,
    player::{Pace, Player, Reading, Seen},
    quantile,
};

#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    pub(crate) rooms: usize,
    /// The number of players of each room.
    pub(crate) players: usize,
    pub(crate) writers: usize,
    /// The number of players of each room that read slowly, and their bytes per second.
    pub(crate) slow: (usize, usize),
    /// Sets per second of each writer. Without it, each has a few sets in flight at any time.
    pub(crate) rate: Option<f64>,
    /// The size of a value in bytes.
    pub(crate) bytes: usize,
    pub(crate) time: Duration,
    /// Whether the players offer compression.
    pub(crate) deflate: bool,
}

impl Default for Work {
    fn default() -> Self {
        let time = Duration::from_secs(3);
        Self {
            rooms: 1,
            players: 100,
            writers: 1,
            slow: (0, 0),
            rate: None,
            bytes: 40,
            time,
            deflate: false,
        }
    }
}

/// The results of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record {
    pub(crate) deliveries_per_second: f64,
    /// Seconds of processor time per million deliveries.
    pub(crate) cpu: f64,
    /// Milliseconds from the set to its arrival.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// The share of a core that the server used.
    pub(crate) cores: f64,
    /// Bytes that a player costs before anybody writes.
    pub(crate) memory: f64,
    /// Bytes of the frames that players read, for each delivery.
    pub(crate) frame_bytes: f64,
    /// The peak of memory in megabytes.
    pub(crate) peak: f64,
}

/// The number of variables of a room.
const VARIABLES: usize = 10;

/// The number of sets of a writer that are in flight if it has no rate.
const WINDOW: u64 = 32;

/// Runs the work on a server of this kind.
pub(crate) fn run(kind: &str, work: Work) -> Record {
    run_beside(kind, work, async || ()).0
}

/// Runs the work, and also calls `ask` before and after the measured time.
pub(crate) fn run_beside<P>(kind: &str, work: Work, ask: impl AsyncFn() -> P) -> (Record, [P; 2]) {
    let server = Server::start(kind);
    let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, load(&server, work, ask))
}

async fn load<P>(server: &Server, work: Work, ask: impl AsyncFn() -> P) -> (Record, [P; 2]) {
    let (epoch, seen) = (Instant::now(), Rc::new(Seen::default()));
    let empty = server.memory().0;
    let mut players = Vec::new();
    for room in 0..work.rooms {
        for player in 0..work.players {
            // The slow players come last, so that none of them writes.
            let is_slow = player + work.slow.0 >= work.players;
            let pace = if is_slow { Pace::Slow(work.slow.1) } else { Pace::AtOnce };
            let id = (&*format!("room{room}"), &*format!("player{player}"));
            let reading = Reading { epoch, seen: &seen, pace, deflate: work.deflate };
            let joined = Player::join(server.address, id, VARIABLES, reading);
            players.push(joined.await.expect("a place"));
        }
    }
    sleep(Duration::from_millis(500)).await;
    let memory = server.memory().0.saturating_sub(empty) as f64 * 1024.0 / players.len() as f64;
    let readers = start_writers(players, work, epoch);
    // The first moments do not count.
    sleep(Duration::from_millis(700)).await;
    let before = ask().await;
    let start = (Instant::now(), server.cpu(), seen.sets.get());
    seen.bytes.set(0);
    seen.latencies.borrow_mut().clear();
    sleep(work.time).await;
    let (time, cpu) = (start.0.elapsed().as_secs_f64(), (server.cpu() - start.1).as_secs_f64());
    let sets = (seen.sets.get() - start.2) as f64;
    let bytes = seen.bytes.get() as f64;
    let mut latencies = seen.latencies.take();
    let after = ask().await;
    drop(readers);
    let record = Record {
        deliveries_per_second: sets / time,
        cpu: cpu / sets * 1e6,
        p50: quantile(&mut latencies, 0.5),
        p99: quantile(&mut latencies, 0.99),
        cores: cpu / time,
        memory,
        frame_bytes: bytes / sets,
        peak: server.memory().1 as f64 / 1024.0,
    };
    (record, [before, after])
}

/// Starts the writers among the players, and returns the others.
fn start_writers(players: Vec<Player>, work: Work, epoch: Instant) -> Vec<Player> {
    let mut readers = Vec::new();
    let mut players = players.into_iter();
    for room in 0..work.rooms {
        let mut room: Vec<_> = players
            .by_ref()
            .take(work.players)
            .collect::<Vec<_>>()
            .into_iter()
            .map(|player| (room, player))
            .collect();
        let rest = room.split_off(work.writers);
        // The progress of this player tells a writer without a rate when to continue.
        let witness = rest.first().map(|(_, player)| (player.own.clone(), player.progress.clone()));
        for (nth, (room, mut player)) in room.into_iter().enumerate() {
            let witness = witness.clone();
            spawn_local(async move {
                let Some(rate) = work.rate else {
                    let Some((seen, progress)) = witness else { return };
                    for sent in 0.. {
                        while sent - (seen.get() / work.writers as u64).min(sent) >= WINDOW {
                            _ = timeout(Duration::from_millis(100), progress.notified()).await;
                        }
                        if player.set(nth % VARIABLES, work.bytes, epoch).await.is_err() {
                            return;
                        }
                    }
                    return;
                };
                let period = Duration::from_secs_f64(1.0 / rate);
                let phase = period.mul_f64((nth + room * 7) as f64 * 0.618 % 1.0);
                let mut next = Timer::now() + phase;
                sleep_until(next).await;
                while player.set(nth % VARIABLES, work.bytes, epoch).await.is_ok() {
                    next += period;
                    sleep_until(next).await;
                }
            });
        }
        readers.extend(rest.into_iter().map(|(_, player)| player));
    }
    readers
}
