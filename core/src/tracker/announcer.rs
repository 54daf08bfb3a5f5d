//! When to announce a torrent, and to which of its trackers (BEP 12).

use super::answer::{Answer, RetryIn, TrackerError};
use super::url::TrackerUrl;
use super::{AnnounceEvent, AnnounceRequest};
use crate::machine::{Deadline, Machine, Outbox, Timestamp};
use crate::rng::Rng;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

/// How long a tracker has for its answer.
pub const ANNOUNCE_PATIENCE: Duration = Duration::from_secs(30);

/// How long a tracker has to answer that it heard of our leave.
pub const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// One announce of one torrent's [`Announcer`]. Never used twice by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AnnounceId(pub u64);

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnnouncerEvent {
    /// A tracker answered. What the session does with the peers is its own affair.
    Answered {
        /// Which announce.
        id: AnnounceId,
        /// What it said.
        answer: Answer,
    },
    /// The torrent has all its pieces now, and had not at the start.
    Completed,
    /// A tracker did not answer, or refused.
    Failed {
        /// Which announce.
        id: AnnounceId,
        /// How.
        error: TrackerError,
    },
    /// The user wants an announce now, whatever trackers asked for.
    Force,
    /// The network is another one, or others reach us by another port: trackers that could not be reached perhaps can,
    /// and those that know us know an old address.
    NetworkChanged,
    /// Whether all that is wanted is there, but not all there is (BEP 21).
    PartialSeed(bool),
    /// The torrent starts.
    Start,
    /// The torrent stops. Trackers that know of it are told, and then nothing more comes.
    Stop,
    /// The torrent could use more peers than it knows.
    WantPeers,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnnouncerAction {
    /// Announce, and come back with `Answered` or `Failed`.
    Announce {
        /// Its name.
        id: AnnounceId,
        /// Where.
        url: TrackerUrl,
        /// What.
        request: AnnounceRequest,
        /// When to give up.
        patience: Duration,
    },
    /// Forget an announce. Nothing needs to be said about it any more.
    Cancel {
        /// Which.
        id: AnnounceId,
    },
}

impl fmt::Display for AnnouncerAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Announce { id, url, request, .. } => write!(f, "announce {} {url} {request}", id.0),
            Self::Cancel { id } => write!(f, "announce {} cancel", id.0),
        }
    }
}

/// What is known of one tracker.
#[derive(Clone, Copy, Debug)]
pub struct TrackerStatus<'a> {
    /// Where it is.
    pub url: &'a TrackerUrl,
    /// The number of its tier, 0 first.
    pub tier: usize,
    /// Whether it is being asked.
    pub announcing: bool,
    /// Why the last announce failed, if it did.
    pub error: Option<&'a TrackerError>,
    /// How many announces failed since the last that did not.
    pub fails: u32,
    /// Before this time it is not asked again, but for events; nothing if it does not want to be asked ever.
    pub ready_at: Option<Timestamp>,
    /// How many complete peers it counts.
    pub seeders: Option<u32>,
    /// How many other peers it counts.
    pub leechers: Option<u32>,
    /// What it last wanted the user to read.
    pub warning: Option<&'a str>,
}

/// The announces of one torrent.
///
/// A round walks through the tiers, each in an order that was drawn once, until a tracker answers; that one moves to
/// the front of its tier. BEP 12 asks one after the other. As a dead tracker takes half a minute to show, and half of a
/// public torrent's are dead, the walk goes on beside a tracker that has not answered for 5 seconds; but not with a
/// private torrent, whose trackers want to be the only one (BEP 27).
///
/// The first tracker in this order that answered, and has not failed since, is told of us as often as it asks for. The
/// others are there for when it fails, and for when a torrent that is not private needs more peers than it knows.
///
/// ```text
///  new ──Start──▶ walking ◀──── due ────  idle
///                  │  ▲ │                  ▲
///             5 s  └──┘ └─ answered, or ───┘
///             failed      all failed                any ──Stop──▶ stopped
/// ```
#[derive(Debug)]
pub struct Announcer {
    /// In the order in which they are asked.
    trackers: Vec<Tracker>,
    private: bool,
    rng: Rng,
    key: u32,
    last_id: u64,
    flights: Vec<Flight>,
    phase: Phase,
    /// The torrent was completed, and no tracker has confirmed to have heard so.
    completed: bool,
    partial_seed: bool,
}

