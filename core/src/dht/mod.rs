//! The distributed hash table (BEP 5, 32, 33, 42, 43, 44, 46, 51).
//!
//! [`Node`] is our node in the network of one address family, the sum of
//!
//! - [`table`]: nodes that we know,
//! - [`queries`]: who owes us an answer,
//! - [`lookup`]: how to find what is stored at a place, and where to store it so that others do, whoever is in the way,
//! - [`peer_store`], [`item_store`]: what others stored here,
//! - [`limits`]: how much others may use us.
//!
//! [`Dht`] is a node of each family side by side.

mod answering;
pub mod bloom;
pub mod contact;
mod dual;
mod event;
pub mod item;
pub mod item_store;
pub mod limits;
pub mod lookup;
pub mod message;
pub mod node_id;
pub mod peer_store;
pub mod queries;
pub mod saved;
mod search;
mod shares;
pub mod table;
pub mod token;
mod upkeep;
pub mod votes;

pub use dual::Dht;
pub use event::{Action, Announced, Event, Saved, Summary, Task};

use crate::address::canonical;
use crate::id::LookupId;
use crate::ip_filter::IpFilter;
use crate::machine::{Deadline, Machine, Outbox, Timestamp};
use crate::rng::Rng;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use answering::Asked;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use item_store::ItemStore;
use limits::{Meter, Proven, Senders};
use lookup::Ask;
use message::{Body, Contact, Family, Message, Method, Reply, Transaction, Want};
use node_id::NodeId;
use peer_store::{PeerLimits, PeerStore};
use queries::{Overdue, Queries, Query};
use search::{Search, Step};
use table::{Table, Verdict};
use token::Tokens;
use upkeep::{MAX_PINGS, Upkeep};
use votes::Votes;

/// What a node is made with.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Which network it is a node of.
    pub family: Family,
    /// How wide the first rows of its table are.
    pub rows: [u8; 4],
    /// How much it stores for others.
    pub peers: PeerLimits,
    /// How many items it stores for others.
    pub items: usize,
}

impl Config {
    /// As the program runs it.
    pub fn new(family: Family) -> Self {
        let (peers, items) = (PeerLimits::default(), item_store::MAX_ITEMS);
        Self { family, rows: table::WIDE_ROWS, peers, items }
    }
}

/// Our node in the network of one address family.
///
/// It needs to be told of a few nodes, by [`Event::Restore`] or [`Event::Learn`], and says [`Action::NeedNodes`] while it
/// has none. Lookups begin at once with whatever is known, and get what is learnt later.
#[derive(Debug)]
pub struct Node {
    family: Family,
    rng: Rng,
    read_only: bool,
    filter: Arc<IpFilter>,
    /// Whether queries ask for nodes of both families.
    wants_both: bool,
    table: Table,
    upkeep: Upkeep,
    queries: Queries<Purpose>,
    searches: BTreeMap<Key, Search>,
    /// Pings that we were told to send, and that owe an answer.
    probes: BTreeSet<LookupId>,
    /// What begins when something else is over.
    waiting: VecDeque<(LookupId, Task)>,
    /// When searches that the rate of queries holds back go on.
    resume_at: Option<Timestamp>,
    votes: Votes,
    tokens: Tokens,
    peers: PeerStore,
    items: ItemStore,
    senders: Senders,
    proven: Proven,
    reply_meter: Meter,
    query_meter: Meter,
}

/// Which search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    /// The so many-th for our own neighbours, to get to know the network.
    Bootstrap(u32),
    /// One that we were told to do.
    Told(LookupId),
}

/// What a query is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// To see whether a node is there.
    Ping,
    /// The same, because we were told to.
    Probe(LookupId),
    /// To search.
    Search(Key),
    /// To store what a search was for.
    Store(Key),
    /// To see whether a node in the table is still there, and to hear of others.
    Upkeep,
}

