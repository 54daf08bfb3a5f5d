//! What is asked.

use super::super::node_id::NodeId;
use super::{MAX_TOKEN_LEN, first};
use crate::bencode::{Raw, Writer};
use crate::id::InfoHash;
use core::fmt;
use core::net::SocketAddr;

/// A question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query<'a> {
    /// Who asks.
    pub id: NodeId,
    /// What.
    pub method: Method<'a>,
    /// Nodes of which families the answer shall have.
    pub want: Want,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method<'a> {
    /// To note that the asker takes part in a swarm.
    AnnouncePeer(Announce<'a>),
    /// For the nodes nearest to a place.
    FindNode {
        /// The place.
        target: NodeId,
    },
    /// For an item (BEP 44).
    Get {
        /// Its place.
        target: NodeId,
        /// The value is not wanted unless its number is higher than this.
        seq: Option<i64>,
    },
    /// For peers of a swarm.
    GetPeers {
        /// The torrent.
        info_hash: InfoHash,
        /// Whether only peers that are no seeds are of use (BEP 33).
        noseed: bool,
        /// Whether the bloom filters of its peers are wanted (BEP 33).
        scrape: bool,
    },
    /// For a sign of life.
    Ping,
    /// To store an item (BEP 44).
    Put(Put<'a>),
    /// For some of the torrents that are known (BEP 51).
    SampleInfohashes {
        /// The place to which the nodes in the answer shall be near.
        target: NodeId,
    },
    /// For something that is not known here.
    Unknown {
        /// What.
        name: &'a [u8],
        /// The place that it is about, if there is one: the nearest nodes may know more.
        target: Option<NodeId>,
    },
}

/// A peer's word that it takes part in a swarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announce<'a> {
    /// The torrent.
    pub info_hash: InfoHash,
    /// Whether it listens at the port from which it sent this.
    pub implied_port: bool,
    /// The port at which it listens otherwise.
    pub port: u16,
    /// Whether it has everything (BEP 33).
    pub seed: bool,
    /// What it was given by the node that is asked.
    pub token: &'a [u8],
}

/// An item to store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Put<'a> {
    /// Who vouches for it; nobody for an item that its own hash names.
    pub signed: Option<Signed<'a>>,
    /// What the asker was given by the node that is asked.
    pub token: &'a [u8],
    /// The value, bencoded.
    pub value: &'a [u8],
}

/// What belongs to an item that a key names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signed<'a> {
    /// Store it only in place of the item with this number.
    pub cas: Option<i64>,
    /// The public key.
    pub key: &'a [u8; 32],
    /// What tells apart the items of one key. May be empty.
    pub salt: &'a [u8],
    /// The item's number: a higher one replaces it.
    pub seq: i64,
    /// The signature.
    pub signature: &'a [u8; 64],
}

/// Nodes of which families an answer shall have (BEP 32). With none it has those of the family of the datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Want {
    /// IPv4.
    pub n4: bool,
    /// IPv6.
    pub n6: bool,
}

impl Announce<'_> {
    /// Where the peer listens that sent this from `from`.
    pub fn addr(&self, from: SocketAddr) -> SocketAddr {
        if self.implied_port { from } else { SocketAddr::new(from.ip(), self.port) }
    }
}

impl Method<'_> {
    /// Its name in a message.
    pub const fn name(&self) -> &[u8] {
        match self {
            Self::AnnouncePeer(_) => b"announce_peer",
            Self::FindNode { .. } => b"find_node",
            Self::Get { .. } => b"get",
            Self::GetPeers { .. } => b"get_peers",
            Self::Ping => b"ping",
            Self::Put(_) => b"put",
            Self::SampleInfohashes { .. } => b"sample_infohashes",
            Self::Unknown { name, .. } => name,
        }
    }

    /// The place that it is about, if it is about one.
    pub fn target(&self) -> Option<NodeId> {
        match *self {
            Self::AnnouncePeer(Announce { info_hash, .. }) | Self::GetPeers { info_hash, .. } => {
                Some(info_hash.into())
            }
            Self::FindNode { target } | Self::Get { target, .. } | Self::SampleInfohashes { target } => {
                Some(target)
            }
            Self::Ping | Self::Put(_) => None,
            Self::Unknown { target, .. } => target,
        }
    }
}

