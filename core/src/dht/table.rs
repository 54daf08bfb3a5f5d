//! The routing table of one address family (BEP 5): the closer nodes are to us, the more of them we know.

mod bucket;

use super::contact::{Block, head};
use super::message::{Contact, Family, compact};
use super::node_id::NodeId;
use crate::address::is_local;
use crate::machine::Timestamp;
use alloc::vec::Vec;
use bucket::{Bucket, Mark};
use core::time::Duration;

/// Nodes that answered us, in a bucket for each number of leading bits that their ids share with ours.
///
/// A node gets in by answering. Who names a node, or sends as a node, proves nothing: [`wants`](Self::wants) says
/// whether it is worth a ping. Once in, it is
///
/// ```text
///            heard of within 15 min       silent for longer
///  answers ─▶ good ─────────────────────▶ questionable
///              ▲   ◀── answers, queries ───     │ pinged
///              └────────────────────────────────┤
///                                               └─ twice in vain ─▶ gone, a spare takes its place
/// ```
///
/// A full bucket keeps its good nodes; who comes late is a spare. The exceptions make poisoning hard (row D-03): a node
/// whose id does not belong to its address (BEP 42) gives way to one whose does, there is one node to a host in the
/// whole table, and one to a /24 in a bucket.
#[derive(Clone, Debug)]
pub struct Table {
    family: Family,
    own: NodeId,
    /// How many nodes the first buckets hold; all others hold [`K`].
    rows: [u8; 4],
    /// By the number of leading bits that are shared with our id; the last one is not empty.
    buckets: Vec<Bucket>,
}

/// What became of a node that answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is in the table.
    Kept,
    /// It would be, if this one did not answer: ask.
    Probe(Contact),
    /// There is no place for it, but it is a spare if there was room for that.
    Full,
    /// It is not wanted.
    Refused,
}

/// A node that should be asked something, lest it is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stalest {
    /// Which.
    pub contact: Contact,
    /// The number of leading bits that it shares with us.
    pub bucket: usize,
    /// How long it has been silent.
    pub silence: Duration,
}

impl Table {
    /// An empty table around our id. The first rows are as wide as `rows` says, the closer ones hold [`K`].
    pub fn new(family: Family, own: NodeId, rows: [u8; 4]) -> Self {
        Self { family, own, rows, buckets: Vec::new() }
    }

    /// Our id.
    pub fn own_id(&self) -> NodeId {
        self.own
    }

    /// How many nodes are in use.
    pub fn len(&self) -> usize {
        self.buckets.iter().map(Bucket::live).sum()
    }

