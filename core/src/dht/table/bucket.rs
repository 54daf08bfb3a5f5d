//! One row of the routing table.

use super::{Contact, Family};
use crate::dht::node_id::NodeId;
use crate::machine::Timestamp;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::fmt;

/// The nodes whose ids share so many bits with ours: the live ones first, then spares.
///
/// A hundred thousand simulated tables fit into memory because nodes are kept as they travel, in 26 or 38 bytes.
#[derive(Clone)]
pub(super) struct Bucket {
    family: Family,
    live: u8,
    /// Compact nodes, one after another (BEP 5, 32).
    compact: Vec<u8>,
    /// One for each of them.
    marks: Vec<Mark>,
}

/// What we know of a node besides where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// Seconds since the start. Of a node that never answered: when it was named.
    heard_at: u32,
    /// Queries in a row that it did not answer.
    pub(super) failures: u8,
    /// Whether it ever answered us at this address.
    pub(super) answered: bool,
    /// Whether its id belongs to its address (BEP 42).
    pub(super) secure: bool,
}

impl Mark {
    pub(super) fn new(now: Timestamp, contact: &Contact, answered: bool) -> Self {
        let secure = contact.is_secure();
        Self { heard_at: seconds(now), failures: 0, answered, secure }
    }

    pub(super) fn hear(&mut self, now: Timestamp) {
        self.heard_at = seconds(now);
        self.failures = 0;
    }

    /// Seconds since it was heard of; never heard from is longest ago.
    pub(super) fn silence(&self, now: Timestamp) -> u32 {
        if self.answered { seconds(now).saturating_sub(self.heard_at) } else { u32::MAX }
    }

    /// Who should stay rather than another: who ever answered, who failed less, who was heard of last.
    pub(super) fn worth(&self) -> impl Ord {
        (self.answered, Reverse(self.failures), self.heard_at)
    }

    /// Whether it can be passed on: it answered once, and has not failed since.
    pub(super) fn is_sound(&self) -> bool {
        self.answered && self.failures == 0
    }
}

impl Bucket {
    pub(super) fn new(family: Family) -> Self {
        Self { family, live: 0, compact: Vec::new(), marks: Vec::new() }
    }

    /// How many nodes are in use.
    pub(super) fn live(&self) -> usize {
        self.live.into()
    }

    /// How many nodes there are, with the spares.
    pub(super) fn len(&self) -> usize {
        self.marks.len()
    }

    pub(super) fn spares(&self) -> usize {
        self.len() - self.live()
    }

    pub(super) fn contact(&self, at: usize) -> Contact {
        let (id, addr) = self.row(at);
        Contact { id, addr: self.family.read(addr) }
    }

    /// The first eight bytes of a node's id, which nearly always decide how close it is.
    pub(super) fn head(&self, at: usize) -> u64 {
        let start = at * self.stride();
        u64::from_be_bytes(*self.compact[start..].first_chunk().expect("an id is longer"))
    }

    pub(super) fn mark(&self, at: usize) -> &Mark {
        &self.marks[at]
    }

    pub(super) fn mark_mut(&mut self, at: usize) -> &mut Mark {
        &mut self.marks[at]
    }

    /// Where the node of this id is, live or spare.
    pub(super) fn find(&self, id: NodeId) -> Option<usize> {
        self.compact.chunks_exact(self.stride()).position(|row| row[..ID_LEN] == id.0)
    }

    /// Where the first node is whose compact address begins like this, live or spare.
    pub(super) fn find_address(&self, start: &[u8]) -> Option<usize> {
        // Nearly all differ in the last byte, and this is asked of whole tables for each node that is named.
        let last = ID_LEN + start.len() - 1;
        let mut rows = self.compact.chunks_exact(self.stride());
        rows.position(|row| row[last] == start[start.len() - 1] && row[ID_LEN..].starts_with(start))
    }

    /// Adds a node to the live ones.
    pub(super) fn push_live(&mut self, contact: &Contact, mark: Mark) {
        self.push_spare(contact, mark);
        self.swap(self.live(), self.len() - 1);
        self.live += 1;
    }

    pub(super) fn push_spare(&mut self, contact: &Contact, mark: Mark) {
        if self.marks.len() == self.marks.capacity() {
            self.marks.reserve_exact(GROWTH);
            self.compact.reserve_exact(GROWTH * self.stride());
        }
        self.compact.extend_from_slice(&contact.id.0);
        self.family.write(contact.addr, &mut self.compact);
        self.marks.push(mark);
    }

    pub(super) fn remove(&mut self, at: usize) -> (Contact, Mark) {
        let removed = (self.contact(at), self.marks[at]);
        let mut hole = at;
        if at < self.live() {
            self.live -= 1;
            self.swap(hole, self.live());
            hole = self.live();
        }
        self.swap(hole, self.len() - 1);
        self.marks.pop();
        self.compact.truncate(self.len() * self.stride());
        removed
    }

    /// Gives a node another address.
    pub(super) fn set(&mut self, at: usize, contact: &Contact, mark: Mark) {
        let mut row = Vec::with_capacity(self.stride());
        row.extend_from_slice(&contact.id.0);
        self.family.write(contact.addr, &mut row);
        let start = at * self.stride();
        self.compact[start..start + row.len()].copy_from_slice(&row);
        self.marks[at] = mark;
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.compact.capacity() + self.marks.capacity() * size_of::<Mark>()
    }

    fn row(&self, at: usize) -> (NodeId, &[u8]) {
        let row = &self.compact[at * self.stride()..][..self.stride()];
        let (id, addr) = row.split_first_chunk().expect("a row starts with an id");
        (NodeId(*id), addr)
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.marks.swap(a, b);
        let stride = self.stride();
        (0..stride).for_each(|i| self.compact.swap(a * stride + i, b * stride + i));
    }

    fn stride(&self) -> usize {
        self.family.contact_len()
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes = (0..self.len()).map(|at| (self.contact(at), self.marks[at]));
        write!(f, "{} live of ", self.live)?;
        f.debug_list().entries(nodes).finish()
    }
}

fn seconds(now: Timestamp) -> u32 {
    u32::try_from(now.as_micros() / 1_000_000).unwrap_or(u32::MAX)
}

const ID_LEN: usize = 20;

/// How many rows memory is taken for at a time: doubling would leave a third of it unused.
const GROWTH: usize = 4;
