//! The thread that saves the changes of rooms, many in one commit.

mod bans;
mod expiry;
mod orders;

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use parking_lot::{Condvar, Mutex};
use tokio::sync::Semaphore;

use super::health::{Health, StoreStats, Use};
use crate::{
    metrics,
    registry::{
        bans::Bans,
        id_locks::{IdLock, IdLocks},
    },
    room::{Shared, Taken},
    store::{Change, RoomStore, StoreError, StoredRoom},
};
pub(in crate::registry) use expiry::Expiry;
use orders::Order;

/// The link between the rooms of a registry and its store.
#[derive(Debug)]
pub(crate) struct Persister {
    store: Box<dyn RoomStore>,
    interval: Duration,
    queue: Mutex<Queue>,
    changed: Condvar,
    id_locks: IdLocks,
    bans: Arc<Bans>,
    /// Bounds the threads that load at once, because the host needs some for itself.
    loads: Arc<Semaphore>,
    /// Bounds the orders that wait.
    places: Arc<Semaphore>,
    health: Health,
}

#[derive(Debug, Default)]
struct Queue {
    flush: Flush,
    /// The time of the next flush, if there is to be one.
    due: Option<Instant>,
    orders: Vec<Order>,
    is_over: bool,
}

/// The rooms that are saved together.
#[derive(Debug, Default)]
struct Flush {
    /// The rooms with something to save, each no more than once.
    rooms: Vec<Arc<Shared>>,
    /// The callers that wait for this flush.
    waiting: Vec<mpsc::SyncSender<Result<(), StoreError>>>,
}

/// The next work of the thread.
struct Work {
    orders: Vec<Order>,
    flush: Option<Flush>,
    is_last: bool,
}

/// About how many bytes of texts a commit has, so that not all texts are in memory twice at once.
const COMMIT_BYTES: usize = 8 << 20;
/// The least time between two attempts to save with a store that fails.
const RETRY: Duration = Duration::from_secs(1);
/// How long after a room could not be created no newcomers are asked for.
const UNREADY: Duration = Duration::from_secs(10);
const LOADS: usize = 16;
const ORDERS: usize = 256;

impl Persister {
    pub(crate) fn new(store: Box<dyn RoomStore>, interval: Duration) -> Arc<Self> {
        let stats = StoreStats { bytes: store.bytes(), ..StoreStats::default() };
        Arc::new(Self {
            store,
            interval,
            queue: Mutex::default(),
            changed: Condvar::new(),
            id_locks: IdLocks::default(),
            bans: Arc::new(Bans::stored()),
            loads: Arc::new(Semaphore::new(LOADS)),
            places: Arc::new(Semaphore::new(ORDERS)),
            health: Health::new(stats),
        })
    }

    /// Starts the thread. To be called once.
    pub(crate) fn start(self: &Arc<Self>, expiry: Option<Expiry>) -> io::Result<()> {
        let persister = self.clone();
        let thread = thread::Builder::new().name("cloud-variables".into());
        thread.spawn(move || persister.run(expiry))?;
        Ok(())
    }

    /// Queues a room, which is saved at the next flush.
    pub(crate) fn list(&self, room: Arc<Shared>) {
        let mut queue = self.queue.lock();
        if queue.is_over {
            return;
        }
        queue.flush.rooms.push(room);
        self.flush_after(self.interval, &mut queue);
    }

    /// Makes sure that there is another flush.
    pub(super) fn later(&self) {
        let mut queue = self.queue.lock();
        if !queue.is_over {
            self.flush_after(RETRY, &mut queue);
        }
    }

    fn flush_after(&self, pause: Duration, queue: &mut Queue) {
        if queue.due.is_none() {
            queue.due = Some(Instant::now() + pause);
            self.changed.notify_one();
        }
    }

    /// Waits until all unsaved values are saved, but no longer than `patience`. Fails if the store does.
    pub(crate) async fn flush(&self, patience: Duration) -> Result<(), StoreError> {
        let (done, flushed) = mpsc::sync_channel(1);
        {
            let mut queue = self.queue.lock();
            queue.flush.waiting.push(done);
            queue.due = Some(Instant::now());
            self.changed.notify_one();
        }
        self.wait_for(flushed, patience).await
    }

