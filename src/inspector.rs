//! A page for whoever runs a game: which rooms there are, and what happens in them.

mod actions;
mod live;
mod page;
mod sampler;
mod view;

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

/// A page that shows a registry's rooms: who is in them, their variables as they change, what they did
/// in the last ten minutes. One page, with nothing from elsewhere, under whatever path the host nests
/// it; JSON below `api/`. What it shows of rooms with a relay is this process's view.
///
/// Nobody is asked for a password: nest it behind the host's own. `nest_service` answers with and without
/// a slash behind the path; `nest` without it.
///
/// ```
/// use axum::Router;
/// use axum_cloud_variables::RoomRegistry;
///
/// let rooms = RoomRegistry::new();
/// // .layer(…): the host's own, that asks who it is.
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
    /// A page that shows the rooms, for [`Router::nest`].
    pub fn inspector(&self) -> Inspector {
        Inspector { rooms: self.clone(), allows_actions: false }
    }
}

impl Inspector {
    /// Whether who sees the page may also set variables, kick, ban, lock and close. Each is logged as
    /// an event of `tracing`, and asks for a token that only the page has. Default `false`: all that
    /// would change something answers 403.
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

/// Pages that are open at once.
const STREAMS: usize = 64;

#[derive(Debug)]
struct Site {
    rooms: RoomRegistry,
    sampler: Arc<Sampler>,
    page: Page,
    streams: Semaphore,
}

/// Which of the rooms are asked for.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Wanted {
    /// What their ids have in them, in capitals or not.
    search: String,
    sort: Sort,
    /// From 0.
    page: usize,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { search: String::new(), sort: Sort::Members, page: 0 }
    }
}

/// What comes first: the most, but ids by their letters.
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
    /// A query and no path, as ids may be `..`, which browsers would resolve.
    id: String,
}

async fn rooms_once(State(site): State<Arc<Site>>, Query(wanted): Query<Wanted>) -> Response {
    json(site.list(&wanted))
}

async fn rooms_live(State(site): State<Arc<Site>>, Query(wanted): Query<Wanted>) -> Response {
    // As often as the rooms are looked at.
    live::stream(site, sampler::PACE, move |site| Some(site.list(&wanted)))
}

async fn room_once(State(site): State<Arc<Site>>, Query(Which { id }): Query<Which>) -> Response {
    site.show(&id).map_or_else(no_such_room, json)
}

async fn room_live(State(site): State<Arc<Site>>, Query(Which { id }): Query<Which>) -> Response {
    live::stream(site, sampler::PACE / 2, move |site| site.show(&id))
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

/// Refuses what a page of another site asks for, in browsers that tell: it cannot read the answer, but
/// would hold a place of those who may.
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

/// Nobody keeps, frames or guesses at what is answered. The page brings a policy of its own.
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
