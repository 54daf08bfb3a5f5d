mod model;

use super::{LANES, Order, Picker, Priority, Receipt, Style, TURN_BLOCKS};
use crate::bitfield::Bitfield;
use crate::id::ConnId;
use crate::lengths::{BLOCK_LEN, Block, Lengths, PieceIndex};
use crate::rng::Rng;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use model::Pair;
use proptest::prelude::*;

const A: ConnId = ConnId(1);
const B: ConnId = ConnId(2);
const C: ConnId = ConnId(3);
const D: ConnId = ConnId(4);

#[test]
fn the_rarest_piece_comes_first() {
    let mut swarm = Fixture::new(8, 1);
    swarm.have("####....");
    // Availability: 4 is at three peers, 5 and 7 at two, 6 at all four.
    swarm.join(B, "......##");
    swarm.join(C, "....###.");
    swarm.join(D, "....#.#.");
    swarm.join(A, "....####");
    let mut order = swarm.pick(A, Style::Alone, 4);
    order[..2].sort_unstable();
    assert_eq!(pieces(&order), [5, 7, 4, 6]);
}

#[test]
fn equals_come_in_random_order() {
    let firsts: BTreeSet<u32> = (0..40)
        .map(|seed| {
            let mut swarm = Fixture::seeded(12, 1, seed);
            swarm.have("####........");
            swarm.join(A, "############");
            pieces(&swarm.pick(A, Style::Alone, 1))[0]
        })
        .collect();
    assert!(firsts.len() >= 6, "40 draws out of 8 equals gave only {firsts:?}");
}

#[test]
fn the_first_four_pieces_are_random_not_rare() {
    let firsts: BTreeSet<u32> = (0..40)
        .map(|seed| {
            let mut swarm = Fixture::seeded(8, 1, seed);
            swarm.join(B, "......##");
            swarm.join(A, "########");
            pieces(&swarm.pick(A, Style::Alone, 1))[0]
        })
        .collect();
    assert!(firsts.len() >= 5, "piece 0 is rarest, yet not always first: {firsts:?}");
}

#[test]
fn a_seed_makes_no_piece_rarer() {
    let mut swarm = Fixture::new(4, 1);
    swarm.join(A, "####");
    swarm.join(B, "#..#");
    assert_eq!(swarm.availability(), [2, 1, 1, 2]);
    swarm.gain(B, 1);
    swarm.gain(B, 2);
    assert_eq!(swarm.availability(), [2, 2, 2, 2]);
    swarm.leave(B);
    swarm.leave(A);
    assert_eq!(swarm.availability(), [0, 0, 0, 0]);
    assert_eq!(swarm.picker.unavailable(), 4);
}

#[test]
fn priorities_come_before_rarity_and_skipped_pieces_never() {
    let mut swarm = Fixture::new(8, 1);
    swarm.have("####....");
    swarm.join(B, "......#.");
    swarm.join(A, "########");
    for (piece, priority) in [(4, Priority::Low), (6, Priority::High), (7, Priority::Skip)] {
        swarm.picker.set_priority(swarm.piece(piece), priority);
    }
    assert_eq!(swarm.picture(), "####...-");
    assert_eq!(pieces(&swarm.pick(A, Style::Alone, 9)), [6, 5, 4]);
    assert_eq!(swarm.picture(), "####rrr-");
    assert_eq!(swarm.picker.missing(), 3);
}

#[test]
fn sequential_order_goes_by_number_within_a_priority() {
    let mut swarm = Fixture::new(200, 1);
    swarm.picker.set_order(Order::Sequential);
    swarm.join(A, &"#".repeat(200));
    swarm.picker.set_priority(swarm.piece(199), Priority::High);
    assert_eq!(pieces(&swarm.pick(A, Style::Striped, 3)), [199, 0, 1]);
    let expected: Vec<u32> = (2..199).collect();
    assert_eq!(pieces(&swarm.pick(A, Style::Shared, 197)), expected);
}

#[test]
fn a_peer_alone_takes_its_pieces_in_order() {
    let mut swarm = Fixture::new(2, 4);
    swarm.picker.set_order(Order::Sequential);
    swarm.join(A, "##");
    swarm.join(B, "##");
    swarm.pick(A, Style::Alone, 2);
    swarm.pick(B, Style::Alone, 1);
    assert_eq!(swarm.blocks(), ["11..", "1..."]);
    assert_eq!(swarm.pick(A, Style::Alone, 1), [swarm.block(0, 2)]);
}

