//! The lives of what finds peers: calls into the local network, look-ups, and what peers tell.

use super::{Subject, garbage, tracker};
use crate::id::{ConnId, InfoHash};
use crate::lsd::{self, Announcement, Lsd};
use crate::machine::{Machine, Outbox, Timestamp};
use crate::pex::{self, Pex};
use crate::rng::Rng;
use crate::torrent::discovery::{self, Discovery, Need, Trackers, Us};
use crate::wire::{PexFlags, PexMessage};
use alloc::vec;
use core::fmt::Debug;
use core::net::SocketAddr;

/// Torrents that come and go, and calls of others.
#[derive(Debug)]
pub(super) struct Calling(Lsd);

impl Subject for Calling {
    type Input = lsd::Event;
    type Machine = Lsd;

    fn new(_now: Timestamp, rng: &mut Rng) -> Self {
        Self(Lsd::new(rng.fork("lsd")))
    }

    fn machine(&mut self) -> &mut Lsd {
        &mut self.0
    }

    fn draw(&self, rng: &mut Rng) -> lsd::Event {
        let torrent = InfoHash([rng.below(60) as u8; 20]);
        match rng.below(16) {
            0 if rng.chance(1, 4) => lsd::Event::NetworkChanged,
            0 => lsd::Event::Listening { port: rng.below(3) as u16 },
            1..=3 => lsd::Event::Unshared { torrent },
            4..=10 => lsd::Event::Shared { torrent },
            11 => lsd::Event::Datagram { from: tracker(rng), data: garbage(rng, 100) },
            _ => {
                let call =
                    Announcement { port: 1 + rng.below(9) as u16, torrents: vec![torrent], cookie: None };
                lsd::Event::Datagram { from: tracker(rng), data: call.encode(lsd::Group::V4).into() }
            }
        }
    }

    fn feed(&mut self, now: Timestamp, input: &lsd::Event, out: &mut Outbox<lsd::Action>) {
        self.0.handle_event(now, input.clone(), out);
    }
}

/// A torrent that has peers or lacks them, with trackers that answer or don't.
#[derive(Debug)]
pub(super) struct Discovering {
    discovery: Discovery,
    asking: bool,
    over: bool,
}

impl Subject for Discovering {
    type Input = discovery::Event;
    type Machine = Discovery;

    fn new(_now: Timestamp, rng: &mut Rng) -> Self {
        Self { discovery: Discovery::new(rng.fork("discovery")), asking: false, over: false }
    }

    fn machine(&mut self) -> &mut Discovery {
        &mut self.discovery
    }

    fn draw(&self, rng: &mut Rng) -> discovery::Event {
        match rng.below(500) {
            0 => discovery::Event::Forbid,
            1 => discovery::Event::Stop,
            2 => discovery::Event::NetworkChanged,
            3..30 => {
                let trackers = [Trackers::Alive, Trackers::Dead, Trackers::None];
                discovery::Event::Trackers(trackers[rng.below(3) as usize])
            }
            30..60 => discovery::Event::Us(Us { port: rng.below(2) as u16, seed: rng.chance(1, 2) }),
            60..80 => discovery::Event::Start,
            80..200 => {
                let need = [Need::Enough, Need::Starving, Need::Trying][rng.below(3) as usize];
                discovery::Event::Peers { has_open: rng.chance(1, 2), need }
            }
            _ => discovery::Event::Ended { answered: rng.chance(3, 4) },
        }
    }

    fn feed(&mut self, now: Timestamp, input: &discovery::Event, out: &mut Outbox<discovery::Action>) {
        match input {
            discovery::Event::Ended { .. } => self.asking = false,
            discovery::Event::Forbid | discovery::Event::Stop => self.over = true,
            _ => {}
        }
        self.discovery.handle_event(now, *input, out);
    }

    fn hear(&mut self, said: &discovery::Action) {
        match said {
            discovery::Action::Ask(_) => assert!(!self.asking && !self.over, "there is one lookup at a time"),
            discovery::Action::Cancel => assert!(self.asking, "only what runs is cancelled"),
        }
        self.asking = matches!(said, discovery::Action::Ask(_));
    }

    fn is_closed(&self) -> bool {
        self.over
    }
}

/// Peers that come, go and tell of others.
#[derive(Debug)]
pub(super) struct Telling(Pex);

impl Subject for Telling {
    type Input = pex::Event;
    type Machine = Pex;

    fn new(_now: Timestamp, _rng: &mut Rng) -> Self {
        Self(Pex::new())
    }

    fn machine(&mut self) -> &mut Pex {
        &mut self.0
    }

    fn draw(&self, rng: &mut Rng) -> pex::Event {
        let peer = ConnId(rng.below(150));
        let addr = SocketAddr::from(([203, 0, 113, peer.0 as u8], 1 + rng.below(2) as u16));
        match rng.below(16) {
            0..=8 => pex::Event::Contact { peer, addr, flags: PexFlags(rng.below(32) as u8) },
            9..=11 => pex::Event::Gone { peer },
            12 | 13 => {
                let message = PexMessage { added: vec![(addr, PexFlags(0))], dropped: vec![addr] };
                pex::Event::Heard { peer: ConnId(rng.below(4)), message }
            }
            _ => pex::Event::Listens { peer, remote: addr },
        }
    }

    fn feed(&mut self, now: Timestamp, input: &pex::Event, out: &mut Outbox<pex::Action>) {
        self.0.handle_event(now, input.clone(), out);
    }
}
