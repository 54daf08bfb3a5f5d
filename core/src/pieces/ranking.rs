//! The pieces that could be begun, by priority and then by how few peers have them.

use super::Priority;
use crate::bitfield::Bitfield;
use crate::lengths::{Lengths, PieceIndex};
use crate::rng::Rng;
use alloc::vec;
use alloc::vec::Vec;
use core::iter;
use core::ops::Range;

/// How many peers have each piece, and the order in which pieces that nobody has begun should be.
///
/// A shelf for each priority holds its pieces in one run, sorted by availability, with the boundaries between equals
/// beside it. One peer more or less moves a piece by one swap with the edge of its group.
#[derive(Clone, Debug)]
pub(super) struct Ranking {
    /// How many connected peers have each piece, seeds not counted.
    holders: Vec<u16>,
    /// The shelf that each piece stands on, or [`NOWHERE`].
    shelf_of: Vec<u8>,
    /// Each piece's place on its shelf.
    place_of: Vec<u32>,
    shelves: [Shelf; SHELVES],
}

/// The pieces of one priority.
#[derive(Clone, Debug)]
struct Shelf {
    /// Sorted by holders.
    order: Vec<PieceIndex>,
    /// `starts[n]` is where the pieces with `n` or more holders begin.
    starts: Vec<u32>,
    /// The same pieces as a set.
    set: Bitfield,
    /// No word of `set` below this one has a piece.
    first_word: usize,
}

impl Ranking {
    /// Every piece on the shelf of normal priority, without holders, in random order.
    pub(super) fn new(lengths: &Lengths, rng: &mut Rng) -> Self {
        let count = lengths.piece_count();
        let mut order: Vec<PieceIndex> = lengths.pieces().collect();
        rng.shuffle(&mut order);
        let mut place_of = vec![0; order.len()];
        for (place, piece) in order.iter().enumerate() {
            place_of[piece.as_usize()] = place as u32;
        }
        let empty =
            || Shelf { order: Vec::new(), starts: vec![0], set: Bitfield::none(count), first_word: 0 };
        let full = Shelf { order, set: Bitfield::all(count), ..empty() };
        let mut shelves = [empty(), empty(), empty()];
        let normal = shelf_of(Priority::Normal);
        shelves[usize::from(normal)] = full;
        Self { holders: vec![0; count as usize], shelf_of: vec![normal; count as usize], place_of, shelves }
    }

    /// How many peers that are not seeds have `piece`.
    pub(super) fn holders(&self, piece: PieceIndex) -> u32 {
        u32::from(self.holders[piece.as_usize()])
    }

    /// Whether no piece is left to begin.
    pub(super) fn is_empty(&self) -> bool {
        self.shelves.iter().all(|shelf| shelf.order.is_empty())
    }

    /// Whether `piece` could be begun.
    pub(super) fn has(&self, piece: PieceIndex) -> bool {
        self.shelf_of[piece.as_usize()] != NOWHERE
    }

    /// How many of the pieces that could be begun nobody has, seeds not counted.
    pub(super) fn without_holders(&self) -> u32 {
        self.shelves.iter().map(|shelf| shelf.start(1)).sum()
    }

    /// One more peer has `piece`.
    pub(super) fn gained(&mut self, piece: PieceIndex) {
        let holders = &mut self.holders[piece.as_usize()];
        let before = usize::from(*holders);
        *holders = holders.checked_add(1).expect("a torrent has fewer than 65,536 connections");
        let Some(shelf) = self.shelves.get_mut(usize::from(self.shelf_of[piece.as_usize()])) else { return };
        let edge = shelf.end(before) - 1;
        shelf.swap(&mut self.place_of, piece, edge);
        shelf.reach(before + 1);
        shelf.starts[before + 1] = edge;
    }

    /// One peer fewer has `piece`.
    pub(super) fn lost(&mut self, piece: PieceIndex) {
        let holders = &mut self.holders[piece.as_usize()];
        let before = usize::from(*holders);
        *holders = holders.checked_sub(1).expect("a peer that leaves was counted");
        let Some(shelf) = self.shelves.get_mut(usize::from(self.shelf_of[piece.as_usize()])) else { return };
        let edge = shelf.start(before);
        shelf.swap(&mut self.place_of, piece, edge);
        shelf.starts[before] = edge + 1;
        shelf.trim();
    }

    /// One peer fewer has every piece: it is counted as a seed from now on.
    pub(super) fn lost_all(&mut self) {
        for holders in &mut self.holders {
            *holders = holders.checked_sub(1).expect("a peer with every piece was counted for each");
        }
        for shelf in &mut self.shelves {
            // No piece was without a holder, so the group of none is empty and all others move down by one.
            if shelf.starts.len() > 1 {
                shelf.starts.remove(0);
            }
        }
    }

