//! Clients of all dialects in one room, each answered in its own fields; what each of them sends
//! oddly, and what it is refused.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::time::{Duration, Instant};

use axum_cloud_variables::{Dialect, DuplicateNames, Limits, RoomRegistry, Schema, ScratchValues};
use common::{Client, Server, unlimited_rate};

const X: &str = "☁ x";
const END: &str = "☁ end";
const VARIABLES: &[(&str, &str)] = &[(X, "0"), (END, "0")];

use Dialect::{Forkphorus2020, Scratch, Spec};

/// A client of each dialect in a room that the first made; Scratch's twice, under one name.
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

/// Reads on until both variables have come.
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
                // Its fields are checked as it is read.
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

/// What the others see of messages of a Scratch client, up to a set of `END`.
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
async fn what_scratch_clients_send_oddly_is_accepted() {
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
async fn what_is_no_message_of_the_dialect_is_closed() {
    let scratch = r#"{"method":"handshake","project_id":"1","user":"cat"}"#;
    let fork = r#"{"kind":"handshake","id":"1","username":"ben","variables":{"☁ x":"0"}}"#;
    for messages in [
        &[r#"{"method":"set","name":"☁ x","value":"1"}"#][..],
        &[r#"{"method":"handshake","user":"cat"}"#],
        &[r#"{"method":"handshake","project_id":"","user":"cat"}"#],
        &[r#"{"method":"handshake","project_id":"1"}"#],
        &[scratch, scratch],
        &[scratch, r#"{"method":"set","name":"x","value":"1"}"#],
        &[scratch, r#"{"method":"set","value":"1"}"#],
        &[scratch, r#"{"method":"get","name":"☁ x"}"#],
        &[scratch, r#"{"kind":"set","variable":"☁ x","value":"1"}"#],
        &[scratch, "{\"method\":\"delete\"}\n\n"],
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
    // Here it grows for everyone.
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
async fn a_full_scratch_room_ignores_new_names() {
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
    while seen.len() < 3 {
        seen.extend(cow.frame().await);
    }
    let names: Vec<_> = seen.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, [X, "☁ y", X]);
}

#[tokio::test]
async fn names_may_be_used_twice_as_each_dialect_has_it() {
    let server = Server::start().await;
    let mut clients = company(&server).await;
    let refused = server.refusal("60917032", "CAT", VARIABLES);
    assert_eq!(clients[3].reading_until(refused).await.0, 4002, "one of two answers");
    let refused = server.refusal("60917032", "ben", VARIABLES);
    assert_eq!(clients[1].reading_until(refused).await.0, 4002, "it answers");
    // The newcomer's dialect decides.
    server.join_in(Scratch, "60917032", "ann", VARIABLES).await;

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
async fn a_newcomer_takes_over_all_who_have_its_name() {
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
        assert_eq!(client.closed().await.0, 4003, "{dialect:?}");
    }
}

/// A frame is one message for TCP, but not for the rate: otherwise it would be the way around it.
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
    // They look at nothing any more.
    server.join("1", "cat", &[]).await;
    server.members(1).await;
}

/// Else a message of 40 bytes would buy one of 50,000.
#[tokio::test]
async fn what_heals_a_client_is_paid_for_by_its_rate() {
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
