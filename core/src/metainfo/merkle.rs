//! The hash trees of v2 torrents (BEP 52): SHA-256, two children a node, a leaf per 16 KiB of a file.
//!
//! A tree is padded with leaves of 32 zero bytes until it is balanced. Layer 0 holds the leaves; a node of layer n
//! stands for 2^n of them.

use crate::lengths::BLOCK_LEN;
use alloc::vec::Vec;
use sha2::{Digest as _, Sha256};

/// A node of a tree.
pub type Hash = [u8; 32];

/// The leaf over one block; the last block of a file is hashed as short as it is.
pub fn leaf(block: &[u8]) -> Hash {
    Sha256::digest(block).into()
}

/// The node above two others.
pub fn parent(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update(left).chain_update(right).finalize().into()
}

/// The node of `layer` above nothing but padding.
pub fn padding(layer: u32) -> Hash {
    (0..layer).fold([0; 32], |below, _| parent(&below, &below))
}

/// The node above `width` nodes of `layer`, the first of them given, the others padding. `width` is a power of two
/// and holds all that are given.
pub fn root(nodes: &[Hash], layer: u32, width: u32) -> Hash {
    assert!(width.is_power_of_two() && nodes.len() <= width as usize, "the nodes fit a balanced tree");
    let mut filler = padding(layer);
    let mut nodes = nodes.to_vec();
    for _ in 0..width.trailing_zeros() {
        for at in 0..nodes.len().div_ceil(2) {
            nodes[at] = parent(&nodes[2 * at], nodes.get(2 * at + 1).unwrap_or(&filler));
        }
        nodes.truncate(nodes.len().div_ceil(2));
        filler = parent(&filler, &filler);
    }
    nodes.first().copied().unwrap_or(filler)
}

/// What the leaves of one piece have to lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PieceRoot {
    /// The node above the piece's leaves.
    pub hash: Hash,
    /// How many bytes of the piece belong to its file. In a hybrid torrent the piece may go on with padding, which
    /// has no leaves: the last leaf ends where the file does.
    pub len: u32,
    /// How many leaves the tree of the piece has, padding included: those of a whole piece, or, where the file is
    /// not longer than a piece, the next power of two.
    pub width: u32,
}

impl PieceRoot {
    /// How many leaves the piece has: one for each 16 KiB of [`PieceRoot::len`].
    pub const fn leaf_count(&self) -> u32 {
        self.len.div_ceil(BLOCK_LEN)
    }

    /// Whether these are the leaves of the piece.
    pub fn verify(&self, leaves: &[Hash]) -> bool {
        leaves.len() == self.leaf_count() as usize && root(leaves, 0, self.width) == self.hash
    }
}

/// The piece layer of one file: a node for each piece. It was checked against the file's root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PieceLayer(Vec<Hash>);

impl PieceLayer {
    /// The layer of a file of `len` bytes whose tree has the root `pieces_root`, from its hashes end to end; `None`
    /// if they do not lead there. `piece_len` is a power of two and at least a block, and the file is longer.
    pub fn check(hashes: &[u8], pieces_root: &Hash, len: u64, piece_len: u32) -> Option<Self> {
        let (nodes, []) = hashes.as_chunks::<32>() else { return None };
        if nodes.len() as u64 != len.div_ceil(u64::from(piece_len)) {
            return None;
        }
        let width = u32::try_from(nodes.len()).ok()?.checked_next_power_of_two()?;
        let layer = (piece_len / BLOCK_LEN).trailing_zeros();
        (root(nodes, layer, width) == *pieces_root).then(|| Self(nodes.to_vec()))
    }

