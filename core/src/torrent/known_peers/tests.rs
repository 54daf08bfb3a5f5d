use super::bounds::{FORGET_AFTER, PORTS_PER_ADDRESS};
use super::waits::{PROVEN_WAITS, STRANGER_WAITS, USELESS_WAIT};
use super::{DIALS_PER_TELLER, KnownPeers, Limits, MAX_OWN, Parting, Refusal, Source, UtpHint};
use crate::ip_filter::{Builder, IpFilter};
use crate::machine::Timestamp;
use crate::rng::Rng;
use crate::torrent::bans::Ban;
use crate::torrent::priority::Place;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;
use proptest::prelude::*;

const START: Timestamp = Timestamp::from_micros(1_000_000);
const TELLER: IpAddr = IpAddr::V4(Ipv4Addr::new(77, 1, 1, 1));

fn known() -> KnownPeers {
    KnownPeers::new(Limits::default(), Rng::from_number(1))
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The nth of many public addresses, each in a subnet of its own.
fn nth(n: u32) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::from_bits(0x2d00_0001 + (n << 8)), 6881))
}

#[test]
fn what_stands_for_a_name_comes_from_the_user_alone_and_stays_here() {
    let mut known = known();
    let name = addr("198.18.0.1:6881");
    for source in [Source::Tracker, Source::Dht, Source::Pex, Source::Resume] {
        assert_eq!(known.learn(START, name, source, None), Err(Refusal::Bogon), "{source}");
    }
    assert_eq!(known.learn(START, name, Source::Manual, None), Ok(true));
    assert_eq!(known.next_to_dial(START, 9), [name]);
    known.handle_connected(name);
    assert_eq!(known.proven().next(), None);
}

#[test]
fn a_learned_address_is_dialled_once() {
    let mut known = known();
    assert_eq!(known.learn(START, nth(0), Source::Tracker, None), Ok(true));
    assert_eq!(known.learn(START, nth(0), Source::Dht, None), Ok(false));
    assert!(known.sources(nth(0)).has(Source::Tracker) && known.sources(nth(0)).has(Source::Dht));
    assert_eq!(known.next_to_dial(START, 9), [nth(0)]);
    assert_eq!(known.next_to_dial(START, 9), []);
    known.handle_connected(nth(0));
    assert_eq!(known.next_to_dial(START, 9), []);
    known.check_invariants();
}

#[test]
fn after_a_failed_obfuscation_there_is_one_dial_without_and_no_wait() {
    let mut known = known();
    known.learn(START, nth(0), Source::Tracker, None).unwrap();
    let mut now = START;
    for _ in 0..3 {
        assert_eq!((known.next_to_dial(now, 9), known.dials_plain(nth(0))), (vec![nth(0)], false));
        known.handle_disconnected(now, nth(0), Parting::Failed);
        known.dial_plain(nth(0));
        assert_eq!((known.next_to_dial(now, 9), known.dials_plain(nth(0))), (vec![nth(0)], true));
        // That fails as well: it waits as any other peer, and what is tried then is obfuscated.
        known.handle_disconnected(now, nth(0), Parting::Failed);
        assert_eq!(known.next_to_dial(now, 9), []);
        known.check_invariants();
        now = known.poll_timeout().unwrap().at;
    }
    known.next_to_dial(now, 9);
    known.handle_disconnected(now, nth(0), Parting::Failed);
    known.dial_plain(nth(0));
    known.next_to_dial(now, 9);
    known.handle_connected(nth(0));
    known.dial_plain(nth(0));
    known.handle_disconnected(now, nth(0), Parting::Lost);
    assert!(known.dials_plain(nth(0)), "what worked is remembered");
    known.check_invariants();
}

