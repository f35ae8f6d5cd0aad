//! Messages between nodes that belong to no room.

use std::{
    sync::{Arc, Weak, atomic::Ordering::Relaxed},
    time::Duration,
};

use futures_util::StreamExt;
use tokio::time::sleep;

use super::Node;
use crate::{
    close::CloseCode,
    registry::{Inner, RoomError},
    relay::{RelayMessage, RelayMessages, RelayNews},
    wire::Dialect,
};

/// The pause between two attempts to subscribe.
const AGAIN: Duration = Duration::from_secs(1);
/// The pause between the end of a subscription and the next.
const SOON: Duration = Duration::from_millis(10);

impl Inner {
    /// Has the other nodes disconnect a person.
    pub(in crate::registry) async fn announce_kick(
        &self,
        person: &str,
        code: CloseCode,
        reason: &str,
    ) -> Result<(), RoomError> {
        let Some(node) = &self.node else { return Ok(()) };
        // The relay, which has been told to end, would connect again.
        if self.tasks.over().is_cancelled() {
            return Err(RoomError::Unreachable);
        }
        let code = code.code(Dialect::Spec);
        let (person, reason) = (person.into(), reason.into());
        let kick = RelayNews::Kick { node: node.registry().into(), person, code, reason };
        node.announce(&kick).await.map_err(|_| RoomError::Unreachable)
    }

    /// Receives the announcements of other nodes, from the first room on: before it, nobody is on this node.
    pub(in crate::registry) fn hear_announcements(self: &Arc<Self>, node: &Arc<Node>) {
        let Some(runtime) = self.tasks.runtime(None) else { return };
        if !node.hears.swap(true, Relaxed) {
            let hearing = Hearing { registry: Arc::downgrade(self), node: node.clone() };
            self.tasks.spawn_on(&runtime, hearing.go_on());
        }
    }
}

/// The task that receives announcements. If its runtime ends, it begins again on another.
struct Hearing {
    registry: Weak<Inner>,
    node: Arc<Node>,
}

impl Drop for Hearing {
    fn drop(&mut self) {
        self.node.hears.store(false, Relaxed);
        if let Some(registry) = self.registry.upgrade() {
            registry.hear_announcements(&self.node);
        }
    }
}

impl Hearing {
    /// Subscribes until the registry is gone.
    async fn go_on(self) {
        while self.registry.strong_count() > 0 {
            let pause = match self.node.subscribe(NO_ROOM).await {
                Ok(messages) => {
                    self.obey(messages).await;
                    // Announcements that come meanwhile are lost, so it subscribes at once.
                    SOON
                }
                Err(_) => AGAIN,
            };
            sleep(pause).await;
        }
    }

    async fn obey(&self, mut messages: RelayMessages) {
        while let Some(message) = messages.next().await {
            let Some(registry) = self.registry.upgrade() else { return };
            // A node also receives its own announcements.
            if let RelayMessage::Told(RelayNews::Kick { node: from, person, code, reason }) =
                message
                && from != self.node.registry()
            {
                let code = CloseCode::from_number(code, Dialect::Spec).unwrap_or(CloseCode::Kicked);
                // By a task of its own: a kick waits for its rooms, and the messages behind it are bounded.
                let kick = registry.clone();
                registry.tasks.spawn(async move { kick.kick_person(&person, code, reason).await });
            }
        }
    }
}

/// The id that announcements have in place of a room's.
pub(super) const NO_ROOM: &str = "";
