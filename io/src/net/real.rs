//! The kernel's sockets and names.

use super::interface::Interface;
use super::lookup::{Lookup, NoNameServer};
use super::{Listener, Net, RecvMeta, Stream, Surroundings, Udp, surroundings, upnp};
use fast_peer_core::dht::message::Family;
use fast_peer_core::portmap::{UpnpError, UpnpRequest};
use quinn_udp::{Transmit, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead as _, Interest, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tracing::debug;

/// The network of this host, or one interface of it, or one address family.
#[derive(Clone, Debug, Default)]
pub struct Real {
    on: Option<Rc<On>>,
    family: Option<Family>,
}

#[derive(Debug)]
struct On {
    interface: Interface,
    /// Made when a name is looked up, and anew when no name server answered.
    lookup: RefCell<Option<Lookup>>,
}

impl Real {
    /// The network that is reached by one interface alone, names of hosts included.
    pub fn on(interface: Interface) -> Self {
        Self { on: Some(Rc::new(On { interface, lookup: RefCell::default() })), family: None }
    }

    /// The network as far as it is reached by one address family.
    pub fn of(family: Family) -> Self {
        Self { on: None, family: Some(family) }
    }

    fn has(&self, ip: IpAddr) -> bool {
        self.family.is_none_or(|family| family == Family::of(ip))
    }

    fn socket(&self, local: SocketAddr, kind: Kind) -> io::Result<Socket> {
        if !self.has(local.ip()) {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        match &self.on {
            Some(on) => on.interface.socket(local, kind),
            None => {
                let socket = kind.socket(local)?;
                kind.bind(&socket, local)?;
                Ok(socket)
            }
        }
    }
}

impl On {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let known = self.lookup.borrow().clone();
        let lookup = match known {
            Some(lookup) => lookup,
            None => Lookup::new(self.interface.clone())?,
        };
        let found = lookup.resolve(host).await;
        // Another network has other name servers.
        let is_of_use = !found.as_ref().is_err_and(NoNameServer::is_in);
        self.lookup.replace(is_of_use.then_some(lookup));
        found
    }
}

impl Net for Real {
    type Stream = TcpStream;
    type Listener = TcpListener;
    type Udp = RealUdp;

    async fn connect(&self, remote: SocketAddr) -> io::Result<TcpStream> {
        let stream = match &self.on {
            None if self.family.is_none() => TcpStream::connect(remote).await?,
            _ => tcp_socket(self.socket(any(remote), Kind::Dialling)?).connect(remote).await?,
        };
        // Else one on which only the other end speaks, such as that of a proxy's relay, never ends when the way to it does.
        SockRef::from(&stream).set_tcp_keepalive(&KEEPALIVE)?;
        // Requests are small and others wait for them.
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn listen(&self, local: SocketAddr) -> io::Result<TcpListener> {
        let socket = self.socket(local, Kind::Listening)?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    }

    async fn udp(&self, local: SocketAddr) -> io::Result<RealUdp> {
        RealUdp::new(self.socket(local, Kind::Datagrams)?)
    }

    async fn join(&self, group: SocketAddr, addrs: &[IpAddr]) -> io::Result<Vec<RealUdp>> {
        let (mut sockets, mut last) = (vec![], io::Error::from(io::ErrorKind::AddrNotAvailable));
        let only = self.on.as_ref().map(|on| on.interface.name());
        for (index, addr) in interfaces(group.is_ipv6(), addrs, only)? {
            match joined(group, index, addr).and_then(RealUdp::new) {
                Ok(socket) => sockets.push(socket),
                Err(error) => {
                    debug!("not in group {group} on the interface of {addr}: {error}");
                    last = error;
                }
            }
        }
        if sockets.is_empty() { Err(last) } else { Ok(sockets) }
    }

    fn surroundings(&self) -> io::Result<Surroundings> {
        surroundings::look(self.on.as_ref().map(|on| &on.interface))
    }

    async fn upnp(&self, request: UpnpRequest, asked: &Cell<bool>) -> Result<Option<Ipv4Addr>, UpnpError> {
        if self.on.is_some() {
            // What speaks it chooses its own way to the router.
            return Err(UpnpError::Refused("it can't be kept on one interface".into()));
        }
        upnp::ask(request, asked).await
    }

    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        if let Some(on) = &self.on {
            return on.resolve(host).await;
        }
        let found = tokio::net::lookup_host((host, 0)).await?.map(|addr| addr.ip());
        let addrs: Vec<_> = found.filter(|ip| self.has(*ip)).collect();
        if addrs.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(addrs) }
    }
}