impl Node {
    /// A node that knows nobody. Its id is random until it knows its address.
    pub fn new(now: Timestamp, config: Config, rng: &Rng) -> Self {
        let mut own = rng.fork("node");
        let id = NodeId::random(&mut own);
        Self {
            family: config.family,
            read_only: false,
            filter: Arc::default(),
            wants_both: false,
            table: Table::new(config.family, id, config.rows),
            upkeep: Upkeep::new(now),
            queries: Queries::new(rng.fork("queries")),
            searches: BTreeMap::new(),
            probes: BTreeSet::new(),
            waiting: VecDeque::new(),
            resume_at: None,
            votes: Votes::default(),
            tokens: Tokens::new(rng.fork("tokens")),
            peers: PeerStore::new(config.family, config.peers, rng.fork("peers")),
            items: ItemStore::new(config.items),
            senders: Senders::default(),
            proven: Proven::default(),
            reply_meter: Meter::new(REPLY_BYTES_PER_S, REPLY_BURST),
            query_meter: Meter::new(QUERY_BYTES_PER_S, QUERY_BURST),
            rng: own,
        }
    }

    /// Our id.
    pub fn id(&self) -> NodeId {
        self.table.own_id()
    }

    /// The nodes that we know.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The peers that others announced here.
    pub fn peers(&self) -> &PeerStore {
        &self.peers
    }

    /// The items that others put here.
    pub fn items(&self) -> &ItemStore {
        &self.items
    }

    /// How many queries are not answered.
    pub fn open_queries(&self) -> usize {
        self.queries.len()
    }

    /// Whether we have found our neighbours.
    pub fn is_bootstrapped(&self) -> bool {
        self.upkeep.is_settled()
    }

    /// How a search stands that is underway.
    pub fn summary(&self, lookup: LookupId) -> Option<Summary> {
        self.searches.get(&Key::Told(lookup)).map(Search::summary)
    }

    /// Whether a search met nothing but silence, so far: it has nobody to ask, or whom it asked owes an answer for long.
    pub(super) fn is_in_vain(&self, lookup: LookupId) -> bool {
        let knows_nobody = self.table.is_empty();
        let search = self.searches.get(&Key::Told(lookup));
        search.map_or(knows_nobody, |search| search.lookup.is_in_vain(knows_nobody))
    }

    /// What to remember for the next start.
    pub fn save(&self) -> Saved {
        let (id, contacts) = (Some(self.id()), self.table.save());
        match self.family {
            Family::V4 => Saved { id4: id, id6: None, contacts },
            Family::V6 => Saved { id4: None, id6: id, contacts },
        }
    }

    /// Whether queries ask for nodes of both families (BEP 32).
    pub fn set_wants_both(&mut self, wants_both: bool) {
        self.wants_both = wants_both;
    }

    /// A datagram came; `other` is the table of the other family, for those who ask for nodes of both.
    pub fn handle_datagram(
        &mut self,
        now: Timestamp,
        from: SocketAddr,
        data: &[u8],
        other: Option<&Table>,
        out: &mut Outbox<Action>,
    ) {
        let from = canonical(from);
        if !self.admits(from) {
            return;
        }
        match Message::parse(data) {
            Ok(message) => match message.body {
                Body::Error(_) => self.on_error(now, from, message.transaction, out),
                Body::Query(query) => {
                    let asked = Asked { from, message: &message, query: &query, len: data.len() };
                    self.on_query(now, asked, other, out);
                }
                Body::Reply(reply) => self.on_reply(now, from, &message, &reply, out),
            },
            Err(malformed) => self.on_malformed(now, from, malformed, data.len(), out),
        }
    }

    /// Panics unless every rule about its parts holds. For tests and simulators.
    pub fn check_invariants(&self, now: Timestamp) {
        self.table.check_invariants();
        self.queries.check_invariants();
        self.peers.check_invariants(now);
        self.items.check_invariants(now);
        self.searches.values().for_each(|search| search.lookup.check_invariants());
        assert!(self.searches.len() <= MAX_SEARCHES + 1, "{} searches at a time", self.searches.len());
        let most = MAX_OPEN + MAX_PINGS + MAX_SEARCHES;
        assert!(self.queries.len() <= most, "{} queries are open", self.queries.len());
    }

    /// Whether there may be a node at this address, and we want anything to do with it.
    pub(super) fn admits(&self, addr: SocketAddr) -> bool {
        self.family.admits(addr) && !self.filter.blocks(addr.ip())
    }

    /// Whether a node that we want anything to do with could answer what is sent there.
    pub(super) fn may_ask(&self, addr: SocketAddr) -> bool {
        self.family.reaches(addr) && !self.filter.blocks(addr.ip())
    }

