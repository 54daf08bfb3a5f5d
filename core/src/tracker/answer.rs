//! What trackers answer, whichever way they were asked.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;

/// The most peers that are taken from one answer.
pub const MAX_PEERS: usize = 200;

/// The most bytes of a tracker's words that are kept.
pub(super) const MAX_TEXT_LEN: usize = 256;

/// The answer to an announce.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Our own address, as the tracker sees it (BEP 24).
    pub external_ip: Option<IpAddr>,
    /// How long to wait before the next regular announce, within limits that spare both sides.
    pub interval: Duration,
    /// How many peers miss something.
    pub leechers: Option<u32>,
    /// How long to wait at least before any announce that is no event.
    pub min_interval: Option<Duration>,
    /// At most [`MAX_PEERS`] that can be connected to; we may be among them.
    pub peers: Vec<SocketAddr>,
    /// How many peers have everything.
    pub seeders: Option<u32>,
    /// What to tell this tracker in later announces.
    pub tracker_id: Option<Vec<u8>>,
    /// What the tracker wants the user to read.
    pub warning: Option<String>,
}

/// When a tracker that refused may be asked again (BEP 31).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RetryIn {
    /// Not before this time has passed.
    After(Duration),
    /// Only if the user insists.
    Never,
}

/// Why a tracker could not be asked, or what it answered is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrackerError {
    /// The server answered with this status, and nothing else that says why.
    #[error("the tracker answered with HTTP status {0}")]
    HttpStatus(u16),
    /// The answer does not have the form of one.
    #[error("the tracker's answer makes no sense")]
    Malformed,
    /// The tracker says no.
    #[error("the tracker refused: {reason}")]
    Refused {
        /// Why, in its words.
        reason: String,
        /// When it may be asked again, if it says so.
        retry_in: Option<RetryIn>,
    },
    /// No answer came in time.
    #[error("the tracker did not answer in time")]
    TimedOut,
    /// The exchange did not come about, for this reason.
    #[error("the tracker can't be reached: {0}")]
    Unreachable(String),
    /// A page for people came instead of an answer: the address is wrong, or a gateway wants a log-in.
    #[error("the tracker answered with a web page")]
    WebPage,
}

/// An interval in seconds, brought within 1 minute and 1 day.
pub(super) fn interval(seconds: Option<i64>) -> Duration {
    let seconds = seconds.map_or(DEFAULT_INTERVAL_S, |seconds| u64::try_from(seconds).unwrap_or(0));
    Duration::from_secs(seconds.clamp(MIN_INTERVAL_S, MAX_INTERVAL_S))
}

/// A lower bound on intervals, within 0 seconds and 1 day.
pub(super) fn min_interval(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0).min(MAX_INTERVAL_S))
}

/// The peers of a compact list (BEP 23); an incomplete one at the end is left out.
pub(super) fn compact_v4(bytes: &[u8]) -> impl Iterator<Item = SocketAddr> + '_ {
    let (peers, _) = bytes.as_chunks::<6>();
    peers.iter().filter_map(|[a, b, c, d, port @ ..]| {
        peer(Ipv4Addr::new(*a, *b, *c, *d).into(), u16::from_be_bytes(*port))
    })
}

/// The peers of a compact list with IPv6 addresses (BEP 7).
pub(super) fn compact_v6(bytes: &[u8]) -> impl Iterator<Item = SocketAddr> + '_ {
    let (peers, _) = bytes.as_chunks::<18>();
    peers.iter().filter_map(|bytes| {
        let (ip, [high, low]) = bytes.split_first_chunk::<16>()? else { return None };
        peer(Ipv6Addr::from(*ip).into(), u16::from_be_bytes([*high, *low]))
    })
}

/// The peer at `ip` and `port`, unless nobody can be there.
pub(super) fn peer(ip: IpAddr, port: u16) -> Option<SocketAddr> {
    let ip = ip.to_canonical();
    let nobody = ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST);
    (port != 0 && !nobody).then_some(SocketAddr::new(ip, port))
}

const DEFAULT_INTERVAL_S: u64 = 30 * 60;
const MIN_INTERVAL_S: u64 = 60;
const MAX_INTERVAL_S: u64 = 24 * 60 * 60;

#[cfg(test)]
mod tests {
    use super::{compact_v4, compact_v6, interval, min_interval};
    use alloc::vec::Vec;
    use core::time::Duration;

    #[test]
    fn intervals_are_brought_within_a_minute_and_a_day() {
        for (said, taken) in
            [(None, 1800), (Some(i64::MIN), 60), (Some(0), 60), (Some(61), 61), (Some(1 << 62), 86_400)]
        {
            assert_eq!(interval(said), Duration::from_secs(taken), "{said:?}");
        }
        for (said, taken) in [(-5, 0), (0, 0), (900, 900), (i64::MAX, 86_400)] {
            assert_eq!(min_interval(said), Duration::from_secs(taken), "{said}");
        }
    }

    #[test]
    fn nobody_is_no_peer() {
        let compact = [
            [203, 0, 113, 5, 0x1a, 0xe1], // a peer
            [203, 0, 113, 5, 0, 0],       // no port
            [0, 0, 0, 0, 0x1a, 0xe1],     // no address
            [224, 0, 0, 1, 0x1a, 0xe1],   // a group
            [255, 255, 255, 255, 0x1a, 0xe1],
        ]
        .concat();
        let peers: Vec<_> = compact_v4(&compact).collect();
        assert_eq!(peers, ["203.0.113.5:6881".parse().unwrap()]);
    }

    #[test]
    fn an_incomplete_peer_is_left_out() {
        assert_eq!(compact_v4(&[1; 6 * 3 + 5]).count(), 3);
        assert_eq!(compact_v6(&[1; 18 * 2 + 17]).count(), 2);
        let one = compact_v6(b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x1a\xe1").next();
        assert_eq!(one, Some("[2001:db8::1]:6881".parse().unwrap()));
    }
}
