//! What we have asked one peer for, and how much more to ask.

use crate::lengths::{BLOCK_LEN, Block, PieceIndex};
use crate::machine::Timestamp;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

/// The requests to one peer: those to be written, those it owes, oldest first, and the depth that its rate asks for.
#[derive(Debug)]
pub(super) struct Requests {
    to_send: VecDeque<Block>,
    owed: VecDeque<Owed>,
    /// Given up, but may still arrive: late, not hostile.
    late: VecDeque<Block>,
    depth: u32,
    limit: u32,
    slow_start: bool,
    snubbed: bool,
    last_arrival: Timestamp,
    window_start: Timestamp,
    window_bytes: u64,
    rate_bytes_per_s: u64,
    round_trip: Duration,
}

#[derive(Debug)]
struct Owed {
    block: Block,
    sent: Timestamp,
}

/// What an arriving block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// One that the peer owes, or owed and was late with.
    Asked,
    /// Never asked for.
    Unasked,
}

impl Requests {
    pub(super) fn new(now: Timestamp, limit: u32) -> Self {
        Self {
            to_send: VecDeque::new(),
            owed: VecDeque::new(),
            late: VecDeque::new(),
            depth: FIRST_DEPTH.min(limit),
            limit,
            slow_start: true,
            snubbed: false,
            last_arrival: now,
            window_start: now,
            window_bytes: 0,
            rate_bytes_per_s: 0,
            round_trip: Duration::ZERO,
        }
    }

    /// The most requests the peer will queue.
    pub(super) fn set_limit(&mut self, limit: u32) {
        self.limit = limit;
        self.depth = self.depth.min(limit);
    }

    /// How many more requests there should be; nothing before enough of them were answered to make a refill worth it.
    pub(super) fn room(&self) -> usize {
        let depth = if self.snubbed { 1 } else { self.depth as usize };
        let out = self.outstanding();
        if out <= depth * 3 / 4 || out == 0 { depth.saturating_sub(out) } else { 0 }
    }

    pub(super) fn outstanding(&self) -> usize {
        self.to_send.len() + self.owed.len()
    }

    pub(super) fn is_snubbed(&self) -> bool {
        self.snubbed
    }

    pub(super) fn rate_bytes_per_s(&self) -> u64 {
        self.rate_bytes_per_s
    }

    pub(super) fn assign(&mut self, blocks: &[Block]) {
        self.to_send.extend(blocks);
    }

    pub(super) fn has_to_send(&self) -> bool {
        !self.to_send.is_empty()
    }

    /// The next request to write; from now on the peer owes it.
    pub(super) fn send(&mut self, now: Timestamp) -> Option<Block> {
        let block = self.to_send.pop_front()?;
        if self.owed.is_empty() {
            self.last_arrival = now;
        }
        self.owed.push_back(Owed { block, sent: now });
        Some(block)
    }

    /// The head of a block arrived.
    pub(super) fn arrive(&mut self, now: Timestamp, block: Block) -> Arrival {
        if let Some(at) = self.owed.iter().position(|owed| owed.block == block) {
            let owed = self.owed.remove(at).expect("it was found there");
            let took = now.since(owed.sent);
            if self.round_trip.is_zero() || took < self.round_trip {
                self.round_trip = took;
            }
        } else if let Some(at) = self.late.iter().position(|late| *late == block) {
            self.late.remove(at);
        } else {
            return Arrival::Unasked;
        }
        self.last_arrival = now;
        self.snubbed = false;
        Arrival::Asked
    }

    /// A block arrived in full: measures the rate, and grows or sets the depth.
    pub(super) fn measure(&mut self, now: Timestamp, bytes: u32) {
        self.window_bytes += u64::from(bytes);
        if self.slow_start {
            self.depth = (self.depth + 1).min(self.limit);
        }
        let elapsed = now.since(self.window_start);
        if elapsed < RATE_WINDOW.max(self.round_trip) {
            return;
        }
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        let rate = self.window_bytes.saturating_mul(1_000_000) / micros;
        if self.slow_start && rate < self.rate_bytes_per_s + self.rate_bytes_per_s / 8 {
            self.slow_start = false;
        }
        // Half of the old rate smooths out the windows that a burst happens to fall into.
        self.rate_bytes_per_s = if self.slow_start {
            rate.max(self.rate_bytes_per_s)
        } else {
            (rate + self.rate_bytes_per_s) / 2
        };
        if !self.slow_start {
            let ahead = self.round_trip.saturating_mul(2) + QUEUE_TIME;
            let ahead_ms = u64::try_from(ahead.as_millis()).unwrap_or(u64::MAX);
            let blocks = self.rate_bytes_per_s.saturating_mul(ahead_ms) / 1000 / u64::from(BLOCK_LEN) + 1;
            self.depth =
                u32::try_from(blocks).unwrap_or(u32::MAX).clamp(MIN_DEPTH.min(self.limit), self.limit);
        }
        self.window_start = now;
        self.window_bytes = 0;
    }

