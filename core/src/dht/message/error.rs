//! What is answered to a query that fails (BEP 5, 44).

use crate::bencode::{Raw, Writer};
use crate::text;
use core::fmt;

/// Why a query failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorReply<'a> {
    /// The number of the reason.
    pub code: ErrorCode,
    /// The reason in words, for people.
    pub text: &'a [u8],
}

/// The number of a reason why a query fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ErrorCode(pub i64);

impl ErrorCode {
    /// BEP 44: the signature is not that of this key over this value.
    pub const BAD_SIGNATURE: Self = Self(206);
    /// BEP 44: what is stored is not the item that was to be replaced.
    pub const CAS_MISMATCH: Self = Self(301);
    /// BEP 5: something else.
    pub const GENERIC: Self = Self(201);
    /// BEP 5: the query makes no sense, or the token is bad.
    pub const PROTOCOL: Self = Self(203);
    /// BEP 44: the salt is longer than 64 bytes.
    pub const SALT_TOO_BIG: Self = Self(207);
    /// BEP 44: an item with a higher number is stored.
    pub const SEQ_TOO_LOW: Self = Self(302);
    /// BEP 5: the node can't do this at the moment.
    pub const SERVER: Self = Self(202);
    /// BEP 5: there is no such query.
    pub const UNKNOWN_METHOD: Self = Self(204);
    /// BEP 44: the value is longer than 1,000 bytes.
    pub const VALUE_TOO_BIG: Self = Self(205);
}

impl<'a> ErrorReply<'a> {
    /// What is in `e`: should be a number and a text. Some send a dictionary, or only one of both.
    pub(super) fn read(e: Option<Raw<'a>>) -> Self {
        let items = || e.and_then(Raw::items).into_iter().flatten();
        let text = items().find_map(Raw::as_bytes).or_else(|| e.and_then(Raw::as_bytes)).unwrap_or_default();
        Self {
            code: items().find_map(Raw::as_int).map_or(ErrorCode::GENERIC, ErrorCode),
            text: text.get(..MAX_TEXT_LEN).unwrap_or(text),
        }
    }

    pub(super) fn write(&self, to: &mut Writer) {
        to.list();
        to.int(self.code.0);
        to.bytes(self.text);
        to.end();
    }
}

impl fmt::Display for ErrorReply<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code.0, text::clean(self.text, MAX_TEXT_LEN))
    }
}

/// More words than this say nothing more.
const MAX_TEXT_LEN: usize = 256;
