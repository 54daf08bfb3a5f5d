//! What we asked other nodes, and who still owes an answer.

use super::node_id::NodeId;
use crate::address::names;
use crate::machine::{Deadline, Timestamp};
use crate::rng::Rng;
use alloc::collections::{BTreeMap, BTreeSet};
use core::fmt::Debug;
use core::net::SocketAddr;
use core::time::Duration;

/// Our open queries. Each closes exactly once: it is answered, or dead.
///
/// ```text
///            ┌─ late_after() ──────▶ late: others are asked too
///  asked ────┼─ eight times that ──▶ dead, the node has failed
///            └─ answered, late or not
/// ```
///
/// An answer counts only if it comes from where we asked and has the same transaction (row D-02); where a name was asked, of
/// which we don't know where it leads, the transaction alone counts. `P` says what a query
/// is for.
#[derive(Clone, Debug)]
pub struct Queries<P> {
    rng: Rng,
    open: BTreeMap<(SocketAddr, u32), Query<P>>,
    due: BTreeSet<(Timestamp, SocketAddr, u32)>,
    round_trip: RoundTrip,
    /// When anybody was heard last.
    heard_at: Timestamp,
}

/// An open query, or one that was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query<P> {
    /// The id of the node that was asked, if we know it.
    pub id: Option<NodeId>,
    /// What for.
    pub purpose: P,
    /// When.
    pub sent_at: Timestamp,
    due_at: Timestamp,
    dead_at: Timestamp,
}

/// What time did to a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Overdue<P> {
    /// It may still be answered.
    Late {
        /// Who was asked.
        to: SocketAddr,
        /// Its id, if we know it.
        id: Option<NodeId>,
        /// What for.
        purpose: P,
    },
    /// It is closed.
    Dead {
        /// Who was asked.
        to: SocketAddr,
        /// What.
        query: Query<P>,
        /// Whether somebody was heard since it was sent. If not, it may be our own connection that is dead.
        is_fault: bool,
    },
}

impl<P: Clone + Debug> Queries<P> {
    /// Nothing asked. Transactions are drawn from `rng`, so that nobody who does not see our packets can answer.
    pub fn new(rng: Rng) -> Self {
        let (open, due) = (BTreeMap::new(), BTreeSet::new());
        Self { rng, open, due, round_trip: RoundTrip::default(), heard_at: Timestamp::ZERO }
    }

    /// How many queries are open.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Something came from the network, so it is there.
    pub fn hear(&mut self, now: Timestamp) {
        self.heard_at = now;
    }

    /// Whether this address owes an answer.
    pub fn is_asked(&self, to: SocketAddr) -> bool {
        self.open.range((to, 0)..=(to, u32::MAX)).next().is_some()
    }

    /// Opens a query; returns its transaction.
    pub fn open(&mut self, now: Timestamp, to: SocketAddr, id: Option<NodeId>, purpose: P) -> u32 {
        let transaction = loop {
            let drawn = self.rng.next_u32();
            if !self.open.contains_key(&(to, drawn)) {
                break drawn;
            }
        };
        let late_after = self.late_after();
        let (due_at, dead_at) = (now + late_after, now + (LATE_TIMES * late_after).clamp(DEAD_MIN, DEAD_MAX));
        self.open.insert((to, transaction), Query { id, purpose, sent_at: now, due_at, dead_at });
        self.due.insert((due_at, to, transaction));
        transaction
    }

    /// Where the query went that this is the answer to, if there is one: to where the answer comes from, or to what stands
    /// for the name of that place.
    pub fn asked(&self, from: SocketAddr, transaction: u32) -> Option<SocketAddr> {
        if self.open.contains_key(&(from, transaction)) {
            return Some(from);
        }
        let (first, last) = names().into_inner();
        let named = self.open.range((first, 0)..=(last, u32::MAX));
        named.map(|((to, of), _)| (*to, *of)).find(|(_, of)| *of == transaction).map(|(to, _)| to)
    }