    /// Forgets the nodes that are blocked from now on. Those that owe an answer will not be heard.
    fn set_ip_filter(&mut self, filter: Arc<IpFilter>) {
        self.table.retain(|contact| !filter.blocks(contact.addr.ip()));
        self.filter = filter;
    }

    fn on_reply(
        &mut self,
        now: Timestamp,
        from: SocketAddr,
        message: &Message<'_>,
        reply: &Reply<'_>,
        out: &mut Outbox<Action>,
    ) {
        let Some((asked, query)) = self.close(now, from, message.transaction) else { return };
        let contact = Contact { id: reply.id, addr: from };
        if let Verdict::Probe(suspect) = self.table.answered(now, contact) {
            self.ping(now, suspect.addr, Some(suspect.id), out);
        }
        if let Some(id) = query.id.filter(|id| *id != reply.id) {
            // Whoever we know at that address is not there.
            self.on_fault(now, Contact { id, addr: from }, out);
        }
        if let Some(seen) = message.ip {
            self.on_vote(now, from, seen, out);
        }
        if query.purpose == Purpose::Upkeep {
            self.upkeep.answered();
        }
        let others: Vec<Contact> = reply.contacts(self.other_family()).collect();
        if !others.is_empty() {
            out.push_back(Action::Named(others));
        }
        match query.purpose {
            Purpose::Ping | Purpose::Upkeep => {}
            Purpose::Probe(lookup) => self.on_probed(now, lookup, Some(contact), out),
            Purpose::Search(key) => {
                if let Some(search) = self.searches.get_mut(&key) {
                    let ask = Ask { to: asked, id: query.id };
                    search.answered(ask, from, reply, self.family, &self.filter, out);
                }
                self.advance(now, key, out);
            }
            Purpose::Store(key) => self.on_store_ended(now, key, true, out),
        }
        if self.is_bootstrapped() {
            self.on_named(now, reply.contacts(self.family), out);
        } else {
            self.tell_starved(now, contact, out);
            self.bootstrap(now, out);
        }
    }

    fn on_error(
        &mut self,
        now: Timestamp,
        from: SocketAddr,
        transaction: Transaction,
        out: &mut Outbox<Action>,
    ) {
        let Some((asked, query)) = self.close(now, from, transaction) else { return };
        // It does not know what to answer, but it is there.
        if let Some(id) = query.id {
            self.table.answered(now, Contact { id, addr: from });
        }
        if query.purpose == Purpose::Upkeep {
            self.upkeep.answered();
        }
        self.on_closed(now, asked, &query, out);
    }

    /// A query ended without an answer that could be used.
    fn on_closed(
        &mut self,
        now: Timestamp,
        to: SocketAddr,
        query: &Query<Purpose>,
        out: &mut Outbox<Action>,
    ) {
        match query.purpose {
            Purpose::Ping | Purpose::Upkeep => {}
            Purpose::Probe(lookup) => self.on_probed(now, lookup, None, out),
            Purpose::Search(key) => {
                if let Some(search) = self.searches.get_mut(&key) {
                    search.lookup.failed(Ask { to, id: query.id });
                }
                self.advance(now, key, out);
            }
            Purpose::Store(key) => self.on_store_ended(now, key, false, out),
        }
    }

    fn on_store_ended(&mut self, now: Timestamp, key: Key, is_stored: bool, out: &mut Outbox<Action>) {
        if let Some(search) = self.searches.get_mut(&key) {
            search.store_ended(is_stored);
        }
        self.advance(now, key, out);
    }

    /// A node says where it sees us.
    fn on_vote(&mut self, now: Timestamp, from: SocketAddr, seen: SocketAddr, out: &mut Outbox<Action>) {
        let agrees = self.votes.elected() == Some(seen.ip().to_canonical());
        if Family::of(seen.ip()) != self.family || !self.votes.cast(from, seen.ip()) || agrees {
            return;
        }
        out.push_back(Action::ExternalAddress { from, addr: seen });
        if let Some(elected) = self.votes.elected() {
            self.move_to(now, elected, out);
        }
    }

