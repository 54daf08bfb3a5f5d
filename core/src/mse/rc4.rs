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
        data.iter_mut().for_each(|byte| *byte ^= self.next());
    }

    /// Goes on as if so many bytes had passed.
    pub fn skip(&mut self, count: usize) {
        for _ in 0..count {
            self.next();
        }
    }

    fn next(&mut self) -> u8 {
        self.i = self.i.wrapping_add(1);
        let at_i = self.state[usize::from(self.i)];
        self.j = self.j.wrapping_add(at_i);
        let at_j = self.state[usize::from(self.j)];
        self.state[usize::from(self.i)] = at_j;
        self.state[usize::from(self.j)] = at_i;
        self.state[usize::from(at_i.wrapping_add(at_j))]
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
