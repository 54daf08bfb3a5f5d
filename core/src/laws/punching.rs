//! The life of what brings peers together.

use super::Subject;
use crate::id::ConnId;
use crate::machine::{Machine as _, Outbox, Timestamp};
use crate::rng::Rng;
use crate::torrent::holepunch::{self, Holepunch};
use crate::wire::{HolepunchError, HolepunchMessage};
use core::net::SocketAddr;

/// Peers that want to be brought together, or that we want to be.
#[derive(Debug)]
pub(super) struct Punching(Holepunch);

impl Subject for Punching {
    type Input = holepunch::Event;
    type Machine = Holepunch;

    fn new(_now: Timestamp, _rng: &mut Rng) -> Self {
        Self(Holepunch::new())
    }

    fn machine(&mut self) -> &mut Holepunch {
        &mut self.0
    }

    fn draw(&self, rng: &mut Rng) -> holepunch::Event {
        let peer = ConnId(rng.below(12));
        let mut addr = || SocketAddr::from(([45, 1, rng.below(20) as u8, 1], 1 + rng.below(2) as u16));
        let (addr, other) = (addr(), addr());
        match rng.below(16) {
            0 => holepunch::Event::Connected { addr },
            1..=4 => holepunch::Event::DialFailed {
                addr,
                answered: rng.chance(1, 4),
                has_place: !rng.chance(1, 8),
            },
            5 if rng.chance(1, 4) => holepunch::Event::NotOpened { addr },
            5 if rng.chance(1, 2) => holepunch::Event::Dropped { peer, addr },
            5 => holepunch::Event::Gone { peer },
            6..=8 => {
                let message = match rng.below(3) {
                    0 => HolepunchMessage::Connect(other),
                    1 => HolepunchMessage::Error(other, HolepunchError::from_code(rng.below(6) as u32)),
                    _ => HolepunchMessage::Rendezvous(other),
                };
                holepunch::Event::Heard { peer, message }
            }
            9..=11 => holepunch::Event::Member { peer, addr, speaks: rng.below(4) > 0 },
            12 => holepunch::Event::Own { addr },
            _ => holepunch::Event::Told { peer, addr },
        }
    }

    fn feed(&mut self, now: Timestamp, input: &holepunch::Event, out: &mut Outbox<holepunch::Action>) {
        self.0.handle_event(now, input.clone(), out);
        self.0.check_invariants();
    }
}
