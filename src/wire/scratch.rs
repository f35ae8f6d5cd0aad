//! The dialect with `method`, of Scratch and its successors.

use serde_json::value::RawValue;

use super::{
    ClientMessage, Handshake, Json, Malformed, Terms,
    envelope::{Envelope, string},
    number,
};

/// The values that clients of [`Dialect::Scratch`](crate::Dialect::Scratch) may set. Any other value is
/// ignored, and its sender receives the room's value.
///
/// ```
/// use axum_cloud_variables::{RoomRegistry, ScratchValues};
///
/// let rooms = RoomRegistry::builder().scratch_values(ScratchValues::Strings).build()?;
/// # Ok::<(), axum_cloud_variables::BuildError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ScratchValues {
    /// Numbers, strings of digits with no more than one `-` before them and one `.` among them, and the
    /// empty string, as on Scratch. The default.
    #[default]
    Numbers,
    /// Any number and any string.
    Strings,
}

/// The framing of the sets that are sent to clients of [`Dialect::Scratch`](crate::Dialect::Scratch).
///
/// ```
/// use axum::Router;
/// use axum_cloud_variables::{RoomRegistry, ScratchFraming};
///
/// let rooms = RoomRegistry::new();
/// let app: Router = Router::new()
///     .merge(rooms.mount("/cloud"))
///     .merge(rooms.mount("/scratch").scratch_framing(ScratchFraming::Lines));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ScratchFraming {
    /// Several sets in a frame, with a newline between them, as TurboWarp's server sends them. The
    /// default.
    #[default]
    Joined,
    /// One set in a frame, with a newline behind it, as Scratch's own server sends it. Some programs
    /// read nothing else: scratchclient in Python, scratch-api and scratchcloud in JavaScript.
    Lines,
}

pub(super) fn decode(
    envelope: Envelope<'_>,
    values: ScratchValues,
) -> Result<ClientMessage<'_>, Malformed> {
    match string("method", envelope.method).map_err(|_| Malformed::NoTag("method"))?.as_json() {
        // A message without a name concerns no variable. It is ignored, because clients send whatever
        // their projects say, and come back after a close.
        "set" | "create" => Ok(match envelope.name.and_then(Json::parse) {
            Some(name) => {
                let value = envelope.value.and_then(|raw| value(raw, values));
                ClientMessage::Set { name, value, terms: Terms::default() }
            }
            None => ClientMessage::Ignored,
        }),
        "handshake" => Ok(ClientMessage::Handshake(Handshake {
            room: envelope
                .project_id
                .and_then(|raw| {
                    Json::parse(raw).or_else(|| Some(number::parse(raw)?.into_string()))
                })
                .ok_or(Malformed::ProjectId)?,
            username: envelope.user.and_then(Json::parse).ok_or(Malformed::User)?,
            variables: None,
            acknowledge: false,
            resume: None,
        })),
        "rename" | "delete" => Ok(ClientMessage::Ignored),
        _ => Err(Malformed::UnknownTag("method")),
    }
}

fn value(raw: &RawValue, values: ScratchValues) -> Option<Json<'_>> {
    let Some(string) = Json::parse(raw) else { return number::parse(raw) };
    let is_allowed = values == ScratchValues::Strings || number::is_numeric(string.as_json());
    is_allowed.then_some(string)
}

#[cfg(test)]
mod tests {
    use super::super::{Dialect, decode};
    use super::*;

    fn read(text: &str) -> Result<ClientMessage<'_>, Malformed> {
        decode(Dialect::Scratch, ScratchValues::default(), text)
    }

    /// Returns the value of a set to this JSON.
    fn set(value: &str, values: ScratchValues) -> Option<String> {
        let text = format!(r#"{{"method":"set","name":"☁ x","value":{value}}}"#);
        match decode(Dialect::Scratch, values, &text) {
            Ok(ClientMessage::Set { value, .. }) => value.map(|value| value.as_json().to_owned()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_handshake_names_a_project() {
        for (id, room) in [("\"p4-☁\"", "p4-☁"), ("60917032", "60917032"), ("1e21", "1e+21")] {
            let text =
                format!(r#"{{"method":"handshake","project_id":{id},"user":"ann","more":{{}}}}"#);
            let expected = Handshake {
                room: Json::from_plain(room),
                username: Json::from_plain("ann"),
                variables: None,
                acknowledge: false,
                resume: None,
            };
            assert_eq!(read(&text), Ok(ClientMessage::Handshake(expected)));
        }
        for (text, error) in [
            (r#"{"method":"handshake","user":"ann"}"#, Malformed::ProjectId),
            (r#"{"method":"handshake","user":"ann","project_id":null}"#, Malformed::ProjectId),
            (r#"{"method":"handshake","user":"ann","project_id":[1]}"#, Malformed::ProjectId),
            (r#"{"method":"handshake","project_id":1}"#, Malformed::User),
            (r#"{"method":"handshake","project_id":1,"user":5}"#, Malformed::User),
        ] {
            assert_eq!(read(text), Err(error), "{text}");
        }
    }

    #[test]
    fn any_name_is_taken_and_a_message_without_one_is_ignored() {
        for name in [r#""☁ x""#, r#""\u2601 x""#, r#"":cloud: x""#, r#""x""#, r#""""#] {
            for method in ["set", "create"] {
                let text = format!(r#"{{"method":"{method}","name":{name},"value":"1"}}"#);
                assert!(matches!(read(&text), Ok(ClientMessage::Set { .. })), "{text}");
            }
        }
        for text in [
            r#"{"method":"set","value":"1"}"#,
            r#"{"method":"set","name":5,"value":"1"}"#,
            r#"{"method":"rename","name":"☁ x","new_name":"y"}"#,
            r#"{"method":"delete","name":"☁ x"}"#,
        ] {
            assert_eq!(read(text), Ok(ClientMessage::Ignored), "{text}");
        }
    }

    #[test]
    fn a_value_is_a_number_or_a_string_of_one() {
        for (json, value) in [
            ("\"007\"", Some("007")),
            ("\"\"", Some("")),
            ("5", Some("5")),
            ("-0.0", Some("0")),
            ("1e21", Some("1e+21")),
            ("\"1e21\"", None),
            ("1e400", None),
            ("\"hello\"", None),
            ("true", None),
            ("null", None),
            ("[1]", None),
            ("{}", None),
        ] {
            assert_eq!(set(json, ScratchValues::Numbers).as_deref(), value, "{json}");
        }
        assert_eq!(set("\"hello\"", ScratchValues::Strings).as_deref(), Some("hello"));
        assert_eq!(set("1.50", ScratchValues::Strings).as_deref(), Some("1.5"));
        assert_eq!(set("true", ScratchValues::Strings), None);
        let nothing = r#"{"method":"set","name":"☁ x"}"#;
        assert!(matches!(read(nothing), Ok(ClientMessage::Set { value: None, .. })));
    }
}
