//! Names of nodes, which are places in the space that the table is spread over (BEP 5, 42).

use crate::address::is_local;
use crate::crc32c::crc32c;
use crate::id::{InfoHash, show_hex};
use crate::rng::Rng;
use core::net::IpAddr;

/// A node's name, or any other place in its space: the target of a lookup, the hash of a torrent or item.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub [u8; 20]);

/// How far two places are apart: the XOR of their names (BEP 5). Nearer is less.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Distance(pub [u8; 20]);

show_hex!(NodeId, Distance);

impl NodeId {
    /// How many bits a name has.
    pub const BITS: u32 = 160;

    /// A place anywhere.
    pub fn random(rng: &mut Rng) -> Self {
        let mut id = [0; 20];
        rng.fill(&mut id);
        Self(id)
    }

    /// The distance between two places.
    pub fn distance(self, to: Self) -> Distance {
        Distance(core::array::from_fn(|i| self.0[i] ^ to.0[i]))
    }

    /// With how many equal bits both names start: all of them if they are equal.
    pub fn common_prefix(self, other: Self) -> u32 {
        self.distance(other).leading_zeros()
    }

    /// A random place that shares just the first `prefix` bits with this one: what a refresh of that bucket looks for.
    /// With [`BITS`](Self::BITS) or more it is this one.
    pub fn random_at(self, prefix: u32, rng: &mut Rng) -> Self {
        let mut place = Self::random(rng);
        (0..prefix.min(Self::BITS)).for_each(|bit| place.set_bit(bit, self.bit(bit)));
        if prefix < Self::BITS {
            place.set_bit(prefix, !self.bit(prefix));
        }
        place
    }

    /// The bit behind the first `bit` ones.
    fn bit(self, bit: u32) -> bool {
        self.0[bit as usize / 8] << (bit % 8) & 0x80 != 0
    }

    fn set_bit(&mut self, bit: u32, to: bool) {
        let mask = 0x80 >> (bit % 8);
        let byte = &mut self.0[bit as usize / 8];
        *byte = if to { *byte | mask } else { *byte & !mask };
    }

    /// A name that suits a node at `ip`, so that nobody can choose freely where in the space to stand (BEP 42).
    pub fn secure(ip: IpAddr, rng: &mut Rng) -> Self {
        let mut id = Self::random(rng);
        let bound = bound_prefix(ip, id.0[19]);
        id.0[..2].copy_from_slice(&bound[..2]);
        id.0[2] = bound[2] & LAST_MASK | id.0[2] & !LAST_MASK;
        id
    }

    /// Whether a node at `ip` may have this name (BEP 42). At a local address any will do.
    pub fn is_secure_for(self, ip: IpAddr) -> bool {
        if is_local(ip) {
            return true;
        }
        let bound = bound_prefix(ip, self.0[19]);
        self.0[..2] == bound[..2] && (self.0[2] ^ bound[2]) & LAST_MASK == 0
    }
}

impl From<InfoHash> for NodeId {
    fn from(hash: InfoHash) -> Self {
        Self(hash.0)
    }
}

impl Distance {
    /// How many bits are zero before the first that is not.
    pub fn leading_zeros(self) -> u32 {
        match self.0.iter().position(|byte| *byte != 0) {
            Some(i) => 8 * i as u32 + self.0[i].leading_zeros(),
            None => NodeId::BITS,
        }
    }
}

/// BEP 42: the CRC32-C of the masked address and three bits of chance. Its first 21 bits begin the name.
fn bound_prefix(ip: IpAddr, chance: u8) -> [u8; 4] {
    let chance = chance & 7;
    let crc = match ip.to_canonical() {
        IpAddr::V4(v4) => {
            let masked = v4.to_bits() & V4_MASK | u32::from(chance) << 29;
            crc32c(&masked.to_be_bytes())
        }
        IpAddr::V6(v6) => {
            let masked = (v6.to_bits() >> 64) as u64 & V6_MASK | u64::from(chance) << 61;
            crc32c(&masked.to_be_bytes())
        }
    };
    crc.to_be_bytes()
}

/// BEP 42: what counts of an IPv4 address.
const V4_MASK: u32 = 0x030f_3fff;

