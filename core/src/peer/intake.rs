//! What a peer's bytes do.

use super::requests::Arrival;
use super::{Action, Arriving, MAX_QUEUED, Peer, Stage, raw};
use crate::bitfield::Bitfield;
use crate::lengths::{Block, Lengths};
use crate::machine::{Outbox, Timestamp};
use crate::session::{Intake, Reason};
use crate::store::payload::Payload;
use crate::wire::{self, DEFAULT_REQUEST_QUEUE, Frame, Handshake, Message, Offence, RawBlock};
use bytes::BytesMut;
use core::time::Duration;

impl Peer {
    /// Takes control bytes from the front of `input`, a bounded number of messages at a time.
    pub fn handle_bytes(&mut self, now: Timestamp, input: &mut BytesMut, out: &mut Outbox<Action>) -> Intake {
        for _ in 0..MAX_FRAMES {
            if self.stage == Stage::Closed {
                return Intake::Closed;
            }
            debug_assert!(self.arriving.is_none(), "the driver hands a block over before it reads on");
            match self.decoder.decode(input) {
                Ok(None) => return Intake::NeedMore,
                Ok(Some(frame)) => {
                    self.last_received = now;
                    let taken = match frame {
                        Frame::Handshake(theirs) => self.on_handshake(theirs, out),
                        Frame::Message(message) => self.on_message(now, message, out),
                        Frame::PieceHead { piece, begin, len } => {
                            match self.on_piece_head(now, piece, begin, len) {
                                Ok(()) => return Intake::Payload(len),
                                Err(offence) => Err(offence),
                            }
                        }
                    };
                    if let Err(offence) = taken {
                        self.close(offence.into(), out);
                    }
                }
                Err(offence) => self.close(offence.into(), out),
            }
        }
        if self.stage == Stage::Closed { Intake::Closed } else { Intake::Again }
    }

    /// Takes the block that [`handle_bytes`](Self::handle_bytes) announced.
    pub fn handle_payload(&mut self, now: Timestamp, payload: Payload, out: &mut Outbox<Action>) {
        let Some(arriving) = self.arriving.take() else { return };
        self.last_received = now;
        self.down_bytes += u64::from(payload.len());
        match arriving {
            Arriving::Wanted(block) => {
                assert_eq!(payload.len(), block.len(), "the driver hands over what was announced");
                self.requests.measure(now, block.len());
                out.push_back(Action::Arrived { block, payload });
            }
            Arriving::Unasked(len) => self.wasted_bytes += u64::from(len),
        }
    }

    /// Counts a block that arrived but was of no use to the torrent.
    pub fn count_wasted(&mut self, bytes: u32) {
        self.wasted_bytes += u64::from(bytes);
    }

    /// The block that is arriving is lost with the connection.
    pub fn take_arriving(&mut self) -> Option<Block> {
        match self.arriving.take() {
            Some(Arriving::Wanted(block)) => Some(block),
            _ => None,
        }
    }

    fn on_handshake(&mut self, theirs: Handshake, out: &mut Outbox<Action>) -> Result<(), Offence> {
        if theirs.info_hash != self.setup.ours.info_hash {
            return Err(Offence::UnknownInfoHash);
        }
        if theirs.peer_id == self.setup.ours.peer_id {
            self.close(Reason::Ourselves, out);
            return Ok(());
        }
        if !self.outgoing {
            wire::encode_handshake(&self.setup.ours, &mut self.control);
        }
        self.theirs = Some(theirs);
        self.stage = Stage::Open;
        if !theirs.reserved.extended() {
            self.requests.set_limit(self.setup.max_requests.min(DEFAULT_REQUEST_QUEUE));
        }
        out.push_back(Action::Greeted(theirs));
        Ok(())
    }

