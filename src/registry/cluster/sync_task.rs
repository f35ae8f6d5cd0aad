//! The task between a room and its broker, which carries requests, answers and messages.

use std::{
    future::pending,
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream};
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use super::{Node, node::unique};
use crate::{
    registry::Inner,
    relay::{RelayAnswer, RelayError, RelayMessages, RelayRequest},
    room::{Caller, Heard, Progress, Shared, State, Step},
};

/// Starts the task, in place of another if there was one. The task ends when the room is gone. Without
/// messages, it reads the room first.
pub(super) fn begin(
    node: &Arc<Node>,
    registry: &Arc<Inner>,
    room: &Arc<Shared>,
    messages: Option<RelayMessages>,
) {
    registry.hear_announcements(node);
    // Without a runtime, this is left to the next newcomer.
    let Some(runtime) = registry.tasks.runtime(room.runtime().as_ref()) else { return };
    let Some(driver) = room.change(|state, now| state.begin_driver(now)) else { return };
    let end = End { registry: Arc::downgrade(registry), room: Arc::downgrade(room), driver };
    let task = SyncTask {
        node: node.clone(),
        registry: Arc::downgrade(registry),
        room: Arc::downgrade(room),
        id: room.id().clone(),
        driver,
        messages: messages.unwrap_or_else(|| stream::pending().boxed()),
        asking: None,
        subscribing: None,
        is_waiting: false,
    };
    registry.tasks.spawn_on(&runtime, async move {
        task.run().await;
        end.means_to();
    });
}

/// A guard that starts another task if this one ends in any other way, for example with its runtime.
struct End {
    registry: Weak<Inner>,
    room: Weak<Shared>,
    driver: u64,
}

impl End {
    fn means_to(mut self) {
        self.room = Weak::new();
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if let Some(room) = self.room.upgrade()
            && let Some(registry) = self.registry.upgrade()
            && room.read(|state| state.is_driven_by(self.driver))
            && let Some(node) = &registry.node
        {
            begin(node, &registry, &room, None);
        }
    }
}

struct SyncTask {
    node: Arc<Node>,
    registry: Weak<Inner>,
    room: Weak<Shared>,
    id: Arc<str>,
    /// The number of this task. Another may have started, because this one did not run.
    driver: u64,
    messages: RelayMessages,
    /// The request under way.
    asking: Option<BoxFuture<'static, Result<RelayAnswer, RelayError>>>,
    subscribing: Option<BoxFuture<'static, Result<RelayMessages, RelayError>>>,
    /// Whether the room waits for the broker, which does not answer.
    is_waiting: bool,
}

impl Drop for SyncTask {
    fn drop(&mut self) {
        self.set_waiting(false);
    }
}

/// Longer than any wait.
const LONG: Duration = Duration::from_secs(3_600);

impl SyncTask {
    async fn run(mut self) {
        while let Some(room) = self.room.upgrade() {
            let driver = self.driver;
            let next = room.change(|state, now| {
                // The step may be that the room is over, so the progress is reported before it is taken.
                let step = state.is_driven_by(driver).then(|| state.next_step(now))?;
                Some((state.progress(), step, state.listens()))
            });
            let Some((progress, step, listens)) = next else { return };
            self.report(&room, progress);
            match step {
                Step::Ask(caller, request) => self.ask(caller, *request),
                Step::Enter => {
                    let node = self.node.name();
                    let enter = |request| self.ask(Caller::new(&node), request);
                    let request = room.change(|state, now| state.enter_again(&node, unique(), now));
                    request.into_iter().for_each(enter);
                }
                Step::Subscribe => self.subscribe(),
                Step::Over => return,
                Step::Wait(until) => {
                    let stirred = room.stirred().clone();
                    drop(room);
                    let until = until.map_or_else(|| Instant::now() + LONG, Instant::from_std);
                    tokio::select! {
                        biased;
                        () = self.go_on(listens) => {}
                        () = stirred.notified() => {}
                        () = sleep_until(until) => {}
                    }
                }
            }
        }
    }

    fn ask(&mut self, caller: Caller, request: RelayRequest) {
        let (to, id) = (self.node.clone(), self.id.clone());
        self.asking =
            Some(async move { to.request(&id, caller.as_node(), &request).await }.boxed());
    }

    fn subscribe(&mut self) {
        let (to, id) = (self.node.clone(), self.id.clone());
        self.subscribing = Some(async move { to.subscribe(&id).await }.boxed());
    }

    /// Waits for the next answer or message, and hands it in.
    async fn go_on(&mut self, listens: bool) {
        let Self { asking, subscribing, messages, .. } = self;
        tokio::select! {
            biased;
            answer = under_way(asking) => {
                *asking = None;
                self.hand_in(|state, now| state.answered(answer.ok(), now));
            }
            subscribed = under_way(subscribing) => {
                *subscribing = None;
                let is_done = subscribed.is_ok();
                *messages = subscribed.unwrap_or_else(|_| stream::pending().boxed());
                self.hand_in(|state, now| state.subscribed(is_done, now));
            }
            message = messages.next(), if listens => match message {
                Some(message) => {
                    let heard = self.hand_in(|state, now| state.hear(message, now));
                    if let Some(Heard::News(news)) = heard
                        && let Some((room, registry)) = self.room.upgrade().zip(self.registry.upgrade())
                    {
                        registry.hear_news(&room, news);
                    }
                }
                None => {
                    *messages = stream::pending().boxed();
                    self.hand_in(|state, now| state.unsubscribed(now));
                }
            }
        }
    }

    /// Changes the room, unless it is gone or has another driver by now.
    fn hand_in<T>(&self, change: impl FnOnce(&mut State, std::time::Instant) -> T) -> Option<T> {
        self.room
            .upgrade()?
            .change(|state, now| state.is_driven_by(self.driver).then(|| change(state, now)))
    }

    fn report(&mut self, room: &Arc<Shared>, progress: Progress) {
        for (ticket, outcome) in progress.outcomes {
            self.node.deliver(ticket, outcome);
        }
        self.set_waiting(progress.is_away);
        if let Some(close) = progress.ended
            && let Some(registry) = self.registry.upgrade()
        {
            warn!(reason = close.reason(), "this node is out of a room");
            registry.put_all_out(room, &close);
        }
    }

    fn set_waiting(&mut self, is_waiting: bool) {
        if std::mem::replace(&mut self.is_waiting, is_waiting) != is_waiting {
            self.node.health.note_waiting(is_waiting);
        }
    }
}

async fn under_way<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}
