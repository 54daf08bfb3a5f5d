use super::{Block, Contact, Family, K, MAX_FAILURES, QUESTIONABLE_S, SPARES, Table, Verdict, WIDE_ROWS};
use crate::dht::node_id::NodeId;
use crate::machine::Timestamp;
use crate::rng::Rng;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;
use proptest::prelude::*;

const OWN: NodeId = NodeId([0; 20]);

fn at(seconds: u64) -> Timestamp {
    Timestamp::ZERO + Duration::from_secs(seconds)
}

fn table() -> Table {
    Table::new(Family::V4, OWN, WIDE_ROWS)
}

/// A node in a subnet of its own, whose id starts with these bytes and belongs to nobody.
fn node(n: u8, front: [u8; 2]) -> Contact {
    let mut id = [0xff; 20];
    id[..2].copy_from_slice(&front);
    id[19] = n;
    Contact { id: NodeId(id), addr: SocketAddr::from(([45, 1, n, 7], 6881)) }
}

fn secure(addr: &str, rng: &mut Rng) -> Contact {
    let addr: SocketAddr = addr.parse().unwrap();
    Contact { id: NodeId::secure(addr.ip(), rng), addr }
}

/// A table whose bucket 8 is full of good nodes, and those.
fn full() -> (Table, Vec<Contact>) {
    let mut table = table();
    let nodes: Vec<_> = (0..K as u8).map(|n| node(n, [0x00, 0x80 + n])).collect();
    for (n, node) in nodes.iter().enumerate() {
        assert_eq!(table.answered(at(n as u64), *node), Verdict::Kept);
    }
    (table, nodes)
}

fn holds(table: &Table, contact: &Contact) -> bool {
    table.closest(contact.id, 1, false) == [*contact]
}

#[test]
fn rows_far_from_us_are_wide() {
    let mut table = table();
    for n in 0..=255 {
        table.answered(at(0), node(n, [0x80, n]));
        let addr = SocketAddr::from(([46, 1, n, 7], 6881));
        table.answered(at(0), Contact { addr, ..node(n, [0x08, n]) });
    }
    assert_eq!(table.fill().collect::<Vec<_>>(), [128, 0, 0, 0, 8]);
    table.check_invariants();
}

#[test]
fn good_nodes_stay() {
    let (mut table, nodes) = full();
    let late = node(99, [0x00, 0xf0]);
    assert!(!table.wants(&late));
    assert_eq!(table.answered(at(QUESTIONABLE_S.into()) - Duration::from_secs(1), late), Verdict::Full);
    assert!(nodes.iter().all(|node| holds(&table, node)) && !holds(&table, &late));
}

#[test]
fn the_oldest_questionable_node_is_pinged_twice_and_then_replaced() {
    let (mut table, nodes) = full();
    let late = node(99, [0x00, 0xf0]);
    let now = at(u64::from(QUESTIONABLE_S) + 2);
    table.queried(now, &nodes[0]);
    assert_eq!(table.answered(now, late), Verdict::Probe(nodes[1]), "the oldest was heard of");
    assert_eq!(table.failed(&nodes[1]), None);
    assert!(holds(&table, &nodes[1]));
    assert_eq!(table.answered(now, late), Verdict::Kept, "a spare answers again");
    assert!(holds(&table, &nodes[1]) && !holds(&table, &late), "but waits");
    assert_eq!(table.failed(&nodes[1]), None);
    assert!(!holds(&table, &nodes[1]) && holds(&table, &late));
    table.check_invariants();
}

#[test]
fn an_answer_makes_good_again() {
    let (mut table, nodes) = full();
    for _ in 0..2 * MAX_FAILURES {
        assert_eq!(table.failed(&nodes[3]), None);
        assert_eq!(table.answered(at(9), nodes[3]), Verdict::Kept);
    }
    assert!(holds(&table, &nodes[3]));
}

#[test]
fn a_spare_that_never_answered_is_asked_first() {
    let (mut table, nodes) = full();
    let spare = node(99, [0x00, 0xf0]);
    table.stand_by(at(9), &spare);
    assert_eq!(table.failed(&nodes[0]), None);
    assert_eq!(table.failed(&nodes[0]), Some(spare));
    assert_eq!(table.closest(OWN, 20, false).len(), K - 1);
    assert_eq!(table.answered(at(10), spare), Verdict::Kept);
    assert!(holds(&table, &spare));
}

