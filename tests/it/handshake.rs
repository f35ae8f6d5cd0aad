//! Admission: names of variables, names of players, and the state that a room keeps.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use crate::common::{Client, Server, eventually, unlimited_rate, within};
use axum_cloud_variables::{
    Identity, Limits, RoomRegistry, Schema,
    policy::{Join, Policy, Rejection},
};
use futures_util::StreamExt;
use serde_json::json;
use tokio::sync::Notify;

const VARIABLES: &[(&str, &str)] = &[("x", "0"), ("Y", "0")];

#[tokio::test]
async fn names_of_variables_that_differ_are_4001() {
    let server = Server::start().await;
    let mut ann = server.join("room", "ann", VARIABLES).await;
    for names in
        [&["x"][..], &["x", "Y", "z"], &["x", "y"], &["x", "Y "], &[" x", "Y"], &["X", "Y"], &[]]
    {
        let variables: Vec<_> = names.iter().map(|name| (*name, "")).collect();
        let (code, reason) = server.refusal("room", "ben", &variables).await;
        assert_eq!(code, 4001, "{names:?}");
        let shown = match names {
            ["x"] => "(missing: Y)",
            ["x", "Y", "z"] => "(unknown: z)",
            ["x", "y"] => "(missing: Y; unknown: y)",
            [] => "(missing: Y, x)",
            _ => continue,
        };
        assert!(reason.ends_with(shown), "{names:?}: {reason}");
    }
    let mut ben = server.join("room", "ben", &[("Y", ""), ("x", "")]).await;
    assert_eq!(ben.frame().await.len(), 2, "any order");
    ann.set("x", "1").await;
    assert_eq!(ben.frame().await.len(), 1);
}

#[tokio::test]
async fn a_name_in_use_is_4002_and_freed_at_once() {
    let server = Server::start().await;
    for how in ["close", "cut", "error"] {
        let mut ann = server.join("room", "Ann", VARIABLES).await;
        for name in ["Ann", "ann", "ANN"] {
            let refused = ann.reading_until(server.refusal("room", name, VARIABLES)).await;
            assert_eq!(refused.0, 4002, "{name}");
        }
        match how {
            "close" => ann.close().await,
            "cut" => drop(ann),
            _ => {
                ann.send("no JSON").await;
                assert_eq!(ann.closed().await.0, 4000);
            }
        }
        server.members(0).await;
    }
    let _again = server.join("room", "ann", VARIABLES).await;
    let _elsewhere = server.join("other", "ann", VARIABLES).await;
}

#[tokio::test]
async fn a_ghost_loses_its_name_and_only_a_ghost() {
    let limits = Limits::default().takeover_probe(Duration::from_millis(200));
    let server = Server::with(RoomRegistry::builder().limits(limits)).await;
    // Nobody reads its socket, so it answers no ping.
    let mut ghost = server.connect().await;
    ghost.handshake("room", "ann", VARIABLES).await;
    server.members(1).await;
    let mut first = server.connect().await;
    first.handshake("room", "ann", VARIABLES).await;
    eventually("three sessions", || server.rooms.stats().sessions >= 2).await;
    let snapshot = first.frame().await;
    assert_eq!(snapshot.len(), 2, "the newcomer plays under the name");
    assert_eq!(server.rooms.stats().members, 1);
    assert_eq!(ghost.closed().await.0, 4000);

    let refused = first.reading_until(server.refusal("room", "ann", VARIABLES)).await;
    assert_eq!(refused.0, 4002, "who answers keeps the name");
}

/// The client resumes by the secret of its first handshake, and no rule for names applies.
#[tokio::test]
async fn a_client_gets_its_own_name_back_at_once() {
    let server = Server::start().await;
    let join = async |secret: &str| {
        let mut client = server.connect().await;
        let message = serde_json::json!({
            "kind": "handshake", "room": "room", "username": "ann", "variables": { "x": "0" },
            "resume": secret,
        });
        client.send(&message.to_string()).await;
        client
    };
    let mut ann = join("0123456789abcdef").await;
    ann.sync().await;
    // The previous connection is alive and answers.
    let mut again = join("0123456789abcdef").await;
    again.until("x", "0").await;
    assert_eq!(ann.closed().await.0, 4002);
    let mut other = join("fedcba9876543210").await;
    again.reading_until(async { assert_eq!(other.closed().await.0, 4002) }).await;
    // A text that can be guessed is no secret.
    let mut short = server.join("another", "ann", &[]).await;
    short.sync().await;
    let mut same = server.connect().await;
    let message =
        r#"{"kind":"handshake","room":"another","username":"ann","variables":{},"resume":"1"}"#;
    same.send(message).await;
    short.reading_until(async { assert_eq!(same.closed().await.0, 4002) }).await;
}

