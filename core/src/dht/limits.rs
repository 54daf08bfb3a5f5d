//! How much a node lets itself be used by others (rows D-05, G-45; limit L12).

use super::contact::Block;
use crate::machine::Timestamp;
use alloc::collections::{BTreeMap, BTreeSet};
use core::net::{IpAddr, Ipv6Addr, SocketAddr};
use core::time::Duration;

/// A rate with a burst, as the time at which all that was used is paid for.
#[derive(Clone, Debug)]
pub struct Meter {
    paid_at: Timestamp,
    /// What one unit costs.
    cost: Duration,
    /// How far ahead of time one may be.
    burst: Duration,
}

impl Meter {
    /// `per_s` units a second, and `burst` at once.
    pub fn new(per_s: u32, burst: u32) -> Self {
        let cost = Duration::from_secs(1) / per_s;
        Self { paid_at: Timestamp::ZERO, cost, burst: cost * burst }
    }

    /// Uses so many units, if there are any left. A piece that is larger than what is left goes through, and is paid for
    /// later: so the burst is exceeded by one piece at most.
    pub fn take(&mut self, now: Timestamp, units: usize) -> bool {
        let is_open = self.opens_at() <= now;
        if is_open {
            self.paid_at = self.paid_at.max(now) + self.cost * u32::try_from(units).unwrap_or(u32::MAX);
        }
        is_open
    }

    /// When there will be something left, or is.
    pub fn opens_at(&self) -> Timestamp {
        self.paid_at - self.burst
    }
}

/// Who sent us how much lately: each sender has a rate of its own.
#[derive(Clone, Debug, Default)]
pub struct Senders {
    /// When a sender's packets are paid for; those for whom that is over are not kept.
    paid_at: BTreeMap<SocketAddr, Timestamp>,
    by_time: BTreeSet<(Timestamp, SocketAddr)>,
}

impl Senders {
    /// Counts a packet; returns whether its sender keeps to its rate.
    pub fn admit(&mut self, now: Timestamp, from: SocketAddr) -> bool {
        self.forget_quiet(now);
        let key = sender(from);
        let paid_at = self.paid_at.get(&key).copied().unwrap_or(now);
        if paid_at - PACKET_BURST > now {
            return false;
        }
        if paid_at > now {
            self.by_time.remove(&(paid_at, key));
        } else if self.paid_at.len() == MAX_SENDERS {
            // Who comes first to be forgotten sent least.
            let (_, quietest) = self.by_time.pop_first().expect("there is one for each sender");
            self.paid_at.remove(&quietest);
        }
        self.paid_at.insert(key, paid_at + PACKET_COST);
        self.by_time.insert((paid_at + PACKET_COST, key));
        true
    }

    fn forget_quiet(&mut self, now: Timestamp) {
        while let Some((paid_at, key)) = self.by_time.first().copied()
            && paid_at <= now
        {
            self.by_time.pop_first();
            self.paid_at.remove(&key);
        }
    }
}

/// Who has shown that its address is no forgery, by sending back a token that we sent there.
#[derive(Clone, Debug, Default)]
pub struct Proven {
    until: BTreeMap<SocketAddr, Timestamp>,
    by_time: BTreeSet<(Timestamp, SocketAddr)>,
}

impl Proven {
    /// Notes that a sender has shown it.
    pub fn insert(&mut self, now: Timestamp, from: SocketAddr) {
        let key = sender(from);
        if let Some(until) = self.until.insert(key, now + PROVEN_FOR) {
            self.by_time.remove(&(until, key));
        }
        self.by_time.insert((now + PROVEN_FOR, key));
        while let Some((until, key)) = self.by_time.first().copied()
            && (until <= now || self.until.len() > MAX_PROVEN)
        {
            self.by_time.pop_first();
            self.until.remove(&key);
        }
    }

    /// Whether a sender has shown it lately.
    pub fn contains(&self, now: Timestamp, from: SocketAddr) -> bool {
        self.until.get(&sender(from)).is_some_and(|until| now < *until)
    }
}

/// Who is one sender: a host, and on a local address, which many share, a port of it.
fn sender(from: SocketAddr) -> SocketAddr {
    match (Block::host(from.ip()), from.ip().to_canonical()) {
        (None, ip) => SocketAddr::new(ip, from.port()),
        (Some(_), IpAddr::V4(ip)) => (ip, 0).into(),
        (Some(_), IpAddr::V6(ip)) => (Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64), 0).into(),
    }
}