/// BEP 55: a relay that names a peer must not push back our own dials to it.
#[test]
fn a_dial_that_a_relay_wants_leaves_no_trace_unless_it_is_answered() {
    let mut known = known();
    known.learn(START, nth(0), Source::Tracker, None).unwrap();
    known.learn(START, nth(1), Source::Tracker, None).unwrap();
    known.next_to_dial(START, 9);
    known.handle_disconnected(START, nth(1), Parting::Failed);
    known.handle_disconnected(START, nth(0), Parting::Failed);
    known.dial_plain(nth(0));
    known.note_utp(nth(0), UtpHint::Told);
    let due = known.poll_timeout();
    for parting in [Parting::Failed, Parting::Undecided, Parting::Useless] {
        for n in [0, 1] {
            assert!(known.dial_now(START, nth(n)));
            known.check_invariants();
            known.handle_disconnected(START, nth(n), parting);
            known.check_invariants();
        }
        assert_eq!((known.failures(nth(0)), known.failures(nth(1))), (0, 1));
        assert_eq!(known.poll_timeout(), due);
    }
    assert!(known.dials_plain(nth(0)));
    assert_eq!(known.utp_hint(nth(0)), UtpHint::Told);
    assert_eq!(known.next_to_dial(START, 9), [nth(0)], "it is its turn as before");

    // It waits longer than it had to, as its turn came meanwhile.
    assert!(known.dial_now(START, nth(1)));
    let later = due.unwrap().at + Duration::from_secs(1);
    known.handle_disconnected(later, nth(1), Parting::Failed);
    assert_eq!(known.next_to_dial(later, 9), [nth(1)]);
    known.handle_disconnected(later, nth(1), Parting::Failed);
    assert_eq!(known.failures(nth(1)), 2, "this one counts");

    assert!(known.dial_now(later, nth(1)));
    known.note_answered(nth(1));
    known.handle_disconnected(later, nth(1), Parting::Failed);
    assert_eq!(known.failures(nth(1)), 3, "somebody is there, and broke it off");
    known.check_invariants();
}

#[test]
fn of_our_own_addresses_the_oldest_is_forgotten() {
    let mut known = known();
    let own = |n| nth(1000 - n);
    (0..=MAX_OWN as u32).for_each(|n| known.learn_own(own(n)));
    assert_eq!(known.learn(START, own(0), Source::Tracker, None), Ok(true));
    for n in 1..=MAX_OWN as u32 {
        assert_eq!(known.learn(START, own(n), Source::Tracker, None), Err(Refusal::Own));
    }
}

#[test]
fn who_lacks_something_again_dials_seeds_at_once() {
    let mut known = known();
    known.set_seeding(true);
    for n in 0..3 {
        known.learn(START, nth(n), Source::Tracker, None).unwrap();
    }
    known.next_to_dial(START, 9);
    for n in [0, 1] {
        known.handle_connected(nth(n));
    }
    for (n, parting) in [(0, Parting::Useless), (1, Parting::Useless), (2, Parting::Failed)] {
        if n != 1 {
            known.note_seed(nth(n));
        }
        known.handle_disconnected(START, nth(n), parting);
    }
    assert_eq!(known.next_to_dial(START, 9), []);
    known.set_seeding(false);
    known.check_invariants();
    assert_eq!(known.next_to_dial(START, 9), [nth(0)], "of the others one is none, and one can't be reached");
}

#[test]
fn a_mapped_address_is_the_same_peer() {
    let mut known = known();
    known.learn(START, addr("45.1.2.3:6881"), Source::Tracker, None).unwrap();
    assert_eq!(known.learn(START, addr("[::ffff:45.1.2.3]:6881"), Source::Pex, None), Ok(false));
}

#[test]
fn better_sources_are_dialled_first() {
    let mut known = known();
    let order = [Source::Manual, Source::Resume, Source::Tracker, Source::Dht, Source::Pex];
    for (n, source) in (0..5).zip(order).rev() {
        known.learn(START, nth(n), source, None).unwrap();
    }
    assert_eq!(known.next_to_dial(START, 9), (0..5).map(nth).collect::<Vec<_>>());
}

