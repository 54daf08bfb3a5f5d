//! Reading bencode that others wrote (BEP 3): tolerant of what careless writers do, bounded, without recursion and
//! without copies.
//!
//! What we write, and what has to be canonical, goes through bendy. The world also sends unsorted and repeated keys,
//! leading zeros and bytes behind the end; losing a whole torrent or reply over these helps nobody, as an infohash
//! is taken over the bytes as they stand. [`Document::quirks`] tells how far a document is from canonical.
//!
//! A [`Document`] is indexed; [`Raw`] suits small messages that are read once, and allocates nothing. [`Writer`] is for
//! messages that carry values of others as they came.

mod error;
mod parser;
mod raw;
mod value;
mod writer;

pub use error::{Error, ErrorKind};
pub use raw::{Raw, RawItems, RawPairs};
pub use value::{Dict, DictIter, List, ListIter, Value};
pub use writer::Writer;

use alloc::vec::Vec;
use core::fmt;
use value::View;

/// How much a document may ask of the reader (limit L6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many lists and dictionaries may be open at once, 128 at most.
    pub depth: u32,
    /// How many tokens there may be: integers, strings, and the start and end of each list and dictionary.
    pub tokens: u32,
}

impl Limits {
    /// For files and metadata, which can describe a million files.
    pub const FILE: Self = Self { depth: 100, tokens: 3_000_000 };
    /// For messages of peers and nodes.
    pub const WIRE: Self = Self { depth: 16, tokens: 1_000 };
}

/// One bencoded value at the start of a byte string, checked and indexed.
#[derive(Clone)]
pub struct Document<'a> {
    input: &'a [u8],
    /// In the order of the input, and at the end a token for the place behind the value: a token ends where the
    /// next one starts.
    tokens: Vec<Token>,
}

impl<'a> Document<'a> {
    /// Reads the value that `input` starts with. More bytes may follow it, see [`Document::end`].
    pub fn parse(input: &'a [u8], limits: Limits) -> Result<Self, Error> {
        if u32::try_from(input.len()).is_err() {
            return Err(Error { offset: 0, kind: ErrorKind::InputTooLong });
        }
        let mut index = Index::default();
        let end = parser::parse(input, limits, &mut index)?;
        let Index { mut tokens, .. } = index;
        tokens.push(Token { start: end as u32, next: tokens.len() as u32 });
        Ok(Self { input, tokens })
    }

    /// The value.
    pub fn root(&self) -> Value<'_> {
        self.view().value(0)
    }

    /// The offset just behind the value.
    pub fn end(&self) -> usize {
        self.tokens.last().expect("a document has a token for its end").start as usize
    }

    /// The bytes of the value as they stand.
    pub fn raw(&self) -> &'a [u8] {
        &self.input[..self.end()]
    }

    /// What a canonical writer would have written differently. Reads the document once more.
    pub fn quirks(&self) -> Quirks {
        self.view().quirks(0)
    }

    fn view(&self) -> View<'_> {
        View { input: self.input, tokens: &self.tokens }
    }
}

impl fmt::Debug for Document<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.root().fmt(f)
    }
}

/// What is tolerated in a document although BEP 3 forbids it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quirks {
    /// A dictionary has the same key twice; the first one counts.
    pub duplicate_keys: bool,
    /// An integer or the length of a string starts with a zero that says nothing.
    pub leading_zeros: bool,
    /// An integer is written `-0`.
    pub negative_zero: bool,
    /// The keys of a dictionary are not in ascending order.
    pub unsorted_keys: bool,
}

impl Quirks {
    /// Whether there is none, so that the document is canonical.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// `unsorted keys, leading zeros`, or nothing.
impl fmt::Display for Quirks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = [
            (self.unsorted_keys, "unsorted keys"),
            (self.duplicate_keys, "duplicate keys"),
            (self.leading_zeros, "leading zeros"),
            (self.negative_zero, "negative zero"),
        ];
        let present = named.into_iter().filter(|(present, _)| *present);
        present.enumerate().try_for_each(|(i, (_, name))| {
            f.write_str(if i == 0 { "" } else { ", " })?;
            f.write_str(name)
        })
    }
}

/// Where something starts, and the token that follows it and all that is in it.
#[derive(Clone, Copy)]
struct Token {
    start: u32,
    next: u32,
}

/// The tokens of a document, in the order of the input.
#[derive(Default)]
struct Index {
    tokens: Vec<Token>,
    /// The lists and dictionaries whose end is still to come.
    open: Vec<u32>,
}

impl parser::Sink for Index {
    fn token(&mut self, start: usize) {
        let next = self.tokens.len() as u32 + 1;
        self.tokens.push(Token { start: start as u32, next });
    }

    fn opened(&mut self) {
        self.open.push(self.tokens.len() as u32 - 1);
    }

    fn closed(&mut self) {
        let opened = self.open.pop().expect("what is closed was opened");
        self.tokens[opened as usize].next = self.tokens.len() as u32;
    }
}

#[cfg(test)]
mod tests;
