//! P7: each size, count and rate that a client influences has its limit and its outcome.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use axum_cloud_variables::{BuildError, Limits, RoomRegistry, Schema};
use common::{Server, eventually, unlimited_rate, within};

async fn server(limits: Limits) -> Server {
    Server::with(RoomRegistry::builder().limits(limits)).await
}

#[tokio::test]
async fn a_handshake_over_a_limit_is_4000() {
    let limits = unlimited_rate().variables_per_room(3).name_bytes(4).value_bytes(10);
    let server = server(limits).await;
    for variables in [
        &[("a", ""), ("b", ""), ("c", ""), ("d", "")][..],
        &[("", "")],
        &[("fives", "")],
        &[("ää", ""), ("äää", "")],
        &[("a", "eleven byte")],
    ] {
        let (code, reason) = server.refusal("room", "ann", variables).await;
        assert_eq!(code, 4000, "{variables:?}");
        assert!(!reason.is_empty());
    }
    assert_eq!(server.rooms.stats().rooms, 0);
    let _ann = server.join("room", "ann", &[("four", "ten bytes!"), ("ää", ""), ("c", "")]).await;
}

#[tokio::test]
async fn a_fixed_room_stays_one_that_a_handshake_can_join() {
    let names: Vec<_> = (0..10).map(|i| format!("v{i}")).collect();
    let variables: Vec<_> = names.iter().map(|name| (&**name, "")).collect();
    let server = Server::start().await;
    let mut ann = server.join("room", "ann", &variables).await;
    let long = "v".repeat(60_000);
    for name in &names {
        ann.set(name, &long).await;
    }
    ann.sync().await;
    let mut ben = server.join("room", "ben", &variables).await;
    let mut room = HashMap::new();
    while room.len() < 10 {
        room.extend(ben.frame().await);
    }
    assert_eq!(room.values().filter(|value| **value == long).count(), 2);
    // The refused sets were healed, and the room's values fit in a message that can be sent.
    while ann.view != room {
        ann.frame().await;
    }
    let now: Vec<_> = room.iter().map(|(n, v)| (&**n, &**v)).collect();
    let mut cem = server.join("room", "cem", &now).await;
    cem.frame().await;
}

/// One member fills the room as far as possible, with the longest values first.
#[tokio::test]
async fn each_variable_has_its_share_of_a_room_that_somebody_fills() {
    let names: Vec<_> = (0..10).map(|i| format!("v{i}")).collect();
    for (schema, own, most) in [(Schema::Fixed, 2_000, 160 << 10), (Schema::Growing, 40, 1 << 20)] {
        let server =
            Server::with(RoomRegistry::builder().schema(schema).limits(unlimited_rate())).await;
        let variables: Vec<_> = names.iter().map(|name| (&**name, "")).collect();
        let mut ben = server.join("room", "ben", &variables).await;
        let mut ann = server.join("room", "ann", &variables).await;
        let mut others: Vec<_> = names[5..].iter().map(String::as_str).collect();
        let junk: Vec<_> = (0..110).map(|n| format!("junk{n}")).collect();
        let mut all = names[..5].to_vec();
        if schema == Schema::Growing {
            all.extend(junk);
            others.extend(["new1", "new2"]);
        }
        let room = server.rooms.room("room").unwrap();
        for name in &all {
            for len in [100_000, 30_000, 8_000, 4_000, 2_100] {
                ann.set(name, &"a".repeat(len)).await;
                ann.sync().await;
                if room.get(name).is_some_and(|value| value.len() == len) {
                    break;
                }
            }
        }
        let full: usize =
            room.variables().iter().map(|(name, value)| name.len() + value.len()).sum();
        assert!((most * 3 / 4..most).contains(&full), "{full} bytes");
        let short = "b".repeat(own);
        for name in others {
            ben.set(name, &short).await;
            ben.sync().await;
            assert_eq!(room.get(name).as_deref(), Some(&*short), "{schema:?}: {name}");
        }
        // A room that has place accepts the longest value.
        let room = server.rooms.open("other").variables([("x", "")]).await.unwrap();
        room.set("x", "9".repeat(100_000)).unwrap();
    }
}

#[tokio::test]
async fn the_byte_budget_ignores_sets_and_refuses_joins() {
    let limits = unlimited_rate().state_bytes(150_000);
    let builder = RoomRegistry::builder().limits(limits).schema(Schema::Growing);
    let server = Server::with(builder).await;
    let long = "v".repeat(20_000);
    let mut ann = server.join("room", "ann", &[("end", "")]).await;
    for i in 0..20 {
        ann.set(&format!("v{i}"), &long).await;
        ann.sync().await;
        assert!(server.rooms.stats().state_bytes <= 150_000);
    }
    let variables = &["v", "w", "x", "y", "z"].map(|name| (name, &*long));
    let (code, _) = server.refusal("other", "ben", variables).await;
    assert_eq!(code, 4003);
    ann.set("end", "1").await;
    ann.close().await;
    server.members(0).await;
    // The empty room is evicted.
    let _ben = server.join("other", "ben", variables).await;
    assert_eq!(server.rooms.stats().rooms, 1);
}

