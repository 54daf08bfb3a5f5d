//! A picker that keeps nothing but the facts, to which the real one is compared.

use super::super::{MAX_REQUESTERS, Order, Picker, Priority, Receipt, Style};
use crate::bitfield::Bitfield;
use crate::id::ConnId;
use crate::lengths::{Block, Lengths, PieceIndex};
use crate::rng::Rng;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;

/// A block as the slow picker keeps it.
#[derive(Clone, Default)]
struct SlowBlock {
    asked: Vec<ConnId>,
    from: Option<ConnId>,
}

impl SlowBlock {
    fn is_free(&self) -> bool {
        self.asked.is_empty() && self.from.is_none()
    }
}

/// Keeps nothing but the facts, and works out everything else when asked.
struct Slow {
    order: Order,
    peers_per_piece: usize,
    have: BTreeSet<PieceIndex>,
    priority: BTreeMap<PieceIndex, Priority>,
    peers: BTreeMap<ConnId, Bitfield>,
    blocks: BTreeMap<PieceIndex, Vec<SlowBlock>>,
    alone: BTreeMap<(ConnId, PieceIndex), bool>,
    /// When each open piece was opened.
    opened: BTreeMap<PieceIndex, u64>,
    clock: u64,
}

impl Slow {
    fn needs(&self, piece: PieceIndex) -> bool {
        !self.have.contains(&piece) && self.priority[&piece] != Priority::Skip
    }

    fn is_open(&self, piece: PieceIndex) -> bool {
        self.blocks[&piece].iter().any(|block| !block.is_free())
    }

    fn free(&self, piece: PieceIndex) -> Option<u32> {
        self.blocks[&piece].iter().position(SlowBlock::is_free).map(|at| at as u32)
    }

    fn workers(&self, piece: PieceIndex) -> BTreeSet<ConnId> {
        self.blocks[&piece].iter().flat_map(|block| block.asked.iter().copied()).collect()
    }

    fn availability(&self, piece: PieceIndex) -> usize {
        self.peers.values().filter(|has| has.has(piece)).count()
    }

    fn in_endgame(&self) -> bool {
        let mut needed = self.blocks.keys().filter(|piece| self.needs(**piece)).peekable();
        needed.peek().is_some() && needed.all(|piece| self.free(*piece).is_none())
    }

