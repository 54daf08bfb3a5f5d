//! Both networks at once: our node among those of IPv4, and our node among those of IPv6 (BEP 32).

use super::event::{Action, Event, Saved, Summary, Task};
use super::message::Family;
use super::{Config, Node};
use crate::address::canonical;
use crate::id::LookupId;
use crate::machine::{Deadline, Machine, Outbox, Timestamp};
use crate::rng::Rng;
use alloc::collections::BTreeMap;
use core::net::SocketAddr;

/// A node of each family side by side, which is one to whoever drives it.
///
/// A lookup runs in both networks, and is over when it is in both; but a network where nobody answers does not hold up
/// the other. Each node tells the other of nodes of its family, so that one well-known address brings us into both.
#[derive(Debug)]
pub struct Dht {
    nodes: [Option<Node>; 2],
    lookups: BTreeMap<LookupId, Joined>,
    /// What the nodes say, on its way up.
    said: Outbox<Action>,
}

/// A lookup that runs in both networks.
#[derive(Clone, Copy, Debug, Default)]
struct Joined {
    /// In which of them it is not over.
    open: [bool; 2],
    summary: Summary,
    /// The number of the best item so far, if there was any.
    best: Option<Option<i64>>,
    scraped: Option<(u32, u32)>,
}

impl Dht {
    /// A node of each of these families. They know nobody.
    pub fn new(now: Timestamp, families: &[Family], rng: &Rng) -> Self {
        let nodes = FAMILIES.map(|family| {
            let name = match family {
                Family::V4 => "v4",
                Family::V6 => "v6",
            };
            families.contains(&family).then(|| Node::new(now, Config::new(family), &rng.fork(name)))
        });
        let mut dht = Self { nodes, lookups: BTreeMap::new(), said: Outbox::new() };
        dht.tune();
        dht
    }

    /// The node of a family.
    pub fn node(&self, family: Family) -> Option<&Node> {
        self.nodes[family as usize].as_ref()
    }

    /// How many nodes are known, of both families.
    pub fn known(&self) -> usize {
        self.nodes.iter().flatten().map(|node| node.table().len()).sum()
    }

    /// Whether a datagram can be one of the DHT. Others share the socket.
    pub fn is_datagram(data: &[u8]) -> bool {
        data.first() == Some(&b'd') && data.last() == Some(&b'e')
    }

    /// How a lookup stands that is not over.
    pub fn summary(&self, lookup: LookupId) -> Option<Summary> {
        let joined = self.lookups.get(&lookup)?;
        let open = self.nodes.iter().flatten().filter_map(|node| node.summary(lookup));
        Some(open.fold(joined.summary, Summary::and))
    }

    /// What to remember for the next start.
    pub fn save(&self) -> Saved {
        let mut saved = Saved::default();
        for node in self.nodes.iter().flatten() {
            let Saved { id4, id6, contacts } = node.save();
            saved.id4 = saved.id4.or(id4);
            saved.id6 = saved.id6.or(id6);
            saved.contacts.extend(contacts);
        }
        saved
    }

    /// Panics unless every rule about its parts holds. For tests and simulators.
    pub fn check_invariants(&self, now: Timestamp) {
        self.nodes.iter().flatten().for_each(|node| node.check_invariants(now));
        assert!(
            self.lookups.values().all(|joined| joined.open.contains(&true)),
            "a lookup that is over is forgotten"
        );
    }

    /// Tells every node, and passes on what they say.
    fn tell_all(&mut self, now: Timestamp, event: &Event, out: &mut Outbox<Action>) {
        for index in 0..self.nodes.len() {
            self.tell(now, index, event.clone(), out);
        }
    }

    fn tell(&mut self, now: Timestamp, index: usize, event: Event, out: &mut Outbox<Action>) {
        if let Some(node) = &mut self.nodes[index] {
            node.handle_event(now, event, &mut self.said);
            self.settle(now, index, out);
        }
    }

    fn on_datagram(&mut self, now: Timestamp, from: SocketAddr, data: &[u8], out: &mut Outbox<Action>) {
        let from = canonical(from);
        let index = Family::of(from.ip()) as usize;
        let [four, six] = &mut self.nodes;
        let (node, other) = if index == 0 { (four, six) } else { (six, four) };
        if let Some(node) = node {
            node.handle_datagram(now, from, data, other.as_ref().map(Node::table), &mut self.said);
            self.settle(now, index, out);
        }
    }

    fn start(&mut self, now: Timestamp, lookup: LookupId, task: &Task, out: &mut Outbox<Action>) {
        let open = self.nodes.each_ref().map(Option::is_some);
        if !open.contains(&true) {
            out.push_back(Action::Done { lookup, summary: Summary::default() });
            return;
        }
        self.lookups.insert(lookup, Joined { open, ..Joined::default() });
        self.tell_all(now, &Event::Start { lookup, task: task.clone() }, out);
    }

