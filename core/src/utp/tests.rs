//! Two ports over a link that does to datagrams whatever a test wants.

use super::header::distance;
use super::{
    Action, Config, End, HEADER_LEN, HalfOpen, Header, Kind, MAX_HALF_OPEN, MAX_RESETS_PER_S, Packet, Status,
    StreamId, Utp,
};
use crate::machine::{Machine as _, Outbox, Timestamp};
use crate::rng::Rng;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use bytes::{Bytes, BytesMut};
use core::net::SocketAddr;
use core::time::Duration;

const MS: Duration = Duration::from_millis(1);

/// What the link does.
#[derive(Clone, Copy, Debug)]
struct Link {
    delay: Duration,
    /// Of a thousand datagrams, so many are lost, come twice, are overtaken or come cut off.
    lost: u64,
    doubled: u64,
    late: u64,
    cut: u64,
    /// Now and then nothing arrives for so long.
    spike: Duration,
    /// Longer datagrams vanish.
    mtu: usize,
}

const CLEAN: Link = Link {
    delay: Duration::from_millis(20),
    lost: 0,
    doubled: 0,
    late: 0,
    cut: 0,
    spike: Duration::ZERO,
    mtu: 1472,
};

#[derive(Debug)]
struct End1 {
    addr: SocketAddr,
    utp: Utp,
    stream: Option<StreamId>,
    /// What it has to say in all, and how much of that it has written.
    says: u64,
    written: u64,
    heard: u64,
    credit: u32,
    ended: Option<End>,
    sent_bytes: usize,
    connected: bool,
    /// Gives no credit for what it hears.
    greedy: bool,
}

struct World {
    now: Timestamp,
    ends: [End1; 2],
    link: Link,
    rng: Rng,
    on_way: BTreeMap<(Timestamp, u64), (usize, Bytes)>,
    count: u64,
    stalled_until: Timestamp,
    longest_silence: Duration,
    heard_at: Timestamp,
}