    /// Takes an id that belongs to our address, if ours doesn't (BEP 42).
    fn move_to(&mut self, now: Timestamp, ip: IpAddr, out: &mut Outbox<Action>) {
        if Family::of(ip) != self.family || self.id().is_secure_for(ip) {
            return;
        }
        let id = NodeId::secure(ip, &mut self.rng);
        self.table.move_to(id);
        self.bootstrap_again(now, out);
    }

    fn on_overdue(&mut self, now: Timestamp, out: &mut Outbox<Action>) {
        while let Some(overdue) = self.queries.pop_overdue(now) {
            match overdue {
                Overdue::Late { to, id, purpose: Purpose::Search(key) } => {
                    if let Some(search) = self.searches.get_mut(&key) {
                        search.lookup.late(Ask { to, id });
                    }
                    self.advance(now, key, out);
                }
                Overdue::Late { to, purpose: Purpose::Upkeep, .. } => {
                    // Another one shows whether it is that node or our connection that is dead.
                    let witness = self.table.liveliest(now).filter(|witness| witness.addr != to);
                    if let Some(witness) = witness {
                        self.ping(now, witness.addr, Some(witness.id), out);
                    }
                }
                Overdue::Late { .. } => {}
                Overdue::Dead { to, query, is_fault } => {
                    if query.purpose == Purpose::Ping {
                        self.upkeep.ping_ended();
                    }
                    if let Some(id) = query.id.filter(|_| is_fault) {
                        if query.purpose == Purpose::Upkeep {
                            self.upkeep.failed();
                        }
                        self.on_fault(now, Contact { id, addr: to }, out);
                    }
                    self.on_closed(now, to, &query, out);
                }
            }
        }
    }

    /// A node did not answer, or is another one: asks a spare of the table that may take its place.
    fn on_fault(&mut self, now: Timestamp, contact: Contact, out: &mut Outbox<Action>) {
        if let Some(spare) = self.table.failed(&contact) {
            self.ping(now, spare.addr, Some(spare.id), out);
        }
    }

    fn start(&mut self, now: Timestamp, lookup: LookupId, task: Task, out: &mut Outbox<Action>) {
        if !self.has_room() {
            return self.waiting.push_back((lookup, task));
        }
        if let Task::Ping { to } = task {
            return self.probe(now, lookup, canonical(to), out);
        }
        let key = Key::Told(lookup);
        self.begin(now, key, Some(lookup), task);
        self.advance(now, key, out);
        self.bootstrap(now, out);
    }

    fn begin(&mut self, now: Timestamp, key: Key, id: Option<LookupId>, task: Task) {
        let population = self.is_bootstrapped().then(|| self.table.population());
        let mut search = Search::new(now, id, task, self.family, self.id(), population);
        self.introduce(&mut search);
        self.upkeep.addresses().for_each(|addr| search.lookup.learn_address(addr));
        self.searches.insert(key, search);
    }

    /// Tells a search of the closest nodes that we know.
    fn introduce(&self, search: &mut Search) {
        let target = search.lookup.target();
        let sure = self.table.closest(target, FIRST_CONTACTS, true);
        if sure.len() < FIRST_CONTACTS {
            let unsure = self.table.closest(target, FIRST_UNSURE_CONTACTS, false);
            unsure.into_iter().for_each(|contact| search.lookup.learn_unsure(contact));
        }
        sure.into_iter().for_each(|contact| search.lookup.learn(contact));
    }

    /// Does whatever a search wants next, until it waits.
    fn advance(&mut self, now: Timestamp, key: Key, out: &mut Outbox<Action>) {
        while !self.is_held_back(now) {
            let Some(search) = self.searches.get_mut(&key) else { return };
            match search.step(now) {
                // It was blocked after the search had learnt of it.
                Step::Ask(ask) if self.filter.blocks(ask.to.ip()) => search.lookup.failed(ask),
                Step::Store(Contact { addr, .. }, _) if self.filter.blocks(addr.ip()) => {
                    search.store_ended(false);
                }
                Step::Ask(ask) => {
                    let transaction = self.queries.open(now, ask.to, ask.id, Purpose::Search(key));
                    let data = self.write_query(transaction, self.searches[&key].question());
                    self.send_query(now, ask.to, data, out);
                }
                Step::Over => return self.finish(now, key, out),
                Step::Store(Contact { id, addr }, token) => {
                    let transaction = self.queries.open(now, addr, Some(id), Purpose::Store(key));
                    let data = self.write_query(transaction, self.searches[&key].request(&token));
                    self.send_query(now, addr, data, out);
                }
                Step::Wait => return self.on_wait(key, out),
            }
        }
    }

