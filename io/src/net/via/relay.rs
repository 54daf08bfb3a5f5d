//! Datagrams by way of the proxy.

use super::Way;
use super::talk::{self, Done};
use crate::net::{Net, RecvMeta, Udp};
use fast_peer_core::address::canonical;
use fast_peer_core::socks5::{Command, Destination, Relayed};
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::ReadBuf;
use tokio::time::{Instant, Sleep, sleep};
use tracing::{debug, trace, warn};

/// A relay of the proxy, which the proxy keeps up as long as a stream to it is open. When that ends a new one is asked
/// for; meanwhile datagrams are lost, as they may be in any network.
///
/// ```text
///  Opening ─── the proxy did it ───▶ Open ── its stream ended, or our socket failed ──┐
///     ▲   └─ it did not ─▶ Resting ◀──────────────────────────────────────────────────┘
///     └──────── a pause ──────┘
/// ```
pub struct Relay<N: Net> {
    net: N,
    way: Rc<Way>,
    state: State<N>,
    /// Failures in a row.
    failures: usize,
    /// Whether the user was told that this proxy has no relay.
    told: bool,
    /// What came, until it is asked for.
    received: VecDeque<(SocketAddr, Vec<u8>)>,
    /// Where the socket puts what comes.
    buffers: Vec<Box<[u8]>>,
    /// What is being sent.
    sending: Vec<u8>,
}

enum State<N: Net> {
    Open(Box<Open<N>>),
    Opening(Pin<Box<dyn Future<Output = io::Result<Open<N>>>>>),
    Resting(Pin<Box<Sleep>>),
}

struct Open<N: Net> {
    /// The relay is there as long as this is.
    control: N::Stream,
    udp: N::Udp,
    relay: SocketAddr,
    since: Instant,
    /// Errors of the socket since something came.
    errors: u32,
}

impl<N: Net> Relay<N> {
    pub(super) fn new(net: N, way: Rc<Way>) -> Self {
        let state = State::Opening(Box::pin(open(net.clone(), Rc::clone(&way))));
        let buffers = (0..BATCH).map(|_| vec![0; 1 << 16].into()).collect();
        let (received, sending) = (VecDeque::new(), Vec::new());
        Self { net, way, state, failures: 0, told: false, received, buffers, sending }
    }