/// A socket for datagrams. It asks the kernel for several at once, and for runs of equal ones from one sender in one
/// buffer, where the kernel can do so.
#[derive(Debug)]
pub struct RealUdp {
    socket: UdpSocket,
    local: SocketAddr,
    state: UdpSocketState,
    meta: Vec<quinn_udp::RecvMeta>,
}

impl RealUdp {
    fn new(socket: Socket) -> io::Result<Self> {
        let socket = UdpSocket::from_std(socket.into())?;
        let local = socket.local_addr()?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        // What the system allows: a stream fills the default within a millisecond.
        let _ = state.set_recv_buffer_size(UdpSockRef::from(&socket), SOCKET_BUFFER);
        let _ = state.set_send_buffer_size(UdpSockRef::from(&socket), SOCKET_BUFFER);
        Ok(Self { socket, local, state, meta: Vec::new() })
    }
}

impl Stream for TcpStream {
    fn local_ip(&self) -> Option<IpAddr> {
        self.local_addr().ok().map(|addr| addr.ip().to_canonical())
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [only] = bufs {
            let mut buf = ReadBuf::new(only);
            ready!(self.poll_read(cx, &mut buf))?;
            return Poll::Ready(Ok(buf.filled().len()));
        }
        loop {
            ready!(self.poll_read_ready(cx))?;
            match try_read(&self, bufs) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, remote) = TcpListener::accept(self).await?;
        stream.set_nodelay(true)?;
        Ok((stream, remote))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        TcpListener::local_addr(self)
    }
}

