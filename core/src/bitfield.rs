//! A set of pieces, laid out as it goes over the wire.

use crate::lengths::PieceIndex;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

/// A set of pieces of a torrent with a fixed number of them; the highest bit of the first byte is piece 0 (BEP 3).
#[derive(Clone, PartialEq, Eq)]
pub struct Bitfield {
    bytes: Vec<u8>,
    len: u32,
    ones: u32,
}

impl Bitfield {
    /// No piece of `len`.
    pub fn none(len: u32) -> Self {
        Self { bytes: vec![0; Self::byte_len(len)], len, ones: 0 }
    }

    /// Every piece of `len`.
    pub fn all(len: u32) -> Self {
        let mut all = Self { bytes: vec![0xff; Self::byte_len(len)], len, ones: len };
        all.clear_spare();
        all
    }

    /// Reads the payload of a `bitfield` message. Spare bits are ignored, as other clients do; `None` if the length is
    /// wrong.
    pub fn from_wire(bytes: &[u8], len: u32) -> Option<Self> {
        if bytes.len() != Self::byte_len(len) {
            return None;
        }
        let mut read = Self { bytes: bytes.to_vec(), len, ones: 0 };
        read.clear_spare();
        read.ones = read.bytes.iter().map(|byte| byte.count_ones()).sum();
        Some(read)
    }

    /// The bytes of a `bitfield` message's payload for `len` pieces.
    pub const fn byte_len(len: u32) -> usize {
        len.div_ceil(8) as usize
    }

    /// The payload of a `bitfield` message.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many pieces the torrent has.
    #[expect(clippy::len_without_is_empty, reason = "whether the set is empty is `ones() == 0`")]
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// How many pieces are in the set.
    pub const fn ones(&self) -> u32 {
        self.ones
    }

    /// Whether every piece is in the set. So it is in a torrent without pieces.
    pub const fn is_all(&self) -> bool {
        self.ones == self.len
    }

    /// Whether `piece` is in the set.
    pub fn has(&self, piece: PieceIndex) -> bool {
        let (byte, mask) = place(piece);
        self.bytes[byte] & mask != 0
    }

    /// Puts `piece` in; returns whether it was not there.
    pub fn insert(&mut self, piece: PieceIndex) -> bool {
        let (byte, mask) = place(piece);
        let new = self.bytes[byte] & mask == 0;
        self.bytes[byte] |= mask;
        self.ones += u32::from(new);
        new
    }

    /// Takes `piece` out; returns whether it was there.
    pub fn remove(&mut self, piece: PieceIndex) -> bool {
        let (byte, mask) = place(piece);
        let was = self.bytes[byte] & mask != 0;
        self.bytes[byte] &= !mask;
        self.ones -= u32::from(was);
        was
    }

    fn clear_spare(&mut self) {
        if let Some(last) = self.bytes.last_mut()
            && !self.len.is_multiple_of(8)
        {
            *last &= 0xff << (8 - self.len % 8);
        }
    }
}

fn place(piece: PieceIndex) -> (usize, u8) {
    (piece.as_usize() / 8, 0x80 >> (piece.get() % 8))
}

/// One character a piece, `#` for those in the set; beyond 64 pieces only the count.
impl fmt::Display for Bitfield {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.len > 64 {
            return write!(f, "{}/{}", self.ones, self.len);
        }
        (0..self.len as usize).try_for_each(|piece| {
            f.write_str(if self.bytes[piece / 8] & (0x80 >> (piece % 8)) != 0 { "#" } else { "." })
        })
    }
}

impl fmt::Debug for Bitfield {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bitfield({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::Bitfield;
    use crate::lengths::Lengths;
    use alloc::collections::BTreeSet;
    use alloc::format;
    use proptest::prelude::*;

    #[test]
    fn the_high_bit_of_the_first_byte_is_piece_0() {
        let lengths = Lengths::contiguous(10, 1).unwrap();
        let mut set = Bitfield::none(10);
        set.insert(lengths.piece(0).unwrap());
        set.insert(lengths.piece(9).unwrap());
        assert_eq!(set.as_bytes(), [0b1000_0000, 0b0100_0000]);
        assert_eq!(format!("{set}"), "#........#");
    }

    #[test]
    fn a_wrong_length_is_refused_and_spare_bits_are_dropped() {
        for len in [0, 1, 3] {
            assert_eq!(Bitfield::from_wire(&[0xff; 3][..len], 10), None);
        }
        let read = Bitfield::from_wire(&[0xff, 0xff], 10).unwrap();
        assert_eq!(read, Bitfield::all(10));
        assert_eq!(read.as_bytes(), [0xff, 0xc0]);
    }

    proptest! {
        #[test]
        fn agrees_with_a_set(len in 1_u32..70, steps in prop::collection::vec((any::<u32>(), any::<bool>()), 0..60)) {
            let lengths = Lengths::contiguous(u64::from(len), 1).unwrap();
            let (mut set, mut model) = (Bitfield::none(len), BTreeSet::new());
            for (index, put) in steps {
                let piece = lengths.piece(index % len).unwrap();
                if put {
                    prop_assert_eq!(set.insert(piece), model.insert(piece));
                } else {
                    prop_assert_eq!(set.remove(piece), model.remove(&piece));
                }
                prop_assert_eq!(set.ones() as usize, model.len());
            }
            prop_assert!(lengths.pieces().all(|piece| set.has(piece) == model.contains(&piece)));
            prop_assert_eq!(Bitfield::from_wire(set.as_bytes(), len), Some(set));
        }
    }
}
