//! The extensions of a WebSocket that a client offers in its opening handshake: RFC 6455, section 9.1.

use axum::http::{HeaderMap, HeaderValue, header::SEC_WEBSOCKET_EXTENSIONS};

use crate::deflate::{Compression, Deflate, LEAST_WINDOW_BITS, WINDOW_BITS};

/// Agrees to the first offer of a client that can be met, and returns the answer to it (RFC 7692, section 7.1).
/// Returns `None` if there is no such offer, or if nothing is to be compressed.
pub(crate) fn negotiate(
    headers: &HeaderMap,
    compression: Compression,
) -> Option<(Deflate, HeaderValue)> {
    if !compression.is_on() {
        return None;
    }
    let offers = headers.get_all(SEC_WEBSOCKET_EXTENSIONS).iter();
    let mut offers = offers.filter_map(|offers| offers.to_str().ok());
    let Offer { window_bits, forgets } =
        offers.find_map(|offers| offers.split(',').find_map(Offer::parse))?;
    let mut answer = String::from("permessage-deflate; client_no_context_takeover");
    if forgets {
        answer.push_str("; server_no_context_takeover");
    }
    if let Some(bits) = window_bits {
        answer.push_str(&format!("; server_max_window_bits={bits}"));
    }
    let deflate = compression.agree(window_bits.unwrap_or(WINDOW_BITS), !forgets)?;
    Some((deflate, HeaderValue::try_from(answer).ok()?))
}

/// An offer that can be met.
#[derive(Debug, PartialEq, Eq)]
struct Offer {
    /// The window that the client has, if it says so.
    window_bits: Option<u8>,
    /// Whether the client keeps no window from message to message.
    forgets: bool,
}

impl Offer {
    /// Parses an offer. Returns `None` if it is of another extension, breaks the rules (section 7.1), or asks for
    /// a window for which the compressor cannot compress.
    fn parse(offer: &str) -> Option<Self> {
        let mut parts = offer.split(';').map(str::trim);
        if parts.next() != Some("permessage-deflate") {
            return None;
        }
        let (mut seen, mut window_bits, mut forgets) = (Vec::new(), None, false);
        for part in parts {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (name.trim_end(), Some(bits(value.trim_start())?)),
                None => (part, None),
            };
            if seen.contains(&name) {
                return None;
            }
            seen.push(name);
            match (name, value) {
                ("server_no_context_takeover", None) => forgets = true,
                ("client_no_context_takeover", None) | ("client_max_window_bits", _) => {}
                ("server_max_window_bits", Some(LEAST_WINDOW_BITS..)) => window_bits = value,
                _ => return None,
            }
        }
        Some(Self { window_bits, forgets })
    }
}

fn bits(value: &str) -> Option<u8> {
    let plain = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    let is_plain = plain.bytes().all(|byte| byte.is_ascii_digit()) && !plain.starts_with('0');
    plain.parse().ok().filter(|bits| is_plain && (8..=15).contains(bits))
}

#[cfg(all(test, feature = "deflate"))]
mod tests {
    use super::*;

    fn answer(offers: &[&str]) -> Option<(Deflate, String)> {
        let mut headers = HeaderMap::new();
        for offer in offers {
            headers.append(
                SEC_WEBSOCKET_EXTENSIONS,
                HeaderValue::from_str(offer).expect("visible ASCII"),
            );
        }
        let (deflate, answer) = negotiate(&headers, Compression::From(100))?;
        Some((deflate, answer.to_str().ok()?.to_owned()))
    }

    fn agreed(window_bits: u8, keeps: bool) -> Deflate {
        Compression::From(100).agree(window_bits, keeps).expect("it is on")
    }

    #[test]
    fn the_first_offer_that_can_be_met_is_taken() {
        const ANSWER: &str = "permessage-deflate; client_no_context_takeover";
        for offers in [
            &["permessage-deflate"][..],
            &["permessage-deflate; client_max_window_bits"],
            &["permessage-deflate;client_max_window_bits=8;client_no_context_takeover"],
            &["x-webkit-deflate-frame", "foo; bar=1, permessage-deflate"],
            &["permessage-deflate; unknown, permessage-deflate"],
            &["permessage-deflate; server_max_window_bits=8, permessage-deflate"],
        ] {
            let (deflate, text) = answer(offers).unwrap();
            assert_eq!((deflate, &*text), (agreed(15, true), ANSWER), "{offers:?}");
        }
        let offer = "permessage-deflate; server_max_window_bits=\"10\"; server_no_context_takeover";
        let (deflate, text) = answer(&[offer]).unwrap();
        assert_eq!(deflate, agreed(10, false));
        let more = "; server_no_context_takeover; server_max_window_bits=10";
        assert_eq!(text, format!("{ANSWER}{more}"));
        for offers in [
            &[][..],
            &["permessage-deflated"],
            &["permessage-deflate; server_max_window_bits"],
            &["permessage-deflate; server_max_window_bits=16"],
            &["permessage-deflate; server_max_window_bits=09"],
            &["permessage-deflate; client_max_window_bits=+9"],
            &["permessage-deflate; client_no_context_takeover=1"],
            &["permessage-deflate; client_no_context_takeover; client_no_context_takeover"],
        ] {
            assert_eq!(answer(offers), None, "{offers:?}");
        }
        let headers = HeaderMap::from_iter([(
            SEC_WEBSOCKET_EXTENSIONS,
            HeaderValue::from_static("permessage-deflate"),
        )]);
        assert_eq!(negotiate(&headers, Compression::Off), None);
    }
}
