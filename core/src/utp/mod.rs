//! uTP (BEP 29): reliable streams over datagrams that give way to other traffic.
//!
//! [`Utp`] is all streams of one UDP port. Datagrams go in, streams of bytes come out, and the other way round. Its parent
//! pulls: packets are written when the socket can take them, and a stream says how much it can take before anything is
//! written to it, so that what it is asked to carry can be decided late.
//!
//! Nothing but an answer as long as the question goes to an address until a third packet has proven that who asked is
//! there (U-01, U-02). What strangers can make us hold is bounded by [`MAX_HALF_OPEN`] and [`Config::max_streams`], and
//! what a stream holds by the credit that it was given.

mod event;
mod header;
mod ledbat;
mod mtu;
mod receive;
mod send;
mod stream;
#[cfg(test)]
mod tests;

pub use event::{Action, End, Event, StreamId};
pub use header::{HEADER_LEN, Header, Kind, MAX_SACK_LEN, Packet, is_utp};

use crate::machine::{Deadline, Machine, Outbox, Timestamp};
use crate::rng::Rng;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use bytes::{Bytes, BytesMut};
use core::net::SocketAddr;
use core::time::Duration;
use mtu::Mtu;
use stream::{Names, Stream, micros};

/// What may differ between machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The bytes that each stream may receive before its parent gives it credit.
    pub initial_credit: u32,
    /// Streams at once; others are refused.
    pub max_streams: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { initial_credit: 256 << 10, max_streams: 1024 }
    }
}

/// All streams of one UDP port.
#[derive(Debug)]
pub struct Utp {
    config: Config,
    rng: Rng,
    next_id: u64,
    streams: BTreeMap<StreamId, Box<Stream>>,
    /// The streams by remote and the name under which their packets come.
    by_name: BTreeMap<(SocketAddr, u16), StreamId>,
    /// Deadlines. That of a stream may have moved back since.
    due: BTreeSet<(Timestamp, StreamId)>,
    /// Streams that have something to send, in the order of their turns.
    ready: VecDeque<StreamId>,
    /// Whether the parent knows that something waits.
    told: bool,
    half_open: BTreeMap<(SocketAddr, u16), HalfOpen>,
    /// The same in the order in which they came; what isn't half-open any more is still in it until its time is over.
    half_open_order: VecDeque<(Timestamp, SocketAddr, u16)>,
    /// Answers that belong to no stream.
    replies: VecDeque<(SocketAddr, Header)>,
    resets: Resets,
}

/// A remote that asked for a stream, and has not proven that it is where it says.
#[derive(Clone, Copy, Debug)]
struct HalfOpen {
    /// Our first number; only who got our answer knows it.
    seq: u16,
    /// The number of its SYN.
    syn: u16,
    /// When it came.
    since: Timestamp,
    /// Whether it came again.
    repeated: bool,
}

/// How many resets were sent within a second.
#[derive(Debug, Default)]
struct Resets {
    since: Timestamp,
    count: u32,
}

/// What [`Utp::poll_transmit`] put into its buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Where it goes.
    pub to: SocketAddr,
    /// The length of each datagram in the buffer; the last may be shorter.
    pub segment_len: usize,
}

/// How a stream is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Who is at the other end.
    pub remote: SocketAddr,
    /// The delay of the queue in the path.
    pub delay: Duration,
    /// The bytes that are on their way.
    pub in_flight: usize,
    /// The bytes of a packet's payload.
    pub payload_len: usize,
    /// The mean of round trips, once there was one.
    pub rtt: Option<Duration>,
    /// The bytes that may be on their way.
    pub window: usize,
}

impl Utp {
    /// Has no stream. Names and numbers of streams are drawn from `rng`.
    pub fn new(config: Config, rng: Rng) -> Self {
        Self {
            config,
            rng,
            next_id: 0,
            streams: BTreeMap::new(),
            by_name: BTreeMap::new(),
            due: BTreeSet::new(),
            ready: VecDeque::new(),
            told: false,
            half_open: BTreeMap::new(),
            half_open_order: VecDeque::new(),
            replies: VecDeque::new(),
            resets: Resets::default(),
        }
    }

