//! Whom to believe that it is who it says.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// How https is spoken. Certificates are always checked; there is no way to turn that off.
#[derive(Clone, Debug)]
pub struct Tls(Arc<ClientConfig>);

impl Tls {
    /// Trusts the certificates in the file that the environment names in `SSL_CERT_FILE`, or else Mozilla's.
    pub fn from_env() -> io::Result<Self> {
        match std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()) {
            Some(path) => Self::from_file(Path::new(&path)),
            None => Ok(Self::mozilla()),
        }
    }

    /// Trusts whom Mozilla trusts, as of when this program was built. Looks at nothing outside of it.
    pub fn mozilla() -> Self {
        Self::new(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect())
    }

    /// Trusts the certificates in a PEM file.
    pub fn from_file(path: &Path) -> io::Result<Self> {
        let bad = |why: String| io::Error::other(format!("{}: {why}", path.display()));
        let mut roots = RootCertStore::empty();
        let pem = std::fs::read(path).map_err(|error| bad(error.to_string()))?;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| bad(error.to_string()))?;
            roots.add(certificate).map_err(|error| bad(error.to_string()))?;
        }
        if roots.is_empty() { Err(bad("no certificate in it".into())) } else { Ok(Self::new(roots)) }
    }

    pub(super) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.0)
    }

    fn new(roots: RootCertStore) -> Self {
        let mut config =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .expect("the provider speaks the default versions")
                .with_root_certificates(roots)
                .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self(Arc::new(config))
    }
}
