//! What every [`Machine`] promises, checked on all of them alike.
//!
//! Two machines of one seed live through the same random life, in which times are met exactly, missed by a microsecond
//! or overslept, and much of what happens makes no sense.

mod conversing;
mod fetching;
mod mapping;
mod mse;
mod node;
mod proxy;
mod punching;
mod sources;
mod storing;
mod streaming;
mod trackers;

use crate::dht;
use crate::machine::{Machine, Outbox, Timestamp};
use crate::rng::Rng;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use conversing::Conversing;
use core::fmt::Debug;
use core::net::SocketAddr;
use core::time::Duration;
use fetching::Fetching;
use proxy::Negotiating;
use punching::Punching;
use sources::{Calling, Discovering, Telling};
use storing::Storing;
use trackers::{Announcing, Asking};

#[test]
fn the_announcer_keeps_the_laws() {
    let tally = live_many::<Announcing>();
    assert!(tally.said > 500 && tally.woken > 50 && tally.closed > 10, "{tally:?}");
}

#[test]
fn the_calls_into_the_local_network_keep_the_laws() {
    let tally = live_many::<Calling>();
    assert!(tally.said > 500 && tally.woken > 50, "{tally:?}");
}

#[test]
fn the_metadata_keeps_the_laws() {
    let tally = live_many::<Fetching>();
    assert!(tally.said > 500 && tally.woken > 50, "{tally:?}");
}

#[test]
fn the_peer_exchange_keeps_the_laws() {
    let tally = live_many::<Telling>();
    assert!(tally.said > 200 && tally.woken > 200, "{tally:?}");
}

#[test]
fn the_holepunch_keeps_the_laws() {
    let tally = live_many::<Punching>();
    assert!(tally.said > 300 && tally.woken > 50, "{tally:?}");
}

#[test]
fn the_node_keeps_the_laws() {
    let tally = live_many::<node::Searching<dht::Node>>();
    assert!(tally.said > 500 && tally.woken > 50, "{tally:?}");
}

#[test]
fn the_nodes_of_both_families_keep_the_laws() {
    let tally = live_many::<node::Searching<dht::Dht>>();
    assert!(tally.said > 500 && tally.woken > 50, "{tally:?}");
}

#[test]
fn the_discovery_keeps_the_laws() {
    let tally = live_many::<Discovering>();
    assert!(tally.said > 100 && tally.woken > 50 && tally.closed > 10, "{tally:?}");
}

#[test]
fn the_peer_keeps_the_laws() {
    let tally = live_many::<Conversing>();
    assert!(tally.said > 100 && tally.woken > 20 && tally.closed > 10, "{tally:?}");
}

#[test]
fn the_port_mapper_keeps_the_laws() {
    let tally = live_many::<mapping::Mapping>();
    assert!(tally.said > 500 && tally.woken > 50, "{tally:?}");
}

#[test]
fn the_talk_with_a_proxy_keeps_the_laws() {
    let tally = live_many::<Negotiating>();
    assert!(tally.said > 40 && tally.woken > 5 && tally.closed > 20, "{tally:?}");
}

#[test]
fn the_store_keeps_the_laws() {
    let tally = live_many::<Storing>();
    assert!(tally.said > 500 && tally.woken > 50, "{tally:?}");
}

#[test]
fn the_udp_trackers_keep_the_laws() {
    let tally = live_many::<Asking>();
    assert!(tally.said > 500 && tally.woken > 50, "{tally:?}");
}

#[test]
fn the_streams_keep_the_laws() {
    let tally = live_many::<streaming::Streaming>();
    assert!(tally.said > 500 && tally.woken > 50, "{tally:?}");
}

/// A machine, with just enough of its surroundings to know what could happen to it next.
trait Subject: Debug {
    type Input: Debug;
    type Machine: Machine<Action: Debug>;

    fn new(now: Timestamp, rng: &mut Rng) -> Self;

    fn machine(&mut self) -> &mut Self::Machine;

    /// Something that may happen, sense or nonsense; what the machine's contract forbids its parent is left out.
    fn draw(&self, rng: &mut Rng) -> Self::Input;

    fn feed(&mut self, now: Timestamp, input: &Self::Input, out: &mut Outbox<Action<Self>>);

    /// Learns what the machine said.
    fn hear(&mut self, _said: &Action<Self>) {}

    /// Whether the machine has nothing more to say.
    fn is_closed(&self) -> bool {
        false
    }
}

type Action<S> = <<S as Subject>::Machine as Machine>::Action;

