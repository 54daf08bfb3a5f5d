//! What is sent of a stream: bytes that wait, packets that are on their way, and packets that were lost.

use super::header::distance;
use crate::machine::Timestamp;
use alloc::collections::VecDeque;
use bytes::{BufMut as _, Bytes, BytesMut};
use core::fmt;
use core::time::Duration;

/// The sending half of a stream.
pub(super) struct Send {
    /// Bytes that aren't acknowledged yet, each run with its position in the stream.
    runs: VecDeque<(u64, Bytes)>,
    /// Where the bytes end that were written.
    written: u64,
    /// Where the bytes begin that were never sent.
    fresh: u64,
    /// The run in which those lie.
    fresh_run: usize,
    /// Before this no packet holds bytes of two runs.
    apart: u64,
    /// The number of the first packet in `packets`.
    first: u16,
    packets: VecDeque<Sent>,
    /// What was sent, in order of sending; what was dealt with is still in it until it comes first.
    order: VecDeque<(u64, u16)>,
    /// Packets to send again.
    lost: VecDeque<u16>,
    in_flight: usize,
    next_tx: u64,
    /// The latest sending of which we know that it arrived, and when it was.
    arrived_tx: u64,
    arrived_at: Timestamp,
    /// How many sendings later one has to arrive for an earlier one to count as lost.
    reordering: u64,
    fin: bool,
}

/// A packet that has a number.
#[derive(Clone, Copy)]
struct Sent {
    start: u64,
    len: u32,
    /// The bytes that were put before its payload to see whether so long a packet arrives.
    padding: u32,
    at: Timestamp,
    /// Which sending this was, of all packets of this stream.
    tx: u64,
    again: bool,
    /// It goes again although nothing proves that it was lost.
    hurried: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Arrived,
    Flying,
    Lost,
}

/// What an acknowledgement told.
#[derive(Debug, Default)]
pub(super) struct Acked {
    /// Bytes that weren't known to have arrived.
    pub(super) bytes: usize,
    /// Packets of which that wasn't known.
    pub(super) packets: u32,
    /// When the latest of them was sent, if that is beyond doubt.
    pub(super) sent_at: Option<Timestamp>,
    /// The latest sending among them.
    pub(super) latest_tx: u64,
    /// A packet of this size arrived that was to find out whether one can.
    pub(super) probe: Option<usize>,
    /// A packet that was taken for lost had only been overtaken.
    pub(super) spurious: bool,
}

/// What is lost.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// How many packets, without those that were longer than is known to arrive.
    pub(super) packets: u32,
    /// The latest sending among them.
    pub(super) latest_tx: u64,
    /// A packet of this size was lost that was to find out whether one can arrive.
    pub(super) probe: Option<usize>,
}

/// A packet to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub(super) seq: u16,
    pub(super) len: usize,
    pub(super) fin: bool,
    start: u64,
}

impl Send {
    /// Begins with the number `first`.
    pub(super) fn new(first: u16) -> Self {
        Self {
            runs: VecDeque::new(),
            written: 0,
            fresh: 0,
            fresh_run: 0,
            apart: 0,
            first,
            packets: VecDeque::new(),
            order: VecDeque::new(),
            lost: VecDeque::new(),
            in_flight: 0,
            next_tx: 1,
            arrived_tx: 0,
            arrived_at: Timestamp::ZERO,
            reordering: MIN_REORDERING,
            fin: false,
        }
    }

    pub(super) fn write(&mut self, data: Bytes) {
        if !data.is_empty() {
            let start = self.written;
            self.written += data.len() as u64;
            self.runs.push_back((start, data));
        }
    }

    /// What was written so far goes in packets that end where a run ends.
    pub(super) fn set_apart(&mut self) {
        self.apart = self.written;
    }

    /// Forgets what was written but never sent.
    pub(super) fn forget_fresh(&mut self) {
        self.written = self.fresh;
        while self.runs.back().is_some_and(|(start, _)| *start >= self.fresh) {
            self.runs.pop_back();
        }
        if let Some((start, data)) = self.runs.back_mut() {
            data.truncate((self.fresh - *start) as usize);
        }
        self.fresh_run = self.runs.len();
    }

    /// The bytes that were never sent.
    pub(super) fn waiting(&self) -> usize {
        (self.written - self.fresh) as usize
    }

    /// The bytes that are on their way, as far as we know.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// The bytes after the last that was acknowledged in order, of those that were sent.
    pub(super) fn unacked(&self) -> usize {
        self.packets.front().map_or(0, |first| (self.fresh - first.start) as usize)
    }

    /// Whether something was sent that isn't acknowledged.
    pub(super) fn is_outstanding(&self) -> bool {
        !self.packets.is_empty()
    }

    pub(super) fn has_lost(&self) -> bool {
        !self.lost.is_empty()
    }

    /// Whether the end was sent.
    pub(super) fn is_fin_sent(&self) -> bool {
        self.fin
    }

