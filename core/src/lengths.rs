//! The arithmetic of pieces, blocks and files. Whoever holds a [`PieceIndex`] or a [`Block`] holds a valid one:
//! only [`Lengths`] mints them.

use alloc::vec::Vec;
use core::fmt;

/// The size of a request, but for the last of a piece (BEP 3: all clients use 2^14).
pub const BLOCK_LEN: u32 = 1 << 14;

/// The most pieces that a torrent may have (limit L5).
pub const MAX_PIECES: u32 = 1 << 21;

/// The longest piece that a torrent may have (limit L5): 32,767 blocks.
pub const MAX_PIECE_LEN: u32 = 536_854_528;

/// A piece that exists in a certain torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PieceIndex(u32);

impl PieceIndex {
    /// The number that stands on the wire.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The number as an index into a slice with an entry a piece.
    pub const fn as_usize(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for PieceIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A block that exists in a certain torrent: what one request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Block {
    piece: PieceIndex,
    begin: u32,
    len: u32,
}

impl Block {
    /// The piece that it lies in.
    pub const fn piece(self) -> PieceIndex {
        self.piece
    }

    /// Where in its piece it begins, in bytes.
    pub const fn begin(self) -> u32 {
        self.begin
    }

    /// Its length in bytes, at most [`BLOCK_LEN`].
    #[expect(clippy::len_without_is_empty, reason = "a block is never empty")]
    pub const fn len(self) -> u32 {
        self.len
    }

    /// Its number within its piece.
    pub const fn number(self) -> u32 {
        self.begin / BLOCK_LEN
    }
}

/// `piece:begin+len`, as traces show it.
impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}+{}", self.piece, self.begin, self.len)
    }
}

/// Why lengths make no torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LengthsError {
    /// The piece length is zero or above [`MAX_PIECE_LEN`].
    #[error("piece length {0} is outside 1 to {MAX_PIECE_LEN}")]
    PieceLength(u64),
    /// There would be more than [`MAX_PIECES`] pieces.
    #[error("more than {MAX_PIECES} pieces")]
    TooManyPieces,
    /// The lengths of the files add up to more than 2^63 - 1 bytes.
    #[error("the lengths of the files add up to more than 2^63 - 1")]
    TotalTooLong,
}

/// How long the pieces of a torrent are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lengths {
    piece_len: u32,
    piece_count: u32,
    total: u64,
    /// The pieces shorter than `piece_len`, in order: at most the last one in v1, the last of each file in v2.
    short: Vec<(u32, u32)>,
}

impl Lengths {
    /// v1: one run of `total` bytes, cut every `piece_len` (BEP 3).
    pub fn contiguous(total: u64, piece_len: u64) -> Result<Self, LengthsError> {
        Self::per_file([total], piece_len)
    }

    /// v2: each file that is not empty starts on a piece of its own (BEP 52).
    pub fn per_file(files: impl IntoIterator<Item = u64>, piece_len: u64) -> Result<Self, LengthsError> {
        if piece_len == 0 || piece_len > u64::from(MAX_PIECE_LEN) {
            return Err(LengthsError::PieceLength(piece_len));
        }
        let (mut count, mut total, mut short) = (0_u64, 0_u64, Vec::new());
        for len in files {
            total =
                total.checked_add(len).filter(|t| *t <= i64::MAX as u64).ok_or(LengthsError::TotalTooLong)?;
            count += len.div_ceil(piece_len);
            if count > u64::from(MAX_PIECES) {
                return Err(LengthsError::TooManyPieces);
            }
            if len % piece_len != 0 {
                short.push((count as u32 - 1, (len % piece_len) as u32));
            }
        }
        Ok(Self { piece_len: piece_len as u32, piece_count: count as u32, total, short })
    }

    /// The length of every piece that is not the last of its run.
    pub const fn piece_len_max(&self) -> u32 {
        self.piece_len
    }

