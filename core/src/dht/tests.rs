mod world;

use super::message::{
    Announce, Body, Contact, ErrorCode, Message, Method, Query, Reply, Transaction, Values,
};
use super::node_id::NodeId;
use super::table::K;
use super::{Action, Announced, Config, Event, MAX_SEARCHES, Node, Saved, Summary, Task};
use crate::dht::item::{Item, SecretKey};
use crate::dht::message::{Family, Nodes};
use crate::id::{InfoHash, LookupId};
use crate::ip_filter::{Builder, Range};
use crate::machine::{Machine as _, Outbox, Timestamp};
use crate::rng::Rng;
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use world::{Lone, World};

const HASH: InfoHash = InfoHash([0x5a; 20]);

fn at(millis: u64) -> Timestamp {
    Timestamp::ZERO + Duration::from_millis(millis)
}

/// Each at a provider of its own.
fn nth(n: u32) -> SocketAddr {
    SocketAddr::from(([20 + (n % 90) as u8, (n / 90) as u8, 1, 1], 6881))
}

fn peers(announce: Option<Announced>) -> Task {
    Task::GetPeers { info_hash: HASH, announce, noseed: false }
}

fn announced(port: u16) -> Option<Announced> {
    Some(Announced { port, implied_port: false, seed: false })
}

fn id_of(addr: SocketAddr) -> NodeId {
    let IpAddr::V4(ip) = addr.ip() else { panic!("{addr} is IPv6") };
    let seed = u64::from(ip.to_bits()) << 16 | u64::from(addr.port());
    NodeId::secure(addr.ip(), &mut Rng::from_number(seed))
}

fn query(from: SocketAddr, method: Method<'_>) -> Vec<u8> {
    let query = Query::new(id_of(from), method);
    Message::new(Transaction::new(b"aa").unwrap(), Body::Query(query)).encode()
}

fn get_peers() -> Method<'static> {
    Method::GetPeers { info_hash: HASH, noseed: false, scrape: false }
}

fn reply_of(data: &[u8]) -> Reply<'_> {
    match Message::parse(data).unwrap().body {
        Body::Reply(reply) => reply,
        other => panic!("{other:?} is no reply"),
    }
}

fn error_of(data: &[u8]) -> ErrorCode {
    match Message::parse(data).unwrap().body {
        Body::Error(error) => error.code,
        other => panic!("{other:?} is no error"),
    }
}

#[test]
fn where_a_name_was_asked_the_answer_comes_from_where_it_leads() {
    let mut lone = Lone::new();
    let name: SocketAddr = "198.18.0.1:6881".parse().unwrap();
    let said = lone.tell(at(0), Event::Learn(vec![name]));
    let sent: Vec<_> = said
        .iter()
        .filter_map(|it| if let Action::Send { to, data } = it { Some((*to, data)) } else { None })
        .collect();
    let [(to, data)] = sent[..] else { panic!("{said:?}") };
    assert_eq!(to, name);
    let transaction = Message::parse(data).unwrap().transaction;
    let answer = |transaction| Message::new(transaction, Body::Reply(Reply::new(id_of(nth(3))))).encode();
    lone.hear(at(40), nth(3), &answer(transaction));
    assert_eq!(lone.node.table().len(), 1, "it is known by its own address");
    assert!(lone.node.table().save().iter().all(|contact| contact.addr == nth(3)));
    assert!(!lone.node.queries.is_asked(name));
    // The name itself is no node that anybody could name.
    assert!(!Family::V4.admits(name) && Family::V4.reaches(name) && !Family::V6.reaches(name));

    lone.tell(at(50), Event::Learn(vec![name]));
    lone.hear(at(90), nth(4), &answer(Transaction::new(b"none").unwrap()));
    assert_eq!(lone.node.table().len(), 1, "the transaction counts");
}

#[test]
fn two_nodes_get_to_know_each_other() {
    let mut world = World::new();
    world.add(nth(1));
    world.add(nth(2));
    world.tell(nth(1), Event::Learn(vec![nth(2)]));
    world.run(2000);
    for (here, there) in [(nth(1), nth(2)), (nth(2), nth(1))] {
        let contact = Contact { id: world.node(there).id(), addr: there };
        assert!(world.node(here).table().has_answered(&contact) && world.node(here).is_bootstrapped());
    }
}

