//! Writing messages in which values of others have to stand as they came, byte for byte.

use alloc::vec::Vec;

/// Writes bencode piece by piece. What bendy's encoder can't do: take in a value that is bencode already, and say how
/// long the output is on the way. The writer of a dictionary puts the keys in order.
#[derive(Debug, Default)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// With room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { out: Vec::with_capacity(capacity) }
    }

    /// Starts a dictionary; [`end`](Self::end) ends it.
    pub fn dict(&mut self) {
        self.out.push(b'd');
    }

    /// Starts a list; [`end`](Self::end) ends it.
    pub fn list(&mut self) {
        self.out.push(b'l');
    }

    /// Ends the dictionary or list that was started last.
    pub fn end(&mut self) {
        self.out.push(b'e');
    }

    /// A byte string, or a key.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.bytes_head(bytes.len());
        self.raw(bytes);
    }

    /// The head of a byte string, whose `len` bytes follow by [`raw`](Self::raw).
    pub fn bytes_head(&mut self, len: usize) {
        self.digits(len as u64);
        self.out.push(b':');
    }

    /// An integer.
    pub fn int(&mut self, int: i64) {
        self.out.push(b'i');
        if int < 0 {
            self.out.push(b'-');
        }
        self.digits(int.unsigned_abs());
        self.out.push(b'e');
    }

    /// Bytes as they are: a value that is bencode already, or part of a byte string.
    pub fn raw(&mut self, value: &[u8]) {
        self.out.extend_from_slice(value);
    }

    /// How many bytes were written.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// What was written.
    pub fn finish(self) -> Vec<u8> {
        self.out
    }

    fn digits(&mut self, mut number: u64) {
        let mut digits = [0; MAX_DIGITS];
        let mut at = MAX_DIGITS;
        loop {
            at -= 1;
            digits[at] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.out.extend_from_slice(&digits[at..]);
    }
}

/// Those of the largest number of 64 bits.
const MAX_DIGITS: usize = 20;
