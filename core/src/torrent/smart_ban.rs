//! Who sent the wrong block of a piece that several peers delivered.

use crate::lengths::PieceIndex;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// A block of a failed piece: who sent it, and the digest of what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent<S> {
    /// The block's number within its piece.
    pub number: u32,
    /// Who sent it.
    pub sender: S,
    /// The SHA-1 of its bytes.
    pub digest: [u8; 20],
}

/// Remembers what was sent for pieces that failed, and names the liars once it is known what was right.
///
/// `S` names a sender. It should outlive a connection, or a liar that comes back goes unpunished.
#[derive(Clone, Debug)]
pub struct SmartBan<S> {
    pieces: BTreeMap<PieceIndex, Evidence<S>>,
    /// How many pieces were recorded before.
    recorded: u64,
    blocks: usize,
}

#[derive(Clone, Debug)]
struct Evidence<S> {
    /// When it was begun, in pieces recorded before it.
    age: u64,
    sent: Vec<Sent<S>>,
}

impl<S: Copy + Ord> SmartBan<S> {
    /// Nothing failed so far.
    pub const fn new() -> Self {
        Self { pieces: BTreeMap::new(), recorded: 0, blocks: 0 }
    }

    /// Whoever sent all blocks of a failed piece, if that was one alone: a liar without further proof.
    pub fn sole_sender(senders: impl IntoIterator<Item = S>) -> Option<S> {
        let mut senders = senders.into_iter();
        let first = senders.next()?;
        senders.all(|sender| sender == first).then_some(first)
    }

    /// Takes in every block of `piece`, which failed. Returns those it proves to be liars at once, in order: who sent
    /// the whole piece alone, and who sent one block differently from last time, since one of the two was wrong.
    pub fn failed(&mut self, piece: PieceIndex, sent: &[Sent<S>]) -> Vec<S> {
        let mut liars = BTreeSet::new();
        liars.extend(Self::sole_sender(sent.iter().map(|block| block.sender)));
        let age = self.recorded;
        let evidence = self.pieces.entry(piece).or_insert(Evidence { age, sent: Vec::new() });
        self.recorded += 1;
        for block in sent {
            let before =
                evidence.sent.iter().find(|old| old.number == block.number && old.sender == block.sender);
            match before {
                Some(old) if old.digest != block.digest => {
                    liars.insert(block.sender);
                }
                Some(_) => {}
                None => {
                    evidence.sent.push(*block);
                    self.blocks += 1;
                }
            }
        }
        self.forget_oldest();
        liars.into_iter().collect()
    }

    /// Whether `piece` failed before, so that [`passed`](Self::passed) should be told the digests of its blocks.
    pub fn awaits(&self, piece: PieceIndex) -> bool {
        self.pieces.contains_key(&piece)
    }

    /// Takes in what the blocks of `piece`, which passed, should have been, as digests by block number. Returns those
    /// who sent anything else, in order, and forgets the piece.
    pub fn passed(&mut self, piece: PieceIndex, digests: &[[u8; 20]]) -> Vec<S> {
        let evidence = self.forget(piece);
        let wrong = |block: &&Sent<S>| digests.get(block.number as usize).is_some_and(|d| *d != block.digest);
        let liars: BTreeSet<S> = evidence.iter().filter(wrong).map(|block| block.sender).collect();
        liars.into_iter().collect()
    }

    /// How many blocks are remembered.
    pub const fn len(&self) -> usize {
        self.blocks
    }

    /// Whether no block is remembered.
    pub const fn is_empty(&self) -> bool {
        self.blocks == 0
    }

    fn forget(&mut self, piece: PieceIndex) -> Vec<Sent<S>> {
        let sent = self.pieces.remove(&piece).map_or(Vec::new(), |evidence| evidence.sent);
        self.blocks -= sent.len();
        sent
    }

    fn forget_oldest(&mut self) {
        while self.blocks > MAX_BLOCKS || self.pieces.len() > MAX_FAILED_PIECES {
            let oldest = self.pieces.iter().min_by_key(|(_, evidence)| evidence.age).map(|(piece, _)| *piece);
            self.forget(oldest.expect("blocks are remembered by piece"));
        }
    }
}