    /// Passes on what a node said, until the nodes have no more to say to each other.
    fn settle(&mut self, now: Timestamp, index: usize, out: &mut Outbox<Action>) {
        let mut from = index;
        loop {
            self.pass_all_on(now, from, out);
            let Some((lookup, index)) = self.waits_in_vain() else { break };
            self.end(lookup, out);
            if let Some(node) = &mut self.nodes[index] {
                node.handle_event(now, Event::Cancel(lookup), &mut self.said);
            }
            from = index;
        }
        self.tune();
    }

    fn pass_all_on(&mut self, now: Timestamp, mut from: usize, out: &mut Outbox<Action>) {
        while !self.said.is_empty() {
            let mut for_other = None;
            let mut said = core::mem::take(&mut self.said);
            for action in said.drain(..) {
                match action {
                    Action::Named(contacts) => for_other = Some(contacts),
                    action => self.pass_on(from, action, out),
                }
            }
            self.said = said;
            from = 1 - from;
            if let (Some(contacts), Some(other)) = (for_other, &mut self.nodes[from]) {
                other.handle_event(now, Event::Named(contacts), &mut self.said);
            }
        }
    }

    /// A lookup that only goes on in one network, where nobody answers, after it was answered in the other; and which
    /// network that is.
    fn waits_in_vain(&self) -> Option<(LookupId, usize)> {
        let answered = self.lookups.iter().filter(|(_, joined)| joined.summary.answered > 0);
        answered.into_iter().find_map(|(lookup, joined)| {
            let index = joined.open.iter().position(|open| *open)?;
            let is_in_vain = self.nodes[index].as_ref().is_some_and(|node| node.is_in_vain(*lookup));
            (joined.open != [true; 2] && is_in_vain).then_some((*lookup, index))
        })
    }

    /// Says that a lookup is over, and what it found in both networks.
    fn end(&mut self, lookup: LookupId, out: &mut Outbox<Action>) {
        let summary = self.summary(lookup).unwrap_or_default();
        let Some(Joined { scraped, .. }) = self.lookups.remove(&lookup) else { return };
        if let Some((seeds, peers)) = scraped {
            out.push_back(Action::Scraped { lookup, seeds, peers });
        }
        out.push_back(Action::Done { lookup, summary });
    }

    fn pass_on(&mut self, from: usize, action: Action, out: &mut Outbox<Action>) {
        match action {
            Action::Done { lookup, summary } => {
                let Some(joined) = self.lookups.get_mut(&lookup) else { return };
                joined.open[from] = false;
                joined.summary = joined.summary.and(summary);
                if !joined.open.contains(&true) {
                    self.end(lookup, out);
                }
            }
            Action::Item { lookup, from, item } => {
                let Some(joined) = self.lookups.get_mut(&lookup) else { return };
                if joined.best.is_none_or(|best| item.seq() > best) {
                    joined.best = Some(item.seq());
                    out.push_back(Action::Item { lookup, from, item });
                }
            }
            // The other one will hear of some.
            Action::NeedNodes if self.nodes[1 - from].as_ref().is_some_and(Node::is_bootstrapped) => {}
            Action::NeedNodes if out.back() == Some(&Action::NeedNodes) => {}
            Action::Scraped { lookup, seeds, peers } => {
                if let Some(joined) = self.lookups.get_mut(&lookup) {
                    let (other_seeds, other_peers) = joined.scraped.unwrap_or_default();
                    joined.scraped = Some((seeds + other_seeds, peers + other_peers));
                }
            }
            action => out.push_back(action),
        }
    }

    /// Lets each node ask for nodes of the other family as long as few of these are known.
    fn tune(&mut self) {
        let lacks =
            self.nodes.each_ref().map(|node| node.as_ref().is_some_and(|node| !node.is_bootstrapped()));
        for (node, other_lacks) in self.nodes.iter_mut().zip([lacks[1], lacks[0]]) {
            node.iter_mut().for_each(|node| node.set_wants_both(other_lacks));
        }
    }
}

impl Machine for Dht {
    type Event = Event;
    type Action = Action;

    fn handle_event(&mut self, now: Timestamp, event: Event, out: &mut Outbox<Action>) {
        match event {
            Event::Cancel(lookup) => {
                self.lookups.remove(&lookup);
                self.tell_all(now, &event, out);
            }
            Event::Datagram { from, data } => self.on_datagram(now, from, &data, out),
            Event::Start { lookup, task } => self.start(now, lookup, &task, out),
            event => self.tell_all(now, &event, out),
        }
    }

    fn handle_timeout(&mut self, now: Timestamp, out: &mut Outbox<Action>) {
        for index in 0..self.nodes.len() {
            if let Some(node) = &mut self.nodes[index] {
                node.handle_timeout(now, &mut self.said);
                self.settle(now, index, out);
            }
        }
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let deadlines = self.nodes.iter().map(|node| node.as_ref().and_then(Node::poll_timeout));
        deadlines.reduce(Deadline::earlier).flatten()
    }
}

/// In the order of the nodes.
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

#[cfg(test)]
mod tests;