    /// How many pieces there are.
    pub const fn piece_count(&self) -> u32 {
        self.piece_count
    }

    /// The bytes of all pieces together.
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// Piece number `index`, if there is one.
    pub const fn piece(&self, index: u32) -> Option<PieceIndex> {
        if index < self.piece_count { Some(PieceIndex(index)) } else { None }
    }

    /// All pieces in order.
    pub fn pieces(&self) -> impl DoubleEndedIterator<Item = PieceIndex> + ExactSizeIterator + use<> {
        (0..self.piece_count).map(PieceIndex)
    }

    /// The length of `piece` in bytes, at least 1.
    pub fn piece_len(&self, piece: PieceIndex) -> u32 {
        match self.short.binary_search_by_key(&piece.0, |(index, _)| *index) {
            Ok(at) => self.short[at].1,
            Err(_) => self.piece_len,
        }
    }

    /// How many blocks `piece` has, at least 1.
    pub fn block_count(&self, piece: PieceIndex) -> u32 {
        self.piece_len(piece).div_ceil(BLOCK_LEN)
    }

    /// Block number `number` of `piece`, if there is one.
    pub fn block(&self, piece: PieceIndex, number: u32) -> Option<Block> {
        let begin = number.checked_mul(BLOCK_LEN)?;
        let left = self.piece_len(piece).checked_sub(begin).filter(|left| *left > 0)?;
        Some(Block { piece, begin, len: left.min(BLOCK_LEN) })
    }

    /// All blocks of `piece` in order.
    pub fn blocks(&self, piece: PieceIndex) -> impl Iterator<Item = Block> + use<> {
        let len = self.piece_len(piece);
        (0..len.div_ceil(BLOCK_LEN)).map(move |number| {
            let begin = number * BLOCK_LEN;
            Block { piece, begin, len: (len - begin).min(BLOCK_LEN) }
        })
    }

    /// The block that these three numbers of a message name, if they name exactly one.
    pub fn check_block(&self, piece: u32, begin: u32, len: u32) -> Option<Block> {
        let piece = self.piece(piece)?;
        if !begin.is_multiple_of(BLOCK_LEN) {
            return None;
        }
        self.block(piece, begin / BLOCK_LEN).filter(|block| block.len == len)
    }

    /// The part of a piece that these three numbers of a request name, if it is at most [`BLOCK_LEN`] and lies within
    /// its piece. A remote may ask for parts that do not start where our blocks start.
    pub fn check_request(&self, piece: u32, begin: u32, len: u32) -> Option<Block> {
        let piece = self.piece(piece)?;
        let end = begin.checked_add(len)?;
        (len > 0 && len <= BLOCK_LEN && end <= self.piece_len(piece)).then_some(Block { piece, begin, len })
    }
}

/// A file's place in the list of a torrent's files, pads counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileIndex(pub u32);

