//! Peers that are found without a tracker, or may not be.

use super::super::builder::settings;
use super::super::scenario::{Failure, Notes, Scenario, complete, ensure};
use super::super::services::TrackerMood;
use super::{ANNOUNCE_INTERVAL, Access, HOME, Has, HostId, Plan, Setup, TorrentId, World, secs};
use fast_peer_core::dht::Dht;
use fast_peer_core::ip_filter::{Builder, Range};
use fast_peer_core::session::{Config, DhtConfig, Event};
use fast_peer_core::torrent::known_peers::Source;
use std::sync::Arc;

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "dht-only",
        about: "no tracker at all: a leecher finds the seeder through the DHT, from one node that both know",
        play: dht_only,
    },
    Scenario {
        name: "dht-private",
        about: "a private torrent waits for its tracker, and the DHT never hears of it",
        play: dht_private,
    },
    Scenario {
        name: "dht-private-magnet",
        about: "a client that learns that a torrent is private never speaks of it to the DHT afterwards",
        play: dht_private_magnet,
    },
    Scenario {
        name: "dht-saved",
        about: "nodes that an earlier run saved stand in for the well-known one, which is gone",
        play: dht_saved,
    },
    Scenario {
        name: "ip-filter",
        about: "nothing goes to blocked peers and nodes, whoever names them, and the others are enough; then one more is \
            blocked in the middle of a download",
        play: ip_filter,
    },
    Scenario {
        name: "trackers-dead",
        about: "all trackers are dead, the DHT is alive: the download completes, and says who told",
        play: trackers_dead,
    },
];

fn dht_only(world: &mut World, notes: &mut Notes) -> Result<(), Failure> {
    let network = Network::new(world, 4);
    let content = world.add_content(&Plan::small(64 << 10, 4 << 20));
    let seeder = world.add_client("seeder", &network.setup);
    world.share(seeder, content, Has::All, &[]);
    world.run_for(secs(20));
    ensure(world.stats(seeder).lookups > 0, || "the seeder did not announce itself".into())?;
    let leecher = world.add_client("leecher", &network.setup);
    let torrent = world.share(leecher, content, Has::Nothing, &[]);
    let began = world.now();
    let end = complete(world, &[(leecher, torrent)], secs(60))?;
    notes.add(format!("complete {:?} after the start", end.since(began)));
    found_by_dht(world, leecher, torrent, seeder)
}

fn trackers_dead(world: &mut World, notes: &mut Notes) -> Result<(), Failure> {
    let network = Network::new(world, 4);
    let web = world.add_tracker("web.test", Access::FAST, ANNOUNCE_INTERVAL);
    let udp = world.add_tracker("udp.test", Access::FAST, ANNOUNCE_INTERVAL);
    world.set_mood(web, TrackerMood::Down);
    world.set_mood(udp, TrackerMood::Silent);
    let urls = ["http://web.test/announce", "udp://udp.test:6881", "http://nowhere.test/announce"];
    let trackers = urls.map(|url| vec![url.to_owned()]).to_vec();
    let content = world.add_content(&Plan { trackers, ..Plan::small(64 << 10, 4 << 20) });
    let seeder = world.add_client("seeder", &network.setup);
    world.share(seeder, content, Has::All, &[]);
    world.run_for(secs(20));
    let leecher = world.add_client("leecher", &network.setup);
    let torrent = world.share(leecher, content, Has::Nothing, &[]);
    let began = world.now();
    let end = complete(world, &[(leecher, torrent)], secs(60))?;
    notes.add(format!("complete {:?} after the start", end.since(began)));
    ensure(world.stats(leecher).announces.1 > 0, || "no tracker is reported dead".into())?;
    found_by_dht(world, leecher, torrent, seeder)
}