#[tokio::test]
async fn over_the_rate_of_bytes_reading_pauses_and_nothing_is_lost() {
    // A set counts up to 44 bytes of text, and 64 more.
    let limits = unlimited_rate().bytes_per_second(20_000).byte_burst(2_000);
    let server = server(limits).await;
    let mut ann = server.join("room", "ann", &[("x", "")]).await;
    let mut ben = server.join("room", "ben", &[("x", "")]).await;
    ben.frame().await;
    let began = Instant::now();
    for i in 0..100 {
        ann.set("x", &i.to_string()).await;
    }
    let seen = ben.until("x", "99").await;
    assert_eq!(seen.len(), 100);
    // The pauses come from the server, not from the machine.
    assert!(began.elapsed().as_millis() >= 390, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_paused_reader_is_alive() {
    let limits = Limits::default()
        .bytes_per_second(100)
        .byte_burst(300)
        .takeover_probe(Duration::from_millis(200));
    let server = server(limits).await;
    let mut ann = server.join("room", "ann", &[("x", "")]).await;
    for i in 0..5 {
        ann.set("x", &i.to_string()).await;
    }
    let refused = server.refusal("room", "ann", &[("x", "")]).await;
    assert_eq!(refused.0, 4003, "who cannot be heard is no ghost; but it may be the same player");
    assert_eq!(server.rooms.stats().members, 1);
}

#[tokio::test]
async fn a_pause_for_the_rate_is_no_silence() {
    let limits = Limits::default()
        .bytes_per_second(1_000)
        .byte_burst(1_000)
        .idle_timeout(Duration::from_millis(200))
        .ping_interval(Duration::from_millis(50));
    let server = server(limits).await;
    let mut ann = server.join("room", "ann", &[("x", "")]).await;
    ann.set("x", &"v".repeat(2_000)).await;
    // The server does not read from her for about a second, several times her idle timeout.
    ann.sync().await;
    assert_eq!(server.rooms.stats().members, 1);
}

#[test]
fn limits_that_make_no_room_possible_are_an_error() {
    let build = |limits| RoomRegistry::builder().limits(limits).build().err();
    assert_eq!(build(Limits::default()), None);
    assert_eq!(build(Limits::default().rooms(0)), Some(BuildError::ZeroLimit("rooms")));
    let small = Limits::default().message_bytes(1000);
    assert_eq!(build(small), Some(BuildError::MessageTooSmall));
    assert_eq!(build(Limits::default().value_bytes(usize::MAX)), Some(BuildError::MessageTooSmall));
}

#[tokio::test]
async fn times_without_end_are_allowed() {
    let never = Duration::MAX;
    let limits = unlimited_rate()
        .handshake_timeout(never)
        .ping_interval(never)
        .idle_timeout(never)
        .takeover_probe(never)
        .close_timeout(never)
        .empty_room_ttl(never);
    let builder = RoomRegistry::builder().limits(limits).settle(Some(never)).tick(never);
    let server = Server::with(builder).await;
    let mut ann = server.join("room", "ann", &[("x", "0")]).await;
    let mut ben = server.join("room", "ben", &[("x", "0")]).await;
    assert_eq!(ben.frame().await.len(), 1);
    ann.set("x", "1").await;
    assert_eq!(ben.frame().await, [("x".into(), "1".into())], "the first write leaves at once");
    ben.set("x", "2").await;
    ann.sync().await;
    ann.close().await;
    ben.close().await;
    server.members(0).await;
}

/// A set for which there is no memory takes it from empty rooms.
#[tokio::test]
async fn a_set_without_memory_evicts_empty_rooms() {
    let server = server(unlimited_rate().state_bytes(400_000)).await;
    let value = "v".repeat(25_000);
    let mut count = 0;
    // The rooms fill the memory, until the first is evicted for the last.
    while server.rooms.stats().rooms == count {
        count += 1;
        let mut eve = server.join(&format!("left {count}"), "eve", &[("x", "0")]).await;
        eve.set("x", &value).await;
        eve.sync().await;
        eve.close().await;
        eventually("it is empty", || server.rooms.stats().members == 0).await;
    }
    let count = server.rooms.stats().rooms;
    let mut ann = server.join("game", "ann", &[("x", "0")]).await;
    let long = "w".repeat(60_000);
    // The server looks for such rooms ten times a second.
    let taken = async {
        let room = server.rooms.room("game").unwrap();
        while room.get("x").as_ref() != Some(&long) {
            ann.set("x", &long).await;
            ann.sync().await;
        }
    };
    within("it is taken", taken).await;
    let left = server.rooms.stats().rooms - 1;
    assert!(left < count, "{left} of {count} are left");
}