#[test]
fn a_slow_peer_leaves_a_fast_ones_piece_alone_while_there_are_others() {
    let mut swarm = Fixture::new(3, 3);
    swarm.picker.set_order(Order::Sequential);
    for peer in [A, B, C] {
        swarm.join(peer, "###");
    }
    swarm.pick(A, Style::Alone, 1);
    assert_eq!(pieces(&swarm.pick(B, Style::Shared, 1)), [1]);
    assert_eq!(pieces(&swarm.pick(C, Style::Shared, 1)), [1], "sharers join each other");
    assert_eq!(swarm.blocks(), ["1..", "11.", "..."]);
    assert_eq!(pieces(&swarm.pick(C, Style::Shared, 4)), [1, 2, 2, 2]);
    assert_eq!(pieces(&swarm.pick(C, Style::Shared, 1)), [0], "better than nothing");
}

#[test]
fn a_piece_has_as_many_peers_as_it_may_but_in_endgame() {
    let mut swarm = Fixture::new(1, 4);
    swarm.picker.set_peers_per_piece(2);
    [A, B, C].into_iter().for_each(|peer| swarm.join(peer, "#"));
    assert_eq!(swarm.pick(A, Style::Shared, 1).len(), 1);
    assert_eq!(swarm.pick(B, Style::Shared, 1).len(), 1);
    assert_eq!(swarm.pick(C, Style::Shared, 1), [], "two work on the only piece");
    assert!(!swarm.picker.has_place(swarm.piece(0)));
    assert!(matches!(swarm.picker.received(swarm.block(0, 1), B), Receipt::New { .. }));
    assert!(swarm.picker.has_place(swarm.piece(0)), "one of the two owes nothing");
    assert_eq!(swarm.pick(C, Style::Shared, 1).len(), 1);
    assert_eq!(swarm.pick(B, Style::Shared, 1), []);
    assert_eq!(swarm.pick(A, Style::Shared, 1).len(), 1, "who works on it goes on");
    assert_eq!(swarm.pick(B, Style::Shared, 1).len(), 1, "every block is requested, so more may be asked");
}

#[test]
fn an_abandoned_piece_is_finished_before_another_is_begun() {
    let mut swarm = Fixture::new(8, 4);
    swarm.join(A, "########");
    swarm.join(B, "......##");
    let taken = swarm.pick(A, Style::Alone, 2);
    assert_eq!(cancels(swarm.picker.received(taken[0], A)), []);
    swarm.leave(A);
    let next = swarm.pick(B, Style::Alone, 3);
    assert!(next.iter().all(|block| block.piece() == taken[0].piece()));
}

#[test]
fn a_piece_of_which_nothing_is_left_is_closed() {
    let mut swarm = Fixture::new(2, 4);
    swarm.join(A, "##");
    let taken = swarm.pick(A, Style::Shared, 2);
    for block in taken {
        swarm.picker.released(block, A);
    }
    assert_eq!(swarm.picture(), "..");
    assert_eq!(swarm.picker.open_pieces().count(), 0);
}

#[test]
fn a_striping_peer_takes_turns_over_four_pieces() {
    let mut swarm = Fixture::new(8, 2 * TURN_BLOCKS);
    swarm.join(A, "########");
    let round = LANES * TURN_BLOCKS as usize;
    let first = pieces(&swarm.pick(A, Style::Striped, round));
    let second = pieces(&swarm.pick(A, Style::Striped, round));
    assert_eq!(first, second, "each lane goes on in its turn");
    let turns: Vec<&[u32]> = first.chunks(TURN_BLOCKS as usize).collect();
    assert!(turns.iter().all(|turn| turn.iter().all(|piece| *piece == turn[0])));
    assert_eq!(turns.iter().map(|turn| turn[0]).collect::<BTreeSet<_>>().len(), LANES);
    assert_eq!(swarm.picker.open_pieces().filter(|(_, progress)| progress.free > 0).count(), 0);
}

