//! P10: rooms survive, even if the store fails or is slow.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use crate::common::{Folder, Server, ShakyStore, eventually, unlimited_rate};
use axum_cloud_variables::{
    BanTarget, Dialect, Identity, Limits, OpenError, RoomError, RoomRegistry, RoomRegistryBuilder,
    Schema, SetError,
    policy::{Join, Policy, Rejection},
    store::{Change, RedbStore, RoomStore, StoreError, StoredSchema},
};

const X: &[(&str, &str)] = &[("x", "0")];
const Y: &[(&str, &str)] = &[("y", "0")];

fn with(store: &Arc<ShakyStore>) -> RoomRegistryBuilder {
    let builder = RoomRegistry::builder().limits(unlimited_rate()).store(store.clone());
    builder.flush_interval(Duration::from_millis(20))
}

async fn server(store: &Arc<ShakyStore>) -> Server {
    Server::with(with(store)).await
}

/// Shuts a server down, as before a restart: the store's next registry has nothing in memory.
async fn end(server: Server) {
    assert!(server.rooms.shutdown(Duration::from_secs(10)).await.is_complete());
}

#[tokio::test]
async fn a_room_comes_back_with_its_values() {
    let store = Arc::default();
    let before = server(&store).await;
    let mut ann = before.join("arena", "ann", &[("x", "0"), ("☁ \"y\"", "")]).await;
    assert_eq!(store.value("arena", "x").as_deref(), Some("0"), "kept before the join is answered");
    ann.set("x", "1").await;
    ann.set("x", "2\n").await;
    ann.sync().await;
    end(before).await;

    let after = server(&store).await;
    let (code, _) = after.refusal("arena", "bob", X).await;
    assert_eq!(code, 4001, "its names are those of its creator");
    let mut bob = after.join("arena", "bob", &[("x", "9"), ("☁ \"y\"", "9")]).await;
    bob.frame().await;
    assert_eq!(bob.view["x"], "2\n");
    assert_eq!(bob.view["☁ \"y\""], "");
}

#[tokio::test]
async fn rooms_of_every_kind_come_back_as_they_were() {
    let store = Arc::default();
    let before = server(&store).await;
    let mut scratch = before.join_in(Dialect::Scratch, "1", "player", &[]).await;
    scratch.set("☁ score", "7").await;
    scratch.sync().await;
    before.rooms.open("open").schema(Schema::Growing).variables([("a", "1")]).await.unwrap();
    let renamed = before.rooms.open("renamed").variables([("old", "1"), ("stays", "1")]).await;
    renamed.unwrap().set("stays", "2").unwrap();
    before.rooms.open("renamed").variables([("stays", "0"), ("new", "3")]).await.unwrap();
    let fixed = before.rooms.open("fixed").schema(Schema::Fixed).variables([("x", "1")]);
    fixed.await.unwrap();
    end(before).await;

    // Each room keeps its schema, whichever schema new rooms have.
    let after = Server::with(with(&store).schema(Schema::Growing)).await;
    assert_eq!(after.refusal("fixed", "ann", Y).await.0, 4001);
    let mut scratch = after.join_in(Dialect::Scratch, "1", "player", &[]).await;
    scratch.until("☁ score", "7").await;
    scratch.set("☁ new", "1").await;
    scratch.ping().await;
    assert_eq!(scratch.next_is_close().await, None, "it grows still");
    let mut open = after.join("open", "ann", &[("b", "2")]).await;
    open.until("a", "1").await;
    // The host's rooms come back as emptied rooms, and are the host's again when it opens them.
    let renamed = after.rooms.open("renamed").await.unwrap();
    let mut variables = renamed.variables();
    variables.sort();
    let expected = [("new", "3"), ("stays", "2")].map(|(n, v)| (n.to_owned(), v.to_owned()));
    assert_eq!(variables, expected);
}

