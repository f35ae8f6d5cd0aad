//! A limit for log lines that clients can cause.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// The least time between two lines of one kind.
const PAUSE: Duration = Duration::from_secs(1);

/// A limit of one line a second for each kind, which counts the lines left out.
#[derive(Debug, Default)]
pub(crate) struct LogLimit(Mutex<HashMap<u16, Kind>>);

#[derive(Debug)]
struct Kind {
    logged: Instant,
    left_out: u64,
}

impl LogLimit {
    /// Returns how many lines of this kind were left out since the last one, or `None` if this one is also
    /// left out. There must be few kinds, because they are never removed.
    pub(crate) fn pass(&self, kind: u16, now: Instant) -> Option<u64> {
        let mut kinds = self.0.lock();
        match kinds.get_mut(&kind) {
            Some(kind) if now.saturating_duration_since(kind.logged) < PAUSE => {
                kind.left_out += 1;
                None
            }
            known => {
                let left_out = known.map_or(0, |kind| kind.left_out);
                kinds.insert(kind, Kind { logged: now, left_out: 0 });
                Some(left_out)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_a_second_for_each_kind() {
        let (limit, start) = (LogLimit::default(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!(limit.pass(4000, at(0)), Some(0));
        assert_eq!(limit.pass(4000, at(1)), None);
        assert_eq!(limit.pass(4001, at(2)), Some(0), "another kind");
        assert_eq!(limit.pass(4000, at(999)), None);
        assert_eq!(limit.pass(4000, at(1_000)), Some(2));
        assert_eq!(limit.pass(4000, at(2_000)), Some(0));
    }
}
