//! The lock of a room and the task that looks after it. Under `--cfg shuttle` they belong to a
//! scheduler that tries interleavings, in which any time may have passed.

mod lock;

use std::pin::pin;

use tokio::sync::Notify;

#[cfg(not(shuttle))]
mod real {
    use std::time::Instant;

    use tokio::{sync::Notify, time::sleep_until};

    pub(crate) use tokio::{
        runtime::{Handle, Id},
        task::yield_now,
    };

    /// Spawns a task that yields by itself, because tokio's budget would make a socket seem blocked to
    /// it.
    #[cfg(any(test, feature = "__internals"))]
    pub(crate) fn spawn(runtime: &Handle, task: impl Future<Output = ()> + Send + 'static) {
        drop(runtime.spawn(tokio::task::unconstrained(task)));
    }

    /// Waits until `time`, or until `sooner` is notified.
    pub(crate) async fn wait(time: Instant, sooner: &Notify) {
        tokio::select! {
            () = sleep_until(time.into()) => {}
            () = sooner.notified() => {}
        }
    }
}

#[cfg(shuttle)]
mod shuttled {
    use std::{fmt, time::Instant};

    use tokio::sync::Notify;

    pub(crate) use shuttle::future::yield_now;

    pub(crate) type Id = u8;

    impl From<tokio::runtime::Handle> for Handle {
        fn from(_: tokio::runtime::Handle) -> Self {
            Self
        }
    }

    /// The only runtime here.
    #[derive(Debug, Clone)]
    pub(crate) struct Handle;

    impl Handle {
        pub(crate) fn try_current() -> Result<Self, fmt::Error> {
            Ok(Self)
        }

        pub(crate) fn id(&self) -> Id {
            0
        }

        pub(crate) fn spawn(&self, _: impl Future) {
            unreachable!("the registry is not raced")
        }
    }

    pub(crate) fn spawn(_: &Handle, task: impl Future<Output = ()> + Send + 'static) {
        drop(shuttle::future::spawn(task));
    }

    pub(crate) async fn wait(_: Instant, _: &Notify) {
        shuttle::future::yield_now().await;
    }
}

/// Waits until `there` returns a value. Code that makes it do so calls `notify_waiters` afterwards.
pub(crate) async fn wait_for<T>(notify: &Notify, there: impl Fn() -> Option<T>) -> T {
    loop {
        let mut notified = pin!(notify.notified());
        // Registered before the check, so that a notification between the check and the wait is not
        // lost.
        notified.as_mut().enable();
        if let Some(there) = there() {
            return there;
        }
        notified.await;
    }
}

pub(crate) use lock::{Held, RwLock, drop_unlocked};
#[cfg(all(not(shuttle), any(test, feature = "__internals")))]
pub(crate) use real::spawn;
#[cfg(not(shuttle))]
pub(crate) use real::{Handle, Id, wait, yield_now};
#[cfg(shuttle)]
pub(crate) use shuttled::{Handle, Id, spawn, wait, yield_now};
