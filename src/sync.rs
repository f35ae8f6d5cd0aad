//! The lock of a room and the task that looks after it. Under `--cfg shuttle` they are those of a
//! scheduler that tries interleavings, where any time may have passed.

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

    /// The task is to yield by itself: tokio's budget would let a socket seem blocked to it.
    #[cfg(any(test, feature = "__internals"))]
    pub(crate) fn spawn(runtime: &Handle, task: impl Future<Output = ()> + Send + 'static) {
        drop(runtime.spawn(tokio::task::unconstrained(task)));
    }

    /// Ends at `time`, or when it is to be sooner.
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

    /// Stands for a runtime, of which there is one here.
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

/// Waits until there is what is asked for; whoever makes it so calls `notify_waiters` afterwards.
pub(crate) async fn wait_for<T>(notify: &Notify, there: impl Fn() -> Option<T>) -> T {
    loop {
        let mut notified = pin!(notify.notified());
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