#[test]
fn an_announced_peer_is_found_from_everywhere() {
    let mut world = World::settled(40);
    let (said, summary) = world.look_up(nth(7), peers(announced(7000)));
    assert!(said.is_empty() && summary.stored >= K as u32, "{said:?}, {summary}");
    let peer = SocketAddr::new(nth(7).ip(), 7000);
    for n in [0, 13, 39] {
        let (said, _) = world.look_up(nth(n), peers(None));
        assert!(said.iter().all(|it| matches!(it, Action::Peers { peers, .. } if *peers == [peer])));
        assert!(!said.is_empty());
    }
}

#[test]
fn an_implied_port_is_the_one_of_the_node() {
    let mut world = World::settled(20);
    let task = peers(Some(Announced { port: 1, implied_port: true, seed: false }));
    world.look_up(nth(7), task);
    let (said, _) = world.look_up(nth(3), peers(None));
    assert!(matches!(&said[0], Action::Peers { peers, .. } if *peers == [nth(7)]), "{said:?}");
}

#[test]
fn items_are_stored_and_found() {
    let mut world = World::settled(20);
    let key = SecretKey::from_seed(&[7; 32]);
    let old = Item::sign(&key, b"salt", 1, b"3:old").unwrap();
    let new = Item::sign(&key, b"salt", 2, b"3:new").unwrap();
    let fixed = Item::immutable(b"5:fixed").unwrap();
    for item in [old, new.clone(), fixed.clone()] {
        let (_, summary) = world.look_up(nth(7), Task::Put { item, cas: None });
        assert!(summary.stored >= K as u32, "{summary}");
    }
    for (item, salt) in [(new, &b"salt"[..]), (fixed, b"")] {
        let task = Task::GetItem { target: item.target(), salt: Bytes::copy_from_slice(salt), seq: None };
        let (said, _) = world.look_up(nth(3), task);
        assert!(matches!(&said[..], [Action::Item { item: found, .. }] if *found == item), "{said:?}");
    }
}

#[test]
fn torrents_are_sampled_and_counted() {
    let mut world = World::settled(20);
    for (n, seed) in [(1, true), (2, false), (3, false)] {
        world.look_up(nth(n), peers(Some(Announced { port: 1, implied_port: false, seed })));
    }
    let (said, _) = world.look_up(nth(9), Task::Sample { target: HASH.into() });
    let samples =
        said.iter().filter(|it| matches!(it, Action::Samples { hashes, count: 1, .. } if *hashes == [HASH]));
    assert!(samples.count() >= K, "{said:?}");
    let (said, _) = world.look_up(nth(9), Task::Scrape { info_hash: HASH });
    assert!(matches!(said[..], [Action::Scraped { seeds: 1, peers: 2, .. }]), "{said:?}");
}

#[test]
fn who_answers_nothing_can_count_peers() {
    let mut world = World::settled(20);
    world.look_up(nth(1), peers(Some(Announced { port: 1, implied_port: false, seed: true })));
    world.add(nth(99));
    world.tell(nth(99), Event::SetReadOnly(true));
    world.tell(nth(99), Event::Learn(vec![nth(5)]));
    let (said, _) = world.look_up(nth(99), Task::Scrape { info_hash: HASH });
    assert!(matches!(said[..], [Action::Scraped { seeds: 1, peers: 0, .. }]), "{said:?}");
}

#[test]
fn the_closest_nodes_to_a_place_are_named() {
    let mut world = World::settled(40);
    let (said, _) = world.look_up(nth(7), Task::FindNode { target: HASH.into() });
    let others = (0..40).filter(|n| *n != 7);
    let mut all: Vec<_> = others.map(|n| Contact { id: world.node(nth(n)).id(), addr: nth(n) }).collect();
    all.sort_unstable_by_key(|node| node.id.distance(HASH.into()));
    let [Action::Nodes { nodes, .. }] = &said[..] else { panic!("{said:?}") };
    assert_eq!(*nodes, all[..K]);
}

#[test]
fn a_ping_tells_who_is_there() {
    let mut world = World::settled(3);
    let id = world.node(nth(2)).id();
    let (said, summary) = world.look_up(nth(0), Task::Ping { to: nth(2) });
    assert!(
        matches!(said[..], [Action::Pong { from, id: theirs, .. }] if (from, theirs) == (nth(2), id)),
        "{said:?}"
    );
    assert_eq!(summary, Summary { asked: 1, answered: 1, ..Summary::default() });
    // Nobody, and where no node of this network can be.
    for (to, asked) in [(nth(99), 1), ("[2a00::1]:6881".parse().unwrap(), 0)] {
        let silence = (vec![], Summary { asked, ..Summary::default() });
        assert_eq!(world.look_up(nth(0), Task::Ping { to }), silence);
    }
}