    /// The number of the next sending.
    pub(super) fn next_tx(&self) -> u64 {
        self.next_tx
    }

    pub(super) fn next_seq(&self) -> u16 {
        self.first.wrapping_add(self.packets.len() as u16)
    }

    /// The number that was last acknowledged in order.
    pub(super) fn last_acked(&self) -> u16 {
        self.first.wrapping_sub(1)
    }

    /// Whether more packets may have numbers: half of them at most, so that old and new can be told apart.
    pub(super) fn has_numbers(&self) -> bool {
        self.packets.len() < MAX_PACKETS
    }

    /// Whether `ack` can be an answer to what was sent.
    pub(super) fn is_plausible(&self, ack: u16) -> bool {
        let after = distance(self.first.wrapping_sub(1), ack);
        // What is older was overtaken by a later answer.
        i32::from(after) <= self.packets.len() as i32 && after > -(MAX_PACKETS as i16)
    }

    /// The next packet that was lost, if any.
    pub(super) fn peek_lost(&mut self) -> Option<Outgoing> {
        while let Some(seq) = self.lost.front().copied() {
            let at = distance(self.first, seq);
            if at >= 0
                && let Some(sent) = self.packets.get(at as usize)
                && sent.state == State::Lost
            {
                let fin = self.fin && at as usize + 1 == self.packets.len();
                return Some(Outgoing { seq, len: sent.len as usize, fin, start: sent.start });
            }
            self.lost.pop_front();
        }
        None
    }

    /// A packet with the next bytes that were never sent, `max` at most.
    pub(super) fn peek_fresh(&self, max: usize) -> Option<Outgoing> {
        let mut len = self.waiting().min(max);
        if let Some((start, run)) = self.runs.get(self.fresh_run).filter(|_| self.fresh < self.apart) {
            len = len.min((start + run.len() as u64 - self.fresh) as usize);
        }
        (len > 0).then(|| Outgoing { seq: self.next_seq(), len, fin: false, start: self.fresh })
    }

    /// A packet that ends the stream.
    pub(super) fn peek_fin(&self) -> Option<Outgoing> {
        let due = !self.fin && self.waiting() == 0;
        due.then(|| Outgoing { seq: self.next_seq(), len: 0, fin: true, start: self.fresh })
    }

    /// Appends the payload of `packet`, which was peeked last, and notes that it is on its way.
    pub(super) fn put(&mut self, now: Timestamp, packet: Outgoing, padding: usize, out: &mut BytesMut) {
        let tx = self.next_tx;
        self.next_tx += 1;
        let (at, again) = (usize::from(packet.seq.wrapping_sub(self.first)), self.lost.front().copied());
        let again = again == Some(packet.seq) && at < self.packets.len();
        let sent = Sent {
            start: packet.start,
            len: packet.len as u32,
            padding: padding as u32,
            at: now,
            tx,
            again,
            hurried: again && self.packets[at].hurried,
            state: State::Flying,
        };
        let from = if again {
            self.lost.pop_front();
            self.packets[at] = sent;
            self.runs.partition_point(|(start, _)| *start <= packet.start).saturating_sub(1)
        } else {
            self.packets.push_back(sent);
            self.fin |= packet.fin;
            self.fresh_run
        };
        self.in_flight += packet.len;
        self.order.push_back((tx, packet.seq));
        let run = self.copy(from, packet.start, packet.len, out);
        if !again {
            self.fresh += packet.len as u64;
            self.fresh_run = run;
        }
    }

    /// Appends `len` bytes from `start` on, which lies in the run `run`. Gives the run in which the byte after them lies.
    fn copy(&self, mut run: usize, start: u64, mut len: usize, out: &mut BytesMut) -> usize {
        let mut skip = self.runs.get(run).map_or(0, |(at, _)| (start - at) as usize);
        while len > 0 {
            let data = &self.runs[run].1[skip..];
            let part = &data[..data.len().min(len)];
            out.put_slice(part);
            len -= part.len();
            if part.len() < data.len() {
                break;
            }
            (run, skip) = (run + 1, 0);
        }
        run
    }

    /// Takes in an answer that [`Self::is_plausible`].
    pub(super) fn on_ack(
        &mut self,
        now: Timestamp,
        ack: u16,
        sack: &[u8],
        least_rtt: Option<Duration>,
    ) -> Acked {
        let mut acked = Acked::default();
        let whole = distance(self.first.wrapping_sub(1), ack);
        for _ in 0..whole {
            let sent = self.packets.pop_front().expect("the answer is plausible");
            self.arrive(now, sent, least_rtt, &mut acked);
            self.first = self.first.wrapping_add(1);
        }
        if whole > 0 {
            let below = self.packets.front().map_or(self.fresh, |first| first.start);
            while self.runs.front().is_some_and(|(start, data)| start + data.len() as u64 <= below) {
                self.runs.pop_front();
                self.fresh_run -= 1;
            }
        }
        // An answer that was overtaken knows less than we do, but what it knows is true.
        for (i, byte) in sack.iter().enumerate().filter(|(_, byte)| **byte != 0) {
            let base = distance(self.first, ack) as isize + 2 + 8 * i as isize;
            for bit in (0..8).filter(|bit| byte >> bit & 1 == 1) {
                let Ok(at) = usize::try_from(base + bit) else { continue };
                let Some(sent) = self.packets.get_mut(at) else { break };
                if sent.state != State::Arrived {
                    let copy = *sent;
                    sent.state = State::Arrived;
                    self.arrive(now, copy, least_rtt, &mut acked);
                }
            }
        }
        acked
    }

