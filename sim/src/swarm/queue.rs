//! What happens next.

use core::cmp::Ordering;
use core::fmt;
use fast_peer_core::machine::Timestamp;
use std::collections::BinaryHeap;

/// Things that will happen, earliest first. What is due at one time happens in the order in which it was planned.
pub(crate) struct Queue<W> {
    heap: BinaryHeap<Entry<W>>,
    planned: u64,
}

impl<W> Queue<W> {
    pub(crate) fn new() -> Self {
        Self { heap: BinaryHeap::new(), planned: 0 }
    }

    /// Plans `what` for `at`.
    pub(crate) fn push(&mut self, at: Timestamp, what: W) {
        self.heap.push(Entry { at, number: self.planned, what });
        self.planned += 1;
    }

    /// When the next thing is due.
    pub(crate) fn next_at(&self) -> Option<Timestamp> {
        self.heap.peek().map(|entry| entry.at)
    }

    /// Takes the next thing out.
    pub(crate) fn pop(&mut self) -> Option<(Timestamp, W)> {
        self.heap.pop().map(|entry| (entry.at, entry.what))
    }
}

impl<W> fmt::Debug for Queue<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Queue({} of {} left)", self.heap.len(), self.planned)
    }
}

struct Entry<W> {
    at: Timestamp,
    number: u64,
    what: W,
}

impl<W> Entry<W> {
    fn key(&self) -> (Timestamp, u64) {
        (self.at, self.number)
    }
}

/// The reverse of the order in time: the standard heap gives out the greatest first.
impl<W> Ord for Entry<W> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.key().cmp(&self.key())
    }
}

impl<W> PartialOrd for Entry<W> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<W> PartialEq for Entry<W> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<W> Eq for Entry<W> {}

#[cfg(test)]
mod tests {
    use super::{Queue, Timestamp};

    #[test]
    fn comes_out_by_time_and_then_in_the_order_planned() {
        let mut queue = Queue::new();
        for (at, what) in [(5, 'c'), (1, 'a'), (5, 'd'), (2, 'b'), (5, 'e')] {
            queue.push(Timestamp::from_micros(at), what);
        }
        assert_eq!(queue.next_at(), Some(Timestamp::from_micros(1)));
        let order: String = std::iter::from_fn(|| queue.pop()).map(|(_, what)| what).collect();
        assert_eq!(order, "abcde");
    }
}
