//! Our nodes in the networks of both address families, as one (BEP 32).
//!
//! What is looked for is looked for in both, and what either finds counts. A lookup is over when it is in both; but one
//! network where there is nobody to ask does not hold up the other.

use super::message::Family;
use super::saved::SavedNodes;
use super::{Action, Config, Event, Node, Summary};
use crate::id::LookupId;
use crate::machine::{Deadline, Machine, Outbox, Timestamp};
use crate::rng::Rng;
use alloc::collections::{BTreeMap, VecDeque};
use core::net::SocketAddr;

/// A node of each network.
#[derive(Debug)]
pub struct Dht {
    v4: Node,
    v6: Node,
    /// Lookups that are not over.
    lookups: BTreeMap<LookupId, Open>,
    pending: Outbox<Action>,
}

/// How a lookup stands: what came of it where it is over.
#[derive(Clone, Copy, Debug, Default)]
struct Open {
    v4: Option<Summary>,
    v6: Option<Summary>,
}

impl Dht {
    /// Nodes that know nobody.
    pub fn new(now: Timestamp, rng: &Rng) -> Self {
        let node = |family, name| {
            let mut node = Node::new(now, Config::new(family), &rng.fork(name));
            node.set_wants_both(true);
            node
        };
        Self {
            v4: node(Family::V4, "v4"),
            v6: node(Family::V6, "v6"),
            lookups: BTreeMap::new(),
            pending: Outbox::new(),
        }
    }

    /// The node of one network.
    pub fn node(&self, family: Family) -> &Node {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    /// How a lookup stands that is not over.
    pub fn summary(&self, lookup: LookupId) -> Option<Summary> {
        let open = self.lookups.get(&lookup)?;
        let v4 = open.v4.or_else(|| self.v4.summary(lookup)).unwrap_or_default();
        let v6 = open.v6.or_else(|| self.v6.summary(lookup)).unwrap_or_default();
        Some(joined(v4, v6))
    }

    /// What to remember for the next start.
    pub fn save(&self) -> SavedNodes {
        SavedNodes { v4: self.v4.save(), v6: self.v6.save() }
    }

    /// An earlier run saved this.
    pub fn restore(&mut self, now: Timestamp, saved: SavedNodes, out: &mut Outbox<Action>) {
        self.tell(now, Family::V4, Event::Restore(saved.v4), out);
        self.tell(now, Family::V6, Event::Restore(saved.v6), out);
    }

    /// Panics unless every rule about its parts holds. For tests and simulators.
    pub fn check_invariants(&self, now: Timestamp) {
        self.v4.check_invariants(now);
        self.v6.check_invariants(now);
        assert!(self.lookups.values().all(|open| open.v4.is_none() || open.v6.is_none()), "a lookup is over");
    }

    fn tell(&mut self, now: Timestamp, family: Family, event: Event, out: &mut Outbox<Action>) {
        match family {
            Family::V4 => self.v4.handle_event(now, event, &mut self.pending),
            Family::V6 => self.v6.handle_event(now, event, &mut self.pending),
        }
        self.translate(now, family, out);
    }

    fn on_datagram(&mut self, now: Timestamp, from: SocketAddr, data: &[u8], out: &mut Outbox<Action>) {
        let family = Family::of(from.ip());
        let Self { v4, v6, pending, .. } = self;
        match family {
            Family::V4 => v4.handle_datagram(now, from, data, Some(v6.table()), pending),
            Family::V6 => v6.handle_datagram(now, from, data, Some(v4.table()), pending),
        }
        self.translate(now, family, out);
    }

    /// Passes on what a node said; what it heard of the other network goes to the other node.
    fn translate(&mut self, now: Timestamp, family: Family, out: &mut Outbox<Action>) {
        let mut said: VecDeque<_> = self.pending.drain(..).map(|action| (family, action)).collect();
        while let Some((family, action)) = said.pop_front() {
            match action {
                Action::Done { lookup, summary } => self.on_done(now, family, lookup, summary, out),
                Action::Named(contacts) => {
                    let event = Event::Named(contacts);
                    match family {
                        Family::V4 => self.v6.handle_event(now, event, &mut self.pending),
                        Family::V6 => self.v4.handle_event(now, event, &mut self.pending),
                    }
                    said.extend(self.pending.drain(..).map(|action| (other(family), action)));
                }
                action => out.push_back(action),
            }
        }
    }

    fn on_done(
        &mut self,
        now: Timestamp,
        family: Family,
        lookup: LookupId,
        summary: Summary,
        out: &mut Outbox<Action>,
    ) {
        let Some(open) = self.lookups.get_mut(&lookup) else { return };
        let rest = match family {
            Family::V4 => {
                open.v4 = Some(summary);
                open.v6
            }
            Family::V6 => {
                open.v6 = Some(summary);
                open.v4
            }
        };
        let node = self.node(other(family));
        let is_idle = node.summary(lookup).is_none_or(|summary| summary.asked == 0);
        let is_hopeless = is_idle && node.table().is_empty() && summary.answered > 0;
        let Some(rest) = rest.or(is_hopeless.then(Summary::default)) else { return };
        self.lookups.remove(&lookup);
        self.tell(now, other(family), Event::Cancel(lookup), out);
        out.push_back(Action::Done { lookup, summary: joined(summary, rest) });
    }
}

impl Machine for Dht {
    type Event = Event;
    type Action = Action;

    fn handle_event(&mut self, now: Timestamp, event: Event, out: &mut Outbox<Action>) {
        match event {
            Event::Datagram { from, data } => return self.on_datagram(now, from, &data, out),
            Event::ExternalAddress(ip) => return self.tell(now, Family::of(ip), event, out),
            // An id belongs to one network.
            Event::Restore(saved) => {
                let v4 = saved.contacts.first().is_none_or(|first| Family::of(first.addr.ip()) == Family::V4);
                let family = if v4 { Family::V4 } else { Family::V6 };
                return self.tell(now, family, Event::Restore(saved), out);
            }
            Event::Cancel(lookup) => {
                self.lookups.remove(&lookup);
            }
            Event::Start { lookup, .. } => {
                self.lookups.insert(lookup, Open::default());
            }
            Event::Learn(_) | Event::Named(_) | Event::SetReadOnly(_) => {}
        }
        self.tell(now, Family::V4, event.clone(), out);
        self.tell(now, Family::V6, event, out);
    }

    fn handle_timeout(&mut self, now: Timestamp, out: &mut Outbox<Action>) {
        self.v4.handle_timeout(now, &mut self.pending);
        self.translate(now, Family::V4, out);
        self.v6.handle_timeout(now, &mut self.pending);
        self.translate(now, Family::V6, out);
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        Deadline::earlier(self.v4.poll_timeout(), self.v6.poll_timeout())
    }
}

const fn other(family: Family) -> Family {
    match family {
        Family::V4 => Family::V6,
        Family::V6 => Family::V4,
    }
}

fn joined(a: Summary, b: Summary) -> Summary {
    Summary {
        asked: a.asked + b.asked,
        answered: a.answered + b.answered,
        hops: a.hops.max(b.hops),
        stored: a.stored + b.stored,
    }
}
