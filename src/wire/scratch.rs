//! The dialect with `method`, of Scratch and all that came after it.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{ClientMessage, Handshake, Json, Malformed, number, string};

/// Which values clients of [`Dialect::Scratch`](crate::Dialect::Scratch) may set. Another is
/// ignored, and its sender is sent the room's value.
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
    /// Numbers, and strings of digits with at most one `-` before them and one `.` among them; the
    /// empty string too. As on Scratch. The default.
    #[default]
    Numbers,
    /// Any number and any string.
    Strings,
}

/// With one of these a project names what it shares.
const PREFIXES: [&str; 2] = ["\u{2601} ", ":cloud: "];

/// Every field that any message has. `user` and `project_id` may come with each; only the
/// handshake's count.
#[derive(Deserialize)]
pub(super) struct Envelope<'a> {
    #[serde(borrow)]
    method: Option<&'a RawValue>,
    #[serde(borrow)]
    project_id: Option<&'a RawValue>,
    #[serde(borrow)]
    user: Option<&'a RawValue>,
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
}

pub(super) fn decode(
    envelope: Envelope<'_>,
    values: ScratchValues,
) -> Result<ClientMessage<'_>, Malformed> {
    match string("method", envelope.method).map_err(|_| Malformed::NoTag("method"))?.as_json() {
        "set" | "create" => Ok(ClientMessage::Set {
            name: cloud_name(envelope.name)?,
            value: envelope.value.and_then(|raw| value(raw, values)),
        }),
        "handshake" => Ok(ClientMessage::Handshake(Handshake {
            room: envelope
                .project_id
                .and_then(|raw| Json::parse(raw).or_else(|| number::parse(raw)))
                .ok_or(Malformed::ProjectId)?,
            username: string("user", envelope.user)?,
            variables: None,
        })),
        "rename" | "delete" => Ok(ClientMessage::Ignored),
        _ => Err(Malformed::UnknownTag("method")),
    }
}

fn cloud_name(raw: Option<&RawValue>) -> Result<Json<'_>, Malformed> {
    let name = string("name", raw)?;
    let is_cloud = PREFIXES
        .iter()
        .any(|prefix| name.as_json().strip_prefix(prefix).is_some_and(|rest| !rest.is_empty()));
    if is_cloud { Ok(name) } else { Err(Malformed::CloudName) }
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

    /// What comes of a set to this JSON.
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
            };
            assert_eq!(read(&text), Ok(ClientMessage::Handshake(expected)));
        }
        for (text, error) in [
            (r#"{"method":"handshake","user":"ann"}"#, Malformed::ProjectId),
            (r#"{"method":"handshake","user":"ann","project_id":null}"#, Malformed::ProjectId),
            (r#"{"method":"handshake","user":"ann","project_id":[1]}"#, Malformed::ProjectId),
            (r#"{"method":"handshake","project_id":1}"#, Malformed::NotAString("user")),
            (r#"{"method":"handshake","project_id":1,"user":5}"#, Malformed::NotAString("user")),
        ] {
            assert_eq!(read(text), Err(error), "{text}");
        }
    }

    #[test]
    fn a_name_says_that_it_is_in_the_cloud() {
        for (name, error) in [
            (r#""☁ x""#, None),
            (r#""\u2601 x""#, None),
            (r#"":cloud: x""#, None),
            (r#""x""#, Some(Malformed::CloudName)),
            (r#""☁x""#, Some(Malformed::CloudName)),
            (r#""☁ ""#, Some(Malformed::CloudName)),
            (r#""""#, Some(Malformed::CloudName)),
            ("5", Some(Malformed::NotAString("name"))),
            ("null", Some(Malformed::NotAString("name"))),
        ] {
            for method in ["set", "create"] {
                let text = format!(r#"{{"method":"{method}","name":{name},"value":"1"}}"#);
                assert_eq!(read(&text).err(), error, "{text}");
            }
        }
        for method in ["rename", "delete"] {
            let text = format!(r#"{{"method":"{method}","name":"☁ x","new_name":"y"}}"#);
            assert_eq!(read(&text), Ok(ClientMessage::Ignored));
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