    /// Opens a stream; none if there are as many as may be. [`Action::Connected`] or [`Action::Closed`] follows.
    pub fn connect(
        &mut self,
        now: Timestamp,
        remote: SocketAddr,
        out: &mut Outbox<Action>,
    ) -> Option<StreamId> {
        if !self.make_place() {
            return None;
        }
        let free = |name: u16| !self.by_name.contains_key(&(remote, name));
        let (first, seq) = (self.rng.next_u32() as u16, self.rng.next_u32() as u16);
        let hears = (0..=u16::MAX).map(|i| first.wrapping_add(i)).find(|name| free(*name))?;
        let names = Names { hears, says: hears.wrapping_add(1), seq };
        let (id, mtu, credit) = (self.mint(), Mtu::new(remote, LINK_MTU), self.config.initial_credit);
        self.insert(Stream::open(now, id, remote, names, mtu, credit), id);
        self.settle(id, out);
        Some(id)
    }

    /// Takes in a datagram for which [`is_utp`] holds; others are ignored.
    pub fn handle_datagram(
        &mut self,
        now: Timestamp,
        from: SocketAddr,
        data: Bytes,
        out: &mut Outbox<Action>,
    ) {
        let Some(packet) = Packet::parse(&data) else { return };
        let header = packet.header;
        let name = match header.kind {
            // BEP 29: the SYN alone carries the name under which the remote hears.
            Kind::Syn => header.connection.wrapping_add(1),
            _ => header.connection,
        };
        if header.kind == Kind::Reset {
            return self.on_reset(from, header.connection, out);
        }
        let known = self.by_name.get(&(from, name)).copied();
        let Some(id) = known.or_else(|| self.prove(now, from, header, out)) else {
            return self.on_stranger(now, from, header, out);
        };
        let payload = data.slice(data.len() - packet.payload.len()..);
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.on_packet(now, &packet, payload, out);
        }
        self.settle(id, out);
    }

    /// The bytes that may be written to a stream now. If that is 0, [`Action::Writable`] follows when it is more.
    pub fn room(&mut self, id: StreamId) -> usize {
        self.streams.get_mut(&id).map_or(0, |stream| stream.room())
    }

    /// Appends bytes to a stream, which holds them, uncopied, until they are acknowledged. More than [`Self::room`] is
    /// taken too, but waits. If as much as there was room for was written, [`Action::Writable`] follows.
    pub fn write(
        &mut self,
        now: Timestamp,
        id: StreamId,
        data: impl IntoIterator<Item = Bytes>,
        out: &mut Outbox<Action>,
    ) {
        self.append(now, id, data, false, out);
    }

    /// The same, and no packet holds bytes of two of these parts.
    pub fn write_apart(
        &mut self,
        now: Timestamp,
        id: StreamId,
        data: impl IntoIterator<Item = Bytes>,
        out: &mut Outbox<Action>,
    ) {
        self.append(now, id, data, true, out);
    }

    fn append(
        &mut self,
        now: Timestamp,
        id: StreamId,
        data: impl IntoIterator<Item = Bytes>,
        apart: bool,
        out: &mut Outbox<Action>,
    ) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.write(data);
            if apart {
                stream.set_apart();
            }
            stream.on_written(now);
            self.settle(id, out);
        }
    }

    /// Says how many bytes of a stream may come, from those on that came in order. What was promised isn't taken back.
    pub fn set_credit(&mut self, id: StreamId, bytes: u32, out: &mut Outbox<Action>) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.set_credit(bytes);
            self.settle(id, out);
        }
    }

    /// Ends a stream once all is sent that was written. Nothing more is said of it, and it is forgotten after 60 s.
    pub fn close(&mut self, now: Timestamp, id: StreamId, out: &mut Outbox<Action>) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.close(now);
            self.settle(id, out);
        }
    }

    /// Ends a stream at once. Nothing more is said of it.
    pub fn reset(&mut self, id: StreamId, out: &mut Outbox<Action>) {
        if let Some(stream) = self.remove(id) {
            self.reply(stream.remote(), stream.farewell(), out);
        }
    }

    /// Appends datagrams of one length, of which the last may be shorter, to `buffer`: those for one remote that may leave
    /// with one call, `max_segments` at most and 65,000 bytes if they are several. `None` when nothing waits.
    pub fn poll_transmit(
        &mut self,
        now: Timestamp,
        buffer: &mut BytesMut,
        max_segments: usize,
    ) -> Option<Transmit> {
        if let Some((to, header)) = self.replies.pop_front() {
            Header { timestamp: micros(now), ..header }.encode(buffer);
            return Some(Transmit { to, segment_len: HEADER_LEN });
        }
        while let Some(id) = self.ready.pop_front() {
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            stream.is_ready = false;
            let to = stream.remote();
            let sent = stream.poll_transmit(now, buffer, max_segments.max(1));
            self.file(id);
            if let Some(segments) = sent {
                return Some(Transmit { to, segment_len: segments.len });
            }
        }
        self.told = false;
        None
    }

    /// How a stream is doing; none if it is over, or was closed and is forgotten.
    pub fn status(&self, id: StreamId) -> Option<Status> {
        let stream = self.streams.get(&id)?;
        let ledbat = stream.ledbat();
        Some(Status {
            remote: stream.remote(),
            delay: ledbat.delay(),
            in_flight: stream.in_flight(),
            payload_len: stream.payload_len(),
            rtt: ledbat.rtt(),
            window: ledbat.window(),
        })
    }

    /// Streams that are held, with those that nothing more is said of, and remotes that have not proven their address.
    pub fn counts(&self) -> (usize, usize) {
        (self.streams.len(), self.half_open.len())
    }

    fn mint(&mut self) -> StreamId {
        self.next_id += 1;
        StreamId(self.next_id)
    }

    fn insert(&mut self, stream: Stream, id: StreamId) {
        self.by_name.insert((stream.remote(), stream.names().0), id);
        self.streams.insert(id, Box::new(stream));
    }

    fn remove(&mut self, id: StreamId) -> Option<Box<Stream>> {
        let stream = self.streams.remove(&id)?;
        self.by_name.remove(&(stream.remote(), stream.names().0));
        if let Some(filed) = stream.filed {
            self.due.remove(&(filed, id));
        }
        Some(stream)
    }

    /// Does for a stream what any call can make due.
    fn settle(&mut self, id: StreamId, out: &mut Outbox<Action>) {
        self.file(id);
        self.tell(out);
    }

    /// Puts a stream where it belongs: into the row of those that send, under its deadline, or away.
    fn file(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.is_over() {
            self.remove(id);
            return;
        }
        if !stream.is_ready && stream.wants_send() {
            stream.is_ready = true;
            self.ready.push_back(id);
        }
        // A deadline that moves back, as with each answer, is looked at when its old time comes.
        if let Some(next) = stream.poll_timeout()
            && stream.filed.is_none_or(|filed| next.at < filed)
        {
            if let Some(filed) = stream.filed.replace(next.at) {
                self.due.remove(&(filed, id));
            }
            self.due.insert((next.at, id));
        }
    }

    fn tell(&mut self, out: &mut Outbox<Action>) {
        let waits = !self.ready.is_empty() || !self.replies.is_empty();
        if waits && !self.told {
            self.told = true;
            out.push_back(Action::WantSend);
        }
    }

    fn reply(&mut self, to: SocketAddr, header: Header, out: &mut Outbox<Action>) {
        if self.replies.len() < MAX_REPLIES {
            self.replies.push_back((to, header));
            self.tell(out);
        }
    }

    /// Makes a stream of a half-open one whose remote knows our first number.
    fn prove(
        &mut self,
        now: Timestamp,
        from: SocketAddr,
        header: Header,
        out: &mut Outbox<Action>,
    ) -> Option<StreamId> {
        let half = *self.half_open.get(&(from, header.connection))?;
        if header.kind == Kind::Syn || header.ack != half.seq.wrapping_sub(1) {
            return None;
        }
        self.half_open.remove(&(from, header.connection));
        if !self.make_place() {
            return None;
        }
        let (hears, says) = (header.connection, header.connection.wrapping_sub(1));
        let names = Names { hears, says, seq: half.seq };
        let (id, mtu, credit) = (self.mint(), Mtu::new(from, LINK_MTU), self.config.initial_credit);
        let next = half.syn.wrapping_add(1);
        let mut stream = Stream::accept(now, id, from, names, mtu, next, credit);
        // Of two answers nobody knows which one this follows.
        if !half.repeated {
            stream.note_rtt(now, now.since(half.since));
        }
        self.insert(stream, id);
        out.push_back(Action::Incoming { stream: id, from });
        Some(id)
    }

    /// Answers a packet that belongs to no stream.
    fn on_stranger(&mut self, now: Timestamp, from: SocketAddr, header: Header, out: &mut Outbox<Action>) {
        let difference = micros(now).wrapping_sub(header.timestamp);
        if header.kind != Kind::Syn {
            if !self.half_open.contains_key(&(from, header.connection)) && self.may_reset(now) {
                let (kind, connection, ack) = (Kind::Reset, header.connection, header.seq);
                let seq = self.rng.next_u32() as u16;
                let reset = Header { kind, connection, timestamp: 0, difference, window: 0, seq, ack };
                self.reply(from, reset, out);
            }
            return;
        }
        if self.is_full() && !self.streams.values().any(|stream| stream.is_ending()) {
            return;
        }
        let name = header.connection.wrapping_add(1);
        let half = match self.half_open.get_mut(&(from, name)) {
            Some(half) if half.syn == header.seq => {
                half.repeated = true;
                *half
            }
            _ => {
                self.make_room_for_half_open();
                let half = HalfOpen {
                    seq: self.rng.next_u32() as u16,
                    syn: header.seq,
                    since: now,
                    repeated: false,
                };
                self.half_open.insert((from, name), half);
                self.half_open_order.push_back((now, from, name));
                half
            }
        };
        let state = Header {
            kind: Kind::State,
            connection: header.connection,
            timestamp: 0,
            difference,
            window: self.config.initial_credit,
            seq: half.seq,
            ack: header.seq,
        };
        self.reply(from, state, out);
    }

    fn is_full(&self) -> bool {
        self.streams.len() >= self.config.max_streams
    }

    /// Whether there is a place for one more stream; what only waits to be forgotten gives up its own.
    fn make_place(&mut self) -> bool {
        if self.is_full()
            && let Some(id) = self.streams.iter().find(|(_, stream)| stream.is_ending()).map(|(id, _)| *id)
        {
            self.remove(id);
        }
        !self.is_full()
    }

    fn may_reset(&mut self, now: Timestamp) -> bool {
        if now.since(self.resets.since) >= SECOND {
            self.resets = Resets { since: now, count: 0 };
        }
        self.resets.count = self.resets.count.saturating_add(1);
        self.resets.count <= MAX_RESETS_PER_S
    }

    fn make_room_for_half_open(&mut self) {
        while self.half_open_order.len() >= MAX_HALF_OPEN {
            self.drop_oldest_half_open();
        }
    }

    fn drop_oldest_half_open(&mut self) {
        if let Some((since, from, name)) = self.half_open_order.pop_front()
            && self.half_open.get(&(from, name)).is_some_and(|half| half.since == since)
        {
            self.half_open.remove(&(from, name));
        }
    }

    /// BEP 29: a reset may carry either name of the stream.
    fn on_reset(&mut self, from: SocketAddr, name: u16, out: &mut Outbox<Action>) {
        self.half_open.remove(&(from, name));
        for heard in [name, name.wrapping_sub(1), name.wrapping_add(1)] {
            let Some(id) = self.by_name.get(&(from, heard)).copied() else { continue };
            let stream = self.streams.get_mut(&id).expect("what has a name is a stream");
            let (hears, says) = stream.names();
            if name == hears || name == says {
                stream.fail(End::Reset, out);
                self.remove(id);
                return;
            }
        }
    }
}

