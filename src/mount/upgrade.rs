//! The opening handshake of a WebSocket: RFC 6455, section 4.2, and RFC 8441 over HTTP/2.

use axum::{
    extract::{FromRequestParts, WebSocketUpgrade},
    http::{
        HeaderMap, HeaderValue, StatusCode, Version,
        header::{self, SEC_WEBSOCKET_EXTENSIONS},
        request::Parts,
    },
    response::{IntoResponse, Response},
};
use hyper::upgrade::OnUpgrade;
use tungstenite::handshake::derive_accept_key;

/// Returns the response that makes a connection a WebSocket, and the connection once the response is written;
/// or the response that explains the refusal. `extension` is the server's answer to the extensions that the
/// client offers.
///
/// axum checks the request, but keeps the connection behind its own WebSocket type. It is taken here instead,
/// so that code outside the session can write to it.
pub(crate) async fn accept(
    parts: &mut Parts,
    extension: Option<HeaderValue>,
) -> Result<(Response, OnUpgrade), Response> {
    let upgrade = parts.extensions.get::<OnUpgrade>().cloned();
    let checked = WebSocketUpgrade::from_request_parts(parts, &()).await;
    _ = checked.map_err(IntoResponse::into_response)?;
    let upgrade = upgrade.ok_or_else(|| StatusCode::UPGRADE_REQUIRED.into_response())?;
    let extensions = extension.into_iter().map(|extension| (SEC_WEBSOCKET_EXTENSIONS, extension));
    let extensions: HeaderMap = extensions.collect();
    // Checks the version and not the key, because a proxy may pass on a key that has no meaning in HTTP/2.
    if parts.version == Version::HTTP_2 {
        return Ok((extensions.into_response(), upgrade));
    }
    let key = parts.headers.get(header::SEC_WEBSOCKET_KEY);
    let accept = key.and_then(|key| HeaderValue::try_from(derive_accept_key(key.as_bytes())).ok());
    let accept = accept.ok_or_else(|| StatusCode::BAD_REQUEST.into_response())?;
    let headers = [
        (header::CONNECTION, HeaderValue::from_static("upgrade")),
        (header::UPGRADE, HeaderValue::from_static("websocket")),
        (header::SEC_WEBSOCKET_ACCEPT, accept),
    ];
    Ok(((StatusCode::SWITCHING_PROTOCOLS, headers, extensions).into_response(), upgrade))
}
