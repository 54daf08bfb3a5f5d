//! Nodes to talk to: many on a network, or one alone.

use super::{at, id_of, nth, query};
use crate::dht::message::{Body, Family, Message, Method, Reply};
use crate::dht::{Action, Config, Event, Node, Summary, Task};
use crate::id::LookupId;
use crate::machine::{Machine as _, Outbox, Timestamp};
use crate::rng::Rng;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use core::net::SocketAddr;
use core::time::Duration;

/// Nodes on a network where everything takes 40 ms.
pub(super) struct World {
    pub(super) now: Timestamp,
    pub(super) nodes: BTreeMap<SocketAddr, Node>,
    /// Datagrams by when they arrive, and in which order they were sent: from, to, what.
    pub(super) flying: BTreeMap<(Timestamp, u64), (SocketAddr, SocketAddr, Vec<u8>)>,
    pub(super) sent: u64,
    pub(super) said: Vec<(SocketAddr, Action)>,
}

impl World {
    pub(super) fn new() -> Self {
        let (nodes, flying) = (BTreeMap::new(), BTreeMap::new());
        Self { now: Timestamp::ZERO, nodes, flying, sent: 0, said: vec![] }
    }

    /// A network of so many, each of which learnt of the one before.
    pub(super) fn settled(count: u32) -> Self {
        let mut world = Self::new();
        for n in 0..count {
            world.add(nth(n));
            if n > 0 {
                world.tell(nth(n), Event::Learn(vec![nth(n - 1)]));
            }
            world.run(300);
        }
        world.run(60_000);
        world.said.clear();
        world
    }

    pub(super) fn add(&mut self, addr: SocketAddr) {
        let family = Family::of(addr.ip());
        let seed = u64::from(addr.port()) << 32 | self.nodes.len() as u64;
        self.nodes.insert(addr, Node::new(self.now, Config::new(family), &Rng::from_number(seed)));
        self.tell(addr, Event::ExternalAddress(addr.ip()));
    }

    pub(super) fn node(&self, addr: SocketAddr) -> &Node {
        &self.nodes[&addr]
    }

    pub(super) fn tell(&mut self, addr: SocketAddr, event: Event) {
        let mut out = Outbox::new();
        if let Some(node) = self.nodes.get_mut(&addr) {
            node.handle_event(self.now, event, &mut out);
        }
        self.take(addr, out);
    }

    pub(super) fn take(&mut self, from: SocketAddr, out: Outbox<Action>) {
        for action in out {
            if let Action::Send { to, data } = action {
                self.flying.insert((self.now + Duration::from_millis(40), self.sent), (from, to, data));
                self.sent += 1;
            } else {
                self.said.push((from, action));
            }
        }
        if let Some(node) = self.nodes.get(&from) {
            node.check_invariants(self.now);
        }
    }

    /// Lets so many milliseconds pass.
    pub(super) fn run(&mut self, millis: u64) {
        let until = self.now + Duration::from_millis(millis);
        loop {
            let wakes = self.nodes.iter().filter_map(|(addr, node)| Some((node.poll_timeout()?.at, *addr)));
            let wake = wakes.min();
            let arrival = self.flying.first_key_value().map(|(key, _)| key.0);
            let next = wake.map(|(at, _)| at).into_iter().chain(arrival).min();
            let Some(next) = next.filter(|next| *next <= until) else { break };
            self.now = next.max(self.now);
            if arrival == Some(next) {
                let (_, (from, to, data)) = self.flying.pop_first().unwrap();
                self.tell(to, Event::Datagram { from, data: data.into() });
            } else {
                let (_, addr) = wake.unwrap();
                let mut out = Outbox::new();
                self.nodes.get_mut(&addr).unwrap().handle_timeout(self.now, &mut out);
                self.take(addr, out);
            }
        }
        self.now = until;
    }

    /// Lets a node do something to its end; returns what it said about it.
    pub(super) fn look_up(&mut self, addr: SocketAddr, task: Task) -> (Vec<Action>, Summary) {
        let lookup = LookupId(self.sent);
        self.said.clear();
        self.tell(addr, Event::Start { lookup, task });
        self.run(31_000);
        let mut said: Vec<_> =
            self.said.drain(..).filter(|(who, _)| *who == addr).map(|(_, it)| it).collect();
        said.retain(|action| !matches!(action, Action::ExternalAddress { .. } | Action::NeedNodes));
        match said.pop() {
            Some(Action::Done { lookup: done, summary }) if done == lookup => (said, summary),
            other => panic!("it ends with {other:?} after {said:?}"),
        }
    }
}

/// A node that others can be made to talk to.
pub(super) struct Lone {
    pub(super) node: Node,
    pub(super) out: Outbox<Action>,
}

impl Lone {
    pub(super) fn new() -> Self {
        let config = Config::new(Family::V4);
        Self { node: Node::new(at(0), config, &Rng::from_number(1)), out: Outbox::new() }
    }

    pub(super) fn tell(&mut self, now: Timestamp, event: Event) -> Vec<Action> {
        self.node.handle_event(now, event, &mut self.out);
        self.node.check_invariants(now);
        self.out.drain(..).collect()
    }

    pub(super) fn wake(&mut self, now: Timestamp) -> Vec<Action> {
        self.node.handle_timeout(now, &mut self.out);
        self.out.drain(..).collect()
    }

    /// What is sent back to a datagram.
    pub(super) fn hear(&mut self, now: Timestamp, from: SocketAddr, data: &[u8]) -> Vec<Vec<u8>> {
        let said = self.tell(now, Event::Datagram { from, data: Bytes::copy_from_slice(data) });
        said.into_iter()
            .filter_map(
                |it| if let Action::Send { to, data } = it { (to == from).then_some(data) } else { None },
            )
            .collect()
    }

    /// What is answered to a query of the node that is at `from`. It is pinged as well, as it is not known.
    pub(super) fn ask(&mut self, now: Timestamp, from: SocketAddr, method: Method<'_>) -> Option<Vec<u8>> {
        let answers = self.hear(now, from, &query(from, method));
        answers.into_iter().find(|data| !matches!(Message::parse(data).unwrap().body, Body::Query(_)))
    }

    /// Lets a node that is pinged, or asked anything, answer with nothing.
    pub(super) fn let_answer(&mut self, now: Timestamp, said: &[Action]) {
        for action in said {
            let Action::Send { to, data } = action else { continue };
            let message = Message::parse(data).unwrap();
            if let Body::Query(_) = message.body {
                let reply = Message::new(message.transaction, Body::Reply(Reply::new(id_of(*to))));
                self.hear(now, *to, &reply.encode());
            }
        }
    }
}
