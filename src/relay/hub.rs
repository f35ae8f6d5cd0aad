//! A registry's end of its broker.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::{broadcast, watch},
    time::{Instant, timeout},
};

use super::{
    Relay, RelayAnswer, RelayError, RelayMessages, RelayRequest, RelayStats, health::Health,
};
use crate::{
    metrics,
    room::{Shared, State},
    turns::{Turn, Turns},
};

#[derive(Debug)]
pub(crate) struct Hub {
    relay: Box<dyn Relay>,
    /// No other registry has this name.
    name: String,
    turns: Turns,
    /// What was numbered last: a session, a lead, or the entering of a room.
    numbered: AtomicU64,
    /// Sessions that keep a name which somebody here may want.
    pub(crate) kept: broadcast::Sender<Holder>,
    pub(super) health: Health,
    /// Whether the registry has shut down.
    is_over: watch::Sender<bool>,
}

/// A session that has a name which somebody wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) room: Arc<str>,
    pub(crate) node: String,
    pub(crate) session: u64,
}

/// How many may be kept at once before somebody waits for longer to be told so.
const KEPT: usize = 256;

impl Hub {
    pub(crate) fn new(relay: Box<dyn Relay>) -> Self {
        let (turns, numbered) = (Turns::default(), AtomicU64::new(0));
        let kept = broadcast::channel(KEPT).0;
        let is_over = watch::Sender::new(false);
        let health = Health::default();
        Self { relay, name: unique(), turns, numbered, kept, health, is_over }
    }

    /// No task is to go on.
    pub(crate) fn end(&self) {
        self.is_over.send_replace(true);
        self.relay.end();
    }

    /// What this registry is called in a room that it enters: anew each time, so that nothing counts
    /// any more that it sent when it was there before.
    pub(crate) fn node(&self) -> Arc<str> {
        format!("{}.{}", self.name, self.number()).into()
    }

    pub(crate) async fn ended(&self) {
        _ = self.is_over.subscribe().wait_for(|is_over| *is_over).await;
    }

    pub(crate) fn stats(&self) -> RelayStats {
        self.health.stats()
    }

    pub(crate) fn lease(&self) -> Duration {
        self.relay.lease()
    }

    pub(crate) async fn request(
        &self,
        room: &str,
        node: &str,
        request: &RelayRequest,
    ) -> Result<RelayAnswer, RelayError> {
        let began = Instant::now();
        let answer = timeout(self.relay.timeout(), self.relay.request(room, node, request));
        let answer = answer.await.unwrap_or_else(|_| Err(RelayError::late()));
        metrics::asked(began.elapsed(), answer.is_ok());
        self.health.note(answer.as_ref().err());
        answer
    }

    /// As [`request`](Self::request), by the node that a room here is.
    pub(crate) async fn request_of(
        &self,
        room: &Shared,
        request: &RelayRequest,
    ) -> Result<RelayAnswer, RelayError> {
        let gone = || RelayError("the room is gone".into());
        let node = room.read(State::node).ok_or_else(gone)?;
        self.request(room.id(), &node, request).await
    }

    pub(crate) async fn subscribe(&self, room: &str) -> Result<RelayMessages, RelayError> {
        let subscribed = timeout(self.relay.timeout(), self.relay.subscribe(room));
        let subscribed = subscribed.await.unwrap_or_else(|_| Err(RelayError::late()));
        self.health.note(subscribed.as_ref().err());
        subscribed
    }

    /// Waits until nobody else here loads or creates the room of this id, but no longer than for an
    /// answer: those before wait for the broker.
    pub(crate) async fn turn(&self, id: &str) -> Result<Turn, RelayError> {
        timeout(self.relay.timeout(), self.turns.take(id)).await.map_err(|_| RelayError::late())
    }

    pub(crate) fn number(&self) -> u64 {
        self.numbered.fetch_add(1, Relaxed) + 1
    }
}

/// A text that no other process, and no other call, makes: of two keys of 64 random bits.
pub(crate) fn unique() -> String {
    let random = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", random(), random())
}
