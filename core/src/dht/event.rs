//! What a node is told, and what it says.

use super::item::Item;
use super::message::{Contact, Family};
use super::node_id::NodeId;
use crate::id::{InfoHash, LookupId};
use crate::ip_filter::IpFilter;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt;
use core::net::{IpAddr, SocketAddr};

/// What can happen to a node.
#[derive(Clone, Debug)]
pub enum Event {
    /// The results of a lookup are no longer wanted; nothing more is said about it.
    Cancel(LookupId),
    /// A datagram came. Whatever it is, it may be of the DHT.
    Datagram {
        /// Its sender.
        from: SocketAddr,
        /// Its bytes.
        data: Bytes,
    },
    /// This is our address, as others see it. The node's id has to belong to it (BEP 42).
    ExternalAddress(IpAddr),
    /// There may be nodes at these addresses: well-known ones, those of a torrent file, or of peers (BEP 5's `port`).
    Learn(Vec<SocketAddr>),
    /// The network is another one: what did not answer before perhaps does, and our neighbours have to hear of us.
    NetworkChanged,
    /// Nodes that we know from elsewhere, with their ids.
    Named(Vec<Contact>),
    /// What an earlier run saved.
    Restore(Saved),
    /// Nodes at these addresses are not asked, not answered and not known, in place of those before.
    SetIpFilter(Arc<IpFilter>),
    /// Whether we only ask, and answer nothing (BEP 43).
    SetReadOnly(bool),
    /// Look for something. It ends with [`Action::Done`], or when it is cancelled.
    Start {
        /// What its results will be called. Never used twice.
        lookup: LookupId,
        /// What for.
        task: Task,
    },
}

/// What a lookup is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// To know the nodes closest to a place.
    FindNode {
        /// The place.
        target: NodeId,
    },
    /// To have an item (BEP 44).
    GetItem {
        /// Its place.
        target: NodeId,
        /// What it was signed with, if a key names it.
        salt: Bytes,
        /// Items with this number, or a lower one, are not of interest.
        seq: Option<i64>,
    },
    /// To find peers, and perhaps be found by them.
    GetPeers {
        /// Of this torrent.
        info_hash: InfoHash,
        /// How others can find us, unless we don't take part.
        announce: Option<Announced>,
        /// Whether only peers that are no seeds are of use (BEP 33).
        noseed: bool,
    },
    /// To know whether there is a node at an address, whoever it is.
    Ping {
        /// The address.
        to: SocketAddr,
    },
    /// To store an item (BEP 44).
    Put {
        /// The item.
        item: Item,
        /// Only in place of the item with this number.
        cas: Option<i64>,
    },
    /// To know some of the torrents that the nodes close to a place know (BEP 51).
    Sample {
        /// The place.
        target: NodeId,
    },
    /// To know how many peers a torrent has (BEP 33).
    Scrape {
        /// The torrent.
        info_hash: InfoHash,
    },
}

/// How others can find us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announced {
    /// Where we listen for peers.
    pub port: u16,
    /// Whether nodes should rather take the port from which they hear of us, since a router may have changed it.
    pub implied_port: bool,
    /// Whether we have everything (BEP 33).
    pub seed: bool,
}

/// What a node wants to be told when it starts again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// Its id among nodes of IPv4.
    pub id4: Option<NodeId>,
    /// Its id among nodes of IPv6.
    pub id6: Option<NodeId>,
    /// Nodes that it knew, of both families; those of each the closest first.
    pub contacts: Vec<Contact>,
}

/// What a node says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A lookup is over, and will not be heard of again.
    Done {
        /// Which.
        lookup: LookupId,
        /// How it went.
        summary: Summary,
    },
    /// A node says that this is our address. It may be wrong, or lie.
    ExternalAddress {
        /// Who says so.
        from: SocketAddr,
        /// Where it sees us.
        addr: SocketAddr,
    },
    /// An item was found, and checked. A newer one may follow.
    Item {
        /// By which lookup.
        lookup: LookupId,
        /// Who had it.
        from: SocketAddr,
        /// The item.
        item: Item,
    },
    /// Nodes of the other family were named.
    Named(Vec<Contact>),
    /// No node is known: we have to [learn](Event::Learn) of some to take part.
    NeedNodes,
    /// The nodes of one family that are closest to a place, of those that answered.
    Nodes {
        /// By which lookup.
        lookup: LookupId,
        /// At least one, the closest first.
        nodes: Vec<Contact>,
    },
    /// Peers were found. Others may follow.
    Peers {
        /// By which lookup.
        lookup: LookupId,
        /// Who named them.
        from: SocketAddr,
        /// At least one.
        peers: Vec<SocketAddr>,
    },
    /// There is a node where one was asked for.
    Pong {
        /// By which lookup.
        lookup: LookupId,
        /// Where.
        from: SocketAddr,
        /// Its id, as it says.
        id: NodeId,
    },
    /// A node told some of the torrents that it knows.
    Samples {
        /// By which lookup.
        lookup: LookupId,
        /// Who.
        from: SocketAddr,
        /// Some of them.
        hashes: Vec<InfoHash>,
        /// How many it knows in all, as it says.
        count: i64,
        /// For so many seconds it will not name others.
        interval: i64,
    },
    /// About how many peers a torrent has.
    Scraped {
        /// By which lookup.
        lookup: LookupId,
        /// Those that have everything.
        seeds: u32,
        /// The others.
        peers: u32,
    },
    /// Send a datagram.
    Send {
        /// Where to.
        to: SocketAddr,
        /// Its bytes.
        data: Vec<u8>,
    },
}