    /// Every answer to a request for one block that would be right; empty if there should be none.
    fn right(&self, peer: ConnId, style: Style, only: Option<&[PieceIndex]>) -> Vec<(PieceIndex, u32)> {
        let allowed = |piece: &&PieceIndex| {
            self.needs(**piece) && self.peers[&peer].has(**piece) && only.is_none_or(|o| o.contains(piece))
        };
        let pieces: Vec<PieceIndex> = self.blocks.keys().filter(allowed).copied().collect();
        let free: Vec<PieceIndex> = pieces.iter().copied().filter(|p| self.free(*p).is_some()).collect();
        let open: Vec<PieceIndex> = free.iter().copied().filter(|p| self.is_open(*p)).collect();
        let next = |pieces: Vec<PieceIndex>| -> Vec<(PieceIndex, u32)> {
            pieces.iter().map(|piece| (*piece, self.free(*piece).unwrap())).collect()
        };
        let foremost = |of: Vec<PieceIndex>| -> Vec<PieceIndex> {
            let rank = |p: &PieceIndex| {
                let when = if self.order == Order::Rarest { self.opened[p] } else { u64::from(p.get()) };
                (core::cmp::Reverse(self.priority[p]), when)
            };
            of.into_iter().min_by_key(rank).into_iter().collect()
        };
        let held = |p: &PieceIndex| self.workers(*p).iter().any(|worker| self.alone[&(*worker, *p)]);

        let own: Vec<_> = open.iter().copied().filter(|p| self.workers(*p).contains(&peer)).collect();
        let orphans = foremost(open.iter().copied().filter(|p| self.workers(*p).is_empty()).collect());
        let has_place = |p: &PieceIndex| self.workers(*p).len() < self.peers_per_piece;
        let is_shared = |p: &PieceIndex| !self.workers(*p).is_empty() && !held(p) && has_place(p);
        let shared = foremost(open.iter().copied().filter(is_shared).collect());
        let new = self.best_new(free.iter().copied().filter(|p| !self.is_open(*p)).collect(), only.is_some());
        let others = foremost(open.iter().copied().filter(|p| held(p) && has_place(p)).collect());
        let early = if style == Style::Shared { shared.clone() } else { vec![] };
        let joined = if orphans.is_empty() { early } else { orphans };
        let by_rarity = self.order == Order::Rarest && only.is_none() && self.have.len() >= 4;
        let rarer = match (joined.first(), new.first()) {
            (Some(joined), Some(new)) if by_rarity => {
                self.priority[new] >= self.priority[joined]
                    && self.availability(*new) < self.availability(*joined)
            }
            _ => false,
        };
        let first = if rarer { vec![] } else { joined };
        for choice in [own, first, new, shared, others] {
            if !choice.is_empty() {
                return next(choice);
            }
        }
        if !self.in_endgame() {
            return vec![];
        }
        let blocks =
            pieces.iter().flat_map(|p| (0..).zip(&self.blocks[p]).map(move |(n, block)| (*p, n, block)));
        let could: Vec<_> = blocks
            .filter(|(.., block)| block.from.is_none() && !block.asked.contains(&peer))
            .filter(|(.., block)| block.asked.len() < MAX_REQUESTERS)
            .collect();
        let fewest = could.iter().map(|(.., block)| block.asked.len()).min();
        could.iter().filter(|(.., b)| Some(b.asked.len()) == fewest).map(|(p, n, _)| (*p, *n)).collect()
    }

    fn best_new(&self, pieces: Vec<PieceIndex>, filtered: bool) -> Vec<PieceIndex> {
        let Some(top) = pieces.iter().map(|p| self.priority[p]).max() else { return vec![] };
        let top: Vec<_> = pieces.into_iter().filter(|p| self.priority[p] == top).collect();
        let rarity = top.iter().map(|p| self.availability(*p)).min();
        match self.order {
            Order::Sequential if !filtered => vec![top[0]],
            Order::Rarest if !filtered && self.have.len() < 4 => top,
            _ => top.into_iter().filter(|p| Some(self.availability(*p)) == rarity).collect(),
        }
    }

    fn opens(&mut self, piece: PieceIndex) {
        if !self.is_open(piece) {
            self.opened.insert(piece, self.clock);
            self.clock += 1;
        }
    }

    fn clear(&mut self, piece: PieceIndex) {
        self.blocks.get_mut(&piece).unwrap().fill(SlowBlock::default());
    }
}

/// The picker and the slow one, doing the same.
pub(super) struct Pair {
    quick: Picker,
    slow: Slow,
    lengths: Lengths,
}

impl Pair {
    pub(super) fn new(lengths: Lengths, order: Order, peers_per_piece: usize, seed: u64) -> Self {
        let slow = Slow {
            order,
            peers_per_piece,
            have: BTreeSet::new(),
            priority: lengths.pieces().map(|piece| (piece, Priority::Normal)).collect(),
            peers: BTreeMap::new(),
            blocks: lengths
                .pieces()
                .map(|piece| (piece, vec![SlowBlock::default(); lengths.block_count(piece) as usize]))
                .collect(),
            alone: BTreeMap::new(),
            opened: BTreeMap::new(),
            clock: 0,
        };
        let mut quick = Picker::new(lengths.clone(), order, Rng::from_number(seed));
        quick.set_peers_per_piece(peers_per_piece);
        Self { quick, slow, lengths }
    }

