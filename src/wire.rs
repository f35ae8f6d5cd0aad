//! The text of the protocol: one decoder of clients' messages, and one encoder of the frames that they
//! are sent.
//!
//! Wire text is parsed into types once, here. Names and values stay JSON ([`Text`]), so passing them on
//! only copies bytes, and every string that a client can write arrives unchanged, lone surrogates
//! included.

mod dialect;
mod envelope;
mod frame;
mod number;
mod scratch;
mod spec;
mod text;

use std::{fmt, ops::RangeInclusive};

use envelope::Envelope;

pub use dialect::Dialect;
pub(crate) use frame::{Frame, Lines};
pub use scratch::{ScratchFraming, ScratchValues};
pub(crate) use text::{Json, NUMBER, Text, entries, parse_values};

use crate::close::CloseCode;

/// The bytes that a [`resume`](Handshake::resume) secret may have.
pub(crate) const RESUME_BYTES: RangeInclusive<usize> = 16..=128;

/// The most bytes of text in a frame to a client, unless one `set` alone is longer. A frame is written
/// in one piece, and so delays everything behind it.
pub(crate) const FRAME_BYTES: usize = 65_535;

/// Returns the length of the longest encoding of one `set` of these JSON texts, including the newline
/// before it.
pub(crate) fn set_len(name: &str, value: &str) -> usize {
    name.len() + value.len() + dialect::SET_OVERHEAD
}

/// A message of a client.
#[derive(Debug, PartialEq)]
pub(crate) enum ClientMessage<'a> {
    Handshake(Handshake<'a>),
    /// A write. Its value is `None` if the dialect does not allow the value that was sent: the write is
    /// then refused.
    Set {
        name: Json<'a>,
        value: Option<Json<'a>>,
        terms: Terms<'a>,
    },
    /// A known message without effect.
    Ignored,
}

/// The conditions and requests that a client may add to a set: an extension of the protocol, of the
/// dialects with `kind`.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Terms<'a> {
    /// The set counts only if this is the room's value when the set is ordered.
    pub(crate) was: Option<Json<'a>>,
    /// The client is notified of the outcome under this number: see [`ack`].
    pub(crate) ack: Option<u64>,
}

impl Terms<'_> {
    pub(crate) fn are_none(&self) -> bool {
        self.was.is_none() && self.ack.is_none()
    }
}

/// The first message of a client.
#[derive(Debug, PartialEq)]
pub(crate) struct Handshake<'a> {
    pub(crate) room: Json<'a>,
    pub(crate) username: Json<'a>,
    pub(crate) variables: Brought<'a>,
    /// The client asks to be notified when it has joined, and which of its sets were taken: see
    /// [`joining`], [`joined`] and [`taken`].
    pub(crate) acknowledge: bool,
    /// A secret that the client has kept since its first handshake. A client that has it gets the name
    /// from its earlier connection. A secret with a length outside of [`RESUME_BYTES`] counts as none.
    pub(crate) resume: Option<Json<'a>>,
}

