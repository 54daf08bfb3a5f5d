//! The life of a connection to a peer.

use super::{Subject, garbage};
use crate::bitfield::Bitfield;
use crate::id::{ConnId, InfoHash, PeerId};
use crate::lengths::{Block, FileMap};
use crate::machine::{Machine, Outbox, Timestamp};
use crate::peer::{self, Peer};
use crate::rng::Rng;
use crate::session::{Intake, WriteBatch};
use crate::store::payload::Payload;
use crate::wire::{self, Handshake, Message, RawBlock, Reserved};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use bytes::{Bytes, BytesMut};
use core::fmt::{self, Debug};

/// A peer, its torrent and the other end, none of which makes much sense.
pub(super) struct Conversing {
    peer: Peer,
    map: Arc<FileMap>,
    input: BytesMut,
    /// The length of the block that is arriving.
    payload: Option<u32>,
    reads: Vec<(u64, u32)>,
    closed: bool,
}

#[derive(Debug)]
pub(super) enum PeerInput {
    Bytes(Bytes),
    Event(peer::Event),
    Pull,
}

impl Subject for Conversing {
    type Input = PeerInput;
    type Machine = Peer;

    fn new(now: Timestamp, rng: &mut Rng) -> Self {
        let map = Arc::new(FileMap::contiguous(&[(10 * 40_000, false)], 40_000).unwrap());
        let setup = peer::Setup {
            ours: greeting(rng, 1),
            map: Some(Arc::clone(&map)),
            listen_port: 6881,
            max_requests: rng.below(300) as u32,
            client: String::from("laws"),
        };
        let remote = "203.0.113.9:6881".parse().unwrap();
        let peer = if rng.chance(1, 2) {
            Peer::outgoing(now, ConnId(0), remote, setup)
        } else {
            Peer::incoming(now, ConnId(0), remote, setup)
        };
        Self { peer, map, input: BytesMut::new(), payload: None, reads: vec![], closed: false }
    }

    fn machine(&mut self) -> &mut Peer {
        &mut self.peer
    }

    fn draw(&self, rng: &mut Rng) -> PeerInput {
        // Nothing can come over a connection that is not open.
        let connecting = self.peer.is_connecting();
        match rng.below(8) {
            0..=2 if connecting => PeerInput::Event(peer::Event::Connected),
            0..=2 => PeerInput::Pull,
            3..=5 if !connecting => PeerInput::Bytes(self.bytes(rng)),
            _ => PeerInput::Event(self.event(rng)),
        }
    }

    fn feed(&mut self, now: Timestamp, input: &PeerInput, out: &mut Outbox<peer::Action>) {
        match input {
            PeerInput::Bytes(bytes) => {
                self.input.extend_from_slice(bytes);
                self.read(now, out);
            }
            PeerInput::Event(event) => self.peer.handle_event(now, event.clone(), out),
            PeerInput::Pull => {
                let completed: Vec<_> = self.map.lengths().pieces().take(3).collect();
                self.peer.poll_stream(now, 1 << 16, &completed, &mut WriteBatch::default(), out);
            }
        }
    }

    fn hear(&mut self, said: &peer::Action) {
        match said {
            peer::Action::Disconnect(_) => {
                assert!(!self.closed, "a connection is closed once");
                self.closed = true;
            }
            peer::Action::Read { token, len, .. } => self.reads.push((*token, *len)),
            _ => {}
        }
    }

    fn is_closed(&self) -> bool {
        self.closed
    }
}

/// Only the machine is of interest, and blocks are long.
impl Debug for Conversing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.peer.fmt(f)
    }
}

impl Conversing {
    fn block(&self, rng: &mut Rng) -> Block {
        let lengths = self.map.lengths();
        let piece = lengths.piece(rng.below(lengths.piece_count().into()) as u32).unwrap();
        lengths.block(piece, rng.below(lengths.block_count(piece).into()) as u32).unwrap()
    }

