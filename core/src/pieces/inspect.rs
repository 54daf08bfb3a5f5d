//! The picker from outside: pictures for people, recounts for tests and simulators.

use super::{Front, Picker, Priority, pieces_in};
use crate::bitfield::Bitfield;
use crate::id::ConnId;
use crate::lengths::{Block, PieceIndex};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec;

impl Picker {
    /// One character a piece: `#` had, `-` skipped, `.` not begun, `o` begun with blocks left to request, `r` all
    /// requested, `=` all received.
    pub fn picture(&self) -> String {
        let show = |piece| match self.open.get(&piece) {
            _ if self.have.has(piece) => '#',
            Some(open) if open.received() == open.len() => '=',
            _ if !self.wants(piece) => '-',
            Some(open) if open.free() == 0 => 'r',
            Some(_) => 'o',
            None => '.',
        };
        self.lengths.pieces().map(show).collect()
    }

    /// One character a block: `#` received, `.` free, otherwise how many peers owe it.
    pub fn picture_of(&self, piece: PieceIndex) -> String {
        let show = |block: Block| match self.open.get(&piece) {
            _ if self.have.has(piece) => '#',
            Some(open) if open.is_received(block.number()) => '#',
            _ => match self.requesters(block).len() {
                0 => '.',
                n => char::from(b'0' + n as u8),
            },
        };
        self.lengths.blocks(piece).map(show).collect()
    }

    /// Panics unless every index agrees with a recount of what it is made from. For tests and simulators: it looks at
    /// every piece and block.
    pub fn check_invariants(&self) {
        self.ranking.check_invariants(|piece| {
            let index = self.lengths.piece(piece as u32).expect("every piece has a rank");
            (self.wants(index) && !self.open.contains_key(&index)).then(|| self.priority(index))
        });
        for piece in self.lengths.pieces() {
            let wanted = !self.have.has(piece) && self.priority(piece) != Priority::Skip;
            assert_eq!(self.wants(piece), wanted, "piece {piece} is needed if wanted and not had");
        }
        let mut joinable = BTreeMap::new();
        let mut fronts: BTreeMap<ConnId, BTreeSet<PieceIndex>> = BTreeMap::new();
        for (piece, open) in &self.open {
            assert!(!self.have.has(*piece), "piece {piece} is had, so nothing of it is requested");
            assert_eq!(open.len(), self.lengths.block_count(*piece));
            open.check_invariants();
            if let Some(key) = self.joinable_key(*piece) {
                joinable.insert(key, *piece);
                open.workers().for_each(|peer| {
                    fronts.entry(peer).or_default().insert(*piece);
                });
            }
        }
        assert_eq!(self.joinable, joinable, "needed pieces with free blocks can be joined");
        let sorted = |front: &Front| front.pieces.iter().copied().collect::<BTreeSet<_>>();
        assert!(self.fronts.values().all(|front| sorted(front).len() == front.pieces.len()));
        let shown: BTreeMap<_, _> = self.fronts.iter().map(|(peer, front)| (*peer, sorted(front))).collect();
        assert_eq!(shown, fronts, "a peer can go on with the pieces that it works on");
        if let Some(duplicable) = &self.duplicable {
            let all_requested = self.ranking.is_empty() && self.joinable.is_empty();
            assert!(all_requested, "no block is requested twice before all are requested once");
            assert_eq!(*duplicable, self.requested_blocks());
        }
    }

    /// Panics unless the availability of every piece is the number of `connected` peers that have it.
    pub fn check_availability<'a>(&self, connected: impl IntoIterator<Item = &'a Bitfield>) {
        let mut holders = vec![0; self.priorities.len()];
        for has in connected {
            pieces_in(&self.lengths, has).for_each(|piece| holders[piece.as_usize()] += 1);
        }
        for piece in self.lengths.pieces() {
            assert_eq!(self.availability(piece), holders[piece.as_usize()], "availability of piece {piece}");
        }
    }
}
