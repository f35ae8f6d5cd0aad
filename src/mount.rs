//! Where a registry meets the host's app: routes, or a layer.

mod client_js;
mod gate;
mod layer;
pub(crate) mod upgrade;

use std::sync::Arc;

use axum::{
    Router,
    extract::Request,
    http::{HeaderMap, StatusCode, request::Parts},
    response::{IntoResponse, Response},
    routing::{MethodFilter, any, get},
};

pub use gate::Origins;
pub use layer::{MountLayer, MountService};

use crate::{
    registry::RoomRegistry,
    session::{self, Caller},
    wire::{Dialect, ScratchFraming},
};
use gate::Gate;

/// A door to a registry's rooms at one path of the host's app. What belongs to a door is set here,
/// so one registry can have several with rules of their own.
///
/// ```
/// use axum::Router;
/// use axum_cloud_variables::{Origins, RoomRegistry};
///
/// let rooms = RoomRegistry::new();
/// let app: Router = Router::new()
///     .merge(rooms.mount("/cloud"))
///     .merge(rooms.mount("/staff/cloud").require_identity(true));
/// ```
#[derive(Debug, Clone)]
#[must_use = "a mount does nothing until it is merged into a router"]
pub struct Mount {
    rooms: RoomRegistry,
    /// Without a slash at its end: empty for the root.
    path: Arc<str>,
    gate: Gate,
    scratch_framing: ScratchFraming,
    dialects: [bool; Dialect::COUNT],
    /// What stands before each id that clients name.
    namespace: Arc<str>,
}

impl RoomRegistry {
    /// The rooms at a path of the host's app, with and without a slash at its end: WebSocket
    /// upgrades there, and the browser's module at `<path>/client.js`. Merge it into a [`Router`].
    ///
    /// At `/`, use [`Mount::layer`]: a route would hide the host's own page.
    ///
    /// # Panics
    ///
    /// If the path does not begin with a slash; and, when it is merged, if it is no path for a
    /// route of axum's or the app has that route already.
    pub fn mount(&self, path: &str) -> Mount {
        assert!(path.starts_with('/'), "a mount's path must begin with a slash: {path:?}");
        Mount {
            rooms: self.clone(),
            path: path.trim_end_matches('/').into(),
            gate: Gate::new(),
            scratch_framing: ScratchFraming::default(),
            dialects: [true; Dialect::COUNT],
            namespace: "".into(),
        }
    }

    /// The rooms as a router for [`Router::nest`], with the default rules of a [`Mount`].
    ///
    /// axum's `nest` answers the path without a slash at its end only (nested at `/cloud/`, only
    /// the one with it); [`mount`](Self::mount) answers both, and has its own rules.
    pub fn router<S>(&self) -> Router<S>
    where
        S: Clone + Send + Sync + 'static,
    {
        self.mount("/").into()
    }
}

impl Mount {
    /// Which web pages may connect. Default [`Origins::same`].
    pub fn origins(mut self, origins: Origins) -> Self {
        self.gate.origins = origins;
        self
    }

    /// Answers 401 before the upgrade where no layer of the host's has put an
    /// [`Identity`](crate::Identity) into the request's extensions. Default `false`.
    pub fn require_identity(mut self, require: bool) -> Self {
        self.gate.require_identity = require;
        self
    }

    /// How sets are framed for Scratch clients that come in here. Default
    /// [`ScratchFraming::Joined`].
    pub fn scratch_framing(mut self, framing: ScratchFraming) -> Self {
        self.scratch_framing = framing;
        self
    }

    /// Which clients may come in here; others are closed with 4001 (4004 for Scratch clients). Default
    /// all: they share rooms, so that a Scratch project and a page of one's own play together. Where
    /// players of one kind alone have business, strangers cannot come by another, whose rules differ.
    ///
    /// ```
    /// use axum_cloud_variables::{Dialect, RoomRegistry};
    ///
    /// let mount = RoomRegistry::new().mount("/cloud").dialects([Dialect::Scratch]);
    /// ```
    pub fn dialects(mut self, dialects: impl IntoIterator<Item = Dialect>) -> Self {
        self.dialects = [false; Dialect::COUNT];
        dialects.into_iter().for_each(|dialect| self.dialects[dialect.index()] = true);
        self
    }

