//! How much is known at most, and what makes room.

use super::{Known, KnownPeers, OnAddress, Refusal, Source, State, Teller, Told};
use crate::address::{Subnet, is_dialable, is_local, stands_for_name};
use crate::machine::Timestamp;
use alloc::collections::{BTreeMap, BTreeSet};
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

impl KnownPeers {
    /// Panics unless every index and count agrees with a recount. For tests and simulators.
    pub fn check_invariants(&self) {
        let (mut ready, mut waiting) = (BTreeSet::new(), BTreeSet::new());
        let mut addresses: BTreeMap<IpAddr, OnAddress> = BTreeMap::new();
        let mut subnets: BTreeMap<Subnet, usize> = BTreeMap::new();
        let mut tellers: BTreeMap<Teller, Told> = BTreeMap::new();
        for (addr, known) in &self.peers {
            let linked = self.is_linked(*addr);
            match known.state {
                State::Connected => assert!(linked, "{addr} has a connection"),
                State::Dialling => assert!(self.links.contains_key(addr), "{addr} is being dialled"),
                State::Ready(rank) => {
                    assert!(!self.is_shunned(*addr, known), "{addr} is shunned and ready");
                    assert!(ready.insert((rank, *addr)));
                }
                State::Shunned => assert!(self.is_shunned(*addr, known), "{addr} is not shunned"),
                State::Waiting(until) => assert!(waiting.insert((until, *addr))),
            }
            assert!(known.turn.is_none() || known.state == State::Dialling, "{addr} has its turn");
            assert_eq!(known.is_busy(), linked, "{addr} is linked while it is busy");
            assert!(known.is_busy() || !self.bans.is_banned(*addr), "{addr} is banned and known");
            assert!(known.is_busy() || !known.sources.is_empty(), "nobody named {addr}");
            addresses.entry(addr.ip()).or_default().known += 1;
            if let Some(subnet) = Subnet::of(addr.ip()) {
                *subnets.entry(subnet).or_default() += 1;
            }
            if let Some(teller) = known.teller {
                let told = tellers.entry(teller).or_default();
                told.known += 1;
                told.dialling += usize::from(known.state == State::Dialling);
            }
        }
        for remote in self.links.keys() {
            addresses.entry(remote.ip()).or_default().links += 1;
        }
        assert_eq!((&self.ready, &self.waiting), (&ready, &waiting));
        assert_eq!((&self.addresses, &self.subnets), (&addresses, &subnets));
        assert_eq!(self.tellers, tellers);
        assert!(self.peers.len() <= self.limits.peers);
        assert!(subnets.values().all(|count| *count <= self.limits.peers_per_subnet));
        let public = addresses.iter().filter(|(ip, _)| !is_local(**ip));
        assert!(public.map(|(_, on)| on.links).all(|links| links <= self.limits.connections_per_address));
    }

    pub(super) fn check_new(
        &self,
        addr: SocketAddr,
        source: Source,
        teller: Option<Teller>,
    ) -> Result<(), Refusal> {
        let ip = addr.ip();
        // The user may name a peer by its name. To anybody else the address means nothing.
        if !is_dialable(addr) || stands_for_name(ip) && source != Source::Manual {
            return Err(Refusal::Bogon);
        }
        if self.own.contains(&addr) {
            return Err(Refusal::Own);
        }
        if self.bans.is_banned(addr) {
            return Err(Refusal::Banned);
        }
        if let Some(subnet) = Subnet::of(ip) {
            let ports = match source {
                Source::Manual => usize::MAX,
                Source::Pex => 1,
                _ => PORTS_PER_ADDRESS,
            };
            if self.addresses.get(&ip).is_some_and(|on| on.known >= ports) {
                return Err(Refusal::AddressFull);
            }
            if self.subnets.get(&subnet).is_some_and(|known| *known >= self.limits.peers_per_subnet) {
                return Err(Refusal::SubnetFull);
            }
        } else if matches!(source, Source::Dht | Source::Pex) && teller.is_some_and(|(_, ip)| !is_local(ip)) {
            return Err(Refusal::Local);
        }
        if teller.is_some_and(|teller| {
            self.tellers.get(&teller).is_some_and(|told| told.known >= teller.0.told_limit())
        }) {
            return Err(Refusal::TellerFull);
        }
        Ok(())
    }

    /// Drops an address that is worth less than one of `class`; returns whether there was one.
    ///
    /// What was dialled within the hour stays: whoever made us forget it could have it dialled again and again.
    pub(super) fn make_room(&mut self, now: Timestamp, class: u8) -> bool {
        let worth = |known: &Known| -> Option<(bool, bool, u8, u8)> {
            let shunned = known.state == State::Shunned;
            let tried_lately = known.tried_at.is_some_and(|at| now.since(at) < FORGET_AFTER);
            let protected = known.is_busy() || known.proven || known.sources.has(Source::Manual);
            let worse = shunned || known.failures > 0 || known.class() > class;
            (!tried_lately && !protected && worse).then_some((
                shunned,
                known.failures > 0,
                known.failures,
                known.class(),
            ))
        };
        let worst = self.peers.iter().filter_map(|(addr, known)| Some((worth(known)?, *addr))).max();
        let Some((_, addr)) = worst else { return false };
        self.forget(addr);
        true
    }
}

/// How many ports of one public address are known at most, as several people may share it. What a peer tells (PEX) is
/// believed for one port only, and the user for any.
pub(super) const PORTS_PER_ADDRESS: usize = 4;

/// How long a failed address is remembered at least.
pub(super) const FORGET_AFTER: Duration = Duration::from_secs(60 * 60);
