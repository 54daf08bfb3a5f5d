use super::{
    ALPHA, Ask, BEYOND, BRANCHING, CROWD, FARTHER, FEW, Lookup, MAX_HOPS, MAX_INSECURE, MAX_QUERIES,
    PER_PROVIDER, Progress, Scope,
};
use crate::dht::message::{Contact, Family};
use crate::dht::node_id::NodeId;
use crate::dht::table::K;
use crate::rng::Rng;
use alloc::collections::BTreeSet;
use alloc::string::ToString as _;
use alloc::vec::Vec;
use core::iter;
use core::net::SocketAddr;
use proptest::prelude::*;

const OWN: NodeId = NodeId([0xee; 20]);
const TARGET: NodeId = NodeId([0; 20]);
const EIGHT: Scope = Scope { answers: K, reach: 0 };

fn lookup(scope: Scope) -> Lookup {
    Lookup::new(Family::V4, OWN, TARGET, scope)
}

/// A node on a local network, where every id is secure: the lower `front`, the closer.
fn node(n: u16, front: u16) -> Contact {
    let mut id = [0; 20];
    id[..2].copy_from_slice(&front.to_be_bytes());
    id[18..].copy_from_slice(&n.to_be_bytes());
    let [high, low] = n.to_be_bytes();
    Contact { id: NodeId(id), addr: SocketAddr::from(([10, 0, high, low], 6881)) }
}

/// A node with an id that belongs to its address.
fn secure(ip: [u8; 4], rng: &mut Rng) -> Contact {
    let addr = SocketAddr::from((ip, 6881));
    Contact { id: NodeId::secure(addr.ip(), rng), addr }
}

/// The same, somewhere in a /24, with an id that starts like the target with so many bits.
fn secure_near([a, b, c]: [u8; 3], zeros: u32, rng: &mut Rng) -> Contact {
    let hosts = (0..=255).cycle().map(|host| secure([a, b, c, host], rng));
    hosts.into_iter().find(|contact| contact.id.common_prefix(TARGET) >= zeros).unwrap()
}

fn answer(lookup: &mut Lookup, ask: Ask, contacts: &[Contact]) {
    lookup.answered(
        ask,
        Contact { id: ask.id.unwrap(), addr: ask.to },
        Some(b"token"),
        contacts.iter().copied(),
    );
    lookup.check_invariants();
}

/// Everybody answers, with nobody; returns how many were asked.
fn run(lookup: &mut Lookup) -> usize {
    iter::from_fn(|| {
        let ask = lookup.next_ask()?;
        answer(lookup, ask, &[]);
        Some(())
    })
    .count()
}

#[test]
fn the_closest_are_asked_first_and_a_few_at_a_time() {
    let mut lookup = lookup(EIGHT);
    (0..20).rev().for_each(|n| lookup.learn(node(n, n)));
    let asked: Vec<_> = iter::from_fn(|| lookup.next_ask()).map(|ask| ask.id.unwrap()).collect();
    assert_eq!(asked, (0..ALPHA as u16).map(|n| node(n, n).id).collect::<Vec<_>>());
    assert_eq!(lookup.progress(), Progress::Underway);
}

#[test]
fn eight_answers_end_it() {
    let mut lookup = lookup(EIGHT);
    (0..20).for_each(|n| lookup.learn(node(n, n)));
    assert_eq!(run(&mut lookup), K);
    assert_eq!((lookup.progress(), lookup.answers(), lookup.queries()), (Progress::Done, K, K));
    let stores: Vec<_> = lookup.stores().into_iter().map(|(contact, _)| contact).collect();
    assert_eq!(stores, (0..K as u16).map(|n| node(n, n)).collect::<Vec<_>>());
}

/// D-03.
#[test]
fn who_answers_fast_does_not_end_it_before_others_are_heard() {
    let mut lookup = lookup(EIGHT);
    (0..ALPHA as u16).for_each(|n| lookup.learn(node(n, 0x8000 + n)));
    let slow = lookup.next_ask().unwrap();
    let band: Vec<_> = (0..K as u16).map(|n| node(100 + n, 0x0800 + n)).collect();
    while let Some(ask) = lookup.next_ask() {
        answer(&mut lookup, ask, &band);
    }
    assert_eq!(lookup.progress(), Progress::Underway);
    answer(&mut lookup, slow, &[node(200, 1)]);
    assert_eq!(lookup.next_ask().unwrap().to, node(200, 1).addr);
}

