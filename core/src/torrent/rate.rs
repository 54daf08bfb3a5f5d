//! How fast bytes flow, and how fast they may.

use crate::machine::{Deadline, Timestamp};
use core::time::Duration;

/// Bytes per second over a sliding window.
#[derive(Clone, Debug)]
pub struct RateMeter {
    /// Microseconds that one slot stands for.
    slot_len: u64,
    /// The bytes of the latest slots; slot number `n` lies at `n % SLOTS`.
    slots: [u64; SLOTS],
    /// The number of the latest slot that has bytes.
    latest: u64,
    started: Option<Timestamp>,
    total: u64,
}

impl RateMeter {
    /// A meter over `window`.
    pub fn new(window: Duration) -> Self {
        let slot_len = u64::try_from(window.as_micros()).unwrap_or(u64::MAX) / SLOTS as u64;
        Self { slot_len: slot_len.max(1), slots: [0; SLOTS], latest: 0, started: None, total: 0 }
    }

    /// Counts `bytes` that flowed at `now`.
    pub fn add(&mut self, now: Timestamp, bytes: u64) {
        self.started.get_or_insert(now);
        self.total = self.total.saturating_add(bytes);
        let number = (now.as_micros() / self.slot_len).max(self.latest);
        for passed in (self.latest + 1..=number).take(SLOTS) {
            self.slots[passed as usize % SLOTS] = 0;
        }
        self.latest = number;
        let slot = &mut self.slots[number as usize % SLOTS];
        *slot = slot.saturating_add(bytes);
    }

    /// The mean over the window that ends at `now`, which moves on by tenths; or over the time since the first byte
    /// while that is shorter, but a second at least.
    pub fn bytes_per_s(&self, now: Timestamp) -> u64 {
        let Some(started) = self.started else { return 0 };
        let current = now.as_micros() / self.slot_len;
        let oldest = current.saturating_sub(SLOTS as u64 - 1);
        let bytes: u128 = (oldest..=self.latest).map(|n| u128::from(self.slots[n as usize % SLOTS])).sum();
        let from = started.as_micros().max(oldest * self.slot_len);
        let micros = now.as_micros().saturating_sub(from).max(MICROS_PER_S);
        u64::try_from(bytes * u128::from(MICROS_PER_S) / u128::from(micros)).unwrap_or(u64::MAX)
    }

    /// All bytes ever counted.
    pub const fn total(&self) -> u64 {
        self.total
    }
}

/// Lets bytes through at a limited rate: a token bucket.
///
/// In any stretch of time no more is granted than the rate allows, and one burst.
#[derive(Clone, Debug)]
pub struct RateLimiter {
    rate_bytes_per_s: Option<u64>,
    /// Bytes that may be taken at once, in millionths.
    tokens: u128,
    /// Bytes that flowed without being granted, in millionths: nothing is granted before they are made up for.
    debt: u128,
    filled_at: Timestamp,
    /// What the last call wanted and did not get.
    starved: u64,
}

impl RateLimiter {
    /// Lets `rate_bytes_per_s` through, everything if that is none; the first burst may be taken at once.
    pub fn new(now: Timestamp, rate_bytes_per_s: Option<u64>) -> Self {
        let mut limiter = Self { rate_bytes_per_s, tokens: 0, debt: 0, filled_at: now, starved: 0 };
        limiter.tokens = limiter.capacity();
        limiter
    }

    /// The limit, if there is one.
    pub const fn rate_bytes_per_s(&self) -> Option<u64> {
        self.rate_bytes_per_s
    }

    /// The most bytes that can be taken at once after a pause: what flows in a quarter of a second, but a block or a piece
    /// of the metadata at least, each of which leaves whole with its head or not at all. Nothing if nothing may flow.
    pub fn burst(&self) -> u64 {
        match self.rate_bytes_per_s {
            None => u64::MAX,
            Some(0) => 0,
            Some(rate) => (rate / BURSTS_PER_S).max(BURST_MIN),
        }
    }

    /// Sets another limit. What was saved up under the old one stays, up to the new burst.
    pub fn set_rate(&mut self, now: Timestamp, rate_bytes_per_s: Option<u64>) {
        self.fill(now);
        if self.rate_bytes_per_s.is_none() {
            self.tokens = 0;
        }
        if rate_bytes_per_s.is_none() {
            self.debt = 0;
        }
        self.rate_bytes_per_s = rate_bytes_per_s;
        self.tokens = self.tokens.min(self.capacity());
    }

    /// Takes up to `want` bytes out and returns how many that were.
    pub fn take(&mut self, now: Timestamp, want: u64) -> u64 {
        self.fill(now);
        if self.rate_bytes_per_s.is_none() {
            self.starved = 0;
            return want;
        }
        let granted = want.min(u64::try_from(self.tokens / MILLION).unwrap_or(u64::MAX));
        self.tokens -= u128::from(granted) * MILLION;
        self.starved = want - granted;
        granted
    }

