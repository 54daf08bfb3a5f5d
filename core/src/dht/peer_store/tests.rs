use super::*;
use crate::rng::Rng;
use alloc::collections::BTreeSet;
use alloc::vec;
use core::net::IpAddr;
use proptest::prelude::*;

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

/// Number `n` of the torrents.
fn hash(n: u32) -> InfoHash {
    let mut hash = [0; 20];
    hash[..4].copy_from_slice(&n.to_be_bytes());
    InfoHash(hash)
}

/// A host in a subnet of its own.
fn nth(subnet: u32) -> SocketAddr {
    let [_, a, b, c] = subnet.to_be_bytes();
    SocketAddr::from(([20 + a, b, c, 1], 1))
}

/// The same of IPv6.
fn nth6(subnet: u32) -> SocketAddr {
    let [high, low] = [(subnet >> 16) as u16, subnet as u16];
    SocketAddr::from(([0x2001, high, low, 0, 0, 0, 0, 1], 1))
}

fn store(limits: PeerLimits) -> PeerStore {
    PeerStore::new(Family::V4, limits, Rng::from_number(1))
}

fn small() -> PeerLimits {
    PeerLimits { torrents: 100, peers_per_torrent: 20, ..PeerLimits::default() }
}

fn peers(store: &mut PeerStore, now: Timestamp, torrent: u32) -> BTreeSet<SocketAddr> {
    let mut out = vec![];
    store.pick(now, hash(torrent), false, usize::MAX, &mut out);
    out.into_iter().collect()
}

#[test]
fn an_address_is_one_peer_of_a_torrent() {
    let mut store = store(small());
    for (peer, seed) in
        [("8.8.8.8:1", false), ("8.8.8.8:2", true), ("8.8.8.9:1", false), ("[::ffff:8.8.8.9]:7", false)]
    {
        store.announce(at(0), hash(1), addr(peer), seed);
    }
    assert_eq!(peers(&mut store, at(0), 1), [addr("8.8.8.8:2"), addr("8.8.8.9:7")].into());
    store.announce(at(0), hash(2), addr("8.8.8.8:3"), false);
    assert_eq!((store.torrents(), store.peers()), (2, 3));
    // On one machine there may be many peers.
    for port in 1..=5 {
        store.announce(at(0), hash(3), SocketAddr::from(([127, 0, 0, 1], port)), false);
    }
    assert_eq!(peers(&mut store, at(0), 3).len(), 5);
    store.check_invariants(at(0));
}

#[test]
fn other_families_and_no_ports_are_left_out() {
    let mut four = store(small());
    four.announce(at(0), hash(1), addr("[2001:db8::1]:1"), false);
    four.announce(at(0), hash(1), addr("8.8.8.8:0"), false);
    assert_eq!((four.torrents(), four.bytes(), four.poll_timeout()), (0, 0, None));
    let mut six = PeerStore::new(Family::V6, small(), Rng::from_number(1));
    six.announce(at(0), hash(1), addr("8.8.8.8:1"), false);
    six.announce(at(0), hash(1), addr("[2001:db8::1]:258"), true);
    assert_eq!(peers(&mut six, at(0), 1), [addr("[2001:db8::1]:258")].into());
    six.check_invariants(at(0));
    let mut none = store(PeerLimits { torrents: 0, ..small() });
    none.announce(at(0), hash(1), addr("8.8.8.8:1"), false);
    assert_eq!(none.torrents(), 0);
}

/// INV-S-35.
#[test]
fn a_peer_is_known_for_45_minutes_after_its_last_announce() {
    let mut store = store(small());
    let (early, late) = (addr("8.8.8.8:1"), addr("9.9.9.9:1"));
    store.announce(at(10), hash(1), early, false);
    store.announce(at(1000), hash(1), early, false);
    store.announce(at(1010), hash(1), late, false);
    assert_eq!(peers(&mut store, at(1000 + 2699), 1), [early, late].into());
    assert_eq!(peers(&mut store, at(1000 + 2700), 1), [late].into());
    assert_eq!(store.blooms(at(1010 + 2700), hash(1)), None);
    assert_eq!(store.poll_timeout().unwrap().at, at(310));
    store.handle_timeout(at(309));
    assert_eq!(store.poll_timeout().unwrap().at, at(310), "too early");
    store.handle_timeout(at(1000 + 2700));
    assert_eq!((store.peers(), store.poll_timeout().unwrap().at), (1, at(4000)));
    store.check_invariants(at(3700));
    store.handle_timeout(at(4000));
    assert_eq!((store.torrents(), store.bytes(), store.poll_timeout()), (0, 0, None));
    store.check_invariants(at(4000));
}

