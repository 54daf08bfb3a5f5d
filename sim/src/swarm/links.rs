//! What carries bytes between hosts: access links, and byte streams that behave like TCP as seen from a socket.
//!
//! Nothing is said about packets of a stream. It moves in chunks of at most a block and its head; each takes its time
//! on the sender's uplink, which goes round its streams chunk by chunk, then the delay of the path, then its time on
//! the receiver's downlink, first come first served. A chunk that is lost, or finds the downlink's queue full, arrives
//! a round trip later, and all behind it wait: no byte of a stream is ever lost. Such a loss also halves the stream's
//! window (the bytes that may be under way), which grows back by one chunk a window, up to the receiver's buffer.
//! Headers of TCP and IP weigh nothing.

use super::observe::Watch;
use super::world::HostId;
use bytes::{BufMut as _, Bytes, BytesMut};
use core::time::Duration;
use fast_peer_core::id::ConnId;
use fast_peer_core::lengths::BLOCK_LEN;
use fast_peer_core::machine::Timestamp;
use fast_peer_core::session::Segment;
use fast_peer_core::store::payload::Payload;
use fast_peer_core::wire::{Frame, PIECE_HEAD_LEN};
use std::collections::VecDeque;

/// How a host is connected to everybody else.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// Bytes a second that it can send.
    pub up_bytes_per_s: u64,
    /// Bytes a second that it can receive.
    pub down_bytes_per_s: u64,
    /// Its share of the delay of a path, which is the sum of both ends' shares.
    pub delay: Duration,
    /// Up to so much is added to the delay, by chance.
    pub jitter: Duration,
    /// The bytes that may wait for the downlink.
    pub queue_limit: u64,
    /// How many in a million packets to this host are lost.
    pub loss_ppm: u64,
    /// How many in a million datagrams to this host arrive twice.
    pub duplicate_ppm: u64,
}

impl Access {
    /// As fast as one likes, without loss.
    pub const FAST: Self = Self {
        up_bytes_per_s: u64::MAX,
        down_bytes_per_s: u64::MAX,
        delay: Duration::from_millis(10),
        jitter: Duration::ZERO,
        queue_limit: u64::MAX,
        loss_ppm: 0,
        duplicate_ppm: 0,
    };

    /// So many bytes a second both ways, without loss.
    pub const fn symmetric(bytes_per_s: u64, delay: Duration) -> Self {
        Self { up_bytes_per_s: bytes_per_s, down_bytes_per_s: bytes_per_s, delay, ..Self::FAST }
    }

    pub(crate) fn up_time(&self, len: u64) -> Duration {
        transmission(len, self.up_bytes_per_s)
    }

    pub(crate) fn down_time(&self, len: u64) -> Duration {
        transmission(len, self.down_bytes_per_s)
    }
}

fn transmission(len: u64, bytes_per_s: u64) -> Duration {
    if bytes_per_s == u64::MAX {
        return Duration::ZERO;
    }
    Duration::from_micros((len * 1_000_000).div_ceil(bytes_per_s.max(1)))
}

/// How large the buffers of sockets are.
#[derive(Clone, Copy, Debug)]
pub struct Sockets {
    /// The bytes that a socket takes before any of them is sent.
    pub send_buffer: u64,
    /// The bytes that may be under way to, or waiting in, the socket that receives.
    pub receive_buffer: u64,
}

impl Default for Sockets {
    fn default() -> Self {
        Self { send_buffer: 64 * 1024, receive_buffer: 256 * 1024 }
    }
}

/// A stream, among all that there ever were.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StreamId(pub(crate) u32);

/// One of a stream's two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    Dialler,
    Acceptor,
}

impl Side {
    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Dialler => Self::Acceptor,
            Self::Acceptor => Self::Dialler,
        }
    }
}

/// An end of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Socket {
    pub(crate) stream: StreamId,
    pub(crate) side: Side,
}

impl Socket {
    pub(crate) const fn other(self) -> Self {
        Self { stream: self.stream, side: self.side.other() }
    }
}

/// A stream: two ends and two directions. An end's direction is the one in which it sends.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) ends: [End; 2],
    pub(crate) directions: [Direction; 2],
    /// Nothing comes through any more, for an end lost its address; the other end is not told.
    pub(crate) severed: bool,
}

impl Stream {
    pub(crate) fn end(&self, side: Side) -> &End {
        &self.ends[side as usize]
    }

    pub(crate) fn end_mut(&mut self, side: Side) -> &mut End {
        &mut self.ends[side as usize]
    }

    pub(crate) fn direction_mut(&mut self, side: Side) -> &mut Direction {
        &mut self.directions[side as usize]
    }

    /// What the end on `side` reads with, and what it reads from.
    pub(crate) fn reading(&mut self, side: Side) -> (&mut Reader, &mut Direction) {
        (&mut self.ends[side as usize].reader, &mut self.directions[side.other() as usize])
    }
}

