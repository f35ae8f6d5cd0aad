//! The address of a broker: a server, the primary that Sentinels name, or a cluster.

use std::time::Duration;

use futures_util::{StreamExt, stream::FuturesUnordered};
use percent_encoding::percent_decode_str;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo,
    IntoConnectionInfo, ProtocolVersion, TlsCertificates,
    aio::MultiplexedConnection,
    cluster::{ClusterClient, ClusterClientBuilder},
    cluster_async::ClusterConnection,
    io::tcp::TcpSettings,
};
use tokio::time::timeout;

use super::failed;
use crate::relay::RelayError;

/// An address, which may contain a password.
#[derive(Clone)]
pub(super) struct Address {
    servers: Servers,
    certificates: Option<TlsCertificates>,
}

#[derive(Clone)]
enum Servers {
    One(ConnectionInfo),
    Sentinels {
        sentinels: Vec<ConnectionInfo>,
        /// The name under which the Sentinels know the primary.
        name: String,
        /// The settings of the primary, with the address of a Sentinel.
        primary: ConnectionInfo,
    },
    Cluster(Vec<ConnectionInfo>),
}

/// The port of a Sentinel.
const SENTINEL_PORT: u16 = 26_379;

impl Address {
    pub(super) fn parse(url: &str) -> Result<Self, RelayError> {
        let servers = servers(url).ok_or_else(|| {
            RelayError::new(
                "the address must be like redis://:password@host:6379/0, redis+sentinel://host,host/name or \
                 redis+cluster://host,host, with characters such as @ : / ? # % of names and passwords \
                 percent-encoded",
            )
        })?;
        Ok(Self { servers, certificates: None })
    }

    /// Returns the address with a certificate for servers that ask for one.
    pub(super) fn with_certificate(
        &self,
        certificate: Vec<u8>,
        key: Vec<u8>,
    ) -> Result<Self, RelayError> {
        if !self.is_tls() {
            return Err(RelayError::new("a certificate needs TLS: use rediss:// in the address"));
        }
        let client_tls = Some(ClientTlsConfig { client_cert: certificate, client_key: key });
        let certificates = TlsCertificates { client_tls, root_cert: None };
        Client::build_with_tls(self.first().clone(), certificates.clone())
            .map_err(|error| RelayError::new(format!("the certificate or its key: {error}")))?;
        Ok(Self { servers: self.servers.clone(), certificates: Some(certificates) })
    }

    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.servers, Servers::Cluster(_))
    }

    pub(super) fn database(&self) -> i64 {
        self.first().redis_settings().db()
    }

    fn first(&self) -> &ConnectionInfo {
        match &self.servers {
            Servers::One(info) | Servers::Sentinels { primary: info, .. } => info,
            // There is at least one.
            Servers::Cluster(nodes) => &nodes[0],
        }
    }

    fn is_tls(&self) -> bool {
        matches!(self.first().addr(), ConnectionAddr::TcpTls { .. })
    }

    /// Returns the server, or the current primary, within this time.
    pub(super) async fn server(&self, patience: Duration) -> Result<Client, RelayError> {
        let Servers::Sentinels { sentinels, name, primary } = &self.servers else {
            return self.client(self.first().clone());
        };
        let asked = sentinels.iter().map(|sentinel| self.ask(sentinel, name, patience));
        // All at once, because the machine of a primary that is gone may have had a Sentinel, too.
        let mut answers: FuturesUnordered<_> = asked.collect();
        let mut last = RelayError::late();
        while let Some(answer) = answers.next().await {
            match answer {
                Ok((host, port)) => {
                    return self.client(primary.clone().set_addr(match primary.addr() {
                        ConnectionAddr::TcpTls { insecure, .. } => ConnectionAddr::TcpTls {
                            host,
                            port,
                            insecure: *insecure,
                            tls_params: None,
                        },
                        _ => ConnectionAddr::Tcp(host, port),
                    }));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Asks a Sentinel for the address of the primary.
    async fn ask(
        &self,
        sentinel: &ConnectionInfo,
        name: &str,
        patience: Duration,
    ) -> Result<(String, u16), RelayError> {
        let client = self.client(sentinel.clone())?;
        let asked = async {
            let mut connection = connect(&client, patience).await?;
            let mut command = redis::cmd("SENTINEL");
            command.arg("get-master-addr-by-name").arg(name);
            command.query_async(&mut connection).await.map_err(failed)
        };
        let known: Option<(String, u16)> =
            timeout(patience, asked).await.map_err(|_| RelayError::late())??;
        known.ok_or_else(|| RelayError::new(format!("the Sentinels know no primary named {name}")))
    }

    fn client(&self, info: ConnectionInfo) -> Result<Client, RelayError> {
        self.provide_cryptography();
        match &self.certificates {
            Some(certificates) => Client::build_with_tls(info, certificates.clone()),
            None => Client::open(info),
        }
        .map_err(failed)
    }

    /// Connects to a cluster within this time. `receive` is called with the messages of the connection's subscriptions.
    pub(super) async fn cluster(
        &self,
        patience: Duration,
        receive: impl redis::aio::AsyncPushSender,
    ) -> Result<ClusterConnection, RelayError> {
        let Servers::Cluster(nodes) = &self.servers else {
            return Err(RelayError::new("the address is not that of a cluster"));
        };
        self.provide_cryptography();
        let builder = ClusterClientBuilder::new(nodes.iter().cloned())
            .use_protocol(ProtocolVersion::RESP3)
            // All servers of the address are waited for, and then those of the slots. One that is gone must not use
            // up the time of the others.
            .connection_timeout(patience / 3)
            .response_timeout(patience)
            .tcp_settings(tcp())
            .push_sender(receive);
        let builder = match &self.certificates {
            Some(certificates) => builder.certs(certificates.clone()),
            None => builder,
        };
        let client: ClusterClient = builder.build().map_err(failed)?;
        let connected = timeout(patience, client.get_async_connection()).await;
        connected.map_err(|_| RelayError::late())?.map_err(failed)
    }

    /// Installs the provider just before connecting, so that the host's own choice comes first.
    fn provide_cryptography(&self) {
        if self.is_tls() {
            // Fails if the process has one already.
            _ = rustls::crypto::ring::default_provider().install_default();
        }
    }
}

/// Connects to a server for commands that are answered within this time.
pub(super) async fn connect(
    client: &Client,
    patience: Duration,
) -> Result<MultiplexedConnection, RelayError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(patience))
        .set_response_timeout(Some(patience));
    client.get_multiplexed_async_connection_with_config(&config).await.map_err(failed)
}

fn tcp() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

fn servers(url: &str) -> Option<Servers> {
    let (scheme, rest) = url.split_once("://")?;
    if let Some(scheme) = scheme.strip_suffix("+sentinel") {
        sentinels(scheme, rest)
    } else if let Some(scheme) = scheme.strip_suffix("+cluster") {
        let (user, hosts, _) = parts(rest);
        let nodes = hosts.map(|host| info(&format!("{scheme}://{user}{host}/")));
        nodes.collect::<Option<_>>().map(Servers::Cluster)
    } else {
        info(url).map(Servers::One)
    }
}

/// Parses `user:password@host,host/name/database?sentinel_password=password`.
fn sentinels(scheme: &str, rest: &str) -> Option<Servers> {
    let (user, hosts, path) = parts(rest);
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let (name, database) = path.split_once('/').unwrap_or((path, ""));
    let own = match query.strip_prefix("sentinel_password=") {
        Some(password) => format!(":{password}@"),
        None if query.is_empty() => String::new(),
        None => return None,
    };
    let name = percent_decode_str(name).decode_utf8().ok()?.into_owned();
    let sentinels = hosts.clone().map(|host| {
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let port = if has_port { String::new() } else { format!(":{SENTINEL_PORT}") };
        info(&format!("{scheme}://{own}{host}{port}/"))
    });
    let sentinels = sentinels.collect::<Option<_>>()?;
    let primary = info(&format!("{scheme}://{user}{}/{database}", hosts.clone().next()?))?;
    (!name.is_empty()).then_some(Servers::Sentinels { sentinels, name, primary })
}

/// Splits `user:password@host,host/path`, and returns the user with the `@`.
fn parts(rest: &str) -> (&str, std::str::Split<'_, char>, &str) {
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, hosts) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
    (user, hosts.split(','), path)
}

