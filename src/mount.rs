//! Mounts a registry in the host's app, as routes or as a layer.

mod addresses;
mod client_js;
mod etag;
pub(crate) mod extension;
mod gate;
mod layer;
mod origins;
mod reading;
pub(crate) mod upgrade;

use std::{sync::Arc, time::Instant};

use axum::{
    Router,
    extract::Request,
    http::{HeaderMap, StatusCode, request::Parts},
    response::{IntoResponse, Response},
    routing::{MethodFilter, any, get},
};

pub use addresses::ClientAddress;
pub use layer::{MountLayer, MountService};
pub use origins::{InvalidOrigin, Origins};

use crate::{
    deflate::Compression,
    metrics,
    registry::RoomRegistry,
    session::{self, Caller},
    wire::{Dialect, ScratchFraming},
};
use addresses::Addresses;
use gate::Gate;
use reading::Reading;
use tracing::info;

/// The rooms of a registry at one path of the host's app. Each mount has its own settings, so one registry
/// can have several mounts with different rules.
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
    /// Without a trailing slash; empty for the root.
    path: Arc<str>,
    gate: Gate,
    addresses: Addresses,
    scratch_framing: ScratchFraming,
    dialects: [bool; Dialect::COUNT],
    /// The prefix of each id that clients name.
    namespace: Arc<str>,
    compression: Compression,
    reading: Reading,
}

impl RoomRegistry {
    /// Mounts the rooms at a path of the host's app, with and without a trailing slash. It answers WebSocket
    /// upgrades at the path, and serves the browser's module at `<path>/client.js`. Merge it into a
    /// [`Router`].
    ///
    /// At `/`, use [`Mount::layer`]: a route would hide the host's own page.
    ///
    /// # Panics
    ///
    /// Panics if the path does not begin with a slash. Merging the mount panics if the path is not a valid
    /// path for an axum route, or if the app has that route already.
    pub fn mount(&self, path: &str) -> Mount {
        assert!(path.starts_with('/'), "a mount's path must begin with a slash: {path:?}");
        Mount {
            rooms: self.clone(),
            path: path.trim_end_matches('/').into(),
            gate: Gate::new(),
            addresses: Addresses::default(),
            scratch_framing: ScratchFraming::default(),
            dialects: [true; Dialect::COUNT],
            namespace: "".into(),
            compression: Compression::default(),
            reading: Reading::default(),
        }
    }

    /// Returns the rooms as a router for [`Router::nest`], with the default rules of a [`Mount`].
    ///
    /// axum's `nest` answers only the path without a trailing slash (or, nested at `/cloud/`, only the one
    /// with it). [`mount`](Self::mount) answers both, and has its own rules.
    pub fn router<S>(&self) -> Router<S>
    where
        S: Clone + Send + Sync + 'static,
    {
        self.mount("/").into()
    }
}

impl Mount {
    /// Sets which web pages may connect. Default [`Origins::same`].
    pub fn origins(mut self, origins: Origins) -> Self {
        self.gate.origins = origins;
        self
    }

    /// Sets whether to answer 401 before the upgrade if no layer of the host has added an
    /// [`Identity`](crate::Identity) to the request's extensions. Default `false`.
    pub fn require_identity(mut self, require: bool) -> Self {
        self.gate.require_identity = require;
        self
    }

    /// Sets how many sessions one address may have here at once; 0 for any number, which is the default. A client
    /// over that is answered 429 before the upgrade. An IPv6 address counts with its network of 64 bits.
    ///
    /// The address is the request's [`ClientAddress`], or the [`ConnectInfo`](axum::extract::ConnectInfo) that
    /// [`serve`](crate::serve()) adds. Behind a proxy the latter is the proxy's, so set the former in a layer.
    pub fn sessions_per_address(mut self, count: usize) -> Self {
        self.addresses.sessions = count;
        self
    }

    /// Sets how often one address may connect here in a minute, as
    /// [`sessions_per_address`](Self::sessions_per_address) does; 0 for any number, which is the default. After a
    /// minute of rest, this many upgrades may come at once.
    pub fn upgrades_per_minute(mut self, count: u32) -> Self {
        self.addresses.upgrades_per_minute = count;
        self
    }

    /// Sets how `set` messages are framed for Scratch clients that connect here. Default
    /// [`ScratchFraming::Joined`].
    pub fn scratch_framing(mut self, framing: ScratchFraming) -> Self {
        self.scratch_framing = framing;
        self
    }

    /// Sets which clients may connect here; others are closed with 4001 (4004 for Scratch clients). Default
    /// all: they share rooms, so that a Scratch project and a page of your own can play together. If a mount
    /// is meant for one kind of client, restrict it, so that strangers cannot connect with another kind,
    /// whose rules differ.
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

    /// Puts the rooms that clients name here into a namespace: a client that names `lobby` joins
    /// `class-7/lobby`, and the host finds the room under that id too. Default: none. So one project with one
    /// id can serve many groups, each through its own mount.
    ///
    /// A mount without a namespace lets its clients name any id, including ids in namespaces.
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
    /// Panics if the namespace is empty.
    pub fn rooms_in(mut self, namespace: &str) -> Self {
        assert!(!namespace.is_empty(), "a namespace must have a character");
        self.namespace = format!("{namespace}/").into();
        self
    }

