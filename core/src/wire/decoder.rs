//! Bytes to frames.

use super::handshake::{HANDSHAKE_LEN, Handshake, INFO_HASH_END, PROTOCOL};
use super::message::{HashSpan, Message, PIECE_HEAD_LEN, RawBlock, id};
use super::offence::Offence;
use crate::bitfield::Bitfield;
use crate::id::InfoHash;
use crate::lengths::{BLOCK_LEN, MAX_PIECES};
use bytes::{Buf as _, Bytes, BytesMut};
use core::fmt;

/// The longest payload of an extended message (limit L1).
pub const MAX_EXTENDED_LEN: u32 = 128 * 1024;

/// The longest payload of a `hashes` message (limit L1).
pub const MAX_HASHES_LEN: u32 = 64 * 1024;

/// The longest payload of a message of unknown kind (limit L1).
pub const MAX_OTHER_LEN: u32 = 1024;

/// What a decoder found at the start of its input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The handshake: the first frame, and only that.
    Handshake(Handshake),
    /// A whole message.
    Message(Message),
    /// The head of a `piece` message: the next `len` bytes of the stream are the block. They have to be taken from the
    /// stream before the decoder is called again.
    PieceHead {
        /// The number of the piece.
        piece: u32,
        /// Where in the piece the block begins.
        begin: u32,
        /// How long the block is: 1 to [`BLOCK_LEN`].
        len: u32,
    },
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handshake(handshake) => handshake.fmt(f),
            Self::Message(message) => message.fmt(f),
            Self::PieceHead { piece, begin, len } => write!(f, "piece {piece}:{begin} len={len}"),
        }
    }
}

/// Reads what one peer sends.
///
/// It holds no bytes of its own: what is not yet a whole frame stays in the caller's buffer, and a length that a peer
/// claims never makes anything grow. A payload that comes out shares the buffer it came in.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    handshaken: bool,
    piece_count: Option<u32>,
}

impl Decoder {
    /// A decoder that expects a handshake.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says how many pieces the torrent has, once this is known. From then on a `bitfield` must have exactly that many;
    /// before, any number up to [`MAX_PIECES`] passes.
    pub fn set_piece_count(&mut self, count: Option<u32>) {
        self.piece_count = count;
    }

    /// The torrent that a handshake asks for, as soon as its first 48 bytes are there: an acceptor may answer before
    /// the peer id has come.
    pub fn peek_info_hash(input: &BytesMut) -> Option<InfoHash> {
        let (head, info_hash) = input.first_chunk::<INFO_HASH_END>()?.split_last_chunk()?;
        head.starts_with(PROTOCOL).then_some(InfoHash(*info_hash))
    }

    /// Takes the next frame from `input`, or `None` if more bytes are needed. After an offence nothing is taken, and
    /// another call gives the same offence.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, Offence> {
        if !self.handshaken {
            return self.decode_handshake(input);
        }
        let Some(prefix) = input.first_chunk() else { return Ok(None) };
        let len = u32::from_be_bytes(*prefix);
        if len == 0 {
            input.advance(LENGTH_PREFIX);
            return Ok(Some(Frame::Message(Message::KeepAlive)));
        }
        if len > MAX_FRAME_LEN {
            return Err(Offence::FrameTooLong);
        }
        let Some(&id) = input.get(LENGTH_PREFIX) else { return Ok(None) };
        self.check_len(id, len)?;
        if id == id::PIECE {
            let Some(head) = input.first_chunk::<PIECE_HEAD_LEN>() else { return Ok(None) };
            let [piece, begin] = numbers(&head[5..]);
            input.advance(PIECE_HEAD_LEN);
            return Ok(Some(Frame::PieceHead { piece, begin, len: len - 9 }));
        }
        let end = LENGTH_PREFIX + len as usize;
        if input.len() < end {
            return Ok(None);
        }
        Ok(Some(Frame::Message(take_message(id, end, input))))
    }

    fn decode_handshake(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, Offence> {
        let known = input.len().min(PROTOCOL.len());
        if input[..known] != PROTOCOL[..known] {
            return Err(Offence::HandshakeProtocol);
        }
        let Some(bytes) = input.first_chunk::<HANDSHAKE_LEN>() else { return Ok(None) };
        let handshake = Handshake::parse(bytes);
        input.advance(HANDSHAKE_LEN);
        self.handshaken = true;
        Ok(Some(Frame::Handshake(handshake)))
    }

    /// Whether a message `id` may have a frame of `len` bytes, the id counted.
    fn check_len(&self, id: u8, len: u32) -> Result<(), Offence> {
        let (min, max) = match id {
            id::CHOKE | id::UNCHOKE | id::INTERESTED | id::NOT_INTERESTED | id::HAVE_ALL | id::HAVE_NONE => {
                (1, 1)
            }
            id::HAVE | id::SUGGEST | id::ALLOWED_FAST => (5, 5),
            id::BITFIELD => match self.piece_count {
                Some(count) if len as usize != 1 + Bitfield::byte_len(count) => {
                    return Err(Offence::BadBitfield);
                }
                _ => (1, MAX_FRAME_LEN),
            },
            id::REQUEST | id::CANCEL | id::REJECT => (13, 13),
            id::PIECE => (10, 9 + BLOCK_LEN),
            id::PORT => (3, 3),
            id::EXTENDED => (2, 2 + MAX_EXTENDED_LEN),
            id::HASH_REQUEST | id::HASH_REJECT => (HASH_FRAME_LEN, HASH_FRAME_LEN),
            id::HASHES if len >= HASH_FRAME_LEN && (len - HASH_FRAME_LEN) % 32 != 0 => {
                return Err(Offence::BadHashes);
            }
            id::HASHES => (HASH_FRAME_LEN, 1 + MAX_HASHES_LEN),
            _ => (1, 1 + MAX_OTHER_LEN),
        };
        if len > max {
            Err(Offence::FrameTooLong)
        } else if len < min {
            Err(Offence::FrameTooShort)
        } else {
            Ok(())
        }
    }
}

