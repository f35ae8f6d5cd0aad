//! Entity tags, which show a client that it already has the current text (RFC 9110, section 8.8.3).

use std::hash::{DefaultHasher, Hash, Hasher};

use axum::http::{HeaderMap, HeaderValue, header::IF_NONE_MATCH};

/// Returns the tag of a text.
pub(super) fn of(text: &str) -> HeaderValue {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    let etag = format!("\"{:016x}\"", hasher.finish());
    // Hexadecimal digits make a valid value.
    HeaderValue::from_str(&etag).unwrap_or(HeaderValue::from_static("\"\""))
}

/// Returns whether a request names this tag.
pub(super) fn is_known(etag: &HeaderValue, request: &HeaderMap) -> bool {
    request.get_all(IF_NONE_MATCH).iter().any(|etags| {
        etags.to_str().is_ok_and(|etags| {
            etags.split(',').any(|known| known.trim().trim_start_matches("W/") == etag)
        })
    })
}
