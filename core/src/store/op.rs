//! The operations that a driver executes for the store. They decide nothing: what, when and in which order is the
//! store's business.

use super::payload::Payload;
use crate::lengths::{FileIndex, FileSpan};
use crate::metainfo::{Assembled, Assembly};
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt;
use sha1::{Digest as _, Sha1};
use sha2::Sha256;

/// One piece of work on a torrent's files or on bytes in memory. Each is answered exactly once.
///
/// Operations on one file range keep their order; [`Sync`](Self::Sync) covers every write answered before it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskOp {
    /// Brings a finished file under its final name; creates it if it is empty.
    Finish {
        /// The file.
        file: FileIndex,
    },
    /// Feeds bytes to a digest.
    Hash(HashOp),
    /// Puts an info dictionary together that came from peers, and reads it: [`Assembly::read`]. This is work with bytes
    /// in memory alone, and comes before the driver can know where the torrent's files are.
    Metadata(Assembly),
    /// Reads the bytes of these runs, one after another. Padding reads as zeros.
    Read {
        /// Where they lie.
        spans: Vec<FileSpan>,
    },
    /// Says what is there of a file.
    Stat {
        /// The file.
        file: FileIndex,
    },
    /// Makes every earlier write to a file durable.
    Sync {
        /// The file.
        file: FileIndex,
    },
    /// Writes the data, which fills these runs one after another. What falls on padding is dropped.
    Write {
        /// Where it goes.
        spans: Vec<FileSpan>,
        /// What to write; as long as the runs together.
        data: Vec<Payload>,
    },
}

/// What is hashed, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashOp {
    /// SHA-256 of every 16 KiB block of the input by itself: the leaves of a v2 piece (BEP 52).
    Leaves {
        /// The blocks.
        input: HashInput,
    },
    /// SHA-1 over a run, from where an earlier run of the same piece ended.
    Sha1 {
        /// Where the earlier run ended.
        state: Sha1State,
        /// The run.
        input: HashInput,
        /// Whether the digest ends here.
        finish: bool,
    },
}

/// Where the bytes to hash are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashInput {
    /// In memory.
    Memory(Vec<Payload>),
    /// In files. Padding reads as zeros.
    Stored(Vec<FileSpan>),
}

/// A SHA-1 that has taken in some bytes.
#[derive(Clone)]
pub struct Sha1State {
    digest: Sha1,
    taken: u64,
}

impl Sha1State {
    /// A digest of nothing so far.
    pub fn new() -> Self {
        Self { digest: Sha1::new(), taken: 0 }
    }

    /// How many bytes it has taken in.
    pub const fn taken(&self) -> u64 {
        self.taken
    }

    /// Takes in `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
        self.taken += bytes.len() as u64;
    }

    /// The digest of everything taken in.
    pub fn finish(self) -> [u8; 20] {
        self.digest.finalize().into()
    }
}

impl Default for Sha1State {
    fn default() -> Self {
        Self::new()
    }
}

/// Equal if they took in the same bytes.
impl PartialEq for Sha1State {
    fn eq(&self, other: &Self) -> bool {
        self.taken == other.taken && self.clone().finish() == other.clone().finish()
    }
}

impl Eq for Sha1State {}

impl fmt::Debug for Sha1State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha1State({} bytes)", self.taken)
    }
}

/// The SHA-256 of one block: a leaf of a v2 piece.
pub fn leaf(block: &[u8]) -> [u8; 32] {
    Sha256::digest(block).into()
}

/// The answer to a [`DiskOp`] that went well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskOutput {
    /// To [`DiskOp::Finish`], [`DiskOp::Sync`] and [`DiskOp::Write`].
    Done,
    /// To [`DiskOp::Hash`].
    Hash(HashOutput),
    /// To [`DiskOp::Metadata`].
    Metadata(Assembled),
    /// To [`DiskOp::Read`]: as many bytes as the runs have.
    Read(Payload),
    /// To [`DiskOp::Stat`]: the length of what is there, or nothing.
    Stat(Option<u64>),
}