    /// Puts back bytes that were taken and not used.
    pub fn put_back(&mut self, bytes: u64) {
        self.tokens = self.tokens.saturating_add(u128::from(bytes) * MILLION).min(self.capacity());
        // What leaves whole or not at all waits for all of it.
        if self.starved > 0 {
            self.starved = self.starved.saturating_add(bytes);
        }
    }

    /// Counts bytes that flow whatever was granted, as messages do that can't wait: they are made up for later.
    pub fn owe(&mut self, bytes: u64) {
        if self.rate_bytes_per_s.is_some_and(|rate| rate > 0) {
            let bytes = u128::from(bytes) * MILLION;
            let paid = bytes.min(self.tokens);
            self.tokens -= paid;
            self.debt = self.debt.saturating_add(bytes - paid);
        }
    }

    /// When what the last [`take`](Self::take) did not grant is there, or a burst of it. Nothing if all was granted
    /// or nothing may ever flow.
    pub fn poll_timeout(&self) -> Option<Deadline> {
        let rate = self.rate_bytes_per_s.filter(|rate| *rate > 0 && self.starved > 0)?;
        let wanted = u128::from(self.starved.min(self.burst())) * MILLION;
        let micros = self.debt.saturating_add(wanted).saturating_sub(self.tokens).div_ceil(u128::from(rate));
        let after = Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX).max(1));
        Some(Deadline { at: self.filled_at + after, why: "rate limit" })
    }

    fn fill(&mut self, now: Timestamp) {
        let micros = now.since(self.filled_at).as_micros();
        self.filled_at = self.filled_at.max(now);
        let flowed = micros.saturating_mul(u128::from(self.rate_bytes_per_s.unwrap_or(0)));
        let paid = flowed.min(self.debt);
        self.debt -= paid;
        self.tokens = self.tokens.saturating_add(flowed - paid).min(self.capacity());
    }

    fn capacity(&self) -> u128 {
        u128::from(self.burst()) * MILLION
    }
}

/// Into how many slots a meter divides its window.
const SLOTS: usize = 10;

const MICROS_PER_S: u64 = 1_000_000;
const MILLION: u128 = 1_000_000;

const BURSTS_PER_S: u64 = 4;
const BURST_MIN: u64 = (1 << 14) + 256;

#[cfg(test)]
mod tests {
    use super::{BURST_MIN, RateLimiter, RateMeter};
    use crate::lengths::BLOCK_LEN;
    use crate::machine::Timestamp;
    use crate::wire::{MAX_METADATA_LEN, METADATA_PIECE_LEN, MetadataMessage, PIECE_HEAD_LEN};
    use alloc::vec;
    use core::time::Duration;
    use proptest::prelude::*;

    const fn at(ms: u64) -> Timestamp {
        Timestamp::from_micros(ms * 1000)
    }

    #[test]
    fn a_steady_flow_is_measured_exactly() {
        let mut meter = RateMeter::new(Duration::from_secs(20));
        for ms in (0..60_000).step_by(100) {
            meter.add(at(ms), 500);
        }
        assert_eq!(meter.bytes_per_s(at(60_000)), 5000);
        assert_eq!(meter.total(), 300_000);
    }

    #[test]
    fn what_left_the_window_is_forgotten() {
        let mut meter = RateMeter::new(Duration::from_secs(20));
        meter.add(at(1000), 20_000);
        assert_eq!(meter.bytes_per_s(at(1000)), 20_000, "the shortest span is a second");
        assert_eq!(meter.bytes_per_s(at(11_000)), 2000);
        assert_eq!(meter.bytes_per_s(at(19_999)), 1052);
        assert_eq!(meter.bytes_per_s(at(20_000)), 0);
        meter.add(at(3_600_000), 4000);
        assert_eq!(meter.bytes_per_s(at(3_600_000)), 222, "over the 18 s of whole slots");
    }

    #[test]
    fn a_limiter_grants_a_burst_and_then_the_rate() {
        let mut limiter = RateLimiter::new(at(0), Some(100_000));
        assert_eq!(limiter.take(at(0), 1_000_000), 25_000);
        assert_eq!(limiter.take(at(0), 1000), 0);
        assert_eq!(limiter.poll_timeout().map(|due| due.at), Some(at(10)));
        assert_eq!(limiter.take(at(10), 1000), 1000);
        assert_eq!(limiter.poll_timeout(), None);
        limiter.put_back(400);
        assert_eq!(limiter.take(at(10), 1000), 400);
    }

    #[test]
    fn whatever_leaves_whole_fits_into_the_burst_of_any_limit() {
        let burst = RateLimiter::new(at(0), Some(1)).burst();
        assert!(burst >= u64::from(BLOCK_LEN) + PIECE_HEAD_LEN as u64);
        let data = vec![0; METADATA_PIECE_LEN as usize].into();
        let piece = MetadataMessage::Data { piece: 1023, total_len: Some(MAX_METADATA_LEN), data };
        // BEP 3, 10: a length and two ids come first.
        assert!(burst >= 6 + piece.encode().len() as u64);
    }