impl Udp for RealUdp {
    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.meta.resize_with(bufs.len().min(meta.len()), Default::default);
        loop {
            ready!(self.socket.poll_recv_ready(cx))?;
            let found = self.socket.try_io(Interest::READABLE, || {
                self.state.recv(UdpSockRef::from(&self.socket), bufs, &mut self.meta)
            });
            match found {
                Ok(count) => {
                    for (to, from) in meta.iter_mut().zip(&self.meta[..count]) {
                        *to = RecvMeta { from: from.addr, len: from.len, stride: from.stride.max(1) };
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, to: SocketAddr, data: &[u8]) -> Poll<io::Result<()>> {
        self.poll_send_run(cx, to, data, data.len())
    }

    fn max_run(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn poll_send_run(
        &mut self,
        cx: &mut Context<'_>,
        to: SocketAddr,
        data: &[u8],
        stride: usize,
    ) -> Poll<io::Result<()>> {
        let segment_size = (stride < data.len()).then_some(stride);
        let transmit = Transmit { destination: to, ecn: None, contents: data, segment_size, src_ip: None };
        loop {
            ready!(self.socket.poll_send_ready(cx))?;
            let sent = self.socket.try_io(Interest::WRITABLE, || {
                self.state.try_send(UdpSockRef::from(&self.socket), &transmit)
            });
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    // It is asked for with each datagram, and stays as it is.
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }
}

/// What a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Datagrams,
    Dialling,
    Listening,
}

impl Kind {
    /// A socket of the family of `local`.
    pub(super) fn socket(self, local: SocketAddr) -> io::Result<Socket> {
        let (kind, protocol) = match self {
            Self::Datagrams => (Type::DGRAM, Protocol::UDP),
            Self::Dialling | Self::Listening => (Type::STREAM, Protocol::TCP),
        };
        let socket = Socket::new(Domain::for_address(local), kind, Some(protocol))?;
        socket.set_nonblocking(true)?;
        if local.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // Elsewhere it would let another program take the port.
        #[cfg(unix)]
        if self == Self::Listening {
            socket.set_reuse_address(true)?;
        }
        Ok(socket)
    }

    pub(super) fn bind(self, socket: &Socket, local: SocketAddr) -> io::Result<()> {
        // Whoever dials from anywhere leaves the port to the kernel, which can use one for several remotes.
        if self == Self::Dialling && local.ip().is_unspecified() {
            Ok(())
        } else {
            socket.bind(&local.into())
        }
    }
}

/// Any address of the family of `addr`, and any port.
pub(super) fn any(addr: SocketAddr) -> SocketAddr {
    let ip: IpAddr = if addr.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    SocketAddr::new(ip, 0)
}

/// A bound socket that is to be connected.
pub(super) fn tcp_socket(socket: Socket) -> TcpSocket {
    TcpSocket::from_std_stream(socket.into())
}

/// Whether somebody else can be reached at or from this address.
pub(super) fn leads_out(found: &if_addrs::Interface) -> bool {
    !found.is_loopback() && !found.is_link_local()
}

/// An address of each interface that leads to others and has one of `addrs`, by the number of the interface. Link-local
/// addresses don't count: nobody could be dialled at one that a call comes from, since it does not say by which interface.
fn interfaces(is_ipv6: bool, addrs: &[IpAddr], only: Option<&str>) -> io::Result<BTreeMap<u32, IpAddr>> {
    let found = if_addrs::get_if_addrs()?.into_iter();
    let found = found.filter(|found| only.is_none_or(|only| found.name == only));
    let usable = found
        .filter(|found| leads_out(found) && found.ip().is_ipv6() == is_ipv6 && is_among(found.ip(), addrs));
    Ok(usable.filter_map(|found| Some((found.index?, found.ip()))).collect())
}

/// Whether an address is one of `addrs`, where an unspecified one stands for all of its family.
fn is_among(addr: IpAddr, addrs: &[IpAddr]) -> bool {
    addrs.iter().any(|bound| *bound == addr || bound.is_unspecified() && bound.is_ipv6() == addr.is_ipv6())
}

/// A socket in a group, on one interface.
fn joined(group: SocketAddr, index: u32, addr: IpAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(group), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    // There it takes this for two programs to hear the same group.
    #[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
    socket.set_reuse_port(true)?;
    match (group.ip(), addr) {
        (IpAddr::V4(group), IpAddr::V4(addr)) => {
            // Else it would also hear what the sockets on other interfaces joined for.
            #[cfg(any(target_os = "linux", target_os = "android"))]
            socket.set_multicast_all_v4(false)?;
            socket.join_multicast_v4(&group, &addr)?;
            socket.set_multicast_if_v4(&addr)?;
        }
        (IpAddr::V6(group), _) => {
            socket.set_only_v6(true)?;
            #[cfg(any(target_os = "linux", target_os = "android"))]
            socket.set_multicast_all_v6(false)?;
            socket.join_multicast_v6(&group, index)?;
            socket.set_multicast_if_v6(index)?;
        }
        (IpAddr::V4(_), IpAddr::V6(_)) => return Err(io::ErrorKind::InvalidInput.into()),
    }
    socket.bind(&listening_at(group).into())?;
    Ok(socket)
}

/// Where to bind for what is sent to a group: at the group itself, so that nobody reaches the socket by an address of
/// this host. Elsewhere than on Linux that does not work, or the group would be the sender of what is sent.
fn listening_at(group: SocketAddr) -> SocketAddr {
    if cfg!(any(target_os = "linux", target_os = "android")) {
        return group;
    }
    let any = match group.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    SocketAddr::new(any, group.port())
}

/// One vectored read. After a short one the socket is empty, and tokio is told so: that saves the read which would only
/// find that out.
#[cfg(unix)]
fn try_read(stream: &TcpStream, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
    let room: usize = bufs.iter().map(|buf| buf.len()).sum();
    let mut found = None;
    let tried = stream.try_io(Interest::READABLE, || {
        let count = rustix::io::readv(stream, bufs)?;
        found = Some(count);
        if 0 < count && count < room { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(count) }
    });
    found.map_or(tried, Ok)
}

/// One vectored read.
#[cfg(not(unix))]
fn try_read(stream: &TcpStream, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
    stream.try_read_vectored(bufs)
}

const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));

/// Bytes of datagrams that may wait in the kernel, each way.
const SOCKET_BUFFER: usize = 4 << 20;

/// Remotes that may wait to be accepted.
const BACKLOG: i32 = 1024;

#[cfg(test)]
mod tests {
    use super::{Family, Net as _, Real, RecvMeta, Stream as _, Udp as _};
    use std::future::poll_fn;
    use std::io::IoSliceMut;
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
    use std::pin::Pin;
    use tokio::io::AsyncWriteExt as _;

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    #[tokio::test]
    async fn a_read_scatters_and_the_end_is_zero() {
        let listener = Real::default().listen(ANY).await.unwrap();
        let remote = super::Listener::local_addr(&listener).unwrap();
        let net = Real::default();
        let (dialled, accepted) = tokio::join!(net.connect(remote), super::Listener::accept(&listener));
        let (mut dialled, (mut accepted, from)) = (dialled.unwrap(), accepted.unwrap());
        assert_eq!(from, dialled.local_addr().unwrap());

        dialled.write_all(b"abcdefg").await.unwrap();
        let (mut a, mut b) = ([0; 3], [0; 8]);
        let mut bufs = [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)];
        let count = poll_fn(|cx| Pin::new(&mut accepted).poll_read_vectored(cx, &mut bufs)).await.unwrap();
        assert_eq!((count, &a, &b[..4]), (7, b"abc", b"defg".as_slice()));

        drop(dialled);
        let mut bufs = [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)];
        let count = poll_fn(|cx| Pin::new(&mut accepted).poll_read_vectored(cx, &mut bufs)).await.unwrap();
        assert_eq!(count, 0);
    }