#[tokio::test]
async fn an_unloaded_room_comes_back() {
    let store: Arc<ShakyStore> = Arc::default();
    let limits = unlimited_rate().empty_room_ttl(Duration::ZERO);
    let server = Server::with(with(&store).limits(limits)).await;
    for n in 0..3 {
        let mut ann = server.join("arena", "ann", X).await;
        if n > 0 {
            assert_eq!(ann.frame().await, [("x".to_owned(), (n - 1).to_string())]);
        }
        ann.set("x", &n.to_string()).await;
        ann.close().await;
        eventually("the room is unloaded", || server.rooms.stats().rooms == 0).await;
        assert_eq!(store.value("arena", "x"), Some(n.to_string()), "not before it is saved");
    }
    assert_eq!(server.rooms.stats().state_bytes, 0);
}

#[tokio::test]
async fn a_host_looks_at_stored_rooms_without_loading_them() {
    let store: Arc<ShakyStore> = Arc::default();
    let limits = unlimited_rate().empty_room_ttl(Duration::ZERO);
    let server = Server::with(with(&store).limits(limits)).await;
    let name = "☁ \"y\"";
    for id in ["c", "a", "b"] {
        let mut ann = server.join(id, "ann", &[("x", "0"), (name, "")]).await;
        ann.set(name, "2\n").await;
        ann.close().await;
    }
    eventually("all are unloaded", || server.rooms.stats().rooms == 0).await;
    let ids = async |after, count| {
        let page = server.rooms.stored(after, count).await.unwrap();
        page.into_iter().map(|room| room.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(ids("", 2).await, ["a", "b"]);
    assert_eq!(ids("b", 2).await, ["c"]);
    let used = server.rooms.stored("", 1).await.unwrap()[0].used;
    assert!(used.elapsed().unwrap() < Duration::from_secs(60), "{used:?}");
    let values = server.rooms.stored_values("b").await.unwrap().unwrap();
    assert_eq!(values, [("x".into(), "0".into()), (name.into(), "2\n".into())]);
    assert_eq!(server.rooms.stored_values("d").await, Ok(None));
    assert_eq!(server.rooms.stats().rooms, 0, "none was loaded");
    let bare = RoomRegistry::new();
    assert_eq!((bare.stored("", 9).await, bare.stored_values("a").await), (Ok(vec![]), Ok(None)));
}

#[tokio::test]
async fn an_unsaved_room_is_not_unloaded_for_another_room() {
    let store: Arc<ShakyStore> = Arc::default();
    let limits = unlimited_rate().rooms(1);
    let server = Server::with(with(&store).limits(limits)).await;
    let mut ann = server.join("a", "ann", X).await;
    store.is_read_only.store(true, SeqCst);
    ann.set("x", "1").await;
    ann.close().await;
    server.members(0).await;
    assert_eq!(server.refusal("b", "bob", X).await.0, 4003);
    assert_eq!(server.rooms.room("a").unwrap().get("x").as_deref(), Some("1"));
    store.is_read_only.store(false, SeqCst);
    eventually("it is saved", || store.value("a", "x").as_deref() == Some("1")).await;
    server.join("b", "bob", X).await;
    assert!(server.rooms.room("a").is_none());
}

#[tokio::test]
async fn a_removed_room_does_not_come_back() {
    let store = Arc::default();
    let server = server(&store).await;
    let _ann = server.join("arena", "ann", X).await;
    server.rooms.room("arena").unwrap().remove().await.unwrap();
    assert_eq!(store.inner().load("arena").unwrap(), None);
    let _bob = server.join("arena", "bob", Y).await;
    eventually("saved", || server.rooms.store_stats().unwrap().unsaved == 0).await;
    assert_eq!(store.value("arena", "x"), None);

    store.is_broken.store(true, SeqCst);
    let room = server.rooms.room("arena").unwrap();
    assert_eq!(room.remove().await, Err(RoomError::Kept));
    assert_eq!(room.remove().await, Err(RoomError::Gone));
    store.is_broken.store(false, SeqCst);
    assert_eq!(server.refusal("arena", "ann", X).await.0, 4001, "it is there again");
}

/// A host keeps its handle on a room that was unloaded because it was empty.
#[tokio::test]
async fn a_room_that_has_left_the_memory_is_removed_from_the_store() {
    let store = Arc::default();
    let ttl = Duration::from_millis(20);
    let limits = unlimited_rate().empty_room_ttl(ttl);
    let rooms = with(&store).limits(limits).build().unwrap();
    let room = rooms.open("arena").variables(X.iter().copied()).await.unwrap();
    room.close().await.unwrap();
    eventually("it is let go", || rooms.stats().rooms == 0).await;
    assert_eq!(room.set("x", 1), Err(SetError::Gone));
    room.remove().await.unwrap();
    assert_eq!(store.value("arena", "x"), None);
    assert_eq!(room.remove().await, Err(RoomError::Gone));
    // The next room of this id is another one.
    let next = rooms.open("arena").variables(X.iter().copied()).await.unwrap();
    assert_eq!(room.remove().await, Err(RoomError::Gone));
    assert_eq!(next.variables().len(), 1);
}

/// The store works in real time, even if the runtime's clock is paused.
#[tokio::test(start_paused = true)]
async fn a_store_works_in_a_test_whose_time_is_paused() {
    let folder = Folder::new("paused");
    let store = RedbStore::open(folder.file("rooms.redb")).unwrap();
    let rooms = RoomRegistry::builder().store(store).build().unwrap();
    let began = tokio::time::Instant::now();
    let room = rooms.open("arena").variables(X.iter().copied()).await.unwrap();
    room.set("x", 1).unwrap();
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert!(rooms.shutdown(Duration::from_secs(10)).await.is_complete());
}

#[tokio::test]
async fn players_play_on_while_the_store_fails() {
    let store: Arc<ShakyStore> = Arc::default();
    let server = server(&store).await;
    let mut ann = server.join("arena", "ann", X).await;
    let _kept = server.join("kept", "ann", X).await;
    store.is_broken.store(true, SeqCst);
    // A client that needs nothing from the store joins as usual.
    let mut bob = server.join("arena", "bob", X).await;
    for n in 0..50 {
        ann.set("x", &n.to_string()).await;
        bob.until("x", &n.to_string()).await;
    }
    let (code, reason) = server.refusal("other", "ann", X).await;
    assert_eq!(code, 4003);
    assert!(reason.contains("try again"), "{reason}");
    let mut scratch = server.connect().await;
    scratch.handshake_in(Dialect::Scratch, "2", "player", &[]).await;
    assert_eq!(scratch.closed().await.0, 1013);
    assert_eq!(server.rooms.open("other").await.unwrap_err(), OpenError::Unreachable);
    eventually("the failure shows", || server.rooms.store_stats().unwrap().is_failing).await;
    let stats = server.rooms.store_stats().unwrap();
    assert_eq!(stats.unsaved, 1);
    let error = StoreError::Failed("the disk is gone".into());
    assert_eq!(stats.last_error.as_ref().map(|(_, error)| error), Some(&error));
    assert_eq!(store.inner().load("arena").unwrap().unwrap().variables, [("x".into(), "0".into())]);

    store.is_broken.store(false, SeqCst);
    eventually("all is saved", || store.value("arena", "x").as_deref() == Some("49")).await;
    eventually("it shows", || !server.rooms.store_stats().unwrap().is_failing).await;
    assert!(server.rooms.store_stats().unwrap().last_flush.is_some());
    server.join("other", "ann", X).await;
}

#[tokio::test]
async fn a_store_that_cannot_write_is_read_from() {
    let store: Arc<ShakyStore> = Arc::default();
    let before = server(&store).await;
    before.join("arena", "ann", X).await.close().await;
    end(before).await;
    store.is_read_only.store(true, SeqCst);
    let after = server(&store).await;
    let mut ann = after.join("arena", "ann", X).await;
    ann.set("x", "1").await;
    ann.sync().await;
    assert_eq!(after.refusal("new", "ann", X).await.0, 4003);
    assert!(
        !after.rooms.shutdown(Duration::from_millis(100)).await.is_complete(),
        "there was no place for it"
    );
    store.is_read_only.store(false, SeqCst);
    eventually("it is saved still", || store.value("arena", "x").as_deref() == Some("1")).await;
}

#[tokio::test]
async fn a_store_that_panics_is_one_that_fails() {
    let store: Arc<ShakyStore> = Arc::default();
    let server = server(&store).await;
    let mut ann = server.join("arena", "ann", X).await;
    store.panics.store(true, SeqCst);
    ann.set("x", "1").await;
    eventually("the failure shows", || server.rooms.store_stats().unwrap().is_failing).await;
    assert_eq!(server.refusal("other", "ann", X).await.0, 4003);
    store.panics.store(false, SeqCst);
    eventually("it is saved", || store.value("arena", "x").as_deref() == Some("1")).await;
}

/// A commit takes two seconds, as with a disk that is slow to sync.
#[tokio::test]
async fn a_slow_store_slows_no_player() {
    let store: Arc<ShakyStore> = Arc::default();
    let server = server(&store).await;
    let mut ann = server.join("arena", "ann", X).await;
    let mut bob = server.join("arena", "bob", X).await;
    store.delay.store(2_000, SeqCst);
    let began = tokio::time::Instant::now();
    let new = server.join("new", "ann", X);
    let play = async {
        let mut n = 0_u32;
        loop {
            n += 1;
            ann.set("x", &n.to_string()).await;
            bob.until("x", &n.to_string()).await;
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = new => {}
        _ = play => {}
    }
    assert!(began.elapsed() >= Duration::from_secs(2), "it is created when it is kept");
    let played: u32 = bob.view["x"].parse().unwrap();
    println!("{played} sets were delivered while the store took {:?}", began.elapsed());
    // Each set waits for the one before. If sets waited for the store, there would be two.
    assert!(played > 50, "{played}");
    store.delay.store(0, SeqCst);
    eventually("saved", || store.value("arena", "x").is_some_and(|x| x != "0")).await;
}

#[tokio::test]
async fn one_of_two_creators_wins_also_when_the_store_is_slow() {
    let store: Arc<ShakyStore> = Arc::default();
    store.delay.store(20, SeqCst);
    let server = server(&store).await;
    for n in 0..20 {
        let room = format!("room {n}");
        let (mut a, mut b) = (server.connect().await, server.connect().await);
        a.handshake(&room, "ann", X).await;
        b.handshake(&room, "bob", Y).await;
        // Sometimes one of them leaves before it is answered.
        if n % 4 == 3 {
            drop(a);
            b.ping().await;
            assert!([None, Some(4001)].contains(&b.next_is_close().await));
        } else {
            a.ping().await;
            b.ping().await;
            let (a, b) = (a.next_is_close().await, b.next_is_close().await);
            assert!([(None, Some(4001)), (Some(4001), None)].contains(&(a, b)), "{a:?} {b:?}");
        }
        let kept = store.inner().load(&room).unwrap().unwrap();
        assert_eq!(kept.variables.len(), 1, "{kept:?}");
    }
}

#[tokio::test]
async fn a_room_that_nobody_uses_leaves_the_store() {
    let store: Arc<ShakyStore> = Arc::default();
    let put = |room: &str, used| Change::Put {
        room: room.into(),
        schema: StoredSchema::Fixed,
        used,
        values: vec![("x".into(), "1".into())],
        dropped: Vec::new(),
    };
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let old: Vec<_> = (0..600).map(|n| put(&format!("old {n}"), now - 100)).collect();
    store.inner().commit(&old).unwrap();
    store.inner().commit(&[put("recent", now), put("live", now - 100)]).unwrap();
    // The room is loaded before the first check for old rooms, which comes after a second.
    let ttl = Duration::from_secs(10);
    let server = Server::with(with(&store).stored_room_ttl(Some(ttl))).await;
    let _ann = server.join("live", "ann", X).await;
    let kept = || store.inner().rooms("", 1_000).unwrap().into_iter().map(|room| room.id);
    eventually("the old are gone", || kept().count() == 2).await;
    assert_eq!(kept().collect::<Vec<_>>(), ["live", "recent"]);
    assert!(store.inner().rooms("", 1).unwrap()[0].used >= now, "it is used again");
}

/// A policy that records whether the room exists.
struct Asked(Arc<AtomicBool>);

impl Policy for Asked {
    async fn admit(&self, join: &Join<'_>) -> Result<Identity, Rejection> {
        self.0.store(join.room_exists(), SeqCst);
        Ok(join.identity().clone())
    }
}

#[tokio::test]
async fn a_policy_knows_of_stored_rooms() {
    let store: Arc<ShakyStore> = Arc::default();
    let exists = Arc::default();
    let before = Server::with(with(&store).policy(Asked(Arc::clone(&exists)))).await;
    before.join("arena", "ann", X).await;
    assert!(!exists.load(SeqCst));
    end(before).await;
    let after = Server::with(with(&store).policy(Asked(exists.clone()))).await;
    after.join("arena", "ann", X).await;
    assert!(exists.load(SeqCst));
}

#[tokio::test]
async fn a_full_store_takes_no_new_room_and_keeps_the_others() {
    let folder = Folder::new("full");
    let store = RedbStore::open(folder.file("rooms.redb")).unwrap().max_rooms(2);
    let store = Arc::new(store);
    let builder = RoomRegistry::builder().limits(Limits::default()).store(store.clone());
    let server = Server::with(builder).await;
    let mut codes = Vec::new();
    for room in ["a", "b", "c", "d"] {
        codes.push(server.refusal_or_join(room, "ann", X).await);
    }
    assert_eq!(codes, [None, None, Some(4003), Some(4003)]);
    server.join("a", "bob", X).await.set("x", "1").await;
    let value = || store.load("a").unwrap().unwrap().variables[0].1.clone();
    eventually("saved", || value() == "1").await;
    assert!(!server.rooms.store_stats().unwrap().is_failing, "a full store is no broken one");
}

/// Also if the room is removed, and only for the time of the ban.
#[tokio::test]
async fn bans_survive_the_process() {
    let store = Arc::default();
    let before = server(&store).await;
    let room = before.rooms.open("arena").variables([("x", "0")]).await.unwrap();
    room.ban_name("Eve", Duration::from_secs(60)).await.unwrap();
    room.ban_name("bob", Duration::from_secs(60)).await.unwrap();
    room.ban_name("sue", Duration::from_millis(1)).await.unwrap();
    room.unban_name("BOB").await.unwrap();
    room.remove().await.unwrap();
    end(before).await;

    let after = server(&store).await;
    assert_eq!(after.refusal("arena", "eve", X).await.1, "you are banned from this room");
    assert!(after.rooms.room("arena").is_none());
    for name in ["bob", "sue"] {
        after.join("arena", name, X).await;
    }
    let room = after.rooms.room("arena").unwrap();
    let bans = room.bans();
    assert_eq!(bans.len(), 1);
    assert_eq!(bans[0].target, BanTarget::Name("Eve".into()));
    assert!(bans[0].left <= Duration::from_secs(60));

    // A ban that the store cannot save still holds, and the host is informed.
    store.is_broken.store(true, SeqCst);
    let banned = room.ban_name("sue", Duration::from_secs(60)).await;
    assert_eq!(banned, Err(RoomError::NotSaved));
    assert_eq!(after.refusal("arena", "sue", X).await.1, "you are banned from this room");
}