#[test]
fn pings_wait_for_each_other_and_each_ends_once() {
    let mut lone = Lone::new();
    let nowhere = "[2a00::1]:6881".parse().unwrap();
    let mut said = Vec::new();
    for n in 0..100 {
        let to = if n % 3 == 0 { nowhere } else { nth(n) };
        said.extend(lone.tell(at(0), Event::Start { lookup: LookupId(n.into()), task: Task::Ping { to } }));
    }
    assert_eq!(said.iter().filter(|it| matches!(it, Action::Send { .. })).count(), MAX_SEARCHES);
    while let Some(due) = lone.node.poll_timeout()
        && due.at < at(60_000)
    {
        said.extend(lone.wake(due.at));
    }
    let ended =
        said.iter().filter_map(|it| if let Action::Done { lookup, .. } = it { Some(lookup.0) } else { None });
    let mut ended: Vec<_> = ended.collect();
    ended.sort_unstable();
    assert_eq!(ended, (0..100).collect::<Vec<_>>());
}

#[test]
fn a_node_that_is_alone_says_so_less_and_less_often() {
    let mut lone = Lone::new();
    let mut called = Vec::new();
    while let Some(due) = lone.node.poll_timeout()
        && due.at < at(1_000_000)
    {
        assert_eq!(lone.wake(due.at), [Action::NeedNodes]);
        called.push(due.at.since(at(0)).as_secs());
    }
    assert_eq!(called, [0, 5, 15, 35, 75, 155, 315, 615, 915]);
}

#[test]
fn a_lookup_without_nodes_waits_for_some_but_not_for_ever() {
    let mut world = World::settled(20);
    world.add(nth(99));
    let (said, summary) = world.look_up(nth(99), peers(None));
    assert_eq!((said, summary), (vec![], Summary::default()));
    world.tell(nth(99), Event::Start { lookup: LookupId(1), task: Task::FindNode { target: HASH.into() } });
    world.run(10_000);
    world.tell(nth(99), Event::Learn(vec![nth(5)]));
    world.run(2000);
    let done = world
        .said
        .iter()
        .find_map(|(_, it)| if let Action::Done { summary, .. } = it { Some(*summary) } else { None });
    assert!(done.unwrap().answered >= K as u32, "{done:?}");
    assert!(world.node(nth(99)).is_bootstrapped());
}

#[test]
fn a_dead_table_is_no_hindrance() {
    let mut world = World::settled(20);
    world.add(nth(99));
    let dead = (100..300).map(|n| Contact { id: id_of(nth(n)), addr: nth(n) }).collect();
    world.said.clear();
    world.tell(nth(99), Event::Restore(Saved { contacts: dead, ..Saved::default() }));
    world.tell(nth(99), Event::Start { lookup: LookupId(1), task: peers(None) });
    while !world.said.contains(&(nth(99), Action::NeedNodes)) {
        world.run(100);
    }
    assert!(world.now.since(at(66_000)) < Duration::from_secs(10), "{}", world.now);
    world.tell(nth(99), Event::Learn(vec![nth(5)]));
    world.run(10_000);
    let done = |it: &Action| matches!(it, Action::Done { summary, .. } if summary.answered >= K as u32);
    let summary = world.node(nth(99)).summary(LookupId(1));
    assert!(world.said.iter().any(|(_, it)| done(it)), "{summary:?} {:?}", world.said);
    assert!(world.node(nth(99)).is_bootstrapped());
}

#[test]
fn what_was_saved_brings_a_node_back() {
    let mut world = World::settled(40);
    let saved = world.node(nth(7)).save();
    world.look_up(nth(3), peers(announced(7000)));
    world.nodes.remove(&nth(7));
    world.add(nth(7));
    world.tell(nth(7), Event::Restore(saved.clone()));
    assert_eq!(Some(world.node(nth(7)).id()), saved.id4);
    world.said.clear();
    world.tell(nth(7), Event::Start { lookup: LookupId(1), task: peers(None) });
    world.run(500);
    assert!(world.said.iter().any(|(_, it)| matches!(it, Action::Peers { .. })), "{:?}", world.said);
}

