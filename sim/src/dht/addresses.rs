//! Where simulated nodes are.

use core::net::{Ipv4Addr, SocketAddr};
use fast_peer_core::address::{is_dialable, is_local, stands_for_name};

/// Gives out IPv4 addresses as if at random, never the same twice, and without a table that says whose they are: the
/// n-th address is n, shuffled by four rounds of a Feistel network.
#[derive(Clone, Debug)]
pub(super) struct Addresses {
    keys: [u32; 4],
    next: u32,
    /// A range that is left to others.
    reserved: fn(Ipv4Addr) -> bool,
}

impl Addresses {
    pub(super) fn new(seed: u64, reserved: fn(Ipv4Addr) -> bool) -> Self {
        let keys = core::array::from_fn(|i| mix(seed as u32 ^ (seed >> 32) as u32, i as u32 + 1));
        Self { keys, next: 0, reserved }
    }

    /// The number of an address that was not given out before. Numbers grow, but some are left out.
    pub(super) fn take(&mut self) -> u32 {
        loop {
            let number = self.next;
            self.next += 1;
            let addr = self.addr(number);
            let SocketAddr::V4(v4) = addr else { unreachable!("it is IPv4") };
            if is_dialable(addr)
                && !is_local(addr.ip())
                && !stands_for_name(addr.ip())
                && !(self.reserved)(*v4.ip())
            {
                return number;
            }
        }
    }

    /// The address of a number.
    pub(super) fn addr(&self, number: u32) -> SocketAddr {
        let (mut left, mut right) = ((number >> 16) as u16, number as u16);
        for key in self.keys {
            (left, right) = (right, left ^ mix(key, right.into()) as u16);
        }
        (Ipv4Addr::from_bits(u32::from(left) << 16 | u32::from(right)), PORT).into()
    }

    /// The number of an address, whether it was given out or not.
    pub(super) fn number(&self, addr: SocketAddr) -> Option<u32> {
        let SocketAddr::V4(v4) = addr else { return None };
        if v4.port() != PORT {
            return None;
        }
        let bits = v4.ip().to_bits();
        let (mut left, mut right) = ((bits >> 16) as u16, bits as u16);
        for key in self.keys.into_iter().rev() {
            (left, right) = (right ^ mix(key, left.into()) as u16, left);
        }
        Some(u32::from(left) << 16 | u32::from(right))
    }
}

/// Two numbers made into one that depends on every bit of both.
pub(super) fn mix(a: u32, b: u32) -> u32 {
    let mut x = a.wrapping_mul(0x9e37_79b1) ^ b.wrapping_mul(0x85eb_ca77).rotate_left(15);
    x = (x ^ x >> 16).wrapping_mul(0x7feb_352d);
    x = (x ^ x >> 15).wrapping_mul(0x846c_a68b);
    x ^ x >> 16
}

/// Every node has the same.
pub(super) const PORT: u16 = 6881;

#[cfg(test)]
mod tests {
    use super::Addresses;
    use std::collections::BTreeSet;

    #[test]
    fn addresses_are_many_and_lead_back_to_their_numbers() {
        let mut addresses = Addresses::new(7, |ip| ip.octets()[0] == 45);
        let mut seen = BTreeSet::new();
        let mut providers = BTreeSet::new();
        for _ in 0..10_000 {
            let number = addresses.take();
            let addr = addresses.addr(number);
            assert_eq!(addresses.number(addr), Some(number));
            assert!(seen.insert(addr) && !addr.to_string().starts_with("45."));
            providers.insert(addr.to_string().split('.').take(2).collect::<String>());
        }
        assert!(providers.len() > 8000, "they are spread over {} providers", providers.len());
    }
}
