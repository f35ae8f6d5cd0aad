//! The addresses of clients behind a reverse proxy.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    extract::{ConnectInfo, Request},
    http::{HeaderMap, HeaderName, StatusCode, header::FORWARDED},
    middleware::Next,
    response::{IntoResponse, Response},
};
use axum_cloud_variables::ClientAddress;
use clap::ValueEnum;
use ipnet::{IpNet, Ipv4Net};
use tracing::info;

use super::{
    listen::Peer,
    lists::{ADDRESS_BLOCKED, Lists},
    log::Limit,
};

/// The header in which a proxy names the client's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProxyHeader {
    XForwardedFor,
    /// RFC 7239.
    Forwarded,
}

/// The networks of trusted proxies, and the lists of addresses that may not connect.
pub(crate) struct Addresses {
    pub(crate) trusted: Vec<IpNet>,
    pub(crate) header: ProxyHeader,
    pub(crate) lists: Lists,
    /// Limits the lines about blocked addresses.
    pub(crate) refusals: Mutex<Limit>,
}

/// The address of a client that connects over a Unix socket, unless a proxy names another.
const UNKNOWN: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

impl Addresses {
    /// Adds the client's address to a request, or refuses it.
    pub(crate) async fn name(self: Arc<Self>, mut request: Request, next: Next) -> Response {
        let peer = match request.extensions().get() {
            Some(ConnectInfo(Peer::Tcp(peer))) => peer.ip().to_canonical(),
            _ => UNKNOWN,
        };
        let address = self.client(peer, request.headers());
        if self.lists.blocks_address(address) {
            let passes = self.refusals.lock().unwrap_or_else(PoisonError::into_inner).pass();
            if let Some(left_out) = passes {
                info!(status = 403, left_out, "a blocked address was refused");
            }
            return (StatusCode::FORBIDDEN, ADDRESS_BLOCKED).into_response();
        }
        request.extensions_mut().insert(ClientAddress(address));
        next.run(request).await
    }

    /// Returns the address of the client: that of the connection or, as long as that is a trusted proxy's, the
    /// one that this proxy names. Each proxy appends to the list. Entries before one that is not an address
    /// may be forged, so they are ignored.
    fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer;
        let mut named = self.named(headers).into_iter().rev();
        while self.trusts(client)
            && let Some(Some(address)) = named.next()
        {
            client = address;
        }
        client
    }

    fn trusts(&self, address: IpAddr) -> bool {
        contains(&self.trusted, address) || address == UNKNOWN && !self.trusted.is_empty()
    }

    /// Returns the entries of the header, the client's first. An entry that is not an address is `None`.
    fn named(&self, headers: &HeaderMap) -> Vec<Option<IpAddr>> {
        let name = match self.header {
            ProxyHeader::XForwardedFor => HeaderName::from_static("x-forwarded-for"),
            ProxyHeader::Forwarded => FORWARDED,
        };
        let values = headers.get_all(name);
        let entries = values.iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        let entries = entries.map(|entry| std::str::from_utf8(entry).ok().map(str::trim));
        entries.map(|entry| self.address(entry?)).collect()
    }

    fn address(&self, entry: &str) -> Option<IpAddr> {
        match self.header {
            ProxyHeader::XForwardedFor => address(entry),
            ProxyHeader::Forwarded => {
                let mut pairs = entry.split(';').filter_map(|pair| pair.trim().split_once('='));
                let named = pairs.find(|(name, _)| name.eq_ignore_ascii_case("for"));
                address(named?.1.trim_matches('"'))
            }
        }
    }
}

pub(crate) fn contains(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

/// Parses an address, with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let plain = text.parse().ok();
    let with_port = || text.parse().ok().map(|address: std::net::SocketAddr| address.ip());
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    plain.or_else(with_port).or_else(bracketed).map(|address: IpAddr| address.to_canonical())
}

/// Parses an address or a network, such as `10.0.0.0/8`.
pub(crate) fn network(text: &str) -> Result<IpNet, String> {
    let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
    let network = text.parse().ok().or_else(address);
    let network = network.ok_or("no address, and no network such as 10.0.0.0/8")?;
    // Clients' addresses are compared without the prefix of IPv4-mapped IPv6 addresses.
    Ok(match (network.addr().to_canonical(), network.prefix_len()) {
        (IpAddr::V4(address), bits @ 96..) if network.addr().is_ipv6() => {
            Ipv4Net::new(address, bits - 96).map_or(network, IpNet::from)
        }
        _ => network,
    })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use clap::Parser;

    use super::*;
    use crate::settings::Settings;

    #[test]
    fn the_word_of_a_proxy_counts_if_it_is_trusted() {
        let trusted = ["127.0.0.1", "10.0.0.0/8"].map(|text| network(text).expect("a network"));
        let settings = Settings::parse_from(["cloud-variables"]);
        let lists = Lists::of(&settings).expect("no files");
        let addresses = |header| Addresses {
            trusted: trusted.into(),
            header,
            lists: lists.clone(),
            refusals: Mutex::default(),
        };
        let client = |peer: &str, header, values: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            let name = match header {
                ProxyHeader::XForwardedFor => "x-forwarded-for",
                ProxyHeader::Forwarded => "forwarded",
            };
            for value in values {
                headers.append(name, HeaderValue::from_bytes(value).expect("a value"));
            }
            let peer = peer.parse().expect("an address");
            addresses(header).client(peer, &headers).to_string()
        };
        for (peer, value, expected) in [
            ("127.0.0.1", &b"192.0.2.1"[..], "192.0.2.1"),
            // A client may also send the header; the proxy appends to it.
            ("127.0.0.1", b"6.6.6.6, 192.0.2.1", "192.0.2.1"),
            ("127.0.0.1", b"192.0.2.1, 10.1.2.3", "192.0.2.1"),
            ("127.0.0.1", b"192.0.2.1:80", "192.0.2.1"),
            ("0.0.0.0", b"\xff, 192.0.2.1", "192.0.2.1"),
            ("0.0.0.0", b"192.0.2.1, \xff", "0.0.0.0"),
            ("127.0.0.1", b"1.1.1.1, unix:", "127.0.0.1"),
            ("127.0.0.1", b"1.1.1.1, , 10.1.2.3", "10.1.2.3"),
            ("127.0.0.1", b"nonsense", "127.0.0.1"),
            ("127.0.0.1", b"10.1.2.3", "10.1.2.3"),
            ("198.51.100.7", b"192.0.2.1", "198.51.100.7"),
        ] {
            let text = String::from_utf8_lossy(value);
            assert_eq!(
                client(peer, ProxyHeader::XForwardedFor, &[value]),
                expected,
                "{peer} {text}"
            );
        }
        let two: [&[u8]; 2] = [b"1.1.1.1", b"192.0.2.1"];
        assert_eq!(client("127.0.0.1", ProxyHeader::XForwardedFor, &two), "192.0.2.1");
        for (value, expected) in [
            (&b"for=192.0.2.1;proto=https"[..], "192.0.2.1"),
            (b"proto=https;For=\"[2001:db8::1]:80\"", "2001:db8::1"),
            (b"for=1.1.1.1, for=unknown", "127.0.0.1"),
        ] {
            assert_eq!(client("127.0.0.1", ProxyHeader::Forwarded, &[value]), expected);
        }
    }

    #[test]
    fn a_network_of_ipv4_in_ipv6_is_one_of_ipv4() {
        assert_eq!(network("::ffff:127.0.0.0/104"), network("127.0.0.0/8"));
        assert!(network("127.0.0.1/33").is_err() && network("").is_err());
    }
}