#[test]
fn bogons_are_refused() {
    let mut known = known();
    for text in ["45.1.2.3:0", "0.0.0.0:6881", "224.0.0.1:6881", "255.255.255.255:1", "[::]:1", "[ff02::1]:1"]
    {
        for source in [Source::Manual, Source::Tracker, Source::Pex] {
            assert_eq!(known.learn(START, addr(text), source, None), Err(Refusal::Bogon), "{text}");
        }
    }
}

#[test]
fn a_stranger_cannot_send_us_to_our_own_network() {
    let mut known = known();
    let local = addr("192.168.0.1:80");
    for source in [Source::Dht, Source::Pex] {
        assert_eq!(known.learn(START, local, source, Some(TELLER)), Err(Refusal::Local));
    }
    assert_eq!(known.learn(START, local, Source::Pex, Some(addr("10.0.0.7:1").ip())), Ok(true));
}

fn filter(lines: &[&str]) -> Arc<IpFilter> {
    let mut builder = Builder::new();
    lines.iter().for_each(|line| builder.line(line.as_bytes()).unwrap());
    Arc::new(builder.build())
}

#[test]
fn a_blocked_address_is_known_and_not_dialled() {
    let mut known = known();
    for n in 0..3 {
        known.learn(START, nth(n), Source::Manual, None).unwrap();
    }
    known.set_filter(&filter(&["45.0.0.0/24", "45.0.1.0/24"]));
    assert_eq!((known.filtered(), known.has_ready()), (2, true));
    known.learn(START, nth(1), Source::Manual, None).unwrap();
    assert_eq!(known.next_to_dial(START, 9), [nth(2)]);
    known.check_invariants();
    // What is blocked while it is connected is left when that ends.
    known.handle_connected(nth(2));
    known.set_filter(&filter(&["45.0.1.0-45.0.2.255"]));
    assert_eq!((known.filtered(), known.has_ready()), (2, true));
    known.handle_disconnected(START, nth(2), Parting::Lost);
    assert_eq!(known.next_to_dial(START + Duration::from_secs(86_400), 9), [nth(0)]);
    known.check_invariants();
    known.set_filter(&filter(&[]));
    assert_eq!(known.filtered(), 0);
    assert_eq!(known.next_to_dial(START, 9).len(), 2);
}

#[test]
fn equals_are_dialled_by_canonical_priority() {
    let place = Place { v4: Some(Ipv4Addr::new(93, 184, 216, 34)), v6: None, port: 6881 };
    let mut best: Vec<SocketAddr> = (0..40).map(nth).collect();
    best.sort_by_key(|peer| core::cmp::Reverse(place.priority_of(*peer)));
    // Whether it is known before or after the addresses.
    for early in [true, false] {
        let mut known = known();
        if early {
            known.set_place(place);
        }
        for n in 0..40 {
            known.learn(START, nth(n), Source::Tracker, None).unwrap();
        }
        known.learn(START, addr("45.200.0.1:1"), Source::Manual, None).unwrap();
        known.set_place(place);
        known.check_invariants();
        assert_eq!(known.next_to_dial(START, 1), [addr("45.200.0.1:1")], "the user's come first");
        assert_eq!(known.next_to_dial(START, 40), best);
    }
}

#[test]
fn a_seed_does_not_dial_seeds() {
    let mut known = known();
    for n in 0..3 {
        known.learn(START, nth(n), Source::Pex, None).unwrap();
    }
    known.learn(START, nth(3), Source::Manual, None).unwrap();
    known.note_seed(nth(0));
    known.set_seeding(true);
    known.note_seed(nth(1));
    known.note_seed(nth(3));
    known.check_invariants();
    assert_eq!(known.next_to_dial(START, 9), [nth(3), nth(2)], "what the user names is tried in any case");
    known.set_seeding(false);
    assert_eq!(known.next_to_dial(START, 9).len(), 2);
    known.check_invariants();
}