/// BEP 42: what counts of the upper half of an IPv6 address.
const V6_MASK: u64 = 0x0103_070f_1f3f_7fff;

/// BEP 42: 21 bits are bound, five of them in the third byte.
const LAST_MASK: u8 = 0xf8;

#[cfg(test)]
mod tests {
    use super::{NodeId, bound_prefix};
    use crate::rng::Rng;
    use alloc::format;
    use core::net::IpAddr;
    use proptest::prelude::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Three bytes in front, one behind, as BEP 42 prints them.
    fn id(front: [u8; 3], back: u8) -> NodeId {
        let mut id = [0x55; 20];
        id[..3].copy_from_slice(&front);
        id[19] = back;
        NodeId(id)
    }

    /// The CRCs are not in the BEP.
    #[test]
    fn names_are_bound_as_in_bep_42() {
        for (address, rand, crc, published) in [
            ("124.31.75.21", 1, 0x5fbf_bdb2_u32, [0x5f, 0xbf, 0xbf]),
            ("21.75.31.124", 86, 0x5a3c_e9b0, [0x5a, 0x3c, 0xe9]),
            ("65.23.51.170", 22, 0xa5d4_344a, [0xa5, 0xd4, 0x32]),
            ("84.124.73.14", 65, 0x1b03_217b, [0x1b, 0x03, 0x21]),
            ("43.213.53.83", 90, 0xe56f_6972, [0xe5, 0x6f, 0x6c]),
        ] {
            assert_eq!(bound_prefix(ip(address), rand), crc.to_be_bytes(), "{address}");
            assert!(id(published, rand).is_secure_for(ip(address)), "{address}");
            assert!(id(published, rand).is_secure_for(ip(&format!("::ffff:{address}"))), "{address}");
            assert!(!id(published, rand ^ 1).is_secure_for(ip(address)), "{address}: other chance");
            assert!(!id(published, rand).is_secure_for(ip("8.8.8.8")), "{address}: other address");
            for bit in 0..24 {
                let mut front = published;
                front[bit / 8] ^= 0x80 >> (bit % 8);
                assert_eq!(id(front, rand).is_secure_for(ip(address)), bit >= 21, "{address}: bit {bit}");
            }
        }
    }

    #[test]
    fn at_home_any_name_will_do() {
        for local in ["10.0.0.1", "172.16.0.1", "192.168.0.1", "169.254.0.1", "127.0.0.1", "::1", "fe80::1"] {
            assert!(id([0; 3], 0).is_secure_for(ip(local)), "{local}");
        }
    }

    #[test]
    fn distance_is_the_xor() {
        let (zero, one) = (NodeId([0; 20]), id([0x10, 0, 0], 0));
        assert_eq!(zero.distance(zero).0, [0; 20]);
        assert_eq!((zero.common_prefix(zero), zero.common_prefix(one)), (160, 3));
        assert!(zero.distance(one) > zero.distance(id([0x0f, 0xff, 0xff], 0xff)));
    }

    proptest! {
        #[test]
        fn a_made_name_suits_its_address(bits: u128, v4: bool, seed: u64) {
            let ip: IpAddr = if v4 { (bits as u32).to_be_bytes().into() } else { bits.to_be_bytes().into() };
            prop_assert!(NodeId::secure(ip, &mut Rng::from_number(seed)).is_secure_for(ip));
        }

        #[test]
        fn a_place_in_a_bucket_shares_its_prefix(own: [u8; 20], prefix in 0..=160_u32, seed: u64) {
            let own = NodeId(own);
            let place = own.random_at(prefix, &mut Rng::from_number(seed));
            prop_assert_eq!(own.common_prefix(place), prefix);
        }

        #[test]
        fn nearness_is_a_common_prefix(a: [u8; 20], b: [u8; 20], c: [u8; 20]) {
            let (a, b, c) = (NodeId(a), NodeId(b), NodeId(c));
            prop_assert_eq!(a.distance(b), b.distance(a));
            if a.distance(b) < a.distance(c) {
                prop_assert!(a.common_prefix(b) >= a.common_prefix(c));
            }
        }
    }
}
