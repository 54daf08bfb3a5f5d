//! Which addresses a torrent knows, and which of them to dial next.

mod bounds;
mod source;
#[cfg(test)]
mod tests;
mod waits;

pub use source::{Source, Sources};
pub use waits::Parting;

use super::bans::{Ban, Bans};
use super::priority::Place;
use crate::address::{Subnet, canonical, is_local, stands_for_name};
use crate::ip_filter::IpFilter;
use crate::machine::Timestamp;
use crate::rng::Rng;
use alloc::collections::btree_map::Entry as Slot;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::ops::Bound;

/// Why an address is not taken in, or a connection not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The address has as many ports or connections as one may.
    #[error("too many peers on one address")]
    AddressFull,
    /// It proved hostile.
    #[error("banned")]
    Banned,
    /// Nobody can listen there.
    #[error("no address of a peer")]
    Bogon,
    /// There is a connection to this peer.
    #[error("already connected")]
    Connected,
    /// The table is full of better ones.
    #[error("too many known peers")]
    Full,
    /// A stranger can't know what is on our own machine or network.
    #[error("a local address from a remote source")]
    Local,
    /// It is our own.
    #[error("our own address")]
    Own,
    /// Its neighbourhood has as many as one may.
    #[error("too many peers in one subnet")]
    SubnetFull,
    /// Who told us has told us enough.
    #[error("too many peers from one source")]
    TellerFull,
}

/// What is known of reaching a peer by uTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum UtpHint {
    /// Nothing.
    #[default]
    Unknown,
    /// Another peer says that it speaks uTP.
    Told,
    /// The last connection came about by uTP, before or without TCP.
    Worked,
}

/// The addresses that a torrent knows, with their history.
///
/// ```text
///             next_to_dial            handle_connected
///   ready ───────────────▶ dialling ───────────────────▶ connected ◀── accept
///     ▲                       │                              │
///     │ time                  │     handle_disconnected      │
///     ├──────── waiting ◀─────┴──────────────────────────────┘
///     │
///     └──────── shunned: blocked by the user, or a seed while we are one
/// ```
///
/// A peer is an (address, port), and there is one connection to each at most. Limits by address, subnet and teller
/// spare local addresses. A failing address is dialled ever more rarely, so that nobody can aim us at a
/// victim; one that once worked is given more of a chance.
#[derive(Clone, Debug)]
pub struct KnownPeers {
    limits: Limits,
    rng: Rng,
    peers: BTreeMap<SocketAddr, Known>,
    ready: BTreeSet<(Rank, SocketAddr)>,
    waiting: BTreeSet<(Timestamp, SocketAddr)>,
    /// The far end of every connection and dial, and where the peer there listens as far as we know.
    links: BTreeMap<SocketAddr, SocketAddr>,
    addresses: BTreeMap<IpAddr, OnAddress>,
    subnets: BTreeMap<Subnet, usize>,
    tellers: BTreeMap<Teller, Told>,
    /// In the order in which they came.
    own: VecDeque<SocketAddr>,
    bans: Bans,
    filter: Arc<IpFilter>,
    place: Place,
    /// Whether nothing is wanted any more, so that who has everything is of no use.
    seeding: bool,
}

/// How many of what [`KnownPeers`] holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Addresses in all.
    pub peers: usize,
    /// Addresses in one /24 or /56.
    pub peers_per_subnet: usize,
    /// Connections and dials to one public IP address.
    pub connections_per_address: usize,
}

impl Default for Limits {
    /// Limit L9.
    fn default() -> Self {
        Self { peers: 2000, peers_per_subnet: 64, connections_per_address: 1 }
    }
}

#[derive(Clone, Debug)]
struct Known {
    sources: Sources,
    /// Who told us first, and how.
    teller: Option<Teller>,
    state: State,
    /// In a row.
    failures: u8,
    /// Whether a connection with it ever worked.
    proven: bool,
    /// Whether it wants nothing any more, as it or others said (BEP 21).
    seed: bool,
    tried_at: Option<Timestamp>,
    /// Whether an obfuscated connection to it failed, and nothing has failed since.
    plain: bool,
    /// Worth nothing once a connection failed.
    utp: UtpHint,
    /// When it may be dialled in its turn, while it is dialled as a relay says and has not answered.
    turn: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Connected,
    Dialling,
    Ready(Rank),
    /// The user's filter blocks the address, or neither side wants anything: it is not dialled.
    Shunned,
    Waiting(Timestamp),
}

