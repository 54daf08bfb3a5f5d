//! Trials: what is done to a network, to see whether it finds what it should.

use super::attacker::{Attack, Attackers};
use super::tally::Tally;
use super::world::World;
use core::net::SocketAddr;
use core::time::Duration;
use fast_peer_core::dht::node_id::NodeId;
use fast_peer_core::dht::table::K;
use fast_peer_core::dht::{Announced, Task};
use fast_peer_core::id::InfoHash;

/// How a network came to be.
#[derive(Clone, Copy, Debug)]
pub struct Settled {
    /// How long nodes went on joining.
    pub joined_in: Duration,
    /// How long it took after that until tables hardly grew.
    pub settled_in: Duration,
    /// How many nodes found their neighbours.
    pub bootstrapped: usize,
}

/// How a node starts that looks for peers at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the table that it saved, of which so many percent of the nodes are gone.
    Saved {
        /// How many percent.
        gone: u8,
    },
    /// With one address.
    OneNode,
}

/// A torrent, and the peer that was announced for it.
#[derive(Clone, Copy, Debug)]
pub struct Torrent {
    /// Its name.
    pub info_hash: InfoHash,
    /// Whom to find.
    pub peer: SocketAddr,
}

impl World {
    /// Lets nodes join, a tenth of those that are there each second, and waits until their tables hardly grow.
    pub fn settle(&mut self, nodes: usize) -> Settled {
        let start = self.elapsed();
        while self.population() < nodes {
            // A second is cut into ten, so that few join at once.
            let more = (self.population() / 100).clamp(1, nodes - self.population());
            for _ in 0..more {
                self.join();
            }
            self.run(Duration::from_millis(100));
        }
        let joined = self.elapsed();
        loop {
            let known = self.known();
            self.run(SETTLE_STEP);
            let grown = self.known().saturating_sub(known);
            if grown * 200 < known || self.elapsed() - joined > SETTLE_MAX {
                break;
            }
        }
        let bootstrapped = self.hosts.iter().filter(|host| host.node.is_bootstrapped()).count();
        Settled { joined_in: joined - start, settled_in: self.elapsed() - joined, bootstrapped }
    }

    /// Some nodes announce a torrent each. Returns the torrents, and how the lookups went.
    pub fn announce(&mut self, count: usize) -> (Vec<Torrent>, Tally) {
        self.probes.clear();
        let torrents = (0..count).map(|_| {
            let info_hash = self.any_hash();
            let torrent = self.announce_one(info_hash);
            self.run(BETWEEN_LOOKUPS);
            torrent
        });
        let torrents = torrents.collect();
        self.run(LOOKUP_MAX);
        (torrents, Tally::of(&self.probes))
    }

    /// Each torrent is looked up by somebody, all within some seconds.
    pub fn look_up_all(&mut self, torrents: &[Torrent]) -> Tally {
        self.probes.clear();
        for Torrent { info_hash, peer } in torrents {
            let host = self.anybody_settled();
            let task = Task::GetPeers { info_hash: *info_hash, announce: None, noseed: false };
            self.look_up(host, task, Some(*peer));
            self.run(BETWEEN_LOOKUPS);
        }
        self.run(LOOKUP_MAX);
        Tally::of(&self.probes)
    }

    /// Lets so much time pass in which, of a hundred nodes, so many a minute leave without a word, and others join.
    pub fn churn(&mut self, time: Duration, percent_per_min: u32) {
        let until = self.elapsed() + time;
        // In millionths of a node.
        let mut owed = 0;
        while self.elapsed() < until {
            owed += self.population() as u64 * u64::from(percent_per_min) * 1_000_000 / 100 / 60 / 10;
            for _ in 0..owed / 1_000_000 {
                let host = self.anybody();
                self.replace(host);
            }
            owed %= 1_000_000;
            self.run(Duration::from_millis(100));
        }
    }

    /// Announces torrents under an attack against each of them, and looks each of them up so many times. Returns as well
    /// how many of a thousand nodes that are named by those closest to a torrent are attackers.
    pub fn attacked(&mut self, attack: Attack, torrents: usize, lookups_each: usize) -> (Tally, u64) {
        let (mut sum, mut planted) = (Tally::default(), 0);
        if let Attack::Sybils(percent) = attack {
            let count = self.population() * usize::from(percent) / (100 - usize::from(percent));
            let addrs = self.fresh_addrs(count);
            let attackers = Attackers::at(addrs.into_iter(), &mut self.rng);
            self.set_attackers(attackers);
            for _ in 0..SYBIL_ROUNDS {
                let some: Vec<u32> = (0..SYBIL_ADVERTS).map(|_| self.anybody()).collect();
                self.advertise(&some, ADVERT_TIME);
                self.run(ADVERT_TIME);
            }
            let (torrents, _) = self.announce(torrents);
            for _ in 0..lookups_each {
                sum.add(self.look_up_all(&torrents));
            }
            planted += torrents.iter().map(|torrent| self.planted_permille(torrent.info_hash)).sum::<u64>();
            return (sum, planted / torrents.len().max(1) as u64);
        }
        for _ in 0..torrents {
            let info_hash = self.any_hash();
            let attackers = Attackers::around(info_hash, &mut self.rng);
            self.set_attackers(attackers);
            // They are known to those who are close long before anything is announced.
            let near = self.closest(info_hash, ECLIPSE_ADVERTS);
            for _ in 0..ECLIPSE_ROUNDS {
                self.advertise(&near, ADVERT_TIME);
                self.run(ADVERT_TIME);
            }
            self.probes.clear();
            let torrent = self.announce_one(info_hash);
            self.run(LOOKUP_MAX);
            sum.stored += Tally::of(&self.probes).stored;
            planted += self.planted_permille(info_hash);
            sum.add(self.look_up_all(&vec![torrent; lookups_each]));
        }
        (sum, planted / torrents.max(1) as u64)
    }

