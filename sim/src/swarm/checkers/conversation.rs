//! What peers may say to each other: INV-S-02, 03, 09 to 13, 15 (per torrent) and 16.

use super::{BookEntry, Bounds, Facts, Observation, Verdict, hold};
use core::time::Duration;
use fast_peer_core::bitfield::Bitfield;
use fast_peer_core::id::{ConnId, InfoHash, TorrentId};
use fast_peer_core::lengths::{BLOCK_LEN, Block, Lengths};
use fast_peer_core::machine::Timestamp;
use fast_peer_core::session::Notice;
use fast_peer_core::wire::{DEFAULT_REQUEST_QUEUE, ExtendedHandshake, Extension, Frame, Message, RawBlock};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Every conversation of one client.
#[derive(Debug)]
pub(super) struct Conversations {
    bounds: Bounds,
    torrents: Vec<Torrent>,
    open: BTreeMap<ConnId, Conversation>,
}

/// What was said on one connection, as the client knows it.
#[derive(Debug)]
struct Conversation {
    /// Which of the client's torrents it is about; known from the handshake that the client sends.
    torrent: Option<usize>,
    we_choke: bool,
    they_choke: bool,
    we_want: bool,
    we_speak_fast: bool,
    they_speak_fast: bool,
    they_have: Bitfield,
    /// What they were told that we have.
    told: Bitfield,
    /// Under which number they take it that a piece is gone.
    dont_have: Option<u8>,
    /// Pieces that they serve although they choke.
    allowed_us: BTreeSet<u32>,
    /// Pieces that we serve although we choke.
    allowed_them: BTreeSet<u32>,
    their_queue: u32,
    /// What we asked for and when, until it is answered.
    owed: BTreeMap<RawBlock, Owed>,
    /// What they asked for and we have not answered, and how often.
    asked: BTreeMap<RawBlock, u32>,
}

#[derive(Clone, Copy, Debug)]
struct Owed {
    since: Timestamp,
    cancelled: bool,
}

#[derive(Debug)]
struct Torrent {
    facts: Arc<Facts>,
    id: TorrentId,
    wanted: Bitfield,
    /// What the client said that it has.
    had: Bitfield,
    blocks: Blocks,
    /// When a block was last asked for while all that were missing had owners.
    endgame_at: Option<Timestamp>,
}

/// What became of every block of a torrent.
#[derive(Debug)]
struct Blocks {
    /// The number of the first block of each piece.
    first: Vec<u32>,
    states: Vec<BlockState>,
    /// Blocks that are wanted, and neither came nor are owed.
    fresh: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct BlockState {
    wanted: bool,
    came: Came,
    owed: u16,
}

/// Whether the client has a block, as far as its pieces have not been judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Came {
    #[default]
    No,
    Perhaps,
    Yes,
}

