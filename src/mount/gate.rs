//! Checks requests before the upgrade, in one place for every kind of mount.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use axum::{
    http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts, uri::Authority},
    response::{IntoResponse, Response},
};
use tracing::warn;

use crate::identity::Identity;

/// Decides which web pages may connect, by the `Origin` header that browsers send (RFC 6455, section 10.2).
/// Others receive 403 before the upgrade.
///
/// ```
/// use axum_cloud_variables::{Origins, RoomRegistry};
///
/// let rooms = RoomRegistry::new();
/// let staff = rooms.mount("/staff").origins(Origins::same().refuse_missing());
/// let public = rooms.mount("/cloud").origins(Origins::list(["https://turbowarp.org", "null"]));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origins {
    rule: Rule,
    allow_missing: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    Same,
    Any,
    List(Vec<String>),
}

impl Default for Origins {
    fn default() -> Self {
        Self::same()
    }
}

impl Origins {
    /// Allows pages of the host itself: the origin's authority must equal the request's `Host`. The default.
    /// This check protects a host whose auth layer reads cookies. A proxy must pass `Host` on.
    ///
    /// A page loaded over `http:` may not connect over HTTPS. HTTP/2 reveals whether a request came over
    /// HTTPS; behind a proxy, `X-Forwarded-Proto` or `Forwarded` (RFC 7239) does, which pages cannot set. A
    /// host that terminates TLS itself and serves HTTP/1.1 should list its origin ([`list`](Self::list)).
    #[must_use]
    pub const fn same() -> Self {
        Self { rule: Rule::Same, allow_missing: true }
    }

    /// Allows every page. For hosts that use no cookies.
    #[must_use]
    pub const fn any() -> Self {
        Self { rule: Rule::Any, allow_missing: true }
    }

    /// Allows these origins, as browsers write them, such as `https://example.org`, or `null` for pages
    /// without an origin. The host's own origin is not included automatically.
    #[must_use]
    pub fn list<I>(origins: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let list = origins.into_iter().map(|origin| origin.into().to_ascii_lowercase()).collect();
        Self { rule: Rule::List(list), allow_missing: true }
    }

    /// Also refuses clients that send no origin. By default they may connect: they are programs, not pages,
    /// and can send any origin they like.
    #[must_use]
    pub fn refuse_missing(mut self) -> Self {
        self.allow_missing = false;
        self
    }

    fn allows(&self, asked: Asked<'_>) -> bool {
        let Asked { origin, host, is_https } = asked;
        let Some(origin) = origin else { return self.allow_missing };
        match &self.rule {
            Rule::Any => true,
            Rule::List(list) => list.contains(&origin.to_ascii_lowercase()),
            Rule::Same => origin.split_once("://").is_some_and(|(scheme, authority)| {
                (!is_https || scheme.eq_ignore_ascii_case("https"))
                    && host.is_some_and(|host| same_authority(scheme, authority, host))
            }),
        }
    }
}

/// The origin of the page that makes a request, and the request's host and scheme.
#[derive(Debug, Clone, Copy)]
struct Asked<'a> {
    origin: Option<&'a str>,
    host: Option<&'a str>,
    is_https: bool,
}

impl<'a> Asked<'a> {
    fn by(parts: &'a Parts) -> Self {
        let origin = text(&parts.headers, header::ORIGIN);
        let host = text(&parts.headers, header::HOST)
            .or_else(|| parts.uri.authority().map(Authority::as_str));
        Self { origin, host, is_https: is_https(parts) }
    }
}

/// Returns whether a request is known to have come over HTTPS. A page cannot set these headers, and a program
/// that can is not bound by its origin anyway.
fn is_https(parts: &Parts) -> bool {
    const PROTO: header::HeaderName = header::HeaderName::from_static("x-forwarded-proto");
    let is_secure = |proto: &str| {
        let proto = proto.trim().trim_matches('"');
        ["https", "wss"].iter().any(|secure| proto.eq_ignore_ascii_case(secure))
    };
    // With several proxies, the first value is from the one that the client connects to.
    let first = |name| text(&parts.headers, name).and_then(|list| list.split(',').next());
    let of_pair = |pair: &str| {
        pair.trim()
            .split_once('=')
            .is_some_and(|(name, proto)| name.eq_ignore_ascii_case("proto") && is_secure(proto))
    };
    parts.uri.scheme_str().is_some_and(is_secure)
        || first(PROTO).is_some_and(is_secure)
        || first(header::FORWARDED).is_some_and(|first| first.split(';').any(of_pair))
}

