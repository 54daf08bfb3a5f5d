//! Downloads that start from no more than a hash.

use super::super::fake_peer::{Behaviour, MetadataLie};
use super::super::scenario::{Failure, Notes, Scenario, complete, ensure};
use super::{Access, Duration, HOME, Has, HostId, Plan, Setup, Swarm, TorrentId, World, secs};
use fast_peer_core::machine::Timestamp;
use fast_peer_core::session::Event;
use fast_peer_core::wire::{MAX_METADATA_LEN, METADATA_PIECE_LEN};

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "magnet",
        about: "a leecher that knows a hash and a seeder has the metadata two round trips after the handshake",
        play: magnet,
    },
    Scenario {
        name: "magnet-bombs",
        about: "peers that claim 16 MiB of metadata cost no more memory than that, and little time",
        play: bombs,
    },
    Scenario {
        name: "magnet-crowd",
        about: "leechers without metadata get it from a seeder and each other, and then the content",
        play: crowd,
    },
    Scenario {
        name: "magnet-liars",
        about: "nine of ten peers lie about the metadata, and the tenth is enough",
        play: liars,
    },
    Scenario {
        name: "magnet-seeder-leaves",
        about: "the only seeder leaves in the middle of the metadata, and another one goes on with it",
        play: seeder_leaves,
    },
];

/// A torrent whose metadata has so many pieces.
fn long_metadata(pieces: usize) -> Plan {
    let ballast = pieces * METADATA_PIECE_LEN as usize - 5000;
    Plan { ballast, ..Plan::small(64 << 10, 2 << 20) }
}

fn magnet(world: &mut World, notes: &mut Notes) -> Result<(), Failure> {
    let content = world.add_content(&long_metadata(3));
    let setup = Setup::new(Access::FAST);
    let seeder = world.add_client("seeder", &setup);
    world.share(seeder, content, Has::All, &[]);
    world.run_for(secs(5));
    let leecher = world.add_client("leecher", &setup);
    let torrent = world.share_magnet(leecher, content, &[seeder]);
    let asked = world.now();
    complete(world, &[(leecher, torrent)], secs(60))?;
    let took = world.stats(leecher).metadata[&torrent].since(asked);
    notes.add(format!(
        "the metadata took {} ms, all {} ms",
        took.as_millis(),
        world.now().since(asked).as_millis()
    ));
    // To connect, to shake hands, to ask: three round trips. What is left is work.
    let round_trip = 4 * Access::FAST.delay;
    ensure(took <= 3 * round_trip + Duration::from_millis(5), || format!("the metadata took {took:?}"))
}

fn crowd(world: &mut World, notes: &mut Notes) -> Result<(), Failure> {
    world.set_cuts(7);
    let swarm = Swarm::new(world, long_metadata(8), 1, HOME);
    let leechers: Vec<_> = (0..8)
        .map(|n| {
            let host = world.add_client(&format!("magnet{n}"), &Setup::new(HOME));
            (host, world.share_magnet(host, swarm.content, &[]))
        })
        .collect();
    let end = complete(world, &leechers, secs(300))?;
    notes.add(format!("complete at {end} ms"));
    Ok(())
}

/// A leecher with the hash alone, told of one seeder and of fakes of these kinds.
fn among(world: &mut World, plan: &Plan, lies: &[MetadataLie]) -> (HostId, TorrentId) {
    let content = world.add_content(plan);
    let seeder = world.add_client("seeder", &Setup::new(HOME));
    world.share(seeder, content, Has::All, &[]);
    let fakes = lies
        .iter()
        .enumerate()
        .map(|(n, lie)| world.add_fake(&format!("fake{n}"), HOME, content, Behaviour::Metadata(*lie)));
    let mut peers: Vec<HostId> = fakes.collect();
    peers.push(seeder);
    let leecher = world.add_client("leecher", &Setup::new(HOME));
    (leecher, world.share_magnet(leecher, content, &peers))
}

