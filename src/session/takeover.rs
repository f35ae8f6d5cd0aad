//! Whether a member whose name a newcomer wants is still there: it is asked for a sign of life.

use std::{future::ready, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::{Instant, timeout};

use crate::room::{Holder, Outlived, Shared};

/// Asks the holders of a name. One newcomer at a time does, and another may once this is dropped.
#[derive(Debug)]
pub(crate) struct Probe {
    room: Arc<Shared>,
    holders: Vec<Holder>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Probed {
    /// One is there, and keeps the name.
    Answered,
    /// All have left, so whoever comes first has the name.
    Left,
    /// A frame came, which may have been on its way from a connection that is gone.
    InDoubt,
    Outlived(Outlived),
}

impl Probe {
    pub(crate) fn new(room: Arc<Shared>, holders: Vec<Holder>) -> Self {
        Self { room, holders }
    }

    /// Asks, and gives them this time to answer.
    pub(crate) async fn ask(&self, patience: Duration) -> Probed {
        let asked = Instant::now().into_std();
        let answers = self.holders.iter().map(|holder| holder.handle.probe(asked));
        let answers = answers.collect::<FuturesUnordered<_>>();
        match timeout(patience, answers.any(ready)).await {
            Ok(true) => Probed::Answered,
            Ok(false) => Probed::Left,
            Err(_) if self.holders.iter().all(|holder| holder.handle.is_silent(asked)) => {
                Probed::Outlived(Outlived { holders: self.holders.clone(), asked })
            }
            Err(_) => Probed::InDoubt,
        }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.holders.iter().for_each(|holder| self.room.unchallenge(holder.member));
    }
}