    #[test]
    fn a_bound_address_stands_for_its_interface() {
        let [near, far, six] = ["192.0.2.1", "198.51.100.1", "2001:db8::1"].map(|ip| ip.parse().unwrap());
        let (any4, any6) = (Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into());
        for (addrs, among) in [
            (&[][..], [false, false, false]),
            (&[near], [true, false, false]),
            (&[any4], [true, true, false]),
            (&[any6], [false, false, true]),
            (&[near, any6], [true, false, true]),
        ] {
            assert_eq!([near, far, six].map(|addr| super::is_among(addr, addrs)), among, "{addrs:?}");
        }
    }

    #[tokio::test]
    async fn a_group_is_joined_where_an_address_is_bound() {
        let group = ([239, 192, 152, 143], 0).into();
        // Nobody is reached by loopback alone.
        let refused = Real::default().join(group, &[Ipv4Addr::LOCALHOST.into()]).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::AddrNotAvailable);
    }

    #[tokio::test]
    async fn of_one_family_the_other_is_left_alone() {
        let net = Real::of(Family::V4);
        let unavailable = std::io::ErrorKind::AddrNotAvailable;
        assert_eq!(net.listen((Ipv6Addr::LOCALHOST, 0).into()).await.unwrap_err().kind(), unavailable);
        assert_eq!(net.udp((Ipv6Addr::UNSPECIFIED, 0).into()).await.unwrap_err().kind(), unavailable);
        assert_eq!(net.connect((Ipv6Addr::LOCALHOST, 9).into()).await.unwrap_err().kind(), unavailable);
        let listener = net.listen(ANY).await.unwrap();
        net.connect(super::Listener::local_addr(&listener).unwrap()).await.unwrap();
        assert!(net.resolve("localhost").await.unwrap().iter().all(std::net::IpAddr::is_ipv4));
    }

    #[tokio::test]
    async fn both_families_share_a_port() {
        let v4 = Real::default().listen((Ipv4Addr::UNSPECIFIED, 0).into()).await.unwrap();
        let port = super::Listener::local_addr(&v4).unwrap().port();
        let v6 = Real::default().listen((Ipv6Addr::UNSPECIFIED, port).into()).await.unwrap();
        assert_eq!(super::Listener::local_addr(&v6).unwrap().port(), port);
        let taken = Real::default().listen((Ipv4Addr::UNSPECIFIED, port).into()).await.unwrap_err();
        assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse);
    }

    #[tokio::test]
    async fn datagrams_keep_their_bounds() {
        let (mut a, mut b) =
            (Real::default().udp(ANY).await.unwrap(), Real::default().udp(ANY).await.unwrap());
        let (from, to) = (a.local_addr().unwrap(), b.local_addr().unwrap());
        let mut sent: Vec<Vec<u8>> = (1..=5).map(|i| vec![i; 100 * usize::from(i)]).collect();
        for data in &sent {
            poll_fn(|cx| a.poll_send(cx, to, data)).await.unwrap();
        }
        let run: Vec<_> = (0..a.max_run()).flat_map(|i| vec![i as u8; 700]).chain([9; 77]).collect();
        let run = &run[run.len() - (a.max_run() - 1) * 700 - 77..];
        poll_fn(|cx| a.poll_send_run(cx, to, run, 700)).await.unwrap();
        sent.extend(run.chunks(700).map(<[u8]>::to_vec));
        let mut heard = vec![];
        while heard.len() < sent.len() {
            let mut buffers = vec![vec![0; 1 << 16]; 4];
            let mut bufs: Vec<_> = buffers.iter_mut().map(|buf| IoSliceMut::new(buf)).collect();
            let mut meta = [RecvMeta::UNUSED; 4];
            let runs = poll_fn(|cx| b.poll_recv(cx, &mut bufs, &mut meta)).await.unwrap();
            for (meta, buf) in meta[..runs].iter().zip(&buffers) {
                assert_eq!(meta.from, from);
                heard.extend(buf[..meta.len].chunks(meta.stride).map(<[u8]>::to_vec));
            }
        }
        assert_eq!(heard, sent);
    }
}
