//! Mounts rooms as a layer, for paths at which a route would hide the host's own page.

use std::{
    convert::Infallible,
    future::{Future, ready},
    pin::Pin,
    task::{Context, Poll},
};

use axum::{extract::Request, http::Method, response::Response};
use tower_layer::Layer;
use tower_service::Service;

use super::{Mount, client_js, gate};

/// A layer that handles WebSocket upgrades on a mount's path and requests for its `client.js`, and passes
/// everything else on. Created by [`Mount::layer`].
#[derive(Debug, Clone)]
pub struct MountLayer(pub(super) Mount);

impl<S> Layer<S> for MountLayer {
    type Service = MountService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        MountService { mount: self.0.clone(), inner }
    }
}

/// The service of a [`MountLayer`].
#[derive(Debug, Clone)]
pub struct MountService<S> {
    mount: Mount,
    inner: S,
}

impl<S> Service<Request> for MountService<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let path = request.uri().path();
        if *path.strip_suffix('/').unwrap_or(path) == *self.mount.path {
            let (parts, body) = request.into_parts();
            if gate::is_upgrade(&parts) {
                let mount = self.mount.clone();
                return Box::pin(async move { Ok(mount.answer(parts).await) });
            }
            return Box::pin(self.inner.call(Request::from_parts(parts, body)));
        }
        let below = path.strip_prefix(&*self.mount.path);
        if let Some(file) = client_js::FILES.iter().find(|file| below == Some(file.path)) {
            let is_asked_why = request.method() == Method::POST && file.path == client_js::PATH;
            return Box::pin(ready(Ok(if is_asked_why {
                self.mount.gate.explain(&request.into_parts().0)
            } else {
                file.serve(request.headers())
            })));
        }
        if below.is_some() && self.mount.reading.is_on() {
            let (mount, mut inner) = (self.mount.clone(), self.inner.clone());
            // The service that is ready is the one that is called.
            std::mem::swap(&mut self.inner, &mut inner);
            return Box::pin(async move {
                let (parts, body) = request.into_parts();
                match mount.read(&parts).await {
                    Some(answer) => Ok(answer),
                    None => inner.call(Request::from_parts(parts, body)).await,
                }
            });
        }
        Box::pin(self.inner.call(request))
    }
}