#[derive(Debug)]
struct Tracker {
    url: TrackerUrl,
    tier: usize,
    /// It answered to an announce with `started`, so it counts us.
    started: bool,
    /// It answered last of all.
    working: bool,
    fails: u32,
    /// Back-off. Nothing if it is not to be asked again.
    retry_at: Option<Timestamp>,
    /// The end of its minimal interval.
    min_until: Timestamp,
    /// The end of its interval.
    next_at: Timestamp,
    tracker_id: Option<Vec<u8>>,
    error: Option<TrackerError>,
    seeders: Option<u32>,
    leechers: Option<u32>,
    warning: Option<String>,
}

/// An announce under way. Trackers change places, so it names its own by URL.
#[derive(Debug)]
struct Flight {
    id: AnnounceId,
    url: TrackerUrl,
    event: Option<AnnounceEvent>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    New,
    /// Nothing if there is nobody to ask.
    Idle {
        due: Option<Timestamp>,
    },
    /// The next tracker is asked when one fails, or at this time.
    Walking {
        hedge_at: Option<Timestamp>,
    },
    Stopped,
}

impl Announcer {
    /// Announces to `tiers`, for instance those of [`parse_tiers`](super::parse_tiers).
    pub fn new(tiers: Vec<Vec<TrackerUrl>>, private: bool, mut rng: Rng) -> Self {
        let key = rng.next_u32();
        let mut trackers = Vec::new();
        for (tier, mut urls) in tiers.into_iter().enumerate() {
            rng.shuffle(&mut urls);
            trackers.extend(urls.into_iter().map(|url| Tracker::new(url, tier)));
        }
        Self {
            trackers,
            private,
            rng,
            key,
            last_id: 0,
            flights: Vec::new(),
            phase: Phase::New,
            completed: false,
            partial_seed: false,
        }
    }

    /// The torrent turned out to be private: from now on its trackers are asked one after the other (BEP 27).
    pub fn set_private(&mut self) {
        self.private = true;
    }

