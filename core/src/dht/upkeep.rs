//! How a node gets to know the network, and keeps up with it.
//!
//! A node that knows nobody says so, again and again but ever less often. As soon as it knows anybody, or just an
//! address, it looks for its neighbours. After that it asks one node at a time for nodes in the bucket that it is in:
//! this shows whether the node is still there, refreshes the bucket (BEP 5 wants that after 15 minutes of silence), and
//! fills it.
//!
//! How often depends on how fast the network changes. Where all nodes that were not heard of for long are still there,
//! one is asked every [`GAP_MAX`]; each that is gone halves the time. So a few percent of the table are dead, however
//! fast nodes come and go.

use super::event::{Action, Saved, Task};
use super::message::{Contact, Method};
use super::table::K;
use super::votes::Votes;
use super::{Key, MAX_SEARCHES, Node, Purpose};
use crate::address::canonical;
use crate::machine::{Deadline, Outbox, Timestamp};
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

/// Where a node stands with getting to know the network.
#[derive(Clone, Debug)]
pub(super) struct Upkeep {
    stage: Stage,
    /// How many searches for our neighbours there were.
    searches: u32,
    /// How long to wait before asking for nodes once more.
    retry_after: Duration,
    /// How long to wait between two nodes.
    gap: Duration,
    /// How many times a bucket is still to be filled.
    fills: u8,
    /// The bucket that was filled last.
    filled: usize,
    /// Addresses to begin with.
    addresses: Vec<SocketAddr>,
    /// Pings that owe an answer.
    pings: usize,
}

/// ```text
///  alone ──▶ searching ──▶ settled
///    ▲────── in vain │        │
///    ▲───────────────────────────────── the table is empty
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// We know nobody, and say so at this time.
    Alone(Timestamp),
    /// We look for our neighbours.
    Searching {
        /// Whether it was said that there is nobody left to ask.
        called: bool,
    },
    /// We found them; the next node is asked at this time.
    Settled(Timestamp),
}

impl Upkeep {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            stage: Stage::Alone(now),
            searches: 0,
            retry_after: RETRY_MIN,
            gap: GAP_FIRST,
            fills: FILLS,
            filled: 0,
            addresses: Vec::new(),
            pings: 0,
        }
    }

    pub(super) fn is_settled(&self) -> bool {
        matches!(self.stage, Stage::Settled(_))
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.addresses.iter().copied()
    }

    /// A node that was to show whether it is alive did.
    pub(super) fn answered(&mut self) {
        self.gap = (self.gap + self.gap / 8).min(GAP_MAX);
    }

    /// It did not.
    pub(super) fn failed(&mut self) {
        self.gap = (self.gap / 2).max(GAP_MIN);
    }

    pub(super) fn may_ping(&self) -> bool {
        self.pings < MAX_PINGS
    }

    pub(super) fn ping_began(&mut self) {
        self.pings += 1;
    }

    pub(super) fn ping_ended(&mut self) {
        self.pings -= 1;
    }

    pub(super) fn poll_timeout(&self) -> Option<Deadline> {
        match self.stage {
            Stage::Alone(at) => Some(Deadline { at, why: "no node known" }),
            Stage::Searching { .. } => None,
            Stage::Settled(at) => Some(Deadline { at, why: "table upkeep" }),
        }
    }
}

impl Node {
    /// Looks for our neighbours, if there is anybody to ask.
    pub(super) fn bootstrap(&mut self, now: Timestamp, out: &mut Outbox<Action>) {
        let has_somebody = !self.table.is_empty() || !self.upkeep.addresses.is_empty();
        if matches!(self.upkeep.stage, Stage::Alone(_)) && has_somebody {
            self.upkeep.stage = Stage::Searching { called: false };
            self.upkeep.searches += 1;
            let key = Key::Bootstrap(self.upkeep.searches);
            self.begin(now, key, None, Task::FindNode { target: self.id() });
            self.advance(now, key, out);
        }
    }

