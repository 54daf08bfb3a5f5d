//! Why bytes are no torrent.

use super::{MAX_BYTES, MAX_DEPTH, MAX_FILES, MAX_RENAMES};
use crate::bencode::{self, Quirks};
use crate::lengths::LengthsError;

/// Why a torrent was refused. Nothing of the torrent's own text is in here, so it is safe to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is not bencoded.
    #[error("not bencode: {0}")]
    Bencode(#[from] bencode::Error),
    /// A path has more than [`MAX_DEPTH`] components.
    #[error("a path is deeper than {MAX_DEPTH} directories")]
    DirectoryTooDeep,
    /// The v1 and the v2 half of a hybrid torrent describe different files, or files of v1 do not start on pieces.
    #[error("the v1 and v2 halves describe different files")]
    InconsistentFiles,
    /// The file tree of v2 is not a tree of names with one file at each end.
    #[error("the file tree is malformed")]
    InvalidFileTree,
    /// A file's length is missing, negative or too large.
    #[error("the length of a file is missing or impossible")]
    InvalidLength,
    /// A component of a path is not a string.
    #[error("a path is malformed")]
    InvalidPath,
    /// A piece layer belongs to no file, has a wrong length, or does not lead to its file's root.
    #[error("a piece layer does not fit the files")]
    InvalidPieceLayer,
    /// There is no `file tree`, which version 2 asks for.
    #[error("'file tree' is missing")]
    MissingFileTree,
    /// There is no dictionary called `info`.
    #[error("'info' is missing")]
    MissingInfo,
    /// There is a `file tree` but no `meta version`.
    #[error("'meta version' is missing")]
    MissingMetaVersion,
    /// There is no `name`, nothing is left of it, or a file has no path.
    #[error("a name is missing")]
    MissingName,
    /// There are no piece hashes for v1.
    #[error("'pieces' is missing")]
    MissingPieces,
    /// A file of v2 has no root, or one of zeros.
    #[error("'pieces root' of a file is missing")]
    MissingPiecesRoot,
    /// There are no files.
    #[error("there are no files")]
    NoFiles,
    /// `info` of a v2 torrent is not canonical, which BEP 52 asks for.
    #[error("the v2 info dictionary is not canonical: {0}")]
    NotCanonical(Quirks),
    /// The outermost value is not a dictionary.
    #[error("not a dictionary")]
    NotDictionary,
    /// A file of the v2 tree is said to be padding, which v2 has no use for.
    #[error("the file tree holds padding")]
    PadInTree,
    /// The piece length is missing, outside the limits, or no power of two of at least 16 KiB in v2.
    #[error("'piece length' is missing or impossible")]
    PieceLength,
    /// There are too many pieces.
    #[error("{0}")]
    TooManyPieces(LengthsError),
    /// More than [`MAX_FILES`] files.
    #[error("more than {MAX_FILES} files")]
    TooManyFiles,
    /// More than [`MAX_RENAMES`] tries were needed to give each file a name of its own.
    #[error("more than {MAX_RENAMES} clashes of file names")]
    TooManyRenames,
    /// More than [`MAX_BYTES`] bytes.
    #[error("longer than {MAX_BYTES} bytes")]
    TooLong,
    /// A `meta version` above 2.
    #[error("'meta version' is newer than 2")]
    UnknownVersion,
    /// There are more or fewer piece hashes than pieces.
    #[error("the number of piece hashes does not fit the length")]
    WrongPieceCount,
}

impl From<LengthsError> for Error {
    fn from(error: LengthsError) -> Self {
        match error {
            LengthsError::PieceLength(_) => Self::PieceLength,
            LengthsError::TooManyPieces => Self::TooManyPieces(error),
            LengthsError::TotalTooLong => Self::InvalidLength,
        }
    }
}
