//! A room: its state behind one lock, and the task that looks after it while something is due.

#[cfg(any(test, feature = "__internals"))]
use std::sync::OnceLock;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use tokio::{
    sync::{Notify, broadcast},
    time::Instant,
};

use super::{
    Eviction, MemberId, RoomEvent, RoomSummary, SessionHandle, Start, State, Submitted, Taken,
    Write, WriteCost, WriteError,
    duty::{Alarm, Due},
};
use crate::{
    close::LeaveCause,
    store::Change,
    sync::{self, Handle, RwLock},
};

/// The number of members that are pushed before other tasks have their turn.
const PUSHED_AT_ONCE: usize = 64;

/// A receiver of the work that has to follow a change of a room, once its lock is free.
pub(crate) trait Caretaker: fmt::Debug + Send + Sync {
    /// Receives a room that has been vacant since this moment.
    fn vacated(&self, room: &Arc<Shared>, since: std::time::Instant);

    /// Receives a room of which the store lacks something.
    fn unsaved(&self, room: &Arc<Shared>);

    /// Receives a room whose broker task has stalled.
    fn stalled(&self, room: &Arc<Shared>);

    /// Frees memory for a write, if possible. Returns whether some was freed.
    fn starved(&self) -> bool;

    /// Returns the runtime for a task of the room, if possible the one that serves its members. Returns
    /// `None` if there is no runtime, or if no task may begin any more.
    fn runtime(&self, preferred: Option<&Handle>) -> Option<Handle>;

    fn spawn(&self, runtime: &Handle, task: Task);
}

pub(crate) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

#[cfg(any(test, feature = "__internals"))]
#[derive(Debug)]
struct Nobody;

#[cfg(any(test, feature = "__internals"))]
impl Caretaker for Nobody {
    fn vacated(&self, _: &Arc<Shared>, _: std::time::Instant) {}

    fn unsaved(&self, _: &Arc<Shared>) {}

    fn stalled(&self, _: &Arc<Shared>) {}

    fn starved(&self) -> bool {
        false
    }

    fn runtime(&self, preferred: Option<&Handle>) -> Option<Handle> {
        preferred.cloned()
    }

    fn spawn(&self, runtime: &Handle, task: Task) {
        sync::spawn(runtime, task);
    }
}

pub(crate) struct Shared {
    id: Arc<str>,
    /// A synchronous lock that is never held across an await, because each change is short and must be
    /// atomic.
    pub(super) state: RwLock<State>,
    caretaker: Weak<dyn Caretaker>,
    /// Notified when the task between the room and its broker has something to do, or when the room is gone.
    stirred: Arc<Notify>,
    was_removed: Arc<AtomicBool>,
    /// The number of tasks that have looked after the room. Only the latest one still does.
    duty: AtomicU64,
    /// Notified when something is due sooner than the task that looks after the room knows.
    sooner: Notify,
    /// The runtime of the last join, on which the room's task runs. The host may call from a runtime that is
    /// about to end, or from a thread without one.
    runtime: RwLock<Option<Handle>>,
}

