//! The pings of a session: one kind, for keepalive, for a probe and as a barrier (promise P3).

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::room::CLIENT_LAG;

/// The pings of a session. A ping's payload is its number. Only one is outstanding at a time, and only
/// its exact payload answers it.
///
/// A ping goes behind everything that was sent before, so an answer proves that the client's network
/// side has read everything up to a position. Once a ping that is sent [`CLIENT_LAG`] later is
/// answered, every frame that arrives from then on was sent after the client had handled all that, so
/// the position becomes the session's base. However long the frames of a client are under way, they
/// arrive behind that answer.
#[derive(Debug, Default)]
pub(crate) struct Liveness {
    last: u64,
    outstanding: Option<Ping>,
    /// The positions that are proven, but not yet a base: the oldest and the newest.
    proven: VecDeque<Proven>,
    base: u64,
}

#[derive(Debug)]
struct Ping {
    /// The position that its answer proves.
    position: u64,
    /// The position that its answer makes the base.
    matures: u64,
    is_barrier: bool,
    sent: Instant,
}

#[derive(Debug)]
struct Proven {
    position: u64,
    answered: Instant,
    /// A snapshot or a correction waits for this position to be the base.
    is_barrier: bool,
}

impl Liveness {
    /// Returns the payload of a ping that proves `position`, or `None` while one is outstanding. A
    /// barrier is a ping that follows a snapshot or a correction.
    pub(crate) fn ping(
        &mut self,
        position: u64,
        is_barrier: bool,
        now: Instant,
    ) -> Option<[u8; 8]> {
        if self.outstanding.is_some() {
            return None;
        }
        let mut matures = self.base;
        while let Some(oldest) = self.proven.front()
            && oldest.answered + CLIENT_LAG <= now
        {
            matures = oldest.position;
            self.proven.pop_front();
        }
        self.last += 1;
        self.outstanding = Some(Ping { position, matures, is_barrier, sent: now });
        Some(self.last.to_be_bytes())
    }

    pub(crate) fn is_outstanding(&self) -> bool {
        self.outstanding.is_some()
    }

    /// Returns when a ping would make a base of a position that a barrier waits for. Keepalive pings
    /// make one of the rest.
    pub(crate) fn due(&self) -> Option<Instant> {
        let is_awaited = self.outstanding.is_none() && self.proven.iter().any(|p| p.is_barrier);
        self.proven.front().filter(|_| is_awaited).map(|oldest| oldest.answered + CLIENT_LAG)
    }

    /// Takes a pong, and returns how long the answer took. A pong that answers no ping of ours is
    /// allowed (RFC 6455, section 5.5.3) and proves nothing.
    pub(crate) fn pong(&mut self, payload: &[u8], now: Instant) -> Option<Duration> {
        let ping = match payload == self.last.to_be_bytes() {
            true => self.outstanding.take()?,
            false => return None,
        };
        self.base = self.base.max(ping.matures);
        // Leaving out the positions in between delays the base, but is sound, and it bounds the memory.
        let left_out = self.proven.drain(self.proven.len().min(1)..).any(|p| p.is_barrier);
        let is_barrier = ping.is_barrier || left_out;
        self.proven.push_back(Proven { position: ping.position, answered: now, is_barrier });
        Some(now.saturating_duration_since(ping.sent))
    }

    /// Returns the position up to which the client had handled everything when it sent the frame that
    /// arrives now.
    pub(crate) fn base(&self) -> u64 {
        self.base
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_base_is_the_position_proven_long_before_an_answered_ping() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut liveness = Liveness::default();
        let first = liveness.ping(7, true, at(0)).unwrap();
        assert_eq!(liveness.ping(8, false, at(0)), None);
        liveness.pong(b"else", at(1));
        assert!(liveness.is_outstanding());
        liveness.pong(&first, at(1));
        liveness.pong(&first, at(2));
        assert_eq!(liveness.due(), Some(at(11)));
        for (second, position) in [(3, 20), (4, 30), (5, 40)] {
            let ping = liveness.ping(position, false, at(second)).unwrap();
            liveness.pong(&ping, at(second));
        }
        assert_eq!(liveness.base(), 0);
        let second = liveness.ping(50, false, at(11)).unwrap();
        assert_eq!((liveness.base(), liveness.due()), (0, None), "time alone proves nothing");
        liveness.pong(&second, at(60));
        assert_eq!((liveness.base(), liveness.due()), (7, None));
        let third = liveness.ping(60, false, at(61)).unwrap();
        liveness.pong(&third, at(62));
        assert_eq!(liveness.base(), 40);
    }
}