#[test]
fn who_tells_of_seeds_keeps_us_from_its_own_peers_only() {
    let mut known = known();
    known.learn(START, nth(0), Source::Tracker, None).unwrap();
    known.learn(START, nth(1), Source::Pex, Some(TELLER)).unwrap();
    known.set_seeding(true);
    known.note_told_seed(nth(0), TELLER);
    known.note_told_seed(nth(1), TELLER);
    assert_eq!(known.next_to_dial(START, 9), [nth(0)]);
    // A connection shows anew what it wants.
    known.set_seeding(false);
    known.note_seed(nth(0));
    known.handle_connected(nth(0));
    known.handle_disconnected(START, nth(0), Parting::Lost);
    known.set_seeding(true);
    let later = START + PROVEN_WAITS[0] * 2;
    known.handle_timeout(later);
    assert_eq!(known.next_to_dial(later, 9), [nth(0)]);
    known.check_invariants();
}

#[test]
fn what_ended_before_anything_showed_proves_nobody() {
    let mut known = known();
    known.learn(START, nth(0), Source::Pex, Some(TELLER)).unwrap();
    assert_eq!(known.next_to_dial(START, 9), [nth(0)]);
    known.handle_disconnected(START, nth(0), Parting::Undecided);
    assert_eq!((known.proven().next(), known.failures(nth(0))), (None, 0));
    known.check_invariants();
}

#[test]
fn blocked_addresses_take_no_place_from_others() {
    let limits = Limits { peers: 3, ..Limits::default() };
    let mut known = KnownPeers::new(limits, Rng::from_number(1));
    known.set_filter(&filter(&["45.0.0.0/23"]));
    known.learn(START, nth(0), Source::Tracker, None).unwrap();
    for n in 2..4 {
        known.learn(START, nth(n), Source::Pex, None).unwrap();
    }
    assert_eq!(known.learn(START, nth(1), Source::Tracker, None), Err(Refusal::Full));
    assert_eq!(known.learn(START, nth(4), Source::Pex, None), Ok(true), "a blocked one makes room");
    assert_eq!((known.filtered(), known.len()), (0, 3));
    known.check_invariants();
}

#[test]
fn our_own_address_is_never_dialled() {
    let mut known = known();
    known.learn_own(nth(0));
    assert_eq!(known.learn(START, nth(0), Source::Tracker, None), Err(Refusal::Own));
    // P-01: the handshake shows that we dialled ourselves.
    known.learn(START, nth(1), Source::Tracker, None).unwrap();
    assert_eq!(known.next_to_dial(START, 9), [nth(1)]);
    known.learn_own(nth(1));
    known.handle_disconnected(START, nth(1), Parting::Failed);
    assert_eq!(known.learn(START, nth(1), Source::Tracker, None), Err(Refusal::Own));
    assert!(known.is_empty());
    known.check_invariants();
}

#[test]
fn a_relay_has_no_address_dialled_that_nobody_else_could() {
    let mut known = known();
    assert!(known.dial_now(START, nth(0)), "it need not be known");
    assert!(!known.dial_now(START, nth(0)), "it is being dialled");
    known.handle_disconnected(START, nth(0), Parting::Failed);
    assert!(known.is_empty());
    known.learn(START, nth(1), Source::Pex, Some(TELLER)).unwrap();
    known.next_to_dial(START, 1);
    known.handle_disconnected(START, nth(1), Parting::Failed);
    assert!(known.dial_now(START, nth(1)), "it waits, and not for that");
    known.check_invariants();
    known.handle_connected(nth(1));
    assert!(!known.dial_now(START, nth(1)), "it is connected");
    assert!(!known.dial_now(START, SocketAddr::new(nth(1).ip(), 9)), "there is a connection to the address");
    known.learn_own(nth(2));
    known.ban(nth(3));
    let mut builder = Builder::new();
    builder.line(format!("{}/32", nth(4).ip()).as_bytes()).unwrap();
    known.set_filter(&Arc::new(builder.build()));
    for refused in [nth(2), nth(3), nth(4), addr("198.18.0.1:6881"), addr("45.9.9.9:0")] {
        assert!(!known.dial_now(START, refused), "{refused}");
    }
    known.learn(START, nth(5), Source::Tracker, None).unwrap();
    known.set_seeding(true);
    known.note_seed(nth(5));
    assert!(!known.dial_now(START, nth(5)), "neither side wants anything");
    known.check_invariants();
}

