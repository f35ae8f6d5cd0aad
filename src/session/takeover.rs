//! Whether a member whose name a newcomer wants is still there: it is asked for a sign of life.

use std::{future::ready, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::{Instant, timeout_at};

use crate::room::{Holder, Outlived};

/// Asks the holders of a name. One newcomer at a time does, and another may once this is dropped.
#[derive(Debug)]
pub(crate) struct Probe {
    holders: Vec<Holder>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Probed {
    /// One is there, and keeps the name.
    Answered,
    /// All have left, so whoever comes first has the name.
    Left,
    /// Frames come, but no answer: they may have been on their way from a connection that is gone.
    InDoubt,
    Outlived(Outlived),
}

impl Probe {
    pub(crate) fn new(holders: Vec<Holder>) -> Self {
        Self { holders }
    }

    /// Returns how long a newcomer waits at most for holders that have this time to answer: what was under
    /// way from a connection that is gone may take a while to be read.
    pub(crate) fn longest(patience: Duration) -> Duration {
        patience * 5 / 2
    }

    /// Asks. A holder that sends nothing for this time is outlived.
    pub(crate) async fn ask(&self, patience: Duration) -> Probed {
        let asked = Instant::now();
        let longest = asked + Self::longest(patience);
        let answers = self.holders.iter().map(|holder| holder.handle.probe(asked.into_std()));
        let mut answers = answers.collect::<FuturesUnordered<_>>();
        let mut since = asked;
        loop {
            let until = longest.min(since + patience);
            match timeout_at(until, answers.by_ref().any(ready)).await {
                Ok(true) => return Probed::Answered,
                Ok(false) => return Probed::Left,
                Err(_) => {}
            }
            let silent = since.into_std();
            if self.holders.iter().all(|holder| holder.handle.is_silent(silent)) {
                return Probed::Outlived(Outlived { holders: self.holders.clone(), asked: silent });
            }
            if until == longest {
                return Probed::InDoubt;
            }
            since = self.heard_at().clamp(since, until);
        }
    }

    /// Returns when a holder was heard last. One that the rate keeps from being read cannot be heard, and
    /// so may send at any time.
    fn heard_at(&self) -> Instant {
        let heard = self.holders.iter().map(|holder| match holder.handle.is_paused() {
            true => Instant::now(),
            false => holder.handle.heard_at().into(),
        });
        heard.max().unwrap_or_else(Instant::now)
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.holders.iter().for_each(|holder| holder.handle.end_probe());
    }
}
