//! What kind of address a peer has.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::ops::RangeInclusive;

/// A neighbourhood that one party could well own: a /24 of IPv4 or a /56 of IPv6 (limit L9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subnet(IpAddr);

impl Subnet {
    /// The subnet of `ip`; none for a local address, where diversity says nothing (BEP 42 exempts the same).
    pub fn of(ip: IpAddr) -> Option<Self> {
        if is_local(ip) {
            return None;
        }
        Some(Self(match ip.to_canonical() {
            IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() & !0 << 8).into(),
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !0 << 72).into(),
        }))
    }
}

/// Whether `ip` means something only on this machine or link: loopback, private or link-local.
pub fn is_local(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

/// Whether a peer could listen at `addr`: not port 0, no multicast, broadcast or reserved address.
pub fn is_dialable(addr: SocketAddr) -> bool {
    addr.port() != 0
        && match addr.ip().to_canonical() {
            // RFC 6890: 0.0.0.0/8 is "this network", 240.0.0.0/4 is reserved and ends with broadcast.
            IpAddr::V4(v4) => v4.octets()[0] != 0 && !v4.is_multicast() && v4.octets()[0] < 240,
            IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_multicast(),
        }
}

/// Whether `ip` stands for a name. 198.18.0.0/15 is on no network but those that are tested by themselves (RFC 2544, 6890),
/// so a driver that sends through a proxy hands out its addresses for names that only the proxy looks up. They mean
/// something to that driver alone: nobody else is told of them, and nobody else's word about them is taken. What is sent to
/// one is answered from wherever the name leads.
pub fn stands_for_name(ip: IpAddr) -> bool {
    matches!(ip.to_canonical(), IpAddr::V4(v4) if v4.to_bits() & NAMES_MASK == NAMES.to_bits())
}

/// All ports of all addresses that stand for names.
pub(crate) fn names() -> RangeInclusive<SocketAddr> {
    let last = Ipv4Addr::from_bits(NAMES.to_bits() | !NAMES_MASK);
    SocketAddr::new(NAMES.into(), 0)..=SocketAddr::new(last.into(), u16::MAX)
}

/// The first address that stands for a name.
pub const NAMES: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);

/// How many addresses stand for names.
pub const NAMES_COUNT: u32 = 1 << 17;

const NAMES_MASK: u32 = !(NAMES_COUNT - 1);

/// `addr` with an IPv4 address that was written as IPv6 (`::ffff:1.2.3.4`) written as IPv4, so that it has one name.
pub fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr.ip().to_canonical() {
        IpAddr::V4(v4) => SocketAddr::new(v4.into(), addr.port()),
        IpAddr::V6(_) => addr,
    }
}

#[cfg(test)]
mod tests {
    use super::{Subnet, canonical, is_dialable, is_local, names, stands_for_name};
    use core::net::{IpAddr, SocketAddr};

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn neighbours_share_a_subnet() {
        assert_eq!(Subnet::of(ip("93.184.216.1")), Subnet::of(ip("93.184.216.254")));
        assert_eq!(Subnet::of(ip("93.184.216.1")), Subnet::of(ip("::ffff:93.184.216.9")));
        assert_ne!(Subnet::of(ip("93.184.216.1")), Subnet::of(ip("93.184.217.1")));
        assert_eq!(Subnet::of(ip("2a00:1450:4001:8a00::1")), Subnet::of(ip("2a00:1450:4001:8aff::1")));
        assert_ne!(Subnet::of(ip("2a00:1450:4001:8a00::1")), Subnet::of(ip("2a00:1450:4001:8b00::1")));
    }

    #[test]
    fn local_addresses_have_no_subnet() {
        for text in
            ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.1.1", "::1", "fe80::1", "fd00::1"]
        {
            assert!(is_local(ip(text)), "{text}");
            assert_eq!(Subnet::of(ip(text)), None, "{text}");
        }
        assert!(is_local(ip("::ffff:127.0.0.1")));
        for text in ["8.8.8.8", "172.32.0.1", "100.64.0.1", "2a00::1"] {
            assert!(!is_local(ip(text)), "{text}");
        }
    }

    #[test]
    fn some_addresses_stand_for_names() {
        for (text, expected) in [
            ("198.17.255.255", false),
            ("198.18.0.0", true),
            ("::ffff:198.18.0.1", true),
            ("198.19.255.255", true),
            ("198.20.0.0", false),
            ("2a00::1", false),
        ] {
            assert_eq!(stands_for_name(ip(text)), expected, "{text}");
        }
        assert_eq!((*names().start(), *names().end()), (addr("198.18.0.0:0"), addr("198.19.255.255:65535")));
    }

    #[test]
    fn nobody_listens_at_a_bogon() {
        for text in [
            "8.8.8.8:0",
            "0.0.0.0:6881",
            "0.1.2.3:6881",
            "224.0.0.1:6881",
            "255.255.255.255:6881",
            "240.0.0.1:6881",
            "[::]:6881",
            "[ff02::1]:6881",
            "[::ffff:224.0.0.1]:6881",
        ] {
            assert!(!is_dialable(addr(text)), "{text}");
        }
        for text in ["8.8.8.8:1", "127.0.0.1:6881", "[::1]:6881", "[2a00::1]:65535"] {
            assert!(is_dialable(addr(text)), "{text}");
        }
    }

    #[test]
    fn a_mapped_address_has_one_name() {
        assert_eq!(canonical(addr("[::ffff:8.8.8.8]:53")), addr("8.8.8.8:53"));
        assert_eq!(canonical(addr("[2a00::1]:53")), addr("[2a00::1]:53"));
    }
}