fn liars(world: &mut World, notes: &mut Notes) -> Result<(), Failure> {
    let every = Duration::from_secs(8);
    let kinds = [
        MetadataLie::Junk,
        MetadataLie::OtherLen,
        MetadataLie::Mute,
        MetadataLie::Reject,
        MetadataLie::Bomb { every },
    ];
    let first = world.seed() as usize;
    let lies: Vec<_> = (0..9).map(|n| kinds[(first + n * n) % kinds.len()]).collect();
    let (leecher, torrent) = among(world, &long_metadata(12), &lies);
    let (limit, start) = (secs(120), world.now());
    let known = world.run_to(start + limit, |world| world.stats(leecher).metadata.contains_key(&torrent));
    ensure(known, || format!("no metadata after {} s among {lies:?}", limit.as_secs()))?;
    let (at, banned) = (world.now(), world.stats(leecher).banned.len());
    notes.add(format!(
        "the metadata was there after {} ms, {banned} were banned",
        at.since(start).as_millis()
    ));
    complete(world, &[(leecher, torrent)], secs(120)).map(|_| ())
}

fn bombs(world: &mut World, notes: &mut Notes) -> Result<(), Failure> {
    let content = world.add_content(&long_metadata(3));
    let bomb = Behaviour::Metadata(MetadataLie::Bomb { every: Duration::from_millis(5) });
    let fakes: Vec<_> =
        (0..5).map(|n| world.add_fake(&format!("fake{n}"), Access::FAST, content, bomb)).collect();
    let seeder = world.add_client("seeder", &Setup::new(HOME));
    world.share(seeder, content, Has::All, &[]);
    let leecher = world.add_client("leecher", &Setup::new(Access::FAST));
    let torrent = world.share_magnet(leecher, content, &fakes);
    let (mut most, mut told, start) = (0, false, world.now());
    while !world.stats(leecher).metadata.contains_key(&torrent) {
        world.run_for(Duration::from_millis(20));
        let held = world.session(leecher).torrent(torrent).map_or(0, |it| it.metadata().unproved_bytes());
        most = most.max(held);
        ensure(held <= MAX_METADATA_LEN, || format!("{held} bytes are held"))?;
        if !told && world.now() > start + secs(6) {
            told = true;
            world.command(leecher, Event::AddPeers { torrent, peers: vec![world.addr(seeder)] });
        }
        ensure(world.now() < start + secs(126), || "no metadata after 126 s".into())?;
    }
    let took = world.now().since(start);
    notes.add(format!("{} KiB were held at most, and it took {} ms", most >> 10, took.as_millis()));
    complete(world, &[(leecher, torrent)], secs(120)).map(|_| ())
}

fn seeder_leaves(world: &mut World, notes: &mut Notes) -> Result<(), Failure> {
    let content = world.add_content(&long_metadata(24));
    let slow = Access { up_bytes_per_s: 100_000, ..HOME };
    let first = world.add_client("first", &Setup::new(slow));
    world.share(first, content, Has::All, &[]);
    let leecher = world.add_client("leecher", &Setup::new(HOME));
    let second = world.add_client("second", &Setup::new(slow));
    let torrent = world.share_magnet(leecher, content, &[first, second]);
    let half = |world: &World| {
        let status = world.session(leecher).status(torrent);
        status.and_then(|status| status.metadata).is_some_and(|it| it.pieces_have >= 12)
    };
    ensure(world.run_to(Timestamp::ZERO + secs(60), half), || "half of it never came".into())?;
    world.set_reach(first, super::super::world::Reach::Refusing);
    world.reset_streams(first);
    world.run_for(secs(2));
    world.share(second, content, Has::All, &[]);
    let end = complete(world, &[(leecher, torrent)], secs(200))?;
    notes.add(format!("complete at {end} ms"));
    Ok(())
}
