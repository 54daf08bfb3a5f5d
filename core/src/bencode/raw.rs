//! Values that were checked but are not indexed, for small messages that are read once.

use super::parser::{self, Lexer};
use super::{Error, ErrorKind, Limits};
use core::fmt;

/// A value as it stands in the input. Reading one allocates nothing, and what is taken out of it borrows from the input
/// alone; but each step over a list or dictionary looks at all that is in it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Raw<'a>(&'a [u8]);

impl<'a> Raw<'a> {
    /// Reads the value that `input` starts with. More bytes may follow it.
    pub fn parse(input: &'a [u8], limits: Limits) -> Result<Self, Error> {
        if u32::try_from(input.len()).is_err() {
            return Err(Error { offset: 0, kind: ErrorKind::InputTooLong });
        }
        Ok(Self(&input[..parser::parse(input, limits, &mut ())?]))
    }

    /// The bytes of the value as they stand.
    pub const fn raw(self) -> &'a [u8] {
        self.0
    }

    /// The integer, if it is one.
    pub fn as_int(self) -> Option<i64> {
        (self.0[0] == b'i').then(|| self.lexer(0).integer().expect("the parser read this integer"))
    }

    /// The byte string, if it is one.
    pub fn as_bytes(self) -> Option<&'a [u8]> {
        self.0[0].is_ascii_digit().then(|| self.lexer(0).string().expect("the parser read this string"))
    }

    /// The items in order, if it is a list.
    pub fn items(self) -> Option<RawItems<'a>> {
        (self.0[0] == b'l').then(|| RawItems(self.lexer(1)))
    }

    /// The pairs in the order of the input, duplicates included, if it is a dictionary.
    pub fn pairs(self) -> Option<RawPairs<'a>> {
        (self.0[0] == b'd').then(|| RawPairs(self.lexer(1)))
    }

    const fn lexer(self, at: usize) -> Lexer<'a> {
        Lexer { input: self.0, at }
    }
}

impl fmt::Debug for Raw<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

/// The items of a list.
#[derive(Clone, Debug)]
pub struct RawItems<'a>(Lexer<'a>);

impl<'a> Iterator for RawItems<'a> {
    type Item = Raw<'a>;

    fn next(&mut self) -> Option<Raw<'a>> {
        (self.0.peek() != Ok(b'e')).then(|| next(&mut self.0))
    }
}

/// The pairs of a dictionary.
#[derive(Clone, Debug)]
pub struct RawPairs<'a>(Lexer<'a>);

impl<'a> Iterator for RawPairs<'a> {
    type Item = (&'a [u8], Raw<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        (self.0.peek() != Ok(b'e')).then(|| {
            let key = self.0.string().expect("the parser read this key");
            (key, next(&mut self.0))
        })
    }
}

/// The value at the lexer's place, which moves behind it.
fn next<'a>(lexer: &mut Lexer<'a>) -> Raw<'a> {
    let start = lexer.at;
    match lexer.peek() {
        Ok(b'0'..=b'9') => {
            lexer.string().expect("the parser read this string");
        }
        _ => {
            let len = parser::parse(&lexer.input[start..], UNLIMITED, &mut ()).expect("the parser read this");
            lexer.at += len;
        }
    }
    Raw(&lexer.input[start..lexer.at])
}

/// What was read within limits is so again.
const UNLIMITED: Limits = Limits { depth: u32::MAX, tokens: u32::MAX };