/// How a lookup went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Nodes that were asked.
    pub asked: u32,
    /// Nodes that answered.
    pub answered: u32,
    /// Over how many nodes the closest one was heard of.
    pub hops: u32,
    /// Nodes that stored what was to be stored.
    pub stored: u32,
}

impl Saved {
    /// The node's id in a network.
    pub fn id(&self, family: Family) -> Option<NodeId> {
        match family {
            Family::V4 => self.id4,
            Family::V6 => self.id6,
        }
    }
}

impl Summary {
    /// Both of two lookups.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            asked: self.asked + other.asked,
            answered: self.answered + other.answered,
            hops: self.hops.max(other.hops),
            stored: self.stored + other.stored,
        }
    }
}

impl Task {
    /// The place that it is about; a ping is about none.
    pub fn target(&self) -> Option<NodeId> {
        Some(match self {
            Self::FindNode { target } | Self::GetItem { target, .. } | Self::Sample { target } => *target,
            Self::GetPeers { info_hash, .. } | Self::Scrape { info_hash } => (*info_hash).into(),
            Self::Ping { .. } => return None,
            Self::Put { item, .. } => item.target(),
        })
    }

    /// Whether something is to be stored at the end.
    pub fn stores(&self) -> bool {
        matches!(self, Self::GetPeers { announce: Some(_), .. } | Self::Put { .. })
    }
}

/// `peers ih=c12f.. announce`, as traces show it.
impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self {
            Self::FindNode { .. } => "nodes",
            Self::GetItem { .. } => "item",
            Self::GetPeers { .. } => "peers",
            Self::Ping { .. } => "ping",
            Self::Put { .. } => "put",
            Self::Sample { .. } => "samples",
            Self::Scrape { .. } => "scrape",
        };
        f.write_str(what)?;
        self.target().map_or(Ok(()), |target| write!(f, " at={target:.8}"))?;
        match self {
            Self::Ping { to } => write!(f, " to={to}"),
            Self::GetPeers { announce: Some(announced), .. } => {
                write!(f, " announce port={}", announced.port)?;
                f.write_str(if announced.implied_port { " implied" } else { "" })?;
                f.write_str(if announced.seed { " seed" } else { "" })
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { asked, answered, hops, stored } = self;
        write!(f, "asked={asked} answered={answered} hops={hops} stored={stored}")
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancel(lookup) => write!(f, "cancel {lookup}"),
            Self::Datagram { from, data } => write!(f, "datagram from={from} len={}", data.len()),
            Self::ExternalAddress(ip) => write!(f, "external address {ip}"),
            Self::Learn(addrs) => write!(f, "learn addresses={}", addrs.len()),
            Self::Named(contacts) => write!(f, "named nodes={}", contacts.len()),
            Self::Restore(saved) => write!(f, "restore nodes={}", saved.contacts.len()),
            Self::SetReadOnly(read_only) => write!(f, "read-only {read_only}"),
            Self::SetIpFilter(filter) => write!(f, "ip filter ranges={}", filter.len()),
            Self::NetworkChanged => f.write_str("another network"),
            Self::Start { lookup, task } => write!(f, "start {lookup} {task}"),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done { lookup, summary } => write!(f, "{lookup} done {summary}"),
            Self::ExternalAddress { from, addr } => write!(f, "external address {addr} from={from}"),
            Self::Item { lookup, from, item } => {
                write!(f, "{lookup} item from={from} len={}", item.value().len())?;
                item.seq().map_or(Ok(()), |seq| write!(f, " seq={seq}"))
            }
            Self::Named(contacts) => write!(f, "named nodes={}", contacts.len()),
            Self::NeedNodes => f.write_str("need nodes"),
            Self::Nodes { lookup, nodes } => write!(f, "{lookup} nodes={}", nodes.len()),
            Self::Peers { lookup, from, peers } => write!(f, "{lookup} peers={} from={from}", peers.len()),
            Self::Pong { lookup, from, id } => write!(f, "{lookup} pong from={id:.8}@{from}"),
            Self::Samples { lookup, from, hashes, count, .. } => {
                write!(f, "{lookup} samples={} of={count} from={from}", hashes.len())
            }
            Self::Scraped { lookup, seeds, peers } => {
                write!(f, "{lookup} scraped seeds={seeds} peers={peers}")
            }
            Self::Send { to, data } => write!(f, "send to={to} len={}", data.len()),
        }
    }
}
