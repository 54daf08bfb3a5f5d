//! Many leechers, and how fast they could be at best.

use super::super::scenario::{Failure, Notes, Scenario, complete, ensure, fluid_limit};
use super::{Access, Duration, HOME, Has, HostId, Plan, Setup, Swarm, World, secs};
use core::net::IpAddr;
use fast_peer_core::machine::Timestamp;
use fast_peer_core::session::{Config, Event};
use fast_peer_core::torrent::priority::priority;

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "canonical-peers",
        about: "a full torrent where nobody has anything ends with the peers of the highest priority, and keeps those that \
            are near or that its user named",
        play: canonical_peers,
    },
    Scenario {
        name: "crowd",
        about: "one seeder and 50 leechers of 256 pieces are done within 1.3 of the fluid limit",
        play: crowd,
    },
    Scenario {
        name: "many-torrents",
        about: "six clients share a dozen torrents, each seeded by another of them",
        play: many_torrents,
    },
    Scenario {
        name: "seeder-leaves",
        about: "the seeder leaves as soon as every piece is out once, and the rest finish from each other",
        play: seeder_leaves,
    },
];

fn crowd(world: &mut World, notes: &mut Notes) -> Result<(), Failure> {
    // 16 Mbit/s, and 50 ms there and back.
    let access = Access::symmetric(2_000_000, Duration::from_micros(12_500));
    let (pieces, leechers) = (256, 50);
    let swarm = Swarm::new(world, Plan::large(1 << 20, pieces << 20), leechers, access);
    let limit = fluid_limit(pieces << 20, leechers as u64, &access);
    let took = complete(world, &swarm.leechers, 3 * limit)?.since(Timestamp::ZERO);
    let ratio = took.as_millis() * 1000 / limit.as_millis();
    notes.add(format!("the last was complete after {:.1} s", took.as_secs_f64()));
    notes.add(format!(
        "{}.{:03} of the fluid limit of {:.1} s",
        ratio / 1000,
        ratio % 1000,
        limit.as_secs_f64()
    ));
    let received: u64 = swarm.leechers.iter().map(|(host, _)| world.stats(*host).received).sum();
    let needed = (pieces << 20) * leechers as u64;
    let waste_ppm = (received - needed) * 1_000_000 / needed;
    notes.add(format!("{waste_ppm} bytes in a million came in vain"));
    ensure(ratio <= 1_300, || format!("took {ratio} thousandths of the fluid limit"))
}

fn many_torrents(world: &mut World, _: &mut Notes) -> Result<(), Failure> {
    let hosts: Vec<_> = (0..6).map(|n| world.add_client(&format!("client{n}"), &Setup::new(HOME))).collect();
    let mut leechers = Vec::new();
    for n in 0..12_usize {
        let content = world.add_content(&Plan::small(32768, 200_000 + 10_000 * n as u64));
        let seeder = hosts[n % hosts.len()];
        for host in &hosts {
            let has = if *host == seeder { Has::All } else { Has::Nothing };
            let torrent = world.share(*host, content, has, &[seeder]);
            if has == Has::Nothing {
                leechers.push((*host, torrent));
            }
        }
    }
    complete(world, &leechers, secs(120)).map(|_| ())
}

fn seeder_leaves(world: &mut World, notes: &mut Notes) -> Result<(), Failure> {
    let swarm = Swarm::new(world, Plan::large(256 << 10, 64 * (256 << 10)), 10, HOME);
    let pieces: Vec<_> = world.content(swarm.content).lengths().pieces().collect();
    let spread = world.run_to(Timestamp::ZERO + secs(600), |world| {
        let has =
            |(host, torrent): &(_, _)| world.session(*host).content(*torrent).map(|content| content.stored());
        let sets: Vec<_> = swarm.leechers.iter().filter_map(has).collect();
        pieces.iter().all(|piece| sets.iter().any(|set| set.has(*piece)))
    });
    ensure(spread, || "the pieces never got out".into())?;
    let complete_before =
        swarm.leechers.iter().filter(|(host, torrent)| world.is_complete(*host, *torrent)).count();
    notes.add(format!("the seeder left at {} ms, when {complete_before} were complete", world.now()));
    world.command(swarm.seeder.0, Event::Stop);
    world.run_for(secs(5));
    world.set_reach(swarm.seeder.0, super::super::world::Reach::Refusing);
    complete(world, &swarm.leechers, secs(300)).map(|_| ())
}

fn canonical_peers(world: &mut World, notes: &mut Notes) -> Result<(), Failure> {
    let content = world.add_content(&Plan::small(64 << 10, 2 << 20));
    let config = Config { pex: false, ..Config::default() };
    let setup = Setup { config: config.clone(), ..Setup::new(HOME) };
    let named = world.add_client("named", &setup);
    world.share(named, content, Has::Nothing, &[]);
    let full = Setup { config: Config { max_peers: PLACES, ..config }, ..Setup::new(HOME) };
    let full = world.add_client("full", &full);
    let torrent = world.share(full, content, Has::Nothing, &[named]);
    let near = world.add_client("near", &Setup { addr: Some(([10, 0, 0, 5], 6881).into()), ..setup.clone() });
    world.share(near, content, Has::Nothing, &[full]);
    world.run_for(secs(5));
    let others: Vec<HostId> = (0..24)
        .map(|n| {
            let host = world.add_client(&format!("other{n}"), &setup);
            world.share(host, content, Has::Nothing, &[full]);
            host
        })
        .collect();
    world.run_for(secs(1800));
    let own = world.addr(full);
    let mut best: Vec<HostId> = others.clone();
    best.sort_by_key(|host| core::cmp::Reverse(priority(own, world.addr(*host))));
    best.truncate(PLACES - 2);
    let peers: Vec<IpAddr> = world.session(full).torrent(torrent).map_or(vec![], |torrent| {
        torrent.peers().filter(|(peer, _)| peer.is_open()).map(|(peer, _)| peer.remote().ip()).collect()
    });
    let has = |host: HostId| peers.contains(&world.addr(host).ip());
    ensure(has(named) && has(near), || "it gave up one that its user named, or that is near".into())?;
    let kept = best.iter().filter(|host| has(**host)).count();
    notes.add(format!("{kept} of the best {} are connected", best.len()));
    ensure(kept == best.len() && peers.len() == PLACES, || format!("it is connected to {peers:?}"))
}

/// Connections of the client that all others want to connect to.
const PLACES: usize = 8;