/// The client of a connection that broke in the middle of its join has come back. The old join must not take
/// the name from it.
#[tokio::test]
async fn a_join_that_was_overtaken_takes_no_name() {
    /// A policy that makes the first join wait until it is notified.
    #[derive(Default)]
    struct Slow {
        count: AtomicUsize,
        go: Notify,
    }
    impl Policy for Slow {
        async fn admit(&self, join: &Join<'_>) -> Result<Identity, Rejection> {
            if self.count.fetch_add(1, SeqCst) == 0 {
                self.go.notified().await;
            }
            Ok(join.identity().clone())
        }
    }
    let slow = Arc::new(Slow::default());
    let limits = unlimited_rate();
    let server = Server::with(RoomRegistry::builder().limits(limits).policy(slow.clone())).await;
    let handshake = json!({ "kind": "handshake", "room": "arena", "username": "ann",
        "variables": { "x": "0" }, "resume": "a secret of ann's" });
    let mut broken = server.connect().await;
    broken.send(&handshake.to_string()).await;
    eventually("the policy is asked", || slow.count.load(SeqCst) == 1).await;
    let mut back = server.connect().await;
    back.send(&handshake.to_string()).await;
    back.sync().await;
    slow.go.notify_one();
    assert_eq!(broken.closed().await, (4002, "you joined from another tab: go on there".into()));
    back.set("x", "1").await;
    back.sync().await;
    assert_eq!(server.rooms.room("arena").unwrap().get("x").as_deref(), Some("1"));
}

/// A stranger whose connection was made first may take the name of a ghost whose connection was made later.
#[tokio::test]
async fn a_ghost_loses_its_name_also_to_an_older_connection() {
    let limits = unlimited_rate().takeover_probe(Duration::from_millis(200));
    let server = Server::with(RoomRegistry::builder().limits(limits)).await;
    let mut stranger = server.connect().await;
    stranger.sync().await;
    let _ghost = server.join("arena", "ann", VARIABLES).await;
    stranger.handshake("arena", "ann", VARIABLES).await;
    assert_eq!(stranger.frame().await.len(), 2, "it is in the room");
}

#[tokio::test]
async fn a_holder_that_leaves_while_asked_makes_way_at_once() {
    let limits = Limits::default().takeover_probe(Duration::from_secs(3600));
    let server = Server::with(RoomRegistry::builder().limits(limits)).await;
    for cut in [true, false] {
        let mut ghost = server.connect().await;
        ghost.handshake("room", "ann", VARIABLES).await;
        server.members(1).await;
        let mut waiting = server.connect().await;
        waiting.handshake("room", "ann", VARIABLES).await;
        // The newcomer waits from now on.
        asked(&mut ghost).await;
        if cut {
            // The socket is dropped before the pong is sent.
            drop(ghost);
        } else {
            ghost.socket.close(None).await.unwrap();
        }
        assert_eq!(waiting.frame().await.len(), 2);
        server.members(1).await;
        waiting.close().await;
        server.members(0).await;
    }
}

/// Reads the socket until the server sends a ping. The pong is sent with the next read.
async fn asked(ghost: &mut Client) {
    let ping = async { while !matches!(ghost.socket.next().await, Some(Ok(m)) if m.is_ping()) {} };
    within("a ping", ping).await;
}

/// A player reloads a page while its first reload still waits for the name.
#[tokio::test]
async fn newcomers_wait_for_their_turn_and_one_that_has_gone_waits_no_more() {
    let limits = Limits::default().takeover_probe(Duration::from_secs(3600));
    let server = Server::with(RoomRegistry::builder().limits(limits)).await;
    for cut in [true, false] {
        let mut ghost = server.connect().await;
        ghost.handshake("room", "ann", VARIABLES).await;
        server.members(1).await;
        let mut first = server.connect().await;
        first.handshake("room", "ann", VARIABLES).await;
        asked(&mut ghost).await;
        let mut second = server.connect().await;
        second.handshake("room", "ann", VARIABLES).await;
        eventually("three sessions", || server.rooms.stats().sessions == 3).await;
        if cut {
            drop(first);
        } else {
            first.socket.close(None).await.unwrap();
            within("the end", async { while first.socket.next().await.is_some() {} }).await;
        }
        eventually("two sessions", || server.rooms.stats().sessions == 2).await;
        drop(ghost);
        assert_eq!(second.frame().await.len(), 2, "the second has the name");
        server.members(1).await;
        second.close().await;
        server.members(0).await;
    }
}

