//! The browser's side, served beside the mount.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::LazyLock,
};

use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

pub(super) const PATH: &str = "/client.js";

const SOURCE: &str = include_str!("../client.js");

static ETAG: LazyLock<HeaderValue> = LazyLock::new(|| {
    let mut hasher = DefaultHasher::new();
    SOURCE.hash(&mut hasher);
    let etag = format!("\"{:016x}\"", hasher.finish());
    HeaderValue::from_str(&etag).unwrap_or(HeaderValue::from_static("\"client\""))
});

/// Always asked for again, and answered by 304 while it is the same: a deploy reaches everyone.
pub(super) fn serve(request: &HeaderMap) -> Response {
    let known = request.get_all(header::IF_NONE_MATCH).iter().any(|etags| {
        etags.to_str().is_ok_and(|etags| {
            etags.split(',').any(|etag| etag.trim().trim_start_matches("W/") == *ETAG)
        })
    });
    let caching = [
        (header::ETAG, ETAG.clone()),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        // Pages of other origins may import it too: it is no secret.
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
    ];
    if known {
        return (StatusCode::NOT_MODIFIED, caching).into_response();
    }
    let content = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/javascript; charset=utf-8")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (caching, content, SOURCE).into_response()
}