#[test]
fn spares_are_few_and_those_that_answered_come_first() {
    let (mut table, nodes) = full();
    for n in 0..2 * SPARES as u8 {
        table.stand_by(at(9), &node(100 + n, [0x00, 0xf0]));
    }
    let proven = node(200, [0x00, 0xf1]);
    assert_eq!(table.answered(at(10), proven), Verdict::Full);
    table.check_invariants();
    (0..MAX_FAILURES).for_each(|_| assert_eq!(table.failed(&nodes[0]), None));
    assert!(holds(&table, &proven));
}

#[test]
fn a_spare_that_dies_frees_no_place() {
    let (mut table, nodes) = full();
    let spares = [100, 101].map(|n| node(n, [0x00, 0xf0]));
    spares.iter().for_each(|spare| assert_eq!(table.answered(at(10), *spare), Verdict::Full));
    assert_eq!(table.failed(&spares[0]), None);
    table.check_invariants();
    assert_eq!(table.len(), nodes.len());
}

#[test]
fn a_host_has_one_node() {
    let mut table = table();
    let first = node(1, [0x80, 0]);
    assert_eq!(table.answered(at(0), first), Verdict::Kept);
    let mut second = node(2, [0x20, 0]);
    second.addr = SocketAddr::new(first.addr.ip(), 7000);
    assert!(!table.wants(&second));
    assert_eq!(table.answered(at(0), second), Verdict::Refused);
    assert_eq!(table.failed(&first), None);
    assert_eq!(table.answered(at(1), second), Verdict::Kept, "the first did not answer");
    assert!(!holds(&table, &first));
    table.check_invariants();
}

#[test]
fn a_subnet_has_one_node_in_a_bucket() {
    let mut table = table();
    let first = node(1, [0x80, 0]);
    table.answered(at(0), first);
    let mut second = node(2, [0x90, 0]);
    second.addr = "45.1.1.200:6881".parse().unwrap();
    assert_eq!(table.answered(at(0), second), Verdict::Refused);
    second.id = NodeId([0x40; 20]);
    assert_eq!(table.answered(at(0), second), Verdict::Kept, "another bucket");
    table.check_invariants();
}

#[test]
fn neighbours_on_a_local_network_are_not_counted() {
    let mut table = table();
    for n in 0..100 {
        let local =
            Contact { addr: SocketAddr::from(([127, 0, 0, 1], 1000 + u16::from(n))), ..node(n, [0x80, n]) };
        assert_eq!(table.answered(at(0), local), Verdict::Kept);
    }
    table.check_invariants();
}

#[test]
fn a_host_of_ipv6_is_a_64() {
    let mut table = Table::new(Family::V6, OWN, WIDE_ROWS);
    let mut first = node(1, [0x80, 0]);
    first.addr = "[2a00:1450:4001:8a00::1]:6881".parse().unwrap();
    let mut second = node(2, [0x40, 0]);
    second.addr = "[2a00:1450:4001:8a00:1:2:3:4]:6881".parse().unwrap();
    assert_eq!(table.answered(at(0), first), Verdict::Kept);
    assert_eq!(table.answered(at(0), second), Verdict::Refused);
    second.addr = "[2a00:1450:4001:8a01::1]:6881".parse().unwrap();
    assert_eq!(table.answered(at(0), second), Verdict::Kept);
    assert_eq!(table.closest(first.id, 2, true), [first, second]);
}

#[test]
fn bogons_and_we_ourselves_never_get_in() {
    let mut table = table();
    let mut refuse = |contact: Contact| {
        assert!(!table.wants(&contact), "{contact}");
        assert_eq!(table.answered(at(0), contact), Verdict::Refused, "{contact}");
        table.restore(at(0), [contact]);
        table.stand_by(at(0), &contact);
        assert!(table.is_empty(), "{contact}");
    };
    for addr in ["0.0.0.0:1", "8.8.8.8:0", "224.0.0.1:1", "255.255.255.255:1", "[2a00::1]:1"] {
        refuse(Contact { addr: addr.parse().unwrap(), ..node(1, [0x80, 0]) });
    }
    refuse(Contact { id: OWN, ..node(1, [0x80, 0]) });
}

