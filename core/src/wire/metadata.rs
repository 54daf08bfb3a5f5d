//! Messages about the info dictionary (BEP 9).

use super::extended::MAX_METADATA_LEN;
use super::offence::Offence;
use crate::bencode::{Dict, Document, Limits, Value};
use alloc::vec::Vec;
use bendy::encoding::{Encoder, Error};
use bytes::Bytes;
use core::fmt;

/// The length of the pieces in which an info dictionary travels; the last one may be shorter (BEP 9).
pub const METADATA_PIECE_LEN: u32 = 16 * 1024;

/// How many pieces an info dictionary of `len` bytes has.
pub const fn metadata_piece_count(len: u32) -> u32 {
    len.div_ceil(METADATA_PIECE_LEN)
}

/// The length of a piece of an info dictionary of `len` bytes; nothing if there is no such piece.
pub fn metadata_piece_len(len: u32, piece: u32) -> Option<u32> {
    let rest = len.checked_sub(piece.checked_mul(METADATA_PIECE_LEN)?)?;
    Some(rest.min(METADATA_PIECE_LEN)).filter(|len| *len > 0)
}

/// What peers say to each other about the info dictionary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetadataMessage {
    /// A piece of it.
    Data {
        /// Its number.
        piece: u32,
        /// The length of the whole dictionary, if that makes sense.
        total_len: Option<u32>,
        /// Its bytes, at most [`METADATA_PIECE_LEN`].
        data: Bytes,
    },
    /// The sender does not have it, or does not want to give it.
    Reject {
        /// The number of the piece that was asked for.
        piece: u32,
    },
    /// The sender wants a piece.
    Request {
        /// Its number.
        piece: u32,
    },
}

impl MetadataMessage {
    /// Reads the payload of an extended message. Nothing if it is of a kind that a later version of the protocol may
    /// know.
    pub fn parse(payload: &Bytes) -> Result<Option<Self>, Offence> {
        let document = Document::parse(payload, Limits::WIRE).map_err(|_| Offence::BadMetadata)?;
        let dict = document.root().as_dict().ok_or(Offence::BadMetadata)?;
        let kind = dict.get(b"msg_type").and_then(Value::as_int).ok_or(Offence::BadMetadata)?;
        let piece = || number(dict, b"piece").ok_or(Offence::BadMetadata);
        Ok(Some(match kind {
            REQUEST => Self::Request { piece: piece()? },
            DATA => {
                let data = payload.slice(document.end()..);
                if data.len() > METADATA_PIECE_LEN as usize {
                    return Err(Offence::BadMetadata);
                }
                let total_len =
                    number(dict, b"total_size").filter(|len| (1..=MAX_METADATA_LEN).contains(len));
                Self::Data { piece: piece()?, total_len, data }
            }
            REJECT => Self::Reject { piece: piece()? },
            _ => return Ok(None),
        }))
    }

    /// The payload of an extended message, without the bytes that follow it in [`Data`](Self::Data).
    pub fn encode_head(&self) -> Vec<u8> {
        let (kind, piece, total_len) = match self {
            Self::Data { piece, total_len, .. } => (DATA, *piece, *total_len),
            Self::Reject { piece } => (REJECT, *piece, None),
            Self::Request { piece } => (REQUEST, *piece, None),
        };
        try_encode(kind, piece, total_len).expect("the keys are written in order")
    }

    /// The payload of an extended message, in full.
    pub fn encode(&self) -> Vec<u8> {
        let mut payload = self.encode_head();
        if let Self::Data { data, .. } = self {
            payload.extend_from_slice(data);
        }
        payload
    }
}

/// One line, as traces show it.
impl fmt::Display for MetadataMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data { piece, data, .. } => write!(f, "metadata {piece} len={}", data.len()),
            Self::Reject { piece } => write!(f, "metadata reject {piece}"),
            Self::Request { piece } => write!(f, "metadata request {piece}"),
        }
    }
}

fn number(dict: Dict<'_>, key: &[u8]) -> Option<u32> {
    dict.get(key)?.as_int()?.try_into().ok()
}

fn try_encode(kind: i64, piece: u32, total_len: Option<u32>) -> Result<Vec<u8>, Error> {
    let mut encoder = Encoder::new();
    encoder.emit_dict(|mut dict| {
        dict.emit_pair(b"msg_type", kind)?;
        dict.emit_pair(b"piece", piece)?;
        total_len.map_or(Ok(()), |len| dict.emit_pair(b"total_size", len))
    })?;
    encoder.get_output()
}

const REQUEST: i64 = 0;
const DATA: i64 = 1;
const REJECT: i64 = 2;