    /// Waits for the thread's answer on a thread that may block. This takes real time, even if the runtime's
    /// clock is paused.
    async fn wait_for<T: Send + 'static>(
        &self,
        answer: mpsc::Receiver<Result<T, StoreError>>,
        patience: Duration,
    ) -> Result<T, StoreError> {
        let waiting = tokio::task::spawn_blocking(move || answer.recv_timeout(patience)).await;
        match waiting {
            Ok(Ok(answer)) => answer,
            Ok(Err(RecvTimeoutError::Timeout)) => Err(self.late()),
            Ok(Err(RecvTimeoutError::Disconnected)) => {
                Err(StoreError::Failed("the registry is gone".into()))
            }
            Err(error) => Err(StoreError::Failed(error.to_string())),
        }
    }

    /// Loads the room of this id, as it was last saved.
    pub(crate) async fn load(self: &Arc<Self>, id: &str) -> Result<Option<StoredRoom>, StoreError> {
        let id: String = id.into();
        self.read(move |store| store.load(&id)).await
    }

    /// Reads from the store on a thread that may block.
    pub(crate) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&dyn RoomStore) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = self.loads.clone().acquire_owned().await;
        let persister = self.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            persister.with_store(Use::Load, read)
        });
        reading.await.unwrap_or_else(|error| Err(StoreError::Failed(error.to_string())))
    }

    /// Fails if the store cannot be read, or if values wait because it fails to save them.
    pub(in crate::registry) async fn probe(self: &Arc<Self>) -> Result<(), StoreError> {
        // No room has the empty id.
        self.load("").await?;
        let stats = self.stats();
        match stats.last_error {
            // The thread tries again as long as something is unsaved, so this state ends by itself. A room that
            // could not be created leaves nothing unsaved: then another newcomer has to try.
            Some((at, error)) if stats.is_failing => {
                let is_recent = at.elapsed().is_ok_and(|elapsed| elapsed < UNREADY);
                if stats.unsaved > 0 || is_recent { Err(error) } else { Ok(()) }
            }
            _ => Ok(()),
        }
    }

    /// Notes that a caller waited in vain, and returns the error.
    pub(crate) fn late(&self) -> StoreError {
        let error = StoreError::Failed("it takes too long".into());
        self.health.note(Use::Load, Some(&error));
        error
    }

    /// Waits until nobody else loads, creates or removes the room of this id.
    pub(crate) async fn id_lock(&self, id: &str) -> IdLock {
        self.id_locks.take(id).await
    }

    pub(crate) fn stats(&self) -> StoreStats {
        let values: usize =
            self.queue.lock().flush.rooms.iter().map(|room| room.unsaved_len()).sum();
        StoreStats { unsaved: values + self.bans.unsaved().len(), ..self.health.stats() }
    }

    /// Has the thread save all unsaved values now.
    pub(crate) fn hurry(&self) {
        self.queue.lock().due = Some(Instant::now());
        self.changed.notify_one();
    }

    /// Has the thread save all unsaved values, and end.
    pub(crate) fn end(&self) {
        self.queue.lock().is_over = true;
        self.changed.notify_one();
    }

    fn run(&self, mut expiry: Option<Expiry>) {
        loop {
            let work = self.next(expiry.as_ref().map(Expiry::due));
            self.fill(work.orders);
            if let Some(flush) = work.flush {
                self.save(flush);
            }
            if let Some(expiry) = &mut expiry {
                self.expire(expiry);
            }
            if work.is_last {
                *self.queue.lock() = Queue { is_over: true, ..Queue::default() };
                return;
            }
        }
    }

    /// Waits until there is something to do. The thread's own work is due at `own`.
    fn next(&self, own: Option<Instant>) -> Work {
        let mut queue = self.queue.lock();
        loop {
            let is_due = queue.is_over || queue.due.is_some_and(|due| due <= Instant::now());
            let is_own = own.is_some_and(|own| own <= Instant::now());
            if is_due || is_own || !queue.orders.is_empty() {
                let orders = std::mem::take(&mut queue.orders);
                let flush = is_due.then(|| {
                    queue.due = None;
                    std::mem::take(&mut queue.flush)
                });
                return Work { orders, flush, is_last: queue.is_over };
            }
            match queue.due.into_iter().chain(own).min() {
                Some(due) => _ = self.changed.wait_until(&mut queue, due),
                None => self.changed.wait(&mut queue),
            }
        }
    }

    fn save(&self, Flush { rooms, waiting }: Flush) {
        let bans = self.save_bans();
        let rooms = self.save_rooms(rooms);
        let done = bans.and(rooms);
        match done {
            Ok(()) => self.health.flushed(),
            Err(_) => self.try_again(),
        }
        waiting.into_iter().for_each(|waiting| _ = waiting.send(done.clone()));
    }

    /// Makes sure that there is another flush after one that failed.
    fn try_again(&self) {
        let mut queue = self.queue.lock();
        // A caller that asked for a flush meanwhile gets an attempt of its own.
        let pause = if queue.flush.waiting.is_empty() { RETRY } else { Duration::ZERO };
        queue.due = Some(Instant::now() + pause);
    }

    /// Saves the values of these rooms. Those that the store fails to save are queued again.
    fn save_rooms(&self, rooms: Vec<Arc<Shared>>) -> Result<(), StoreError> {
        let mut rooms = rooms.into_iter();
        loop {
            let batch = take(&mut rooms);
            if batch.is_empty() {
                return Ok(());
            }
            let (changes, batch): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
            let done = self.commit(&changes);
            let is_done = done.is_ok();
            let again =
                |(room, taken): (Arc<Shared>, _)| room.saved(taken, is_done).then_some(room);
            let again: Vec<_> = batch.into_iter().filter_map(again).collect();
            if !is_done {
                self.queue.lock().flush.rooms.extend(again.into_iter().chain(rooms));
                return done;
            }
        }
    }

    fn commit(&self, changes: &[Change]) -> Result<(), StoreError> {
        let began = Instant::now();
        let result = self.with_store(Use::Save, |store| store.commit(changes));
        metrics::committed(began.elapsed(), result.is_ok());
        let bytes = catch_unwind(AssertUnwindSafe(|| self.store.bytes()));
        self.health.takes_up(bytes.unwrap_or_default());
        result
    }

    /// Uses the store, and notes whether it fails. A panic of a host's store is a failure.
    fn with_store<T>(
        &self,
        purpose: Use,
        work: impl FnOnce(&dyn RoomStore) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let done = catch_unwind(AssertUnwindSafe(|| work(&*self.store)));
        let result = done.unwrap_or_else(|_| Err(StoreError::Failed("it panicked".into())));
        self.health.note(purpose, result.as_ref().err());
        result
    }
}

/// Takes the unsaved values of these rooms, as many as fit into a commit.
fn take(rooms: &mut impl Iterator<Item = Arc<Shared>>) -> Vec<(Change, (Arc<Shared>, Taken))> {
    let used = seconds_since_1970();
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while bytes < COMMIT_BYTES
        && let Some(room) = rooms.next()
    {
        if let Some((change, taken)) = room.take_unsaved(used) {
            bytes += change.bytes();
            batch.push((change, (room, taken)));
        }
    }
    batch
}

pub(crate) fn seconds_since_1970() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_secs())
}