#[test]
fn an_id_belongs_to_who_had_it_first() {
    let mut table = table();
    let first = node(1, [0x80, 0]);
    let thief = Contact { addr: "46.2.3.4:6881".parse().unwrap(), ..first };
    table.answered(at(0), first);
    assert_eq!(table.answered(at(10), thief), Verdict::Refused);
    assert_eq!(table.answered(at(10 + u64::from(QUESTIONABLE_S)), thief), Verdict::Kept);
    assert!(holds(&table, &thief));
}

#[test]
fn a_node_may_take_another_id() {
    let mut table = table();
    let old = node(1, [0x80, 0]);
    let new = Contact { addr: old.addr, ..node(2, [0x01, 0]) };
    table.answered(at(0), old);
    assert_eq!(table.answered(at(1), new), Verdict::Kept);
    assert_eq!(table.closest(old.id, 8, false), [new]);
}

#[test]
fn ids_bound_to_addresses_drive_out_others() {
    let mut rng = Rng::from_number(1);
    let (mut table, _) = full();
    let own = NodeId::random(&mut rng);
    table.move_to(own);
    for n in 0..=255 {
        table.answered(at(0), node(n, [!own.0[0], n]));
    }
    assert_eq!(table.fill().next(), Some(128));
    let bound = (0..).find_map(|n: u8| {
        let contact = secure(&format!("46.2.{n}.3:6881"), &mut rng);
        (own.common_prefix(contact.id) == 0).then_some(contact)
    });
    let bound = bound.unwrap();
    assert!(table.wants(&bound));
    assert_eq!(table.answered(at(0), bound), Verdict::Kept);
    assert!(holds(&table, &bound));
    table.check_invariants();
}

#[test]
fn what_was_saved_is_used_but_not_passed_on() {
    let (table, nodes) = full();
    let saved = table.save();
    assert_eq!(saved.len(), K);
    let mut again = self::table();
    again.restore(at(0), saved);
    assert_eq!(again.closest(OWN, 20, true), []);
    assert_eq!(again.closest(OWN, 20, false).len(), K);
    assert_eq!(again.save(), []);
    let late = node(99, [0x00, 0xf0]);
    assert!(again.wants(&late));
    assert_eq!(again.answered(at(1), late), Verdict::Kept, "who answers takes the place of who did not yet");
    again.answered(at(1), nodes[7]);
    assert_eq!(again.failed(&nodes[6]), None, "and is gone at the first failure");
    assert!(!holds(&again, &nodes[6]));
    again.check_invariants();
}

#[test]
fn another_id_of_ours_moves_the_nodes() {
    let (mut table, nodes) = full();
    table.move_to(NodeId([0xff; 20]));
    table.check_invariants();
    assert!(nodes.iter().all(|node| holds(&table, node)));
    assert_eq!(table.fill().collect::<Vec<_>>(), [8]);
}

#[test]
fn the_population_is_judged_by_the_closest() {
    let mut rng = Rng::from_number(1);
    for (population, low, high) in [(10_u64, 10, 10), (1000, 500, 2000), (30_000, 15_000, 60_000)] {
        let mut table = table();
        for n in 0..population as u32 {
            let addr = SocketAddr::from(((0x2d00_0000 + (n << 8)).to_be_bytes(), 6881));
            table.answered(at(0), Contact { id: NodeId::random(&mut rng), addr });
        }
        let judged = table.population();
        assert!((low..=high).contains(&judged), "{judged} for {population}");
    }
}

#[test]
fn the_longest_silent_node_is_named() {
    let (mut table, nodes) = full();
    assert_eq!(table.stalest(at(100)).unwrap().contact, nodes[0]);
    table.answered(at(100), nodes[0]);
    let stalest = table.stalest(at(101)).unwrap();
    assert_eq!((stalest.contact, stalest.bucket, stalest.silence.as_secs()), (nodes[1], 8, 100));
    let far = node(50, [0x80, 0]);
    table.answered(at(0), far);
    assert_eq!(table.stalest(at(101)).unwrap().contact, nodes[1], "far nodes come later");
    assert_eq!(self::table().stalest(at(0)), None);
}

/// What may happen to a table, over few ids and addresses so that they meet.
#[derive(Clone, Debug)]
enum Step {
    Answered(Contact),
    /// One of those that were named lately.
    Failed(usize),
    MoveTo(u8),
    Queried(usize),
    Restore(Contact),
    StandBy(Contact),
}

