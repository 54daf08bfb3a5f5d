//! Torrents of every version and shape.

use super::super::content::Version;
use super::super::scenario::{Failure, Notes, Scenario, complete, ensure};
use super::{ANNOUNCE_INTERVAL, HOME, Has, HostId, Plan, Setup, Swarm, TorrentId, World, secs};
use fast_peer_core::pieces::Priority;
use fast_peer_core::session::NewContent;

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "files",
        about: "files of odd lengths, padding and nothing, of which only some are wanted",
        play: files,
    },
    Scenario { name: "hybrid", about: "a hybrid torrent in its v1 swarm", play: hybrid },
    Scenario {
        name: "partial-seeds",
        about: "peers that want one file and have it leave each other and the seeder, and still serve who wants more",
        play: partial_seeds,
    },
    Scenario { name: "v2", about: "a v2 torrent, each file on pieces of its own", play: v2 },
];

fn files(world: &mut World, _: &mut Notes) -> Result<(), Failure> {
    let files = vec![
        (Some("a"), 1),
        (Some("b"), 123_457),
        (None, 2_048),
        (Some("c"), 0),
        (Some("d"), 77_777),
        (Some("e"), 300_000),
        (Some("f"), 16_384),
    ];
    let plan = Plan { files, ..Plan::small(50_001, 0) };
    world.set_cuts(5);
    let swarm = Swarm::new(world, plan, 2, HOME);
    let chooser = world.add_client("chooser", &Setup::new(HOME));
    let mut new = NewContent::new(world.content(swarm.content).metainfo().clone());
    // The third and the sixth file, and what lies between them only as far as pieces overlap.
    new.priorities = vec![Priority::Skip; 7];
    new.priorities[1] = Priority::Normal;
    new.priorities[3] = Priority::High;
    new.priorities[6] = Priority::Low;
    let torrent = world.share_as(chooser, swarm.content, Has::Nothing, new.into());
    let mut leechers = swarm.leechers;
    leechers.push((chooser, torrent));
    complete(world, &leechers, secs(120))?;
    let (there, wanted) = world.progress(chooser, torrent);
    let all = world.content(swarm.content).lengths().piece_count();
    ensure(there == wanted && wanted < all, || format!("{there} of {wanted} wanted pieces are there"))
}

fn partial_seeds(world: &mut World, notes: &mut Notes) -> Result<(), Failure> {
    let files = vec![(Some("a"), 1 << 20), (Some("b"), 2 << 20)];
    let swarm = Swarm::new(world, Plan { files, ..Plan::small(64 << 10, 0) }, 0, HOME);
    let mut new = NewContent::new(world.content(swarm.content).metainfo().clone());
    new.priorities = vec![Priority::Normal, Priority::Skip];
    let partial = ["first", "second"].map(|name| {
        let host = world.add_client(name, &Setup::new(HOME));
        (host, world.share_as(host, swarm.content, Has::Nothing, new.clone().into()))
    });
    complete(world, &partial, secs(120))?;
    world.run_for(secs(5));
    let status = |world: &World, (host, torrent)| world.session(host).status(torrent);
    for peer in [partial[0], partial[1], swarm.seeder] {
        let peers = status(world, peer).map(|status| status.peers);
        ensure(peers == Some(0), || format!("{} keeps {peers:?} peers", world.name(peer.0)))?;
    }
    let leecher = world.add_client("leecher", &Setup::new(HOME));
    let leecher = (leecher, world.share(leecher, swarm.content, Has::Nothing, &[]));
    let before = partial.map(|peer| status(world, peer).map_or(0, |status| status.up_bytes));
    complete(world, &[leecher], secs(120))?;
    let after = partial.map(|peer| status(world, peer).map_or(0, |status| status.up_bytes));
    notes.add(format!("the two sent {before:?} bytes, and {after:?} in the end"));
    ensure(after != before, || "who wants nothing more serves nobody".into())?;
    // BEP 21: in every announce.
    world.run_for(ANNOUNCE_INTERVAL);
    let told = |(host, _): (HostId, TorrentId)| {
        world.announces(swarm.tracker).iter().rev().find(|it| it.from == host).map(|it| it.event.as_str())
    };
    let events = partial.map(told);
    ensure(events == [Some("paused"), Some("paused")], || format!("they last announced {events:?}"))
}

fn hybrid(world: &mut World, _: &mut Notes) -> Result<(), Failure> {
    of_version(world, Version::Hybrid)
}

fn v2(world: &mut World, _: &mut Notes) -> Result<(), Failure> {
    of_version(world, Version::V2)
}

fn of_version(world: &mut World, version: Version) -> Result<(), Failure> {
    let files = vec![
        (Some("empty"), 0),
        (Some("long"), 700_001),
        (Some("piece"), 65_536),
        (Some("short"), 5),
        (Some("two"), 131_072),
    ];
    let plan = Plan { version, files, ..Plan::small(65_536, 0) };
    world.set_cuts(7);
    let swarm = Swarm::new(world, plan, 3, HOME);
    complete(world, &swarm.leechers, secs(120)).map(|_| ())
}
