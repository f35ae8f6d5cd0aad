//! Messages between nodes that belong to no room.

use std::{
    sync::{Arc, Weak},
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
        let code = code.code(Dialect::Spec);
        let (person, reason) = (person.into(), reason.into());
        let kick = RelayNews::Kick { node: node.registry().into(), person, code, reason };
        node.announce(&kick).await.map_err(|_| RoomError::Unreachable)
    }

    /// Receives the announcements of other nodes, from the first room on: before it, nobody is on this node.
    pub(in crate::registry) fn hear_announcements(self: &Arc<Self>, node: &Arc<Node>) {
        let mut hearing = node.hearing.lock();
        if !hearing.is_alive() {
            *hearing = self.tasks.spawn(hear(Arc::downgrade(self), node.clone()));
        }
    }
}

/// Subscribes until the registry is gone.
async fn hear(registry: Weak<Inner>, node: Arc<Node>) {
    loop {
        let pause = match node.subscribe(NO_ROOM).await {
            Ok(messages) => {
                obey(&registry, &node, messages).await;
                // Announcements that come meanwhile are lost, so it subscribes at once.
                SOON
            }
            Err(_) => AGAIN,
        };
        if registry.strong_count() == 0 {
            return;
        }
        sleep(pause).await;
    }
}

/// The id that announcements have in place of a room's.
pub(super) const NO_ROOM: &str = "";

async fn obey(registry: &Weak<Inner>, node: &Node, mut messages: RelayMessages) {
    while let Some(message) = messages.next().await {
        let Some(registry) = registry.upgrade() else { return };
        // A node also receives its own announcements.
        if let RelayMessage::Told(RelayNews::Kick { node: from, person, code, reason }) = message
            && from != node.registry()
        {
            let code = CloseCode::try_from(code).unwrap_or(CloseCode::Kicked);
            // By a task of its own: a kick waits for its rooms, and the messages behind it are bounded.
            let kick = registry.clone();
            registry.tasks.spawn(async move { kick.kick_person(&person, code, reason).await });
        }
    }
}
