//! The opening handshake of a WebSocket: RFC 6455, section 4.2, and RFC 8441 over HTTP/2.

use axum::{
    body::Body,
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header, request::Parts,
    },
    response::{IntoResponse, Response},
};
use hyper::upgrade::OnUpgrade;
use tungstenite::handshake::derive_accept_key;

/// Why a request that asks for a WebSocket does not get one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// 405
    Method,
    /// 400, with the name of the header.
    Header(&'static str),
    /// 426 with the version that would do (RFC 6455, section 4.2.2).
    Version,
    /// 426: something in front of the route, such as a proxy, has taken the connection's end.
    NotUpgradable,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Method => {
                (StatusCode::METHOD_NOT_ALLOWED, "A WebSocket is opened with GET, or CONNECT.\n")
                    .into_response()
            }
            Self::Header(name) => {
                let text = format!("A WebSocket's request needs another '{name}' header.\n");
                (StatusCode::BAD_REQUEST, text).into_response()
            }
            Self::Version => {
                let version = [(header::SEC_WEBSOCKET_VERSION, "13")];
                let text = "This server speaks version 13 of the WebSocket protocol.\n";
                (StatusCode::UPGRADE_REQUIRED, version, text).into_response()
            }
            Self::NotUpgradable => {
                let text = "This connection cannot be upgraded to a WebSocket.\n";
                (StatusCode::UPGRADE_REQUIRED, text).into_response()
            }
        }
    }
}

/// The response that makes a connection a WebSocket, and the connection once it is written.
pub(super) fn accept(parts: &mut Parts) -> Result<(Response, OnUpgrade), Refusal> {
    let response = match parts.version {
        Version::HTTP_2 if parts.method == Method::CONNECT => Response::new(Body::empty()),
        Version::HTTP_2 => return Err(Refusal::Method),
        _ => switch(parts)?,
    };
    if !is(&parts.headers, header::SEC_WEBSOCKET_VERSION, "13") {
        return Err(Refusal::Version);
    }
    let upgrade = parts.extensions.remove::<OnUpgrade>().ok_or(Refusal::NotUpgradable)?;
    Ok((response, upgrade))
}

/// The response over HTTP/1.1.
fn switch(parts: &Parts) -> Result<Response, Refusal> {
    if parts.method != Method::GET {
        return Err(Refusal::Method);
    }
    if !has(&parts.headers, header::CONNECTION, "upgrade") {
        return Err(Refusal::Header("Connection: upgrade"));
    }
    if !has(&parts.headers, header::UPGRADE, "websocket") {
        return Err(Refusal::Header("Upgrade: websocket"));
    }
    let key = parts.headers.get(header::SEC_WEBSOCKET_KEY);
    let key = key.ok_or(Refusal::Header("Sec-WebSocket-Key"))?;
    let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes()));
    let accept = accept.map_err(|_| Refusal::Header("Sec-WebSocket-Key"))?;
    let headers = [
        (header::CONNECTION, HeaderValue::from_static("upgrade")),
        (header::UPGRADE, HeaderValue::from_static("websocket")),
        (header::SEC_WEBSOCKET_ACCEPT, accept),
    ];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers, Body::empty()).into_response())
}

/// Whether a header that is a list has this token in it.
fn has(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(token))
}

fn is(headers: &HeaderMap, name: HeaderName, value: &str) -> bool {
    headers.get(name).is_some_and(|there| there.as_bytes() == value.as_bytes())
}