fn same_authority(scheme: &str, origin: &str, host: &str) -> bool {
    let default = match scheme {
        "https" => 443,
        _ => 80,
    };
    let parse = |text: &str| {
        let authority: Authority = text.parse().ok()?;
        let port = authority.port_u16().unwrap_or(default);
        Some((authority.host().to_ascii_lowercase(), port))
    };
    parse(origin).is_some_and(|origin| parse(host) == Some(origin))
}

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

    fn admit(&self, parts: &Parts) -> Result<Identity, Refusal> {
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
        let hint = match self.origins.rule {
            Rule::Same => " Behind a proxy, see that it passes Host on.",
            Rule::Any | Rule::List(_) => "",
        };
        let text = format!(
            "The origin '{origin:.200}' is not among those that may connect to '{host:.200}' \
             (`Mount::origins`).{hint}"
        );
        if !self.warned.swap(true, Relaxed) {
            let [origin, host] = [&origin, &host].map(|text| format!("{text:.200}"));
            warn!(origin, host, "a page's origin may not connect: see Mount::origins");
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

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    // A value that is not text still counts as an origin, but never as an allowed one.
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(origins: &Origins, origin: Option<&str>, host: Option<&str>) -> bool {
        origins.allows(Asked { origin, host, is_https: false })
    }

    #[test]
    fn the_same_origin_is_the_host() {
        let same = Origins::same();
        for (origin, host) in [
            ("http://example.org", "example.org"),
            ("http://example.org", "example.org:80"),
            ("https://example.org", "example.org:443"),
            ("https://Example.org", "example.ORG"),
            ("http://localhost:3000", "localhost:3000"),
            ("http://[::1]:3000", "[::1]:3000"),
        ] {
            assert!(allows(&same, Some(origin), Some(host)), "{origin} {host}");
        }
        for (origin, host) in [
            ("http://example.org.evil", "example.org"),
            ("http://example.org:8080", "example.org"),
            ("https://example.org", "example.org:80"),
            ("null", "null"),
            ("http://", "example.org"),
            ("?", "?"),
        ] {
            assert!(!allows(&same, Some(origin), Some(host)), "{origin} {host}");
        }
        assert!(!allows(&same, Some("http://a"), None));
    }

    #[test]
    fn lists_and_missing_origins() {
        let list = Origins::list(["https://turbowarp.org", "null"]);
        assert!(allows(&list, Some("https://turbowarp.org"), None));
        assert!(allows(&list, Some("null"), None));
        assert!(!allows(&list, Some("https://example.org"), Some("example.org")));
        assert!(allows(&list, None, None));
        assert!(!allows(&list.refuse_missing(), None, None));
        assert!(allows(&Origins::any(), Some("https://anything"), None));
    }

    #[test]
    fn a_page_by_http_is_another_site_than_one_by_https() {
        let parts = |uri: &str, name: &str, value: &str| {
            let request = axum::http::Request::get(uri).header(name, value);
            request.body(()).expect("a request").into_parts().0
        };
        for (uri, name, value) in [
            ("https://example.org/cloud", "x", ""),
            ("/cloud", "x-forwarded-proto", "https"),
            ("/cloud", "x-forwarded-proto", "WSS, http"),
            ("/cloud", "forwarded", "for=192.0.2.7;proto=https;by=203.0.113.4, proto=http"),
            ("/cloud", "forwarded", "Proto=\"https\""),
        ] {
            let asked = Asked {
                origin: Some("http://example.org"),
                host: Some("example.org"),
                is_https: is_https(&parts(uri, name, value)),
            };
            assert!(!Origins::same().allows(asked), "{value}");
            let by_https = Asked { origin: Some("https://example.org"), ..asked };
            assert!(Origins::same().allows(by_https), "{value}");
            assert!(Origins::any().allows(asked), "{value}");
        }
        for (uri, name, value) in [
            ("http://example.org/cloud", "x", ""),
            ("/cloud", "x-forwarded-proto", "http, https"),
            ("/cloud", "forwarded", "host=https"),
        ] {
            assert!(!is_https(&parts(uri, name, value)), "{value}");
        }
    }
}
