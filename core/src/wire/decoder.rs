//! Bytes to frames.

use super::handshake::{HANDSHAKE_LEN, HANDSHAKE_START, Handshake, INFO_HASH_END};
use super::message::{HashSpan, Message, PIECE_HEAD_LEN, RawBlock, id};
use super::offence::Offence;
use crate::bitfield::Bitfield;
use crate::id::{InfoHash, PeerId};
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
        head.starts_with(HANDSHAKE_START).then_some(InfoHash(*info_hash))
    }

    /// Who sends a handshake, as soon as all of it is there.
    pub fn peek_peer_id(input: &BytesMut) -> Option<PeerId> {
        let (_, peer_id) = input.first_chunk::<HANDSHAKE_LEN>()?.split_last_chunk()?;
        Some(PeerId(*peer_id))
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
        let known = input.len().min(HANDSHAKE_START.len());
        if input[..known] != HANDSHAKE_START[..known] {
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
            id::HASHES if len >= HASH_FRAME_LEN && !(len - HASH_FRAME_LEN).is_multiple_of(32) => {
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

#[cfg(test)]
mod tests {
    use super::{Decoder, Frame, MAX_EXTENDED_LEN, MAX_HASHES_LEN, MAX_OTHER_LEN};
    use crate::id::{InfoHash, PeerId};
    use crate::lengths::{BLOCK_LEN, MAX_PIECES};
    use crate::wire::{
        HANDSHAKE_LEN, Handshake, HashSpan, Message, Offence, RawBlock, Reserved, encode, encode_handshake,
        encode_piece_head,
    };
    use alloc::format;
    use alloc::string::ToString as _;
    use alloc::vec;
    use alloc::vec::Vec;
    use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
    use proptest::prelude::*;

    #[test]
    fn every_message_of_bep_3_is_read_and_written() {
        let part = RawBlock { piece: 1, begin: 0x4000, len: 0x4000 };
        for (hex, message) in [
            ("00000000", Message::KeepAlive),
            ("00000001 00", Message::Choke),
            ("00000001 01", Message::Unchoke),
            ("00000001 02", Message::Interested),
            ("00000001 03", Message::NotInterested),
            ("00000005 04 0001e240", Message::Have(123_456)),
            ("00000003 05 ff80", Message::Bitfield(Bytes::from_static(&[0xff, 0x80]))),
            ("0000000d 06 00000001 00004000 00004000", Message::Request(part)),
            ("0000000d 08 00000001 00004000 00004000", Message::Cancel(part)),
            // BEP 5
            ("00000003 09 1ae1", Message::Port(6881)),
            // BEP 6
            ("00000005 0d 00000002", Message::Suggest(2)),
            ("00000001 0e", Message::HaveAll),
            ("00000001 0f", Message::HaveNone),
            ("0000000d 10 00000001 00004000 00004000", Message::Reject(part)),
            ("00000005 11 0000041f", Message::AllowedFast(1055)),
            // BEP 10
            ("00000004 14 03 6465", Message::Extended { id: 3, payload: Bytes::from_static(b"de") }),
        ] {
            both_ways(hex, &message);
        }
    }

    #[test]
    fn the_hash_messages_of_bep_52_are_read_and_written() {
        let root = "a5".repeat(32);
        let span =
            HashSpan { pieces_root: [0xa5; 32], base_layer: 4, index: 512, len: 512, proof_layers: 10 };
        let numbers = "00000004 00000200 00000200 0000000a";
        both_ways(&format!("00000031 15 {root} {numbers}"), &Message::HashRequest(span));
        both_ways(&format!("00000031 17 {root} {numbers}"), &Message::HashReject(span));
        let hashes = Bytes::from(vec![0x11; 64]);
        let hex = format!("00000071 16 {root} {numbers} {}", "11".repeat(64));
        both_ways(&hex, &Message::Hashes { span, hashes });
    }

    #[test]
    fn the_handshake_is_read_and_written() {
        let hex = "13 426974546f7272656e742070726f746f636f6c 0000000000100005 \
                   aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 2d4650303130302d303132333435363738396162";
        let handshake = Handshake {
            reserved: Reserved::NONE.with_extended().with_dht().with_fast(),
            info_hash: InfoHash([0xaa; 20]),
            peer_id: PeerId(*b"-FP0100-0123456789ab"),
        };
        let mut out = BytesMut::new();
        encode_handshake(&handshake, &mut out);
        assert_eq!(out, unhex(hex));
        assert_eq!(Decoder::new().decode(&mut out), Ok(Some(Frame::Handshake(handshake))));
        assert!(out.is_empty());
    }

    #[test]
    fn the_infohash_shows_before_the_peer_id() {
        let mut bytes = a_handshake();
        bytes.truncate(47);
        assert_eq!(Decoder::peek_info_hash(&bytes), None);
        bytes.put_u8(0xaa);
        assert_eq!(Decoder::peek_info_hash(&bytes), Some(InfoHash([0xaa; 20])));
        assert_eq!(Decoder::new().decode(&mut bytes), Ok(None));
        bytes[0] = 18;
        assert_eq!(Decoder::peek_info_hash(&bytes), None);
    }

    #[test]
    fn another_protocol_is_refused_at_its_first_strange_byte() {
        assert_eq!(Decoder::new().decode(&mut BytesMut::from("GET ")), Err(Offence::HandshakeProtocol));
        let mut almost = BytesMut::from("\x13BitTorrent protocoL");
        assert_eq!(Decoder::new().decode(&mut almost), Err(Offence::HandshakeProtocol));
        let mut start = BytesMut::from("\x13BitTorr");
        assert_eq!(Decoder::new().decode(&mut start), Ok(None));
    }

    #[test]
    fn a_block_is_left_in_the_stream() {
        let mut input = BytesMut::new();
        encode_piece_head(7, 16384, 3, &mut input);
        assert_eq!(input, unhex("0000000c 07 00000007 00004000"));
        input.put_slice(b"abc");
        encode(&Message::Have(7), &mut input);
        let mut decoder = after_handshake();
        let head = Frame::PieceHead { piece: 7, begin: 16384, len: 3 };
        assert_eq!(head.to_string(), "piece 7:16384 len=3");
        assert_eq!(decoder.decode(&mut input), Ok(Some(head)));
        assert_eq!(input.split_to(3), "abc");
        assert_eq!(decoder.decode(&mut input), Ok(Some(Frame::Message(Message::Have(7)))));
    }

    #[test]
    fn a_huge_length_is_refused_at_four_bytes() {
        for len in [u32::MAX, 1 << 20, 2 + MAX_PIECES / 8] {
            let mut input = BytesMut::from(&len.to_be_bytes()[..]);
            let capacity = input.capacity();
            assert_eq!(after_handshake().decode(&mut input), Err(Offence::FrameTooLong));
            assert_eq!(input.capacity(), capacity);
        }
    }

    /// Limit L1: the longest frame of each id passes its head, one byte more does not.
    #[test]
    fn every_id_has_a_longest_and_a_shortest_frame() {
        for id in 0..=u8::MAX {
            let (min, max) = match id {
                0..=3 | 14 | 15 => (1, 1),
                4 | 13 | 17 => (5, 5),
                5 => (1, 1 + MAX_PIECES / 8),
                6 | 8 | 16 => (13, 13),
                7 => (10, 9 + BLOCK_LEN),
                9 => (3, 3),
                20 => (2, 2 + MAX_EXTENDED_LEN),
                21 | 23 => (49, 49),
                22 => (49, 1 + 48 + (MAX_HASHES_LEN - 48) / 32 * 32),
                _ => (1, 1 + MAX_OTHER_LEN),
            };
            let step = if id == 22 { 32 } else { 1 };
            assert!(head_passes(id, min) && head_passes(id, max), "{id}");
            assert_eq!(outcome(id, max + step), Err(Offence::FrameTooLong), "{id}");
            if min > 1 {
                assert_eq!(outcome(id, min - 1), Err(Offence::FrameTooShort), "{id}");
            }
        }
        assert_eq!(outcome(22, 49 + 31), Err(Offence::BadHashes));
    }

    #[test]
    fn a_known_torrent_wants_its_bitfield_exact() {
        for count in [0, 1, 7, 8, 9, 1000] {
            let mut decoder = after_handshake();
            decoder.set_piece_count(Some(count));
            for len in 0..=count.div_ceil(8) + 2 {
                let mut input = BytesMut::new();
                encode(&Message::Bitfield(vec![0xff; len as usize].into()), &mut input);
                let got = decoder.clone().decode(&mut input);
                if len == count.div_ceil(8) {
                    assert!(
                        matches!(got, Ok(Some(Frame::Message(Message::Bitfield(bits)))) if bits.len() == len as usize)
                    );
                } else {
                    assert_eq!(got, Err(Offence::BadBitfield), "{count} pieces, {len} bytes");
                }
            }
        }
    }

    #[test]
    fn unknown_messages_are_skipped() {
        let mut input = unhex("00000003 63 0102 00000001 01");
        let mut decoder = after_handshake();
        assert_eq!(
            decoder.decode(&mut input),
            Ok(Some(Frame::Message(Message::Unknown { id: 0x63, len: 2 })))
        );
        assert_eq!(decoder.decode(&mut input), Ok(Some(Frame::Message(Message::Unchoke))));
    }

    #[test]
    fn traces_show_messages_on_one_line() {
        let part = RawBlock { piece: 0, begin: 0, len: 16384 };
        assert_eq!(Message::Request(part).to_string(), "request 0:0+16384");
        assert_eq!(Message::Have(5).to_string(), "have 5");
        assert_eq!(Message::Extended { id: 1, payload: vec![0; 44].into() }.to_string(), "extended 1 len=44");
        let mut bytes = a_handshake();
        let frame = Decoder::new().decode(&mut bytes).unwrap().unwrap();
        assert_eq!(frame.to_string(), "handshake ih=aaaa..");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(messages in prop::collection::vec(a_message(), 0..12)) {
            let mut input = BytesMut::new();
            messages.iter().for_each(|message| encode(message, &mut input));
            let mut decoder = after_handshake();
            for message in messages {
                prop_assert_eq!(decoder.decode(&mut input), Ok(Some(Frame::Message(message))));
            }
            prop_assert!(input.is_empty());
        }

        #[test]
        fn any_split_of_the_input_gives_the_same_frames(
            messages in prop::collection::vec(prop_oneof![a_message().prop_map(Ok), (1..50_u32).prop_map(Err)], 0..12),
            tail in prop::collection::vec(any::<u8>(), 0..40),
            cuts in prop::collection::vec(1..60_usize, 1..20),
        ) {
            let mut input = a_handshake();
            for message in &messages {
                match message {
                    Ok(message) => encode(message, &mut input),
                    Err(block) => {
                        encode_piece_head(1, 2, *block, &mut input);
                        input.put_bytes(0xee, *block as usize);
                    }
                }
            }
            input.put_slice(&tail);
            prop_assert_eq!(decode_in_parts(&input, &cuts), decode_in_parts(&input, &[input.len()]));
        }

        #[test]
        fn arbitrary_bytes_give_frames_or_an_offence(
            bytes in prop::collection::vec(any::<u8>(), 0..400),
            count in prop::option::of(0..100_u32),
        ) {
            let mut decoder = after_handshake();
            decoder.set_piece_count(count);
            let mut input = BytesMut::from(&bytes[..]);
            let end = loop {
                match decoder.decode(&mut input) {
                    Ok(Some(_)) => {}
                    end => break end,
                }
            };
            prop_assert_eq!(decoder.decode(&mut input), end);
            prop_assert!(bytes.ends_with(&input));
        }
    }

    /// All that comes out of `input` when it arrives cut into pieces of the lengths in `cuts`, over and over.
    fn decode_in_parts(input: &[u8], cuts: &[usize]) -> (Vec<Frame>, Option<Offence>) {
        let (mut decoder, mut buffer, mut frames) = (Decoder::new(), BytesMut::new(), vec![]);
        let (mut rest, mut block) = (input, 0);
        for cut in cuts.iter().cycle() {
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            buffer.put_slice(now);
            rest = later;
            loop {
                let taken = buffer.len().min(block);
                buffer.advance(taken);
                block -= taken;
                if block > 0 {
                    break;
                }
                match decoder.decode(&mut buffer) {
                    Ok(None) => break,
                    Ok(Some(frame)) => {
                        if let Frame::PieceHead { len, .. } = frame {
                            block = len as usize;
                        }
                        frames.push(frame);
                    }
                    Err(offence) => return (frames, Some(offence)),
                }
            }
            if rest.is_empty() {
                break;
            }
        }
        (frames, None)
    }

    fn a_message() -> impl Strategy<Value = Message> {
        let part = (any::<u32>(), any::<u32>(), any::<u32>())
            .prop_map(|(piece, begin, len)| RawBlock { piece, begin, len })
            .boxed();
        let span = (any::<[u8; 32]>(), any::<[u32; 4]>())
            .prop_map(|(pieces_root, [base_layer, index, len, proof_layers])| HashSpan {
                pieces_root,
                base_layer,
                index,
                len,
                proof_layers,
            })
            .boxed();
        let payload = |max| prop::collection::vec(any::<u8>(), 0..max).prop_map(Bytes::from);
        prop_oneof![
            Just(Message::Choke),
            Just(Message::HaveAll),
            Just(Message::HaveNone),
            Just(Message::Interested),
            Just(Message::KeepAlive),
            Just(Message::NotInterested),
            Just(Message::Unchoke),
            any::<u32>().prop_map(Message::AllowedFast),
            any::<u32>().prop_map(Message::Have),
            any::<u32>().prop_map(Message::Suggest),
            any::<u16>().prop_map(Message::Port),
            part.clone().prop_map(Message::Cancel),
            part.clone().prop_map(Message::Reject),
            part.prop_map(Message::Request),
            payload(60).prop_map(Message::Bitfield),
            (any::<u8>(), payload(60)).prop_map(|(id, payload)| Message::Extended { id, payload }),
            span.clone().prop_map(Message::HashReject),
            span.clone().prop_map(Message::HashRequest),
            (span, prop::collection::vec(any::<[u8; 32]>(), 0..4))
                .prop_map(|(span, hashes)| Message::Hashes { span, hashes: hashes.concat().into() }),
            (24..=255_u8, 0..40_u32).prop_map(|(id, len)| Message::Unknown { id, len }),
        ]
    }

    fn both_ways(hex: &str, message: &Message) {
        let mut out = BytesMut::new();
        encode(message, &mut out);
        assert_eq!(out, unhex(hex), "{message}");
        assert_eq!(after_handshake().decode(&mut out), Ok(Some(Frame::Message(message.clone()))));
        assert!(out.is_empty());
    }

    /// What a frame of `len` bytes with `id` gives when only that much of it has come.
    fn outcome(id: u8, len: u32) -> Result<Option<Frame>, Offence> {
        let mut input = BytesMut::new();
        input.put_u32(len);
        input.put_u8(id);
        after_handshake().decode(&mut input)
    }

    fn head_passes(id: u8, len: u32) -> bool {
        match outcome(id, len) {
            Ok(None) => len > 1,
            Ok(Some(_)) => len == 1,
            Err(_) => false,
        }
    }

    fn after_handshake() -> Decoder {
        let mut decoder = Decoder::new();
        assert!(matches!(decoder.decode(&mut a_handshake()), Ok(Some(Frame::Handshake(_)))));
        decoder
    }

    fn a_handshake() -> BytesMut {
        let (info_hash, peer_id) = (InfoHash([0xaa; 20]), PeerId([b'p'; 20]));
        let mut out = BytesMut::new();
        encode_handshake(&Handshake { reserved: Reserved::NONE, info_hash, peer_id }, &mut out);
        assert_eq!(out.len(), HANDSHAKE_LEN);
        out
    }

    fn unhex(hex: &str) -> BytesMut {
        let digits: Vec<u8> =
            hex.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
        assert_eq!(digits.len() % 2, 0, "{hex}");
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }
}