#[tokio::test]
async fn a_newcomer_is_told_to_try_again_if_its_turn_does_not_come() {
    let limits = Limits::default().takeover_probe(Duration::from_millis(300));
    let server = Server::with(RoomRegistry::builder().limits(limits)).await;
    // The ghost sends all the time, but answers no ping.
    let mut ghost = server.connect().await;
    ghost.handshake("room", "ann", VARIABLES).await;
    server.members(1).await;
    let talks = async {
        for n in 0.. {
            ghost.send(&crate::common::set("x", &n.to_string())).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let (first, second) =
        (server.refusal("room", "ann", VARIABLES), server.refusal("room", "ann", VARIABLES));
    let refused = tokio::select! {
        refused = async { tokio::join!(first, second) } => refused,
        () = talks => unreachable!(),
    };
    assert_eq!((refused.0.0, refused.1.0), (4003, 4003));
    assert_eq!(server.rooms.stats().members, 1);
}

/// Frames that were in flight when the connection was lost count as a sign of life only while they
/// arrive.
#[tokio::test]
async fn a_ghost_whose_last_frames_are_still_coming_gives_way() {
    let limits = Limits::default().takeover_probe(Duration::from_millis(400));
    let server = Server::with(RoomRegistry::builder().limits(limits)).await;
    let mut ghost = server.connect().await;
    ghost.handshake("room", "ann", VARIABLES).await;
    server.members(1).await;
    let mut ann = server.connect().await;
    ann.handshake("room", "ann", VARIABLES).await;
    for n in 1..=10 {
        ghost.send(&crate::common::set("x", &n.to_string())).await;
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    let frame = ann.frame().await;
    assert!(frame.contains(&("x".into(), "10".into())), "{frame:?}");
    assert_eq!(server.rooms.stats().members, 1);
}

/// The newcomer wrote before it left, and its writes count, although it cannot be notified.
#[tokio::test]
async fn a_set_of_a_newcomer_that_left_arrives() {
    let limits = Limits::default().takeover_probe(Duration::from_millis(200));
    let server = Server::with(RoomRegistry::builder().limits(limits)).await;
    let mut bob = server.join("room", "bob", VARIABLES).await;
    let mut ghost = server.connect().await;
    ghost.handshake("room", "ann", VARIABLES).await;
    server.members(2).await;
    let mut ann = server.connect().await;
    ann.handshake("room", "ann", VARIABLES).await;
    ann.set("x", "last").await;
    ann.close().await;
    bob.until("x", "last").await;
}

#[tokio::test]
async fn an_emptied_room_keeps_its_values_for_a_while() {
    let limits = unlimited_rate().empty_room_ttl(Duration::from_millis(300));
    let server = Server::with(RoomRegistry::builder().limits(limits)).await;
    let mut ann = server.join("room", "ann", VARIABLES).await;
    ann.set("x", "kept").await;
    ann.close().await;
    server.members(0).await;
    let mut ann = server.join("room", "ann", VARIABLES).await;
    assert!(ann.frame().await.contains(&("x".into(), "kept".into())));
    ann.close().await;
    eventually("no room", || server.rooms.stats().rooms == 0).await;
    assert_eq!(server.rooms.stats().state_bytes, 0);
}

#[tokio::test]
async fn the_longest_empty_room_goes_first() {
    let server = Server::with(RoomRegistry::builder().limits(unlimited_rate().rooms(2))).await;
    for room in ["old", "new"] {
        let mut ann = server.join(room, "ann", VARIABLES).await;
        ann.set("x", room).await;
        ann.close().await;
        server.members(0).await;
    }
    let _third = server.join("third", "ann", VARIABLES).await;
    let mut new = server.join("new", "ben", VARIABLES).await;
    assert!(new.frame().await.contains(&("x".into(), "new".into())), "'new' was kept");
    assert_eq!(server.refusal("old", "cem", VARIABLES).await.0, 4003, "both have members");
}

#[tokio::test]
async fn a_growing_room_takes_new_names() {
    let limits = unlimited_rate().variables_per_room(4);
    let builder = RoomRegistry::builder().limits(limits).schema(Schema::Growing);
    let server = Server::with(builder).await;
    let mut ann = server.join("room", "ann", &[("p_ann", "1"), ("star", "a")]).await;
    let mut ben = server.join("room", "ben", &[("p_ben", "2"), ("star", "b")]).await;
    let mut snapshot = ben.frame().await;
    snapshot.sort();
    assert_eq!(snapshot, [("p_ann".into(), "1".into()), ("star".into(), "a".into())]);
    assert_eq!(ann.frame().await, [("p_ben".into(), "2".into())]);
    ben.set("new", "3").await;
    assert_eq!(ann.frame().await, [("new".into(), "3".into())]);
    ben.set("too many", "4").await;
    ben.set("star", "c").await;
    assert_eq!(ann.frame().await, [("star".into(), "c".into())], "ignored, and nobody is closed");
    assert_eq!(server.refusal("room", "cem", &[("p_cem", "")]).await.0, 4000);
    let mut dan = server.join("room", "dan", &[]).await;
    assert_eq!(dan.frame().await.len(), 4);
}

#[tokio::test]
async fn dropping_registry_and_server_ends_every_task() {
    let rooms = RoomRegistry::new();
    let app: axum::Router = rooms.mount("/cloud").into();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/cloud", listener.local_addr().unwrap());
    let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let metrics = tokio::runtime::Handle::current().metrics();
    let mut ann = crate::common::Client::join(&url, "room", "ann", VARIABLES).await;
    ann.set("x", "1").await;
    ann.close().await;
    server.abort();
    eventually("no member", || rooms.stats().members == 0).await;
    drop(rooms);
    eventually("no task", || metrics.num_alive_tasks() == 0).await;
}

#[tokio::test]
async fn a_close_is_answered_and_the_connection_ends() {
    let server = Server::start().await;
    let mut ann = server.join("room", "ann", VARIABLES).await;
    ann.socket.close(None).await.unwrap();
    while let Some(message) = within("the end", ann.socket.next()).await {
        message.unwrap();
    }
    eventually("no session", || server.rooms.stats().sessions == 0).await;
}

/// Returns the lines of the next text as they came.
async fn lines(client: &mut Client) -> Vec<String> {
    client.text().await.split('\n').map(str::to_owned).collect()
}

#[tokio::test]
async fn a_client_that_asks_is_told_of_its_join_and_its_sets() {
    let server = Server::start().await;
    let handshake = |name: &str| {
        let variables = serde_json::json!({ "x": "0" });
        serde_json::json!({
            "kind": "handshake", "room": "room", "username": name, "variables": variables,
            "acknowledge": true,
        })
        .to_string()
    };
    let mut ann = server.connect().await;
    ann.send(&handshake("ann")).await;
    assert_eq!(lines(&mut ann).await, [r#"{"kind":"joining"}"#]);
    assert_eq!(lines(&mut ann).await, [r#"{"kind":"joined","created":true}"#]);
    for value in ["1", "2"] {
        ann.set("x", value).await;
    }
    assert_eq!(lines(&mut ann).await, [r#"{"kind":"taken","sets":2}"#]);
    let mut ben = server.connect().await;
    ben.send(&handshake("ben")).await;
    assert_eq!(lines(&mut ben).await, [r#"{"kind":"joining"}"#]);
    assert_eq!(lines(&mut ben).await, [r#"{"kind":"set","variable":"x","value":"2"}"#]);
    assert_eq!(lines(&mut ben).await, [r#"{"kind":"joined","created":false}"#]);
    // Other clients receive no acknowledgments: each of their frames is checked to consist of sets.
    let mut cem = server.join("room", "cem", &[("x", "0")]).await;
    cem.set("x", "3").await;
    cem.sync().await;
    assert_eq!(cem.next_frame_or_none().await.map(|frame| frame.len()), Some(1));
    assert_eq!(lines(&mut ann).await, [r#"{"kind":"set","variable":"x","value":"3"}"#]);
    // The acknowledgment comes before anything that was ordered later. Otherwise she could not know which
    // value is the latest.
    let room = server.rooms.room("room").unwrap();
    for n in 3..20 {
        ann.set("x", "mine").await;
        eventually("her set", || room.get("x").as_deref() == Some("mine")).await;
        room.set("x", n).unwrap();
        assert_eq!(lines(&mut ann).await, [format!(r#"{{"kind":"taken","sets":{n}}}"#)]);
        let set = format!(r#"{{"kind":"set","variable":"x","value":"{n}"}}"#);
        assert_eq!(lines(&mut ann).await, [set]);
    }
}

/// The room does not know the sets that wait for the rate.
#[tokio::test]
async fn a_set_that_waits_for_the_rate_is_not_taken_yet() {
    let limits = unlimited_rate().messages_per_second(2).message_burst(1);
    let server = Server::with(RoomRegistry::builder().limits(limits)).await;
    let mut ann = server.connect().await;
    ann.send(
        r#"{"kind":"handshake","room":"room","username":"ann","variables":{"x":"0"},"acknowledge":true}"#,
    )
    .await;
    for value in ["1", "2", "3"] {
        ann.set("x", value).await;
    }
    let mut told = Vec::new();
    while told.last().is_none_or(|line| line != r#"{"kind":"taken","sets":3}"#) {
        told.extend(lines(&mut ann).await);
    }
    assert_eq!(server.rooms.room("room").unwrap().get("x").as_deref(), Some("3"));
    assert!(!told.iter().any(|line| line.contains(r#""sets":2"#)), "{told:?}");
}