/// The lowest is dialled first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    class: u8,
    failures: u8,
    /// The order among equals: by canonical priority (BEP 40), or by chance as long as that is not known.
    order: u32,
}

type Teller = (Source, IpAddr);

/// What one IP address has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct OnAddress {
    known: usize,
    links: usize,
}

/// What one teller told us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Told {
    known: usize,
    dialling: usize,
}

impl KnownPeers {
    /// Knows nobody.
    pub fn new(limits: Limits, rng: Rng) -> Self {
        Self {
            limits,
            rng,
            peers: BTreeMap::new(),
            ready: BTreeSet::new(),
            waiting: BTreeSet::new(),
            links: BTreeMap::new(),
            addresses: BTreeMap::new(),
            subnets: BTreeMap::new(),
            tellers: BTreeMap::new(),
            own: VecDeque::new(),
            bans: Bans::new(),
            filter: Arc::default(),
            place: Place::default(),
            seeding: false,
        }
    }

    /// How many addresses are known.
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// Whether no address is known.
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// Whether an address could be dialled now. Becomes true by [`learn`](Self::learn) and
    /// [`handle_timeout`](Self::handle_timeout).
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// How many of them are not dialled as the user's filter blocks them. Looks at each.
    pub fn filtered(&self) -> usize {
        self.peers.keys().filter(|addr| self.filter.blocks(addr.ip())).count()
    }

    /// Never dials what this filter blocks, in place of what was blocked before. Whoever is connected stays: it is the
    /// caller who ends connections.
    pub fn set_filter(&mut self, filter: &Arc<IpFilter>) {
        self.filter = Arc::clone(filter);
        self.judge_idle();
    }

    /// Dials nobody who wants nothing while we don't either (BEP 21). When we do again, they are dialled at once.
    pub fn set_seeding(&mut self, seeding: bool) {
        if core::mem::replace(&mut self.seeding, seeding) && !seeding {
            // They wait as they were of no use. Those that can't be reached wait on.
            let waits = |known: &Known| matches!(known.state, State::Waiting(_)) && known.failures == 0;
            let seeds = self.peers.iter().filter(|(_, known)| known.seed && waits(known));
            let seeds = seeds.map(|(addr, _)| *addr).collect::<Vec<_>>();
            seeds.into_iter().for_each(|addr| self.make_ready(addr));
        }
        self.judge_idle();
    }

    /// Notes that the peer at `addr` wants nothing any more.
    pub fn note_seed(&mut self, addr: SocketAddr) {
        let addr = canonical(addr);
        if let Some(known) = self.peers.get_mut(&addr) {
            known.seed = true;
            if matches!(known.state, State::Ready(_)) {
                self.make_ready(addr);
            }
        }
    }

    /// Notes that `teller` said so in a peer exchange. It is believed of addresses only that nobody named before it, or it
    /// could keep us from all others.
    pub fn note_told_seed(&mut self, addr: SocketAddr, teller: IpAddr) {
        let told = Some((Source::Pex, teller.to_canonical()));
        if self.peers.get(&canonical(addr)).is_some_and(|known| known.teller == told) {
            self.note_seed(addr);
        }
    }

    /// Looks anew at all that neither wait nor are connected.
    fn judge_idle(&mut self) {
        let idle = |known: &Known| matches!(known.state, State::Ready(_) | State::Shunned);
        let idle = self.peers.iter().filter(|(_, known)| idle(known)).map(|(addr, _)| *addr);
        idle.collect::<Vec<_>>().into_iter().for_each(|addr| self.make_ready(addr));
    }