impl<'a> Query<'a> {
    /// A question without wishes.
    pub const fn new(id: NodeId, method: Method<'a>) -> Self {
        Self { id, method, want: Want { n4: false, n6: false } }
    }

    /// Fails with what is lacking.
    pub(super) fn read(name: Option<&'a [u8]>, arguments: Option<Raw<'a>>) -> Result<Self, &'static str> {
        let name = name.filter(|name| name.len() <= MAX_NAME_LEN).ok_or("without a method")?;
        let found = arguments.and_then(Arguments::find).ok_or("without arguments")?;
        let id = NodeId(*found.id.ok_or("without its sender's id")?);
        let target = || found.target.map(|target| NodeId(*target)).ok_or("without a target");
        let info_hash = || found.info_hash.map(|hash| InfoHash(*hash)).ok_or("without an info_hash");
        let token =
            || found.token.filter(|token| token.len() <= MAX_TOKEN_LEN).ok_or("without a token of ours");
        let method = match name {
            b"announce_peer" => {
                let implied_port = found.implied_port.is_some_and(is_set);
                let port = found.port.and_then(|port| u16::try_from(port).ok()).unwrap_or_default();
                if port == 0 && !implied_port {
                    return Err("without a port");
                }
                Method::AnnouncePeer(Announce {
                    info_hash: info_hash()?,
                    implied_port,
                    port,
                    seed: found.seed.is_some_and(is_set),
                    token: token()?,
                })
            }
            b"find_node" => Method::FindNode { target: target()? },
            b"get" => Method::Get { target: target()?, seq: found.seq },
            b"get_peers" => Method::GetPeers {
                info_hash: info_hash()?,
                noseed: found.noseed.is_some_and(is_set),
                scrape: found.scrape.is_some_and(is_set),
            },
            b"ping" => Method::Ping,
            b"put" => Method::Put(Put {
                signed: found.signed()?,
                token: token()?,
                value: found.value.ok_or("without a value")?,
            }),
            b"sample_infohashes" => Method::SampleInfohashes { target: target()? },
            name => {
                let target = found.target.or(found.info_hash);
                Method::Unknown { name, target: target.map(|target| NodeId(*target)) }
            }
        };
        Ok(Self { id, method, want: found.want })
    }

    pub(super) fn write_arguments(&self, to: &mut Writer) {
        to.dict();
        if let Method::Put(Put { signed: Some(Signed { cas: Some(cas), .. }), .. }) = self.method {
            int(b"cas", cas, to);
        }
        bytes(b"id", &self.id.0, to);
        match self.method {
            Method::AnnouncePeer(announce) => {
                flag(b"implied_port", announce.implied_port, to);
                bytes(b"info_hash", &announce.info_hash.0, to);
                int(b"port", announce.port.into(), to);
                flag(b"seed", announce.seed, to);
                bytes(b"token", announce.token, to);
            }
            Method::FindNode { target }
            | Method::SampleInfohashes { target }
            | Method::Unknown { target: Some(target), .. } => bytes(b"target", &target.0, to),
            Method::Get { target, seq } => {
                if let Some(seq) = seq {
                    int(b"seq", seq, to);
                }
                bytes(b"target", &target.0, to);
            }
            Method::GetPeers { info_hash, noseed, scrape } => {
                bytes(b"info_hash", &info_hash.0, to);
                flag(b"noseed", noseed, to);
                if scrape {
                    bytes(b"pad", &[0; SCRAPE_PAD], to);
                }
                flag(b"scrape", scrape, to);
            }
            Method::Ping | Method::Unknown { target: None, .. } => {}
            Method::Put(put) => {
                if let Some(signed) = put.signed {
                    bytes(b"k", signed.key, to);
                    if !signed.salt.is_empty() {
                        bytes(b"salt", signed.salt, to);
                    }
                    int(b"seq", signed.seq, to);
                    bytes(b"sig", signed.signature, to);
                }
                bytes(b"token", put.token, to);
                to.bytes(b"v");
                to.raw(put.value);
            }
        }
        if self.want != Want::default() {
            to.bytes(b"want");
            to.list();
            [(self.want.n4, b"n4"), (self.want.n6, b"n6")]
                .into_iter()
                .filter(|(wanted, _)| *wanted)
                .for_each(|(_, name)| to.bytes(name));
            to.end();
        }
        to.end();
    }
}

