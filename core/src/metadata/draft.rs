//! An info dictionary that is being put together.

use crate::id::ConnId;
use crate::machine::Timestamp;
use crate::wire::{metadata_piece_count, metadata_piece_len};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use bytes::Bytes;
use core::time::Duration;

/// The pieces of one claimed length, from all peers that claim it or from one alone.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) len: u32,
    /// The peer that it must come from, if it must come from one.
    pub(super) only: Option<ConnId>,
    pub(super) since: Timestamp,
    slots: Vec<Slot>,
    /// Missing pieces that nobody is being asked for.
    free: BTreeSet<u32>,
    missing: u32,
    held: u32,
}

/// One piece.
#[derive(Clone, Debug, Default)]
struct Slot {
    came: Option<(ConnId, Bytes)>,
    /// How many peers are being asked for it.
    asked: u32,
    /// When one was asked last.
    asked_at: Timestamp,
}

impl Draft {
    pub(super) fn new(now: Timestamp, len: u32, only: Option<ConnId>) -> Self {
        let pieces = metadata_piece_count(len);
        Self {
            len,
            only,
            since: now,
            slots: alloc::vec![Slot::default(); pieces as usize],
            free: (0..pieces).collect(),
            missing: pieces,
            held: 0,
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.missing == 0
    }

    /// How many pieces are here, and how many there are.
    pub(super) fn progress(&self) -> (u32, u32) {
        let pieces = self.slots.len() as u32;
        (pieces - self.missing, pieces)
    }

    /// The bytes that are here.
    pub(super) fn held(&self) -> u32 {
        self.held
    }

    /// The next piece to ask a peer for: one that nobody is asked for; with `again` also one that others have owed for
    /// [`ASK_AGAIN_AFTER`].
    pub(super) fn ask(&mut self, now: Timestamp, again: bool) -> Option<u32> {
        let piece = match self.free.pop_first() {
            Some(piece) => piece,
            None if again => {
                let late = |slot: &Slot| slot.may_be_doubled() && slot.asked_at + ASK_AGAIN_AFTER <= now;
                self.slots.iter().position(late)? as u32
            }
            None => return None,
        };
        let slot = &mut self.slots[piece as usize];
        slot.asked += 1;
        slot.asked_at = now;
        Some(piece)
    }

    /// When a peer without anything to do could next be asked for something.
    pub(super) fn ask_again_at(&self) -> Option<Timestamp> {
        let doubled = self.slots.iter().filter(|slot| slot.may_be_doubled());
        doubled.map(|slot| slot.asked_at + ASK_AGAIN_AFTER).min()
    }

    /// A peer that was asked for `piece` will not send it, or is given up.
    pub(super) fn release(&mut self, piece: u32) {
        let slot = &mut self.slots[piece as usize];
        slot.asked -= 1;
        if slot.asked == 0 && slot.came.is_none() {
            self.free.insert(piece);
        }
    }

    /// Takes in a piece; whether it has the right length. One that is here already is dropped.
    pub(super) fn put(&mut self, piece: u32, from: ConnId, data: &Bytes) -> bool {
        if metadata_piece_len(self.len, piece) != u32::try_from(data.len()).ok() {
            return false;
        }
        let slot = &mut self.slots[piece as usize];
        if slot.came.is_none() {
            // A copy: what came shares a buffer with whatever else was read with it.
            slot.came = Some((from, Bytes::copy_from_slice(data)));
            self.missing -= 1;
            self.held += data.len() as u32;
            self.free.remove(&piece);
        }
        true
    }

    /// The pieces, and who sent each of them.
    ///
    /// # Panics
    /// If one is missing.
    pub(super) fn into_parts(self) -> (Vec<ConnId>, Vec<Bytes>) {
        self.slots.into_iter().map(|slot| slot.came.expect("nothing is missing")).unzip()
    }
}

impl Slot {
    fn may_be_doubled(&self) -> bool {
        self.came.is_none() && self.asked > 0
    }
}

/// How long one peer is waited for before another is asked for the same piece.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::{ASK_AGAIN_AFTER, Draft};
    use crate::id::ConnId;
    use crate::machine::Timestamp;
    use bytes::Bytes;
    use core::time::Duration;

    const A: ConnId = ConnId(1);
    const B: ConnId = ConnId(2);

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_micros(millis * 1000)
    }

    #[test]
    fn every_piece_is_asked_for_once_and_again_after_three_seconds() {
        let mut draft = Draft::new(at(0), 40_000, None);
        let asked: [Option<u32>; 4] = core::array::from_fn(|_| draft.ask(at(0), true));
        assert_eq!(asked, [Some(0), Some(1), Some(2), None]);
        assert_eq!(draft.ask_again_at(), Some(at(3000)));
        assert_eq!(draft.ask(at(2999), true), None);
        assert_eq!(draft.ask(at(3000), false), None, "only who has nothing else to do");
        assert_eq!(draft.ask(at(3000), true), Some(0));
        assert_eq!(draft.ask(at(3000), true), Some(1), "and the next");
        assert_eq!(draft.ask(at(6000), true), Some(0), "of a third");
        assert_eq!(ASK_AGAIN_AFTER.as_secs(), 3);
    }

    #[test]
    fn what_is_released_is_free_at_once() {
        let mut draft = Draft::new(at(0), 40_000, None);
        while draft.ask(at(0), false).is_some() {}
        draft.release(1);
        assert_eq!(draft.ask(at(1), false), Some(1));
        draft.ask(at(3001), true);
        draft.release(0);
        assert_eq!(draft.ask(at(3002), false), None, "another still owes it");
    }

    #[test]
    fn pieces_of_a_wrong_length_do_not_fit() {
        let mut draft = Draft::new(at(0), 20_000, None);
        for (piece, len, fits) in
            [(0, 16_383, false), (0, 0, false), (1, 16_384, false), (1, 3616, true), (2, 0, false)]
        {
            assert_eq!(draft.put(piece, A, &Bytes::from(alloc::vec![0; len])), fits, "{piece} {len}");
        }
        assert!(!draft.is_whole());
        assert_eq!((draft.held(), draft.progress()), (3616, (1, 2)));
    }

    #[test]
    fn the_first_to_send_a_piece_counts() {
        let mut draft = Draft::new(at(0), 16_385, None);
        let zeros = Bytes::from(alloc::vec![0; 16_384]);
        assert!(draft.put(0, A, &zeros) && draft.put(0, B, &Bytes::from(alloc::vec![1; 16_384])));
        assert!(draft.put(1, B, &Bytes::from_static(b"x")) && draft.is_whole());
        assert_eq!(draft.ask(at(Duration::from_secs(9).as_millis() as u64), true), None);
        assert_eq!(draft.ask_again_at(), None);
        let (senders, parts) = draft.into_parts();
        assert_eq!((&senders[..], &parts[..]), (&[A, B][..], &[zeros, Bytes::from_static(b"x")][..]));
    }
}
