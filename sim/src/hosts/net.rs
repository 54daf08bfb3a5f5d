//! turmoil's network as the driver's [`Net`].
//!
//! turmoil moves each write whole, so that a reader finds the bounds of the writer's messages, which no real network
//! shows. Here every read and every write is cut at a length drawn from the seed.

use fast_peer_core::rng::Rng;
use fast_peer_io::net::{Listener, Net, RecvMeta, Stream, Udp};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tracing::trace;
use turmoil::net::{TcpListener, TcpStream, UdpSocket};

/// The names that all hosts of a world can look up.
pub(super) type Names = Rc<RefCell<BTreeMap<String, IpAddr>>>;

/// The network as one host sees it. The host has one address, and so one address family.
#[derive(Clone, Debug)]
pub struct SimNet(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    ip: IpAddr,
    names: Names,
    rng: Rng,
    streams: Cell<u64>,
    /// Whom it has sent anything, and which names it has looked up.
    sought: RefCell<Sought>,
}

/// Whom a host has sent anything, and which names it has looked up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sought {
    /// By streams and datagrams.
    pub addresses: BTreeSet<IpAddr>,
    /// Whether they are there or not.
    pub names: BTreeSet<String>,
}

impl SimNet {
    pub(super) fn new(ip: IpAddr, names: Names, rng: Rng) -> Self {
        Self(Rc::new(Shared { ip, names, rng, streams: Cell::new(0), sought: RefCell::default() }))
    }

    pub(super) fn ip(&self) -> IpAddr {
        self.0.ip
    }

    /// Whom it has sought so far.
    pub(super) fn sought(&self) -> Sought {
        self.0.sought.borrow().clone()
    }

    fn seek(&self, to: SocketAddr) {
        self.0.sought.borrow_mut().addresses.insert(to.ip());
    }

    fn has_family_of(&self, addr: SocketAddr) -> bool {
        self.0.ip.is_ipv4() == addr.is_ipv4()
    }

    fn stream(&self, inner: TcpStream, remote: SocketAddr) -> SimStream {
        let number = self.0.streams.get();
        self.0.streams.set(number + 1);
        let mut rng = self.0.rng.fork_nth("stream", number);
        let (next_read, next_write) = (cut(&mut rng), cut(&mut rng));
        SimStream { inner, remote, rng, next_read, next_write }
    }
}

impl Net for SimNet {
    type Stream = SimStream;
    type Listener = SimListener;
    type Udp = SimUdp;

    async fn connect(&self, remote: SocketAddr) -> io::Result<SimStream> {
        if !self.has_family_of(remote) {
            return Err(ErrorKind::NetworkUnreachable.into());
        }
        trace!("connect {remote}");
        self.seek(remote);
        let connected = TcpStream::connect(remote).await;
        trace!("connect {remote}: {}", if connected.is_ok() { "open" } else { "failed" });
        Ok(self.stream(connected?, remote))
    }

    async fn listen(&self, local: SocketAddr) -> io::Result<SimListener> {
        if !self.has_family_of(local) {
            return Err(ErrorKind::AddrNotAvailable.into());
        }
        let inner = TcpListener::bind(local).await?;
        Ok(SimListener { inner, net: self.clone() })
    }

    async fn udp(&self, local: SocketAddr) -> io::Result<SimUdp> {
        if !self.has_family_of(local) {
            return Err(ErrorKind::AddrNotAvailable.into());
        }
        Ok(SimUdp { net: self.clone(), socket: Rc::new(UdpSocket::bind(local).await?), readable: None })
    }

    async fn join(&self, group: SocketAddr, addrs: &[IpAddr]) -> io::Result<Vec<SimUdp>> {
        let is_bound = addrs.iter().any(|addr| addr.is_ipv6() == group.is_ipv6());
        if !is_bound || !self.has_family_of(group) {
            return Err(ErrorKind::AddrNotAvailable.into());
        }
        let socket = match group.ip() {
            IpAddr::V4(ip) => {
                let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, group.port())).await?;
                socket.join_multicast_v4(ip, Ipv4Addr::UNSPECIFIED)?;
                socket
            }
            IpAddr::V6(ip) => {
                let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, group.port())).await?;
                socket.join_multicast_v6(&ip, 0)?;
                socket
            }
        };
        Ok(vec![SimUdp { net: self.clone(), socket: Rc::new(socket), readable: None }])
    }

    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        self.0.sought.borrow_mut().names.insert(host.to_owned());
        let found = self.0.names.borrow().get(host).copied();
        found.map(|ip| vec![ip]).ok_or_else(|| ErrorKind::NotFound.into())
    }
}

