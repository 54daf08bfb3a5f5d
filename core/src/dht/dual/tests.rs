use super::Dht;
use crate::dht::message::{Body, Contact, Family, Message, Method, Nodes, Query, Reply, Transaction, Values};
use crate::dht::node_id::NodeId;
use crate::dht::{Action, Event, Task};
use crate::id::{InfoHash, LookupId};
use crate::machine::{Machine as _, Outbox, Timestamp};
use crate::rng::Rng;
use alloc::vec;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

const HASH: InfoHash = InfoHash([0x5a; 20]);

fn at(millis: u64) -> Timestamp {
    Timestamp::ZERO + Duration::from_millis(millis)
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn four() -> Contact {
    Contact { id: NodeId([4; 20]), addr: addr("45.1.1.1:6881") }
}

fn six() -> Contact {
    Contact { id: NodeId([6; 20]), addr: addr("[2a00::1]:6881") }
}

struct Pair {
    dht: Dht,
    out: Outbox<Action>,
}

impl Pair {
    fn new(families: &[Family]) -> Self {
        Self { dht: Dht::new(at(0), families, &Rng::from_number(1)), out: Outbox::new() }
    }

    fn tell(&mut self, now: Timestamp, event: Event) -> Vec<Action> {
        self.dht.handle_event(now, event, &mut self.out);
        self.dht.check_invariants(now);
        self.out.drain(..).collect()
    }

    /// Lets the one who was asked something by `said` answer.
    fn answer(&mut self, now: Timestamp, said: &[Action], contact: Contact, reply: Reply<'_>) -> Vec<Action> {
        let sent = said.iter().filter_map(|it| match it {
            Action::Send { to, data } if *to == contact.addr => Some(Message::parse(data).unwrap()),
            _ => None,
        });
        let mut heard = Vec::new();
        for message in sent.filter(|message| matches!(message.body, Body::Query(_))) {
            let data = Message::new(message.transaction, Body::Reply(reply)).encode().into();
            heard.extend(self.tell(now, Event::Datagram { from: contact.addr, data }));
        }
        heard
    }
}

fn addressees(said: &[Action]) -> Vec<SocketAddr> {
    said.iter().filter_map(|it| if let Action::Send { to, .. } = it { Some(*to) } else { None }).collect()
}

#[test]
fn a_lookup_runs_in_both_networks_and_ends_once() {
    let mut pair = Pair::new(&[Family::V4, Family::V6]);
    pair.tell(at(0), Event::Learn(vec![four().addr, six().addr]));
    let task = Task::GetPeers { info_hash: HASH, announce: None, noseed: false };
    let said = pair.tell(at(0), Event::Start { lookup: LookupId(1), task });
    assert_eq!(addressees(&said), [four().addr, six().addr]);
    let peers = [addr("45.9.9.9:9"), addr("[2a00::9]:9")];
    for (contact, peer, is_over) in [(four(), peers[0], false), (six(), peers[1], true)] {
        let values = [peer];
        let reply = Reply { values: Some(Values::Addrs(&values)), ..Reply::new(contact.id) };
        let heard = pair.answer(at(40), &said, contact, reply);
        let found = Action::Peers { lookup: LookupId(1), from: contact.addr, peers: vec![peer] };
        assert!(heard.contains(&found), "{heard:?}");
        let done = heard.iter().filter_map(|it| {
            if let Action::Done { summary, .. } = it { Some(summary.answered) } else { None }
        });
        assert_eq!(done.collect::<Vec<_>>(), if is_over { vec![2] } else { vec![] });
    }
}

#[test]
fn one_address_brings_us_into_both_networks() {
    let mut pair = Pair::new(&[Family::V4, Family::V6]);
    let said = pair.tell(at(0), Event::Learn(vec![four().addr]));
    let Action::Send { data, .. } = &said[0] else { panic!("{said:?}") };
    let Body::Query(query) = Message::parse(data).unwrap().body else { panic!("{said:?}") };
    assert!(query.want.n4 && query.want.n6);
    let contacts = [six()];
    let reply = Reply { nodes6: Some(Nodes::Contacts(&contacts)), ..Reply::new(four().id) };
    let said = pair.answer(at(40), &said, four(), reply);
    assert!(addressees(&said).contains(&six().addr), "{said:?}");
    pair.answer(at(80), &said, six(), Reply::new(six().id));
    assert!([Family::V4, Family::V6].iter().all(|family| pair.dht.node(*family).unwrap().table().len() == 1));
    assert_eq!(pair.dht.known(), 2);
    let saved = pair.dht.save();
    assert_eq!(saved.contacts, [four(), six()]);
    assert!(saved.id4.is_some() && saved.id6.is_some() && saved.id4 != saved.id6);
}

#[test]
fn who_asks_for_both_gets_both() {
    let mut pair = Pair::new(&[Family::V4, Family::V6]);
    let said = pair.tell(at(0), Event::Learn(vec![four().addr, six().addr]));
    pair.answer(at(40), &said, four(), Reply::new(four().id));
    pair.answer(at(40), &said, six(), Reply::new(six().id));
    let mut query = Query::new(NodeId([9; 20]), Method::FindNode { target: HASH.into() });
    (query.want.n4, query.want.n6) = (true, true);
    let data = Message::new(Transaction::from(7), Body::Query(query)).encode().into();
    let said = pair.tell(at(100), Event::Datagram { from: addr("46.1.1.1:1"), data });
    let Action::Send { data, .. } = &said[0] else { panic!("{said:?}") };
    let Body::Reply(reply) = Message::parse(data).unwrap().body else { panic!("{said:?}") };
    assert_eq!((reply.contacts(Family::V4).count(), reply.contacts(Family::V6).count()), (1, 1));
}

#[test]
fn both_call_for_nodes_as_one() {
    let mut pair = Pair::new(&[Family::V4, Family::V6]);
    pair.dht.handle_timeout(at(0), &mut pair.out);
    assert_eq!(pair.out.drain(..).collect::<Vec<_>>(), [Action::NeedNodes]);
    let said = pair.tell(at(0), Event::Learn(vec![four().addr]));
    pair.answer(at(40), &said, four(), Reply::new(four().id));
    while let Some(due) = pair.dht.poll_timeout()
        && due.at < at(60_000)
    {
        pair.dht.handle_timeout(due.at, &mut pair.out);
        assert!(pair.out.drain(..).all(|it| it != Action::NeedNodes), "one of them knows somebody");
    }
}

#[test]
fn one_network_alone_will_do() {
    let mut pair = Pair::new(&[Family::V6]);
    assert_eq!(pair.tell(at(0), Event::Learn(vec![four().addr])), []);
    let said = pair.tell(at(0), Event::Learn(vec![six().addr]));
    assert_eq!(addressees(&said), [six().addr]);
    let mut none = Pair::new(&[]);
    let said = none.tell(at(0), Event::Start { lookup: LookupId(1), task: Task::Scrape { info_hash: HASH } });
    assert!(matches!(said[..], [Action::Done { lookup: LookupId(1), .. }]));
    assert_eq!(none.dht.poll_timeout(), None);
}

#[test]
fn a_ping_goes_to_one_network_and_ends_once() {
    let mut pair = Pair::new(&[Family::V4, Family::V6]);
    for (lookup, contact) in [four(), six()].into_iter().enumerate() {
        let lookup = LookupId(lookup as u64);
        let said = pair.tell(at(0), Event::Start { lookup, task: Task::Ping { to: contact.addr } });
        assert_eq!(addressees(&said), [contact.addr]);
        let heard = pair.answer(at(40), &said, contact, Reply::new(contact.id));
        let pong = Action::Pong { lookup, from: contact.addr, id: contact.id };
        let about: Vec<_> =
            heard.iter().filter(|it| matches!(it, Action::Pong { .. } | Action::Done { .. })).collect();
        assert!(
            matches!(about[..], [first, Action::Done { summary, .. }] if *first == pong && summary.answered == 1),
            "{heard:?}"
        );
    }
    let to = four().addr;
    let said = pair.tell(at(50), Event::Start { lookup: LookupId(2), task: Task::Ping { to } });
    pair.tell(at(60), Event::Cancel(LookupId(2)));
    let heard = pair.answer(at(90), &said, four(), Reply::new(four().id));
    assert!(!heard.iter().any(|it| matches!(it, Action::Pong { .. } | Action::Done { .. })), "{heard:?}");
}

#[test]
fn a_cancelled_lookup_is_over_in_both() {
    let mut pair = Pair::new(&[Family::V4, Family::V6]);
    pair.tell(at(0), Event::Learn(vec![four().addr, six().addr]));
    let task = Task::FindNode { target: HASH.into() };
    let said = pair.tell(at(0), Event::Start { lookup: LookupId(1), task });
    pair.tell(at(10), Event::Cancel(LookupId(1)));
    for contact in [four(), six()] {
        let heard = pair.answer(at(40), &said, contact, Reply::new(contact.id));
        assert!(!heard.iter().any(|it| matches!(it, Action::Done { .. })), "{heard:?}");
    }
}

/// An address of the other family is of no use where nothing can be sent to it.
#[test]
fn a_network_in_which_nobody_answers_holds_nothing_up() {
    let mut pair = Pair::new(&[Family::V4, Family::V6]);
    pair.tell(at(0), Event::Learn(vec![four().addr, six().addr]));
    let task = Task::FindNode { target: HASH.into() };
    let said = pair.tell(at(0), Event::Start { lookup: LookupId(1), task });
    let heard = pair.answer(at(40), &said, four(), Reply::new(four().id));
    let done = |heard: &[Action]| heard.iter().filter(|it| matches!(it, Action::Done { .. })).count();
    assert_eq!(done(&heard), 0, "the other one may still answer");
    let mut ended = None;
    while let Some(due) = pair.dht.poll_timeout()
        && ended.is_none()
    {
        pair.dht.handle_timeout(due.at, &mut pair.out);
        pair.dht.check_invariants(due.at);
        let heard: Vec<_> = pair.out.drain(..).collect();
        ended = (done(&heard) == 1).then_some(due.at);
    }
    assert!(ended.is_some_and(|at| at < self::at(5000)), "{ended:?}");
}
