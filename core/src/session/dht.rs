//! The session's part in the DHT: whom to begin with, which lookups are whose, and what becomes of what they find.

use super::jobs::Job;
use super::{Action, NetError, Notice, Session};
use crate::dht::item::Item;
use crate::dht::message::{Contact, Family};
use crate::dht::node_id::NodeId;
use crate::dht::{self, Dht, Saved, Summary, Task};
use crate::id::{InfoHash, JobId, LookupId, TorrentId};
use crate::ip_filter::IpFilter;
use crate::machine::{Machine as _, Outbox, Timestamp};
use crate::rng::Rng;
use crate::torrent::discovery::{self, Us};
use crate::torrent::known_peers::Source;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, SocketAddr};

/// How a session takes part in the DHT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DhtConfig {
    /// Hosts and ports of nodes to begin with when no other is known; names are looked up.
    pub bootstrap: Vec<(String, u16)>,
    /// The networks to take part in (BEP 32): those of which there is a socket.
    pub families: Vec<Family>,
    /// Whether we only ask, and answer nothing (BEP 43).
    pub read_only: bool,
}

impl Default for DhtConfig {
    /// Both networks, with nobody to begin with.
    fn default() -> Self {
        Self { bootstrap: Vec::new(), families: vec![Family::V4, Family::V6], read_only: false }
    }
}

/// Something that a lookup found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing more: it is over.
    Done(Summary),
    /// An item. A newer one may follow.
    Item {
        /// Who had it.
        from: SocketAddr,
        /// The item.
        item: Item,
    },
    /// The nodes of one family that are closest to a place. Those of the other may follow.
    Nodes(Vec<Contact>),
    /// Peers. Others may follow.
    Peers {
        /// Who named them.
        from: SocketAddr,
        /// Their addresses.
        peers: Vec<SocketAddr>,
    },
    /// A node where one was asked for.
    Pong {
        /// Where.
        from: SocketAddr,
        /// Its id, as it says.
        id: NodeId,
    },
    /// Some of the torrents that a node knows.
    Samples {
        /// Which node.
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
        /// Those that have everything.
        seeds: u32,
        /// The others.
        peers: u32,
    },
}

/// The DHT, and what the session keeps about it.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) dht: Dht,
    bootstrap: Vec<(String, u16)>,
    /// Look-ups of names under way.
    resolving: usize,
    next_lookup: u64,
    /// Lookups of torrents; the others are the user's.
    torrents: BTreeMap<LookupId, TorrentId>,
}

impl Network {
    pub(super) fn new(now: Timestamp, config: &DhtConfig, filter: &Arc<IpFilter>, rng: &Rng) -> Self {
        let mut dht = Dht::new(now, &config.families, rng);
        dht.handle_event(now, dht::Event::SetIpFilter(Arc::clone(filter)), &mut Outbox::new());
        if config.read_only {
            dht.handle_event(now, dht::Event::SetReadOnly(true), &mut Outbox::new());
        }
        Self {
            dht,
            bootstrap: config.bootstrap.clone(),
            resolving: 0,
            next_lookup: 0,
            torrents: BTreeMap::new(),
        }
    }

    fn mint(&mut self) -> LookupId {
        let lookup = LookupId(self.next_lookup);
        self.next_lookup += 1;
        lookup
    }

    fn of_torrent(&self, torrent: TorrentId) -> Option<LookupId> {
        self.torrents.iter().find(|(_, owner)| **owner == torrent).map(|(lookup, _)| *lookup)
    }
}

impl Session {
    /// Looks for something in the DHT: an input like any other. What is found comes as [`Notice::Lookup`], and
    /// [`Found::Done`] last, unless it is [cancelled](super::Event::CancelLookup). Nothing without a DHT.
    pub fn start_lookup(&mut self, now: Timestamp, task: Task) -> Option<LookupId> {
        self.set_now(now);
        let lookup = self.network.as_mut()?.mint();
        self.tell_dht(now, dht::Event::Start { lookup, task });
        Some(lookup)
    }

    /// The user does not want to know any more. A torrent's lookup is not the user's to end.
    pub(super) fn cancel_lookup(&mut self, now: Timestamp, lookup: LookupId) {
        let is_torrents = |network: &Network| network.torrents.contains_key(&lookup);
        if !self.network.as_ref().is_some_and(is_torrents) {
            self.tell_dht(now, dht::Event::Cancel(lookup));
        }
    }

    /// Our nodes in the DHT.
    pub fn dht(&self) -> Option<&Dht> {
        self.network.as_ref().map(|network| &network.dht)
    }

    /// What the DHT wants to be told when it starts again, by [`Event::RestoreNodes`](super::Event::RestoreNodes).
    pub fn save_nodes(&self) -> Option<Saved> {
        self.dht().map(Dht::save)
    }

    pub(super) fn tell_dht(&mut self, now: Timestamp, event: dht::Event) {
        if let Some(network) = &mut self.network {
            network.dht.handle_event(now, event, &mut self.pending.dht);
            self.drain_dht(now);
        }
    }

    /// There may be nodes at these hosts.
    pub(super) fn learn_named_nodes(&mut self, now: Timestamp, hosts: Vec<(String, u16)>) {
        let Some(network) = &mut self.network else { return };
        let mut literal = Vec::new();
        for (host, port) in hosts {
            if let Ok(ip) = host.parse::<IpAddr>() {
                literal.push(SocketAddr::new(ip, port));
            } else if network.resolving < MAX_RESOLVING {
                network.resolving += 1;
                let job = JobId(self.next_job);
                self.next_job += 1;
                self.jobs.insert(job, Job::ResolveNode { port });
                self.actions.push_back(Action::Resolve { job, host });
            }
        }
        if !literal.is_empty() {
            self.tell_dht(now, dht::Event::Learn(literal));
        }
    }