#[test]
fn endgame_asks_at_most_three_peers_for_a_block_and_cancels_the_rest() {
    let mut swarm = Fixture::new(1, 2);
    for peer in [A, B, C, D] {
        swarm.join(peer, "#");
    }
    let (first, second) = (swarm.block(0, 0), swarm.block(0, 1));
    assert_eq!(swarm.pick(A, Style::Shared, 1), [first]);
    assert!(!swarm.picker.in_endgame());
    assert_eq!(swarm.pick(B, Style::Shared, 9), [second, first], "the free block comes first");
    assert!(swarm.picker.in_endgame());
    assert_eq!(swarm.pick(C, Style::Shared, 9), [second, first], "fewest requesters first");
    assert_eq!(swarm.blocks(), ["32"]);
    assert_eq!(swarm.pick(D, Style::Shared, 9), [second]);
    assert_eq!(swarm.pick(A, Style::Shared, 9), [], "second is asked for thrice, first of itself");
    assert_eq!(cancels(swarm.picker.received(first, C)), [A, B]);
    assert_eq!(swarm.picker.received(first, A), Receipt::Duplicate);
    assert_eq!(swarm.blocks(), ["#3"]);
    assert_eq!(cancels(swarm.picker.received(second, B)), [C, D]);
    assert!(swarm.picker.piece_done(swarm.piece(0)));
}

#[test]
fn one_piece_that_nobody_has_keeps_endgame_away() {
    let mut swarm = Fixture::new(2, 1);
    swarm.join(A, "#.");
    swarm.join(B, "#.");
    assert_eq!(swarm.pick(A, Style::Alone, 9).len(), 1);
    assert_eq!(swarm.pick(B, Style::Alone, 9), []);
    swarm.picker.set_priority(swarm.piece(1), Priority::Skip);
    assert_eq!(swarm.pick(B, Style::Alone, 9).len(), 1);
}

#[test]
fn a_failed_piece_is_missing_again_and_its_senders_are_named() {
    let mut swarm = Fixture::new(1, 3);
    swarm.join(A, "#");
    swarm.join(B, "#");
    let taken = swarm.pick(A, Style::Alone, 3);
    let piece = swarm.piece(0);
    for (block, from) in taken.iter().zip([A, B, A]) {
        assert_eq!(swarm.picture(), "r");
        swarm.picker.received(*block, from);
    }
    assert_eq!(swarm.picture(), "=");
    assert_eq!(swarm.pick(B, Style::Alone, 9), [], "a piece that is being hashed is not requested");
    assert_eq!(swarm.picker.failed(piece), [(0, A), (1, B), (2, A)]);
    assert_eq!((swarm.picture().as_str(), swarm.picker.attempt(piece)), (".", 1));
    for block in swarm.pick(B, Style::Alone, 3) {
        swarm.picker.received(block, B);
    }
    assert_eq!(swarm.picker.contributors(piece).collect::<Vec<_>>(), [(0, B), (1, B), (2, B)]);
    swarm.picker.verified(piece);
    assert!(swarm.picker.is_complete() && swarm.picker.have().is_all());
    assert_eq!(swarm.picker.received(taken[0], A), Receipt::Duplicate);
}

#[test]
fn a_late_block_is_taken_unless_it_is_here() {
    let mut swarm = Fixture::new(2, 2);
    swarm.join(A, "##");
    let block = swarm.pick(A, Style::Shared, 1)[0];
    swarm.picker.released(block, A);
    assert_eq!(cancels(swarm.picker.received(block, A)), []);
    assert_eq!(swarm.picker.received(block, A), Receipt::Duplicate);
    swarm.picker.set_priority(swarm.piece(1 - block.piece().get()), Priority::Skip);
    let skipped = swarm.block(1 - block.piece().get(), 0);
    assert_eq!(swarm.picker.received(skipped, A), Receipt::Duplicate);
}

#[test]
fn a_reject_of_what_was_not_asked_changes_nothing() {
    let mut swarm = Fixture::new(2, 2);
    swarm.join(A, "##");
    let block = swarm.pick(A, Style::Shared, 1)[0];
    let before = (swarm.picture(), swarm.blocks());
    swarm.picker.released(block, B);
    swarm.picker.released(swarm.block(1 - block.piece().get(), 1), A);
    assert_eq!((swarm.picture(), swarm.blocks()), before);
}

