//! Networks of some hundred to some thousand DHT nodes find what was announced, whatever happens to them.

use core::time::Duration;
use sim::dht::{Attack, Options, Start, World};

fn settled(nodes: usize, options: Options) -> World {
    let mut world = World::new(Options { watch_every: 100, ..options });
    let settled = world.settle(nodes);
    assert_eq!(settled.bootstrapped, nodes, "{settled:?}");
    world
}

fn expect_no_breach(world: &World) {
    assert!(world.checks() > 1000);
    assert_eq!(world.breaches(), [""; 0]);
}

/// INV-L-08, INV-L-10.
#[test]
fn what_is_announced_is_found() {
    let mut world = settled(2000, Options::default());
    let (torrents, announced) = world.announce(200);
    assert!(announced.stored >= 200 * 8, "{announced}");
    let placed = world.placed_permille(&torrents);
    assert!(placed >= 970, "{placed} of 1000 of the closest nodes hold the peer");
    let tally = world.look_up_all(&torrents);
    assert!(tally.found_permille() >= 995, "{tally}");
    assert!(tally.done == tally.lookups && tally.hops[100] <= 3 && tally.asked[198] <= 60, "{tally}");
    expect_no_breach(&world);
}

/// INV-L-08: a tenth of the nodes leaves each minute.
#[test]
fn what_is_announced_is_found_while_nodes_come_and_go() {
    let mut world = settled(1000, Options::default());
    world.churn(Duration::from_secs(240), 10);
    let (torrents, _) = world.announce(100);
    assert!(world.reached_permille(&torrents) >= 990);
    world.churn(Duration::from_secs(300 - 31), 10);
    let tally = world.look_up_all(&torrents);
    assert!(tally.found_permille() >= 970, "{tally}");
    expect_no_breach(&world);
}

/// Row D-04: 64 networks with the best ids that BEP 42 allows.
#[test]
fn a_torrent_cannot_be_hidden() {
    let mut world = settled(2000, Options::default());
    let (tally, _) = world.attacked(Attack::Eclipse, 3, 34);
    assert!(tally.found_permille() >= 990, "{tally}");
    expect_no_breach(&world);
}

/// Row D-03.
#[test]
fn sybils_anywhere_are_no_hindrance() {
    let mut world = settled(1000, Options::default());
    let (tally, _) = world.attacked(Attack::Sybils(20), 50, 2);
    assert!(tally.found_permille() >= 990, "{tally}");
    expect_no_breach(&world);
}

/// Row D-09, and how long a user waits.
#[test]
fn a_node_finds_peers_in_its_first_second() {
    let delay = (Duration::from_millis(40), Duration::from_millis(40));
    let mut world = settled(2000, Options { delay, ..Options::default() });
    let (torrents, _) = world.announce(60);
    for (start, millis) in [(Start::Saved { gone: 30 }, 600), (Start::OneNode, 1500)] {
        let tally = world.cold_starts(&torrents, start);
        assert!(tally.found_permille() >= 980, "{start:?}: {tally}");
        assert!(tally.took[tally.took.len() / 2] < Duration::from_millis(millis), "{start:?}: {tally}");
    }
    // D-09: they started half a minute ago.
    let buckets: Vec<_> = world.buckets(torrents.len()).collect();
    assert!(buckets.iter().all(|count| *count >= 8), "{buckets:?}");
    expect_no_breach(&world);
}

#[test]
fn a_seed_makes_one_network() {
    let runs = [3, 3, 4].map(|seed| {
        let mut world = settled(100, Options { seed, ..Options::default() });
        let (torrents, _) = world.announce(10);
        let tally = world.look_up_all(&torrents);
        (world.events(), world.packets(), format!("{tally}"))
    });
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], runs[2]);
}
