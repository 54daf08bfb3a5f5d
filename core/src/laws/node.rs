//! The life of a node of the DHT, and of one in both its networks.

use super::{RECENT, Subject, garbage};
use crate::dht;
use crate::dht::item::Item;
use crate::dht::message::{self, Body, Contact, ErrorCode, ErrorReply, Family, Method, Nodes, Values};
use crate::dht::node_id::NodeId;
use crate::id::{InfoHash, LookupId};
use crate::machine::{Machine, Outbox, Timestamp};
use crate::rng::Rng;
use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt::{self, Debug};
use core::net::{IpAddr, SocketAddr};

/// What is one node to others, or two.
pub(super) trait Network: Machine<Event = dht::Event, Action = dht::Action> + Debug {
    fn new(now: Timestamp, rng: &Rng) -> Self;

    fn check_invariants(&self, now: Timestamp);
}

impl Network for dht::Node {
    fn new(now: Timestamp, rng: &Rng) -> Self {
        Self::new(now, dht::Config::new(Family::V4), rng)
    }

    fn check_invariants(&self, now: Timestamp) {
        self.check_invariants(now);
    }
}

impl Network for dht::Dht {
    fn new(now: Timestamp, rng: &Rng) -> Self {
        Self::new(now, &[Family::V4, Family::V6], rng)
    }

    fn check_invariants(&self, now: Timestamp) {
        self.check_invariants(now);
    }
}

/// A node of the DHT, others that answer it or don't, and lookups.
pub(super) struct Searching<N> {
    node: N,
    next_id: u64,
    underway: BTreeSet<LookupId>,
    sent: Vec<(SocketAddr, Vec<u8>)>,
}

impl<N: Network> Subject for Searching<N> {
    type Input = dht::Event;
    type Machine = N;

    fn new(now: Timestamp, rng: &mut Rng) -> Self {
        Self { node: N::new(now, rng), next_id: 0, underway: BTreeSet::new(), sent: vec![] }
    }

    fn machine(&mut self) -> &mut N {
        &mut self.node
    }

    fn draw(&self, rng: &mut Rng) -> dht::Event {
        let contacts = |rng: &mut Rng| (0..rng.below(9)).map(|_| contact(rng)).collect::<Vec<_>>();
        match rng.below(32) {
            0 => dht::Event::Cancel(LookupId(rng.below(self.next_id + 2))),
            1 if rng.chance(1, 4) => dht::Event::NetworkChanged,
            1 => dht::Event::ExternalAddress(contact(rng).addr.ip()),
            2 | 3 => dht::Event::Learn(contacts(rng).into_iter().map(|contact| contact.addr).collect()),
            4 => dht::Event::Named(contacts(rng)),
            5 => dht::Event::Restore(dht::Saved { contacts: contacts(rng), ..dht::Saved::default() }),
            6 => dht::Event::SetReadOnly(rng.chance(1, 3)),
            7..=9 => dht::Event::Start { lookup: LookupId(self.next_id), task: task(rng) },
            10 => dht::Event::Datagram { from: contact(rng).addr, data: garbage(rng, 60) },
            11..=15 => dht::Event::Datagram { from: contact(rng).addr, data: asking(rng) },
            _ => {
                let contacts = contacts(rng);
                self.answer(rng, &contacts)
            }
        }
    }

    fn feed(&mut self, now: Timestamp, input: &dht::Event, out: &mut Outbox<dht::Action>) {
        match input {
            dht::Event::Cancel(lookup) => drop(self.underway.remove(lookup)),
            dht::Event::Start { lookup, .. } => {
                self.next_id += 1;
                self.underway.insert(*lookup);
            }
            _ => {}
        }
        self.node.handle_event(now, input.clone(), out);
        self.node.check_invariants(now);
    }

