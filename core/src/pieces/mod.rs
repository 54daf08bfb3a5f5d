//! Which block to ask whom for.

mod inspect;
mod open;
mod ranking;
#[cfg(test)]
mod tests;

pub use open::{MAX_REQUESTERS, Requesters};

use crate::bitfield::Bitfield;
use crate::id::ConnId;
use crate::lengths::{Block, Lengths, PieceIndex};
use crate::rng::Rng;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec;
use alloc::vec::Vec;
use open::OpenPiece;
use ranking::Ranking;

/// How much a piece is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Not at all.
    Skip,
    /// When nothing else can be begun.
    Low,
    /// As most are.
    Normal,
    /// Before all others.
    High,
}

/// Which piece is begun first among those of one priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The one that fewest peers have, at random among equals; the very first few at random among all.
    Rarest,
    /// The one with the lowest number.
    Sequential,
}

/// How a peer shares pieces with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// It is fast enough for pieces of its own, whose blocks then arrive in order.
    Alone,
    /// It joins pieces that other such peers work on, so that none stays open for long.
    Shared,
    /// As [`Alone`](Self::Alone), but over [`LANES`] pieces in turns of [`TURN_BLOCKS`], so that one peer by itself
    /// gives the hashers several pieces to interleave. In sequential order the same as `Alone`.
    Striped,
}

/// What became of a block that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// Nobody needs it: it is here already, or its piece is not wanted.
    Duplicate,
    /// It was missing.
    New {
        /// The other peers that it was requested from. They owe it no more: each should be sent a cancel.
        cancel: Requesters,
    },
}

/// How far a piece is that was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// How many of its blocks nobody was asked for.
    pub free: u32,
    /// How many of its blocks are on their way.
    pub requested: u32,
    /// How many of its blocks are here.
    pub received: u32,
}

/// Knows which blocks of a torrent are missing, requested and received, and who has what; chooses what to request.
///
/// ```text
///  missing ──pick──▶ open ──all blocks received──▶ done ──verified──▶ had
///     ▲  ▲             │                             │
///     │  └─all released┘                             │
///     └────────────────────────failed────────────────┘
/// ```
///
/// The caller tells it of every peer that joins and leaves, in bitfields and single haves that together are what
/// [`peer_left`](Self::peer_left) gets, and ends every request it hands out by [`received`](Self::received),
/// [`released`](Self::released) or [`peer_gone`](Self::peer_gone).
#[derive(Clone, Debug)]
pub struct Picker {
    lengths: Lengths,
    order: Order,
    peers_per_piece: usize,
    rng: Rng,
    have: Bitfield,
    /// Wanted and not had.
    needed: Bitfield,
    priorities: Vec<Priority>,
    /// How many connected peers have everything. They make no piece rarer than another.
    seeds: u32,
    /// The needed pieces that are not open.
    ranking: Ranking,
    open: BTreeMap<PieceIndex, OpenPiece>,
    opened: u64,
    /// The open and needed pieces with a free block, in the order in which they should be finished.
    joinable: BTreeMap<(Company, u8, u64), PieceIndex>,
    /// Of the same pieces, those that each peer owes blocks of.
    fronts: BTreeMap<ConnId, Front>,
    /// Only pieces that failed.
    attempts: BTreeMap<PieceIndex, u32>,
    /// In endgame, every requested block by its number of requesters. Built when first needed.
    duplicable: Option<BTreeSet<(usize, Block)>>,
}

/// Who works on an open piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Company {
    Nobody,
    Sharers,
    Holder,
}

/// The pieces that a peer could go on with.
#[derive(Clone, Debug, Default)]
struct Front {
    /// The one whose turn it is comes first.
    pieces: VecDeque<PieceIndex>,
    /// How many blocks of the first were taken in this turn.
    taken: u32,
}

/// Who asks for blocks, and which pieces may be chosen.
#[derive(Clone, Copy)]
struct Wish<'a> {
    peer: ConnId,
    has: &'a Bitfield,
    style: Style,
    only: Option<&'a [PieceIndex]>,
}

