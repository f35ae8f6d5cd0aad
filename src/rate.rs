//! A token bucket.

use std::time::{Duration, Instant};

/// A token bucket that may be overdrawn: the tokens that it owes are repaid first.
#[derive(Debug)]
pub(crate) struct Bucket {
    /// The tokens earned per second. Zero means that there is no limit.
    per_second: f64,
    burst: f64,
    /// The tokens in the bucket, or the tokens that it owes if negative.
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    pub(crate) fn new(per_second: u32, burst: u32, now: Instant) -> Self {
        let burst = f64::from(burst);
        Self { per_second: f64::from(per_second), burst, tokens: burst, filled: now }
    }

    /// Takes tokens, even if the bucket does not have them yet.
    pub(crate) fn take(&mut self, count: usize, now: Instant) {
        self.fill(now);
        self.tokens -= count as f64;
    }

    /// Returns when the bucket will have `count` tokens, which is `now` if it already has them.
    pub(crate) fn has(&mut self, count: usize, now: Instant) -> Instant {
        self.fill(now);
        let missing = (count as f64 - self.tokens).max(0.0);
        // Without a limit no tokens are ever missing.
        let wait = if missing > 0.0 { missing / self.per_second } else { 0.0 };
        now + Duration::from_secs_f64(wait)
    }

    fn fill(&mut self, now: Instant) {
        if self.per_second == 0.0 {
            self.tokens = f64::MAX;
            return;
        }
        let earned = now.saturating_duration_since(self.filled).as_secs_f64() * self.per_second;
        self.tokens = (self.tokens + earned).min(self.burst);
        self.filled = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut bucket = Bucket::new(10, 5, start);
        assert_eq!(bucket.has(5, start), start);
        bucket.take(5, start);
        assert_eq!(bucket.has(1, start), at(100));
        bucket.take(2, start);
        assert_eq!(bucket.has(0, start), at(200), "two are owed");
        assert_eq!(bucket.has(1, at(100)), at(300));
        assert_eq!(bucket.has(5, at(60_000)), at(60_000), "no more than the burst is saved");
        assert_eq!(bucket.has(6, at(60_000)), at(60_100));
    }

    #[test]
    fn without_a_limit_there_is_always_enough() {
        let start = Instant::now();
        let mut bucket = Bucket::new(0, 5, start);
        bucket.take(1_000_000, start);
        assert_eq!(bucket.has(1_000_000, start), start);
    }
}