    /// Puts `piece`, which stands nowhere, on the shelf of `priority`; [`Priority::Skip`] has none.
    pub(super) fn insert(&mut self, piece: PieceIndex, priority: Priority) {
        debug_assert!(!self.has(piece), "a piece stands on one shelf");
        let index = shelf_of(priority);
        let Some(shelf) = self.shelves.get_mut(usize::from(index)) else { return };
        self.shelf_of[piece.as_usize()] = index;
        let holders = usize::from(self.holders[piece.as_usize()]);
        shelf.reach(holders);
        // The first of each group above goes to the group's end, which leaves a gap at the end of the group below.
        let mut gap = shelf.order.len() as u32;
        shelf.order.push(piece);
        for group in (holders + 1..shelf.starts.len()).rev() {
            let first = shelf.starts[group];
            shelf.fill(&mut self.place_of, gap, first);
            shelf.starts[group] += 1;
            gap = first;
        }
        shelf.put(&mut self.place_of, piece, gap);
        shelf.set.insert(piece);
        shelf.first_word = shelf.first_word.min(piece.as_usize() / 64);
    }

    /// Takes `piece` off its shelf; without effect if it stands nowhere.
    pub(super) fn remove(&mut self, piece: PieceIndex) {
        let index = core::mem::replace(&mut self.shelf_of[piece.as_usize()], NOWHERE);
        let Some(shelf) = self.shelves.get_mut(usize::from(index)) else { return };
        let holders = usize::from(self.holders[piece.as_usize()]);
        let mut gap = shelf.end(holders) - 1;
        shelf.swap(&mut self.place_of, piece, gap);
        for group in holders + 1..shelf.starts.len() {
            let last = shelf.end(group) - 1;
            shelf.fill(&mut self.place_of, gap, last);
            shelf.starts[group] -= 1;
            gap = last;
        }
        shelf.order.pop();
        shelf.set.remove(piece);
        shelf.trim();
    }

    /// The lowest piece of the highest priority that is also in `has`.
    pub(super) fn lowest(&mut self, has: &Bitfield) -> Option<PieceIndex> {
        self.shelves.iter_mut().find_map(|shelf| {
            shelf.first_word += words(&shelf.set, shelf.first_word).take_while(|word| *word == 0).count();
            let lowest = common(has, &shelf.set, shelf.first_word).next()?;
            Some(shelf.order[self.place_of[lowest as usize] as usize])
        })
    }

    /// A rarest piece of the highest priority that is also in `has`; one at random where several are as rare.
    pub(super) fn rarest(&self, has: &Bitfield, rng: &mut Rng) -> Option<PieceIndex> {
        self.shelves.iter().find_map(|shelf| self.find(shelf, has, rng, |place| self.equals(shelf, place)))
    }

    /// Any piece of the highest priority that is also in `has`.
    pub(super) fn random(&self, has: &Bitfield, rng: &mut Rng) -> Option<PieceIndex> {
        self.shelves.iter().find_map(|shelf| self.find(shelf, has, rng, |_| 0..shelf.len()))
    }

    /// The best of `candidates` in the order of [`rarest`](Self::rarest); the first where several are as good.
    pub(super) fn best_of(&self, candidates: impl Iterator<Item = PieceIndex>) -> Option<PieceIndex> {
        candidates
            .filter(|piece| self.has(*piece))
            .min_by_key(|piece| (self.shelf_of[piece.as_usize()], self.holders[piece.as_usize()]))
    }

    /// Where the pieces lie that have as many holders as the one at `place`.
    fn equals(&self, shelf: &Shelf, place: u32) -> Range<u32> {
        let holders = usize::from(self.holders[shelf.order[place as usize].as_usize()]);
        shelf.start(holders)..shelf.end(holders)
    }

    /// Looks along a shelf, group by group, through each from a random place on. `group` gives the run of equals
    /// around a place.
    ///
    /// A peer that has most pieces is served within a few steps. For one with few, which could stand anywhere, going
    /// on costs more than intersecting the two sets and looking at each piece in both.
    fn find(
        &self,
        shelf: &Shelf,
        has: &Bitfield,
        rng: &mut Rng,
        group: impl Fn(u32) -> Range<u32>,
    ) -> Option<PieceIndex> {
        // Whatever a peer that is not a seed has, has a holder at least.
        let first = if has.is_all() { 0 } else { shelf.start(1) };
        let mut steps = SCAN_STEPS;
        let mut next = first;
        while next < shelf.len() {
            let run = group(next);
            let (from, to) = (run.start.max(first), run.end);
            let turn = from + rng.below(u64::from(to - from)) as u32;
            for place in (turn..to).chain(from..turn) {
                let piece = shelf.order[place as usize];
                if has.has(piece) {
                    return Some(piece);
                }
                steps = steps.wrapping_sub(1);
                if steps == 0 && common(has, &shelf.set, 0).nth(FEW).is_none() {
                    return self.find_among_few(shelf, has, rng, group);
                }
            }
            next = to;
        }
        None
    }

    /// The choice that [`find`](Self::find) makes, by looking at each piece in both sets.
    fn find_among_few(
        &self,
        shelf: &Shelf,
        has: &Bitfield,
        rng: &mut Rng,
        group: impl Fn(u32) -> Range<u32>,
    ) -> Option<PieceIndex> {
        let places = || common(has, &shelf.set, 0).map(|index| self.place_of[index as usize]);
        let run = group(places().min()?);
        let equals = || places().filter(|place| run.contains(place));
        let chosen = equals().nth(rng.below(equals().count() as u64) as usize)?;
        Some(shelf.order[chosen as usize])
    }

