//! The messages of all rooms over one connection, each to the task of its room.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use redis::{
    Client,
    aio::{PubSubSink, PubSubStream},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::{Mutex as AsyncMutex, mpsc};

use crate::relay::{RelayError, RelayMessage, RelayMessages, RelayRevision};

/// Messages of a room that wait for its task; with more, the room is read again.
const WAITING: usize = 256;

/// Who hears what comes over one connection, by channel; gone with the connection.
type Hearers = Arc<Mutex<HashMap<String, mpsc::Sender<RelayMessage>>>>;

#[derive(Debug)]
pub(super) struct Channels {
    client: Client,
    /// One connects at a time, or subscribes.
    connection: AsyncMutex<Option<Connection>>,
}

struct Connection {
    sink: PubSubSink,
    hearers: Weak<Mutex<HashMap<String, mpsc::Sender<RelayMessage>>>>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connection")
    }
}

impl Channels {
    pub(super) fn new(client: Client) -> Self {
        Self { client, connection: AsyncMutex::new(None) }
    }

    pub(super) async fn subscribe(&self, channel: String) -> Result<RelayMessages, RelayError> {
        let mut slot = self.connection.lock().await;
        let hearers = match slot.as_ref().and_then(|connection| connection.hearers.upgrade()) {
            Some(hearers) => hearers,
            None => {
                let (sink, messages) = self.client.get_async_pubsub().await?.split();
                let hearers = Hearers::default();
                *slot = Some(Connection { sink, hearers: Arc::downgrade(&hearers) });
                tokio::spawn(hear(messages, hearers.clone()));
                hearers
            }
        };
        let Some(connection) = &mut *slot else { return Err(RelayError("no connection".into())) };
        // Those that nobody hears any more.
        let unheard: Vec<_> = {
            let mut hearers = hearers.lock();
            hearers.extract_if(|_, hearer| hearer.is_closed()).map(|(channel, _)| channel).collect()
        };
        if !unheard.is_empty() {
            connection.sink.unsubscribe(&unheard).await?;
        }
        let (hearer, heard) = mpsc::channel(WAITING);
        hearers.lock().insert(channel.clone(), hearer);
        connection.sink.subscribe(&channel).await?;
        let messages = stream::unfold(heard, async |mut heard| Some((heard.recv().await?, heard)));
        Ok(messages.boxed())
    }
}

/// Until the connection ends, and with it everyone's messages.
async fn hear(mut messages: PubSubStream, hearers: Hearers) {
    while let Some(message) = messages.next().await {
        let channel = message.get_channel_name();
        let Ok(payload) = message.get_payload::<String>() else { continue };
        let Some(decoded) = decode(&payload) else { continue };
        let mut hearers = hearers.lock();
        let is_behind =
            hearers.get(channel).is_some_and(|hearer| hearer.try_send(decoded).is_err());
        if is_behind {
            // Its messages end, so it knows.
            hearers.remove(channel);
        }
    }
}

/// Writes as they stand in a message.
pub(super) fn encode(writes: &[(String, String)]) -> String {
    let mut json = String::from("[");
    for (name, value) in writes {
        let comma = if json.len() > 1 { "," } else { "" };
        json.extend([comma, "[\"", name, "\",\"", value, "\"]"]);
    }
    json.push(']');
    json
}

#[derive(Deserialize)]
struct Payload<'a> {
    epoch: String,
    number: u64,
    node: String,
    first: u64,
    #[serde(borrow)]
    writes: Vec<(&'a RawValue, &'a RawValue)>,
}

fn decode(payload: &str) -> Option<RelayMessage> {
    let Payload { epoch, number, node, first, writes } = serde_json::from_str(payload).ok()?;
    let text = |raw: &RawValue| Some(raw.get().strip_prefix('"')?.strip_suffix('"')?.to_owned());
    let writes = writes.into_iter().map(|(name, value)| text(name).zip(text(value)));
    Some(RelayMessage {
        revision: RelayRevision { epoch, number },
        node,
        first,
        writes: writes.collect::<Option<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let writes = [("☁ \\\"x\\\"", "\\ud800"), ("", "1")].map(|(n, v)| (n.into(), v.into()));
        let json = encode(&writes);
        let payload = format!(r#"{{"epoch":"e","number":2,"node":"n","first":3,"writes":{json}}}"#);
        let revision = RelayRevision { epoch: "e".into(), number: 2 };
        let writes = writes.into();
        let expected = RelayMessage { revision, node: "n".into(), first: 3, writes };
        assert_eq!(decode(&payload), Some(expected));
        assert_eq!(decode("{}"), None);
    }
}
