//! The path, and what travels on it.

use super::pair::{Lie, Pair, RECEIVER, SENDER};
use super::tcp::{Control, Tcp};
use bytes::Bytes;
use core::time::Duration;
use fast_peer_core::machine::Timestamp;
use fast_peer_core::rng::Rng;
use std::collections::BTreeMap;

/// The narrowest link, and the way to it and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// What the link carries.
    pub rate_bytes_per_s: u64,
    /// How long a packet and its answer take when nobody waits.
    pub rtt: Duration,
    /// How long the queue may become.
    pub buffer: Duration,
    /// Of ten thousand packets, so many are lost by accident, in each direction.
    pub lost: u64,
}

/// Somebody who sends as much as may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// A model of a TCP.
    Tcp(Control),
    /// A stream of uTP whose receiver is honest, or isn't.
    Utp(Option<Lie>),
}

/// Who sends, and from when on.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// The flows, each with its start.
    pub flows: &'a [(Flow, Duration)],
    /// What comes before this doesn't count.
    pub measured_from: Duration,
    /// When it is over.
    pub until: Duration,
    /// What is drawn from.
    pub seed: u64,
}

/// What was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The bytes of content that each flow carried.
    pub carried: Vec<u64>,
    /// The bytes that each flow took of the link, with headers and what was lost behind it.
    pub taken: Vec<u64>,
    /// The bytes that the link could have carried.
    pub possible: u64,
    /// The mean delay in the queue, over time.
    pub mean_delay: Duration,
    /// The delay that was exceeded in a twentieth of the time.
    pub high_delay: Duration,
}

impl Outcome {
    /// The share of the link that a flow's content had, of a thousand.
    pub fn permille(&self, flow: usize) -> u64 {
        self.carried[flow] * 1000 / self.possible.max(1)
    }

    /// The share of the link that a flow took, of a thousand.
    pub fn taken_permille(&self, flow: usize) -> u64 {
        self.taken[flow] * 1000 / self.possible.max(1)
    }
}

/// Lives through a plan.
pub fn run(path: Path, plan: Plan<'_>) -> Outcome {
    let root = Rng::from_number(plan.seed);
    let mut world = World {
        path,
        now: Timestamp::ZERO,
        accidents: vec![],
        flows: vec![],
        events: BTreeMap::new(),
        count: 0,
        busy_until: Timestamp::ZERO,
        outcome: Outcome::default(),
        counts: false,
    };
    for (i, (flow, start)) in plan.flows.iter().enumerate() {
        let of_path = root.fork("path").fork_nth("flow", i as u64);
        world.accidents.push(["forth", "back"].map(|way| of_path.fork(way)));
        let start = Timestamp::ZERO + *start;
        let kind = match flow {
            Flow::Tcp(control) => Kind::Tcp(Tcp::new(start, *control), 0),
            Flow::Utp(lie) => Kind::Utp(Box::new(Pair::new(&root.fork_nth("flow", i as u64), *lie))),
        };
        world.flows.push((kind, [None; 2]));
        world.push(start, Event::Start(i));
    }
    world.outcome.carried = vec![0; plan.flows.len()];
    world.outcome.taken = vec![0; plan.flows.len()];
    world.live(plan)
}

struct World {
    path: Path,
    now: Timestamp,
    /// What befalls the packets of each flow there and back, whoever else sends: so what a flow loses to another can be told
    /// from its luck.
    accidents: Vec<[Rng; 2]>,
    /// The flows, each with the deadlines of its ends.
    flows: Vec<(Kind, [Option<Timestamp>; 2])>,
    events: BTreeMap<(Timestamp, u64), Event>,
    count: u64,
    /// When all is sent that waits.
    busy_until: Timestamp,
    outcome: Outcome,
    counts: bool,
}

enum Kind {
    /// With the packets that arrived.
    Tcp(Tcp, u64),
    Utp(Box<Pair>),
}

enum Event {
    Datagram { flow: usize, end: usize, data: Bytes },
    Number { flow: usize, end: usize, number: u64 },
    Start(usize),
    Due { flow: usize, end: usize },
}