/// How far an end of a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It waits for the other side's answer.
    Opening,
    /// It can send and receive.
    Open,
    /// Its application is done with it, or was told that it is gone.
    Closed,
}

#[derive(Debug)]
pub(crate) struct End {
    pub(crate) host: HostId,
    /// What the host's session calls it, if the host has one.
    pub(crate) conn: ConnId,
    pub(crate) phase: Phase,
    pub(crate) reader: Reader,
}

/// How an application reads: control bytes into a buffer, blocks into buffers of their own.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// The bytes that it may still read.
    pub(crate) credit: u64,
    /// Control bytes that were read and not used yet.
    pub(crate) control: BytesMut,
    /// The block that is being read.
    pub(crate) block: Option<Gather>,
    /// Whether `control` is worth another look without new bytes.
    pub(crate) again: bool,
    /// Whether another look is planned.
    pub(crate) planned: bool,
}

/// A block on its way from the socket, in whatever parts it comes.
#[derive(Debug)]
pub(crate) struct Gather {
    missing: u32,
    parts: Vec<Payload>,
}

impl Gather {
    pub(crate) fn new(len: u32) -> Self {
        Self { missing: len, parts: Vec::new() }
    }

    pub(crate) fn missing(&self) -> u32 {
        self.missing
    }

    pub(crate) fn push(&mut self, part: Payload) {
        self.missing -= part.len();
        self.parts.push(part);
    }

    /// The whole block.
    pub(crate) fn finish(mut self) -> Payload {
        assert_eq!(self.missing, 0, "a block is handed over whole");
        if self.parts.len() == 1
            && let Some(only) = self.parts.pop()
        {
            return only;
        }
        let len: u32 = self.parts.iter().map(Payload::len).sum();
        if self.parts.iter().all(|part| part.content().is_none()) {
            return Payload::Length(len);
        }
        let mut whole = BytesMut::with_capacity(len as usize);
        for part in &self.parts {
            match part {
                Payload::Content(bytes) => whole.put_slice(bytes),
                Payload::Length(len) => whole.put_bytes(0, *len as usize),
            }
        }
        Payload::Content(whole.freeze())
    }
}

/// The bytes of one direction of a stream, from the sending application to the receiving one.
///
/// All counts are of bytes since the start; `pulled >= sent >= delivered >= read >= freed`.
#[derive(Debug)]
pub(crate) struct Direction {
    /// What was pulled and not read.
    pipe: VecDeque<Segment>,
    /// Taken from the sending application.
    pub(crate) pulled: u64,
    /// Put on the sender's uplink.
    pub(crate) sent: u64,
    /// Come to the receiver's socket.
    pub(crate) delivered: u64,
    /// Taken by the receiving application.
    pub(crate) read: u64,
    /// Known by the sender to be read.
    freed: u64,
    /// What the receiver has read and not told.
    untold: u64,
    window: u64,
    window_max: u64,
    /// What was freed since the window last grew.
    grown: u64,
    /// Whether the sending session has more than the socket took.
    pub(crate) wants: bool,
    /// Whether it waits for its turn on the uplink.
    pub(crate) in_turn: bool,
    /// When the last of its chunks comes off the path: none may overtake another.
    pub(crate) last_arrival: Timestamp,
    /// Until then a lost chunk is on its way again.
    pub(crate) held_until: Timestamp,
    /// Whether the sending application is done.
    pub(crate) finished: bool,
    /// The frames in the pipe, each with the offset at which it ends.
    pub(crate) frames: VecDeque<(u64, Frame)>,
    pub(crate) watch: Watch,
    /// The bytes before what `watch` is fed with: those of a handshake that obfuscates.
    pub(crate) noise: u64,
}

impl Direction {
    pub(crate) fn new(sockets: &Sockets) -> Self {
        Self {
            pipe: VecDeque::new(),
            pulled: 0,
            sent: 0,
            delivered: 0,
            read: 0,
            freed: 0,
            untold: 0,
            window: sockets.receive_buffer.min(WINDOW_START),
            window_max: sockets.receive_buffer,
            grown: 0,
            wants: false,
            in_turn: false,
            last_arrival: Timestamp::ZERO,
            held_until: Timestamp::ZERO,
            finished: false,
            frames: VecDeque::new(),
            watch: Watch::default(),
            noise: 0,
        }
    }

    /// Puts a segment behind what was pulled before.
    pub(crate) fn push(&mut self, segment: Segment) {
        self.pulled += segment.len() as u64;
        self.pipe.push_back(segment);
    }

    /// How much more the sending socket takes.
    pub(crate) fn room(&self, sockets: &Sockets) -> u64 {
        sockets.send_buffer.saturating_sub(self.pulled - self.sent)
    }