    fn finish(&mut self, now: Timestamp, key: Key, out: &mut Outbox<Action>) {
        if let Some(search) = self.searches.remove(&key) {
            if let Key::Bootstrap(_) = key {
                self.on_bootstrapped(now, search.lookup.answers() > 0);
            }
            search.finish(out);
        }
        self.start_waiting(now, out);
    }

    fn cancel(&mut self, now: Timestamp, lookup: LookupId, out: &mut Outbox<Action>) {
        self.waiting.retain(|(waiting, _)| *waiting != lookup);
        if self.searches.remove(&Key::Told(lookup)).is_some() || self.probes.remove(&lookup) {
            self.start_waiting(now, out);
        }
    }

    fn has_room(&self) -> bool {
        self.searches.len() + self.probes.len() < MAX_SEARCHES
    }

    fn start_waiting(&mut self, now: Timestamp, out: &mut Outbox<Action>) {
        while self.has_room()
            && let Some((lookup, task)) = self.waiting.pop_front()
        {
            self.start(now, lookup, task, out);
        }
    }

    /// Asks whether there is a node at an address, whatever else is asked.
    fn probe(&mut self, now: Timestamp, lookup: LookupId, to: SocketAddr, out: &mut Outbox<Action>) {
        if !self.may_ask(to) {
            return out.push_back(Action::Done { lookup, summary: Summary::default() });
        }
        self.probes.insert(lookup);
        let transaction = self.queries.open(now, to, None, Purpose::Probe(lookup));
        let data = self.write_query(transaction, Method::Ping);
        self.send_query(now, to, data, out);
    }

    /// The node at that address answered, or did not.
    fn on_probed(
        &mut self,
        now: Timestamp,
        lookup: LookupId,
        node: Option<Contact>,
        out: &mut Outbox<Action>,
    ) {
        if self.probes.remove(&lookup) {
            let summary = Summary { asked: 1, answered: u32::from(node.is_some()), ..Summary::default() };
            if let Some(Contact { id, addr: from }) = node {
                out.push_back(Action::Pong { lookup, from, id });
            }
            out.push_back(Action::Done { lookup, summary });
            self.start_waiting(now, out);
        }
    }

    /// Ends what took too long, and goes on with what was held back.
    fn wake_searches(&mut self, now: Timestamp, out: &mut Outbox<Action>) {
        let over = self.searches.iter().filter(|(_, search)| search.ends_at <= now).map(|(key, _)| *key);
        for key in over.collect::<Vec<_>>() {
            self.finish(now, key, out);
        }
        if self.resume_at.is_some_and(|at| at <= now) {
            self.resume_at = None;
            self.advance_all(now, out);
        }
    }

    /// Whether no more may be asked at the moment.
    fn is_held_back(&mut self, now: Timestamp) -> bool {
        let opens_at = self.query_meter.opens_at();
        let is_held_back = opens_at > now || self.queries.len() >= MAX_OPEN;
        if is_held_back && self.resume_at.is_none() {
            self.resume_at = Some(opens_at.max(now + RESUME_AFTER));
        }
        is_held_back
    }

    /// Asks whether a node is there, unless it is being asked something, or too much is asked already.
    fn ping(&mut self, now: Timestamp, to: SocketAddr, id: Option<NodeId>, out: &mut Outbox<Action>) {
        let is_free = self.query_meter.opens_at() <= now && self.upkeep.may_ping();
        if is_free && self.admits(to) && !self.queries.is_asked(to) {
            self.upkeep.ping_began();
            let transaction = self.queries.open(now, to, id, Purpose::Ping);
            let data = self.write_query(transaction, Method::Ping);
            self.send_query(now, to, data, out);
        }
    }

    fn write_query(&self, transaction: u32, method: Method<'_>) -> Vec<u8> {
        let both = self.wants_both;
        let query =
            message::Query { want: Want { n4: both, n6: both }, ..message::Query::new(self.id(), method) };
        let transaction = Transaction::new(&transaction.to_be_bytes()).expect("four bytes fit");
        let message = Message::new(transaction, Body::Query(query));
        Message { read_only: self.read_only, ..message }.encode()
    }

