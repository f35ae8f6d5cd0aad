//! Decides whether and when a client reconnects: the protocol's 'Autoreconnect', by the rules of `client.js`.

use std::time::{Duration, Instant};

use super::error::ClientError;

/// The longest delay after a break or a restart. It is random, so that not all clients reconnect at once.
const AT_ONCE: Duration = Duration::from_millis(400);
/// A client that was in the room for less than this did not come back from a break: its server lets it in, and
/// then the connection breaks.
const SHORT_STAY: Duration = Duration::from_secs(2);
const FIRST_DELAY: Duration = Duration::from_millis(500);
const LONGEST_DELAY: Duration = Duration::from_secs(4);
const FIRST_MINUTE: Duration = Duration::from_secs(60);
const LONGEST_DELAY_LATER: Duration = Duration::from_secs(30);

/// The codes for incompatibility and the username, after which the same handshake would be refused again.
const FINAL_CODES: [u16; 2] = [4001, 4002];
const USERNAME: u16 = 4002;
/// The codes for a server that goes away or restarts, and for a broken connection.
const PASSING_CODES: [u16; 3] = [1001, 1006, 1012];
/// The statuses of a refusal by the host, which would refuse the client again.
const FINAL_STATUSES: [u16; 2] = [401, 403];

/// The history of a client's connections.
#[derive(Debug)]
pub(super) struct Reconnect {
    attempts: u32,
    away_since: Instant,
    has_joined: bool,
    /// Whether it has retried a name after it was refused.
    has_insisted: bool,
}

impl Reconnect {
    pub(super) fn new(now: Instant) -> Self {
        Self { attempts: 0, away_since: now, has_joined: false, has_insisted: false }
    }

    pub(super) fn has_joined(&self) -> bool {
        self.has_joined
    }

    /// Returns after how long the client reconnects now that a connection has ended, if it does; `random` is
    /// from 0 to 1.
    pub(super) fn after(
        &mut self,
        error: &ClientError,
        stay: Option<Duration>,
        random: f64,
        now: Instant,
    ) -> Option<Duration> {
        let was_joined = stay.is_some();
        let was_stable = stay.is_some_and(|stay| stay >= SHORT_STAY);
        if was_joined {
            (self.has_joined, self.has_insisted) = (true, false);
        }
        if was_stable {
            (self.attempts, self.away_since) = (0, now);
        }
        let code = match error {
            ClientError::Closed { code, .. } => *code,
            ClientError::Unreachable(_) => 1006,
            ClientError::Refused { status, .. } if FINAL_STATUSES.contains(status) => return None,
            ClientError::Refused { .. } => 1006,
            ClientError::Address(_) | ClientError::Secret | ClientError::Left => return None,
        };
        // The name may still belong to an earlier connection of the client itself, so it tries once more.
        let insists = code == USERNAME && self.has_joined && !was_joined && !self.has_insisted;
        self.has_insisted |= insists;
        if FINAL_CODES.contains(&code) && !insists {
            return None;
        }
        if was_joined && self.attempts == 0 && PASSING_CODES.contains(&code) {
            self.attempts += u32::from(!was_stable);
            return Some(AT_ONCE.mul_f64(random));
        }
        let is_early = now.saturating_duration_since(self.away_since) < FIRST_MINUTE;
        let longest = if is_early { LONGEST_DELAY } else { LONGEST_DELAY_LATER };
        let delay = FIRST_DELAY.saturating_mul(1 << self.attempts.min(16)).min(longest);
        self.attempts += 1;
        Some(delay.mul_f64(0.75 + random / 2.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(code: u16) -> ClientError {
        ClientError::Closed { code, reason: String::new() }
    }

    #[test]
    fn some_codes_are_final_and_some_are_over_at_once() {
        let now = Instant::now();
        let after = |error: &ClientError, was_joined: bool| {
            Reconnect::new(now).after(error, was_joined.then_some(SHORT_STAY), 1.0, now)
        };
        for code in [4001, 4002] {
            assert_eq!(after(&closed(code), false), None);
        }
        assert_eq!(
            after(&ClientError::Refused { status: 401, reason: String::new() }, false),
            None
        );
        assert_eq!(after(&ClientError::Left, true), None);
        for code in [1001, 1006, 1012] {
            assert_eq!(after(&closed(code), true), Some(AT_ONCE));
            assert_eq!(after(&closed(code), false), Some(FIRST_DELAY.mul_f64(1.25)));
        }
        for code in [4000, 4003, 4004] {
            assert_eq!(after(&closed(code), true), Some(FIRST_DELAY.mul_f64(1.25)));
        }
    }

    #[test]
    fn delays_grow_up_to_a_bound_that_is_longer_later() {
        let now = Instant::now();
        let mut reconnect = Reconnect::new(now);
        let mut after = |error: &ClientError, was_joined: bool, seconds| {
            let now = now + Duration::from_secs(seconds);
            reconnect
                .after(error, was_joined.then_some(SHORT_STAY), 0.5, now)
                .map(|delay| delay.as_millis())
        };
        for delay in [500, 1_000, 2_000, 4_000, 4_000] {
            assert_eq!(after(&closed(4003), false, 1), Some(delay));
        }
        assert_eq!(after(&closed(4003), false, 60), Some(16_000));
        assert_eq!(after(&closed(4003), false, 61), Some(30_000));
        assert_eq!(after(&closed(1001), true, 100), Some(200), "it was in again");
        assert_eq!(after(&closed(1006), false, 101), Some(500));
    }

    #[test]
    fn a_name_that_it_had_is_tried_once_more() {
        let now = Instant::now();
        let mut reconnect = Reconnect::new(now);
        assert!(reconnect.after(&closed(1006), Some(SHORT_STAY), 0.0, now).is_some());
        assert!(reconnect.after(&closed(4002), None, 0.0, now).is_some());
        assert_eq!(reconnect.after(&closed(4002), None, 0.0, now), None);
    }

    #[test]
    fn a_server_that_lets_in_and_breaks_is_not_flooded() {
        let now = Instant::now();
        let mut reconnect = Reconnect::new(now);
        for delay in [200, 1_000, 2_000, 4_000] {
            let after = reconnect.after(&closed(1006), Some(Duration::ZERO), 0.5, now);
            assert_eq!(after, Some(Duration::from_millis(delay)));
        }
    }
}
