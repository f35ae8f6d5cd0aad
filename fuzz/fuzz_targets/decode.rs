//! Any message of a client is read as an independent reader reads it, and a message that is passed on is
//! read as the same. The first byte of the input chooses the dialect.

#![no_main]

use std::fmt;

use axum_cloud_variables::{
    Dialect, ScratchValues,
    internals::{Decoded, decoded, encoded},
};
use libfuzzer_sys::fuzz_target;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

fuzz_target!(|input: &[u8]| {
    let Some((how, text)) = input.split_first() else { return };
    let Ok(text) = str::from_utf8(text) else { return };
    let (dialect, values) = match how % 4 {
        0 => (Dialect::Spec, ScratchValues::Numbers),
        1 => (Dialect::Forkphorus2020, ScratchValues::Numbers),
        2 => (Dialect::Scratch, ScratchValues::Numbers),
        _ => (Dialect::Scratch, ScratchValues::Strings),
    };
    let read = decoded(dialect, values, text);
    match serde_json::from_str::<Object>(text) {
        Ok(object) => {
            let expected = match dialect {
                Dialect::Scratch => of_scratch(&object, values),
                _ => of_spec(&object),
            };
            agree(read.as_ref(), expected.as_ref(), text);
        }
        Err(_) if is_beyond_the_model(text) => {}
        Err(error) => assert_eq!(read, None, "{error}: {text}"),
    }
    if let Some(Decoded::Set { name, value: Some(value) }) = read {
        let line = encoded(dialect, &name, &value);
        assert!(!line.contains(['\n', '\r']), "{line}");
        // A number has become a string, because the room keeps strings.
        let again = decoded(dialect, ScratchValues::Strings, &line);
        assert_eq!(again, Some(Decoded::Set { name, value: Some(value) }), "{line}");
    }
});

/// Returns whether a text may be beyond the model's JSON reader: lone surrogates, deep nesting, numbers
/// beyond f64.
fn is_beyond_the_model(text: &str) -> bool {
    text.contains("\\u")
        || text.contains(['e', 'E'])
        || text.len() > 300
        || text.matches(['[', '{']).count() > 100
}

/// The members of an object, in order and with duplicates.
struct Object(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

impl Object {
    /// Returns the last member of this name. Treats null like a missing member.
    fn get(&self, name: &str) -> Option<&Value> {
        let last = self.0.iter().rev().find(|(n, _)| n == name);
        last.map(|(_, value)| value).filter(|value| !value.is_null())
    }

    fn string(&self, name: &str) -> Option<String> {
        self.get(name)?.as_str().map(Into::into)
    }
}

/// A message as the model reads it, in plain text.
#[derive(Debug)]
enum Expected {
    Handshake { room: Said, username: String, variables: Option<Vec<(String, String)>> },
    Set { name: String, value: Option<Said> },
    Ignored,
}

#[derive(Debug)]
enum Said {
    Text(String),
    Number(f64),
}

fn of_spec(object: &Object) -> Option<Expected> {
    let either = |one, other| if object.get(one).is_some() { one } else { other };
    match object.get("kind")?.as_str()? {
        "set" => Some(Expected::Set {
            name: object.string(either("variable", "var"))?,
            value: Some(Said::Text(object.string("value")?)),
        }),
        "handshake" => {
            let brought = object.get("variables")?.as_object()?.iter();
            let brought = brought.map(|(name, value)| Some((name.clone(), value.as_str()?.into())));
            Some(Expected::Handshake {
                room: Said::Text(object.string(either("room", "id"))?),
                username: object.string("username")?,
                variables: Some(brought.collect::<Option<_>>()?),
            })
        }
        _ => None,
    }
}

fn of_scratch(object: &Object, values: ScratchValues) -> Option<Expected> {
    let said = |name| match object.get(name)? {
        Value::String(text) => Some(Said::Text(text.clone())),
        Value::Number(number) => number.as_f64().map(Said::Number),
        _ => None,
    };
    match object.get("method")?.as_str()? {
        "set" | "create" => {
            let Some(name) = object.string("name") else { return Some(Expected::Ignored) };
            let value = said("value").filter(|value| match value {
                Said::Text(text) => values == ScratchValues::Strings || is_numeric(text),
                Said::Number(_) => true,
            });
            Some(Expected::Set { name, value })
        }
        "handshake" => Some(Expected::Handshake {
            room: said("project_id")?,
            username: object.string("user")?,
            variables: None,
        }),
        "rename" | "delete" => Some(Expected::Ignored),
        _ => None,
    }
}

fn is_numeric(text: &str) -> bool {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (whole, part) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let digits = |text: &str| text.chars().all(|c| matches!(c, '0'..='9'));
    text.is_empty() || digits(whole) && digits(part) && !(whole.is_empty() && part.is_empty())
}

fn agree(read: Option<&Decoded>, expected: Option<&Expected>, text: &str) {
    let same = match (read, expected) {
        (None, None) | (Some(Decoded::Ignored), Some(Expected::Ignored)) => true,
        (Some(Decoded::Set { name: n, value: v }), Some(Expected::Set { name, value })) => {
            plain(n) == *name
                && match (v, value) {
                    (None, None) => true,
                    (Some(v), Some(value)) => says(v, value),
                    _ => false,
                }
        }
        (
            Some(Decoded::Handshake { room: r, username: u, variables: v }),
            Some(Expected::Handshake { room, username, variables }),
        ) => {
            let brought = v.as_ref().map(|v| {
                let mut plain: Vec<_> = v.iter().map(|(n, v)| (plain(n), plain(v))).collect();
                plain.sort();
                plain
            });
            says(r, room) && plain(u) == *username && brought == *variables
        }
        _ => false,
    };
    assert!(same, "{text}\nread as {read:?}\nis {expected:?}");
}

/// Returns the string of a JSON text without its quotes.
fn plain(json: &str) -> String {
    serde_json::from_str(&format!("\"{json}\"")).expect("JSON")
}

/// Compares two values. The model's reader of numbers may be off by the last bit.
fn says(json: &str, said: &Said) -> bool {
    match said {
        Said::Text(text) => plain(json) == *text,
        Said::Number(number) => {
            let read: f64 = plain(json).parse().expect("a number");
            (read - number).abs() <= number.abs() * 1e-15 || read == *number
        }
    }
}
