//! A network behind a SOCKS5 proxy, over any other network.
//!
//! Streams are opened by the proxy, and datagrams take its relay. Nothing goes past it: what the proxy can't do is not
//! done, and while it is not there nothing is sent at all.

mod exempt;
mod names;
mod relay;
mod talk;
#[cfg(test)]
mod tests;

pub use exempt::Exempt;
pub use relay::Relay;
pub use talk::ProxyDown;

use super::{Net, RecvMeta, Surroundings, Udp};
use fast_peer_core::address::stands_for_name;
use fast_peer_core::portmap::{UpnpError, UpnpRequest};
use fast_peer_core::socks5::{Command, Destination, Login};
use names::Names;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::task::{Context, Poll};
use talk::Health;

/// A SOCKS5 proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Its name, which is always looked up here, or its address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Who we are to it, if it asks.
    pub login: Option<Login>,
    /// Whether it looks up the names of others. Else they are looked up here, and others than the proxy learn of them.
    pub looks_up: bool,
    /// The web servers that are asked without it.
    pub exempt: Exempt,
}

/// A network that is reached by way of a proxy, or directly.
#[derive(Clone, Debug)]
pub struct Via<N> {
    net: N,
    way: Option<Rc<Way>>,
}

/// A proxy, and what is known of it.
#[derive(Debug)]
struct Way {
    proxy: Proxy,
    names: RefCell<Names>,
    health: RefCell<Health>,
}

impl<N: Net> Via<N> {
    /// The network as it is.
    pub fn direct(net: N) -> Self {
        Self { net, way: None }
    }

    /// The network beyond `proxy`, which is reached by `net`.
    pub fn proxy(net: N, proxy: Proxy) -> Self {
        let (names, health) = (RefCell::default(), RefCell::default());
        Self { net, way: Some(Rc::new(Way { proxy, names, health })) }
    }

    /// Whether there is a proxy.
    pub fn is_proxied(&self) -> bool {
        self.way.is_some()
    }
}

impl Way {
    /// Where a driver wants to go, in the words of the proxy.
    fn destination(&self, to: SocketAddr) -> Option<Destination> {
        if !stands_for_name(to.ip()) {
            return Some(to.into());
        }
        Some(Destination::Name(self.names.borrow().name(to.ip())?, to.port()))
    }
}

impl<N: Net> Net for Via<N> {
    type Stream = N::Stream;
    type Listener = N::Listener;
    type Udp = ViaUdp<N>;

    async fn connect(&self, remote: SocketAddr) -> io::Result<N::Stream> {
        let Some(way) = &self.way else { return self.net.connect(remote).await };
        let to = way.destination(remote).ok_or(ErrorKind::HostUnreachable)?;
        Ok(talk::ask(&self.net, way, Command::Connect(to)).await?.stream)
    }

    /// A proxy lets nobody in.
    async fn listen(&self, local: SocketAddr) -> io::Result<N::Listener> {
        match &self.way {
            None => self.net.listen(local).await,
            Some(_) => Err(ErrorKind::Unsupported.into()),
        }
    }

    /// One relay carries both families, so there is one for the first alone.
    async fn udp(&self, local: SocketAddr) -> io::Result<ViaUdp<N>> {
        match &self.way {
            None => self.net.udp(local).await.map(ViaUdp::Direct),
            Some(way) if local.is_ipv4() => Ok(ViaUdp::Relayed(Relay::new(self.net.clone(), Rc::clone(way)))),
            Some(_) => Err(ErrorKind::AddrNotAvailable.into()),
        }
    }

    /// What the local network hears, the proxy does not carry.
    async fn join(&self, group: SocketAddr, addrs: &[IpAddr]) -> io::Result<Vec<ViaUdp<N>>> {
        match &self.way {
            None => Ok(self.net.join(group, addrs).await?.into_iter().map(ViaUdp::Direct).collect()),
            Some(_) => Err(ErrorKind::Unsupported.into()),
        }
    }

    /// A router lets nobody in whom the proxy does not bring.
    fn surroundings(&self) -> io::Result<Surroundings> {
        let found = self.net.surroundings()?;
        Ok(if self.way.is_some() { Surroundings { router: None, ..found } } else { found })
    }

    async fn upnp(&self, request: UpnpRequest, asked: &Cell<bool>) -> Result<Option<Ipv4Addr>, UpnpError> {
        match &self.way {
            None => self.net.upnp(request, asked).await,
            Some(_) => Err(UpnpError::NoRouter),
        }
    }

    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let Some(way) = self.way.as_ref().filter(|way| way.proxy.looks_up) else {
            return self.net.resolve(host).await;
        };
        if let Ok(ip) = host.parse() {
            return Ok(vec![ip]);
        }
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        // RFC 6761 6.3: this is no name to ask others for. What may be asked of a host itself is decided by its address.
        if host == "localhost" || host.ends_with(".localhost") {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let name = names::public(&host).ok_or(ErrorKind::NotFound)?;
        Ok(vec![way.names.borrow_mut().address(name)])
    }

    fn for_web(&self, host: &str) -> Self {
        match &self.way {
            Some(way) if way.proxy.exempt.covers(host) => Self::direct(self.net.clone()),
            _ => self.clone(),
        }
    }
}

/// A socket for datagrams, or a proxy's relay.
pub enum ViaUdp<N: Net> {
    /// Of the network itself.
    Direct(N::Udp),
    /// By way of a proxy.
    Relayed(Relay<N>),
}

impl<N: Net> Udp for ViaUdp<N> {
    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Direct(udp) => udp.poll_recv(cx, bufs, meta),
            Self::Relayed(relay) => relay.poll_recv(cx, bufs, meta),
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, to: SocketAddr, data: &[u8]) -> Poll<io::Result<()>> {
        match self {
            Self::Direct(udp) => udp.poll_send(cx, to, data),
            Self::Relayed(relay) => relay.poll_send(cx, to, data),
        }
    }

    fn max_run(&self) -> usize {
        match self {
            Self::Direct(udp) => udp.max_run(),
            Self::Relayed(relay) => relay.max_run(),
        }
    }

    fn poll_send_run(
        &mut self,
        cx: &mut Context<'_>,
        to: SocketAddr,
        data: &[u8],
        stride: usize,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Direct(udp) => udp.poll_send_run(cx, to, data, stride),
            Self::Relayed(relay) => relay.poll_send_run(cx, to, data, stride),
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Direct(udp) => udp.local_addr(),
            Self::Relayed(relay) => relay.local_addr(),
        }
    }

    fn carries(&self, to: SocketAddr) -> bool {
        match self {
            Self::Direct(udp) => udp.carries(to),
            Self::Relayed(relay) => relay.carries(to),
        }
    }
}

impl<N: Net> fmt::Debug for ViaUdp<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct(_) => "Direct(..)",
            Self::Relayed(_) => "Relayed(..)",
        })
    }
}