    /// The trackers in the order in which they are asked. An answer, a failure and the passing of time change it.
    pub fn trackers(&self) -> impl Iterator<Item = TrackerStatus<'_>> {
        self.trackers.iter().map(|tracker| TrackerStatus {
            url: &tracker.url,
            tier: tracker.tier,
            announcing: self.is_being_asked(tracker),
            error: tracker.error.as_ref(),
            fails: tracker.fails,
            ready_at: tracker.retry_at.map(|at| at.max(tracker.min_until)),
            seeders: tracker.seeders,
            leechers: tracker.leechers,
            warning: tracker.warning.as_deref(),
        })
    }

    /// Whether there is no tracker at all.
    pub fn is_empty(&self) -> bool {
        self.trackers.is_empty()
    }

    /// Whether a tracker answered last time, or has not been tried yet.
    pub fn has_hope(&self) -> bool {
        self.trackers.iter().any(|tracker| tracker.error.is_none())
    }

    /// The tracker that answered last. With a private torrent, peers of the one before have to go when it changes.
    pub fn working(&self) -> Option<&TrackerUrl> {
        self.trackers.iter().find(|tracker| tracker.working).map(|tracker| &tracker.url)
    }

    /// Whether it was stopped and nothing is under way any more.
    pub fn is_stopped(&self) -> bool {
        self.phase == Phase::Stopped && self.flights.is_empty()
    }

    fn on_answered(&mut self, now: Timestamp, id: AnnounceId, answer: Answer) {
        let Some((flight, at)) = self.land(id) else { return };
        self.completed &= flight.event != Some(AnnounceEvent::Completed);
        self.trackers.iter_mut().for_each(|tracker| tracker.working = false);
        self.trackers[at].on_answered(now, answer);
        self.promote(at);
        if matches!(self.phase, Phase::Walking { .. }) {
            self.phase = Phase::Idle { due: None };
        }
        self.be_due_by(self.regular_due());
        if self.has_news() {
            self.be_due_by(Some(now));
        }
    }

    fn on_failed(
        &mut self,
        now: Timestamp,
        id: AnnounceId,
        error: TrackerError,
        out: &mut Outbox<AnnouncerAction>,
    ) {
        let Some((_, at)) = self.land(id) else { return };
        let tracker = &mut self.trackers[at];
        tracker.working = false;
        tracker.fails = tracker.fails.saturating_add(1);
        let wait = back_off(tracker.fails, &mut self.rng);
        tracker.retry_at = match &error {
            TrackerError::Refused { retry_in: Some(RetryIn::Never), .. } => None,
            TrackerError::Refused { retry_in: Some(RetryIn::After(time)), .. } => Some(now + wait.max(*time)),
            _ => Some(now + wait),
        };
        tracker.error = Some(error);
        if matches!(self.phase, Phase::Walking { .. }) {
            self.walk_on(now, out);
        } else if self.has_news() {
            self.be_due_by(Some(now));
        }
    }

    /// Ends a flight, and gives the number of its tracker.
    fn land(&mut self, id: AnnounceId) -> Option<(Flight, usize)> {
        let at = self.flights.iter().position(|flight| flight.id == id)?;
        let flight = self.flights.remove(at);
        let tracker = self.trackers.iter().position(|tracker| tracker.url == flight.url);
        Some((flight, tracker.expect("a tracker that was asked stays in the list")))
    }

    /// BEP 12: the tracker that answered is the first of its tier from now on.
    fn promote(&mut self, at: usize) {
        let tier = self.trackers[at].tier;
        let front = self.trackers.partition_point(|tracker| tracker.tier < tier);
        self.trackers[front..=at].rotate_right(1);
    }

    /// Asks the next tracker that may be asked. If there is none, the round ends when nothing is under way.
    fn walk_on(&mut self, now: Timestamp, out: &mut Outbox<AnnouncerAction>) {
        let next = self.trackers.iter().position(|tracker| {
            !self.is_being_asked(tracker) && self.ready_at(tracker).is_some_and(|at| at <= now)
        });
        if let Some(next) = next {
            self.announce(next, self.event_for(&self.trackers[next]), out);
            // BEP 27 wants one tracker at a time.
            let hedge_at = (!self.private).then(|| now + HEDGE_AFTER);
            self.phase = Phase::Walking { hedge_at };
        } else if self.flights.is_empty() {
            self.phase = Phase::Idle { due: self.regular_due() };
        } else {
            self.phase = Phase::Walking { hedge_at: None };
        }
    }

    fn announce(&mut self, at: usize, event: Option<AnnounceEvent>, out: &mut Outbox<AnnouncerAction>) {
        let tracker = &self.trackers[at];
        self.last_id += 1;
        let id = AnnounceId(self.last_id);
        let (num_want, patience) = match event {
            Some(AnnounceEvent::Stopped) => (0, STOP_PATIENCE),
            _ => (NUM_WANT, ANNOUNCE_PATIENCE),
        };
        let request =
            AnnounceRequest { event, key: self.key, num_want, tracker_id: tracker.tracker_id.clone() };
        let url = tracker.url.clone();
        self.flights.push(Flight { id, url: url.clone(), event });
        out.push_back(AnnouncerAction::Announce { id, url, request, patience });
    }

    fn event_for(&self, tracker: &Tracker) -> Option<AnnounceEvent> {
        if !tracker.started {
            Some(AnnounceEvent::Started)
        } else if self.has_news() {
            Some(AnnounceEvent::Completed)
        } else if self.partial_seed {
            Some(AnnounceEvent::Paused)
        } else {
            None
        }
    }

    /// Whether `completed` is to be said, and not being said already.
    fn has_news(&self) -> bool {
        self.completed && self.flights.iter().all(|flight| flight.event != Some(AnnounceEvent::Completed))
    }

    fn is_being_asked(&self, tracker: &Tracker) -> bool {
        self.flights.iter().any(|flight| flight.url == tracker.url)
    }

    /// When `tracker` may be asked. News does not wait for the minimal interval, which is meant for askers.
    fn ready_at(&self, tracker: &Tracker) -> Option<Timestamp> {
        let news = tracker.started && self.has_news();
        tracker.retry_at.map(|at| if news { at } else { at.max(tracker.min_until) })
    }

    /// The tracker that is told of us at its intervals. Of one that is being asked it is not known whether it is there.
    fn main(&self) -> Option<&Tracker> {
        let counts_us = |it: &&Tracker| it.started && it.fails == 0 && !self.is_being_asked(it);
        self.trackers.iter().find(counts_us)
    }

    /// When the next round is due if nothing happens.
    fn regular_due(&self) -> Option<Timestamp> {
        self.main().map(|tracker| tracker.next_at).or_else(|| self.soonest())
    }

    /// When the first of all trackers may be asked.
    fn soonest(&self) -> Option<Timestamp> {
        self.trackers.iter().filter_map(|tracker| self.ready_at(tracker)).min()
    }

    /// Has the next round start at `at` or before. If one is being walked, it will do.
    fn be_due_by(&mut self, at: Option<Timestamp>) {
        if let Phase::Idle { due } = &mut self.phase {
            *due = [*due, at].into_iter().flatten().min();
        }
    }

    fn on_want_peers(&mut self) {
        let at = match self.main() {
            Some(tracker) if self.private => self.ready_at(tracker),
            _ => self.soonest(),
        };
        self.be_due_by(at);
    }

    fn on_completed(&mut self, now: Timestamp) {
        // A tracker that was never told of the start will hear of a seed that starts.
        self.completed = self.trackers.iter().any(|it| it.started || self.is_being_asked(it));
        if self.has_news() {
            self.be_due_by(Some(now));
        }
    }

    fn on_force(&mut self, now: Timestamp) {
        for tracker in &mut self.trackers {
            (tracker.retry_at, tracker.min_until) = (Some(now), now);
        }
        self.be_due_by(Some(now));
    }

    fn on_network_changed(&mut self, now: Timestamp, out: &mut Outbox<AnnouncerAction>) {
        if matches!(self.phase, Phase::New | Phase::Stopped) {
            return;
        }
        // Answers would go to where we are no longer.
        out.extend(self.flights.drain(..).map(|flight| AnnouncerAction::Cancel { id: flight.id }));
        for tracker in self.trackers.iter_mut().filter(|tracker| tracker.retry_at.is_some()) {
            // Where we are is news, which does not wait for the minimal interval.
            (tracker.retry_at, tracker.fails) = (Some(now), 0);
            (tracker.min_until, tracker.next_at) = (now, now);
        }
        self.phase = Phase::Idle { due: self.regular_due() };
    }

    fn on_stop(&mut self, out: &mut Outbox<AnnouncerAction>) {
        if self.phase == Phase::Stopped {
            return;
        }
        self.phase = Phase::Stopped;
        // A tracker whose answer is still to come may count us already.
        let told: Vec<_> = self.trackers.iter().map(|it| it.started || self.is_being_asked(it)).collect();
        out.extend(self.flights.drain(..).map(|flight| AnnouncerAction::Cancel { id: flight.id }));
        for (at, _) in told.iter().enumerate().filter(|(_, told)| **told) {
            self.announce(at, Some(AnnounceEvent::Stopped), out);
        }
    }

    fn do_what_is_due(&mut self, now: Timestamp, out: &mut Outbox<AnnouncerAction>) {
        match self.phase {
            Phase::Idle { due: Some(due) } if due <= now => self.walk_on(now, out),
            Phase::Walking { hedge_at: Some(at) } if at <= now => self.walk_on(now, out),
            _ => {}
        }
    }
}

