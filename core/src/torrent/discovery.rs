//! When a torrent looks for peers in the DHT.
//!
//! Sources are asked in the order of what they cost. Addresses that are known are free, and so is what peers and the local
//! network tell by themselves. Trackers are asked as often as they want, whatever else there is. The DHT takes a hundred
//! datagrams a time, so it is asked when the others don't bring enough, and a few times an hour so that others find us.

use crate::machine::{Deadline, Machine, Outbox, Timestamp};
use crate::rng::Rng;
use core::fmt;
use core::time::Duration;

/// How many connections a torrent that still lacks pieces should have, at least: with fewer it looks for more.
pub const fn useful_peers(max_peers: usize) -> usize {
    if max_peers / 2 < USEFUL_PEERS { max_peers / 2 } else { USEFUL_PEERS }
}

/// When one torrent asks the DHT.
///
/// ```text
///  idle ──Start──▶ waiting ◀──Ended── asking
///                    │   due            ▲
///                    └──────────────────┘       any ──Stop, Forbid──▶ over
/// ```
///
/// The first time is at once if there is no tracker, or as soon as all of them have failed; with a tracker it is after
/// [`PATIENCE`] without a peer, or [`FIRST_ANNOUNCE`] after the start. From then on it is
///
/// - every [`ANNOUNCE_EVERY`], and at once when what others hear of us is no longer true,
/// - as long as peers are lacking and no address is left to dial, after a wait that doubles each time.
#[derive(Clone, Debug)]
pub struct Discovery {
    rng: Rng,
    stage: Stage,
    trackers: Trackers,
    has_open: bool,
    need: Need,
    /// What others should hear of us.
    us: Us,
    /// What the last lookup told them, if anybody heard it.
    told: Option<Us>,
    started: Timestamp,
    /// When the last lookup was over.
    ended: Option<Timestamp>,
    /// The wait before the next, if peers are lacking.
    retry_after: Duration,
    /// The wait before the next, if nothing is lacking.
    announce_after: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Idle,
    Waiting,
    Asking,
    Over,
}

/// Where a torrent stands with its trackers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trackers {
    /// There are some, and one may answer, or has.
    Alive,
    /// None of them answers.
    Dead,
    /// There are none.
    None,
}

/// How much peers are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// There are enough, or nothing is wanted of them.
    Enough,
    /// There are few, and no address to dial.
    Starving,
    /// There are few, but addresses to dial.
    Trying,
}

/// What others can hear of us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Us {
    /// Where we take connections; zero if nowhere.
    pub port: u16,
    /// Whether we have everything (BEP 33).
    pub seed: bool,
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The lookup is over.
    Ended {
        /// Whether any node answered.
        answered: bool,
    },
    /// The torrent turns out to be private: it may not be looked up (BEP 27).
    Forbid,
    /// The network is another one: nodes know us by an old address, if they do.
    NetworkChanged,
    /// How it stands with peers.
    Peers {
        /// Whether one is connected.
        has_open: bool,
        /// Whether more are needed.
        need: Need,
    },
    /// The torrent starts to talk to others.
    Start,
    /// It stops.
    Stop,
    /// How it stands with trackers.
    Trackers(Trackers),
    /// What others should hear of us.
    Us(Us),
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Look for peers in the DHT, and say this of us, unless the port is zero; come back with `Ended`.
    Ask(Us),
    /// Forget the lookup. Nothing needs to be said about it any more.
    Cancel,
}

impl Discovery {
    /// A torrent that has not started.
    pub fn new(rng: Rng) -> Self {
        Self {
            rng,
            stage: Stage::Idle,
            trackers: Trackers::None,
            has_open: false,
            need: Need::Starving,
            us: Us::default(),
            told: None,
            started: Timestamp::ZERO,
            ended: None,
            retry_after: RETRY_MIN,
            announce_after: ANNOUNCE_EVERY,
        }
    }

    /// For a torrent that may not be looked up, or where there is no DHT: it never asks.
    pub fn forbidden(rng: Rng) -> Self {
        Self { stage: Stage::Over, ..Self::new(rng) }
    }

    /// Whether the DHT is being asked.
    pub fn is_asking(&self) -> bool {
        self.stage == Stage::Asking
    }

