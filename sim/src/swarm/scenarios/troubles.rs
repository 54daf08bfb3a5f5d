//! Links, disks and trackers that fail for a while.

use super::super::builder::settings;
use super::super::disk::DiskModel;
use super::super::scenario::{Failure, Notes, Scenario, complete, ensure};
use super::super::services::TrackerMood;
use super::super::world::Reach;
use super::{Access, Duration, HOME, Has, Plan, Setup, Swarm, World, secs};
use fast_peer_core::session::NewTorrent;

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "cable-cut",
        about: "a seeder's cable is cut for two minutes, and the download goes on after that",
        play: cable_cut,
    },
    Scenario {
        name: "disk-errors",
        about: "a disk that fails and dawdles now and then delays a download and spoils nothing",
        play: disk_errors,
    },
    Scenario {
        name: "disk-full",
        about: "a full disk halts a download, which goes on by itself when there is space",
        play: disk_full,
    },
    Scenario {
        name: "lost-piece",
        about: "a seeder's disk loses pieces: it takes them back, serves the rest, and fetches them anew",
        play: lost_piece,
    },
    Scenario {
        name: "lossy-links",
        about: "loss, jitter and one slow link, with bytes cut at odd places",
        play: lossy_links,
    },
    Scenario {
        name: "power-cut",
        about: "a client loses power in the middle, checks what is left, and finishes",
        play: power_cut,
    },
    Scenario { name: "resets", about: "every connection of a leecher breaks again and again", play: resets },
    Scenario {
        name: "tracker-down",
        about: "the only tracker fails in one way or another at first, and works later",
        play: tracker_down,
    },
    Scenario {
        name: "udp-tracker",
        about: "a tracker whose datagrams get lost, doubled and out of order",
        play: udp_tracker,
    },
];

fn cable_cut(world: &mut World, _: &mut Notes) -> Result<(), Failure> {
    let swarm = Swarm::new(world, Plan::large(256 << 10, 32 << 20), 2, HOME);
    world.run_for(secs(8));
    world.set_reach(swarm.seeder.0, Reach::Dark);
    world.run_for(secs(120));
    ensure(!swarm.leechers.iter().all(|(host, torrent)| world.is_complete(*host, *torrent)), || {
        "the cable was cut too late to matter".into()
    })?;
    world.set_reach(swarm.seeder.0, Reach::Normal);
    complete(world, &swarm.leechers, secs(600)).map(|_| ())
}

fn disk_errors(world: &mut World, notes: &mut Notes) -> Result<(), Failure> {
    let swarm = Swarm::new(world, Plan::small(64 << 10, 8 << 20), 2, HOME);
    let bad = DiskModel { error_ppm: 20_000, slow_ppm: 5_000, ..DiskModel::default() };
    world.set_disk(swarm.leechers[0].0, bad);
    complete(world, &swarm.leechers, secs(600))?;
    notes.add(format!("{} troubles", world.stats(swarm.leechers[0].0).disk_troubles));
    Ok(())
}

fn disk_full(world: &mut World, notes: &mut Notes) -> Result<(), Failure> {
    let swarm = Swarm::new(world, Plan::small(64 << 10, 8 << 20), 1, HOME);
    let (host, torrent) = swarm.leechers[0];
    world.set_disk(host, DiskModel { capacity: 3 << 20, ..DiskModel::default() });
    world.run_for(secs(60));
    let (there, wanted) = world.progress(host, torrent);
    notes.add(format!("{there} of {wanted} pieces fitted, {} troubles", world.stats(host).disk_troubles));
    ensure(world.stats(host).disk_troubles > 0 && there < wanted, || "the disk was never full".into())?;
    world.set_disk(host, DiskModel::default());
    // INV-L-12: it goes on by itself within 30 s.
    complete(world, &swarm.leechers, secs(60)).map(|_| ())
}

