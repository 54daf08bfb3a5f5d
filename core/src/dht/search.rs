//! A lookup with a task: what it asks, what it makes of the answers, and what it stores at the end.

use super::bloom::Bloom;
use super::event::{Action, Announced, Summary, Task};
use super::item::Item;
use super::lookup::{Ask, FARTHER, Lookup, Progress, Scope};
use super::message::{Announce, Contact, Family, Method, Reply};
use super::node_id::NodeId;
use super::table::K;
use crate::address::is_dialable;
use crate::id::{InfoHash, LookupId};
use crate::ip_filter::IpFilter;
use crate::machine::{Outbox, Timestamp};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::SocketAddr;

/// One search of a node.
///
/// ```text
///  searching ──▶ storing ──▶ over
///    │  ▲  │ nothing to store   ▲
///    └──┘  └────────────────────┘
///   nothing found: once more, farther
/// ```
#[derive(Clone, Debug)]
pub(super) struct Search {
    /// How its results are called; nobody is told of our own searches.
    pub(super) id: Option<LookupId>,
    pub(super) task: Task,
    pub(super) lookup: Lookup,
    /// Then it is over, whatever is still missing (D-10).
    pub(super) ends_at: Timestamp,
    population: Option<u64>,
    phase: Phase,
    found: Found,
}

#[derive(Clone, Debug)]
enum Phase {
    Searching,
    Storing {
        /// Where it was not stored yet, and with which token.
        left: VecDeque<(Contact, Box<[u8]>)>,
        /// Nodes that were asked to store it and owe an answer.
        open: usize,
        stored: u32,
    },
}

/// What was found so far.
#[derive(Clone, Debug, Default)]
struct Found {
    something: bool,
    /// Who answered, if that is what is looked for.
    nodes: Vec<Contact>,
    item: Option<Item>,
    seeds: Option<Bloom>,
    peers: Option<Bloom>,
}

/// What a search wants to have done next.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Nothing; it waits.
    Wait,
    /// Ask this node what [`Search::question`] says.
    Ask(Ask),
    /// Ask this node to store, with this token, what [`Search::request`] says.
    Store(Contact, Box<[u8]>),
    /// It is over.
    Over,
}

impl Search {
    pub(super) fn new(
        now: Timestamp,
        id: Option<LookupId>,
        task: Task,
        family: Family,
        own: NodeId,
        population: Option<u64>,
    ) -> Self {
        let answers = if task.stores() { STORING_ANSWERS } else { K };
        let target = task.target().expect("whatever is searched for has a place");
        let lookup = Lookup::new(family, own, target, Scope::new(answers, population));
        let (phase, found) = (Phase::Searching, Found::default());
        Self { id, task, lookup, ends_at: now + SEARCHES_FOR, population, phase, found }
    }

    /// What to do next. The caller does it.
    pub(super) fn step(&mut self, now: Timestamp) -> Step {
        if let Phase::Searching = self.phase {
            if let Some(ask) = self.lookup.next_ask() {
                return Step::Ask(ask);
            }
            if self.lookup.progress() != Progress::Done {
                return Step::Wait;
            }
            if self.goes_farther() {
                return self.step(now);
            }
            if !self.task.stores() {
                return Step::Over;
            }
            let left = self.lookup.stores().into_iter().map(|(contact, token)| (contact, Box::from(token)));
            self.phase = Phase::Storing { left: left.collect(), open: 0, stored: 0 };
            self.ends_at = now + STORES_FOR;
        }
        match &mut self.phase {
            Phase::Searching => unreachable!("it was left above"),
            Phase::Storing { left, open, .. } => match left.pop_front() {
                Some((contact, token)) => {
                    *open += 1;
                    Step::Store(contact, token)
                }
                None if *open == 0 => Step::Over,
                None => Step::Wait,
            },
        }
    }