    fn on_ended(&mut self, now: Timestamp, answered: bool) {
        self.stage = Stage::Waiting;
        // What was asked again in vain is asked ever more rarely.
        let again = self.ended.is_some() && (self.need != Need::Enough || !answered);
        self.retry_after = if again { (2 * self.retry_after).min(ANNOUNCE_EVERY) } else { RETRY_MIN };
        if !answered {
            self.told = None;
        }
        self.ended = Some(now);
        self.announce_after = ANNOUNCE_EVERY + Duration::from_secs(self.rng.below(ANNOUNCE_SPREAD.as_secs()));
    }

    fn end(&mut self, out: &mut Outbox<Action>) {
        if self.stage == Stage::Asking {
            out.push_back(Action::Cancel);
        }
        self.stage = Stage::Over;
    }

    fn ask_if_due(&mut self, now: Timestamp, out: &mut Outbox<Action>) {
        if self.poll_timeout().is_some_and(|due| due.at <= now) {
            self.stage = Stage::Asking;
            self.told = Some(self.us);
            out.push_back(Action::Ask(self.us));
        }
    }

    fn first_due(&self) -> Deadline {
        match self.trackers {
            Trackers::Dead | Trackers::None => Deadline { at: self.started, why: "no tracker to ask" },
            Trackers::Alive if !self.has_open => Deadline { at: self.started + PATIENCE, why: "no peer yet" },
            Trackers::Alive => Deadline { at: self.started + FIRST_ANNOUNCE, why: "first DHT announce" },
        }
    }
}

impl Machine for Discovery {
    type Event = Event;
    type Action = Action;

    fn handle_event(&mut self, now: Timestamp, event: Event, out: &mut Outbox<Action>) {
        match event {
            Event::Ended { answered } if self.stage == Stage::Asking => self.on_ended(now, answered),
            Event::Ended { .. } => {}
            Event::Forbid | Event::Stop => self.end(out),
            Event::NetworkChanged => {
                self.told = None;
                self.retry_after = RETRY_MIN;
                // A lookup that is underway fails by itself.
                self.ended = self.ended.map(|_| now - RETRY_MIN);
            }
            Event::Peers { has_open, need } => {
                self.has_open = has_open;
                if need == Need::Enough && self.need != need {
                    self.retry_after = RETRY_MIN;
                }
                self.need = need;
            }
            Event::Start if self.stage == Stage::Idle => {
                self.stage = Stage::Waiting;
                self.started = now;
            }
            Event::Start => {}
            Event::Trackers(trackers) => self.trackers = trackers,
            Event::Us(us) => self.us = us,
        }
        self.ask_if_due(now, out);
    }

    fn handle_timeout(&mut self, now: Timestamp, out: &mut Outbox<Action>) {
        self.ask_if_due(now, out);
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        if self.stage != Stage::Waiting {
            return None;
        }
        let Some(ended) = self.ended else { return Some(self.first_due()) };
        let regular = Deadline { at: ended + self.announce_after, why: "DHT announce" };
        let early = match self.told {
            None => Some(Deadline { at: ended + self.retry_after, why: "no node answered" }),
            Some(told) if told != self.us => Some(Deadline { at: ended, why: "announce what changed" }),
            Some(_) if self.need == Need::Starving => {
                Some(Deadline { at: ended + self.retry_after, why: "peers are lacking" })
            }
            Some(_) => None,
        };
        Deadline::earlier(Some(regular), early)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ask(Us { port: 0, .. }) => f.write_str("ask the DHT"),
            Self::Ask(Us { port, seed }) => {
                write!(f, "ask the DHT, announce port={port}{}", if *seed { " seed" } else { "" })
            }
            Self::Cancel => f.write_str("ask the DHT no more"),
        }
    }
}

/// How long trackers have to bring a first peer before the DHT is asked too.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// How long after the start a torrent with trackers and peers is announced, so that others find us.
pub const FIRST_ANNOUNCE: Duration = Duration::from_secs(5);

/// How often we are announced. BEP 5 has nodes forget peers after half an hour at the earliest.
pub const ANNOUNCE_EVERY: Duration = Duration::from_secs(15 * 60);

/// Added by chance, so that the torrents of a session are not all looked up at once.
const ANNOUNCE_SPREAD: Duration = Duration::from_secs(5 * 60);

/// The first wait where peers are lacking; the longest is [`ANNOUNCE_EVERY`].
const RETRY_MIN: Duration = Duration::from_secs(15);

/// As many peers as keep a fast line busy.
const USEFUL_PEERS: usize = 30;

