//! The requirements of `RoomStore`, checked for each implementation: the one in memory, redb, and one
//! that fails now and then. Also the state of redb's file after accidents.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "../../src/testing/store_contract/changes.rs"]
#[allow(dead_code, reason = "the contract uses the rest")]
mod changes;
use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::{Duration, SystemTime},
};

use crate::common::Folder;
use axum_cloud_variables::{
    store::{
        Change, MemoryStore, RedbStore, RoomStore, StoreError, StoredBan, StoredEntry, StoredRoom,
    },
    testing::store_contract,
};

use changes::{pairs, put, variables};

/// A store that fails every third commit.
#[derive(Debug)]
struct Faulty<S>(S, AtomicU32);

impl<S: RoomStore> RoomStore for Faulty<S> {
    fn load(&self, room: &str) -> Result<Option<StoredRoom>, StoreError> {
        self.0.load(room)
    }

    fn bans(&self, room: &str) -> Result<Vec<StoredBan>, StoreError> {
        self.0.bans(room)
    }

    fn commit(&self, changes: &[Change]) -> Result<(), StoreError> {
        if self.1.fetch_add(1, SeqCst).is_multiple_of(3) {
            return Err(StoreError::Failed("the disk is full".into()));
        }
        self.0.commit(changes)
    }

    fn rooms(&self, after: &str, count: usize) -> Result<Vec<StoredEntry>, StoreError> {
        self.0.rooms(after, count)
    }
}

#[test]
fn the_store_of_the_docs_keeps_the_contract() {
    store_contract(&MemoryStore::default());
}

#[test]
fn redb_keeps_the_contract() {
    let folder = Folder::new("contract");
    store_contract(&RedbStore::open(folder.file("rooms.redb")).unwrap());
}

#[test]
fn a_store_that_fails_now_and_then_keeps_the_contract() {
    store_contract(&Faulty(MemoryStore::default(), AtomicU32::new(0)));
    let folder = Folder::new("faulty");
    store_contract(&Faulty(RedbStore::open(folder.file("rooms.redb")).unwrap(), AtomicU32::new(0)));
}

#[test]
fn many_threads_may_use_a_store() {
    let folder = Folder::new("threads");
    let store = Arc::new(RedbStore::open(folder.file("rooms.redb")).unwrap());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let store = &store;
            scope.spawn(move || {
                for n in 0..10 {
                    let room = format!("{thread}");
                    store.commit(&[put(&room, &[("n", &n.to_string())], &[])]).unwrap();
                    assert_eq!(variables(&**store, &room), Some(pairs(&[("n", &n.to_string())])));
                }
            });
        }
    });
}

#[test]
fn redb_keeps_rooms_beyond_the_process_up_to_its_limit() {
    let folder = Folder::new("again");
    let store = RedbStore::open(folder.file("rooms.redb")).unwrap().max_rooms(2);
    let rooms = [put("a", &[("x", "1")], &[]), put("b", &[], &[])];
    store.commit(&rooms).unwrap();
    assert_eq!(
        store.commit(&[put("a", &[("x", "2")], &[]), put("c", &[], &[])]),
        Err(StoreError::Full)
    );
    assert_eq!(variables(&store, "a"), Some(pairs(&[("x", "1")])), "all or nothing");
    assert_eq!(RedbStore::open(folder.file("rooms.redb")).unwrap_err(), StoreError::InUse);
    drop(store);
    let store = RedbStore::open(folder.file("rooms.redb")).unwrap().max_rooms(1);
    assert_eq!(variables(&store, "a"), Some(pairs(&[("x", "1")])));
    // These are more rooms than the store may have now, but they exist already.
    store.commit(&[put("a", &[("x", "2")], &[])]).unwrap();
    assert!(store.bytes().is_some_and(|bytes| bytes > 0));
    drop(store);
    // The same holds for bytes. The size of the cache can be chosen, too.
    let store = RedbStore::open(folder.file("rooms.redb")).unwrap().max_bytes(1);
    let store = store.cache_bytes(1 << 20).unwrap();
    store.commit(&[put("a", &[("x", "3")], &[])]).unwrap();
    assert_eq!(store.commit(&[put("c", &[], &[])]), Err(StoreError::Full));
    assert_eq!(variables(&store, "a"), Some(pairs(&[("x", "3")])));
}