#[test]
fn a_failing_stranger_gets_three_dials_an_hour_and_then_fewer() {
    let mut known = known();
    known.learn(START, nth(0), Source::Pex, Some(TELLER)).unwrap();
    let (mut now, mut dials) = (START, vec![]);
    while now < START + Duration::from_secs(24 * 3600) {
        for peer in known.next_to_dial(now, 9) {
            dials.push(now);
            known.handle_disconnected(now, peer, Parting::Failed);
            // Whoever repeats the address changes nothing.
            assert_eq!(known.learn(now, nth(0), Source::Pex, Some(TELLER)), Ok(false));
        }
        now = known.poll_timeout().unwrap().at;
    }
    let hour = Duration::from_secs(3600);
    assert!(
        dials.iter().all(|from| dials.iter().filter(|at| *at >= from && at.since(*from) < hour).count() <= 3)
    );
    assert!((7..=11).contains(&dials.len()), "{}", dials.len());
    for (pair, wait) in dials.windows(2).zip(STRANGER_WAITS) {
        assert!((wait..wait * 5 / 4).contains(&pair[1].since(pair[0])));
    }
}

#[test]
fn a_proven_peer_is_dialled_again_soon() {
    let mut known = known();
    known.learn(START, nth(0), Source::Tracker, None).unwrap();
    known.next_to_dial(START, 1);
    known.handle_connected(nth(0));
    known.handle_disconnected(START, nth(0), Parting::Lost);
    let mut now = START;
    for nth_failure in 0..20 {
        let at = known.poll_timeout().unwrap().at;
        let wait = at.since(now);
        now = at;
        assert!(nth_failure > 10 || wait <= PROVEN_WAITS[4] * 5 / 4, "{nth_failure}: {wait:?}");
        assert_eq!(known.next_to_dial(now, 1), [nth(0)]);
        known.handle_disconnected(now, nth(0), Parting::Failed);
    }
    assert!(
        known.poll_timeout().unwrap().at.since(now) >= STRANGER_WAITS[4],
        "in the end it is a stranger again"
    );
    assert_eq!(known.proven().count(), 0);
}

#[test]
fn a_useless_peer_rests() {
    let mut known = known();
    known.learn(START, nth(0), Source::Tracker, None).unwrap();
    known.next_to_dial(START, 1);
    known.handle_connected(nth(0));
    known.handle_disconnected(START, nth(0), Parting::Useless);
    assert!(known.poll_timeout().unwrap().at >= START + USELESS_WAIT);
}

#[test]
fn when_the_network_is_back_proven_peers_are_too() {
    let mut known = known();
    for n in 0..2 {
        known.learn(START, nth(n), Source::Tracker, None).unwrap();
    }
    known.next_to_dial(START, 2);
    known.handle_connected(nth(0));
    known.handle_disconnected(START, nth(0), Parting::Useless);
    known.handle_disconnected(START, nth(1), Parting::Failed);
    known.retry_soon(START);
    assert_eq!(known.next_to_dial(START + Duration::from_secs(5), 9), [nth(0)]);
    known.check_invariants();
}

#[test]
fn what_the_user_adds_is_dialled_at_once() {
    let mut known = known();
    known.learn(START, nth(0), Source::Pex, None).unwrap();
    known.next_to_dial(START, 1);
    known.handle_disconnected(START, nth(0), Parting::Failed);
    assert_eq!(known.next_to_dial(START, 9), []);
    known.learn(START, nth(0), Source::Manual, None).unwrap();
    assert_eq!(known.next_to_dial(START, 9), [nth(0)]);
}

