//! Addresses of nodes and peers in a few bytes each (BEP 5, 32).

use super::super::node_id::NodeId;
use crate::bencode::{Raw, Writer};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A node: its name and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Contact {
    /// Its name.
    pub id: NodeId,
    /// Its address.
    pub addr: SocketAddr,
}

/// One of the two networks, each with a table of its own (BEP 32).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address; an IPv4 address that is written as IPv6 is one of IPv4.
    pub const fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// How many bytes an address and a port take.
    pub const fn addr_len(self) -> usize {
        match self {
            Self::V4 => 6,
            Self::V6 => 18,
        }
    }

    /// How many bytes a node takes.
    pub const fn contact_len(self) -> usize {
        20 + self.addr_len()
    }
}

/// Nodes in a reply: as they came, or as they are to be written.
#[derive(Clone, Copy, Debug)]
pub enum Nodes<'a> {
    /// One behind the other. What is left behind the last whole one is ignored.
    Compact(&'a [u8]),
    /// The nodes themselves. Those of the other family are not written.
    Contacts(&'a [Contact]),
}

impl<'a> Nodes<'a> {
    /// The first [`MAX_NODES_READ`] nodes that could be reached at all: those at port 0 can't.
    pub fn iter(self, family: Family) -> impl Iterator<Item = Contact> + 'a {
        let (compact, contacts) = match self {
            Self::Compact(compact) => (compact, [].as_slice()),
            Self::Contacts(contacts) => ([].as_slice(), contacts),
        };
        let read = compact.chunks_exact(family.contact_len()).filter_map(|entry| {
            let (id, addr) = entry.split_first_chunk()?;
            Some(Contact { id: NodeId(*id), addr: read_addr(addr)? })
        });
        let ours = contacts.iter().copied().filter(move |contact| Family::of(contact.addr.ip()) == family);
        read.chain(ours).filter(|contact| contact.addr.port() != 0).take(MAX_NODES_READ)
    }

    /// How many there are to write.
    pub(super) fn len(self, family: Family) -> usize {
        match self {
            Self::Compact(compact) => compact.len() / family.contact_len(),
            Self::Contacts(_) => self.iter(family).count(),
        }
    }

    /// All of them, or the first `max`.
    pub(super) fn write(self, family: Family, max: usize, to: &mut Writer) {
        match self {
            Self::Compact(compact) => {
                let len = max.saturating_mul(family.contact_len());
                to.bytes(compact.get(..len).unwrap_or(compact));
            }
            Self::Contacts(_) => {
                to.bytes_head(self.iter(family).take(max).count() * family.contact_len());
                for contact in self.iter(family).take(max) {
                    to.raw(&contact.id.0);
                    to.raw(compact(contact.addr, &mut [0; 18]));
                }
            }
        }
    }
}

impl Default for Nodes<'_> {
    fn default() -> Self {
        Self::Contacts(&[])
    }
}

/// Peers in a reply: as they came, or as they are to be written.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
    /// The addresses themselves.
    Addrs(&'a [SocketAddr]),
    /// A list of strings, each with the address of one peer; or of one string with many, or that string alone, as old
    /// programs send them.
    Raw(Raw<'a>),
}

impl<'a> Values<'a> {
    pub(super) fn read(values: Raw<'a>) -> Option<Self> {
        (values.items().is_some() || values.as_bytes().is_some()).then_some(Self::Raw(values))
    }

    /// The first [`MAX_VALUES_READ`] peers that could be reached at all, of both families if both came.
    pub fn iter(self) -> impl Iterator<Item = SocketAddr> + 'a {
        let (addrs, raw) = match self {
            Self::Addrs(addrs) => (addrs, None),
            Self::Raw(raw) => ([].as_slice(), Some(raw)),
        };
        let joined = raw.and_then(Raw::as_bytes).map(|joined| (joined, Family::V4));
        let items = raw.and_then(Raw::items).into_iter().flatten().filter_map(|item| {
            let item = item.as_bytes()?;
            let v6 = item.len() == Family::V6.addr_len();
            Some((item, if v6 { Family::V6 } else { Family::V4 }))
        });
        let read = joined.into_iter().chain(items).flat_map(|(addrs, family)| {
            let whole = addrs.len() % family.addr_len() == 0;
            let addrs = if whole { addrs } else { &[] };
            addrs.chunks_exact(family.addr_len()).filter_map(read_addr)
        });
        addrs.iter().copied().chain(read).filter(|addr| addr.port() != 0).take(MAX_VALUES_READ)
    }

    /// How many bytes each of them takes.
    pub(super) fn lens(self) -> impl Iterator<Item = usize> + 'a {
        self.iter().map(|addr| match Family::of(addr.ip()) {
            Family::V4 => "6:".len() + 6,
            Family::V6 => "18:".len() + 18,
        })
    }

    /// All of them, or the first `max`.
    pub(super) fn write(self, max: usize, to: &mut Writer) {
        match self {
            Self::Raw(raw) if max == usize::MAX => to.raw(raw.raw()),
            _ => {
                to.list();
                self.iter().take(max).for_each(|addr| write_addr(addr, to));
                to.end();
            }
        }
    }
}

impl Default for Values<'_> {
    fn default() -> Self {
        Self::Addrs(&[])
    }
}

/// Whether they name the same peers.
impl PartialEq for Values<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Values<'_> {}

/// Six bytes, or eighteen, as a string.
pub(super) fn write_addr(addr: SocketAddr, to: &mut Writer) {
    to.bytes(compact(addr, &mut [0; 18]));
}

/// Address and port, or an address alone, which gets port 0.
pub(super) fn read_addr_or_ip(bytes: &[u8]) -> Option<SocketAddr> {
    read_addr(bytes).or_else(|| Some(SocketAddr::new(read_ip(bytes)?, 0)))
}

/// Six bytes, or eighteen, in the end of `buffer`.
pub(in crate::dht) fn compact(addr: SocketAddr, buffer: &mut [u8; 18]) -> &[u8] {
    let len = match addr.ip().to_canonical() {
        IpAddr::V4(v4) => {
            buffer[12..16].copy_from_slice(&v4.octets());
            6
        }
        IpAddr::V6(v6) => {
            buffer[..16].copy_from_slice(&v6.octets());
            18
        }
    };
    buffer[16..].copy_from_slice(&addr.port().to_be_bytes());
    &buffer[18 - len..]
}

/// Address and port; an IPv4 address that is written as IPv6 is one of IPv4.
pub(in crate::dht) fn read_addr(bytes: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = bytes.split_last_chunk()?;
    Some(SocketAddr::new(read_ip(ip)?, u16::from_be_bytes(*port)))
}

fn read_ip(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(v4).into());
    }
    let v6 = <[u8; 16]>::try_from(bytes).ok()?;
    Some(IpAddr::from(Ipv6Addr::from(v6)).to_canonical())
}

/// D-08: of a list of nodes this many are taken. A reply should have eight; some send sixteen.
pub const MAX_NODES_READ: usize = 20;

/// Of a list of peers this many are taken: what fits into a datagram of 1,500 bytes, and a little more.
pub const MAX_VALUES_READ: usize = 200;
