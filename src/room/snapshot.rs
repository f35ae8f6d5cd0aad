//! All values of a room at one moment, for members that have just joined or lagged behind.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::backlog::{Backlog, Emptied};
use crate::{
    budget::{Charge, Share},
    wire::{self, Dialect, FRAME_BYTES, Frame, Lines, Text},
};

/// The maximum length of a snapshot's frame to a Scratch client, unless one `set` alone is longer.
/// TurboWarp's server has the same limit.
const SCRATCH_BYTES: usize = 1024 * 1024;
/// The minimum time between two snapshots of a room that has more than [`LARGE`] bytes.
const PAUSE: Duration = Duration::from_millis(50);
const LARGE: usize = 64 << 10;

/// The values at one moment. The frames are encoded when they are sent, once per dialect.
#[derive(Debug)]
pub(crate) struct Snapshot(Mutex<Option<Content>>);

#[derive(Debug)]
struct Content {
    values: Vec<(Text, Text)>,
    encoded: [Encoded; Dialect::COUNT],
    share: Share,
    /// The charge for the texts, which may be overwritten while they are sent.
    _charge: Charge,
}

/// The frames that have been requested so far, and the index of the first value that is in none.
#[derive(Debug, Default)]
struct Encoded {
    frames: Vec<Frame>,
    next: usize,
}

/// The next item of a snapshot for a member that was sent some of its frames.
#[derive(Debug, PartialEq)]
pub(crate) enum Next {
    Frame {
        frame: Frame,
        is_last: bool,
    },
    /// The snapshot was emptied, so the member needs a newer one.
    Emptied,
}

impl Snapshot {
    fn new(values: Vec<(Text, Text)>, share: &Share, charge: Charge) -> Self {
        let content =
            Content { values, encoded: Default::default(), share: share.clone(), _charge: charge };
        Self(Mutex::new(Some(content)))
    }

    /// Returns the frame of this number. The snapshot must have values.
    pub(crate) fn next(&self, dialect: Dialect, number: usize) -> Next {
        let mut content = self.0.lock();
        content.as_mut().map_or(Next::Emptied, |content| content.next(dialect, number))
    }
}

impl Emptied for Snapshot {
    fn empty(&self) {
        *self.0.lock() = None;
    }
}

impl Content {
    fn next(&mut self, dialect: Dialect, number: usize) -> Next {
        let Self { values, encoded, share, .. } = self;
        let encoded = &mut encoded[dialect.index()];
        while encoded.frames.len() <= number {
            let Some(frame) = encoded.encode(values, dialect) else { return Next::Emptied };
            // A blocked socket keeps its frame even if the snapshot is emptied, so each frame has its own
            // charge.
            let mut charge = share.open();
            charge.force(frame.bytes().len());
            encoded.frames.push(frame.charged(charge).shared());
        }
        let is_last = number + 1 == encoded.frames.len() && encoded.next == values.len();
        Next::Frame { frame: encoded.frames[number].clone(), is_last }
    }
}

impl Encoded {
    /// Encodes as many of the remaining values as one frame holds. Returns `None` if none remain.
    fn encode(&mut self, values: &[(Text, Text)], dialect: Dialect) -> Option<Frame> {
        let most = match dialect {
            // Programs of this dialect read once, and assume that they have received everything.
            Dialect::Scratch => SCRATCH_BYTES,
            Dialect::Spec | Dialect::Forkphorus2020 => FRAME_BYTES,
        };
        let mut lines = Lines::with_capacity(0);
        for (name, value) in values.get(self.next..).unwrap_or_default() {
            let len = lines.len() + wire::set_len(name.as_json(), value.as_json());
            if lines.len() > 0 && len > most {
                break;
            }
            lines.push_set(dialect, name, value);
            self.next += 1;
        }
        lines.into_frame()
    }
}

/// The snapshots of a room that its members are being sent.
#[derive(Debug)]
pub(super) struct Snapshots {
    /// The newest snapshot, and whether a write has made it old.
    newest: Weak<Snapshot>,
    is_old: bool,
    made: Option<Instant>,
    limit: usize,
    /// The cost of the snapshots, including the frames that blocked sockets keep.
    share: Share,
    held: Backlog<Snapshot>,
}

impl Snapshots {
    /// Creates an empty set of snapshots. Slow readers hold up to `limit` bytes. Above that, the oldest are
    /// emptied.
    pub(super) fn new(limit: usize, share: Share) -> Self {
        let held = Backlog::new(limit);
        Self { newest: Weak::new(), is_old: true, made: None, limit, share, held }
    }

    /// Notes that the newest snapshot is old. Must be called when a value has changed.
    pub(super) fn outdate(&mut self) {
        self.is_old = true;
    }

