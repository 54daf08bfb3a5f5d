//! What arrives of a stream: in order it goes up at once, ahead of a gap it is kept.

use super::header::{MAX_SACK_LEN, distance};
use alloc::collections::VecDeque;
use bytes::{BufMut as _, Bytes, BytesMut};
use core::fmt;

/// The receiving half of a stream.
pub(super) struct Receive {
    /// The number that is next in order.
    next: u16,
    /// What came after that number; the first is `next + 1`.
    ahead: VecDeque<Option<Part>>,
    ahead_len: usize,
    /// The bytes that came in order.
    received: u64,
    /// The position up to which the remote may send: what was once promised isn't taken back.
    edge: u64,
    /// The bytes that the parent wants after those that it got.
    credit: u32,
    /// The window as the remote knows it.
    told: u32,
    finished: bool,
}

#[derive(Clone)]
struct Part {
    data: Bytes,
    fin: bool,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It was next; what came before it is whole.
    InOrder,
    /// It waits for others.
    Kept,
    /// It was there already.
    Known,
    /// It lies outside of what may be sent.
    Refused,
}

impl Receive {
    /// Expects `next` first, and promises `credit` bytes.
    pub(super) fn new(next: u16, credit: u32) -> Self {
        Self {
            next,
            ahead: VecDeque::new(),
            ahead_len: 0,
            received: 0,
            edge: u64::from(credit),
            credit,
            told: credit,
            finished: false,
        }
    }

    /// The number of the last packet that came in order.
    pub(super) fn ack(&self) -> u16 {
        self.next.wrapping_sub(1)
    }

    /// Whether the end of the stream has come, and all before it.
    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    /// Whether something came after what is missing.
    pub(super) fn has_gap(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// Takes in a packet. What is in order now goes to `deliver`.
    pub(super) fn take(&mut self, seq: u16, data: Bytes, fin: bool, mut deliver: impl FnMut(Bytes)) -> Taken {
        let at = distance(self.next, seq);
        if at < 0 || self.finished {
            return Taken::Known;
        }
        let room = self.edge.saturating_sub(self.received);
        if data.len() as u64 > room.saturating_sub(if at == 0 { 0 } else { self.ahead_len as u64 }) {
            return Taken::Refused;
        }
        if at == 0 {
            self.pass(data, fin, &mut deliver);
            while !self.finished
                && let Some(first) = self.ahead.pop_front()
                && let Some(part) = first
            {
                self.ahead_len -= part.data.len();
                self.pass(part.data, part.fin, &mut deliver);
            }
            if self.finished {
                self.ahead = VecDeque::new();
            }
            return Taken::InOrder;
        }
        let at = at as usize - 1;
        if at >= MAX_AHEAD {
            return Taken::Refused;
        }
        if self.ahead.get(at).is_some_and(Option::is_some) {
            return Taken::Known;
        }
        if self.ahead.len() <= at {
            self.ahead.resize(at + 1, None);
        }
        self.ahead_len += data.len();
        // A slice would keep the whole buffer that it came in, which is many times as long.
        self.ahead[at] = Some(Part { data: Bytes::copy_from_slice(&data), fin });
        Taken::Kept
    }

    fn pass(&mut self, data: Bytes, fin: bool, deliver: &mut impl FnMut(Bytes)) {
        self.next = self.next.wrapping_add(1);
        self.received += data.len() as u64;
        self.credit = self.credit.saturating_sub(data.len() as u32);
        self.finished |= fin;
        if !data.is_empty() {
            deliver(data);
        }
    }

    /// Changes how much the parent wants. Tells whether the remote should hear of it by a packet of its own.
    pub(super) fn set_credit(&mut self, credit: u32) -> bool {
        self.credit = credit;
        let window = self.edge.max(self.received + u64::from(credit)) - self.received;
        u64::from(self.told) < window / 2
    }

    /// The window for a packet that is about to be sent.
    pub(super) fn tell_window(&mut self) -> u32 {
        self.edge = self.edge.max(self.received + u64::from(self.credit));
        self.told = u32::try_from(self.edge - self.received).unwrap_or(u32::MAX);
        self.told
    }

    /// Notes that the remote, which got `window` from us, has used up some of it.
    pub(super) fn note_told(&mut self, len: usize) {
        self.told = self.told.saturating_sub(len as u32);
    }

    /// Appends the bit mask of what came after the gap: whole words, as few as are needed.
    pub(super) fn sack(&self, out: &mut BytesMut) {
        let bits = self.ahead.len().min(MAX_SACK_LEN * 8);
        let len = bits.div_ceil(32) * 4;
        for byte in 0..len {
            let bit = |bit: usize| self.ahead.get(byte * 8 + bit).is_some_and(Option::is_some);
            out.put_u8((0..8).fold(0, |mask, i| mask | u8::from(bit(i)) << i));
        }
    }
}

/// Never the content.
impl fmt::Debug for Receive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receive")
            .field("next", &self.next)
            .field("ahead", &self.ahead.len())
            .field("ahead_len", &self.ahead_len)
            .field("received", &self.received)
            .field("edge", &self.edge)
            .field("credit", &self.credit)
            .field("told", &self.told)
            .field("finished", &self.finished)
            .finish()
    }
}

