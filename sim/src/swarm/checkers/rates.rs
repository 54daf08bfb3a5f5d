//! How fast a client sends when its user set a limit: INV-S-20.

use super::{Bounds, Observation, Verdict, hold};
use fast_peer_core::machine::Timestamp;

/// A bucket that fills at the limit's rate and holds one burst: it holds enough for everything that leaves if and only
/// if no window of any length sees more than the limit allows and one burst.
#[derive(Debug)]
pub(super) struct Rates {
    messages: u64,
    limit: Option<u64>,
    /// What may still leave now, in millionths of a byte.
    level: u128,
    filled_at: Timestamp,
}

impl Rates {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { messages: bounds.messages, limit: None, level: 0, filled_at: Timestamp::ZERO }
    }

    /// The most that may leave at once, in millionths of a byte.
    fn most(&self, limit: u64) -> u128 {
        u128::from(self.messages + (limit / 4).max(BURST_MIN)) * MILLION
    }

    pub(super) fn observe(&mut self, at: Timestamp, observation: &Observation<'_>) -> Verdict {
        match *observation {
            Observation::SetUpLimit { bytes_per_s } => {
                self.limit = bytes_per_s;
                self.level = bytes_per_s.map_or(0, |limit| self.most(limit));
                self.filled_at = at;
            }
            Observation::SentBytes { len } => {
                let Some(limit) = self.limit else { return Ok(()) };
                let filled = at.since(self.filled_at).as_micros() * u128::from(limit);
                self.level = (self.level + filled).min(self.most(limit));
                self.filled_at = at;
                let cost = u128::from(len) * MILLION;
                hold(cost <= self.level, "INV-S-20", || {
                    format!("{len} bytes leave where {} may, at {limit} a second", self.level / MILLION)
                })?;
                self.level -= cost;
            }
            _ => {}
        }
        Ok(())
    }
}

const MILLION: u128 = 1_000_000;

/// A block and its head, so that something can leave under any limit.
const BURST_MIN: u64 = (1 << 14) + 256;

#[cfg(test)]
mod tests {
    use super::super::tests::{BOUNDS, expect_breach};
    use super::{BURST_MIN, Observation, Rates, Timestamp};

    #[test]
    fn s20_more_than_the_limit_and_a_burst() {
        let mut rates = Rates::new(BOUNDS);
        let sent = |rates: &mut Rates, at, len| {
            rates.observe(Timestamp::from_micros(at), &Observation::SentBytes { len })
        };
        sent(&mut rates, 0, 1 << 40).expect("there is no limit yet");
        rates.observe(Timestamp::ZERO, &Observation::SetUpLimit { bytes_per_s: Some(100) }).unwrap();
        sent(&mut rates, 0, BOUNDS.messages + BURST_MIN).unwrap();
        sent(&mut rates, 1_000_000, 100).unwrap();
        expect_breach(sent(&mut rates, 1_500_000, 51), "INV-S-20");
        sent(&mut rates, 1_500_000, 50).unwrap();
    }
}