#[test]
fn one_public_address_gets_one_connection() {
    let mut known = known();
    known.learn(START, addr("45.1.2.3:1000"), Source::Tracker, None).unwrap();
    known.learn(START, addr("45.1.2.3:2000"), Source::Tracker, None).unwrap();
    let first = known.next_to_dial(START, 9);
    assert_eq!(first.len(), 1);
    assert_eq!(known.accept(addr("45.1.2.3:3000")), Err(Refusal::AddressFull));
    known.handle_disconnected(START, first[0], Parting::Failed);
    assert_eq!(known.accept(addr("45.1.2.3:3000")), Ok(()));
    assert_eq!(known.next_to_dial(START, 9), []);
    for port in 1..9 {
        assert_eq!(
            known.accept(SocketAddr::from(([127, 0, 0, 1], port))),
            Ok(()),
            "local addresses are exempt"
        );
    }
    known.check_invariants();
}

#[test]
fn an_incoming_peer_is_known_by_where_it_listens() {
    let mut known = known();
    let (remote, listens) = (addr("127.0.0.1:50000"), addr("127.0.0.1:6881"));
    known.accept(remote).unwrap();
    assert_eq!(known.handle_listen_port(START, remote, 6881), Ok(listens));
    assert_eq!(
        known.handle_listen_port(START, remote, 6882),
        Ok(listens),
        "what it says later counts for nothing"
    );
    assert_eq!(known.next_to_dial(START, 9), [], "it is connected");
    known.accept(addr("127.0.0.1:50001")).unwrap();
    assert_eq!(known.handle_listen_port(START, addr("127.0.0.1:50001"), 6881), Err(Refusal::Connected));
    assert_eq!(known.accept(listens), Err(Refusal::Connected));
    known.learn(START, remote, Source::Tracker, None).unwrap();
    assert_eq!(known.next_to_dial(START, 9), [], "nor is the port it connected from dialled");
    known.check_invariants();
    known.handle_disconnected(START, remote, Parting::Lost);
    known.handle_disconnected(START, addr("127.0.0.1:50001"), Parting::Failed);
    assert_eq!(known.next_to_dial(START + PROVEN_WAITS[0] * 2, 9), [listens, remote]);
    known.check_invariants();
}

#[test]
fn a_peer_that_is_being_dialled_may_not_come_in_too() {
    let mut known = known();
    known.learn(START, addr("127.0.0.1:6881"), Source::Tracker, None).unwrap();
    known.next_to_dial(START, 1);
    known.accept(addr("127.0.0.1:50000")).unwrap();
    let answer = known.handle_listen_port(START, addr("127.0.0.1:50000"), 6881);
    assert_eq!(answer, Err(Refusal::Connected));
}

#[test]
fn an_address_has_few_ports_and_from_a_peer_only_one() {
    let mut known = known();
    let port = |n: u16| SocketAddr::from(([45, 1, 2, 3], n));
    assert_eq!(known.learn(START, port(1), Source::Pex, Some(TELLER)), Ok(true));
    assert_eq!(known.learn(START, port(2), Source::Pex, Some(TELLER)), Err(Refusal::AddressFull));
    for n in 2..=PORTS_PER_ADDRESS as u16 {
        assert_eq!(known.learn(START, port(n), Source::Tracker, None), Ok(true));
    }
    assert_eq!(known.learn(START, port(99), Source::Tracker, None), Err(Refusal::AddressFull));
    for n in 1..99 {
        let local = SocketAddr::from(([127, 0, 0, 1], n));
        assert_eq!(known.learn(START, local, Source::Tracker, None), Ok(true), "local addresses are exempt");
    }
}

