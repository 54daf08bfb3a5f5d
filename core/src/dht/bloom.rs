//! Sets of addresses in 256 bytes: how many peers a swarm has, without saying who they are (BEP 33).

use super::message::BLOOM_LEN;
use core::fmt;
use core::net::IpAddr;
use sha1::{Digest as _, Sha1};

/// A set of IP addresses that can be joined with others and counted roughly.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Bloom([u8; BLOOM_LEN]);

impl Bloom {
    /// The empty set.
    pub const fn new() -> Self {
        Self([0; BLOOM_LEN])
    }

    /// The set that came from another node.
    pub const fn from_bytes(bytes: &[u8; BLOOM_LEN]) -> Self {
        Self(*bytes)
    }

    /// As it is sent.
    pub const fn as_bytes(&self) -> &[u8; BLOOM_LEN] {
        &self.0
    }

    /// Adds an address.
    pub fn insert(&mut self, ip: IpAddr) {
        let digest = match ip.to_canonical() {
            IpAddr::V4(v4) => Sha1::digest(v4.octets()),
            IpAddr::V6(v6) => Sha1::digest(v6.octets()),
        };
        for pair in [[digest[0], digest[1]], [digest[2], digest[3]]] {
            let bit = usize::from(u16::from_le_bytes(pair)) % BITS as usize;
            self.0[bit / 8] |= 1 << (bit % 8);
        }
    }

    /// Adds all of another set.
    pub fn union(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(byte, other)| *byte |= other);
    }

    /// About how many addresses are in it. Some six thousand fill it.
    pub fn estimate(&self) -> u32 {
        ((self.estimate_thousandths() + 500) / 1000) as u32
    }

    /// BEP 33: ln(c/m) / (2 ln(1 − 1/m)), where c of m bits are zero.
    fn estimate_thousandths(&self) -> u64 {
        let ones: u32 = self.0.iter().map(|byte| byte.count_ones()).sum();
        let zeros = (BITS - ones).clamp(1, BITS - 1);
        // With no bit set the formula gives half an address.
        if ones == 0 {
            return 0;
        }
        let (all, one) = (log2(BITS) - log2(zeros), log2(BITS) - log2(BITS - 1));
        let twice = 2 * u128::from(one);
        ((1000 * u128::from(all) + u128::from(one)) / twice) as u64
    }
}

impl Default for Bloom {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Bloom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bloom(about {})", self.estimate())
    }
}

/// The binary logarithm of `n` ≥ 1, in units of 2⁻⁴⁸, bit by bit: the square of a number has twice its logarithm.
fn log2(n: u32) -> u64 {
    let whole = n.ilog2();
    // From one to two, in units of 2⁻⁶².
    let mut rest = u64::from(n) << (62 - whole);
    let mut log = u64::from(whole) << LOG_BITS;
    for bit in (0..LOG_BITS).rev() {
        let square = ((u128::from(rest) * u128::from(rest)) >> 62) as u64;
        let above = square >> 63;
        log |= above << bit;
        rest = square >> above;
    }
    log
}

const LOG_BITS: u32 = 48;

/// BEP 33: m.
const BITS: u32 = 8 * BLOOM_LEN as u32;

#[cfg(test)]
mod tests {
    use super::{BITS, Bloom, LOG_BITS, log2};
    use core::net::{Ipv4Addr, Ipv6Addr};
    use proptest::prelude::*;
    use sha1::{Digest as _, Sha1};

    fn of_bep_33() -> Bloom {
        let mut bloom = Bloom::new();
        (0..=255).for_each(|i| bloom.insert(Ipv4Addr::new(192, 0, 2, i).into()));
        (0..=0x3e7).for_each(|i| bloom.insert(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, i).into()));
        bloom
    }

    /// The hash of the whole filter is not in the BEP.
    #[test]
    fn the_vector_of_bep_33() {
        let bloom = of_bep_33();
        assert_eq!(bloom.0[..8], [0xf6, 0xc3, 0xf5, 0xea, 0xa0, 0x7f, 0xfd, 0x91]);
        assert_eq!(bloom.0[248..], [0xfe, 0xee, 0x76, 0xb6, 0xfd, 0x8f, 0x72, 0xef]);
        assert_eq!(bloom.0.iter().map(|byte| byte.count_zeros()).sum::<u32>(), 619);
        let digest: [u8; 20] = Sha1::digest(bloom.0).into();
        assert_eq!(digest[..8], [0xe4, 0xda, 0xbf, 0x3c, 0x82, 0x2d, 0xcd, 0x00]);
        assert_eq!(digest[8..], [0x30, 0xee, 0x21, 0xdf, 0x83, 0x69, 0xbf, 0xef, 0x25, 0x94, 0xb5, 0x2b]);
        assert_eq!(bloom.estimate_thousandths(), 1_224_931);
        assert_eq!(bloom.estimate(), 1225);
        assert_eq!(Bloom::from_bytes(bloom.as_bytes()), bloom);
    }

    #[test]
    fn an_estimate_has_two_ends() {
        assert_eq!(Bloom::new().estimate(), 0);
        assert_eq!(Bloom::from_bytes(&[0xff; 256]).estimate(), 7806, "as if one bit were zero");
    }

    #[test]
    fn logarithms_are_exact_enough() {
        for power in 0..=11_u32 {
            assert_eq!(log2(1 << power), u64::from(power) << LOG_BITS);
        }
        // log2(3) and log2(10), cut to 40 bits behind the point.
        assert_eq!(log2(3) >> 8, 1_742_684_699_131);
        assert_eq!(log2(10) >> 8, 3_652_498_566_964);
        assert!((1..BITS).all(|n| log2(n) < log2(n + 1)));
    }

    proptest! {
        #[test]
        fn a_union_has_what_either_has(few in prop::collection::vec(any::<u32>(), 0..40), many in prop::collection::vec(any::<u32>(), 0..40)) {
            let of = |ips: &[u32]| {
                let mut bloom = Bloom::new();
                ips.iter().for_each(|ip| bloom.insert(Ipv4Addr::from_bits(*ip).into()));
                bloom
            };
            let mut union = of(&few);
            union.union(&of(&many));
            prop_assert_eq!(union, of(&[few.clone(), many.clone()].concat()));
            let estimate = union.estimate() as usize;
            prop_assert!(estimate <= few.len() + many.len() + 5);
            prop_assert!(estimate >= few.len().max(many.len()).saturating_sub(12));
        }
    }
}
