//! One connection: what it was told, what it has to say, and when.

mod timing;

use super::event::{Action, End, StreamId};
use super::header::{HEADER_LEN, Header, Kind, Packet, distance};
use super::ledbat::Ledbat;
use super::mtu::Mtu;
use super::receive::{Receive, Taken};
use super::send::{Losses, Outgoing, Send};
use crate::machine::{Outbox, Timestamp};
use bytes::{Bytes, BytesMut};
use core::net::SocketAddr;
use core::time::Duration;
use timing::Timers;

/// Both halves of a stream to one remote.
///
/// ```text
/// Opening --STATE--> Open --close or the remote's FIN--> Ending --FIN acknowledged--> over
/// ```
#[derive(Debug)]
pub(super) struct Stream {
    id: StreamId,
    remote: SocketAddr,
    /// The name under which packets come.
    hears: u16,
    /// The name under which they go.
    says: u16,
    phase: Phase,
    receive: Receive,
    send: Send,
    ledbat: Ledbat,
    mtu: Mtu,
    /// The bytes that the remote is ready to receive after what it acknowledged last.
    their_window: u32,
    /// How long the last packet of the remote took by both clocks.
    difference: u32,
    /// A packet with the latest numbers should go, whatever else it carries.
    ack_due: bool,
    /// A packet may go although the remote has no room for it.
    poke_due: bool,
    repeated_acks: u32,
    /// The parent has more than it was allowed to write.
    blocked: bool,
    timers: Timers,
    /// Timeouts in a row.
    timeouts: u32,
    /// Under which time the parent has it in its list.
    pub(super) filed: Option<Timestamp>,
    /// Whether it is in the parent's row of those that have something to send.
    pub(super) is_ready: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Our SYN, with this number, waits for an answer.
    Opening(u16),
    Open,
    /// The parent has no more to do with it.
    Ending,
    Over,
}

/// The two numbers and names that a handshake agrees on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names {
    pub(super) hears: u16,
    pub(super) says: u16,
    /// Our next number.
    pub(super) seq: u16,
}

/// What was put into a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segments {
    pub(super) len: usize,
    pub(super) probe: bool,
}

impl Stream {
    /// Asks the remote for a connection.
    pub(super) fn open(
        now: Timestamp,
        id: StreamId,
        remote: SocketAddr,
        names: Names,
        mtu: Mtu,
        credit: u32,
    ) -> Self {
        let mut stream = Self::new(now, id, remote, names, mtu, Receive::new(0, credit));
        stream.phase = Phase::Opening(names.seq);
        stream.send = Send::new(names.seq.wrapping_add(1));
        stream.ack_due = true;
        stream.timers.resend = Some(now + stream.ledbat.timeout());
        stream
    }

    /// Has a connection with a remote that asked for it by a SYN before `next`.
    pub(super) fn accept(
        now: Timestamp,
        id: StreamId,
        remote: SocketAddr,
        names: Names,
        mtu: Mtu,
        next: u16,
        credit: u32,
    ) -> Self {
        Self::new(now, id, remote, names, mtu, Receive::new(next, credit))
    }

    /// The answer that opened it took so long.
    pub(super) fn note_rtt(&mut self, now: Timestamp, rtt: Duration) {
        self.ledbat.on_sample(now, Some(rtt), 0);
    }

    fn new(
        now: Timestamp,
        id: StreamId,
        remote: SocketAddr,
        names: Names,
        mtu: Mtu,
        receive: Receive,
    ) -> Self {
        Self {
            id,
            remote,
            hears: names.hears,
            says: names.says,
            phase: Phase::Open,
            receive,
            send: Send::new(names.seq),
            ledbat: Ledbat::new(mtu.payload()),
            mtu,
            their_window: 0,
            difference: 0,
            ack_due: false,
            poke_due: false,
            repeated_acks: 0,
            blocked: false,
            timers: Timers {
                resend: None,
                tail: None,
                tails: 0,
                poke: None,
                linger: None,
                heard: now,
                said: now,
            },
            timeouts: 0,
            filed: None,
            is_ready: false,
        }
    }

    pub(super) fn remote(&self) -> SocketAddr {
        self.remote
    }

    pub(super) fn names(&self) -> (u16, u16) {
        (self.hears, self.says)
    }

    pub(super) fn ledbat(&self) -> &Ledbat {
        &self.ledbat
    }

    pub(super) fn in_flight(&self) -> usize {
        self.send.in_flight()
    }

    pub(super) fn payload_len(&self) -> usize {
        self.mtu.payload()
    }

