//! Opens a client's connection: TCP, TLS, and the upgrade.

use std::{
    fmt, io,
    pin::Pin,
    sync::{Arc, OnceLock},
};

use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri, uri::PathAndQuery};
use futures_util::future::BoxFuture;
use rustls::{ClientConfig, RootCertStore, crypto::CryptoProvider, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tungstenite::{Error, client::IntoClientRequest, protocol::WebSocketConfig};

use super::error::ClientError;

/// A stream of bytes in both directions.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

pub(super) type AnyStream = Pin<Box<dyn Stream>>;

/// A function of the program that opens streams.
pub(super) type Opener = Arc<dyn Fn() -> BoxFuture<'static, io::Result<AnyStream>> + Send + Sync>;

/// The address of a server, and the way to reach it.
#[derive(Clone)]
pub(super) struct Transport {
    uri: Uri,
    is_secure: bool,
    pub(super) headers: HeaderMap,
    pub(super) opener: Option<Opener>,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Omits the query and the headers, which may contain tokens.
        f.debug_struct("Transport").field("host", &self.uri.host()).finish_non_exhaustive()
    }
}

impl Transport {
    pub(super) fn new(address: &str) -> Result<Self, ClientError> {
        // Without the query, which may have a token.
        let shown = address.split('?').next().unwrap_or_default();
        let wrong = |what: &str| ClientError::Address(format!("{what} in {shown:?}"));
        let uri: Uri = address.parse().map_err(|_| wrong("no URL"))?;
        let is_secure = match uri.scheme_str() {
            Some("ws" | "http") => false,
            Some("wss" | "https") => true,
            _ => return Err(wrong("no scheme of these: ws, wss, http, https")),
        };
        let mut parts = uri.into_parts();
        let scheme = if is_secure { "wss" } else { "ws" };
        parts.scheme = scheme.parse().ok();
        parts.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
        let uri = Uri::from_parts(parts).map_err(|_| wrong("no URL"))?;
        uri.host().ok_or_else(|| wrong("no host"))?;
        Ok(Self { uri, is_secure, headers: HeaderMap::new(), opener: None })
    }

    pub(super) fn header(&mut self, name: &str, value: &str) -> Result<(), ClientError> {
        let wrong = || ClientError::Address(format!("the header {name:?}"));
        let header = HeaderName::try_from(name).map_err(|_| wrong())?;
        self.headers.append(header, HeaderValue::try_from(value).map_err(|_| wrong())?);
        Ok(())
    }

    /// Opens a connection and completes its upgrade.
    pub(super) async fn open(&self) -> Result<WebSocketStream<AnyStream>, ClientError> {
        let unreachable = |error: io::Error| ClientError::Unreachable(error.to_string());
        let stream = self.connect().await.map_err(unreachable)?;
        let request = (&self.uri).into_client_request().map(|mut request| {
            request.headers_mut().extend(self.headers.clone());
            request
        });
        let request = request.map_err(|error| ClientError::Address(error.to_string()))?;
        let config = WebSocketConfig::default().read_buffer_size(4_096);
        let opened =
            tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await;
        opened.map(|(socket, _)| socket).map_err(|error| match error {
            Error::Http(response) => {
                let text = response.body().as_deref().unwrap_or_default();
                let reason = String::from_utf8_lossy(text).trim().to_owned();
                ClientError::Refused { status: response.status().as_u16(), reason }
            }
            error => ClientError::Unreachable(error.to_string()),
        })
    }

    async fn connect(&self) -> io::Result<AnyStream> {
        if let Some(open) = &self.opener {
            return open().await;
        }
        let host = self.uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let port = self.uri.port_u16().unwrap_or(if self.is_secure { 443 } else { 80 });
        let stream = TcpStream::connect((host, port)).await?;
        // A small frame should not wait for the acknowledgement of the previous one.
        stream.set_nodelay(true)?;
        if !self.is_secure {
            return Ok(Box::pin(stream));
        }
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        Ok(Box::pin(TlsConnector::from(tls()?).connect(name, stream).await?))
    }
}

/// Returns TLS settings with the certificates that the system trusts, which are read once.
fn tls() -> io::Result<Arc<ClientConfig>> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(config.clone());
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    // Uses the host's choice, if it has made one.
    let provider = CryptoProvider::get_default()
        .cloned()
        .unwrap_or_else(|| Arc::new(rustls::crypto::ring::default_provider()));
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(io::Error::other)?;
    let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
    Ok(CONFIG.get_or_init(|| config).clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_scheme_and_a_host() {
        for (address, uri) in [
            ("ws://127.0.0.1:3000/cloud?room=1", "ws://127.0.0.1:3000/cloud?room=1"),
            ("https://example.org", "wss://example.org/"),
            ("wss://[::1]:1/x", "wss://[::1]:1/x"),
        ] {
            assert_eq!(Transport::new(address).unwrap().uri, uri);
        }
        for address in ["", "/cloud", "example.org/cloud", "ftp://example.org", "ws://", "ws:///x"]
        {
            assert!(matches!(Transport::new(address), Err(ClientError::Address(_))), "{address}");
        }
    }
}
