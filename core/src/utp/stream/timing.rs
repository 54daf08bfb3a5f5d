//! What a stream waits for, and what it does when that doesn't come.

use super::{Phase, Stream};
use crate::machine::{Deadline, Outbox, Timestamp};
use crate::utp::event::{Action, End};
use crate::utp::mtu::BASE_PAYLOAD;
use core::time::Duration;

#[derive(Debug)]
pub(super) struct Timers {
    /// When what is on its way counts as lost, or the SYN does.
    pub(super) resend: Option<Timestamp>,
    /// When the first packet that is missing goes again, to learn of the others.
    pub(super) tail: Option<Timestamp>,
    /// How often it went since something arrived.
    pub(super) tails: u32,
    /// When the remote is asked whether it has room again.
    pub(super) poke: Option<Timestamp>,
    /// When it is forgotten, whatever it waits for.
    pub(super) linger: Option<Timestamp>,
    pub(super) heard: Timestamp,
    pub(super) said: Timestamp,
}

impl Stream {
    /// Waits anew for an answer to what is on its way.
    pub(super) fn restart(&mut self, now: Timestamp) {
        self.timers.tails = 0;
        if self.send.is_outstanding() {
            self.timers.resend = Some(now + backed_off(self.ledbat.timeout(), self.timeouts));
            self.timers.tail = (self.timeouts == 0).then(|| now + self.tail_wait());
        } else {
            (self.timers.resend, self.timers.tail) = (None, None);
        }
    }

    pub(super) fn tail_wait(&self) -> Duration {
        let wait = self.ledbat.rtt().map_or(MAX_TIMEOUT, |rtt| 2 * rtt) + TAIL_GRACE;
        // What took the packet may still be there.
        backed_off(wait, self.timers.tails)
    }

    /// Sends the first packet that is missing again. If it was to find out whether so long a packet arrives, that stays
    /// open.
    pub(super) fn hurry_first(&mut self, now: Timestamp) {
        if let Some(size) = self.send.hurry_first() {
            self.mtu.on_lost(now, size);
        }
    }

    /// Sees to it that a remote without room is asked again.
    pub(super) fn watch_window(&mut self, now: Timestamp) {
        let stuck = self.send.waiting() > 0 && !self.send.is_outstanding() && self.their_window == 0;
        if stuck && self.timers.poke.is_none() && !self.poke_due {
            self.timers.poke = Some(now + POKE_AFTER);
        }
    }

    pub(in crate::utp) fn on_written(&mut self, now: Timestamp) {
        self.watch_window(now);
    }

    /// Does what is due.
    pub(in crate::utp) fn on_timeout(&mut self, now: Timestamp, out: &mut Outbox<Action>) {
        let due = |at: Option<Timestamp>| at.is_some_and(|at| at <= now);
        if self.phase == Phase::Over {
            return;
        }
        if due(self.timers.linger) {
            self.phase = Phase::Over;
            return;
        }
        if due(self.timers.resend) {
            self.on_silence(now, out);
        }
        if due(self.timers.tail) {
            self.timers.tails += 1;
            self.timers.tail = Some(now + self.tail_wait());
            self.hurry_first(now);
        }
        if due(self.timers.poke) {
            self.timers.poke = None;
            self.poke_due = true;
        }
        if now >= self.timers.said + KEEP_ALIVE && !matches!(self.phase, Phase::Opening(_)) {
            self.ack_due = true;
            self.timers.said = now;
        }
        self.check_writable(out);
    }

    fn on_silence(&mut self, now: Timestamp, out: &mut Outbox<Action>) {
        self.timeouts += 1;
        if matches!(self.phase, Phase::Opening(_)) {
            if self.timeouts >= SYN_TRIES {
                self.fail(End::TimedOut, out);
                return;
            }
            self.ack_due = true;
            self.timers.resend = Some(now + backed_off(self.ledbat.timeout(), self.timeouts));
            return;
        }
        if self.timeouts >= MIN_TIMEOUTS && now.since(self.timers.heard) >= PATIENCE {
            self.fail(End::TimedOut, out);
            return;
        }
        if self.timeouts >= BLACK_HOLE_TIMEOUTS && self.send.longest() > BASE_PAYLOAD {
            self.mtu.on_black_hole(now);
        }
        let losses = self.send.lose_all();
        if let Some(size) = losses.probe {
            self.mtu.on_lost(now, size);
        }
        // Where the remote has no room, what we sent was a question, and no answer says nothing of the path.
        if losses.packets > 0 && self.their_window > 0 {
            self.ledbat.on_timeout(self.send.next_tx(), self.mtu.payload());
        }
        self.restart(now);
    }

    /// When [`Self::on_timeout`] has something to do.
    pub(in crate::utp) fn poll_timeout(&self) -> Option<Deadline> {
        if self.phase == Phase::Over {
            return None;
        }
        let timers = &self.timers;
        let keep_alive = match self.phase {
            Phase::Opening(_) => None,
            _ => Some(timers.said + KEEP_ALIVE),
        };
        let all = [
            (timers.resend, "uTP resend"),
            (timers.tail, "uTP tail probe"),
            (timers.poke, "uTP window probe"),
            (timers.linger, "uTP linger"),
            (keep_alive, "uTP keep-alive"),
        ];
        let all = all.into_iter().filter_map(|(at, why)| Some(Deadline { at: at?, why }));
        all.min_by_key(|deadline| deadline.at)
    }
}

fn backed_off(timeout: Duration, timeouts: u32) -> Duration {
    (timeout * (1 << timeouts.min(6))).min(MAX_TIMEOUT)
}

/// No answer is awaited longer.
const MAX_TIMEOUT: Duration = Duration::from_secs(8);

/// What an answer may take beyond two round trips, before the first missing packet is sent again.
const TAIL_GRACE: Duration = Duration::from_millis(10);

/// SYNs that get no answer: 1, 2, 4 and 8 s.
const SYN_TRIES: u32 = 4;

/// A remote is given up after this long without a word, while it owes an answer.
const PATIENCE: Duration = Duration::from_secs(60);

const MIN_TIMEOUTS: u32 = 4;

/// Timeouts in a row after which long packets are suspected to be the reason.
const BLACK_HOLE_TIMEOUTS: u32 = 3;

/// How often a remote without room is asked.
const POKE_AFTER: Duration = Duration::from_secs(5);

/// What libutp does to hold a NAT open.
const KEEP_ALIVE: Duration = Duration::from_secs(29);