    pub(super) fn on_node_resolved(
        &mut self,
        now: Timestamp,
        port: u16,
        result: Result<Vec<IpAddr>, NetError>,
    ) {
        let Some(network) = &mut self.network else { return };
        network.resolving -= 1;
        // When it failed, the DHT asks again while it knows nobody.
        let nodes: Vec<_> =
            result.unwrap_or_default().into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
        if !nodes.is_empty() {
            self.tell_dht(now, dht::Event::Learn(nodes));
        }
    }

    /// Does what a torrent wants of the DHT.
    pub(super) fn on_discovery(&mut self, now: Timestamp, torrent: TorrentId, action: discovery::Action) {
        let Some(network) = &mut self.network else { return };
        match action {
            discovery::Action::Ask(Us { port, seed }) => {
                let Some(info_hash) = self.torrents.get(&torrent).map(|slot| slot.torrent.info_hash()) else {
                    return;
                };
                let announced = dht::Announced { port, implied_port: false, seed };
                let announce = (port != 0).then_some(announced);
                let task = Task::GetPeers { info_hash, announce, noseed: seed };
                let lookup = network.mint();
                network.torrents.insert(lookup, torrent);
                self.tell_dht(now, dht::Event::Start { lookup, task });
            }
            discovery::Action::Cancel => {
                if let Some(lookup) = network.of_torrent(torrent) {
                    network.torrents.remove(&lookup);
                    self.tell_dht(now, dht::Event::Cancel(lookup));
                }
            }
        }
    }

    /// How many nodes a torrent's lookup has asked.
    pub(super) fn asked_nodes(&self, torrent: TorrentId) -> u32 {
        let Some(network) = &self.network else { return 0 };
        let lookup = network.of_torrent(torrent);
        lookup.and_then(|lookup| network.dht.summary(lookup)).map_or(0, |summary| summary.asked)
    }

    pub(super) fn drain_dht(&mut self, now: Timestamp) {
        while let Some(action) = self.pending.dht.pop_front() {
            match action {
                dht::Action::Done { lookup, summary } => self.on_lookup_done(now, lookup, summary),
                dht::Action::ExternalAddress { from, addr } => {
                    self.on_seen(from, addr.ip());
                }
                dht::Action::Item { lookup, from, item } => self.found(lookup, Found::Item { from, item }),
                // The networks have told each other.
                dht::Action::Named(_) => {}
                dht::Action::NeedNodes => self.bootstrap(now),
                dht::Action::Nodes { lookup, nodes } => self.found(lookup, Found::Nodes(nodes)),
                dht::Action::Peers { lookup, from, peers } => self.on_found_peers(now, lookup, from, peers),
                dht::Action::Pong { lookup, from, id } => self.found(lookup, Found::Pong { from, id }),
                dht::Action::Samples { lookup, from, hashes, count, interval } => {
                    self.found(lookup, Found::Samples { from, hashes, count, interval });
                }
                dht::Action::Scraped { lookup, seeds, peers } => {
                    self.found(lookup, Found::Scraped { seeds, peers });
                }
                dht::Action::Send { to, data } => self.queue_datagram(to, data),
            }
        }
    }

    /// Begins with the well-known nodes. The DHT asks for that ever more rarely.
    fn bootstrap(&mut self, now: Timestamp) {
        let Some(network) = self.network.as_ref().filter(|_| !self.stopped) else { return };
        if network.resolving == 0 {
            let hosts = network.bootstrap.clone();
            self.learn_named_nodes(now, hosts);
        }
    }

    fn found(&mut self, lookup: LookupId, found: Found) {
        self.actions.push_back(Action::Notice(Notice::Lookup { lookup, found }));
    }

    fn on_lookup_done(&mut self, now: Timestamp, lookup: LookupId, summary: Summary) {
        let torrent = self.network.as_mut().and_then(|network| network.torrents.remove(&lookup));
        let Some(torrent) = torrent else { return self.found(lookup, Found::Done(summary)) };
        self.actions.push_back(Action::Notice(Notice::DhtAsked { torrent, summary }));
        let event = discovery::Event::Ended { answered: summary.answered > 0 };
        self.with_torrent(now, torrent, |torrent, out| torrent.handle_discovery(now, event, out));
    }

    fn on_found_peers(&mut self, now: Timestamp, lookup: LookupId, from: SocketAddr, peers: Vec<SocketAddr>) {
        let torrent = self.network.as_ref().and_then(|network| network.torrents.get(&lookup)).copied();
        let Some(torrent) = torrent else { return self.found(lookup, Found::Peers { from, peers }) };
        self.with_torrent(now, torrent, |torrent, out| {
            torrent.on_peers_found(now, peers, Source::Dht, Some(from.ip()), out);
        });
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done(summary) => write!(f, "done {summary}"),
            Self::Item { from, item } => {
                write!(f, "item from={from} len={}", item.value().len())?;
                item.seq().map_or(Ok(()), |seq| write!(f, " seq={seq}"))
            }
            Self::Nodes(nodes) => write!(f, "nodes={}", nodes.len()),
            Self::Peers { from, peers } => write!(f, "peers={} from={from}", peers.len()),
            Self::Pong { from, id } => write!(f, "pong from={id:.8}@{from}"),
            Self::Samples { from, hashes, count, .. } => {
                write!(f, "samples={} of={count} from={from}", hashes.len())
            }
            Self::Scraped { seeds, peers } => write!(f, "scraped seeds={seeds} peers={peers}"),
        }
    }
}

/// Names of nodes that are looked up at a time, those of torrent files included.
const MAX_RESOLVING: usize = 16;