    /// Whether there is no node at all.
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// How many nodes each bucket has, the farthest first.
    pub fn fill(&self) -> impl Iterator<Item = usize> + '_ {
        self.buckets.iter().map(Bucket::live)
    }

    /// A node answered a query.
    pub fn answered(&mut self, now: Timestamp, contact: Contact) -> Verdict {
        if !self.admits(&contact) {
            return Verdict::Refused;
        }
        if let Some((bucket, at)) = self.find(contact.id) {
            let known = self.buckets[bucket].contact(at);
            let mark = *self.buckets[bucket].mark(at);
            if known.addr == contact.addr {
                self.hear(now, bucket, at);
                return Verdict::Kept;
            }
            // An id belongs to who had it first, as long as that node is there.
            if mark.is_sound() && mark.silence(now) < QUESTIONABLE_S {
                return Verdict::Refused;
            }
            self.remove(bucket, at);
        }
        while let Some((bucket, at)) = self.rival(&contact) {
            let known = self.buckets[bucket].contact(at);
            // The same endpoint under another id is the same node, and now has this one.
            if known.addr != contact.addr && self.buckets[bucket].mark(at).is_sound() {
                return Verdict::Refused;
            }
            self.remove(bucket, at);
        }
        self.enter(now, contact)
    }

    /// A node sent us a query. If it once answered us, that shows that it is alive.
    pub fn queried(&mut self, now: Timestamp, contact: &Contact) {
        if let Some((bucket, at)) = self.find_same(contact)
            && self.buckets[bucket].mark(at).answered
        {
            self.buckets[bucket].mark_mut(at).hear(now);
        }
    }

    /// Whether a node that we only heard of should be pinged: if it answers it gets in.
    pub fn wants(&self, contact: &Contact) -> bool {
        if !self.admits(contact) {
            return false;
        }
        let index = self.index(contact.id);
        let Some(bucket) = self.buckets.get(index) else { return self.rival(contact).is_none() };
        let has_room = bucket.live() < self.capacity(index) || self.weakest(index, contact).is_some();
        has_room && bucket.find(contact.id).is_none() && self.rival(contact).is_none()
    }

    /// A node is known that may be alive: it stands by in case another one in its bucket dies.
    pub fn stand_by(&mut self, now: Timestamp, contact: &Contact) {
        let index = self.index(contact.id);
        let has_room = self.buckets.get(index).is_some_and(|bucket| {
            bucket.live() == self.capacity(index)
                && bucket.spares() < SPARES
                && bucket.find(contact.id).is_none()
        });
        if has_room && self.admits(contact) && self.rival(contact).is_none() {
            self.buckets[index].push_spare(contact, Mark::new(now, contact, false));
        }
    }

    /// A node did not answer. Returns a spare that never answered either and should be asked to take its place.
    pub fn failed(&mut self, contact: &Contact) -> Option<Contact> {
        let (bucket, at) = self.find_same(contact)?;
        let is_spare = at >= self.buckets[bucket].live();
        let mark = self.buckets[bucket].mark_mut(at);
        mark.failures += 1;
        if !is_spare && mark.answered && mark.failures < MAX_FAILURES {
            return None;
        }
        self.remove(bucket, at);
        self.promote(bucket)
    }

    /// The nodes closest to `target`, closest first; `sound` leaves out those that did not answer lately or ever.
    pub fn closest(&self, target: NodeId, count: usize, sound: bool) -> Vec<Contact> {
        let mut found = Closest { target, count, found: Vec::with_capacity(count + 1) };
        // Nodes of this bucket share more bits with the target than we do. The closer ones share as many as we do, and
        // each of the farther buckets fewer.
        let split = self.index(target).min(self.buckets.len());
        let mut add = |buckets: core::ops::Range<usize>| {
            for index in buckets {
                found.add(index, &self.buckets[index], sound);
            }
            found.found.len() >= count
        };
        let beside = split..self.buckets.len().min(split + 1);
        let beyond = beside.end..self.buckets.len();
        if !add(beside) && !add(beyond) {
            let _ = (0..split).rev().any(|index| add(index..index + 1));
        }
        let found = found.found;
        found.into_iter().map(|(_, bucket, at)| self.buckets[bucket].contact(at)).collect()
    }

    /// About how many nodes the network has, judged by how close the closest ones to us are.
    pub fn population(&self) -> u64 {
        let closest = self.closest(self.own, SAMPLE, true);
        let Some(last) = closest.get(SAMPLE - 1) else { return closest.len() as u64 };
        let distance = u128::from(head(self.own) ^ head(last.id)) + 1;
        // Of n random points in an interval the k-th lies at k / (n + 1) of it on average.
        ((SAMPLE as u128) << 64).div_euclid(distance).try_into().unwrap_or(u64::MAX)
    }

    /// The live node that was silent for longest. What is far from us is a matter of fewer hops only, and there are more
    /// of those: their silence counts by half.
    pub fn stalest(&self, now: Timestamp) -> Option<Stalest> {
        let mut stalest = None;
        for (index, bucket) in self.buckets.iter().enumerate() {
            let weight = u64::from(self.capacity(index) == K) + 1;
            for at in 0..bucket.live() {
                let silence = bucket.mark(at).silence(now);
                let rank = (u64::from(silence) * weight, index, at);
                stalest = stalest.max(Some((rank, silence)));
            }
        }
        let ((_, bucket, at), silence) = stalest?;
        let silence = Duration::from_secs(silence.into());
        Some(Stalest { contact: self.buckets[bucket].contact(at), bucket, silence })
    }

    /// The live node that was heard of last: if that does not answer, who will?
    pub fn liveliest(&self, now: Timestamp) -> Option<Contact> {
        let live = self.buckets.iter().flat_map(|bucket| (0..bucket.live()).map(move |at| (bucket, at)));
        let liveliest = live.min_by_key(|(bucket, at)| bucket.mark(*at).silence(now));
        liveliest.map(|(bucket, at)| bucket.contact(at))
    }

    /// Whether this node, at this address, ever answered us.
    pub fn has_answered(&self, contact: &Contact) -> bool {
        self.find_same(contact).is_some_and(|(bucket, at)| self.buckets[bucket].mark(at).answered)
    }

    /// Moves the table to another id of ours.
    pub fn move_to(&mut self, own: NodeId) {
        let old = core::mem::take(&mut self.buckets);
        self.own = own;
        for bucket in old {
            for at in 0..bucket.len() {
                let contact = bucket.contact(at);
                if self.admits(&contact) && self.rival(&contact).is_none() {
                    self.place(contact, *bucket.mark(at));
                }
            }
        }
    }

    /// Drops the nodes that `keep` does not want.
    pub fn retain(&mut self, keep: impl Fn(&Contact) -> bool) {
        let old = core::mem::take(&mut self.buckets);
        for bucket in old {
            for at in (0..bucket.len()).filter(|at| keep(&bucket.contact(*at))) {
                self.place(bucket.contact(at), *bucket.mark(at));
            }
        }
    }

    /// The nodes to remember for the next start, the closest ones first: in order, a part of them serves as well.
    pub fn save(&self) -> Vec<Contact> {
        let live =
            self.buckets.iter().rev().flat_map(|bucket| (0..bucket.live()).map(move |at| (bucket, at)));
        let sound = live.filter(|(bucket, at)| bucket.mark(*at).is_sound());
        sound.map(|(bucket, at)| bucket.contact(at)).collect()
    }

    /// Takes in nodes of an earlier run. They are used, but not passed on, until they answer.
    pub fn restore(&mut self, now: Timestamp, contacts: impl IntoIterator<Item = Contact>) {
        for contact in contacts {
            if self.admits(&contact) && self.find(contact.id).is_none() && self.rival(&contact).is_none() {
                self.place(contact, Mark::new(now, &contact, false));
            }
        }
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        let buckets = self.buckets.capacity() * size_of::<Bucket>();
        buckets + self.buckets.iter().map(Bucket::heap_bytes).sum::<usize>()
    }

    /// Panics unless every rule about who may be where holds. For tests and simulators.
    pub fn check_invariants(&self) {
        let mut hosts = Vec::new();
        for (index, bucket) in self.buckets.iter().enumerate() {
            assert!(bucket.live() <= self.capacity(index), "bucket {index} holds {} nodes", bucket.live());
            assert!(bucket.spares() <= SPARES, "bucket {index} has {} spares", bucket.spares());
            let mut subnets = Vec::new();
            for at in 0..bucket.len() {
                let contact = bucket.contact(at);
                assert_eq!(self.index(contact.id), index, "{contact} is in bucket {index}");
                assert!(contact.id != self.own, "our own id is in the table");
                assert!(self.family.admits(contact.addr), "{contact} is in the table");
                assert_eq!(bucket.mark(at).secure, contact.is_secure(), "{contact}");
                assert_eq!(bucket.find(contact.id), Some(at), "{contact} is there twice");
                hosts.extend(Block::host(contact.addr.ip()));
                subnets.extend(Block::subnet(contact.addr.ip()));
            }
            assert!(is_set(&mut subnets), "bucket {index} has two nodes of a subnet");
        }
        assert!(is_set(&mut hosts), "a host has two nodes in the table");
        assert!(self.buckets.last().is_none_or(|bucket| bucket.len() > 0), "the last bucket is empty");
    }

    fn admits(&self, contact: &Contact) -> bool {
        contact.id != self.own && self.family.admits(contact.addr)
    }

    fn index(&self, id: NodeId) -> usize {
        self.own.common_prefix(id) as usize
    }

    fn capacity(&self, index: usize) -> usize {
        self.rows.get(index).map_or(K, |row| usize::from(*row))
    }

    fn find(&self, id: NodeId) -> Option<(usize, usize)> {
        let index = self.index(id);
        Some((index, self.buckets.get(index)?.find(id)?))
    }

    fn find_same(&self, contact: &Contact) -> Option<(usize, usize)> {
        let (bucket, at) = self.find(contact.id)?;
        (self.buckets[bucket].contact(at).addr == contact.addr).then_some((bucket, at))
    }

    /// The node that keeps `contact` out: on its host, or in its subnet and bucket.
    fn rival(&self, contact: &Contact) -> Option<(usize, usize)> {
        let index = self.index(contact.id);
        let mut buffer = [0; 18];
        let addr = compact(contact.addr, &mut buffer);
        // As `Block` has it; but local addresses are of different hosts unless they are the same.
        let [host, subnet] = match (is_local(contact.addr.ip()), self.family) {
            (true, _) => [addr; 2],
            (false, Family::V4) => [&addr[..4], &addr[..3]],
            (false, Family::V6) => [&addr[..8]; 2],
        };
        self.buckets.iter().enumerate().find_map(|(i, bucket)| {
            let at = bucket.find_address(if i == index { subnet } else { host })?;
            Some((i, at))
        })
    }

    fn hear(&mut self, now: Timestamp, index: usize, at: usize) {
        let bucket = &mut self.buckets[index];
        let mark = bucket.mark_mut(at);
        mark.answered = true;
        mark.hear(now);
        if at >= bucket.live() && bucket.live() < self.capacity(index) {
            let (contact, mark) = self.buckets[index].remove(at);
            self.buckets[index].push_live(&contact, mark);
        }
    }

    /// Finds a place for a node that answered, and that nothing keeps out.
    fn enter(&mut self, now: Timestamp, contact: Contact) -> Verdict {
        let mark = Mark::new(now, &contact, true);
        let index = self.index(contact.id);
        if let Some(at) = self.weakest(index, &contact) {
            self.buckets[index].remove(at);
        }
        if self.place(contact, mark) {
            return Verdict::Kept;
        }
        let bucket = &self.buckets[index];
        let suspect = (0..bucket.live()).max_by_key(|at| {
            let mark = bucket.mark(*at);
            (mark.failures, mark.silence(now))
        });
        let suspect = suspect.filter(|at| {
            let mark = bucket.mark(*at);
            mark.failures > 0 || mark.silence(now) >= QUESTIONABLE_S
        });
        suspect.map_or(Verdict::Full, |at| Verdict::Probe(bucket.contact(at)))
    }

    /// Puts a node among the live ones, or else the spares; returns whether it is live.
    fn place(&mut self, contact: Contact, mark: Mark) -> bool {
        let index = self.index(contact.id);
        while self.buckets.len() <= index {
            self.buckets.push(Bucket::new(self.family));
        }
        let is_live = self.buckets[index].live() < self.capacity(index);
        let bucket = &mut self.buckets[index];
        if is_live {
            bucket.push_live(&contact, mark);
        } else if bucket.spares() < SPARES {
            bucket.push_spare(&contact, mark);
        } else {
            let worst = (bucket.live()..bucket.len()).min_by_key(|at| bucket.mark(*at).worth());
            let worst = worst.filter(|at| bucket.mark(*at).worth() < mark.worth());
            if let Some(at) = worst {
                bucket.set(at, &contact, mark);
            }
        }
        is_live
    }

    /// The live node that must give way to `contact` if that answers and there is no room: one that never did, or, to an
    /// id that belongs to its address, one whose does not.
    fn weakest(&self, index: usize, contact: &Contact) -> Option<usize> {
        let bucket = self.buckets.get(index).filter(|bucket| bucket.live() == self.capacity(index))?;
        let is_secure = contact.is_secure();
        let weak = (0..bucket.live()).filter(|at| {
            let mark = bucket.mark(*at);
            !mark.answered || (is_secure && !mark.secure)
        });
        weak.min_by_key(|at| bucket.mark(*at).worth())
    }

    /// Lets a spare take a place, if one is free. Returns the one to ask if none of them ever answered.
    fn promote(&mut self, index: usize) -> Option<Contact> {
        let capacity = self.capacity(index);
        let bucket = self.buckets.get_mut(index).filter(|bucket| bucket.live() < capacity)?;
        let best = (bucket.live()..bucket.len()).max_by_key(|at| bucket.mark(*at).worth())?;
        if !bucket.mark(best).answered {
            return Some(bucket.contact(best));
        }
        let (contact, mark) = bucket.remove(best);
        bucket.push_live(&contact, mark);
        None
    }

    fn remove(&mut self, index: usize, at: usize) {
        self.buckets[index].remove(at);
        while self.buckets.last().is_some_and(|bucket| bucket.len() == 0) {
            self.buckets.pop();
        }
    }
}