impl Wish<'_> {
    fn allows(&self, piece: PieceIndex) -> bool {
        self.has.has(piece) && self.only.is_none_or(|only| only.contains(&piece))
    }

    fn alone(&self) -> bool {
        self.style != Style::Shared
    }
}

impl Picker {
    /// Every piece is missing and of normal priority; nobody is connected.
    pub fn new(lengths: Lengths, order: Order, mut rng: Rng) -> Self {
        let count = lengths.piece_count();
        Self {
            order,
            peers_per_piece: usize::MAX,
            have: Bitfield::none(count),
            needed: Bitfield::all(count),
            priorities: vec![Priority::Normal; count as usize],
            seeds: 0,
            ranking: Ranking::new(&lengths, &mut rng),
            open: BTreeMap::new(),
            opened: 0,
            joinable: BTreeMap::new(),
            fronts: BTreeMap::new(),
            attempts: BTreeMap::new(),
            duplicable: None,
            lengths,
            rng,
        }
    }

    /// The pieces whose hash passed.
    pub const fn have(&self) -> &Bitfield {
        &self.have
    }

    /// Whether `piece` is wanted and not had.
    pub fn wants(&self, piece: PieceIndex) -> bool {
        self.needed.has(piece)
    }

    /// How many pieces are wanted and not had.
    pub const fn missing(&self) -> u32 {
        self.needed.ones()
    }

    /// Whether every wanted piece is had.
    pub const fn is_complete(&self) -> bool {
        self.missing() == 0
    }

    /// How many of the pieces in `has` are wanted and not had.
    pub fn interesting(&self, has: &Bitfield) -> u32 {
        ranking::common_count(&self.needed, has)
    }

    /// How many connected peers have `piece`.
    pub fn availability(&self, piece: PieceIndex) -> u32 {
        self.seeds + self.ranking.holders(piece)
    }

    /// How many wanted pieces are neither had nor at any connected peer.
    pub fn unavailable(&self) -> u32 {
        if self.seeds > 0 {
            return 0;
        }
        let open = self.open.keys().filter(|piece| self.wants(**piece) && self.ranking.holders(**piece) == 0);
        self.ranking.without_holders() + open.count() as u32
    }

    /// Whether every block that is wanted and missing was requested, so that requesting one twice is all that is left.
    pub fn in_endgame(&self) -> bool {
        self.missing() > 0 && self.ranking.is_empty() && self.joinable.is_empty()
    }

    /// Whether every block of `piece` was received, so that its hash can be judged.
    pub fn piece_done(&self, piece: PieceIndex) -> bool {
        self.open.get(&piece).is_some_and(|open| open.received() == open.len())
    }

    /// How often `piece` failed.
    pub fn attempt(&self, piece: PieceIndex) -> u32 {
        self.attempts.get(&piece).copied().unwrap_or(0)
    }