#[test]
fn a_file_that_is_not_whole_is_refused_and_left_alone() {
    let folder = Folder::new("damaged");
    let store = RedbStore::open(folder.file("rooms.redb")).unwrap();
    let values: Vec<_> = (0..500).map(|n| (format!("v{n}"), "v".repeat(100))).collect();
    let values: Vec<_> = values.iter().map(|(name, value)| (&**name, &**value)).collect();
    store.commit(&[put("a", &values, &[])]).unwrap();
    drop(store);
    let whole = fs::read(folder.file("rooms.redb")).unwrap();

    let mut files = vec![b"not a database".to_vec(), vec![0; 100_000]];
    files.extend((1..20).map(|part| whole[..whole.len() * part / 20].to_vec()));
    for file in files {
        fs::write(folder.file("rooms.redb"), &file).unwrap();
        match RedbStore::open(folder.file("rooms.redb")) {
            Err(StoreError::Damaged(what)) => assert!(!what.is_empty()),
            other => panic!("{} of {} bytes: {other:?}", file.len(), whole.len()),
        }
        assert!(
            fs::read(folder.file("rooms.redb")).unwrap() == file,
            "{} bytes: changed",
            file.len()
        );
    }
    fs::write(folder.file("rooms.redb"), &whole).unwrap();
    assert_eq!(
        variables(&RedbStore::open(folder.file("rooms.redb")).unwrap(), "a").unwrap().len(),
        500
    );
}

/// Otherwise the registry would save into a file that is gone with the process.
#[cfg(unix)]
#[test]
fn a_file_that_is_removed_fails_until_it_is_back() {
    let folder = Folder::new("removed");
    let [path, aside] = ["rooms.redb", "aside.redb"].map(|name| folder.file(name));
    let store = RedbStore::open(&path).unwrap();
    let remove = [Change::Remove { room: "none".into() }];
    store.commit(&remove).unwrap();
    std::fs::rename(&path, &aside).unwrap();
    for _ in 0..2 {
        let error = store.commit(&remove).unwrap_err().to_string();
        assert!(error.contains("removed or replaced"), "{error}");
        store.load("none").unwrap_err();
    }
    std::fs::write(&path, "").unwrap();
    store.commit(&remove).unwrap_err();
    std::fs::rename(&aside, &path).unwrap();
    store.commit(&remove).unwrap();
}

/// A process that is killed while it makes a store leaves a file behind. The next start removes it, unless it may
/// belong to a process that is at work.
#[test]
fn what_a_failed_first_start_left_is_removed() {
    let folder = Folder::new("unfinished");
    let file = |name: &str| folder.file(name);
    let old = ["rooms.redb.new-77", "rooms.redb.new-x", "rooms.redb.newer", "other.redb.new-77"];
    for name in old.iter().chain(&["rooms.redb.new-78"]) {
        fs::write(file(name), "half a file").unwrap();
    }
    let long_ago = SystemTime::now() - Duration::from_secs(3_600);
    for name in old {
        fs::File::options().write(true).open(file(name)).unwrap().set_modified(long_ago).unwrap();
    }
    RedbStore::open(file("rooms.redb")).unwrap();
    let there = |name: &str| fs::exists(file(name)).unwrap();
    assert!(!there(old[0]) && old[1..].iter().all(|name| there(name)));
    assert!(there("rooms.redb.new-78") && there("rooms.redb"));
}

#[test]
fn an_empty_file_becomes_a_store() {
    let folder = Folder::new("empty");
    let path = folder.file("rooms.redb");
    std::fs::write(&path, "").unwrap();
    drop(RedbStore::open(&path).unwrap());
    assert_eq!(RedbStore::open(&path).unwrap().load("none"), Ok(None));
}
