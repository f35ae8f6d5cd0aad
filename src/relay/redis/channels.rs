//! Receives the messages of all rooms over one connection, and passes them to the tasks of the rooms.

use std::{
    collections::HashMap,
    future::poll_fn,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::Poll,
    time::Duration,
};

use futures_util::{StreamExt, future::maybe_done, stream};
use parking_lot::Mutex;
use redis::{
    PushInfo, PushKind, RedisResult,
    aio::{PubSubSink, PubSubStream},
    cluster_async::ClusterConnection,
    from_redis_value_ref,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::{
    sync::{Mutex as AsyncMutex, mpsc},
    task::AbortHandle,
    time::timeout,
};

use super::{address::Address, failed};
use crate::relay::{
    RelayChange, RelayError, RelayMessage, RelayMessages, RelayNews, RelayRevision, RelayWrite,
    RelayWrites,
};

/// The version of the messages, as in `room.lua`.
const VERSION: u64 = 1;

/// How many messages of a room may wait for its task; beyond that, the room is read again.
const WAITING: usize = 256;

/// The subscribers of one connection, by channel.
#[derive(Debug, Default)]
struct Hearers {
    by_channel: Mutex<HashMap<String, Vec<mpsc::Sender<RelayMessage>>>>,
    /// The connection is gone, or given up.
    is_over: AtomicBool,
}

impl Hearers {
    /// Ends the messages of all subscribers.
    fn end(&self) {
        let mut by_channel = self.by_channel.lock();
        // Set under the lock, so that no subscriber is added that would never receive anything.
        self.is_over.store(true, Relaxed);
        by_channel.clear();
    }

    /// Adds a subscriber. Returns `false` if the connection is gone.
    fn add(&self, channel: &str, hearer: mpsc::Sender<RelayMessage>) -> bool {
        let mut by_channel = self.by_channel.lock();
        if self.is_over.load(Relaxed) {
            return false;
        }
        by_channel.entry(channel.into()).or_default().push(hearer);
        true
    }

    /// Passes a message on.
    fn hear(&self, channel: &str, payload: &str) {
        let Some(decoded) = decode(payload) else { return };
        if let Some(there) = self.by_channel.lock().get_mut(channel) {
            // The stream of a subscriber that is too slow ends, so that it notices the loss.
            there.retain(|hearer| hearer.try_send(decoded.clone()).is_ok());
        }
    }

    /// Passes on what a cluster sends.
    fn receive(&self, push: &PushInfo) {
        let text = |at: usize| from_redis_value_ref::<String>(push.data.get(at)?).ok();
        match (&push.kind, text(0)) {
            (PushKind::SMessage, Some(channel)) => {
                if let Some(payload) = text(1) {
                    self.hear(&channel, &payload);
                }
            }
            // The channel has moved to another server, or its last subscriber had left.
            (PushKind::SUnsubscribe, Some(channel)) => _ = self.by_channel.lock().remove(&channel),
            (PushKind::Disconnection, _) => self.end(),
            _ => {}
        }
    }
}

pub(super) struct Channels {
    address: Arc<Address>,
    /// Locked while connecting, so that only one caller connects at a time.
    connection: AsyncMutex<Option<Connection>>,
    /// The subscribers, and the task that receives messages for them, unless the connection does that.
    hearing: Mutex<Option<(Option<AbortHandle>, Arc<Hearers>)>>,
    /// Channels that a subscriber has left.
    left: Arc<Mutex<Vec<String>>>,
}

#[derive(Clone)]
struct Connection {
    sink: Sink,
    hearers: Arc<Hearers>,
}

/// The sending end of a connection.
#[derive(Clone)]
enum Sink {
    Server(PubSubSink),
    Cluster(ClusterConnection),
}

impl Sink {
    async fn subscribe(&mut self, channel: String) -> RedisResult<()> {
        match self {
            Self::Server(sink) => sink.subscribe(channel).await,
            Self::Cluster(sink) => sink.ssubscribe(channel).await,
        }
    }

    async fn unsubscribe(&mut self, channel: &str) -> RedisResult<()> {
        match self {
            Self::Server(sink) => sink.unsubscribe(channel).await,
            Self::Cluster(sink) => sink.sunsubscribe(channel).await,
        }
    }
}

impl Drop for Channels {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl Channels {
    pub(super) fn new(address: Arc<Address>) -> Self {
        let (connection, hearing) = (AsyncMutex::new(None), Mutex::new(None));
        Self { address, connection, hearing, left: Arc::default() }
    }

    /// Ends all subscriptions, and has the next subscriber reconnect.
    pub(super) fn give_up(&self) {
        if let Some((hearing, hearers)) = self.hearing.lock().take() {
            hearing.inspect(AbortHandle::abort);
            // The task's runtime may not be running, so the task may never notice the abort.
            hearers.end();
        }
    }

    pub(super) async fn subscribe(
        &self,
        channel: String,
        patience: Duration,
    ) -> Result<RelayMessages, RelayError> {
        let late = |_| Err(RelayError::late());
        let (hearing, asked) = self.ask_for(&channel, patience).await?;
        let subscribed = timeout(patience, asked).await.map(|done| done.map_err(failed));
        if let Err(error) = subscribed.unwrap_or_else(late) {
            // The server may be gone without closing the connection.
            self.give_up();
            return Err(error);
        }
        let next = async |mut hearing: Hearing| Some((hearing.messages.recv().await?, hearing));
        Ok(stream::unfold(hearing, next).boxed())
    }

    /// Sends the request for a channel's messages, and returns the pending answer. Other subscribers need not
    /// wait for it.
    async fn ask_for(
        &self,
        channel: &str,
        patience: Duration,
    ) -> Result<(Hearing, impl Future<Output = RedisResult<()>> + use<>), RelayError> {
        let mut slot = self.connection.lock().await;
        let there = slot.clone().filter(|there| !there.hearers.is_over.load(Relaxed));
        let Connection { sink, hearers } = match there {
            Some(there) => there,
            None => slot.insert(self.connect(patience).await?).clone(),
        };
        // Each command is sent at its first poll, so under this lock they are sent in this order.
        for unheard in self.unheard(&hearers, channel) {
            let mut sink = sink.clone();
            send(pin!(sink.unsubscribe(&unheard))).await;
        }
        let (hearer, messages) = mpsc::channel(WAITING);
        if !hearers.add(channel, hearer) {
            return Err(RelayError::new("the connection is gone"));
        }
        let (name, mut sink) = (channel.to_owned(), sink);
        let mut asked = Box::pin(maybe_done(async move { sink.subscribe(name).await }));
        send(asked.as_mut()).await;
        let answered = async move {
            asked.as_mut().await;
            asked.as_mut().take_output().unwrap_or(Ok(()))
        };
        let (channel, left) = (channel.into(), self.left.clone());
        Ok((Hearing { channel, messages, left }, answered))
    }

    async fn connect(&self, patience: Duration) -> Result<Connection, RelayError> {
        let hearers = Arc::new(Hearers::default());
        let sink = if self.address.is_cluster() {
            let receiving = hearers.clone();
            let receive = move |push: PushInfo| {
                receiving.receive(&push);
                Ok::<_, ()>(())
            };
            let sink = self.address.cluster(patience, receive).await?;
            *self.hearing.lock() = Some((None, hearers.clone()));
            Sink::Cluster(sink)
        } else {
            let connecting = async {
                let server = self.address.server(patience).await?;
                server.get_async_pubsub().await.map_err(failed)
            };
            let connected = timeout(patience, connecting).await;
            let (sink, messages) = connected.map_err(|_| RelayError::late())??.split();
            let hearing = tokio::spawn({
                let end = EndOf(hearers.clone());
                async move { hear(messages, &end).await }
            });
            *self.hearing.lock() = Some((Some(hearing.abort_handle()), hearers.clone()));
            Sink::Server(sink)
        };
        Ok(Connection { sink, hearers })
    }

    /// Removes and returns the channels that have no subscribers left, except this one.
    fn unheard(&self, hearers: &Hearers, except: &str) -> Vec<String> {
        let (mut left, mut hearers) =
            (std::mem::take(&mut *self.left.lock()), hearers.by_channel.lock());
        left.retain(|channel| {
            let Some(there) = hearers.get_mut(channel) else { return false };
            there.retain(|hearer| !hearer.is_closed());
            there.is_empty() && channel != except
        });
        left.iter().for_each(|channel| _ = hearers.remove(channel));
        left
    }
}

/// Polls a command once, which sends it, and does not wait for its answer.
async fn send(mut command: Pin<&mut impl Future>) {
    let once = poll_fn(|cx| {
        _ = command.as_mut().poll(cx);
        Poll::Ready(())
    });
    once.await;
}

/// A subscriber's end of the messages of a channel.
struct Hearing {
    channel: String,
    messages: mpsc::Receiver<RelayMessage>,
    left: Arc<Mutex<Vec<String>>>,
}

impl Drop for Hearing {
    fn drop(&mut self) {
        self.messages.close();
        self.left.lock().push(std::mem::take(&mut self.channel));
    }
}

/// Ends the messages of all subscribers when dropped.
struct EndOf(Arc<Hearers>);

impl Drop for EndOf {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Passes messages on until the connection ends.
async fn hear(mut messages: PubSubStream, EndOf(hearers): &EndOf) {
    while let Some(message) = messages.next().await {
        if let Ok(payload) = message.get_payload::<String>() {
            hearers.hear(message.get_channel_name(), &payload);
        }
    }
}

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
fn decode(payload: &str) -> Option<RelayMessage> {
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
