//! Two clients and what is between them, for traces that a person reads.

use super::builder::{Has, Setup};
use super::content::Plan;
use super::links::Access;
use super::trace::{Keep, Topic};
use super::world::{ContentId, HostId, World};
use core::time::Duration;
use fast_peer_core::id::TorrentId;

/// A seeder called `A` and a leecher called `B`, 20 ms apart.
#[derive(Debug)]
pub struct Pair {
    /// Where they live.
    pub world: World,
    /// The torrent.
    pub content: ContentId,
    /// The seeder.
    pub a: HostId,
    /// The leecher.
    pub b: HostId,
    /// How both call the torrent.
    pub torrent: TorrentId,
}

impl Pair {
    /// Both have added the torrent, and `B` was told of `A` if `told` is set. Lines of `topics` are kept.
    pub fn new(plan: &Plan, topics: &'static [Topic], told: bool) -> Self {
        let mut world = World::new(1, Keep::Topics(topics));
        let content = world.add_content(plan);
        let access = Access { delay: Duration::from_millis(10), ..Access::FAST };
        let [a, b] = ["A", "B"].map(|name| world.add_client(name, &Setup::new(access)));
        world.share(a, content, Has::All, &[]);
        let peers = if told { vec![a] } else { vec![] };
        let torrent = world.share(b, content, Has::Nothing, &peers);
        Self { world, content, a, b, torrent }
    }

    /// Lets things happen until `done` holds.
    ///
    /// # Panics
    /// If it does not within so many steps, or a rule is broken.
    pub fn drive(&mut self, steps: u32, mut done: impl FnMut(&World) -> bool) {
        for _ in 0..steps {
            if done(&self.world) {
                return;
            }
            let goes_on = self.world.step();
            if let Some(violation) = self.world.violation() {
                panic!("{violation}");
            }
            assert!(goes_on, "nothing more happens");
        }
        panic!("not done after {steps} steps:\n{}", self.world.trace());
    }

    /// Lets things happen until `B` is complete.
    pub fn complete(&mut self, steps: u32) {
        let (b, torrent) = (self.b, self.torrent);
        self.drive(steps, |world| world.is_complete(b, torrent));
    }
}