#[cfg(test)]
mod tests {
    use super::{
        MAX_METADATA_LEN, METADATA_PIECE_LEN, MetadataMessage, metadata_piece_count, metadata_piece_len,
    };
    use crate::wire::Offence;
    use alloc::string::ToString as _;
    use alloc::vec;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn parse(payload: &'static [u8]) -> Result<Option<MetadataMessage>, Offence> {
        MetadataMessage::parse(&Bytes::from_static(payload))
    }

    /// The examples of BEP 9.
    #[test]
    fn the_three_messages_are_read_and_written() {
        let data = Bytes::from_static(b"xxxxxxxx");
        for (payload, message, line) in [
            (&b"d8:msg_typei0e5:piecei0ee"[..], MetadataMessage::Request { piece: 0 }, "metadata request 0"),
            (
                b"d8:msg_typei1e5:piecei0e10:total_sizei3425eexxxxxxxx",
                MetadataMessage::Data { piece: 0, total_len: Some(3425), data },
                "metadata 0 len=8",
            ),
            (b"d8:msg_typei2e5:piecei0ee", MetadataMessage::Reject { piece: 0 }, "metadata reject 0"),
        ] {
            assert_eq!(parse(payload).as_ref(), Ok(&Some(message.clone())));
            assert_eq!(message.encode(), payload);
            assert_eq!(message.to_string(), line);
        }
    }

    #[test]
    fn what_is_unknown_is_nothing_and_what_is_malformed_an_offence() {
        assert_eq!(parse(b"d8:msg_typei3e5:piecei0ee"), Ok(None));
        assert_eq!(parse(b"d8:msg_typei-1ee"), Ok(None));
        for payload in [
            &b""[..],
            b"le",
            b"d5:piecei0ee",
            b"d8:msg_typei0ee",
            b"d8:msg_typei0e5:piecei-1ee",
            b"d8:msg_typei0e5:piecei4294967296ee",
            b"d8:msg_type1:05:piecei0ee",
            b"d8:msg_typei1e5:piece",
        ] {
            assert_eq!(parse(payload), Err(Offence::BadMetadata), "{}", payload.escape_ascii());
        }
    }

    /// P-20: a total of zero, of less, or beyond limit L4 counts as left out.
    #[test]
    fn a_total_that_makes_no_sense_counts_as_left_out() {
        for payload in [
            &b"d8:msg_typei1e5:piecei0ee"[..],
            b"d8:msg_typei1e5:piecei0e10:total_sizei0ee",
            b"d8:msg_typei1e5:piecei0e10:total_sizei-5ee",
            b"d8:msg_typei1e5:piecei0e10:total_sizei16777217ee",
            b"d8:msg_typei1e5:piecei0e10:total_sizei2147483648ee",
        ] {
            let nothing = MetadataMessage::Data { piece: 0, total_len: None, data: Bytes::new() };
            assert_eq!(parse(payload), Ok(Some(nothing)));
        }
    }

    #[test]
    fn a_piece_is_never_longer_than_16_kib() {
        let message = |len: u32| MetadataMessage::Data {
            piece: 7,
            total_len: Some(MAX_METADATA_LEN),
            data: vec![1; len as usize].into(),
        };
        let read = |len| MetadataMessage::parse(&message(len).encode().into());
        assert_eq!(read(METADATA_PIECE_LEN), Ok(Some(message(METADATA_PIECE_LEN))));
        assert_eq!(read(METADATA_PIECE_LEN + 1), Err(Offence::BadMetadata));
    }

    #[test]
    fn pieces_add_up() {
        for (len, lens) in
            [(1, &[1][..]), (16384, &[16384]), (16385, &[16384, 1]), (40000, &[16384, 16384, 7232])]
        {
            assert_eq!(metadata_piece_count(len) as usize, lens.len());
            for (piece, piece_len) in (0..).zip(lens) {
                assert_eq!(metadata_piece_len(len, piece), Some(*piece_len));
            }
            for beyond in [lens.len() as u32, 262_144, u32::MAX] {
                assert_eq!(metadata_piece_len(len, beyond), None);
            }
        }
        assert_eq!(metadata_piece_count(MAX_METADATA_LEN), 1024);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            piece in any::<u32>(),
            total_len in prop::option::of(1..=MAX_METADATA_LEN),
            data in prop::collection::vec(any::<u8>(), 0..40),
            kind in 0..3,
        ) {
            let message = match kind {
                0 => MetadataMessage::Request { piece },
                1 => MetadataMessage::Data { piece, total_len, data: data.into() },
                _ => MetadataMessage::Reject { piece },
            };
            prop_assert_eq!(MetadataMessage::parse(&message.encode().into()), Ok(Some(message)));
        }
    }
}
