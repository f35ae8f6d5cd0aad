//! Strings as they stand between the quotes of a JSON text.

use std::{
    borrow::{Borrow, Cow},
    collections::HashMap,
    fmt,
    hash::{Hash, Hasher},
    str,
    sync::Arc,
};

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Characters that are legal within a JSON string, but that some readers of lines take for the end of a
/// line.
const LINE_ENDS: [char; 3] = ['\u{85}', '\u{2028}', '\u{2029}'];

/// A JSON string, borrowed from a message if its spelling there is already canonical: the characters
/// that must be escaped are, and so are [`LINE_ENDS`], but no others. So two strings are equal if their
/// texts are.
#[derive(Debug, Clone)]
pub(crate) struct Json<'a> {
    canonical: Cow<'a, str>,
    /// The length of the string itself in bytes of UTF-8 (WTF-8 for lone surrogates).
    len: usize,
    /// The value came as a number, and is sent as one to clients that know numbers.
    is_number: bool,
}

/// The prefix of numbers where strings and numbers are kept together. No string begins with it, because
/// quotation marks in strings are escaped.
pub(crate) const NUMBER: char = '"';

impl<'a> Json<'a> {
    /// Returns the string, or `None` if the JSON value is no string.
    pub(crate) fn parse(raw: &'a RawValue) -> Option<Self> {
        let inner = raw.get().strip_prefix('"')?.strip_suffix('"')?;
        if is_canonical(inner) {
            return Some(Self::borrowed(inner));
        }
        serde_json::from_str(raw.get()).ok()
    }

    fn borrowed(canonical: &'a str) -> Self {
        Self { canonical: Cow::Borrowed(canonical), len: canonical.len(), is_number: false }
    }

    /// Creates a JSON number with this spelling.
    pub(crate) fn from_number(spelled: &str) -> Json<'static> {
        Json { is_number: true, ..Json::from_plain(spelled) }
    }

    /// Returns the value as a string, even if it was a number.
    pub(crate) fn into_string(self) -> Self {
        Self { is_number: false, ..self }
    }

    /// Returns the canonical form of a string that is no JSON.
    pub(crate) fn from_plain(plain: &str) -> Json<'static> {
        Json::from_wtf8(plain.as_bytes())
    }

    /// Parses a text that [`Text::as_stored`] returned. Returns `None` if it is no JSON.
    pub(crate) fn stored(text: &str) -> Option<Json<'static>> {
        if let Some(number) = text.strip_prefix(NUMBER) {
            let number: Box<RawValue> = serde_json::from_str(number).ok()?;
            return super::number::parse(&number);
        }
        let quoted: Box<RawValue> = serde_json::from_str(&format!("\"{text}\"")).ok()?;
        Some(Json::parse(&quoted)?.into_owned())
    }

    fn from_wtf8(bytes: &[u8]) -> Json<'static> {
        Json { canonical: Cow::Owned(escape(bytes)), len: bytes.len(), is_number: false }
    }

    pub(crate) fn into_owned(self) -> Json<'static> {
        Json { canonical: Cow::Owned(self.canonical.into_owned()), ..self }
    }

    pub(crate) fn as_json(&self) -> &str {
        &self.canonical
    }

    pub(crate) fn byte_len(&self) -> usize {
        self.len
    }

    /// Returns the string itself, or `None` if it has a lone surrogate.
    pub(crate) fn plain(&self) -> Option<Cow<'_, str>> {
        if !self.canonical.contains('\\') {
            return Some(Cow::Borrowed(&self.canonical));
        }
        serde_json::from_str(&format!("\"{}\"", self.canonical)).ok().map(Cow::Owned)
    }

    /// Returns the string itself, with each lone surrogate replaced.
    pub(crate) fn lossy(&self) -> Cow<'_, str> {
        self.plain().unwrap_or_else(|| lossy(&self.canonical).into())
    }

    pub(crate) fn to_text(&self) -> Text {
        match self.is_number {
            true => Text(format!("{NUMBER}{}", self.as_json()).into()),
            false => Text(self.as_json().into()),
        }
    }
}