/// Takes a frame of `end` bytes, whose length was checked, from `input`. Only payloads that are kept are split off: it
/// costs an allocation to share a buffer.
fn take_message(id: u8, end: usize, input: &mut BytesMut) -> Message {
    let body = &input[LENGTH_PREFIX + 1..end];
    let message = match id {
        id::CHOKE => Message::Choke,
        id::UNCHOKE => Message::Unchoke,
        id::INTERESTED => Message::Interested,
        id::NOT_INTERESTED => Message::NotInterested,
        id::HAVE => Message::Have(number(body)),
        id::BITFIELD => return Message::Bitfield(take_payload(0, end, input)),
        id::REQUEST => Message::Request(block(body)),
        id::CANCEL => Message::Cancel(block(body)),
        id::PORT => Message::Port(u16::from_be_bytes([body[0], body[1]])),
        id::SUGGEST => Message::Suggest(number(body)),
        id::HAVE_ALL => Message::HaveAll,
        id::HAVE_NONE => Message::HaveNone,
        id::REJECT => Message::Reject(block(body)),
        id::ALLOWED_FAST => Message::AllowedFast(number(body)),
        id::EXTENDED => {
            let id = body[0];
            return Message::Extended { id, payload: take_payload(1, end, input) };
        }
        id::HASH_REQUEST => Message::HashRequest(hash_span(body)),
        id::HASHES => {
            let span = hash_span(body);
            return Message::Hashes { span, hashes: take_payload(HashSpan::WIRE_LEN, end, input) };
        }
        id::HASH_REJECT => Message::HashReject(hash_span(body)),
        _ => Message::Unknown { id, len: body.len() as u32 },
    };
    input.advance(end);
    message
}

/// Takes a frame of `end` bytes and gives its payload after the first `skip` bytes.
fn take_payload(skip: usize, end: usize, input: &mut BytesMut) -> Bytes {
    let mut frame = input.split_to(end);
    frame.advance(LENGTH_PREFIX + 1 + skip);
    frame.freeze()
}

fn numbers<const N: usize>(body: &[u8]) -> [u32; N] {
    let (words, _) = body.as_chunks();
    core::array::from_fn(|i| u32::from_be_bytes(words[i]))
}

fn number(body: &[u8]) -> u32 {
    let [piece] = numbers(body);
    piece
}

fn block(body: &[u8]) -> RawBlock {
    let [piece, begin, len] = numbers(body);
    RawBlock { piece, begin, len }
}

fn hash_span(body: &[u8]) -> HashSpan {
    let (pieces_root, rest) = body.split_first_chunk().expect("a hash message is at least 48 bytes long");
    let [base_layer, index, len, proof_layers] = numbers(rest);
    HashSpan { pieces_root: *pieces_root, base_layer, index, len, proof_layers }
}

const LENGTH_PREFIX: usize = 4;

/// The longest frame of all: the bitfield of a torrent with [`MAX_PIECES`] pieces.
const MAX_FRAME_LEN: u32 = 1 + MAX_PIECES / 8;

/// The frame of a hash message without hashes.
const HASH_FRAME_LEN: u32 = 1 + HashSpan::WIRE_LEN as u32;