#[test]
fn a_node_that_dies_leaves_the_tables() {
    let mut world = World::settled(20);
    world.nodes.remove(&nth(7));
    world.run(20 * 60_000);
    let knows = |node: &Node| node.table().save().iter().any(|contact| contact.addr == nth(7));
    assert_eq!(world.nodes.values().filter(|node| knows(node)).count(), 0);
}

#[test]
fn a_cut_cable_is_nobodys_fault() {
    let mut world = World::settled(20);
    let known = world.node(nth(7)).table().len();
    let cut = world.nodes.remove(&nth(7)).unwrap();
    let mut alone = World { nodes: [(nth(7), cut)].into(), ..World::new() };
    alone.now = world.now;
    alone.run(60 * 60_000);
    assert_eq!(alone.node(nth(7)).table().len(), known);
}

#[test]
fn a_read_only_node_asks_but_answers_nothing() {
    let mut world = World::settled(20);
    world.add(nth(99));
    world.tell(nth(99), Event::SetReadOnly(true));
    world.tell(nth(99), Event::Learn(vec![nth(1)]));
    world.run(30_000);
    assert!(world.node(nth(99)).table().len() > K);
    let knows = |node: &Node| node.table().save().iter().any(|contact| contact.addr == nth(99));
    assert_eq!(world.nodes.values().filter(|node| knows(node)).count(), 0);
    let mut lone = Lone::new();
    lone.tell(at(0), Event::SetReadOnly(true));
    assert_eq!(lone.ask(at(0), nth(1), Method::Ping), None);
    assert_eq!(lone.hear(at(0), nth(1), b"d1:q4:ping1:t2:aa1:y1:qe"), [b""; 0]);
}

#[test]
fn an_answer_tells_the_asker_its_address() {
    let mut lone = Lone::new();
    let data = lone.ask(at(0), nth(1), Method::Ping).unwrap();
    let message = Message::parse(&data).unwrap();
    assert_eq!((message.ip, message.transaction.as_bytes()), (Some(nth(1)), &b"aa"[..]));
    assert_eq!(reply_of(&data).id, lone.node.id());
}

#[test]
fn the_id_follows_the_address_on_which_enough_agree() {
    let mut world = World::new();
    for n in 1..20 {
        world.add(nth(n));
    }
    // Nobody told this one where it is.
    let node = Node::new(at(0), Config::new(Family::V4), &Rng::from_number(99));
    assert!(!node.id().is_secure_for(nth(99).ip()));
    world.nodes.insert(nth(99), node);
    world.tell(nth(99), Event::Learn((1..20).map(nth).collect()));
    world.run(5000);
    assert!(world.node(nth(99)).id().is_secure_for(nth(99).ip()));
    assert!(world.said.iter().any(|(who, it)| {
        *who == nth(99) && matches!(it, Action::ExternalAddress { addr, .. } if *addr == nth(99))
    }));
    assert!(world.node(nth(99)).is_bootstrapped() && world.node(nth(99)).table().len() > K);
}

#[test]
fn who_only_sends_queries_is_pinged_before_it_is_known() {
    let mut lone = Lone::new();
    let said = lone.tell(at(0), Event::Datagram { from: nth(1), data: query(nth(1), Method::Ping).into() });
    assert_eq!((said.len(), lone.node.table().len()), (2, 0));
    let again = lone.tell(at(1), Event::Datagram { from: nth(1), data: query(nth(1), Method::Ping).into() });
    assert_eq!(again.len(), 1, "no second ping while one is open");
    lone.let_answer(at(50), &said);
    assert_eq!(lone.node.table().len(), 1);
}

#[test]
fn an_answer_from_elsewhere_is_none() {
    let mut lone = Lone::new();
    let said = lone.tell(at(0), Event::Datagram { from: nth(1), data: query(nth(1), Method::Ping).into() });
    let Action::Send { data, .. } = &said[1] else { panic!("{said:?}") };
    let transaction = Message::parse(data).unwrap().transaction;
    let reply = Message::new(transaction, Body::Reply(Reply::new(id_of(nth(1))))).encode();
    lone.hear(at(50), nth(2), &reply);
    lone.hear(at(50), SocketAddr::new(nth(1).ip(), 9), &reply);
    let other = Message::new(Transaction::from(7), Body::Reply(Reply::new(id_of(nth(1))))).encode();
    lone.hear(at(50), nth(1), &other);
    assert_eq!((lone.node.table().len(), lone.node.open_queries()), (0, 1));
    lone.hear(at(50), nth(1), &reply);
    assert_eq!((lone.node.table().len(), lone.node.open_queries() > 0), (1, true), "it bootstraps");
    lone.hear(at(60), nth(1), &reply);
    assert_eq!(lone.node.table().len(), 1);
}

