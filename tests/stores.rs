//! What every `RoomStore` must do, of each that there is: the one of the docs, redb, and one that fails
//! now and then. And what a file of redb's is after all that can happen to a file.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
};

use axum_cloud_variables::RedbStore;
use common::Folder;

include!("../src/store/memory.rs");

/// Fails every third commit.
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

    fn rooms(&self, after: &str, count: usize) -> Result<Vec<(String, u64)>, StoreError> {
        self.0.rooms(after, count)
    }
}

/// When all rooms here were used last.
const USED: u64 = 1_800_000_000;

fn pairs(values: &[(&str, &str)]) -> Vec<(String, String)> {
    values.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

fn put(room: &str, values: &[(&str, &str)], dropped: &[&str]) -> Change {
    let dropped = dropped.iter().map(ToString::to_string).collect();
    let schema = match room {
        "scratch" => StoredSchema::Scratch,
        "growing" => StoredSchema::Growing,
        _ => StoredSchema::Fixed,
    };
    Change::Put { room: room.into(), schema, used: USED, values: pairs(values), dropped }
}

fn remove(room: &str) -> Change {
    Change::Remove { room: room.into() }
}

fn variables(store: &dyn RoomStore, room: &str) -> Option<Vec<(String, String)>> {
    Some(store.load(room).unwrap()?.variables)
}

/// Until it is done: it may fail, and has then changed nothing.
fn commit(store: &dyn RoomStore, changes: &[Change]) {
    let before = store.rooms("", usize::MAX).unwrap();
    for _ in 0..3 {
        match store.commit(changes) {
            Ok(()) => return,
            Err(_) => assert_eq!(store.rooms("", usize::MAX).unwrap(), before),
        }
    }
    panic!("it fails for ever");
}

fn contract(store: &dyn RoomStore) {
    assert_eq!(store.load("none").unwrap(), None);
    assert_eq!(store.rooms("", 10).unwrap(), []);

    let a = put("a", &[("x", "1"), ("y", "")], &[]);
    commit(store, &[a, put("growing", &[], &[]), put("scratch", &[], &[])]);
    assert_eq!(variables(store, "a"), Some(pairs(&[("x", "1"), ("y", "")])));
    for (room, schema) in [("growing", StoredSchema::Growing), ("scratch", StoredSchema::Scratch)] {
        let stored = StoredRoom { schema, variables: Vec::new() };
        assert_eq!(store.load(room).unwrap(), Some(stored));
    }

    // Some change, some go, the rest stays; the later of two changes counts.
    commit(
        store,
        &[put("a", &[("x", "2")], &[]), put("a", &[("x", "3"), ("z", "☁\\ud800")], &["y"])],
    );
    assert_eq!(variables(store, "a"), Some(pairs(&[("x", "3"), ("z", "☁\\ud800")])));

    // In the order of their creation, whatever they are called, also those that are created again.
    let created = [("m", "1"), ("b", "2"), ("z", "3"), ("a", "4")];
    commit(store, &[put("order", &created[..2], &[]), put("order", &created[2..], &[])]);
    assert_eq!(variables(store, "order"), Some(pairs(&created)));
    commit(store, &[put("order", &[("a", "5"), ("m", "6")], &["b"])]);
    commit(store, &[put("order", &[("b", "7")], &[])]);
    let expected = pairs(&[("m", "6"), ("z", "3"), ("a", "5"), ("b", "7")]);
    assert_eq!(variables(store, "order"), Some(expected));
    commit(store, &[remove("order")]);

    // Ids and names of any text, none of which is taken for the beginning of another.
    let long = "r".repeat(1_000);
    let ids = ["a\0", "aa", "ab", "☁", "\u{10ffff}", &long];
    for id in ids {
        commit(store, &[put(id, &[("", id), ("\u{10ffff}", &"v".repeat(100_000))], &[])]);
    }
    assert_eq!(variables(store, "a").unwrap().len(), 2);
    for id in ids {
        assert_eq!(variables(store, id).unwrap()[0].1, id);
    }
    let mut all: Vec<_> = ids.iter().copied().chain(["a", "growing", "scratch"]).collect();
    all.sort_unstable();
    let mut paged: Vec<String> = Vec::new();
    while let page = store.rooms(paged.last().map_or("", |id| id), 3).unwrap()
        && !page.is_empty()
    {
        assert!(page.len() <= 3);
        assert!(page.iter().all(|(_, used)| *used == USED));
        paged.extend(page.into_iter().map(|(id, _)| id));
    }
    assert_eq!(paged, all);

    commit(store, &[remove("a"), remove("never was")]);
    assert_eq!(store.load("a").unwrap(), None);
    assert_eq!(variables(store, "a\0").unwrap().len(), 2, "another room");
    // What was removed does not come back with its id.
    commit(store, &[put("a", &[("new", "1")], &[])]);
    assert_eq!(variables(store, "a"), Some(pairs(&[("new", "1")])));
    commit(store, &[put("a", &[("newer", "1")], &[]), remove("a")]);
    assert_eq!(store.load("a").unwrap(), None);

    // Bans are those that were given last, outlive their room, and are no room.
    assert_eq!(store.bans("a").unwrap(), []);
    let ban = |who: &str| StoredBan { who: who.into(), name: "Eve\n☁".into(), until: u64::MAX };
    let bans =
        |room: &str, bans: &[StoredBan]| Change::Bans { room: room.into(), bans: bans.into() };
    let all = store.rooms("", usize::MAX).unwrap();
    commit(store, &[bans("a", &[ban("name:eve"), ban("person:7")]), bans("b", &[ban("name:eve")])]);
    commit(store, &[put("a", &[], &[]), remove("a")]);
    assert_eq!(store.bans("a").unwrap(), [ban("name:eve"), ban("person:7")]);
    commit(store, &[bans("a", &[ban("person:7")]), bans("b", &[])]);
    assert_eq!(store.bans("a").unwrap(), [ban("person:7")]);
    assert_eq!(store.bans("b").unwrap(), []);
    assert_eq!(store.rooms("", usize::MAX).unwrap(), all);
}

#[test]
fn the_store_of_the_docs_keeps_the_contract() {
    contract(&MemoryStore::default());
}

#[test]
fn redb_keeps_the_contract() {
    let folder = Folder::new("contract");
    contract(&RedbStore::open(folder.file("rooms.redb")).unwrap());
}

#[test]
fn a_store_that_fails_now_and_then_keeps_the_contract() {
    contract(&Faulty(MemoryStore::default(), AtomicU32::new(0)));
    let folder = Folder::new("faulty");
    contract(&Faulty(RedbStore::open(folder.file("rooms.redb")).unwrap(), AtomicU32::new(0)));
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
    // More than it may keep now, but they are there.
    store.commit(&[put("a", &[("x", "2")], &[])]).unwrap();
    assert!(store.bytes().is_some_and(|bytes| bytes > 0));
    drop(store);
    // So it is with bytes; and the cache is another's choice.
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

    let mut files = vec![b"not a database".to_vec(), Vec::new(), vec![0; 100_000]];
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
