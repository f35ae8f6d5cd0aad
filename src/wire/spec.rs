//! The dialect of the specification.

use super::{ClientMessage, Dialect, Envelope, Handshake, Json, Malformed, Text, text};

/// Bytes of a `set` beside its name and value, the newline before it included.
pub(super) const SET_OVERHEAD: usize =
    r#"{"kind":"set","variable":"","value":""}"#.len() + "\n".len();

pub(super) fn decode<'a>(
    kind: &str,
    envelope: &Envelope<'a>,
) -> Result<ClientMessage<'a>, Malformed> {
    match kind {
        "set" => Ok(ClientMessage::Set {
            name: string("variable", envelope.variable)?,
            value: string("value", envelope.value)?,
        }),
        "handshake" => Ok(ClientMessage::Handshake(Handshake {
            dialect: Dialect::Spec,
            room: string("room", envelope.room)?,
            username: string("username", envelope.username)?,
            variables: envelope
                .variables
                .and_then(text::parse_map)
                .ok_or(Malformed::Field("variables"))?,
        })),
        _ => Err(Malformed::UnknownKind),
    }
}

fn string<'a>(
    field: &'static str,
    raw: Option<&'a serde_json::value::RawValue>,
) -> Result<Json<'a>, Malformed> {
    raw.and_then(Json::parse).ok_or(Malformed::Field(field))
}

pub(super) fn push_set(name: &Text, value: &Text, out: &mut String) {
    out.push_str(r#"{"kind":"set","variable":""#);
    out.push_str(name.as_json());
    out.push_str(r#"","value":""#);
    out.push_str(value.as_json());
    out.push_str(r#""}"#);
}

#[cfg(test)]
mod tests {
    use super::super::decode;
    use super::*;

    fn json(text: &str) -> Json<'static> {
        Json::from_plain(text)
    }

    #[test]
    fn a_handshake_is_read_whole() {
        let text = r#"{"variables":{"x":"0","☁ y":"\"","x":"1"},"room":"1","kind":"handshake","username":"ann","extra":[]}"#;
        let expected = Handshake {
            dialect: Dialect::Spec,
            room: json("1"),
            username: json("ann"),
            variables: vec![(json("x"), json("1")), (json("☁ y"), json("\""))],
        };
        assert_eq!(decode(text), Ok(ClientMessage::Handshake(expected)));
    }

    #[test]
    fn each_field_is_checked() {
        for (text, field) in [
            (r#"{"kind":"set","value":"1"}"#, "variable"),
            (r#"{"kind":"set","variable":1,"value":"1"}"#, "variable"),
            (r#"{"kind":"set","variable":"x"}"#, "value"),
            (r#"{"kind":"set","variable":"x","value":1}"#, "value"),
            (r#"{"kind":"set","variable":"x","value":null}"#, "value"),
            (r#"{"kind":"handshake","username":"a","variables":{}}"#, "room"),
            (r#"{"kind":"handshake","room":1,"username":"a","variables":{}}"#, "room"),
            (r#"{"kind":"handshake","room":"1","variables":{}}"#, "username"),
            (r#"{"kind":"handshake","room":"1","username":{},"variables":{}}"#, "username"),
            (r#"{"kind":"handshake","room":"1","username":"a"}"#, "variables"),
            (r#"{"kind":"handshake","room":"1","username":"a","variables":[]}"#, "variables"),
            (r#"{"kind":"handshake","room":"1","username":"a","variables":{"x":1}}"#, "variables"),
        ] {
            assert_eq!(decode(text), Err(Malformed::Field(field)), "{text}");
        }
    }

    #[test]
    fn a_set_is_written_as_it_was_read() {
        let text = r#"{"kind":"set","variable":"a\"b","value":"\\\n\ud800 ☁"}"#;
        let Ok(ClientMessage::Set { name, value }) = decode(text) else {
            panic!("not a set");
        };
        let (name, value) = (name.to_text(), value.to_text());
        let mut out = String::new();
        Dialect::Spec.push_set(&name, &value, &mut out);
        assert_eq!(out, text);
        assert_eq!(super::super::set_len(&name, &value), text.len() + 1);
    }
}