    /// Whether nothing is left to do.
    pub(super) fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// The packet that ends it at once.
    pub(super) fn farewell(&self) -> Header {
        let ack = self.receive.ack();
        let (seq, difference) = (self.send.next_seq(), self.difference);
        let (kind, connection) = (Kind::Reset, self.says);
        Header { kind, connection, timestamp: 0, difference, window: 0, seq, ack }
    }

    /// The bytes that the parent may write now.
    pub(super) fn room(&mut self) -> usize {
        if self.phase != Phase::Open {
            return 0;
        }
        // A little more than may leave, so that the window is full while the parent is asked for more.
        let window = self.ledbat.window() + self.least_room() + self.mtu.payload();
        let waiting = self.send.waiting();
        let ours = window.saturating_sub(self.send.in_flight() + waiting);
        let theirs = (self.their_window as usize).max(MIN_ROOM).saturating_sub(self.send.unacked() + waiting);
        let room = ours.min(theirs);
        let room = if room < self.least_room() { 0 } else { room };
        self.blocked = room == 0;
        room
    }

    /// Less isn't worth a call.
    fn least_room(&self) -> usize {
        (self.ledbat.window() / 8).min(8 * self.mtu.payload()).clamp(1, MAX_LEAST_ROOM)
    }

    pub(super) fn write(&mut self, data: impl IntoIterator<Item = Bytes>) {
        if matches!(self.phase, Phase::Open) {
            data.into_iter().for_each(|data| self.send.write(data));
            self.room();
        }
    }

    /// Whether its parent has no more to do with it.
    pub(super) fn is_ending(&self) -> bool {
        matches!(self.phase, Phase::Ending | Phase::Over)
    }

    pub(super) fn set_apart(&mut self) {
        self.send.set_apart();
    }

    pub(super) fn set_credit(&mut self, credit: u32) {
        if self.receive.set_credit(credit) && self.phase == Phase::Open {
            self.ack_due = true;
        }
    }

    /// Sends what was written, then the end; the parent hears no more of it.
    pub(super) fn close(&mut self, now: Timestamp) {
        if matches!(self.phase, Phase::Opening(_)) {
            self.phase = Phase::Over;
        } else if self.phase == Phase::Open {
            self.end(now);
        }
    }

    fn end(&mut self, now: Timestamp) {
        self.phase = Phase::Ending;
        self.timers.linger = Some(now + LINGER);
    }

    /// Takes in a packet that names this stream.
    pub(super) fn on_packet(
        &mut self,
        now: Timestamp,
        packet: &Packet<'_>,
        payload: Bytes,
        out: &mut Outbox<Action>,
    ) {
        let header = packet.header;
        match (self.phase, header.kind) {
            (Phase::Over, _) | (Phase::Opening(_), Kind::Syn) => return,
            // It was sent again before our answer came.
            (_, Kind::Syn) => {
                self.ack_due = true;
                return;
            }
            (Phase::Opening(seq), Kind::State) if header.ack == seq => {
                self.phase = Phase::Open;
                // The remote's STATE carries the number of the packet that comes next.
                let credit = self.receive.tell_window();
                self.receive = Receive::new(header.seq, credit);
                self.timers.resend = None;
                // The SYN met as short a queue as anything will.
                let rtt = (self.timeouts == 0).then(|| now.since(self.timers.said));
                self.ledbat.on_sample(now, rtt, header.difference);
                self.timeouts = 0;
                // The third packet proves our address to the remote, even if we have nothing to say.
                self.ack_due = true;
                out.push_back(Action::Connected { stream: self.id });
            }
            (Phase::Opening(_), _) => return,
            _ => {}
        }
        if !self.send.is_plausible(header.ack) {
            return;
        }
        self.timers.heard = now;
        if header.timestamp != 0 {
            self.difference = micros(now).wrapping_sub(header.timestamp);
            self.ledbat.on_packet(now, self.difference);
        }
        self.on_ack(now, packet);
        if matches!(header.kind, Kind::Data | Kind::Fin) {
            self.on_data(now, header, payload, out);
        }
        self.check_writable(out);
        self.check_end();
    }

