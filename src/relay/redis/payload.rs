//! The payload of messages.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::relay::{RelayChange, RelayMessage, RelayNews, RelayRevision, RelayWrite, RelayWrites};

/// The version of the messages, as in `room.lua`.
const VERSION: u64 = 1;

/// Encodes writes for a message: name, value, 1 if the write creates, author, and the required previous
/// value.
pub(super) fn encode(writes: &[RelayWrite]) -> String {
    let mut json = String::from("[");
    let push_text = |json: &mut String, text: &Option<String>| match text {
        Some(text) => json.extend(["\"", text, "\""]),
        None => json.push_str("null"),
    };
    for RelayWrite { name, value, creates, by, was, unless: _ } in writes {
        let comma = if json.len() > 1 { "," } else { "" };
        json.extend([comma, "[\"", name, "\","]);
        push_text(&mut json, value);
        json.push_str(if *creates { ",1," } else { ",0," });
        json.push_str(&serde_json::json!(by).to_string());
        json.push(',');
        push_text(&mut json, was);
        json.push(']');
    }
    json.push(']');
    json
}

/// Encodes news for a message.
pub(super) fn encode_news(news: &RelayNews) -> String {
    serde_json::json!({ "v": VERSION, "told": news }).to_string()
}

/// Encodes a change for a message.
pub(super) fn encode_change(change: &RelayChange) -> String {
    serde_json::json!(change).to_string()
}

/// The parts of a write, as [`encode`] writes them.
type WriteParts<'a> = (&'a RawValue, &'a RawValue, u8, Option<String>, &'a RawValue);

/// The payload of a message: writes, a change, or news.
#[derive(Deserialize)]
struct Payload<'a> {
    v: Option<u64>,
    room: Option<String>,
    epoch: Option<String>,
    number: Option<u64>,
    node: Option<String>,
    first: Option<u64>,
    most: Option<u64>,
    #[serde(borrow)]
    writes: Option<Vec<WriteParts<'a>>>,
    left: Option<Vec<u64>>,
    at: Option<u64>,
    change: Option<RelayChange>,
    told: Option<RelayNews>,
}

/// Decodes a message. Returns `None` for one of another version, or of a later kind. If it was part of the room's
/// order, the node notices that by the next revision, and reads the room.
pub(super) fn decode(payload: &str) -> Option<RelayMessage> {
    let payload: Payload<'_> = serde_json::from_str(payload).ok()?;
    if payload.v.is_some_and(|version| version != VERSION) {
        return None;
    }
    if let Some(news) = payload.told {
        return Some(RelayMessage::Told(news));
    }
    let (room, epoch, number) = (payload.room?, payload.epoch?, payload.number?);
    let (revision, node) = (RelayRevision { room, epoch, number }, payload.node?);
    if let Some(change) = payload.change {
        return Some(RelayMessage::Changed { revision, node, number: payload.at?, change });
    }
    let text = |raw: &RawValue| Some(raw.get().strip_prefix('"')?.strip_suffix('"')?.to_owned());
    let write = |(name, value, creates, by, was): WriteParts<'_>| {
        let (name, value, was) = (text(name)?, text(value), text(was));
        Some(RelayWrite { name, value, creates: creates == 1, by, was, unless: None })
    };
    let writes = payload.writes?.into_iter().map(write).collect::<Option<_>>()?;
    let (first, most) = (payload.first?, payload.most?);
    let left_out = payload.left.unwrap_or_default();
    Some(RelayMessage::Wrote(RelayWrites { revision, node, first, most, writes, left_out }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let writes = [("☁ \\\"x\\\"", Some("\\ud800")), ("", Some("1")), ("gone", None)];
        let writes = writes.map(|(name, value)| {
            let (name, value) = (name.to_owned(), value.map(str::to_owned));
            let by = value.as_ref().map(|_| "ann \"\u{1F600}".to_owned());
            RelayWrite {
                creates: name.is_empty(),
                was: value.clone(),
                name,
                value,
                by,
                unless: None,
            }
        });
        let json = encode(&writes);
        let payload = format!(
            r#"{{"room":"r","epoch":"e","number":2,"node":"n","first":3,"most":4,"writes":{json},"left":[4]}}"#
        );
        let revision = RelayRevision { room: "r".into(), epoch: "e".into(), number: 2 };
        let writes = writes.into();
        let expected = RelayWrites {
            revision,
            node: "n".into(),
            first: 3,
            most: 4,
            writes,
            left_out: vec![4],
        };
        assert_eq!(decode(&payload), Some(RelayMessage::Wrote(expected)));
        let news = RelayNews::Removed { room: "r".into() };
        assert_eq!(decode(&encode_news(&news)), Some(RelayMessage::Told(news)));
        assert_eq!(decode("{}"), None);
    }

    #[test]
    fn a_message_of_another_version_is_left_alone() {
        let script = include_str!("room.lua");
        assert!(script.contains(&format!("local version = '{VERSION}'\n")));
        let news = encode_news(&RelayNews::Removed { room: "r".into() });
        assert!(decode(&news.replace(r#""v":1"#, r#""v":2"#)).is_none());
        assert!(decode(&news.replace("Removed", "Renamed")).is_none());
        assert!(decode(&news.replace(r#""v":1"#, r#""v":1,"more":{}"#)).is_some());
    }
}
