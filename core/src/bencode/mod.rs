//! Reading bencode that others wrote (BEP 3): tolerant of what careless writers do, bounded, without recursion and
//! without copies.
//!
//! What we write, and what has to be canonical, goes through bendy. The world also sends unsorted and repeated keys,
//! leading zeros and bytes behind the end; losing a whole torrent or reply over these helps nobody, as an infohash
//! is taken over the bytes as they stand. [`Document::quirks`] tells how far a document is from canonical.

mod error;
mod value;

pub use error::{Error, ErrorKind};
pub use value::{Dict, DictIter, List, ListIter, Value};

use alloc::vec::Vec;
use core::fmt;
use value::View;

/// How much a document may ask of the reader (limit L6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many lists and dictionaries may be open at once.
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
        let mut parser = Parser { input, at: 0, tokens: Vec::new(), open: Vec::new(), limits };
        parser.value()?;
        Ok(Self { input, tokens: parser.tokens })
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

struct Parser<'a> {
    input: &'a [u8],
    at: usize,
    tokens: Vec<Token>,
    open: Vec<Open>,
    limits: Limits,
}

/// A list or dictionary whose end is still to come.
struct Open {
    token: u32,
    awaits: Awaits,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Awaits {
    Item,
    Key,
    KeysValue,
}

impl Parser<'_> {
    /// One token a turn, until nothing is open any more.
    fn value(&mut self) -> Result<(), Error> {
        loop {
            let start = self.at;
            let awaits = self.open.last().map(|open| open.awaits);
            match (self.peek()?, awaits) {
                (b'e', Some(Awaits::Item | Awaits::Key)) => {
                    self.push(start)?;
                    self.at += 1;
                    let closed = self.open.pop().expect("something awaits an item or a key");
                    self.tokens[closed.token as usize].next = self.tokens.len() as u32;
                }
                (b'e', Some(Awaits::KeysValue)) => return Err(self.error(ErrorKind::MissingValue)),
                (b'0'..=b'9', _) => {
                    self.push(start)?;
                    self.string()?;
                }
                (_, Some(Awaits::Key)) => return Err(self.error(ErrorKind::KeyNotString)),
                (b'i', _) => {
                    self.push(start)?;
                    self.integer()?;
                }
                (byte @ (b'l' | b'd'), _) => {
                    if self.open.len() >= self.limits.depth as usize {
                        return Err(self.error(ErrorKind::TooDeep(self.limits.depth)));
                    }
                    let token = self.push(start)?;
                    self.at += 1;
                    let awaits = if byte == b'l' { Awaits::Item } else { Awaits::Key };
                    self.open.push(Open { token, awaits });
                    continue;
                }
                (byte, _) => return Err(self.error(ErrorKind::UnexpectedByte(byte))),
            }
            let Some(around) = self.open.last_mut() else { break };
            around.awaits = match around.awaits {
                Awaits::Item => Awaits::Item,
                Awaits::Key => Awaits::KeysValue,
                Awaits::KeysValue => Awaits::Key,
            };
        }
        let end = Token { start: self.at as u32, next: self.tokens.len() as u32 };
        self.tokens.push(end);
        Ok(())
    }

    fn push(&mut self, start: usize) -> Result<u32, Error> {
        let token = self.tokens.len() as u32;
        if token >= self.limits.tokens {
            return Err(self.error(ErrorKind::TooManyTokens(self.limits.tokens)));
        }
        self.tokens.push(Token { start: start as u32, next: token + 1 });
        Ok(token)
    }

    fn integer(&mut self) -> Result<(), Error> {
        let start = self.at;
        self.at += 1;
        let negative = self.peek()? == b'-';
        self.at += usize::from(negative);
        let mut value = 0_i64;
        let mut digits = 0_usize;
        while let digit @ b'0'..=b'9' = self.peek()? {
            let digit = i64::from(digit - b'0');
            // Downwards, because the lowest integer has no positive twin.
            value = value
                .checked_mul(10)
                .and_then(|value| value.checked_sub(digit))
                .ok_or(Error { offset: start, kind: ErrorKind::IntegerRange })?;
            digits += 1;
            self.at += 1;
        }
        if digits == 0 || self.peek()? != b'e' {
            return Err(self.error(ErrorKind::IntegerSyntax));
        }
        if !negative && value == i64::MIN {
            return Err(Error { offset: start, kind: ErrorKind::IntegerRange });
        }
        self.at += 1;
        Ok(())
    }

    fn string(&mut self) -> Result<(), Error> {
        let start = self.at;
        let mut len = 0_usize;
        while let digit @ b'0'..=b'9' = self.peek()? {
            // Beyond any input already, so saturation changes no answer.
            len = len.saturating_mul(10).saturating_add(usize::from(digit - b'0'));
            self.at += 1;
        }
        if self.peek()? != b':' {
            return Err(self.error(ErrorKind::StringSyntax));
        }
        self.at += 1;
        if len > self.input.len() - self.at {
            return Err(Error { offset: start, kind: ErrorKind::StringPastEnd });
        }
        self.at += len;
        Ok(())
    }

    fn peek(&self) -> Result<u8, Error> {
        self.input.get(self.at).copied().ok_or_else(|| self.error(ErrorKind::UnexpectedEnd))
    }

    fn error(&self, kind: ErrorKind) -> Error {
        Error { offset: self.at, kind }
    }
}

#[cfg(test)]
mod tests;