fn lost_piece(world: &mut World, notes: &mut Notes) -> Result<(), Failure> {
    let swarm = Swarm::new(world, Plan::small(64 << 10, 4 << 20), 0, HOME);
    let (host, torrent) = swarm.seeder;
    // The files of this one are not to be touched.
    let keeper = world.add_client("keeper", &Setup::new(HOME));
    let new = NewTorrent::new(world.content(swarm.content).metainfo().clone());
    let kept = world.share_as(keeper, swarm.content, Has::All, NewTorrent { seed_only: true, ..new });
    // Both have looked at their files by then.
    world.run_for(secs(1));
    let first = (world.seed() % 8) as u32;
    (first..64).step_by(8).for_each(|piece| world.spoil(host, torrent, piece));
    (1..64).step_by(2).for_each(|piece| world.spoil(keeper, kept, piece));
    let mut join = |name: &str, has| {
        let host = world.add_client(name, &Setup::new(HOME));
        (host, world.share(host, swarm.content, has, &[]))
    };
    let leechers = ["a", "b", "c"].map(|name| join(name, Has::Nothing));
    let backup = join("backup", Has::All);
    complete(world, &leechers, secs(300))?;
    let lost = world.stats(host).lost;
    notes.add(format!("{lost} of 8 pieces were missed, {} KiB came back", world.stats(host).received >> 10));
    ensure(lost > 0, || "nobody asked for what was lost".into())?;
    ensure(world.stats(backup.0).lost == 0, || "a disk without faults lost something".into())?;
    // Of what nobody asked for it knows nothing.
    let until = world.now() + secs(120);
    let healed = |world: &World| world.progress(host, torrent).0 == 64 - 8 + lost;
    ensure(world.run_to(until, healed), || format!("the seeder has {:?}", world.progress(host, torrent)))?;
    let (lost, came) = (world.stats(keeper).lost, world.stats(keeper).received);
    notes.add(format!("{lost} of 32 pieces of another were missed, and none came back"));
    ensure(lost > 0 && came == 0, || format!("{lost} pieces were lost, and {came} bytes came"))
}

fn lossy_links(world: &mut World, notes: &mut Notes) -> Result<(), Failure> {
    world.set_cuts(3);
    let lossy = Access {
        jitter: Duration::from_millis(30),
        loss_ppm: 10_000,
        duplicate_ppm: 10_000,
        queue_limit: 128 << 10,
        ..HOME
    };
    let swarm = Swarm::new(world, Plan::small(64 << 10, 4 << 20), 4, lossy);
    let slow = Access { up_bytes_per_s: 40_000, down_bytes_per_s: 80_000, ..lossy };
    world.set_access(swarm.leechers[0].0, slow);
    let end = complete(world, &swarm.leechers, secs(300))?;
    notes.add(format!("complete at {end} ms"));
    Ok(())
}

fn power_cut(world: &mut World, notes: &mut Notes) -> Result<(), Failure> {
    let swarm = Swarm::new(world, Plan::small(64 << 10, 16 << 20), 1, HOME);
    let (host, torrent) = swarm.leechers[0];
    world.run_for(Duration::from_millis(4_000 + 500 * (world.seed() % 12)));
    world.cut_power(host);
    world.run_for(secs(3));
    world.restart(host, &settings(), &[swarm.seeder.0]);
    complete(world, &swarm.leechers, secs(200))?;
    let again = world.stats(host).received;
    notes.add(format!("{} KiB came after the cut", again >> 10));
    let (there, wanted) = world.progress(host, torrent);
    ensure(there == wanted, || format!("{there} of {wanted} pieces are there"))
}

fn resets(world: &mut World, _: &mut Notes) -> Result<(), Failure> {
    let swarm = Swarm::new(world, Plan::large(256 << 10, 24 << 20), 3, HOME);
    for _ in 0..3 {
        world.run_for(secs(4));
        world.reset_streams(swarm.leechers[0].0);
    }
    complete(world, &swarm.leechers, secs(400)).map(|_| ())
}

fn tracker_down(world: &mut World, notes: &mut Notes) -> Result<(), Failure> {
    let swarm = Swarm::new(world, Plan::small(64 << 10, 1 << 20), 2, HOME);
    let moods = [TrackerMood::Down, TrackerMood::Garbage, TrackerMood::Silent, TrackerMood::Slow(secs(20))];
    let mood = moods[(world.seed() % 4) as usize];
    world.set_mood(swarm.tracker, mood);
    world.run_for(secs(60));
    world.set_mood(swarm.tracker, TrackerMood::Normal);
    let end = complete(world, &swarm.leechers, secs(900))?;
    notes.add(format!("after {mood:?} complete at {end} ms"));
    Ok(())
}

fn udp_tracker(world: &mut World, _: &mut Notes) -> Result<(), Failure> {
    let bad = Access { jitter: Duration::from_millis(80), loss_ppm: 150_000, duplicate_ppm: 150_000, ..HOME };
    let plan = Plan::small(64 << 10, 1 << 20);
    let swarm = Swarm::with_tracker(world, plan, 2, bad, "udp://tracker.test:6881/announce");
    let late = world.add_client("late", &Setup::new(bad));
    let torrent = world.share(late, swarm.content, Has::Nothing, &[]);
    let mut leechers = swarm.leechers;
    leechers.push((late, torrent));
    complete(world, &leechers, secs(900)).map(|_| ())
}
