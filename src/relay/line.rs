//! The task between a room and its broker: tells what happens here, and hears what is in order.

mod reentry;

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::StreamExt;
use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval_at, sleep},
};

use super::{Hub, RelayAnswer, RelayMessage, RelayMessages, RelayRequest, RelayRevision};
use crate::{
    registry::Inner,
    room::{Heard, Shared, State},
};

/// Between two attempts to reach the broker: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Starts the task; it ends when the room is gone.
pub(crate) fn begin(
    hub: &Arc<Hub>,
    registry: &Arc<Inner>,
    room: &Arc<Shared>,
    messages: RelayMessages,
) {
    let (Some(runtime), Some(bell)) = (room.runtime(), room.read(|state| state.bell())) else {
        return;
    };
    let line = Line {
        hub: hub.clone(),
        registry: Arc::downgrade(registry),
        room: Arc::downgrade(room),
        id: room.id().clone(),
        bell,
        gap: Notify::new(),
        lost: Notify::new(),
        is_waiting: AtomicBool::new(false),
        tick: registry.rules.tick,
    };
    let end = End(Arc::downgrade(room));
    runtime.spawn(async move {
        tokio::select! {
            _ = line.tell() => {}
            _ = line.listen(messages) => {}
            () = line.hub.ended() => {}
        }
        end.means_to();
    });
}

/// If the task ends otherwise, as with its runtime, whoever joins next begins another.
struct End(Weak<Shared>);

impl End {
    fn means_to(mut self) {
        self.0 = Weak::new();
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if let Some(room) = self.0.upgrade() {
            room.change(|state, _| state.leave_alone());
        }
    }
}

struct Line {
    hub: Arc<Hub>,
    registry: Weak<Inner>,
    room: Weak<Shared>,
    id: Arc<str>,
    bell: Arc<Notify>,
    /// The room is to be read again.
    gap: Notify,
    /// The broker does not know the room.
    lost: Notify,
    /// It does not answer.
    is_waiting: AtomicBool,
    tick: Duration,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.set_waiting(false);
    }
}

/// The room is gone, here or for this node.
struct Gone;

impl Line {
    fn room(&self) -> Result<Arc<Shared>, Gone> {
        self.room.upgrade().filter(|room| !room.is_evicted()).ok_or(Gone)
    }

    /// Tells what there is, at most once a tick, and that the node is there.
    async fn tell(&self) -> Result<(), Gone> {
        let pause = self.hub.lease() * 3 / 10;
        let mut renew = interval_at(Instant::now() + pause, pause);
        renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told: Option<RelayRevision> = None;
        loop {
            tokio::select! {
                // First, as there may always be more to tell.
                biased;
                _ = renew.tick() => {
                    let here = self.revision()?;
                    let there = self.step(&RelayRequest::Renew).await?;
                    // What the broker had last time has come since, or was lost on its way; what came
                    // before it was asked is there, or the broker has lost it.
                    let is_behind = |told: RelayRevision| told.number > here.number;
                    let is_lost = |there: &RelayRevision| there.number < here.number;
                    if told.is_some_and(is_behind) || there.as_ref().is_some_and(is_lost) {
                        self.gap.notify_one();
                    }
                    told = there;
                }
                () = self.lost.notified() => {
                    self.step(&RelayRequest::Renew).await?;
                }
                () = self.bell.notified() => {
                    let next = self.room()?.change(|state, _| state.next_request());
                    if let Some(request) = next {
                        self.step(&request).await?;
                        sleep(self.tick).await;
                        self.bell.notify_one();
                    }
                }
            }
        }
    }

    fn revision(&self) -> Result<RelayRevision, Gone> {
        self.room()?.read(|state| state.revision().cloned()).ok_or(Gone)
    }

    /// Makes a request until it is answered; where the room is then.
    async fn step(&self, request: &RelayRequest) -> Result<Option<RelayRevision>, Gone> {
        let answer = self.ask(request).await?;
        if matches!(request, RelayRequest::Write { .. } | RelayRequest::Leave { .. }) {
            self.room()?.change(|state, _| state.told());
        }
        match answer {
            RelayAnswer::Done(there) => Ok(Some(there)),
            RelayAnswer::Fenced | RelayAnswer::Nowhere => {
                self.come_back().await?;
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    async fn ask(&self, request: &RelayRequest) -> Result<RelayAnswer, Gone> {
        self.ask_as(request, None).await
    }

    /// Asks until there is an answer, as the node that the room here is, or as another.
    async fn ask_as(
        &self,
        request: &RelayRequest,
        node: Option<&Arc<str>>,
    ) -> Result<RelayAnswer, Gone> {
        let mut pause = RETRY.0;
        loop {
            let here = self.room()?.read(State::node).ok_or(Gone)?;
            match self.hub.request(&self.id, node.unwrap_or(&here), request).await {
                Ok(answer) => {
                    let room = self.room()?;
                    if pause > RETRY.0 {
                        room.change(|state, _| state.set_away(false));
                        self.set_waiting(false);
                    }
                    return Ok(answer);
                }
                Err(_) => {
                    self.room()?.change(|state, _| state.set_away(true));
                    self.set_waiting(true);
                    sleep(pause).await;
                    pause = RETRY.1.min(2 * pause);
                }
            }
        }
    }

    fn set_waiting(&self, is_waiting: bool) {
        if self.is_waiting.swap(is_waiting, Relaxed) != is_waiting {
            self.hub.health.note_waiting(is_waiting);
        }
    }

    async fn listen(&self, mut messages: RelayMessages) -> Result<(), Gone> {
        loop {
            let is_gap = tokio::select! {
                () = self.gap.notified() => {
                    // What was missed may be a sign of a connection that is none any more.
                    messages = self.subscribe().await?;
                    true
                }
                message = messages.next() => match message {
                    Some(RelayMessage::Told(news)) => {
                        if let Some(registry) = self.registry.upgrade() {
                            registry.hear_news(&self.room()?, news);
                        }
                        false
                    }
                    Some(RelayMessage::Wrote(writes)) => {
                        let room = self.room()?;
                        match room.change(|state, now| state.hear(&writes, now)) {
                            Heard::Gap => true,
                            Heard::Applied(emptied) => {
                                self.queue(&room, emptied);
                                false
                            }
                        }
                    }
                    None => {
                        messages = self.subscribe().await?;
                        true
                    }
                },
            };
            if !is_gap {
                continue;
            }
            let answer = self.ask(&RelayRequest::Read).await?;
            if let RelayAnswer::Room { revision, room: there, written, .. } = answer {
                let room = self.room()?;
                // Another epoch's are for whoever finds that the node is out.
                let emptied = room.change(|state, now| {
                    let is_it = state.revision().is_some_and(|here| here.epoch == revision.epoch);
                    is_it.then(|| state.reread((&revision, &there), written, now)).flatten()
                });
                self.queue(&room, emptied);
            } else {
                // Before somebody who comes makes another of it.
                self.lost.notify_one();
            }
        }
    }

    fn queue(&self, room: &Arc<Shared>, emptied: Option<std::time::Instant>) {
        if let Some((since, registry)) = emptied.zip(self.registry.upgrade()) {
            registry.queue(since, room);
        }
    }

    async fn subscribe(&self) -> Result<RelayMessages, Gone> {
        loop {
            if let Ok(messages) = self.hub.subscribe(&self.id).await {
                return Ok(messages);
            }
            self.room()?;
            sleep(RETRY.1).await;
        }
    }
}
