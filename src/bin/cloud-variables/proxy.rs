//! The addresses of clients behind a reverse proxy.

use std::net::IpAddr;

use axum::{
    extract::{ConnectInfo, Request},
    http::{HeaderMap, StatusCode, header::FORWARDED},
    middleware::Next,
    response::{IntoResponse, Response},
};
use axum_cloud_variables::ClientAddress;
use ipnet::IpNet;

use super::listen::Peer;

/// The networks whose word about a client's address counts, and those that may not connect.
#[derive(Clone)]
pub(crate) struct Addresses {
    pub(crate) trusted: Vec<IpNet>,
    pub(crate) blocked: Vec<IpNet>,
}

impl Addresses {
    /// Adds the client's address to a request, or refuses it.
    pub(crate) async fn name(self, mut request: Request, next: Next) -> Response {
        let peer = match request.extensions().get() {
            Some(ConnectInfo(Peer::Tcp(peer))) => Some(peer.ip().to_canonical()),
            _ => None,
        };
        if let Some(address) = self.client(peer, request.headers()) {
            if contains(&self.blocked, address) {
                return (StatusCode::FORBIDDEN, "Your address may not connect.\n").into_response();
            }
            request.extensions_mut().insert(ClientAddress(address));
        }
        next.run(request).await
    }

    /// Returns the address of the client: that of the connection, or, if that is a trusted proxy's, the last in
    /// the headers that is not. A process behind a Unix socket of this machine is trusted.
    fn client(&self, peer: Option<IpAddr>, headers: &HeaderMap) -> Option<IpAddr> {
        if peer.is_some_and(|peer| !contains(&self.trusted, peer)) || self.trusted.is_empty() {
            return peer;
        }
        let named = forwarded(headers);
        named
            .iter()
            .rev()
            .find(|address| !contains(&self.trusted, **address))
            .or(named.first())
            .copied()
            .or(peer)
    }
}

fn contains(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

/// Returns the addresses of `X-Forwarded-For` or, without that, of `Forwarded` (RFC 7239), from the client on.
fn forwarded(headers: &HeaderMap) -> Vec<IpAddr> {
    let list = |name: &str| -> Vec<String> {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).map(|entry| entry.trim().to_owned()).collect()
    };
    let mut entries = list("x-forwarded-for");
    if entries.is_empty() {
        let pairs = list(FORWARDED.as_str());
        let of = |entry: &String| {
            let mut pairs = entry.split(';').filter_map(|pair| pair.trim().split_once('='));
            let named = pairs.find(|(name, _)| name.eq_ignore_ascii_case("for"));
            named.map(|(_, value)| value.trim_matches('"').to_owned())
        };
        entries = pairs.iter().filter_map(of).collect();
    }
    entries.iter().filter_map(|entry| address(entry)).collect()
}

/// Reads an address, perhaps with a port.
fn address(text: &str) -> Option<IpAddr> {
    let plain = text.parse().ok();
    let with_port = || text.parse().ok().map(|address: std::net::SocketAddr| address.ip());
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    plain.or_else(with_port).or_else(bracketed).map(|address: IpAddr| address.to_canonical())
}

/// Reads an address or a network, such as `10.0.0.0/8`.
pub(crate) fn network(text: &str) -> Result<IpNet, String> {
    let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
    text.parse()
        .ok()
        .or_else(address)
        .ok_or_else(|| "an address, or a network such as 10.0.0.0/8".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_of_a_proxy_counts_if_it_is_trusted() {
        let trusted = ["127.0.0.1", "10.0.0.0/8"].map(|text| network(text).expect("a network"));
        let addresses = Addresses { trusted: trusted.into(), blocked: Vec::new() };
        let client = |peer: &str, name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().expect("a value"));
            let peer = (!peer.is_empty()).then(|| peer.parse().expect("an address"));
            addresses.client(peer, &headers).map(|address| address.to_string())
        };
        for (peer, name, value, expected) in [
            ("127.0.0.1", "x-forwarded-for", "192.0.2.1", "192.0.2.1"),
            // A client may send the header, too; the proxy adds to it.
            ("127.0.0.1", "x-forwarded-for", "6.6.6.6, 192.0.2.1", "192.0.2.1"),
            ("127.0.0.1", "x-forwarded-for", "192.0.2.1, 10.1.2.3", "192.0.2.1"),
            ("", "x-forwarded-for", "192.0.2.1", "192.0.2.1"),
            ("127.0.0.1", "x-forwarded-for", "nonsense", "127.0.0.1"),
            ("127.0.0.1", "forwarded", "for=192.0.2.1;proto=https", "192.0.2.1"),
            ("127.0.0.1", "forwarded", "proto=https;For=\"[2001:db8::1]:80\"", "2001:db8::1"),
            ("198.51.100.7", "x-forwarded-for", "192.0.2.1", "198.51.100.7"),
        ] {
            assert_eq!(client(peer, name, value).as_deref(), Some(expected), "{peer} {value}");
        }
    }
}
