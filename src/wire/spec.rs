//! The dialects with `kind`: the specification's, and that of 2020.

use super::{
    ClientMessage, Handshake, Json, Malformed, Terms,
    envelope::{Envelope, string},
    text,
};

pub(super) fn decode(envelope: Envelope<'_>) -> Result<ClientMessage<'_>, Malformed> {
    match string("kind", envelope.kind).map_err(|_| Malformed::NoTag("kind"))?.as_json() {
        "set" => Ok(ClientMessage::Set {
            name: string("variable", envelope.variable.or(envelope.var))?,
            value: Some(string("value", envelope.value)?),
            terms: Terms {
                was: envelope.was.map(|was| string("was", Some(was))).transpose()?,
                ack: envelope.ack.and_then(|ack| ack.get().parse().ok()).filter(is_exact),
            },
        }),
        "handshake" => Ok(ClientMessage::Handshake(Handshake {
            room: string("room", envelope.room.or(envelope.id))?,
            username: string("username", envelope.username)?,
            variables: Some(
                envelope.variables.and_then(text::parse_map).ok_or(Malformed::Variables)?,
            ),
            acknowledge: envelope.acknowledge.is_some_and(|raw| raw.get() == "true"),
            resume: envelope.resume.and_then(Json::parse).filter(is_secret),
        })),
        _ => Err(Malformed::UnknownTag("kind")),
    }
}

/// Returns whether JavaScript reads the number exactly as it was written.
fn is_exact(number: &u64) -> bool {
    *number < 1 << 53
}

/// Returns whether a text is long enough that nobody guesses it, and short enough to be cheap to keep.
fn is_secret(resume: &Json<'_>) -> bool {
    super::RESUME_BYTES.contains(&resume.byte_len())
}

#[cfg(test)]
mod tests {
    use super::super::{Dialect, Json, ScratchValues, decode};
    use super::*;

    fn json(text: &str) -> Json<'static> {
        Json::from_plain(text)
    }

    fn read(text: &str) -> Result<ClientMessage<'_>, Malformed> {
        decode(Dialect::Spec, ScratchValues::default(), text)
    }

    #[test]
    fn a_handshake_is_read_whole() {
        for room in ["room", "id"] {
            let text = format!(
                r#"{{"variables":{{"x":"0","☁ y":"\"","x":"1"}},"{room}":"1","kind":"handshake","username":"ann","extra":[]}}"#
            );
            let expected = Handshake {
                room: json("1"),
                username: json("ann"),
                variables: Some(vec![(json("x"), json("1")), (json("☁ y"), json("\""))]),
                acknowledge: false,
                resume: None,
            };
            assert_eq!(read(&text), Ok(ClientMessage::Handshake(expected)));
        }
    }

    #[test]
    fn a_set_may_have_terms() {
        for (text, was, ack) in [
            (r#""was":"1","ack":7"#, Some("1"), Some(7)),
            (r#""ack":9007199254740991"#, None, Some((1 << 53) - 1)),
            (r#""was":"""#, Some(""), None),
            // Any other `ack` is ignored.
            (r#""ack":9007199254740992"#, None, None),
            (r#""ack":"7""#, None, None),
            (r#""ack":-1"#, None, None),
            (r#""was":null,"ack":null"#, None, None),
        ] {
            let text = format!(r#"{{"kind":"set","variable":"x","value":"2",{text}}}"#);
            let terms = Terms { was: was.map(json), ack };
            let (name, value) = (json("x"), Some(json("2")));
            assert_eq!(read(&text), Ok(ClientMessage::Set { name, value, terms }), "{text}");
        }
        let text = r#"{"kind":"set","variable":"x","value":"2","was":1}"#;
        assert_eq!(read(text), Err(Malformed::NotAString("was")));
    }

    #[test]
    fn each_field_is_checked() {
        let string = Malformed::NotAString;
        for (text, error) in [
            (r#"{"kind":"set","value":"1"}"#, string("variable")),
            (r#"{"kind":"set","variable":1,"value":"1"}"#, string("variable")),
            (r#"{"kind":"set","var":1,"value":"1"}"#, string("variable")),
            (r#"{"kind":"set","variable":"x"}"#, string("value")),
            (r#"{"kind":"set","variable":"x","value":1}"#, string("value")),
            (r#"{"kind":"set","variable":"x","value":null}"#, string("value")),
            (r#"{"kind":"handshake","username":"a","variables":{}}"#, string("room")),
            (r#"{"kind":"handshake","room":1,"username":"a","variables":{}}"#, string("room")),
            (r#"{"kind":"handshake","id":1,"username":"a","variables":{}}"#, string("room")),
            (r#"{"kind":"handshake","room":"1","variables":{}}"#, string("username")),
            (r#"{"kind":"handshake","room":"1","username":{},"variables":{}}"#, string("username")),
            (r#"{"kind":"handshake","room":"1","username":"a"}"#, Malformed::Variables),
            (
                r#"{"kind":"handshake","id":"1","username":"a","variables":[]}"#,
                Malformed::Variables,
            ),
            (
                r#"{"kind":"handshake","room":"1","username":"a","variables":{"x":1}}"#,
                Malformed::Variables,
            ),
        ] {
            assert_eq!(read(text), Err(error), "{text}");
        }
    }
}