#[test]
fn closer_nodes_come_up_on_the_way() {
    let mut lookup = lookup(EIGHT);
    lookup.learn(node(500, 0xffff));
    let mut steps = 0;
    while let Some(ask) = lookup.next_ask() {
        // Everybody knows eight that are twice as close.
        let half = u16::from_be_bytes(*ask.id.unwrap().0.first_chunk().unwrap()) / 2;
        let known: Vec<_> = (0..8).map(|n| node(half + n, half + n)).collect();
        answer(&mut lookup, ask, &known);
        steps += 1;
    }
    assert_eq!(lookup.progress(), Progress::Done);
    assert!(steps < 50 && (10..=17).contains(&lookup.hops()), "{steps} steps, {} hops", lookup.hops());
    assert_eq!(lookup.stores()[0].0.id, node(0, 0).id);
}

#[test]
fn who_is_late_is_not_waited_for() {
    let mut lookup = lookup(EIGHT);
    (0..60).for_each(|n| lookup.learn(node(n, n)));
    let mut late = Vec::new();
    while let Some(ask) = lookup.next_ask() {
        if lookup.queries().is_multiple_of(2) {
            late.push(ask);
            lookup.late(ask);
        } else {
            answer(&mut lookup, ask, &[]);
        }
        lookup.check_invariants();
    }
    assert_eq!((lookup.progress(), lookup.answers(), late.len()), (Progress::Done, K, K - 1));
    answer(&mut lookup, late[0], &[]);
    assert_eq!(lookup.answers(), K + 1, "but welcome");
    lookup.failed(late[1]);
    lookup.check_invariants();
}

#[test]
fn many_late_ones_do_not_widen_it_without_end() {
    let mut lookup = lookup(EIGHT);
    (0..60).for_each(|n| lookup.learn(node(n, n)));
    let asked = iter::from_fn(|| lookup.next_ask().inspect(|ask| lookup.late(*ask))).count();
    assert_eq!(asked, ALPHA + BRANCHING);
    lookup.check_invariants();
}

#[test]
fn everything_within_reach_is_asked() {
    let mut lookup = lookup(Scope { answers: K, reach: 15 << 48 });
    (0..40).for_each(|n| lookup.learn(node(n, n)));
    assert_eq!(run(&mut lookup), 16, "0 to 15");
    assert_eq!(lookup.stores().len(), 16);
}

#[test]
fn a_crowd_sends_it_beyond() {
    let mut lookup = lookup(Scope { answers: K, reach: (CROWD as u64) << 48 });
    (0..100).for_each(|n| lookup.learn(node(n, n)));
    assert_eq!(run(&mut lookup), CROWD + 1 + BEYOND);
    assert_eq!(lookup.stores().len(), CROWD + 1 + BEYOND);
}

#[test]
fn a_void_sends_it_farther() {
    let mut lookup = lookup(Scope { answers: K, reach: (FEW as u64 - 2) << 48 });
    (0..60).for_each(|n| lookup.learn(node(n, n)));
    assert_eq!(run(&mut lookup), FARTHER);
}

#[test]
fn reach_depends_on_how_many_nodes_there_are() {
    assert_eq!(Scope::new(K, None).reach, 0);
    assert_eq!(Scope::new(K, Some(5)).reach, u64::MAX);
    let reach = Scope::new(K, Some(8 << 10)).reach;
    assert!((1 << 54) - reach < 1 << 20, "one in 1,024 of all places, 8 of 8,192 nodes");
}

#[test]
fn no_address_is_asked_twice() {
    let mut lookup = lookup(EIGHT);
    lookup.learn(node(1, 1));
    let ask = lookup.next_ask().unwrap();
    lookup.failed(ask);
    lookup.learn(node(1, 1));
    let impostor = Contact { id: NodeId([0; 20]), ..node(1, 1) };
    lookup.learn(node(2, 2));
    let ask = lookup.next_ask().unwrap();
    assert_eq!(ask.id, Some(node(2, 2).id));
    answer(&mut lookup, ask, &[node(1, 1), impostor]);
    assert_eq!(lookup.next_ask(), None);
    assert_eq!(lookup.progress(), Progress::Done);
}