    /// How long the next chunk is; zero if there is nothing to send or the window is closed.
    pub(crate) fn next_chunk(&self) -> u64 {
        let open = self.window.saturating_sub(self.sent - self.freed);
        (self.pulled - self.sent).min(open).min(MAX_CHUNK)
    }

    /// A chunk was lost.
    pub(crate) fn shrink_window(&mut self) {
        self.window = (self.window / 2).max(2 * MAX_CHUNK);
        self.grown = 0;
    }

    /// The receiver's news reached the sender: `len` more bytes were read.
    pub(crate) fn free(&mut self, len: u64) {
        self.freed += len;
        self.grown += len;
        if self.grown >= self.window {
            self.grown = 0;
            self.window = (self.window + MAX_CHUNK).min(self.window_max);
        }
    }

    /// The bytes that wait in the receiver's socket.
    pub(crate) fn readable(&self) -> u64 {
        self.delivered - self.read
    }

    /// What the receiver should tell the sender now, if it is worth a message.
    pub(crate) fn tell(&mut self) -> Option<u64> {
        (self.untold >= u64::from(BLOCK_LEN)).then(|| core::mem::take(&mut self.untold))
    }

    /// Reads at most `max` control bytes into `into`, and with them up to `beyond` bytes of a block that follows, as an
    /// application does that doesn't know where blocks begin. Returns how many bytes were read.
    pub(crate) fn read_control(&mut self, max: u64, beyond: u64, into: &mut BytesMut) -> u64 {
        let mut left = max.min(self.readable());
        let before = into.len();
        while left > 0 {
            let (bytes, limit) = match self.pipe.front() {
                Some(Segment::Inline(bytes)) => (bytes, left),
                Some(Segment::Payload(Payload::Content(bytes))) => (bytes, left.min(beyond)),
                _ => break,
            };
            let count = limit.min(bytes.len() as u64);
            if count == 0 {
                break;
            }
            into.put_slice(&bytes[..count as usize]);
            let inline = matches!(self.pipe.front(), Some(Segment::Inline(_)));
            self.advance(count);
            left = if inline { left - count } else { 0 };
        }
        (into.len() - before) as u64
    }

    /// Reads at most `max` bytes of a block.
    pub(crate) fn read_block(&mut self, max: u64) -> Option<Payload> {
        let max = max.min(self.readable());
        let front = self.pipe.front()?;
        let len = max.min(front.len() as u64);
        if len == 0 {
            return None;
        }
        let part = match front {
            Segment::Inline(bytes) => Payload::Content(bytes.slice(..len as usize)),
            Segment::Payload(payload) => payload.slice(0..len as u32),
        };
        self.advance(len);
        Some(part)
    }

    /// Drops at most `max` bytes that wait in the socket, as an application does that is not interested.
    pub(crate) fn read_all(&mut self) -> Vec<Segment> {
        let mut out = Vec::new();
        while self.readable() > 0 {
            let Some(front) = self.pipe.front() else { break };
            let len = self.readable().min(front.len() as u64);
            out.push(match front {
                Segment::Inline(bytes) => Segment::Inline(bytes.slice(..len as usize)),
                Segment::Payload(payload) => Segment::Payload(payload.slice(0..len as u32)),
            });
            self.advance(len);
        }
        out
    }

    /// Whether everything was read that will ever come.
    pub(crate) fn is_over(&self) -> bool {
        self.finished && self.read == self.pulled
    }

    /// Forgets what nobody will read.
    pub(crate) fn discard(&mut self) {
        self.pipe = VecDeque::new();
        self.frames = VecDeque::new();
        self.wants = false;
        self.pulled = self.sent;
    }

    fn advance(&mut self, len: u64) {
        self.read += len;
        self.untold += len;
        let front = self.pipe.front_mut().expect("what is read was there");
        if front.len() as u64 == len {
            self.pipe.pop_front();
            return;
        }
        *front = match front {
            Segment::Inline(bytes) => Segment::Inline(bytes.slice(len as usize..)),
            Segment::Payload(payload) => Segment::Payload(payload.slice(len as u32..payload.len())),
        };
    }
}

/// A datagram under way.
#[derive(Debug)]
pub(crate) struct Datagram {
    pub(crate) from: core::net::SocketAddr,
    pub(crate) to: core::net::SocketAddr,
    pub(crate) data: Bytes,
}

/// A block and its head.
pub(crate) const MAX_CHUNK: u64 = BLOCK_LEN as u64 + PIECE_HEAD_LEN as u64;

/// The bytes that may be under way at the start of a stream.
const WINDOW_START: u64 = 4 * MAX_CHUNK;

/// The bytes of one packet, for the odds of a loss.
pub(crate) const PACKET_LEN: u64 = 1460;