    #[test]
    fn what_leaves_whole_or_not_at_all_waits_for_the_whole() {
        let mut limiter = RateLimiter::new(at(0), Some(100_000));
        limiter.owe(10_000);
        assert_eq!(limiter.take(at(0), 20_000), 15_000);
        limiter.put_back(15_000);
        assert_eq!(limiter.poll_timeout().map(|due| due.at), Some(at(50)));
        assert_eq!(limiter.take(at(50), 20_000), 20_000);
    }

    #[test]
    fn what_flows_without_a_grant_is_made_up_for() {
        let mut limiter = RateLimiter::new(at(0), Some(100_000));
        limiter.owe(20_000);
        assert_eq!(limiter.take(at(0), 1_000_000), 5000, "it was taken out of the burst first");
        limiter.owe(10_000);
        assert_eq!(limiter.take(at(50), 1000), 0);
        assert_eq!(limiter.poll_timeout().map(|due| due.at), Some(at(110)));
        assert_eq!(limiter.take(at(110), 1000), 1000);
        limiter.owe(10_000);
        limiter.set_rate(at(110), None);
        limiter.set_rate(at(110), Some(100_000));
        assert_eq!(limiter.take(at(120), 1000), 1000, "without a limit there are no debts");
    }

    #[test]
    fn no_limit_grants_everything_and_zero_nothing() {
        let mut limiter = RateLimiter::new(at(0), None);
        assert_eq!(limiter.take(at(0), u64::MAX), u64::MAX);
        limiter.set_rate(at(1), Some(0));
        assert_eq!(limiter.take(at(1_000_000), 1), 0);
        assert_eq!(limiter.poll_timeout(), None);
        limiter.set_rate(at(1_000_000), Some(BURST_MIN));
        assert_eq!(limiter.take(at(1_000_000), 1), 0, "nothing was saved up while nothing flowed");
        assert_eq!(limiter.take(at(1_500_000), u64::MAX), BURST_MIN);
    }

    proptest! {
        /// INV-S-20: what is granted in any window is at most its share of the rate, and one burst.
        #[test]
        fn no_window_gets_more_than_its_share_and_a_burst(
            rate in 1_u64..2_000_000,
            steps in prop::collection::vec((0_u64..2_000_000, 0_u64..1_000_000), 1..60),
        ) {
            let mut limiter = RateLimiter::new(Timestamp::ZERO, Some(rate));
            let (mut now, mut grants) = (Timestamp::ZERO, vec![]);
            for (wait, want) in steps {
                now = now + Duration::from_micros(wait);
                grants.push((now, limiter.take(now, want)));
            }
            for (first, (from, _)) in grants.iter().enumerate() {
                let mut sum = 0;
                for (to, granted) in &grants[first..] {
                    sum += granted;
                    let share = u128::from(rate) * to.since(*from).as_micros() / 1_000_000;
                    prop_assert!(u128::from(sum) <= share + u128::from(limiter.burst()) + 1);
                }
            }
        }

        /// Whoever waits until the deadline gets what was missing, or a burst of it, and no deadline is past.
        #[test]
        fn waiting_for_the_deadline_is_enough(
            rate in 1_u64..2_000_000,
            wants in prop::collection::vec(1_u64..2_000_000, 1..40),
        ) {
            let mut limiter = RateLimiter::new(Timestamp::ZERO, Some(rate));
            let mut now = Timestamp::ZERO;
            for want in wants {
                let missing = want - limiter.take(now, want);
                let Some(due) = limiter.poll_timeout() else {
                    prop_assert_eq!(missing, 0);
                    continue;
                };
                prop_assert!(due.at > now);
                now = due.at;
                prop_assert_eq!(limiter.clone().take(now, missing), missing.min(limiter.burst()));
            }
        }

        /// The naive meter keeps every byte with its time.
        #[test]
        fn the_meter_agrees_with_a_list(
            steps in prop::collection::vec((0_u64..9_000_000, 0_u64..100_000), 1..60),
        ) {
            let mut meter = RateMeter::new(Duration::from_secs(20));
            let (mut now, mut list) = (0, vec![]);
            for (wait, bytes) in steps {
                now += wait;
                meter.add(Timestamp::from_micros(now), bytes);
                list.push((now, bytes));
                let from = (now / 2_000_000).saturating_sub(9) * 2_000_000;
                let sum: u64 = list.iter().filter(|(at, _)| *at >= from).map(|(_, bytes)| bytes).sum();
                let span = (now - from.max(list[0].0)).max(1_000_000);
                prop_assert_eq!(meter.bytes_per_s(Timestamp::from_micros(now)), sum * 1_000_000 / span);
            }
        }
    }
}