#[test]
fn a_choked_peer_is_asked_only_for_what_is_allowed() {
    let mut swarm = Fixture::new(6, 2);
    swarm.join(A, "#####.");
    let allowed = [swarm.piece(5), swarm.piece(3)];
    let mut out = vec![];
    let has = swarm.peers[&A].clone();
    swarm.picker.pick(A, &has, Style::Alone, Some(&allowed), 9, &mut out);
    assert_eq!(out, [swarm.block(3, 0), swarm.block(3, 1)]);
}

#[test]
fn a_lost_piece_is_fetched_again() {
    let mut swarm = Fixture::new(2, 1);
    swarm.have("##");
    assert!(swarm.picker.is_complete());
    let piece = swarm.piece(1);
    swarm.picker.set_lost(piece);
    assert_eq!((swarm.picture().as_str(), swarm.picker.attempt(piece)), ("#.", 1));
}

/// A peer with few pieces is served by another road than one with most; both choose by the same rule.
#[test]
fn a_rarer_new_piece_comes_before_the_open_pieces_of_others() {
    let lengths = Lengths::contiguous(8 * 2 * 16384, 2 * 16384).unwrap();
    let mut picker = Picker::new(lengths.clone(), Order::Rarest, Rng::from_number(1));
    let piece = |index| lengths.piece(index).unwrap();
    (0..4).for_each(|index| picker.set_have(piece(index)));
    let (seed, other) = (ConnId(1), ConnId(2));
    let mut has = Bitfield::none(8);
    (0..6).for_each(|index| assert!(has.insert(piece(index))));
    picker.peer_joined(&Bitfield::all(8));
    picker.peer_joined(&has);
    let mut out = vec![];
    picker.pick(other, &has, Style::Shared, None, 1, &mut out);
    picker.pick(seed, &Bitfield::all(8), Style::Shared, None, 4, &mut out);
    let pieces: Vec<u32> = out.iter().map(|block| block.piece().get()).collect();
    assert!([4, 5].contains(&pieces[0]), "{pieces:?}");
    assert!(pieces[1..].iter().all(|piece| [6, 7].contains(piece)), "only the seed has those: {pieces:?}");
    picker.pick(seed, &Bitfield::all(8), Style::Shared, None, 1, &mut out);
    assert_eq!(out[5].piece(), out[0].piece(), "then it helps with what others have, too");
}

#[test]
fn a_peer_with_few_pieces_of_many_gets_its_rarest() {
    const PIECES: u32 = 20_000;
    let mut swarm = Fixture::new(PIECES, 1);
    for piece in 0..4 {
        swarm.picker.set_have(swarm.piece(piece));
    }
    let every = |n: u32| (0..PIECES).map(|i| if i % n == 7 { '#' } else { '.' }).collect::<String>();
    swarm.join(A, &every(2000));
    swarm.join(B, &every(4000));
    // Pieces 7, 4007, … are at both; 2007, 6007, … only at A and so rarer.
    let first = pieces(&swarm.pick(A, Style::Alone, 5)).into_iter().collect::<BTreeSet<_>>();
    assert_eq!(first, BTreeSet::from([2007, 6007, 10007, 14007, 18007]));
    assert_eq!(pieces(&swarm.pick(A, Style::Alone, 9)).len(), 5);
    swarm.picker.check_invariants();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_a_slow_picker(
        seed in any::<u64>(),
        sequential in any::<bool>(),
        peers_per_piece in 1_usize..5,
        steps in prop::collection::vec((0_u8..24, any::<u32>(), any::<u32>(), any::<u32>()), 1..120),
    ) {
        let lengths = Lengths::contiguous(8 * 3 * u64::from(BLOCK_LEN) - 20_000, 3 * u64::from(BLOCK_LEN)).unwrap();
        let order = if sequential { Order::Sequential } else { Order::Rarest };
        let mut pair = Pair::new(lengths, order, peers_per_piece, seed);
        for (kind, a, b, c) in steps {
            pair.step(kind, a, b, c);
            pair.compare();
        }
    }

    #[test]
    fn many_at_once_are_the_same_as_one_by_one(
        seed in any::<u64>(),
        styles in prop::collection::vec((0..4_u64, 0..3_usize, 1..12_usize), 1..30),
    ) {
        let lengths = Lengths::contiguous(12 * 20 * u64::from(BLOCK_LEN), 20 * u64::from(BLOCK_LEN)).unwrap();
        let mut many = Picker::new(lengths.clone(), Order::Rarest, Rng::from_number(seed));
        let mut one = many.clone();
        let has = Bitfield::all(lengths.piece_count());
        for (peer, style, max) in styles {
            let style = [Style::Alone, Style::Shared, Style::Striped][style];
            let (mut at_once, mut singly) = (vec![], vec![]);
            many.pick(ConnId(peer), &has, style, None, max, &mut at_once);
            (0..max).for_each(|_| one.pick(ConnId(peer), &has, style, None, 1, &mut singly));
            prop_assert_eq!(at_once, singly);
            many.check_invariants();
        }
    }
}