#[test]
fn a_pick_is_random_and_prefers_whom_it_is_asked_to_prefer() {
    let mut store = store(small());
    for n in 0..20 {
        store.announce(at(0), hash(1), nth(n), n % 2 == 0);
    }
    let mut pick = |noseed, max| {
        let mut out = vec![addr("7.7.7.7:7")];
        store.pick(at(0), hash(1), noseed, max, &mut out);
        assert_eq!(out.remove(0), addr("7.7.7.7:7"), "what was there stays");
        out
    };
    assert_eq!(pick(false, 5).len(), 5);
    let seen: BTreeSet<SocketAddr> = (0..50).flat_map(|_| pick(false, 5)).collect();
    assert_eq!(seen.len(), 20, "everybody's turn comes");
    let leechers: BTreeSet<SocketAddr> = (0..20).filter(|n| n % 2 == 1).map(nth).collect();
    let few: BTreeSet<SocketAddr> = (0..50).flat_map(|_| pick(true, 5)).collect();
    assert_eq!(few, leechers);
    assert_eq!(pick(true, 15)[..10].iter().copied().collect::<BTreeSet<_>>(), leechers);
    let mut nothing = vec![];
    store.pick(at(0), hash(2), false, 5, &mut nothing);
    assert_eq!(nothing, []);
}

#[test]
fn filters_hold_seeds_and_others_apart() {
    let mut store = store(small());
    for n in 0..10 {
        store.announce(at(0), hash(1), nth(n), n < 3);
    }
    let of = |range: core::ops::Range<u32>| {
        let mut bloom = Bloom::new();
        range.for_each(|n| bloom.insert(nth(n).ip()));
        bloom
    };
    assert_eq!(store.blooms(at(0), hash(1)), Some((of(0..3), of(3..10))));
    assert_eq!(store.blooms(at(0), hash(2)), None);
}

/// BEP 51.
#[test]
fn a_sample_stays_for_six_hours() {
    let mut store = store(PeerLimits::default());
    let sample = store.sample(at(0));
    assert_eq!((sample.count, sample.hashes.len()), (0, 0));
    for n in 0..5 {
        store.announce(at(0), hash(n), nth(n), false);
    }
    assert_eq!(store.sample(at(10)).hashes.len(), 5, "while there are few, each new one is shown");
    for n in 5..100 {
        store.announce(at(10), hash(n), nth(n), false);
    }
    let sample = store.sample(at(10));
    assert_eq!((sample.interval, sample.count, sample.hashes.len()), (21_600, 100, MAX_SAMPLES));
    let shown = sample.hashes.to_vec();
    let again = store.sample(at(21_609));
    assert_eq!((again.interval, again.hashes), (1, &shown[..]));
    assert_ne!(store.sample(at(21_610)).hashes, shown, "20 of 100 are hardly ever the same");
    store.check_invariants(at(21_610));
}

/// D-06.
#[test]
fn a_flood_of_torrents_from_one_subnet_drives_out_itself_alone() {
    let mut store = store(small());
    for n in 0..60 {
        store.announce(at(n.into()), hash(n), nth(n), false);
    }
    for n in 0..1000 {
        let host = (n % 250) as u8;
        store.announce(at(100), hash(1000 + n), SocketAddr::from(([9, 9, 9, host], 1)), false);
        store.check_invariants(at(100));
    }
    assert_eq!(store.torrents(), 100);
    assert!((0..60).all(|n| peers(&mut store, at(100), n) == [nth(n)].into()));
    // Others still get in, at the cost of who has most.
    for n in 60..99 {
        store.announce(at(100), hash(n), nth(n), false);
    }
    assert!((0..99).all(|n| peers(&mut store, at(100), n) == [nth(n)].into()));
    // When all have one, the one with the fewest peers goes, and of these the oldest.
    store.announce(at(100), hash(0), nth(500), false);
    store.announce(at(100), hash(99), nth(99), false);
    store.announce(at(100), hash(100), nth(100), false);
    let lost: Vec<u32> = (0..=100).filter(|n| peers(&mut store, at(100), *n).is_empty()).collect();
    assert_eq!(lost, [1, 2]);
}

#[test]
fn a_torrent_of_many_does_not_go_with_who_announced_it_first() {
    let mut store = store(PeerLimits { torrents: 10, ..small() });
    let flood = addr("9.9.9.9:1");
    for n in 0..10 {
        store.announce(at(n.into()), hash(n), flood, false);
    }
    store.announce(at(20), hash(0), nth(1), false);
    for n in 10..30 {
        store.announce(at(30), hash(n), flood, false);
    }
    assert_eq!(peers(&mut store, at(30), 0), [flood, nth(1)].into());
    store.check_invariants(at(30));
}

