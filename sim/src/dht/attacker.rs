//! Nodes that work together to hide what is stored.

use super::addresses::PORT;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::ops::Range;
use fast_peer_core::dht::message::{
    Announce, Body, Contact, Message, Method, Nodes, Query, Reply, Transaction, Values,
};
use fast_peer_core::dht::node_id::NodeId;
use fast_peer_core::dht::table::K;
use fast_peer_core::id::InfoHash;
use fast_peer_core::rng::Rng;

/// What attackers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attack {
    /// Nodes with ids as close as BEP 42 allows to one torrent, on the best addresses of the best 64 /24s in 16 /16s.
    Eclipse,
    /// So many percent of all nodes, anywhere.
    Sybils(u8),
}

/// Attackers, all of whom know each other.
///
/// They answer like nodes, but name only each other, and peers that are none. What is announced to them they forget. To
/// get into tables they ask honest nodes again and again.
#[derive(Clone, Debug, Default)]
pub(super) struct Attackers {
    contacts: Vec<Contact>,
}

impl Attackers {
    /// Those of [`Attack::Eclipse`], against `target`.
    pub(super) fn around(target: InfoHash, rng: &mut Rng) -> Self {
        let mut contacts: Vec<Contact> = Vec::new();
        for n in 0..PROVIDERS as u8 {
            let (first, second) = (FIRST_OCTETS.start + n % 4, 4 * (n / 4) + rng.below(4) as u8);
            // Other bits of the third octet don't count (BEP 42).
            let mut subnets: Vec<Vec<Contact>> = (0..64)
                .map(|third| {
                    let hosts = (1..255).map(|host| Ipv4Addr::new(first, second, third, host));
                    let mut best: Vec<Contact> = hosts.map(|ip| closest_id(ip, target, rng)).collect();
                    best.sort_by_key(|contact| contact.id.distance(target.into()));
                    best.truncate(PER_SUBNET);
                    best
                })
                .collect();
            subnets.sort_by_key(|best| best[0].id.distance(target.into()));
            contacts.extend(subnets.into_iter().take(SUBNETS / PROVIDERS).flatten());
        }
        Self { contacts }
    }

    /// These, with ids that belong to their addresses.
    pub(super) fn at(addrs: impl Iterator<Item = SocketAddr>, rng: &mut Rng) -> Self {
        Self { contacts: addrs.map(|addr| Contact { id: NodeId::secure(addr.ip(), rng), addr }).collect() }
    }

    pub(super) fn contacts(&self) -> &[Contact] {
        &self.contacts
    }

    /// What the attacker at `at` answers.
    pub(super) fn answer(&self, at: SocketAddr, from: SocketAddr, data: &[u8]) -> Option<Vec<u8>> {
        let us = self.contacts.iter().find(|contact| contact.addr == at)?;
        let message = Message::parse(data).ok()?;
        let Body::Query(query) = message.body else { return None };
        let mut reply = Reply::new(us.id);
        let (mut closest, decoy);
        if let Some(target) = query.method.target() {
            (closest, decoy) = (self.contacts.clone(), [at]);
            closest.sort_unstable_by_key(|contact| contact.id.distance(target));
            closest.truncate(K);
            reply.nodes = Some(Nodes::Contacts(&closest));
            reply.token = Some(b"whatever");
            let seeks = matches!(query.method, Method::GetPeers { .. });
            reply.values = seeks.then_some(Values::Addrs(&decoy));
        }
        let answer = Message::new(message.transaction, Body::Reply(reply));
        Some(Message { ip: Some(from), ..answer }.encode())
    }

    /// What an attacker sends to a host to make itself known. Mostly a query; sometimes an answer to nothing, or an announce
    /// with a token that it made up.
    pub(super) fn advert(&self, attacker: usize, host: u32) -> Vec<u8> {
        let us = self.contacts[attacker];
        let gang = &self.contacts[..K.min(self.contacts.len())];
        let body = match host.wrapping_add(attacker as u32) % 8 {
            0 => Body::Reply(Reply { nodes: Some(Nodes::Contacts(gang)), ..Reply::new(us.id) }),
            1 => {
                let info_hash = InfoHash(us.id.0);
                let announce =
                    Announce { info_hash, implied_port: true, port: 0, seed: false, token: b"whatever" };
                Body::Query(Query::new(us.id, Method::AnnouncePeer(announce)))
            }
            _ => Body::Query(Query::new(us.id, Method::FindNode { target: us.id })),
        };
        Message::new(Transaction::from(7), body).encode()
    }
}

/// Whether an address is kept for attackers.
pub(super) fn is_reserved(ip: Ipv4Addr) -> bool {
    FIRST_OCTETS.contains(&ip.octets()[0])
}

/// The id at this address that is closest to the target: of the eight that BEP 42 leaves to choose from, with all other
/// bits as they suit.
fn closest_id(ip: Ipv4Addr, target: InfoHash, rng: &mut Rng) -> Contact {
    let addr = SocketAddr::new(IpAddr::from(ip), PORT);
    let mut best: Option<Contact> = None;
    for _ in 0..TRIES {
        let mut id = NodeId::secure(addr.ip(), rng);
        // 21 bits belong to the address, and the last byte says which of the eight.
        id.0[2] = id.0[2] & 0xf8 | target.0[2] & 0x07;
        id.0[3..19].copy_from_slice(&target.0[3..19]);
        let contact = Contact { id, addr };
        if best.is_none_or(|best| id.distance(target.into()) < best.id.distance(target.into())) {
            best = Some(contact);
        }
    }
    best.expect("it was tried")
}

/// Nobody honest is there.
const FIRST_OCTETS: Range<u8> = 44..48;

const SUBNETS: usize = 64;

const PROVIDERS: usize = 16;

/// Of each subnet the best: the next ones are no closer than honest nodes.
const PER_SUBNET: usize = 4;

/// So often at random, each of eight ids comes up nearly always.
const TRIES: usize = 40;

#[cfg(test)]
mod tests {
    use super::{Attackers, PROVIDERS, SUBNETS};
    use fast_peer_core::dht::node_id::NodeId;
    use fast_peer_core::id::InfoHash;
    use fast_peer_core::rng::Rng;
    use std::collections::BTreeSet;

    #[test]
    fn attackers_are_as_close_as_bep_42_allows() {
        let target = InfoHash([0x5a; 20]);
        let attackers = Attackers::around(target, &mut Rng::from_number(1));
        let block = |dots| {
            let name = |text: String| text.split('.').take(dots).collect::<Vec<_>>().join(".");
            attackers.contacts.iter().map(|it| name(it.addr.ip().to_string())).collect::<BTreeSet<_>>().len()
        };
        assert_eq!((block(3), block(2)), (SUBNETS, PROVIDERS));
        assert!(attackers.contacts.iter().all(|contact| contact.is_secure()));
        let close = |bits| {
            let shared = |id: NodeId| id.common_prefix(target.into()) >= bits;
            attackers.contacts.iter().filter(|contact| shared(contact.id)).count()
        };
        // All the ids of 16 /16s are half a million, of which 128 are expected to share 12 bits. Since the checksum is
        // linear it may be half of that or double, but each subnet that was chosen has one.
        assert!(close(10) > SUBNETS && close(12) >= SUBNETS, "{} and {}", close(10), close(12));
    }
}