    /// What to ask a node.
    pub(super) fn question(&self) -> Method<'_> {
        match &self.task {
            Task::FindNode { target } => Method::FindNode { target: *target },
            Task::GetItem { target, seq, .. } => Method::Get { target: *target, seq: *seq },
            Task::GetPeers { info_hash, noseed, .. } => {
                Method::GetPeers { info_hash: *info_hash, noseed: *noseed, scrape: false }
            }
            Task::Ping { .. } => Method::Ping,
            // Only the token is of interest, and no value has so high a number.
            Task::Put { item, .. } => {
                Method::Get { target: item.target(), seq: item.seq().map(|_| i64::MAX) }
            }
            Task::Sample { target } => Method::SampleInfohashes { target: *target },
            Task::Scrape { info_hash } => {
                Method::GetPeers { info_hash: *info_hash, noseed: false, scrape: true }
            }
        }
    }

    /// What to ask a node to store.
    pub(super) fn request<'a>(&'a self, token: &'a [u8]) -> Method<'a> {
        match &self.task {
            Task::GetPeers { info_hash, announce: Some(announced), .. } => {
                let Announced { port, implied_port, seed } = *announced;
                Method::AnnouncePeer(Announce { info_hash: *info_hash, implied_port, port, seed, token })
            }
            Task::Put { item, cas } => Method::Put(item.put(token, *cas)),
            _ => unreachable!("{} stores nothing", self.task),
        }
    }

    /// A node answered the question.
    pub(super) fn answered(
        &mut self,
        ask: Ask,
        reply: &Reply<'_>,
        family: Family,
        filter: &IpFilter,
        out: &mut Outbox<Action>,
    ) {
        let token = reply.token.filter(|_| self.task.stores());
        let contacts = reply.contacts(family).filter(|contact| !filter.blocks(contact.addr.ip()));
        self.lookup.answered(ask, reply.id, token, contacts);
        let (Some(lookup), from) = (self.id, ask.to) else { return };
        match &self.task {
            Task::GetItem { target, salt, seq } => {
                let Ok(item) = Item::from_reply(*target, salt, &reply.item) else { return };
                // BEP 44: whoever asks with a number has that item, but not every node leaves it out.
                if item.seq().zip(*seq).is_some_and(|(number, known)| number <= known) {
                    return;
                }
                let best = self.found.item.as_ref();
                if best.is_none_or(|best| item.seq() > best.seq()) {
                    self.found.something = true;
                    self.found.item = Some(item.clone());
                    out.push_back(Action::Item { lookup, from, item });
                }
            }
            Task::GetPeers { .. } => {
                let peers = reply.values.unwrap_or_default().iter();
                let peers: Vec<SocketAddr> = peers.filter(|peer| is_dialable(*peer)).collect();
                if !peers.is_empty() {
                    self.found.something = true;
                    out.push_back(Action::Peers { lookup, from, peers });
                }
            }
            Task::Sample { .. } => {
                let Some(samples) = reply.samples else { return };
                let hashes = samples.hashes.iter().map(|hash| InfoHash(*hash)).collect();
                let (count, interval) = (samples.count, samples.interval);
                out.push_back(Action::Samples { lookup, from, hashes, count, interval });
            }
            Task::Scrape { .. } => {
                let Some(blooms) = reply.blooms else { return };
                self.found.something = true;
                self.found.seeds.get_or_insert(Bloom::new()).union(&Bloom::from_bytes(blooms.seeds));
                self.found.peers.get_or_insert(Bloom::new()).union(&Bloom::from_bytes(blooms.peers));
            }
            Task::FindNode { .. } => self.found.nodes.push(Contact { id: reply.id, addr: from }),
            Task::Ping { .. } | Task::Put { .. } => {}
        }
    }

    /// A node that was asked to store answered, or did not.
    pub(super) fn store_ended(&mut self, is_stored: bool) {
        if let Phase::Storing { open, stored, .. } = &mut self.phase {
            *open -= 1;
            *stored += u32::from(is_stored);
        }
    }

    /// Whether other nodes to ask would be welcome, as those that we know keep silent.
    pub(super) fn is_starved(&self) -> bool {
        self.lookup.meets_silence() || self.lookup.progress() == Progress::Starved
    }

    /// Says that it is over, and what it found in all.
    pub(super) fn finish(self, out: &mut Outbox<Action>) {
        let (Some(lookup), summary) = (self.id, self.summary()) else { return };
        let (target, mut nodes) = (self.lookup.target(), self.found.nodes);
        if !nodes.is_empty() {
            nodes.sort_unstable_by_key(|node| node.id.distance(target));
            nodes.truncate(K);
            out.push_back(Action::Nodes { lookup, nodes });
        }
        if let (Some(seeds), Some(peers)) = (self.found.seeds, self.found.peers) {
            let (seeds, peers) = (seeds.estimate(), peers.estimate());
            out.push_back(Action::Scraped { lookup, seeds, peers });
        }
        out.push_back(Action::Done { lookup, summary });
    }

    /// How it went so far.
    pub(super) fn summary(&self) -> Summary {
        let stored = match &self.phase {
            Phase::Searching => 0,
            Phase::Storing { stored, .. } => *stored,
        };
        Summary {
            asked: self.lookup.queries() as u32,
            answered: self.lookup.answers() as u32,
            hops: self.lookup.hops().into(),
            stored,
        }
    }

    /// Where many nodes come and go, those that something was stored at are no longer the closest ones. So a search that
    /// found nothing goes on among the next ones.
    fn goes_farther(&mut self) -> bool {
        let seeks = matches!(self.task, Task::GetItem { .. } | Task::GetPeers { .. } | Task::Scrape { .. });
        let farther = Scope::new(FARTHER, self.population);
        let goes = seeks && !self.found.something && self.lookup.scope() != farther;
        if goes {
            self.lookup.set_scope(farther);
        }
        goes
    }
}

/// D-10: a lookup ends within 30 s: so long for the search, and the rest for storing.
const SEARCHES_FOR: core::time::Duration = core::time::Duration::from_secs(24);

const STORES_FOR: core::time::Duration = core::time::Duration::from_secs(6);

/// Answers that end a search for places to store at: more than the eight of BEP 5, as some of the nodes will be gone
/// before the next announce.
const STORING_ANSWERS: usize = 12;
