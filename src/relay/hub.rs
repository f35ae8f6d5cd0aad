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

use super::{Relay, RelayAnswer, RelayError, RelayMessages, RelayRequest};
use crate::{
    metrics,
    turns::{Turn, Turns},
};

#[derive(Debug)]
pub(crate) struct Hub {
    relay: Box<dyn Relay>,
    /// No other registry has this name.
    pub(crate) node: Arc<str>,
    turns: Turns,
    sessions: AtomicU64,
    /// Sessions that keep a name which somebody here may want.
    pub(crate) kept: broadcast::Sender<(Arc<str>, String, u64)>,
    /// Whether the registry has shut down.
    is_over: watch::Sender<bool>,
}

/// How many may be kept at once before somebody waits for longer to be told so.
const KEPT: usize = 256;

impl Hub {
    pub(crate) fn new(relay: Box<dyn Relay>) -> Self {
        let (turns, sessions) = (Turns::default(), AtomicU64::new(0));
        let kept = broadcast::channel(KEPT).0;
        let is_over = watch::Sender::new(false);
        Self { relay, node: unique().into(), turns, sessions, kept, is_over }
    }

    /// No task is to go on.
    pub(crate) fn end(&self) {
        self.is_over.send_replace(true);
    }

    pub(crate) async fn ended(&self) {
        _ = self.is_over.subscribe().wait_for(|is_over| *is_over).await;
    }

    pub(crate) fn lease(&self) -> Duration {
        self.relay.lease()
    }

    pub(crate) async fn request(
        &self,
        room: &str,
        request: &RelayRequest,
    ) -> Result<RelayAnswer, RelayError> {
        let began = Instant::now();
        let answer = timeout(self.relay.timeout(), self.relay.request(room, &self.node, request));
        let answer = answer.await.unwrap_or_else(|_| Err(late()));
        metrics::asked(began.elapsed(), answer.is_ok());
        answer
    }

    pub(crate) async fn subscribe(&self, room: &str) -> Result<RelayMessages, RelayError> {
        let subscribed = timeout(self.relay.timeout(), self.relay.subscribe(room));
        subscribed.await.unwrap_or_else(|_| Err(late()))
    }

    /// Waits until nobody else here loads or creates the room of this id, but no longer than for an
    /// answer: those before wait for the broker.
    pub(crate) async fn turn(&self, id: &str) -> Result<Turn, RelayError> {
        timeout(self.relay.timeout(), self.turns.take(id)).await.map_err(|_| late())
    }

    pub(crate) fn next_session(&self) -> u64 {
        self.sessions.fetch_add(1, Relaxed) + 1
    }
}

fn late() -> RelayError {
    RelayError("it does not answer".into())
}

/// A text that no other process, and no other call, makes: of two keys of 64 random bits.
pub(crate) fn unique() -> String {
    let random = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", random(), random())
}
