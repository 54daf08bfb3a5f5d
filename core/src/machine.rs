//! The contract that every state machine in this crate keeps, and the clock they share.

use alloc::collections::VecDeque;
use core::fmt;
use core::ops::{Add, Sub};
use core::time::Duration;

/// Microseconds since the client started. Only a driver mints one; zero is a valid time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The moment at which the client started.
    pub const ZERO: Self = Self(0);

    /// The time `micros` microseconds after the start.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the start.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to this one; zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, by: Duration) -> Self {
        // Saturation means "never": half a million years of microseconds fit.
        Self(self.0.saturating_add(u64::try_from(by.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(by.as_micros()).unwrap_or(u64::MAX)))
    }
}

/// Milliseconds with three decimals, right-aligned as traces show them.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>4}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

/// When a machine next wants to be woken, and what for (the reason goes in traces).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline {
    /// The earliest time at which something is due.
    pub at: Timestamp,
    /// What is due then.
    pub why: &'static str,
}

impl Deadline {
    /// The earlier of two deadlines that may be absent.
    pub fn earlier(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        match (a, b) {
            (Some(a), Some(b)) => Some(if b.at < a.at { b } else { a }),
            (a, b) => a.or(b),
        }
    }
}

/// Where a machine puts what should happen next. The parent owns it and reuses it.
pub type Outbox<A> = VecDeque<A>;

/// A protocol state machine: same seed and same calls give the same actions.
pub trait Machine {
    /// What can happen to it.
    type Event;
    /// What it can ask for.
    type Action;

    /// Takes in one fact from outside.
    fn handle_event(&mut self, now: Timestamp, event: Self::Event, out: &mut Outbox<Self::Action>);

    /// Does what is due. A call that is early, or made twice, changes nothing.
    fn handle_timeout(&mut self, now: Timestamp, out: &mut Outbox<Self::Action>);

    /// The next deadline; after `handle_timeout(now)` it is later than `now`.
    fn poll_timeout(&self) -> Option<Deadline>;
}
