//! The lead of a room, which one node at a time has, for games that a server runs.

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

/// This node's lead of a room, until it is dropped or [`lost`](Self::lost). See
/// [`Room::lead`](crate::Room::lead).
#[derive(Debug)]
pub struct Lead {
    lost: watch::Receiver<()>,
    /// Ends the task that keeps the lead, when this is dropped.
    _kept: oneshot::Sender<()>,
}

impl Lead {
    /// Waits until another node may lead, because the broker has not answered for nearly a lease or the room
    /// is gone. Without a relay, waits for as long as the room exists.
    pub async fn lost(&self) {
        _ = self.lost.clone().changed().await;
    }

    /// Returns whether the lead is lost.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.lost.has_changed().is_err()
    }
}

/// The pause between two attempts to lead.
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
            // Dropped however the task ends, so that the lead is lost.
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

    /// Waits until this node leads. Returns since when it does.
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

/// Renews the lead until it is lost.
async fn keep(node: Option<&Node>, room: &Weak<Shared>, lead: u64, mut since: Instant) {
    let pause = node.map_or(AGAIN, |node| AGAIN.min(node.lease() / 5));
    loop {
        sleep(pause).await;
        let Some(room) = room.upgrade().filter(|room| !room.is_evicted()) else { return };
        let Some(node) = node else { continue };
        // The broker counts the lease from its answer, which came later than `since`.
        let last = since + node.lease() * 4 / 5;
        let asked = Instant::now();
        match timeout_at(last, node.wish(&room, Wish::Lead { lead, is_renewal: true })).await {
            Ok(Ok(RelayAnswer::Done { .. })) => since = asked,
            Ok(Err(_)) if Instant::now() + pause < last => {}
            _ => return,
        }
    }
}
