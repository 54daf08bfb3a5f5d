//! The peers of one torrent, in as few bytes as they take in a message and four more: there can be 200,000 of them.

use super::super::message::Family;
use super::super::shares::{Owner, Shares};
use crate::address::is_local;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A peer that was announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) addr: SocketAddr,
    pub(super) seed: bool,
    /// In seconds since the start.
    pub(super) heard_at: u32,
}

/// Peers of one family, in no order.
#[derive(Clone, Debug)]
pub(super) struct Packed {
    family: Family,
    /// Address and port as in a message; then the time and, in the lowest bit, whether it is a seed.
    bytes: Vec<u8>,
}

impl Packed {
    pub(super) const fn new(family: Family) -> Self {
        Self { family, bytes: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() / self.stride()
    }

    /// The bytes that it takes.
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Peer> + '_ {
        self.bytes.chunks_exact(self.stride()).map(unpack)
    }

    pub(super) fn get(&self, i: usize) -> Peer {
        unpack(&self.bytes[i * self.stride()..][..self.stride()])
    }

    /// Where the peer is that `addr` would replace: the one with its IP address, or with this local address.
    pub(super) fn position(&self, addr: SocketAddr) -> Option<usize> {
        let port_counts = is_local(addr.ip());
        self.iter()
            .position(|peer| peer.addr.ip() == addr.ip() && (!port_counts || peer.addr.port() == addr.port()))
    }

    pub(super) fn set(&mut self, i: usize, peer: Peer) {
        let at = i * self.stride();
        let entry = &mut self.bytes[at..];
        match peer.addr.ip() {
            IpAddr::V4(v4) => entry[..4].copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => entry[..16].copy_from_slice(&v6.octets()),
        }
        let ip_len = self.family.addr_len() - 2;
        let time = peer.heard_at << 1 | u32::from(peer.seed);
        entry[ip_len..][..2].copy_from_slice(&peer.addr.port().to_be_bytes());
        entry[ip_len + 2..][..4].copy_from_slice(&time.to_be_bytes());
    }

    pub(super) fn push(&mut self, peer: Peer) {
        let stride = self.stride();
        if self.bytes.capacity() - self.bytes.len() < stride {
            self.bytes.reserve_exact(GROWTH * stride);
        }
        self.bytes.resize(self.bytes.len() + stride, 0);
        self.set(self.len() - 1, peer);
    }

    /// Removes one; the last takes its place.
    pub(super) fn remove(&mut self, i: usize) {
        let last = self.get(self.len() - 1);
        self.set(i, last);
        self.bytes.truncate(self.bytes.len() - self.stride());
        self.shrink();
    }

    /// Keeps those that were heard of since `second`.
    pub(super) fn expire(&mut self, second: u32) {
        let mut i = 0;
        while i < self.len() {
            if self.get(i).heard_at < second {
                self.remove(i);
            } else {
                i += 1;
            }
        }
    }

    /// Who has to give way, to a peer of `newcomer` if there is one: of the owners with most peers, the one that was not
    /// heard of for longest.
    pub(super) fn yields(&self, newcomer: Option<Owner>) -> Option<usize> {
        let shares: Shares = self.iter().map(|peer| Owner::of(peer.addr)).collect();
        let peers = self.iter().enumerate();
        shares.who_yields(newcomer, peers.map(|(i, peer)| (i, Owner::of(peer.addr), peer.heard_at)))
    }

    const fn stride(&self) -> usize {
        self.family.addr_len() + 4
    }

    fn shrink(&mut self) {
        if self.bytes.capacity() - self.bytes.len() >= 2 * GROWTH * self.stride() {
            self.bytes.shrink_to(self.bytes.len());
        }
    }
}

fn unpack(entry: &[u8]) -> Peer {
    let (addr, time) = entry.split_last_chunk().expect("an entry ends with four bytes of time");
    let (ip, port) = addr.split_last_chunk().expect("before that there are two of a port");
    let ip = match *ip {
        [a, b, c, d] => Ipv4Addr::new(a, b, c, d).into(),
        _ => Ipv6Addr::from(*ip.first_chunk().expect("and before these an IP address")).into(),
    };
    let time = u32::from_be_bytes(*time);
    let addr = SocketAddr::new(ip, u16::from_be_bytes(*port));
    Peer { addr, seed: time & 1 == 1, heard_at: time >> 1 }
}

/// Room is made for this many peers at a time: most torrents here have few.
const GROWTH: usize = 4;