    /// Looks for our neighbours once more: we have another id.
    pub(super) fn bootstrap_again(&mut self, now: Timestamp, out: &mut Outbox<Action>) {
        self.searches.remove(&Key::Bootstrap(self.upkeep.searches));
        self.upkeep.stage = Stage::Alone(now);
        self.upkeep.fills = FILLS;
        self.bootstrap(now, out);
    }

    /// The network is another one.
    pub(super) fn on_network_changed(&mut self, now: Timestamp, out: &mut Outbox<Action>) {
        self.upkeep.retry_after = RETRY_MIN;
        // They saw us where we are no longer.
        self.votes = Votes::default();
        self.bootstrap_again(now, out);
    }

    /// The search for our neighbours is over.
    pub(super) fn on_bootstrapped(&mut self, now: Timestamp, has_found: bool) {
        if has_found {
            self.upkeep.stage = Stage::Settled(now + self.upkeep.gap);
            self.upkeep.retry_after = RETRY_MIN;
        } else {
            self.upkeep.stage = Stage::Alone(now + self.upkeep.retry_after);
            self.upkeep.retry_after = (2 * self.upkeep.retry_after).min(RETRY_MAX);
        }
        self.upkeep.addresses = Vec::new();
    }

    /// A search waits. If that is the one for our neighbours, and nobody answers, it is said so, once.
    pub(super) fn on_wait(&mut self, key: Key, out: &mut Outbox<Action>) {
        let is_starved = matches!(key, Key::Bootstrap(_)) && self.searches[&key].is_starved();
        if is_starved && self.upkeep.stage == (Stage::Searching { called: false }) {
            self.upkeep.stage = Stage::Searching { called: true };
            out.push_back(Action::NeedNodes);
        }
    }

    /// There may be nodes at these addresses.
    pub(super) fn on_learn(&mut self, now: Timestamp, addrs: &[SocketAddr], out: &mut Outbox<Action>) {
        let admitted = addrs.iter().map(|addr| canonical(*addr)).filter(|addr| self.may_ask(*addr));
        let admitted: Vec<_> = admitted.take(MAX_ADDRESSES).collect();
        if self.is_bootstrapped() && self.table.len() >= K {
            admitted.into_iter().for_each(|addr| self.ping(now, addr, None, out));
            return;
        }
        for addr in admitted {
            if self.upkeep.addresses.len() < MAX_ADDRESSES && !self.upkeep.addresses.contains(&addr) {
                self.upkeep.addresses.push(addr);
            }
            self.searches.values_mut().for_each(|search| search.lookup.learn_address(addr));
        }
        self.advance_all(now, out);
        self.bootstrap(now, out);
    }

    /// An earlier run knew these nodes.
    pub(super) fn on_restore(&mut self, now: Timestamp, mut saved: Saved, out: &mut Outbox<Action>) {
        saved.contacts.iter_mut().for_each(|contact| contact.addr = canonical(contact.addr));
        if let Some(id) = saved.id(self.family).filter(|_| self.table.is_empty()) {
            self.table.move_to(id);
        }
        let contacts = saved.contacts.into_iter();
        let admitted: Vec<_> = contacts.filter(|contact| self.admits(contact.addr)).collect();
        self.table.restore(now, admitted);
        let mut searches = core::mem::take(&mut self.searches);
        searches.values_mut().for_each(|search| self.introduce(search));
        self.searches = searches;
        self.advance_all(now, out);
        self.bootstrap(now, out);
    }

    /// Nodes were named. Those for whom there is room in the table are pinged.
    pub(super) fn on_named(
        &mut self,
        now: Timestamp,
        contacts: impl Iterator<Item = Contact>,
        out: &mut Outbox<Action>,
    ) {
        for contact in contacts {
            if !self.upkeep.may_ping() {
                return;
            }
            if self.table.wants(&contact) {
                self.ping(now, contact.addr, Some(contact.id), out);
            }
        }
    }

    /// A node answered while we still know few: searches that have hardly anybody to ask may do with it.
    pub(super) fn tell_starved(&mut self, now: Timestamp, contact: Contact, out: &mut Outbox<Action>) {
        let starved = self.searches.iter_mut().filter(|(_, search)| search.lookup.knows_few());
        let mut told = [None; MAX_SEARCHES + 1];
        for ((key, search), told) in starved.zip(&mut told) {
            search.lookup.learn(contact);
            *told = Some(*key);
        }
        told.into_iter().flatten().for_each(|key| self.advance(now, key, out));
    }

