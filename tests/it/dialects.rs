//! Clients of all dialects in one room, each answered in its own fields; the oddities that each may send,
//! and the messages that are refused.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::{Duration, Instant};

use crate::common::{Client, Server, serve, unlimited_rate};
use axum::{Router, http::StatusCode};
use axum_cloud_variables::{
    Dialect, DuplicateNames, Limits, RoomRegistry, Schema, ScratchFraming, ScratchValues,
};
use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

const X: &str = "☁ x";
const END: &str = "☁ end";
const VARIABLES: &[(&str, &str)] = &[(X, "0"), (END, "0")];

use Dialect::{Forkphorus2020, Scratch, Spec};

/// Joins a client of each dialect to a room that the first creates; Scratch's joins twice, under one
/// name.
async fn company(server: &Server) -> Vec<Client> {
    let mut clients = Vec::new();
    for (dialect, name) in
        [(Spec, "ann"), (Forkphorus2020, "ben"), (Scratch, "cat"), (Scratch, "cat")]
    {
        let mut client = server.join_in(dialect, "60917032", name, VARIABLES).await;
        if !clients.is_empty() {
            all_values(&mut client).await;
        }
        clients.push(client);
    }
    clients
}

/// Reads until both variables have come.
async fn all_values(client: &mut Client) {
    let mut seen = client.frame().await;
    while seen.len() < 2 {
        seen.extend(client.frame().await);
    }
}

#[tokio::test]
async fn all_dialects_share_a_room() {
    let server = Server::start().await;
    let mut clients = company(&server).await;
    for writer in 0..clients.len() {
        let value = format!("{writer}");
        clients[writer].set(X, &value).await;
        clients[writer].sync().await;
        for (reader, client) in clients.iter_mut().enumerate() {
            if reader != writer {
                // The fields of the frame are checked when it is read.
                assert_eq!(client.frame().await, [(X.into(), value.clone())]);
            }
        }
    }
    for client in &clients {
        assert_eq!(client.view[X], "3");
    }
    for (dialect, name) in [(Spec, "eve"), (Forkphorus2020, "fay"), (Scratch, "gil")] {
        let mut late = server.join_in(dialect, "60917032", name, VARIABLES).await;
        all_values(&mut late).await;
        assert_eq!((&*late.view[X], &*late.view[END]), ("3", "0"));
    }
}

/// Returns the values that others receive from a Scratch client's messages, up to a set of `END`.
async fn seen_of(messages: &[&str]) -> (Vec<String>, Client) {
    let server = Server::start().await;
    let mut ann = server.join("1", "ann", VARIABLES).await;
    let mut cat = server.join_in(Scratch, "1", "cat", &[]).await;
    for message in messages {
        cat.send(message).await;
    }
    cat.set(END, "1").await;
    let seen = ann.until(END, "1").await;
    cat.sync().await;
    (seen.into_iter().filter(|(name, _)| name == X).map(|(_, value)| value).collect(), cat)
}

#[tokio::test]
async fn odd_messages_of_scratch_clients_are_accepted() {
    let (seen, _) = seen_of(&[
        "{\"method\":\"set\",\"name\":\"☁ x\",\"value\":\"1\"}\n",
        r#"{"method":"set","user":"else","project_id":"2","name":"\u2601 x","value":2}"#,
        r#"{"method":"create","name":"☁ x","value":-0.0}"#,
        r#"{"method":"set","name":"☁ x","value":1e21}"#,
        r#"{"method":"set","name":"☁ x","value":0.1}"#,
        r#"{"method":"set","name":"☁ x","value":"007"}"#,
        r#"{"method":"set","name":"☁ x","value":""}"#,
        r#"{"method":"rename","name":"☁ x","new_name":"☁ z"}"#,
        r#"{"method":"delete","name":"☁ x"}"#,
        "{\"method\":\"set\",\"name\":\"☁ x\",\"value\":\"8\"}\n{\"method\":\"set\",\"name\":\"☁ x\",\"value\":\"9\"}\n",
    ])
    .await;
    assert_eq!(seen, ["1", "2", "0", "1e+21", "0.1", "007", "", "8", "9"]);
    let (seen, _) = seen_of(&[
        "{\n  \"method\": \"set\",\n  \"name\": \"☁ x\",\n  \"value\": \"1\"\n}",
        "\n {\"method\":\"set\",\"name\":\"☁ x\",\"value\":\"2\"} \r\n\n",
        "{\"method\":\"set\",\n\"name\":\"☁ x\",\"value\":\"3\"}\n{\"method\":\"set\",\"name\":\"☁ x\",\n\"value\":\"4\"}",
        r#"{"method":"get","method":"set","name":"y","name":"☁ x","value":"4","value":"5"}"#,
        // This one concerns no variable.
        r#"{"method":"set","name":7,"value":"6"}"#,
        r#"{"method":"set","value":"6"}"#,
    ])
    .await;
    assert_eq!(seen, ["1", "2", "3", "4", "5"]);
}

