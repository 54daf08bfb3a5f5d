//! Messages, as values and as bytes.

use bytes::{BufMut as _, Bytes, BytesMut};
use core::fmt;

/// The bytes before a block: length prefix, id, piece, begin.
pub const PIECE_HEAD_LEN: usize = 13;

/// The part of a piece that three numbers of a message name, unchecked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RawBlock {
    /// The number of the piece.
    pub piece: u32,
    /// Where in the piece the part begins.
    pub begin: u32,
    /// How long it is.
    pub len: u32,
}

impl fmt::Display for RawBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}+{}", self.piece, self.begin, self.len)
    }
}

/// A run of hashes in one layer of a file's tree, with what proves it, unchecked (BEP 52).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HashSpan {
    /// The root of the file's tree.
    pub pieces_root: [u8; 32],
    /// The layer, counted from the leaves.
    pub base_layer: u32,
    /// The first hash.
    pub index: u32,
    /// How many hashes.
    pub len: u32,
    /// How many layers above the base the proof reaches.
    pub proof_layers: u32,
}

impl fmt::Display for HashSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, ..] = self.pieces_root;
        write!(f, "{a:02x}{b:02x}.. layer={} {}+{}", self.base_layer, self.index, self.len)?;
        write!(f, " proof={}", self.proof_layers)
    }
}

/// A message after the handshake, but for `piece`, whose block goes a way of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// This piece will be served even while choked (BEP 6).
    AllowedFast(u32),
    /// The pieces that the sender has, the high bit of the first byte for piece 0.
    Bitfield(Bytes),
    /// The block is no longer wanted.
    Cancel(RawBlock),
    /// The sender serves no more requests.
    Choke,
    /// A message of the extension protocol (BEP 10).
    Extended {
        /// 0 for the extended handshake, else what the receiver called the extension in its own.
        id: u8,
        /// What the extension says.
        payload: Bytes,
    },
    /// These hashes won't be sent (BEP 52).
    HashReject(HashSpan),
    /// Asks for hashes (BEP 52).
    HashRequest(HashSpan),
    /// Hashes, and what proves them (BEP 52).
    Hashes {
        /// Which.
        span: HashSpan,
        /// The hashes of the base layer, then the uncles upwards, 32 bytes each.
        hashes: Bytes,
    },
    /// The sender now has this piece.
    Have(u32),
    /// The sender has every piece (BEP 6).
    HaveAll,
    /// The sender has no piece (BEP 6).
    HaveNone,
    /// The sender wants something that the receiver has.
    Interested,
    /// Nothing, said to keep the connection open.
    KeepAlive,
    /// The sender wants nothing that the receiver has.
    NotInterested,
    /// The UDP port of the sender's DHT node (BEP 5).
    Port(u16),
    /// The request won't be served (BEP 6).
    Reject(RawBlock),
    /// Asks for a block.
    Request(RawBlock),
    /// The receiver would do well to fetch this piece (BEP 6).
    Suggest(u32),
    /// The sender serves requests.
    Unchoke,
    /// A message that nobody here knows; its payload was skipped.
    Unknown {
        /// Its id.
        id: u8,
        /// The length of its payload.
        len: u32,
    },
}

/// Appends `message` to `out`. The payload of [`Message::Unknown`] was not kept: zeros stand in for it.
pub fn encode(message: &Message, out: &mut BytesMut) {
    match message {
        Message::AllowedFast(piece) => number(id::ALLOWED_FAST, *piece, out),
        Message::Bitfield(bits) => {
            head(id::BITFIELD, bits.len(), out);
            out.put_slice(bits);
        }
        Message::Cancel(part) => block(id::CANCEL, *part, out),
        Message::Choke => head(id::CHOKE, 0, out),
        Message::Extended { id, payload } => {
            encode_extended_head(*id, payload.len(), out);
            out.put_slice(payload);
        }
        Message::HashReject(span) => hash_span(id::HASH_REJECT, span, 0, out),
        Message::HashRequest(span) => hash_span(id::HASH_REQUEST, span, 0, out),
        Message::Hashes { span, hashes } => {
            hash_span(id::HASHES, span, hashes.len(), out);
            out.put_slice(hashes);
        }
        Message::Have(piece) => number(id::HAVE, *piece, out),
        Message::HaveAll => head(id::HAVE_ALL, 0, out),
        Message::HaveNone => head(id::HAVE_NONE, 0, out),
        Message::Interested => head(id::INTERESTED, 0, out),
        Message::KeepAlive => out.put_u32(0),
        Message::NotInterested => head(id::NOT_INTERESTED, 0, out),
        Message::Port(port) => {
            head(id::PORT, 2, out);
            out.put_u16(*port);
        }
        Message::Reject(part) => block(id::REJECT, *part, out),
        Message::Request(part) => block(id::REQUEST, *part, out),
        Message::Suggest(piece) => number(id::SUGGEST, *piece, out),
        Message::Unchoke => head(id::UNCHOKE, 0, out),
        Message::Unknown { id, len } => {
            head(*id, *len as usize, out);
            out.put_bytes(0, *len as usize);
        }
    }
}

