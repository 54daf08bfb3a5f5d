//! A peer whose other end the tests are.

use super::{INTERESTED, UNCHOKE};
use crate::bitfield::Bitfield;
use crate::id::{ConnId, InfoHash, PeerId};
use crate::lengths::{Block, FileMap};
use crate::machine::{Machine as _, Outbox, Timestamp};
use crate::peer::{Action, Event, Hello, Offer, Peer, Setup};
use crate::session::{Intake, Segment, WriteBatch};
use crate::store::payload::Payload;
use crate::wire::{Extension, ExtensionIds, Handshake, Reserved};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use bytes::BytesMut;
use core::time::Duration;

/// A peer, with what a driver and a torrent do for it.
pub(super) struct End {
    pub(super) peer: Peer,
    pub(super) map: Arc<FileMap>,
    pub(super) input: BytesMut,
    pub(super) arriving: Option<u32>,
    pub(super) now: Timestamp,
}

impl End {
    pub(super) fn new(outgoing: bool, reserved: Reserved) -> Self {
        Self::with_pieces(outgoing, reserved, true)
    }

    pub(super) fn with_pieces(outgoing: bool, reserved: Reserved, known: bool) -> Self {
        let map = Arc::new(FileMap::contiguous(&[(10 << 15, false)], 1 << 15).unwrap());
        let setup = Setup {
            ours: greeting(reserved, 7, 1),
            map: known.then(|| Arc::clone(&map)),
            listen_port: 6881,
            max_requests: 250,
            client: String::from("x"),
        };
        let remote = "203.0.113.9:6881".parse().unwrap();
        let new = if outgoing { Peer::outgoing } else { Peer::incoming };
        let peer = new(Timestamp::ZERO, ConnId(0), remote, setup);
        Self { peer, map, input: BytesMut::new(), arriving: None, now: Timestamp::ZERO }
    }

    /// After the handshakes.
    pub(super) fn open(reserved: Reserved) -> Self {
        let mut end = Self::new(false, reserved);
        end.bytes(&handshake(reserved, 7, 2));
        end.written();
        end
    }

    /// After the handshakes, when nobody knows yet how many pieces there are.
    pub(super) fn without_pieces(reserved: Reserved) -> Self {
        let mut end = Self::with_pieces(false, reserved, false);
        end.bytes(&handshake(reserved, 7, 2));
        end.written();
        end
    }

    /// Unchoked, with the first blocks of so many pieces asked for.
    pub(super) fn downloading(reserved: Reserved, requests: u32) -> Self {
        let mut end = Self::open(reserved);
        end.bytes(UNCHOKE);
        end.event(Event::Interest(true));
        let blocks: Vec<_> = (0..requests).map(|piece| end.block(piece, 0)).collect();
        end.event(Event::Assigned(blocks.clone()));
        let expected: Vec<_> = blocks.into_iter().flat_map(|block| request(6, block)).collect();
        assert_eq!(end.written(), [INTERESTED, &expected].concat());
        end
    }

    pub(super) fn block(&self, piece: u32, number: u32) -> Block {
        let lengths = self.map.lengths();
        lengths.block(lengths.piece(piece).unwrap(), number).unwrap()
    }

    pub(super) fn event(&mut self, event: Event) -> Vec<Action> {
        let mut out = Outbox::new();
        self.peer.handle_event(self.now, event, &mut out);
        out.into()
    }