    pub(super) fn step(&mut self, kind: u8, a: u32, b: u32, c: u32) {
        let peer = ConnId(u64::from(a % 5));
        let piece = self.lengths.piece(b % self.lengths.piece_count()).unwrap();
        let block = self.lengths.block(piece, c % self.lengths.block_count(piece)).unwrap();
        let connected = self.slow.peers.contains_key(&peer);
        match kind {
            0 | 1 if !connected => self.join(peer, b),
            2 if connected => self.leave(peer),
            3 if connected => self.gain(peer, piece),
            4 => self.set_priority(piece, c),
            5 if c.is_multiple_of(4) => {
                self.quick.set_have(piece);
                self.slow.have.insert(piece);
                self.slow.clear(piece);
            }
            6 if c.is_multiple_of(2) => {
                self.quick.set_lost(piece);
                self.slow.have.remove(&piece);
            }
            7 if c.is_multiple_of(4) => {
                let order = if b.is_multiple_of(2) { Order::Sequential } else { Order::Rarest };
                self.quick.set_order(order);
                self.slow.order = order;
            }
            8 => self.release(block, peer),
            9 if c.is_multiple_of(2) => self.receive(block, peer),
            10 => self.finish(c),
            11..=16 => self.answer(b, c),
            _ if connected => {
                let only = [piece, self.lengths.piece(c % self.lengths.piece_count()).unwrap()];
                let style = if a.is_multiple_of(2) { Style::Alone } else { Style::Shared };
                self.pick(peer, style, c.is_multiple_of(5).then_some(&only));
            }
            _ => {}
        }
    }

    fn join(&mut self, peer: ConnId, bits: u32) {
        let mut has = Bitfield::none(self.lengths.piece_count());
        let chosen = |piece: &PieceIndex| bits.is_multiple_of(3) || bits >> piece.get() & 16 != 0;
        self.lengths.pieces().filter(chosen).for_each(|piece| assert!(has.insert(piece)));
        self.quick.peer_joined(&has);
        self.slow.peers.insert(peer, has);
    }

    fn leave(&mut self, peer: ConnId) {
        self.quick.peer_left(&self.slow.peers.remove(&peer).unwrap());
        self.quick.peer_gone(peer);
        for block in self.slow.blocks.values_mut().flatten() {
            block.asked.retain(|asked| *asked != peer);
        }
    }

    fn gain(&mut self, peer: ConnId, piece: PieceIndex) {
        let has = self.slow.peers.get_mut(&peer).unwrap();
        if has.insert(piece) {
            self.quick.peer_has(piece);
            if has.is_all() {
                self.quick.peer_became_seed();
            }
        }
    }

    fn set_priority(&mut self, piece: PieceIndex, number: u32) {
        let all = [Priority::Skip, Priority::Low, Priority::Normal, Priority::High];
        let priority = all[number as usize % 4];
        self.quick.set_priority(piece, priority);
        self.slow.priority.insert(piece, priority);
    }

    fn release(&mut self, block: Block, peer: ConnId) {
        self.quick.released(block, peer);
        let slow = &mut self.slow.blocks.get_mut(&block.piece()).unwrap()[block.number() as usize];
        slow.asked.retain(|asked| *asked != peer);
    }

    /// One of the blocks that are owed arrives.
    fn answer(&mut self, which: u32, whose: u32) {
        let owed: Vec<(PieceIndex, u32, ConnId)> = (self.slow.blocks.iter())
            .flat_map(|(piece, blocks)| (0..).zip(blocks).map(move |(number, block)| (*piece, number, block)))
            .filter_map(|(piece, number, block)| {
                let from = block.asked.get(whose as usize % block.asked.len().max(1))?;
                Some((piece, number, *from))
            })
            .collect();
        if let Some((piece, number, from)) = owed.get(which as usize % owed.len().max(1)) {
            self.receive(self.lengths.block(*piece, *number).unwrap(), *from);
        }
    }

