//! The network as the driver sees it: everything it does with sockets and names goes through [`Net`], so that the same
//! driver runs over the kernel's sockets ([`Real`]) and over a simulated network.
//!
//! The driver lives on one thread: no future and no socket has to be `Send`.

mod error;
#[cfg(test)]
pub(crate) mod fake;
mod interface;
mod lookup;
mod real;
mod surroundings;
mod upnp;
mod via;

pub use error::{net_error, resolve_error};
pub use interface::Interface;
pub use real::{Real, RealUdp};
pub use surroundings::Surroundings;
pub use via::{Exempt, Proxy, ProxyDown, Relay, Via, ViaUdp};

use fast_peer_core::portmap::{UpnpError, UpnpRequest};
use std::cell::Cell;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A network: streams, datagrams and names.
pub trait Net: Clone + 'static {
    /// A stream of bytes to and from one remote.
    type Stream: Stream;
    /// Where remotes connect to.
    type Listener: Listener<Stream = Self::Stream>;
    /// A socket for datagrams.
    type Udp: Udp;

    /// Opens a stream. The driver sets the time limit and drops the future when it is over.
    fn connect(&self, remote: SocketAddr) -> impl Future<Output = io::Result<Self::Stream>>;

    /// Lets remotes connect to `local`, whose port zero stands for any free one. An IPv6 address takes IPv6 only, so
    /// that both families can have one port. The error of a taken port is
    /// [`AddrInUse`](io::ErrorKind::AddrInUse); that of an address family or address that this host does not have, or
    /// where remotes can't connect at all, is [`AddrNotAvailable`](io::ErrorKind::AddrNotAvailable) or
    /// [`Unsupported`](io::ErrorKind::Unsupported).
    fn listen(&self, local: SocketAddr) -> impl Future<Output = io::Result<Self::Listener>>;

    /// Opens a socket for datagrams on `local`, with the rules and errors of [`listen`](Self::listen).
    fn udp(&self, local: SocketAddr) -> impl Future<Output = io::Result<Self::Udp>>;

    /// Joins a multicast group on every interface that has one of `addrs` (an unspecified one stands for all of its
    /// family), with a socket for each, of which there is at least one; what is sent through it to the group leaves by
    /// that interface. Others on this host can join too.
    fn join(&self, group: SocketAddr, addrs: &[IpAddr]) -> impl Future<Output = io::Result<Vec<Self::Udp>>>;

    /// What there is around this host now. A network that never changes has nothing to tell: that is
    /// [`Unsupported`](io::ErrorKind::Unsupported).
    fn surroundings(&self) -> io::Result<Surroundings> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Asks a router by UPnP, for some seconds at most; tells its address outside, if it says so. Where nothing is known
    /// of routers there is [none](UpnpError::NoRouter). Until `asked` is set nobody was asked to change anything, and
    /// dropping the future leaves nothing behind.
    fn upnp(
        &self,
        _request: UpnpRequest,
        _asked: &Cell<bool>,
    ) -> impl Future<Output = Result<Option<Ipv4Addr>, UpnpError>> {
        std::future::ready(Err(UpnpError::NoRouter))
    }

    /// The addresses of a name, in the order in which to try them; at least one. An error that carries no number of the
    /// operating system means that there is no such name. An address that
    /// [stands for a name](fast_peer_core::address::stands_for_name) means something to this network alone.
    fn resolve(&self, host: &str) -> impl Future<Output = io::Result<Vec<IpAddr>>>;

    /// The network by which the web server `host`, a name or an address, is asked.
    fn for_web(&self, _host: &str) -> Self {
        self.clone()
    }
}

/// A stream of bytes. Writing should be vectored where it can.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + 'static {
    /// The address of this host that it goes over, if that can be told.
    fn local_ip(&self) -> Option<IpAddr> {
        None
    }

    /// Reads what is there into `bufs`, filling each before the next, and says how many bytes it was: zero is the end
    /// of the stream, as long as `bufs` have room. What is provided fills the first buffer only.
    fn poll_read_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        let Some(first) = bufs.iter_mut().find(|buf| !buf.is_empty()) else { return Poll::Ready(Ok(0)) };
        let mut buf = ReadBuf::new(first);
        ready!(self.as_mut().poll_read(cx, &mut buf))?;
        Poll::Ready(Ok(buf.filled().len()))
    }
}

/// Where remotes connect to.
pub trait Listener: 'static {
    /// What a remote that connected becomes.
    type Stream: Stream;

    /// The next remote, and where it comes from. Nothing is lost when the future is dropped.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>>;

    /// The address that it was bound to, with the port that was found.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// A socket for datagrams, most often of one address family. One task uses it.
pub trait Udp: 'static {
    /// Receives one or more runs of datagrams, each run into a buffer of its own, and says how many runs there are;
    /// `meta` describes as many. An error says nothing about the socket: receiving goes on.
    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>>;

    /// Sends one datagram. That nobody listens at `to` is no error.
    fn poll_send(&mut self, cx: &mut Context<'_>, to: SocketAddr, data: &[u8]) -> Poll<io::Result<()>>;

    /// How many datagrams [`poll_send_run`](Self::poll_send_run) can send at once; at least one.
    fn max_run(&self) -> usize {
        1
    }

    /// Sends no more than [`max_run`](Self::max_run) datagrams to one remote: each is `stride` bytes of `data`, but for the
    /// last, which may be shorter.
    fn poll_send_run(
        &mut self,
        cx: &mut Context<'_>,
        to: SocketAddr,
        data: &[u8],
        stride: usize,
    ) -> Poll<io::Result<()>> {
        debug_assert!(data.len() <= stride, "what can't send runs is given none");
        self.poll_send(cx, to, data)
    }

    /// The address that it was bound to, with the port that was found.
    fn local_addr(&self) -> io::Result<SocketAddr>;

    /// Whether datagrams to `to` can be sent by it.
    fn carries(&self, to: SocketAddr) -> bool {
        self.local_addr().is_ok_and(|local| local.is_ipv4() == to.is_ipv4())
    }
}

/// What is known of the datagrams in one buffer.
#[derive(Clone, Copy, Debug)]
pub struct RecvMeta {
    /// Who sent them.
    pub from: SocketAddr,
    /// The bytes of all of them.
    pub len: usize,
    /// How long each is, but for the last, which may be shorter. At least 1.
    pub stride: usize,
}

impl RecvMeta {
    /// Before anything was received.
    pub const UNUSED: Self =
        Self { from: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0), len: 0, stride: 1 };
}
