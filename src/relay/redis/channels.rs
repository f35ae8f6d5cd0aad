//! The messages of all rooms over one connection, each to the task of its room.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use redis::{
    Client,
    aio::{PubSubSink, PubSubStream},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::{
    sync::{
        Mutex as AsyncMutex,
        mpsc::{self, error::TrySendError},
    },
    task::AbortHandle,
    time::timeout,
};

use crate::relay::{
    RelayError, RelayMessage, RelayMessages, RelayNews, RelayRevision, RelayWrites,
};

/// Messages of a room that wait for its task; with more, the room is read again.
const WAITING: usize = 256;

/// Who hears what comes over one connection, by channel; gone with the connection.
type Hearers = Mutex<HashMap<String, mpsc::Sender<RelayMessage>>>;

#[derive(Debug)]
pub(super) struct Channels {
    client: Client,
    /// One connects at a time, or subscribes.
    connection: AsyncMutex<Option<Connection>>,
    /// Who hears; all messages end with it.
    hearing: Mutex<Option<AbortHandle>>,
}

struct Connection {
    sink: PubSubSink,
    hearers: Weak<Hearers>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connection")
    }
}

impl Channels {
    pub(super) fn new(client: Client) -> Self {
        Self { client, connection: AsyncMutex::new(None), hearing: Mutex::new(None) }
    }

    /// Has the next who subscribes connect anew, and everyone subscribe again.
    pub(super) fn give_up(&self) {
        if let Some(hearing) = self.hearing.lock().take() {
            hearing.abort();
        }
    }

    pub(super) async fn subscribe(
        &self,
        channel: String,
        patience: Duration,
    ) -> Result<RelayMessages, RelayError> {
        let subscribed = timeout(patience, self.subscribe_to(channel)).await;
        let subscribed =
            subscribed.unwrap_or_else(|_| Err(RelayError("it does not answer".into())));
        if subscribed.is_err() {
            // The other side may be gone without a word.
            self.give_up();
        }
        subscribed
    }

    async fn subscribe_to(&self, channel: String) -> Result<RelayMessages, RelayError> {
        let mut slot = self.connection.lock().await;
        let hearers = match slot.as_ref().and_then(|connection| connection.hearers.upgrade()) {
            Some(hearers) => hearers,
            None => {
                super::provide_cryptography(&self.client);
                let (sink, messages) = self.client.get_async_pubsub().await?.split();
                let hearers = Arc::new(Hearers::default());
                *slot = Some(Connection { sink, hearers: Arc::downgrade(&hearers) });
                let hearing = tokio::spawn(hear(messages, hearers.clone()));
                *self.hearing.lock() = Some(hearing.abort_handle());
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
async fn hear(mut messages: PubSubStream, hearers: Arc<Hearers>) {
    while let Some(message) = messages.next().await {
        let channel = message.get_channel_name();
        let Ok(payload) = message.get_payload::<String>() else { continue };
        let Some(decoded) = decode(&payload) else { continue };
        let mut hearers = hearers.lock();
        let sent = hearers.get(channel).map(|hearer| hearer.try_send(decoded));
        if let Some(Err(TrySendError::Full(_))) = sent {
            // Its messages end, so it knows. One that hears no more stands there until somebody
            // subscribes, and is unsubscribed then.
            hearers.remove(channel);
        }
    }
}

/// Writes as they stand in a message.
pub(super) fn encode(writes: &[(String, Option<String>)]) -> String {
    let mut json = String::from("[");
    for (name, value) in writes {
        let comma = if json.len() > 1 { "," } else { "" };
        json.extend([comma, "[\"", name, "\","]);
        match value {
            Some(value) => json.extend(["\"", value, "\"]"]),
            None => json.push_str("null]"),
        }
    }
    json.push(']');
    json
}

/// News as they stand in a message.
pub(super) fn encode_news(news: &RelayNews) -> String {
    serde_json::json!({ "told": news }).to_string()
}

/// Either writes or news.
#[derive(Deserialize)]
struct Payload<'a> {
    epoch: Option<String>,
    number: Option<u64>,
    node: Option<String>,
    first: Option<u64>,
    #[serde(borrow)]
    writes: Option<Vec<(&'a RawValue, &'a RawValue)>>,
    told: Option<RelayNews>,
}

fn decode(payload: &str) -> Option<RelayMessage> {
    let payload: Payload<'_> = serde_json::from_str(payload).ok()?;
    if let Some(news) = payload.told {
        return Some(RelayMessage::Told(news));
    }
    let text = |raw: &RawValue| Some(raw.get().strip_prefix('"')?.strip_suffix('"')?.to_owned());
    let write = |(name, value): (&RawValue, &RawValue)| Some((text(name)?, text(value)));
    Some(RelayMessage::Wrote(RelayWrites {
        revision: RelayRevision { epoch: payload.epoch?, number: payload.number? },
        node: payload.node?,
        first: payload.first?,
        writes: payload.writes?.into_iter().map(write).collect::<Option<_>>()?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let writes = [("☁ \\\"x\\\"", Some("\\ud800")), ("", Some("1")), ("gone", None)];
        let writes = writes.map(|(name, value)| (name.into(), value.map(Into::into)));
        let json = encode(&writes);
        let payload = format!(r#"{{"epoch":"e","number":2,"node":"n","first":3,"writes":{json}}}"#);
        let revision = RelayRevision { epoch: "e".into(), number: 2 };
        let writes = writes.into();
        let expected = RelayWrites { revision, node: "n".into(), first: 3, writes };
        assert_eq!(decode(&payload), Some(RelayMessage::Wrote(expected)));
        assert_eq!(
            decode(&encode_news(&RelayNews::Closed)),
            Some(RelayMessage::Told(RelayNews::Closed))
        );
        assert_eq!(decode("{}"), None);
    }
}
