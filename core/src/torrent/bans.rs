//! Addresses that are not talked to any more.

use crate::address::is_local;
use alloc::collections::{BTreeMap, BTreeSet};
use core::net::{IpAddr, SocketAddr};

/// How far a ban reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ban {
    /// Every port of the address: a second endpoint on it was bad.
    Address,
    /// This address and port.
    Endpoint,
}

/// Endpoints that proved hostile, and addresses with two of them.
///
/// Many honest peers can share one address, so the first bad one takes nobody else with it. On a local address no
/// number of them does: there all peers share it.
#[derive(Clone, Debug, Default)]
pub struct Bans {
    addresses: BTreeMap<IpAddr, Banned>,
    /// How many bans there ever were.
    count: u64,
}

#[derive(Clone, Debug, Default)]
struct Banned {
    /// How many bans there were before the latest on this address.
    age: u64,
    all: bool,
    ports: BTreeSet<u16>,
}

impl Bans {
    /// Nobody is banned.
    pub const fn new() -> Self {
        Self { addresses: BTreeMap::new(), count: 0 }
    }

    /// Bans `endpoint`, and its whole address if that was not the first there.
    pub fn ban(&mut self, endpoint: SocketAddr) -> Ban {
        let ip = endpoint.ip();
        let banned = self.addresses.entry(ip).or_default();
        banned.age = self.count;
        self.count += 1;
        banned.ports.insert(endpoint.port());
        if banned.ports.len() > 1 && !is_local(ip) {
            banned.all = true;
        }
        if banned.ports.len() > MAX_BANNED_PORTS {
            banned.ports.pop_first();
        }
        let reach = if banned.all { Ban::Address } else { Ban::Endpoint };
        if self.addresses.len() > MAX_BANNED_ADDRESSES {
            let oldest = self.addresses.iter().min_by_key(|(_, banned)| banned.age).map(|(ip, _)| *ip);
            self.addresses.remove(&oldest.expect("the address banned last is there"));
        }
        reach
    }

    /// Whether `endpoint` or its whole address is banned.
    pub fn is_banned(&self, endpoint: SocketAddr) -> bool {
        let banned = self.addresses.get(&endpoint.ip());
        banned.is_some_and(|banned| banned.all || banned.ports.contains(&endpoint.port()))
    }
}

/// How many addresses are remembered at most; the one banned longest ago is forgotten first.
pub const MAX_BANNED_ADDRESSES: usize = 4096;

/// How many ports of a local address are remembered at most.
pub const MAX_BANNED_PORTS: usize = 256;

#[cfg(test)]
mod tests {
    use super::{Ban, Bans, MAX_BANNED_ADDRESSES, MAX_BANNED_PORTS};
    use core::net::{Ipv4Addr, SocketAddr};

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_second_bad_endpoint_bans_a_public_address() {
        let mut bans = Bans::new();
        assert_eq!(bans.ban(addr("45.1.2.3:1000")), Ban::Endpoint);
        assert_eq!(bans.ban(addr("45.1.2.3:1000")), Ban::Endpoint, "the same again proves nothing new");
        assert!(bans.is_banned(addr("45.1.2.3:1000")) && !bans.is_banned(addr("45.1.2.3:1001")));
        assert_eq!(bans.ban(addr("45.1.2.3:2000")), Ban::Address);
        assert!(bans.is_banned(addr("45.1.2.3:1001")) && !bans.is_banned(addr("45.1.2.4:1001")));
    }

    #[test]
    fn a_local_address_is_never_banned_whole() {
        let mut bans = Bans::new();
        for port in 1..=MAX_BANNED_PORTS as u16 + 1 {
            assert_eq!(bans.ban(SocketAddr::from(([127, 0, 0, 1], port))), Ban::Endpoint);
        }
        assert!(!bans.is_banned(addr("127.0.0.1:1")), "the list is bounded");
        assert!(bans.is_banned(addr("127.0.0.1:2")) && !bans.is_banned(addr("127.0.0.1:6881")));
    }

    #[test]
    fn the_oldest_ban_is_forgotten_first() {
        let mut bans = Bans::new();
        let nth = |n: usize| SocketAddr::from((Ipv4Addr::from_bits(0x2d00_0000 + n as u32), 6881));
        for n in 0..=MAX_BANNED_ADDRESSES {
            bans.ban(nth(n));
        }
        assert!(
            !bans.is_banned(nth(0)) && bans.is_banned(nth(1)) && bans.is_banned(nth(MAX_BANNED_ADDRESSES))
        );
    }
}