    /// Panics unless every count and place agrees with a recount. `priority` tells what each piece's should be, or
    /// nothing for a piece that should stand nowhere.
    pub(super) fn check_invariants(&self, priority: impl Fn(usize) -> Option<Priority>) {
        let mut standing = 0;
        for (piece, shelf) in self.shelf_of.iter().enumerate() {
            let expected = priority(piece).map_or(NOWHERE, shelf_of);
            assert_eq!(*shelf, expected, "piece {piece} stands on the shelf of its priority");
            standing += usize::from(expected != NOWHERE);
        }
        assert_eq!(self.shelves.iter().map(|shelf| shelf.order.len()).sum::<usize>(), standing);
        for (index, shelf) in self.shelves.iter().enumerate() {
            assert_eq!(shelf.set.ones(), shelf.len(), "a shelf's set and order hold the same pieces");
            assert_eq!(shelf.starts[0], 0, "the group without holders comes first");
            assert!(words(&shelf.set, 0).take(shelf.first_word).all(|word| word == 0));
            for (place, piece) in shelf.order.iter().enumerate() {
                assert_eq!(usize::from(self.shelf_of[piece.as_usize()]), index);
                assert_eq!(self.place_of[piece.as_usize()] as usize, place, "piece {piece} is where it says");
                assert!(shelf.set.has(*piece));
                let holders = usize::from(self.holders[piece.as_usize()]);
                let group = shelf.start(holders)..shelf.end(holders);
                assert!(group.contains(&(place as u32)), "piece {piece} is among its equals");
            }
        }
    }
}

impl Shelf {
    fn len(&self) -> u32 {
        self.order.len() as u32
    }

    /// Where the pieces with `holders` holders or more begin.
    fn start(&self, holders: usize) -> u32 {
        self.starts.get(holders).copied().unwrap_or(self.len())
    }

    /// Where the pieces with more than `holders` holders begin.
    fn end(&self, holders: usize) -> u32 {
        self.start(holders + 1)
    }

    /// Makes sure that there is a boundary for the group of `holders`.
    fn reach(&mut self, holders: usize) {
        if self.starts.len() <= holders {
            self.starts.resize(holders + 1, self.order.len() as u32);
        }
    }

    /// Forgets the boundaries of groups beyond the last piece.
    fn trim(&mut self) {
        while self.starts.len() > 1 && self.starts.last() == Some(&self.len()) {
            self.starts.pop();
        }
    }

    fn put(&mut self, place_of: &mut [u32], piece: PieceIndex, place: u32) {
        self.order[place as usize] = piece;
        place_of[piece.as_usize()] = place;
    }

    /// Moves the piece at `from` into the gap, unless its group is empty and the gap itself lies there.
    fn fill(&mut self, place_of: &mut [u32], gap: u32, from: u32) {
        if from != gap {
            self.put(place_of, self.order[from as usize], gap);
        }
    }

    /// Lets `piece` change places with the one at `place`.
    fn swap(&mut self, place_of: &mut [u32], piece: PieceIndex, place: u32) {
        let (from, other) = (place_of[piece.as_usize()], self.order[place as usize]);
        self.put(place_of, other, from);
        self.put(place_of, piece, place);
    }
}

/// How many pieces are in both sets.
pub(super) fn common_count(a: &Bitfield, b: &Bitfield) -> u32 {
    words(a, 0).zip(words(b, 0)).map(|(a, b)| (a & b).count_ones()).sum()
}

/// The pieces in both sets, in order, from those of word number `first` on.
fn common(a: &Bitfield, b: &Bitfield, first: usize) -> impl Iterator<Item = u32> {
    words(a, first).zip(words(b, first)).zip(first as u32..).flat_map(|((a, b), index)| {
        let mut word = a & b;
        iter::from_fn(move || {
            let bit = (word != 0).then(|| word.leading_zeros())?;
            word ^= 1 << (63 - bit);
            Some(index * 64 + bit)
        })
    })
}

/// A set as 64-bit words from number `first` on, its first piece in the highest bit.
fn words(set: &Bitfield, first: usize) -> impl Iterator<Item = u64> {
    let (whole, rest) = set.as_bytes().get(first * 8..).unwrap_or_default().as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let last = (!rest.is_empty()).then_some(u64::from_be_bytes(last));
    whole.iter().map(|word| u64::from_be_bytes(*word)).chain(last)
}

fn shelf_of(priority: Priority) -> u8 {
    match priority {
        Priority::High => 0,
        Priority::Normal => 1,
        Priority::Low => 2,
        Priority::Skip => NOWHERE,
    }
}

const SHELVES: usize = 3;

/// Stands for the shelf of pieces that are had, begun or not wanted.
const NOWHERE: u8 = SHELVES as u8;

/// How many pieces are looked at one by one before the sets are intersected.
const SCAN_STEPS: u32 = 512;

/// Up to how many pieces in both sets looking at each is cheaper than going on along the shelf.
const FEW: usize = 4096;
