//! Nodes, the links between them, and what happens.

use super::addresses::{Addresses, mix};
use super::attacker::{Attackers, is_reserved};
use super::tally::Probe;
use super::watch::Watch;
use super::wheel::Wheel;
use core::net::SocketAddr;
use core::time::Duration;
use fast_peer_core::dht::message::Family;
use fast_peer_core::dht::{Action, Config, Event, Node, Task, table};
use fast_peer_core::id::LookupId;
use fast_peer_core::machine::{Machine as _, Outbox, Timestamp};
use fast_peer_core::rng::Rng;
use std::collections::{BTreeMap, BTreeSet};

/// What a world is like.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What it is drawn from.
    pub seed: u64,
    /// The shortest and the longest delay of a link, one way.
    pub delay: (Duration, Duration),
    /// Of a thousand packets so many are lost.
    pub loss_permille: u32,
    /// Whether tables have the wide rows that the program uses. Narrow ones take less memory.
    pub wide: bool,
    /// One of so many nodes is watched.
    pub watch_every: u32,
}

impl Default for Options {
    fn default() -> Self {
        let delay = (Duration::from_millis(20), Duration::from_millis(140));
        Self { seed: 1, delay, loss_permille: 5, wide: true, watch_every: 500 }
    }
}

/// A network of nodes.
#[derive(Debug)]
pub struct World {
    pub(super) options: Options,
    pub(super) rng: Rng,
    pub(super) now: Timestamp,
    wheel: Wheel<What>,
    addresses: Addresses,
    /// Which host has the address of a number.
    host_of: Vec<u32>,
    pub(super) hosts: Vec<Host>,
    pub(super) attackers: Attackers,
    attacker_of: BTreeMap<SocketAddr, u32>,
    /// Pairs of hosts, by the numbers of their addresses, who don't hear each other.
    cut: BTreeSet<(u32, u32)>,
    watched: BTreeMap<u32, Watch>,
    /// Those of watches that are over.
    checks: u64,
    pub(super) probes: Vec<Probe>,
    out: Outbox<Action>,
    breaches: Vec<String>,
    packets: u64,
}

/// A place for a node. When one leaves another comes, elsewhere.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) node: Node,
    number: u32,
    /// When it is woken next. Wakes that were planned for other times are void.
    wake_at: Option<Timestamp>,
}

/// Who sends or gets a packet: the number of an honest node's address, or an attacker.
#[derive(Clone, Copy, Debug)]
enum Party {
    Attacker(u32),
    Host(u32),
}

#[derive(Debug)]
enum What {
    /// An attacker makes itself known to a host.
    Advert {
        attacker: u32,
        host: u32,
    },
    Packet {
        from: Party,
        to: Party,
        data: Vec<u8>,
    },
    Wake(u32),
}