    /// Does what is due to know the network.
    pub(super) fn keep_up(&mut self, now: Timestamp, out: &mut Outbox<Action>) {
        match self.upkeep.stage {
            Stage::Alone(at) if at <= now => {
                self.bootstrap(now, out);
                if self.upkeep.stage == Stage::Alone(at) {
                    out.push_back(Action::NeedNodes);
                    self.upkeep.stage = Stage::Alone(now + self.upkeep.retry_after);
                    self.upkeep.retry_after = (2 * self.upkeep.retry_after).min(RETRY_MAX);
                }
            }
            Stage::Settled(at) if at <= now => {
                let wait = self.ask_stalest(now, out);
                self.upkeep.stage = wait.map_or(Stage::Alone(now), |wait| Stage::Settled(now + wait));
                if wait.is_none() {
                    self.keep_up(now, out);
                }
            }
            Stage::Alone(_) | Stage::Searching { .. } | Stage::Settled(_) => {}
        }
    }

    /// Asks the node that was silent for longest, or one that can fill a bucket. Returns when to do so again, or nothing
    /// if there is no node.
    fn ask_stalest(&mut self, now: Timestamp, out: &mut Outbox<Action>) -> Option<Duration> {
        let stalest = self.table.stalest(now)?;
        let gap = self.upkeep.gap;
        if self.query_meter.opens_at() > now {
            return Some(gap);
        }
        let depth = self.table.fill().count();
        let (contact, bucket) = if self.upkeep.fills > 0 {
            self.upkeep.fills -= 1;
            self.upkeep.filled = (self.upkeep.filled + 1) % depth;
            let bucket = self.upkeep.filled;
            let place = self.id().random_at(bucket as u32, &mut self.rng);
            (*self.table.closest(place, 1, false).first()?, bucket)
        } else if stalest.silence < gap * FRESH_GAPS {
            return Some((gap * FRESH_GAPS - stalest.silence).max(gap));
        } else {
            (stalest.contact, stalest.bucket)
        };
        if !self.queries.is_asked(contact.addr) {
            // Our neighbours are best asked for our neighbours.
            let is_near = bucket + NEAR_BUCKETS >= depth;
            let target = if is_near { self.id() } else { self.id().random_at(bucket as u32, &mut self.rng) };
            let transaction = self.queries.open(now, contact.addr, Some(contact.id), Purpose::Upkeep);
            let data = self.write_query(transaction, Method::FindNode { target });
            self.send_query(now, contact.addr, data, out);
        }
        Some(gap)
    }

    pub(super) fn advance_all(&mut self, now: Timestamp, out: &mut Outbox<Action>) {
        for key in self.searches.keys().copied().collect::<Vec<_>>() {
            self.advance(now, key, out);
        }
    }
}

/// D-09: the first wait for a node to begin with.
const RETRY_MIN: Duration = Duration::from_secs(5);

/// D-09: the longest.
const RETRY_MAX: Duration = Duration::from_secs(5 * 60);

/// The time between two nodes that are asked, at first.
const GAP_FIRST: Duration = Duration::from_secs(1);

/// In a network that changes fast.
const GAP_MIN: Duration = Duration::from_secs(1);

/// In one that hardly changes: the 80 nodes or so that are close to us are asked every 15 minutes.
const GAP_MAX: Duration = Duration::from_secs(8);

/// A node that was heard of less than so many times the gap ago is left alone.
const FRESH_GAPS: u32 = 40;

/// How many times a bucket is filled after a start.
const FILLS: u8 = 40;

/// Buckets that are about as close to us as our neighbours.
const NEAR_BUCKETS: usize = 4;

/// Addresses to begin with that are remembered.
const MAX_ADDRESSES: usize = 32;

/// Pings that owe an answer.
pub(super) const MAX_PINGS: usize = 32;
