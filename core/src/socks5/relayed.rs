//! Datagrams on their way between a client and the relay of its proxy (RFC 1928 section 7).

use super::destination::{Destination, MAX_NAME_LEN};
use alloc::vec::Vec;

/// A datagram as the relay sends and takes it: a head that says where to or where from, and the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relayed<'d> {
    /// Where it goes, or comes from.
    pub peer: Destination,
    /// What the remote gets, or sent.
    pub data: &'d [u8],
}

/// Why a datagram is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRelayed {
    /// It is a part of one. RFC 1928 section 7: who does not put them together must drop them.
    #[error("a fragment of a datagram")]
    Fragment,
    /// Its head can't be read.
    #[error("no head of a relayed datagram")]
    Malformed,
}

impl<'d> Relayed<'d> {
    /// Reads what the relay sent.
    pub fn parse(datagram: &'d [u8]) -> Result<Self, NotRelayed> {
        // RSV is 0; some proxies put other bytes there, and it says nothing.
        let [_, _, fragment, rest @ ..] = datagram else { return Err(NotRelayed::Malformed) };
        if *fragment != 0 {
            return Err(NotRelayed::Fragment);
        }
        let (peer, len) = Destination::parse(rest).ok().flatten().ok_or(NotRelayed::Malformed)?;
        Ok(Self { peer, data: &rest[len..] })
    }

    /// Appends it as the relay takes it.
    pub fn encode(&self, to: &mut Vec<u8>) {
        to.extend([0, 0, 0]);
        self.peer.encode(to);
        to.extend_from_slice(self.data);
    }
}

/// What a head adds to a datagram at most.
pub const MAX_HEAD_LEN: usize = 3 + 2 + MAX_NAME_LEN + 2;
