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

#[cfg(test)]
mod tests {
    use super::Tls;
    use crate::http::{Author, Client, Fetch};
    use crate::net::{Net, Real, RealUdp};
    use crate::scratch::Scratch;
    use fast_peer_core::session::HttpError;
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
    use rustls::ServerConfig;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use std::io;
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};
    use std::sync::Arc;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio_rustls::TlsAcceptor;

    /// Every name is this host's.
    #[derive(Clone, Copy)]
    struct Here;

    impl Net for Here {
        type Stream = TcpStream;
        type Listener = TcpListener;
        type Udp = RealUdp;

        async fn connect(&self, remote: SocketAddr) -> io::Result<TcpStream> {
            Real::default().connect(remote).await
        }

        async fn listen(&self, local: SocketAddr) -> io::Result<TcpListener> {
            Real::default().listen(local).await
        }

        async fn udp(&self, local: SocketAddr) -> io::Result<RealUdp> {
            Real::default().udp(local).await
        }

        async fn join(&self, group: SocketAddr, addrs: &[IpAddr]) -> io::Result<Vec<RealUdp>> {
            Real::default().join(group, addrs).await
        }

        async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
            Ok(vec![Ipv4Addr::LOCALHOST.into()])
        }
    }

    struct Authority {
        issuer: Issuer<'static, KeyPair>,
        pem: String,
    }

    impl Authority {
        fn new(name: &str) -> Self {
            let mut params = CertificateParams::new([]).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let key = KeyPair::generate().unwrap();
            let pem = params.self_signed(&key).unwrap().pem();
            Self { issuer: Issuer::new(params, key), pem }
        }
    }

    fn params() -> CertificateParams {
        CertificateParams::new(["tracker.example".to_owned()]).unwrap()
    }

    /// What a client that trusts `pem` hears of a server with this certificate.
    async fn ask(
        pem: &str,
        host: &str,
        certificate: CertificateDer<'static>,
        key: &KeyPair,
    ) -> Result<u16, HttpError> {
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
        let listener = Real::default().listen((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let port = TcpListener::local_addr(&listener).unwrap().port();
        tokio::spawn(async move {
            let (stream, _) = TcpListener::accept(&listener).await.unwrap();
            // A client that does not believe it breaks off here.
            let Ok(mut stream) = TlsAcceptor::from(Arc::new(config)).accept(stream).await else { return };
            let mut heard = vec![];
            while !heard.ends_with(b"\r\n\r\n")
                && stream.read_buf(&mut heard).await.is_ok_and(|count| count > 0)
            {}
            let _ = stream.write_all(b"HTTP/1.1 204 x\r\n\r\n").await;
        });

        let scratch = Scratch::new();
        scratch.write("roots.pem", pem.as_bytes());
        let client = Client::new(Here, Tls::from_file(&scratch.path().join("roots.pem")).unwrap());
        let url = format!("https://{host}:{port}/announce");
        client
            .get(Fetch { url: &url, author: Author::Torrent, max_body: 0 })
            .await
            .map(|answer| answer.status)
    }

    fn refused(result: Result<u16, HttpError>, why: &str) {
        let Err(HttpError::Tls(text)) = &result else { panic!("{why}: {result:?}") };
        assert!(text.contains(why), "{why}: {text}");
    }

    #[tokio::test]
    async fn only_whom_an_authority_vouches_for_is_believed() {
        let (authority, other) = (Authority::new("a"), Authority::new("b"));
        let key = KeyPair::generate().unwrap();
        let signed =
            |params: CertificateParams| params.signed_by(&key, &authority.issuer).unwrap().der().clone();

        assert_eq!(ask(&authority.pem, "tracker.example", signed(params()), &key).await, Ok(204));
        let both = format!("{}{}", other.pem, authority.pem);
        assert_eq!(ask(&both, "tracker.example", signed(params()), &key).await, Ok(204));

        refused(ask(&other.pem, "tracker.example", signed(params()), &key).await, "UnknownIssuer");
        let itself = params().self_signed(&key).unwrap().der().clone();
        refused(ask(&authority.pem, "tracker.example", itself, &key).await, "UnknownIssuer");
        refused(ask(&authority.pem, "other.example", signed(params()), &key).await, "not valid for name");
        let mut late = params();
        late.not_after = date_time_ymd(2020, 1, 1);
        refused(ask(&authority.pem, "tracker.example", signed(late), &key).await, "expired");
        let mut early = params();
        early.not_before = date_time_ymd(2999, 1, 1);
        refused(ask(&authority.pem, "tracker.example", signed(early), &key).await, "not valid yet");
    }

    #[test]
    fn a_file_without_certificates_is_an_error() {
        let scratch = Scratch::new();
        scratch.write("empty.pem", b"");
        assert!(Tls::from_file(&scratch.path().join("empty.pem")).is_err());
        assert!(Tls::from_file(&scratch.path().join("nowhere.pem")).is_err());
    }
}