    fn receive(&mut self, block: Block, from: ConnId) {
        let piece = block.piece();
        let receipt = self.quick.received(block, from);
        let slow = &self.slow.blocks[&piece][block.number() as usize];
        let useless = slow.from.is_some()
            || self.slow.have.contains(&piece)
            || !self.slow.needs(piece) && !self.slow.is_open(piece);
        if useless {
            assert_eq!(receipt, Receipt::Duplicate);
            return;
        }
        self.slow.opens(piece);
        let slow = &mut self.slow.blocks.get_mut(&piece).unwrap()[block.number() as usize];
        let Receipt::New { cancel } = receipt else { panic!("{block} was missing") };
        let others: Vec<ConnId> = slow.asked.drain(..).filter(|asked| *asked != from).collect();
        assert_eq!(*cancel, *others);
        slow.from = Some(from);
    }

    /// Judges the hash of every piece that is all here.
    fn finish(&mut self, verdict: u32) {
        for piece in self.lengths.pieces() {
            let blocks = &self.slow.blocks[&piece];
            let senders: Vec<(u32, ConnId)> =
                (0..).zip(blocks).filter_map(|(number, block)| Some((number, block.from?))).collect();
            assert_eq!(self.quick.piece_done(piece), senders.len() == blocks.len());
            if senders.len() < blocks.len() {
                continue;
            }
            if verdict.is_multiple_of(2) {
                self.quick.verified(piece);
                self.slow.have.insert(piece);
            } else {
                let attempt = self.quick.attempt(piece);
                assert_eq!(self.quick.failed(piece), senders);
                assert_eq!(self.quick.attempt(piece), attempt + 1);
            }
            self.slow.clear(piece);
        }
    }

    fn pick(&mut self, peer: ConnId, style: Style, only: Option<&[PieceIndex]>) {
        let right = self.slow.right(peer, style, only);
        let mut out = vec![];
        self.quick.pick(peer, &self.slow.peers[&peer], style, only, 1, &mut out);
        let Some(block) = out.first() else {
            assert_eq!(right, [], "nothing was picked");
            return;
        };
        let (piece, number) = (block.piece(), block.number());
        assert!(right.contains(&(piece, number)), "{block} was picked, not one of {right:?}");
        self.slow.opens(piece);
        self.slow.alone.insert((peer, piece), style == Style::Alone);
        self.slow.blocks.get_mut(&piece).unwrap()[number as usize].asked.push(peer);
    }

    pub(super) fn compare(&self) {
        self.quick.check_invariants();
        self.quick.check_availability(self.slow.peers.values());
        assert_eq!(self.quick.in_endgame(), self.slow.in_endgame());
        let nowhere = |piece: &&PieceIndex| self.slow.needs(**piece) && self.slow.availability(**piece) == 0;
        assert_eq!(self.quick.unavailable() as usize, self.slow.blocks.keys().filter(nowhere).count());
        let needed = |piece: &&PieceIndex| self.slow.needs(**piece);
        assert_eq!(self.quick.missing() as usize, self.slow.blocks.keys().filter(needed).count());
        for has in self.slow.peers.values() {
            let interesting = |piece: &&PieceIndex| self.slow.needs(**piece) && has.has(**piece);
            assert_eq!(
                self.quick.interesting(has) as usize,
                self.slow.blocks.keys().filter(interesting).count()
            );
        }
        for (piece, blocks) in &self.slow.blocks {
            assert_eq!(self.quick.have().has(*piece), self.slow.have.contains(piece));
            let senders: BTreeMap<u32, ConnId> = self.quick.contributors(*piece).collect();
            for (number, slow) in (0..).zip(blocks) {
                let block = self.lengths.block(*piece, number).unwrap();
                let asked: BTreeSet<ConnId> = self.quick.requesters(block).iter().copied().collect();
                assert_eq!(asked, slow.asked.iter().copied().collect(), "{block}");
                assert_eq!(senders.get(&number), slow.from.as_ref(), "{block}");
            }
        }
    }
}