#[test]
fn a_subnet_has_64() {
    let mut known = known();
    for host in 0..64 {
        assert_eq!(
            known.learn(START, SocketAddr::from(([45, 1, 2, host], 1)), Source::Tracker, None),
            Ok(true)
        );
    }
    let next = SocketAddr::from(([45, 1, 2, 64], 1));
    assert_eq!(known.learn(START, next, Source::Tracker, None), Err(Refusal::SubnetFull));
    let six = |n: u16| SocketAddr::from(([0x2a00, 0x1450, 1, n % 256, 0, 0, 0, n + 1], 1));
    for n in 0..64 {
        assert_eq!(known.learn(START, six(n), Source::Tracker, None), Ok(true));
    }
    assert_eq!(known.learn(START, six(65), Source::Tracker, None), Err(Refusal::SubnetFull));
}

#[test]
fn a_peer_may_name_50_and_has_9_of_them_dialled() {
    let mut known = known();
    for n in 0..50 {
        assert_eq!(known.learn(START, nth(n), Source::Pex, Some(TELLER)), Ok(true));
    }
    assert_eq!(known.learn(START, nth(50), Source::Pex, Some(TELLER)), Err(Refusal::TellerFull));
    assert_eq!(known.learn(START, nth(50), Source::Pex, Some(addr("77.1.1.2:1").ip())), Ok(true));
    let dialled = known.next_to_dial(START, 30);
    assert_eq!(dialled.len(), DIALS_PER_TELLER + 1);
    let failed = dialled.into_iter().find(|peer| *peer != nth(50)).unwrap();
    known.handle_disconnected(START, failed, Parting::Failed);
    assert_eq!(known.next_to_dial(START, 30).len(), 1);
    known.check_invariants();
}

#[test]
fn a_full_table_drops_the_worst_but_not_what_was_dialled_lately() {
    let limits = Limits { peers: 3, ..Limits::default() };
    let mut known = KnownPeers::new(limits, Rng::from_number(1));
    for n in 0..3 {
        known.learn(START, nth(n), Source::Pex, None).unwrap();
    }
    assert_eq!(known.learn(START, nth(3), Source::Pex, None), Err(Refusal::Full), "it is no better");
    for peer in known.next_to_dial(START, 3) {
        known.handle_disconnected(START, peer, Parting::Failed);
    }
    assert_eq!(known.learn(START, nth(3), Source::Manual, None), Err(Refusal::Full));
    let later = START + FORGET_AFTER;
    assert_eq!(known.learn(later, nth(3), Source::Tracker, None), Ok(true));
    assert_eq!(known.len(), 3);
    known.check_invariants();
}

#[test]
fn a_ban_covers_the_endpoint_and_at_the_second_the_address() {
    let limits = Limits { connections_per_address: 9, ..Limits::default() };
    let mut known = KnownPeers::new(limits, Rng::from_number(1));
    let port = |n: u16| SocketAddr::from(([45, 1, 2, 3], n));
    for n in 1..4 {
        known.learn(START, port(n), Source::Tracker, None).unwrap();
    }
    known.accept(port(5000)).unwrap();
    known.handle_listen_port(START, port(5000), 7).unwrap();
    assert_eq!(known.ban(port(5000)), Ban::Endpoint);
    assert!(known.is_banned(port(5000)) && known.is_banned(port(7)) && !known.is_banned(port(1)));
    known.handle_disconnected(START, port(5000), Parting::Failed);
    assert_eq!(known.learn(START, port(7), Source::Tracker, None), Err(Refusal::Banned));
    known.accept(port(5001)).unwrap();
    assert_eq!(known.handle_listen_port(START, port(5001), 7), Err(Refusal::Banned));

    assert_eq!(known.ban(port(1)), Ban::Address);
    assert_eq!(known.accept(port(9999)), Err(Refusal::Banned));
    assert_eq!(known.next_to_dial(START, 9), []);
    assert!(known.is_banned(port(5001)), "a connection from there is to be closed");
    known.handle_disconnected(START, port(5001), Parting::Failed);
    assert!(known.is_empty());
    known.check_invariants();
}

