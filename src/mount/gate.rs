//! Checks requests before the upgrade, in one place for every kind of mount.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use axum::{
    http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use tracing::warn;

use super::origins::{Asked, Origins};
use crate::identity::Identity;

/// The header that marks an answer as the mount's own, and not that of one of the host's layers.
const EXPLAINED: &str = "cloud-variables";

#[derive(Debug, Clone)]
pub(super) struct Gate {
    pub(super) origins: Origins,
    pub(super) require_identity: bool,
    warned: Arc<AtomicBool>,
}

impl Gate {
    pub(super) fn new() -> Self {
        Self { origins: Origins::default(), require_identity: false, warned: Arc::default() }
    }

    /// Explains to a page why it may not connect, because browsers hide the answer to an upgrade. Pages ask
    /// by POST, because a GET of the same site carries no `Origin`. Pages that may not connect are answered
    /// too, because they learn nothing that an upgrade would not show them.
    pub(super) fn explain(&self, parts: &Parts) -> Response {
        let mut response = match self.admit(parts) {
            Ok(_) => StatusCode::NO_CONTENT.into_response(),
            Err(refusal) => refusal.into_response(),
        };
        let headers = response.headers_mut();
        headers.insert(EXPLAINED, HeaderValue::from_static("1"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::VARY, HeaderValue::from_static("origin"));
        if let Some(origin) = parts.headers.get(header::ORIGIN) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            let credentials = header::ACCESS_CONTROL_ALLOW_CREDENTIALS;
            headers.insert(credentials, HeaderValue::from_static("true"));
            let exposed = header::ACCESS_CONTROL_EXPOSE_HEADERS;
            headers.insert(exposed, HeaderValue::from_static(EXPLAINED));
        }
        response
    }

    /// Returns the identity of the client if it may upgrade.
    pub(super) fn check(&self, parts: &Parts) -> Result<Identity, Refusal> {
        let identity = self.admit(parts)?;
        if is_upgrade(parts) { Ok(identity) } else { Err(Refusal::Plain) }
    }

    /// Returns the identity of a client that may connect, or read.
    pub(super) fn admit(&self, parts: &Parts) -> Result<Identity, Refusal> {
        let asked = Asked::by(parts);
        if !self.origins.allows(asked) {
            return Err(self.foreign(asked));
        }
        if has_scratch_session(&parts.headers) {
            return Err(Refusal::ScratchSession);
        }
        let identity = parts.extensions.get::<Identity>().cloned();
        if identity.is_none() && self.require_identity {
            return Err(Refusal::Stranger);
        }
        Ok(identity.unwrap_or_default())
    }

    fn foreign(&self, Asked { origin, host, .. }: Asked<'_>) -> Refusal {
        let (origin, host) = (origin.unwrap_or("none"), host.unwrap_or("none"));
        let (origin, host) = (origin.escape_debug().to_string(), host.escape_debug().to_string());
        let hint = match self.origins.is_same() {
            true => " Behind a proxy, see that it passes Host on.",
            false => "",
        };
        let text = format!(
            "The origin '{origin:.200}' is not among those that may connect to '{host:.200}' \
             (`Mount::origins`).{hint}"
        );
        if !self.warned.swap(true, Relaxed) {
            let [origin, host] = [&origin, &host].map(|text| format!("{text:.200}"));
            warn!(
                origin,
                host, "a page's origin may not connect: see Mount::origins, or --allow-origin"
            );
        }
        Refusal::Foreign(text)
    }
}

/// The reason why a request is not upgraded, with its answer.
#[derive(Debug)]
pub(super) enum Refusal {
    /// 403
    Foreign(String),
    /// 401
    Stranger,
    /// 403: the request carries a login cookie of Scratch.
    ScratchSession,
    /// 426: the request does not ask for a WebSocket.
    Plain,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Foreign(text) => (StatusCode::FORBIDDEN, text + "\n").into_response(),
            Self::Stranger => {
                (StatusCode::UNAUTHORIZED, "You are not logged in: log in, then connect again.\n")
                    .into_response()
            }
            Self::ScratchSession => {
                let text = "Your program sent a login cookie of Scratch (scratchsessionsid) to a server \
                            that is not Scratch's. It was not looked at. Do not send it: whoever has it \
                            can act as you on Scratch. Change your Scratch password, and tell the \
                            authors of the program.\n";
                (StatusCode::FORBIDDEN, text).into_response()
            }
            Self::Plain => {
                let upgrade = [(header::UPGRADE, "websocket"), (header::CONNECTION, "upgrade")];
                let text = "A WebSocket of cloud variables: connect with a WebSocket client.\n";
                (StatusCode::UPGRADE_REQUIRED, upgrade, text).into_response()
            }
        }
    }
}

/// Returns whether a request has Scratch's login cookie. Some libraries send it to every server. Refused
/// here, it reaches no policy of the host.
fn has_scratch_session(headers: &HeaderMap) -> bool {
    headers.get_all(header::COOKIE).iter().any(|cookies| {
        let mut cookies = cookies.as_bytes().split(|byte| *byte == b';');
        cookies.any(|cookie| cookie.trim_ascii_start().starts_with(b"scratchsessionsid="))
    })
}

/// Returns whether a request asks for a WebSocket: HTTP/1.1 with `Upgrade`, or HTTP/2's extended CONNECT.
pub(super) fn is_upgrade(parts: &Parts) -> bool {
    parts.method == Method::CONNECT
        || text(&parts.headers, header::UPGRADE)
            .is_some_and(|protocol| protocol.eq_ignore_ascii_case("websocket"))
}

pub(super) fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    // A value that is not text still counts as an origin, but never as an allowed one.
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}
