//! The lock of a room and the task that looks after it. Under `--cfg shuttle` they are those of a
//! scheduler that tries interleavings, where any time may have passed.

#[cfg(not(shuttle))]
mod real {
    use std::time::Instant;

    use tokio::{sync::Notify, time::sleep_until};

    pub(crate) use parking_lot::RwLock;

    pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) {
        drop(tokio::spawn(task));
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
    use std::time::Instant;

    use tokio::sync::Notify;

    pub(crate) use shuttle_parking_lot::RwLock;

    pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) {
        drop(shuttle::future::spawn(task));
    }

    pub(crate) async fn wait(_: Instant, _: &Notify) {
        shuttle::future::yield_now().await;
    }
}

#[cfg(not(shuttle))]
pub(crate) use real::{RwLock, spawn, wait};
#[cfg(shuttle)]
pub(crate) use shuttled::{RwLock, spawn, wait};