/// L12.
#[test]
fn a_sender_is_not_answered_too_often() {
    let mut lone = Lone::new();
    let answered = (0..200).filter(|_| lone.ask(at(0), nth(1), Method::Ping).is_some()).count();
    assert_eq!(answered, 50);
    assert!(lone.ask(at(0), nth(2), Method::Ping).is_some());
    assert!(lone.ask(at(1000), nth(1), Method::Ping).is_some());
}

/// L12, D-05: as many senders as there may be.
#[test]
fn all_answers_together_are_bounded() {
    let mut lone = Lone::new();
    let mut bytes = 0;
    for n in 0..20_000 {
        bytes += lone.ask(at(u64::from(n) / 2), nth(n % 3000), get_peers()).map_or(0, |data| data.len());
    }
    assert!((80_000..=88_500).contains(&bytes), "{bytes} in 10 s");
}

/// D-05.
#[test]
fn a_stranger_gets_no_more_than_three_times_what_it_sent() {
    let mut lone = Lone::new();
    for n in 0..40 {
        let said =
            lone.tell(at(0), Event::Datagram { from: nth(n), data: query(nth(n), Method::Ping).into() });
        lone.let_answer(at(0), &said);
    }
    let token = lone.ask(at(1000), nth(200), get_peers()).unwrap();
    let token = reply_of(&token).token.unwrap().to_vec();
    let announce = Announce { info_hash: HASH, implied_port: true, port: 0, seed: false, token: &token };
    for n in 0..50 {
        let from = nth(300 + n);
        let token = lone.ask(at(2000 + u64::from(n) * 200), from, get_peers()).unwrap();
        let token = reply_of(&token).token.unwrap().to_vec();
        let announce = Announce { token: &token, ..announce };
        assert!(lone.ask(at(2000 + u64::from(n) * 200), from, Method::AnnouncePeer(announce)).is_some());
    }
    for method in [get_peers(), Method::FindNode { target: HASH.into() }, Method::Ping] {
        let asked = query(nth(200), method).len();
        let data = lone.ask(at(60_000), nth(200), method).unwrap();
        assert!(data.len() <= 3 * asked, "{} for {asked}", data.len());
    }
    assert!(lone.ask(at(60_000), nth(200), Method::AnnouncePeer(announce)).is_some());
    let data = lone.ask(at(61_000), nth(200), get_peers()).unwrap();
    assert!(data.len() > 3 * query(nth(200), get_peers()).len(), "a token proves that it is there");
    assert!(reply_of(&data).values.unwrap().iter().count() > 40);
    let data = lone.ask(at(62_000), nth(7), Method::FindNode { target: HASH.into() }).unwrap();
    assert_eq!(reply_of(&data).contacts(Family::V4).count(), K, "and so does an answer");
}

/// D-06.
#[test]
fn nothing_is_stored_without_a_token_of_ours() {
    let mut lone = Lone::new();
    let data = lone.ask(at(0), nth(1), get_peers()).unwrap();
    let token = reply_of(&data).token.unwrap().to_vec();
    let announce = Announce { info_hash: HASH, implied_port: true, port: 0, seed: false, token: &token };
    let item = Item::immutable(b"2:hi").unwrap();
    for (now, from, method) in [
        (0, nth(2), Method::AnnouncePeer(announce)),
        (0, nth(1), Method::AnnouncePeer(Announce { info_hash: InfoHash([1; 20]), ..announce })),
        (0, nth(1), Method::AnnouncePeer(Announce { token: b"", ..announce })),
        (0, nth(1), Method::Put(item.put(&token, None))),
    ] {
        assert_eq!(error_of(&lone.ask(at(now), from, method).unwrap()), ErrorCode::PROTOCOL, "{method:?}");
    }
    assert_eq!((lone.node.peers().torrents(), lone.node.items().len()), (0, 0));
    assert!(lone.ask(at(0), nth(1), Method::AnnouncePeer(announce)).is_some());
    assert_eq!(lone.node.peers().torrents(), 1);
    let late = lone.ask(at(600_000), nth(1), Method::AnnouncePeer(announce)).unwrap();
    assert_eq!(error_of(&late), ErrorCode::PROTOCOL);
}

