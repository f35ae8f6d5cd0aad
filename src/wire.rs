//! The protocol's text: one decoder from a client's message, one encoder of what goes to clients.
//!
//! Wire text is parsed into types once, here. Names and values stay JSON ([`Text`]), so that
//! passing them on is copying, and every string a client can write arrives as it was, lone
//! surrogates included.

mod spec;
mod text;

use std::fmt;

use serde::Deserialize;
use serde_json::value::RawValue;

pub(crate) use text::{Json, Text};

/// A frame to a client is at most this long, unless one `set` alone is longer: the WebSocket layer
/// keeps a write buffer as large as the largest frame it ever sent.
pub(crate) const FRAME_BYTES: usize = 65_535;

/// The field names that a client uses. The first message tells, and the session answers in kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `kind`, `room`, `username`, `variables`, `variable`, `value`: the protocol as specified.
    Spec,
}

impl Dialect {
    pub(crate) const COUNT: usize = 1;

    /// A place for each dialect in what is encoded once a dialect.
    pub(crate) fn index(self) -> usize {
        self as usize
    }

    /// Appends one `set` object.
    pub(crate) fn push_set(self, name: &Text, value: &Text, out: &mut String) {
        match self {
            Self::Spec => spec::push_set(name, value, out),
        }
    }
}

/// The length of the longest encoding of one `set`, the newline before it included.
pub(crate) fn set_len(name: &Text, value: &Text) -> usize {
    name.as_json().len() + value.as_json().len() + spec::SET_OVERHEAD
}

/// What a client says.
#[derive(Debug, PartialEq)]
pub(crate) enum ClientMessage<'a> {
    Handshake(Handshake<'a>),
    Set { name: Json<'a>, value: Json<'a> },
}

/// The first message of a client.
#[derive(Debug, PartialEq)]
pub(crate) struct Handshake<'a> {
    pub(crate) dialect: Dialect,
    pub(crate) room: Json<'a>,
    pub(crate) username: Json<'a>,
    /// Each name once; where a message has one twice, the later value (as JSON readers do).
    pub(crate) variables: Vec<(Json<'a>, Json<'a>)>,
}

/// Why a text is no message of the protocol; its `Display` is the reason that the client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Malformed {
    NotOneObject,
    NoKind,
    UnknownKind,
    Field(&'static str),
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOneObject => f.write_str("a message must be exactly one JSON object"),
            Self::NoKind => f.write_str("a message needs a 'kind', which is a string"),
            Self::UnknownKind => f.write_str("unknown 'kind': expected 'handshake' or 'set'"),
            Self::Field("variables") => {
                f.write_str("'variables' must be an object whose values are strings")
            }
            Self::Field(name) => write!(f, "'{name}' must be a string"),
        }
    }
}

/// Every field that any message of any dialect has; what is not asked for stays unread.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    room: Option<&'a RawValue>,
    #[serde(borrow)]
    username: Option<&'a RawValue>,
    #[serde(borrow)]
    variables: Option<&'a RawValue>,
    #[serde(borrow)]
    variable: Option<&'a RawValue>,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
}

/// Parses one message of a client.
pub(crate) fn decode(message: &str) -> Result<ClientMessage<'_>, Malformed> {
    // A derived struct would also take an array.
    if !message.trim_start().starts_with('{') {
        return Err(Malformed::NotOneObject);
    }
    let envelope: Envelope<'_> =
        serde_json::from_str(message).map_err(|_| Malformed::NotOneObject)?;
    let kind = envelope.kind.and_then(Json::parse).ok_or(Malformed::NoKind)?;
    spec::decode(kind.as_json(), &envelope)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_one_object_is_refused() {
        for text in [
            "",
            " ",
            "x",
            "[]",
            "null",
            "5",
            "\"set\"",
            "{",
            "{}{}",
            "{} 1",
            "{\"kind\":}",
            r#"["set",null,null,null,"x","1"]"#,
            r#"{"kind":"set","kind":"set","variable":"x","value":"1"}"#,
            "{\"kind\":\"set\",\"variable\":\"a\",\"value\":\"1\"}\n{\"kind\":\"set\",\"variable\":\"a\",\"value\":\"2\"}",
        ] {
            assert_eq!(decode(text), Err(Malformed::NotOneObject), "{text}");
        }
    }

    #[test]
    fn a_kind_is_a_known_string() {
        for text in ["{}", r#"{"kind":null}"#, r#"{"kind":5}"#, r#"{"kind":["set"]}"#] {
            assert_eq!(decode(text), Err(Malformed::NoKind), "{text}");
        }
        for text in [r#"{"kind":"Set"}"#, r#"{"kind":""}"#, r#"{"kind":"set "}"#] {
            assert_eq!(decode(text), Err(Malformed::UnknownKind), "{text}");
        }
        let escaped = r#"{"kind":"\u0073et","variable":"x","value":"1"}"#;
        assert!(matches!(decode(escaped), Ok(ClientMessage::Set { .. })));
    }

    #[test]
    fn nesting_is_skipped_without_recursion() {
        let deep = format!(
            r#"{{"kind":"set","variable":"x","value":"1","more":{}{}}}"#,
            "[".repeat(50_000),
            "]".repeat(50_000)
        );
        assert!(decode(&deep).is_ok());
    }
}