#[test]
fn a_subnet_has_one_node_in_a_search() {
    let mut lookup = lookup(EIGHT);
    let mut rng = Rng::from_number(1);
    for host in 1..20 {
        lookup.learn(secure([45, 1, 2, host], &mut rng));
    }
    assert_eq!(run(&mut lookup), 1);
    lookup.check_invariants();
}

#[test]
fn a_provider_has_few_nodes_that_count() {
    let mut lookup = lookup(EIGHT);
    let mut rng = Rng::from_number(1);
    for subnet in 0..20 {
        lookup.learn(secure_near([45, 1, subnet], 6, &mut rng));
    }
    (0..20).for_each(|n| lookup.learn(secure([46, n, 1, 1], &mut rng)));
    let far = |ask: &Ask| ask.to.ip().to_string().starts_with("46.");
    let asked: Vec<_> = iter::from_fn(|| {
        let ask = lookup.next_ask()?;
        answer(&mut lookup, ask, &[]);
        Some(ask)
    })
    .collect();
    assert_eq!((asked.iter().filter(|ask| far(ask)).count(), asked.len()), (K - PER_PROVIDER, K));
}

#[test]
fn ids_that_belong_to_nobody_do_not_count() {
    let mut lookup = lookup(EIGHT);
    let mut rng = Rng::from_number(1);
    for n in 0..100 {
        let addr = SocketAddr::from(([46, n, 1, 1], 6881));
        lookup.learn(Contact { addr, ..node(n.into(), 0) });
    }
    (0..20).for_each(|n| lookup.learn(secure([45, n, 1, 1], &mut rng)));
    assert_eq!(run(&mut lookup), K + MAX_INSECURE);
    assert_eq!(lookup.progress(), Progress::Done);
    let secure = lookup.stores().into_iter().filter(|(contact, _)| contact.is_secure()).count();
    assert_eq!((secure, lookup.stores().len()), (K, 2 * K), "it is stored at the closest eight all the same");
}

#[test]
fn ids_that_belong_to_nobody_are_better_than_none() {
    let mut lookup = lookup(EIGHT);
    for n in 0..100 {
        lookup.learn(Contact { addr: SocketAddr::from(([46, n, 1, 1], 6881)), ..node(n.into(), n.into()) });
    }
    assert_eq!((run(&mut lookup), lookup.progress()), (K, Progress::Done));
}

/// D-10: everybody knows eight nodes that are closer still.
#[test]
fn who_invents_closer_nodes_is_not_followed_for_long() {
    let mut lookup = lookup(EIGHT);
    let mut n = 60_000;
    lookup.learn(node(n, n));
    while let Some(ask) = lookup.next_ask() {
        let closer: Vec<_> = (0..8)
            .map(|_| {
                n -= 1;
                node(n, n)
            })
            .collect();
        answer(&mut lookup, ask, &closer);
    }
    assert_eq!(lookup.progress(), Progress::Done);
    assert!(lookup.queries() <= MAX_QUERIES && lookup.hops() <= MAX_HOPS, "{}", lookup.hops());
}

#[test]
fn at_most_two_hundred_are_asked() {
    let mut lookup = lookup(Scope { answers: K, reach: u64::MAX });
    for n in 0..250 {
        lookup.learn(node(n, n));
    }
    assert_eq!((run(&mut lookup), lookup.progress()), (MAX_QUERIES, Progress::Done));
}

#[test]
fn an_address_will_do_to_begin_with() {
    let mut lookup = lookup(EIGHT);
    assert_eq!(lookup.progress(), Progress::Starved);
    let addr = "10.0.0.9:6881".parse().unwrap();
    lookup.learn_address(addr);
    lookup.learn_address(addr);
    assert_eq!(lookup.progress(), Progress::Underway);
    let ask = lookup.next_ask().unwrap();
    assert_eq!((ask, lookup.next_ask()), (Ask { to: addr, id: None }, None));
    lookup.late(ask);
    assert_eq!(lookup.progress(), Progress::Starved);
    lookup.answered(ask, Contact { id: node(9, 9).id, addr: ask.to }, None, [node(1, 1)].into_iter());
    lookup.check_invariants();
    assert_eq!(run(&mut lookup), 1);
    assert_eq!((lookup.progress(), lookup.answers()), (Progress::Done, 2));
}

