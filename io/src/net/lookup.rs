//! Looking names up by one interface alone. The system's own way asks by whichever it likes.

use super::interface::Interface;
use super::real::Kind;
use hickory_resolver::config::{LookupIpStrategy, ResolverConfig};
use hickory_resolver::net::runtime::{RuntimeProvider, TokioHandle, TokioTime, iocompat::AsyncIoTokioAsStd};
use hickory_resolver::{Resolver, system_conf};
use std::fmt;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// A resolver whose every socket is on one interface.
#[derive(Clone)]
pub(super) struct Lookup {
    resolver: Resolver<Bound>,
}

impl Lookup {
    /// Asks the name servers of this host. Those on the host itself ask on by whichever interface they like, so they are
    /// left out; an error if there is no other.
    pub(super) fn new(interface: Interface) -> io::Result<Self> {
        let none = |why: &dyn fmt::Display| io::Error::other(NoNameServer(why.to_string()));
        let (config, mut options) = system_conf::read_system_conf().map_err(|error| none(&error))?;
        let mut config = without_local(config, &interface);
        #[cfg(target_os = "linux")]
        if config.name_servers().is_empty()
            && let Ok(text) = std::fs::read(RESOLVED)
            && let Ok((behind, _)) = system_conf::parse_resolv_conf(text)
        {
            config = without_local(behind, &interface);
        }
        if config.name_servers().is_empty() {
            let name = interface.name();
            return Err(none(&format_args!("no name server of this host can be asked by {name} alone")));
        }
        (options.ip_strategy, options.timeout, options.attempts) =
            (LookupIpStrategy::Ipv4AndIpv6, TIMEOUT, 2);
        let mut builder = Resolver::builder_with_config(
            config,
            Bound { handle: TokioHandle::default(), interface: Arc::new(interface) },
        );
        *builder.options_mut() = options;
        Ok(Self { resolver: builder.build().map_err(|error| none(&error))? })
    }

    /// The addresses of a name. A [`NoNameServer`] can be the fault of another network than that of the servers.
    pub(super) async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        if let Ok(ip) = host.parse() {
            return Ok(vec![ip]);
        }
        let found = self.resolver.lookup_ip(host).await.map_err(|error| {
            if error.is_no_records_found() {
                io::Error::new(ErrorKind::NotFound, error)
            } else {
                io::Error::other(NoNameServer(error.to_string()))
            }
        })?;
        Ok(found.iter().collect())
    }
}

/// No name server said anything of use.
#[derive(Debug)]
pub(super) struct NoNameServer(String);

impl NoNameServer {
    pub(super) fn is_in(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<Self>())
    }
}

impl fmt::Display for NoNameServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoNameServer {}

/// Without servers that are on this host, unless that is the interface.
fn without_local(mut config: ResolverConfig, interface: &Interface) -> ResolverConfig {
    config.name_servers.retain(|server| interface.is_loopback() || !server.ip.is_loopback());
    config
}

/// Opens sockets for the resolver.
#[derive(Clone)]
struct Bound {
    handle: TokioHandle,
    interface: Arc<Interface>,
}

type Opening<S> = Pin<Box<dyn Send + Future<Output = io::Result<S>>>>;

impl RuntimeProvider for Bound {
    type Handle = TokioHandle;
    type Timer = TokioTime;
    type Udp = UdpSocket;
    type Tcp = AsyncIoTokioAsStd<TcpStream>;

    fn create_handle(&self) -> TokioHandle {
        self.handle.clone()
    }

    fn connect_tcp(
        &self,
        server: SocketAddr,
        _: Option<SocketAddr>,
        limit: Option<Duration>,
    ) -> Opening<Self::Tcp> {
        let interface = Arc::clone(&self.interface);
        Box::pin(async move {
            let socket = interface.socket(super::real::any(server), Kind::Dialling)?;
            let connect = super::real::tcp_socket(socket).connect(server);
            match timeout(limit.unwrap_or(TIMEOUT), connect).await {
                Ok(stream) => stream.map(AsyncIoTokioAsStd),
                Err(_) => Err(ErrorKind::TimedOut.into()),
            }
        })
    }

    fn bind_udp(&self, local: SocketAddr, server: SocketAddr) -> Opening<Self::Udp> {
        let interface = Arc::clone(&self.interface);
        Box::pin(async move {
            let any = SocketAddr::new(super::real::any(server).ip(), local.port());
            UdpSocket::from_std(interface.socket(any, Kind::Datagrams)?.into())
        })
    }
}

impl std::fmt::Debug for Lookup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lookup").finish_non_exhaustive()
    }
}

/// Whom systemd's resolver asks, where that is the only name server that `/etc/resolv.conf` names.
#[cfg(target_os = "linux")]
const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";

/// How long a name server may take.
const TIMEOUT: Duration = Duration::from_secs(5);
