//! How much may be on its way: as much as fills the path while the queue in it stays short (LEDBAT, BEP 29).
//!
//! Delay decides. Where there is hardly a queue the window grows in proportion to itself, so that it fills a path of any
//! length, and by a packet in a round trip until the queue is as long as is aimed at. Where it is longer the window shrinks
//! fast enough to leave the path to flows that only lose when a buffer is full. A loss while the queue is short is an
//! accident of the path and costs little. A loss while it is long shows how deep the buffer is: the target becomes half of
//! that, lest we and others take turns in filling it.
//!
//! What the remote says of delays is not all that is believed: a round trip that got longer without a reason in the other
//! direction counts too, so nobody gains by claiming that there is no queue.

use crate::machine::Timestamp;
use core::ops::Range;
use core::time::Duration;

/// The congestion control of one stream.
#[derive(Debug)]
pub(super) struct Ledbat {
    /// The bytes that may be on their way.
    window: usize,
    slow_start: bool,
    /// Where slow start ends after a timeout.
    threshold: usize,
    /// The delay that the queue may have, in microseconds.
    target: u32,
    /// The differences that the remote measures between our clock and its own.
    ours: Base,
    /// Those that we measure.
    theirs: Base,
    /// How much longer than the shortest the last packet of the remote took.
    reverse: u32,
    rtt: Base,
    smooth_rtt: Option<(Duration, Duration)>,
    /// The last delays; the least of them counts, since a packet can only be late by accident.
    recent: [u32; FILTER],
    /// The longest delay in this round trip and in the one before.
    peaks: [u32; 2],
    /// The first sending that belongs to the next round trip.
    round_ends: u64,
    arrived: u32,
    lost: u32,
    /// The share of packets that were lost lately, in 1/65536.
    loss: u32,
    /// The first sending after the last loss that was answered.
    answered: u64,
    /// Window and slow start before that answer.
    before: Option<(usize, bool)>,
}

impl Ledbat {
    pub(super) fn new(payload: usize) -> Self {
        Self {
            window: INITIAL_PACKETS * payload,
            slow_start: true,
            threshold: usize::MAX,
            target: MAX_TARGET,
            ours: Base::default(),
            theirs: Base::default(),
            reverse: 0,
            rtt: Base::default(),
            smooth_rtt: None,
            recent: [0; FILTER],
            peaks: [0; 2],
            round_ends: 0,
            arrived: 0,
            lost: 0,
            loss: 0,
            answered: 0,
            before: None,
        }
    }

    /// The bytes that may be on their way.
    pub(super) fn window(&self) -> usize {
        self.window
    }

    /// The delay of the queue in the path, as far as we believe to know.
    pub(super) fn delay(&self) -> Duration {
        Duration::from_micros(self.filtered().into())
    }

    /// The mean of round trips; none before the first.
    pub(super) fn rtt(&self) -> Option<Duration> {
        self.smooth_rtt.map(|(mean, _)| mean)
    }

    /// The shortest round trip lately.
    pub(super) fn least_rtt(&self) -> Option<Duration> {
        self.rtt.least().map(|rtt| Duration::from_micros(rtt.into()))
    }

    /// How long an answer may take.
    pub(super) fn timeout(&self) -> Duration {
        self.smooth_rtt.map_or(INITIAL_TIMEOUT, |(mean, deviation)| (mean + 4 * deviation).max(MIN_TIMEOUT))
    }

    /// A packet came that took `difference` by our clock and that of the remote.
    pub(super) fn on_packet(&mut self, now: Timestamp, difference: u32) {
        // Their clock runs behind ours more and more: ours before theirs as much.
        if let Some(fall) = self.theirs.add(now, difference)
            && fall < MAX_DRIFT
        {
            self.ours.raise(fall);
        }
        self.reverse = self.theirs.above(difference);
    }

