//! The pieces that a peer may fetch while choked (BEP 6).

use crate::id::InfoHash;
use crate::lengths::{Lengths, PieceIndex};
use alloc::vec::Vec;
use core::net::Ipv4Addr;
use sha1::{Digest as _, Sha1};

/// The allowed-fast set of the peer at `ip`: `k` pieces, or all if there are no more than that.
///
/// Everyone comes to the same set, and addresses in one /24 share it, so that nobody gains by connecting often.
pub fn allowed_fast(ip: Ipv4Addr, info_hash: InfoHash, lengths: &Lengths, k: usize) -> Vec<PieceIndex> {
    if lengths.piece_count() as usize <= k {
        return lengths.pieces().collect();
    }
    let [a, b, c, _] = ip.octets();
    let mut x: [u8; 20] = Sha1::new().chain_update([a, b, c, 0]).chain_update(info_hash.0).finalize().into();
    let mut set = Vec::with_capacity(k);
    for _ in 0..MAX_ROUNDS {
        let (words, _) = x.as_chunks();
        for word in words {
            if set.len() == k {
                return set;
            }
            let piece = lengths.piece(u32::from_be_bytes(*word) % lengths.piece_count());
            let piece = piece.expect("a remainder is below the number of pieces");
            if !set.contains(&piece) {
                set.push(piece);
            }
        }
        x = Sha1::digest(x).into();
    }
    set
}

/// Five draws each. Sets of ten take two or three rounds; the bound is for hashes that would never give enough.
const MAX_ROUNDS: u32 = 256;

#[cfg(test)]
mod tests {
    use super::allowed_fast;
    use crate::id::InfoHash;
    use crate::lengths::Lengths;
    use alloc::vec::Vec;
    use core::net::Ipv4Addr;

    fn set(pieces: u64, ip: [u8; 4], k: usize) -> Vec<u32> {
        let lengths = Lengths::contiguous(pieces, 1).unwrap();
        let set = allowed_fast(Ipv4Addr::from(ip), InfoHash([0xaa; 20]), &lengths, k);
        set.into_iter().map(|piece| piece.get()).collect()
    }

    #[test]
    fn the_sets_of_bep_6() {
        assert_eq!(set(1313, [80, 4, 4, 200], 7), [1059, 431, 808, 1217, 287, 376, 1188]);
        assert_eq!(set(1313, [80, 4, 4, 200], 9), [1059, 431, 808, 1217, 287, 376, 1188, 353, 508]);
    }

    #[test]
    fn neighbours_share_a_set() {
        assert_eq!(set(1313, [80, 4, 4, 1], 7), set(1313, [80, 4, 4, 200], 7));
        assert_ne!(set(1313, [80, 4, 5, 200], 7), set(1313, [80, 4, 4, 200], 7));
    }

    #[test]
    fn small_torrents_have_small_sets() {
        assert!(set(0, [80, 4, 4, 200], 10).is_empty());
        assert_eq!(set(3, [80, 4, 4, 200], 10), [0, 1, 2]);
        for pieces in 10..30 {
            assert_eq!(set(pieces, [80, 4, 4, 200], 10).len(), 10);
        }
    }
}
