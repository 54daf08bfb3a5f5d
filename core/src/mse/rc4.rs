//! The stream cipher of MSE.

/// RC4, after the bytes that MSE throws away. One direction of one connection.
#[derive(Clone)]
pub struct Rc4 {
    state: [u8; 256],
    i: u8,
    j: u8,
}

impl Rc4 {
    /// For a key of 1 to 256 bytes.
    pub fn new(key: &[u8]) -> Self {
        let mut cipher = Self::undiscarded(key);
        cipher.skip(DISCARDED);
        cipher
    }

    fn undiscarded(key: &[u8]) -> Self {
        let mut state = core::array::from_fn(|i| i as u8);
        let mut j = 0_u8;
        for (i, key) in (0..256).zip(key.iter().cycle()) {
            j = j.wrapping_add(state[i]).wrapping_add(*key);
            state.swap(i, j.into());
        }
        Self { state, i: 0, j: 0 }
    }

    /// Enciphers or deciphers the next bytes of the stream, in place.
    pub fn apply(&mut self, data: &mut [u8]) {
        let mut stream = self.stream();
        let (words, rest) = data.as_chunks_mut::<8>();
        for word in words {
            let key = core::array::from_fn(|_| stream.next());
            *word = (u64::from_ne_bytes(*word) ^ u64::from_ne_bytes(key)).to_ne_bytes();
        }
        rest.iter_mut().for_each(|byte| *byte ^= stream.next());
        (self.i, self.j) = stream.position();
    }

    /// Goes on as if so many bytes had passed.
    pub fn skip(&mut self, count: usize) {
        let mut stream = self.stream();
        for _ in 0..count {
            stream.next();
        }
        (self.i, self.j) = stream.position();
    }

    fn stream(&mut self) -> Stream<'_> {
        let i = self.i.wrapping_add(1);
        let at_i = self.state[usize::from(i)];
        Stream { state: &mut self.state, i, j: self.j, at_i }
    }
}

/// The key stream, with what it needs at hand in registers.
///
/// Each byte needs the one before it. To shorten the way between them, the entry that the next byte begins with is
/// loaded before the swap is written, and taken from the swap if that went there: half as fast again as the plain loop.
struct Stream<'a> {
    state: &'a mut [u8; 256],
    /// Where the next byte begins.
    i: u8,
    j: u8,
    at_i: u8,
}

impl Stream<'_> {
    #[inline(always)]
    fn next(&mut self) -> u8 {
        let at_i = self.at_i;
        self.j = self.j.wrapping_add(at_i);
        let at_j = self.state[usize::from(self.j)];
        let next = self.i.wrapping_add(1);
        let ahead = self.state[usize::from(next)];
        self.state[usize::from(self.j)] = at_i;
        self.state[usize::from(self.i)] = at_j;
        self.at_i = if next == self.j { at_i } else { ahead };
        self.i = next;
        self.state[usize::from(at_i.wrapping_add(at_j))]
    }

    fn position(self) -> (u8, u8) {
        (self.i.wrapping_sub(1), self.j)
    }
}

/// Says nothing of the key.
impl core::fmt::Debug for Rc4 {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Rc4").finish_non_exhaustive()
    }
}

/// The first bytes of the key stream tell something of the key.
const DISCARDED: usize = 1024;

#[cfg(test)]
mod tests {
    use super::{DISCARDED, Rc4};

    /// RFC 6229, key `0102030405`: the key stream at 0, at 16 and at 1024.
    #[test]
    fn the_key_stream_is_that_of_rfc_6229() {
        let mut cipher = Rc4::undiscarded(&[1, 2, 3, 4, 5]);
        let mut data = [0; 32];
        cipher.apply(&mut data);
        assert_eq!(data[..8], [0xb2, 0x39, 0x63, 0x05, 0xf0, 0x3d, 0xc0, 0x27]);
        assert_eq!(data[16..24], [0x69, 0x82, 0x94, 0x4f, 0x18, 0xfc, 0x82, 0xd5]);
        let mut data = [0; 8];
        Rc4::new(&[1, 2, 3, 4, 5]).apply(&mut data);
        assert_eq!(data, [0x30, 0xab, 0xbc, 0xc7, 0xc2, 0x0b, 0x01, 0x60]);
    }

    /// Every byte against the loop as it is written everywhere, in pieces of every length up to 40.
    #[test]
    fn looking_ahead_changes_nothing() {
        let mut cipher = Rc4::undiscarded(b"Wiki");
        let (mut state, mut i, mut j) = (cipher.state, 0_u8, 0_u8);
        let mut plain = || {
            i = i.wrapping_add(1);
            j = j.wrapping_add(state[usize::from(i)]);
            state.swap(i.into(), j.into());
            state[usize::from(state[usize::from(i)].wrapping_add(state[usize::from(j)]))]
        };
        for len in (0..=40).cycle().take(5000) {
            let mut data = [0; 40];
            cipher.apply(&mut data[..len]);
            data[..len].iter().for_each(|byte| assert_eq!(*byte, plain()));
        }
    }

    #[test]
    fn skipped_bytes_are_passed_over() {
        let mut whole = [7; 300];
        let mut cipher = Rc4::new(b"key");
        cipher.clone().apply(&mut whole);
        cipher.skip(200);
        let mut end = [7; 100];
        cipher.apply(&mut end);
        assert_eq!(end, whole[200..]);
        let mut other = Rc4::undiscarded(b"key");
        other.skip(DISCARDED);
        let mut start = [7; 10];
        other.apply(&mut start);
        assert_eq!(start, whole[..10]);
    }
}