    fn send_query(&mut self, now: Timestamp, to: SocketAddr, data: Vec<u8>, out: &mut Outbox<Action>) {
        self.query_meter.take(now, data.len());
        out.push_back(Action::Send { to, data });
    }

    /// Closes the query that a message answers, if there is one.
    fn close(
        &mut self,
        now: Timestamp,
        from: SocketAddr,
        transaction: Transaction,
    ) -> Option<(SocketAddr, Query<Purpose>)> {
        let transaction = u32::from_be_bytes(transaction.as_bytes().try_into().ok()?);
        let asked = self.queries.asked(from, transaction)?;
        let query = self.queries.close(now, asked, transaction)?;
        if query.purpose == Purpose::Ping {
            self.upkeep.ping_ended();
        }
        Some((asked, query))
    }

    fn other_family(&self) -> Family {
        match self.family {
            Family::V4 => Family::V6,
            Family::V6 => Family::V4,
        }
    }
}

impl Machine for Node {
    type Event = Event;
    type Action = Action;

    fn handle_event(&mut self, now: Timestamp, event: Event, out: &mut Outbox<Action>) {
        match event {
            Event::Cancel(lookup) => self.cancel(now, lookup, out),
            Event::Datagram { from, data } => self.handle_datagram(now, from, &data, None, out),
            // Nodes know better what they see.
            Event::ExternalAddress(ip) if self.votes.elected().is_none() => self.move_to(now, ip, out),
            Event::ExternalAddress(_) => {}
            Event::NetworkChanged => self.on_network_changed(now, out),
            Event::Learn(addrs) => self.on_learn(now, &addrs, out),
            Event::Named(contacts) if self.is_bootstrapped() => self.on_named(now, contacts.into_iter(), out),
            Event::Named(contacts) => {
                let addrs: Vec<SocketAddr> = contacts.into_iter().map(|contact| contact.addr).collect();
                self.on_learn(now, &addrs, out);
            }
            Event::Restore(saved) => self.on_restore(now, saved, out),
            Event::SetIpFilter(filter) => self.set_ip_filter(filter),
            Event::SetReadOnly(read_only) => self.read_only = read_only,
            Event::Start { lookup, task } => self.start(now, lookup, task, out),
        }
    }

    fn handle_timeout(&mut self, now: Timestamp, out: &mut Outbox<Action>) {
        self.on_overdue(now, out);
        self.wake_searches(now, out);
        self.keep_up(now, out);
        let is_due = |due: Option<Deadline>| due.is_some_and(|due| due.at <= now);
        if is_due(self.peers.poll_timeout()) {
            self.peers.handle_timeout(now);
        }
        if is_due(self.items.poll_timeout()) {
            self.items.handle_timeout(now);
        }
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let searches = self.searches.values().map(|search| search.ends_at).min();
        let searches = searches.map(|at| Deadline { at, why: "lookup takes too long" });
        let resume = self.resume_at.map(|at| Deadline { at, why: "ask on" });
        let parts = [
            self.queries.poll_timeout(),
            searches,
            resume,
            self.upkeep.poll_timeout(),
            self.peers.poll_timeout(),
            self.items.poll_timeout(),
        ];
        parts.into_iter().reduce(Deadline::earlier).flatten()
    }
}

/// L12: bytes of answers a second.
const REPLY_BYTES_PER_S: u32 = 8000;

/// Bytes of answers at once.
const REPLY_BURST: u32 = 8000;

/// Bytes of our own queries a second: two hundred.
const QUERY_BYTES_PER_S: u32 = 20_000;

/// Bytes of our own queries at once: enough for four lookups.
const QUERY_BURST: u32 = 40_000;

/// Lookups at a time, besides the one for our neighbours.
const MAX_SEARCHES: usize = 16;

/// Queries that are open at a time.
const MAX_OPEN: usize = 256;

/// Searches that were held back go on after this long at the earliest.
const RESUME_AFTER: Duration = Duration::from_millis(20);

/// Nodes with which a search begins; and with which it does before we know which of them are alive.
const FIRST_CONTACTS: usize = 16;
const FIRST_UNSURE_CONTACTS: usize = 64;

#[cfg(test)]
mod tests;