impl World {
    fn live(mut self, plan: Plan<'_>) -> Outcome {
        let (from, until) = (Timestamp::ZERO + plan.measured_from, Timestamp::ZERO + plan.until);
        let (mut delays, mut next_look, mut before) = (vec![], from, vec![]);
        while let Some(((at, _), event)) = self.events.pop_first() {
            while next_look <= at.min(until) {
                delays.push(self.busy_until.since(next_look));
                next_look = next_look + Duration::from_millis(5);
            }
            if !self.counts && at >= from {
                self.counts = true;
                before = self.received();
            }
            if at >= until {
                break;
            }
            self.now = at;
            self.happen(event);
        }
        self.outcome.carried =
            self.received().iter().zip(&before).map(|(after, before)| after - before).collect();
        self.outcome.possible = (u128::from(self.path.rate_bytes_per_s)
            * (plan.until - plan.measured_from).as_micros()
            / 1_000_000) as u64;
        delays.sort_unstable();
        if !delays.is_empty() {
            self.outcome.mean_delay = delays.iter().sum::<Duration>() / delays.len() as u32;
            self.outcome.high_delay = delays[delays.len() * 19 / 20];
        }
        self.outcome
    }

    fn received(&self) -> Vec<u64> {
        let received = self.flows.iter().map(|(kind, _)| match kind {
            Kind::Tcp(_, packets) => packets * TCP_PAYLOAD,
            Kind::Utp(pair) => pair.received,
        });
        received.collect()
    }

    fn happen(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Start(flow) => {
                if let Kind::Utp(pair) = &mut self.flows[flow].0 {
                    pair.start(now);
                }
                self.pull(flow, SENDER);
            }
            Event::Datagram { flow, end, data } => {
                if let Kind::Utp(pair) = &mut self.flows[flow].0 {
                    pair.handle(now, end, data);
                }
                self.pull(flow, end);
            }
            Event::Number { flow, end: RECEIVER, number } => {
                if let Kind::Tcp(_, packets) = &mut self.flows[flow].0 {
                    *packets += 1;
                }
                self.back(flow, Event::Number { flow, end: SENDER, number });
            }
            Event::Number { flow, number, .. } => {
                if let Kind::Tcp(tcp, _) = &mut self.flows[flow].0 {
                    tcp.on_ack(now, number);
                }
                self.pull(flow, SENDER);
            }
            Event::Due { flow, end } => {
                let (kind, filed) = &mut self.flows[flow];
                if filed[end] == Some(now) {
                    filed[end] = None;
                }
                match kind {
                    Kind::Tcp(tcp, _) => {
                        if tcp.deadline().is_some_and(|at| at <= now) {
                            tcp.on_timeout(now);
                        }
                    }
                    Kind::Utp(pair) => pair.on_timeout(now, end),
                }
                self.pull(flow, end);
            }
        }
    }

    /// Sends what an end has to send, and asks when it wants to be woken.
    fn pull(&mut self, flow: usize, end: usize) {
        let now = self.now;
        match &mut self.flows[flow].0 {
            Kind::Tcp(tcp, _) => {
                let numbers: Vec<u64> = std::iter::from_fn(|| tcp.poll(now)).collect();
                for number in numbers {
                    self.forth(flow, TCP_WIRE, Event::Number { flow, end: RECEIVER, number });
                }
            }
            Kind::Utp(pair) => {
                for data in pair.pull(now, end) {
                    let len = data.len() as u64 + UDP_HEADERS;
                    let event = Event::Datagram { flow, end: 1 - end, data };
                    if end == SENDER { self.forth(flow, len, event) } else { self.back(flow, event) }
                }
            }
        }
        let (kind, filed) = &mut self.flows[flow];
        let due = match kind {
            Kind::Tcp(tcp, _) => tcp.deadline(),
            Kind::Utp(pair) => pair.deadline(end),
        };
        if let Some(due) = due.map(|due| due.max(now))
            && filed[end].is_none_or(|filed| due < filed)
        {
            filed[end] = Some(due);
            self.push(due, Event::Due { flow, end });
        }
    }

    /// Through the queue.
    fn forth(&mut self, flow: usize, len: u64, event: Event) {
        let waits = self.busy_until.since(self.now);
        if waits > self.path.buffer {
            return;
        }
        let takes = Duration::from_nanos(len * 1_000_000_000 / self.path.rate_bytes_per_s);
        self.busy_until = self.busy_until.max(self.now) + takes;
        if self.counts {
            self.outcome.taken[flow] += len;
        }
        if !self.accidents[flow][0].chance(self.path.lost, 10_000) {
            self.push(self.busy_until + self.path.rtt / 2, event);
        }
    }

    fn back(&mut self, flow: usize, event: Event) {
        if !self.accidents[flow][1].chance(self.path.lost, 10_000) {
            self.push(self.now + self.path.rtt / 2, event);
        }
    }

    fn push(&mut self, at: Timestamp, event: Event) {
        self.count += 1;
        self.events.insert((at, self.count), event);
    }
}

/// The bytes of a full packet of TCP, and what it carries.
const TCP_WIRE: u64 = 1500;
const TCP_PAYLOAD: u64 = 1448;

/// Those of IPv4 and UDP.
const UDP_HEADERS: u64 = 28;
