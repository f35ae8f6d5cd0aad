//! Values and past writes over plain HTTP, for programs that only read.

use std::{
    borrow::Cow,
    time::{Instant, SystemTime},
};

use axum::{
    http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use percent_encoding::percent_decode_str;
use serde::{Serialize, Serializer};

use super::{Mount, etag};
use crate::events::PastWrite;

/// The paths below a mount.
const ROOMS: &str = "/rooms/";
const LOGS: &str = "/logs";

/// The maximum and the default number of entries of a log, the same as in Scratch's own.
const MOST: usize = 1_000;
const USUAL: usize = 100;

/// The data that can be read over HTTP.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Reading {
    pub(super) values: bool,
    pub(super) logs: bool,
}

impl Reading {
    pub(super) fn is_on(self) -> bool {
        self.values || self.logs
    }
}

impl Mount {
    /// Answers a request for values or past writes. Returns `None` for other requests.
    pub(super) async fn read(&self, parts: &Parts) -> Option<Response> {
        let below = parts.uri.path().strip_prefix(&*self.path)?;
        if ![Method::GET, Method::HEAD].contains(&parts.method) {
            return None;
        }
        if let Some(id) = below.strip_prefix(ROOMS).filter(|_| self.reading.values) {
            let id = decoded(id);
            return Some(self.readable(parts, &id, self.values(&id).await));
        }
        if below == LOGS && self.reading.logs {
            let query = Query::of(parts.uri.query().unwrap_or_default());
            let id = query.text("projectid").unwrap_or_default();
            return Some(self.readable(parts, &id, self.log(&id, &query)));
        }
        None
    }

    /// Answers with this text if the request may see the room.
    fn readable(&self, parts: &Parts, id: &str, text: Option<String>) -> Response {
        let identity = match self.gate.admit(parts) {
            Ok(identity) => identity,
            Err(refusal) => return refusal.into_response(),
        };
        if identity.check_room(&self.full_id(id)).is_err() {
            return (StatusCode::FORBIDDEN, "This room is not for you.\n").into_response();
        }
        let Some(text) = text else {
            return (StatusCode::NOT_FOUND, "There is no such room.\n").into_response();
        };
        let etag = etag::of(&text);
        let mut headers = HeaderMap::new();
        if let Some(origin) = parts.headers.get(header::ORIGIN) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(header::VARY, HeaderValue::from_static("origin"));
        }
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        let is_known = etag::is_known(&etag, &parts.headers);
        headers.insert(header::ETAG, etag);
        match is_known {
            true => (StatusCode::NOT_MODIFIED, headers).into_response(),
            false => (headers, text).into_response(),
        }
    }

    fn full_id(&self, id: &str) -> String {
        format!("{}{id}", self.namespace)
    }

    /// Returns the values of a room at one moment, from memory or from the store.
    async fn values(&self, id: &str) -> Option<String> {
        let full = self.full_id(id);
        let values = match self.rooms.room(&full) {
            Some(room) => room.variables(),
            None => self.rooms.stored_values(&full).await.ok()??,
        };
        serde_json::to_string(&Values { room: id, variables: &values }).ok()
    }

    /// Returns the past writes of a room in the format of Scratch's log, the latest first.
    fn log(&self, id: &str, query: &Query<'_>) -> Option<String> {
        let room = self.rooms.room(&self.full_id(id))?;
        let skipped = query.number("offset").unwrap_or(0);
        let count = query.number("limit").unwrap_or(USUAL).min(MOST);
        let past = room.past(skipped.saturating_add(count));
        let (now, today) = (Instant::now(), SystemTime::now());
        let writes = past.iter().rev().skip(skipped).map(|entry| entry.look(now, today));
        serde_json::to_string(&writes.map(Logged::of).collect::<Vec<_>>()).ok()
    }
}

/// The values of a room.
#[derive(Serialize)]
struct Values<'a> {
    room: &'a str,
    #[serde(serialize_with = "as_object")]
    variables: &'a [(String, String)],
}

fn as_object<S: Serializer>(
    variables: &[(String, String)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(variables.iter().map(|(name, value)| (name, value)))
}

/// An entry of Scratch's log.
#[derive(Serialize)]
struct Logged {
    /// Empty for the host.
    user: String,
    verb: &'static str,
    name: String,
    value: String,
    /// Milliseconds since 1970.
    timestamp: u64,
}

impl Logged {
    fn of(write: PastWrite) -> Self {
        let user = write.by.as_deref().unwrap_or_default().to_owned();
        let since_1970 = write.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let timestamp = since_1970.as_millis() as u64;
        Self { user, verb: "set_var", name: write.name, value: write.value, timestamp }
    }
}

fn decoded(text: &str) -> Cow<'_, str> {
    percent_decode_str(text).decode_utf8_lossy()
}

/// The pairs of a query.
struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    fn of(text: &'a str) -> Self {
        let pairs = text.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        Self(pairs.map(|(name, value)| (decoded(name), decoded(value))).collect())
    }

    fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }

    fn number(&self, name: &str) -> Option<usize> {
        self.text(name)?.parse().ok()
    }
}