    /// Sets whether frames are compressed for clients that offer it, as browsers do. Default
    /// [`Compression::Off`]. (The feature `deflate`.)
    ///
    /// A frame that goes to many members is compressed once. Compressed messages of clients are inflated before
    /// they are counted and limited: see [`Limits::message_bytes`](crate::Limits#structfield.message_bytes).
    ///
    /// ```
    /// use axum_cloud_variables::{Compression, RoomRegistry};
    ///
    /// let mount = RoomRegistry::new().mount("/cloud").compression(Compression::From(64));
    /// ```
    #[cfg(feature = "deflate")]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Sets whether the values of a room can be read over HTTP, at `<path>/rooms/<id>`. Default `false`.
    ///
    /// The answer has the values of one moment, in the order in which the variables were created, or 404:
    /// `{"room":"arena","variables":{"score":"7"}}`. A room that is not in memory is read from the store, and is
    /// not loaded. The rules of the mount hold: its origins, whether it requires an identity, the rooms of the
    /// identity, its namespace. A policy is not asked.
    pub fn values_over_http(mut self, allow: bool) -> Self {
        self.reading.values = allow;
        self
    }

    /// Sets whether the latest writes of a room can be read over HTTP, at
    /// `<path>/logs?projectid=<id>&limit=<count>&offset=<count>`, in the form of Scratch's own log, which
    /// scratchattach and others read. Default `false`. As many writes are there as
    /// [`RoomRegistryBuilder::history`](crate::RoomRegistryBuilder::history) keeps. The rules of
    /// [`values_over_http`](Self::values_over_http) hold.
    pub fn logs_over_http(mut self, allow: bool) -> Self {
        self.reading.logs = allow;
        self
    }

    /// Returns the mount as a tower layer. It handles upgrades on the path and requests for
    /// `<path>/client.js`, and passes everything else to the host's routes and fallback.
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
    /// Add it to the outermost router: if a nested router has no route for a request, axum does not pass the
    /// request through that router's layers.
    ///
    /// # Panics
    ///
    /// Panics if the path has captures (`{room}`), which only routes support: merge the mount instead.
    #[must_use]
    pub fn layer(self) -> MountLayer {
        let path = &self.path;
        assert!(!path.contains(['{', '}']), "a layer's path can have no captures: {path:?}");
        MountLayer(self)
    }

    async fn answer(self, mut parts: Parts) -> Response {
        let identity = match self.gate.check(&parts) {
            Ok(identity) => identity,
            Err(refusal) => return self.refused(refusal.into_response()),
        };
        let place = match self.addresses.enter(&parts, Instant::now()) {
            Ok(place) => place,
            Err(text) => {
                return self.refused((StatusCode::TOO_MANY_REQUESTS, text).into_response());
            }
        };
        let (deflate, extension) = extension::negotiate(&parts.headers, self.compression).unzip();
        let (response, upgrade) = match upgrade::accept(&mut parts, extension).await {
            Ok(accepted) => accepted,
            Err(refusal) => return self.refused(refusal),
        };
        let registry = self.rooms.inner().clone();
        let session = registry.drain.enter();
        // Refusals after the upgrade are sent as a close, but each costs as much as a session.
        if session.ordinal / 2 > registry.rules.limits.sessions {
            return self.refused(StatusCode::SERVICE_UNAVAILABLE.into_response());
        }
        let request = registry.rules.policy.is_some().then(|| Box::new(parts));
        let Self { scratch_framing, dialects, namespace, .. } = self;
        let caller = Caller { identity, request, scratch_framing, dialects, namespace, deflate };
        let tasks = registry.tasks.clone();
        tasks.serve(async move {
            let _place = place;
            // Otherwise the client went away before the response was written.
            if let Ok(upgraded) = upgrade.await {
                session::serve(upgraded, registry, caller, session).await;
            }
        });
        response
    }

    /// Logs and counts a request that is not upgraded.
    fn refused(&self, response: Response) -> Response {
        let status = response.status().as_u16();
        metrics::refused(status);
        if let Some(left_out) = self.rooms.inner().log_limit.pass(status, Instant::now()) {
            info!(status, left_out, "not upgraded");
        }
        response
    }
}

impl<S> From<Mount> for Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    fn from(mount: Mount) -> Self {
        let path = mount.path.clone();
        let (gate, reader) = (mount.gate.clone(), mount.clone());
        let answer = async move |request: Request| mount.answer(request.into_parts().0).await;
        // HTTP/2 upgrades by CONNECT. Registered for each method and as a fallback, so that a route of the
        // host for the same path panics when merged, and does not take the upgrades.
        let upgrade = any(answer.clone()).on(MethodFilter::GET.or(MethodFilter::CONNECT), answer);
        let [module, types] = &*client_js::FILES;
        let reading = reader.reading;
        let read = get(async move |request: Request| {
            let answer = reader.read(&request.into_parts().0).await;
            answer.unwrap_or_else(|| StatusCode::NOT_FOUND.into_response())
        });
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
        let router = if path.is_empty() { router } else { router.route(&path, upgrade) };
        let router = match reading.values {
            true => router.route(&format!("{path}/rooms/{{*id}}"), read.clone()),
            false => router,
        };
        if reading.logs { router.route(&format!("{path}/logs"), read) } else { router }
    }
}