    fn is_shunned(&self, addr: SocketAddr, known: &Known) -> bool {
        let named = known.sources.has(Source::Manual);
        self.filter.blocks(addr.ip()) || self.seeding && known.seed && !named
    }

    /// Dials those first, of otherwise equal ones, with which a connection has the highest priority when peers see us
    /// here (BEP 40).
    pub fn set_place(&mut self, place: Place) {
        self.place = place;
        self.ready.clone().into_iter().for_each(|(_, addr)| self.make_ready(addr));
    }

    /// Where peers see us.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Who told us of `addr`.
    pub fn sources(&self, addr: SocketAddr) -> Sources {
        self.peers.get(&canonical(addr)).map_or(Sources::default(), |known| known.sources)
    }

    /// The addresses to which a connection worked: those worth remembering.
    pub fn proven(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        let proven = self.peers.iter().filter(|(_, known)| known.proven).map(|(addr, _)| *addr);
        proven.filter(|addr| !stands_for_name(addr.ip()))
    }

    /// Whether `addr`, an endpoint or the far end of a connection, is banned.
    pub fn is_banned(&self, addr: SocketAddr) -> bool {
        let addr = canonical(addr);
        self.bans.is_banned(addr) || self.links.get(&addr).is_some_and(|peer| self.bans.is_banned(*peer))
    }

    /// Takes in an address; returns whether it is new. `teller` is the address of the tracker, peer or node that told
    /// us, if it was one. What the user adds by hand is tried anew, however often it failed.
    pub fn learn(
        &mut self,
        now: Timestamp,
        addr: SocketAddr,
        source: Source,
        teller: Option<IpAddr>,
    ) -> Result<bool, Refusal> {
        let addr = canonical(addr);
        if let Some(known) = self.peers.get_mut(&addr) {
            known.sources.insert(source);
            if source == Source::Manual {
                known.failures = 0;
            }
            if source == Source::Manual || matches!(known.state, State::Ready(_)) {
                self.make_ready(addr);
            }
            return Ok(false);
        }
        let teller = teller.map(|ip| (source, ip.to_canonical()));
        self.check_new(addr, source, teller)?;
        // One that is not dialled is not worth another's place.
        let blocked = self.filter.blocks(addr.ip());
        if self.peers.len() >= self.limits.peers && (blocked || !self.make_room(now, source.class())) {
            return Err(Refusal::Full);
        }
        let mut sources = Sources::default();
        sources.insert(source);
        let known = Known {
            sources,
            teller,
            state: State::Waiting(now),
            failures: 0,
            proven: false,
            seed: false,
            tried_at: None,
            plain: false,
            utp: UtpHint::Unknown,
            turn: None,
        };
        self.peers.insert(addr, known);
        self.waiting.insert((now, addr));
        self.addresses.entry(addr.ip()).or_default().known += 1;
        if let Some(subnet) = Subnet::of(addr.ip()) {
            *self.subnets.entry(subnet).or_default() += 1;
        }
        if let Some(teller) = teller {
            self.tellers.entry(teller).or_default().known += 1;
        }
        if self.is_linked(addr) {
            self.set_state(addr, State::Connected);
        } else {
            self.make_ready(addr);
        }
        Ok(true)
    }

    /// Notes that `addr` is where we listen ourselves, or that our own handshake came back from there: never dial it.
    pub fn learn_own(&mut self, addr: SocketAddr) {
        let addr = canonical(addr);
        self.own.retain(|own| *own != addr);
        if self.own.len() >= MAX_OWN {
            self.own.pop_front();
        }
        self.own.push_back(addr);
        if self.peers.get(&addr).is_some_and(|known| !known.is_busy()) {
            self.forget(addr);
        }
    }

