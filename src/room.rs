//! A room: its state behind one lock, and the task that looks after it while something is due.

mod backlog;
mod batch;
#[cfg(all(test, not(shuttle)))]
mod convergence;
mod join;
mod link;
mod members;
mod order;
mod outgoing;
#[cfg(all(test, shuttle))]
mod racing;
mod settle;
mod snapshot;
mod state;
mod variables;

use std::sync::Arc;

use tokio::{sync::Notify, time::Instant};

pub(crate) use batch::Batch;
pub(crate) use join::{JoinError, Joined, Newcomer, Refusal};
pub(crate) use link::Link;
pub(crate) use members::MemberId;
pub(crate) use order::{Write, WriteError};
pub(crate) use settle::CLIENT_LAG;
pub(crate) use snapshot::Snapshot;
pub use state::Schema;
pub(crate) use state::{Eviction, Rules, Start, State};

use crate::sync::{self, RwLock};
use order::Alarm;

#[derive(Debug)]
pub(crate) struct Room {
    id: Arc<str>,
    /// Synchronous and never held across an await: each change is short, and must be whole.
    state: RwLock<State>,
    /// Something is due sooner than the task that looks after the room knows.
    sooner: Notify,
}

impl Room {
    pub(crate) fn new(id: Arc<str>, state: State) -> Self {
        Self { id, state: RwLock::new(state), sooner: Notify::new() }
    }

    pub(crate) fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// Lets a newcomer in; see [`State::join`].
    pub(crate) fn join(self: &Arc<Self>, newcomer: Newcomer<'_>) -> Result<Joined, JoinError> {
        self.change(|state, now| state.join(newcomer, now))
    }

    /// Takes a write of a member; see [`State::submit`].
    pub(crate) fn submit(self: &Arc<Self>, write: &Write<'_>) -> Result<(), WriteError> {
        self.change(|state, now| state.submit(write, now))
    }

    /// A fresh start for a member that lagged; see [`State::resync`].
    pub(crate) fn resync(&self, member: MemberId) -> Option<Start> {
        self.state.write().resync(member)
    }

    pub(crate) fn unchallenge(&self, holder: MemberId) {
        self.state.write().unchallenge(holder);
    }

    /// Removes a member; see [`State::leave`].
    pub(crate) fn leave(&self, member: MemberId) -> Option<std::time::Instant> {
        self.state.write().leave(member, Instant::now().into_std())
    }

    /// Marks the room as evicted if it has been empty since that moment. Waits for the room's
    /// lock under the registry's, which no member of an empty room can hold for long.
    pub(crate) fn evict(&self, since: std::time::Instant) -> Eviction {
        self.state.write().evict(since)
    }

    pub(crate) fn stop_all(&self, close: &crate::close::Close) {
        self.state.read().stop_all(close);
    }

    pub(crate) fn member_count(&self) -> usize {
        self.state.read().member_count()
    }

    fn change<T>(self: &Arc<Self>, change: impl FnOnce(&mut State, std::time::Instant) -> T) -> T {
        let now = Instant::now().into_std();
        let (result, alarm) = {
            let mut state = self.state.write();
            (change(&mut state, now), state.alarm())
        };
        match alarm {
            Alarm::AsArranged => {}
            Alarm::Sooner => self.sooner.notify_one(),
            Alarm::First => sync::spawn(self.clone().look_after()),
        }
        result
    }

    /// One such task at a time: started by the change that answered `First`, ended under the lock
    /// when nothing is due.
    async fn look_after(self: Arc<Self>) {
        let mut duty = Duty(Some(self.clone()));
        loop {
            let Some(next) = self.state.write().advance(Instant::now().into_std()) else {
                duty.0 = None;
                return;
            };
            sync::wait(next, &self.sooner).await;
        }
    }
}

/// If the task ends otherwise, as with its runtime, the next change starts another.
struct Duty(Option<Arc<Room>>);

impl Drop for Duty {
    fn drop(&mut self) {
        if let Some(room) = &self.0 {
            room.state.write().off_duty();
        }
    }
}
