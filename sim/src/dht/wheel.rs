//! What happens next, among millions of things.

use core::fmt;
use fast_peer_core::machine::Timestamp;
use std::collections::BinaryHeap;

/// Things that will happen, earliest first; what is due at one time happens in the order in which it was planned.
///
/// Nearly all is planned for the next few seconds, so time is cut into slots of about a millisecond. Only the slot that
/// has come is sorted; a heap would touch memory in twenty places for each of millions of entries.
pub(super) struct Wheel<W> {
    /// By the number of the slot, modulo their count: what is due within the horizon.
    slots: Vec<Vec<Entry<W>>>,
    /// What is due later.
    far: BinaryHeap<Entry<W>>,
    /// What is left of the slot that has come, the last one first.
    current: Vec<Entry<W>>,
    slot: u64,
    planned: u64,
    taken: u64,
}

impl<W> Wheel<W> {
    pub(super) fn new() -> Self {
        let slots = (0..SLOTS).map(|_| Vec::new()).collect();
        Self { slots, far: BinaryHeap::new(), current: Vec::new(), slot: 0, planned: 0, taken: 0 }
    }

    /// How many things happened.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// Plans `what` for `at`, which is not in the past.
    pub(super) fn push(&mut self, at: Timestamp, what: W) {
        let entry = Entry { at, number: self.planned, what };
        self.planned += 1;
        match slot_of(at) {
            slot if slot <= self.slot => {
                let place = self.current.partition_point(|other| other.key() > entry.key());
                self.current.insert(place, entry);
            }
            slot if slot < self.slot + SLOTS => self.slots[(slot % SLOTS) as usize].push(entry),
            _ => self.far.push(entry),
        }
    }

    /// Takes the next thing out that is due until then.
    pub(super) fn pop(&mut self, until: Timestamp) -> Option<(Timestamp, W)> {
        while self.current.is_empty() && self.slot < slot_of(until) {
            self.slot += 1;
            // What was used up is let go: else each slot would hold on to as much as was ever planned for one.
            self.current = core::mem::take(&mut self.slots[(self.slot % SLOTS) as usize]);
            while self.far.peek().is_some_and(|entry| slot_of(entry.at) <= self.slot) {
                self.current.extend(self.far.pop());
            }
            self.current.sort_unstable_by_key(|entry| core::cmp::Reverse(entry.key()));
        }
        let entry = self.current.pop_if(|entry| entry.at <= until)?;
        self.taken += 1;
        Some((entry.at, entry.what))
    }
}

impl<W> fmt::Debug for Wheel<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wheel({} of {} happened)", self.taken, self.planned)
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
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        other.key().cmp(&self.key())
    }
}

impl<W> PartialOrd for Entry<W> {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<W> PartialEq for Entry<W> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<W> Eq for Entry<W> {}

fn slot_of(at: Timestamp) -> u64 {
    at.as_micros() / SLOT_MICROS
}

const SLOT_MICROS: u64 = 1024;

/// About 17 s: nearly everything is planned for sooner.
const SLOTS: u64 = 1 << 14;

#[cfg(test)]
mod tests {
    use super::{SLOT_MICROS, SLOTS, Wheel};
    use fast_peer_core::machine::Timestamp;
    use fast_peer_core::rng::Rng;

    fn at(micros: u64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    #[test]
    fn comes_out_by_time_and_then_in_the_order_planned() {
        let mut wheel = Wheel::new();
        for (time, what) in [(5, 'c'), (1, 'a'), (5, 'd'), (2, 'b'), (5, 'e')] {
            wheel.push(at(time), what);
        }
        let order: String = core::iter::from_fn(|| wheel.pop(at(9))).map(|(_, what)| what).collect();
        assert_eq!((order.as_str(), wheel.taken()), ("abcde", 5));
    }

    /// The naive model is a sorted list.
    #[test]
    fn agrees_with_a_sorted_list() {
        let horizon = SLOT_MICROS * SLOTS;
        let mut rng = Rng::from_number(1);
        let (mut wheel, mut model, mut now) = (Wheel::new(), Vec::new(), 0);
        for number in 0..20_000_u64 {
            let ahead = [0, 10, SLOT_MICROS, horizon, 3 * horizon][rng.below(5) as usize];
            let time = now + rng.below(ahead + 1);
            wheel.push(at(time), number);
            model.push((time, number));
            if rng.chance(1, 3) {
                now += rng.below(horizon / 64);
                model.sort_unstable();
                let due = model.partition_point(|(time, _)| *time <= now);
                let expected: Vec<_> = model.drain(..due).map(|(time, number)| (at(time), number)).collect();
                let found: Vec<_> = core::iter::from_fn(|| wheel.pop(at(now))).collect();
                assert_eq!(found, expected);
            }
        }
    }
}