    /// Whom each block of `piece` that is here came from. Empty once the piece is verified or failed.
    pub fn contributors(&self, piece: PieceIndex) -> impl Iterator<Item = (u32, ConnId)> + '_ {
        self.open.get(&piece).into_iter().flat_map(OpenPiece::contributors)
    }

    /// The pieces that were begun and are neither had nor failed, in order.
    pub fn open_pieces(&self) -> impl Iterator<Item = (PieceIndex, Progress)> + '_ {
        self.open.iter().map(|(piece, open)| {
            let (free, received) = (open.free(), open.received());
            (*piece, Progress { free, requested: open.len() - free - received, received })
        })
    }

    /// The peers that owe `block`.
    pub fn requesters(&self, block: Block) -> Requesters {
        self.open.get(&block.piece()).map_or(Requesters::none(), |open| open.requesters(block.number()))
    }

    /// Notes that the bytes of `piece` were found to be right, whether or not they were requested.
    pub fn set_have(&mut self, piece: PieceIndex) {
        self.close(piece);
        self.have.insert(piece);
        self.file(piece);
    }

    /// Notes that `piece` was had but is no longer, as when a file was damaged. Counts as a failed attempt.
    pub fn set_lost(&mut self, piece: PieceIndex) {
        if self.have.remove(piece) {
            *self.attempts.entry(piece).or_default() += 1;
            self.file(piece);
        }
    }

    /// How much `piece` is wanted.
    pub fn priority(&self, piece: PieceIndex) -> Priority {
        self.priorities[piece.as_usize()]
    }

    /// Sets how much `piece` is wanted. What is on its way stays so, even if the piece is skipped from now on.
    pub fn set_priority(&mut self, piece: PieceIndex, priority: Priority) {
        if self.priority(piece) != priority {
            let was = self.joinable_key(piece);
            self.priorities[piece.as_usize()] = priority;
            self.duplicable = None;
            self.file(piece);
            self.refile(piece, was, &[]);
        }
    }

    /// Sets how many peers may work on one piece at a time, at least one; in endgame more may. What is on its way
    /// stays so.
    pub fn set_peers_per_piece(&mut self, most: usize) {
        self.peers_per_piece = most.max(1);
    }

    /// Which piece is begun first.
    pub const fn order(&self) -> Order {
        self.order
    }

    /// Sets which piece is begun first.
    pub fn set_order(&mut self, order: Order) {
        let joinable: Vec<PieceIndex> = core::mem::take(&mut self.joinable).into_values().collect();
        self.order = order;
        for piece in joinable {
            let key = self.joinable_key(piece).expect("what a piece's key is made of is more than the order");
            self.joinable.insert(key, piece);
        }
    }

    /// Notes that a peer connected, and what it has. One that has everything costs no time.
    pub fn peer_joined(&mut self, has: &Bitfield) {
        if has.is_all() {
            self.seeds += 1;
        } else {
            pieces_in(&self.lengths, has).for_each(|piece| self.ranking.gained(piece));
        }
    }

    /// Notes that a peer left, and what it had at last.
    pub fn peer_left(&mut self, has: &Bitfield) {
        if has.is_all() {
            self.seeds = self.seeds.checked_sub(1).expect("a seed that leaves was counted");
        } else {
            pieces_in(&self.lengths, has).for_each(|piece| self.ranking.lost(piece));
        }
    }

    /// Notes that a connected peer has one piece more.
    pub fn peer_has(&mut self, piece: PieceIndex) {
        self.ranking.gained(piece);
    }

    /// Notes that a connected peer, which has not every piece, has one less.
    pub fn peer_lost(&mut self, piece: PieceIndex) {
        self.ranking.lost(piece);
    }

    /// Notes that a connected peer has every piece by now, and that all of them were counted.
    pub fn peer_became_seed(&mut self) {
        self.ranking.lost_all();
        self.seeds += 1;
    }

    /// Chooses up to `max` blocks for `peer` out of what it `has`, and out of the pieces in `only` if that is given;
    /// appends them to `out` and counts them as requested from it.
    ///
    /// In this order: pieces that the peer works on; open ones that nobody works on; for [`Style::Shared`] those that
    /// only such peers work on, since a slow peer would hold up the stream of a fast one; a new piece; any open piece;
    /// in endgame, blocks that others owe. But a new piece that is rarer than an open one of the others comes before
    /// it: what the peer alone has is best fetched from it.
    pub fn pick(
        &mut self,
        peer: ConnId,
        has: &Bitfield,
        style: Style,
        only: Option<&[PieceIndex]>,
        max: usize,
        out: &mut Vec<Block>,
    ) {
        let style = match (style, self.order) {
            (Style::Striped, Order::Sequential) => Style::Alone,
            (style, _) => style,
        };
        let wish = Wish { peer, has, style, only };
        for _ in 0..max {
            let Some(block) = self.next(&wish) else { break };
            out.push(block);
        }
    }

    /// Whether `piece` has both free blocks and a place for another peer, which the limit may have kept from it before.
    /// Changes by [`received`](Self::received) and [`released`](Self::released).
    pub fn has_place(&self, piece: PieceIndex) -> bool {
        self.peers_per_piece < usize::MAX
            && self
                .open
                .get(&piece)
                .is_some_and(|open| open.free() > 0 && open.workers().count() < self.peers_per_piece)
    }

    /// Notes that `block` arrived from `from`. It is welcome as long as it is missing, even if its request was given
    /// up before: late, not hostile. Whether the peer was ever asked for it is for the caller to know.
    pub fn received(&mut self, block: Block, from: ConnId) -> Receipt {
        let piece = block.piece();
        if !self.open.contains_key(&piece) {
            if !self.wants(piece) {
                return Receipt::Duplicate;
            }
            self.begin(piece);
        }
        let was = self.joinable_key(piece);
        let open = self.open.get_mut(&piece).expect("it was open or begun just now");
        let Some(asked) = open.receive(block.number(), from) else { return Receipt::Duplicate };
        if let Some(duplicable) = &mut self.duplicable {
            duplicable.remove(&(asked.len(), block));
        }
        self.refile(piece, was, &asked);
        Receipt::New { cancel: asked.without(from) }
    }

    /// Notes that `peer` owes `block` no more: its time ran out, or the peer rejected it, choked us or left. Without
    /// effect if it did not owe it.
    pub fn released(&mut self, block: Block, peer: ConnId) {
        let piece = block.piece();
        let was = self.joinable_key(piece);
        let Some(open) = self.open.get_mut(&piece) else { return };
        let asked = open.requesters(block.number()).len();
        if !open.release(block.number(), peer) {
            return;
        }
        if open.free() == open.len() {
            self.refile(piece, was, &[peer]);
            self.close(piece);
            self.file(piece);
            return;
        }
        if let Some(duplicable) = &mut self.duplicable
            && duplicable.remove(&(asked, block))
        {
            duplicable.insert((asked - 1, block));
        }
        self.refile(piece, was, &[peer]);
    }

    /// Notes that `peer` owes nothing any more.
    pub fn peer_gone(&mut self, peer: ConnId) {
        let mut owed = Vec::new();
        for (piece, open) in self.open.iter().filter(|(_, open)| open.works(peer)) {
            let numbers = open.requested().filter(|number| open.requesters(*number).contains(&peer));
            owed.extend(numbers.filter_map(|number| self.lengths.block(*piece, number)));
        }
        owed.into_iter().for_each(|block| self.released(block, peer));
    }

    /// Notes that the hash of `piece` passed.
    pub fn verified(&mut self, piece: PieceIndex) {
        assert!(self.piece_done(piece), "only a piece that is all here is verified");
        self.set_have(piece);
    }

    /// Notes that the hash of `piece` did not pass: all its blocks are missing again. Returns whom each came from.
    pub fn failed(&mut self, piece: PieceIndex) -> Vec<(u32, ConnId)> {
        assert!(self.piece_done(piece), "only a piece that is all here can fail");
        let contributors = self.contributors(piece).collect();
        *self.attempts.entry(piece).or_default() += 1;
        self.close(piece);
        self.file(piece);
        contributors
    }

    /// The next block for the one who wishes.
    fn next(&mut self, wish: &Wish) -> Option<Block> {
        let another_lane = wish.style == Style::Striped && self.end_turn(wish.peer);
        let own = self.own(wish);
        let piece = own
            .filter(|_| !another_lane)
            .or_else(|| self.join_or_begin_rarer(wish))
            .or_else(|| self.begin_one(wish))
            .or(own)
            .or_else(|| self.joinable(Company::Sharers, wish))
            .or_else(|| self.joinable(Company::Holder, wish));
        match piece {
            Some(piece) => Some(self.request_free(piece, wish)),
            None => self.request_too(wish),
        }
    }

    /// Lets the next piece of a striping peer have its turn if that of the first is over; returns whether a new piece
    /// should have it instead.
    fn end_turn(&mut self, peer: ConnId) -> bool {
        let Some(front) = self.fronts.get_mut(&peer).filter(|front| front.taken >= TURN_BLOCKS) else {
            return false;
        };
        front.taken = 0;
        front.pieces.rotate_left(1);
        front.pieces.len() < LANES
    }

    /// A piece that the peer works on.
    fn own(&self, wish: &Wish) -> Option<PieceIndex> {
        self.fronts.get(&wish.peer)?.pieces.iter().copied().find(|piece| wish.allows(*piece))
    }

    /// An open piece with a free block that `company` works on, if that leaves a place.
    fn joinable(&self, company: Company, wish: &Wish) -> Option<PieceIndex> {
        let those = self.joinable.range((company, 0, 0)..).take_while(|((at, ..), _)| *at == company);
        let has_place = |piece: &PieceIndex| self.open[piece].workers().count() < self.peers_per_piece;
        those.map(|(_, piece)| *piece).find(|piece| wish.allows(*piece) && has_place(piece))
    }

    /// An open piece to which the peer is no burden; or a new one, opened, that is rarer and no less wanted.
    fn join_or_begin_rarer(&mut self, wish: &Wish) -> Option<PieceIndex> {
        let joined = self
            .joinable(Company::Nobody, wish)
            .or_else(|| if wish.alone() { None } else { self.joinable(Company::Sharers, wish) })?;
        if wish.only.is_some() || self.order != Order::Rarest || self.have.ones() < RANDOM_PIECES {
            return Some(joined);
        }
        let rarest = self.ranking.rarest(wish.has, &mut self.rng).filter(|rarest| {
            self.priority(*rarest) >= self.priority(joined)
                && self.availability(*rarest) < self.availability(joined)
        });
        if let Some(rarest) = rarest {
            self.begin(rarest);
        }
        rarest.or(Some(joined))
    }

    /// Opens the best piece that is not open.
    fn begin_one(&mut self, wish: &Wish) -> Option<PieceIndex> {
        let piece = match (wish.only, self.order) {
            (Some(only), _) => {
                self.ranking.best_of(only.iter().copied().filter(|piece| wish.has.has(*piece)))
            }
            (None, Order::Sequential) => self.ranking.lowest(wish.has),
            // Whoever has a first few pieces can trade; rare ones come slowly.
            (None, Order::Rarest) if self.have.ones() < RANDOM_PIECES => {
                self.ranking.random(wish.has, &mut self.rng)
            }
            (None, Order::Rarest) => self.ranking.rarest(wish.has, &mut self.rng),
        }?;
        self.begin(piece);
        Some(piece)
    }

    /// Opens `piece`, which is needed.
    fn begin(&mut self, piece: PieceIndex) {
        self.ranking.remove(piece);
        self.open.insert(piece, OpenPiece::new(self.opened, self.lengths.block_count(piece)));
        self.opened += 1;
        self.refile(piece, None, &[]);
    }

    /// Forgets what is requested and received of `piece`.
    fn close(&mut self, piece: PieceIndex) {
        if let Some(key) = self.joinable_key(piece) {
            self.joinable.remove(&key);
        }
        let Some(open) = self.open.remove(&piece) else { return };
        open.workers().for_each(|peer| set_front(&mut self.fronts, peer, piece, false));
        if open.workers().next().is_some() {
            self.duplicable = None;
        }
    }

    /// Requests a free block of `piece`.
    fn request_free(&mut self, piece: PieceIndex, wish: &Wish) -> Block {
        let was = self.joinable_key(piece);
        let open = self.open.get_mut(&piece).expect("a piece is chosen from the open ones");
        let number = open.request_free(wish.peer, wish.alone()).expect("a piece is chosen for a free block");
        self.refile(piece, was, &[wish.peer]);
        if wish.style == Style::Striped
            && let Some(front) = self.fronts.get_mut(&wish.peer)
            && let Some(at) = front.pieces.iter().position(|other| *other == piece)
        {
            if at > 0 {
                front.pieces.remove(at);
                front.pieces.push_front(piece);
                front.taken = 0;
            }
            front.taken += 1;
        }
        self.lengths.block(piece, number).expect("an open piece has as many states as blocks")
    }

    /// In endgame, requests a block that others owe: one that the fewest do.
    fn request_too(&mut self, wish: &Wish) -> Option<Block> {
        if !self.in_endgame() {
            return None;
        }
        let mut duplicable = self.duplicable.take().unwrap_or_else(|| self.requested_blocks());
        let chosen = duplicable
            .iter()
            .take_while(|(owers, _)| *owers < MAX_REQUESTERS)
            .find(|(_, block)| wish.allows(block.piece()) && !self.requesters(*block).contains(&wish.peer));
        if let Some(&(owers, block)) = chosen {
            duplicable.remove(&(owers, block));
            duplicable.insert((owers + 1, block));
            let open = self.open.get_mut(&block.piece()).expect("a requested block's piece is open");
            open.request_too(block.number(), wish.peer, wish.alone());
            self.duplicable = Some(duplicable);
            return Some(block);
        }
        self.duplicable = Some(duplicable);
        None
    }

    /// Every requested block of a needed piece, by its number of requesters.
    fn requested_blocks(&self) -> BTreeSet<(usize, Block)> {
        let needed = self.open.iter().filter(|(piece, _)| self.wants(**piece));
        let requested = needed.flat_map(|(piece, open)| {
            open.requested().map(|number| (open.requesters(number).len(), self.lengths.block(*piece, number)))
        });
        requested.filter_map(|(owers, block)| Some((owers, block?))).collect()
    }

    /// Where `piece` stands among those that can be joined.
    fn joinable_key(&self, piece: PieceIndex) -> Option<(Company, u8, u64)> {
        let open = self.open.get(&piece).filter(|open| open.free() > 0 && self.wants(piece))?;
        let company = if open.is_held() {
            Company::Holder
        } else if open.workers().next().is_some() {
            Company::Sharers
        } else {
            Company::Nobody
        };
        let when = match self.order {
            Order::Rarest => open.age(),
            Order::Sequential => u64::from(piece.get()),
        };
        Some((company, Priority::High as u8 - self.priority(piece) as u8, when))
    }

    /// Brings the indexes of open pieces up to date after a change of `piece`, which stood at `was` before; `touched`
    /// are the peers that may owe blocks of it now and did not, or the other way round.
    fn refile(&mut self, piece: PieceIndex, was: Option<(Company, u8, u64)>, touched: &[ConnId]) {
        let now = self.joinable_key(piece);
        if was != now {
            if let Some(key) = was {
                self.joinable.remove(&key);
            }
            if let Some(key) = now {
                self.joinable.insert(key, piece);
                self.duplicable = None;
            }
        }
        let Some(open) = self.open.get(&piece) else { return };
        if was.is_some() != now.is_some() {
            open.workers().for_each(|peer| set_front(&mut self.fronts, peer, piece, now.is_some()));
        }
        for peer in touched {
            set_front(&mut self.fronts, *peer, piece, now.is_some() && open.works(*peer));
        }
    }

    /// Brings the sets of needed pieces and of those not begun up to date after a change of `piece`.
    fn file(&mut self, piece: PieceIndex) {
        self.ranking.remove(piece);
        if self.have.has(piece) || self.priority(piece) == Priority::Skip {
            self.needed.remove(piece);
            return;
        }
        self.needed.insert(piece);
        if !self.open.contains_key(&piece) {
            self.ranking.insert(piece, self.priority(piece));
            self.duplicable = None;
        }
    }
}

/// Says whether `peer` can go on with `piece`.
fn set_front(fronts: &mut BTreeMap<ConnId, Front>, peer: ConnId, piece: PieceIndex, can: bool) {
    if can {
        let front = fronts.entry(peer).or_default();
        if !front.pieces.contains(&piece) {
            front.pieces.push_back(piece);
        }
    } else if let Some(front) = fronts.get_mut(&peer)
        && let Some(at) = front.pieces.iter().position(|other| *other == piece)
    {
        front.pieces.remove(at);
        if at == 0 {
            front.taken = 0;
        }
        if front.pieces.is_empty() {
            fronts.remove(&peer);
        }
    }
}

fn pieces_in(lengths: &Lengths, has: &Bitfield) -> impl Iterator<Item = PieceIndex> {
    lengths.pieces().filter(|piece| has.has(*piece))
}

/// Over how many pieces a peer of [`Style::Striped`] spreads its blocks.
pub const LANES: usize = 4;

/// How many blocks of one piece such a peer takes before it goes on with the next.
pub const TURN_BLOCKS: u32 = 16;

/// Until this many pieces are had, each is begun at random.
const RANDOM_PIECES: u32 = 4;