#[test]
fn an_unknown_query_about_a_place_is_answered_with_nodes() {
    let mut lone = Lone::new();
    let said = lone.tell(at(0), Event::Datagram { from: nth(1), data: query(nth(1), Method::Ping).into() });
    lone.let_answer(at(0), &said);
    let unknown = |target| Method::Unknown { name: b"find_cats", target };
    let data = lone.ask(at(1), nth(2), unknown(Some(HASH.into()))).unwrap();
    assert_eq!(reply_of(&data).contacts(Family::V4).count(), 1);
    assert_eq!(error_of(&lone.ask(at(1), nth(2), unknown(None)).unwrap()), ErrorCode::UNKNOWN_METHOD);
}

/// D-01.
#[test]
fn nonsense_is_answered_with_an_error_or_not_at_all() {
    let mut lone = Lone::new();
    let bad = b"d1:ad2:id20:abcdefghij0123456789e1:q9:get_peers1:t2:aa1:v20:xxxxxxxxxxxxxxxxxxxx1:y1:qe";
    let answers = lone.hear(at(0), nth(1), bad);
    assert!(answers.len() == 1 && answers[0].len() <= bad.len());
    assert_eq!(error_of(&answers[0]), ErrorCode::PROTOCOL);
    for data in [&b""[..], b"x", b"d1:q4:ping1:t2:aa1:y1:qe", b"d1:t2:aa1:y1:re", &[b'l'; 1500]] {
        assert_eq!(lone.hear(at(0), nth(1), data), [b""; 0], "{}", data.escape_ascii());
    }
    assert!(lone.node.table().is_empty());
}

#[test]
fn bogons_are_neither_asked_nor_answered() {
    let mut lone = Lone::new();
    for addr in ["0.0.0.0:1", "224.0.0.1:1", "255.255.255.255:1", "8.8.8.8:0", "[2a00::1]:1"] {
        let from = addr.parse().unwrap();
        assert_eq!(lone.tell(at(0), Event::Learn(vec![from])), []);
        let data = query(nth(1), Method::Ping).into();
        assert_eq!(lone.tell(at(0), Event::Datagram { from, data }), []);
    }
}

/// D-08: 1,000 nodes, on addresses where none can be.
#[test]
fn a_poisoned_list_is_cut_and_sifted() {
    let mut lone = Lone::new();
    let said = lone.tell(at(0), Event::Learn(vec![nth(1)]));
    let Action::Send { data, .. } = &said[0] else { panic!("{said:?}") };
    let transaction = Message::parse(data).unwrap().transaction;
    let bogons = ["0.1.2.3:1", "224.0.0.5:9", "240.0.0.1:9", "9.9.9.9:0"].map(|addr| addr.parse().unwrap());
    let contacts = (0..1000)
        .map(|n| Contact { id: id_of(nth(n)), addr: if n < 4 { bogons[n as usize] } else { nth(n) } });
    let mut compact = Vec::new();
    for Contact { id, addr } in contacts {
        compact.extend(id.0);
        Family::V4.write(addr, &mut compact);
    }
    let reply = Reply { nodes: Some(Nodes::Compact(&compact)), ..Reply::new(id_of(nth(1))) };
    let mut data = b"d1:rd2:id20:".to_vec();
    data.extend(reply.id.0);
    data.extend(alloc::format!("5:nodes{}:", compact.len()).as_bytes());
    data.extend(&compact);
    data.extend(b"e1:t4:");
    data.extend(transaction.as_bytes());
    data.extend(b"1:y1:re");
    let said = lone.tell(at(40), Event::Datagram { from: nth(1), data: data.into() });
    let asked: Vec<_> = said
        .iter()
        .filter_map(|it| if let Action::Send { to, .. } = it { Some(*to) } else { None })
        .collect();
    assert!(!asked.is_empty() && asked.iter().all(|to| (1..20).any(|n| nth(n) == *to)), "{asked:?}");
}