impl FileIndex {
    /// The number as an index into a slice with an entry a file.
    pub const fn as_usize(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for FileIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A run of bytes within one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSpan {
    /// The file.
    pub file: FileIndex,
    /// Where in the file the run starts.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u32,
    /// Whether the file is padding: zeros that nobody stores (BEP 47).
    pub pad: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileSlot {
    start: u64,
    len: u64,
    pad: bool,
}

/// Where the bytes of pieces lie in files: end to end in v1, each file on a piece of its own in v2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileMap {
    lengths: Lengths,
    files: Vec<FileSlot>,
}

impl FileMap {
    /// v1: files of these lengths (and whether each is padding) lie end to end.
    pub fn contiguous(files: &[(u64, bool)], piece_len: u64) -> Result<Self, LengthsError> {
        let mut start = 0_u64;
        let mut slots = Vec::with_capacity(files.len());
        for &(len, pad) in files {
            slots.push(FileSlot { start, len, pad });
            start = start.checked_add(len).ok_or(LengthsError::TotalTooLong)?;
        }
        Ok(Self { lengths: Lengths::contiguous(start, piece_len)?, files: slots })
    }

    /// v2: each file that is not empty starts on a piece of its own.
    pub fn per_file(files: &[u64], piece_len: u64) -> Result<Self, LengthsError> {
        let lengths = Lengths::per_file(files.iter().copied(), piece_len)?;
        let mut start = 0_u64;
        let mut slots = Vec::with_capacity(files.len());
        for &len in files {
            slots.push(FileSlot { start, len, pad: false });
            start += len.div_ceil(piece_len) * piece_len;
        }
        Ok(Self { lengths, files: slots })
    }

    /// The lengths of the pieces.
    pub const fn lengths(&self) -> &Lengths {
        &self.lengths
    }

    /// How many files there are, pads counted.
    pub fn file_count(&self) -> u32 {
        self.files.len() as u32
    }

    /// The length of `file` in bytes.
    pub fn file_len(&self, file: FileIndex) -> u64 {
        self.files[file.as_usize()].len
    }

    /// Whether `file` is padding.
    pub fn is_pad(&self, file: FileIndex) -> bool {
        self.files[file.as_usize()].pad
    }

    /// The pieces that hold bytes of `file`: the first and the last, or nothing for an empty file.
    pub fn pieces_of(&self, file: FileIndex) -> Option<(PieceIndex, PieceIndex)> {
        let slot = self.files[file.as_usize()];
        let piece_len = u64::from(self.lengths.piece_len);
        let last = (slot.start + slot.len.checked_sub(1)?) / piece_len;
        Some((PieceIndex((slot.start / piece_len) as u32), PieceIndex(last as u32)))
    }

    /// The runs that `len` bytes from `begin` within `piece` fall into, in order; together they are `len` bytes as
    /// long as these lie within the piece.
    pub fn spans(&self, piece: PieceIndex, begin: u32, len: u32) -> impl Iterator<Item = FileSpan> + '_ {
        let from = u64::from(piece.0) * u64::from(self.lengths.piece_len) + u64::from(begin);
        let to = from + u64::from(len);
        let first = self.files.partition_point(|slot| slot.start + slot.len <= from);
        self.files[first..]
            .iter()
            .zip(first as u32..)
            .take_while(move |(slot, _)| slot.start < to)
            .filter_map(move |(slot, index)| {
                let (start, end) = (from.max(slot.start), to.min(slot.start + slot.len));
                (start < end).then(|| FileSpan {
                    file: FileIndex(index),
                    offset: start - slot.start,
                    len: (end - start) as u32,
                    pad: slot.pad,
                })
            })
    }
}

#[cfg(test)]
mod tests {
    use super::{BLOCK_LEN, FileIndex, FileMap, Lengths, LengthsError, MAX_PIECE_LEN};
    use alloc::vec;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    #[test]
    fn an_exact_multiple_has_no_short_piece() {
        let lengths = Lengths::contiguous(4 * 32768, 32768).unwrap();
        assert_eq!(lengths.piece_count(), 4);
        assert!(lengths.pieces().all(|piece| lengths.piece_len(piece) == 32768));
    }

    #[test]
    fn nothing_has_no_pieces() {
        let lengths = Lengths::contiguous(0, 16384).unwrap();
        assert_eq!((lengths.piece_count(), lengths.piece(0)), (0, None));
    }

    #[test]
    fn lengths_outside_the_limits_are_refused() {
        assert_eq!(Lengths::contiguous(1, 0), Err(LengthsError::PieceLength(0)));
        assert_eq!(
            Lengths::contiguous(1, (1 << 32) + 16384),
            Err(LengthsError::PieceLength((1 << 32) + 16384))
        );
        assert!(Lengths::contiguous(1, u64::from(MAX_PIECE_LEN)).is_ok());
        assert_eq!(Lengths::contiguous((1 << 21) * 16384 + 1, 16384), Err(LengthsError::TooManyPieces));
        let huge = FileMap::contiguous(&[(u64::MAX, false), (2, false)], 16384);
        assert_eq!(huge, Err(LengthsError::TotalTooLong));
    }

