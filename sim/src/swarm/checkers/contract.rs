//! What a machine owes to its driver: INV-S-22 to 25, and INV-S-43.

use super::{Bounds, Observation, Verdict, hold};
use fast_peer_core::machine::Timestamp;
use fast_peer_core::session::Notice;

#[derive(Debug)]
pub(super) struct Contract {
    bounds: Bounds,
    now: Timestamp,
    /// How often time had come at one moment, and at which.
    timers: (Timestamp, u32),
    timed_out: bool,
    stopping: Option<Timestamp>,
    stopped: bool,
}

impl Contract {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            now: Timestamp::ZERO,
            timers: (Timestamp::ZERO, 0),
            timed_out: false,
            stopping: None,
            stopped: false,
        }
    }

    pub(super) fn observe(&mut self, at: Timestamp, observation: &Observation<'_>) -> Verdict {
        hold(at >= self.now, "INV-S-25", || format!("told of {at} after {}", self.now))?;
        self.now = at;
        match observation {
            Observation::TimedOut => {
                self.timed_out = true;
                self.timers = (at, if self.timers.0 == at { self.timers.1 + 1 } else { 1 });
                hold(self.timers.1 <= MAX_IDLE_TIMERS, "INV-S-24", || {
                    "timers without delay, one after another".into()
                })?;
            }
            Observation::Input => self.timed_out = false,
            Observation::Settled { outputs, more, deadline } => {
                hold(*outputs <= MAX_OUTPUTS, "INV-S-24", || format!("{outputs} outputs to one input"))?;
                hold(!more, "INV-S-23", || "an output became available without an input".into())?;
                if self.timed_out {
                    self.timed_out = false;
                    let late = deadline.filter(|deadline| deadline.at <= at);
                    hold(late.is_none(), "INV-S-22", || format!("still due after its time: {late:?}"))?;
                }
            }
            Observation::Stopping => {
                self.stopping.get_or_insert(at);
            }
            Observation::Notice { notice: Notice::Stopped, .. } => {
                self.stopped = true;
                let took = self.stopping.map(|since| at.since(since));
                hold(took.is_some_and(|took| took <= self.bounds.stop_within), "INV-S-43", || {
                    format!("stopped after {took:?}")
                })?;
            }
            Observation::Dialled { .. } => {
                hold(self.stopping.is_none(), "INV-S-43", || "a connection is opened while stopping".into())?;
            }
            Observation::Sent { .. } | Observation::BlockSent { .. } => {
                hold(!self.stopped, "INV-S-43", || "a message is sent after the end".into())?;
            }
            _ => {}
        }
        if let (Some(since), false) = (self.stopping, self.stopped) {
            hold(at.since(since) <= self.bounds.stop_within, "INV-S-43", || {
                "the stop takes too long".into()
            })?;
        }
        Ok(())
    }
}

/// The most outputs to one input.
const MAX_OUTPUTS: u32 = 10_000;

/// The most timers in a row that are due at once.
const MAX_IDLE_TIMERS: u32 = 1_000;

#[cfg(test)]
mod tests {
    use super::super::tests::{BOUNDS, expect_breach};
    use super::{Contract, MAX_IDLE_TIMERS, MAX_OUTPUTS, Notice, Observation, Timestamp};
    use fast_peer_core::id::ConnId;
    use fast_peer_core::machine::Deadline;

    const SETTLED: Observation<'static> = Observation::Settled { outputs: 1, more: false, deadline: None };

    fn at(micros: u64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    #[test]
    fn s22_a_deadline_that_stays_due() {
        let due = Some(Deadline { at: at(10), why: "test" });
        let settled = Observation::Settled { outputs: 0, more: false, deadline: due };
        let mut contract = Contract::new(BOUNDS);
        contract.observe(at(10), &Observation::Input).unwrap();
        contract.observe(at(10), &settled).expect("an input may leave something due at once");
        contract.observe(at(10), &Observation::TimedOut).unwrap();
        expect_breach(contract.observe(at(10), &settled), "INV-S-22");
    }

    #[test]
    fn s23_an_output_out_of_nothing() {
        let settled = Observation::Settled { outputs: 0, more: true, deadline: None };
        expect_breach(Contract::new(BOUNDS).observe(at(1), &settled), "INV-S-23");
    }

    #[test]
    fn s24_too_many_outputs_or_timers() {
        let settled = Observation::Settled { outputs: MAX_OUTPUTS + 1, more: false, deadline: None };
        expect_breach(Contract::new(BOUNDS).observe(at(1), &settled), "INV-S-24");
        let mut contract = Contract::new(BOUNDS);
        for _ in 0..MAX_IDLE_TIMERS {
            contract.observe(at(1), &Observation::Input).unwrap();
            contract.observe(at(1), &Observation::TimedOut).unwrap();
            contract.observe(at(1), &SETTLED).unwrap();
        }
        expect_breach(contract.observe(at(1), &Observation::TimedOut), "INV-S-24");
        contract.observe(at(2), &Observation::TimedOut).expect("time went on");
    }

    #[test]
    fn s25_time_that_goes_back() {
        let mut contract = Contract::new(BOUNDS);
        contract.observe(at(2), &Observation::Input).unwrap();
        expect_breach(contract.observe(at(1), &Observation::Input), "INV-S-25");
    }

    #[test]
    fn s43_a_stop_that_lasts_or_does_more() {
        let mut contract = Contract::new(BOUNDS);
        contract.observe(at(0), &Observation::Stopping).unwrap();
        let remote = ([11, 0, 0, 2], 1).into();
        let dialled = Observation::Dialled { conn: ConnId(1), remote, honest: true };
        expect_breach(contract.observe(at(1), &dialled), "INV-S-43");
        expect_breach(contract.observe(at(5_000_001), &Observation::Input), "INV-S-43");

        let mut contract = Contract::new(BOUNDS);
        contract.observe(at(0), &Observation::Stopping).unwrap();
        contract.observe(at(1), &Observation::Notice { notice: &Notice::Stopped, honest: true }).unwrap();
        let block = Observation::BlockSent { piece: 0, begin: 0, good: true };
        expect_breach(contract.observe(at(2), &block), "INV-S-43");
    }
}