#[cfg(test)]
mod tests {
    use super::{
        ANNOUNCE_EVERY, ANNOUNCE_SPREAD, Action, Discovery, Event, FIRST_ANNOUNCE, Need, PATIENCE, RETRY_MIN,
        Trackers, Us, useful_peers,
    };
    use crate::machine::{Machine as _, Outbox, Timestamp};
    use crate::rng::Rng;
    use alloc::vec;
    use alloc::vec::Vec;
    use core::time::Duration;

    const START: Timestamp = Timestamp::from_micros(1_000_000);
    const US: Us = Us { port: 6881, seed: false };

    #[test]
    fn without_trackers_the_first_lookup_is_in_the_same_turn() {
        let mut discovery = Discovery::new(Rng::from_number(1));
        assert_eq!(tell(&mut discovery, START, Event::Us(US)), []);
        assert_eq!(tell(&mut discovery, START, Event::Start), [Action::Ask(US)]);
        assert!(discovery.is_asking());
        assert_eq!(discovery.poll_timeout(), None, "there is one lookup at a time");
    }

    #[test]
    fn trackers_are_given_a_chance() {
        let mut discovery = started(Trackers::Alive);
        assert_eq!(discovery.poll_timeout().unwrap().at, START + PATIENCE);
        assert_eq!(tell(&mut discovery, START + PATIENCE - MICRO, peers(true, Need::Trying)), []);
        assert_eq!(discovery.poll_timeout().unwrap().at, START + FIRST_ANNOUNCE);
        assert_eq!(wake(&mut discovery, START + FIRST_ANNOUNCE), [Action::Ask(US)]);
    }

    #[test]
    fn without_a_peer_that_chance_is_short() {
        let mut discovery = started(Trackers::Alive);
        assert_eq!(wake(&mut discovery, START + PATIENCE - MICRO), []);
        assert_eq!(wake(&mut discovery, START + PATIENCE), [Action::Ask(US)]);
    }

    #[test]
    fn when_the_last_tracker_fails_the_dht_is_asked_at_once() {
        let mut discovery = started(Trackers::Alive);
        let soon = START + Duration::from_millis(300);
        assert_eq!(tell(&mut discovery, soon, Event::Trackers(Trackers::Dead)), [Action::Ask(US)]);
    }

    #[test]
    fn whoever_has_enough_is_announced_every_quarter_of_an_hour() {
        let mut discovery = started(Trackers::None);
        let mut now = START;
        for _ in 0..5 {
            tell(&mut discovery, now, peers(true, Need::Enough));
            assert_eq!(tell(&mut discovery, now, Event::Ended { answered: true }), []);
            let next = discovery.poll_timeout().unwrap().at;
            let wait = next.since(now);
            assert!((ANNOUNCE_EVERY..ANNOUNCE_EVERY + ANNOUNCE_SPREAD).contains(&wait), "{wait:?}");
            assert_eq!(wake(&mut discovery, next), [Action::Ask(US)]);
            now = next;
        }
    }

    #[test]
    fn who_lacks_peers_asks_again_ever_more_rarely() {
        let mut discovery = started(Trackers::None);
        assert_eq!(waits(&mut discovery, START, 9), [15, 30, 60, 120, 240, 480, 900, 900, 900]);
    }

    #[test]
    fn with_addresses_to_dial_it_waits_for_them_and_with_enough_it_begins_anew() {
        let mut discovery = started(Trackers::None);
        waits(&mut discovery, START, 3);
        let now = START + Duration::from_secs(200);
        tell(&mut discovery, now, peers(false, Need::Trying));
        tell(&mut discovery, now, Event::Ended { answered: true });
        assert!(discovery.poll_timeout().unwrap().at >= now + ANNOUNCE_EVERY);
        tell(&mut discovery, now, peers(false, Need::Starving));
        assert_eq!(discovery.poll_timeout().unwrap().at, now + 8 * RETRY_MIN, "some address is no success");
        tell(&mut discovery, now, peers(true, Need::Enough));
        tell(&mut discovery, now, peers(false, Need::Starving));
        assert_eq!(discovery.poll_timeout().unwrap().at, now + RETRY_MIN);
    }

    #[test]
    fn what_changes_is_announced_at_once_or_after_the_lookup_that_is_underway() {
        let mut discovery = started(Trackers::None);
        let seed = Us { seed: true, ..US };
        assert_eq!(tell(&mut discovery, START, Event::Us(seed)), []);
        assert_eq!(tell(&mut discovery, START, Event::Ended { answered: true }), [Action::Ask(seed)]);
        tell(&mut discovery, START, peers(true, Need::Enough));
        assert_eq!(tell(&mut discovery, START, Event::Ended { answered: true }), []);
        let moved = Us { port: 7000, seed: true };
        assert_eq!(tell(&mut discovery, START, Event::Us(moved)), [Action::Ask(moved)]);
    }