    /// Something that was sent `rtt` ago is acknowledged by a packet that says `difference`.
    pub(super) fn on_sample(&mut self, now: Timestamp, rtt: Option<Duration>, difference: u32) {
        let mut queue = 0;
        if let Some(rtt) = rtt {
            let micros = u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX / 4).min(u32::MAX / 4);
            self.rtt.add(now, micros);
            queue = self.rtt.above(micros).saturating_sub(self.reverse);
            self.smooth_rtt = Some(match self.smooth_rtt {
                None => (rtt, rtt / 2),
                Some((mean, deviation)) => ((mean * 7 + rtt) / 8, (deviation * 3 + mean.abs_diff(rtt)) / 4),
            });
        }
        // BEP 29: zero says that nothing has been measured yet.
        if difference != 0 {
            self.ours.add(now, difference);
            queue = queue.max(self.ours.above(difference));
        } else if rtt.is_none() {
            return;
        }
        self.recent.rotate_left(1);
        self.recent[FILTER - 1] = queue;
        self.peaks[1] = self.peaks[1].max(self.filtered());
    }

    /// `bytes` in packets have arrived, the latest of which was the sending `tx` of `next_tx`; `full` is whether the
    /// window was what held back more.
    pub(super) fn on_acked(
        &mut self,
        acked: (usize, u32),
        tx: u64,
        next_tx: u64,
        payload: usize,
        full: bool,
    ) {
        let ((bytes, packets), delay) = (acked, self.filtered());
        self.arrived += packets;
        if tx >= self.round_ends {
            self.end_round(next_tx);
        }
        if self.slow_start {
            if delay > self.target / 4 * 3 || self.window >= self.threshold {
                self.slow_start = false;
            } else if full {
                self.window += bytes;
            }
            self.bound(payload);
            return;
        }
        let (bytes, window) = (bytes as u64, self.window as u64);
        let (delay, target) = (u64::from(delay), u64::from(self.target));
        if delay <= target {
            if full {
                // An empty path is filled fast. Where others could be, all gain alike, so that who has more loses more.
                let empty = (target / 4).saturating_sub(delay);
                let fast = window / GAIN * empty / (target / 4).max(1);
                self.window += (bytes * (GAIN_PACKETS * payload as u64 + fast) / window.max(1)) as usize;
            }
        } else {
            let excess = (delay - target).min(target);
            self.window -= (bytes.min(window) * excess / (target * SHRINK)) as usize;
        }
        self.bound(payload);
    }

    fn end_round(&mut self, next_tx: u64) {
        let all = self.arrived + self.lost;
        if all > 0 {
            let share = u64::from(self.lost) * 65_536 / u64::from(all);
            self.loss = ((u64::from(self.loss) * 7 + share) / 8) as u32;
        }
        if self.lost == 0 {
            // A buffer that holds this much without a loss is deeper than it seemed.
            self.target = self.target.max((self.peaks[1] / 2).min(MAX_TARGET));
        }
        (self.arrived, self.lost) = (0, 0);
        self.before = None;
        self.peaks = [self.peaks[1], self.filtered()];
        self.round_ends = next_tx;
    }

    /// `packets` were lost, the latest of which was the sending `tx`.
    pub(super) fn on_lost(&mut self, packets: u32, tx: u64, next_tx: u64, payload: usize) {
        self.lost += packets;
        // BEP 29: once a window.
        if tx < self.answered {
            return;
        }
        self.answered = next_tx;
        self.before = Some((self.window, self.slow_start));
        let peak = self.peaks[0].max(self.peaks[1]);
        if peak >= DEEP {
            self.target = MAX_TARGET;
        } else if peak < 2 * self.target {
            // On a short path a short queue is long for others.
            let least = self.rtt.least().map_or(MIN_TARGETS.end, |rtt| rtt / 8);
            let least = least.clamp(MIN_TARGETS.start, MIN_TARGETS.end);
            self.target = (peak / 2).clamp(least, MAX_TARGET);
        }
        let many = (self.window / payload.max(1) / 8).max(2) as u32;
        if peak >= self.target / 4 * 3 || self.loss > MAX_ACCIDENTS || self.lost > many {
            self.slow_start = false;
            self.window = self.window * 7 / 10;
        } else {
            self.window -= self.window / ACCIDENT;
        }
        self.bound(payload);
    }

    /// What was taken for lost had only been overtaken.
    pub(super) fn on_spurious(&mut self) {
        if let Some((window, slow_start)) = self.before.take() {
            self.window = self.window.max(window);
            self.slow_start = slow_start;
        }
    }

    /// Nothing was heard for so long that all is lost.
    pub(super) fn on_timeout(&mut self, next_tx: u64, payload: usize) {
        self.threshold = (self.window / 2).max(MIN_PACKETS * payload);
        self.window = MIN_PACKETS * payload;
        self.slow_start = true;
        self.answered = next_tx;
        self.before = None;
    }

    /// Packets are longer or shorter from now on.
    pub(super) fn on_payload(&mut self, payload: usize) {
        self.bound(payload);
    }

    fn filtered(&self) -> u32 {
        self.recent.iter().copied().min().unwrap_or(0)
    }

    fn bound(&mut self, payload: usize) {
        self.window = self.window.clamp(MIN_PACKETS * payload, MAX_WINDOW);
    }
}

