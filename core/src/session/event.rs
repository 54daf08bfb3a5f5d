//! What a driver tells the session.

use crate::dht::Saved;
use crate::id::{ConnId, JobId, LookupId, TorrentId};
use crate::ip_filter::IpFilter;
use crate::portmap::{Router, UpnpError};
use crate::store::op::{DiskError, DiskOutput};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};

/// A fact. None of them can fail: what a remote did wrong comes back as [`Action::Disconnect`](super::Action).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The user names peers of a torrent.
    AddPeers {
        /// The torrent.
        torrent: TorrentId,
        /// Their addresses.
        peers: Vec<SocketAddr>,
    },
    /// The results of a lookup are no longer wanted; nothing more is said about it.
    CancelLookup {
        /// Which.
        lookup: LookupId,
    },
    /// The remote closed a connection, or it broke.
    Closed {
        /// The connection; it is gone.
        conn: ConnId,
        /// How it broke; nothing if the remote closed it in order.
        error: Option<NetError>,
    },
    /// A connection could not be opened.
    ConnectFailed {
        /// The connection; it is gone.
        conn: ConnId,
        /// Why.
        error: NetError,
    },
    /// A connection that the session asked for is open.
    Connected {
        /// The connection.
        conn: ConnId,
    },
    /// A datagram arrived on the session's UDP port.
    Datagram {
        /// Who sent it, if the address is not forged.
        from: SocketAddr,
        /// Its bytes.
        data: Bytes,
    },
    /// A disk operation ended.
    DiskDone {
        /// Which.
        job: JobId,
        /// How.
        result: Result<DiskOutput, DiskError>,
    },
    /// A web request ended.
    HttpDone {
        /// Which.
        job: JobId,
        /// How.
        result: Result<HttpAnswer, HttpError>,
    },
    /// There may be nodes of the DHT at these addresses.
    LearnNodes {
        /// Where.
        nodes: Vec<SocketAddr>,
    },
    /// Peers can reach the session on this port. Before that, zero is announced.
    Listening {
        /// The port, TCP and UDP alike.
        port: u16,
    },
    /// A datagram came to one of the groups that [`Action::Multicast`](super::Action::Multicast) goes to.
    Multicast {
        /// Who sent it, if the address is not forged.
        from: SocketAddr,
        /// Its bytes.
        data: Bytes,
    },
    /// Which addresses this host has, and how its datagrams leave the local network: said at the start, and again when
    /// either has changed. Connections over an address that is gone have ended: their `Closed` comes before.
    NetworkChanged {
        /// The addresses of interfaces that work, but for loopback and link-local ones; in order, each once.
        addresses: Vec<IpAddr>,
        /// The router whose ports may be mapped; nothing if there is none, or if it would lead to nobody who listens.
        router: Option<Router>,
    },
    /// A torrent leaves the session.
    RemoveTorrent {
        /// The torrent.
        torrent: TorrentId,
    },
    /// A name look-up ended.
    Resolved {
        /// Which.
        job: JobId,
        /// The addresses, in the order in which to try them.
        result: Result<Vec<IpAddr>, NetError>,
    },
    /// The nodes of the DHT that an earlier run knew.
    RestoreNodes {
        /// As [`Session::save_nodes`](super::Session::save_nodes) gave them.
        saved: Saved,
    },
    /// The user blocks these addresses in place of those that were blocked before. Connections to them end; addresses that
    /// are blocked no more can be dialled.
    SetIpFilter {
        /// The addresses.
        filter: Arc<IpFilter>,
    },
    /// The user limits the whole session's rates; nothing lifts a limit.
    SetLimits {
        /// Bytes a second received, payload and overhead.
        down_bytes_per_s: Option<u64>,
        /// Bytes a second sent, payload and overhead.
        up_bytes_per_s: Option<u64>,
    },
    /// The user stops the session: requests end, data is made durable, trackers are told. [`Notice::Stopped`](super::Notice)
    /// follows within [`STOP_LIMIT`](super::STOP_LIMIT).
    Stop,
    /// A question by UPnP ended.
    UpnpDone {
        /// Which.
        job: JobId,
        /// The router's address outside, if it told.
        result: Result<Option<Ipv4Addr>, UpnpError>,
    },
}

