//! The store of the docs, with faults.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    thread,
    time::Duration,
};

include!("../../src/store/memory.rs");

/// A store that fails or is slow on request.
#[derive(Debug, Default)]
pub struct ShakyStore {
    store: MemoryStore,
    /// Whether every call fails.
    pub is_broken: AtomicBool,
    /// Whether rooms can be read, but nothing can be written.
    pub is_read_only: AtomicBool,
    /// The time that each commit takes, in milliseconds.
    pub delay: AtomicU64,
    pub panics: AtomicBool,
    /// Whether no call returns.
    pub is_stuck: AtomicBool,
    /// The threads that load at present; `most_loading` has the highest number.
    loading: AtomicUsize,
    pub most_loading: AtomicUsize,
}

impl ShakyStore {
    /// Returns the store without the faults.
    pub fn inner(&self) -> &dyn RoomStore {
        &self.store
    }

    fn wait(&self) {
        while self.is_stuck.load(SeqCst) {
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn check(&self) -> Result<(), StoreError> {
        match self.is_broken.load(SeqCst) {
            true => Err(StoreError::Failed("the disk is gone".into())),
            false => Ok(()),
        }
    }

    pub fn value(&self, room: &str, name: &str) -> Option<String> {
        let variables = self.store.load(room).unwrap()?.variables;
        variables.into_iter().find(|(n, _)| n == name).map(|(_, value)| value)
    }
}

impl RoomStore for ShakyStore {
    fn load(&self, room: &str) -> Result<Option<StoredRoom>, StoreError> {
        let loading = self.loading.fetch_add(1, SeqCst) + 1;
        self.most_loading.fetch_max(loading, SeqCst);
        self.wait();
        self.loading.fetch_sub(1, SeqCst);
        self.check()?;
        self.store.load(room)
    }

    fn bans(&self, room: &str) -> Result<Vec<StoredBan>, StoreError> {
        self.check()?;
        self.store.bans(room)
    }

    fn commit(&self, changes: &[Change]) -> Result<(), StoreError> {
        thread::sleep(Duration::from_millis(self.delay.load(SeqCst)));
        self.wait();
        assert!(!self.panics.load(SeqCst), "as a host's store may");
        self.check()?;
        match self.is_read_only.load(SeqCst) {
            true => Err(StoreError::Failed("the disk is full".into())),
            false => self.store.commit(changes),
        }
    }

    fn rooms(&self, after: &str, count: usize) -> Result<Vec<StoredEntry>, StoreError> {
        self.check()?;
        self.store.rooms(after, count)
    }
}