/// A stream that reads and writes as little at a time as it likes.
#[derive(Debug)]
pub struct SimStream {
    inner: TcpStream,
    remote: SocketAddr,
    rng: Rng,
    /// The most that the next read brings.
    next_read: usize,
    /// The most that the next write takes.
    next_write: usize,
}

impl SimStream {
    fn has_read(&mut self, count: usize) -> usize {
        trace!("{} read {count}", self.remote);
        self.next_read = cut(&mut self.rng);
        count
    }
}

impl AsyncRead for SimStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let len = buf.remaining().min(this.next_read);
        if len == 0 {
            return Poll::Ready(Ok(()));
        }
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(len));
        ready!(Pin::new(&mut this.inner).poll_read(cx, &mut part))?;
        let count = part.filled().len();
        buf.advance(this.has_read(count));
        Poll::Ready(Ok(()))
    }
}

impl Stream for SimStream {
    fn poll_read_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let mut count = 0;
        for slice in bufs {
            let mut rest = &mut slice[..];
            while !rest.is_empty() && count < this.next_read {
                let len = rest.len().min(this.next_read - count);
                let mut part = ReadBuf::new(&mut rest[..len]);
                let found = match Pin::new(&mut this.inner).poll_read(cx, &mut part) {
                    Poll::Ready(Ok(())) => part.filled().len(),
                    // What ends this read shows itself again at the next.
                    Poll::Pending | Poll::Ready(Err(_)) if count > 0 => 0,
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                };
                if found == 0 {
                    return Poll::Ready(Ok(this.has_read(count)));
                }
                count += found;
                rest = &mut rest[found..];
            }
        }
        Poll::Ready(Ok(this.has_read(count)))
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let len = buf.len().min(this.next_write);
        let count = ready!(Pin::new(&mut this.inner).poll_write(cx, &buf[..len]))?;
        trace!("{} wrote {count}", this.remote);
        this.next_write = cut(&mut this.rng);
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter()).copied().take(self.next_write).collect();
        self.poll_write(cx, &bytes)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Where other hosts connect to.
pub struct SimListener {
    inner: TcpListener,
    net: SimNet,
}

impl Listener for SimListener {
    type Stream = SimStream;

    async fn accept(&self) -> io::Result<(SimStream, SocketAddr)> {
        let (inner, remote) = self.inner.accept().await?;
        trace!("accepted {remote}");
        Ok((self.net.stream(inner, remote), remote))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

impl fmt::Debug for SimListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimListener").finish_non_exhaustive()
    }
}

/// A socket for datagrams.
pub struct SimUdp {
    net: SimNet,
    socket: Rc<UdpSocket>,
    /// turmoil has no way to ask once whether something is there: this is kept from poll to poll.
    readable: Option<Pin<Box<dyn Future<Output = io::Result<()>>>>>,
}