    fn on_message(
        &mut self,
        now: Timestamp,
        message: Message,
        out: &mut Outbox<Action>,
    ) -> Result<(), Offence> {
        let fast_only = matches!(
            message,
            Message::AllowedFast(_)
                | Message::HaveAll
                | Message::HaveNone
                | Message::Reject(_)
                | Message::Suggest(_)
        );
        if fast_only && !self.is_fast() {
            return Err(Offence::FastNotAgreed);
        }
        if !matches!(message, Message::Request(_) | Message::Cancel(_) | Message::Reject(_)) {
            self.charge(now)?;
        }
        match message {
            Message::AllowedFast(index) => self.on_allowed_fast(index),
            Message::Bitfield(bits) => match self.lengths() {
                Some(lengths) => {
                    let has = Bitfield::from_wire(&bits, lengths.piece_count());
                    out.push_back(Action::Bitfield(has.ok_or(Offence::BadBitfield)?));
                }
                None => self.claims.bitfield(&bits),
            },
            Message::Cancel(request) => self.on_cancel(request),
            Message::Choke => {
                self.they_choke = true;
                // BEP 6: with the fast extension each request that was sent still gets its answer.
                let freed =
                    if self.is_fast() { self.requests.drop_unsent() } else { self.requests.drop_all() };
                out.extend(freed.into_iter().map(Action::Freed));
            }
            Message::Extended { id, payload } => self.on_extended(now, id, &payload, out)?,
            Message::HashRequest(span) => self.say(&Message::HashReject(span)),
            Message::Hashes { .. } => return Err(Offence::HashesNotRequested),
            Message::Have(index) => match self.lengths() {
                Some(lengths) => {
                    let piece = lengths.piece(index).ok_or(Offence::HaveOutOfRange)?;
                    out.push_back(Action::Have(piece));
                }
                None => self.claims.have(index)?,
            },
            Message::HaveAll => self.on_have_all(true, out),
            Message::HaveNone => self.on_have_all(false, out),
            Message::Interested => self.on_interest(true, out),
            Message::NotInterested => self.on_interest(false, out),
            Message::Reject(request) => self.on_reject(request, out)?,
            // BEP 5: their node is worth a ping, unless it is not on the DHT that we are on.
            Message::Port(port) => {
                if port != 0
                    && self.setup.ours.reserved.dht()
                    && !core::mem::replace(&mut self.told_dht_port, true)
                {
                    out.push_back(Action::DhtPort(port));
                }
            }
            Message::Request(request) => self.on_request(now, request, out)?,
            Message::Unchoke => self.they_choke = false,
            Message::Suggest(index) => self.on_suggest(index),
            // What a later version of the protocol may say.
            Message::HashReject(_) | Message::KeepAlive | Message::Unknown { .. } => {}
        }
        Ok(())
    }

    fn on_have_all(&mut self, all: bool, out: &mut Outbox<Action>) {
        match self.lengths().map(Lengths::piece_count) {
            Some(count) if all => out.push_back(Action::Bitfield(Bitfield::all(count))),
            Some(count) => out.push_back(Action::Bitfield(Bitfield::none(count))),
            None => self.claims.have_all(all),
        }
    }

    fn on_allowed_fast(&mut self, index: u32) {
        let Some(lengths) = self.lengths() else { return self.claims.allow(index, MAX_ALLOWED) };
        if let Some(piece) = lengths.piece(index)
            && self.allowed_to_us.len() < MAX_ALLOWED
            && !self.allowed_to_us.contains(&piece)
        {
            self.allowed_to_us.push(piece);
        }
    }

    /// The latest are worth most: they are what the peer has at hand.
    fn on_suggest(&mut self, index: u32) {
        let Some(piece) = self.lengths().and_then(|lengths| lengths.piece(index)) else { return };
        self.suggested.retain(|suggested| *suggested != piece);
        if self.suggested.len() >= MAX_SUGGESTED {
            self.suggested.pop_front();
        }
        self.suggested.push_back(piece);
    }

    fn on_interest(&mut self, want: bool, out: &mut Outbox<Action>) {
        if self.they_want != want {
            self.they_want = want;
            out.push_back(Action::Interested(want));
        }
    }

    fn on_piece_head(&mut self, now: Timestamp, piece: u32, begin: u32, len: u32) -> Result<(), Offence> {
        let block = self.lengths().and_then(|lengths| lengths.check_block(piece, begin, len));
        let arrival = block.map_or(Arrival::Unasked, |block| self.requests.arrive(now, block));
        self.arriving = Some(match (block, arrival) {
            (Some(block), Arrival::Asked) => Arriving::Wanted(block),
            _ => {
                self.nuisance.unasked_blocks += 1;
                if self.nuisance.unasked_blocks > MAX_UNASKED_BLOCKS {
                    return Err(Offence::BlockNotRequested);
                }
                Arriving::Unasked(len)
            }
        });
        Ok(())
    }

