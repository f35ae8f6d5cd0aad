//! The signals that stop the server or make it read files again, and the notifications to systemd.

use futures_util::future::BoxFuture;
use tokio::sync::watch;

/// The signals of the process, watched from the beginning.
pub(crate) struct Signals {
    /// Completes on SIGTERM, and on ctrl-c.
    pub(crate) stop: BoxFuture<'static, ()>,
    /// Changes with each SIGHUP. A watcher that is busy sees the change afterwards.
    pub(crate) reload: watch::Receiver<()>,
}

impl Signals {
    #[cfg(unix)]
    pub(crate) fn watch() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        let watch = |kind| signal(kind).expect("signals can be watched");
        let [mut terminate, mut interrupt, mut hangup] =
            [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(watch);
        let (reloads, reload) = watch::channel(());
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                reloads.send_replace(());
            }
        });
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tell_systemd(false);
        };
        Self { stop: Box::pin(stop), reload }
    }

    #[cfg(not(unix))]
    pub(crate) fn watch() -> Self {
        let stop = async { _ = tokio::signal::ctrl_c().await };
        Self { stop: Box::pin(stop), reload: watch::channel(()).1 }
    }
}

/// Tells systemd that the server is ready, if systemd waits for that (`Type=notify`).
pub(crate) fn ready() {
    tell_systemd(true);
}

#[cfg(unix)]
fn tell_systemd(is_ready: bool) {
    use sd_notify::NotifyState::{Ready, Stopping};
    // Errors are ignored, because the server also runs without systemd.
    _ = sd_notify::notify(&[if is_ready { Ready } else { Stopping }]);
}

#[cfg(not(unix))]
fn tell_systemd(_: bool) {}
