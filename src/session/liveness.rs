//! The pings of a session: one kind, for keepalive, for a probe and as a barrier (promise P3).

use std::{collections::VecDeque, time::Instant};

use crate::room::CLIENT_LAG;

/// A ping's payload is its number. One is outstanding at a time, and only its exact payload
/// answers it.
///
/// Pings go behind all that was sent before, so an answer proves that the client's network side
/// has read everything up to a position. [`CLIENT_LAG`] later the client has handled it too: then
/// that position is the session's base.
#[derive(Debug, Default)]
pub(crate) struct Liveness {
    last: u64,
    /// The position that the outstanding ping proves.
    outstanding: Option<u64>,
    /// Proven, but not long enough ago: the oldest and the newest, with the time of the answer.
    proven: VecDeque<(u64, Instant)>,
    base: u64,
}

impl Liveness {
    /// The payload of a ping that proves `position`; `None` while one is outstanding.
    pub(crate) fn ping(&mut self, position: u64) -> Option<[u8; 8]> {
        if self.outstanding.is_some() {
            return None;
        }
        self.last += 1;
        self.outstanding = Some(position);
        Some(self.last.to_be_bytes())
    }

    pub(crate) fn is_outstanding(&self) -> bool {
        self.outstanding.is_some()
    }

    /// Takes a pong; one that answers no ping of ours is allowed (RFC 6455, section 5.5.3) and
    /// proves nothing.
    pub(crate) fn pong(&mut self, payload: &[u8], now: Instant) {
        if payload != self.last.to_be_bytes() {
            return;
        }
        let Some(position) = self.outstanding.take() else { return };
        // Leaving out what lies between is late, but sound; and it bounds the memory.
        self.proven.truncate(1);
        self.proven.push_back((position, now));
        self.mature(now);
    }

    /// The position up to which the client had handled all when it sent what arrives now.
    pub(crate) fn base(&mut self, now: Instant) -> u64 {
        self.mature(now);
        self.base
    }

    fn mature(&mut self, now: Instant) {
        while let Some(&(position, answered)) = self.proven.front()
            && now.saturating_duration_since(answered) >= CLIENT_LAG
        {
            self.base = self.base.max(position);
            self.proven.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_base_is_what_was_proven_long_enough_ago() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut liveness = Liveness::default();
        let first = liveness.ping(7).unwrap();
        assert_eq!(liveness.ping(8), None);
        liveness.pong(b"else", at(1));
        assert!(liveness.is_outstanding());
        liveness.pong(&first, at(1));
        liveness.pong(&first, at(2));
        for (second, position) in [(3, 20), (4, 30), (5, 40)] {
            let ping = liveness.ping(position).unwrap();
            liveness.pong(&ping, at(second));
        }
        assert_eq!(liveness.base(at(10)), 0);
        assert_eq!(liveness.base(at(11)), 7);
        assert_eq!(liveness.base(at(14)), 7);
        assert_eq!(liveness.base(at(15)), 40);
    }
}