    fn on_ack(&mut self, now: Timestamp, packet: &Packet<'_>) {
        let header = packet.header;
        let (before, outstanding) = (self.send.in_flight(), self.send.is_outstanding());
        let last = self.send.last_acked();
        let news = distance(last, header.ack);
        // Else it only tells of room (RFC 5681).
        let same_room = header.window == self.their_window;
        let acked = self.send.on_ack(now, header.ack, packet.sack, self.ledbat.least_rtt());
        if news >= 0 {
            // What was sent while there was no room has been thrown away.
            if self.their_window == 0 && header.window > 0 && self.send.is_outstanding() {
                self.hurry_first(now);
            }
            self.their_window = header.window;
        }
        let payload = self.mtu.payload();
        if acked.packets > 0 {
            let rtt = acked.sent_at.map(|at| now.since(at));
            self.ledbat.on_sample(now, rtt, header.difference);
            let full = before + 2 * payload >= self.ledbat.window();
            let counted = (acked.bytes, acked.packets);
            self.ledbat.on_acked(counted, acked.latest_tx, self.send.next_tx(), payload, full);
            self.repeated_acks = 0;
            self.timeouts = 0;
            self.restart(now);
        } else if header.kind == Kind::State
            && news == 0
            && outstanding
            && same_room
            && packet.sack.is_empty()
        {
            self.repeated_acks += 1;
            // BEP 29: also a remote without selective acknowledgements tells of a loss.
            if self.repeated_acks == REPEATED_ACKS {
                self.hurry_first(now);
                let next = self.send.next_tx();
                self.ledbat.on_lost(1, next - 1, next, payload);
            }
        }
        if let Some(size) = acked.probe {
            self.mtu.on_arrived(size);
            self.ledbat.on_payload(self.mtu.payload());
        }
        if acked.spurious {
            self.ledbat.on_spurious();
        }
        if acked.packets > 0 {
            let losses = self.send.find_losses(self.tail_wait());
            self.on_losses(now, losses);
        }
        if self.their_window as usize >= MIN_ROOM.min(self.send.waiting()) {
            self.timers.poke = None;
        }
        self.watch_window(now);
    }

    fn on_losses(&mut self, now: Timestamp, losses: Losses) {
        if let Some(size) = losses.probe {
            self.mtu.on_lost(now, size);
        }
        if losses.packets > 0 {
            let next = self.send.next_tx();
            self.ledbat.on_lost(losses.packets, losses.latest_tx, next, self.mtu.payload());
        }
    }

    fn on_data(&mut self, now: Timestamp, header: Header, payload: Bytes, out: &mut Outbox<Action>) {
        self.ack_due = true;
        self.receive.note_told(payload.len());
        let (stream, heard) = (self.id, self.phase == Phase::Open);
        let taken = self.receive.take(header.seq, payload, header.kind == Kind::Fin, |data| {
            if heard {
                out.push_back(Action::Received { stream, data });
            }
        });
        if taken == Taken::InOrder && self.receive.is_finished() && self.phase == Phase::Open {
            self.send.forget_fresh();
            self.end(now);
            out.push_back(Action::Closed { stream, end: End::Finished });
        }
    }

    fn check_writable(&mut self, out: &mut Outbox<Action>) {
        if self.blocked {
            let room = self.room();
            if room > 0 {
                out.push_back(Action::Writable { stream: self.id, room });
            }
        }
    }

    /// Both ends are known on both sides: it is over, once the remote was told.
    fn check_end(&mut self) {
        let said = self.send.is_fin_sent() && !self.send.is_outstanding();
        if self.phase == Phase::Ending && said && !(self.ack_due && self.receive.is_finished()) {
            self.phase = Phase::Over;
        }
    }

    /// Whether [`Self::poll_transmit`] would give something.
    pub(super) fn wants_send(&mut self) -> bool {
        match self.phase {
            Phase::Over => false,
            Phase::Opening(_) => self.ack_due,
            Phase::Open | Phase::Ending => self.ack_due || self.next_packet().is_some(),
        }
    }

    /// The packet with a number that may go next.
    fn next_packet(&mut self) -> Option<Outgoing> {
        let window = self.ledbat.window();
        let flying = self.send.in_flight();
        if let Some(lost) = self.send.peek_lost() {
            return (flying + lost.len <= window || flying == 0).then_some(lost);
        }
        if !self.send.has_numbers() {
            return None;
        }
        let (waiting, payload) = (self.send.waiting(), self.mtu.payload());
        if waiting == 0 {
            let ends = self.phase == Phase::Ending;
            return self.send.peek_fin().filter(|_| ends);
        }
        let theirs = (self.their_window as usize).saturating_sub(self.send.unacked());
        let mut max = payload;
        if theirs < payload.min(waiting) {
            // A remote with little room gets little, but not while it could be about to say that there is more.
            if self.send.is_outstanding() || (theirs == 0 && !self.poke_due) {
                return None;
            }
            max = theirs.max(1);
        } else if waiting < payload && self.blocked && self.send.is_outstanding() && self.phase == Phase::Open
        {
            // The rest of the packet comes as soon as there is room for it.
            return None;
        }
        let packet = self.send.peek_fresh(max)?;
        (flying + packet.len <= window || flying == 0).then_some(packet)
    }

