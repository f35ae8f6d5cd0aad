//! A page for operators of a game: the rooms that exist, and the events in them.

mod actions;
mod live;
mod page;
mod sampler;
mod view;
mod whole;

use std::{convert::Infallible, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{Query, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::{Next, from_fn, from_fn_with_state, map_response},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures_util::stream;
use serde::Deserialize;
use tokio::sync::Semaphore;

use crate::registry::RoomRegistry;
use page::Page;
use sampler::Sampler;
use whole::Span;

/// A page that shows a registry's rooms: their members, their variables as they change, and the activity of
/// the last ten minutes. It is a single page without external resources, under any path at which the host
/// nests it, with JSON below `api/`. For rooms with a relay it shows this process's view.
///
/// The page asks for no password: nest it behind the host's own authentication. `nest_service` answers with
/// and without a trailing slash; `nest` only without it.
///
/// ```
/// use axum::Router;
/// use axum_cloud_variables::RoomRegistry;
///
/// let rooms = RoomRegistry::new();
/// // .layer(…): the host's own layer, which authenticates operators.
/// let inspector: Router = rooms.inspector().into();
/// let app: Router =
///     Router::new().merge(rooms.mount("/cloud")).nest_service("/inspector", inspector);
/// ```
///
#[doc = include_str!("inspector/api.md")]
#[derive(Debug, Clone)]
#[must_use = "an inspector does nothing until it is nested into a router"]
pub struct Inspector {
    rooms: RoomRegistry,
    allows_actions: bool,
}

impl RoomRegistry {
    /// Returns a page that shows the rooms, for [`Router::nest`].
    pub fn inspector(&self) -> Inspector {
        Inspector { rooms: self.clone(), allows_actions: false }
    }
}

impl Inspector {
    /// Sets whether users of the page may also set variables, kick, ban, lock and close. Each action is
    /// logged as an event of `tracing`, and requires a token that only the page has. Default `false`: every
    /// request for an action is answered with 403.
    pub fn allow_actions(mut self, allowed: bool) -> Self {
        self.allows_actions = allowed;
        self
    }
}

impl<S> From<Inspector> for Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    fn from(inspector: Inspector) -> Self {
        let Inspector { rooms, allows_actions } = inspector;
        let sampler = Sampler::new(&rooms);
        let page = Page::new(allows_actions);
        let site = Arc::new(Site { rooms, sampler, page, streams: Semaphore::new(STREAMS) });
        let guard = from_fn_with_state(site.clone(), actions::guard);
        let acts = post(actions::act).layer(guard);
        Router::new()
            .route("/", get(page::serve))
            .route("/api/rooms", get(rooms_once))
            .route("/api/rooms/live", get(rooms_live))
            .route("/api/room", get(room_once))
            .route("/api/room/live", get(room_live))
            .route("/api/room/history", get(history))
            .route("/api/room/{action}", acts)
            .layer(from_fn(same_site))
            .layer(map_response(guarded))
            .with_state(site)
    }
}

/// How many pages may be open at once.
const STREAMS: usize = 64;

#[derive(Debug)]
struct Site {
    rooms: RoomRegistry,
    sampler: Arc<Sampler>,
    page: Page,
    streams: Semaphore,
}

/// A query for rooms.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Wanted {
    /// The text that their ids must contain, ignoring case.
    search: String,
    sort: Sort,
    /// The number of the page, from 0.
    page: usize,
    /// The time that the plots cover.
    span: Span,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { search: String::new(), sort: Sort::Members, page: 0, span: Span::default() }
    }
}

/// The order of the rooms: highest first, but ids alphabetically.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Sort {
    Id,
    Members,
    Variables,
    WritesPerSecond,
    Bytes,
}

#[derive(Debug, Deserialize)]
struct Which {
    /// A query and not a path, because an id may be `..`, which browsers would resolve.
    id: String,
}

/// A query for a room, and for a page of its past writes.
#[derive(Debug, Deserialize)]
struct WhichPast {
    id: String,
    /// The text that a past write's variable, value or writer must contain, ignoring case.
    #[serde(default)]
    search: String,
    /// The number of the page, from 0 for the newest.
    #[serde(default)]
    page: usize,
}

async fn rooms_once(State(site): State<Arc<Site>>, Query(wanted): Query<Wanted>) -> Response {
    json(site.list(&wanted))
}

async fn rooms_live(State(site): State<Arc<Site>>, Query(wanted): Query<Wanted>) -> Response {
    // As often as the rooms are sampled.
    live::stream(site, sampler::PACE, move |site| Some(site.list(&wanted)))
}

async fn room_once(State(site): State<Arc<Site>>, Query(which): Query<WhichPast>) -> Response {
    site.show(&which).map_or_else(no_such_room, json)
}

async fn room_live(State(site): State<Arc<Site>>, Query(which): Query<WhichPast>) -> Response {
    live::stream(site, sampler::PACE / 2, move |site| site.show(&which))
}

async fn history(State(site): State<Arc<Site>>, Query(Which { id }): Query<Which>) -> Response {
    let Some(lines) = site.history(&id) else { return no_such_room() };
    let kind = (header::CONTENT_TYPE, "application/x-ndjson");
    let file = (header::CONTENT_DISPOSITION, "attachment; filename=\"history.jsonl\"");
    let lines = Body::from_stream(stream::iter(lines.map(Ok::<_, Infallible>)));
    ([kind, file], lines).into_response()
}

fn json(text: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

fn no_such_room() -> Response {
    (StatusCode::NOT_FOUND, "there is no such room").into_response()
}

/// Refuses requests from pages of other sites, in browsers that report them. Such a page cannot read the
/// answer, but would take a place among the open pages.
async fn same_site(request: Request, next: Next) -> Response {
    let site = request.headers().get("sec-fetch-site");
    let mode = request.headers().get("sec-fetch-mode");
    // A link may lead here.
    let is_foreign = site.is_some_and(|site| site == "cross-site" || site == "same-site")
        && mode.is_none_or(|mode| mode != "navigate");
    if is_foreign {
        return (StatusCode::FORBIDDEN, "this is not for pages of other sites").into_response();
    }
    next.run(request).await
}

/// Forbids caching, framing and content sniffing of responses. The page has its own policy.
async fn guarded(mut response: Response) -> Response {
    let headers: &mut HeaderMap = response.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let strict = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(strict);
    response
}
