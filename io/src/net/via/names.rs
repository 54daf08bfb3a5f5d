//! Names that only the proxy looks up, and the addresses that stand for them here.

use fast_peer_core::address::{NAMES, NAMES_COUNT};
use fast_peer_core::socks5::Name;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};

/// The names so far, each with its address. When there are too many the oldest is forgotten: what is sent to its address
/// then goes nowhere.
#[derive(Debug, Default)]
pub(super) struct Names {
    by_name: BTreeMap<Name, Ipv4Addr>,
    by_address: BTreeMap<Ipv4Addr, Name>,
    order: VecDeque<Name>,
    /// How many there have been.
    count: u32,
}

impl Names {
    /// The address that stands for `name`.
    pub(super) fn address(&mut self, name: Name) -> IpAddr {
        if let Some(address) = self.by_name.get(&name) {
            return (*address).into();
        }
        if self.order.len() >= MAX_NAMES
            && let Some(oldest) = self.order.pop_front()
            && let Some(address) = self.by_name.remove(&oldest)
        {
            self.by_address.remove(&address);
        }
        let address = nth(self.count % NAMES_COUNT);
        self.count = self.count.wrapping_add(1);
        self.by_name.insert(name.clone(), address);
        self.by_address.insert(address, name.clone());
        self.order.push_back(name);
        address.into()
    }

    /// The address that stands for `name`, if there is one.
    pub(super) fn known(&self, name: &Name) -> Option<IpAddr> {
        self.by_name.get(name).map(|address| (*address).into())
    }

    /// The name that `address` stands for.
    pub(super) fn name(&self, address: IpAddr) -> Option<Name> {
        let IpAddr::V4(address) = address.to_canonical() else { return None };
        self.by_address.get(&address).cloned()
    }
}

/// Those that follow each other lie in different networks of 256: they have nothing to do with each other, and limits on
/// neighbours are not for them.
fn nth(n: u32) -> Ipv4Addr {
    let networks = NAMES_COUNT >> 8;
    Ipv4Addr::from_bits(NAMES.to_bits() + ((n % networks) << 8) + n / networks)
}

/// A name that nobody could take for an address: what ends in a number is one to many, in forms that are not seen here
/// (127.1, 0x7f000001), and would hide from every rule about addresses.
pub(super) fn public(host: &str) -> Option<Name> {
    let last = host.rsplit('.').next().unwrap_or_default();
    let is_number = last.strip_prefix("0x").map_or_else(
        || !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()),
        |rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()),
    );
    if last.is_empty() || is_number || host.contains([':', '/', '%']) { None } else { Name::new(host) }
}

/// Far more than the trackers of a session, and their redirects.
const MAX_NAMES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::{MAX_NAMES, Names, public};
    use fast_peer_core::address::{Subnet, stands_for_name};
    use std::collections::BTreeSet;

    #[test]
    fn each_name_has_an_address_until_there_are_too_many() {
        let mut names = Names::default();
        let nth = |n: usize| public(&format!("tracker{n}.example")).unwrap();
        let addresses: Vec<_> = (0..MAX_NAMES).map(|n| names.address(nth(n))).collect();
        assert!(addresses.iter().all(|address| stands_for_name(*address)));
        assert_eq!(addresses.iter().collect::<BTreeSet<_>>().len(), MAX_NAMES);
        assert_ne!(Subnet::of(addresses[0]), Subnet::of(addresses[1]));
        assert_eq!((names.address(nth(0)), names.name(addresses[0])), (addresses[0], Some(nth(0))));
        names.address(nth(MAX_NAMES));
        assert_eq!((names.name(addresses[0]), names.order.len()), (None, MAX_NAMES));
        assert_eq!((names.by_name.len(), names.by_address.len()), (MAX_NAMES, MAX_NAMES));
        for _ in 0..3 {
            for n in 0..2 * MAX_NAMES {
                names.address(nth(n));
            }
        }
        assert_eq!((names.by_name.len(), names.by_address.len()), (MAX_NAMES, MAX_NAMES));
    }

    #[test]
    fn what_could_be_an_address_is_no_name() {
        for host in [
            "127.1",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "127.0x1",
            "0177.0.0.01",
            "",
            ".",
            "::1",
            "a%lo",
            "a b",
        ] {
            assert_eq!(public(host), None, "{host}");
        }
        for host in ["tracker.example", "xn--bcher-kva.example", "1.example", "3com", "nas"] {
            assert!(public(host).is_some(), "{host}");
        }
    }
}