/// What happened in these lives, lest laws be kept by doing nothing.
#[derive(Debug, Default)]
struct Tally {
    closed: usize,
    said: usize,
    woken: usize,
}

fn live_many<S: Subject>() -> Tally {
    let mut tally = Tally::default();
    for seed in 0..LIVES {
        live::<S>(&Rng::from_number(seed), &mut tally);
    }
    tally
}

fn live<S: Subject>(root: &Rng, tally: &mut Tally) {
    let mut rng = root.fork("world");
    let mut now = Timestamp::from_micros(rng.below(1 << 40));
    let mut twins = [(); 2].map(|()| S::new(now, &mut root.fork("machine")));
    for _ in 0..STEPS {
        now = later(now, twins[0].machine(), &mut rng);
        if rng.chance(3, 4) {
            let said = twins.each_mut().map(|twin| wake(now, twin));
            assert_eq!(said[0], said[1], "a machine is deterministic when woken");
            tally.woken += usize::from(!said[0].is_empty());
        }
        let input = twins[0].draw(&mut rng);
        let said = twins.each_mut().map(|twin| {
            let closed = twin.is_closed();
            let said = with_outbox(twin, |twin, out| twin.feed(now, &input, out));
            assert!(!closed || said.is_empty(), "it is closed, but says {said:?} to {input:?}");
            said
        });
        assert_eq!(said[0], said[1], "a machine is deterministic after {input:?}");
        let [one, other] = twins.each_ref().map(|twin| format!("{twin:?}"));
        assert_eq!(one, other, "a machine is deterministic after {input:?}");
        tally.said += said[0].len();
    }
    tally.closed += usize::from(twins[0].is_closed());
}

/// Calls `handle_timeout` at `now`, twice, and checks what is promised about it.
fn wake<S: Subject>(now: Timestamp, subject: &mut S) -> Vec<String> {
    let (before, due) = (format!("{subject:?}"), subject.machine().poll_timeout());
    assert!(!subject.is_closed() || due.is_none(), "it is closed, but waits for {due:?}");
    let said = with_outbox(subject, |subject, out| subject.machine().handle_timeout(now, out));
    let after = format!("{subject:?}");
    if due.is_none_or(|due| due.at > now) {
        assert_eq!((said.len(), &after), (0, &before), "at {now}, {due:?} is not due");
    }
    let next = subject.machine().poll_timeout();
    assert!(next.is_none_or(|next| next.at > now), "at {now}, what was due is done, but {next:?}");
    let again = with_outbox(subject, |subject, out| subject.machine().handle_timeout(now, out));
    assert_eq!((again.len(), format!("{subject:?}")), (0, after), "a second call at {now} does nothing");
    said
}

fn with_outbox<S: Subject>(
    subject: &mut S,
    call: impl FnOnce(&mut S, &mut Outbox<Action<S>>),
) -> Vec<String> {
    let mut out = Outbox::new();
    call(subject, &mut out);
    out.iter().for_each(|action| subject.hear(action));
    out.iter().map(|action| format!("{action:?}")).collect()
}

/// A time at or after `now`, often about when the machine wants to be woken.
fn later(now: Timestamp, machine: &impl Machine, rng: &mut Rng) -> Timestamp {
    let due = machine.poll_timeout().map_or(now, |due| due.at.min(now + FAR));
    let at = match rng.below(64) {
        0 | 1 => due - Duration::from_micros(1),
        2 | 3 => due,
        4 => due + Duration::from_micros(rng.below(60_000_000)),
        5..=9 => now + Duration::from_millis(rng.below(2000)),
        _ => now + Duration::from_millis(rng.below(50)),
    };
    at.max(now)
}

fn tracker(rng: &mut Rng) -> SocketAddr {
    let known = ["203.0.113.1:1", "203.0.113.2:1", "[2001:db8::1]:1", "[::ffff:203.0.113.1]:1"];
    known[rng.below(4) as usize].parse().unwrap()
}

fn garbage(rng: &mut Rng, max: u64) -> Bytes {
    let mut bytes = vec![0; rng.below(max) as usize];
    rng.fill(&mut bytes);
    bytes.into()
}

/// Seeds that are tried.
const LIVES: u64 = 30;

/// Events of one life.
const STEPS: usize = 200;

/// What is due later than this is due never, as far as a life goes.
const FAR: Duration = Duration::from_secs(365 * 86_400);

/// Packets that are remembered to be answered.
const RECENT: usize = 6;
