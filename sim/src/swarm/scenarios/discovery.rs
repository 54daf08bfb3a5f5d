//! Peers that no tracker names.

use super::super::scenario::{Failure, Notes, Scenario, complete, ensure};
use super::{Access, HOME, Has, HostId, Plan, Setup, Swarm, TorrentId, World, secs};
use fast_peer_core::torrent::known_peers::Source;

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "local-peers",
        about: "two clients in one local network, which nobody told of each other, find each other",
        play: local_peers,
    },
    Scenario {
        name: "peer-exchange",
        about: "a leecher that knows another leecher hears of the seeder from it",
        play: peer_exchange,
    },
    Scenario {
        name: "peer-exchange-chain",
        about: "clients that know but one other each know at least five others after three minutes",
        play: chain,
    },
    Scenario {
        name: "private",
        about: "of a private torrent nobody hears but its tracker, and peers come from nowhere else",
        play: private,
    },
    Scenario {
        name: "private-magnet",
        about: "when a torrent turns out to be private, the peers that others named are left",
        play: private_magnet,
    },
];

fn plan() -> Plan {
    Plan::small(64 << 10, 2 << 20)
}

fn local_peers(world: &mut World, notes: &mut Notes) -> Result<(), Failure> {
    let content = world.add_content(&plan());
    let [seeder, leecher, far] =
        ["seeder", "leecher", "far"].map(|name| world.add_client(name, &Setup::new(HOME)));
    world.connect_locally(&[seeder, leecher]);
    world.share(seeder, content, Has::All, &[]);
    // The first call is not heard by somebody who comes later; the second is, or theirs is.
    world.run_for(secs(world.seed() * 13 % 100));
    let torrent = world.share(leecher, content, Has::Nothing, &[]);
    world.share(far, content, Has::Nothing, &[]);
    let from = world.now();
    let end = complete(world, &[(leecher, torrent)], secs(120))?;
    notes.add(format!("complete after {} ms", end.since(from).as_millis()));
    ensure(world.stats(far).received == 0, || "a call was heard in another network".into())
}

fn peer_exchange(world: &mut World, notes: &mut Notes) -> Result<(), Failure> {
    let content = world.add_content(&plan());
    let seeder = world.add_client("seeder", &Setup::new(HOME));
    world.share(seeder, content, Has::All, &[]);
    let between = world.add_client("between", &Setup::new(Access { down_bytes_per_s: 20_000, ..HOME }));
    world.share(between, content, Has::Nothing, &[seeder]);
    world.run_for(secs(5));
    let leecher = world.add_client("leecher", &Setup::new(HOME));
    let torrent = world.share_magnet(leecher, content, &[between]);
    let from = world.now();
    let end = complete(world, &[(leecher, torrent)], secs(60))?;
    notes.add(format!("complete after {} ms", end.since(from).as_millis()));
    let told = knows(world, leecher, torrent, seeder, Source::Pex);
    ensure(told, || "the seeder was not found by peer exchange".into())
}

/// INV-L-06.
fn chain(world: &mut World, notes: &mut Notes) -> Result<(), Failure> {
    let content = world.add_content(&Plan::large(256 << 10, 1 << 30));
    let seeder = world.add_client("seeder", &Setup::new(HOME));
    let mut last = (seeder, world.share(seeder, content, Has::All, &[]));
    let mut hosts = vec![last];
    for n in 0..11 {
        let host = world.add_client(&format!("leecher{n}"), &Setup::new(HOME));
        last = (host, world.share(host, content, Has::Nothing, &[last.0]));
        hosts.push(last);
    }
    world.run_for(secs(180));
    let known = |(host, torrent): &(HostId, TorrentId)| {
        world.session(*host).torrent(*torrent).map_or(0, |torrent| torrent.known_peers().len())
    };
    let least = hosts.iter().map(known).min().unwrap_or(0);
    notes.add(format!("everybody knows {least} others at least"));
    ensure(least >= 5, || format!("somebody knows {least} others"))
}

fn private(world: &mut World, _: &mut Notes) -> Result<(), Failure> {
    let swarm = Swarm::new(world, Plan { private: true, ..plan() }, 3, HOME);
    let mut hosts: Vec<HostId> = swarm.leechers.iter().map(|(host, _)| *host).collect();
    hosts.push(swarm.seeder.0);
    world.connect_locally(&hosts);
    complete(world, &swarm.leechers, secs(120))?;
    world.run_for(secs(600));
    for host in hosts {
        let stats = world.stats(host);
        let said = (stats.calls, stats.exchanges);
        ensure(said == (0, 0), || format!("{} said {said:?} to others", world.name(host)))?;
    }
    Ok(())
}

fn private_magnet(world: &mut World, notes: &mut Notes) -> Result<(), Failure> {
    let content = world.add_content(&Plan { private: true, ballast: 200_000, ..plan() });
    // The seeder knows that the torrent is private. The stranger has a hash, and calls it out.
    let slow = Access { up_bytes_per_s: 20_000, ..HOME };
    let seeder = world.add_client("seeder", &Setup::new(slow));
    world.share(seeder, content, Has::All, &[]);
    let [stranger, leecher] = ["stranger", "leecher"].map(|name| world.add_client(name, &Setup::new(HOME)));
    world.connect_locally(&[stranger, leecher]);
    world.share_magnet(stranger, content, &[]);
    let torrent = world.share_magnet(leecher, content, &[seeder]);
    world.run_for(secs(3));
    let met = knows(world, leecher, torrent, stranger, Source::Lsd);
    ensure(met, || "the stranger was never met".into())?;
    ensure(!world.stats(leecher).metadata.contains_key(&torrent), || "the metadata came too soon".into())?;
    let limit = world.now() + secs(60);
    let known = world.run_to(limit, |world| world.stats(leecher).metadata.contains_key(&torrent));
    ensure(known, || "the metadata never came".into())?;
    let calls = world.stats(leecher).calls;
    world.run_for(secs(400));
    let met = knows(world, leecher, torrent, stranger, Source::Lsd);
    ensure(!met, || "the stranger is still known".into())?;
    ensure(world.stats(leecher).calls == calls, || "a private torrent is called out".into())?;
    notes.add(format!("{calls} calls were made before it was known"));
    complete(world, &[(leecher, torrent)], secs(300)).map(|_| ())
}

/// Whether a client heard of a host, and by whom.
fn knows(world: &World, host: HostId, torrent: TorrentId, other: HostId, source: Source) -> bool {
    let addr = world.addr(other);
    world.session(host).torrent(torrent).is_some_and(|it| it.known_peers().sources(addr).has(source))
}
