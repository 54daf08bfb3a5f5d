//! The peers that were announced to us (BEP 5, 33, 51).

mod packed;
#[cfg(test)]
mod tests;

use super::bloom::Bloom;
use super::message::{Family, Samples};
use super::shares::{Owner, Shares};
use crate::address::canonical;
use crate::id::InfoHash;
use crate::machine::{Deadline, Timestamp};
use crate::rng::Rng;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;
use packed::{Packed, Peer};

/// The peers of one family that were announced, by torrent.
///
/// One IP address is one peer of a torrent, and a local address is one. A peer that isn't announced again for
/// [`LIFETIME`] is forgotten.
///
/// When a torrent, or the store, is full, somebody has to give way. Torrents and peers are charged to the subnet from
/// which they were announced, and who has most gives way: a flood from one subnet drives out what came from there before,
/// and nothing of others who have less.
///
/// - Too many torrents: of those that are charged to the subnets with most of them, the one with the fewest peers, and
///   of these the one that was announced longest ago. A torrent that is announced from several subnets is charged to the
///   one with the fewest torrents.
/// - Too many peers in a torrent: of the subnets with most peers in it, the one that was announced longest ago.
/// - Too many bytes in all: likewise, in the torrent with most peers.
#[derive(Clone, Debug)]
pub struct PeerStore {
    family: Family,
    limits: PeerLimits,
    rng: Rng,
    torrents: BTreeMap<InfoHash, Torrent>,
    /// How many torrents each owner has.
    shares: Shares,
    /// What the torrents take.
    bytes: usize,
    sweep_at: Timestamp,
    sample: Sample,
}

/// How much of what [`PeerStore`] holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerLimits {
    /// Torrents.
    pub torrents: usize,
    /// Peers in one torrent.
    pub peers_per_torrent: usize,
    /// Bytes in all, about.
    pub bytes: usize,
}

impl Default for PeerLimits {
    /// Limit L11. The bytes are such that a store for each family, and one of items for each, have 8 MiB.
    fn default() -> Self {
        Self { torrents: 2000, peers_per_torrent: 100, bytes: 3 << 20 }
    }
}

#[derive(Clone, Debug)]
struct Torrent {
    owner: Owner,
    /// In seconds since the start.
    heard_at: u32,
    peers: Packed,
}

/// The torrents that everybody gets to see who asks for some, until it is time to show others (BEP 51).
#[derive(Clone, Debug, Default)]
struct Sample {
    until: Timestamp,
    hashes: Vec<[u8; 20]>,
}

impl PeerStore {
    /// Without peers.
    pub fn new(family: Family, limits: PeerLimits, rng: Rng) -> Self {
        Self {
            family,
            limits,
            rng,
            torrents: BTreeMap::new(),
            shares: Shares::new(),
            bytes: 0,
            sweep_at: Timestamp::ZERO,
            sample: Sample::default(),
        }
    }

    /// How many torrents it knows.
    pub fn torrents(&self) -> usize {
        self.torrents.len()
    }

    /// How many peers it knows. Looks at every torrent.
    pub fn peers(&self) -> usize {
        self.torrents.values().map(|torrent| torrent.peers.len()).sum()
    }