    /// Sees to it that there is a relay, or that one is asked for in time.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut self.state {
                State::Open(open) => match ready_end(&mut open.control, cx) {
                    Poll::Pending => return Poll::Ready(()),
                    Poll::Ready(why) => {
                        debug!("the proxy's relay is gone: {why}");
                        self.rest();
                    }
                },
                State::Opening(opening) => match ready!(opening.as_mut().poll(cx)) {
                    Ok(open) => self.state = State::Open(Box::new(open)),
                    Err(error) => {
                        debug!("no relay: {error}");
                        if error.kind() == ErrorKind::Unsupported && !self.told {
                            self.told = true;
                            warn!("the proxy relays no datagrams: no DHT and no UDP trackers by way of it");
                        }
                        self.rest();
                    }
                },
                State::Resting(sleep) => {
                    ready!(sleep.as_mut().poll(cx));
                    self.state = State::Opening(Box::pin(open(self.net.clone(), Rc::clone(&self.way))));
                }
            }
        }
    }

    fn rest(&mut self) {
        if matches!(&self.state, State::Open(open) if open.since.elapsed() >= STABLE) {
            self.failures = 0;
        }
        let pause = if self.told { NO_RELAY_PAUSE } else { PAUSES[self.failures.min(PAUSES.len() - 1)] };
        self.failures += 1;
        self.state = State::Resting(Box::pin(sleep(pause)));
    }

    /// Takes what the socket has. Ready when something came that is for us.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..ROUNDS {
            let Self { state: State::Open(open), buffers, received, way, .. } = self else {
                return Poll::Pending;
            };
            let mut slices: Vec<_> = buffers.iter_mut().map(|buffer| IoSliceMut::new(buffer)).collect();
            let mut meta = [RecvMeta::UNUSED; BATCH];
            let runs = match ready!(open.udp.poll_recv(cx, &mut slices, &mut meta)) {
                Ok(runs) => runs,
                Err(error) => {
                    debug!("receiving from the relay: {error}");
                    open.errors += 1;
                    if open.errors >= MAX_ERRORS {
                        // The next socket may do better, and asking this one without a break would help nobody.
                        self.rest();
                        return self.poll_open(cx);
                    }
                    continue;
                }
            };
            open.errors = 0;
            for (meta, buffer) in meta[..runs].iter().zip(&*buffers) {
                if canonical(meta.from) != open.relay {
                    trace!("{} is not the relay", meta.from);
                    continue;
                }
                let datagrams = buffer[..meta.len].chunks(meta.stride);
                received.extend(datagrams.filter_map(|datagram| take_out(way, datagram)));
            }
            if !received.is_empty() {
                return Poll::Ready(());
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Who sent a datagram, and what.
fn take_out(way: &Way, datagram: &[u8]) -> Option<(SocketAddr, Vec<u8>)> {
    match Relayed::parse(datagram) {
        Ok(Relayed { peer: Destination::Addr(from), data }) => Some((canonical(from), data.to_vec())),
        Ok(Relayed { peer: Destination::Name(name, port), data }) => {
            let from = way.names.borrow().known(&name)?;
            Some((SocketAddr::new(from, port), data.to_vec()))
        }
        Err(why) => {
            trace!("from the relay: {why}");
            None
        }
    }
}

/// How the stream that keeps the relay up ended. What comes through it means nothing.
fn ready_end<S: crate::net::Stream>(control: &mut S, cx: &mut Context<'_>) -> Poll<String> {
    let mut buffer = [0; 64];
    for _ in 0..ROUNDS {
        let mut read = ReadBuf::new(&mut buffer);
        match ready!(Pin::new(&mut *control).poll_read(cx, &mut read)) {
            Ok(()) if read.filled().is_empty() => return Poll::Ready(String::from("its stream ended")),
            Ok(()) => {}
            Err(error) => return Poll::Ready(error.to_string()),
        }
    }
    Poll::Ready(String::from("the proxy talks where it should be silent"))
}

async fn open<N: Net>(net: N, way: Rc<Way>) -> io::Result<Open<N>> {
    let Done { stream: control, proxy, bound } = talk::ask(&net, &way, Command::Associate).await?;
    let relay = match bound {
        Destination::Addr(addr) if !addr.ip().is_unspecified() => addr,
        // It is where the proxy is, says RFC 1928 by saying nothing.
        bound => SocketAddr::new(proxy.ip(), bound.port()),
    };
    let relay = canonical(relay);
    let any: IpAddr =
        if relay.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let udp = net.udp(SocketAddr::new(any, 0)).await?;
    debug!("datagrams go by {relay}");
    Ok(Open { control, udp, relay, since: Instant::now(), errors: 0 })
}

impl<N: Net> Udp for Relay<N> {
    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        if self.received.is_empty() {
            ready!(self.poll_open(cx));
            ready!(self.poll_receive(cx));
            if self.received.is_empty() {
                // Another relay was opened meanwhile.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        let mut runs = 0;
        for (buf, meta) in bufs.iter_mut().zip(meta) {
            let Some((from, data)) = self.received.pop_front() else { break };
            let len = data.len().min(buf.len());
            buf[..len].copy_from_slice(&data[..len]);
            *meta = RecvMeta { from, len, stride: len.max(1) };
            runs += 1;
        }
        Poll::Ready(Ok(runs))
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, to: SocketAddr, data: &[u8]) -> Poll<io::Result<()>> {
        if self.poll_open(cx).is_pending() {
            // What is said first of all waits for the first relay; later nobody waits.
            return if self.failures == 0 { Poll::Pending } else { Poll::Ready(Ok(())) };
        }
        let Self { state: State::Open(open), way, sending, .. } = self else { return Poll::Ready(Ok(())) };
        let Some(peer) = way.destination(to) else {
            return Poll::Ready(Err(ErrorKind::HostUnreachable.into()));
        };
        sending.clear();
        Relayed { peer, data }.encode(sending);
        open.udp.poll_send(cx, open.relay, sending)
    }

    /// Where it sends from, the proxy alone knows.
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0))
    }

    fn carries(&self, _: SocketAddr) -> bool {
        true
    }
}

impl<N: Net> fmt::Debug for Relay<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("failures", &self.failures).finish_non_exhaustive()
    }
}

/// Runs of datagrams in one call.
const BATCH: usize = 4;

/// Reads in vain before other tasks have their turn.
const ROUNDS: usize = 8;

/// Errors in a row after which the socket is given up.
const MAX_ERRORS: u32 = 8;

/// How long to wait for the next relay, after each failure in a row.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

/// How long to wait where the proxy said that it has none. Perhaps it is another one by then.
const NO_RELAY_PAUSE: Duration = Duration::from_secs(10 * 60);

/// A relay that stood for so long was a good one.
const STABLE: Duration = Duration::from_secs(30);
