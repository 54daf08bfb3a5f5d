//! A piece on its way to the disk.

use super::op::{HashOutput, Sha1State};
use super::payload::Payload;
use alloc::vec;
use alloc::vec::Vec;

/// The blocks of one piece, and how far hashing and writing have come.
#[derive(Debug)]
pub(super) struct OpenPiece {
    slots: Vec<Slot>,
    digest: Digest,
    /// Blocks before this are hashed.
    hashed: u32,
    /// Blocks before this are hashed or being hashed.
    hashing: u32,
    present: u32,
    written: u32,
    verdict: Option<bool>,
    /// Whether the digests of its blocks are being made.
    pub(super) blaming: bool,
    /// Which opening of a piece this is.
    pub(super) attempt: u32,
}

#[derive(Debug)]
enum Digest {
    /// SHA-1 so far; nothing while a job has it.
    V1(Option<Sha1State>),
    /// The leaves so far; whether a job makes more.
    V2(Vec<[u8; 32]>, bool),
}

/// What a piece hashes to.
#[derive(Debug)]
pub(super) enum PieceDigest {
    Leaves(Vec<[u8; 32]>),
    Sha1([u8; 20]),
}

#[derive(Debug, Default)]
struct Slot {
    payload: Option<Payload>,
    write: Write,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Write {
    #[default]
    No,
    Busy,
    Done,
}

/// A run of blocks for the digest.
#[derive(Debug)]
pub(super) struct HashRun {
    pub(super) from: u32,
    pub(super) to: u32,
    /// In memory, or else to be read back.
    pub(super) data: Option<Vec<Payload>>,
    /// The SHA-1 so far; nothing for v2.
    pub(super) state: Option<Sha1State>,
    pub(super) finish: bool,
}

impl OpenPiece {
    pub(super) fn new(blocks: u32, v2: bool, attempt: u32) -> Self {
        let mut slots = Vec::new();
        slots.resize_with(blocks as usize, Slot::default);
        let digest = if v2 { Digest::V2(Vec::new(), false) } else { Digest::V1(Some(Sha1State::new())) };
        Self {
            slots,
            digest,
            hashed: 0,
            hashing: 0,
            present: 0,
            written: 0,
            verdict: None,
            blaming: false,
            attempt,
        }
    }