    /// Appends packets of one length, of which the last may be shorter, to the remote; `max` of them at most.
    pub(super) fn poll_transmit(
        &mut self,
        now: Timestamp,
        buffer: &mut BytesMut,
        max: usize,
    ) -> Option<Segments> {
        let start = buffer.len();
        if let Phase::Opening(seq) = self.phase {
            if !self.ack_due {
                return None;
            }
            self.ack_due = false;
            let (window, connection) = (self.receive.tell_window(), self.hears);
            let (kind, timestamp) = (Kind::Syn, micros(now));
            Header { kind, connection, timestamp, difference: 0, window, seq, ack: 0 }.encode(buffer);
            self.timers.said = now;
            return Some(Segments { len: HEADER_LEN, probe: false });
        }
        if matches!(self.phase, Phase::Over) {
            return None;
        }
        if self.ack_due && self.receive.has_gap() {
            let mut sack = BytesMut::with_capacity(256);
            self.receive.sack(&mut sack);
            self.header(now, Kind::State).encode_with_sack(&sack, buffer);
            self.on_said(now);
            return Some(Segments { len: buffer.len() - start, probe: false });
        }
        let mut segments = Segments { len: 0, probe: false };
        let mut count = 0;
        while count < max
            && let Some(packet) = self.next_packet()
        {
            let wanted = if segments.len == 0 { self.padding(now, packet) } else { 0 };
            let len = HEADER_LEN + packet.len + wanted;
            let last = segments.len != 0 && len < segments.len;
            if segments.len != 0 && (len > segments.len || buffer.len() - start + len > MAX_BATCH_LEN) {
                break;
            }
            self.put(now, packet, wanted, buffer);
            count += 1;
            if segments.len == 0 {
                segments = Segments { len, probe: wanted > 0 };
            }
            if last || segments.probe {
                break;
            }
        }
        if count == 0 && self.ack_due {
            self.header(now, Kind::State).encode(buffer);
            segments.len = HEADER_LEN;
        }
        if segments.len == 0 {
            return None;
        }
        self.on_said(now);
        Some(segments)
    }

    fn padding(&self, now: Timestamp, packet: Outgoing) -> usize {
        let whole = packet.len == self.mtu.payload() && !self.send.has_lost();
        let size = self.mtu.wanted_probe(now).filter(|_| whole);
        size.map_or(0, |size| size - packet.len)
    }

    fn put(&mut self, now: Timestamp, packet: Outgoing, padding: usize, buffer: &mut BytesMut) {
        let kind = if packet.fin { Kind::Fin } else { Kind::Data };
        let header = Header { seq: packet.seq, ..self.header(now, kind) };
        if padding > 0 {
            header.encode_padded(padding, buffer);
            self.mtu.on_sent(packet.len + padding);
        } else {
            header.encode(buffer);
        }
        self.poke_due = false;
        let idle = !self.send.is_outstanding();
        self.send.put(now, packet, padding, buffer);
        if idle || self.timers.resend.is_none() {
            self.restart(now);
        } else if self.timeouts == 0 && self.timers.tail.is_some() {
            self.timers.tail = Some(now + self.tail_wait());
        }
    }

    fn header(&mut self, now: Timestamp, kind: Kind) -> Header {
        Header {
            kind,
            connection: self.says,
            timestamp: micros(now),
            difference: self.difference,
            window: self.receive.tell_window(),
            seq: self.send.next_seq(),
            ack: self.receive.ack(),
        }
    }

    fn on_said(&mut self, now: Timestamp) {
        self.ack_due = false;
        self.timers.said = now;
        self.check_end();
    }

    /// Ends it for a reason that the parent has to know.
    pub(super) fn fail(&mut self, end: End, out: &mut Outbox<Action>) {
        if matches!(self.phase, Phase::Opening(_) | Phase::Open) {
            out.push_back(Action::Closed { stream: self.id, end });
        }
        self.phase = Phase::Over;
    }
}

/// The clock as packets carry it.
pub(super) fn micros(now: Timestamp) -> u32 {
    now.as_micros() as u32
}

/// Segments that leave with one call are together no longer than a datagram of IP can be.
const MAX_BATCH_LEN: usize = 65_000;

/// A remote that has no room gets so much written for it, so that something is there when it has.
const MIN_ROOM: usize = 16 << 10;

const MAX_LEAST_ROOM: usize = 16 << 10;

/// BEP 29.
const REPEATED_ACKS: u32 = 3;

/// What was closed is forgotten after this long (U-04).
const LINGER: Duration = Duration::from_secs(60);