/// Nodes closest to a target, and where they are in the table.
struct Closest {
    target: NodeId,
    count: usize,
    /// By distance.
    found: Vec<(u64, usize, usize)>,
}

impl Closest {
    fn add(&mut self, index: usize, bucket: &Bucket, sound: bool) {
        let target = head(self.target);
        for at in 0..bucket.live() {
            let head = bucket.head(at) ^ target;
            let is_full = self.found.len() == self.count;
            if (is_full && self.found.last().is_none_or(|(last, ..)| head > *last))
                || (sound && !bucket.mark(at).is_sound())
            {
                continue;
            }
            // Ids that share 64 bits come from nobody honest, so their order among each other does not matter.
            let place = self.found.partition_point(|(other, ..)| *other <= head);
            self.found.insert(place, (head, index, at));
            self.found.truncate(self.count);
        }
    }
}

fn is_set(blocks: &mut [Block]) -> bool {
    blocks.sort_unstable();
    blocks.is_sorted_by(|a, b| a < b)
}

/// BEP 5: nodes in a bucket, and in an answer.
pub const K: usize = 8;

/// What libtorrent gives the rows of nodes that share 0, 1, 2 and 3 bits with us: half of all lookups start in the
/// first, and they save a hop.
pub const WIDE_ROWS: [u8; 4] = [128, 64, 32, 16];

/// BEP 5 as it stands, for networks that are simulated in little memory.
pub const PLAIN_ROWS: [u8; 4] = [K as u8; 4];

/// Nodes of a bucket that stand by.
const SPARES: usize = 4;

/// BEP 5: after so many seconds of silence it is questionable whether a node is still there.
const QUESTIONABLE_S: u32 = 15 * 60;

/// Queries in a row that a node may leave unanswered. BEP 5: it is pinged twice before it is replaced.
const MAX_FAILURES: u8 = 2;

/// How many of the nodes closest to us tell how many there are: with 16 the estimate is off by a quarter.
const SAMPLE: usize = 16;

#[cfg(test)]
mod tests;
