//! Rules for the web pages that may connect.

use axum::http::{header, request::Parts, uri::Authority};

use super::gate::text;

/// Decides which web pages may connect, by the `Origin` header that browsers send (RFC 6455, section 10.2).
/// Others receive 403 before the upgrade.
///
/// ```
/// use axum_cloud_variables::{Origins, RoomRegistry};
///
/// let rooms = RoomRegistry::new();
/// let staff = rooms.mount("/staff").origins(Origins::same().refuse_missing());
/// let public = rooms.mount("/cloud").origins(Origins::list(["https://turbowarp.org", "null"])?);
/// # Ok::<(), axum_cloud_variables::InvalidOrigin>(())
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

    /// Allows these origins, such as `https://example.org`, or `null` for pages without an origin. The host's own
    /// origin is not included automatically. A slash at the end, a scheme's usual port and capitals make no
    /// difference, because browsers leave them out (RFC 6454, section 6.2).
    ///
    /// # Errors
    ///
    /// [`InvalidOrigin`] for the first text that no browser sends as an origin.
    pub fn list<I>(origins: I) -> Result<Self, InvalidOrigin>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let list = origins.into_iter().map(|origin| normalized(origin.as_ref()));
        Ok(Self { rule: Rule::List(list.collect::<Result<_, _>>()?), allow_missing: true })
    }

    /// Also refuses clients that send no origin. By default they may connect: they are programs, not pages,
    /// and can send any origin they like.
    #[must_use]
    pub fn refuse_missing(mut self) -> Self {
        self.allow_missing = false;
        self
    }

    /// Returns whether only the host's own pages may connect.
    pub(super) fn is_same(&self) -> bool {
        self.rule == Rule::Same
    }

    pub(super) fn allows(&self, asked: Asked<'_>) -> bool {
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

/// A text that is not an origin of web pages: see [`Origins::list`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not an origin of web pages: {hint}")]
pub struct InvalidOrigin {
    text: String,
    hint: &'static str,
}

/// Returns an origin as browsers send it.
fn normalized(text: &str) -> Result<String, InvalidOrigin> {
    let invalid = |hint| Err(InvalidOrigin { text: text.into(), hint });
    if text.eq_ignore_ascii_case("null") {
        return Ok("null".into());
    }
    if text == "*" {
        return invalid("allow any origin instead");
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return invalid("it begins with https:// or http://");
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let Ok(parsed) = authority.parse::<Authority>() else {
        return invalid("behind the scheme it has a host, perhaps a port, and no path");
    };
    if authority.contains(['@', '*']) {
        return invalid("it has no user, and stars stand for nothing");
    }
    let scheme = scheme.to_ascii_lowercase();
    let host = parsed.host().to_ascii_lowercase();
    Ok(match parsed.port_u16().filter(|port| usual_port(&scheme) != Some(*port)) {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    })
}

fn usual_port(scheme: &str) -> Option<u16> {
    match scheme {
        "https" => Some(443),
        "http" => Some(80),
        _ => None,
    }
}

/// The origin of the page that makes a request, and the request's host and scheme.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) origin: Option<&'a str>,
    pub(super) host: Option<&'a str>,
    is_https: bool,
}

impl<'a> Asked<'a> {
    pub(super) fn by(parts: &'a Parts) -> Self {
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
    let default = usual_port(scheme).unwrap_or(80);
    let parse = |text: &str| {
        let authority: Authority = text.parse().ok()?;
        let port = authority.port_u16().unwrap_or(default);
        Some((authority.host().to_ascii_lowercase(), port))
    };
    parse(origin).is_some_and(|origin| parse(host) == Some(origin))
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
        let list = Origins::list(["https://turbowarp.org", "null"]).expect("origins");
        assert!(allows(&list, Some("https://turbowarp.org"), None));
        assert!(allows(&list, Some("null"), None));
        assert!(!allows(&list, Some("https://example.org"), Some("example.org")));
        assert!(allows(&list, None, None));
        assert!(!allows(&list.refuse_missing(), None, None));
        assert!(allows(&Origins::any(), Some("https://anything"), None));
    }

    #[test]
    fn a_list_has_origins_as_browsers_send_them() {
        for (written, sent) in [
            ("https://example.org/", "https://example.org"),
            ("HTTPS://Example.org:443", "https://example.org"),
            ("http://localhost:80", "http://localhost"),
            ("http://[::1]:8080/", "http://[::1]:8080"),
            ("capacitor://localhost", "capacitor://localhost"),
            ("NULL", "null"),
        ] {
            assert_eq!(normalized(written).as_deref(), Ok(sent));
        }
        for text in
            ["", "*", "example.org", "https://", "https://example.org/game", "https://*.org"]
        {
            let error = Origins::list(["null", text]).expect_err("no origin").to_string();
            assert!(error.starts_with(&format!("'{text}'")), "{error}");
        }
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