    /// About how many bytes it takes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Notes that there is a peer of a torrent at `addr`. Whether it may be announced is for others to judge. One of the
    /// other family, or at port 0, is left out.
    pub fn announce(&mut self, now: Timestamp, info_hash: InfoHash, addr: SocketAddr, seed: bool) {
        let addr = canonical(addr);
        let nobody = self.limits.torrents == 0 || self.limits.peers_per_torrent == 0;
        if Family::of(addr.ip()) != self.family || addr.port() == 0 || nobody {
            return;
        }
        if self.torrents.is_empty() {
            self.sweep_at = now + SWEEP;
        }
        let owner = Owner::of(addr);
        let heard_at = seconds(now);
        if !self.torrents.contains_key(&info_hash) {
            if self.torrents.len() >= self.limits.torrents {
                self.make_room(Some(owner));
            }
            self.torrents.insert(info_hash, Torrent { owner, heard_at, peers: Packed::new(self.family) });
            self.shares.add(owner);
            self.bytes += TORRENT_BYTES;
        }
        let torrent = self.torrents.get_mut(&info_hash).expect("it was there, or was put there");
        torrent.owner = self.shares.lighten(torrent.owner, owner);
        torrent.heard_at = heard_at;
        let peer = Peer { addr, seed, heard_at };
        let before = torrent.peers.capacity();
        let full = torrent.peers.len() >= self.limits.peers_per_torrent;
        let replaced = torrent
            .peers
            .position(addr)
            .or_else(|| full.then(|| torrent.peers.yields(Some(owner))).flatten());
        match replaced {
            Some(i) => torrent.peers.set(i, peer),
            None => torrent.peers.push(peer),
        }
        self.bytes = self.bytes - before + torrent.peers.capacity();
        while self.bytes > self.limits.bytes && self.shed() {}
    }

    /// Some peers of a torrent, `max` at most, in random order; if `noseed` then seeds only where there are too few
    /// others (BEP 33). Appends them to `out`.
    pub fn pick(
        &mut self,
        now: Timestamp,
        info_hash: InfoHash,
        noseed: bool,
        max: usize,
        out: &mut Vec<SocketAddr>,
    ) {
        let Some(torrent) = self.torrents.get(&info_hash) else { return };
        let mut peers: Vec<Peer> = torrent.alive(now).collect();
        self.rng.shuffle(&mut peers);
        if noseed {
            peers.sort_by_key(|peer| peer.seed);
        }
        out.extend(peers.into_iter().take(max).map(|peer| peer.addr));
    }

    /// The filters of a torrent's seeds and of its other peers, if it has any (BEP 33).
    pub fn blooms(&self, now: Timestamp, info_hash: InfoHash) -> Option<(Bloom, Bloom)> {
        let (mut seeds, mut others, mut any) = (Bloom::new(), Bloom::new(), false);
        for peer in self.torrents.get(&info_hash)?.alive(now) {
            let bloom = if peer.seed { &mut seeds } else { &mut others };
            bloom.insert(peer.addr.ip());
            any = true;
        }
        any.then_some((seeds, others))
    }

