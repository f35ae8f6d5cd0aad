//! The activity of the whole registry, for the last minutes and for the last day.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::room::Activity;

/// The time that a plot of the whole registry covers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Span {
    #[default]
    Minutes,
    Day,
}

impl Span {
    /// Returns the seconds of a step, and the number of steps.
    const fn steps(self) -> (u64, u64) {
        match self {
            Self::Minutes => (10, 60),
            Self::Day => (600, 144),
        }
    }
}

/// All rooms at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sample {
    pub(super) rooms: usize,
    pub(super) members: usize,
    /// The activity since the last sample.
    pub(super) did: Activity,
    /// The mean of the members' last round trips, in milliseconds.
    pub(super) round_trip_ms: Option<f64>,
}

/// The samples of some seconds together: the sums of their activity, and the highest of each other value.
#[derive(Debug, Clone, Copy, Default)]
struct Step {
    number: u64,
    sample: Sample,
}

/// The steps of each span.
#[derive(Debug, Default)]
pub(super) struct Whole {
    minutes: VecDeque<Step>,
    day: VecDeque<Step>,
}

/// A value for each step, the newest last.
#[derive(Debug, Serialize)]
pub(super) struct WholePlots {
    step_seconds: u64,
    /// The seconds of the last step that have passed.
    last_seconds: u64,
    rooms: Vec<usize>,
    members: Vec<usize>,
    writes: Vec<u64>,
    deliveries: Vec<u64>,
    corrections: Vec<u64>,
    /// `None` for steps in which no member had answered a ping.
    round_trip_ms: Vec<Option<f64>>,
}

impl Whole {
    pub(super) fn note(&mut self, sample: Sample, second: u64) {
        for span in [Span::Minutes, Span::Day] {
            let (seconds, count) = span.steps();
            let number = second / seconds;
            let steps = self.of_mut(span);
            match steps.back_mut().filter(|step| step.number == number) {
                Some(step) => step.add(sample),
                None => steps.push_back(Step { number, sample }),
            }
            while steps.front().is_some_and(|step| step.number + count <= number) {
                steps.pop_front();
            }
        }
    }

    pub(super) fn plots(&self, span: Span, second: u64) -> WholePlots {
        let (seconds, count) = span.steps();
        let last = second / seconds;
        let mut steps = self.of(span).iter().peekable();
        let samples = (0..count).map(|n| {
            // The numbers of the first steps would be negative, if the registry is young.
            let number = (last + n + 1).checked_sub(count)?;
            while steps.next_if(|step| step.number < number).is_some() {}
            steps.next_if(|step| step.number == number).map(|step| step.sample)
        });
        let samples: Vec<_> = samples.map(Option::unwrap_or_default).collect();
        let sums =
            |of: fn(&Activity) -> u64| samples.iter().map(|sample| of(&sample.did)).collect();
        WholePlots {
            step_seconds: seconds,
            last_seconds: second % seconds + 1,
            rooms: samples.iter().map(|sample| sample.rooms).collect(),
            members: samples.iter().map(|sample| sample.members).collect(),
            writes: sums(|did| did.writes),
            deliveries: sums(|did| did.deliveries),
            corrections: sums(|did| did.corrections),
            round_trip_ms: samples.iter().map(|sample| sample.round_trip_ms).collect(),
        }
    }

    fn of(&self, span: Span) -> &VecDeque<Step> {
        match span {
            Span::Minutes => &self.minutes,
            Span::Day => &self.day,
        }
    }

    fn of_mut(&mut self, span: Span) -> &mut VecDeque<Step> {
        match span {
            Span::Minutes => &mut self.minutes,
            Span::Day => &mut self.day,
        }
    }
}

impl Step {
    fn add(&mut self, sample: Sample) {
        let sum = &mut self.sample;
        sum.rooms = sum.rooms.max(sample.rooms);
        sum.members = sum.members.max(sample.members);
        sum.did += sample.did;
        sum.round_trip_ms = match (sum.round_trip_ms, sample.round_trip_ms) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        };
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn a_step_has_sums_and_the_highest() {
        let mut whole = Whole::default();
        let sample = |members, writes, round_trip_ms| Sample {
            members,
            did: Activity { writes, ..Activity::default() },
            round_trip_ms,
            ..Sample::default()
        };
        whole.note(sample(3, 10, None), 1_000);
        whole.note(sample(5, 1, Some(2.0)), 1_009);
        whole.note(sample(4, 2, Some(7.0)), 1_010);
        let minutes = whole.plots(Span::Minutes, 1_015);
        assert_eq!((minutes.writes.len(), minutes.members.len()), (60, 60));
        assert_eq!(minutes.writes[57..], [0, 11, 2]);
        assert_eq!(minutes.members[58..], [5, 4]);
        assert_eq!(minutes.round_trip_ms[57..], [None, Some(2.0), Some(7.0)]);
        let day = whole.plots(Span::Day, 1_015);
        assert_eq!((day.writes.len(), day.writes[143]), (144, 13));
        // Old steps are removed as time passes.
        whole.note(Sample::default(), 1_000 + 600);
        assert_eq!(whole.plots(Span::Minutes, 1_600).writes.iter().sum::<u64>(), 2);
        whole.note(Sample::default(), 100_000);
        assert_eq!(whole.plots(Span::Day, 100_000).writes.iter().sum::<u64>(), 0);
        assert!(whole.minutes.len() <= 60 && whole.day.len() <= 144);
        assert_eq!(Whole::default().plots(Span::Day, 0).rooms, [0; 144]);
    }
}