impl Conversations {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, torrents: Vec::new(), open: BTreeMap::new() }
    }

    pub(super) fn add_torrent(&mut self, facts: &Arc<Facts>, id: TorrentId, wanted: Bitfield) {
        let blocks = Blocks::new(&facts.lengths, &wanted);
        let had = Bitfield::none(facts.lengths.piece_count());
        self.torrents.push(Torrent { facts: facts.clone(), id, wanted, had, blocks, endgame_at: None });
    }

    pub(super) fn observe(&mut self, at: Timestamp, observation: &Observation<'_>) -> Verdict {
        match *observation {
            Observation::Books { torrent, peers } => self.check_books(at, torrent, peers)?,
            Observation::BlockSent { piece, begin, good } => {
                hold(good, "INV-S-03", || format!("it serves wrong bytes in piece {piece} from {begin}"))?;
            }
            Observation::Connected { conn } | Observation::Accepted { conn, .. } => {
                self.open.insert(conn, Conversation::new());
            }
            Observation::Gone { conn } => self.close(conn),
            Observation::Notice { notice, .. } => self.on_notice(notice),
            Observation::Seen { conn, frame } => self.on_seen(at, conn, frame),
            Observation::Sent { conn, frame, false_claim, unsent } => {
                hold(false_claim.is_none(), "INV-S-02", || {
                    format!("it says that it has piece {}", false_claim.unwrap_or_default())
                })?;
                self.on_sent(at, conn, frame, unsent)?;
            }
            Observation::Verified { torrent, piece, .. } => {
                if let Some(torrent) = self.torrents.iter_mut().find(|known| known.id == torrent) {
                    torrent.has(piece);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether somebody owes a block already that is now asked of `conn`.
    pub(super) fn is_owed(&self, conn: ConnId, raw: RawBlock) -> bool {
        let Some(Conversation { torrent: Some(index), .. }) = self.open.get(&conn) else { return false };
        let torrent = &self.torrents[*index];
        let block = torrent.facts.lengths.check_block(raw.piece, raw.begin, raw.len);
        block.is_some_and(|block| torrent.blocks.state(block).owed > 0)
    }

    fn close(&mut self, conn: ConnId) {
        let Some(mut talk) = self.open.remove(&conn) else { return };
        if let Some(torrent) = talk.torrent {
            talk.release_all(&mut self.torrents[torrent]);
        }
    }

    fn on_notice(&mut self, notice: &Notice) {
        match notice {
            Notice::HashFailed { torrent, piece } => {
                if let Some(torrent) = self.torrents.iter_mut().find(|known| known.id == *torrent) {
                    torrent.blocks.lose(piece.as_usize(), Came::No);
                }
            }
            Notice::PieceLost { torrent, piece } => {
                if let Some(torrent) = self.torrents.iter_mut().find(|known| known.id == *torrent) {
                    torrent.had.remove(*piece);
                    torrent.blocks.lose(piece.as_usize(), Came::No);
                }
            }
            // What could not be written or hashed may be asked for again.
            Notice::DiskTrouble { torrent, .. } => {
                if let Some(torrent) = self.torrents.iter_mut().find(|known| known.id == *torrent) {
                    let missing = torrent.facts.lengths.pieces().filter(|piece| !torrent.had.has(*piece));
                    missing.for_each(|piece| torrent.blocks.lose(piece.as_usize(), Came::Perhaps));
                }
            }
            _ => {}
        }
    }

    fn on_seen(&mut self, at: Timestamp, conn: ConnId, frame: &Frame) {
        let Some(talk) = self.open.get_mut(&conn) else { return };
        let message = match frame {
            Frame::Handshake(handshake) => {
                talk.they_speak_fast = handshake.reserved.fast();
                return talk.join(&self.torrents, handshake.info_hash);
            }
            Frame::PieceHead { piece, begin, len } => {
                let block = RawBlock { piece: *piece, begin: *begin, len: *len };
                let Some(torrent) = talk.torrent else { return };
                let late = talk.is_late(at);
                if let Some(owed) = talk.release(block, &mut self.torrents[torrent]) {
                    // One that comes late or after a cancel may be kept or dropped.
                    let came = if owed.cancelled || late { Came::Perhaps } else { Came::Yes };
                    self.torrents[torrent].blocks.came(block, came);
                }
                return;
            }
            Frame::Message(message) => message,
        };
        let Some(torrent) = talk.torrent else { return };
        let torrent = &mut self.torrents[torrent];
        match message {
            Message::AllowedFast(piece) => {
                talk.allowed_us.insert(*piece);
            }
            Message::Bitfield(bits) => {
                if let Some(bits) = Bitfield::from_wire(bits, torrent.facts.lengths.piece_count()) {
                    talk.they_have = bits;
                }
            }
            Message::Cancel(block) if !talk.fast() => {
                talk.answer(*block);
            }
            Message::Choke => {
                talk.they_choke = true;
                // BEP 3: a choke drops every request; BEP 6: each of them is answered.
                if !talk.fast() {
                    talk.release_all(torrent);
                }
            }
            Message::Extended { id: 0, payload } => {
                let Ok(theirs) = ExtendedHandshake::parse(payload) else { return };
                talk.their_queue = theirs.request_queue.unwrap_or(talk.their_queue);
                talk.dont_have = theirs.ids.id(Extension::LtDonthave).or(talk.dont_have);
            }
            Message::Extended { id, payload } if *id == Extension::LtDonthave.our_id() => {
                let lost = payload[..].try_into().ok().map(u32::from_be_bytes);
                let Some(piece) = lost.and_then(|piece| torrent.facts.lengths.piece(piece)) else { return };
                talk.they_have.remove(piece);
                // BEP 54: without the fast extension nothing follows.
                if !talk.fast() {
                    let of_it = talk.owed.keys().filter(|block| block.piece == piece.get());
                    let gone: Vec<RawBlock> = of_it.copied().collect();
                    for block in gone {
                        talk.release(block, torrent);
                    }
                }
            }
            Message::Have(piece) => {
                if let Some(piece) = torrent.facts.lengths.piece(*piece) {
                    talk.they_have.insert(piece);
                }
            }
            Message::HaveAll => talk.they_have = Bitfield::all(torrent.facts.lengths.piece_count()),
            Message::Reject(block) => {
                talk.release(*block, torrent);
            }
            Message::Request(block) => *talk.asked.entry(*block).or_default() += 1,
            Message::Unchoke => talk.they_choke = false,
            _ => {}
        }
    }

    fn on_sent(&mut self, at: Timestamp, conn: ConnId, frame: &Frame, unsent: u32) -> Verdict {
        let Some(talk) = self.open.get_mut(&conn) else { return Ok(()) };
        let message = match frame {
            Frame::Handshake(handshake) => {
                talk.we_speak_fast = handshake.reserved.fast();
                talk.join(&self.torrents, handshake.info_hash);
                return self.check_torrent_count(conn);
            }
            Frame::PieceHead { piece, begin, len } => {
                let block = RawBlock { piece: *piece, begin: *begin, len: *len };
                let free = !talk.we_choke || talk.allowed_them.contains(piece);
                hold(free, "INV-S-16", || format!("it serves {block} to a peer that it chokes"))?;
                let asked = talk.answer(block);
                return hold(asked, "INV-S-16", || format!("it serves {block}, which nobody asked for"));
            }
            Frame::Message(message) => message,
        };
        let Some(torrent) = talk.torrent else { return Ok(()) };
        let torrent = &mut self.torrents[torrent];
        match message {
            Message::AllowedFast(piece) => {
                talk.allowed_them.insert(*piece);
            }
            Message::Bitfield(bits) => {
                if let Some(bits) = Bitfield::from_wire(bits, torrent.facts.lengths.piece_count()) {
                    let pieces = torrent.facts.lengths.pieces();
                    pieces.filter(|piece| bits.has(*piece)).for_each(|piece| torrent.has(piece.get()));
                    talk.told = bits;
                }
            }
            Message::Cancel(block) => {
                if talk.fast() {
                    talk.cancel(*block, torrent);
                } else {
                    talk.release(*block, torrent);
                }
            }
            Message::Choke => {
                talk.we_choke = true;
                if !talk.fast() {
                    talk.asked.clear();
                }
            }
            Message::Extended { id: id @ 1.., payload } if Some(*id) == talk.dont_have => {
                let lost = payload[..].try_into().ok().map(u32::from_be_bytes);
                if let Some(piece) = lost.and_then(|piece| torrent.facts.lengths.piece(piece)) {
                    talk.told.remove(piece);
                }
            }
            Message::Have(piece) => {
                torrent.has(*piece);
                if let Some(piece) = torrent.facts.lengths.piece(*piece) {
                    talk.told.insert(piece);
                }
            }
            Message::HaveAll => {
                torrent.facts.lengths.pieces().for_each(|piece| torrent.has(piece.get()));
                talk.told = Bitfield::all(torrent.facts.lengths.piece_count());
            }
            Message::Interested => talk.we_want = true,
            Message::NotInterested => talk.we_want = false,
            Message::Reject(block) => {
                talk.answer(*block);
            }
            Message::Request(block) => return self.on_request(at, conn, *block, unsent),
            Message::Unchoke => talk.we_choke = false,
            _ => {}
        }
        Ok(())
    }

    fn on_request(&mut self, at: Timestamp, conn: ConnId, raw: RawBlock, unsent: u32) -> Verdict {
        let Some(Conversation { torrent: Some(index), .. }) = self.open.get(&conn) else { return Ok(()) };
        let index = *index;
        let Some(block) = self.torrents[index].facts.lengths.check_block(raw.piece, raw.begin, raw.len)
        else {
            return hold(false, "INV-S-10", || format!("it asks for {raw}, which is no block"));
        };
        self.check_owners(at, conn, index, block, unsent)?;
        let talk = self.open.get_mut(&conn).expect("it was just found");
        let torrent = &mut self.torrents[index];
        let ask = |why: &str| format!("it asks for {raw}, {why}");
        let (piece, state) = (block.piece(), torrent.blocks.state(block));
        hold(talk.they_have.has(piece), "INV-S-10", || ask("which the peer never announced"))?;
        let free = !talk.they_choke || talk.allowed_us.contains(&raw.piece);
        hold(free, "INV-S-10", || ask("although the peer chokes"))?;
        hold(talk.we_want, "INV-S-10", || ask("without being interested"))?;
        hold(!torrent.had.has(piece), "INV-S-12", || ask("of a piece that it has"))?;
        hold(torrent.wanted.has(piece), "INV-S-12", || ask("which nobody wants"))?;
        hold(state.came != Came::Yes, "INV-S-12", || ask("which came already"))?;
        talk.owe(at, raw, torrent);
        let (count, most) = (talk.owed.len(), talk.their_queue.min(MAX_OUTSTANDING) as usize);
        hold(count <= most, "INV-S-11", || format!("{count} requests are out, {most} may be"))
    }

    /// Whether `conn` may be asked for `block`, given who else owes it.
    fn check_owners(
        &mut self,
        at: Timestamp,
        conn: ConnId,
        index: usize,
        block: Block,
        unsent: u32,
    ) -> Verdict {
        let torrent = &self.torrents[index];
        let state = torrent.blocks.state(block);
        if state.owed == 0 {
            return Ok(());
        }
        let raw = RawBlock { piece: block.piece().get(), begin: block.begin(), len: block.len() };
        let live = |talk: &Conversation| {
            let owed = talk.owed.get(&raw).is_some_and(|owed| !owed.cancelled);
            talk.torrent == Some(index) && owed && !talk.is_late(at)
        };
        let owners = self.open.iter().filter(|(other, talk)| **other != conn && live(talk)).count();
        hold(owners < MAX_OWNERS, "INV-S-09", || format!("{raw} is owed by {owners} others"))?;
        // What waits to be sent has an owner, too.
        let torrent = &mut self.torrents[index];
        if torrent.blocks.fresh <= unsent {
            torrent.endgame_at = Some(at);
        }
        // A request that was chosen in the endgame may wait for its socket while the endgame ends.
        let endgame = torrent.endgame_at.is_some_and(|was| at.since(was) <= ENDGAME_LASTS);
        // What comes by uTP is not seen, so that more blocks seem to be free than are.
        hold(owners == 0 || endgame || self.bounds.utp, "INV-S-09", || {
            let (fresh, first) = (torrent.blocks.fresh, torrent.blocks.first_fresh());
            format!("{raw} is asked for twice while {fresh} blocks are free, the first in piece {first:?}")
        })
    }

    /// Whether the client's books say of its peers what they said and were told.
    fn check_books(&self, at: Timestamp, id: TorrentId, peers: &[BookEntry]) -> Verdict {
        let unchoked = peers.iter().filter(|peer| !peer.we_choke).count() as u32;
        let most = self.bounds.unchoked;
        hold(unchoked <= most, "INV-S-16", || format!("it unchokes {unchoked} peers, {most} may be"))?;
        for peer in peers {
            let Some(talk) = self.open.get(&peer.conn) else { continue };
            if talk.torrent.is_none_or(|index| self.torrents[index].id != id) {
                continue;
            }
            let (conn, out) = (peer.conn, peer.outstanding);
            hold(talk.they_have == peer.has, "INV-S-14", || {
                format!("it believes that {conn} has {}, and {} was said", peer.has, talk.they_have)
            })?;
            // Cancelled requests are out on the wire and no more in the books; those in the books are all on the wire
            // or about to be.
            let most = talk.their_queue.min(MAX_OUTSTANDING) as usize;
            hold(out <= most, "INV-S-11", || format!("{out} requests to {conn} are out, {most} may be"))?;
            talk.check_owed(at, peer)?;
            // What waits to be written may say it.
            if !peer.unwritten {
                talk.check_told(&self.torrents)?;
            }
        }
        Ok(())
    }

    fn check_torrent_count(&self, conn: ConnId) -> Verdict {
        let torrent = self.open[&conn].torrent;
        let count = self.open.values().filter(|talk| talk.torrent == torrent).count();
        let most = self.bounds.connections_per_torrent as usize;
        hold(torrent.is_none() || count <= most, "INV-S-15", || format!("{count} connections for a torrent"))
    }
}

impl Conversation {
    fn new() -> Self {
        Self {
            torrent: None,
            we_choke: true,
            they_choke: true,
            we_want: false,
            we_speak_fast: false,
            they_speak_fast: false,
            they_have: Bitfield::none(0),
            told: Bitfield::none(0),
            dont_have: None,
            allowed_us: BTreeSet::new(),
            allowed_them: BTreeSet::new(),
            their_queue: DEFAULT_REQUEST_QUEUE,
            owed: BTreeMap::new(),
            asked: BTreeMap::new(),
        }
    }

    fn fast(&self) -> bool {
        self.we_speak_fast && self.they_speak_fast
    }

    fn join(&mut self, torrents: &[Torrent], info_hash: InfoHash) {
        if self.torrent.is_none() {
            self.torrent = torrents.iter().position(|torrent| torrent.facts.info_hash == info_hash);
            let pieces = self.torrent.map_or(0, |index| torrents[index].facts.lengths.piece_count());
            self.they_have = Bitfield::none(pieces);
            self.told = Bitfield::none(pieces);
        }
    }

    /// Whether who can hear that a piece is gone believes in none that is.
    fn check_told(&self, torrents: &[Torrent]) -> Verdict {
        let Some(torrent) = self.torrent.filter(|_| self.dont_have.is_some()) else { return Ok(()) };
        let Torrent { facts, had, .. } = &torrents[torrent];
        let mut told = facts.lengths.pieces().filter(|piece| self.told.has(*piece));
        let gone = told.find(|piece| !had.has(*piece));
        hold(gone.is_none(), "INV-S-02", || format!("a peer still believes that it has {gone:?}"))
    }

    /// Whether the peer has owed something for so long that the client may have given up waiting for all it owes,
    /// which shows nowhere.
    fn is_late(&self, at: Timestamp) -> bool {
        self.owed.values().any(|owed| at.since(owed.since) >= LAPSES_AFTER)
    }

    /// A request of theirs is answered; whether there was one.
    fn answer(&mut self, block: RawBlock) -> bool {
        let Some(count) = self.asked.get_mut(&block) else { return false };
        *count -= 1;
        if *count == 0 {
            self.asked.remove(&block);
        }
        true
    }

    /// Whether the client has in its books exactly the requests that nothing has ended: no block, reject or cancel, and
    /// no choke where that ends them.
    fn check_owed(&self, at: Timestamp, peer: &BookEntry) -> Verdict {
        let conn = peer.conn;
        for block in &peer.owed {
            let owed = self.owed.get(block).is_some_and(|owed| !owed.cancelled);
            hold(owed, "INV-S-13", || format!("it waits for {block} from {conn}, which was answered"))?;
        }
        // Of what it gave up for lack of time it says nothing; a cancel may wait to be written.
        if self.is_late(at) || peer.unwritten {
            return Ok(());
        }
        let known = |block: &RawBlock| peer.owed.contains(block) || peer.arriving == Some(*block);
        let forgotten = self.owed.iter().find(|(block, owed)| !owed.cancelled && !known(block));
        hold(forgotten.is_none(), "INV-S-13", || {
            format!("it forgot {}, which {conn} owes", forgotten.expect("there is one").0)
        })
    }

    fn owe(&mut self, at: Timestamp, block: RawBlock, torrent: &mut Torrent) {
        let before = self.owed.insert(block, Owed { since: at, cancelled: false });
        if before.is_none_or(|before| before.cancelled) {
            torrent.blocks.owe(block);
        }
    }

    fn cancel(&mut self, block: RawBlock, torrent: &mut Torrent) {
        if let Some(owed) = self.owed.get_mut(&block)
            && !owed.cancelled
        {
            owed.cancelled = true;
            torrent.blocks.release(block);
        }
    }

    fn release(&mut self, block: RawBlock, torrent: &mut Torrent) -> Option<Owed> {
        let owed = self.owed.remove(&block)?;
        if !owed.cancelled {
            torrent.blocks.release(block);
        }
        Some(owed)
    }

    fn release_all(&mut self, torrent: &mut Torrent) {
        while let Some((block, owed)) = self.owed.pop_first() {
            if !owed.cancelled {
                torrent.blocks.release(block);
            }
        }
    }
}

impl Torrent {
    fn has(&mut self, piece: u32) {
        if let Some(piece) = self.facts.lengths.piece(piece)
            && self.had.insert(piece)
        {
            self.facts.lengths.blocks(piece).for_each(|block| {
                let raw = RawBlock { piece: piece.get(), begin: block.begin(), len: block.len() };
                self.blocks.came(raw, Came::Yes);
            });
        }
    }
}

impl Blocks {
    fn new(lengths: &Lengths, wanted: &Bitfield) -> Self {
        let (mut first, mut states) = (Vec::with_capacity(lengths.piece_count() as usize), Vec::new());
        for piece in lengths.pieces() {
            first.push(states.len() as u32);
            let state = BlockState { wanted: wanted.has(piece), ..BlockState::default() };
            states.extend((0..lengths.block_count(piece)).map(|_| state));
        }
        let fresh = states.iter().filter(|state| state.wanted).count() as u32;
        Self { first, states, fresh }
    }

    fn state(&self, block: Block) -> BlockState {
        self.states[(self.first[block.piece().as_usize()] + block.number()) as usize]
    }

    /// Changes the block that `raw` names, if it names one.
    fn change(&mut self, raw: RawBlock, change: impl FnOnce(&mut BlockState)) {
        let number = raw.begin / BLOCK_LEN;
        let Some(first) = self.first.get(raw.piece as usize) else { return };
        if let Some(state) = self.states.get_mut((first + number) as usize) {
            let before = state.is_fresh();
            change(state);
            self.fresh = self.fresh + u32::from(state.is_fresh()) - u32::from(before);
        }
    }

    /// The piece and number of the first block that is wanted, and neither came nor is owed.
    fn first_fresh(&self) -> Option<(usize, u32)> {
        let at = self.states.iter().position(|state| state.is_fresh())? as u32;
        let piece = self.first.partition_point(|first| *first <= at) - 1;
        Some((piece, at - self.first[piece]))
    }

    fn owe(&mut self, raw: RawBlock) {
        self.change(raw, |state| state.owed += 1);
    }

    fn release(&mut self, raw: RawBlock) {
        self.change(raw, |state| state.owed -= 1);
    }

    fn came(&mut self, raw: RawBlock, came: Came) {
        self.change(raw, |state| state.came = state.came.max(came));
    }

    /// The blocks of a piece that came are lost, or may be.
    fn lose(&mut self, piece: usize, left: Came) {
        let end = self.first.get(piece + 1).map_or(self.states.len(), |next| *next as usize);
        for state in &mut self.states[self.first[piece] as usize..end] {
            let before = state.is_fresh();
            if state.came != Came::No {
                state.came = left;
            }
            self.fresh = self.fresh + u32::from(state.is_fresh()) - u32::from(before);
        }
    }
}

impl BlockState {
    fn is_fresh(self) -> bool {
        self.wanted && self.came == Came::No && self.owed == 0
    }
}

/// The most requests that may be out at one peer (limit L2).
const MAX_OUTSTANDING: u32 = 500;

/// The most peers that may owe one block.
const MAX_OWNERS: usize = 3;

/// How long a request may wait for its socket.
const ENDGAME_LASTS: Duration = Duration::from_secs(5);

/// A peer may be given up that owes a block for so long.
const LAPSES_AFTER: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests;
