//! Addresses that the user wants nothing to do with: block lists.
//!
//! [`Builder`] reads such lists line by line, in whatever of the usual formats each line is. [`IpFilter`] is what comes
//! of them: ranges that neither overlap nor touch, in order, so that one look-up is one binary search and half a million
//! ranges take four megabytes.

mod line;
#[cfg(test)]
mod tests;

pub use line::LineError;

use crate::address::{is_local, stands_for_name};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use line::Line;

/// A set of addresses of both families.
///
/// Addresses of this machine and of local networks (loopback, private, link-local) are never blocked, whatever the lists
/// say: many list these ranges whole, as addresses that no stranger can have, and would cut off the peers next door. The
/// same goes for addresses that stand for names: lists mean what those lead to, and only a proxy knows that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IpFilter {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
}

/// Addresses from the first to the last of each pair, in order, with gaps between them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ranges<T>(Box<[(T, T)]>);

/// Addresses from the first to the last, both of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range(Ends);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    V4(u32, u32),
    V6(u128, u128),
}

/// Collects ranges from lists.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl IpFilter {
    /// Whether nothing may be sent to `ip` or taken from there. An IPv4 address that was written as IPv6 counts as what
    /// it is.
    pub fn blocks(&self, ip: IpAddr) -> bool {
        let listed = match ip.to_canonical() {
            IpAddr::V4(v4) => self.v4.contains(v4.to_bits()),
            IpAddr::V6(v6) => self.v6.contains(v6.to_bits()),
        };
        listed && !is_local(ip) && !stands_for_name(ip)
    }

    /// How many ranges there are, those that overlapped or touched counted as one.
    pub fn len(&self) -> usize {
        self.v4.0.len() + self.v6.0.len()
    }

    /// Whether nothing is blocked.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The ranges, those of IPv4 first, from the lowest to the highest.
    pub fn ranges(&self) -> impl Iterator<Item = Range> + '_ {
        let v4 = self.v4.0.iter().map(|(first, last)| Range(Ends::V4(*first, *last)));
        v4.chain(self.v6.0.iter().map(|(first, last)| Range(Ends::V6(*first, *last))))
    }
}

impl Range {
    /// The addresses from `first` to `last`, unless they are of two families or the wrong way round.
    pub fn new(first: IpAddr, last: IpAddr) -> Option<Self> {
        let ends = match (first.to_canonical(), last.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(last)) => Ends::V4(first.to_bits(), last.to_bits()),
            _ => match (first, last) {
                (IpAddr::V6(first), IpAddr::V6(last)) => Ends::V6(first.to_bits(), last.to_bits()),
                _ => return None,
            },
        };
        let ordered = match ends {
            Ends::V4(first, last) => first <= last,
            Ends::V6(first, last) => first <= last,
        };
        ordered.then_some(Self(ends))
    }

    /// The addresses that share their first `bits` bits with `ip`; nothing if it does not have that many.
    pub fn of_network(ip: IpAddr, bits: u8) -> Option<Self> {
        match ip {
            IpAddr::V4(_) if bits > 32 => None,
            IpAddr::V4(v4) => {
                let host = u32::MAX.checked_shr(u32::from(bits)).unwrap_or(0);
                Some(Self(Ends::V4(v4.to_bits() & !host, v4.to_bits() | host)))
            }
            IpAddr::V6(_) if bits > 128 => None,
            IpAddr::V6(v6) => {
                let host = u128::MAX.checked_shr(u32::from(bits)).unwrap_or(0);
                let ends = [v6.to_bits() & !host, v6.to_bits() | host].map(Ipv6Addr::from_bits);
                Self::new(ends[0].into(), ends[1].into())
            }
        }
    }

    /// Its lowest address.
    pub fn first(&self) -> IpAddr {
        match self.0 {
            Ends::V4(first, _) => Ipv4Addr::from_bits(first).into(),
            Ends::V6(first, _) => Ipv6Addr::from_bits(first).into(),
        }
    }

    /// Its highest address.
    pub fn last(&self) -> IpAddr {
        match self.0 {
            Ends::V4(_, last) => Ipv4Addr::from_bits(last).into(),
            Ends::V6(_, last) => Ipv6Addr::from_bits(last).into(),
        }
    }
}

impl Builder {
    /// Nothing is blocked.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in a line of a list, without its end or with it. Empty lines and comments bring nothing. A line that can't
    /// be read is no reason to throw a list away: it is up to the caller to count those.
    ///
    /// These formats are known, and may be mixed:
    ///
    /// - eMule's `.dat`: `001.002.003.000 - 001.002.003.255 , 100 , text`, where 127 and less means blocked; a line
    ///   that grants more than that brings nothing,
    /// - PeerGuardian's `.p2p`: `text:1.2.3.0-1.2.3.255`, of which the text may have colons,
    /// - `1.2.3.0/24`, `1.2.3.4`, `1.2.3.0-1.2.3.255`, with or without a comment behind.
    ///
    /// Each goes for IPv6 too. Zeros in front of a number mean nothing: all numbers of IPv4 addresses are decimal.
    pub fn line(&mut self, line: &[u8]) -> Result<(), LineError> {
        match Line::parse(line)? {
            Line::Blocks(range) => self.add(range),
            Line::Allows | Line::Nothing => Ok(()),
        }
    }

    /// Adds a range.
    pub fn add(&mut self, range: Range) -> Result<(), LineError> {
        if self.len() >= MAX_RANGES {
            return Err(LineError::TooMany);
        }
        match range.0 {
            Ends::V4(first, last) => self.v4.push((first, last)),
            Ends::V6(first, last) => self.v6.push((first, last)),
        }
        Ok(())
    }

    /// How many ranges were taken in.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether no range was taken in.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What all of them together block.
    pub fn build(self) -> IpFilter {
        IpFilter {
            v4: Ranges::new(self.v4, |last| last.checked_add(1)),
            v6: Ranges::new(self.v6, |last| last.checked_add(1)),
        }
    }
}

impl<T: Copy + Ord> Ranges<T> {
    /// Sorts ranges and joins those between which no address is; `after` says what follows an address.
    fn new(mut ranges: Vec<(T, T)>, after: impl Fn(T) -> Option<T>) -> Self {
        ranges.sort_unstable();
        ranges.dedup_by(|(first, last), (_, end)| {
            let joined = after(*end).is_none_or(|next| *first <= next);
            if joined {
                *end = (*end).max(*last);
            }
            joined
        });
        Self(ranges.into_boxed_slice())
    }

    fn contains(&self, address: T) -> bool {
        let behind = self.0.partition_point(|(first, _)| *first <= address);
        behind.checked_sub(1).is_some_and(|index| address <= self.0[index].1)
    }
}

impl<T> Default for Ranges<T> {
    fn default() -> Self {
        Self(Box::default())
    }
}

/// Ranges that are taken in, of all lists together: ten times as many as the longest lists have, and 128 MiB at worst.
pub const MAX_RANGES: usize = 4_000_000;

/// How long a line may be, in bytes.
pub const MAX_LINE: usize = 4096;
