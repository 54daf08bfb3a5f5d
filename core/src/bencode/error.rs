//! Why bytes are not bencode.

/// Why a document could not be read, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at byte {offset}")]
pub struct Error {
    /// The offset in the input, in bytes.
    pub offset: usize,
    /// What is wrong there.
    pub kind: ErrorKind,
}

/// What can be wrong with a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ErrorKind {
    /// The input is longer than offsets of 32 bits reach.
    #[error("input longer than 4 GiB")]
    InputTooLong,
    /// An integer is outside what 64 bits with a sign hold.
    #[error("integer outside 64 bits")]
    IntegerRange,
    /// An integer has no digits, or something else than digits.
    #[error("malformed integer")]
    IntegerSyntax,
    /// A dictionary has something else than a string where a key belongs.
    #[error("dictionary key that is not a string")]
    KeyNotString,
    /// A dictionary ends behind a key.
    #[error("dictionary key without a value")]
    MissingValue,
    /// A string is said to be longer than the input.
    #[error("string that runs past the end of the input")]
    StringPastEnd,
    /// The length of a string is not followed by a colon.
    #[error("length of a string without its colon")]
    StringSyntax,
    /// More lists and dictionaries are open at once than this limit.
    #[error("nesting deeper than {0}")]
    TooDeep(u32),
    /// There are more tokens than this limit.
    #[error("more than {0} tokens")]
    TooManyTokens(u32),
    /// No value starts with this byte.
    #[error("unexpected byte {0:#04x}")]
    UnexpectedByte(u8),
    /// The input ends within the value.
    #[error("unexpected end of the input")]
    UnexpectedEnd,
}
