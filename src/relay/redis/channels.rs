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
use tokio::{
    sync::{Mutex as AsyncMutex, mpsc},
    task::AbortHandle,
    time::timeout,
};

use super::{address::Address, failed, payload::decode};
use crate::relay::{RelayError, RelayMessage, RelayMessages};

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

    /// Handles a push of a cluster.
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
            match hearing.cluster {
                // Others may be there, so the streams of their rooms go on over this connection.
                Some(_) => self.leave(&hearing.hearers).await,
                None => self.give_up(),
            }
            return Err(error);
        }
        let next = async |mut hearing: Hearing| Some((hearing.messages.recv().await?, hearing));
        Ok(stream::unfold(hearing, next).boxed())
    }

    /// Has the next subscriber connect again, unless another has already done so.
    async fn leave(&self, hearers: &Arc<Hearers>) {
        let mut slot = self.connection.lock().await;
        if slot.as_ref().is_some_and(|there| Arc::ptr_eq(&there.hearers, hearers)) {
            *slot = None;
        }
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
        let cluster = match &sink {
            Sink::Server(_) => None,
            Sink::Cluster(connection) => Some(connection.clone()),
        };
        let (name, mut sink) = (channel.to_owned(), sink);
        let mut asked = Box::pin(maybe_done(async move { sink.subscribe(name).await }));
        send(asked.as_mut()).await;
        let answered = async move {
            asked.as_mut().await;
            asked.as_mut().take_output().unwrap_or(Ok(()))
        };
        let (channel, left) = (channel.into(), self.left.clone());
        Ok((Hearing { channel, messages, left, cluster, hearers }, answered))
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
    /// The connection to a cluster, which is closed with its last subscriber.
    cluster: Option<ClusterConnection>,
    hearers: Arc<Hearers>,
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
