//! What users set and do.

use super::super::scenario::{Failure, Notes, Scenario, complete, ensure};
use super::{Duration, HOME, Plan, Swarm, World, secs};
use fast_peer_core::machine::Timestamp;
use fast_peer_core::session::{Event, STOP_LIMIT};

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "rate-limits",
        about: "nobody sends or receives more than its user allows, and the limits are used up",
        play: rate_limits,
    },
    Scenario {
        name: "stop",
        about: "a client that is stopped in the middle tells its tracker and ends in time",
        play: stop,
    },
];

fn rate_limits(world: &mut World, notes: &mut Notes) -> Result<(), Failure> {
    let len: u64 = 4 << 20;
    let swarm = Swarm::new(world, Plan::small(64 << 10, len), 2, HOME);
    let (up, down) = (200_000, 100_000);
    let (slow, _) = swarm.leechers[0];
    world.command(swarm.seeder.0, Event::SetLimits { down_bytes_per_s: None, up_bytes_per_s: Some(up) });
    world.command(slow, Event::SetLimits { down_bytes_per_s: Some(down), up_bytes_per_s: None });
    // What leaves is checked at every step; what comes in, second by second.
    let limit = Timestamp::ZERO + secs(300);
    while world.now() < limit
        && !swarm.leechers.iter().all(|(host, torrent)| world.is_complete(*host, *torrent))
    {
        world.run_for(secs(1));
        let (received, most) =
            (world.stats(slow).received, down * world.now().as_micros() / 1_000_000 + BURST);
        ensure(received <= most, || format!("{received} bytes came where {most} may have"))?;
    }
    let end = complete(world, &swarm.leechers, Duration::ZERO)?;
    notes.add(format!("complete at {end} ms"));
    let ideal = len / down;
    ensure(end <= Timestamp::ZERO + secs(ideal + ideal / 4 + 10), || {
        format!("the limits left it idle: {end} ms")
    })
}

fn stop(world: &mut World, notes: &mut Notes) -> Result<(), Failure> {
    let swarm = Swarm::new(world, Plan::large(256 << 10, 32 << 20), 3, HOME);
    world.run_for(Duration::from_millis(3_000 + 250 * (world.seed() % 20)));
    let (host, torrent) = swarm.leechers[0];
    world.command(host, Event::Stop);
    let asked = world.now();
    let stopped = world.run_to(asked + STOP_LIMIT, |world| world.stats(host).stopped.is_some());
    ensure(stopped, || "it never stopped".into())?;
    notes.add(format!("stopped after {} ms", world.now().since(asked).as_millis()));
    let events: Vec<_> = world
        .announces(swarm.tracker)
        .iter()
        .filter(|it| it.from == host)
        .map(|it| it.event.as_str())
        .collect();
    ensure(events.first() == Some(&"started"), || format!("the tracker was told: {events:?}"))?;
    ensure(events.last() == Some(&"stopped"), || format!("the tracker was told: {events:?}"))?;
    ensure(!world.is_complete(host, torrent), || "it was stopped too late to matter".into())?;
    complete(world, &swarm.leechers[1..], secs(300)).map(|_| ())
}

/// What may come in at once under a limit: what was granted before it, and what lies in sockets.
const BURST: u64 = 512 * 1024;
