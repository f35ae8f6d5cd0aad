//! Serves the browser's files beside the mount: a module, and its declarations for TypeScript.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::LazyLock,
};

use axum::{
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

/// The module's path, below its mount.
pub(super) const PATH: &str = "/client.js";

/// The header by which Deno and others find a module's declarations.
const TYPES: HeaderName = HeaderName::from_static("x-typescript-types");

/// A file that is compiled in.
#[derive(Debug)]
pub(super) struct File {
    /// The file's path, below its mount.
    pub(super) path: &'static str,
    content_type: &'static str,
    source: &'static str,
    etag: HeaderValue,
}

/// The module, and its declarations.
pub(super) static FILES: LazyLock<[File; 2]> = LazyLock::new(|| {
    [
        File::new(PATH, "text/javascript; charset=utf-8", include_str!("../client/client.js")),
        File::new(
            "/client.d.ts",
            "application/typescript; charset=utf-8",
            include_str!("../client/client.d.ts"),
        ),
    ]
});

impl File {
    fn new(path: &'static str, content_type: &'static str, source: &'static str) -> Self {
        let mut hasher = DefaultHasher::new();
        source.hash(&mut hasher);
        let etag = format!("\"{:016x}\"", hasher.finish());
        let etag = HeaderValue::from_str(&etag).unwrap_or(HeaderValue::from_static("\"client\""));
        Self { path, content_type, source, etag }
    }

    /// Serves the file with `no-cache`, so that browsers always revalidate it and a deploy reaches everyone.
    /// Answers 304 if the file is unchanged.
    pub(super) fn serve(&self, request: &HeaderMap) -> Response {
        let known = request.get_all(header::IF_NONE_MATCH).iter().any(|etags| {
            etags.to_str().is_ok_and(|etags| {
                etags.split(',').any(|etag| etag.trim().trim_start_matches("W/") == self.etag)
            })
        });
        let caching = [
            (header::ETAG, self.etag.clone()),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            // Pages of other origins may import it too, because it is not secret.
            (header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
        ];
        if known {
            return (StatusCode::NOT_MODIFIED, caching).into_response();
        }
        let content = [
            (header::CONTENT_TYPE, HeaderValue::from_static(self.content_type)),
            (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            (TYPES, HeaderValue::from_static("./client.d.ts")),
        ];
        (caching, content, self.source).into_response()
    }
}
