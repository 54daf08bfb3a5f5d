//! What the session asks of a driver.

use super::NewContent;
use super::dht::Found;
use super::reason::Reason;
use crate::dht::Summary;
use crate::id::{ConnId, JobId, LookupId, TorrentId};
use crate::lengths::PieceIndex;
use crate::lsd::Group;
use crate::metainfo::AssemblyError;
use crate::portmap::{Mapping, Method, Protocol, UpnpRequest, Why};
use crate::store::op::{DiskError, DiskOp};
use crate::store::payload::Payload;
use crate::torrent::holepunch::GiveUp;
use crate::torrent::known_peers::Source;
use crate::wire::PexFlags;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::{Bytes, BytesMut};
use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;

/// A decision that a driver carries out. Every job is answered exactly once, also when it fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Open a TCP connection; answer with `Connected` or `ConnectFailed`.
    Connect {
        /// The connection to be.
        conn: ConnId,
        /// Where to.
        remote: SocketAddr,
    },
    /// Close a connection, or stop opening it. It is gone: nothing more is said about it by either side.
    Disconnect {
        /// The connection.
        conn: ConnId,
        /// Why.
        reason: Reason,
    },
    /// Execute a disk operation; answer with `DiskDone`.
    Disk {
        /// The job to answer.
        job: JobId,
        /// Whose files.
        torrent: TorrentId,
        /// The operation.
        op: DiskOp,
    },
    /// Fetch a URL; answer with `HttpDone`.
    Http {
        /// The job to answer.
        job: JobId,
        /// An absolute http or https URL.
        url: String,
    },
    /// Send a datagram to a group of the local network (BEP 14). A driver that could not join the group drops it.
    Multicast {
        /// Which group.
        group: Group,
        /// The datagram.
        data: Bytes,
    },
    /// Tell the user.
    Notice(Notice),
    /// From now on this many bytes may be read from a connection, whatever was granted before.
    ReadCredit {
        /// The connection.
        conn: ConnId,
        /// Bytes, control and payload together.
        bytes: u32,
    },
    /// Look up a name; answer with `Resolved`.
    Resolve {
        /// The job to answer.
        job: JobId,
        /// The name.
        host: String,
    },
    /// Ask a router by UPnP; answer with `UpnpDone`, within seconds.
    Upnp {
        /// The job to answer.
        job: JobId,
        /// What to ask.
        request: UpnpRequest,
    },
    /// Datagrams wait: pull them with `poll_transmit`.
    WantSend,
    /// Bytes wait: pull them with `poll_stream` when the connection can take some.
    WantWrite {
        /// The connection.
        conn: ConnId,
    },
}

/// Something that a user may want to know. Nothing has to be done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A peer lied about data and is banned.
    Banned {
        /// The torrent.
        torrent: TorrentId,
        /// The liar.
        remote: SocketAddr,
    },
    /// The files that were there have been checked; the download starts where they end.
    Checked {
        /// The torrent.
        torrent: TorrentId,
        /// How many pieces were found good.
        pieces: u32,
    },
    /// Every wanted piece is verified and stored under its final name.
    Completed {
        /// The torrent.
        torrent: TorrentId,
    },
    /// A torrent was looked up in the DHT; the peers came as they were found.
    DhtAsked {
        /// The torrent.
        torrent: TorrentId,
        /// How it went.
        summary: Summary,
    },
    /// A file could not be read or written; the torrent waits and tries again.
    DiskTrouble {
        /// The torrent.
        torrent: TorrentId,
        /// What went wrong.
        error: DiskError,
    },
    /// A piece did not match its hash and is fetched again.
    HashFailed {
        /// The torrent.
        torrent: TorrentId,
        /// The piece.
        piece: PieceIndex,
    },
    /// A peer that can't be reached was not reached through a relay either (BEP 55).
    HolepunchFailed {
        /// The torrent.
        torrent: TorrentId,
        /// Whom we can't reach.
        remote: SocketAddr,
        /// Why.
        why: GiveUp,
    },
    /// Peers told the metadata of a torrent of which only the hash was known. It goes on when the driver has said where
    /// its files lie and handed this back by [`Session::set_content`](super::Session::set_content), changed as the user
    /// likes.
    Metadata {
        /// The torrent.
        torrent: TorrentId,
        /// What it holds. Wanted are the files that the magnet link selects, or all.
        content: Box<NewContent>,
    },
    /// What a hash names turned out to be no torrent: it will never be more than that.
    MetadataUseless {
        /// The torrent.
        torrent: TorrentId,
        /// Why.
        error: AssemblyError,
    },
    /// A lookup in the DHT found something.
    Lookup {
        /// Which.
        lookup: LookupId,
        /// What.
        found: Found,
    },
    /// A torrent heard of peers.
    Peers {
        /// The torrent.
        torrent: TorrentId,
        /// Who told.
        source: Source,
        /// Their addresses, known ones too, and what peers say of them.
        peers: Vec<(SocketAddr, PexFlags)>,
    },
    /// A piece that was there can't be read back, or has become another. It is announced no more, and fetched again if it
    /// is wanted.
    PieceLost {
        /// The torrent.
        torrent: TorrentId,
        /// The piece.
        piece: PieceIndex,
    },
    /// The router does not map a port any more, or only the other one of TCP and UDP.
    PortLost {
        /// Of what.
        protocol: Protocol,
        /// Why.
        why: Why,
    },
    /// The router lets peers in, by another port or address than before.
    PortMapped(Mapping),
    /// The router does not let peers in: they can only be dialled.
    PortNotMapped {
        /// What was tried, and what it came to.
        tried: Vec<(Method, Why)>,
        /// When it is tried again.
        retry_in: Duration,
    },
    /// The torrent seeds: it has everything it wants and lets peers in.
    Seeding {
        /// The torrent.
        torrent: TorrentId,
    },
    /// Everything is stored and said; the driver may drop the session.
    Stopped,
    /// A tracker answered.
    TrackerAnswered {
        /// The torrent.
        torrent: TorrentId,
        /// The tracker, without what follows the host.
        tracker: String,
        /// How many peers it named.
        peers: u32,
        /// What it wants the user to read.
        warning: Option<String>,
    },
    /// A tracker did not answer, or refused.
    TrackerFailed {
        /// The torrent.
        torrent: TorrentId,
        /// The tracker, without what follows the host.
        tracker: String,
        /// Why.
        why: String,
    },
}