/// Appends what stands before a block of `len` bytes: [`PIECE_HEAD_LEN`] bytes.
pub fn encode_piece_head(piece: u32, begin: u32, len: u32, out: &mut BytesMut) {
    head(id::PIECE, 8 + len as usize, out);
    out.put_u32(piece);
    out.put_u32(begin);
}

/// Appends what stands before the payload of `len` bytes of an extended message (BEP 10).
pub fn encode_extended_head(id: u8, len: usize, out: &mut BytesMut) {
    head(id::EXTENDED, 1 + len, out);
    out.put_u8(id);
}

/// One line, as traces show it: payloads as lengths.
impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AllowedFast(piece) => write!(f, "allowed_fast {piece}"),
            Self::Bitfield(bits) => write!(f, "bitfield len={}", bits.len()),
            Self::Cancel(part) => write!(f, "cancel {part}"),
            Self::Choke => f.write_str("choke"),
            Self::Extended { id, payload } => write!(f, "extended {id} len={}", payload.len()),
            Self::HashReject(span) => write!(f, "hash_reject {span}"),
            Self::HashRequest(span) => write!(f, "hash_request {span}"),
            Self::Hashes { span, hashes } => write!(f, "hashes {span} len={}", hashes.len()),
            Self::Have(piece) => write!(f, "have {piece}"),
            Self::HaveAll => f.write_str("have_all"),
            Self::HaveNone => f.write_str("have_none"),
            Self::Interested => f.write_str("interested"),
            Self::KeepAlive => f.write_str("keep_alive"),
            Self::NotInterested => f.write_str("not_interested"),
            Self::Port(port) => write!(f, "port {port}"),
            Self::Reject(part) => write!(f, "reject {part}"),
            Self::Request(part) => write!(f, "request {part}"),
            Self::Suggest(piece) => write!(f, "suggest {piece}"),
            Self::Unchoke => f.write_str("unchoke"),
            Self::Unknown { id, len } => write!(f, "unknown {id} len={len}"),
        }
    }
}

fn head(id: u8, payload: usize, out: &mut BytesMut) {
    let len = u32::try_from(1 + payload).expect("no message comes near 4 GiB");
    out.put_u32(len);
    out.put_u8(id);
}

fn number(id: u8, piece: u32, out: &mut BytesMut) {
    head(id, 4, out);
    out.put_u32(piece);
}

fn block(id: u8, part: RawBlock, out: &mut BytesMut) {
    head(id, 12, out);
    out.put_u32(part.piece);
    out.put_u32(part.begin);
    out.put_u32(part.len);
}

fn hash_span(id: u8, span: &HashSpan, more: usize, out: &mut BytesMut) {
    head(id, HashSpan::WIRE_LEN + more, out);
    out.put_slice(&span.pieces_root);
    out.put_u32(span.base_layer);
    out.put_u32(span.index);
    out.put_u32(span.len);
    out.put_u32(span.proof_layers);
}

impl HashSpan {
    pub(super) const WIRE_LEN: usize = 48;
}

/// The byte that says what a message is.
pub(super) mod id {
    pub(crate) const CHOKE: u8 = 0;
    pub(crate) const UNCHOKE: u8 = 1;
    pub(crate) const INTERESTED: u8 = 2;
    pub(crate) const NOT_INTERESTED: u8 = 3;
    pub(crate) const HAVE: u8 = 4;
    pub(crate) const BITFIELD: u8 = 5;
    pub(crate) const REQUEST: u8 = 6;
    pub(crate) const PIECE: u8 = 7;
    pub(crate) const CANCEL: u8 = 8;
    pub(crate) const PORT: u8 = 9;
    pub(crate) const SUGGEST: u8 = 13;
    pub(crate) const HAVE_ALL: u8 = 14;
    pub(crate) const HAVE_NONE: u8 = 15;
    pub(crate) const REJECT: u8 = 16;
    pub(crate) const ALLOWED_FAST: u8 = 17;
    pub(crate) const EXTENDED: u8 = 20;
    pub(crate) const HASH_REQUEST: u8 = 21;
    pub(crate) const HASHES: u8 = 22;
    pub(crate) const HASH_REJECT: u8 = 23;
}
