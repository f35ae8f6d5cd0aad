//! The broker of the docs, with faults.

use std::{
    future::{pending, ready},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
};

include!("../../src/relay/memory.rs");

/// A broker that is unreachable, silent or deaf on request.
#[derive(Debug, Default)]
pub struct ShakyBroker {
    relay: Arc<MemoryRelay>,
    /// Whether the broker is unreachable.
    pub is_away: AtomicBool,
    /// Whether requests are never answered.
    pub is_silent: AtomicBool,
    /// Whether messages are lost.
    pub is_deaf: Arc<AtomicBool>,
    /// The delay of messages in milliseconds.
    pub delay: Arc<AtomicU64>,
    /// The delay of joins in milliseconds, which are then never answered; 0 for none.
    pub late_joins: AtomicU64,
    /// The delay of answers to joins in milliseconds; the joins themselves are done at once.
    pub late_answers: AtomicU64,
    /// The highest number of ended sessions in one request.
    pub most_left: AtomicUsize,
    /// The last write, and the name of its node.
    last: Mutex<Option<(String, RelayRequest)>>,
}

impl ShakyBroker {
    /// Fails if the broker is unreachable, and waits for ever if it is silent.
    async fn fault(&self) -> Result<(), RelayError> {
        if self.is_silent.load(SeqCst) {
            return pending().await;
        }
        if self.is_away.load(SeqCst) { Err(RelayError::new("away")) } else { Ok(()) }
    }

    pub fn sessions(&self, room: &str) -> usize {
        self.relay.with(room, |room| room.room.as_ref().map_or(0, |room| room.sessions.len()))
    }

    /// Returns the number of the room's revision, or `None` if there is no such room.
    pub fn revision(&self, room: &str) -> Option<u64> {
        self.relay.with(room, |room| Some(room.room.as_ref()?.revision.number))
    }

    /// Returns the names of a room's variables, in the order of their creation.
    pub fn variables(&self, room: &str) -> Vec<String> {
        self.relay.with(room, |room| {
            let variables = &room.room.as_ref().unwrap().variables;
            variables.iter().map(|(name, _)| name.clone()).collect()
        })
    }

    /// Repeats the last write, as if a copy of it arrived late by another way, and returns the answer.
    pub async fn repeat(&self, room: &str) -> RelayAnswer {
        let (node, request) = self.last.lock().unwrap().clone().unwrap();
        self.relay
            .request(room, RelayNode { name: &node, acknowledged: 0 }, &request)
            .await
            .unwrap()
    }

    /// Saves a room as on a disk, and returns a function that restores it.
    pub fn save(&self, room: &str) -> impl FnOnce(&Self) + use<> {
        let saved = self.relay.with(room, |kept| kept.room.clone());
        let room = room.to_owned();
        move |broker| {
            broker.relay.with(&room, |kept| {
                kept.room = saved;
                // The connections end with the broker.
                kept.messages = broadcast::channel(64).0;
            });
        }
    }

    /// Forgets a room.
    pub fn lose(&self, room: &str) {
        self.relay.with(room, |room| room.room = None);
    }

    /// Ends the lease of the node that has the member of this name.
    pub fn end_lease_of(&self, room: &str, name: &str) {
        self.relay.with(room, |room| {
            let room = room.room.as_mut().unwrap();
            let is_it = |(_, (other, _)): &(_, &(String, bool))| other == name;
            let node = room.sessions.iter().find(is_it).unwrap().0.0.clone();
            room.nodes.remove(&node);
            room.expire(Instant::now());
        });
    }
}

impl Relay for ShakyBroker {
    async fn request(
        &self,
        room: &str,
        node: RelayNode<'_>,
        request: &RelayRequest,
    ) -> Result<RelayAnswer, RelayError> {
        if matches!(request, RelayRequest::Write { .. }) {
            *self.last.lock().unwrap() = Some((node.name.into(), request.clone()));
        }
        match request {
            RelayRequest::Leave { sessions, .. } => {
                self.most_left.fetch_max(sessions.len(), SeqCst);
            }
            RelayRequest::Join { .. } if self.late_joins.load(SeqCst) > 0 => {
                let delay = Duration::from_millis(self.late_joins.load(SeqCst));
                let (relay, room, node) =
                    (self.relay.clone(), room.to_owned(), node.name.to_owned());
                let request = request.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    let node = RelayNode { name: &node, acknowledged: 0 };
                    relay.request(&room, node, &request).await
                });
                return pending().await;
            }
            _ => {}
        }
        self.fault().await?;
        let answer = self.relay.request(room, node, request).await;
        if matches!(request, RelayRequest::Join { .. }) {
            tokio::time::sleep(Duration::from_millis(self.late_answers.load(SeqCst))).await;
        }
        answer
    }

    async fn announce(&self, news: &RelayNews) -> Result<(), RelayError> {
        self.fault().await?;
        self.relay.announce(news).await
    }

    async fn subscribe(&self, room: &str) -> Result<RelayMessages, RelayError> {
        self.fault().await?;
        let (is_deaf, delay) = (self.is_deaf.clone(), self.delay.clone());
        let messages = self.relay.subscribe(room).await?;
        let heard = messages.filter(move |_| ready(!is_deaf.load(SeqCst)));
        let late = heard.then(move |message| {
            let delay = Duration::from_millis(delay.load(SeqCst));
            async move {
                if !delay.is_zero() {
                    tokio::time::sleep(delay).await;
                }
                message
            }
        });
        Ok(late.boxed())
    }
}
