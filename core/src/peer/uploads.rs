//! What one peer has asked us for.

use crate::lengths::{BLOCK_LEN, Block};
use crate::store::payload::Payload;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// The requests of one peer, from their arrival to the write. Runs that lie together are read together.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    queue: VecDeque<Block>,
    reading: Option<Reading>,
    ready: VecDeque<(Block, Payload)>,
    ready_bytes: u64,
    next_token: u64,
}

#[derive(Debug)]
struct Reading {
    token: u64,
    /// In order; `None` where the peer changed its mind.
    blocks: Vec<Option<Block>>,
    begin: u32,
}

/// A read for the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) token: u64,
    pub(super) first: Block,
    pub(super) len: u32,
}

impl Uploads {
    /// Requests that were not answered yet.
    pub(super) fn len(&self) -> usize {
        let reading = self.reading.as_ref().map_or(0, |reading| reading.blocks.iter().flatten().count());
        self.queue.len() + reading + self.ready.len()
    }

    pub(super) fn push(&mut self, block: Block) {
        self.queue.push_back(block);
    }

    /// The next run to read, if none is under way and not enough is ready.
    pub(super) fn next_read(&mut self) -> Option<Run> {
        if self.reading.is_some() || self.ready_bytes >= READY_MAX {
            return None;
        }
        let first = self.queue.pop_front()?;
        let (mut blocks, mut len) = (alloc::vec![Some(first)], first.len());
        while let Some(next) = self.queue.front() {
            if next.piece() != first.piece()
                || next.begin() != first.begin() + len
                || len + next.len() > READ_MAX
            {
                break;
            }
            len += next.len();
            blocks.push(self.queue.pop_front());
        }
        let token = self.next_token;
        self.next_token += 1;
        self.reading = Some(Reading { token, blocks, begin: first.begin() });
        Some(Run { token, first, len })
    }

    /// The answer to a read; returns the blocks that can't be served.
    pub(super) fn read(&mut self, token: u64, payload: Option<&Payload>) -> Vec<Block> {
        let Some(reading) = self.reading.take_if(|reading| reading.token == token) else { return Vec::new() };
        let blocks = reading.blocks.into_iter().flatten();
        let Some(payload) = payload else { return blocks.collect() };
        for block in blocks {
            let from = block.begin() - reading.begin;
            self.ready_bytes += u64::from(block.len());
            self.ready.push_back((block, payload.slice(from..from + block.len())));
        }
        Vec::new()
    }

    /// The next block to write, if it fits `budget`.
    pub(super) fn take_ready(&mut self, budget: usize) -> Option<(Block, Payload)> {
        if self.ready.front()?.0.len() as usize > budget {
            return None;
        }
        let next = self.ready.pop_front()?;
        self.ready_bytes -= u64::from(next.0.len());
        Some(next)
    }

    /// The length of the next block to write.
    pub(super) fn peek_ready(&self) -> Option<u32> {
        Some(self.ready.front()?.0.len())
    }

    /// The peer does not want this any more; whether it was still to be answered.
    pub(super) fn cancel(&mut self, block: Block) -> bool {
        if let Some(at) = self.queue.iter().position(|queued| *queued == block) {
            self.queue.remove(at);
            return true;
        }
        if let Some(at) = self.ready.iter().position(|(ready, _)| *ready == block) {
            self.ready.remove(at);
            self.ready_bytes -= u64::from(block.len());
            return true;
        }
        let reading = self.reading.iter_mut().flat_map(|reading| &mut reading.blocks);
        reading.into_iter().find(|slot| **slot == Some(block)).is_some_and(|slot| slot.take().is_some())
    }

    /// Drops every request that `keep` does not keep; returns them.
    pub(super) fn retain(&mut self, keep: impl Fn(Block) -> bool) -> Vec<Block> {
        let mut dropped: Vec<Block> =
            self.ready.iter().map(|(block, _)| *block).filter(|b| !keep(*b)).collect();
        self.ready.retain(|(block, _)| keep(*block));
        self.ready_bytes = self.ready.iter().map(|(block, _)| u64::from(block.len())).sum();
        for slot in self.reading.iter_mut().flat_map(|reading| &mut reading.blocks) {
            dropped.extend(slot.take_if(|block| !keep(*block)));
        }
        dropped.extend(self.queue.iter().copied().filter(|block| !keep(*block)));
        self.queue.retain(|block| keep(*block));
        dropped
    }
}

/// Bytes of one read at most.
const READ_MAX: u32 = 16 * BLOCK_LEN;

/// Bytes that may wait for the socket; the next run is read while they are written.
const READY_MAX: u64 = 8 * BLOCK_LEN as u64;

#[cfg(test)]
mod tests {
    use super::{Run, Uploads};
    use crate::lengths::{Block, Lengths};
    use crate::store::payload::Payload;
    use alloc::vec::Vec;

    fn blocks() -> Vec<Block> {
        let lengths = Lengths::contiguous(64 << 14, 32 << 14).unwrap();
        lengths.pieces().flat_map(|piece| lengths.blocks(piece)).collect()
    }

    #[test]
    fn requests_that_lie_together_are_read_together() {
        let all = blocks();
        let mut uploads = Uploads::default();
        all[..40].iter().for_each(|block| uploads.push(*block));
        let run = uploads.next_read().unwrap();
        assert_eq!(run, Run { token: 0, first: all[0], len: 16 << 14 });
        assert_eq!(uploads.next_read(), None, "one read at a time");
        assert!(uploads.read(0, Some(&Payload::Length(run.len))).is_empty());
        assert_eq!(uploads.next_read(), None, "enough is ready");
        while let Some((block, payload)) = uploads.take_ready(1 << 20) {
            assert_eq!(payload.len(), block.len());
        }
        assert_eq!(uploads.next_read().unwrap().first, all[16]);
        uploads.read(1, Some(&Payload::Length(16 << 14)));
        while uploads.take_ready(1 << 20).is_some() {}
        assert_eq!(uploads.next_read().unwrap().len, 8 << 14, "a read ends with the requests");
    }

    #[test]
    fn a_cancel_finds_a_request_wherever_it_is() {
        let all = blocks();
        let mut uploads = Uploads::default();
        [0, 1, 2, 5].into_iter().for_each(|i| uploads.push(all[i]));
        assert_eq!(uploads.next_read().unwrap().len, 3 << 14);
        assert!(uploads.cancel(all[1]), "being read");
        assert!(uploads.cancel(all[5]), "queued");
        uploads.read(0, Some(&Payload::Length(3 << 14)));
        assert!(uploads.cancel(all[2]), "ready");
        assert!(!uploads.cancel(all[2]));
        assert_eq!(uploads.take_ready(16383), None, "over budget");
        assert_eq!(uploads.take_ready(16384).unwrap().0, all[0]);
        assert_eq!(uploads.len(), 0);
    }

    #[test]
    fn a_choke_drops_everything_but_what_is_kept() {
        let all = blocks();
        let mut uploads = Uploads::default();
        all[..4].iter().for_each(|block| uploads.push(*block));
        uploads.next_read();
        uploads.push(all[32]);
        let dropped = uploads.retain(|block| block.piece() == all[32].piece());
        assert_eq!(dropped, &all[..4]);
        assert_eq!(uploads.read(0, None), []);
        assert_eq!(uploads.next_read().unwrap().first, all[32]);
    }
}