    fn hear(&mut self, said: &dht::Action) {
        match said {
            dht::Action::Done { lookup, .. } => assert!(self.underway.remove(lookup), "{lookup} ends once"),
            dht::Action::Item { lookup, .. }
            | dht::Action::Nodes { lookup, .. }
            | dht::Action::Peers { lookup, .. }
            | dht::Action::Pong { lookup, .. }
            | dht::Action::Samples { lookup, .. }
            | dht::Action::Scraped { lookup, .. } => {
                assert!(self.underway.contains(lookup), "{lookup} is over");
            }
            dht::Action::Send { to, data } => {
                self.sent.push((*to, data.clone()));
                self.sent.drain(..self.sent.len().saturating_sub(RECENT));
            }
            _ => {}
        }
    }
}

/// Only the machine is of interest, and packets are long.
impl<N: Debug> Debug for Searching<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.node.fmt(f)
    }
}

impl<N> Searching<N> {
    /// An answer to one of the last queries, if it was one, with these nodes.
    fn answer(&self, rng: &mut Rng, contacts: &[Contact]) -> dht::Event {
        let recent = self.sent.get(rng.below(self.sent.len() as u64) as usize);
        let Some((to, data)) = recent else { return dht::Event::Named(contacts.to_vec()) };
        let transaction = message::Message::parse(data).expect("it is ours").transaction;
        let values = [contact(rng).addr];
        let reply = message::Reply {
            nodes: Some(Nodes::Contacts(contacts)),
            token: rng.chance(3, 4).then_some(&b"token"[..]),
            values: rng.chance(1, 2).then_some(Values::Addrs(&values)),
            ..message::Reply::new(contact(rng).id)
        };
        let body = match rng.below(8) {
            0 => Body::Error(ErrorReply { code: ErrorCode::GENERIC, text: b"no" }),
            _ => Body::Reply(reply),
        };
        let message = message::Message { ip: Some(values[0]), ..message::Message::new(transaction, body) };
        dht::Event::Datagram { from: *to, data: message.encode().into() }
    }
}

/// One of a few, so that they meet again; one in 64 has another id than usual.
fn contact(rng: &mut Rng) -> Contact {
    let n = rng.below(100);
    let id = NodeId::random(&mut Rng::from_number(n + u64::from(rng.chance(1, 64))));
    let ip: IpAddr = match n {
        0..20 => [10, 0, 0, n as u8].into(),
        20..60 => [0x2a01, n as u16, 0, 0, 0, 0, 0, 1].into(),
        _ => [45, n as u8, 1, 1].into(),
    };
    Contact { id, addr: SocketAddr::from((ip, 6881)) }
}

fn task(rng: &mut Rng) -> dht::Task {
    let (target, info_hash) = (contact(rng).id, InfoHash([7; 20]));
    match rng.below(7) {
        0 => dht::Task::FindNode { target },
        1 => dht::Task::GetItem { target, salt: Bytes::new(), seq: None },
        2 => dht::Task::Put { item: Item::immutable(b"4:data").expect("it is short"), cas: None },
        3 => dht::Task::Sample { target },
        4 => dht::Task::Scrape { info_hash },
        5 => dht::Task::Ping { to: contact(rng).addr },
        _ => {
            let announced = dht::Announced { port: 6881, implied_port: rng.chance(1, 2), seed: false };
            let announce = rng.chance(1, 2).then_some(announced);
            dht::Task::GetPeers { info_hash, announce, noseed: rng.chance(1, 2) }
        }
    }
}

/// A query of another node.
fn asking(rng: &mut Rng) -> Bytes {
    let (target, info_hash) = (contact(rng).id, InfoHash([7; 20]));
    let announce =
        message::Announce { info_hash, implied_port: false, port: 6881, seed: false, token: b"token" };
    let method = match rng.below(8) {
        0 => Method::AnnouncePeer(announce),
        1 => Method::FindNode { target },
        2 => Method::Get { target, seq: None },
        3 | 4 => Method::GetPeers { info_hash, noseed: false, scrape: rng.chance(1, 2) },
        5 => Method::Ping,
        6 => Method::SampleInfohashes { target },
        _ => Method::Unknown { name: b"other", target: Some(target) },
    };
    let query = message::Query::new(contact(rng).id, method);
    let message = message::Message::new(message::Transaction::from(7), Body::Query(query));
    message::Message { read_only: rng.chance(1, 8), ..message }.encode().into()
}
