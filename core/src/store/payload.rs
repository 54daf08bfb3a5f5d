//! The bytes of blocks on their way through the core, which never looks at them.

use bytes::Bytes;
use core::fmt;
use core::ops::Range;

/// A run of a torrent's content: the bytes, or only how many there are. Recordings and large simulated swarms carry no
/// content; every decision of the core is the same with and without it.
#[derive(Clone, PartialEq, Eq)]
pub enum Payload {
    /// The bytes themselves, in whatever buffer the driver read them into.
    Content(Bytes),
    /// That many bytes.
    Length(u32),
}

impl Payload {
    /// How many bytes there are.
    #[expect(clippy::len_without_is_empty, reason = "content is never empty")]
    pub fn len(&self) -> u32 {
        match self {
            Self::Content(bytes) => u32::try_from(bytes.len()).expect("a payload is at most a run of blocks"),
            Self::Length(len) => *len,
        }
    }

    /// A part of it, without a copy.
    pub fn slice(&self, range: Range<u32>) -> Self {
        match self {
            Self::Content(bytes) => Self::Content(bytes.slice(range.start as usize..range.end as usize)),
            Self::Length(_) => Self::Length(range.end - range.start),
        }
    }

    /// The bytes, if they are there.
    pub fn content(&self) -> Option<&Bytes> {
        match self {
            Self::Content(bytes) => Some(bytes),
            Self::Length(_) => None,
        }
    }
}

/// Never the content: `len=16384`.
impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "len={}", self.len())
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({self})")
    }
}