#[test]
fn nodes_of_the_other_family_are_passed_on_and_given() {
    let mut lone = Lone::new();
    let said = lone.tell(at(0), Event::Learn(vec![nth(1)]));
    let Action::Send { data, .. } = &said[0] else { panic!("{said:?}") };
    let transaction = Message::parse(data).unwrap().transaction;
    let six = Contact { id: id_of(nth(9)), addr: "[2a00::1]:6881".parse().unwrap() };
    let reply = Reply { nodes6: Some(Nodes::Contacts(&[six])), ..Reply::new(id_of(nth(1))) };
    let data = Message::new(transaction, Body::Reply(reply)).encode().into();
    assert!(lone.tell(at(40), Event::Datagram { from: nth(1), data }).contains(&Action::Named(vec![six])));

    let mut node = Node::new(at(0), Config::new(Family::V6), &Rng::from_number(2));
    let mut out = Outbox::new();
    node.handle_event(at(0), Event::Learn(vec![six.addr]), &mut out);
    let Some(Action::Send { data, .. }) = out.pop_front() else { panic!("it asks") };
    let transaction = Message::parse(&data).unwrap().transaction;
    let reply = Message::new(transaction, Body::Reply(Reply::new(six.id))).encode();
    node.handle_datagram(at(40), six.addr, &reply, None, &mut out);
    for (want, four, both) in [((false, false), 1, 0), ((true, true), 1, 1), ((false, true), 0, 1)] {
        let mut asked = Query::new(id_of(nth(50)), Method::FindNode { target: HASH.into() });
        (asked.want.n4, asked.want.n6) = want;
        let data = Message::new(Transaction::from(1), Body::Query(asked)).encode();
        lone.node.handle_datagram(at(100), nth(50), &data, Some(node.table()), &mut lone.out);
        let answer = lone
            .out
            .drain(..)
            .find_map(|it| if let Action::Send { data, .. } = it { Some(data) } else { None });
        let answer = answer.unwrap();
        let reply = reply_of(&answer);
        assert_eq!((reply.contacts(Family::V4).count(), reply.contacts(Family::V6).count()), (four, both));
    }
}

#[test]
fn a_cancelled_lookup_is_not_heard_of_again() {
    let mut world = World::settled(20);
    world.tell(nth(7), Event::Start { lookup: LookupId(1), task: peers(announced(1)) });
    world.run(50);
    world.tell(nth(7), Event::Cancel(LookupId(1)));
    world.run(30_000);
    let of_lookup = |it: &Action| matches!(it, Action::Done { .. } | Action::Peers { .. });
    assert!(!world.said.iter().any(|(_, it)| of_lookup(it)), "{:?}", world.said);
}

#[test]
fn many_lookups_take_turns_and_all_end() {
    let mut world = World::settled(20);
    let count = 5 * MAX_SEARCHES as u64;
    for n in 0..count {
        let task = Task::FindNode { target: NodeId([n as u8; 20]) };
        world.tell(nth(7), Event::Start { lookup: LookupId(n), task });
    }
    world.tell(nth(7), Event::Cancel(LookupId(count - 1)));
    world.run(60_000);
    let mut done: Vec<_> = world
        .said
        .iter()
        .filter_map(|(_, it)| if let Action::Done { lookup, .. } = it { Some(lookup.0) } else { None })
        .collect();
    done.sort_unstable();
    assert_eq!(done, (0..count - 1).collect::<Vec<_>>());
}

#[test]
fn values_of_peers_that_cannot_be_are_dropped() {
    let mut lone = Lone::new();
    lone.tell(at(0), Event::Learn(vec![nth(1)]));
    let said = lone.tell(at(0), Event::Start { lookup: LookupId(1), task: peers(None) });
    let Action::Send { data, .. } = &said[0] else { panic!("{said:?}") };
    let transaction = Message::parse(data).unwrap().transaction;
    let values = ["224.0.0.1:9", "45.9.9.9:9"].map(|addr| addr.parse().unwrap());
    let reply = Reply { values: Some(Values::Addrs(&values)), ..Reply::new(id_of(nth(1))) };
    let data = Message::new(transaction, Body::Reply(reply)).encode().into();
    let said = lone.tell(at(40), Event::Datagram { from: nth(1), data });
    let found = Action::Peers { lookup: LookupId(1), from: nth(1), peers: vec![values[1]] };
    assert!(said.contains(&found), "{said:?}");
}