    pub(super) fn at(&mut self, since_start: Duration) -> Vec<Action> {
        self.now = Timestamp::ZERO + since_start;
        let mut out = Outbox::new();
        self.peer.handle_timeout(self.now, &mut out);
        out.into()
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Vec<Action> {
        let mut out = Outbox::new();
        self.input.extend_from_slice(bytes);
        loop {
            if let Some(len) = self.arriving {
                if self.input.len() < len as usize {
                    break;
                }
                self.arriving = None;
                let block = self.input.split_to(len as usize).freeze();
                self.peer.handle_payload(self.now, Payload::Content(block), &mut out);
            }
            match self.peer.handle_bytes(self.now, &mut self.input, &mut out) {
                Intake::Again => {}
                Intake::Payload(len) => self.arriving = Some(len),
                Intake::Closed | Intake::NeedMore => break,
            }
        }
        out.into()
    }

    /// The blocks that are answered in what is to be written, by themselves or by a reject.
    pub(super) fn answers(&mut self) -> Vec<Block> {
        let (mut batch, mut out) = (WriteBatch::default(), Outbox::new());
        self.peer.poll_stream(self.now, usize::MAX, &[], &mut batch, &mut out);
        assert!(out.is_empty(), "reads go on when one is answered");
        let mut written = BytesMut::new();
        for segment in &batch.segments {
            match segment {
                Segment::Inline(bytes) => written.extend_from_slice(bytes),
                Segment::Payload(payload) => written.extend_from_slice(&vec![0; payload.len() as usize]),
            }
        }
        let lengths = self.map.lengths();
        let mut answers = vec![];
        while !written.is_empty() {
            let len = u32::from_be_bytes(*written.first_chunk().unwrap()) as usize;
            let frame = written.split_to(4 + len);
            let number = |at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().unwrap());
            let raw = match frame.get(4) {
                Some(7) => (number(5), number(9), len as u32 - 9),
                Some(16) => (number(5), number(9), number(13)),
                _ => continue,
            };
            answers.push(lengths.check_block(raw.0, raw.1, raw.2).unwrap());
        }
        answers
    }

    /// Keeps what is to be read and what is to be judged.
    pub(super) fn note(&mut self, said: Vec<Action>, reads: &mut Vec<(u64, u32)>, wanted: &mut Vec<Block>) {
        for action in said {
            match action {
                Action::Read { token, len, .. } => reads.push((token, len)),
                Action::Requested(block) => wanted.push(block),
                _ => {}
            }
        }
    }

    /// All that is to be written, with zeros for blocks whose bytes are not there.
    pub(super) fn written(&mut self) -> Vec<u8> {
        let (mut batch, mut out) = (WriteBatch::default(), Outbox::new());
        self.peer.poll_stream(self.now, usize::MAX, &[], &mut batch, &mut out);
        let bytes = batch.segments.iter().map(|segment| match segment {
            Segment::Inline(bytes) => bytes.to_vec(),
            Segment::Payload(payload) => vec![0; payload.len() as usize],
        });
        bytes.collect::<Vec<_>>().concat()
    }
}

pub(super) fn hello() -> Hello {
    let offer = Offer { ids: ExtensionIds::ours([Extension::UtMetadata]), metadata_len: None };
    Hello { have: Bitfield::none(10), told: 0, allowed: vec![], upload_only: false, offer }
}

pub(super) fn greeting(reserved: Reserved, torrent: u8, who: u8) -> Handshake {
    Handshake { reserved, info_hash: InfoHash([torrent; 20]), peer_id: PeerId([who; 20]) }
}

pub(super) fn handshake(reserved: Reserved, torrent: u8, who: u8) -> Vec<u8> {
    [b"\x13BitTorrent protocol", &reserved.0[..], &[torrent; 20], &[who; 20]].concat()
}

/// A request (6), cancel (8) or reject (16): three numbers after the id (BEP 3, 6).
pub(super) fn request(id: u8, block: Block) -> Vec<u8> {
    let numbers = [block.piece().get(), block.begin(), block.len()];
    [&[0, 0, 0, 13, id][..], &numbers.map(u32::to_be_bytes).concat()].concat()
}

/// Extended (20): the id of the extension and what it says (BEP 10).
pub(super) fn extended(id: u8, payload: &[u8]) -> Vec<u8> {
    [&(2 + payload.len() as u32).to_be_bytes()[..], &[20, id], payload].concat()
}

/// Piece (7): two numbers and a block of zeros.
pub(super) fn piece(block: Block) -> Vec<u8> {
    let head = [9 + block.len(), block.piece().get(), block.begin()].map(u32::to_be_bytes);
    [&head[0][..], &[7], &head[1], &head[2], &vec![0; block.len() as usize]].concat()
}

pub(super) fn arrived(block: Block) -> Action {
    Action::Arrived { block, payload: Payload::Content(vec![0; block.len() as usize].into()) }
}
