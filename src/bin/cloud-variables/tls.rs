//! TLS, with certificates that are read again on SIGHUP.

use std::{
    error::Error,
    path::Path,
    sync::{Arc, RwLock},
};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tracing::{error, info};

use super::settings::Settings;

/// The acceptor of TLS connections. Its certificate may change while the server runs.
#[derive(Clone)]
pub(crate) struct Tls(Arc<RwLock<Arc<ServerConfig>>>);

impl Tls {
    /// Returns an acceptor with the current certificate.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let config = self.0.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        config.clone().into()
    }
}

/// Returns an acceptor if the settings name a certificate and a key. Reads them again on each signal.
pub(crate) fn acceptor(
    settings: &Settings,
    mut reload: watch::Receiver<()>,
) -> Result<Option<Tls>, Box<dyn Error>> {
    let (Some(certificate), Some(key)) = (settings.tls_cert.clone(), settings.tls_key.clone())
    else {
        return Ok(None);
    };
    let tls = Tls(Arc::new(RwLock::new(read(&certificate, &key)?)));
    let current = tls.0.clone();
    tokio::spawn(async move {
        while reload.changed().await.is_ok() {
            match read(&certificate, &key) {
                Ok(config) => {
                    *current.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = config;
                    info!("the certificate was read again");
                }
                Err(error) => error!(%error, "the old certificate is still used"),
            }
        }
    });
    Ok(Some(tls))
}

fn read(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, Box<dyn Error>> {
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| super::at("--tls-cert", certificate, &error))?;
    let key_of = PrivateKeyDer::from_pem_file(key);
    let key_of = key_of.map_err(|error| super::at("--tls-key", key, &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key_of);
    let mut config = config.map_err(|error| super::at("--tls-cert", certificate, &error))?;
    config.alpn_protocols = vec![b"h2".into(), b"http/1.1".into()];
    Ok(Arc::new(config))
}
