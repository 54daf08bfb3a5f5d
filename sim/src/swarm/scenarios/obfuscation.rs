//! Connections that look like noise, and those who don't want them to.

use super::super::builder::{PLAIN, TCP, settings};
use super::super::fake_peer::Behaviour;
use super::super::scenario::{Failure, Notes, Scenario, complete, ensure};
use super::{ANNOUNCE_INTERVAL, Access, Duration, HOME, Has, HostId, Plan, Setup, TorrentId, World, secs};
use fast_peer_core::mse::Methods;
use fast_peer_core::session::{Config, Encryption, Event, Policy};

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "middlebox",
        about: "where obfuscated connections break, who insists on them gets none, and who prefers them goes without",
        play: middlebox,
    },
    Scenario {
        name: "obfuscated",
        about: "clients that insist, prefer and don't care share a torrent without content, and one with, cut at odd places",
        play: obfuscated,
    },
    Scenario {
        name: "obfuscation-flood",
        about: "strangers who begin to obfuscate and go no further don't keep others out",
        play: flood,
    },
];

const fn both(policy: Policy, methods: Methods) -> Encryption {
    Encryption { incoming: policy, outgoing: policy, methods }
}

fn setup(encryption: Encryption) -> Setup {
    Setup { config: Config { encryption, ..settings() }, ..Setup::new(HOME) }
}

fn middlebox(world: &mut World, notes: &mut Notes) -> Result<(), Failure> {
    let content = world.add_content(&Plan::small(64 << 10, 1 << 20));
    let seeder = world.add_client("seeder", &setup(Encryption::default()));
    world.share(seeder, content, Has::All, &[]);
    world.set_meddled(seeder, true);
    let mut join = |name: &str, encryption| {
        let host = world.add_client(name, &setup(encryption));
        (host, world.share(host, content, Has::Nothing, &[seeder]))
    };
    let prefers = join("prefers", Encryption::default());
    let insists = join("insists", both(Policy::Require, Methods::ALL));
    let end = complete(world, &[prefers], secs(30))?;
    notes.add(format!("without obfuscation at {end} ms"));
    world.run_for(secs(60));
    let (there, _) = world.progress(insists.0, insists.1);
    ensure(there == 0, || format!("{there} pieces came to a client that insists on obfuscation"))?;
    // When nobody is in the way any more, it is dialled again by itself.
    world.set_meddled(seeder, false);
    complete(world, &[insists], secs(3600)).map(|_| ())
}

fn obfuscated(world: &mut World, _: &mut Notes) -> Result<(), Failure> {
    world.set_cuts(3);
    let url = "http://tracker.test/announce".to_owned();
    world.add_tracker("tracker.test", Access::FAST, ANNOUNCE_INTERVAL);
    let tracked = |plan: Plan| Plan { trackers: vec![vec![url.clone()]], ..plan };
    let contents = [
        world.add_content(&tracked(Plan::large(256 << 10, 16 << 20))),
        world.add_content(&tracked(Plan { name: "real", ..Plan::small(64 << 10, 4 << 20) })),
    ];
    let seeder = world.add_client("seeder", &setup(both(Policy::Prefer, Methods::RC4)));
    contents.iter().for_each(|content| {
        world.share(seeder, *content, Has::All, &[]);
    });
    let mut waits: Vec<(HostId, TorrentId)> = vec![];
    for (name, encryption) in [
        ("off", PLAIN),
        ("prefers", Encryption::default()),
        ("insists", both(Policy::Require, Methods::ALL)),
        ("rc4", both(Policy::Require, Methods::RC4)),
    ] {
        let host = world.add_client(name, &setup(encryption));
        waits.extend(contents.iter().map(|content| (host, world.share(host, *content, Has::Nothing, &[]))));
    }
    complete(world, &waits, secs(300)).map(|_| ())
}

fn flood(world: &mut World, notes: &mut Notes) -> Result<(), Failure> {
    let content = world.add_content(&Plan::small(64 << 10, 1 << 20));
    let config = Config { max_half_open: 8, transports: TCP, ..Config::default() };
    let seeder = world.add_client("seeder", &Setup { config, ..Setup::new(HOME) });
    let torrent = world.share(seeder, content, Has::All, &[]);
    let strangers: Vec<_> =
        (0..20).map(|n| world.add_fake(&format!("stranger{n}"), HOME, content, Behaviour::Noise)).collect();
    strangers.iter().for_each(|stranger| world.dial_from_fake(*stranger, seeder));
    world.run_for(secs(1));
    let open = strangers.iter().map(|stranger| world.fake_connections(*stranger)).sum::<usize>();
    notes.add(format!("{open} of {} strangers were let in", strangers.len()));
    ensure(open == 8, || format!("{open} unfinished handshakes at once, and not 8"))?;
    let leecher = world.add_client("leecher", &setup(Encryption::default()));
    let there = world.share(leecher, content, Has::Nothing, &[]);
    let peers = vec![world.addr(leecher)];
    world.command(seeder, Event::AddPeers { torrent, peers });
    complete(world, &[(leecher, there)], Duration::from_secs(8))?;
    world.run_for(secs(10));
    let open = strangers.iter().map(|stranger| world.fake_connections(*stranger)).sum::<usize>();
    ensure(open == 0, || format!("{open} of the strangers are still there"))
}
