//! How long a packet to a remote may be.

use super::header::HEADER_LEN;
use crate::machine::Timestamp;
use core::net::SocketAddr;
use core::time::Duration;

/// The search for the longest payload that reaches a remote.
///
/// A probe is a packet of the usual payload behind an extension without a meaning, so that the payload can follow in a
/// shorter packet when the probe is lost. The loss of a probe says nothing about congestion.
#[derive(Debug)]
pub(super) struct Mtu {
    /// The longest payload that has arrived, or that every network carries.
    good: usize,
    /// The longest that may arrive.
    limit: usize,
    /// What `limit` was before probes were lost.
    most: usize,
    /// What a common network carries.
    common: usize,
    probe: Option<usize>,
    /// Probes of one length that were lost.
    failures: u32,
    rest_until: Timestamp,
}

impl Mtu {
    /// Knows nothing; packets of the interface are `link_mtu` bytes at most, with all headers.
    pub(super) fn new(remote: SocketAddr, link_mtu: usize) -> Self {
        let headers = if remote.ip().to_canonical().is_ipv4() { 28 } else { 48 };
        let most = link_mtu.min(MAX_LINK_MTU).saturating_sub(headers).max(BASE) - HEADER_LEN;
        Self {
            good: BASE_PAYLOAD,
            limit: most,
            most,
            common: ETHERNET - headers - HEADER_LEN,
            probe: None,
            failures: 0,
            rest_until: Timestamp::ZERO,
        }
    }

    /// The payload of a packet, at most.
    pub(super) fn payload(&self) -> usize {
        self.good
    }

    /// The payload that should be tried now, if any.
    pub(super) fn wanted_probe(&self, now: Timestamp) -> Option<usize> {
        if self.probe.is_some() || now < self.rest_until {
            return None;
        }
        // What the link and most networks carry comes before any search between.
        let likely = [self.most, self.common];
        let likely = likely.into_iter().find(|size| *size > self.good + 1 && *size <= self.limit);
        let half = self.good + (self.limit - self.good).div_ceil(2);
        likely.or((half >= self.good + STEP).then_some(half))
    }

    pub(super) fn on_sent(&mut self, size: usize) {
        self.probe = Some(size);
    }

    pub(super) fn on_arrived(&mut self, size: usize) {
        self.good = self.good.max(size).min(self.most);
        self.limit = self.limit.max(self.good);
        (self.probe, self.failures) = (None, 0);
    }

    pub(super) fn on_lost(&mut self, now: Timestamp, size: usize) {
        self.probe = None;
        self.failures += 1;
        if self.failures >= TRIES {
            self.failures = 0;
            self.limit = self.good.max(size - 1);
            if self.limit < self.good + STEP {
                self.limit = self.most;
                self.rest_until = now + REST;
            }
        }
    }

    /// Nothing of this length arrives any more.
    pub(super) fn on_black_hole(&mut self, now: Timestamp) {
        self.good = BASE_PAYLOAD;
        self.limit = self.most;
        (self.probe, self.failures) = (None, 0);
        self.rest_until = now + REST;
    }
}

/// A datagram that every network in use carries in one piece (RFC 9000, section 14.1).
const BASE: usize = 1200;

/// What packets carry where nothing is known of the path.
pub(super) const BASE_PAYLOAD: usize = BASE - HEADER_LEN;

/// What most networks carry, with all headers.
const ETHERNET: usize = 1500;

/// No packet of IPv4 is longer.
const MAX_LINK_MTU: usize = 65_535;

/// It is searched as exactly as this.
const STEP: usize = 16;

/// Lost probes of a length until it counts as too long: one may be lost like any packet.
const TRIES: u32 = 2;

/// How long a result is believed.
const REST: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::Mtu;
    use crate::machine::Timestamp;

    fn search(link: usize, path: usize) -> (usize, u32) {
        let mut mtu = Mtu::new("8.8.8.8:1".parse().unwrap(), link);
        let mut probes = 0;
        while let Some(size) = mtu.wanted_probe(Timestamp::ZERO) {
            probes += 1;
            mtu.on_sent(size);
            assert_eq!(mtu.wanted_probe(Timestamp::ZERO), None);
            if size + 20 + 28 <= path { mtu.on_arrived(size) } else { mtu.on_lost(Timestamp::ZERO, size) }
        }
        (mtu.payload() + 20 + 28, probes)
    }

    #[test]
    fn the_limit_of_the_link_is_tried_first() {
        assert_eq!(search(1500, 1500), (1500, 1));
        assert_eq!(search(65_536, 65_536), (65_535, 1));
        assert_eq!(search(1228, 1228), (1228, 0));
        assert_eq!(search(0, 1500), (1228, 0));
    }

    #[test]
    fn a_narrow_path_is_measured() {
        for path in (1228..=1500).step_by(7) {
            let (found, probes) = search(1500, path);
            assert!(found <= path && path - found < 20 && probes <= 12, "{path}: {found}, {probes}");
        }
        let (found, probes) = search(65_536, 1500);
        assert!((1481..=1500).contains(&found) && probes <= 30, "{found}, {probes}");
    }

    #[test]
    fn a_result_is_believed_for_a_while() {
        let mut mtu = Mtu::new("8.8.8.8:1".parse().unwrap(), 1500);
        mtu.on_arrived(1452);
        assert_eq!(mtu.wanted_probe(Timestamp::ZERO), None);
        mtu.on_black_hole(Timestamp::ZERO);
        assert_eq!((mtu.payload(), mtu.wanted_probe(Timestamp::from_micros(1_000_000))), (1180, None));
        assert_eq!(mtu.wanted_probe(Timestamp::from_micros(601_000_000)), Some(1452));
    }
}