fn info(url: &str) -> Option<ConnectionInfo> {
    Some(url.into_connection_info().ok()?.set_tcp_settings(tcp()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_a_server_sentinels_or_a_cluster() {
        let text = |url: &str| {
            let shown = |info: &ConnectionInfo| {
                let user = info.redis_settings().username().unwrap_or_default().to_owned();
                let password = info.redis_settings().password().unwrap_or_default();
                format!("{user}:{password}@{}/{}", info.addr(), info.redis_settings().db())
            };
            let all =
                |infos: &[ConnectionInfo]| infos.iter().map(shown).collect::<Vec<_>>().join(" ");
            let address = Address::parse(url).ok()?;
            Some(match &address.servers {
                Servers::One(info) => shown(info),
                Servers::Cluster(nodes) => format!("cluster {}", all(nodes)),
                Servers::Sentinels { sentinels, name, primary } => {
                    format!("{name} {} by {}", shown(primary), all(sentinels))
                }
            })
        };
        for (url, expected) in [
            ("redis://host", ":@host:6379/0"),
            ("redis://ann:s%40%2F@host:7/3", "ann:s@/@host:7/3"),
            ("redis+cluster://:pw@a,b:7,[::1]:8", "cluster :pw@a:6379/0 :pw@b:7/0 :pw@::1:8/0"),
            ("redis+sentinel://a,b:7/main", "main :@a:6379/0 by :@a:26379/0 :@b:7/0"),
            (
                "rediss+sentinel://ann:pw@a/my%20main/2?sentinel_password=own",
                "my main ann:pw@a:6379/2 by :own@a:26379/0",
            ),
        ] {
            assert_eq!(text(url).as_deref(), Some(expected), "{url}");
        }
        for url in [
            "",
            "host",
            "http://host",
            "redis://:pass/word@host",
            "redis+sentinel://host",
            "redis+sentinel://host/",
            "redis+sentinel:///main",
            "redis+cluster://",
            "redis+cluster://a,,b",
            "redis+sentinel://host/main?other=1",
            "redis+sentinel://host/main/x",
        ] {
            let error =
                Address::parse(url).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains("percent-encoded"), "{url}: {error}");
        }
    }

    #[test]
    fn a_certificate_needs_tls_and_must_be_one() {
        let error = |url: &str| {
            let address = Address::parse(url).expect("an address");
            let certified = address.with_certificate(b"x".into(), b"y".into());
            certified.err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert!(error("redis://host").contains("rediss://"));
        assert!(error("rediss://host").contains("the certificate or its key"));
    }
}
