//! The law's port mapper, and the router that it asks.

use super::{Subject, garbage, tracker};
use crate::machine::{Machine as _, Outbox, Timestamp};
use crate::portmap::{self, PortMapper, Router, UpnpError};
use crate::rng::Rng;
use alloc::vec;
use alloc::vec::Vec;

/// A router that grants, refuses and forgets, and much that is no answer.
#[derive(Debug)]
pub(super) struct Mapping {
    mapper: PortMapper,
    jobs: u64,
    asked: Vec<u8>,
}

impl Subject for Mapping {
    type Input = portmap::Event;
    type Machine = PortMapper;

    fn new(_now: Timestamp, rng: &mut Rng) -> Self {
        let modes = [portmap::Mode::Auto, portmap::Mode::NatPmp, portmap::Mode::Upnp];
        let mode = modes[rng.below(3) as usize];
        Self {
            mapper: PortMapper::new(mode, &portmap::Protocol::ALL, rng.fork("mapper")),
            jobs: 0,
            asked: vec![],
        }
    }

    fn machine(&mut self) -> &mut PortMapper {
        &mut self.mapper
    }

    fn draw(&self, rng: &mut Rng) -> portmap::Event {
        let gateway = [192, 168, 1, 1];
        match rng.below(16) {
            0 if rng.chance(1, 4) => portmap::Event::Away,
            0 => portmap::Event::Stop,
            1..=3 => {
                let local = [192, 168, 1, 2 + rng.below(2) as u8].into();
                let router = Router { local, gateway: rng.chance(9, 10).then(|| gateway.into()) };
                portmap::Event::Start { router, port: 1 + rng.below(2) as u16 }
            }
            4..=6 => {
                let results = [
                    Ok(None),
                    Err(UpnpError::Conflict),
                    Err(UpnpError::OnlyPermanent),
                    Err(UpnpError::NoRouter),
                ];
                let result = results[rng.below(4) as usize].clone();
                portmap::Event::UpnpDone { job: rng.below(self.jobs + 1), result }
            }
            7 => portmap::Event::Datagram { from: tracker(rng), data: garbage(rng, 70) },
            8 => {
                let data = [vec![2 * rng.below(2) as u8, 128, 0, 0], vec![0; 20]].concat();
                portmap::Event::Datagram { from: (gateway, 5351).into(), data: data.into() }
            }
            _ => {
                let mut data = self.asked.clone();
                if let Some(opcode) = data.get_mut(1) {
                    *opcode |= 128;
                }
                match data.first() {
                    // An answer of NAT-PMP has the result and the epoch where a question has nothing.
                    Some(0) => {
                        let ports = data.get(4..12).unwrap_or(&[203, 0, 113, 7]).to_vec();
                        data.truncate(2);
                        data.extend([0, rng.below(6).saturating_sub(3) as u8, 0, 0, rng.below(9) as u8, 0]);
                        data.extend(ports);
                    }
                    Some(2) => data[3] = rng.below(8).saturating_sub(5) as u8,
                    _ => {}
                }
                portmap::Event::Datagram { from: (gateway, 5351).into(), data: data.into() }
            }
        }
    }

    fn feed(&mut self, now: Timestamp, input: &portmap::Event, out: &mut Outbox<portmap::Action>) {
        self.mapper.handle_event(now, input.clone(), out);
    }

    fn hear(&mut self, said: &portmap::Action) {
        match said {
            portmap::Action::Send { data, .. } => self.asked.clone_from(data),
            portmap::Action::Upnp { job, .. } => self.jobs = *job,
            _ => {}
        }
    }
}