#[tokio::test]
async fn binary_frames_and_deletions_are_ignored_at_any_time() {
    let server = Server::start().await;
    let mut cat = server.connect().await;
    cat.send(r#"{"method":"delete","name":"☁ x"}"#).await;
    cat.send("{\"method\":\"rename\",\"name\":\"☁ x\",\"new_name\":\"☁ y\"}\n{\"method\":\"handshake\",\"project_id\":1,\"user\":\"cat\"}").await;
    cat.socket.send(Message::binary(b"{}".to_vec())).await.unwrap();
    cat.send(r#"{"method":"set","name":"without a cloud","value":"1"}"#).await;
    cat.sync().await;
    let room = server.rooms.room("1").unwrap();
    assert_eq!(room.variables(), [("without a cloud".into(), "1".into())]);
}

#[tokio::test]
async fn a_value_that_is_not_allowed_heals_its_sender() {
    for value in ["true", "null", "[]", "{}", "1e400", "\"hello\"", "\"1e3\"", "\" 1\""] {
        let message = format!(r#"{{"method":"set","name":"☁ x","value":{value}}}"#);
        let (seen, mut cat) = seen_of(&[&message]).await;
        assert_eq!(seen, [""; 0], "{value}");
        cat.view.insert(X.into(), value.into());
        while cat.view[X] == value {
            cat.frame().await;
        }
        assert_eq!(cat.view[X], "0", "{value}");
    }
    let (seen, _) = seen_of(&[r#"{"method":"set","name":"☁ x"}"#]).await;
    assert_eq!(seen, [""; 0]);
}

#[tokio::test]
async fn a_host_may_allow_any_string() {
    let builder = RoomRegistry::builder().scratch_values(ScratchValues::Strings);
    let server = Server::with(builder).await;
    let mut ann = server.join("1", "ann", VARIABLES).await;
    let mut cat = server.join_in(Scratch, "1", "cat", &[]).await;
    cat.set(X, "hello").await;
    assert_eq!(ann.frame().await, [(X.into(), "hello".into())]);
}

#[tokio::test]
async fn sets_may_come_in_one_frame_with_the_handshake() {
    let server = Server::start().await;
    let mut ann = server.join("1", "ann", VARIABLES).await;
    let mut cat = server.connect().await;
    cat.send(
        "{\"method\":\"handshake\",\"project_id\":1,\"user\":\"cat\"}\n\
         {\"method\":\"set\",\"name\":\"☁ x\",\"value\":\"1\"}\n\
         {\"method\":\"set\",\"name\":\"☁ end\",\"value\":\"1\"}\n",
    )
    .await;
    let seen = ann.until(END, "1").await;
    assert_eq!(seen, [(X.into(), "1".into()), (END.into(), "1".into())]);
}

#[tokio::test]
async fn a_message_that_the_dialect_does_not_have_closes_the_connection() {
    let scratch = r#"{"method":"handshake","project_id":"1","user":"cat"}"#;
    let fork = r#"{"kind":"handshake","id":"1","username":"ben","variables":{"☁ x":"0"}}"#;
    for messages in [
        &[r#"{"method":"set","name":"☁ x","value":"1"}"#][..],
        &[scratch, scratch],
        &[scratch, r#"{"method":"get","name":"☁ x"}"#],
        &[scratch, r#"{"kind":"set","variable":"☁ x","value":"1"}"#],
        &[scratch, ""],
        &[scratch, "{\"method\":\"delete\"}{\"method\":\"delete\"}"],
        &[r#"{"kind":"handshake","id":1,"username":"ben","variables":{}}"#],
        &[fork, r#"{"method":"set","name":"☁ x","value":"1"}"#],
        &[fork, r#"{"kind":"set","var":"☁ x","value":1}"#],
        &[fork, r#"{"kind":"set","var":"☁ y","value":"1"}"#],
        &[
            fork,
            "{\"kind\":\"set\",\"var\":\"☁ x\",\"value\":\"1\"}\n{\"kind\":\"set\",\"var\":\"☁ x\",\"value\":\"1\"}",
        ],
    ] {
        let server = Server::start().await;
        let mut client = server.connect().await;
        for message in messages {
            client.send(message).await;
        }
        let (code, reason) = client.closed().await;
        assert_eq!(code, 4000, "{messages:?}");
        assert!(!reason.is_empty());
    }
}

#[tokio::test]
async fn both_names_of_a_variable_are_accepted_from_clients_with_a_kind() {
    let server = Server::start().await;
    let mut clients = company(&server).await;
    clients[0].send(r#"{"kind":"set","var":"☁ x","value":"1"}"#).await;
    assert_eq!(clients[1].frame().await, [(X.into(), "1".into())]);
    clients[1].send(r#"{"kind":"set","variable":"☁ x","value":"2"}"#).await;
    assert_eq!(clients[0].frame().await, [(X.into(), "2".into())]);
}

#[tokio::test]
async fn a_scratch_room_grows_and_others_must_match_it() {
    let server = Server::start().await;
    let mut cat = server.join_in(Scratch, "1", "cat", &[]).await;
    cat.set(X, "5").await;
    cat.sync().await;
    let (code, _) = server.refusal("1", "ann", VARIABLES).await;
    assert_eq!(code, 4001);
    let mut ann = server.join("1", "ann", &[(X, "0")]).await;
    assert_eq!(ann.frame().await, [(X.into(), "5".into())]);
    cat.set(END, "1").await;
    assert_eq!(ann.frame().await, [(END.into(), "1".into())]);
    // The room grows for everyone.
    ann.set("more", "1").await;
    assert_eq!(cat.frame().await, [("more".into(), "1".into())]);
}

#[tokio::test]
async fn a_room_with_fixed_names_has_no_others_for_scratch_clients() {
    let server = Server::start().await;
    let mut clients = company(&server).await;
    clients[2].set("☁ new", "1").await;
    assert_eq!(clients[2].closed().await.0, 4000);
    clients[3].set(X, "1").await;
    assert_eq!(clients[0].frame().await, [(X.into(), "1".into())]);
}

#[tokio::test]
async fn where_the_host_lets_rooms_grow_everyone_matches() {
    let server = Server::with(RoomRegistry::builder().schema(Schema::Growing)).await;
    let mut cat = server.join_in(Scratch, "1", "cat", &[]).await;
    let mut ben = server.join_in(Forkphorus2020, "1", "ben", VARIABLES).await;
    all_values(&mut cat).await;
    assert_eq!((&*cat.view[X], &*cat.view[END]), ("0", "0"));
    ben.set("☁ new", "1").await;
    assert_eq!(cat.frame().await, [("☁ new".into(), "1".into())]);
}

#[tokio::test]
async fn a_full_scratch_room_has_no_new_names() {
    let server =
        Server::with(RoomRegistry::builder().limits(unlimited_rate().variables_per_room(2))).await;
    let mut cat = server.join_in(Scratch, "1", "cat", &[]).await;
    let mut cow = server.join_in(Scratch, "1", "cow", &[]).await;
    for name in [X, "☁ y", "☁ z", X] {
        cat.set(name, "1").await;
    }
    cow.set(END, "1").await;
    cow.sync().await;
    cat.sync().await;
    let mut seen = cow.frame().await;
    while seen.len() < 4 {
        seen.extend(cow.frame().await);
    }
    let names: Vec<_> = seen.iter().map(|(name, _)| &**name).filter(|name| *name != END).collect();
    assert_eq!(names, [X, "☁ y", X]);
    // The writer of a variable for which the room has no place receives a new variable's value.
    assert_eq!(cow.view[END], "0");
    assert_eq!(cat.until("☁ z", "0").await.len(), 1);
}

#[tokio::test]
async fn names_may_be_used_twice_as_each_dialect_has_it() {
    let server = Server::start().await;
    let mut clients = company(&server).await;
    let refused = server.refusal("60917032", "CAT", VARIABLES);
    assert_eq!(clients[3].reading_until(refused).await.0, 4002, "one of two answers");
    let refused = server.refusal("60917032", "ben", VARIABLES);
    assert_eq!(clients[1].reading_until(refused).await.0, 4002, "it answers");
    // Both must allow sharing, so nobody can join beside ann under her name.
    let mut other = server.connect().await;
    other.handshake_in(Scratch, "60917032", "ann", VARIABLES).await;
    assert_eq!(clients[0].reading_until(other.closed()).await.0, 4002);
    server.join_in(Scratch, "60917032", "cat", VARIABLES).await;

    let rule = |rule| RoomRegistry::builder().duplicate_names(Scratch, rule);
    let server = Server::with(rule(DuplicateNames::Reject)).await;
    let mut cat = server.join_in(Scratch, "1", "cat", &[]).await;
    let mut other = server.connect().await;
    other.handshake_in(Scratch, "1", "Cat", &[]).await;
    assert_eq!(cat.reading_until(other.closed()).await.0, 4002);

    let server = Server::with(rule(DuplicateNames::Replace)).await;
    let mut cats = Vec::new();
    for _ in 0..2 {
        cats.push(server.join_in(Scratch, "1", "cat", &[]).await);
    }
    assert_eq!(cats[0].closed().await.0, 4002);
    server.members(1).await;
}

#[tokio::test]
async fn a_newcomer_takes_over_all_clients_of_its_name() {
    let server =
        Server::with(RoomRegistry::builder().duplicate_names(Spec, DuplicateNames::Replace)).await;
    let mut cats = Vec::new();
    for _ in 0..2 {
        cats.push(server.join_in(Scratch, "1", "cat", &[]).await);
    }
    let mut ann = server.join("1", "cat", &[]).await;
    for mut cat in cats {
        assert_eq!(cat.closed().await.0, 4002);
    }
    server.members(1).await;
    ann.set(X, "1").await;
    ann.sync().await;
}

#[tokio::test]
async fn a_full_room_is_told_as_such_in_every_dialect() {
    let server =
        Server::with(RoomRegistry::builder().limits(Limits::default().members_per_room(1))).await;
    let _ann = server.join("1", "ann", VARIABLES).await;
    for dialect in [Spec, Forkphorus2020, Scratch] {
        let mut client = server.connect().await;
        client.handshake_in(dialect, "1", "ben", VARIABLES).await;
        let code = if dialect == Scratch { 1013 } else { 4003 };
        assert_eq!(client.closed().await.0, code, "{dialect:?}");
    }
}

/// Each dialect has its own code after which clients come back.
#[tokio::test]
async fn a_full_server_is_told_as_such_in_every_dialect() {
    let server = Server::with(RoomRegistry::builder().limits(Limits::default().sessions(1))).await;
    let _ann = server.join("1", "ann", VARIABLES).await;
    for (dialect, code) in [(Spec, 4003), (Forkphorus2020, 4003), (Scratch, 1013)] {
        let mut client = server.connect().await;
        client.handshake_in(dialect, "1", "ben", VARIABLES).await;
        assert_eq!(client.closed().await.0, code, "{dialect:?}");
        drop(client);
        crate::common::eventually("its place", || server.rooms.stats().sessions == 1).await;
    }
}

/// Otherwise Scratch clients would retry with the same handshake forever.
#[tokio::test]
async fn a_handshake_that_can_never_be_taken_is_not_tried_again() {
    let server = Server::start().await;
    let long =
        format!(r#"{{"method":"handshake","project_id":"{}","user":"a"}}"#, "☁".repeat(1_001));
    for (handshake, code) in [
        (r#"{"method":"handshake","project_id":"1"}"#, 4002),
        (r#"{"method":"handshake","project_id":"1","user":null}"#, 4002),
        (r#"{"method":"handshake","project_id":"1","user":5}"#, 4002),
        (r#"{"method":"handshake","project_id":"1","user":""}"#, 4002),
        (r#"{"method":"handshake","user":"cat"}"#, 4004),
        (r#"{"method":"handshake","project_id":{},"user":"cat"}"#, 4004),
        (r#"{"method":"handshake","project_id":"","user":"cat"}"#, 4004),
        (&long, 4004),
    ] {
        let mut client = server.connect().await;
        client.send(handshake).await;
        assert_eq!(client.closed().await.0, code, "{handshake}");
    }
    // The length of an id counts in characters.
    let id = "ゲ".repeat(1_000);
    server.join_in(Scratch, &id, "cat", &[]).await;
}

#[tokio::test]
async fn numbers_stay_numbers_for_scratch_clients() {
    let server = Server::start().await;
    let mut ann = server.join("1", "ann", VARIABLES).await;
    let mut cat = server.join_in(Scratch, "1", "cat", &[]).await;
    let mut cow = server.join_in(Scratch, "1", "cow", &[]).await;
    cow.frame().await;
    for (sent, heard) in [("5", "5"), ("0.50", "0.5"), ("\"5\"", "\"5\""), ("\"\"", "\"\"")] {
        cat.send(&format!(r#"{{"method":"set","name":"☁ x","value":{sent}}}"#)).await;
        let set = format!(r#"{{"method":"set","name":"☁ x","value":{heard}}}"#);
        assert_eq!(cow.text().await, set);
        let mut late = server.connect().await;
        late.handshake_in(Scratch, "1", "late", &[]).await;
        assert!(late.text().await.split('\n').any(|line| line == set));
        assert_eq!(ann.frame().await, [(X.into(), heard.trim_matches('"').into())]);
    }
}

#[tokio::test]
async fn variables_are_listed_in_the_order_of_their_creation() {
    let server = Server::start().await;
    let mut cat = server.join_in(Scratch, "1", "cat", &[]).await;
    let names: Vec<_> = (0..40).map(|n| format!("☁ slot {}", n * 7 % 40)).collect();
    for name in &names {
        cat.set(name, "1").await;
    }
    cat.set(&names[3], "2").await;
    cat.sync().await;
    let mut late = server.join_in(Scratch, "1", "late", &[]).await;
    let frame = late.frame().await;
    assert_eq!(frame.into_iter().map(|(name, _)| name).collect::<Vec<_>>(), names);
    let room = server.rooms.room("1").unwrap();
    assert_eq!(room.variables().into_iter().map(|(name, _)| name).collect::<Vec<_>>(), names);
}

/// Programs of this kind read once, and expect the whole state in that frame.
#[tokio::test]
async fn a_scratch_client_gets_its_snapshot_at_once() {
    let server = Server::start().await;
    let mut cat = server.join_in(Scratch, "1", "cat", &[]).await;
    for n in 0..10 {
        cat.set(&format!("☁ {n}"), &"1".repeat(100_000)).await;
    }
    cat.sync().await;
    let mut late = server.join_in(Scratch, "1", "late", &[]).await;
    assert_eq!(late.frame().await.len(), 10);
}

#[tokio::test]
async fn a_mount_may_frame_each_set_as_scratch_does() {
    let rooms = RoomRegistry::new();
    let app = Router::new()
        .merge(rooms.mount("/cloud"))
        .merge(rooms.mount("/scratch").scratch_framing(ScratchFraming::Lines));
    let addr = crate::common::serve(app).await;
    let mut ann = Client::join(&format!("ws://{addr}/cloud"), "1", "ann", VARIABLES).await;
    let mut cat = Client::connect(&format!("ws://{addr}/scratch")).await;
    cat.handshake_in(Scratch, "1", "cat", &[]).await;
    let line =
        |name, value| format!("{{\"method\":\"set\",\"name\":\"{name}\",\"value\":\"{value}\"}}\n");
    let mut snapshot = [cat.text().await, cat.text().await];
    snapshot.sort();
    assert_eq!(snapshot, [line(END, "0"), line(X, "0")]);
    ann.set(X, "1").await;
    assert_eq!(cat.text().await, line(X, "1"));
    // Clients of other dialects that join there are answered in their own way.
    let ben = Client::join(&format!("ws://{addr}/scratch"), "1", "ben", VARIABLES).await;
    assert_eq!({ ben }.frame().await.len(), 2);
}

/// Even if the client has more to send, and without waiting for an answer that cannot arrive.
#[tokio::test]
async fn a_message_that_is_too_long_ends_the_connection_at_once() {
    let server = Server::start().await;
    let mut cat = server.join_in(Scratch, "1", "cat", &[]).await;
    let began = Instant::now();
    cat.send(&format!(r#"{{"method":"set","name":"☁ x","value":"{}"}}"#, "1".repeat(900_000)))
        .await;
    assert_eq!(cat.closed().await.0, 1009);
    while let Some(Ok(_)) = cat.socket.next().await {}
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

/// Neither a host's policy nor a log may see it.
#[tokio::test]
async fn a_login_of_scratch_is_refused_unread() {
    let server = Server::start().await;
    for cookie in ["scratchsessionsid=secret", "a=b; scratchsessionsid=\"secret\""] {
        let mut request = server.url().into_client_request().unwrap();
        request.headers_mut().insert("cookie", cookie.parse().unwrap());
        assert_eq!(Client::request(request).await.err(), Some(StatusCode::FORBIDDEN));
    }
    let mut request = server.url().into_client_request().unwrap();
    request.headers_mut().insert("cookie", "not-scratchsessionsid=1".parse().unwrap());
    assert!(Client::request(request).await.is_ok());
}

/// A frame with many sets is not one message for the rate: otherwise it would be a way around the limit.
#[tokio::test]
async fn the_rate_counts_each_message_of_a_frame() {
    let limits = Limits::default().messages_per_second(100).message_burst(50);
    let server = Server::with(RoomRegistry::builder().limits(limits)).await;
    let mut ann = server.join("1", "ann", VARIABLES).await;
    let mut cat = server.join_in(Scratch, "1", "cat", &[]).await;
    let set = |n| format!("{{\"method\":\"set\",\"name\":\"☁ x\",\"value\":{n}}}\n");
    cat.send(&(1..=150).map(set).collect::<String>()).await;
    let seen = ann.until(X, "150").await;
    let values: Vec<_> = seen.iter().map(|(_, value)| value.parse::<u32>().unwrap()).collect();
    assert_eq!(values[..50], (1..=50).collect::<Vec<_>>(), "a burst is kept");
    assert!(values.is_sorted() && values.len() < 60, "{values:?}");
}

#[tokio::test]
async fn a_name_is_free_when_none_of_its_holders_answers() {
    let limits = unlimited_rate().takeover_probe(Duration::from_millis(200));
    let server = Server::with(RoomRegistry::builder().limits(limits)).await;
    let mut cats = Vec::new();
    for _ in 0..2 {
        cats.push(server.join_in(Scratch, "1", "cat", &[]).await);
    }
    // They no longer read their sockets.
    let mut dog = server.connect().await;
    dog.handshake("1", "cat", &[]).await;
    server.members(1).await;
}

/// Otherwise a message of 40 bytes would cause an answer of 50,000.
#[tokio::test]
async fn the_healing_of_a_client_counts_against_its_rate() {
    let limits = Limits::default().bytes_per_second(100_000).byte_burst(100_000);
    let server = Server::with(RoomRegistry::builder().limits(limits)).await;
    let long = "1".repeat(50_000);
    let variables = &[(X, &*long), ("☁ y", &long)];
    let _ann = server.join("1", "ann", variables).await;
    let mut cat = server.join_in(Scratch, "1", "cat", &[]).await;
    let began = Instant::now();
    for _ in 0..3 {
        cat.send(r#"{"method":"set","name":"☁ x"}"#).await;
        cat.send(r#"{"method":"set","name":"☁ y"}"#).await;
    }
    cat.sync().await;
    assert!(began.elapsed() > Duration::from_millis(1_500), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_newcomer_whose_variables_have_no_memory_is_told() {
    let limits = unlimited_rate().state_bytes(20_000);
    let builder = RoomRegistry::builder().limits(limits).schema(Schema::Growing);
    let server = Server::with(builder).await;
    let _ann = server.join("1", "ann", &[("x", "0")]).await;
    let long = "1".repeat(17_000);
    assert_eq!(server.refusal("1", "ben", &[("y", &long)]).await.0, 4003);
    server.members(1).await;
}

#[tokio::test]
async fn a_single_writer_in_an_empty_room_is_not_corrected() {
    let server = Server::start().await;
    let mut cat = server.join_in(Scratch, "1", "cat", &[]).await;
    let mut cow = server.join_in(Scratch, "1", "cow", &[]).await;
    cow.set(X, "1").await;
    cow.sync().await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    cat.set(END, "1").await;
    assert_eq!(cow.frame().await, [(END.into(), "1".into())], "nothing before it");
}

#[tokio::test]
async fn a_mount_may_be_for_one_kind_of_clients() {
    let rooms = RoomRegistry::new();
    let door = rooms.mount("/scratch").dialects([Scratch]);
    let addr = serve(axum::Router::new().merge(door).merge(rooms.mount("/all"))).await;
    let mut cat = Client::connect(&format!("ws://{addr}/scratch")).await;
    cat.handshake_in(Scratch, "1", "cat", &[]).await;
    cat.sync().await;
    let mut ann = Client::connect(&format!("ws://{addr}/scratch")).await;
    ann.handshake("1", "ann", &[]).await;
    assert_eq!(ann.closed().await.0, 4001);
    let mut ann = Client::connect(&format!("ws://{addr}/all")).await;
    ann.handshake("2", "ann", &[]).await;
    ann.sync().await;
}
