//! The rate at which the members of a room may write together, and the share of it that each member has in
//! any case.
//!
//! Each write is sent to all members, so the bytes of one member are a load for everyone. A write is always
//! taken. Its sender is notified when its next one may come, and conflates until then. This module has no
//! clock of its own: its caller passes the time.

use std::time::{Duration, Instant};

use crate::{limits::Limits, rate::Bucket};

/// The bytes that a member may write at once beyond its share: a frame of a game.
const AT_ONCE: f64 = 4_096.0;

/// The bytes that all members of a room write.
#[derive(Debug)]
pub(super) struct Intake {
    together: Bucket,
    /// The bytes per second that the members share equally, whatever the others do: half of the rate.
    shared: f64,
}

/// The bytes that a member has written beyond its share while the room was behind.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Quota {
    owed: f64,
    since: Option<Instant>,
}

impl Intake {
    pub(super) fn new(limits: &Limits, now: Instant) -> Self {
        let rate = limits.room_bytes_per_second;
        Self { together: Bucket::new(rate, rate / 8, now), shared: f64::from(rate) / 2.0 }
    }

    /// Counts the bytes that one of `members` members wrote. Returns when it may write again, if that is
    /// later than now: when the room has caught up, or when its own bytes are within its share, whichever
    /// comes first.
    pub(super) fn take(
        &mut self,
        quota: &mut Quota,
        members: usize,
        bytes: usize,
        now: Instant,
    ) -> Option<Instant> {
        if self.shared == 0.0 {
            return None;
        }
        self.together.take(bytes, now);
        let caught_up = self.together.has(0, now);
        // This is the usual case, in which nobody's share matters.
        if caught_up <= now {
            return None;
        }
        let own = quota.take(bytes, self.shared / members.max(1) as f64, now);
        (own > now).then(|| own.min(caught_up))
    }
}

impl Quota {
    fn take(&mut self, bytes: usize, per_second: f64, now: Instant) -> Instant {
        let since = self.since.replace(now).unwrap_or(now);
        let earned = now.saturating_duration_since(since).as_secs_f64() * per_second;
        self.owed = (self.owed - earned).max(0.0) + bytes as f64;
        let beyond = (self.owed - AT_ONCE).max(0.0);
        now + Duration::from_secs_f64(beyond / per_second)
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn the_heaviest_writer_waits_and_others_do_not() {
        let now = Instant::now();
        let limits = Limits::default().room_bytes_per_second(100_000);
        let mut intake = Intake::new(&limits, now);
        let (mut loud, mut calm) = (Quota::default(), Quota::default());
        assert_eq!(intake.take(&mut loud, 10, 12_500, now), None, "a burst");
        // The room owes half a second, and the loud one of ten half a minute.
        let next = intake.take(&mut loud, 10, 50_000, now);
        assert_eq!(next, Some(now + Duration::from_millis(500)));
        assert_eq!(intake.take(&mut calm, 10, 100, now), None);
        // For as long as others keep the room behind, the loud one has its share.
        let later = now + Duration::from_secs(60);
        let mut other = Quota::default();
        _ = intake.take(&mut other, 10, 1_000_000, later);
        assert_eq!(intake.take(&mut loud, 10, 4_096, later), None);
        let next = intake.take(&mut loud, 10, 5_000, later);
        assert_eq!(next, Some(later + Duration::from_secs(1)));
    }

    #[test]
    fn without_a_limit_nobody_waits() {
        let now = Instant::now();
        let mut intake = Intake::new(&Limits::default().room_bytes_per_second(0), now);
        assert_eq!(intake.take(&mut Quota::default(), 1, usize::MAX, now), None);
    }
}
