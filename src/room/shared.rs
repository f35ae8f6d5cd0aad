//! A room: its state behind one lock, and the task that looks after it while something is due.

use std::sync::Arc;

use tokio::{
    sync::{Notify, broadcast},
    time::Instant,
};

use super::{
    Eviction, JoinError, Joined, Link, MemberId, Newcomer, RoomEvent, Start, State, Taken, Write,
    WriteError,
    duty::{Alarm, Due},
};
use crate::{
    registry::RoomSummary,
    store::Change,
    sync::{self, Handle, RwLock},
};

/// How many members are pushed before other tasks have their turn.
const PUSHED_AT_ONCE: usize = 64;

#[derive(Debug)]
pub(crate) struct Shared {
    id: Arc<str>,
    /// Synchronous and never held across an await: each change is short, and must be whole.
    pub(super) state: RwLock<State>,
    /// Something is due sooner than the task that looks after the room knows.
    sooner: Notify,
    /// Where somebody joined last, and so where its task runs. The host may call from a runtime that
    /// is gone the next moment, or from a thread without one.
    runtime: RwLock<Option<Handle>>,
}

impl Shared {
    pub(crate) fn new(id: Arc<str>, state: State) -> Self {
        let runtime = RwLock::new(Handle::try_current().ok());
        Self { id, state: RwLock::new(state), sooner: Notify::new(), runtime }
    }

    pub(crate) fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// Lets a newcomer in; see [`State::join`].
    pub(crate) fn join(self: &Arc<Self>, newcomer: Newcomer<'_>) -> Result<Joined, JoinError> {
        if let Ok(runtime) = Handle::try_current() {
            *self.runtime.write() = Some(runtime);
        }
        self.change(|state, now| state.join(newcomer, now))
    }

    /// Takes a write of a member; see [`State::submit`].
    pub(crate) fn submit(self: &Arc<Self>, write: &Write<'_>) -> Result<usize, WriteError> {
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
    pub(crate) fn leave(self: &Arc<Self>, member: MemberId) -> Option<std::time::Instant> {
        self.change(|state, now| state.leave(member, now))
    }

    /// Marks the room as evicted if it has been empty since that moment. Waits for the room's
    /// lock under the registry's, which no member of an empty room can hold for long.
    pub(crate) fn evict(&self, since: std::time::Instant) -> Eviction {
        self.state.write().evict(since)
    }

    /// See [`State::take_unsaved`].
    pub(crate) fn take_unsaved(&self, used: u64) -> Option<(Change, Taken)> {
        self.state.write().take_unsaved(used)
    }

    /// See [`State::saved`].
    pub(crate) fn saved(&self, taken: Taken, is_done: bool) -> bool {
        self.state.write().saved(taken, is_done)
    }

    /// See [`State::unsaved_len`].
    pub(crate) fn unsaved_len(&self) -> usize {
        self.state.read().unsaved_len()
    }

    /// What to stop the sessions of its members by.
    pub(crate) fn links(&self) -> Vec<Arc<Link>> {
        self.state.read().links()
    }

    pub(crate) fn member_count(&self) -> usize {
        self.state.read().member_count()
    }

    pub(crate) fn summary(&self) -> RoomSummary {
        let state = self.state.read();
        RoomSummary {
            id: self.id.clone(),
            members: state.member_count(),
            max_members: state.max_members,
            locked: state.is_locked,
            variables: state.variables.len(),
            bytes: state.charge.bytes(),
            activity: state.activity,
        }
    }

    pub(crate) fn is_evicted(&self) -> bool {
        self.state.read().evicted
    }

    pub(crate) fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.state.read())
    }

    /// `None` where the room is gone.
    pub(crate) fn subscribe(&self) -> Option<broadcast::Receiver<RoomEvent>> {
        let mut state = self.state.write();
        (!state.evicted).then(|| state.observers.subscribe())
    }

    pub(crate) fn change<T>(
        self: &Arc<Self>,
        change: impl FnOnce(&mut State, std::time::Instant) -> T,
    ) -> T {
        let now = Instant::now().into_std();
        let (result, alarm, keeper) = {
            let mut state = self.state.write();
            (change(&mut state, now), state.alarm(), state.list())
        };
        if let Some(keeper) = keeper {
            keeper.list(self.clone());
        }
        match alarm {
            Alarm::AsArranged => {}
            Alarm::Sooner => self.sooner.notify_one(),
            Alarm::First => self.begin_duty(),
        }
        result
    }

    fn begin_duty(self: &Arc<Self>) {
        match self.runtime() {
            Some(runtime) => {
                // Made here, as the task may be dropped before it has run.
                let duty = Duty(Some(self.clone()));
                sync::spawn(&runtime, self.clone().look_after(duty));
            }
            // Then nobody has ever joined, and nobody waits for anything.
            None => self.state.write().off_duty(),
        }
    }

    /// Where tasks run.
    pub(crate) fn runtime(&self) -> Option<Handle> {
        self.runtime.read().clone().or_else(|| Handle::try_current().ok())
    }

    /// One such task at a time: started by the change that answered `First`, ended under the lock
    /// when nothing is due.
    async fn look_after(self: Arc<Self>, mut duty: Duty) {
        loop {
            let due = self.state.write().advance(Instant::now().into_std());
            match due {
                Some(Due::Push) => self.push().await,
                Some(Due::At(time)) => sync::wait(time, &self.sooner).await,
                None => break,
            }
        }
        duty.0 = None;
    }

    /// Pushes every member. What is written meanwhile leaves when all have been, so that batches
    /// grow where writes come faster than they can be passed on.
    async fn push(&self) {
        let mut outlets = Vec::with_capacity(PUSHED_AT_ONCE);
        let mut last = None;
        loop {
            last = self.state.read().members.outlets(last, &mut outlets);
            outlets.drain(..).for_each(|outlet| outlet.push());
            sync::yield_now().await;
            if last.is_none() {
                break;
            }
        }
    }
}

/// If the task ends otherwise, as with its runtime, the next change starts another.
struct Duty(Option<Arc<Shared>>);

impl Drop for Duty {
    fn drop(&mut self) {
        if let Some(room) = &self.0 {
            room.state.write().off_duty();
        }
    }
}
