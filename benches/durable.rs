//! The cost and the capacity of a store, in a file beside the build:
//! `cargo bench --features redb --bench durable`.

use std::{
    env, fs,
    sync::Arc,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

use axum_cloud_variables::{
    Limits, Room, RoomRegistry,
    store::{Change, RedbStore, RoomStore, StoreError, StoredBan, StoredEntry, StoredRoom},
};
use futures_util::{StreamExt, stream};

mod load;

use load::processor::processor;

const ROOMS: usize = 16_384;
const VARIABLES: usize = 10;
const SECONDS: u64 = 20;
/// The number of times per second that some of the rooms are written.
const STEPS: usize = 64;

/// A store that counts its commits.
#[derive(Debug)]
struct Counted {
    store: RedbStore,
    commits: AtomicUsize,
    values: AtomicUsize,
    micros: AtomicU64,
    longest: AtomicU64,
}

impl RoomStore for Counted {
    fn load(&self, room: &str) -> Result<Option<StoredRoom>, StoreError> {
        self.store.load(room)
    }

    fn bans(&self, room: &str) -> Result<Vec<StoredBan>, StoreError> {
        self.store.bans(room)
    }

    fn commit(&self, changes: &[Change]) -> Result<(), StoreError> {
        let began = Instant::now();
        let done = self.store.commit(changes);
        let micros = began.elapsed().as_micros() as u64;
        let values = changes.iter().map(|change| match change {
            Change::Put { values, .. } => values.len(),
            Change::Remove { .. } | Change::Bans { .. } => 0,
        });
        self.values.fetch_add(values.sum(), Relaxed);
        self.commits.fetch_add(1, Relaxed);
        self.micros.fetch_add(micros, Relaxed);
        self.longest.fetch_max(micros, Relaxed);
        done
    }

    fn rooms(&self, after: &str, count: usize) -> Result<Vec<StoredEntry>, StoreError> {
        self.store.rooms(after, count)
    }

    fn bytes(&self) -> Option<u64> {
        self.store.bytes()
    }
}

/// Runs the benchmark in this process.
#[tokio::main]
async fn main() {
    let file = format!("{}/durable.redb", env!("CARGO_TARGET_TMPDIR"));
    _ = fs::remove_file(&file);
    for kept in [false, true] {
        println!("\n{}", if kept { "with a store" } else { "without" });
        work(kept.then_some(&file)).await;
    }
    println!("{} MB on the disk", fs::metadata(&file).expect("a file").len() >> 20);
    let began = Instant::now();
    drop(RedbStore::open(&file).expect("a file"));
    println!("opened in {:?}", began.elapsed());
    _ = fs::remove_file(&file);
}

async fn work(file: Option<&String>) {
    let store = file.map(|file| {
        Arc::new(Counted {
            store: RedbStore::open(file).expect("a file"),
            commits: AtomicUsize::new(0),
            values: AtomicUsize::new(0),
            micros: AtomicU64::new(0),
            longest: AtomicU64::new(0),
        })
    });
    let mut builder = RoomRegistry::builder().limits(Limits::default().rooms(ROOMS));
    if let Some(store) = &store {
        builder = builder.store(store.clone());
    }
    let registry = builder.build().expect("valid limits");
    let variables: Vec<_> = (0..VARIABLES).map(|n| (format!("variable {n}"), "0")).collect();
    let (began, used) = (Instant::now(), processor("self"));
    let open = |n: usize| {
        let opened = registry.open(format!("room {n}")).variables(variables.clone());
        async { opened.await.expect("a room") }
    };
    let rooms: Vec<Room> = stream::iter(0..ROOMS).map(open).buffered(256).collect().await;
    let time = began.elapsed();
    let cpu = processor("self") - used;
    println!("{ROOMS} rooms created in {time:.2?}, {cpu:.2?} of the processor");

    let before = store.as_ref().map_or((0, 0, 0), |store| {
        store.longest.store(0, Relaxed);
        (store.commits.load(Relaxed), store.values.load(Relaxed), store.micros.load(Relaxed))
    });
    let used = processor("self");
    let mut tick = tokio::time::interval(Duration::from_secs(1) / STEPS as u32);
    let (mut most, began) = (0, Instant::now());
    for second in 0..SECONDS {
        for part in rooms.chunks(ROOMS / STEPS) {
            tick.tick().await;
            for room in part {
                let values = variables.iter().map(|(name, _)| (name, second * 1_000_003));
                room.set_all(values).expect("a room");
            }
            let unsaved = registry.store_stats().map_or(0, |stats| stats.unsaved);
            most = most.max(unsaved);
        }
    }
    let time = began.elapsed();
    let cpu = processor("self") - used;
    let count = ROOMS * VARIABLES * SECONDS as usize;
    println!("{count} values set in {time:.2?}, {cpu:.2?} of the processor");
    if let Some(store) = &store {
        let commits = store.commits.load(Relaxed) - before.0;
        let values = store.values.load(Relaxed) - before.1;
        let mean = (store.micros.load(Relaxed) - before.2) / commits.max(1) as u64;
        let longest = store.longest.load(Relaxed) / 1_000;
        println!(
            "{values} saved in {commits} commits of {} ms, at most {longest} ms; at most {most} \
             waited",
            mean / 1_000
        );
        println!("{:.0} saved a second", values as f64 / time.as_secs_f64());
    }
    assert!(registry.shutdown(Duration::from_secs(30)).await.is_complete(), "all is saved");
}
