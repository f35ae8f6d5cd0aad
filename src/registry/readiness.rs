//! A check for load balancers and orchestrators: whether newcomers can join.

use tokio::time::timeout;

use super::RoomRegistry;
use crate::{policy::Judging, relay::RelayError, store::StoreError};

/// The reason why newcomers cannot join now: see [`RoomRegistry::readiness`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotReady {
    /// The registry is shutting down, or [is about to](RoomRegistry::prepare_shutdown).
    #[error("the server is about to end")]
    ShuttingDown,
    /// The store cannot be read, or fails to save.
    #[error(transparent)]
    Store(StoreError),
    /// The broker does not answer.
    #[error(transparent)]
    Relay(RelayError),
}

impl RoomRegistry {
    /// Checks whether newcomers can join: the registry is not about to shut down, and its store or its
    /// broker, if it has one, answers a probe. If not, a load balancer should send newcomers elsewhere.
    /// Members play on in either case, so a process that is not ready need not be restarted.
    ///
    /// ```
    /// use axum::{Router, http::StatusCode, routing::get};
    /// use axum_cloud_variables::RoomRegistry;
    ///
    /// let rooms = RoomRegistry::new();
    /// let ready = rooms.clone();
    /// let ready = async move || match ready.readiness().await {
    ///     Ok(()) => (StatusCode::OK, "ready".to_owned()),
    ///     Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason.to_string()),
    /// };
    /// let app: Router = Router::new().merge(rooms.mount("/cloud")).route("/ready", get(ready));
    /// ```
    ///
    /// # Errors
    ///
    /// [`NotReady`], after [`Limits::admit_timeout`](crate::Limits#structfield.admit_timeout) at the latest.
    pub async fn readiness(&self) -> Result<(), NotReady> {
        Judging::refuse();
        if self.inner.drain.is_expected() {
            return Err(NotReady::ShuttingDown);
        }
        if let Some(persister) = &self.inner.persister {
            let answered = timeout(self.inner.rules.limits.admit_timeout, persister.probe()).await;
            answered.unwrap_or_else(|_| Err(persister.late())).map_err(NotReady::Store)?;
        }
        if let Some(node) = &self.inner.node {
            node.probe().await.map_err(NotReady::Relay)?;
        }
        Ok(())
    }

    /// Announces a [`shutdown`](Self::shutdown): from now on, [`readiness`](Self::readiness) reports it. Sessions
    /// and joins go on as before. [`GracefulServe`](crate::GracefulServe) does this on its signal.
    pub fn prepare_shutdown(&self) {
        self.inner.drain.expect();
    }
}
