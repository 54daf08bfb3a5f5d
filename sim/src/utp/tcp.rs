//! A model of TCP that is enough to share a queue with: it loses nothing of its numbers and has selective answers.

use core::time::Duration;
use fast_peer_core::machine::Timestamp;
use std::collections::VecDeque;

/// How the window of a TCP moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// RFC 9438.
    Cubic,
    /// RFC 5681.
    Reno,
}

/// The sender of a TCP that always has something to send.
#[derive(Debug)]
pub(super) struct Tcp {
    control: Control,
    /// In packets.
    window: f64,
    threshold: f64,
    next: u64,
    /// What is on its way: its number and when it was sent.
    flying: VecDeque<(u64, Timestamp)>,
    highest: u64,
    /// Losses of packets before this one are part of one event.
    recovered: u64,
    rtt: Duration,
    heard: Timestamp,
    /// The window before the last loss, and when that was.
    peak: f64,
    since: Timestamp,
}

impl Tcp {
    pub(super) fn new(now: Timestamp, control: Control) -> Self {
        Self {
            control,
            window: 10.0,
            threshold: f64::INFINITY,
            next: 0,
            flying: VecDeque::new(),
            highest: 0,
            recovered: 0,
            rtt: Duration::ZERO,
            heard: now,
            peak: 0.0,
            since: now,
        }
    }

    /// The number of the next packet, if it may go.
    pub(super) fn poll(&mut self, now: Timestamp) -> Option<u64> {
        if self.flying.len() as f64 >= self.window.floor().max(1.0) {
            return None;
        }
        if self.flying.is_empty() {
            self.heard = now;
        }
        self.flying.push_back((self.next, now));
        self.next += 1;
        Some(self.next - 1)
    }

    pub(super) fn on_ack(&mut self, now: Timestamp, number: u64) {
        let Ok(at) = self.flying.binary_search_by_key(&number, |(number, _)| *number) else { return };
        let (_, sent) = self.flying.remove(at).expect("it was found");
        self.heard = now;
        self.highest = self.highest.max(number);
        let sample = now.since(sent);
        self.rtt = if self.rtt.is_zero() { sample } else { (self.rtt * 7 + sample) / 8 };
        if self.window < self.threshold {
            self.window += 1.0;
        } else {
            self.avoid(now);
        }
        while self.flying.front().is_some_and(|(number, _)| number + 3 <= self.highest) {
            let (lost, _) = self.flying.pop_front().expect("it is there");
            if lost >= self.recovered {
                self.back_off(now);
            }
        }
    }

    /// Congestion avoidance, for one answer.
    fn avoid(&mut self, now: Timestamp) {
        let reno = 1.0 / self.window;
        self.window += match self.control {
            Control::Reno => reno,
            Control::Cubic => {
                let k = (self.peak * (1.0 - CUBIC_BETA) / CUBIC_C).cbrt();
                let t = (now.since(self.since) + self.rtt).as_secs_f64();
                let target = CUBIC_C * (t - k).powi(3) + self.peak;
                // Where CUBIC would be slower than Reno it is like Reno.
                (((target - self.window) / self.window).clamp(0.0, 0.5)).max(reno * 0.53)
            }
        };
    }

    fn back_off(&mut self, now: Timestamp) {
        self.recovered = self.next;
        self.since = now;
        self.peak = self.window;
        let beta = if self.control == Control::Cubic { CUBIC_BETA } else { 0.5 };
        self.window = (self.window * beta).max(2.0);
        self.threshold = self.window;
    }

    /// When all that is on its way counts as lost.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        let patience = (self.rtt * 2).max(Duration::from_secs(1));
        (!self.flying.is_empty()).then(|| self.heard + patience)
    }

    pub(super) fn on_timeout(&mut self, now: Timestamp) {
        self.flying.clear();
        self.back_off(now);
        self.window = 1.0;
    }
}

const CUBIC_BETA: f64 = 0.7;
const CUBIC_C: f64 = 0.4;