impl Machine for Announcer {
    type Event = AnnouncerEvent;
    type Action = AnnouncerAction;

    fn handle_event(&mut self, now: Timestamp, event: AnnouncerEvent, out: &mut Outbox<AnnouncerAction>) {
        match event {
            AnnouncerEvent::Answered { id, answer } => self.on_answered(now, id, answer),
            AnnouncerEvent::Completed => self.on_completed(now),
            AnnouncerEvent::Failed { id, error } => self.on_failed(now, id, error, out),
            AnnouncerEvent::Force => self.on_force(now),
            AnnouncerEvent::NetworkChanged => self.on_network_changed(now, out),
            AnnouncerEvent::PartialSeed(is) => self.partial_seed = is,
            AnnouncerEvent::Start if self.phase == Phase::New => self.phase = Phase::Idle { due: Some(now) },
            AnnouncerEvent::Start => {}
            AnnouncerEvent::Stop => self.on_stop(out),
            AnnouncerEvent::WantPeers => self.on_want_peers(),
        }
        self.do_what_is_due(now, out);
    }

    fn handle_timeout(&mut self, now: Timestamp, out: &mut Outbox<AnnouncerAction>) {
        self.do_what_is_due(now, out);
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        match self.phase {
            Phase::Idle { due } => due.map(|at| Deadline { at, why: "announce" }),
            Phase::Walking { hedge_at } => hedge_at.map(|at| Deadline { at, why: "ask another tracker" }),
            Phase::New | Phase::Stopped => None,
        }
    }
}