impl Udp for SimUdp {
    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let Self { socket, readable, .. } = self;
        loop {
            let waiting = readable.get_or_insert_with(|| {
                let socket = Rc::clone(socket);
                Box::pin(async move { socket.readable().await })
            });
            let result = ready!(waiting.as_mut().poll(cx));
            *readable = None;
            result?;
            let mut runs = 0;
            for (buf, meta) in bufs.iter_mut().zip(&mut *meta) {
                match socket.try_recv_from(buf) {
                    Ok((len, from)) => {
                        trace!("datagram from {from} len={len}");
                        *meta = RecvMeta { from, len, stride: len.max(1) };
                        runs += 1;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            if runs > 0 {
                return Poll::Ready(Ok(runs));
            }
        }
    }

    fn poll_send(&mut self, _: &mut Context<'_>, to: SocketAddr, data: &[u8]) -> Poll<io::Result<()>> {
        trace!("datagram to {to} len={}", data.len());
        self.net.seek(to);
        Poll::Ready(match self.socket.try_send_to(data, to) {
            // Whoever sends a datagram over a real network does not learn that no host is there.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
            result => result.map(drop),
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

impl fmt::Debug for SimUdp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimUdp").field("socket", &self.socket).finish_non_exhaustive()
    }
}

/// How long a read or write may be: often shorter than the head of a message, sometimes longer than a block.
fn cut(rng: &mut Rng) -> usize {
    let max = match rng.below(4) {
        0 => 20,
        1 => 2_000,
        _ => 64 << 10,
    };
    1 + rng.below(max) as usize
}

#[cfg(test)]
mod tests {
    use super::SimNet;
    use crate::hosts::{Family, run};
    use fast_peer_io::net::{Listener as _, Net as _, Stream as _, Udp as _};
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::io::{ErrorKind, IoSlice, IoSliceMut};
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
    use std::pin::Pin;
    use std::rc::Rc;
    use std::time::Duration;
    use tokio::io::{AsyncWrite as _, AsyncWriteExt as _};

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 1000);

    fn content() -> Vec<u8> {
        (0..500_000_u32).map(|i| (i * 7 % 251) as u8).collect()
    }

    async fn receive(net: SimNet, right: Rc<Cell<bool>>) -> turmoil::Result {
        let (mut stream, _) = net.listen(ANY).await?.accept().await?;
        let mut heard: Vec<u8> = vec![];
        let mut reads = 0;
        loop {
            let (mut a, mut b) = ([0; 300], vec![0; 50_000]);
            let mut bufs = [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)];
            let count = poll_fn(|cx| Pin::new(&mut stream).poll_read_vectored(cx, &mut bufs)).await?;
            if count == 0 {
                break;
            }
            heard.extend_from_slice(&[&a[..], &b[..]].concat()[..count]);
            reads += 1;
        }
        right.set(heard == content() && reads > 10);
        Ok(())
    }

    async fn send(net: SimNet, to: SocketAddr) -> turmoil::Result {
        let mut stream = net.connect(to).await?;
        let content = content();
        let mut rest = &content[..];
        while !rest.is_empty() {
            let (a, b) = rest.split_at(rest.len() / 2);
            let bufs = [IoSlice::new(a), IoSlice::new(b)];
            let count = poll_fn(|cx| Pin::new(&mut stream).poll_write_vectored(cx, &bufs)).await?;
            rest = &rest[count..];
        }
        stream.shutdown().await?;
        // A stream that is dropped with its end unread would reset what is on its way.
        std::future::pending().await
    }

    #[test]
    fn streams_keep_their_bytes_however_they_are_cut() {
        let right = Rc::new(Cell::new(false));
        run(1, Family::V4, |world| {
            let heard = Rc::clone(&right);
            let to =
                SocketAddr::new(world.host("receiver", move |net| receive(net, Rc::clone(&heard))), 1000);
            world.host("sender", move |net| send(net, to));
            world.until("everything arrives", Duration::from_secs(10), || right.get());
        });
    }

    #[test]
    fn what_a_host_cannot_reach_is_no_surprise() {
        let done = Rc::new(Cell::new(false));
        run(1, Family::V4, |world| {
            let end = Rc::clone(&done);
            world.host("host", move |net| {
                let end = Rc::clone(&end);
                async move {
                    let v6: SocketAddr = (Ipv6Addr::LOCALHOST, 1).into();
                    assert_eq!(net.connect(v6).await.unwrap_err().kind(), ErrorKind::NetworkUnreachable);
                    assert_eq!(net.listen(v6).await.unwrap_err().kind(), ErrorKind::AddrNotAvailable);
                    assert_eq!(net.udp(v6).await.unwrap_err().kind(), ErrorKind::AddrNotAvailable);
                    assert_eq!(net.resolve("nobody").await.unwrap_err().kind(), ErrorKind::NotFound);
                    let mut udp = net.udp(ANY).await?;
                    let nobody = "20.0.200.1:1".parse()?;
                    poll_fn(|cx| udp.poll_send(cx, nobody, b"lost")).await?;
                    end.set(true);
                    Ok(())
                }
            });
            world.until("all is asked", Duration::from_secs(1), || done.get());
        });
        assert!(done.get());
    }
}
