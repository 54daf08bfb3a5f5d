//! Letting remotes in.

use super::hub::Hub;
use crate::disk::Disk;
use crate::net::{Listener as _, Net, Udp as _};
use fast_peer_core::dht::message::Family;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::time::Duration;
use tracing::debug;

/// Sockets that share a port, for streams and datagrams.
pub struct Sockets<N: Net> {
    pub(super) port: u16,
    /// Whether remotes can connect, by streams or by datagrams.
    pub(super) lets_in: bool,
    pub(super) listeners: Vec<N::Listener>,
    pub(super) udp: Vec<N::Udp>,
}

impl<N: Net> Sockets<N> {
    /// Listens for datagrams on all of `addrs`, and for streams if `streams`, on the first port that is free everywhere.
    /// Addresses of a family that this host does not have are left out, as long as one is left.
    pub async fn open(
        net: &N,
        addrs: &[IpAddr],
        ports: RangeInclusive<u16>,
        streams: bool,
    ) -> io::Result<Self> {
        let mut last = io::Error::from(ErrorKind::InvalidInput);
        for port in ports {
            // The system's choice for one socket can be taken for the next.
            for _ in 0..if port == 0 { FREE_PORT_TRIES } else { 1 } {
                match Self::open_on(net, addrs, port, streams).await {
                    Err(error) if error.kind() == ErrorKind::AddrInUse => last = error,
                    result => return result,
                }
            }
        }
        Err(last)
    }

    /// The addresses that they are bound to.
    pub fn addrs(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.udp.iter().filter_map(|udp| Some(udp.local_addr().ok()?.ip()))
    }

    /// Whether datagrams to the nodes of a family can be sent.
    pub fn carry(&self, family: Family) -> bool {
        let any: IpAddr = match family {
            Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
        };
        self.udp.iter().any(|udp| udp.carries(SocketAddr::new(any, 0)))
    }

    async fn open_on(net: &N, addrs: &[IpAddr], port: u16, streams: bool) -> io::Result<Self> {
        let mut sockets = Self { port, lets_in: false, listeners: vec![], udp: vec![] };
        let mut absent = None;
        for addr in addrs {
            let listener = if streams {
                match net.listen(SocketAddr::new(*addr, sockets.port)).await {
                    Ok(listener) => {
                        sockets.port = listener.local_addr()?.port();
                        Some(listener)
                    }
                    Err(error) if is_absent(&error) => {
                        debug!("not listening on {addr}: {error}");
                        None
                    }
                    Err(error) => return Err(error),
                }
            } else {
                None
            };
            match net.udp(SocketAddr::new(*addr, sockets.port)).await {
                Ok(udp) => {
                    let bound = udp.local_addr()?.port();
                    sockets.lets_in |= if streams { listener.is_some() } else { bound != 0 };
                    sockets.port = if streams { sockets.port } else { bound };
                    sockets.udp.push(udp);
                    sockets.listeners.extend(listener);
                }
                // Where nobody can connect to us datagrams may come and go all the same.
                Err(error) if listener.is_none() && is_absent(&error) => absent = Some(error),
                Err(error) => return Err(error),
            }
        }
        match absent {
            Some(error) if sockets.udp.is_empty() => Err(error),
            _ => Ok(sockets),
        }
    }
}

impl<N: Net> fmt::Debug for Sockets<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sockets").field("port", &self.port).finish_non_exhaustive()
    }
}

/// Opens the port anew on those of `addrs` where it is not open, or on all of them in place of the sockets before. Tells
/// whether it is open on each address then; a family that the host does not have is not waited for.
pub(super) async fn reopen<N: Net, D: Disk>(
    hub: &Rc<Hub<N, D>>,
    addrs: &[IpAddr],
    all: bool,
) -> io::Result<bool> {
    let is_open = |ip: &IpAddr| {
        let bound = hub.bound.borrow();
        bound.iter().any(|it| it == ip || ip.is_unspecified() && it.is_ipv4() == ip.is_ipv4())
    };
    let missing: Vec<IpAddr> = addrs.iter().copied().filter(|ip| all || !is_open(ip)).collect();
    if missing.is_empty() {
        return Ok(true);
    }
    let (port, streams) = (hub.port.get(), hub.state().session.transports().tcp);
    let sockets = Sockets::open(&hub.net, &missing, port..=port, streams).await?;
    debug!("open again on {:?}", sockets.addrs().collect::<Vec<_>>());
    hub.take_sockets(sockets, all);
    Ok(addrs.iter().all(|ip| ip.is_unspecified() || is_open(ip)))
}

/// Whether the host has no such address, or lets nobody in.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::AddrNotAvailable | ErrorKind::Unsupported)
}

/// Lets remotes in for ever.
pub(super) async fn accept<N: Net, D: Disk>(hub: Rc<Hub<N, D>>, listener: N::Listener) {
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => hub.incoming(remote, stream),
            Err(error) => {
                // Most often the process or the host has no descriptor left, and the remote still waits: asking again
                // at once would not help. Else it is a remote that went away, and the wait costs nothing.
                debug!("accepting: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const FREE_PORT_TRIES: usize = 16;