/// A picker and the peers that it was told of.
struct Fixture {
    picker: Picker,
    lengths: Lengths,
    peers: BTreeMap<ConnId, Bitfield>,
}

impl Fixture {
    fn new(pieces: u32, blocks: u32) -> Self {
        Self::seeded(pieces, blocks, 1)
    }

    fn seeded(pieces: u32, blocks: u32, seed: u64) -> Self {
        let piece_len = u64::from(blocks * BLOCK_LEN);
        let lengths = Lengths::contiguous(u64::from(pieces) * piece_len, piece_len).unwrap();
        let picker = Picker::new(lengths.clone(), Order::Rarest, Rng::from_number(seed));
        Self { picker, lengths, peers: BTreeMap::new() }
    }

    fn piece(&self, index: u32) -> PieceIndex {
        self.lengths.piece(index).unwrap()
    }

    fn block(&self, piece: u32, number: u32) -> Block {
        self.lengths.block(self.piece(piece), number).unwrap()
    }

    fn have(&mut self, picture: &str) {
        set(&self.lengths, picture).for_each(|piece| self.picker.set_have(piece));
    }

    fn join(&mut self, peer: ConnId, picture: &str) {
        let mut has = Bitfield::none(self.lengths.piece_count());
        set(&self.lengths, picture).for_each(|piece| assert!(has.insert(piece)));
        self.picker.peer_joined(&has);
        self.peers.insert(peer, has);
    }

    fn gain(&mut self, peer: ConnId, piece: u32) {
        let piece = self.piece(piece);
        let has = self.peers.get_mut(&peer).unwrap();
        assert!(has.insert(piece));
        self.picker.peer_has(piece);
        if has.is_all() {
            self.picker.peer_became_seed();
        }
    }

    fn leave(&mut self, peer: ConnId) {
        self.picker.peer_left(&self.peers.remove(&peer).unwrap());
        self.picker.peer_gone(peer);
    }

    fn pick(&mut self, peer: ConnId, style: Style, max: usize) -> Vec<Block> {
        let mut out = vec![];
        self.picker.pick(peer, &self.peers[&peer], style, None, max, &mut out);
        self.picker.check_invariants();
        self.picker.check_availability(self.peers.values());
        out
    }

    fn availability(&self) -> Vec<u32> {
        self.picker.check_availability(self.peers.values());
        self.lengths.pieces().map(|piece| self.picker.availability(piece)).collect()
    }

    fn picture(&self) -> String {
        self.picker.check_invariants();
        self.picker.picture()
    }

    fn blocks(&self) -> Vec<String> {
        self.lengths.pieces().map(|piece| self.picker.picture_of(piece)).collect()
    }
}

fn set(lengths: &Lengths, picture: &str) -> impl Iterator<Item = PieceIndex> {
    assert_eq!(picture.len(), lengths.piece_count() as usize);
    lengths.pieces().zip(picture.chars()).filter(|(_, c)| *c == '#').map(|(piece, _)| piece)
}

fn pieces(blocks: &[Block]) -> Vec<u32> {
    blocks.iter().map(|block| block.piece().get()).collect()
}

/// Whom a new block was requested from besides its sender.
#[track_caller]
fn cancels(receipt: Receipt) -> Vec<ConnId> {
    let Receipt::New { cancel } = receipt else { panic!("the block was missing") };
    cancel.to_vec()
}
