//! The life of a talk with a proxy.

use super::Subject;
use crate::machine::{Machine, Outbox, Timestamp};
use crate::rng::Rng;
use crate::socks5::{self, Negotiation};
use core::fmt::Debug;
use core::net::SocketAddr;

/// A talk with a proxy that knows its part, or makes it up.
#[derive(Debug)]
pub(super) struct Negotiating {
    talk: Negotiation,
    closed: bool,
}

impl Subject for Negotiating {
    type Input = socks5::Event;
    type Machine = Negotiation;

    fn new(_now: Timestamp, rng: &mut Rng) -> Self {
        let name = socks5::Name::new("a.example").expect("it is a name");
        let command = match rng.below(3) {
            0 => socks5::Command::Associate,
            1 => socks5::Command::Connect(SocketAddr::from(([192, 0, 2, 1], 80)).into()),
            _ => socks5::Command::Connect(socks5::Destination::Name(name, 80)),
        };
        let login = rng.chance(1, 2).then(|| socks5::Login::new("name", "password")).flatten();
        Self { talk: Negotiation::new(command, login), closed: false }
    }

    fn machine(&mut self) -> &mut Negotiation {
        &mut self.talk
    }

    fn draw(&self, rng: &mut Rng) -> socks5::Event {
        let wanted = self.talk.wanted();
        match rng.below(400) {
            0 => socks5::Event::Ended,
            1..=200 if wanted > 0 && rng.chance(1, 8) => {
                let len = 1 + rng.below(wanted as u64) as usize;
                let pick = [5, 0, 0, 1, 2, 3, 4, 0xff];
                let mut draw =
                    || if rng.chance(3, 4) { 0 } else { pick[rng.below(pick.len() as u64) as usize] };
                socks5::Event::Bytes((0..len).map(|at| if at == 0 { 5 } else { draw() }).collect())
            }
            _ => socks5::Event::Opened,
        }
    }

    fn feed(&mut self, now: Timestamp, input: &socks5::Event, out: &mut Outbox<socks5::Action>) {
        self.talk.handle_event(now, input.clone(), out);
    }

    fn hear(&mut self, said: &socks5::Action) {
        self.closed |= !matches!(said, socks5::Action::Send(_));
    }

    fn is_closed(&self) -> bool {
        self.closed
    }
}
