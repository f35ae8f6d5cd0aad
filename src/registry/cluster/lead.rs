//! One node at a time that leads a room, for games that a server runs.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    sync::{oneshot, watch},
    time::{Instant, sleep, timeout_at},
};

use super::Node;
use crate::{
    registry::{Inner, RoomError},
    relay::RelayAnswer,
    room::{Shared, Wish},
};

/// This node leads a room, until this is dropped or [`lost`](Self::lost). See
/// [`Room::lead`](crate::Room::lead).
#[derive(Debug)]
pub struct Lead {
    lost: watch::Receiver<()>,
    /// Whoever keeps the lead ends with it.
    _kept: oneshot::Sender<()>,
}

impl Lead {
    /// Ends when another node may lead: the broker has not answered for nearly a lease, or the room is
    /// gone. Never, where there is no relay, as long as the room is there.
    pub async fn lost(&self) {
        _ = self.lost.clone().changed().await;
    }

    /// Whether it is lost.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.lost.has_changed().is_err()
    }
}

/// Between two attempts to lead.
const AGAIN: Duration = Duration::from_secs(1);

impl Inner {
    pub(crate) async fn lead(&self, room: &Arc<Shared>) -> Result<Lead, RoomError> {
        let (found, lost) = watch::channel(());
        let (kept, dropped) = oneshot::channel();
        let lead = self.node.as_ref().map_or(0, |node| node.number());
        let since = match &self.node {
            Some(node) => self.lead_at(node, room, lead).await?,
            None => Instant::now(),
        };
        let (node, weak) = (self.node.clone(), Arc::downgrade(room));
        self.tasks.spawn(async move {
            // Lost however this ends.
            let found = found;
            tokio::select! {
                () = keep(node.as_deref(), &weak, lead, since) => {}
                _ = dropped => if let Some((node, room)) = node.as_ref().zip(weak.upgrade()) {
                    _ = node.wish(&room, Wish::Resign(lead)).await;
                },
            }
            drop(found);
        });
        Ok(Lead { lost, _kept: kept })
    }

    /// Since when this node leads.
    async fn lead_at(
        &self,
        node: &Node,
        room: &Arc<Shared>,
        lead: u64,
    ) -> Result<Instant, RoomError> {
        loop {
            let asked = Instant::now();
            match node.wish(room, Wish::Lead { lead, is_renewal: false }).await {
                Ok(RelayAnswer::Done { .. }) => return Ok(asked),
                _ if room.is_evicted() => return Err(RoomError::Gone),
                _ => tokio::select! {
                    () = sleep(AGAIN) => {}
                    () = self.tasks.over().cancelled() => return Err(RoomError::Gone),
                },
            }
        }
    }
}

/// Until the lead is lost.
async fn keep(node: Option<&Node>, room: &Weak<Shared>, lead: u64, mut since: Instant) {
    let pause = node.map_or(AGAIN, |node| AGAIN.min(node.lease() / 5));
    loop {
        sleep(pause).await;
        let Some(room) = room.upgrade().filter(|room| !room.is_evicted()) else { return };
        let Some(node) = node else { continue };
        // The broker counts from when it answered, which was later.
        let last = since + node.lease() * 4 / 5;
        let asked = Instant::now();
        match timeout_at(last, node.wish(&room, Wish::Lead { lead, is_renewal: true })).await {
            Ok(Ok(RelayAnswer::Done { .. })) => since = asked,
            Ok(Err(_)) if Instant::now() + pause < last => {}
            _ => return,
        }
    }
}
