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
    let max_depth = limits.depth.min(MAX_DEPTH);
    let (mut tokens, mut depth) = (0_u32, 0_u32);
    let mut awaits = Awaits::Value;
    // Of the lists and dictionaries around the innermost one, which are dictionaries: a bit each.
    let mut around = 0_u128;
    let mut lexer = Lexer { input, at: 0 };
    // One token a turn, until nothing is open any more.
    loop {
        let byte = lexer.peek()?;
        if tokens >= limits.tokens {
            return Err(lexer.error(ErrorKind::TooManyTokens(limits.tokens)));
        }
        let start = lexer.at;
        match (byte, awaits) {
            (b'0'..=b'9', _) => {
                lexer.string()?;
                sink.token(start);
            }
            (b'e', Awaits::Item | Awaits::Key) => {
                lexer.at += 1;
                sink.token(start);
                sink.closed();
                depth -= 1;
                awaits = match depth {
                    0 => Awaits::Value,
                    _ if around & 1 == 1 => Awaits::KeysValue,
                    _ => Awaits::Item,
                };
                around >>= 1;
            }
            (b'e', Awaits::KeysValue) => return Err(lexer.error(ErrorKind::MissingValue)),
            (_, Awaits::Key) => return Err(lexer.error(ErrorKind::KeyNotString)),
            (b'i', _) => {
                lexer.integer()?;
                sink.token(start);
            }
            (b'd' | b'l', _) if depth >= max_depth => return Err(lexer.error(ErrorKind::TooDeep(max_depth))),
            (b'd' | b'l', _) => {
                lexer.at += 1;
                sink.token(start);
                sink.opened();
                tokens += 1;
                depth += 1;
                around = around << 1 | u128::from(awaits == Awaits::KeysValue);
                awaits = if byte == b'd' { Awaits::Key } else { Awaits::Item };
                continue;
            }
            (byte, _) => return Err(lexer.error(ErrorKind::UnexpectedByte(byte))),
        }
        tokens += 1;
        awaits = match awaits {
            Awaits::Item => Awaits::Item,
            Awaits::Key => Awaits::KeysValue,
            Awaits::KeysValue => Awaits::Key,
            Awaits::Value => return Ok(lexer.at),
        };
    }
}

/// What may come next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Awaits {
    /// An item of a list, or its end.
    Item,
    /// A key of a dictionary, or its end.
    Key,
    /// The value of a key.
    KeysValue,
    /// The value that was to be read.
    Value,
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
        let len = self.string_len()?;
        let Some(string) = self.input[self.at..].get(..len) else {
            return Err(Error { offset: start, kind: ErrorKind::StringPastEnd });
        };
        self.at += len;
        Ok(string)
    }

    fn string_len(&mut self) -> Result<usize, Error> {
        // Nearly all strings have one or two digits.
        let digit = |byte: u8| usize::from(byte - b'0');
        match self.input[self.at..] {
            [a @ b'0'..=b'9', b':', ..] => {
                self.at += 2;
                return Ok(digit(a));
            }
            [a @ b'0'..=b'9', b @ b'0'..=b'9', b':', ..] => {
                self.at += 3;
                return Ok(10 * digit(a) + digit(b));
            }
            _ => {}
        }
        let mut len = 0_usize;
        while let byte @ b'0'..=b'9' = self.peek()? {
            // Beyond any input already, so saturation changes no answer.
            len = len.saturating_mul(10).saturating_add(digit(byte));
            self.at += 1;
        }
        if self.peek()? != b':' {
            return Err(self.error(ErrorKind::StringSyntax));
        }
        self.at += 1;
        Ok(len)
    }

    pub(super) fn peek(&self) -> Result<u8, Error> {
        self.input.get(self.at).copied().ok_or_else(|| self.error(ErrorKind::UnexpectedEnd))
    }

    fn error(&self, kind: ErrorKind) -> Error {
        Error { offset: self.at, kind }
    }
}

/// How many lists and dictionaries the parser can tell apart.
pub(super) const MAX_DEPTH: u32 = u128::BITS;