impl World {
    /// A world without nodes.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            rng: Rng::from_number(options.seed).fork("world"),
            now: Timestamp::ZERO,
            wheel: Wheel::new(),
            addresses: Addresses::new(options.seed, is_reserved),
            host_of: Vec::new(),
            hosts: Vec::new(),
            attackers: Attackers::default(),
            attacker_of: BTreeMap::new(),
            cut: BTreeSet::new(),
            watched: BTreeMap::new(),
            checks: 0,
            probes: Vec::new(),
            out: Outbox::new(),
            breaches: Vec::new(),
            packets: 0,
        }
    }

    /// How many things happened.
    pub fn events(&self) -> u64 {
        self.wheel.taken()
    }

    /// How many packets were sent.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// How long it runs in its own time.
    pub fn elapsed(&self) -> Duration {
        self.now.since(Timestamp::ZERO)
    }

    /// How many honest nodes there are.
    pub fn population(&self) -> usize {
        self.hosts.len()
    }

    /// How many nodes the tables know, in all.
    pub fn known(&self) -> usize {
        self.hosts.iter().map(|host| host.node.table().len()).sum()
    }

    /// How many bytes the tables take, in all.
    pub fn table_bytes(&self) -> usize {
        self.hosts.iter().map(|host| host.node.table().heap_bytes()).sum()
    }

    /// Rules that were broken, in words.
    pub fn breaches(&self) -> &[String] {
        &self.breaches
    }

    /// How many checks were made.
    pub fn checks(&self) -> u64 {
        self.checks + self.watched.values().map(Watch::checks).sum::<u64>()
    }

    /// Lets so much time pass.
    pub fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some((at, what)) = self.wheel.pop(until) {
            self.now = at;
            match what {
                What::Advert { attacker, host } => {
                    let data = self.attackers.advert(attacker as usize, host);
                    let to = Party::Host(self.hosts[host as usize].number);
                    self.send(Party::Attacker(attacker), to, data);
                }
                What::Packet { from, to, data } => self.deliver(from, to, &data),
                What::Wake(host) => self.wake(host),
            }
        }
        self.now = until;
    }

    /// Adds a node that is told of some that are there already, and of its own address.
    pub(super) fn join(&mut self) -> u32 {
        let known = self.some_addrs(BOOTSTRAP);
        let host = self.add();
        let ip = self.addr(host).ip();
        self.tell(host, Event::ExternalAddress(ip));
        self.tell(host, Event::Learn(known));
        host
    }

    /// Adds a node that is told of one, and nothing else.
    pub(super) fn join_unaware(&mut self) -> u32 {
        let known = self.some_addrs(1);
        let host = self.add();
        self.tell(host, Event::Learn(known));
        host
    }

    /// Lets a node vanish, and another one join in its place.
    pub(super) fn replace(&mut self, host: u32) {
        let known = self.some_addrs(BOOTSTRAP);
        let number = self.addresses.take();
        let node = self.make(number);
        let old = core::mem::replace(&mut self.hosts[host as usize], Host { node, number, wake_at: None });
        self.host_of[old.number as usize] = NOBODY;
        self.host_of[number as usize] = host;
        self.watch(host);
        let ip = self.addr(host).ip();
        self.tell(host, Event::ExternalAddress(ip));
        self.tell(host, Event::Learn(known));
    }

    /// Starts a node again with what it saved. So many percent of that are gone, as far as it can see.
    pub(super) fn restart(&mut self, host: u32, gone_percent: u8) {
        let saved = self.hosts[host as usize].node.save();
        let number = self.hosts[host as usize].number;
        for contact in &saved.contacts {
            if let Some(other) = self.addresses.number(contact.addr)
                && self.rng.chance(gone_percent.into(), 100)
            {
                self.cut.insert((number.min(other), number.max(other)));
            }
        }
        let node = self.make(number);
        self.hosts[host as usize] = Host { node, number, wake_at: None };
        self.watch(host);
        self.tell(host, Event::Restore(saved));
    }

    pub(super) fn tell(&mut self, host: u32, event: Event) {
        self.hosts[host as usize].node.handle_event(self.now, event, &mut self.out);
        self.after(host, None);
    }

    /// Lets a node look for something.
    pub(super) fn look_up(&mut self, host: u32, task: Task, wanted: Option<SocketAddr>) {
        let lookup = LookupId(self.probes.len() as u64);
        self.probes.push(Probe { started_at: self.now, wanted, found_at: None, done: None });
        if let Some(watch) = self.watched.get_mut(&host) {
            watch.lookup_starts(task.target().expect("the trials search for something"));
        }
        self.tell(host, Event::Start { lookup, task });
    }

    /// A host, at random.
    pub(super) fn anybody(&mut self) -> u32 {
        self.rng.below(self.hosts.len() as u64) as u32
    }

    pub(super) fn addr(&self, host: u32) -> SocketAddr {
        self.addresses.addr(self.hosts[host as usize].number)
    }

    /// Addresses where nobody is yet.
    pub(super) fn fresh_addrs(&mut self, count: usize) -> Vec<SocketAddr> {
        let numbers: Vec<_> = (0..count).map(|_| self.addresses.take()).collect();
        numbers.into_iter().map(|number| self.addresses.addr(number)).collect()
    }

    pub(super) fn set_attackers(&mut self, attackers: Attackers) {
        let addrs = attackers.contacts().iter().map(|contact| contact.addr);
        self.attacker_of = addrs.zip(0..).collect();
        self.attackers = attackers;
    }

    pub(super) fn is_attacker(&self, addr: SocketAddr) -> bool {
        self.attacker_of.contains_key(&addr)
    }

    /// Each attacker makes itself known to these hosts, within this time.
    pub(super) fn advertise(&mut self, hosts: &[u32], within: Duration) {
        for attacker in 0..self.attackers.contacts().len() as u32 {
            for host in hosts {
                let after = Duration::from_micros(self.rng.below(within.as_micros() as u64));
                self.wheel.push(self.now + after, What::Advert { attacker, host: *host });
            }
        }
    }

    /// Adds a host with a node that knows nobody.
    fn add(&mut self) -> u32 {
        let (host, number) = (self.hosts.len() as u32, self.addresses.take());
        let node = self.make(number);
        self.hosts.push(Host { node, number, wake_at: None });
        self.host_of[number as usize] = host;
        self.watch(host);
        host
    }

    /// Begins to watch the node of a host, if it is one of those that are watched.
    fn watch(&mut self, host: u32) {
        if host.is_multiple_of(self.options.watch_every)
            && let Some(old) = self.watched.insert(host, Watch::default())
        {
            self.checks += old.checks();
        }
    }

    fn make(&mut self, number: u32) -> Node {
        self.host_of.resize((number as usize + 1).max(self.host_of.len()), NOBODY);
        let rows = if self.options.wide { table::WIDE_ROWS } else { table::PLAIN_ROWS };
        let config = Config { rows, ..Config::new(Family::V4) };
        let rng = Rng::from_number(self.options.seed).fork_nth("node", number.into());
        Node::new(self.now, config, &rng)
    }

    /// Where some of the nodes are.
    fn some_addrs(&mut self, count: usize) -> Vec<SocketAddr> {
        let some: Vec<_> = (0..count.min(self.hosts.len())).map(|_| self.anybody()).collect();
        some.into_iter().map(|host| self.addr(host)).collect()
    }

    fn wake(&mut self, host: u32) {
        let Host { node, wake_at, .. } = &mut self.hosts[host as usize];
        if *wake_at != Some(self.now) {
            return;
        }
        *wake_at = None;
        if node.poll_timeout().is_some_and(|due| due.at <= self.now) {
            node.handle_timeout(self.now, &mut self.out);
        }
        self.after(host, None);
    }

    fn deliver(&mut self, from: Party, to: Party, data: &[u8]) {
        let from_addr = self.party_addr(from);
        match to {
            Party::Attacker(attacker) => {
                let at = self.attackers.contacts()[attacker as usize].addr;
                if let Some(answer) = self.attackers.answer(at, from_addr, data) {
                    self.send(to, from, answer);
                }
            }
            Party::Host(number) => {
                let host = self.host_of[number as usize];
                let Some(Host { node, .. }) = self.hosts.get_mut(host as usize) else { return };
                if let Some(watch) = self.watched.get_mut(&host) {
                    watch.before(self.now, node, from_addr, data);
                }
                node.handle_datagram(self.now, from_addr, data, None, &mut self.out);
                self.after(host, Some((from_addr, data.len())));
            }
        }
    }

    /// Does what a host says, and plans when to wake it. `heard` is the sender and length of what it was told.
    fn after(&mut self, host: u32, heard: Option<(SocketAddr, usize)>) {
        if let Some(watch) = self.watched.get_mut(&host) {
            let node = &self.hosts[host as usize].node;
            let sent = self.out.iter().filter_map(|action| match action {
                Action::Send { to, data } => Some((*to, &data[..])),
                _ => None,
            });
            if let Err(breach) = watch.after(self.now, node, heard, sent) {
                self.breaches.push(format!("host {host} at {}: {breach}", self.now));
            }
        }
        let from = Party::Host(self.hosts[host as usize].number);
        let mut out = core::mem::take(&mut self.out);
        let mut needs_nodes = false;
        for action in out.drain(..) {
            match action {
                Action::Done { lookup, summary } => self.probes[lookup.0 as usize].done = Some(summary),
                Action::NeedNodes => needs_nodes = true,
                Action::Peers { lookup, peers, .. } => {
                    let probe = &mut self.probes[lookup.0 as usize];
                    if probe.wanted.is_some_and(|wanted| peers.contains(&wanted)) {
                        probe.found_at.get_or_insert(self.now);
                    }
                }
                Action::Send { to, data } => {
                    if let Some(to) = self.party_at(to) {
                        self.send(from, to, data);
                    }
                }
                Action::ExternalAddress { .. }
                | Action::Item { .. }
                | Action::Named(_)
                | Action::Nodes { .. }
                | Action::Pong { .. }
                | Action::Samples { .. }
                | Action::Scraped { .. } => {}
            }
        }
        self.out = out;
        let Host { node, wake_at, .. } = &mut self.hosts[host as usize];
        let due = node.poll_timeout().map(|due| due.at.max(self.now));
        if let Some(due) = due
            && wake_at.is_none_or(|planned| due < planned)
        {
            *wake_at = Some(due);
            self.wheel.push(due, What::Wake(host));
        }
        if needs_nodes && self.hosts.len() > 1 {
            let known = self.some_addrs(BOOTSTRAP);
            self.tell(host, Event::Learn(known));
        }
    }

    fn send(&mut self, from: Party, to: Party, data: Vec<u8>) {
        self.packets += 1;
        let (low, high) = (from.number().min(to.number()), from.number().max(to.number()));
        let is_lost = self.rng.chance(self.options.loss_permille.into(), 1000);
        if is_lost || (!self.cut.is_empty() && self.cut.contains(&(low, high))) {
            return;
        }
        let at = self.now + self.delay(from, to);
        self.wheel.push(at, What::Packet { from, to, data });
    }

    /// The same in both directions.
    fn delay(&self, from: Party, to: Party) -> Duration {
        let (from, to) = (from.number(), to.number());
        let drawn = mix(mix(from.min(to), from.max(to)), self.options.seed as u32);
        let (min, max) = self.options.delay;
        let range = (max - min).as_micros() as u64;
        min + Duration::from_micros((range * u64::from(drawn)) >> 32)
    }

    fn party_addr(&self, party: Party) -> SocketAddr {
        match party {
            Party::Attacker(attacker) => self.attackers.contacts()[attacker as usize].addr,
            Party::Host(number) => self.addresses.addr(number),
        }
    }

    fn party_at(&self, addr: SocketAddr) -> Option<Party> {
        if let Some(attacker) = self.attacker_of.get(&addr) {
            return Some(Party::Attacker(*attacker));
        }
        let number = self.addresses.number(addr)?;
        let host = self.host_of.get(number as usize)?;
        (*host != NOBODY).then_some(Party::Host(number))
    }
}

impl Party {
    fn number(self) -> u32 {
        match self {
            Self::Attacker(attacker) => u32::MAX - attacker,
            Self::Host(number) => number,
        }
    }
}

const NOBODY: u32 = u32::MAX;

/// Nodes that a new one is told of.
const BOOTSTRAP: usize = 3;