    fn blocks(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Holds a block; false if it is here already.
    pub(super) fn put(&mut self, number: u32, payload: Payload) -> bool {
        let slot = &mut self.slots[number as usize];
        if slot.payload.is_some() || slot.write == Write::Done {
            return false;
        }
        slot.payload = Some(payload);
        self.present += 1;
        true
    }

    /// The runs to write now: around block `near` if that makes a run worth a call, or all of them when the piece is
    /// whole or there is no `near`.
    pub(super) fn take_writes(&mut self, near: Option<u32>) -> Vec<(u32, u32, Vec<Payload>)> {
        let whole = self.present == self.blocks();
        let (mut at, end) = match near {
            Some(near) if !whole => {
                let (mut from, mut to) = (near, near + 1);
                while from > 0 && to - from < WRITE_RUN && self.is_unwritten(from - 1) {
                    from -= 1;
                }
                while to < self.blocks() && to - from < WRITE_RUN && self.is_unwritten(to) {
                    to += 1;
                }
                if to - from < WRITE_RUN {
                    return Vec::new();
                }
                (from, to)
            }
            _ => (0, self.blocks()),
        };
        let mut runs = vec![];
        while at < end {
            let from = at;
            let mut data = vec![];
            while at < end && at - from < WRITE_MAX && self.is_unwritten(at) {
                let slot = &mut self.slots[at as usize];
                slot.write = Write::Busy;
                data.extend(slot.payload.clone());
                at += 1;
            }
            if data.is_empty() {
                at += 1;
            } else {
                runs.push((from, at, data));
            }
        }
        runs
    }

    fn is_unwritten(&self, number: u32) -> bool {
        let slot = &self.slots[number as usize];
        slot.payload.is_some() && slot.write == Write::No
    }

    /// The next run for the digest: at least [`HASH_RUN`] blocks, or fewer at the end of the piece or if any will do;
    /// nothing while a job has the digest.
    pub(super) fn take_hash(&mut self, however_short: bool) -> Option<HashRun> {
        let busy = match &self.digest {
            Digest::V1(state) => state.is_none(),
            Digest::V2(_, busy) => *busy,
        };
        if busy || self.verdict.is_some() || self.hashing == self.blocks() {
            return None;
        }
        let from = self.hashing;
        let mut to = from;
        let mut data = vec![];
        while let Some(payload) = self.slots.get(to as usize).and_then(|slot| slot.payload.as_ref()) {
            if to - from == HASH_MAX {
                break;
            }
            data.push(payload.clone());
            to += 1;
        }
        // Blocks that were let go when memory was short are read back.
        let gone = |slot: &Slot| slot.payload.is_none() && slot.write == Write::Done;
        if to == from {
            to += self.slots[from as usize..]
                .iter()
                .take(HASH_MAX as usize)
                .take_while(|slot| gone(slot))
                .count() as u32;
            if to == from {
                return None;
            }
        }
        let end = to == self.blocks();
        let more_may_come = !end && !gone(&self.slots[to as usize]);
        if !data.is_empty() && to - from < HASH_RUN && more_may_come && !however_short {
            return None;
        }
        self.hashing = to;
        let state = match &mut self.digest {
            Digest::V1(state) => state.take(),
            Digest::V2(_, busy) => {
                *busy = true;
                None
            }
        };
        Some(HashRun { from, to, data: (!data.is_empty()).then_some(data), state, finish: end })
    }

    /// A write ended; returns the bytes let go. When memory is short, blocks go as well that the digest can't reach
    /// because one before them is missing.
    pub(super) fn written(&mut self, from: u32, to: u32, short: bool) -> u64 {
        let mut released = 0;
        let held = |slot: &&Slot| slot.payload.is_some();
        let reach = self.hashing + self.slots[self.hashing as usize..].iter().take_while(held).count() as u32;
        for number in from..to {
            let slot = &mut self.slots[number as usize];
            slot.write = Write::Done;
            self.written += 1;
            if number < self.hashed || (short && number >= reach) {
                released += let_go(slot);
            }
        }
        released
    }

    /// A hash job ended; returns the bytes let go, and at the end of the piece what it hashes to.
    pub(super) fn hashed(&mut self, to: u32, output: HashOutput) -> (u64, Option<PieceDigest>) {
        let mut released = 0;
        for slot in &mut self.slots[self.hashed as usize..to as usize] {
            if slot.write == Write::Done {
                released += let_go(slot);
            }
        }
        self.hashed = to;
        let end = to == self.blocks();
        let digest = match (&mut self.digest, output) {
            (Digest::V1(_), HashOutput::Sha1(digest)) => Some(PieceDigest::Sha1(digest)),
            (Digest::V1(state), HashOutput::State(next)) => {
                *state = Some(next);
                None
            }
            (Digest::V2(leaves, busy), HashOutput::Leaves(more)) => {
                *busy = false;
                leaves.extend(more);
                end.then(|| PieceDigest::Leaves(core::mem::take(leaves)))
            }
            // The driver answered another question: no digest can come of that.
            (_, _) => Some(PieceDigest::Leaves(Vec::new())),
        };
        (released, digest)
    }

    pub(super) fn judge(&mut self, good: bool) {
        self.verdict = Some(good);
    }

    pub(super) fn verdict(&self) -> Option<bool> {
        self.verdict
    }

    pub(super) fn is_written(&self) -> bool {
        self.written == self.blocks()
    }

    /// The bytes still in memory.
    pub(super) fn held(&self) -> u64 {
        self.slots
            .iter()
            .filter_map(|slot| slot.payload.as_ref())
            .map(|payload| u64::from(payload.len()))
            .sum()
    }
}

fn let_go(slot: &mut Slot) -> u64 {
    slot.payload.take().map_or(0, |payload| u64::from(payload.len()))
}

/// Blocks that make a hash job worth its wake-up: 128 KiB take as long to hash as a thread takes to wake.
const HASH_RUN: u32 = 8;

/// Blocks of one hash job at most, so that several pieces share the workers.
const HASH_MAX: u32 = 16;

/// Blocks that make a write worth a call: 256 KiB (smaller ones cost more per byte, larger ones gain nothing).
const WRITE_RUN: u32 = 16;

/// Blocks of one write at most.
const WRITE_MAX: u32 = 64;