#[test]
fn nodes_with_ids_come_before_addresses() {
    let mut lookup = lookup(EIGHT);
    lookup.learn_address("10.0.0.9:6881".parse().unwrap());
    (0..3).for_each(|n| lookup.learn(node(n, n)));
    let asked: Vec<_> = iter::from_fn(|| lookup.next_ask()).map(|ask| ask.id.is_some()).collect();
    assert_eq!(asked, [true, true, true, false]);
}

#[test]
fn nodes_that_may_be_gone_are_asked_while_no_others_are_known() {
    let mut lookup = lookup(EIGHT);
    (0..40).for_each(|n| lookup.learn_unsure(node(n, n)));
    let first: Vec<_> = iter::from_fn(|| lookup.next_ask()).collect();
    first[1..].iter().for_each(|ask| lookup.late(*ask));
    let sure: Vec<_> = (20..40).map(|n| node(n, n)).collect();
    answer(&mut lookup, first[0], &sure);
    let next: Vec<_> = iter::from_fn(|| lookup.next_ask()).map(|ask| ask.id.unwrap()).collect();
    assert_eq!(next, (20..25).map(|n| node(n, n).id).collect::<Vec<_>>());
}

#[test]
fn a_node_with_another_id_is_taken_for_what_it_says() {
    let mut lookup = lookup(EIGHT);
    lookup.learn(node(1, 1));
    let ask = lookup.next_ask().unwrap();
    lookup.answered(
        ask,
        Contact { id: node(1, 0xffff).id, addr: ask.to },
        Some(b"t"),
        [node(2, 2)].into_iter(),
    );
    lookup.check_invariants();
    assert_eq!(
        lookup.stores(),
        [(node(1, 0xffff), &b"t"[..])]
            .map(|(contact, token)| { (Contact { addr: ask.to, ..contact }, token) })
    );
    assert_eq!(run(&mut lookup), 1);
}

#[test]
fn bogons_and_we_ourselves_are_never_asked() {
    let mut lookup = lookup(EIGHT);
    for addr in ["8.8.8.8:0", "224.0.0.1:1", "0.0.0.0:1", "[2a00::1]:1"] {
        lookup.learn(Contact { addr: addr.parse().unwrap(), ..node(1, 1) });
        lookup.learn_address(addr.parse().unwrap());
    }
    lookup.learn(Contact { id: OWN, ..node(1, 1) });
    assert_eq!((lookup.next_ask(), lookup.progress()), (None, Progress::Starved));
}

proptest! {
    #[test]
    fn bounds_hold_whatever_happens(
        reach: u64,
        answers in 1..20_usize,
        steps in prop::collection::vec((0..8_u8, any::<u16>(), any::<u16>()), 1..600),
    ) {
        let mut lookup = lookup(Scope { answers, reach });
        let (mut open, mut asked) = (Vec::new(), BTreeSet::new());
        for (step, n, front) in steps {
            let local = node(n % 400, front);
            let public = Contact { addr: SocketAddr::from(([45, 1 + (n % 3) as u8, n as u8, 1], 1)), ..local };
            let contact = if n % 2 == 0 { local } else { public };
            match step {
                0 if n % 3 == 0 => lookup.learn_unsure(contact),
                0 => lookup.learn(contact),
                1 => lookup.learn_address(contact.addr),
                2 if !open.is_empty() => lookup.late(open[usize::from(n) % open.len()]),
                3 if !open.is_empty() => lookup.failed(open.swap_remove(usize::from(n) % open.len())),
                4 | 5 if !open.is_empty() => {
                    let ask: Ask = open.swap_remove(usize::from(n) % open.len());
                    let known = (0..8).map(|i| node((n % 400 + i) % 400, front.wrapping_mul(i)));
                    lookup.answered(ask, Contact { id: ask.id.unwrap_or(contact.id), addr: ask.to }, Some(b"t"), known);
                }
                _ => while let Some(ask) = lookup.next_ask() {
                    prop_assert!(asked.insert(ask.to), "{} is asked twice", ask.to);
                    open.push(ask);
                },
            }
            lookup.check_invariants();
        }
        // When all are answered it comes to an end.
        for _ in 0..=MAX_QUERIES {
            open.drain(..).for_each(|ask| lookup.failed(ask));
            open.extend(iter::from_fn(|| lookup.next_ask()));
        }
        prop_assert!(open.is_empty() && lookup.progress() != Progress::Underway);
    }
}