    /// Returns all values as they are now. Returns `None` if the room has to wait, because there is no memory
    /// or because the last snapshot of a large room was made a moment ago.
    pub(super) fn take(
        &mut self,
        values: impl FnOnce() -> Vec<(Text, Text)>,
        bytes: usize,
        now: Instant,
    ) -> Option<Arc<Snapshot>> {
        if !self.is_old
            && let Some(newest) = self.newest.upgrade()
        {
            return Some(newest);
        }
        let is_soon = self.made.is_some_and(|made| now < made + PAUSE);
        if bytes > LARGE && is_soon {
            return None;
        }
        let most = 2 * self.limit.max(bytes);
        if self.share.used() > most {
            self.held.clear();
            self.is_old = true;
            // Blocked sockets may still hold frames of the snapshots that were just emptied.
            if self.share.used() > most {
                return None;
            }
        }
        let charge = self.share.charge(bytes)?;
        let snapshot = Arc::new(Snapshot::new(values(), &self.share, charge));
        self.held.push(&snapshot, bytes);
        (self.newest, self.is_old, self.made) = (Arc::downgrade(&snapshot), false, Some(now));
        Some(snapshot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{budget::Budget, wire::Json};

    fn frames(dialect: Dialect, values: &[(&str, usize)]) -> Vec<usize> {
        let text = |plain: &str| Json::from_plain(plain).to_text();
        let values = values.iter().map(|(n, len)| (text(n), text(&"v".repeat(*len)))).collect();
        let share = Budget::new(0).share();
        let snapshot = Snapshot::new(values, &share, share.open());
        let mut lines = Vec::new();
        while let Next::Frame { frame, is_last } = snapshot.next(dialect, lines.len()) {
            lines.push(frame.as_text().split('\n').count());
            if is_last {
                break;
            }
        }
        lines
    }

    #[test]
    fn frames_stay_under_64_kib_where_they_can() {
        let frames = |values: &[_]| super::tests::frames(Dialect::Spec, values);
        assert_eq!(frames(&[]), [0; 0]);
        assert_eq!(frames(&[("a", 10), ("b", 10)]), [2]);
        assert_eq!(frames(&[("a", 30_000), ("b", 30_000), ("c", 30_000)]), [2, 1]);
        assert_eq!(frames(&[("a", 10), ("b", 100_000), ("c", 10)]), [1, 1, 1]);
    }

    #[test]
    fn a_scratch_client_gets_a_mebibyte_at_once() {
        let names: Vec<_> = ('a'..='k').map(String::from).collect();
        let values: Vec<_> = names.iter().map(|name| (&**name, 100_000)).collect();
        assert_eq!(frames(Dialect::Scratch, &values[..10]), [10]);
        assert_eq!(frames(Dialect::Scratch, &values), [10, 1]);
    }

    fn values() -> Vec<(Text, Text)> {
        let text = |plain: &str| Json::from_plain(plain).to_text();
        vec![(text("x"), text(&"v".repeat(1_000)))]
    }

    #[test]
    fn slow_readers_hold_up_so_much_and_no_more() {
        let (now, budget) = (Instant::now(), Budget::new(usize::MAX));
        let mut snapshots = Snapshots::new(0, budget.share());
        let mut take = |millis| {
            snapshots.outdate();
            snapshots.take(values, 1_000, now + Duration::from_millis(millis))
        };
        let first = take(0).expect("nothing is held up");
        let Next::Frame { frame, is_last: true } = first.next(Dialect::Spec, 0) else { panic!() };
        let second = take(1).expect("one may be");
        assert_eq!(first.next(Dialect::Spec, 0), Next::Emptied);
        let Next::Frame { frame: other, .. } = second.next(Dialect::Spec, 0) else { panic!() };
        // Two sockets are blocked, each with a frame.
        assert!(take(2).is_none() && budget.used() > 2_000);
        drop((frame, other));
        assert_eq!(budget.used(), 0);
        assert!(take(3).is_some());
    }

    #[cfg(feature = "deflate")]
    #[test]
    fn a_blocked_socket_pays_for_a_compressed_frame_too() {
        use crate::{Compression, deflate::Window};

        let deflate = Compression::ALL.agree(15, true).expect("it is on");
        let (now, budget) = (Instant::now(), Budget::new(usize::MAX));
        let mut snapshots = Snapshots::new(0, budget.share());
        let snapshot = snapshots.take(values, 1_000, now).expect("nothing is held");
        let Next::Frame { frame, .. } = snapshot.next(Dialect::Spec, 0) else { panic!() };
        let bytes = frame.compressed(deflate, &mut Window::default());
        assert!(bytes.len() < 100);
        snapshot.empty();
        drop(frame);
        assert!(budget.used() > 1_000);
        drop(bytes);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_large_room_makes_no_snapshot_so_soon_after_the_last() {
        let (now, budget) = (Instant::now(), Budget::new(usize::MAX));
        let mut snapshots = Snapshots::new(1 << 20, budget.share());
        let at = |millis| now + Duration::from_millis(millis);
        let first = snapshots.take(values, LARGE + 1, at(0)).expect("the first");
        let same = snapshots.take(values, LARGE + 1, at(1)).expect("the same");
        assert!(Arc::ptr_eq(&first, &same));
        snapshots.outdate();
        assert!(snapshots.take(values, LARGE + 1, at(49)).is_none());
        assert!(snapshots.take(values, LARGE + 1, at(50)).is_some());
    }
}