    fn on_reject(&mut self, request: RawBlock, out: &mut Outbox<Action>) -> Result<(), Offence> {
        let RawBlock { piece, begin, len } = request;
        let block = self.lengths().and_then(|lengths| lengths.check_block(piece, begin, len));
        if let Some(block) = block.filter(|block| self.requests.rejected(*block)) {
            if self.they_choke {
                self.allowed_to_us.retain(|piece| *piece != block.piece());
            }
            out.push_back(Action::Freed(block));
            return Ok(());
        }
        self.nuisance.bogus_rejects += 1;
        if self.nuisance.bogus_rejects > MAX_BOGUS_REJECTS {
            return Err(Offence::RejectNotRequested);
        }
        Ok(())
    }

    fn on_request(
        &mut self,
        now: Timestamp,
        request: RawBlock,
        out: &mut Outbox<Action>,
    ) -> Result<(), Offence> {
        // Before the pieces are known nobody is unchoked.
        let Some(lengths) = self.lengths() else { return self.refuse_choked(request) };
        let block = lengths
            .check_request(request.piece, request.begin, request.len)
            .ok_or(Offence::InvalidRequest)?;
        if self.we_choke && !self.allowed_to_them.contains(&block.piece()) {
            return self.refuse_choked(request);
        }
        if self.uploads.len() >= MAX_QUEUED {
            if now.since(self.nuisance.refused_since) > REFUSED_WINDOW {
                (self.nuisance.refused, self.nuisance.refused_since) = (0, now);
            }
            self.nuisance.refused += 1;
            if self.nuisance.refused > MAX_REFUSED {
                return Err(Offence::RequestFlood);
            }
            self.refuse(request);
            return Ok(());
        }
        out.push_back(Action::Requested(block));
        Ok(())
    }

    fn refuse_choked(&mut self, request: RawBlock) -> Result<(), Offence> {
        self.nuisance.choked_requests += 1;
        if self.nuisance.choked_requests > MAX_CHOKED_REQUESTS {
            return Err(Offence::ChokedRequests);
        }
        self.refuse(request);
        Ok(())
    }

    fn on_cancel(&mut self, request: RawBlock) {
        let RawBlock { piece, begin, len } = request;
        let block = self.lengths().and_then(|lengths| lengths.check_request(piece, begin, len));
        // BEP 6: a cancelled request still gets an answer.
        if let Some(block) = block.filter(|block| self.uploads.cancel(*block))
            && self.is_fast()
        {
            self.say(&Message::Reject(raw(block)));
        }
    }

    /// Counts a message against what an honest peer sends in a lifetime this long.
    fn charge(&mut self, now: Timestamp) -> Result<(), Offence> {
        self.nuisance.messages += 1;
        let pieces = self.lengths().map_or(0, |lengths| lengths.piece_count().into());
        let allowance = MESSAGE_BURST + 2 * pieces + now.since(self.opened).as_secs() * MESSAGES_PER_S;
        if self.nuisance.messages > allowance { Err(Offence::MessageFlood) } else { Ok(()) }
    }

    pub(super) fn refuse(&mut self, block: RawBlock) {
        if self.is_fast() {
            self.say(&Message::Reject(block));
        }
    }

    pub(super) fn read_next(&mut self, out: &mut Outbox<Action>) {
        if let Some(run) = self.uploads.next_read() {
            let (piece, begin) = (run.first.piece(), run.first.begin());
            out.push_back(Action::Read { token: run.token, piece, begin, len: run.len });
        }
    }
}

/// Messages of one call, so that one peer can't hold up the others.
const MAX_FRAMES: usize = 256;

/// Pieces that a peer may allow us while it chokes us.
const MAX_ALLOWED: usize = 64;

/// Pieces that a peer suggests, of those that are remembered.
pub(super) const MAX_SUGGESTED: usize = 16;

/// Blocks nobody asked for, before the peer is sent away.
const MAX_UNASKED_BLOCKS: u32 = 16;

/// Rejects of what was not asked for, before the peer is sent away.
const MAX_BOGUS_REJECTS: u32 = 50;

/// Requests of a choked peer, before it is sent away: a full queue may be on its way when we choke.
const MAX_CHOKED_REQUESTS: u32 = 1000;

/// Requests beyond the queue within [`REFUSED_WINDOW`], before the peer is sent away (limit L3).
const MAX_REFUSED: u32 = 2000;

const REFUSED_WINDOW: Duration = Duration::from_secs(60);

/// Messages that change little: so many at once, besides two a piece, and so many a second.
const MESSAGE_BURST: u64 = 5000;
const MESSAGES_PER_S: u64 = 500;