    /// Torrents are looked up by nodes in their first second.
    pub fn cold_starts(&mut self, torrents: &[Torrent], start: Start) -> Tally {
        self.probes.clear();
        for Torrent { info_hash, peer } in torrents {
            let host = match start {
                Start::OneNode => self.join_unaware(),
                Start::Saved { gone } => {
                    let host = self.anybody_settled();
                    self.restart(host, gone);
                    host
                }
            };
            let task = Task::GetPeers { info_hash: *info_hash, announce: None, noseed: false };
            self.look_up(host, task, Some(*peer));
            self.run(BETWEEN_LOOKUPS);
        }
        self.run(LOOKUP_MAX);
        Tally::of(&self.probes)
    }

    /// Of the eight live nodes that are closest to each of these, how many hold its peer, in thousandths.
    pub fn placed_permille(&self, torrents: &[Torrent]) -> u64 {
        let held: usize = torrents.iter().map(|torrent| self.holders_among(torrent.info_hash, K)).sum();
        (1000 * held as u64).checked_div((K * torrents.len()) as u64).unwrap_or_default()
    }

    /// How many of a thousand torrents have their peer at one of the eight live nodes closest to them at least.
    pub fn reached_permille(&self, torrents: &[Torrent]) -> u64 {
        let is_reached = |torrent: &&Torrent| self.holders_among(torrent.info_hash, K) > 0;
        let reached = torrents.iter().filter(is_reached).count();
        (1000 * reached as u64).checked_div(torrents.len() as u64).unwrap_or_default()
    }

    /// How many buckets each of the nodes has that joined last.
    pub fn buckets(&self, newest: usize) -> impl Iterator<Item = usize> + '_ {
        self.hosts.iter().rev().take(newest).map(|host| host.node.table().fill().count())
    }

    fn holders_among(&self, info_hash: InfoHash, closest: usize) -> usize {
        let holds = |host: &u32| {
            let peers = self.hosts[*host as usize].node.peers();
            peers.blooms(self.now, info_hash).is_some()
        };
        self.closest(info_hash, closest).iter().filter(|host| holds(host)).count()
    }

    /// Of the nodes that those name who are closest to a torrent, how many are attackers, in thousandths.
    fn planted_permille(&self, info_hash: InfoHash) -> u64 {
        let name = |host: &u32| self.hosts[*host as usize].node.table().closest(info_hash.into(), K, true);
        let named: Vec<_> = self.closest(info_hash, 2 * K).iter().flat_map(name).collect();
        let planted = named.iter().filter(|contact| self.is_attacker(contact.addr)).count();
        (1000 * planted as u64).checked_div(named.len() as u64).unwrap_or_default()
    }

    fn closest(&self, info_hash: InfoHash, count: usize) -> Vec<u32> {
        let target = NodeId::from(info_hash);
        let mut hosts: Vec<_> = (0..self.hosts.len() as u32).collect();
        let distance = |host: &u32| self.hosts[*host as usize].node.id().distance(target);
        if count < hosts.len() {
            hosts.select_nth_unstable_by_key(count, distance);
            hosts.truncate(count);
        }
        hosts
    }

    fn any_hash(&mut self) -> InfoHash {
        let mut hash = [0; 20];
        self.rng.fill(&mut hash);
        InfoHash(hash)
    }

    /// Somebody announces a torrent, beginning now.
    fn announce_one(&mut self, info_hash: InfoHash) -> Torrent {
        let host = self.anybody_settled();
        let peer = SocketAddr::new(self.addr(host).ip(), 1024 + self.rng.below(60_000) as u16);
        let announced = Announced { port: peer.port(), implied_port: false, seed: false };
        let task = Task::GetPeers { info_hash, announce: Some(announced), noseed: false };
        self.look_up(host, task, None);
        Torrent { info_hash, peer }
    }

    fn anybody_settled(&mut self) -> u32 {
        for _ in 0..100 {
            let host = self.anybody();
            if self.hosts[host as usize].node.is_bootstrapped() {
                return host;
            }
        }
        self.anybody()
    }
}

/// Between two looks at how much tables grow.
const SETTLE_STEP: Duration = Duration::from_secs(20);

/// Whether they still grow or not.
const SETTLE_MAX: Duration = Duration::from_secs(600);

const BETWEEN_LOOKUPS: Duration = Duration::from_millis(20);

/// D-10: by then each lookup is over.
const LOOKUP_MAX: Duration = Duration::from_secs(31);

/// How long attackers take to make themselves known once.
const ADVERT_TIME: Duration = Duration::from_secs(40);

const SYBIL_ROUNDS: usize = 5;

/// Nodes that each of many attackers anywhere talks to in a round.
const SYBIL_ADVERTS: usize = 20;

const ECLIPSE_ROUNDS: usize = 5;

/// Nodes that those talk to who hide a torrent: all that are at all close to it.
const ECLIPSE_ADVERTS: usize = 300;