/// L12: five packets a second.
const PACKET_COST: Duration = Duration::from_millis(200);

/// L12: fifty at once.
const PACKET_BURST: Duration = Duration::from_secs(10).checked_sub(PACKET_COST).unwrap();

/// L12: senders that are told apart.
const MAX_SENDERS: usize = 1024;

/// Senders that are remembered to be no forgery.
const MAX_PROVEN: usize = 1024;

/// As long as a token is good (BEP 5).
const PROVEN_FOR: Duration = Duration::from_secs(10 * 60);

#[cfg(test)]
mod tests {
    use super::{MAX_PROVEN, MAX_SENDERS, Meter, PROVEN_FOR, Proven, Senders};
    use crate::machine::Timestamp;
    use core::net::{Ipv4Addr, SocketAddr};
    use core::time::Duration;

    fn at(millis: u64) -> Timestamp {
        Timestamp::ZERO + Duration::from_millis(millis)
    }

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn nth(n: usize) -> SocketAddr {
        (Ipv4Addr::from_bits(0x2d00_0000 + n as u32), 6881).into()
    }

    #[test]
    fn a_meter_gives_its_rate_and_a_burst() {
        let mut meter = Meter::new(8000, 8000);
        let mut sent = 0;
        for millis in 0..10_000 {
            while meter.take(at(millis), 300) {
                sent += 300;
            }
        }
        assert!((87_000..=88_300).contains(&sent), "{sent}");
        assert!(meter.opens_at() > at(9_999));
        assert!(
            !meter.take(meter.opens_at() - Duration::from_micros(1), 1) && meter.take(meter.opens_at(), 1)
        );
    }

    #[test]
    fn a_sender_has_fifty_packets_and_then_five_a_second() {
        let mut senders = Senders::default();
        let admitted = |senders: &mut Senders, at, from| (0..200).filter(|_| senders.admit(at, from)).count();
        assert_eq!(admitted(&mut senders, at(0), nth(1)), 50);
        assert_eq!(admitted(&mut senders, at(0), nth(2)), 50, "another one");
        assert_eq!(admitted(&mut senders, at(1000), nth(1)), 5);
        assert_eq!(admitted(&mut senders, at(1000), addr("45.0.0.1:1")), 0, "another port of the first");
        assert_eq!(admitted(&mut senders, at(60_000), nth(1)), 50);
    }

    #[test]
    fn local_nodes_are_told_apart_by_port() {
        let mut senders = Senders::default();
        let mut admitted = |from| (0..200).filter(|_| senders.admit(at(0), addr(from))).count();
        assert_eq!((admitted("127.0.0.1:1"), admitted("127.0.0.1:2")), (50, 50));
        assert_eq!((admitted("[2a00::1]:1"), admitted("[2a00::2]:1")), (50, 0), "one /64 is one host");
    }

    #[test]
    fn many_senders_push_out_the_quietest() {
        let mut senders = Senders::default();
        for _ in 0..200 {
            senders.admit(at(0), nth(0));
        }
        for n in 1..5 * MAX_SENDERS {
            assert!(senders.admit(at(0), nth(n)));
            assert!(senders.paid_at.len() <= MAX_SENDERS && senders.by_time.len() == senders.paid_at.len());
        }
        assert!(!senders.admit(at(0), nth(0)), "a flood of addresses does not set free who sends too much");
        senders.admit(at(100_000), nth(0));
        assert_eq!(senders.paid_at.len(), 1);
    }

    #[test]
    fn proof_ends_and_is_bounded() {
        let mut proven = Proven::default();
        proven.insert(at(0), nth(0));
        assert!(proven.contains(at(1), addr("45.0.0.0:9")) && !proven.contains(at(1), nth(1)));
        assert!(!proven.contains(at(0) + PROVEN_FOR, nth(0)));
        for n in 0..=MAX_PROVEN {
            proven.insert(at(1 + n as u64), nth(n));
        }
        assert_eq!((proven.until.len(), proven.by_time.len()), (MAX_PROVEN, MAX_PROVEN));
        assert!(!proven.contains(at(2000), nth(0)) && proven.contains(at(2000), nth(1)));
        proven.insert(at(0) + PROVEN_FOR * 2, nth(0));
        assert_eq!((proven.until.len(), proven.by_time.len()), (1, 1));
    }
}