#[test]
fn a_flood_of_peers_from_one_subnet_drives_out_itself_alone() {
    let mut store = store(small());
    for n in 0..12 {
        store.announce(at(n.into()), hash(1), nth(n), false);
    }
    for host in 0..=255 {
        store.announce(at(20), hash(1), SocketAddr::from(([9, 9, 9, host], 1)), false);
    }
    let known = peers(&mut store, at(20), 1);
    assert!(known.len() == 20 && (0..12).all(|n| known.contains(&nth(n))));
    for n in 12..19 {
        store.announce(at(30), hash(1), nth(n), false);
    }
    let known = peers(&mut store, at(30), 1);
    assert!(known.len() == 20 && (0..19).all(|n| known.contains(&nth(n))), "who has most gives way");
    store.announce(at(30), hash(1), nth(19), false);
    let known = peers(&mut store, at(30), 1);
    assert!(known.len() == 20 && !known.contains(&nth(0)), "when all have one, the oldest goes");
    store.check_invariants(at(30));
}

/// Limit L11.
#[test]
fn a_full_store_of_short_addresses_has_all_it_may() {
    let mut store = store(PeerLimits::default());
    for torrent in 0..2010 {
        (0..105).for_each(|n| store.announce(at(0), hash(torrent), nth(n), false));
    }
    assert_eq!((store.torrents(), store.peers()), (2000, 200_000));
    assert!(store.bytes() <= 3 << 20, "{}", store.bytes());
    store.check_invariants(at(0));
}

#[test]
fn where_addresses_are_long_the_largest_torrents_lose_peers() {
    let limits =
        PeerLimits { torrents: 100, bytes: PeerLimits::default().bytes / 20, ..PeerLimits::default() };
    let mut store = PeerStore::new(Family::V6, limits, Rng::from_number(1));
    for torrent in 0..100 {
        (0..100).for_each(|n| store.announce(at(0), hash(torrent), nth6(n), false));
    }
    store.check_invariants(at(0));
    assert_eq!(store.torrents(), 100);
    assert!((4500..6000).contains(&store.peers()), "{}", store.peers());
    let known: Vec<usize> = (0..100).map(|torrent| peers(&mut store, at(0), torrent).len()).collect();
    let (least, most) = (known.iter().min().unwrap(), known[..99].iter().max().unwrap());
    assert!(most - least < 20, "{known:?}");
}

#[test]
fn a_store_of_a_few_bytes_has_a_few_peers() {
    let mut store = store(PeerLimits { bytes: 2 * TORRENT_BYTES, ..small() });
    for n in 0..10 {
        store.announce(at(n), hash(n as u32), nth(n as u32), false);
        store.check_invariants(at(n));
    }
    assert_eq!(peers(&mut store, at(10), 9), [nth(9)].into());
    assert_eq!(store.torrents(), 1);
}

proptest! {
    /// A model without limits nor owners: what it says is so, unless somebody was driven out.
    #[test]
    fn a_store_is_like_a_map(
        limits in (1..8_usize, 1..8_usize, 500..20_000_usize),
        v6: bool,
        announces in prop::collection::vec((0..600_u64, 0..6_u32, 0..6_u32, 1..4_u16, any::<(bool, bool)>()), 0..80),
    ) {
        let (torrents, peers_per_torrent, bytes) = limits;
        let limits = PeerLimits { torrents, peers_per_torrent, bytes };
        let family = if v6 { Family::V6 } else { Family::V4 };
        let mut store = PeerStore::new(family, limits, Rng::from_number(1));
        let mut model: BTreeMap<(u32, IpAddr), (u16, bool, u64)> = BTreeMap::new();
        let mut now = 0;
        for (wait, torrent, host, port, (seed, sweep)) in announces {
            now += wait;
            if sweep {
                store.handle_timeout(at(now));
            }
            let mut addr = if v6 { nth6(host) } else { nth(host) };
            addr.set_port(port);
            store.announce(at(now), hash(torrent), addr, seed);
            store.check_invariants(at(now));
            model.insert((torrent, addr.ip()), (port, seed, now));
            model.retain(|_, (_, _, heard)| now < *heard + 2700);
            let mut known = 0;
            for torrent in 0..6 {
                for peer in peers(&mut store, at(now), torrent) {
                    let expected = model.get(&(torrent, peer.ip())).map(|(port, ..)| *port);
                    prop_assert_eq!(expected, Some(peer.port()));
                    known += 1;
                }
            }
            prop_assert!(known <= model.len());
            if torrents >= 6 && peers_per_torrent >= 6 && bytes >= 15_000 {
                prop_assert_eq!(known, model.len(), "nobody has to give way");
            }
        }
    }
}
