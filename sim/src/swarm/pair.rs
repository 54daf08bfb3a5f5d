//! Two clients and what is between them, for traces that a person reads.

use super::builder::{Has, PLAIN, Setup, settings};
use super::content::Plan;
use super::links::Access;
use super::trace::{Keep, Topic};
use super::world::{ContentId, HostId, World};
use core::time::Duration;
use fast_peer_core::id::TorrentId;
use fast_peer_core::session::{Config, Encryption, Event};

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
        Self::with_encryption(plan, topics, [PLAIN; 2], told)
    }

    /// As [`new`](Self::new), but obfuscating as `A` and `B` are told to.
    pub fn with_encryption(
        plan: &Plan,
        topics: &'static [Topic],
        encryption: [Encryption; 2],
        told: bool,
    ) -> Self {
        let mut pair = Self::in_world(World::new(1, Keep::Topics(topics)), plan, encryption);
        if told {
            pair.add_peer(pair.a);
        }
        pair
    }

    /// `A` has the torrent, and `B` a magnet link to it and to `A`.
    pub fn with_magnet(plan: &Plan, topics: &'static [Topic]) -> Self {
        let (mut world, content, [a, b]) = Self::hosts(World::new(1, Keep::Topics(topics)), plan, [PLAIN; 2]);
        world.share(a, content, Has::All, &[]);
        let torrent = world.share_magnet(b, content, &[a]);
        Self { world, content, a, b, torrent }
    }

    /// Both have added the torrent, which tells them of a tracker of this name.
    pub fn with_tracker(plan: &Plan, topics: &'static [Topic], name: &str) -> Self {
        let mut world = World::new(1, Keep::Topics(topics));
        world.add_tracker(name, ACCESS, INTERVAL);
        Self::in_world(world, plan, [PLAIN; 2])
    }

    fn hosts(mut world: World, plan: &Plan, encryption: [Encryption; 2]) -> (World, ContentId, [HostId; 2]) {
        let content = world.add_content(plan);
        // Nobody is near, so calls into the local network would say nothing.
        let hosts = [("A", encryption[0]), ("B", encryption[1])].map(|(name, encryption)| {
            let config = Config { lsd: false, encryption, ..settings() };
            world.add_client(name, &Setup { config, ..Setup::new(ACCESS) })
        });
        (world, content, hosts)
    }

    fn in_world(world: World, plan: &Plan, encryption: [Encryption; 2]) -> Self {
        let (mut world, content, [a, b]) = Self::hosts(world, plan, encryption);
        world.share(a, content, Has::All, &[]);
        let torrent = world.share(b, content, Has::Nothing, &[]);
        Self { world, content, a, b, torrent }
    }

    /// Tells `B` of a peer.
    pub fn add_peer(&mut self, peer: HostId) {
        let peers = vec![self.world.addr(peer)];
        self.world.command(self.b, Event::AddPeers { torrent: self.torrent, peers });
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

/// Half of the way to the other.
const ACCESS: Access = Access { delay: Duration::from_millis(10), ..Access::FAST };

/// How often a tracker wants to be told.
const INTERVAL: Duration = Duration::from_secs(300);
