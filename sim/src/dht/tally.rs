//! Lookups and how they went.

use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;
use fast_peer_core::dht::Summary;
use fast_peer_core::machine::Timestamp;

/// A lookup that somebody does, and what came of it so far.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    pub(super) started_at: Timestamp,
    /// The peer that was announced, if one was.
    pub(super) wanted: Option<SocketAddr>,
    /// When that was found.
    pub(super) found_at: Option<Timestamp>,
    pub(super) done: Option<Summary>,
}

/// What many lookups have in common.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// How many there were.
    pub lookups: usize,
    /// How many are over.
    pub done: usize,
    /// How many found the peer that was announced.
    pub found: usize,
    /// How many nodes stored what was announced, in all.
    pub stored: u64,
    /// How long it took to find the peer, in ascending order.
    pub took: Vec<Duration>,
    /// Steps from node to node, in ascending order.
    pub hops: Vec<u32>,
    /// Nodes that were asked, in ascending order.
    pub asked: Vec<u32>,
}

impl Tally {
    pub(super) fn of(probes: &[Probe]) -> Self {
        let mut tally = Self { lookups: probes.len(), ..Self::default() };
        for probe in probes {
            if let Some(found_at) = probe.found_at {
                tally.found += 1;
                tally.took.push(found_at.since(probe.started_at));
            }
            if let Some(summary) = probe.done {
                tally.done += 1;
                tally.stored += u64::from(summary.stored);
                tally.hops.push(summary.hops);
                tally.asked.push(summary.asked);
            }
        }
        tally.took.sort_unstable();
        tally.hops.sort_unstable();
        tally.asked.sort_unstable();
        tally
    }

    /// Adds what others have in common.
    pub(super) fn add(&mut self, other: Self) {
        self.lookups += other.lookups;
        self.done += other.done;
        self.found += other.found;
        self.stored += other.stored;
        self.took.extend(other.took);
        self.hops.extend(other.hops);
        self.asked.extend(other.asked);
        self.took.sort_unstable();
        self.hops.sort_unstable();
        self.asked.sort_unstable();
    }

    /// How long they were, in words.
    pub fn steps(&self) -> impl fmt::Display {
        Steps(self)
    }

    /// The share of lookups that found the peer, in thousandths.
    pub fn found_permille(&self) -> u64 {
        (1000 * self.found as u64).checked_div(self.lookups as u64).unwrap_or_default()
    }
}

/// `2 hops (p99 3), 13 messages (p99 21)`
struct Steps<'a>(&'a Tally);

impl fmt::Display for Steps<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(tally) = self;
        let number = |number: Option<&u32>| number.copied().unwrap_or_default();
        write!(f, "{} hops (p99 {})", number(middle(&tally.hops)), number(p99(&tally.hops)))?;
        write!(f, ", {} messages (p99 {})", number(middle(&tally.asked)), number(p99(&tally.asked)))?;
        if tally.done < tally.lookups {
            write!(f, ", {} not over", tally.lookups - tally.done)?;
        }
        Ok(())
    }
}

/// `found 998 of 1000 (99.8 %), …`
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let permille = self.found_permille();
        write!(f, "found {} of {} ({}.{} %)", self.found, self.lookups, permille / 10, permille % 10)?;
        let millis = |took: Option<&Duration>| took.map_or(0, Duration::as_millis);
        write!(f, " after {} ms (p99 {})", millis(middle(&self.took)), millis(p99(&self.took)))?;
        write!(f, ", {}", self.steps())
    }
}

/// The median of what is in order.
pub(super) fn middle<T>(sorted: &[T]) -> Option<&T> {
    sorted.get(sorted.len() / 2)
}

/// What 99 of 100 don't exceed.
pub(super) fn p99<T>(sorted: &[T]) -> Option<&T> {
    sorted.get(sorted.len() * 99 / 100)
}
