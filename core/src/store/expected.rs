//! What pieces must hash to.

use super::op::HashOutput;
use super::open_piece::PieceDigest;
use crate::lengths::PieceIndex;
use crate::metainfo::merkle::PieceRoot;
use alloc::vec::Vec;
use bytes::Bytes;

/// What the pieces of one torrent must hash to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// v2: the root of the tree over each piece's 16 KiB blocks (BEP 52).
    Merkle(Vec<PieceRoot>),
    /// v1: the SHA-1 of each piece, 20 bytes after 20 bytes (BEP 3).
    Sha1(Bytes),
}

impl Expected {
    /// Whether pieces are proved by their leaves.
    pub(super) fn is_v2(&self) -> bool {
        matches!(self, Self::Merkle(_))
    }

    pub(super) fn matches(&self, piece: PieceIndex, digest: &PieceDigest) -> bool {
        match (self, digest) {
            (Self::Sha1(all), PieceDigest::Sha1(digest)) => {
                all.get(piece.as_usize() * 20..).and_then(|rest| rest.get(..20)) == Some(&digest[..])
            }
            (Self::Merkle(all), PieceDigest::Leaves(leaves)) => {
                all.get(piece.as_usize()).is_some_and(|expected| expected.verify(leaves))
            }
            (_, _) => false,
        }
    }

    /// The same for the answer to one job that hashed the whole piece.
    pub(super) fn matches_output(&self, piece: PieceIndex, output: HashOutput) -> bool {
        match output {
            HashOutput::Leaves(leaves) => self.matches(piece, &PieceDigest::Leaves(leaves)),
            HashOutput::Sha1(digest) => self.matches(piece, &PieceDigest::Sha1(digest)),
            HashOutput::State(_) => false,
        }
    }
}