    /// Forgets a request that was rejected; whether there was one.
    pub(super) fn rejected(&mut self, block: Block) -> bool {
        if let Some(at) = self.owed.iter().position(|owed| owed.block == block) {
            self.owed.remove(at);
            return true;
        }
        if let Some(at) = self.late.iter().position(|late| *late == block) {
            self.late.remove(at);
            return true;
        }
        false
    }

    /// Gives up one request because the block came from elsewhere. `Some(true)` if a cancel must be written.
    pub(super) fn cancel(&mut self, block: Block) -> Option<bool> {
        if let Some(at) = self.to_send.iter().position(|wait| *wait == block) {
            self.to_send.remove(at);
            return Some(false);
        }
        let at = self.owed.iter().position(|owed| owed.block == block)?;
        self.owed.remove(at);
        self.remember_late(block);
        Some(true)
    }

    /// Gives up everything that was asked for or was to be; returns it.
    pub(super) fn drop_all(&mut self) -> Vec<Block> {
        let mut dropped: Vec<Block> = self.to_send.drain(..).collect();
        for owed in core::mem::take(&mut self.owed) {
            dropped.push(owed.block);
            self.remember_late(owed.block);
        }
        dropped
    }

    /// Gives up what was to be asked for of a piece, and what they owe of it if that will not come; returns it.
    pub(super) fn drop_piece(&mut self, piece: PieceIndex, owed_too: bool) -> Vec<Block> {
        let of_piece = |block: &Block| block.piece() == piece;
        let mut dropped: Vec<Block> = self.to_send.iter().copied().filter(of_piece).collect();
        self.to_send.retain(|block| !of_piece(block));
        if owed_too {
            let owed: Vec<Block> = self.owed.iter().map(|owed| owed.block).filter(of_piece).collect();
            self.owed.retain(|owed| !of_piece(&owed.block));
            owed.iter().for_each(|block| self.remember_late(*block));
            dropped.extend(owed);
        }
        dropped
    }

    /// Gives up what was not written yet; returns it.
    pub(super) fn drop_unsent(&mut self) -> Vec<Block> {
        self.to_send.drain(..).collect()
    }

    /// Calls the peer snubbed if it owes a block for too long; returns what it loses.
    pub(super) fn time_out(&mut self, now: Timestamp) -> Vec<Block> {
        if self.timeout().is_none_or(|at| at > now) {
            return Vec::new();
        }
        self.snubbed = true;
        self.slow_start = false;
        self.depth = 1;
        self.rate_bytes_per_s = 0;
        self.drop_all()
    }

    pub(super) fn timeout(&self) -> Option<Timestamp> {
        let oldest = self.owed.front()?.sent;
        let silent = oldest.max(self.last_arrival) + REQUEST_TIMEOUT;
        Some(silent.min(oldest + REQUEST_TIMEOUT_MAX))
    }

    /// The lengths of the blocks that will arrive next, if the peer answers in order.
    pub(super) fn plan(&self, plan: &mut Vec<u32>) {
        plan.extend(self.owed.iter().take(PLAN_LEN).map(|owed| owed.block.len()));
    }

    pub(super) fn owed(&self) -> impl Iterator<Item = Block> + '_ {
        self.owed.iter().map(|owed| owed.block)
    }

    pub(super) fn owes(&self) -> bool {
        !self.owed.is_empty()
    }

    pub(super) fn owed_bytes(&self) -> u64 {
        self.owed.len() as u64 * u64::from(BLOCK_LEN)
    }

    fn remember_late(&mut self, block: Block) {
        if self.late.len() == MAX_LATE {
            self.late.pop_front();
        }
        self.late.push_back(block);
    }
}

/// Requests to a peer of which nothing is known.
const FIRST_DEPTH: u32 = 8;

/// A peer that answers at all is worth so many.
const MIN_DEPTH: u32 = 2;