/// BEP 44: not every node leaves out what is not newer.
#[test]
fn an_item_that_is_not_newer_than_asked_for_is_dropped() {
    let key = SecretKey::from_seed(&[7; 32]);
    for (seq, is_news) in [(1, false), (2, false), (3, true)] {
        let item = Item::sign(&key, b"", seq, b"3:new").unwrap();
        let mut lone = Lone::new();
        lone.tell(at(0), Event::Learn(vec![nth(1)]));
        let task = Task::GetItem { target: item.target(), salt: Bytes::new(), seq: Some(2) };
        let said = lone.tell(at(0), Event::Start { lookup: LookupId(1), task });
        let Action::Send { data, .. } = &said[0] else { panic!("{said:?}") };
        let transaction = Message::parse(data).unwrap().transaction;
        let reply = Reply { item: item.part(None), ..Reply::new(id_of(nth(1))) };
        let data = Message::new(transaction, Body::Reply(reply)).encode().into();
        let said = lone.tell(at(40), Event::Datagram { from: nth(1), data });
        assert_eq!(said.iter().any(|it| matches!(it, Action::Item { .. })), is_news, "{seq}: {said:?}");
    }
}

#[test]
fn addresses_of_ipv4_that_are_written_as_ipv6_are_asked_as_what_they_are() {
    let mut lone = Lone::new();
    let said = lone.tell(at(0), Event::Learn(vec!["[::ffff:45.1.1.1]:6881".parse().unwrap()]));
    assert!(matches!(said[..], [Action::Send { to, .. }] if to == "45.1.1.1:6881".parse().unwrap()));
}

#[test]
fn who_answers_in_the_name_of_another_is_not_who_was_known() {
    let mut lone = Lone::new();
    let said = lone.tell(at(0), Event::Learn(vec![nth(1), nth(2)]));
    lone.let_answer(at(40), &said);
    let known = |lone: &Lone| {
        let closest = lone.node.table().closest(HASH.into(), K, false);
        closest.into_iter().map(|contact| contact.addr).collect::<BTreeSet<_>>()
    };
    assert_eq!(known(&lone), BTreeSet::from([nth(1), nth(2)]));
    for n in 1..=2 {
        let task = Task::FindNode { target: HASH.into() };
        let said = lone.tell(at(1000 * n), Event::Start { lookup: LookupId(n), task });
        for action in said {
            let Action::Send { to, data } = action else { continue };
            let transaction = Message::parse(&data).unwrap().transaction;
            let reply = Message::new(transaction, Body::Reply(Reply::new(id_of(nth(2)))));
            lone.hear(at(1000 * n + 40), to, &reply.encode());
        }
    }
    assert_eq!(known(&lone), BTreeSet::from([nth(2)]));
}

#[test]
fn a_blocked_node_is_not_asked_not_answered_and_not_known() {
    let mut world = World::settled(12);
    let (us, blocked) = (nth(0), nth(1).ip());
    let knows = |world: &World| world.node(us).table().save().iter().any(|node| node.addr.ip() == blocked);
    assert!(knows(&world));
    let mut builder = Builder::new();
    builder.add(Range::new(blocked, blocked).unwrap()).unwrap();
    world.tell(us, Event::SetIpFilter(Arc::new(builder.build())));
    assert!(!knows(&world));
    // What was sent before may still arrive.
    world.run(1000);
    let contact = Contact { id: world.node(nth(1)).id(), addr: nth(1) };
    world.tell(us, Event::Learn(vec![nth(1)]));
    world.tell(us, Event::Named(vec![contact]));
    world.tell(us, Event::Restore(Saved { contacts: vec![contact], ..Saved::default() }));
    world.tell(us, Event::Start { lookup: LookupId(7), task: Task::Ping { to: nth(1) } });
    world.tell(us, Event::Start { lookup: LookupId(8), task: peers(announced(1)) });
    world.tell(nth(1), Event::Start { lookup: LookupId(9), task: Task::Ping { to: us } });
    let until = world.now + Duration::from_secs(120);
    while world.now < until {
        world.run(20);
        let sent = world.flying.values().filter(|(from, to, _)| *from == us && to.ip() == blocked);
        assert_eq!(sent.count(), 0);
    }
    assert!(!knows(&world));
    let done = |lookup| {
        world.said.iter().find_map(|(_, action)| match action {
            Action::Done { lookup: done, summary } if *done == lookup => Some(*summary),
            _ => None,
        })
    };
    assert_eq!(done(LookupId(7)), Some(Summary::default()), "it is over at once");
    assert!(done(LookupId(8)).unwrap().stored > 0, "the others are enough");
    assert_eq!(done(LookupId(9)).unwrap().answered, 0);
}
