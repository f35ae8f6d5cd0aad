//! The contract of every store.

mod changes;

use axum_cloud_variables::store::{Change, RoomStore, StoredBan, StoredRoom, StoredSchema};

use changes::{USED, pairs, put, remove, variables};

/// Checks that a [`RoomStore`] meets its contract. It must keep no rooms yet. A commit that fails is retried,
/// up to three times.
///
/// ```
/// use axum_cloud_variables::{testing::store_contract, store::MemoryStore};
///
/// store_contract(&MemoryStore::default());
/// ```
///
/// # Panics
///
/// Panics if the store violates the contract. The message describes the violation.
pub fn store_contract(store: &dyn RoomStore) {
    assert_eq!(store.load("none").unwrap(), None);
    assert_eq!(store.rooms("", 10).unwrap(), []);

    let a = put("a", &[("x", "1"), ("y", "")], &[]);
    commit(store, &[a, put("growing", &[], &[]), put("scratch", &[], &[])]);
    assert_eq!(variables(store, "a"), Some(pairs(&[("x", "1"), ("y", "")])));
    for (room, schema) in [("growing", StoredSchema::Growing), ("scratch", StoredSchema::Scratch)] {
        let stored = StoredRoom { schema, variables: Vec::new() };
        assert_eq!(store.load(room).unwrap(), Some(stored));
    }

    // Some variables change, some are dropped, and the rest stay; the later of two changes counts.
    commit(
        store,
        &[put("a", &[("x", "2")], &[]), put("a", &[("x", "3"), ("z", "☁\\ud800")], &["y"])],
    );
    assert_eq!(variables(store, "a"), Some(pairs(&[("x", "3"), ("z", "☁\\ud800")])));

    // In the order of their creation, regardless of their names, and including those that are created again.
    let created = [("m", "1"), ("b", "2"), ("z", "3"), ("a", "4")];
    commit(store, &[put("order", &created[..2], &[]), put("order", &created[2..], &[])]);
    assert_eq!(variables(store, "order"), Some(pairs(&created)));
    commit(store, &[put("order", &[("a", "5"), ("m", "6")], &["b"])]);
    commit(store, &[put("order", &[("b", "7")], &[])]);
    let expected = pairs(&[("m", "6"), ("z", "3"), ("a", "5"), ("b", "7")]);
    assert_eq!(variables(store, "order"), Some(expected));
    commit(store, &[remove("order")]);

    // Ids and names may be any text, and none is confused with a prefix of another.
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
        assert!(page.iter().all(|room| room.used == USED));
        paged.extend(page.into_iter().map(|room| room.id));
    }
    assert_eq!(paged, all);

    commit(store, &[remove("a"), remove("never was")]);
    assert_eq!(store.load("a").unwrap(), None);
    assert_eq!(variables(store, "a\0").unwrap().len(), 2, "another room");
    // A removed room's variables do not come back with its id.
    commit(store, &[put("a", &[("new", "1")], &[])]);
    assert_eq!(variables(store, "a"), Some(pairs(&[("new", "1")])));
    commit(store, &[put("a", &[("newer", "1")], &[]), remove("a")]);
    assert_eq!(store.load("a").unwrap(), None);

    // The last bans count, outlive their room, and are not a room.
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

/// Commits, and retries if that fails, which must have changed nothing.
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