    /// The best addresses to dial now, up to `max`. Each must end in
    /// [`handle_disconnected`](Self::handle_disconnected), whatever came of it.
    pub fn next_to_dial(&mut self, now: Timestamp, max: usize) -> Vec<SocketAddr> {
        self.handle_timeout(now);
        let mut chosen = Vec::new();
        let mut last = None;
        while chosen.len() < max {
            let rest = last.map_or(Bound::Unbounded, Bound::Excluded);
            let Some(&next) = self.ready.range((rest, Bound::Unbounded)).next() else { break };
            last = Some(next);
            let addr = next.1;
            if self.may_dial(addr) {
                self.link(addr, addr);
                self.set_state(addr, State::Dialling);
                let known = self.peers.get_mut(&addr).expect("what is ready is known");
                known.tried_at = Some(now);
                if let Some(teller) = known.teller {
                    self.tellers.entry(teller).or_default().dialling += 1;
                }
                chosen.push(addr);
            }
        }
        chosen
    }

    /// Notes that a dialled peer answered and shook hands.
    pub fn handle_connected(&mut self, addr: SocketAddr) {
        let addr = canonical(addr);
        if self.end_dial(addr) {
            let known = self.peers.get_mut(&addr).expect("who was dialled is known");
            // What it wants shows anew.
            (known.proven, known.seed, known.turn) = (true, false, None);
            self.set_state(addr, State::Connected);
        }
    }

    /// Asks whether a connection from `remote` is welcome. If so it is counted, until
    /// [`handle_disconnected`](Self::handle_disconnected).
    pub fn accept(&mut self, remote: SocketAddr) -> Result<(), Refusal> {
        let remote = canonical(remote);
        if self.is_banned(remote) {
            return Err(Refusal::Banned);
        }
        if self.links.contains_key(&remote) || self.is_linked(remote) {
            return Err(Refusal::Connected);
        }
        if !self.has_room_for_link(remote.ip()) {
            return Err(Refusal::AddressFull);
        }
        self.link(remote, remote);
        // It may have bound the port that it listens on.
        self.set_state(remote, State::Connected);
        Ok(())
    }

    /// Notes that the peer at `remote`, which connected to us, says that it listens on `port`; returns where it is
    /// taken to listen. An error means that this connection should be closed.
    pub fn handle_listen_port(
        &mut self,
        now: Timestamp,
        remote: SocketAddr,
        port: u16,
    ) -> Result<SocketAddr, Refusal> {
        let remote = canonical(remote);
        let mut listens = remote;
        listens.set_port(port);
        match self.links.get(&remote) {
            Some(peer) if *peer != remote => return Ok(*peer),
            Some(_) if port != 0 && port != remote.port() => {}
            _ => return Ok(remote),
        }
        if self.bans.is_banned(listens) {
            return Err(Refusal::Banned);
        }
        if self.is_linked(listens) {
            return Err(Refusal::Connected);
        }
        // A full table is no reason to hang up: the peer is here, whether it can be found again or not.
        if self.learn(now, listens, Source::Incoming, None).is_ok() {
            self.set_state(listens, State::Connected);
        }
        self.rest(remote, now);
        self.links.insert(remote, listens);
        Ok(listens)
    }

    /// Notes that a connection ended, or a dial without one.
    pub fn handle_disconnected(&mut self, now: Timestamp, remote: SocketAddr, parting: Parting) {
        if let Some(peer) = self.unlink(canonical(remote)) {
            self.end_dial(peer);
            self.part(now, peer, parting);
        }
    }

    /// Notes that an obfuscated connection to `addr`, which ended just now, did not come about: it is dialled again
    /// without, and at once. If that fails too, the next one is obfuscated again.
    pub fn dial_plain(&mut self, addr: SocketAddr) {
        let addr = canonical(addr);
        if let Some(known) = self.peers.get_mut(&addr).filter(|known| !known.is_busy()) {
            known.plain = true;
            known.failures = known.failures.saturating_sub(1);
            self.make_ready(addr);
        }
    }

    /// Whether `addr` is to be dialled without obfuscation, which failed.
    pub fn dials_plain(&self, addr: SocketAddr) -> bool {
        self.peers.get(&canonical(addr)).is_some_and(|known| known.plain)
    }

    /// How often a connection to `addr` failed in a row.
    pub fn failures(&self, addr: SocketAddr) -> u8 {
        self.peers.get(&canonical(addr)).map_or(0, |known| known.failures)
    }