impl<S: Copy + Ord> Default for SmartBan<S> {
    fn default() -> Self {
        Self::new()
    }
}

/// How many failed pieces are remembered at most.
pub const MAX_FAILED_PIECES: usize = 256;

/// How many blocks are remembered at most: twice those of the longest piece.
pub const MAX_BLOCKS: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::{MAX_BLOCKS, MAX_FAILED_PIECES, Sent, SmartBan};
    use crate::lengths::{Lengths, PieceIndex};
    use alloc::collections::BTreeSet;
    use alloc::vec;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn piece(index: u32) -> PieceIndex {
        Lengths::contiguous(1000, 1).unwrap().piece(index).unwrap()
    }

    fn sent(blocks: &[(u32, char, u8)]) -> Vec<Sent<char>> {
        blocks.iter().map(|&(number, sender, byte)| Sent { number, sender, digest: [byte; 20] }).collect()
    }

    #[test]
    fn one_alone_is_named_at_once() {
        let mut bans = SmartBan::new();
        assert_eq!(bans.failed(piece(0), &sent(&[(0, 'a', 1), (1, 'a', 2)])), ['a']);
        assert_eq!(SmartBan::<char>::sole_sender([]), None);
    }

    #[test]
    fn a_liar_among_several_is_named_when_the_piece_passes() {
        let mut bans = SmartBan::new();
        assert_eq!(bans.failed(piece(0), &sent(&[(0, 'a', 1), (1, 'b', 9), (2, 'c', 3)])), []);
        assert!(bans.awaits(piece(0)));
        assert_eq!(bans.passed(piece(0), &[[1; 20], [2; 20], [3; 20]]), ['b']);
        assert!(!bans.awaits(piece(0)) && bans.is_empty());
        assert_eq!(bans.passed(piece(0), &[[0; 20]; 3]), [], "a piece that never failed accuses nobody");
    }

    #[test]
    fn two_versions_of_one_block_from_one_peer_prove_a_lie() {
        let mut bans = SmartBan::new();
        bans.failed(piece(0), &sent(&[(0, 'a', 1), (1, 'b', 8)]));
        assert_eq!(bans.failed(piece(0), &sent(&[(0, 'a', 1), (1, 'b', 9)])), ['b']);
    }

    #[test]
    fn the_oldest_piece_is_forgotten_first() {
        let mut bans = SmartBan::new();
        for index in 0..=MAX_FAILED_PIECES as u32 {
            bans.failed(piece(index), &sent(&[(0, 'a', 1), (1, 'b', 2)]));
        }
        assert!(!bans.awaits(piece(0)) && bans.awaits(piece(1)));
        let many: Vec<_> = (0..MAX_BLOCKS as u32).map(|n| (n, if n == 0 { 'a' } else { 'b' }, 1)).collect();
        bans.failed(piece(900), &sent(&many));
        assert_eq!(bans.len(), MAX_BLOCKS);
        assert!(bans.awaits(piece(900)) && !bans.awaits(piece(256)));
    }

    proptest! {
        /// Peers `a` to `e` send four blocks each time; liars send garbage now and then. Whoever lied in a failed
        /// attempt is named by the end, and nobody else ever is.
        #[test]
        fn liars_and_only_liars_are_named(
            attempts in prop::collection::vec(prop::collection::vec((0_u8..5, 0_u8..3), 4..5), 1..6),
        ) {
            let mut bans = SmartBan::new();
            let (mut named, mut lied) = (BTreeSet::new(), BTreeSet::new());
            for attempt in attempts {
                let mut blocks = vec![];
                for (number, (peer, garbage)) in (0..).zip(attempt) {
                    // Peers 0 to 2 are honest.
                    let garbage = if peer > 2 { garbage } else { 0 };
                    let sender = char::from(b'a' + peer);
                    if garbage > 0 {
                        lied.insert(sender);
                    }
                    blocks.push((number, sender, number as u8 * 8 + garbage));
                }
                if blocks.iter().any(|(number, _, byte)| *byte != *number as u8 * 8) {
                    named.extend(bans.failed(piece(0), &sent(&blocks)));
                }
            }
            named.extend(bans.passed(piece(0), &[[0; 20], [8; 20], [16; 20], [24; 20]]));
            prop_assert_eq!(named, lied);
        }
    }
}
