//! The lives of an announcer and of the asking of UDP trackers.

use super::{RECENT, Subject, garbage, tracker};
use crate::id::{InfoHash, PeerId};
use crate::machine::{Machine, Outbox, Timestamp};
use crate::rng::Rng;
use crate::tracker::{
    Announce, AnnounceId, AnnounceRequest, Announcer, AnnouncerAction, AnnouncerEvent, Answer, AskId,
    Question, RetryIn, TrackerError, UdpAction, UdpEvent, UdpTrackers, parse_tiers,
};
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::{self, Debug};
use core::net::SocketAddr;
use core::time::Duration;

/// An announcer whose announces are answered, or fail, in any order.
#[derive(Debug)]
pub(super) struct Announcing {
    announcer: Announcer,
    open: BTreeSet<AnnounceId>,
}

impl Subject for Announcing {
    type Input = AnnouncerEvent;
    type Machine = Announcer;

    fn new(_now: Timestamp, rng: &mut Rng) -> Self {
        let tiers = [
            &["http://a.example/announce", "udp://b.example:1", "http://c.example/announce"][..],
            &["udp://d.example:1"],
            &["http://e.example/announce", "http://f.example/announce"],
        ];
        let tiers = parse_tiers(tiers.map(|tier| tier.iter().copied()));
        let announcer = Announcer::new(tiers, rng.chance(1, 2), rng.fork("announcer"));
        Self { announcer, open: BTreeSet::new() }
    }

    fn machine(&mut self) -> &mut Announcer {
        &mut self.announcer
    }

    fn draw(&self, rng: &mut Rng) -> AnnouncerEvent {
        let nth = rng.below(self.open.len() as u64) as usize;
        let open = self.open.iter().nth(nth).copied();
        let id = open.filter(|_| rng.chance(7, 8)).unwrap_or_else(|| AnnounceId(rng.below(1000)));
        match rng.below(64) {
            0 => AnnouncerEvent::Completed,
            1 => AnnouncerEvent::Force,
            2 => AnnouncerEvent::NetworkChanged,
            3 => AnnouncerEvent::PartialSeed(rng.chance(1, 2)),
            4 if rng.chance(1, 4) => AnnouncerEvent::Stop,
            4..=8 => AnnouncerEvent::WantPeers,
            9..=20 => AnnouncerEvent::Start,
            21..=40 => AnnouncerEvent::Answered {
                id,
                answer: Answer {
                    interval: Duration::from_secs(60 + rng.below(86_340)),
                    min_interval: rng.chance(1, 2).then(|| Duration::from_secs(rng.below(86_400))),
                    tracker_id: rng.chance(1, 4).then(|| vec![b'x'; 3]),
                    ..Answer::default()
                },
            },
            _ => AnnouncerEvent::Failed {
                id,
                error: match rng.below(6) {
                    0 => refused(Some(RetryIn::Never)),
                    1 => refused(Some(RetryIn::After(Duration::from_secs(rng.next_u64())))),
                    2 => refused(None),
                    _ => TrackerError::TimedOut,
                },
            },
        }
    }

    fn feed(&mut self, now: Timestamp, input: &AnnouncerEvent, out: &mut Outbox<AnnouncerAction>) {
        if let AnnouncerEvent::Answered { id, .. } | AnnouncerEvent::Failed { id, .. } = input {
            self.open.remove(id);
        }
        self.announcer.handle_event(now, input.clone(), out);
    }

    fn hear(&mut self, said: &AnnouncerAction) {
        match said {
            AnnouncerAction::Announce { id, .. } => assert!(self.open.insert(*id), "an id is used once"),
            AnnouncerAction::Cancel { id } => assert!(self.open.remove(id), "only what flies is cancelled"),
        }
    }

    fn is_closed(&self) -> bool {
        self.announcer.is_stopped()
    }
}

pub(super) fn refused(retry_in: Option<RetryIn>) -> TrackerError {
    TrackerError::Refused { reason: String::from("no"), retry_in }
}

/// Questions to UDP trackers, of which some answer, some refuse, some forget and some send garbage.
pub(super) struct Asking {
    trackers: UdpTrackers,
    next_id: u64,
    sent: Vec<(SocketAddr, Vec<u8>)>,
}

impl Subject for Asking {
    type Input = UdpEvent;
    type Machine = UdpTrackers;

    fn new(_now: Timestamp, rng: &mut Rng) -> Self {
        Self { trackers: UdpTrackers::new(rng.fork("udp")), next_id: 0, sent: vec![] }
    }

    fn machine(&mut self) -> &mut UdpTrackers {
        &mut self.trackers
    }

    fn draw(&self, rng: &mut Rng) -> UdpEvent {
        match rng.below(16) {
            0..=4 => UdpEvent::Ask {
                id: AskId(self.next_id),
                to: (0..rng.below(4)).map(|_| tracker(rng)).collect(),
                question: question(rng),
                patience: Duration::from_secs([0, 5, 30, 100_000][rng.below(4) as usize]),
            },
            5 => UdpEvent::Cancel { id: AskId(rng.below(self.next_id + 2)) },
            6 => UdpEvent::Datagram { from: tracker(rng), data: garbage(rng, 40) },
            _ => self.reply(rng),
        }
    }

    fn feed(&mut self, now: Timestamp, input: &UdpEvent, out: &mut Outbox<UdpAction>) {
        self.next_id += u64::from(matches!(input, UdpEvent::Ask { .. }));
        self.trackers.handle_event(now, input.clone(), out);
    }

    fn hear(&mut self, said: &UdpAction) {
        if let UdpAction::Send { to, data } = said {
            self.sent.push((*to, data.clone()));
            self.sent.drain(..self.sent.len().saturating_sub(RECENT));
        }
    }
}

/// Only the machine is of interest, and packets are long.
impl Debug for Asking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.trackers.fmt(f)
    }
}

impl Asking {
    /// An answer to one of the last packets, or something like it (BEP 15).
    fn reply(&self, rng: &mut Rng) -> UdpEvent {
        let Some((to, packet)) = self.sent.get(rng.below(self.sent.len() as u64) as usize) else {
            return UdpEvent::Datagram { from: tracker(rng), data: garbage(rng, 40) };
        };
        let mut data = packet[8..16].to_vec();
        match rng.below(8) {
            0 => data[3] = 3,
            1 => {
                data[3] = 3;
                data.extend(b"Connection ID mismatch.");
            }
            2 => data[3] = rng.below(5) as u8,
            _ => {}
        }
        data.extend(garbage(rng, 60));
        UdpEvent::Datagram { from: *to, data: data.into() }
    }
}

pub(super) fn question(rng: &mut Rng) -> Question {
    if rng.chance(1, 3) {
        return Question::Scrape(vec![InfoHash([7; 20]); rng.below(4) as usize]);
    }
    let request = AnnounceRequest { event: None, key: 1, num_want: 200, tracker_id: None };
    let announce = Announce {
        info_hash: InfoHash([7; 20]),
        peer_id: PeerId([1; 20]),
        port: 6881,
        ip: None,
        uploaded: 0,
        downloaded: 0,
        left: 1,
        encryption: false,
        request,
    };
    Question::Announce { announce, path_and_query: String::from("/announce") }
}
