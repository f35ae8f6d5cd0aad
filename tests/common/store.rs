//! The store of the docs, with faults.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    thread,
    time::Duration,
};

include!("../../src/store/memory.rs");

/// A store that fails and is slow on request.
#[derive(Debug, Default)]
pub struct ShakyStore {
    store: MemoryStore,
    /// Nothing works.
    pub is_broken: AtomicBool,
    /// What was kept can be read, and nothing written.
    pub is_read_only: AtomicBool,
    /// Milliseconds that each commit takes.
    pub delay: AtomicU64,
    pub panics: AtomicBool,
    /// No call returns.
    pub is_stuck: AtomicBool,
    /// Threads that load, and the most that did at once.
    loading: AtomicUsize,
    pub most_loading: AtomicUsize,
}

impl ShakyStore {
    /// As it is without faults.
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

    fn rooms(&self, after: &str, count: usize) -> Result<Vec<(String, u64)>, StoreError> {
        self.check()?;
        self.store.rooms(after, count)
    }
}
