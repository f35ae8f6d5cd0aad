//! The frames that a client sends and receives.

use serde::Deserialize;
use serde_json::{json, value::RawValue};

use super::values::Changed;
use crate::wire::{Dialect, Json, Text};

/// One line of a frame from the server.
#[derive(Debug, PartialEq)]
pub(super) enum ServerMessage {
    Set(Changed),
    /// The server acknowledges joins and sets.
    Joining,
    Joined {
        created: bool,
    },
    Taken {
        sets: u64,
    },
    /// The result of a conditional set; `None` if the server does not know it.
    Ack {
        number: u64,
        ok: Option<bool>,
    },
}

/// Fields that a message has no use for stay unread.
#[derive(Deserialize)]
struct Fields<'a> {
    kind: &'a str,
    #[serde(borrow)]
    variable: Option<&'a RawValue>,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
    #[serde(borrow)]
    created: Option<&'a RawValue>,
    #[serde(borrow)]
    sets: Option<&'a RawValue>,
    #[serde(borrow)]
    ack: Option<&'a RawValue>,
    #[serde(borrow)]
    ok: Option<&'a RawValue>,
}

/// Parses a line. Returns `None` for a kind of message that clients need not know.
pub(super) fn parse(line: &str) -> Option<ServerMessage> {
    let fields: Fields<'_> = serde_json::from_str(line).ok()?;
    let number = |raw: Option<&RawValue>| raw?.get().parse::<u64>().ok();
    let bool = |raw: Option<&RawValue>| raw?.get().parse::<bool>().ok();
    Some(match fields.kind {
        "set" => {
            let text = |raw: Option<&RawValue>| Some(Json::parse(raw?)?.to_text());
            let (name, value) = (text(fields.variable)?, text(fields.value)?);
            ServerMessage::Set(Changed { name, value })
        }
        "joining" => ServerMessage::Joining,
        "joined" => ServerMessage::Joined { created: bool(fields.created).unwrap_or(false) },
        "taken" => ServerMessage::Taken { sets: number(fields.sets)? },
        "ack" => ServerMessage::Ack { number: number(fields.ack)?, ok: bool(fields.ok) },
        _ => return None,
    })
}

/// Returns the first message of a connection. It never carries the current values, because those of a room
/// that grew may not fit.
pub(super) fn handshake<'a>(
    room: &str,
    username: &str,
    resume: &str,
    variables: impl Iterator<Item = (&'a Text, &'a Text)>,
) -> String {
    let mut entries = String::new();
    for (name, value) in variables {
        let comma = if entries.is_empty() { "" } else { "," };
        entries.extend([comma, "\"", name.as_json(), "\":\"", value.as_json(), "\""]);
    }
    let (room, username, resume) = (json!(room), json!(username), json!(resume));
    format!(
        r#"{{"kind":"handshake","room":{room},"username":{username},"variables":{{{entries}}},"acknowledge":true,"resume":{resume}}}"#
    )
}

pub(super) fn set(Changed { name, value }: &Changed) -> String {
    let mut text = String::new();
    Dialect::Spec.push_set(name, value, &mut text);
    text
}

/// Returns a set that applies only if the room has this value, and whose result the server reports.
pub(super) fn set_if(changed: &Changed, was: &Text, ack: u64) -> String {
    let mut text = set(changed);
    text.truncate(text.len() - 1);
    text.extend([r#","was":""#, was.as_json(), r#"","ack":"#, &ack.to_string(), "}"]);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Text {
        Json::from_plain(text).to_text()
    }

    #[test]
    fn messages_of_servers_are_read() {
        let set = ServerMessage::Set(Changed { name: text("☁ \"x\""), value: text("1\n") });
        for (line, message) in [
            (r#"{"kind":"set","variable":"☁ \"x\"","value":"1\n","more":[]}"#, Some(set)),
            (r#"{"kind":"joining"}"#, Some(ServerMessage::Joining)),
            (r#"{"kind":"joined","created":true}"#, Some(ServerMessage::Joined { created: true })),
            (r#"{"kind":"taken","sets":7}"#, Some(ServerMessage::Taken { sets: 7 })),
            (
                r#"{"kind":"ack","ack":7,"ok":null}"#,
                Some(ServerMessage::Ack { number: 7, ok: None }),
            ),
            (
                r#"{"kind":"set","variable":"x","value":"1","ack":null,"sets":"?"}"#,
                Some(ServerMessage::Set(Changed { name: text("x"), value: text("1") })),
            ),
            (r#"{"kind":"new"}"#, None),
            (r#"{"kind":"set","variable":1,"value":"1"}"#, None),
            ("[]", None),
            ("", None),
        ] {
            assert_eq!(parse(line), message, "{line}");
        }
    }

    #[test]
    fn sent_messages_are_json() {
        let variables = [(text("a \"\\"), text("\u{2028}")), (text("b"), text(""))];
        let variables = variables.iter().map(|(name, value)| (name, value));
        let sent = handshake("r \"", "ann", "secret", variables);
        let sent: serde_json::Value = serde_json::from_str(&sent).unwrap();
        let variables = json!({ "a \"\\": "\u{2028}", "b": "" });
        let expected = json!({ "kind": "handshake", "room": "r \"", "username": "ann",
            "variables": variables, "acknowledge": true, "resume": "secret" });
        assert_eq!(sent, expected);
        let changed = Changed { name: text("x"), value: text("\"2\"") };
        let sent: serde_json::Value =
            serde_json::from_str(&set_if(&changed, &text("1\n"), 7)).unwrap();
        let expected =
            json!({ "kind": "set", "variable": "x", "value": "\"2\"", "was": "1\n", "ack": 7 });
        assert_eq!(sent, expected);
    }
}