/// The answer to a [`HashOp`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashOutput {
    /// To [`HashOp::Leaves`], a digest a block.
    Leaves(Vec<[u8; 32]>),
    /// To [`HashOp::Sha1`] that finished.
    Sha1([u8; 20]),
    /// To [`HashOp::Sha1`] that goes on.
    State(Sha1State),
}

/// Why an operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiskError {
    /// No space is left, or a quota is used up.
    #[error("the disk is full")]
    Full,
    /// The file, or the part of it that was asked for, is not there.
    #[error("the data is not there")]
    Missing,
    /// The path or the file may not be written or read.
    #[error("permission denied")]
    Denied,
    /// Anything else, with the operating system's number.
    #[error("input/output error {0}")]
    Io(i32),
}

impl HashOp {
    /// Does the operation on bytes that the driver has at hand, in order; for `Leaves` each slice is one block.
    pub fn compute<'b>(self, slices: impl IntoIterator<Item = &'b [u8]>) -> HashOutput {
        match self {
            Self::Leaves { .. } => HashOutput::Leaves(slices.into_iter().map(leaf).collect()),
            Self::Sha1 { mut state, finish, .. } => {
                slices.into_iter().for_each(|slice| state.update(slice));
                if finish { HashOutput::Sha1(state.finish()) } else { HashOutput::State(state) }
            }
        }
    }
}

fn spans_text(spans: &[FileSpan], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (i, span) in spans.iter().enumerate() {
        let gap = if i == 0 { "" } else { "," };
        let pad = if span.pad { "p" } else { "" };
        write!(f, "{gap}f{}{pad}:{}+{}", span.file, span.offset, span.len)?;
    }
    Ok(())
}

fn input_text(input: &HashInput, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match input {
        HashInput::Memory(data) => write!(f, "len={}", data.iter().map(|d| u64::from(d.len())).sum::<u64>()),
        HashInput::Stored(spans) => spans_text(spans, f),
    }
}

impl fmt::Display for DiskOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finish { file } => write!(f, "finish f{file}"),
            Self::Hash(HashOp::Leaves { input }) => {
                f.write_str("hash leaves ")?;
                input_text(input, f)
            }
            Self::Hash(HashOp::Sha1 { state, input, finish }) => {
                write!(f, "hash from={} ", state.taken)?;
                input_text(input, f)?;
                f.write_str(if *finish { " end" } else { "" })
            }
            Self::Metadata(assembly) => write!(f, "metadata {assembly}"),
            Self::Read { spans } => {
                f.write_str("read ")?;
                spans_text(spans, f)
            }
            Self::Stat { file } => write!(f, "stat f{file}"),
            Self::Sync { file } => write!(f, "sync f{file}"),
            Self::Write { spans, .. } => {
                f.write_str("write ")?;
                spans_text(spans, f)
            }
        }
    }
}

impl fmt::Display for DiskOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::Hash(HashOutput::Leaves(leaves)) => write!(f, "{} leaves", leaves.len()),
            Self::Hash(HashOutput::Sha1(digest)) => {
                write!(f, "digest {:02x}{:02x}..", digest[0], digest[1])
            }
            Self::Hash(HashOutput::State(state)) => write!(f, "hashed to={}", state.taken),
            Self::Metadata(Assembled { metainfo: Ok(metainfo), .. }) => {
                write!(f, "metadata pieces={}", metainfo.lengths().piece_count())
            }
            Self::Metadata(Assembled { metainfo: Err(error), .. }) => error.fmt(f),
            Self::Read(payload) => write!(f, "read {payload}"),
            Self::Stat(Some(len)) => write!(f, "found len={len}"),
            Self::Stat(None) => f.write_str("nothing"),
        }
    }
}

/// Zeros to read padding from.
pub static ZEROS: &[u8] = &[0; 1 << 14];

/// `len` zeros as a payload's bytes, for drivers that answer a read of padding.
pub fn zeros(len: u32) -> Bytes {
    if len as usize <= ZEROS.len() {
        Bytes::from_static(&ZEROS[..len as usize])
    } else {
        Bytes::from(alloc::vec![0; len as usize])
    }
}
