//! Peers that lie, stall, choke and flood.

use super::super::fake_peer::Behaviour;
use super::super::scenario::{Failure, Notes, Scenario, complete, ensure};
use super::{Duration, HOME, HostId, Plan, Swarm, World, secs};
use fast_peer_core::session::Event;

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "choker",
        about: "peers that never unchoke, or choke as soon as they are asked, cost no more than time",
        play: choker,
    },
    Scenario {
        name: "false-haver",
        about: "peers that claim everything and serve nothing do not keep a leecher from the honest seeder",
        play: false_haver,
    },
    Scenario {
        name: "flooder",
        about: "peers that never stop talking are cut off, and the download goes on",
        play: flooder,
    },
    Scenario {
        name: "liar",
        about: "a peer that serves wrong blocks is banned, and nobody else is",
        play: liar,
    },
    Scenario { name: "mute", about: "peers that connect and say nothing are cut off", play: mute },
    Scenario {
        name: "staller",
        about: "blocks that a peer owes and never sends are fetched elsewhere",
        play: staller,
    },
];

/// Two leechers and a seeder, with some fakes among them that everybody is told of.
fn among(world: &mut World, plan: Plan, fakes: usize, behaviour: Behaviour) -> (Swarm, Vec<HostId>) {
    let swarm = Swarm::new(world, plan, 2, HOME);
    let fakes: Vec<_> =
        (0..fakes).map(|n| world.add_fake(&format!("fake{n}"), HOME, swarm.content, behaviour)).collect();
    let addrs: Vec<_> = fakes.iter().map(|fake| world.addr(*fake)).collect();
    for (host, torrent) in &swarm.leechers {
        world.command(*host, Event::AddPeers { torrent: *torrent, peers: addrs.clone() });
    }
    (swarm, fakes)
}

fn choker(world: &mut World, _: &mut Notes) -> Result<(), Failure> {
    let (swarm, _) = among(world, Plan::small(64 << 10, 2 << 20), 3, Behaviour::Choker { flip: None });
    let flip = Some(Duration::from_millis(700));
    for n in 0..3 {
        let fake = world.add_fake(&format!("flipper{n}"), HOME, swarm.content, Behaviour::Choker { flip });
        swarm.leechers.iter().for_each(|(host, _)| world.dial_from_fake(fake, *host));
    }
    complete(world, &swarm.leechers, secs(120)).map(|_| ())
}

fn false_haver(world: &mut World, _: &mut Notes) -> Result<(), Failure> {
    let (swarm, _) = among(world, Plan::small(64 << 10, 2 << 20), 5, Behaviour::FalseHaver);
    complete(world, &swarm.leechers, secs(120)).map(|_| ())
}

fn flooder(world: &mut World, notes: &mut Notes) -> Result<(), Failure> {
    let every = Duration::from_millis(2);
    let (swarm, fakes) = among(world, Plan::small(64 << 10, 4 << 20), 2, Behaviour::Flooder { every });
    complete(world, &swarm.leechers, secs(120))?;
    world.run_for(secs(30));
    let open = fakes.iter().map(|fake| world.fake_connections(*fake)).sum::<usize>();
    notes.add(format!("{open} connections of flooders are left"));
    ensure(open == 0, || format!("{open} connections of flooders are still open"))
}

fn liar(world: &mut World, notes: &mut Notes) -> Result<(), Failure> {
    let one_in = 1 + world.seed() % 4;
    let (swarm, fakes) = among(world, Plan::small(128 << 10, 8 << 20), 1, Behaviour::Liar { one_in });
    let liar = world.addr(fakes[0]);
    complete(world, &swarm.leechers, secs(180))?;
    for (host, _) in &swarm.leechers {
        let stats = world.stats(*host);
        notes.add(format!("{} pieces failed, {} were banned", stats.failed, stats.banned.len()));
        let guilty = stats.banned.iter().all(|banned| *banned == liar);
        ensure(guilty, || format!("banned: {:?}", stats.banned))?;
        let fed = stats.failed == 0 || !stats.banned.is_empty();
        ensure(fed, || format!("{} pieces failed and nobody was banned", stats.failed))?;
    }
    let victims = swarm.leechers.iter().filter(|(host, _)| !world.stats(*host).banned.is_empty());
    ensure(victims.count() > 0, || "the liar fooled everybody".into())
}

fn mute(world: &mut World, _: &mut Notes) -> Result<(), Failure> {
    let (swarm, fakes) = among(world, Plan::small(64 << 10, 2 << 20), 3, Behaviour::Mute);
    for fake in &fakes {
        swarm.leechers.iter().for_each(|(host, _)| world.dial_from_fake(*fake, *host));
    }
    complete(world, &swarm.leechers, secs(60))?;
    // They may be tried again by and by, but never for long.
    let limit = world.now() + secs(40);
    let closed = world.run_to(limit, |world| fakes.iter().all(|fake| world.fake_connections(*fake) == 0));
    ensure(closed, || "silent connections are never closed".into())
}

fn staller(world: &mut World, notes: &mut Notes) -> Result<(), Failure> {
    let (swarm, _) = among(world, Plan::small(64 << 10, 4 << 20), 4, Behaviour::Staller);
    let end = complete(world, &swarm.leechers, secs(120))?;
    notes.add(format!("complete at {end} ms"));
    Ok(())
}