fn dht_private(world: &mut World, _: &mut Notes) -> Result<(), Failure> {
    let network = Network::new(world, 4);
    let tracker = world.add_tracker("tracker.test", Access::FAST, ANNOUNCE_INTERVAL);
    world.set_mood(tracker, TrackerMood::Down);
    let trackers = vec![vec!["http://tracker.test/announce".to_owned()]];
    let plan = Plan { trackers, private: true, ..Plan::small(64 << 10, 4 << 20) };
    let content = world.add_content(&plan);
    let seeder = world.add_client("seeder", &network.setup);
    world.share(seeder, content, Has::All, &[]);
    let leecher = world.add_client("leecher", &network.setup);
    let torrent = world.share(leecher, content, Has::Nothing, &[]);
    world.run_for(secs(120));
    ensure(world.progress(leecher, torrent).0 == 0, || "nobody could tell of the seeder".into())?;
    world.set_mood(tracker, TrackerMood::Normal);
    complete(world, &[(leecher, torrent)], secs(1200))?;
    let lookups = [seeder, leecher].map(|host| world.stats(host).lookups);
    ensure(lookups == [0, 0], || format!("lookups: {lookups:?}"))
}

fn dht_private_magnet(world: &mut World, notes: &mut Notes) -> Result<(), Failure> {
    let network = Network::new(world, 4);
    let tracker = world.add_tracker("tracker.test", Access::FAST, ANNOUNCE_INTERVAL);
    let trackers = vec![vec!["http://tracker.test/announce".to_owned()]];
    let plan = Plan { trackers, private: true, ..Plan::small(64 << 10, 4 << 20) };
    let content = world.add_content(&plan);
    let seeder = world.add_client("seeder", &network.setup);
    world.share(seeder, content, Has::All, &[]);
    world.run_for(secs(5));
    world.set_mood(tracker, TrackerMood::Down);
    let leecher = world.add_client("leecher", &network.setup);
    // Its user takes longer than the DHT is left alone, whatever the lookup brought.
    world.think_for(leecher, secs(30 * 60));
    let torrent = world.share_magnet(leecher, content, &[seeder]);
    let start = world.now();
    let known = world.run_to(start + secs(60), |world| world.stats(leecher).metadata.contains_key(&torrent));
    ensure(known, || "the metadata did not come".into())?;
    let lookups = world.stats(leecher).lookups;
    notes.add(format!("{lookups} lookups before it was known that the torrent is private"));
    world.run_for(secs(25 * 60));
    world.set_mood(tracker, TrackerMood::Normal);
    complete(world, &[(leecher, torrent)], secs(1200))?;
    let after = world.stats(leecher).lookups;
    ensure(after == lookups, || format!("{} lookups came after", after - lookups))
}

fn dht_saved(world: &mut World, _: &mut Notes) -> Result<(), Failure> {
    let network = Network::new(world, 4);
    let content = world.add_content(&Plan::small(64 << 10, 4 << 20));
    let seeder = world.add_client("seeder", &network.setup);
    world.share(seeder, content, Has::All, &[]);
    world.run_for(secs(60));
    let saved = world.session(seeder).save_nodes();
    let saved = saved.filter(|saved| saved.contacts.len() >= 2);
    let Some(saved) = saved else { return ensure(false, || "hardly any node is worth saving".into()) };
    let lonely = Config { dht: Some(DhtConfig::default()), ..settings() };
    let leecher = world.add_client("leecher", &Setup { config: lonely, ..network.setup });
    let torrent = world.share(leecher, content, Has::Nothing, &[]);
    world.run_for(secs(10));
    ensure(world.progress(leecher, torrent).0 == 0, || "it knows nobody, and found the seeder".into())?;
    world.command(leecher, Event::RestoreNodes { saved });
    complete(world, &[(leecher, torrent)], secs(120))?;
    found_by_dht(world, leecher, torrent, seeder)
}

