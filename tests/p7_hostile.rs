//! P7: messages and rooms made to hurt have an outcome, in bounded time and memory.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::time::Instant;

use axum_cloud_variables::{Dialect, Limits, RoomRegistry};
use common::{Server, count, unlimited_rate};

/// Sends a frame as the first one, and as the second one after a handshake. Returns the codes of the
/// closes, if any.
async fn outcomes(server: &Server, text: &str) -> (Option<u16>, Option<u16>) {
    let mut first = server.connect().await;
    first.send(text).await;
    first.ping().await;
    let mut member = server.join("target", "mallory", &[("x", "")]).await;
    member.send(text).await;
    member.ping().await;
    (first.next_is_close().await, member.next_is_close().await)
}

#[tokio::test]
async fn messages_made_to_hurt_have_an_outcome() {
    let server = Server::start().await;
    let mut ann = server.join("game", "ann", &[("x", "")]).await;
    let mut ben = server.join("game", "ben", &[("x", "")]).await;
    ben.frame().await;
    let many =
        |n: usize, one: &dyn Fn(usize) -> String| (0..n).map(one).collect::<Vec<_>>().join(",");
    let handshake = |variables: &str| {
        format!(
            r#"{{"kind":"handshake","room":"{}","username":"eve","variables":{{{variables}}}}}"#,
            variables.len()
        )
    };
    let set = |value: &str, more: &str| {
        format!(r#"{{"kind":"set","variable":"x","value":{value}{more}}}"#)
    };
    let (refused, too_large) = ((Some(4000), Some(4000)), (Some(1009), Some(1009)));
    let taken = (Some(4000), None);
    for (what, text, expected) in [
        ("nesting", set("\"1\"", &format!(",\"y\":{}", "[".repeat(80_000))), refused),
        (
            "nesting that ends",
            set(
                "\"1\"",
                &format!(
                    ",\"y\":{}{}",
                    "{\"a\":".repeat(20_000),
                    "1".to_owned() + &"}".repeat(20_000)
                ),
            ),
            taken,
        ),
        (
            "one key many times",
            format!("{{{}}}", many(10_000, &|_| "\"kind\":\"set\"".into())),
            refused,
        ),
        (
            "other keys many times",
            set("\"1\"", &format!(",{}", many(10_000, &|_| "\"y\":1".into()))),
            taken,
        ),
        ("a long number", set(&"9".repeat(150_000), ""), refused),
        ("a large number", set("1e999999999", ""), refused),
        ("a long number unread", set("\"1\"", &format!(",\"y\":{}", "9".repeat(150_000))), taken),
        ("escapes", set(&format!("\"{}\"", "\\u0001".repeat(25_000)), ""), taken),
        (
            "control characters unescaped",
            set(&format!("\"{}\"", "\u{1}".repeat(100_000)), ""),
            refused,
        ),
        ("100,000 variables", handshake(&many(100_000, &|i| format!("\"{i}\":\"\""))), too_large),
        ("as many as fit", handshake(&many(13_000, &|i| format!("\"{i:x}\":\"\""))), refused),
        (
            "names that differ at their end",
            handshake(&many(120, &|i| format!("\"{}{i}\":\"\"", "a".repeat(1_015)))),
            (None, Some(4000)),
        ),
        (
            "one variable many times",
            handshake(&many(13_000, &|_| "\"x\":\"\"".into())),
            (None, Some(4000)),
        ),
    ] {
        let began = Instant::now();
        assert_eq!(outcomes(&server, &text).await, expected, "{what}");
        println!("{what}: {} bytes, two connections, {:.1?}", text.len(), began.elapsed());
        // Other members are not affected.
        ann.set("x", what).await;
        assert_eq!(ben.frame().await, [("x".to_owned(), what.to_owned())]);
    }
}

#[tokio::test]
async fn rooms_as_an_attack_stay_within_the_budget() {
    let budget = count(32, 256) * 1024 * 1024;
    let server =
        Server::with(RoomRegistry::builder().limits(unlimited_rate().state_bytes(budget))).await;
    let lobby = server.rooms.open("lobby").variables([("x", "0")]).await.unwrap();
    let value = "9".repeat(Limits::default().value_bytes);
    let within = |server: &Server| {
        let stats = server.rooms.stats();
        assert!(stats.state_bytes <= budget, "{stats:?}");
        stats.state_bytes
    };
    // This is as much as one client can put into one room.
    let mut hoarder = server.connect().await;
    hoarder.handshake_in(Dialect::Scratch, &"r".repeat(1000), "mallory", &[]).await;
    for variable in 0..=128 {
        hoarder.set(&format!("☁ {variable}"), &value).await;
        hoarder.sync().await;
    }
    assert!(within(&server) > 10 * value.len());
    assert!(within(&server) < 12 * value.len(), "a room has its limit");
    // Rooms are created as fast as possible, each with an id at the limit, and nobody stays.
    for i in 0..count(500, 5_000) {
        let id = format!("{i:0>1000}");
        server.join(&id, "mallory", &[("x", &value)]).await.close().await;
        within(&server);
    }
    // Clients that stay take the rest of the memory, and that of the empty rooms.
    let mut squatters = Vec::new();
    let code = loop {
        let mut squatter = server.connect().await;
        let id = format!("{:a>1000}", squatters.len());
        squatter.handshake(&id, "mallory", &[("x", &value)]).await;
        squatter.ping().await;
        if let Some(code) = squatter.next_is_close().await {
            break code;
        }
        within(&server);
        squatters.push(squatter);
    };
    assert_eq!(code, 4003);
    println!("{} rooms, {} of {budget} bytes", server.rooms.stats().rooms, within(&server));
    // The last quarter of the memory is for small rooms.
    assert!(squatters.len() > budget * 3 / 4 / value.len() * 8 / 10, "{}", squatters.len());
    let (code, reason) = server.refusal("another", "ann", &[("x", &value)]).await;
    assert_eq!(code, 4003, "{reason}");
    let mut small = server.join("small", "ann", &[("x", "")]).await;
    small.set("x", "1").await;
    small.sync().await;
    // The host's room still exists, and works.
    let mut ann = server.join("lobby", "ann", &[("x", "")]).await;
    assert_eq!(ann.frame().await, [("x".to_owned(), "0".to_owned())]);
    ann.set("x", "1").await;
    ann.sync().await;
    assert_eq!(lobby.get("x").as_deref(), Some("1"));
}
