//! The runs that have a name.

mod crowds;
mod discovery;
mod holepunch;
mod hostile;
mod layouts;
mod magnets;
mod moves;
mod obfuscation;
mod trackerless;
mod troubles;
mod users;
mod utp;

use super::builder::{Has, Setup};
use super::content::Plan;
use super::links::Access;
use super::scenario::Scenario;
use super::world::{ContentId, HostId, World};
use core::time::Duration;
use fast_peer_core::id::TorrentId;

/// Every scenario.
pub fn all() -> Vec<Scenario> {
    [
        crowds::ALL,
        discovery::ALL,
        holepunch::ALL,
        hostile::ALL,
        layouts::ALL,
        magnets::ALL,
        moves::ALL,
        obfuscation::ALL,
        trackerless::ALL,
        troubles::ALL,
        users::ALL,
        utp::ALL,
    ]
    .concat()
}

/// A small swarm: a tracker, one seeder, some leechers.
struct Swarm {
    tracker: HostId,
    content: ContentId,
    seeder: (HostId, TorrentId),
    leechers: Vec<(HostId, TorrentId)>,
}

impl Swarm {
    /// Everybody behind `access`, and told of each other by a tracker over HTTP.
    fn new(world: &mut World, plan: Plan, leechers: usize, access: Access) -> Self {
        Self::with_tracker(world, plan, leechers, access, "http://tracker.test/announce")
    }

    fn with_tracker(world: &mut World, plan: Plan, leechers: usize, access: Access, url: &str) -> Self {
        let tracker = world.add_tracker("tracker.test", Access::FAST, ANNOUNCE_INTERVAL);
        let content = world.add_content(&Plan { trackers: vec![vec![url.to_owned()]], ..plan });
        let setup = Setup::new(access);
        let seeder = world.add_client("seeder", &setup);
        let seeder = (seeder, world.share(seeder, content, Has::All, &[]));
        let mut join = |n: usize| {
            let host = world.add_client(&format!("leecher{n}"), &setup);
            (host, world.share(host, content, Has::Nothing, &[]))
        };
        let leechers = (0..leechers).map(&mut join).collect();
        Self { tracker, content, seeder, leechers }
    }
}

/// A link of 10 Mbit/s and its part of a path.
const HOME: Access = Access::symmetric(1_250_000, Duration::from_millis(15));

const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(300);

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}