/// What `handle_bytes` says of the bytes it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intake {
    /// There is more to do with them: call again, after others had their turn.
    Again,
    /// The connection is gone.
    Closed,
    /// They are used up, but for the start of a message.
    NeedMore,
    /// The next so many bytes of the stream are a block: hand them to `handle_payload`.
    Payload(u32),
}

/// Bytes on their way to one connection: what `poll_stream` fills and a driver empties.
#[derive(Debug, Default)]
pub struct WriteBatch {
    /// In order.
    pub segments: VecDeque<Segment>,
    /// Messages that are not a segment yet.
    pub(crate) open: BytesMut,
    bytes: usize,
    /// What was said, for those who read along.
    said: Option<Vec<Segment>>,
}

/// One run of bytes in a [`WriteBatch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Messages, or the head of a `piece`.
    Inline(Bytes),
    /// The block of a `piece`.
    Payload(Payload),
}

impl Segment {
    /// Its length in bytes.
    #[expect(clippy::len_without_is_empty, reason = "a segment is never empty")]
    pub fn len(&self) -> usize {
        match self {
            Self::Inline(bytes) => bytes.len(),
            Self::Payload(payload) => payload.len() as usize,
        }
    }
}

impl WriteBatch {
    /// The bytes of all segments.
    pub fn len(&self) -> usize {
        self.bytes + self.open.len()
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One that also keeps what is said, as it is before it is enciphered: for simulators, which read along.
    pub fn overheard() -> Self {
        Self { said: Some(Vec::new()), ..Self::default() }
    }

    /// What was said since the last call, in order. It may be shorter than what is to be written, where that is part of
    /// an obfuscated handshake.
    pub fn take_said(&mut self) -> Vec<Segment> {
        self.said.as_mut().map(core::mem::take).unwrap_or_default()
    }

    /// Keeps what is behind the first `from` segments, if anybody wants to know.
    pub(crate) fn overhear(&mut self, from: usize) {
        if let Some(said) = &mut self.said {
            said.extend(self.segments.range(from..).cloned());
        }
    }

    /// Keeps what is said within an obfuscated handshake.
    pub(crate) fn overhear_bytes(&mut self, bytes: Bytes) {
        if let Some(said) = self.said.as_mut().filter(|_| !bytes.is_empty()) {
            said.push(Segment::Inline(bytes));
        }
    }

    /// Puts bytes behind what is there, without a copy.
    pub(crate) fn push_bytes(&mut self, bytes: Bytes) {
        self.seal();
        self.bytes += bytes.len();
        self.segments.push_back(Segment::Inline(bytes));
    }

    /// Puts the block of a `piece` behind what is there.
    pub(crate) fn push_payload(&mut self, payload: Payload) {
        self.seal();
        self.bytes += payload.len() as usize;
        self.segments.push_back(Segment::Payload(payload));
    }

    /// Makes a segment of the messages written last.
    pub(crate) fn seal(&mut self) {
        if !self.open.is_empty() {
            self.bytes += self.open.len();
            self.segments.push_back(Segment::Inline(self.open.split().freeze()));
        }
    }

    /// Drops the first `count` bytes: they are written.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn advance(&mut self, mut count: usize) {
        self.bytes -= count;
        while count > 0 {
            let first = self.segments.front_mut().expect("a driver writes no more than there is");
            let len = first.len();
            if count >= len {
                count -= len;
                self.segments.pop_front();
                continue;
            }
            *first = match first {
                Segment::Inline(bytes) => Segment::Inline(bytes.slice(count..)),
                Segment::Payload(payload) => Segment::Payload(payload.slice(count as u32..payload.len())),
            };
            count = 0;
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect { conn, remote } => write!(f, "{conn} connect {remote}"),
            Self::Disconnect { conn, reason } => write!(f, "{conn} disconnect: {reason}"),
            Self::Disk { job, torrent, op } => write!(f, "{job} {torrent} {op}"),
            // What follows the host may hold a passkey.
            Self::Http { job, url } => write!(f, "{job} http {}", crate::tracker::redacted(url)),
            Self::Multicast { group, data } => write!(f, "multicast {group} len={}", data.len()),
            Self::Notice(notice) => notice.fmt(f),
            Self::ReadCredit { conn, bytes } => write!(f, "{conn} read credit {bytes}"),
            Self::Resolve { job, host } => write!(f, "{job} resolve {host}"),
            Self::Upnp { job, request } => write!(f, "{job} UPnP {request}"),
            Self::WantSend => f.write_str("want send"),
            Self::WantWrite { conn } => write!(f, "{conn} want write"),
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Banned { torrent, remote } => write!(f, "{torrent} banned {remote}: it sent wrong data"),
            Self::Checked { torrent, pieces } => write!(f, "{torrent} checked: {pieces} pieces are good"),
            Self::Completed { torrent } => write!(f, "{torrent} completed"),
            Self::DhtAsked { torrent, summary } => write!(f, "{torrent} DHT {summary}"),
            Self::DiskTrouble { torrent, error } => write!(f, "{torrent} disk trouble: {error}"),
            Self::HashFailed { torrent, piece } => write!(f, "{torrent} piece {piece} failed its hash"),
            Self::HolepunchFailed { torrent, remote, why } => {
                write!(f, "{torrent} no connection to {remote} through a relay: {why}")
            }
            Self::Metadata { torrent, content } => {
                let (files, pieces) =
                    (content.metainfo.files().len(), content.metainfo.lengths().piece_count());
                write!(f, "{torrent} metadata: {files} files, {pieces} pieces")
            }
            Self::MetadataUseless { torrent, error } => write!(f, "{torrent}: {error}"),
            Self::Lookup { lookup, found } => write!(f, "{lookup} {found}"),
            Self::Peers { torrent, source, peers } => {
                write!(f, "{torrent} peers={} source={source}", peers.len())
            }
            Self::PieceLost { torrent, piece } => {
                write!(f, "{torrent} piece {piece} is not on the disk any more")
            }
            Self::PortLost { protocol, why } => {
                write!(f, "the router does not let peers in by {protocol}: {why}")
            }
            Self::PortMapped(Mapping { protocol, method, external_ip, external, lifetime }) => {
                write!(f, "the router lets peers in by {protocol} port {external}")?;
                external_ip.map_or(Ok(()), |ip| write!(f, " of {ip}"))?;
                write!(f, " ({method}, for {} s at a time)", lifetime.as_secs())
            }
            Self::PortNotMapped { tried, retry_in } => {
                f.write_str("no router lets peers in:")?;
                tried.iter().try_for_each(|(method, why)| write!(f, " {method}: {why};"))?;
                write!(f, " trying again in {} s", retry_in.as_secs())
            }
            Self::Seeding { torrent } => write!(f, "{torrent} seeding"),
            Self::Stopped => f.write_str("stopped"),
            Self::TrackerAnswered { torrent, tracker, peers, warning } => {
                write!(f, "{torrent} tracker {tracker} named {peers} peers")?;
                warning.iter().try_for_each(|text| write!(f, "; it warns: {text}"))
            }
            Self::TrackerFailed { torrent, tracker, why } => {
                write!(f, "{torrent} tracker {tracker} failed: {why}")
            }
        }
    }
}