    /// Some of the torrents (BEP 51). The same ones for six hours, lest somebody get to know all of them.
    pub fn sample(&mut self, now: Timestamp) -> Samples<'_> {
        let too_few = self.sample.hashes.len() < self.torrents.len().min(MAX_SAMPLES);
        if too_few || now >= self.sample.until {
            let mut hashes: Vec<[u8; 20]> = self.torrents.keys().map(|hash| hash.0).collect();
            self.rng.shuffle(&mut hashes);
            hashes.truncate(MAX_SAMPLES);
            self.sample = Sample { until: now + SAMPLE_PERIOD, hashes };
        }
        Samples {
            interval: self.sample.until.since(now).as_secs() as i64,
            count: self.torrents.len() as i64,
            hashes: &self.sample.hashes,
        }
    }

    /// Forgets who was not announced for too long. None of these is handed out before that either.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        if now < self.sweep_at {
            return;
        }
        self.sweep_at = now + SWEEP;
        let (second, shares, bytes) = (oldest(now), &mut self.shares, &mut self.bytes);
        self.torrents.retain(|_, torrent| {
            let before = torrent.peers.capacity();
            torrent.peers.expire(second);
            *bytes = *bytes - before + torrent.peers.capacity();
            let keep = torrent.peers.len() > 0;
            if !keep {
                *bytes -= TORRENT_BYTES + torrent.peers.capacity();
                shares.remove(torrent.owner);
            }
            keep
        });
    }

    /// When to look for peers to forget, while there are any.
    pub fn poll_timeout(&self) -> Option<Deadline> {
        (!self.torrents.is_empty()).then_some(Deadline { at: self.sweep_at, why: "announced peers expire" })
    }

    /// Panics unless every limit holds, and every count agrees with a recount. For tests and simulators.
    pub fn check_invariants(&self, now: Timestamp) {
        assert!(self.torrents.len() <= self.limits.torrents, "L11: torrents");
        assert!(self.bytes <= self.limits.bytes, "L11: bytes");
        assert!(self.sample.hashes.len() <= MAX_SAMPLES);
        let mut bytes = 0;
        for (info_hash, torrent) in &self.torrents {
            assert!(
                (1..=self.limits.peers_per_torrent).contains(&torrent.peers.len()),
                "{info_hash}: L11: peers"
            );
            bytes += TORRENT_BYTES + torrent.peers.capacity();
            for (i, peer) in torrent.peers.iter().enumerate() {
                assert_eq!(Family::of(peer.addr.ip()), self.family, "{info_hash}: {}", peer.addr);
                assert_eq!(torrent.peers.position(peer.addr), Some(i), "{} is there once", peer.addr);
                assert!(peer.heard_at <= seconds(now), "{info_hash}: {} expires in time", peer.addr);
            }
        }
        assert_eq!(self.bytes, bytes);
        assert_eq!(self.shares, self.torrents.values().map(|torrent| torrent.owner).collect());
    }

    /// Drops the torrent that has to give way, to one of `newcomer` if there is one.
    fn make_room(&mut self, newcomer: Option<Owner>) {
        let torrents = self
            .torrents
            .iter()
            .map(|(info_hash, torrent)| (*info_hash, torrent.owner, (torrent.peers.len(), torrent.heard_at)));
        if let Some(info_hash) = self.shares.who_yields(newcomer, torrents) {
            let dropped = self.torrents.remove(&info_hash).expect("it was found there");
            self.shares.remove(dropped.owner);
            self.bytes -= TORRENT_BYTES + dropped.peers.capacity();
        }
    }

    /// Drops the peer, or the torrent, that has to give way so that there are fewer bytes. Returns whether there was one.
    fn shed(&mut self) -> bool {
        let Some(largest) = self.torrents.values_mut().max_by_key(|torrent| torrent.peers.len()) else {
            return false;
        };
        if largest.peers.len() == 1 {
            self.make_room(None);
            return true;
        }
        let before = largest.peers.capacity();
        let yields = largest.peers.yields(None).expect("it has two peers at least");
        largest.peers.remove(yields);
        self.bytes = self.bytes - before + largest.peers.capacity();
        true
    }
}

impl Torrent {
    /// The peers that were announced lately enough.
    fn alive(&self, now: Timestamp) -> impl Iterator<Item = Peer> + '_ {
        let oldest = oldest(now);
        self.peers.iter().filter(move |peer| peer.heard_at >= oldest)
    }
}

/// When the oldest of the peers that are not forgotten were announced.
fn oldest(now: Timestamp) -> u32 {
    seconds(now).saturating_sub(LIFETIME.as_secs() as u32 - 1)
}

/// Seconds since the start; 68 years of them fit beside a flag.
fn seconds(now: Timestamp) -> u32 {
    (now.as_micros() / 1_000_000).min(i32::MAX as u64) as u32
}

/// Peers announce themselves every 15 to 30 minutes (BEP 5).
pub const LIFETIME: Duration = Duration::from_secs(45 * 60);

/// How many torrents are shown to who asks for some: what fits into an answer beside nodes of both families.
const MAX_SAMPLES: usize = 20;

/// BEP 51: six hours at most.
const SAMPLE_PERIOD: Duration = Duration::from_secs(21_600);

/// How often to look for peers to forget. They take memory until then, no more.
const SWEEP: Duration = Duration::from_secs(300);

/// What a torrent takes beside its peers: twice its entry, as the nodes of the map are half empty at worst, and an owner.
const TORRENT_BYTES: usize = 2 * (size_of::<(InfoHash, Torrent)>() + size_of::<(Owner, usize)>());
