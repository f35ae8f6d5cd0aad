//! Removal of rooms from the store that nobody has used for long.

use std::time::{Duration, Instant};

use super::{Persister, Use, seconds_since_1970};
use crate::store::{Change, StoreError};

/// The progress of the thread's search for such rooms.
pub(crate) struct Expiry {
    ttl: Duration,
    /// Whether a room is in memory, and so in use.
    is_live: IsLive,
    /// The start of the search by both clocks, so that no room becomes old because the time of day is set.
    began: (Instant, u64),
    /// The time to look at the next page.
    due: Instant,
    /// The last id of the page before.
    after: String,
}

type IsLive = Box<dyn Fn(&str) -> bool + Send>;

/// How many rooms are looked at before waiting values are saved.
const PAGE: usize = 256;
/// The longest pause between two searches of all rooms.
const OFTEN: Duration = Duration::from_secs(3_600);

impl Expiry {
    /// Creates a search for rooms that have not been used for this time.
    pub(crate) fn new(ttl: Duration, is_live: IsLive) -> Self {
        let began = (Instant::now(), seconds_since_1970());
        Self { ttl, is_live, began, due: began.0 + pause(ttl), after: String::new() }
    }

    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Returns a time in seconds since 1970. Rooms that were last used before it are old.
    fn oldest(&self) -> u64 {
        let (began, then) = self.began;
        (then + began.elapsed().as_secs()).saturating_sub(self.ttl.as_secs())
    }
}

fn pause(ttl: Duration) -> Duration {
    OFTEN.min(ttl / 10).max(Duration::from_millis(10))
}

impl Persister {
    /// Looks at the next page if it is due. Pauses after the last page, or if the store fails.
    pub(super) fn expire(&self, expiry: &mut Expiry) {
        if expiry.due > Instant::now() {
            return;
        }
        let is_last = !self.expire_page(expiry).unwrap_or(false);
        if is_last {
            expiry.after.clear();
        }
        expiry.due = Instant::now() + if is_last { pause(expiry.ttl) } else { Duration::ZERO };
    }

    /// Removes the old rooms of the next page. Returns whether there was a page.
    fn expire_page(&self, expiry: &mut Expiry) -> Result<bool, StoreError> {
        let page = self.with_store(Use::Load, |store| store.rooms(&expiry.after, PAGE))?;
        let Some(last) = page.last() else { return Ok(false) };
        expiry.after.clone_from(&last.id);
        let oldest = expiry.oldest();
        // Nobody loads or creates the rooms whose locks are held here. If a lock is taken, somebody is using
        // the room.
        let old = page.iter().filter(|room| room.used < oldest);
        let id_locks = old.filter_map(|room| self.id_locks.try_take(&room.id));
        let id_locks: Vec<_> = id_locks.filter(|id_lock| !(expiry.is_live)(id_lock.id())).collect();
        if !id_locks.is_empty() {
            let remove = |id: &str| Change::Remove { room: id.into() };
            let changes: Vec<_> = id_locks.iter().map(|id_lock| remove(id_lock.id())).collect();
            self.commit(&changes)?;
        }
        Ok(true)
    }
}