/// The packets that are kept ahead of a gap, at most; a mask of bits tells of half as many.
pub(super) const MAX_AHEAD: usize = 4096;

#[cfg(test)]
mod tests {
    use super::{MAX_AHEAD, Receive, Taken};
    use alloc::vec;
    use alloc::vec::Vec;
    use bytes::{Bytes, BytesMut};

    fn take(half: &mut Receive, seq: u16, text: &'static str) -> (Taken, Vec<u8>) {
        let mut got = vec![];
        let taken = half.take(seq, Bytes::from_static(text.as_bytes()), false, |data| got.extend(&data[..]));
        (taken, got)
    }

    fn mask(half: &Receive) -> Vec<u8> {
        let mut mask = BytesMut::new();
        half.sack(&mut mask);
        mask.to_vec()
    }

    #[test]
    fn a_gap_is_filled_around_the_end_of_the_numbers() {
        let mut half = Receive::new(0xffff, 100);
        assert_eq!(take(&mut half, 1, "c"), (Taken::Kept, vec![]));
        assert_eq!(take(&mut half, 1, "c"), (Taken::Known, vec![]));
        assert_eq!(mask(&half), [2, 0, 0, 0]);
        assert_eq!(take(&mut half, 0, "b"), (Taken::Kept, vec![]));
        assert_eq!(mask(&half), [3, 0, 0, 0]);
        assert_eq!(take(&mut half, 0xffff, "a"), (Taken::InOrder, b"abc".to_vec()));
        assert_eq!((half.ack(), half.has_gap()), (1, false));
        assert_eq!(take(&mut half, 0xffff, "a"), (Taken::Known, vec![]));
    }

    #[test]
    fn nothing_is_taken_beyond_the_window() {
        let mut half = Receive::new(1, 5);
        assert_eq!(take(&mut half, 2, "1234"), (Taken::Kept, vec![]));
        assert_eq!(take(&mut half, 3, "56"), (Taken::Refused, vec![]));
        assert_eq!(take(&mut half, 1, "123456"), (Taken::Refused, vec![]));
        assert_eq!(take(&mut half, 1, "0"), (Taken::InOrder, b"01234".to_vec()));
        assert_eq!(take(&mut half, 3, "5"), (Taken::Refused, vec![]));
        half.set_credit(1);
        half.tell_window();
        assert_eq!(take(&mut half, 3, "5"), (Taken::InOrder, b"5".to_vec()));
    }

    #[test]
    fn what_was_promised_is_kept() {
        let mut half = Receive::new(1, 10);
        half.set_credit(0);
        assert_eq!(half.tell_window(), 10);
        assert_eq!(take(&mut half, 1, "12345"), (Taken::InOrder, b"12345".to_vec()));
        assert_eq!(half.tell_window(), 5);
    }

    #[test]
    fn few_packets_are_kept_ahead() {
        let mut half = Receive::new(1, u32::MAX);
        assert_eq!(take(&mut half, 1 + MAX_AHEAD as u16, "x").0, Taken::Kept);
        assert_eq!(take(&mut half, 2 + MAX_AHEAD as u16, "x").0, Taken::Refused);
        assert_eq!(mask(&half).len(), super::MAX_SACK_LEN);
    }

    #[test]
    fn nothing_follows_the_end() {
        let mut half = Receive::new(1, 100);
        assert_eq!(half.take(2, Bytes::new(), true, |_| unreachable!()), Taken::Kept);
        assert_eq!(take(&mut half, 3, "beyond").0, Taken::Kept);
        assert_eq!(take(&mut half, 1, "all"), (Taken::InOrder, b"all".to_vec()));
        assert!(half.is_finished() && half.ack() == 2);
        assert_eq!(take(&mut half, 3, "beyond").0, Taken::Known);
    }
}
