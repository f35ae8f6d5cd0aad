//! Probes the members whose name a newcomer wants for a sign of life.

use std::{future::ready, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::{Instant, timeout_at};

use crate::room::{Holder, Outlived};

/// A probe of the holders of a name. Only one newcomer probes at a time; another may once this is
/// dropped.
#[derive(Debug)]
pub(crate) struct Probe {
    holders: Vec<Holder>,
}

/// The outcome of a probe.
#[derive(Debug)]
pub(crate) enum Probed {
    /// A holder answered, and keeps the name.
    Answered,
    /// All have left, so the first newcomer to join gets the name.
    Left,
    /// Frames arrive, but no answer: they may have been under way from a connection that is gone.
    InDoubt,
    Outlived(Outlived),
}

impl Probe {
    pub(crate) fn new(holders: Vec<Holder>) -> Self {
        Self { holders }
    }

    /// Returns the longest time that a newcomer waits for holders that have this time to answer: frames
    /// that were under way from a connection that is gone may take a while to be read.
    pub(crate) fn longest(patience: Duration) -> Duration {
        patience * 5 / 2
    }

    /// Probes the holders. If none of them sends anything for this time, they are outlived.
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

    /// Returns when a holder was last heard. A holder that the rate keeps from being read cannot be
    /// heard, so it counts as heard now.
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