fn ip_filter(world: &mut World, notes: &mut Notes) -> Result<(), Failure> {
    let network = Network::new(world, 6);
    let tracker = world.add_tracker("tracker.test", Access::FAST, ANNOUNCE_INTERVAL);
    let trackers = vec![vec!["http://tracker.test/announce".to_owned()]];
    let content = world.add_content(&Plan { trackers, ..Plan::small(64 << 10, 4 << 20) });
    let slow = Access { up_bytes_per_s: 100_000, ..HOME };
    let [fast, blocked, open] = [("fast", HOME), ("blocked", HOME), ("open", slow)].map(|(name, access)| {
        let host = world.add_client(name, &Setup { access, ..network.setup.clone() });
        (host, world.share(host, content, Has::All, &[]))
    });
    let (fast, blocked) = (fast.0, blocked.0);
    world.run_for(secs(20));
    let block = |world: &World, hosts: &[HostId]| {
        let mut builder = Builder::new();
        for host in hosts {
            let ip = world.addr(*host).ip();
            builder.add(Range::new(ip, ip).expect("one address is in order")).expect("there is room");
        }
        Arc::new(builder.build())
    };
    let some = block(world, &[blocked, network.nodes[0], network.nodes[1]]);
    let config = Config { ip_filter: some, ..network.setup.config.clone() };
    let leecher = world.add_client("leecher", &Setup { config, ..network.setup.clone() });
    let torrent = world.share(leecher, content, Has::Nothing, &[blocked, fast]);
    let limit = world.now() + secs(60);
    let begun = world.run_to(limit, |world| world.progress(leecher, torrent).0 > 4);
    ensure(begun, || "nothing came of those that are not blocked".into())?;
    let status =
        |world: &World| world.session(leecher).status(torrent).map(|status| (status.peers, status.filtered));
    notes.add(format!("{:?} peers and blocked addresses at first", status(world)));
    // Now the one that it has most from.
    let more = block(world, &[blocked, fast, network.nodes[0], network.nodes[1]]);
    world.command(leecher, Event::SetIpFilter { filter: more });
    complete(world, &[(leecher, torrent)], secs(300))?;
    world.run_for(secs(600));
    notes.add(format!("{:?} in the end", status(world)));
    ensure(status(world).is_some_and(|(_, filtered)| filtered == 2), || {
        "it does not say whom it leaves out".into()
    })?;
    ensure(world.announces(tracker).iter().any(|it| it.from == leecher), || {
        "it never asked the tracker".into()
    })?;
    let served = world.session(open.0).status(open.1).map_or(0, |status| status.up_bytes);
    ensure(served > 0, || "the one that is left sent nothing".into())
}

/// A DHT of clients that have no torrents.
struct Network {
    /// How to take part in it.
    setup: Setup,
    /// Its nodes besides the one under a name.
    nodes: Vec<HostId>,
}

impl Network {
    /// One node under a name, which `others` begin with; all know each other after a while.
    fn new(world: &mut World, others: usize) -> Self {
        let with = |bootstrap| {
            let dht = Some(DhtConfig { bootstrap, ..DhtConfig::default() });
            Setup { config: Config { dht, ..settings() }, ..Setup::new(HOME) }
        };
        let router = world.add_client("router.test", &with(vec![]));
        world.add_name("router.test", router);
        let setup = with(vec![("router.test".to_owned(), world.addr(router).port())]);
        let nodes = (0..others).map(|n| world.add_client(&format!("node{n}"), &setup)).collect();
        world.run_for(secs(20));
        Self { setup, nodes }
    }
}

/// Whether a client learnt where `other` is from the DHT and from nobody else, and its own node is sound.
fn found_by_dht(world: &World, host: HostId, torrent: TorrentId, other: HostId) -> Result<(), Failure> {
    let session = world.session(host);
    let known = session.torrent(torrent).map(|torrent| torrent.known_peers().sources(world.addr(other)));
    let by_dht = known.is_some_and(|sources| sources.has(Source::Dht) && !sources.has(Source::Tracker));
    ensure(by_dht, || "the seeder was not found through the DHT".into())?;
    let nodes = session.dht().map_or(0, Dht::known);
    ensure(nodes >= 3, || format!("it knows {nodes} nodes of six"))?;
    ensure(world.stats(host).lookups > 0, || "no lookup is reported".into())
}