    /// Notes how `addr`, if it is known, is reached by uTP: what was found out, or what others say.
    pub fn note_utp(&mut self, addr: SocketAddr, hint: UtpHint) {
        if let Some(known) = self.peers.get_mut(&canonical(addr)) {
            known.utp = if hint == UtpHint::Told { known.utp.max(hint) } else { hint };
        }
    }

    /// What is known of reaching `addr` by uTP.
    pub fn utp_hint(&self, addr: SocketAddr) -> UtpHint {
        self.peers.get(&canonical(addr)).map_or(UtpHint::Unknown, |known| known.utp)
    }

    /// Bans the peer at `remote`, the far end of a connection or an address.
    pub fn ban(&mut self, remote: SocketAddr) -> Ban {
        let remote = canonical(remote);
        let peer = self.links.get(&remote).copied().unwrap_or(remote);
        let reach = self.bans.ban(peer);
        let idle = |(addr, known): (&SocketAddr, &Known)| (!known.is_busy()).then_some(*addr);
        let there: Vec<SocketAddr> = match reach {
            Ban::Address => {
                self.peers.iter().filter(|(addr, _)| addr.ip() == peer.ip()).filter_map(idle).collect()
            }
            Ban::Endpoint => self.peers.get_key_value(&peer).and_then(idle).into_iter().collect(),
        };
        there.into_iter().for_each(|addr| self.forget(addr));
        reach
    }

    /// Takes back whatever these sources said: a peer that nobody else named is forgotten. One with a connection or dial
    /// is forgotten when that ends; the far ends of those are returned.
    pub fn unlearn(&mut self, sources: &[Source]) -> Vec<SocketAddr> {
        for known in self.peers.values_mut() {
            sources.iter().for_each(|source| known.sources.remove(*source));
        }
        let unnamed = self.peers.iter().filter(|(_, known)| known.sources.is_empty());
        let (busy, idle): (Vec<_>, Vec<_>) =
            unnamed.map(|(addr, known)| (*addr, known.is_busy())).partition(|(_, busy)| *busy);
        idle.into_iter().for_each(|(addr, _)| self.forget(addr));
        let links = self.links.iter().filter(|(_, peer)| busy.iter().any(|(addr, _)| addr == *peer));
        links.map(|(remote, _)| *remote).collect()
    }

    fn may_dial(&self, addr: SocketAddr) -> bool {
        let teller = self.peers.get(&addr).and_then(|known| known.teller);
        let told = teller.filter(|(source, _)| matches!(source, Source::Dht | Source::Pex));
        let told = told.and_then(|teller| self.tellers.get(&teller));
        // A peer that connected to us from this port said that it listens on another.
        let is_far_end = self.links.contains_key(&addr);
        !is_far_end
            && self.has_room_for_link(addr.ip())
            && told.is_none_or(|told| told.dialling < DIALS_PER_TELLER)
    }

    /// Whether one more connection with an address may be.
    pub fn has_room_for_link(&self, ip: IpAddr) -> bool {
        is_local(ip)
            || self.addresses.get(&ip).is_none_or(|on| on.links < self.limits.connections_per_address)
    }

    /// Whether a connection or dial leads to the peer that listens at `addr`.
    fn is_linked(&self, addr: SocketAddr) -> bool {
        let on_address = SocketAddr::new(addr.ip(), 0)..=SocketAddr::new(addr.ip(), u16::MAX);
        self.links.range(on_address).any(|(_, peer)| *peer == addr)
    }

    fn link(&mut self, remote: SocketAddr, peer: SocketAddr) {
        assert!(self.links.insert(remote, peer).is_none(), "there is one connection to {remote} at most");
        self.addresses.entry(remote.ip()).or_default().links += 1;
    }

    fn unlink(&mut self, remote: SocketAddr) -> Option<SocketAddr> {
        let peer = self.links.remove(&remote)?;
        self.count_address(remote.ip(), |on| on.links -= 1);
        Some(peer)
    }