/// Shows neither the state behind the lock nor the members, which lead to the registry and to other rooms.
impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn new(state: State, caretaker: Weak<dyn Caretaker>) -> Self {
        Self {
            id: state.id().clone(),
            state: RwLock::new(state),
            caretaker,
            stirred: Arc::default(),
            was_removed: Arc::default(),
            duty: AtomicU64::new(0),
            sooner: Notify::new(),
            runtime: RwLock::new(Handle::try_current().ok()),
        }
    }

    /// Creates a room without a registry.
    #[cfg(any(test, feature = "__internals"))]
    pub(crate) fn alone(state: State) -> Self {
        static NOBODY: OnceLock<Arc<Nobody>> = OnceLock::new();
        let nobody: Weak<Nobody> = Arc::downgrade(NOBODY.get_or_init(|| Arc::new(Nobody)));
        Self::new(state, nobody)
    }

    /// Returns the flag that is set if the room was removed, and has not only left the memory.
    pub(crate) fn was_removed(&self) -> &Arc<AtomicBool> {
        &self.was_removed
    }

    pub(crate) fn stirred(&self) -> &Arc<Notify> {
        &self.stirred
    }

    pub(crate) fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// Runs the room's tasks on the current runtime, because members are served there.
    pub(crate) fn serve_here(self: &Arc<Self>) {
        let Ok(runtime) = Handle::try_current() else { return };
        let is_elsewhere =
            self.runtime.read().as_ref().is_none_or(|there| there.id() != runtime.id());
        if is_elsewhere {
            *self.runtime.write() = Some(runtime);
            // The other runtime may not run the task that was begun there.
            if self.state.read().is_on_duty() {
                self.begin_duty();
            }
        }
    }

    /// Takes a member's write; see [`State::submit`].
    pub(crate) fn submit(self: &Arc<Self>, write: &Write<'_>) -> Result<WriteCost, WriteError> {
        let submit = || self.change(|state, now| state.submit(write, now));
        let mut submitted = submit()?;
        // The room's lock must be free here, because the registry's lock comes before it.
        if submitted == Submitted::Starved
            && self.caretaker.upgrade().is_some_and(|caretaker| caretaker.starved())
        {
            submitted = submit()?;
        }
        Ok(match submitted {
            Submitted::Done(cost) => cost,
            Submitted::Starved => {
                let healed = self.change(|state, now| state.refuse(write, now));
                WriteCost { healed, next: None }
            }
        })
    }

    /// Returns a fresh start for a member that lagged; see [`State::resync`].
    pub(crate) fn resync(&self, member: MemberId) -> Option<Start> {
        self.state.write().resync(member, Instant::now().into_std())
    }

    /// Removes a member; see [`State::leave`].
    pub(crate) fn leave(self: &Arc<Self>, member: MemberId, cause: LeaveCause) {
        self.change(|state, now| state.leave(member, cause, now));
    }

    /// Evicts the room if it has been empty since that moment. Waits for the room's lock while the registry's
    /// is held, but no member of an empty room can hold its lock for long.
    pub(crate) fn evict(self: &Arc<Self>, since: std::time::Instant) -> Eviction {
        self.change(|state, _| state.evict(since))
    }

    /// Takes the unsaved changes; see [`State::take_unsaved`].
    pub(crate) fn take_unsaved(&self, used: u64) -> Option<(Change, Taken)> {
        self.state.write().take_unsaved(used)
    }

    /// Notes the result of saving them; see [`State::saved`].
    pub(crate) fn saved(&self, taken: Taken, is_done: bool) -> bool {
        self.state.write().saved(taken, is_done)
    }

    /// Returns how many variables the store lacks; see [`State::unsaved_len`].
    pub(crate) fn unsaved_len(&self) -> usize {
        self.state.read().unsaved_len()
    }

    /// Returns the handles by which its members' sessions are stopped.
    pub(crate) fn handles(&self) -> Vec<Arc<SessionHandle>> {
        self.state.read().handles()
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

    /// Returns the bytes that it has of the registry's budget.
    pub(crate) fn bytes(&self) -> usize {
        self.state.read().share.used()
    }

    pub(crate) fn is_evicted(&self) -> bool {
        self.state.read().is_gone()
    }

    pub(crate) fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.state.read())
    }

    /// Subscribes to the room's events. Returns `None` if the room is gone.
    pub(crate) fn subscribe(&self) -> Option<broadcast::Receiver<RoomEvent>> {
        let mut state = self.state.write();
        (!state.is_gone()).then(|| state.observers.subscribe())
    }

    pub(crate) fn change<T>(
        self: &Arc<Self>,
        change: impl FnOnce(&mut State, std::time::Instant) -> T,
    ) -> T {
        let now = Instant::now().into_std();
        let (result, alarm, is_unsaved, aftermath) = {
            let mut state = self.state.write();
            let result = change(&mut state, now);
            (result, state.alarm(now), state.list(), state.take_aftermath(now))
        };
        // The room's lock is free from here on, because the eviction queue's lock comes before it.
        if is_unsaved && let Some(caretaker) = self.caretaker.upgrade() {
            caretaker.unsaved(self);
        }
        if let Some(since) = aftermath.vacated
            && let Some(caretaker) = self.caretaker.upgrade()
        {
            caretaker.vacated(self, since);
        }
        if aftermath.is_stirred {
            self.stirred.notify_one();
        }
        if aftermath.is_stalled
            && let Some(caretaker) = self.caretaker.upgrade()
        {
            caretaker.stalled(self);
        }
        match alarm {
            Alarm::AsArranged => {}
            Alarm::Sooner => self.sooner.notify_one(),
            Alarm::First => self.begin_duty(),
        }
        result
    }

    /// Has a task look after the room, in place of one that has not run, if there is any.
    fn begin_duty(self: &Arc<Self>) {
        let caretaker = self.caretaker.upgrade();
        let runtime = caretaker.as_ref().and_then(|it| it.runtime(self.runtime().as_ref()));
        let Some((caretaker, runtime)) = caretaker.zip(runtime) else {
            // Nobody has ever joined, or no task may begin any more, so nobody waits for anything.
            return self.state.write().off_duty();
        };
        let generation = self.duty.fetch_add(1, Relaxed) + 1;
        // Created here, because the task may be dropped before it has run.
        let duty = Duty { room: self.clone(), generation, is_done: false };
        caretaker.spawn(&runtime, Box::pin(self.clone().look_after(duty)));
    }

    /// Returns the runtime on which members are served.
    pub(crate) fn runtime(&self) -> Option<Handle> {
        self.runtime.read().clone()
    }

    /// Looks after the room. Only one such task runs at a time. The change that returned `First` starts it.
    /// It ends under the lock when nothing is due, or when another has begun because this one was late.
    async fn look_after(self: Arc<Self>, mut duty: Duty) {
        while self.duty.load(Relaxed) == duty.generation {
            let due = self.state.write().advance(Instant::now().into_std());
            match due {
                Some(Due::Push) => self.push().await,
                Some(Due::At(time)) => sync::wait(time, &self.sooner).await,
                None => break,
            }
        }
        duty.is_done = true;
    }

    /// Pushes every member. Writes that come meanwhile leave after all members have been pushed, so batches
    /// grow if writes come faster than they can be passed on.
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

/// A guard that begins another task if this one ends early, for example with its runtime.
struct Duty {
    room: Arc<Shared>,
    generation: u64,
    is_done: bool,
}

impl Drop for Duty {
    fn drop(&mut self) {
        if !self.is_done && self.room.duty.load(Relaxed) == self.generation {
            self.room.state.write().off_duty();
            // The empty change arranges another task if something is due.
            self.room.change(|_, _| ());
        }
    }
}
