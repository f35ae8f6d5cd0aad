//! Any string that a client can write arrives as the same string, in one line of valid JSON.

#![allow(clippy::unwrap_used, reason = "a test")]

use crate::common::Server;
use futures_util::StreamExt;
use tokio_tungstenite::tungstenite::Message;

/// JSON strings as a client may write them, and as the server may pass them on.
const STRINGS: &[(&str, &str)] = &[
    (r#""line\nbreak\r\n""#, r#""line\nbreak\r\n""#),
    (r#""\"quotes\" and \\ backslashes\\""#, r#""\"quotes\" and \\ backslashes\\""#),
    (r#""\u2028\u2029""#, r#""\u2028\u2029""#),
    ("\"\u{2028}\u{2029}\u{85}\"", r#""\u2028\u2029\u0085""#),
    (r#""\ud83d\ude00 😀""#, r#""😀 😀""#),
    (r#""NUL \u0000 \b\f\t \u001f""#, r#""NUL \u0000 \u0008\u000c\t \u001f""#),
    (r#""\ud800""#, r#""\ud800""#),
    (r#""a\uDC00\uD800b""#, r#""a\udc00\ud800b""#),
    (r#""☁ cloud\/""#, r#""☁ cloud/""#),
    (r#""__proto__""#, r#""__proto__""#),
    ("\"\u{7f}\u{202e}\u{feff}\"", "\"\u{7f}\u{202e}\u{feff}\""),
    (r#""""#, r#""""#),
];

#[tokio::test]
async fn values_and_names_arrive_as_the_same_string() {
    let server = Server::start().await;
    // An empty name is not allowed.
    let names = || STRINGS.iter().filter(|(sent, _)| *sent != r#""""#);
    let variables: Vec<_> = names().map(|(sent, _)| format!("{sent}:{sent}")).collect();
    let handshake = |name: &str| {
        let variables = variables.join(",");
        format!(
            r#"{{"kind":"handshake","room":"r","username":"{name}","variables":{{{variables}}}}}"#
        )
    };
    let mut ann = server.connect().await;
    ann.send(&handshake("ann")).await;
    ann.sync().await;
    let mut ben = server.connect().await;
    ben.send(&handshake("ben")).await;
    let snapshot = next_text(&mut ben).await;
    for (_, passed_on) in names() {
        let set = format!(r#"{{"kind":"set","variable":{passed_on},"value":{passed_on}}}"#);
        assert!(snapshot.lines().any(|line| line == set), "{set} in {snapshot}");
    }
    assert_eq!(snapshot.split('\n').count(), variables.len());

    for (name, passed_name) in names() {
        for (value, passed_on) in STRINGS {
            ann.send(&format!(r#"{{"kind":"set","variable":{name},"value":{value}}}"#)).await;
            let set = format!(r#"{{"kind":"set","variable":{passed_name},"value":{passed_on}}}"#);
            ann.sync().await;
            let mut frame = next_text(&mut ben).await;
            // Batches may join sets that were sent at once.
            frame = frame.rsplit('\n').next().unwrap().to_owned();
            assert_eq!(frame, set);
        }
    }
}

async fn next_text(client: &mut crate::common::Client) -> String {
    loop {
        match crate::common::within("text", client.socket.next()).await.unwrap().unwrap() {
            Message::Text(text) => return text.to_string(),
            Message::Close(close) => panic!("{close:?}"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_room_and_a_username_must_be_valid_unicode() {
    let server = Server::start().await;
    for (field, code) in [("room", 4000), ("username", 4002)] {
        let (room, username) =
            if field == "room" { (r"\ud800", "ann") } else { ("room", r"\ud800") };
        let mut client = server.connect().await;
        let text = format!(
            r#"{{"kind":"handshake","room":"{room}","username":"{username}","variables":{{}}}}"#
        );
        client.send(&text).await;
        assert_eq!(client.closed().await.0, code, "{field}");
    }
}
