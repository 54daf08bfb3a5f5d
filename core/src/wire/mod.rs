//! The peer wire: bytes to messages and back, with a limit on everything (BEP 3, 6, 10, 52).
//!
//! A [`Decoder`] reads one direction of one connection: the handshake, then frames. Of a `piece` message it reads only
//! the head; the block itself never passes through here, so that a driver can read it straight into its buffer.

mod allowed_fast;
mod client;
mod decoder;
mod extended;
mod handshake;
mod holepunch;
mod message;
mod metadata;
mod offence;
mod pex;

pub use allowed_fast::allowed_fast;
pub use client::client_name;
pub use decoder::{Decoder, Frame, MAX_EXTENDED_LEN, MAX_HASHES_LEN, MAX_OTHER_LEN};
pub use extended::{
    DEFAULT_REQUEST_QUEUE, ExtendedHandshake, Extension, ExtensionIds, MAX_CLIENT_LEN, MAX_METADATA_LEN,
    MAX_REQUEST_QUEUE,
};
pub use handshake::{HANDSHAKE_LEN, HANDSHAKE_START, Handshake, Reserved, encode_handshake};
pub use holepunch::{HolepunchError, HolepunchMessage};
pub use message::{
    HashSpan, Message, PIECE_HEAD_LEN, RawBlock, encode, encode_extended_head, encode_piece_head,
};
pub use metadata::{METADATA_PIECE_LEN, MetadataMessage, metadata_piece_count, metadata_piece_len};
pub use offence::Offence;
pub use pex::{MAX_PEX_LEN, MAX_PEX_PEERS, PexFlags, PexMessage};
