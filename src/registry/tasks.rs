//! Every task of a registry: where it runs, and how all end.

use std::{
    collections::{HashMap, HashSet},
    future::Future,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::{AbortHandle, AbortRegistration, Abortable};
use parking_lot::Mutex;
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    room::Task,
    sync::{Handle, Id},
};

/// The tasks of a registry, and the one place that spawns them. A task runs on the host's choice of runtime
/// or, if there is none, on a runtime that serves sessions, and never on one that is known to have ended.
#[derive(Debug)]
pub(crate) struct Tasks {
    /// The runtime that the host has chosen.
    chosen: Option<Handle>,
    runtimes: Mutex<Runtimes>,
    tracker: TaskTracker,
    handles: Mutex<Handles>,
    over: CancellationToken,
}

/// The handles that end the present tasks.
#[derive(Debug, Default)]
struct Handles {
    there: HashMap<u64, AbortHandle>,
    last: u64,
}

#[derive(Debug, Default)]
struct Runtimes {
    /// The runtimes that serve sessions, the latest last.
    serving: Vec<Handle>,
    /// The runtimes that have dropped a task of the registry's.
    ended: HashSet<Id>,
}

/// How many runtimes are remembered. A server is unlikely to have more runtimes than the machine has cores.
const MOST: usize = 64;
/// How long aborted tasks may take to end. They end as soon as they run.
const ENDING: Duration = Duration::from_secs(1);

impl Tasks {
    pub(super) fn new(chosen: Option<Handle>) -> Arc<Self> {
        Arc::new(Self {
            chosen,
            runtimes: Mutex::default(),
            tracker: TaskTracker::new(),
            handles: Mutex::default(),
            over: CancellationToken::new(),
        })
    }

    /// Spawns the task of a session on the current runtime, where its socket is. The task
    /// [registers](Self::register) itself, because it has last words.
    pub(crate) fn serve(self: &Arc<Self>, session: impl Future<Output = ()> + Send + 'static) {
        let Ok(runtime) = Handle::try_current() else { return };
        self.note_serving(&runtime);
        self.run_on(&runtime, Box::pin(session));
    }

    fn note_serving(&self, runtime: &Handle) {
        let mut runtimes = self.runtimes.lock();
        if runtimes.serving.last().is_some_and(|last| last.id() == runtime.id()) {
            return;
        }
        runtimes.serving.retain(|there| there.id() != runtime.id());
        if runtimes.serving.len() == MOST {
            runtimes.serving.remove(0);
        }
        runtimes.serving.push(runtime.clone());
    }

    /// Spawns a task, if there is a runtime for it.
    pub(crate) fn spawn(
        self: &Arc<Self>,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> Spawned {
        let Some(runtime) = self.runtime(None) else { return Spawned::default() };
        let alive = Arc::new(());
        let spawned = Spawned(Arc::downgrade(&alive));
        self.spawn_on(&runtime, async move {
            let _alive = alive;
            task.await;
        });
        spawned
    }

    pub(crate) fn spawn_on(
        self: &Arc<Self>,
        runtime: &Handle,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let (registration, registered) = self.register();
        let task = Box::pin(async move {
            // Registered for as long as the task exists.
            let _known = registered;
            task.await;
        });
        self.run_on(runtime, Abortable::new(task as Task, registration));
    }

    /// Registers a future that is to be aborted when all tasks are to end. For a future that is polled often,
    /// this is cheaper than waiting for [`over`](Self::over) beside it.
    pub(crate) fn register(self: &Arc<Self>) -> (AbortRegistration, Registered) {
        let (handle, registration) = AbortHandle::new_pair();
        let mut handles = self.handles.lock();
        // Checked under the lock, so that `end` misses no handle.
        if self.over.is_cancelled() {
            handle.abort();
        }
        handles.last += 1;
        let number = handles.last;
        handles.there.insert(number, handle);
        (registration, Registered { tasks: self.clone(), number })
    }

    fn run_on<F>(self: &Arc<Self>, runtime: &Handle, task: F)
    where
        F: Future + Unpin + Send + 'static,
        F::Output: Send,
    {
        let end = End { tasks: self.clone(), runtime: runtime.id(), is_done: false };
        runtime.spawn(self.tracker.track_future(Owned { end, task }));
    }

    /// Returns the runtime for a task: the first that has not ended of the host's choice, the preferred one,
    /// those that serve sessions and the current one. Returns `None` if there is none, or if all tasks are
    /// to end.
    pub(crate) fn runtime(&self, preferred: Option<&Handle>) -> Option<Handle> {
        if self.over.is_cancelled() {
            return None;
        }
        let current = Handle::try_current().ok();
        let runtimes = self.runtimes.lock();
        let candidates = self.chosen.iter().chain(preferred);
        let candidates = candidates.chain(runtimes.serving.iter().rev()).chain(&current);
        let mut there = candidates.filter(|runtime| !runtimes.ended.contains(&runtime.id()));
        there.next().cloned()
    }

    /// Has all tasks end now.
    pub(super) fn end(&self) {
        self.over.cancel();
        self.handles.lock().there.values().for_each(AbortHandle::abort);
    }

    /// Waits until all tasks have ended. Returns `false` if some have not, because their runtime does not run
    /// them.
    pub(super) async fn ended(&self) -> bool {
        self.tracker.close();
        timeout(ENDING, self.tracker.wait()).await.is_ok()
    }

    /// Returns the token that is cancelled when all tasks are to end.
    pub(crate) fn over(&self) -> &CancellationToken {
        &self.over
    }
}

/// A probe of whether a task still exists. By default, none does.
#[derive(Debug, Default)]
pub(crate) struct Spawned(Weak<()>);

impl Spawned {
    /// Returns whether the task still exists: it is neither done nor dropped with its runtime.
    pub(crate) fn is_alive(&self) -> bool {
        self.0.strong_count() > 0
    }
}

/// A task, with a guard that notes if it is dropped before it is done.
struct Owned<F> {
    // Dropped first, so that tasks which the drop of `task` starts do not run on this runtime again.
    end: End,
    task: F,
}

impl<F: Future + Unpin> Future for Owned<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // A task that panics is done too.
        self.end.is_done = true;
        let done = Pin::new(&mut self.task).poll(cx);
        self.end.is_done = done.is_ready();
        done.map(drop)
    }
}

/// The registration of a future that ends when all tasks are to end.
#[derive(Debug)]
pub(crate) struct Registered {
    tasks: Arc<Tasks>,
    number: u64,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.tasks.handles.lock().there.remove(&self.number);
    }
}

/// A guard that notes the end of a runtime: nothing else drops a task of the registry's before it is done.
struct End {
    tasks: Arc<Tasks>,
    runtime: Id,
    is_done: bool,
}

impl Drop for End {
    fn drop(&mut self) {
        if !self.is_done {
            let mut runtimes = self.tasks.runtimes.lock();
            runtimes.serving.retain(|there| there.id() != self.runtime);
            runtimes.ended.insert(self.runtime);
        }
    }
}