    /// The nodes in order.
    pub fn nodes(&self) -> &[Hash] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::{Hash, PieceLayer, PieceRoot, leaf, padding, parent, root};
    use alloc::format;
    use alloc::string::String;
    use alloc::vec;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn hex(hash: &Hash) -> String {
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn leaves(data: &[u8]) -> Vec<Hash> {
        data.chunks(16384).map(leaf).collect()
    }

    fn file_root(data: &[u8]) -> Hash {
        let leaves = leaves(data);
        root(&leaves, 0, (leaves.len() as u32).next_power_of_two())
    }

    #[test]
    fn padding_is_made_of_zero_leaves_not_of_hashes_of_zeros() {
        for (layer, expected) in [
            "0000000000000000000000000000000000000000000000000000000000000000",
            "f5a5fd42d16a20302798ef6ed309979b43003d2320d9f0e8ea9831a92759fb4b",
            "db56114e00fdd4c1f85c892bf35ac9a89289aaecb1ebd0a96cde606a748b5d71",
            "c78009fdf07fc56a11f122370658a353aaa542ed63e44c4bc15ff4cd105ab33c",
            "536d98837f2dd165a55d5eeae91485954472d56f246df256bf3cae19352a123c",
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(hex(&padding(layer as u32)), expected, "layer {layer}");
        }
    }

    #[test]
    fn roots_of_files_of_one_letter() {
        for (len, expected) in [
            (1, "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"),
            (16385, "dcdfa5bb8d91b7eb7a69fb556bba6770d3456cbd61ab52f172cb9421a442be79"),
            (49152, "b1d9c2de00721cf9e22bb41845283913df76c9e34b0f63a7c2ed961c59178331"),
            (49153, "ef6f9191171f6382641378996ae9d7355344f717bc2ca9f331d4e351e498c04d"),
        ] {
            assert_eq!(hex(&file_root(&vec![b'a'; len])), expected, "{len} bytes");
        }
    }

    #[test]
    fn a_layer_is_taken_only_whole_and_true() {
        let data: Vec<u8> = core::iter::repeat_n(b'a', 49153).collect();
        let nodes: Vec<Hash> = data.chunks(32768).map(|piece| root(&leaves(piece), 0, 2)).collect();
        let check = |hashes: &[u8], len| PieceLayer::check(hashes, &file_root(&data), len, 32768);
        let hashes = nodes.concat();
        assert_eq!(check(&hashes, 49153).unwrap().nodes(), nodes);
        assert_eq!(check(&hashes[1..], 49153), None, "not a multiple of 32");
        assert_eq!(check(&hashes[32..], 49153), None, "a hash too few");
        assert_eq!(check(&[&hashes[..], &[0; 32]].concat(), 49153), None, "a hash too many");
        let mut wrong = hashes;
        wrong[40] ^= 1;
        assert_eq!(check(&wrong, 49153), None, "a flipped bit");
    }

    #[test]
    fn a_piece_is_proved_by_its_leaves_alone() {
        let data = vec![b'a'; 40_000];
        let leaves = leaves(&data);
        let whole = PieceRoot { hash: root(&leaves, 0, 4), len: 40_000, width: 4 };
        assert!(whole.verify(&leaves));
        assert!(!whole.verify(&leaves[..2]));
        assert!(!whole.verify(&[&leaves[..], &[[0; 32]]].concat()), "padding is no leaf");
        assert!(!PieceRoot { width: 8, ..whole }.verify(&leaves));
    }

    /// The tree as BEP 52 describes it: padded to a power of two first, then halved.
    fn naive(mut nodes: Vec<Hash>, width: usize) -> Hash {
        nodes.resize(width, [0; 32]);
        while nodes.len() > 1 {
            nodes = nodes.chunks(2).map(|pair| parent(&pair[0], &pair[1])).collect();
        }
        nodes[0]
    }

    proptest! {
        #[test]
        fn roots_agree_with_a_tree_padded_in_full(count in 0_usize..40, extra in 0_u32..3) {
            let nodes: Vec<Hash> = (0..count).map(|i| leaf(&[i as u8])).collect();
            let width = (count as u32).next_power_of_two() << extra;
            prop_assert_eq!(root(&nodes, 0, width), naive(nodes, width as usize));
        }

        #[test]
        fn a_layer_leads_where_the_leaves_lead(len in 16_385_u64..300_000) {
            let data = vec![7; len as usize];
            let nodes: Vec<Hash> = data.chunks(16384).map(|piece| root(&leaves(piece), 0, 1)).collect();
            prop_assert!(PieceLayer::check(&nodes.concat(), &file_root(&data), len, 16384).is_some());
        }
    }
}
