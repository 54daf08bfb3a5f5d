//! Which peers a full torrent keeps (BEP 40).
//!
//! Both ends of a connection come to the same number for it, and nobody can choose it. If all clients keep the
//! connections with the highest numbers, a swarm is well mixed, and newcomers find a place.

use crate::address::{canonical, is_local};
use crate::crc32c::crc32c;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Where peers see us, as far as that is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Our address among those of IPv4.
    pub v4: Option<Ipv4Addr>,
    /// Our address among those of IPv6.
    pub v6: Option<Ipv6Addr>,
    /// The port on which we listen.
    pub port: u16,
}

impl Place {
    /// The priority of the connection with `peer`: the higher, the better. Nothing if it is not known where the peer sees
    /// us, or where the number says nothing, as the peer is on our own network.
    pub fn priority_of(&self, peer: SocketAddr) -> Option<u32> {
        let own = match peer.ip().to_canonical() {
            IpAddr::V4(_) => self.v4?.into(),
            IpAddr::V6(_) => self.v6?.into(),
        };
        (!is_local(peer.ip())).then(|| priority(SocketAddr::new(own, self.port), peer))
    }
}

/// The priority of a connection between two peers (BEP 40). Addresses of different families have nothing in common.
pub fn priority(a: SocketAddr, b: SocketAddr) -> u32 {
    let (a, b) = (canonical(a), canonical(b));
    match (a.ip(), b.ip()) {
        (one, other) if one == other => of_pair(a.port().to_be_bytes(), b.port().to_be_bytes()),
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            let (one, other) = (one.octets(), other.octets());
            // FF.FF.55.55, a byte more in whole for those of one /16, and all of it for those of one /24.
            let whole = same_bytes(&one, &other).max(1) + 1;
            of_pair(masked(one, whole), masked(other, whole))
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => {
            let (one, other) = (one.octets(), other.octets());
            // The first 48 bits, a byte more in whole for those that share these, and so on.
            let whole = same_bytes(&one, &other).max(5) + 1;
            of_pair(masked(one, whole), masked(other, whole))
        }
        (one, other) => of_pair(as_v6(one), as_v6(other)),
    }
}

/// How many bytes at the front are the same.
fn same_bytes(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The first bytes as they are, and of the others every second bit.
fn masked<const N: usize>(mut bytes: [u8; N], whole: usize) -> [u8; N] {
    bytes.iter_mut().skip(whole).for_each(|byte| *byte &= 0x55);
    bytes
}

/// The CRC of both, the lower one first.
fn of_pair<const N: usize>(a: [u8; N], b: [u8; N]) -> u32 {
    let mut bytes = [0; 32];
    bytes[..N].copy_from_slice(a.min(b).as_slice());
    bytes[N..2 * N].copy_from_slice(a.max(b).as_slice());
    crc32c(&bytes[..2 * N])
}

fn as_v6(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Place, masked, priority, same_bytes};
    use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
    use proptest::prelude::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_vectors_of_bep_40() {
        for (a, b, expected) in [
            ("123.213.32.10:0", "98.76.54.32:0", 0xec2d_7224),
            ("123.213.32.10:0", "123.213.32.234:0", 0x9956_8189),
            ("123.213.32.10:6881", "123.213.32.10:6889", 0xfe71_556c),
        ] {
            assert_eq!(priority(addr(a), addr(b)), expected, "{a} {b}");
            assert_eq!(priority(addr(b), addr(a)), expected, "{b} {a}");
        }
    }

    #[test]
    fn what_counts_of_an_address_depends_on_what_is_shared() {
        let same =
            |a: &str, b: &str, c: &str| assert_eq!(priority(addr(a), addr(b)), priority(addr(a), addr(c)));
        let differ =
            |a: &str, b: &str, c: &str| assert_ne!(priority(addr(a), addr(b)), priority(addr(a), addr(c)));
        // FF.FF.55.55
        same("45.1.1.1:1", "93.2.0.0:1", "93.2.170.170:9");
        differ("45.1.1.1:1", "93.2.0.0:1", "93.2.1.0:1");
        differ("45.1.1.1:1", "93.2.0.0:1", "93.3.0.0:1");
        // FF.FF.FF.55
        same("45.1.1.1:1", "45.1.2.0:1", "45.1.2.170:1");
        differ("45.1.1.1:1", "45.1.0.0:1", "45.1.2.0:1");
        // FF.FF.FF.FF
        differ("45.1.1.1:1", "45.1.1.0:1", "45.1.1.2:1");
        // Six bytes of IPv6, then every second bit.
        same("[2a00::1]:1", "[2a01:0:0:aaaa::]:1", "[2a01::]:1");
        differ("[2a00::1]:1", "[2a01:0:2::]:1", "[2a01::]:1");
        // A /48, a /56.
        same("[2a00::1]:1", "[2a00:0:0:2aa::]:1", "[2a00:0:0:200::]:1");
        differ("[2a00::1]:1", "[2a00:0:0:200::]:1", "[2a00:0:0:100::]:1");
        differ("[2a00::1]:1", "[2a00:0:0:02::]:1", "[2a00::]:1");
        same("[2a00::1]:1", "[2a00:0:0:01:aa00::]:1", "[2a00:0:0:01::]:1");
    }

    #[test]
    fn nothing_is_said_of_local_peers_or_while_our_address_is_unknown() {
        let place = Place { v4: Some(Ipv4Addr::new(45, 1, 1, 1)), v6: None, port: 1 };
        assert_eq!(
            place.priority_of(addr("93.2.1.1:1")),
            Some(priority(addr("45.1.1.1:1"), addr("93.2.1.1:1")))
        );
        assert_eq!(place.priority_of(addr("[::ffff:93.2.1.1]:1")), place.priority_of(addr("93.2.1.1:1")));
        for unknown in ["10.0.0.1:1", "127.0.0.1:1", "[2a00::1]:1", "[::1]:1"] {
            assert_eq!(place.priority_of(addr(unknown)), None, "{unknown}");
        }
        assert_eq!(Place::default().priority_of(addr("93.2.1.1:1")), None);
    }

    proptest! {
        #[test]
        fn both_ends_agree(a in any::<([u8; 4], u16)>(), b in any::<([u8; 4], u16)>(), shared in 0..5_usize) {
            let mut other = b.0;
            other[..shared].copy_from_slice(&a.0[..shared]);
            let (one, two) = (SocketAddr::from(a), SocketAddr::from((other, b.1)));
            prop_assert_eq!(priority(one, two), priority(two, one));
        }

        #[test]
        fn both_ends_agree_in_ipv6(a in any::<[u8; 16]>(), b in any::<[u8; 16]>(), shared in 0..17_usize) {
            let mut other = b;
            other[..shared].copy_from_slice(&a[..shared]);
            let (one, two) = (Ipv6Addr::from(a), Ipv6Addr::from(other));
            let (one, two) = (SocketAddr::new(one.into(), 1), SocketAddr::new(two.into(), 2));
            prop_assert_eq!(priority(one, two), priority(two, one));
        }

        #[test]
        fn a_mask_keeps_what_it_should(bytes in any::<[u8; 16]>(), whole in 0..17_usize) {
            let masked = masked(bytes, whole);
            prop_assert!(same_bytes(&bytes, &masked) >= whole);
            prop_assert!(masked[whole..].iter().all(|byte| byte & 0xaa == 0));
        }
    }
}
