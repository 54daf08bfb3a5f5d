//! Both ends of one stream of uTP: one always has something to send, the other takes all, and may lie about it.

use bytes::{Bytes, BytesMut};
use core::net::SocketAddr;
use fast_peer_core::machine::{Machine as _, Outbox, Timestamp};
use fast_peer_core::rng::Rng;
use fast_peer_core::utp::{Action, Config, HEADER_LEN, Utp};

/// What the receiver of a stream tells the sender (row U-04).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// No packet ever waited in a queue.
    NoDelay,
    /// All that was sent arrived.
    NoLoss,
}

/// The ends of a stream.
#[derive(Debug)]
pub(super) struct Pair {
    ends: [Utp; 2],
    lie: Option<Lie>,
    zeros: Bytes,
    /// The bytes that came in order.
    pub(super) received: u64,
}

/// Which end of a stream.
pub(super) const SENDER: usize = 0;
pub(super) const RECEIVER: usize = 1;

impl Pair {
    pub(super) fn new(rng: &Rng, lie: Option<Lie>) -> Self {
        let end = |label| Utp::new(Config { initial_credit: CREDIT, ..Config::default() }, rng.fork(label));
        let ends = [end("sender"), end("receiver")];
        Self { ends, lie, zeros: vec![0; 1 << 16].into(), received: 0 }
    }

    pub(super) fn start(&mut self, now: Timestamp) {
        let mut out = Outbox::new();
        self.ends[SENDER].connect(now, addr(RECEIVER), &mut out);
        self.heed(now, SENDER, out);
    }

    pub(super) fn handle(&mut self, now: Timestamp, end: usize, data: Bytes) {
        let mut out = Outbox::new();
        self.ends[end].handle_datagram(now, addr(1 - end), data, &mut out);
        self.heed(now, end, out);
    }

    pub(super) fn deadline(&self, end: usize) -> Option<Timestamp> {
        self.ends[end].poll_timeout().map(|due| due.at)
    }

    pub(super) fn on_timeout(&mut self, now: Timestamp, end: usize) {
        let mut out = Outbox::new();
        self.ends[end].handle_timeout(now, &mut out);
        self.heed(now, end, out);
    }

    /// The datagrams that an end sends now.
    pub(super) fn pull(&mut self, now: Timestamp, end: usize) -> Vec<Bytes> {
        let (mut all, mut buffer) = (vec![], BytesMut::new());
        while let Some(transmit) = self.ends[end].poll_transmit(now, &mut buffer, 64) {
            let mut batch = buffer.split();
            while !batch.is_empty() {
                let packet = batch.split_to(transmit.segment_len.min(batch.len()));
                all.push(if end == RECEIVER { self.distort(packet) } else { packet.freeze() });
            }
        }
        all
    }

    fn distort(&self, mut packet: BytesMut) -> Bytes {
        match self.lie {
            None => {}
            Some(Lie::NoDelay) => packet[8..12].copy_from_slice(&1000_u32.to_be_bytes()),
            Some(Lie::NoLoss) if packet[1] == 1 => packet[HEADER_LEN + 2..].fill(0xff),
            Some(Lie::NoLoss) => {}
        }
        packet.freeze()
    }

    fn heed(&mut self, now: Timestamp, end: usize, mut out: Outbox<Action>) {
        while let Some(action) = out.pop_front() {
            match action {
                Action::Connected { stream } | Action::Writable { stream, .. } => {
                    let mut room = if end == SENDER { self.ends[end].room(stream) } else { 0 };
                    while room > 0 {
                        let data = self.zeros.slice(..room.min(self.zeros.len()));
                        room -= data.len();
                        self.ends[end].write(now, stream, [data], &mut out);
                    }
                }
                Action::Received { stream, data } => {
                    self.received += data.len() as u64;
                    self.ends[end].set_credit(stream, CREDIT, &mut out);
                }
                Action::Incoming { .. } | Action::Closed { .. } | Action::WantSend => {}
            }
        }
    }
}

/// More than any path in a table holds.
const CREDIT: u32 = 64 << 20;

fn addr(end: usize) -> SocketAddr {
    ([93, 184, 216, 1 + end as u8], 6881).into()
}
