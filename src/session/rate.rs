//! How fast a client may talk.

use std::time::{Duration, Instant};

use crate::limits::Limits;

/// Two token buckets: messages and bytes.
#[derive(Debug)]
pub(super) struct Rate {
    messages: Bucket,
    bytes: Bucket,
}

impl Rate {
    pub(super) fn new(limits: &Limits, now: Instant) -> Self {
        Self {
            messages: Bucket::new(limits.messages_per_second, limits.message_burst, now),
            bytes: Bucket::new(limits.bytes_per_second, limits.byte_burst, now),
        }
    }

    /// Takes a message of this length; how long to pause before reading on.
    pub(super) fn take(&mut self, bytes: usize, now: Instant) -> Duration {
        self.messages.take(1.0, now).max(self.bytes.take(bytes as f64, now))
    }

    /// Takes bytes that the client causes without sending them; how long to pause.
    pub(super) fn owe(&mut self, bytes: usize, now: Instant) -> Duration {
        match bytes {
            0 => Duration::ZERO,
            _ => self.bytes.take(bytes as f64, now),
        }
    }
}

#[derive(Debug)]
struct Bucket {
    per_second: f64,
    burst: f64,
    /// Below zero: owed.
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    fn new(per_second: u32, burst: u32, now: Instant) -> Self {
        let burst = f64::from(burst);
        Self { per_second: f64::from(per_second), burst, tokens: burst, filled: now }
    }

    fn take(&mut self, count: f64, now: Instant) -> Duration {
        if self.per_second == 0.0 {
            return Duration::ZERO;
        }
        let earned = now.saturating_duration_since(self.filled).as_secs_f64() * self.per_second;
        self.tokens = (self.tokens + earned).min(self.burst) - count;
        self.filled = now;
        Duration::from_secs_f64((-self.tokens / self.per_second).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10, 5, start);
        for _ in 0..5 {
            assert_eq!(bucket.take(1.0, start), Duration::ZERO);
        }
        assert_eq!(bucket.take(1.0, start), Duration::from_millis(100));
        assert_eq!(
            bucket.take(1.0, start + Duration::from_millis(100)),
            Duration::from_millis(100)
        );
        assert_eq!(bucket.take(1.0, start + Duration::from_secs(60)), Duration::ZERO);
        let mut unlimited = Bucket::new(0, 5, start);
        assert_eq!(unlimited.take(1e9, start), Duration::ZERO);
    }
}
