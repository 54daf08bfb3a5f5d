//! Views into a document that was read: nothing is copied, and every view is as cheap as two pointers.

use super::{Quirks, Token};
use alloc::vec::Vec;
use core::fmt;

/// A value of a [`Document`](super::Document).
#[derive(Clone, Copy)]
pub enum Value<'d> {
    /// An integer.
    Int(i64),
    /// A byte string.
    Bytes(&'d [u8]),
    /// A list.
    List(List<'d>),
    /// A dictionary.
    Dict(Dict<'d>),
}

impl<'d> Value<'d> {
    /// The integer, if it is one.
    pub const fn as_int(self) -> Option<i64> {
        match self {
            Self::Int(int) => Some(int),
            _ => None,
        }
    }

    /// The byte string, if it is one.
    pub const fn as_bytes(self) -> Option<&'d [u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The byte string as text, if it is one and is UTF-8.
    pub fn as_str(self) -> Option<&'d str> {
        str::from_utf8(self.as_bytes()?).ok()
    }

    /// The list, if it is one.
    pub const fn as_list(self) -> Option<List<'d>> {
        match self {
            Self::List(list) => Some(list),
            _ => None,
        }
    }

    /// The dictionary, if it is one.
    pub const fn as_dict(self) -> Option<Dict<'d>> {
        match self {
            Self::Dict(dict) => Some(dict),
            _ => None,
        }
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(int) => int.fmt(f),
            Self::Bytes(bytes) => write!(f, "\"{}\"", bytes.escape_ascii()),
            Self::List(list) => list.fmt(f),
            Self::Dict(dict) => dict.fmt(f),
        }
    }
}

/// A list of a [`Document`](super::Document).
#[derive(Clone, Copy)]
pub struct List<'d> {
    view: View<'d>,
    at: usize,
}

impl<'d> List<'d> {
    /// The items in order.
    pub const fn iter(self) -> ListIter<'d> {
        ListIter { view: self.view, at: self.at + 1 }
    }

    /// The bytes of the list as they stand, from `l` to `e`.
    pub fn raw(self) -> &'d [u8] {
        self.view.raw(self.at)
    }
}

impl<'d> IntoIterator for List<'d> {
    type Item = Value<'d>;
    type IntoIter = ListIter<'d>;

    fn into_iter(self) -> ListIter<'d> {
        self.iter()
    }
}

impl fmt::Debug for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// A dictionary of a [`Document`](super::Document).
#[derive(Clone, Copy)]
pub struct Dict<'d> {
    view: View<'d>,
    at: usize,
}

impl<'d> Dict<'d> {
    /// The pairs in the order of the input, duplicates included.
    pub const fn iter(self) -> DictIter<'d> {
        DictIter { view: self.view, at: self.at + 1 }
    }

    /// The value of `key`, the first if the key is there more than once. Looks at every key before it.
    pub fn get(self, key: &[u8]) -> Option<Value<'d>> {
        self.iter().find_map(|(name, value)| (name == key).then_some(value))
    }

    /// The bytes of the value of `key` as they stand.
    pub fn get_raw(self, key: &[u8]) -> Option<&'d [u8]> {
        let mut pairs = self.iter();
        loop {
            let (name, value) = pairs.next_places()?;
            if self.view.bytes(name) == key {
                return Some(self.view.raw(value));
            }
        }
    }

    /// The bytes of the dictionary as they stand, from `d` to `e`.
    pub fn raw(self) -> &'d [u8] {
        self.view.raw(self.at)
    }

    /// What a canonical writer would have written differently, here and further in.
    pub fn quirks(self) -> Quirks {
        self.view.quirks(self.at)
    }
}

impl<'d> IntoIterator for Dict<'d> {
    type Item = (&'d [u8], Value<'d>);
    type IntoIter = DictIter<'d>;

    fn into_iter(self) -> DictIter<'d> {
        self.iter()
    }
}

impl fmt::Debug for Dict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(key, value)| (Value::Bytes(key), value))).finish()
    }
}

/// The items of a [`List`].
#[derive(Clone)]
pub struct ListIter<'d> {
    view: View<'d>,
    at: usize,
}

impl<'d> Iterator for ListIter<'d> {
    type Item = Value<'d>;

    fn next(&mut self) -> Option<Value<'d>> {
        let at = self.view.step(&mut self.at)?;
        Some(self.view.value(at))
    }
}

impl fmt::Debug for ListIter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