fn contact() -> impl Strategy<Value = Contact> {
    (0..32_u8, 0..3_u8, 0..4_u8, 0..40_u8, 0..2_u16).prop_map(|(id, zeros, block, host, port)| {
        let mut bytes = [0; 20];
        bytes[usize::from(zeros)] = 8 * id;
        Contact {
            id: NodeId(bytes),
            addr: SocketAddr::from(([[45, 46, 10, 0][usize::from(block)], 1, host, host], port)),
        }
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => contact().prop_map(Step::Answered),
        4 => (0..20_usize).prop_map(Step::Failed),
        1 => any::<u8>().prop_map(Step::MoveTo),
        2 => (0..20_usize).prop_map(Step::Queried),
        1 => contact().prop_map(Step::Restore),
        2 => contact().prop_map(Step::StandBy),
    ]
}

proptest! {
    #[test]
    fn rules_hold_whatever_happens(steps in prop::collection::vec((step(), 0..400_u64), 1..300)) {
        let mut table = Table::new(Family::V4, OWN, [2; 4]);
        let (mut now, mut named) = (0, Vec::new());
        for (step, wait) in steps {
            now += wait;
            if let Step::Answered(contact) | Step::Restore(contact) | Step::StandBy(contact) = &step {
                named.push(*contact);
            }
            let lately = |back: usize| named.iter().rev().nth(back).copied();
            match step {
                Step::Answered(contact) => {
                    let wanted = table.wants(&contact);
                    let verdict = table.answered(at(now), contact);
                    prop_assert!(!wanted || verdict == Verdict::Kept, "{contact} was wanted");
                    prop_assert!(verdict != Verdict::Kept || table.has_answered(&contact));
                }
                Step::Failed(back) => drop(lately(back).and_then(|contact| table.failed(&contact))),
                Step::MoveTo(byte) => table.move_to(NodeId([byte; 20])),
                Step::Queried(back) => lately(back).iter().for_each(|contact| table.queried(at(now), contact)),
                Step::Restore(contact) => table.restore(at(now), [contact]),
                Step::StandBy(contact) => table.stand_by(at(now), &contact),
            }
            table.check_invariants();
        }
    }

    /// The naive model is a list sorted by distance.
    #[test]
    fn the_closest_are_those_of_a_sorted_list(
        ids in prop::collection::vec(any::<u128>(), 1..400),
        own: [u8; 20],
        target: [u8; 20],
        count in 1..30_usize,
        near in 0..12_u32,
    ) {
        let (own, target) = (NodeId(own), NodeId(target));
        let mut table = Table::new(Family::V4, own, WIDE_ROWS);
        let mut model = BTreeMap::new();
        for (n, id) in ids.iter().enumerate() {
            // Some share bits with us, so that deep buckets fill as well.
            let mut bytes = own.0;
            let head = u128::from_be_bytes(*bytes.first_chunk().unwrap()) ^ *id >> (u32::from(n % 2 == 0) * near);
            bytes[..16].copy_from_slice(&head.to_be_bytes());
            let contact = Contact { id: NodeId(bytes), addr: SocketAddr::from(([45, (n >> 8) as u8, n as u8, 1], 1)) };
            if table.answered(at(0), contact) == Verdict::Kept {
                model.insert(contact.id.distance(target), contact);
            }
        }
        prop_assert_eq!(table.len(), model.len());
        let expected: Vec<_> = model.values().copied().take(count).collect();
        prop_assert_eq!(table.closest(target, count, true), expected);
    }
}

#[test]
fn blocks_tell_who_could_be_one_party() {
    let ip = |text: &str| text.parse().unwrap();
    assert_eq!(Block::subnet(ip("45.1.2.3")), Block::subnet(ip("45.1.2.4")));
    assert_ne!(Block::subnet(ip("45.1.2.3")), Block::subnet(ip("45.1.3.3")));
    assert_eq!(Block::provider(ip("45.1.2.3")), Block::provider(ip("45.1.3.3")));
    assert_ne!(Block::provider(ip("45.1.2.3")), Block::provider(ip("45.2.2.3")));
    assert_eq!(Block::provider(ip("2a00:1450::1")), Block::provider(ip("2a00:1450:1::1")));
    assert_ne!(Block::subnet(ip("2a00:1450:0:1::1")), Block::subnet(ip("2a00:1450:0:2::1")));
    assert_eq!(Block::subnet(ip("192.168.1.1")), None);
}