/// The requests out cover this much time beyond two round trips.
const QUEUE_TIME: Duration = Duration::from_secs(1);

/// The time over which a rate is taken.
const RATE_WINDOW: Duration = Duration::from_millis(500);

/// How long a peer may keep silent while it owes blocks.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a peer may owe one block.
const REQUEST_TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// Blocks that are remembered as asked for once.
const MAX_LATE: usize = 1024;

/// Blocks of a read plan.
const PLAN_LEN: usize = 64;

#[cfg(test)]
mod tests {
    use super::{Arrival, REQUEST_TIMEOUT, Requests};
    use crate::lengths::{Block, Lengths};
    use crate::machine::Timestamp;
    use alloc::vec::Vec;
    use core::time::Duration;

    fn blocks(n: u64) -> Vec<Block> {
        let lengths = Lengths::contiguous(n << 14, 1 << 14).unwrap();
        lengths.pieces().flat_map(|piece| lengths.blocks(piece)).collect()
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_micros(millis * 1000)
    }

    /// Answers every request after `round_trip_ms`, `blocks_per_s` at most, and returns the depth after `seconds`.
    fn settle(round_trip_ms: u64, blocks_per_s: u64, seconds: u64) -> u32 {
        let all = blocks(seconds * blocks_per_s + 600);
        let (mut requests, mut next, mut now) = (Requests::new(at(0), 250), 0, 0);
        let mut due = Vec::new();
        let mut free_at = 0;
        while now < seconds * 1_000_000 {
            let room = requests.room();
            requests.assign(&all[next..next + room]);
            next += room;
            while let Some(block) = requests.send(Timestamp::from_micros(now)) {
                free_at = (now + round_trip_ms * 1000).max(free_at) + 1_000_000 / blocks_per_s;
                due.push((free_at, block));
            }
            let (when, block) = due.remove(0);
            now = when;
            let time = Timestamp::from_micros(now);
            assert_eq!(requests.arrive(time, block), Arrival::Asked);
            requests.measure(time, block.len());
        }
        requests.depth
    }

    #[test]
    fn the_depth_follows_rate_and_round_trip() {
        let slow = settle(50, 10, 30);
        assert!((5..30).contains(&slow), "ten blocks a second need about as many requests, not {slow}");
        let fast = settle(1, 50_000, 2);
        assert_eq!(fast, 250, "a peer that answers at once is limited only by the limit");
        let far = settle(300, 60, 30);
        assert!((60..160).contains(&far), "60 blocks a second at 300 ms need about 100 requests, not {far}");
    }

    #[test]
    fn a_silent_peer_loses_its_requests_once_and_keeps_a_depth_of_one() {
        let all = blocks(8);
        let mut requests = Requests::new(at(0), 250);
        requests.assign(&all);
        while requests.send(at(0)).is_some() {}
        let due = requests.timeout().unwrap();
        assert_eq!(due, at(0) + REQUEST_TIMEOUT);
        assert!(requests.time_out(due - Duration::from_micros(1)).is_empty());
        assert_eq!(requests.time_out(due).len(), 8);
        assert!(requests.time_out(due).is_empty());
        assert_eq!((requests.room(), requests.timeout(), requests.is_snubbed()), (1, None, true));
    }

    #[test]
    fn a_block_that_timed_out_is_late_not_hostile() {
        let all = blocks(2);
        let mut requests = Requests::new(at(0), 250);
        requests.assign(&all[..1]);
        requests.send(at(0));
        requests.time_out(at(20_000));
        assert_eq!(requests.arrive(at(21_000), all[0]), Arrival::Asked);
        assert!(!requests.is_snubbed(), "it answers again");
        assert_eq!(requests.arrive(at(21_000), all[0]), Arrival::Unasked, "once is enough");
        assert_eq!(requests.arrive(at(21_000), all[1]), Arrival::Unasked);
    }

    #[test]
    fn a_dripping_peer_cannot_hold_a_block_for_more_than_a_minute() {
        let all = blocks(8);
        let mut requests = Requests::new(at(0), 250);
        requests.assign(&all);
        while requests.send(at(0)).is_some() {}
        for (i, second) in [19, 38, 57].into_iter().enumerate() {
            assert!(requests.time_out(at(second * 1000)).is_empty());
            requests.arrive(at(second * 1000), all[7 - i]);
        }
        assert_eq!(requests.timeout(), Some(at(60_000)));
        assert_eq!(requests.time_out(at(60_000)).len(), 5);
    }
}