/// Creates the notice that more notices will follow, for a client that asked for them. It is sent
/// before anything is decided, because a join may take its time.
pub(crate) fn joining() -> Frame {
    Frame::text(r#"{"kind":"joining"}"#)
}

/// Creates the notice that the client has joined and has been sent everything that the room has, for a
/// client that asked for it. A client that created the room knows its values already.
pub(crate) fn joined(created: bool) -> Frame {
    Frame::text(&format!(r#"{{"kind":"joined","created":{created}}}"#))
}

/// Creates the notice that the room has seen this many of the client's sets, for a client that asked
/// for it.
pub(crate) fn taken(sets: u64) -> Frame {
    Frame::text(&format!(r#"{{"kind":"taken","sets":{sets}}}"#))
}

/// Creates the notice of the outcome of a set, for a client that asked for it. `is_done` is `None` if
/// the outcome is unknown.
pub(crate) fn ack(number: u64, is_done: Option<bool>) -> Frame {
    let ok = serde_json::json!(is_done);
    Frame::text(&format!(r#"{{"kind":"ack","ack":{number},"ok":{ok}}}"#))
}

/// The variables that a handshake brings, each name once. If a message has a name twice, the later
/// value counts, as for JSON readers. `None` if the dialect's handshakes bring none, and so match every
/// room.
pub(crate) type Brought<'a> = Option<Vec<(Json<'a>, Json<'a>)>>;

/// The reason why a text is no message of the protocol. Its `Display` is the reason that the client
/// receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Malformed {
    NotOneObject,
    /// The field for the kind of message has no string.
    NoTag(&'static str),
    UnknownTag(&'static str),
    NotAString(&'static str),
    Variables,
    ProjectId,
    User,
}

impl Malformed {
    /// Returns the close code for the client: one after which clients of its kind do not send the same
    /// again.
    pub(crate) fn code(self) -> CloseCode {
        match self {
            Self::ProjectId => CloseCode::Incompatible,
            Self::User => CloseCode::Username,
            _ => CloseCode::Protocol,
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOneObject => f.write_str("a message must be exactly one JSON object"),
            Self::NoTag(tag) => write!(f, "a message needs a '{tag}', which is a string"),
            Self::UnknownTag(tag) => {
                write!(f, "unknown '{tag}': expected 'handshake' or 'set'")
            }
            Self::NotAString(name) => write!(f, "'{name}' must be a string"),
            Self::Variables => {
                f.write_str("'variables' must be an object whose values are strings")
            }
            Self::ProjectId => f.write_str("'project_id' must be a string or a number"),
            Self::User => f.write_str("'user' must be a string: choose a username"),
        }
    }
}

/// Parses one message of a client that speaks this dialect.
pub(crate) fn decode(
    dialect: Dialect,
    values: ScratchValues,
    message: &str,
) -> Result<ClientMessage<'_>, Malformed> {
    let envelope = Envelope::parse(message)?;
    match dialect {
        Dialect::Spec | Dialect::Forkphorus2020 => spec::decode(envelope),
        Dialect::Scratch => scratch::decode(envelope, values),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIALECTS: [Dialect; 3] = [Dialect::Spec, Dialect::Forkphorus2020, Dialect::Scratch];

    fn decode(dialect: Dialect, message: &str) -> Result<ClientMessage<'_>, Malformed> {
        super::decode(dialect, ScratchValues::default(), message)
    }

    #[test]
    fn a_text_that_is_not_one_object_is_refused() {
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
            "{\"kind\":\"set\",\"variable\":\"a\",\"value\":\"1\"}\n{\"kind\":\"set\",\"variable\":\"a\",\"value\":\"2\"}",
        ] {
            for dialect in DIALECTS {
                assert_eq!(decode(dialect, text), Err(Malformed::NotOneObject), "{text}");
            }
        }
    }

    #[test]
    fn a_tag_is_a_known_string() {
        for (dialect, tag) in DIALECTS.into_iter().zip(["kind", "kind", "method"]) {
            for value in ["null", "5", r#"["set"]"#] {
                let text = format!(r#"{{"{tag}":{value}}}"#);
                assert_eq!(decode(dialect, &text), Err(Malformed::NoTag(tag)), "{text}");
            }
            assert_eq!(decode(dialect, "{}"), Err(Malformed::NoTag(tag)));
            for value in ["Set", "", "set "] {
                let text = format!(r#"{{"{tag}":"{value}"}}"#);
                assert_eq!(decode(dialect, &text), Err(Malformed::UnknownTag(tag)), "{text}");
            }
            let escaped = format!(
                r#"{{"{tag}":"\u0073et","variable":"x","name":"\u2601 x","value":"1"}}{}"#,
                "\n"
            );
            assert!(matches!(decode(dialect, &escaped), Ok(ClientMessage::Set { .. })));
        }
    }

    #[test]
    fn of_a_field_that_is_there_twice_the_last_counts() {
        for (dialect, text) in [
            (Dialect::Spec, r#"{"kind":"x","variable":1,"kind":"set","variable":"a","value":"1"}"#),
            (Dialect::Scratch, r#"{"method":"x","name":1,"method":"set","name":"a","value":"1"}"#),
        ] {
            let expected = ClientMessage::Set {
                name: Json::from_plain("a"),
                value: Some(Json::from_plain("1")),
                terms: Terms::default(),
            };
            assert_eq!(decode(dialect, text), Ok(expected));
        }
        let text = r#"{"kind":"set","\ud800":1,"kind":null}"#;
        assert_eq!(decode(Dialect::Spec, text), Err(Malformed::NoTag("kind")));
    }

    #[test]
    fn nesting_is_skipped_without_recursion() {
        let deep = format!(
            r#"{{"kind":"set","method":"set","variable":"x","name":"☁ x","value":"1","more":{}{}}}"#,
            "[".repeat(50_000),
            "]".repeat(50_000)
        );
        for dialect in DIALECTS {
            assert!(decode(dialect, &deep).is_ok());
        }
    }

    #[test]
    fn numbers_stay_numbers_for_scratch_clients() {
        for (sent, scratch, spec) in
            [("5", "5", "\"5\""), ("0.50", "0.5", "\"0.5\""), ("\"5\"", "\"5\"", "\"5\"")]
        {
            let text = format!(r#"{{"method":"set","name":"☁ x","value":{sent}}}"#);
            let message = decode(Dialect::Scratch, &text);
            let Ok(ClientMessage::Set { name, value: Some(value), .. }) = message else {
                panic!("{message:?}");
            };
            // The value also survives being kept elsewhere.
            let value = Json::stored(value.to_text().as_stored()).unwrap();
            let (name, value) = (name.to_text(), value.to_text());
            let written = |dialect: Dialect| {
                let mut out = String::new();
                dialect.push_set(&name, &value, &mut out);
                out
            };
            assert!(written(Dialect::Scratch).ends_with(&format!(r#""value":{scratch}}}"#)));
            assert!(written(Dialect::Spec).ends_with(&format!(r#""value":{spec}}}"#)));
        }
    }

    #[test]
    fn a_set_is_written_as_it_was_read() {
        for (dialect, text) in [
            (Dialect::Spec, r#"{"kind":"set","variable":"☁ a\"b","value":"\\\n\ud800 ☁"}"#),
            (Dialect::Forkphorus2020, r#"{"kind":"set","var":"☁ a\"b","value":"\\\n\ud800 ☁"}"#),
            (Dialect::Scratch, r#"{"method":"set","name":"☁ a\"b","value":"\\\n\ud800 ☁"}"#),
        ] {
            let message = super::decode(dialect, ScratchValues::Strings, text);
            let Ok(ClientMessage::Set { name, value: Some(value), .. }) = message else {
                panic!("{message:?}");
            };
            let (name, value) = (name.to_text(), value.to_text());
            let mut out = String::new();
            dialect.push_set(&name, &value, &mut out);
            assert_eq!(out, text);
            assert!(set_len(name.as_json(), value.as_json()) > text.len());
        }
    }
}