    #[test]
    fn only_exact_blocks_pass() {
        let lengths = Lengths::contiguous(20000 + 20000 + 1, 20000).unwrap();
        assert_eq!(lengths.check_block(0, 0, BLOCK_LEN).unwrap().number(), 0);
        assert_eq!(lengths.check_block(0, BLOCK_LEN, 20000 - BLOCK_LEN).unwrap().number(), 1);
        assert_eq!(lengths.check_block(2, 0, 1).unwrap().len(), 1);
        for (piece, begin, len) in
            [(3, 0, 1), (0, 1, 16384), (0, 16384, 16384), (0, 32768, 1), (u32::MAX, 0, 1)]
        {
            assert_eq!(lengths.check_block(piece, begin, len), None, "{piece}:{begin}+{len}");
        }
    }

    #[test]
    fn requests_stay_within_their_piece() {
        let lengths = Lengths::contiguous(40000, 20000).unwrap();
        assert!(lengths.check_request(1, 19999, 1).is_some());
        assert!(lengths.check_request(0, 5, 100).is_some());
        for (piece, begin, len) in [(0, 0, 0), (0, 0, 16385), (1, 19999, 2), (0, u32::MAX, 2), (2, 0, 1)] {
            assert_eq!(lengths.check_request(piece, begin, len), None, "{piece}:{begin}+{len}");
        }
    }

    #[test]
    fn files_of_v2_start_on_their_own_piece() {
        let map = FileMap::per_file(&[16385, 0, 5], 16384).unwrap();
        let lens: Vec<u32> = map.lengths().pieces().map(|piece| map.lengths().piece_len(piece)).collect();
        assert_eq!(lens, [16384, 1, 5]);
        let spans: Vec<_> = map.spans(map.lengths().piece(2).unwrap(), 0, 5).collect();
        assert_eq!((spans.len(), spans[0].file, spans[0].offset), (1, FileIndex(2), 0));
        assert_eq!(map.pieces_of(FileIndex(1)), None);
    }

    proptest! {
        /// The naive model writes down, for each byte of the torrent, the file and offset it belongs to.
        #[test]
        fn spans_agree_with_a_map_byte_by_byte(
            files in prop::collection::vec((0_u64..40, any::<bool>()), 1..8),
            piece_len in 1_u64..50,
        ) {
            let map = FileMap::contiguous(&files, piece_len).unwrap();
            let mut model = vec![];
            for (index, (len, pad)) in files.iter().enumerate() {
                model.extend((0..*len).map(|offset| (index as u32, offset, *pad)));
            }
            let mut found = vec![];
            for piece in map.lengths().pieces() {
                for span in map.spans(piece, 0, map.lengths().piece_len(piece)) {
                    prop_assert!(span.len > 0);
                    found.extend((0..u64::from(span.len)).map(|i| (span.file.0, span.offset + i, span.pad)));
                }
            }
            prop_assert_eq!(found, model);
        }

        #[test]
        fn blocks_tile_their_piece(total in 1_u64..200_000, piece_len in 1_u64..70_000) {
            let lengths = Lengths::contiguous(total, piece_len).unwrap();
            let mut sum = 0;
            for piece in lengths.pieces() {
                let mut at = 0;
                for block in lengths.blocks(piece) {
                    prop_assert_eq!(block.begin(), at);
                    prop_assert_eq!(lengths.check_block(piece.get(), at, block.len()), Some(block));
                    prop_assert_eq!(lengths.block(piece, block.number()), Some(block));
                    at += block.len();
                }
                prop_assert_eq!(at, lengths.piece_len(piece));
                prop_assert_eq!(lengths.block(piece, lengths.block_count(piece)), None);
                sum += u64::from(at);
            }
            prop_assert_eq!(sum, total);
        }
    }
}
