//! Serves the browser's files beside the mount: a module, and its declarations for TypeScript.

use std::sync::LazyLock;

use axum::{
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::etag;

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
        Self { path, content_type, source, etag: etag::of(source) }
    }

    /// Serves the file with `no-cache`, so that browsers always revalidate it and a deploy reaches everyone.
    /// Answers 304 if the file is unchanged.
    pub(super) fn serve(&self, request: &HeaderMap) -> Response {
        let caching = [
            (header::ETAG, self.etag.clone()),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            // Pages of other origins may import it too, because it is not secret.
            (header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
        ];
        if etag::is_known(&self.etag, request) {
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