    /// Has the rooms that clients name here in a namespace: a client that names `lobby` joins
    /// `class-7/lobby`, and so does the host find it. Default: none. So one project with one id can serve many
    /// groups, each by a mount of its own.
    ///
    /// A mount without a namespace lets its clients name any id, those in namespaces included.
    ///
    /// ```
    /// use axum::Router;
    /// use axum_cloud_variables::RoomRegistry;
    ///
    /// let rooms = RoomRegistry::new();
    /// let app: Router = Router::new()
    ///     .merge(rooms.mount("/class-7/cloud").rooms_in("class-7"))
    ///     .merge(rooms.mount("/class-8/cloud").rooms_in("class-8"));
    /// ```
    ///
    /// # Panics
    ///
    /// If the namespace is empty.
    pub fn rooms_in(mut self, namespace: &str) -> Self {
        assert!(!namespace.is_empty(), "a namespace must have a character");
        self.namespace = format!("{namespace}/").into();
        self
    }

    /// The same as a tower layer: it takes upgrades on the path and `<path>/client.js`, and passes
    /// everything else on to the host's routes and fallback.
    ///
    /// ```
    /// use axum::{Router, response::Html, routing::get};
    /// use axum_cloud_variables::RoomRegistry;
    ///
    /// let rooms = RoomRegistry::new();
    /// let app: Router = Router::new()
    ///     .route("/", get(async || Html("the game")))
    ///     .layer(rooms.mount("/").layer());
    /// ```
    ///
    /// Put it around the outermost router: axum passes nothing that a nested router has no route for
    /// through that router's layers.
    ///
    /// # Panics
    ///
    /// If the path has captures (`{room}`), which only routes know: merge the mount instead.
    #[must_use]
    pub fn layer(self) -> MountLayer {
        let path = &self.path;
        assert!(!path.contains(['{', '}']), "a layer's path can have no captures: {path:?}");
        MountLayer(self)
    }

    async fn answer(self, mut parts: Parts) -> Response {
        let identity = match self.gate.check(&parts) {
            Ok(identity) => identity,
            Err(refusal) => return refusal.into_response(),
        };
        let (response, upgrade) = match upgrade::accept(&mut parts).await {
            Ok(accepted) => accepted,
            Err(refusal) => return refusal,
        };
        let registry = self.rooms.inner().clone();
        let session = registry.drain.enter();
        // Up to here a refusal is told by a close; but those cost as much as sessions.
        if session.ordinal / 2 > registry.rules.limits.sessions {
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
        let request = registry.rules.policy.is_some().then(|| Box::new(parts));
        let Self { scratch_framing, dialects, namespace, .. } = self;
        let caller = Caller { identity, request, scratch_framing, dialects, namespace };
        let tasks = registry.tasks.clone();
        tasks.serve(async move {
            // Else the client went away before the response was written.
            if let Ok(upgraded) = upgrade.await {
                session::serve(upgraded, registry, caller, session).await;
            }
        });
        response
    }
}

impl<S> From<Mount> for Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    fn from(mount: Mount) -> Self {
        let path = mount.path.clone();
        let gate = mount.gate.clone();
        let answer = async move |request: Request| mount.answer(request.into_parts().0).await;
        // HTTP/2 comes with CONNECT. By each method and as a fallback, so that a route of the host's for the
        // same path panics when it is merged, and does not take the upgrades.
        let upgrade = any(answer.clone()).on(MethodFilter::GET.or(MethodFilter::CONNECT), answer);
        let [module, types] = &*client_js::FILES;
        let explain = async move |request: Request| gate.explain(&request.into_parts().0);
        let router = Self::new()
            .route(&format!("{path}/"), upgrade.clone())
            .route(
                &format!("{path}{}", module.path),
                get(async |headers: HeaderMap| module.serve(&headers)).post(explain),
            )
            .route(
                &format!("{path}{}", types.path),
                get(async |headers: HeaderMap| types.serve(&headers)),
            );
        if path.is_empty() { router } else { router.route(&path, upgrade) }
    }
}
