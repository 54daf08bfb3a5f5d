//! The life of streams over a port, with remotes that answer, lie and fall silent.

use super::{Subject, garbage};
use crate::machine::{Outbox, Timestamp};
use crate::rng::Rng;
use crate::utp::{Action, Config, Event, Header, Kind, Packet, StreamId, Utp};
use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;
use bytes::{Bytes, BytesMut};
use core::net::SocketAddr;

/// Streams, and what was sent for them lately.
#[derive(Debug)]
pub(super) struct Streaming {
    utp: Utp,
    open: BTreeSet<StreamId>,
    /// Those of which nothing more is to be heard.
    gone: BTreeSet<StreamId>,
    sent: Vec<(SocketAddr, Header)>,
    /// How many bytes went out, and a sum of them.
    went: (u64, u64),
}

impl Subject for Streaming {
    type Input = Event;
    type Machine = Utp;

    fn new(_now: Timestamp, rng: &mut Rng) -> Self {
        let config = Config { max_streams: 4, initial_credit: 3000 };
        let utp = Utp::new(config, rng.fork("utp"));
        Self { utp, open: BTreeSet::new(), gone: BTreeSet::new(), sent: vec![], went: (0, 0) }
    }

    fn machine(&mut self) -> &mut Utp {
        &mut self.utp
    }

    fn draw(&self, rng: &mut Rng) -> Event {
        let nth = rng.below(self.open.len() as u64) as usize;
        let stream = self.open.iter().nth(nth).copied().unwrap_or(StreamId(rng.below(9)));
        match rng.below(32) {
            0 | 1 => Event::Connect(remote(rng)),
            2 if rng.chance(1, 3) => Event::Close(stream),
            3 if rng.chance(1, 3) => Event::Reset(stream),
            4 | 5 => Event::Credit { stream, bytes: rng.below(5000) as u32 },
            6..=9 => Event::Write { stream, data: garbage(rng, 4000) },
            10 => Event::Datagram { from: remote(rng), data: garbage(rng, 60) },
            11 => Event::Datagram { from: remote(rng), data: syn(rng) },
            _ => self.answer(rng),
        }
    }

    fn feed(&mut self, now: Timestamp, input: &Event, out: &mut Outbox<Action>) {
        use crate::machine::Machine as _;
        if let Event::Close(stream) | Event::Reset(stream) = input {
            self.gone.extend(self.open.take(stream));
        }
        self.utp.handle_event(now, input.clone(), out);
        let mut buffer = BytesMut::new();
        while let Some(transmit) = self.utp.poll_transmit(now, &mut buffer, 8) {
            for packet in buffer.split().chunks(transmit.segment_len) {
                self.sent.push((transmit.to, Packet::parse(packet).expect("it can be read").header));
                self.went.0 += packet.len() as u64;
                self.went.1 += packet.iter().map(|byte| u64::from(*byte)).sum::<u64>();
            }
        }
        let old = self.sent.len().saturating_sub(20);
        self.sent.drain(..old);
    }

    fn hear(&mut self, said: &Action) {
        match said {
            Action::Closed { stream, .. } => {
                self.open.remove(stream);
                assert!(self.gone.insert(*stream), "it ends once");
            }
            Action::Connected { stream } | Action::Incoming { stream, .. } => {
                assert!(self.open.insert(*stream), "it is new");
            }
            Action::Received { stream, .. } | Action::Writable { stream, .. } => {
                assert!(self.open.contains(stream), "it is open");
            }
            Action::WantSend => {}
        }
    }
}

impl Streaming {
    /// Something that answers what was sent lately, more or less.
    fn answer(&self, rng: &mut Rng) -> Event {
        let nth = rng.below(self.sent.len() as u64) as usize;
        let Some((from, sent)) = self.sent.get(nth).copied() else {
            return Event::Datagram { from: remote(rng), data: syn(rng) };
        };
        let kind = match rng.below(20) {
            0 => Kind::Fin,
            1 if rng.chance(1, 4) => Kind::Reset,
            2..=9 => Kind::Data,
            _ => Kind::State,
        };
        // A SYN names us as we want to be named; all else is named after the other, one more or less.
        let connection = match sent.kind {
            Kind::Syn => sent.connection,
            _ => sent.connection.wrapping_add(1).wrapping_sub(2 * rng.below(2) as u16),
        };
        let stray = |rng: &mut Rng| if rng.chance(1, 4) { rng.below(5) as u16 } else { 0 };
        let header = Header {
            kind,
            connection,
            timestamp: rng.next_u32(),
            difference: rng.below(300_000) as u32,
            window: if rng.chance(1, 8) { 0 } else { rng.below(100_000) as u32 },
            seq: sent.ack.wrapping_add(1 + stray(rng)),
            ack: sent.seq.wrapping_add(stray(rng)).wrapping_sub(stray(rng)),
        };
        let mut data = BytesMut::new();
        if rng.chance(1, 4) {
            header.encode_with_sack(&rng.next_u32().to_be_bytes(), &mut data);
        } else {
            header.encode(&mut data);
        }
        if kind == Kind::Data {
            data.extend_from_slice(&garbage(rng, 900));
        }
        Event::Datagram { from, data: data.freeze() }
    }
}

fn syn(rng: &mut Rng) -> Bytes {
    let (kind, connection, seq) = (Kind::Syn, rng.below(8) as u16, rng.below(3) as u16);
    let mut data = BytesMut::new();
    Header { kind, connection, timestamp: 1, difference: 0, window: 10_000, seq, ack: 0 }.encode(&mut data);
    data.freeze()
}

fn remote(rng: &mut Rng) -> SocketAddr {
    ([8, 8, 8, rng.below(3) as u8], 1).into()
}
