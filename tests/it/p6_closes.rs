//! P6: each close carries a code of the specification and a reason, whatever a client sends before or
//! after its handshake. The room and its other members are not affected.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use crate::common::{Client, Server, eventually, serve, unlimited_rate, within};
use axum::{Router, extract::Request, middleware};
use axum_cloud_variables::{
    CloseCode, Dialect, DuplicateNames, Identity, Limits, RoomRegistry, UsernameRules,
    events::RoomEvent,
};
use futures_util::{SinkExt, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::{
    MaybeTlsStream,
    tungstenite::{
        Message,
        protocol::frame::{
            Frame,
            coding::{Data, OpCode},
        },
    },
};

const VARIABLES: &[(&str, &str)] = &[("x", "0")];

/// Returns messages that are malformed at any time.
fn malformed() -> Vec<(Message, u16)> {
    let texts = [
        "",
        "hello",
        "[]",
        "5",
        "null",
        "true",
        "\"set\"",
        "{",
        "{\"kind\":\"set\"",
        "{}",
        r#"{"kind":null}"#,
        r#"{"kind":1}"#,
        r#"{"kind":["set"]}"#,
        r#"{"kind":"chat"}"#,
        r#"{"kind":"SET","variable":"x","value":"1"}"#,
        r#"{"method":"set","name":"x","value":"1"}"#,
        r#"["set"]"#,
        "{\"kind\":\"set\",\"variable\":\"x\",\"value\":\"1\"}\n{\"kind\":\"set\",\"variable\":\"x\",\"value\":\"2\"}",
        "{\"kind\":\"set\",\"variable\":\"x\",\"value\":\"1\"} x",
        r#"{"kind":"set","value":"1"}"#,
        r#"{"kind":"set","variable":"x"}"#,
        r#"{"kind":"set","variable":1,"value":"1"}"#,
        r#"{"kind":"set","variable":"x","value":1}"#,
        r#"{"kind":"set","variable":"x","value":null}"#,
        r#"{"kind":"set","variable":"x","value":["1"]}"#,
        r#"{"kind":"handshake"}"#,
        r#"{"kind":"handshake","room":1,"username":"z","variables":{}}"#,
        r#"{"kind":"handshake","room":"room","username":null,"variables":{"x":""}}"#,
        r#"{"kind":"handshake","room":"room","username":"z"}"#,
        r#"{"kind":"handshake","room":"room","username":"z","variables":["x"]}"#,
        r#"{"kind":"handshake","room":"room","username":"z","variables":{"x":0}}"#,
    ];
    let too_large = format!(r#"{{"kind":"set","variable":"x","value":"{}"}}"#, "v".repeat(170_000));
    let mut cases: Vec<_> = texts.map(|text| (Message::text(text), 4000)).into();
    cases.push((Message::binary(&b"{}"[..]), 1003));
    cases.push((Message::text(too_large), 1009));
    cases.push((Message::Frame(data(OpCode::Data(Data::Text), b"{\"\xff\":1}", true)), 1007));
    // A continuation without a beginning, and an opcode that does not exist.
    cases.push((Message::Frame(data(OpCode::Data(Data::Continue), b"{}", true)), 1002));
    cases.push((Message::Frame(data(OpCode::Data(Data::Reserved(5)), b"{}", true)), 1002));
    cases
}

fn data(opcode: OpCode, payload: &'static [u8], last: bool) -> Frame {
    Frame::message(payload, opcode, last)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_malformed_message_has_its_code_before_and_after_the_handshake() {
    let server = Server::start().await;
    let mut ann = server.join("room", "ann", VARIABLES).await;
    let mut ben = server.join("room", "ben", VARIABLES).await;
    ben.frame().await;
    for (i, (message, code)) in malformed().into_iter().enumerate() {
        let what = format!("{message:.100}");
        let mut stranger = server.connect().await;
        _ = stranger.socket.send(message.clone()).await;
        assert_reason(stranger.closed().await, code, &what);

        let mut member = server.join("room", "cem", VARIABLES).await;
        member.frame().await;
        _ = member.socket.send(message).await;
        assert_reason(member.closed().await, code, &what);
        // The name is free at once, and nobody else is affected.
        let value = i.to_string();
        ann.set("x", &value).await;
        assert_eq!(ben.frame().await, [("x".to_owned(), value)], "{what}");
        assert_eq!(server.rooms.stats().members, 2, "{what}");
    }
}

fn assert_reason((code, reason): (u16, String), expected: u16, what: &str) {
    assert_eq!(code, expected, "{reason}: {what}");
    assert!(reason.len() > 10, "a reason for people: {reason:?}: {what}");
}

#[tokio::test]
async fn a_message_is_too_large_in_fragments_too() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let part = vec![b' '; 50_000];
    for i in 0..4 {
        let opcode = if i == 0 { Data::Text } else { Data::Continue };
        let frame = Frame::message(part.clone(), OpCode::Data(opcode), false);
        _ = client.socket.send(Message::Frame(frame)).await;
    }
    assert_reason(client.closed().await, 1009, "fragments");
}

#[tokio::test]
async fn fragments_and_a_newline_at_the_end_are_allowed() {
    let server = Server::start().await;
    let mut ann = server.join("room", "ann", VARIABLES).await;
    let mut ben = server.join("room", "ben", VARIABLES).await;
    ben.frame().await;
    let text = br#"{"kind":"set","variable":"x","value":"1"}"#;
    let (first, second) = text.split_at(20);
    let fragments = [(Data::Text, first, false), (Data::Continue, second, true)];
    for (opcode, payload, last) in fragments {
        let frame = Frame::message(payload, OpCode::Data(opcode), last);
        ann.socket.send(Message::Frame(frame)).await.unwrap();
    }
    assert_eq!(ben.frame().await, [("x".into(), "1".into())]);
    ann.send("{\"kind\":\"set\",\"variable\":\"x\",\"value\":\"2\",\"more\":{}}\n").await;
    assert_eq!(ben.frame().await, [("x".into(), "2".into())]);
}

#[tokio::test]
async fn protocol_violations_are_4000() {
    let server = Server::start().await;
    let mut early = server.connect().await;
    early.set("x", "1").await;
    assert_reason(early.closed().await, 4000, "a set before the handshake");

    let mut twice = server.join("room", "ann", VARIABLES).await;
    twice.handshake("room", "ann", VARIABLES).await;
    assert_reason(twice.closed().await, 4000, "a second handshake");

    let mut unknown = server.join("room", "ann", VARIABLES).await;
    unknown.frame().await;
    unknown.set("y", "1").await;
    assert_reason(unknown.closed().await, 4000, "an unknown variable");

    let long = "r".repeat(1001);
    for room in ["", &long] {
        assert_reason(server.refusal(room, "ann", &[]).await, 4000, "a room's id");
    }
}

#[tokio::test]
async fn no_handshake_in_time_is_4000() {
    let limits = Limits::default().handshake_timeout(Duration::from_millis(50));
    let server = Server::with(RoomRegistry::builder().limits(limits)).await;
    assert_reason(server.connect().await.closed().await, 4000, "silence");
    eventually("no session", || server.rooms.stats().sessions == 0).await;
}

#[tokio::test]
async fn no_sign_of_life_is_4000() {
    let limits = Limits::default()
        .idle_timeout(Duration::from_millis(200))
        .ping_interval(Duration::from_millis(50));
    let server = Server::with(RoomRegistry::builder().limits(limits)).await;
    let mut silent = server.connect().await;
    silent.handshake("room", "ann", VARIABLES).await;
    server.members(1).await;
    // Nothing reads its socket, so no ping is answered.
    server.members(0).await;
    assert_reason(silent.closed().await, 4000, "silence");
}

#[tokio::test]
async fn usernames_are_4002_with_the_rule() {
    let rules = UsernameRules::default().check(|name| match name {
        "zed" => Err("zed is on holiday, please choose another name".into()),
        _ => Ok(()),
    });
    let server = Server::with(RoomRegistry::builder().usernames(rules)).await;
    for name in ["", "a b", "abcdefghijklmnopqrstu", "admin", "é", "zed"] {
        assert_reason(server.refusal("room", name, &[]).await, 4002, name);
    }
    let (_, reason) = server.refusal("room", "zed", &[]).await;
    assert_eq!(reason, "zed is on holiday, please choose another name");
}

#[tokio::test]
async fn full_rooms_servers_and_registries_are_4003() {
    let limits = || unlimited_rate().members_per_room(2);
    let server = Server::with(RoomRegistry::builder().limits(limits().rooms(1).sessions(3))).await;
    let _ann = server.join("room", "ann", VARIABLES).await;
    assert_reason(server.refusal("other", "ben", VARIABLES).await, 4003, "no more rooms");
    let _ben = server.join("room", "ben", VARIABLES).await;
    assert_reason(server.refusal("room", "cem", VARIABLES).await, 4003, "a full room");
    let _idle = server.connect().await;
    eventually("three sessions", || server.rooms.stats().sessions == 3).await;
    assert_reason(server.connect().await.closed().await, 4003, "too many sessions");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_150_clients_128_play_and_22_are_told_4003() {
    let server = Server::start().await;
    let joins = (0..150).map(|i| {
        let url = server.url();
        tokio::spawn(async move {
            let mut client = Client::connect(&url).await;
            client.handshake("room", &format!("player{i}"), VARIABLES).await;
            client
        })
    });
    let (mut playing, mut refused) = (Vec::new(), 0);
    for join in joins.collect::<Vec<_>>() {
        let mut client = join.await.unwrap();
        client.socket.send(Message::Ping(vec![].into())).await.unwrap();
        match client.next_is_close().await {
            Some(4003) => refused += 1,
            Some(code) => panic!("{code}"),
            None => playing.push(client),
        }
    }
    assert_eq!((playing.len(), refused, server.rooms.stats().members), (128, 22, 128));
}

#[tokio::test]
async fn the_checks_of_a_handshake_have_an_order() {
    let limits = unlimited_rate().members_per_room(1).variables_per_room(2);
    let server = Server::with(RoomRegistry::builder().limits(limits)).await;
    let mut ann = server.join("room", "ann", VARIABLES).await;
    let many = &[("a", ""), ("b", ""), ("c", "")];
    assert_eq!(server.refusal("", "no good", many).await.0, 4000);
    assert_eq!(server.refusal("room", "no good", many).await.0, 4002);
    assert_eq!(server.refusal("room", "ann", many).await.0, 4000);
    assert_eq!(server.refusal("room", "ann", &[("y", "")]).await.0, 4001);
    let in_use = ann.reading_until(server.refusal("room", "ann", VARIABLES)).await;
    assert_eq!(in_use.0, 4002);
    assert_eq!(server.refusal("room", "ben", VARIABLES).await.0, 4003);
}

#[tokio::test]
async fn shutdown_is_1001_for_members_and_strangers() {
    let server = Server::start().await;
    let mut member = server.join("room", "ann", VARIABLES).await;
    let mut stranger = server.connect().await;
    eventually("two sessions", || server.rooms.stats().sessions == 2).await;
    let rooms = server.rooms.clone();
    let shutdown = tokio::spawn(async move { rooms.shutdown(Duration::from_secs(10)).await });
    assert_reason(member.closed().await, 1001, "a member");
    assert_reason(stranger.closed().await, 1001, "a stranger");
    assert!(shutdown.await.unwrap().is_complete(), "all sessions are gone");
    assert!(server.rooms.is_draining());
    assert_eq!(server.rooms.stats().sessions, 0);
    let mut late = server.connect().await;
    assert!([1001, 4003].contains(&late.closed().await.0));
}

#[tokio::test]
async fn an_identity_takes_its_name_over_from_its_other_tab() {
    let rooms = RoomRegistry::builder().build().unwrap();
    let auth = middleware::from_fn(async |mut request: Request, next: middleware::Next| {
        let account = request.uri().query().unwrap_or_default().to_owned();
        request.extensions_mut().insert(Identity::new().with_id(account));
        next.run(request).await
    });
    let addr = serve(Router::new().merge(rooms.mount("/cloud")).layer(auth)).await;
    let url = |account: &str| format!("ws://{addr}/cloud?{account}");
    let mut old = Client::join(&url("7"), "room", "ann", VARIABLES).await;
    let mut other = Client::connect(&url("8")).await;
    other.handshake("room", "ann", VARIABLES).await;
    // The holder answers the ping, which is sent because its name is claimed.
    let refused = old.reading_until(other.closed()).await;
    assert_reason(refused, 4002, "another account");
    let mut new = Client::join(&url("7"), "room", "ann", VARIABLES).await;
    let told = old.closed().await;
    assert_eq!(told, (4002, "you joined from another tab: go on there".into()));
    assert_eq!(new.frame().await.len(), 1);
    assert_eq!(rooms.stats().members, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_replaced_while_writing_is_notified() {
    let builder = RoomRegistry::builder()
        .limits(unlimited_rate())
        .duplicate_names(Dialect::Spec, DuplicateNames::Replace);
    let server = Server::with(builder).await;
    for _ in 0..20 {
        let mut old = server.join("room", "ann", VARIABLES).await;
        let writing = tokio::spawn(async move {
            loop {
                if let Some(close) = old.close_if_there().await {
                    return close;
                }
                old.set("x", "1").await;
            }
        });
        let new = server.join("room", "ann", VARIABLES).await;
        assert_reason(within("a close", writing).await.unwrap(), 4002, "a busy writer");
        new.close().await;
        server.members(0).await;
    }
}

#[tokio::test]
async fn a_check_that_panics_is_1011_for_that_session_alone() {
    let rules = UsernameRules::default().check(|name| match name {
        "boom" => panic!("a fault of the host's"),
        _ => Ok(()),
    });
    let server = Server::with(RoomRegistry::builder().usernames(rules)).await;
    let _ann = server.join("room", "ann", VARIABLES).await;
    assert_reason(server.refusal("room", "boom", VARIABLES).await, 1011, "a panic");
    let _ben = server.join("room", "ben", VARIABLES).await;
    server.members(2).await;
}

#[tokio::test]
async fn duplicate_names_are_the_hosts_choice() {
    let build = |rule| Server::with(RoomRegistry::builder().duplicate_names(Dialect::Spec, rule));
    let server = build(DuplicateNames::Allow).await;
    let _first = server.join("room", "ann", VARIABLES).await;
    let _second = server.join("room", "ann", VARIABLES).await;
    server.members(2).await;

    let server = build(DuplicateNames::Replace).await;
    let mut first = server.join("room", "ann", VARIABLES).await;
    let _second = server.join("room", "ANN", VARIABLES).await;
    assert_reason(first.closed().await, 4002, "replaced");
    server.members(1).await;
}

#[tokio::test]
async fn junk_instead_of_frames_is_1002() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let MaybeTlsStream::Plain(stream) = client.socket.get_mut() else { panic!("TLS") };
    // Reserved bits set, unmasked.
    stream.write_all(&[0xFF; 64]).await.unwrap();
    assert_reason(client.closed().await, 1002, "junk");
}

/// A deploy loses no input that was in flight.
#[tokio::test]
async fn a_set_in_flight_when_the_server_shuts_down_is_taken() {
    let server = Server::start().await;
    let mut ann = server.join("room", "ann", VARIABLES).await;
    let room = server.rooms.room("room").unwrap();
    let mut events = room.events();
    let rooms = server.rooms.clone();
    let shutdown = tokio::spawn(async move { rooms.shutdown(crate::common::PATIENCE).await });
    // The close is on its way to her when she writes.
    eventually("draining", || server.rooms.is_draining()).await;
    ann.set("x", "late").await;
    within("the write", async {
        while let Some(event) = events.next().await {
            if matches!(event, RoomEvent::Wrote { value, .. } if &*value == "late") {
                return;
            }
        }
        panic!("the room is gone");
    })
    .await;
    assert_eq!(ann.closed().await.0, 1001);
    while let Some(Ok(_)) = ann.socket.next().await {}
    assert!(shutdown.await.unwrap().is_complete());
}

/// Members receive the values that the host set before it removed them, in every way to do so.
#[tokio::test(flavor = "multi_thread")]
async fn the_hosts_last_word_comes_before_the_close() {
    for how in ["kick", "ban", "close", "remove", "shutdown"] {
        let rooms = RoomRegistry::builder().tick(Duration::from_secs(5));
        let server = Server::with(rooms).await;
        let mut ann = server.join("room", "ann", VARIABLES).await;
        let mut bob = server.join("room", "bob", VARIABLES).await;
        let room = server.rooms.room("room").unwrap();
        room.set("x", "at once").unwrap();
        room.set("x", "with the next tick").unwrap();
        for member in room.members() {
            match how {
                "kick" => room.kick(member.id, CloseCode::Kicked, "enough").await.unwrap(),
                "ban" => room.ban(member.id, Duration::from_secs(9)).await.unwrap(),
                _ => {}
            }
        }
        match how {
            "close" => room.close().await.unwrap(),
            "remove" => room.remove().await.unwrap(),
            "shutdown" => {
                let rooms = server.rooms.clone();
                tokio::spawn(async move { rooms.shutdown(Duration::from_secs(5)).await });
            }
            _ => {}
        }
        for member in [&mut ann, &mut bob] {
            within(how, member.until("x", "with the next tick")).await;
            let code = within(how, member.closed()).await.0;
            let expected = match how {
                "kick" => 4004,
                "ban" => 4002,
                _ => 1001,
            };
            assert_eq!(code, expected, "{how}");
        }
    }
}

/// A client that reads slowly receives the reason of its close, so that it does not come back as if its
/// line had failed.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_hears_its_close() {
    let mut limits = unlimited_rate();
    limits.close_timeout = Duration::from_millis(300);
    let server = Server::with(RoomRegistry::builder().limits(limits).tick(Duration::ZERO)).await;
    let mut slow = server.join("room", "slow", VARIABLES).await;
    let room = server.rooms.room("room").unwrap();
    // This is more than the kernel buffers for it.
    for n in 0..200 {
        room.set("x", format!("{n}{}", "v".repeat(100_000 - 3))).unwrap();
    }
    room.set("x", "last").unwrap();
    let member = room.members()[0].id;
    room.kick(member, CloseCode::Kicked, "enough").await.unwrap();
    // This is longer than a client that reads has time to answer.
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert_eq!(within("its close", slow.closed()).await, (4004, "enough".into()));
}