    /// The dial of `addr` is over, one way or the other; returns whether there was one.
    fn end_dial(&mut self, addr: SocketAddr) -> bool {
        let Some(known) = self.peers.get(&addr).filter(|known| known.state == State::Dialling) else {
            return false;
        };
        if let Some(teller) = known.teller {
            self.count_teller(teller, |told| told.dialling -= 1);
        }
        true
    }

    /// Lets a peer without a connection wait, or forgets it if it is not to be dialled again.
    fn rest(&mut self, addr: SocketAddr, until: Timestamp) {
        self.set_state(addr, State::Waiting(until));
        let unnamed = self.peers.get(&addr).is_some_and(|known| known.sources.is_empty());
        if unnamed || self.bans.is_banned(addr) || self.own.contains(&addr) {
            self.forget(addr);
        }
    }

    /// Lets a peer that is neither connected nor being dialled be dialled, or ranks it anew; not if it is blocked.
    fn make_ready(&mut self, addr: SocketAddr) {
        if let Some(known) = self.peers.get(&addr)
            && !known.is_busy()
        {
            if self.is_shunned(addr, known) {
                return self.set_state(addr, State::Shunned);
            }
            let (class, failures) = (known.class(), known.failures);
            let order = match (self.place.priority_of(addr), known.state) {
                (Some(priority), _) => !priority,
                (None, State::Ready(rank)) => rank.order,
                (None, _) => self.rng.next_u32(),
            };
            self.set_state(addr, State::Ready(Rank { class, failures, order }));
        }
    }

    fn set_state(&mut self, addr: SocketAddr, state: State) {
        let Some(known) = self.peers.get_mut(&addr) else { return };
        match core::mem::replace(&mut known.state, state) {
            State::Ready(rank) => assert!(self.ready.remove(&(rank, addr)), "{addr} was ready"),
            State::Waiting(until) => assert!(self.waiting.remove(&(until, addr)), "{addr} waited"),
            State::Connected | State::Dialling | State::Shunned => {}
        }
        match state {
            State::Ready(rank) => assert!(self.ready.insert((rank, addr)), "{addr} is ready once"),
            State::Waiting(until) => assert!(self.waiting.insert((until, addr)), "{addr} waits once"),
            State::Connected | State::Dialling | State::Shunned => {}
        }
    }

    /// Drops a peer that is neither connected nor being dialled.
    fn forget(&mut self, addr: SocketAddr) {
        // Out of the ordered sets first.
        self.set_state(addr, State::Connected);
        let Some(known) = self.peers.remove(&addr) else { return };
        self.count_address(addr.ip(), |on| on.known -= 1);
        if let Some(subnet) = Subnet::of(addr.ip())
            && let Slot::Occupied(mut count) = self.subnets.entry(subnet)
        {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        if let Some(teller) = known.teller {
            self.count_teller(teller, |told| told.known -= 1);
        }
    }

    fn count_address(&mut self, ip: IpAddr, change: impl FnOnce(&mut OnAddress)) {
        let on = self.addresses.get_mut(&ip).expect("an address is counted while anything is on it");
        change(on);
        if *on == OnAddress::default() {
            self.addresses.remove(&ip);
        }
    }

    fn count_teller(&mut self, teller: Teller, change: impl FnOnce(&mut Told)) {
        let told = self.tellers.get_mut(&teller).expect("a teller is counted while we know whom it named");
        change(told);
        if *told == Told::default() {
            self.tellers.remove(&teller);
        }
    }
}

impl Known {
    /// Whether it is connected or being dialled.
    fn is_busy(&self) -> bool {
        matches!(self.state, State::Connected | State::Dialling)
    }

    /// The lowest is dialled first: what the user gave, what worked before, then the source that is hardest to poison.
    fn class(&self) -> u8 {
        // Only a peer with a connection may have nobody left who named it.
        let best = self.sources.iter().map(Source::class).min().unwrap_or(u8::MAX);
        if self.proven { best.min(1) } else { best }
    }
}

/// How many of the peers that one node or peer named are dialled at a time: 30 % of the half-open connections of L9.
const DIALS_PER_TELLER: usize = 9;

/// How many of our own addresses are remembered.
const MAX_OWN: usize = 64;