impl fmt::Display for Query<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from={:.8}", self.method.name().escape_ascii(), self.id)?;
        match self.method {
            Method::AnnouncePeer(Announce { implied_port, port, seed, .. }) => {
                write!(f, " port={port}")?;
                f.write_str(if implied_port { " implied" } else { "" })?;
                f.write_str(if seed { " seed" } else { "" })?;
            }
            Method::Get { seq: Some(seq), .. } => write!(f, " seq={seq}")?,
            Method::GetPeers { noseed, scrape, .. } => {
                f.write_str(if noseed { " noseed" } else { "" })?;
                f.write_str(if scrape { " scrape" } else { "" })?;
            }
            Method::Put(put) => {
                write!(f, " len={}", put.value.len())?;
                if let Some(signed) = put.signed {
                    write!(f, " seq={}", signed.seq)?;
                }
            }
            _ => {}
        }
        self.method.target().map_or(Ok(()), |target| write!(f, " target={target:.8}"))
    }
}

/// The arguments of all queries as they are found, in whatever order.
#[derive(Default)]
struct Arguments<'a> {
    cas: Option<i64>,
    id: Option<&'a [u8; 20]>,
    implied_port: Option<i64>,
    info_hash: Option<&'a [u8; 20]>,
    key: Option<&'a [u8]>,
    noseed: Option<i64>,
    port: Option<i64>,
    salt: Option<&'a [u8]>,
    scrape: Option<i64>,
    seed: Option<i64>,
    seq: Option<i64>,
    signature: Option<&'a [u8; 64]>,
    target: Option<&'a [u8; 20]>,
    token: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    want: Want,
}

impl<'a> Arguments<'a> {
    fn find(arguments: Raw<'a>) -> Option<Self> {
        let mut found = Self::default();
        for (key, value) in arguments.pairs()? {
            match key {
                b"cas" => first(&mut found.cas, value.as_int()),
                b"id" => first(&mut found.id, array(value)),
                b"implied_port" => first(&mut found.implied_port, value.as_int()),
                b"info_hash" => first(&mut found.info_hash, array(value)),
                b"k" => first(&mut found.key, value.as_bytes()),
                b"noseed" => first(&mut found.noseed, value.as_int()),
                b"port" => first(&mut found.port, value.as_int()),
                b"salt" => first(&mut found.salt, value.as_bytes()),
                b"scrape" => first(&mut found.scrape, value.as_int()),
                b"seed" => first(&mut found.seed, value.as_int()),
                b"seq" => first(&mut found.seq, value.as_int()),
                b"sig" => first(&mut found.signature, array(value)),
                b"target" => first(&mut found.target, array(value)),
                b"token" => first(&mut found.token, value.as_bytes()),
                b"v" => first(&mut found.value, Some(value.raw())),
                b"want" => {
                    for name in value.items().into_iter().flatten().filter_map(Raw::as_bytes) {
                        found.want.n4 |= name == b"n4";
                        found.want.n6 |= name == b"n6";
                    }
                }
                _ => {}
            }
        }
        Some(found)
    }

    fn signed(&self) -> Result<Option<Signed<'a>>, &'static str> {
        let Some(key) = self.key else { return Ok(None) };
        Ok(Some(Signed {
            cas: self.cas,
            key: key.try_into().map_err(|_| "with a key that is not 32 bytes")?,
            salt: self.salt.unwrap_or_default(),
            seq: self.seq.filter(|seq| *seq >= 0).ok_or("without a seq from 0 on")?,
            signature: self.signature.ok_or("without a signature of 64 bytes")?,
        }))
    }
}

pub(super) fn array<const N: usize>(value: Raw<'_>) -> Option<&[u8; N]> {
    value.as_bytes()?.try_into().ok()
}

pub(super) fn bytes(key: &[u8], value: &[u8], to: &mut Writer) {
    to.bytes(key);
    to.bytes(value);
}

pub(super) fn int(key: &[u8], value: i64, to: &mut Writer) {
    to.bytes(key);
    to.int(value);
}

fn flag(key: &[u8], set: bool, to: &mut Writer) {
    if set {
        int(key, 1, to);
    }
}

fn is_set(flag: i64) -> bool {
    flag != 0
}

/// No query has a longer name.
const MAX_NAME_LEN: usize = 32;

/// Nobody reads these bytes. A careful node answers strangers with a few times what they sent at most (row D-05), and the
/// filters with the closest nodes are some 800 bytes.
const SCRAPE_PAD: usize = 160;