impl Machine for Utp {
    type Event = Event;
    type Action = Action;

    fn handle_event(&mut self, now: Timestamp, event: Event, out: &mut Outbox<Action>) {
        match event {
            Event::Close(stream) => self.close(now, stream, out),
            Event::Connect(remote) => {
                self.connect(now, remote, out);
            }
            Event::Credit { stream, bytes } => self.set_credit(stream, bytes, out),
            Event::Datagram { from, data } => self.handle_datagram(now, from, data, out),
            Event::Reset(stream) => self.reset(stream, out),
            Event::Write { stream, data } => self.write(now, stream, [data], out),
        }
    }

    fn handle_timeout(&mut self, now: Timestamp, out: &mut Outbox<Action>) {
        while self.half_open_order.front().is_some_and(|(since, ..)| *since + HALF_OPEN_FOR <= now) {
            self.drop_oldest_half_open();
        }
        while let Some((at, id)) = self.due.first().copied().filter(|(at, _)| *at <= now) {
            self.due.remove(&(at, id));
            let stream = self.streams.get_mut(&id).expect("what is due is a stream");
            stream.filed = None;
            stream.on_timeout(now, out);
            self.file(id);
        }
        self.tell(out);
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let stream = self.due.first().map(|(at, _)| Deadline { at: *at, why: "uTP" });
        let half = self.half_open_order.front();
        let half = half.map(|(since, ..)| Deadline { at: *since + HALF_OPEN_FOR, why: "uTP half-open" });
        Deadline::earlier(stream, half)
    }
}

/// What most networks carry, with all headers. More would be worth a probe where the interface carries it, but nobody asks.
const LINK_MTU: usize = 1500;

/// Remotes at once that asked for a stream and have not proven their address (U-01).
pub const MAX_HALF_OPEN: usize = 1024;

/// How long such a remote is remembered.
const HALF_OPEN_FOR: Duration = Duration::from_secs(10);

/// Answers that wait to be sent.
const MAX_REPLIES: usize = 1024;

/// Strangers that get to know in a second that there is no such stream.
const MAX_RESETS_PER_S: u32 = 20;

const SECOND: Duration = Duration::from_secs(1);