impl PartialEq for Json<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.canonical == other.canonical && self.is_number == other.is_number
    }
}

impl Eq for Json<'_> {}

/// Hashes like its text, by which it is found in a map.
impl Hash for Json<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_json().hash(state);
    }
}

impl Borrow<str> for Json<'_> {
    fn borrow(&self) -> &str {
        &self.canonical
    }
}

/// A canonical JSON string, or a number, that rooms keep and share.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Text(Arc<str>);

impl Text {
    /// Returns the text between the quotes of the string, or the number.
    pub(crate) fn as_json(&self) -> &str {
        self.0.strip_prefix(NUMBER).unwrap_or(&self.0)
    }

    pub(crate) fn is_number(&self) -> bool {
        self.0.starts_with(NUMBER)
    }

    /// Returns the form that is kept outside of this process: the text of [`as_json`](Self::as_json),
    /// behind a quotation mark if it is a number.
    pub(crate) fn as_stored(&self) -> &str {
        &self.0
    }

    /// Returns the string itself, with each lone surrogate replaced.
    pub(crate) fn lossy(&self) -> String {
        lossy(self.as_json())
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

/// Returns the entries of an object whose values are strings, in order, with the last value of each
/// name. Returns `None` for any other JSON.
pub(crate) fn parse_map(raw: &RawValue) -> Option<Vec<(Json<'_>, Json<'_>)>> {
    let values = parse_values(raw)?;
    values.iter().all(|(_, value)| !value.is_number).then_some(values)
}

/// Returns the entries as [`parse_map`] does, but of an object whose values may be numbers too.
pub(crate) fn parse_values(raw: &RawValue) -> Option<Vec<(Json<'_>, Json<'_>)>> {
    serde_json::from_str::<Entries<'_>>(raw.get()).ok().map(|entries| entries.0)
}

/// Returns the canonical forms of a host's names and values.
pub(crate) fn entries<I, N, V>(values: I) -> Vec<(Json<'static>, Json<'static>)>
where
    I: IntoIterator<Item = (N, V)>,
    N: AsRef<str>,
    V: fmt::Display,
{
    let entry = |(name, value): (N, V)| {
        (Json::from_plain(name.as_ref()), Json::from_plain(&value.to_string()))
    };
    values.into_iter().map(entry).collect()
}

fn is_canonical(json: &str) -> bool {
    !json.contains('\\') && (json.is_ascii() || !json.contains(LINE_ENDS))
}

fn lossy(canonical: &str) -> String {
    let (mut json, mut rest) = (String::from("\""), canonical);
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        json.push_str(before);
        let len = if escape.starts_with("\\u") { 6 } else { 2 };
        // Of the escapes that begin with `\u`, only those of surrogates go on with `d`.
        json.push_str(if escape.starts_with("\\ud") { "\u{fffd}" } else { &escape[..len] });
        rest = &escape[len..];
    }
    json.push_str(rest);
    json.push('"');
    serde_json::from_str(&json).unwrap_or_default()
}

fn escape(mut bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 8);
    while !bytes.is_empty() {
        let valid = match str::from_utf8(bytes) {
            Ok(all) => all,
            Err(error) => str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
        };
        valid.chars().for_each(|c| escape_char(c, &mut out));
        bytes = &bytes[valid.len()..];
        if let [0xED, high, low, rest @ ..] = bytes {
            let unit = 0xD000 | u32::from(high & 0x3F) << 6 | u32::from(low & 0x3F);
            escape_unit(unit, &mut out);
            bytes = rest;
        } else if let [_, rest @ ..] = bytes {
            out.push(char::REPLACEMENT_CHARACTER);
            bytes = rest;
        }
    }
    out
}

fn escape_char(c: char, out: &mut String) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c if c < ' ' || LINE_ENDS.contains(&c) => escape_unit(c as u32, out),
        c => out.push(c),
    }
}

