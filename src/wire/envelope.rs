//! The fields of messages, in all dialects.

use std::{borrow::Cow, fmt};

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{Json, Malformed};

/// The fields of one object. Other fields are skipped. If a field appears twice, the last one counts,
/// as in JavaScript. A field that is `null` counts as missing.
#[derive(Debug, Default)]
pub(super) struct Envelope<'a> {
    pub(super) kind: Option<&'a RawValue>,
    pub(super) method: Option<&'a RawValue>,
    pub(super) room: Option<&'a RawValue>,
    pub(super) id: Option<&'a RawValue>,
    pub(super) project_id: Option<&'a RawValue>,
    pub(super) username: Option<&'a RawValue>,
    pub(super) user: Option<&'a RawValue>,
    pub(super) variables: Option<&'a RawValue>,
    pub(super) acknowledge: Option<&'a RawValue>,
    pub(super) resume: Option<&'a RawValue>,
    pub(super) variable: Option<&'a RawValue>,
    pub(super) var: Option<&'a RawValue>,
    pub(super) name: Option<&'a RawValue>,
    pub(super) value: Option<&'a RawValue>,
    pub(super) was: Option<&'a RawValue>,
    pub(super) ack: Option<&'a RawValue>,
}

impl<'a> Envelope<'a> {
    /// Reads a text that is exactly one object.
    pub(super) fn parse(message: &'a str) -> Result<Self, Malformed> {
        serde_json::from_str(message).map_err(|_| Malformed::NotOneObject)
    }

    /// Reads the object that a text begins with.
    pub(super) fn parse_first(text: &'a str) -> Result<Self, Malformed> {
        let mut objects = serde_json::Deserializer::from_str(text).into_iter::<Self>();
        objects.next().and_then(Result::ok).ok_or(Malformed::NotOneObject)
    }

    fn field(&mut self, name: &str) -> Option<&mut Option<&'a RawValue>> {
        Some(match name {
            "kind" => &mut self.kind,
            "method" => &mut self.method,
            "room" => &mut self.room,
            "id" => &mut self.id,
            "project_id" => &mut self.project_id,
            "username" => &mut self.username,
            "user" => &mut self.user,
            "variables" => &mut self.variables,
            "acknowledge" => &mut self.acknowledge,
            "resume" => &mut self.resume,
            "variable" => &mut self.variable,
            "var" => &mut self.var,
            "name" => &mut self.name,
            "value" => &mut self.value,
            "was" => &mut self.was,
            "ack" => &mut self.ack,
            _ => return None,
        })
    }
}

pub(super) fn string<'a>(
    field: &'static str,
    raw: Option<&'a RawValue>,
) -> Result<Json<'a>, Malformed> {
    raw.and_then(Json::parse).ok_or(Malformed::NotAString(field))
}

impl<'de: 'a, 'a> Deserialize<'de> for Envelope<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields)
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Envelope<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut envelope = Envelope::default();
        while let Some(Key(name)) = map.next_key()? {
            match envelope.field(&name) {
                Some(field) => {
                    let raw: &'de RawValue = map.next_value()?;
                    *field = Some(raw).filter(|raw| raw.get() != "null");
                }
                None => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        Ok(envelope)
    }
}

/// A field's name: borrowed, unless it is written with escapes. A name with a lone surrogate matches
/// none of our fields.
struct Key<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Read as bytes, because names of fields may hold lone surrogates too.
        deserializer.deserialize_bytes(KeyVisitor).map(Self)
    }
}

struct KeyVisitor;

impl<'de> Visitor<'de> for KeyVisitor {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
        Ok(String::from_utf8_lossy(bytes))
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        Ok(String::from_utf8_lossy(bytes).into_owned().into())
    }
}