/// The byte at a position of the stream that `end` sends.
fn byte(end: usize, position: u64) -> u8 {
    (position.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8 ^ end as u8
}

impl World {
    fn new(seed: u64, link: Link, says: [u64; 2]) -> Self {
        let root = Rng::from_number(seed);
        let end = |i: usize| End1 {
            addr: [addr(1), addr(2)][i],
            utp: Utp::new(Config::default(), root.fork_nth("end", i as u64)),
            stream: None,
            says: says[i],
            written: 0,
            heard: 0,
            credit: 1 << 20,
            ended: None,
            sent_bytes: 0,
            connected: false,
            greedy: false,
        };
        Self {
            // The clock of packets goes round after 71 minutes.
            now: Timestamp::from_micros(u64::from(u32::MAX) - 1_000_000),
            ends: [end(0), end(1)],
            link,
            rng: root.fork("link"),
            on_way: BTreeMap::new(),
            count: 0,
            stalled_until: Timestamp::ZERO,
            longest_silence: Duration::ZERO,
            heard_at: Timestamp::ZERO,
        }
    }

    fn connect(&mut self) {
        let mut out = Outbox::new();
        let to = self.ends[1].addr;
        self.ends[0].stream = self.ends[0].utp.connect(self.now, to, &mut out);
        self.heard_at = self.now;
        self.settle(0, out);
    }

    fn status(&self, end: usize) -> Status {
        let end = &self.ends[end];
        end.utp.status(end.stream.unwrap()).unwrap()
    }

    /// Does what one end said, and pulls what it sends.
    fn settle(&mut self, i: usize, mut out: Outbox<Action>) {
        while let Some(action) = out.pop_front() {
            let end = &mut self.ends[i];
            match action {
                Action::Closed { stream, end: how } => {
                    assert_eq!((Some(stream), end.ended), (end.stream, None));
                    end.ended = Some(how);
                }
                Action::Connected { stream } => {
                    assert!(end.stream == Some(stream) && !end.connected);
                    end.connected = true;
                    end.utp.set_credit(stream, end.credit, &mut out);
                    self.fill(i, &mut out);
                }
                Action::Incoming { stream, from } => {
                    assert!(end.stream.is_none() && from != end.addr);
                    end.stream = Some(stream);
                    end.connected = true;
                    end.utp.set_credit(stream, end.credit, &mut out);
                    self.fill(i, &mut out);
                }
                Action::Received { stream, data } => {
                    assert!(end.stream == Some(stream) && end.ended.is_none() && !data.is_empty());
                    for (at, got) in (end.heard..).zip(&data) {
                        assert_eq!(*got, byte(1 - i, at), "the stream is what was sent, at {at}");
                    }
                    end.heard += data.len() as u64;
                    if !end.greedy {
                        end.utp.set_credit(stream, end.credit, &mut out);
                    }
                    self.longest_silence = self.longest_silence.max(self.now.since(self.heard_at));
                    self.heard_at = self.now;
                }
                Action::WantSend => {}
                Action::Writable { room, .. } => {
                    assert!(room > 0);
                    self.fill(i, &mut out);
                }
            }
        }
        self.pull(i);
    }

    fn fill(&mut self, i: usize, out: &mut Outbox<Action>) {
        let end = &mut self.ends[i];
        let stream = end.stream.unwrap();
        let room = end.utp.room(stream) as u64;
        let len = room.min(end.says - end.written);
        // In runs of lengths that suit nobody.
        let bytes: Vec<u8> = (end.written..end.written + len).map(|at| byte(i, at)).collect();
        let whole = Bytes::from(bytes);
        let runs = (0..whole.len()).step_by(777).map(|at| whole.slice(at..whole.len().min(at + 777)));
        end.written += len;
        end.utp.write(self.now, stream, runs, out);
    }

    fn pull(&mut self, i: usize) {
        let mut buffer = BytesMut::new();
        loop {
            buffer.clear();
            let end = &mut self.ends[i];
            let Some(transmit) = end.utp.poll_transmit(self.now, &mut buffer, 10) else { break };
            assert_eq!(transmit.to, self.ends[1 - i].addr);
            assert!(buffer.len() <= transmit.segment_len * 10);
            let mut has_data = false;
            for segment in buffer.chunks(transmit.segment_len) {
                has_data |= Packet::parse(segment).unwrap().header.kind == Kind::Data;
                self.ends[i].sent_bytes += segment.len();
                self.send(1 - i, Bytes::copy_from_slice(segment));
            }
            if has_data {
                // A window may shrink below what is on its way, but nothing is added to that then.
                let status = self.status(i);
                assert!(status.in_flight <= status.window.max(status.payload_len), "{status:?}");
            }
        }
    }

    fn send(&mut self, to: usize, mut data: Bytes) {
        let (link, rng) = (self.link, &mut self.rng);
        if data.len() > link.mtu || rng.chance(link.lost, 1000) {
            return;
        }
        if !link.spike.is_zero() && rng.chance(1, 1000) {
            self.stalled_until = self.now + link.spike;
        }
        if rng.chance(link.cut, 1000) {
            data.truncate(rng.below(data.len() as u64) as usize % HEADER_LEN);
        }
        let copies = 1 + usize::from(rng.chance(link.doubled, 1000));
        for _ in 0..copies {
            let late = if self.rng.chance(link.late, 1000) { self.rng.below(30_000) } else { 0 };
            let at = self.now.max(self.stalled_until) + link.delay + Duration::from_micros(late);
            self.count += 1;
            self.on_way.insert((at, self.count), (to, data.clone()));
        }
    }

    /// Lives until something is so, or so much time has passed. Tells whether it is.
    fn run(&mut self, limit: Duration, until: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + limit;
        while !until(self) {
            let arrival = self.on_way.first_key_value().map(|((at, _), _)| *at);
            let due = self.ends.each_ref().map(|end| end.utp.poll_timeout().map(|due| due.at));
            let Some(next) = arrival.into_iter().chain(due.into_iter().flatten()).min() else {
                return until(self);
            };
            if next > end {
                self.now = end;
                return until(self);
            }
            self.now = self.now.max(next);
            if arrival == Some(next) {
                let (_, (to, data)) = self.on_way.pop_first().unwrap();
                let (from, mut out) = (self.ends[1 - to].addr, Outbox::new());
                self.ends[to].utp.handle_datagram(self.now, from, data, &mut out);
                self.settle(to, out);
            }
            for i in 0..2 {
                if due[i].is_some_and(|due| due <= self.now) {
                    let mut out = Outbox::new();
                    self.ends[i].utp.handle_timeout(self.now, &mut out);
                    self.settle(i, out);
                }
            }
        }
        true
    }

    fn is_all_heard(&self) -> bool {
        self.ends[0].heard == self.ends[1].says && self.ends[1].heard == self.ends[0].says
    }
}

fn addr(n: u8) -> SocketAddr {
    ([93, 184, 216, n], 6881).into()
}

#[test]
fn a_stream_carries_both_ways_and_closes() {
    let mut world = World::new(1, CLEAN, [3_000_000, 500_000]);
    world.connect();
    assert!(world.run(Duration::from_secs(60), World::is_all_heard), "{:?}", world.ends);
    assert_eq!(world.status(0).payload_len, 1452, "the path was measured");
    let mut out = Outbox::new();
    let stream = world.ends[0].stream.unwrap();
    world.ends[0].utp.close(world.now, stream, &mut out);
    world.settle(0, out);
    assert!(world.run(Duration::from_secs(5), |world| world.ends[1].ended.is_some()));
    assert_eq!(world.ends[1].ended, Some(End::Finished));
    assert!(
        world.run(Duration::from_secs(5), |world| world.ends.iter().all(|end| end.utp.counts() == (0, 0)))
    );
    assert_eq!(world.ends[0].ended, None, "who closed knows it");
}

#[test]
fn both_ends_know_the_round_trip_from_the_start() {
    let mut world = World::new(1, CLEAN, [0, 0]);
    world.connect();
    assert!(world.run(Duration::from_secs(1), |world| world.ends.iter().all(|end| end.connected)));
    assert_eq!([0, 1].map(|end| world.status(end).rtt), [Some(2 * CLEAN.delay); 2]);
}

/// Row U-03; the environment of the compiler says for how many paths.
#[test]
fn whatever_the_path_does_the_stream_is_what_was_sent() {
    let paths = option_env!("UTP_PATHS").map_or(300, |paths| paths.parse().expect("UTP_PATHS is a number"));
    for seed in 0..paths {
        let mut rng = Rng::from_number(seed);
        let link = Link {
            delay: Duration::from_micros(rng.below(150_000)),
            lost: rng.below(5) * rng.below(50),
            doubled: rng.below(2) * rng.below(300),
            late: rng.below(2) * rng.below(500),
            cut: rng.below(2) * rng.below(100),
            spike: Duration::from_secs(rng.below(2) * rng.below(6)),
            mtu: 1200 + rng.below(400) as usize,
        };
        let says = [rng.below(300_000), rng.below(100_000) * rng.below(2)];
        let mut world = World::new(seed, link, says);
        world.connect();
        if !world.run(Duration::from_secs(20), |world| world.ends.iter().all(|end| end.connected)) {
            assert!(link.lost + link.cut > 100 || !link.spike.is_zero(), "{seed}: {link:?}");
            continue;
        }
        let done = world.run(Duration::from_secs(3000), World::is_all_heard);
        assert!(done, "{seed}: {link:?}, {:?}", world.ends);
        let patience = Duration::from_secs(if link.lost <= 200 { 30 } else { 60 });
        assert!(world.longest_silence < patience, "{seed}: {link:?}, {:?}", world.longest_silence);
    }
}

#[test]
fn half_of_all_may_be_lost() {
    let mut world = World::new(5, CLEAN, [100_000, 0]);
    world.connect();
    assert!(world.run(Duration::from_secs(20), |world| world.ends.iter().all(|end| end.connected)));
    world.link.lost = 500;
    assert!(world.run(Duration::from_secs(600), World::is_all_heard), "{:?}", world.ends);
}

#[test]
fn numbers_may_go_round() {
    let mut world = World::new(3, Link { lost: 5, ..CLEAN }, [140_000_000, 0]);
    world.connect();
    assert!(world.run(Duration::from_secs(600), World::is_all_heard), "{:?}", world.ends);
}

#[test]
fn the_path_is_measured_and_a_probe_that_vanishes_costs_nothing() {
    let mut world = World::new(4, Link { mtu: 1300, ..CLEAN }, [30_000_000, 0]);
    world.connect();
    assert!(world.run(Duration::from_secs(60), World::is_all_heard));
    let status = world.status(0);
    assert!((1300 - 40..=1280).contains(&status.payload_len), "{status:?}");
    assert!(world.longest_silence < 300 * MS, "{:?}", world.longest_silence);
}

/// Rows U-01 and U-02.
#[test]
fn a_spoofed_syn_gets_no_more_than_it_cost() {
    let mut utp = Utp::new(Config::default(), Rng::from_number(1));
    let (mut out, mut buffer) = (Outbox::new(), BytesMut::new());
    let (mut came, mut went) = (0, 0);
    for n in 0..5000_u32 {
        let now = Timestamp::from_micros(u64::from(n) * 100);
        let from = SocketAddr::from(([1, 2, (n >> 8) as u8, n as u8], 7));
        let syn = packet(Kind::Syn, n as u16, 7, 0);
        came += syn.len();
        utp.handle_datagram(now, from, syn, &mut out);
        while let Some(transmit) = utp.poll_transmit(now, &mut buffer, 64) {
            assert_eq!((transmit.to, transmit.segment_len), (from, HEADER_LEN));
        }
        went += buffer.split().len();
        assert!(utp.counts().1 <= MAX_HALF_OPEN);
    }
    assert_eq!(utp.counts(), (0, MAX_HALF_OPEN), "the cap fires");
    assert_eq!(came, went);
    assert!(out.drain(..).all(|action| action == Action::WantSend));
    while let Some(due) = utp.poll_timeout() {
        utp.handle_timeout(due.at, &mut out);
        assert_eq!(utp.poll_transmit(due.at, &mut buffer, 64), None, "nothing is sent twice");
    }
    assert_eq!((utp.counts(), out.len()), ((0, 0), 0));
    // With the keys, and what trees and rows need beside them.
    assert!(2 * size_of::<((SocketAddr, u16), HalfOpen, Timestamp)>() <= 200);
}

#[test]
fn only_who_got_our_number_has_a_stream() {
    let mut utp = Utp::new(Config::default(), Rng::from_number(1));
    let (mut out, now) = (Outbox::new(), Timestamp::ZERO);
    utp.handle_datagram(now, addr(1), packet(Kind::Syn, 10, 100, 0), &mut out);
    let state = pull(&mut utp, now).remove(0);
    assert_eq!((state.kind, state.connection, state.ack), (Kind::State, 10, 100));
    utp.handle_datagram(now, addr(1), packet(Kind::Syn, 10, 100, 0), &mut out);
    assert_eq!(pull(&mut utp, now).remove(0).seq, state.seq, "a SYN that is sent again is answered alike");
    out.clear();
    let wrong = state.seq.wrapping_add(7);
    utp.handle_datagram(now, addr(1), packet(Kind::Data, 11, 101, wrong), &mut out);
    assert_eq!((out.len(), utp.counts()), (0, (0, 1)));
    utp.handle_datagram(now, addr(1), packet(Kind::State, 11, 101, state.seq.wrapping_sub(1)), &mut out);
    assert_eq!(out[0], Action::Incoming { stream: StreamId(1), from: addr(1) });
    assert_eq!(utp.counts(), (1, 0));
}

#[test]
fn streams_are_as_many_as_may_be() {
    let config = Config { max_streams: 2, ..Config::default() };
    let mut utp = Utp::new(config, Rng::from_number(1));
    let (mut out, now) = (Outbox::new(), Timestamp::ZERO);
    utp.handle_datagram(now, addr(1), packet(Kind::Syn, 10, 100, 0), &mut out);
    let state = pull(&mut utp, now).remove(0);
    assert!(utp.connect(now, addr(1), &mut out).is_some() && utp.connect(now, addr(2), &mut out).is_some());
    assert_eq!(utp.connect(now, addr(3), &mut out), None);
    utp.handle_datagram(now, addr(1), packet(Kind::State, 11, 101, state.seq.wrapping_sub(1)), &mut out);
    assert!(out.iter().all(|action| *action == Action::WantSend));
    pull(&mut utp, now);
    utp.handle_datagram(now, addr(4), packet(Kind::Syn, 10, 100, 0), &mut out);
    assert_eq!(pull(&mut utp, now), []);
}

#[test]
fn what_was_closed_gives_up_its_place() {
    let config = Config { max_streams: 1, ..Config::default() };
    let mut utp = Utp::new(config, Rng::from_number(1));
    let (mut out, now) = (Outbox::new(), Timestamp::ZERO);
    utp.handle_datagram(now, addr(1), packet(Kind::Syn, 10, 100, 0), &mut out);
    let state = pull(&mut utp, now).remove(0);
    utp.handle_datagram(now, addr(1), packet(Kind::State, 11, 101, state.seq.wrapping_sub(1)), &mut out);
    let open = out.iter().find_map(|action| match action {
        Action::Incoming { stream, .. } => Some(*stream),
        _ => None,
    });
    assert_eq!(utp.connect(now, addr(3), &mut out), None);
    utp.close(now, open.unwrap(), &mut out);
    assert!(utp.connect(now, addr(3), &mut out).is_some(), "its end was not acknowledged");
    pull(&mut utp, now);
}

#[test]
fn a_burst_that_is_lost_with_the_first_probe_costs_no_timeout() {
    let mut world = World::new(5, CLEAN, [4_000_000, 0]);
    world.connect();
    assert!(world.run(Duration::from_secs(30), |world| world.ends[1].heard > 1_000_000));
    let from = world.now;
    world.link.lost = 1000;
    world.run(150 * MS, |_| false);
    world.link.lost = 0;
    let heard = world.ends[1].heard;
    assert!(world.run(Duration::from_secs(5), |world| world.ends[1].heard > heard + 100_000));
    assert!(world.now.since(from) < 480 * MS, "{:?}", world.now.since(from));
    assert!(world.run(Duration::from_secs(30), World::is_all_heard));
}

#[test]
fn strangers_are_reset_but_not_all_of_them() {
    let mut utp = Utp::new(Config::default(), Rng::from_number(1));
    let (mut out, now) = (Outbox::new(), Timestamp::ZERO);
    for n in 0..100 {
        utp.handle_datagram(now, addr(n), packet(Kind::Data, 5, 6, 7), &mut out);
        utp.handle_datagram(now, addr(n), packet(Kind::Reset, 5, 6, 7), &mut out);
    }
    let resets = pull(&mut utp, now);
    assert_eq!(resets.len(), MAX_RESETS_PER_S as usize);
    assert!(resets.iter().all(|reset| (reset.kind, reset.connection, reset.ack) == (Kind::Reset, 5, 6)));
    let later = Timestamp::from_micros(1_000_000);
    utp.handle_datagram(later, addr(1), packet(Kind::Data, 5, 6, 7), &mut out);
    assert_eq!(pull(&mut utp, later).len(), 1);
}

#[test]
fn only_a_reset_with_its_name_ends_a_stream() {
    for (name, ends) in [(0_u16, true), (1, true), (2, false), (u16::MAX, false)] {
        let mut world = World::new(6, CLEAN, [1000, 0]);
        world.connect();
        assert!(world.run(Duration::from_secs(5), World::is_all_heard));
        let hears = world.ends[0].utp.streams.values().next().unwrap().names().0;
        let mut out = Outbox::new();
        let reset = packet(Kind::Reset, hears.wrapping_add(name), 1, 1);
        world.ends[0].utp.handle_datagram(world.now, addr(3), reset.clone(), &mut out);
        assert_eq!(out.len(), 0, "it comes from another address");
        world.ends[0].utp.handle_datagram(world.now, addr(2), reset, &mut out);
        let closed = Action::Closed { stream: world.ends[0].stream.unwrap(), end: End::Reset };
        assert_eq!(out.contains(&closed), ends, "{name}");
    }
}

#[test]
fn who_never_answers_is_given_up() {
    let mut world = World::new(7, Link { lost: 1000, ..CLEAN }, [1000, 0]);
    world.connect();
    assert!(world.run(Duration::from_secs(15), |world| world.ends[0].ended == Some(End::TimedOut)));
    let mut world = World::new(7, CLEAN, [1000, 100_000_000]);
    world.connect();
    world.run(Duration::from_secs(1), |_| false);
    world.link.lost = 1000;
    assert!(world.run(Duration::from_secs(90), |world| world.ends[1].ended == Some(End::TimedOut)));
}

#[test]
fn a_stream_without_use_is_kept_alive() {
    let mut world = World::new(8, CLEAN, [1000, 1000]);
    world.connect();
    world.run(Duration::from_secs(600), |_| false);
    let sent = world.ends[0].sent_bytes;
    assert!(world.is_all_heard() && world.ends.iter().all(|end| end.ended.is_none()));
    world.run(Duration::from_secs(290), |_| false);
    assert_eq!(world.ends[0].sent_bytes - sent, 10 * HEADER_LEN);
}

#[test]
fn a_closed_window_stops_the_sender_and_a_lost_update_does_not_stop_it_for_ever() {
    let mut world = World::new(9, CLEAN, [3_000_000, 0]);
    world.ends[1].greedy = true;
    world.connect();
    world.run(Duration::from_secs(60), |_| false);
    // The first packet came before there was any credit.
    assert_eq!(world.ends[1].heard, (1 << 20) + 1180, "as much as there was credit for");
    // The packet that tells of new room is lost.
    world.link.lost = 1000;
    let (stream, mut out) = (world.ends[1].stream.unwrap(), Outbox::new());
    world.ends[1].greedy = false;
    world.ends[1].utp.set_credit(stream, 1 << 20, &mut out);
    world.settle(1, out);
    world.link.lost = 0;
    assert!(world.run(Duration::from_secs(30), World::is_all_heard), "{:?}", world.ends);
}

#[test]
fn what_was_closed_is_forgotten_in_time() {
    let mut world = World::new(10, CLEAN, [3_000_000, 0]);
    world.ends[1].greedy = true;
    world.connect();
    world.run(Duration::from_secs(30), |_| false);
    let (stream, mut out) = (world.ends[0].stream.unwrap(), Outbox::new());
    world.ends[0].utp.close(world.now, stream, &mut out);
    world.settle(0, out);
    assert!(world.run(Duration::from_secs(61), |world| world.ends[0].utp.counts() == (0, 0)));
}

/// Row U-04: who acknowledges what was never sent is not heard.
#[test]
fn answers_to_what_was_never_sent_count_for_nothing() {
    let mut world = World::new(11, CLEAN, [0, 0]);
    world.connect();
    world.run(Duration::from_secs(1), |world| world.ends.iter().all(|end| end.connected));
    world.ends[0].says = 1 << 20;
    let mut out = Outbox::new();
    world.fill(0, &mut out);
    world.settle(0, out);
    let (window, flying) = (world.status(0).window, world.status(0).in_flight);
    assert!(flying > 0);
    let hears = world.ends[0].utp.streams.values().next().unwrap().names().0;
    let last = world.ends[0].utp.streams.values().next().unwrap().farewell().seq;
    for ahead in [0, 1, 100, 20_000] {
        let mut lie = BytesMut::from(&packet(Kind::State, hears, 1, last.wrapping_add(ahead))[..]);
        lie[1] = 1;
        lie.extend_from_slice(&[0, 32]);
        lie.extend_from_slice(&[0xff; 32]);
        let mut out = Outbox::new();
        world.ends[0].utp.handle_datagram(world.now, addr(2), lie.freeze(), &mut out);
        assert_eq!((world.status(0).window, world.status(0).in_flight), (window, flying));
    }
    assert!(world.run(Duration::from_secs(30), World::is_all_heard));
}

#[test]
fn answers_of_many_packets_are_one() {
    let mut world = World::new(12, CLEAN, [1 << 20, 0]);
    world.connect();
    world.run(Duration::from_secs(1), |world| world.ends.iter().all(|end| end.connected));
    let now = world.now;
    let mut data = world.on_way.values().filter(|(to, _)| *to == 1).map(|(_, data)| data.clone());
    let (first, second) = (data.next().unwrap(), data.next().unwrap());
    drop(data);
    let mut out = Outbox::new();
    world.ends[1].utp.handle_datagram(now, addr(1), first, &mut out);
    world.ends[1].utp.handle_datagram(now, addr(1), second, &mut out);
    let answers = pull(&mut world.ends[1].utp, now);
    assert_eq!((answers.len(), answers[0].kind), (1, Kind::State));
}

#[test]
fn parts_that_were_written_apart_share_no_packet() {
    let mut world = World::new(1, CLEAN, [0, 0]);
    world.connect();
    assert!(world.run(Duration::from_secs(1), |world| world.ends[0].connected));
    let (now, mut out) = (world.now, Outbox::new());
    let End1 { utp, stream: Some(stream), .. } = &mut world.ends[0] else { panic!("it is open") };
    let stream = *stream;
    let parts = |lens: &'static [usize]| lens.iter().map(|len| Bytes::from(vec![0; *len]));
    utp.write_apart(now, stream, parts(&[68, 0, 100, 1500]), &mut out);
    utp.write(now, stream, parts(&[10, 20]), &mut out);
    let mut lens = vec![];
    let mut buffer = BytesMut::new();
    while let Some(transmit) = utp.poll_transmit(now, &mut buffer, 9) {
        for data in buffer.chunks(transmit.segment_len) {
            lens.extend(Some(Packet::parse(data).unwrap().payload.len()).filter(|len| *len > 0));
        }
        buffer.clear();
    }
    assert!(matches!(lens[..], [68, 100, full, rest, 30] if full + rest == 1500), "{lens:?}");
}

fn packet(kind: Kind, connection: u16, seq: u16, ack: u16) -> Bytes {
    let mut bytes = BytesMut::new();
    Header { kind, connection, timestamp: 1, difference: 0, window: 1 << 16, seq, ack }.encode(&mut bytes);
    bytes.freeze()
}

fn pull(utp: &mut Utp, now: Timestamp) -> Vec<Header> {
    let (mut all, mut buffer) = (vec![], BytesMut::new());
    while let Some(transmit) = utp.poll_transmit(now, &mut buffer, 64) {
        let data = buffer.split();
        all.extend(data.chunks(transmit.segment_len).map(|packet| Packet::parse(packet).unwrap().header));
    }
    assert!(all.windows(2).all(|pair| distance(pair[0].ack, pair[1].ack) < i16::MAX));
    all
}