/// BEP 27: what other peers and nodes said does not count in a private torrent.
#[test]
fn what_sources_said_can_be_taken_back() {
    let mut known = known();
    for (n, sources) in
        (0..).zip([&[Source::Pex][..], &[Source::Dht, Source::Tracker], &[Source::Lsd], &[Source::Manual]])
    {
        for source in sources {
            let _ = known.learn(START, nth(n), *source, None);
        }
    }
    known.learn(START, nth(4), Source::Pex, Some(TELLER)).unwrap();
    assert_eq!(known.next_to_dial(START, 9).len(), 5);
    for n in [0, 1, 3, 4] {
        known.handle_connected(nth(n));
    }
    known.handle_disconnected(START, nth(2), Parting::Failed);
    known.learn(START, nth(5), Source::Pex, None).unwrap();
    assert_eq!(known.unlearn(&[Source::Dht, Source::Lsd, Source::Pex]), [nth(0), nth(4)]);
    assert!(!known.sources(nth(1)).has(Source::Dht) && known.sources(nth(1)).has(Source::Tracker));
    assert_eq!(known.len(), 4);
    known.check_invariants();
    known.handle_disconnected(START, nth(0), Parting::Lost);
    known.learn(START, nth(4), Source::Tracker, None).unwrap();
    known.handle_disconnected(START, nth(4), Parting::Lost);
    assert_eq!(known.len(), 3, "the tracker named one of them since");
    known.check_invariants();
}

proptest! {
    #[test]
    fn every_count_agrees_with_a_recount(
        seed in any::<u64>(),
        steps in prop::collection::vec((0_u8..14, any::<u8>(), 0_u64..90), 1..150),
    ) {
        let limits = Limits { peers: 12, peers_per_subnet: 5, connections_per_address: 2 };
        let mut known = KnownPeers::new(limits, Rng::from_number(seed));
        let mut now = START;
        let (mut dialling, mut open) = (vec![], vec![]);
        for (kind, which, wait) in steps {
            now = now + Duration::from_secs(wait);
            let ip = [[45, 1, 1, 1], [45, 1, 1, 2], [45, 1, 2, 1], [127, 0, 0, 1]][which as usize / 8 % 4];
            let peer = SocketAddr::from((ip, 1 + u16::from(which % 8)));
            let source = super::source::ALL_SOURCES[which as usize % 7];
            let parting = [Parting::Failed, Parting::Lost, Parting::Useless][which as usize % 3];
            match kind {
                0..=3 => {
                    let _ = known.learn(now, peer, source, which.is_multiple_of(2).then_some(TELLER));
                }
                4 | 5 => dialling.extend(known.next_to_dial(now, 2)),
                6 => if let Some(dialled) = dialling.pop() {
                    if which.is_multiple_of(2) {
                        known.handle_connected(dialled);
                        open.push(dialled);
                    } else {
                        known.handle_disconnected(now, dialled, Parting::Failed);
                    }
                },
                7 if known.accept(peer).is_ok() => {
                    open.push(peer);
                    let _ = known.handle_listen_port(now, peer, u16::from(which / 16));
                }
                8 => if let Some(closed) = open.pop() {
                    known.handle_disconnected(now, closed, parting);
                },
                9 if which.is_multiple_of(4) => {
                    known.ban(peer);
                }
                10 if which.is_multiple_of(8) => known.learn_own(peer),
                11 => known.retry_soon(now),
                12 => {
                    let linked = known.unlearn(&[source]);
                    prop_assert!(linked.iter().all(|link| dialling.contains(link) || open.contains(link)));
                }
                13 if known.dial_now(now, peer) => dialling.push(peer),
                _ => {}
            }
            known.check_invariants();
            prop_assert!(dialling.iter().all(|dialled| !open.contains(dialled)));
            known.handle_timeout(now);
            prop_assert!(known.poll_timeout().is_none_or(|due| due.at > now));
        }
    }
}