/// Why the network did not do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum NetError {
    /// The address or network can't be reached from here.
    #[error("the address can't be reached")]
    Unreachable,
    /// This host has lost the address that the connection went over: it says nothing about the remote.
    #[error("this host has the address no more")]
    Moved,
    /// No name server of this host was reached, or none said anything of use.
    #[error("no name server answered")]
    NoNameServer,
    /// The name does not exist.
    #[error("the name does not exist")]
    NoSuchName,
    /// The proxy can't be used: it says nothing about the remote.
    #[error("the proxy can't be used")]
    Proxy,
    /// The other side refused.
    #[error("connection refused")]
    Refused,
    /// The other side broke the connection.
    #[error("connection reset")]
    Reset,
    /// No answer came in time.
    #[error("timed out")]
    TimedOut,
    /// Anything else, with the operating system's number.
    #[error("network error {0}")]
    Other(i32),
}

/// What a web server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpAnswer {
    /// The status code, after redirects.
    pub status: u16,
    /// The body, decompressed; at most what the request allowed.
    pub body: Bytes,
}

/// Why a web request brought no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// The body is longer than the request allowed, or grew too much when decompressed.
    #[error("the answer is too long")]
    BodyTooLong,
    /// The connection failed.
    #[error(transparent)]
    Net(NetError),
    /// The URL, or one that it redirects to, may not be asked.
    #[error("refused to ask: {0}")]
    Forbidden(String),
    /// What came back is not HTTP.
    #[error("the answer is not valid HTTP")]
    Malformed,
    /// The certificate does not prove the host's name, or the handshake failed.
    #[error("TLS: {0}")]
    Tls(String),
    /// Redirected too often.
    #[error("too many redirects")]
    TooManyRedirects,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddPeers { torrent, peers } => {
                write!(f, "{torrent} add peers")?;
                peers.iter().try_for_each(|peer| write!(f, " {peer}"))
            }
            Self::CancelLookup { lookup } => write!(f, "{lookup} cancel"),
            Self::Closed { conn, error: None } => write!(f, "{conn} closed"),
            Self::Closed { conn, error: Some(error) } => write!(f, "{conn} closed: {error}"),
            Self::ConnectFailed { conn, error } => write!(f, "{conn} connect failed: {error}"),
            Self::Connected { conn } => write!(f, "{conn} connected"),
            Self::Datagram { from, data } => write!(f, "datagram from={from} len={}", data.len()),
            Self::DiskDone { job, result: Ok(output) } => write!(f, "{job} {output}"),
            Self::DiskDone { job, result: Err(error) } => write!(f, "{job} failed: {error}"),
            Self::HttpDone { job, result: Ok(answer) } => {
                write!(f, "{job} http {} len={}", answer.status, answer.body.len())
            }
            Self::HttpDone { job, result: Err(error) } => write!(f, "{job} http failed: {error}"),
            Self::LearnNodes { nodes } => {
                f.write_str("learn nodes")?;
                nodes.iter().try_for_each(|node| write!(f, " {node}"))
            }
            Self::Listening { port } => write!(f, "listening {port}"),
            Self::Multicast { from, data } => write!(f, "multicast from={from} len={}", data.len()),
            Self::NetworkChanged { addresses, router } => {
                f.write_str("network")?;
                addresses.iter().try_for_each(|addr| write!(f, " {addr}"))?;
                let gateway = router.and_then(|router| router.gateway);
                gateway.map_or(Ok(()), |gateway| write!(f, " router={gateway}"))
            }
            Self::RemoveTorrent { torrent } => write!(f, "{torrent} remove"),
            Self::Resolved { job, result: Ok(addrs) } => {
                write!(f, "{job} resolved")?;
                addrs.iter().try_for_each(|addr| write!(f, " {addr}"))
            }
            Self::Resolved { job, result: Err(error) } => write!(f, "{job} resolve failed: {error}"),
            Self::RestoreNodes { saved } => {
                write!(f, "restore nodes={}", saved.contacts.len())
            }
            Self::SetIpFilter { filter } => write!(f, "ip filter ranges={}", filter.len()),
            Self::SetLimits { down_bytes_per_s, up_bytes_per_s } => {
                write!(f, "limits down={down_bytes_per_s:?} up={up_bytes_per_s:?}")
            }
            Self::Stop => f.write_str("stop"),
            Self::UpnpDone { job, result: Ok(_) } => write!(f, "{job} UPnP done"),
            Self::UpnpDone { job, result: Err(error) } => write!(f, "{job} UPnP failed: {error}"),
        }
    }
}