/// The least of a measure over some minutes. Measures go round in a circle, and only their differences mean something.
#[derive(Debug, Default)]
struct Base {
    /// The least of each minute, the latest last.
    minutes: [Option<u32>; MINUTES],
    minute: u64,
}

impl Base {
    /// Takes in a measure. Tells by how much it is less than all before, if there were any.
    fn add(&mut self, now: Timestamp, measure: u32) -> Option<u32> {
        let minute = now.as_micros() / 60_000_000;
        let passed = minute.saturating_sub(self.minute).min(MINUTES as u64) as usize;
        let least = self.least();
        self.minutes.rotate_left(passed % MINUTES);
        self.minutes[MINUTES - passed..].fill(None);
        self.minute = minute;
        let last = &mut self.minutes[MINUTES - 1];
        *last = Some(last.map_or(measure, |known| lesser(known, measure)));
        let fall = least?.wrapping_sub(measure).cast_signed();
        (fall > 0).then_some(fall.unsigned_abs())
    }

    fn least(&self) -> Option<u32> {
        self.minutes.iter().flatten().copied().reduce(lesser)
    }

    /// How far a measure lies above the least.
    fn above(&self, measure: u32) -> u32 {
        let above = self.least().map_or(0, |least| measure.wrapping_sub(least).cast_signed());
        u32::try_from(above).unwrap_or(0)
    }

    fn raise(&mut self, by: u32) {
        self.minutes.iter_mut().flatten().for_each(|least| *least = least.wrapping_add(by));
    }
}

fn lesser(a: u32, b: u32) -> u32 {
    if b.wrapping_sub(a).cast_signed() < 0 { b } else { a }
}

/// The delay that a deep queue may have; that of BEP 29 is 100 ms, which people hear in a call.
const MAX_TARGET: u32 = 60_000;

/// A buffer of which this much was full can hold that and leave room for others. All streams that share one agree on it.
const DEEP: u32 = 80_000;

/// Less can't be told from accidents of scheduling.
const MIN_TARGETS: Range<u32> = 2_000..8_000;

/// Delays of which the least counts.
const FILTER: usize = 3;

/// In a round trip the window grows by so many packets, and by one part in so many where there is no queue.
const GAIN: u64 = 16;
const GAIN_PACKETS: u64 = 1;

/// A queue that is twice the target takes one part in so many of the window in a round trip.
const SHRINK: u64 = 2;

/// A loss by accident takes one part in so many.
const ACCIDENT: usize = 32;

/// Accidents beyond this share, in 1/65536, are none.
const MAX_ACCIDENTS: u32 = 65_536 / 12;

/// RFC 6928.
const INITIAL_PACKETS: usize = 10;

const MIN_PACKETS: usize = 2;

const MAX_WINDOW: usize = 1 << 28;

/// BEP 29.
const INITIAL_TIMEOUT: Duration = Duration::from_secs(1);

/// BEP 29.
const MIN_TIMEOUT: Duration = Duration::from_millis(500);

/// Minutes in which a path that got longer is noticed.
const MINUTES: usize = 10;

/// The least of a delay falls by more than this when a path changes, not because a clock drifts.
const MAX_DRIFT: u32 = 10_000;