impl Tracker {
    fn new(url: TrackerUrl, tier: usize) -> Self {
        Self {
            url,
            tier,
            started: false,
            working: false,
            fails: 0,
            retry_at: Some(Timestamp::ZERO),
            min_until: Timestamp::ZERO,
            next_at: Timestamp::ZERO,
            tracker_id: None,
            error: None,
            seeders: None,
            leechers: None,
            warning: None,
        }
    }

    fn on_answered(&mut self, now: Timestamp, answer: Answer) {
        (self.started, self.working, self.fails, self.error) = (true, true, 0, None);
        self.retry_at = Some(now);
        self.min_until = now + answer.min_interval.unwrap_or(answer.interval.min(DEFAULT_MIN_INTERVAL));
        self.next_at = self.min_until.max(now + answer.interval);
        (self.seeders, self.leechers, self.warning) = (answer.seeders, answer.leechers, answer.warning);
        // One that is left out later stays in force.
        if answer.tracker_id.is_some() {
            self.tracker_id = answer.tracker_id;
        }
    }
}

/// 5 s + 12.5 s times the square of the failures in a row, at most an hour; up to a tenth less, so that those who failed
/// together don't come back together.
fn back_off(fails: u32, rng: &mut Rng) -> Duration {
    let fails = u64::from(fails);
    let full_ms = (5_000 + 12_500 * fails.saturating_mul(fails).min(288)).min(3_600_000);
    Duration::from_millis(full_ms - rng.below(full_ms / 10))
}

const HEDGE_AFTER: Duration = Duration::from_secs(5);

/// For trackers that give no minimal interval.
const DEFAULT_MIN_INTERVAL: Duration = Duration::from_secs(5 * 60);

const NUM_WANT: u32 = super::MAX_PEERS as u32;

#[cfg(test)]
mod tests;
