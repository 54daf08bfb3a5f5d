//! The one place that knows what bencode looks like.

use super::{Error, ErrorKind, Limits};

/// Hears of every token: an integer, a string, the start or the end of a list or dictionary.
pub(super) trait Sink {
    /// A token starts at this offset.
    fn token(&mut self, start: usize);

    /// The last token was the start of a list or dictionary.
    fn opened(&mut self);

    /// The last token was the end of the list or dictionary that was opened last.
    fn closed(&mut self);
}

/// For those who only want to know where a value ends.
impl Sink for () {
    fn token(&mut self, _start: usize) {}

    fn opened(&mut self) {}

    fn closed(&mut self) {}
}

/// Reads the value that `input` starts with; returns the offset just behind it.
pub(super) fn parse(input: &[u8], limits: Limits, sink: &mut impl Sink) -> Result<usize, Error> {
    let depth = limits.depth.min(MAX_DEPTH);
    let mut tokens = 0_u32;
    let mut lexer = Lexer { input, at: 0 };
    let mut open = Open::default();
    // One token a turn, until nothing is open any more.
    loop {
        let (byte, awaits) = (lexer.peek()?, open.awaits());
        match (byte, awaits) {
            (b'e', Some(Awaits::Item | Awaits::Key)) | (b'0'..=b'9', _) => {}
            (b'e', Some(Awaits::KeysValue)) => return Err(lexer.error(ErrorKind::MissingValue)),
            (_, Some(Awaits::Key)) => return Err(lexer.error(ErrorKind::KeyNotString)),
            (b'l' | b'd', _) if open.depth >= depth => {
                return Err(lexer.error(ErrorKind::TooDeep(depth)));
            }
            (b'd' | b'i' | b'l', _) => {}
            (byte, _) => return Err(lexer.error(ErrorKind::UnexpectedByte(byte))),
        }
        if tokens >= limits.tokens {
            return Err(lexer.error(ErrorKind::TooManyTokens(limits.tokens)));
        }
        tokens += 1;
        sink.token(lexer.at);
        match byte {
            b'd' | b'l' => {
                lexer.at += 1;
                open.push(byte == b'd');
                sink.opened();
                continue;
            }
            b'e' => {
                lexer.at += 1;
                open.pop();
                sink.closed();
            }
            b'i' => {
                lexer.integer()?;
            }
            _ => {
                lexer.string()?;
            }
        }
        if open.depth == 0 {
            return Ok(lexer.at);
        }
        open.advance();
    }
}

/// The lists and dictionaries whose end is still to come: a bit each, that of the innermost is the lowest.
#[derive(Default)]
struct Open {
    depth: u32,
    dicts: u128,
    /// Dictionaries whose last key still lacks its value.
    keys: u128,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Awaits {
    Item,
    Key,
    KeysValue,
}

impl Open {
    fn awaits(&self) -> Option<Awaits> {
        let innermost = match (self.dicts & 1, self.keys & 1) {
            (0, _) => Awaits::Item,
            (_, 0) => Awaits::Key,
            _ => Awaits::KeysValue,
        };
        (self.depth > 0).then_some(innermost)
    }

    fn push(&mut self, dict: bool) {
        self.depth += 1;
        self.dicts = self.dicts << 1 | u128::from(dict);
        self.keys <<= 1;
    }

    fn pop(&mut self) {
        self.depth -= 1;
        self.dicts >>= 1;
        self.keys >>= 1;
    }

    /// Notes that the innermost got a key or value.
    fn advance(&mut self) {
        self.keys ^= self.dicts & 1;
    }
}

/// Reads integers and strings.
#[derive(Clone, Debug)]
pub(super) struct Lexer<'a> {
    pub(super) input: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn integer(&mut self) -> Result<i64, Error> {
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
        self.at += 1;
        if negative {
            return Ok(value);
        }
        value.checked_neg().ok_or(Error { offset: start, kind: ErrorKind::IntegerRange })
    }

    pub(super) fn string(&mut self) -> Result<&'a [u8], Error> {
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
        let Some(string) = self.input[self.at..].get(..len) else {
            return Err(Error { offset: start, kind: ErrorKind::StringPastEnd });
        };
        self.at += len;
        Ok(string)
    }

    pub(super) fn peek(&self) -> Result<u8, Error> {
        self.input.get(self.at).copied().ok_or_else(|| self.error(ErrorKind::UnexpectedEnd))
    }

    fn error(&self, kind: ErrorKind) -> Error {
        Error { offset: self.at, kind }
    }
}

/// How many lists and dictionaries [`Open`] has bits for.
pub(super) const MAX_DEPTH: u32 = u128::BITS;
