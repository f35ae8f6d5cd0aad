//! One node at a time that leads a room, for games that a server runs.

use std::{
    future::pending,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    sync::{oneshot, watch},
    time::{Instant, sleep, timeout_at},
};

use super::Inner;
use crate::{
    relay::{Hub, RelayAnswer, RelayRequest},
    room::{RoomError, Shared},
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
        let number = self.hub.as_ref().map_or(0, |hub| hub.number());
        let since = match &self.hub {
            Some(hub) => lead_at(hub, room, number).await?,
            None => Instant::now(),
        };
        let (hub, weak) = (self.hub.clone(), Arc::downgrade(room));
        let runtime = room.runtime().ok_or(RoomError::Gone)?;
        runtime.spawn(async move {
            tokio::select! {
                () = keep(hub.as_deref(), &weak, number, since) => {}
                () = ended(hub.as_deref()) => {}
                _ = dropped => if let Some((hub, room)) = hub.as_ref().zip(weak.upgrade()) {
                    _ = hub.request_of(&room, &RelayRequest::Resign { number }).await;
                },
            }
            drop(found);
        });
        Ok(Lead { lost, _kept: kept })
    }
}

/// Since when this node leads.
async fn lead_at(hub: &Hub, room: &Arc<Shared>, number: u64) -> Result<Instant, RoomError> {
    loop {
        let asked = Instant::now();
        match hub.request_of(room, &RelayRequest::Lead { number }).await {
            Ok(RelayAnswer::Done(_)) => return Ok(asked),
            _ if room.is_evicted() => return Err(RoomError::Gone),
            _ => tokio::select! {
                () = sleep(AGAIN) => {}
                () = hub.ended() => return Err(RoomError::Gone),
            },
        }
    }
}

/// When the registry has shut down.
async fn ended(hub: Option<&Hub>) {
    match hub {
        Some(hub) => hub.ended().await,
        None => pending().await,
    }
}

/// Until the lead is lost.
async fn keep(hub: Option<&Hub>, room: &Weak<Shared>, number: u64, mut since: Instant) {
    let pause = hub.map_or(AGAIN, |hub| AGAIN.min(hub.lease() / 5));
    let lead = RelayRequest::Lead { number };
    loop {
        sleep(pause).await;
        let Some(room) = room.upgrade().filter(|room| !room.is_evicted()) else { return };
        let Some(hub) = hub else { continue };
        // The broker counts from when it answered, which was later.
        let last = since + hub.lease() * 4 / 5;
        let asked = Instant::now();
        match timeout_at(last, hub.request_of(&room, &lead)).await {
            Ok(Ok(RelayAnswer::Done(_))) => since = asked,
            Ok(Err(_)) if Instant::now() + pause < last => {}
            _ => return,
        }
    }
}
