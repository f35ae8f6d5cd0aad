//! The activity of rooms in the last minutes: all of them are sampled once a second.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use serde::Serialize;
use tokio::{
    runtime::Handle,
    time::{Instant, MissedTickBehavior, interval},
};

use super::whole::{Sample, Span, Whole, WholePlots};
use crate::{
    registry::{Inner, RoomRegistry, Spawned},
    room::{Activity, RoomSummary},
};

/// The seconds of a plot's step, and how many steps a plot has: ten minutes.
pub(super) const STEP: u64 = 10;
pub(super) const STEPS: u64 = 60;

/// How often rooms are sampled.
pub(super) const PACE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Sampler {
    registry: Weak<Inner>,
    /// The task that samples.
    task: Mutex<Spawned>,
    seen: RwLock<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    rows: Arc<Vec<Row>>,
    tracks: HashMap<Arc<str>, Track>,
    whole: Whole,
    /// The current second.
    second: u64,
    /// The current step.
    step: u64,
}

/// A room as of the last sample.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) summary: RoomSummary,
    pub(super) writes_per_second: f64,
}

/// The observed activity of a room. Steps without any activity are not kept.
#[derive(Debug, Default)]
struct Track {
    total: Activity,
    steps: VecDeque<(u64, Activity)>,
}

/// A value for each step, the newest last.
#[derive(Debug, Default, Serialize)]
pub(super) struct Plots {
    step_seconds: u64,
    /// The seconds of the last step that are over.
    last_seconds: u64,
    writes: Vec<u64>,
    deliveries: Vec<u64>,
    corrections: Vec<u64>,
}

impl Sampler {
    pub(super) fn new(rooms: &RoomRegistry) -> Arc<Self> {
        let registry = Arc::downgrade(rooms.inner());
        let sampler = Arc::new(Self { registry, task: Mutex::default(), seen: RwLock::default() });
        sampler.begin();
        sampler
    }

    /// Starts the task at the first call from within a runtime, and again if the task has ended.
    fn begin(self: &Arc<Self>) {
        let mut task = self.task.lock();
        if !task.is_alive()
            && let Some(registry) = self.registry.upgrade()
            && Handle::try_current().is_ok()
        {
            self.look(None);
            *task = registry.tasks.spawn(run(Arc::downgrade(self)));
        }
    }

    /// Returns all rooms.
    pub(super) fn rows(self: &Arc<Self>) -> Arc<Vec<Row>> {
        self.begin();
        self.seen.read().rows.clone()
    }

    pub(super) fn plots(self: &Arc<Self>, room: &str) -> Plots {
        self.begin();
        let seen = self.seen.read();
        let last_seconds = seen.second % STEP + 1;
        let mut plots = Plots { step_seconds: STEP, last_seconds, ..Plots::default() };
        let track = seen.tracks.get(room);
        for step in (seen.step + 1).saturating_sub(STEPS)..seen.step + 1 {
            let steps = track.into_iter().flat_map(|track| &track.steps);
            let did = steps.filter(|(at, _)| *at == step).map(|(_, did)| *did).next();
            let did = did.unwrap_or_default();
            plots.writes.push(did.writes);
            plots.deliveries.push(did.deliveries);
            plots.corrections.push(did.corrections);
        }
        plots
    }

    pub(super) fn whole(self: &Arc<Self>, span: Span) -> WholePlots {
        self.begin();
        let seen = self.seen.read();
        seen.whole.plots(span, seen.second)
    }

    /// Samples all rooms, with the time since the last sample. The first sample has no earlier one to compare
    /// with.
    fn look(&self, since: Option<Duration>) {
        let Some(registry) = self.registry.upgrade() else { return };
        // The plot is complete from the first sample on.
        let second = registry.rules.epoch.elapsed().as_secs();
        let step = second / STEP + STEPS;
        let (summaries, round_trip) = registry.sample();
        let round_trip_ms = round_trip.map(|time| time.as_secs_f64() * 1e3);
        let mut whole = Sample { rooms: summaries.len(), round_trip_ms, ..Sample::default() };
        let mut seen = self.seen.write();
        let mut before = std::mem::take(&mut seen.tracks);
        let rows = summaries.into_iter().map(|summary| {
            let mut track = before.remove(&summary.id).unwrap_or_default();
            whole.members += summary.members;
            let writes_per_second = match since {
                Some(since) => {
                    let did = track.note(summary.activity, step);
                    whole.did += did;
                    did.writes as f64 / since.as_secs_f64()
                }
                None => {
                    track.total = summary.activity;
                    0.0
                }
            };
            seen.tracks.insert(summary.id.clone(), track);
            Row { summary, writes_per_second }
        });
        let rows = rows.collect();
        seen.whole.note(whole, second);
        (seen.rows, seen.step, seen.second) = (Arc::new(rows), step, second);
    }
}

/// Samples until the inspector is gone or the registry shuts down.
async fn run(sampler: Weak<Sampler>) {
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = pace.tick().await;
    loop {
        let Some(registry) = sampler.upgrade().and_then(|sampler| sampler.registry.upgrade())
        else {
            return;
        };
        let drain = registry.drain.clone();
        drop(registry);
        tokio::select! {
            _ = pace.tick() => {}
            () = drain.begun() => return,
        }
        let now = Instant::now();
        if let Some(sampler) = sampler.upgrade() {
            sampler.look(Some(now - last));
        }
        last = now;
    }
}

impl Track {
    /// Returns the room's activity since the last sample.
    fn note(&mut self, total: Activity, step: u64) -> Activity {
        // A lower total belongs to another room with the same id.
        let before =
            if total.writes < self.total.writes { Activity::default() } else { self.total };
        let mut did = total;
        did.writes -= before.writes;
        did.deliveries = did.deliveries.saturating_sub(before.deliveries);
        did.corrections = did.corrections.saturating_sub(before.corrections);
        self.total = total;
        if did != Activity::default() {
            match self.steps.back_mut() {
                Some((at, sum)) if *at == step => *sum += did,
                _ => self.steps.push_back((step, did)),
            }
        }
        while self.steps.front().is_some_and(|(at, _)| at + STEPS <= step) {
            self.steps.pop_front();
        }
        did
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn ten_minutes_are_known_and_no_more() {
        let total = |writes| Activity { writes, ..Activity::default() };
        let mut track = Track::default();
        assert_eq!(track.note(total(5), 100).writes, 5);
        assert_eq!(track.note(total(8), 100).writes, 3);
        assert_eq!(track.note(total(8), 130).writes, 0);
        assert_eq!(track.note(total(9), 131).writes, 1);
        assert_eq!(track.steps, [(100, total(8)), (131, total(1))]);
        assert_eq!(track.note(total(2), 160).writes, 2, "another room");
        assert_eq!(track.steps, [(131, total(1)), (160, total(2))]);
    }
}