    fn arrive(&mut self, now: Timestamp, sent: Sent, least_rtt: Option<Duration>, acked: &mut Acked) {
        match sent.state {
            State::Arrived => return,
            State::Flying => self.in_flight -= sent.len as usize,
            State::Lost => {}
        }
        acked.bytes += sent.len as usize;
        acked.packets += 1;
        // Of a packet that was sent twice, the answer may be to the first. It is if it came sooner than one can.
        let too_soon = sent.again && least_rtt.is_some_and(|least| now.since(sent.at) < least);
        if sent.state == State::Lost || too_soon {
            if !sent.hurried {
                // It came late: what was sent this much later arrived before it.
                self.reordering = (self.reordering * 2).min(MAX_REORDERING);
                acked.spurious = true;
            }
            return;
        }
        if sent.tx > acked.latest_tx {
            acked.latest_tx = sent.tx;
            acked.sent_at = (!sent.again).then_some(sent.at);
        }
        if sent.tx > self.arrived_tx {
            (self.arrived_tx, self.arrived_at) = (sent.tx, sent.at);
        }
        if sent.padding > 0 {
            acked.probe = Some((sent.len + sent.padding) as usize);
        }
    }

    /// Takes packets for lost before which several arrived that were sent later, or one that was sent `late` later.
    pub(super) fn find_losses(&mut self, late: Duration) -> Losses {
        let (tx, at, reordering) = (self.arrived_tx, self.arrived_at, self.reordering);
        self.lose_while(|sent| sent.tx + reordering <= tx || sent.tx < tx && sent.at + late <= at)
    }

    /// Takes all packets for lost.
    pub(super) fn lose_all(&mut self) -> Losses {
        let losses = self.lose_while(|_| true);
        let first = self.first;
        self.lost.make_contiguous().sort_unstable_by_key(|seq| seq.wrapping_sub(first));
        losses
    }

    /// Sends the first packet that is missing again, whether it is lost or not. Gives its size if it was to find out
    /// whether one of that can arrive.
    pub(super) fn hurry_first(&mut self) -> Option<usize> {
        let seq = self.first;
        let sent = self.packets.front_mut().filter(|sent| sent.state == State::Flying)?;
        sent.state = State::Lost;
        sent.hurried = true;
        self.in_flight -= sent.len as usize;
        self.lost.push_front(seq);
        (sent.padding > 0).then_some((sent.len + sent.padding) as usize)
    }

    fn lose_while(&mut self, is_lost: impl Fn(&Sent) -> bool) -> Losses {
        let mut losses = Losses::default();
        while let Some((tx, seq)) = self.order.front().copied() {
            let at = distance(self.first, seq);
            let sent = usize::try_from(at).ok().and_then(|at| self.packets.get_mut(at));
            if let Some(sent) = sent.filter(|sent| sent.tx == tx && sent.state == State::Flying) {
                if !is_lost(sent) {
                    break;
                }
                sent.state = State::Lost;
                self.in_flight -= sent.len as usize;
                self.lost.push_back(seq);
                if sent.padding > 0 {
                    losses.probe = Some((sent.len + sent.padding) as usize);
                } else {
                    losses.packets += 1;
                    losses.latest_tx = tx;
                }
            }
            self.order.pop_front();
        }
        losses
    }

    /// The longest payload among the packets that are on their way.
    pub(super) fn longest(&self) -> usize {
        self.packets.iter().map(|sent| sent.len as usize).max().unwrap_or(0)
    }
}

/// Never the content.
impl fmt::Debug for Send {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Send")
            .field("runs", &self.runs.len())
            .field("written", &self.written)
            .field("fresh", &self.fresh)
            .field("first", &self.first)
            .field("packets", &self.packets.len())
            .field("lost", &self.lost)
            .field("in_flight", &self.in_flight)
            .field("next_tx", &self.next_tx)
            .field("arrived_tx", &self.arrived_tx)
            .field("reordering", &self.reordering)
            .field("fin", &self.fin)
            .finish()
    }
}

/// Packets with a number at once.
const MAX_PACKETS: usize = 1 << 14;

/// BEP 29: three packets that arrive before one tell that it is lost.
const MIN_REORDERING: u64 = 3;

/// A network that lets more packets overtake one makes us send that one twice.
const MAX_REORDERING: u64 = 192;
