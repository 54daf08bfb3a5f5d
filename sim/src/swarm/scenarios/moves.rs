//! Hosts that sleep, move, or lose their network for a while.

use super::super::scenario::{Failure, Notes, Scenario, complete, ensure};
use super::{HOME, HostId, Plan, Swarm, World, secs};
use core::net::{IpAddr, Ipv4Addr};

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "address-change",
        about: "the seeder or a leecher gets another address, and the download resumes within a minute",
        play: address_change,
    },
    Scenario {
        name: "interface-down",
        about: "the seeder or a leecher is without a network for ten minutes, and the download resumes within a minute",
        play: interface_down,
    },
    Scenario {
        name: "sleep",
        about: "the seeder or a leecher sleeps for ten hours, and the download resumes within a minute",
        play: sleep,
    },
];

fn address_change(world: &mut World, notes: &mut Notes) -> Result<(), Failure> {
    interrupt(world, notes, |world, host| {
        world.move_to(host, IpAddr::V4(Ipv4Addr::new(12, 0, 0, 1)));
    })
}

fn interface_down(world: &mut World, notes: &mut Notes) -> Result<(), Failure> {
    interrupt(world, notes, |world, host| {
        world.set_interface(host, false);
        world.run_for(secs(600));
        world.set_interface(host, true);
    })
}

fn sleep(world: &mut World, notes: &mut Notes) -> Result<(), Failure> {
    interrupt(world, notes, |world, host| {
        world.sleep(host, secs(36_000));
        world.run_for(secs(36_000));
    })
}

/// A download in which something happens to the seeder or, with odd seeds, to the only leecher.
fn interrupt(
    world: &mut World,
    notes: &mut Notes,
    event: impl FnOnce(&mut World, HostId),
) -> Result<(), Failure> {
    let swarm = Swarm::new(world, Plan::large(256 << 10, 32 << 20), 1, HOME);
    let (leecher, torrent) = swarm.leechers[0];
    let host = if world.seed() % 2 == 0 { swarm.seeder.0 } else { leecher };
    for host in [leecher, swarm.seeder.0] {
        let ip = world.addr(host).ip();
        world.tell_addresses(host, vec![ip]);
    }
    world.run_for(secs(8 + world.seed() % 7));
    event(world, host);
    let (there, wanted) = world.progress(leecher, torrent);
    ensure(0 < there && there < wanted, || format!("{there} of {wanted} pieces were there"))?;
    let (before, began) = (world.stats(leecher).received, world.now());
    let resumed = world.run_to(began + secs(60), |world| world.stats(leecher).received > before);
    ensure(resumed, || {
        let waiting = world.session(leecher).status(torrent).and_then(|status| status.waiting);
        format!("{} was back for a minute, and nothing came; waits for {waiting:?}", world.name(host))
    })?;
    notes.add(format!("{} resumed after {:?}", world.name(host), world.now().since(began)));
    complete(world, &swarm.leechers, secs(120)).map(|_| ())
}