    /// An answer came, or an error; returns the query that it closes, if there is one.
    pub fn close(&mut self, now: Timestamp, from: SocketAddr, transaction: u32) -> Option<Query<P>> {
        let query = self.open.remove(&(from, transaction))?;
        self.due.remove(&(query.due_at, from, transaction));
        self.tidy();
        self.round_trip.measure(now.since(query.sent_at));
        self.heard_at = now;
        Some(query)
    }

    /// The next query that is overdue.
    pub fn pop_overdue(&mut self, now: Timestamp) -> Option<Overdue<P>> {
        let (at, to, transaction) = self.due.first().copied().filter(|(at, ..)| *at <= now)?;
        self.due.remove(&(at, to, transaction));
        let key = (to, transaction);
        let query = self.open.get_mut(&key).expect("what is due is open");
        if query.due_at != query.dead_at {
            query.due_at = query.dead_at;
            self.due.insert((query.due_at, to, transaction));
            return Some(Overdue::Late { to, id: query.id, purpose: query.purpose.clone() });
        }
        let query = self.open.remove(&key).expect("it was just there");
        self.tidy();
        let is_fault = self.heard_at > query.sent_at;
        Some(Overdue::Dead { to, query, is_fault })
    }

    /// When the next query is overdue.
    pub fn poll_timeout(&self) -> Option<Deadline> {
        self.due.first().map(|(at, ..)| Deadline { at: *at, why: "node does not answer" })
    }

    /// After how long a query is late: longer than nearly all answers take.
    pub fn late_after(&self) -> Duration {
        self.round_trip.late_after()
    }

    /// The nodes that owe an answer.
    pub fn iter(&self) -> impl Iterator<Item = (SocketAddr, &Query<P>)> {
        self.open.iter().map(|((to, _), query)| (*to, query))
    }

    /// Panics unless every open query has one deadline. For tests and simulators.
    pub fn check_invariants(&self) {
        assert_eq!(self.open.len(), self.due.len(), "every open query is due once");
        for (at, to, transaction) in &self.due {
            let query = self.open.get(&(*to, *transaction)).expect("what is due is open");
            assert_eq!(*at, query.due_at, "a query to {to} is due at another time");
            assert!(*at <= query.dead_at && query.dead_at <= query.sent_at + DEAD_MAX, "{to} lives too long");
        }
    }

    /// An empty map still holds on to a node of its tree: too much for a hundred thousand simulated nodes at rest.
    fn tidy(&mut self) {
        if self.open.is_empty() {
            (self.open, self.due) = (BTreeMap::new(), BTreeSet::new());
        }
    }
}

/// How long answers take, smoothed as TCP does (RFC 6298).
#[derive(Clone, Copy, Debug, Default)]
struct RoundTrip {
    /// In microseconds; zero before the first answer.
    mean: u64,
    deviation: u64,
}

impl RoundTrip {
    fn measure(&mut self, took: Duration) {
        let took = took.as_micros() as u64;
        if self.mean == 0 {
            (self.mean, self.deviation) = (took, took / 2);
        } else {
            self.deviation = (3 * self.deviation + self.mean.abs_diff(took)) / 4;
            self.mean = (7 * self.mean + took) / 8;
        }
    }

    fn late_after(self) -> Duration {
        if self.mean == 0 {
            return LATE_UNKNOWN;
        }
        Duration::from_micros(self.mean + 4 * self.deviation).clamp(LATE_MIN, LATE_MAX)
    }
}

/// Before anybody has answered.
const LATE_UNKNOWN: Duration = Duration::from_millis(400);

/// What takes no longer is never late.
const LATE_MIN: Duration = Duration::from_millis(150);

/// What libtorrent calls a short timeout.
const LATE_MAX: Duration = Duration::from_secs(1);

/// How much longer a node may take than nearly all others.
const LATE_TIMES: u32 = 8;

/// No node is dead before.
const DEAD_MIN: Duration = Duration::from_secs(2);

/// An answer that takes longer is of no use to any lookup. libtorrent waits for 15 s, aria2 for 10.
const DEAD_MAX: Duration = Duration::from_secs(8);

#[cfg(test)]
mod tests;
