//! The conditions of a run.

use std::time::{Duration, Instant};

use fastrand::Rng;

use super::VALUE_BYTES;
use crate::{limits::Limits, room::Rules, wire::Dialect};

/// The faults and delays of one run.
#[derive(Debug)]
pub(crate) struct Weather {
    pub(crate) clients: usize,
    pub(crate) variables: usize,
    pub(crate) writes: usize,
    /// The delay of a link, in milliseconds: the least and the most.
    pub(crate) link: (u64, u64),
    /// How many milliseconds a client's application is behind its network side, and ahead of it.
    pub(crate) queues: (u64, u64),
    pub(crate) pause: u64,
    /// The number of different values: with few, the same ones come again.
    pub(crate) values: u64,
    pub(crate) stalls: bool,
    pub(crate) leaves: bool,
    pub(crate) refusals: bool,
    /// Whether messages of a client may be held up for long, in its network or by the server's rate limit.
    pub(crate) jams: bool,
    /// Whether the host writes too.
    pub(crate) host: bool,
    /// The values to which the bot, if there is one, sets a variable whenever it receives a set of it.
    pub(crate) bot: Option<&'static [&'static str]>,
    pub(crate) window: usize,
    /// The dialects that clients speak.
    pub(crate) dialects: Vec<Dialect>,
    /// Whether the room begins without variables; then all clients are Scratch's.
    pub(crate) grows: bool,
    /// Whether some sets count only if the room has a value.
    pub(crate) updates: bool,
    pub(crate) rules: Rules,
}

impl Weather {
    pub(crate) fn new(rng: &mut Rng, settle: Option<Duration>) -> Self {
        let slow = rng.u64(0..4) == 0;
        let queue = if slow { 4_000 } else { rng.u64(1..200) };
        let far = rng.u64(2..=600);
        Self {
            clients: rng.usize(2..=8),
            variables: rng.usize(1..=3),
            writes: rng.usize(2..60),
            link: (rng.u64(1..far), far),
            queues: (queue, queue),
            pause: *rng.choice(&[5, 20, 100, 600, 3_000]).unwrap(),
            values: *rng.choice(&[u64::MAX, u64::MAX, 2, 3]).unwrap(),
            stalls: rng.u64(0..4) == 0,
            leaves: rng.bool(),
            refusals: rng.u64(0..3) == 0,
            jams: rng.u64(0..4) == 0,
            host: rng.u64(0..3) == 0,
            bot: None,
            window: rng.usize(1..4),
            dialects: match rng.bool() {
                true => vec![Dialect::Spec],
                false => vec![Dialect::Spec, Dialect::Forkphorus2020, Dialect::Scratch],
            },
            grows: rng.u64(0..6) == 0,
            updates: rng.bool(),
            rules: Rules {
                tick: Duration::from_millis(*rng.choice(&[0, 16, 16, 900]).unwrap()),
                coalesce: rng.u64(0..4) == 0,
                settle: settle.map(|settle| if rng.u64(0..4) == 0 { settle / 100 } else { settle }),
                limits: Limits::default()
                    .value_bytes(VALUE_BYTES)
                    .backlog_batches(*rng.choice(&[1, 4, 64]).unwrap())
                    .messages_per_second(*rng.choice(&[0, 0, 1, 4, 20]).unwrap())
                    .message_burst(rng.u32(1..4))
                    .room_bytes_per_second(*rng.choice(&[0, 0, 20, 1_000]).unwrap()),
                ..Rules::new(Instant::now())
            },
        }
    }
}