    fn event(&self, rng: &mut Rng) -> peer::Event {
        let block = self.block(rng);
        match rng.below(16) {
            0..=2 => peer::Event::Assigned((0..rng.below(9)).map(|_| self.block(rng)).collect()),
            3 => peer::Event::Cancel(block),
            4 | 5 => peer::Event::Connected,
            6 => peer::Event::Hello(peer::Hello {
                have: if rng.chance(1, 2) { Bitfield::all(10) } else { Bitfield::none(10) },
                told: rng.below(4) as usize,
                allowed: vec![block.piece()],
                upload_only: rng.chance(1, 2),
                offer: peer::Offer::default(),
            }),
            7 => peer::Event::Interest(rng.chance(3, 4)),
            8..=10 => {
                let asked = self.reads.get(rng.below(self.reads.len() as u64) as usize);
                let (token, len) = asked.copied().unwrap_or((rng.next_u64(), 1));
                peer::Event::Read { token, payload: rng.chance(7, 8).then_some(Payload::Length(len)) }
            }
            11 => peer::Event::Refuse(block),
            12 | 13 => peer::Event::Serve(block),
            _ => peer::Event::SetChoke(rng.chance(1, 3)),
        }
    }

    fn bytes(&self, rng: &mut Rng) -> Bytes {
        let mut bytes = BytesMut::new();
        if self.peer.handshake().is_none() {
            wire::encode_handshake(&greeting(rng, 2), &mut bytes);
            return bytes.freeze();
        }
        let block = self.block(rng);
        let part = RawBlock { piece: block.piece().get(), begin: block.begin(), len: block.len() };
        // Without the fast extension these would end almost every life early.
        let kind = rng.below(32);
        let kind = if self.peer.is_fast() || rng.chance(1, 16) { kind } else { kind.clamp(1, 27) };
        let message = match kind {
            0 => Message::AllowedFast(part.piece),
            1 => Message::Bitfield(Bytes::from_static(&[0xff, 0xc0])),
            2 => Message::Cancel(part),
            3 => Message::Choke,
            4 => Message::Extended { id: 0, payload: Bytes::from_static(b"d4:reqqi3ee") },
            5 => Message::Have(rng.below(100) as u32 % 11),
            6 => Message::Interested,
            7 => Message::NotInterested,
            31 => Message::Reject(part),
            8..=14 => Message::Request(part),
            15..=18 => Message::Unchoke,
            19..=27 => Message::KeepAlive,
            28 if rng.chance(1, 4) => return garbage(rng, 60),
            _ => {
                wire::encode_piece_head(part.piece, part.begin, part.len, &mut bytes);
                bytes.resize(bytes.len() + part.len as usize, 0);
                return bytes.freeze();
            }
        };
        wire::encode(&message, &mut bytes);
        // Some messages lack their end: the next one is read as that.
        bytes.truncate(bytes.len() - usize::from(rng.chance(1, 200)));
        bytes.freeze()
    }

    /// What a driver does with bytes.
    fn read(&mut self, now: Timestamp, out: &mut Outbox<peer::Action>) {
        loop {
            if let Some(len) = self.payload {
                if self.input.len() < len as usize {
                    return;
                }
                self.payload = None;
                let block = self.input.split_to(len as usize).freeze();
                self.peer.handle_payload(now, Payload::Content(block), out);
            }
            match self.peer.handle_bytes(now, &mut self.input, out) {
                Intake::Again => {}
                Intake::Payload(len) => self.payload = Some(len),
                Intake::Closed | Intake::NeedMore => return,
            }
        }
    }
}

pub(super) fn greeting(rng: &mut Rng, who: u8) -> Handshake {
    let mut reserved = Reserved::NONE;
    if rng.chance(3, 4) {
        reserved = reserved.with_fast();
    }
    if rng.chance(3, 4) {
        reserved = reserved.with_extended();
    }
    Handshake { reserved, info_hash: InfoHash([7; 20]), peer_id: PeerId([who; 20]) }
}
