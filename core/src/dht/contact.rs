//! Where nodes may be, and which of them could well be one.

use super::message::{Contact, Family};
use super::node_id::NodeId;
use crate::address::{is_dialable, is_local, stands_for_name};
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

impl Contact {
    /// Whether the id belongs to the address (BEP 42). On a local address every id does.
    pub fn is_secure(&self) -> bool {
        self.id.is_secure_for(self.addr.ip())
    }
}

impl fmt::Display for Contact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.8}@{}", self.id, self.addr)
    }
}

impl Family {
    /// Whether a node of this network could be there: a node elsewhere is never sent anything.
    pub fn admits(self, addr: SocketAddr) -> bool {
        Self::of(addr.ip()) == self && is_dialable(addr) && !stands_for_name(addr.ip())
    }

    /// Whether a node of this network could answer what is sent there. It need not be there itself: the address may stand
    /// for a name.
    pub fn reaches(self, addr: SocketAddr) -> bool {
        self.admits(addr) || self == Self::V4 && addr.port() != 0 && stands_for_name(addr.ip())
    }

    /// Reads a compact address with its port, as [`write`](Self::write) wrote it.
    pub(super) fn read(self, compact: &[u8]) -> SocketAddr {
        let (ip, port) = compact.split_last_chunk().expect("an address ends with a port");
        let ip: IpAddr = match self {
            Self::V4 => Ipv4Addr::from(<[u8; 4]>::try_from(ip).expect("it was written as IPv4")).into(),
            Self::V6 => Ipv6Addr::from(<[u8; 16]>::try_from(ip).expect("it was written as IPv6")).into(),
        };
        SocketAddr::new(ip, u16::from_be_bytes(*port))
    }

    /// Appends the compact form of an address of this family.
    pub(super) fn write(self, addr: SocketAddr, to: &mut Vec<u8>) {
        match (self, addr.ip().to_canonical()) {
            (Self::V4, IpAddr::V4(ip)) => to.extend_from_slice(&ip.octets()),
            (Self::V6, IpAddr::V6(ip)) => to.extend_from_slice(&ip.octets()),
            _ => panic!("{addr} is no address of {self:?}"),
        }
        to.extend_from_slice(&addr.port().to_be_bytes());
    }
}

/// The first bytes of an id, which nearly always decide how close it is.
pub(super) fn head(id: NodeId) -> u64 {
    u64::from_be_bytes(*id.0.first_chunk().expect("an id has 20 bytes"))
}

/// Addresses that one party could well own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Block(u64);

impl Block {
    /// What one host has: an IPv4 address, or a /64 of IPv6. Local addresses are in no block at all.
    pub fn host(ip: IpAddr) -> Option<Self> {
        Self::of(ip, 32, 64)
    }

    /// What one customer of a provider has: a /24 of IPv4, or a /64 of IPv6 (BEP 42 wants at most one node of it in a
    /// bucket, and in a lookup).
    pub fn subnet(ip: IpAddr) -> Option<Self> {
        Self::of(ip, 24, 64)
    }

    /// What takes a provider to have: a /16 of IPv4, or a /32 of IPv6.
    pub fn provider(ip: IpAddr) -> Option<Self> {
        Self::of(ip, 16, 32)
    }

    fn of(ip: IpAddr, v4: u32, v6: u32) -> Option<Self> {
        let ip = ip.to_canonical();
        if is_local(ip) {
            return None;
        }
        Some(Self(match ip {
            IpAddr::V4(ip) => u64::from(ip.to_bits()) >> (32 - v4) | 1 << 63,
            IpAddr::V6(ip) => (ip.to_bits() >> 64) as u64 >> (64 - v6),
        }))
    }
}