/// The pairs of a [`Dict`].
#[derive(Clone)]
pub struct DictIter<'d> {
    view: View<'d>,
    at: usize,
}

impl DictIter<'_> {
    fn next_places(&mut self) -> Option<(usize, usize)> {
        let key = self.view.step(&mut self.at)?;
        let value = self.view.step(&mut self.at).expect("a key that was read has a value");
        Some((key, value))
    }
}

impl<'d> Iterator for DictIter<'d> {
    type Item = (&'d [u8], Value<'d>);

    fn next(&mut self) -> Option<Self::Item> {
        let (key, value) = self.next_places()?;
        Some((self.view.bytes(key), self.view.value(value)))
    }
}

impl fmt::Debug for DictIter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.clone().map(|(key, value)| (Value::Bytes(key), value))).finish()
    }
}

/// The input and its tokens; a place is the number of a token.
#[derive(Clone, Copy)]
pub(super) struct View<'d> {
    pub(super) input: &'d [u8],
    pub(super) tokens: &'d [Token],
}

impl<'d> View<'d> {
    pub(super) fn value(self, at: usize) -> Value<'d> {
        match self.first_byte(at) {
            b'i' => Value::Int(self.int(at)),
            b'l' => Value::List(List { view: self, at }),
            b'd' => Value::Dict(Dict { view: self, at }),
            _ => Value::Bytes(self.bytes(at)),
        }
    }

    /// The place at `at`, and `at` moved behind it; `None` at the end of the list or dictionary around it.
    fn step(self, at: &mut usize) -> Option<usize> {
        let here = *at;
        if self.first_byte(here) == b'e' {
            return None;
        }
        *at = self.tokens[here].next as usize;
        Some(here)
    }

    fn first_byte(self, at: usize) -> u8 {
        self.input[self.tokens[at].start as usize]
    }

    fn raw(self, at: usize) -> &'d [u8] {
        let token = self.tokens[at];
        &self.input[token.start as usize..self.tokens[token.next as usize].start as usize]
    }

    fn int(self, at: usize) -> i64 {
        let digits = self.int_digits(at);
        str::from_utf8(digits).ok().and_then(|text| text.parse().ok()).expect("the parser read this integer")
    }

    /// What stands between `i` and `e`.
    fn int_digits(self, at: usize) -> &'d [u8] {
        let raw = self.raw(at);
        &raw[1..raw.len() - 1]
    }

    fn bytes(self, at: usize) -> &'d [u8] {
        self.split_string(at).1
    }

    /// The digits of a string's length, and the string.
    fn split_string(self, at: usize) -> (&'d [u8], &'d [u8]) {
        let raw = self.raw(at);
        let colon = raw.iter().position(|byte| *byte == b':').expect("the parser read this string");
        (&raw[..colon], &raw[colon + 1..])
    }

    pub(super) fn quirks(self, at: usize) -> Quirks {
        let mut quirks = Quirks::default();
        for at in at..self.tokens[at].next as usize {
            self.note_quirks(at, &mut quirks);
        }
        quirks
    }

    fn note_quirks(self, at: usize, quirks: &mut Quirks) {
        let padded = |digits: &[u8]| digits.len() > 1 && digits[0] == b'0';
        match self.first_byte(at) {
            b'd' => self.note_key_quirks(at, quirks),
            b'i' => {
                let digits = self.int_digits(at);
                let unsigned = digits.strip_prefix(b"-").unwrap_or(digits);
                quirks.leading_zeros |= padded(unsigned);
                quirks.negative_zero |= digits != unsigned && self.int(at) == 0;
            }
            b'e' | b'l' => {}
            _ => quirks.leading_zeros |= padded(self.split_string(at).0),
        }
    }

    fn note_key_quirks(self, at: usize, quirks: &mut Quirks) {
        let keys = Dict { view: self, at }.iter().map(|(key, _)| key);
        let mut sorted = true;
        let mut last = None;
        for key in keys.clone() {
            sorted &= last <= Some(key);
            quirks.duplicate_keys |= last == Some(key);
            last = Some(key);
        }
        if !sorted {
            quirks.unsorted_keys = true;
            let mut keys: Vec<_> = keys.collect();
            keys.sort_unstable();
            quirks.duplicate_keys |= keys.windows(2).any(|pair| pair[0] == pair[1]);
        }
    }
}

impl fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "View({} tokens)", self.tokens.len())
    }
}
