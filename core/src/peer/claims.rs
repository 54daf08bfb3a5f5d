//! What a peer says of its pieces before it is known how many there are.

use crate::bitfield::Bitfield;
use crate::lengths::{Lengths, MAX_PIECES, PieceIndex};
use crate::wire::Offence;
use alloc::vec::Vec;

/// Claims that can't be checked yet: at most the bits of a torrent with [`MAX_PIECES`] pieces, and never more than the
/// highest piece that was named asks for.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// Whether anything was said of what they have.
    said: bool,
    all: bool,
    /// Laid out as on the wire.
    bits: Vec<u8>,
    /// The length of the last bitfield.
    bitfield_len: Option<usize>,
    /// The highest piece of single haves.
    highest: Option<u32>,
    /// Pieces that we may ask for while choked.
    allowed: Vec<u32>,
}

impl Claims {
    /// They have exactly these, or say so.
    pub(super) fn bitfield(&mut self, bits: &[u8]) {
        (self.said, self.all) = (true, false);
        self.bits = bits.to_vec();
        self.bitfield_len = Some(bits.len());
    }

    /// They have everything, or nothing.
    pub(super) fn have_all(&mut self, all: bool) {
        (self.said, self.all) = (true, all);
        self.bits = Vec::new();
    }

    /// They have one more.
    pub(super) fn have(&mut self, piece: u32) -> Result<(), Offence> {
        if piece >= MAX_PIECES {
            return Err(Offence::HaveOutOfRange);
        }
        self.said = true;
        self.highest = self.highest.max(Some(piece));
        if !self.all {
            let byte = piece as usize / 8;
            if byte >= self.bits.len() {
                self.bits.resize(byte + 1, 0);
            }
            self.bits[byte] |= 0x80 >> (piece % 8);
        }
        Ok(())
    }

    /// They have one no more. Of somebody who has everything it can't be kept in mind, as nobody knows how much that is.
    pub(super) fn lost(&mut self, piece: u32) {
        if let Some(byte) = self.bits.get_mut(piece as usize / 8) {
            *byte &= !(0x80 >> (piece % 8));
        }
    }

    /// They let us ask for this one while they choke us.
    pub(super) fn allow(&mut self, piece: u32, most: usize) {
        if self.allowed.len() < most {
            self.allowed.push(piece);
        }
    }

    /// What they have, if they said anything, and what they allow.
    pub(super) fn check(
        mut self,
        lengths: &Lengths,
    ) -> Result<(Option<Bitfield>, impl Iterator<Item = PieceIndex>), Offence> {
        let count = lengths.piece_count();
        let len = Bitfield::byte_len(count);
        if self.bitfield_len.is_some_and(|claimed| claimed != len) {
            return Err(Offence::BadBitfield);
        }
        if self.highest.is_some_and(|piece| piece >= count) {
            return Err(Offence::HaveOutOfRange);
        }
        self.bits.resize(len, 0);
        let has = if self.all { Some(Bitfield::all(count)) } else { Bitfield::from_wire(&self.bits, count) };
        let allowed = self.allowed.into_iter().filter_map(|piece| lengths.piece(piece));
        Ok((has.filter(|_| self.said), allowed))
    }
}

#[cfg(test)]
mod tests {
    use super::Claims;
    use crate::bitfield::Bitfield;
    use crate::lengths::{Lengths, MAX_PIECES};
    use crate::wire::Offence;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn check(claims: Claims, pieces: u32) -> Result<Option<Bitfield>, Offence> {
        claims.check(&Lengths::contiguous(pieces.into(), 1).unwrap()).map(|(has, _)| has)
    }

    #[test]
    fn who_said_nothing_claims_nothing() {
        assert_eq!(check(Claims::default(), 10), Ok(None));
        let mut claims = Claims::default();
        claims.have_all(false);
        assert_eq!(check(claims, 10), Ok(Some(Bitfield::none(10))));
    }

    /// P-05: every wrong length is found, to the byte.
    #[test]
    fn a_bitfield_must_fit() {
        for pieces in [1, 8, 9, 10, 16, 17] {
            for len in 0..5 {
                let mut claims = Claims::default();
                claims.bitfield(&[0xff; 5][..len]);
                let expected = if len == Bitfield::byte_len(pieces) {
                    Ok(Some(Bitfield::all(pieces)))
                } else {
                    Err(Offence::BadBitfield)
                };
                assert_eq!(check(claims, pieces), expected, "{len} bytes for {pieces} pieces");
            }
        }
    }

    #[test]
    fn a_have_must_name_a_piece() {
        for (piece, offence) in
            [(9, None), (10, Some(Offence::HaveOutOfRange)), (MAX_PIECES - 1, Some(Offence::HaveOutOfRange))]
        {
            let mut claims = Claims::default();
            claims.have(piece).unwrap();
            assert_eq!(check(claims, 10).err(), offence);
        }
        assert_eq!(Claims::default().have(MAX_PIECES), Err(Offence::HaveOutOfRange));
    }

    #[test]
    fn a_bitfield_that_was_all_is_checked_for_its_length_still() {
        let mut claims = Claims::default();
        claims.bitfield(&[0; 3]);
        claims.have_all(true);
        assert_eq!(check(claims, 10), Err(Offence::BadBitfield));
    }

    #[test]
    fn what_is_allowed_is_bounded_and_must_exist() {
        let mut claims = Claims::default();
        for piece in [3, 70, 9, 1] {
            claims.allow(piece, 3);
        }
        let lengths = Lengths::contiguous(10, 1).unwrap();
        let allowed: Vec<u32> = claims.check(&lengths).unwrap().1.map(|piece| piece.get()).collect();
        assert_eq!(allowed, [3, 9]);
    }

    proptest! {
        /// What is kept and checked later is what would have been believed at once.
        #[test]
        fn agrees_with_a_bitfield(
            start in prop::option::of(prop::collection::vec(any::<u8>(), 3)),
            haves in prop::collection::vec(0_u32..20, 0..30),
        ) {
            let lengths = Lengths::contiguous(20, 1).unwrap();
            let (mut claims, mut has) = (Claims::default(), Bitfield::none(20));
            if let Some(bits) = &start {
                claims.bitfield(bits);
                has = Bitfield::from_wire(bits, 20).unwrap();
            }
            for piece in &haves {
                claims.have(*piece).unwrap();
                has.insert(lengths.piece(*piece).unwrap());
            }
            let said = start.is_some() || !haves.is_empty();
            prop_assert_eq!(check(claims, 20), Ok(said.then_some(has)));
        }
    }
}