    #[test]
    fn a_lookup_that_nobody_answered_counts_for_nothing() {
        let mut discovery = started(Trackers::None);
        tell(&mut discovery, START, peers(true, Need::Enough));
        let mut now = START;
        for seconds in [15, 30, 60] {
            tell(&mut discovery, now, Event::Ended { answered: false });
            let next = discovery.poll_timeout().unwrap().at;
            assert_eq!(next.since(now).as_secs(), seconds);
            assert_eq!(wake(&mut discovery, next), [Action::Ask(US)]);
            now = next;
        }
    }

    #[test]
    fn in_a_new_network_we_are_announced_at_once_or_soon_after_the_lookup_that_is_underway() {
        let mut discovery = started(Trackers::None);
        tell(&mut discovery, START, peers(true, Need::Enough));
        tell(&mut discovery, START, Event::Ended { answered: true });
        let now = START + Duration::from_secs(60);
        assert_eq!(tell(&mut discovery, now, Event::NetworkChanged), [Action::Ask(US)]);
        assert_eq!(tell(&mut discovery, now, Event::NetworkChanged), []);
        assert_eq!(tell(&mut discovery, now, Event::Ended { answered: true }), []);
        assert_eq!(
            discovery.poll_timeout().unwrap().at,
            now + RETRY_MIN,
            "nodes may have heard the old address"
        );
        assert_eq!(tell(&mut Discovery::forbidden(Rng::from_number(1)), now, Event::NetworkChanged), []);
    }

    #[test]
    fn a_private_torrent_never_asks() {
        let mut discovery = Discovery::forbidden(Rng::from_number(1));
        for event in [Event::Us(US), Event::Start, peers(false, Need::Starving), Event::Us(Us::default())] {
            assert_eq!(tell(&mut discovery, START, event), []);
        }
        assert_eq!(discovery.poll_timeout(), None);
        let mut found_out = started(Trackers::None);
        assert_eq!(tell(&mut found_out, START, Event::Forbid), [Action::Cancel]);
        assert_eq!(tell(&mut found_out, START, Event::Ended { answered: true }), []);
        assert_eq!(found_out.poll_timeout(), None);
    }

    #[test]
    fn a_stop_ends_the_lookup() {
        let mut discovery = started(Trackers::None);
        assert_eq!(tell(&mut discovery, START, Event::Stop), [Action::Cancel]);
        assert_eq!(tell(&mut discovery, START, Event::Start), []);
        assert_eq!(discovery.poll_timeout(), None);
    }

    #[test]
    fn thirty_peers_are_enough_or_half_of_what_may_be() {
        assert_eq!([200, 60, 50, 2, 1, 0].map(useful_peers), [30, 30, 25, 1, 0, 0]);
    }

    const MICRO: Duration = Duration::from_micros(1);

    fn started(trackers: Trackers) -> Discovery {
        let mut discovery = Discovery::new(Rng::from_number(1));
        tell(&mut discovery, START, Event::Us(US));
        tell(&mut discovery, START, Event::Trackers(trackers));
        tell(&mut discovery, START, Event::Start);
        discovery
    }

    fn peers(has_open: bool, need: Need) -> Event {
        Event::Peers { has_open, need }
    }

    /// The seconds from each end of a lookup to the next lookup.
    fn waits(discovery: &mut Discovery, mut now: Timestamp, count: usize) -> Vec<u64> {
        let mut waits = vec![];
        for _ in 0..count {
            tell(discovery, now, Event::Ended { answered: true });
            let next = discovery.poll_timeout().unwrap().at;
            waits.push(next.since(now).as_secs());
            assert_eq!(wake(discovery, next), [Action::Ask(US)]);
            now = next;
        }
        waits
    }

    fn tell(discovery: &mut Discovery, now: Timestamp, event: Event) -> Vec<Action> {
        let mut out = Outbox::new();
        discovery.handle_event(now, event, &mut out);
        out.into()
    }

    fn wake(discovery: &mut Discovery, now: Timestamp) -> Vec<Action> {
        let mut out = Outbox::new();
        discovery.handle_timeout(now, &mut out);
        out.into()
    }
}