fn escape_unit(unit: u32, out: &mut String) {
    out.push_str(&format!("\\u{unit:04x}"));
}

impl<'de> Deserialize<'de> for Json<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Read as bytes, because a string may hold lone surrogates, and a `str` may not.
        deserializer.deserialize_bytes(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_bytes<E: Error>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
        match str::from_utf8(bytes) {
            // A borrowed string had no escapes, so it has no quote and no control character either.
            Ok(plain) if is_canonical(plain) => Ok(Json::borrowed(plain)),
            _ => self.visit_bytes(bytes),
        }
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        Ok(Json::from_wtf8(bytes))
    }
}

struct Entries<'a>(Vec<(Json<'a>, Json<'a>)>);

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of strings and numbers")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut places: HashMap<Json<'de>, usize> = HashMap::new();
        let mut entries: Vec<(Json<'de>, Json<'de>)> = Vec::new();
        while let Some(name) = map.next_key::<Json<'de>>()? {
            // Read as raw text, because an array of numbers would pass for a string if it were read as
            // bytes.
            let raw: &'de RawValue = map.next_value()?;
            let value = Json::parse(raw).or_else(|| super::number::parse(raw));
            let value = value.ok_or_else(|| A::Error::custom("neither a string nor a number"))?;
            match places.get(&name) {
                Some(&place) => entries[place].1 = value,
                None => {
                    places.insert(name.clone(), entries.len());
                    entries.push((name, value));
                }
            }
        }
        Ok(Entries(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Json<'_> {
        Json::parse(serde_json::from_str(json).unwrap()).unwrap()
    }

    #[test]
    fn equal_strings_have_one_spelling() {
        for (spellings, canonical, len) in [
            (&[r#""ab""#, r#""\u0061b""#][..], "ab", 2),
            (&[r#""\/""#, r#""/""#], "/", 1),
            (&[r#""\u000a""#, r#""\n""#], r"\n", 1),
            (&[r#""\u0000""#], r"\u0000", 1),
            (&["\"\u{2028}\"", r#""\u2028""#], r"\u2028", 3),
            (&[r#""\ud83d\ude00""#, "\"😀\""], "😀", 4),
            (&[r#""\uD800x""#, r#""\ud800x""#], r"\ud800x", 4),
            (&[r#""\udc00\ud800""#], r"\udc00\ud800", 6),
            (&[r#""""#], "", 0),
        ] {
            for spelling in spellings {
                let json = parse(spelling);
                assert_eq!((json.as_json(), json.byte_len()), (canonical, len), "{spelling}");
            }
        }
    }

    #[test]
    fn plain_text_comes_back() {
        let plain = "a\"\\\n\u{2028}☁\u{0}";
        assert_eq!(Json::from_plain(plain).plain().as_deref(), Some(plain));
        assert_eq!(parse(r#""\ud800""#).plain(), None);
        assert_eq!(Json::from_plain(plain).to_text().lossy(), plain);
        assert_eq!(parse(r#""a\ud800\\udead\n""#).lossy(), "a\u{fffd}\\udead\n");
    }

    #[test]
    fn a_map_keeps_the_last_of_each_name() {
        let raw = r#"{"a":"1","\u0061":"2","\ud800":"","b\n":"☁\u2029"}"#;
        let entries = parse_map(serde_json::from_str(raw).unwrap()).unwrap();
        let entries: Vec<_> = entries.iter().map(|(n, v)| (n.as_json(), v.as_json())).collect();
        assert_eq!(entries, [("a", "2"), (r"\ud800", ""), (r"b\n", r"☁\u2029")]);
        for raw in [r#"{"a":[1]}"#, r#"{"a":1}"#, r#"{"a":null}"#, "[]", "\"\"", "null"] {
            assert!(parse_map(serde_json::from_str(raw).unwrap()).is_none(), "{raw}");
        }
    }
}
