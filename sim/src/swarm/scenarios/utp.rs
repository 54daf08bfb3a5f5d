//! Connections that uTP carries.

use super::super::builder::{PLAIN, TCP, settings};
use super::super::scenario::{Failure, Notes, Scenario, complete, ensure};
use super::super::world::Reach;
use super::{ANNOUNCE_INTERVAL, Access, Duration, HOME, Has, HostId, Plan, Setup, TorrentId, World, secs};
use bytes::BytesMut;
use fast_peer_core::session::{Config, Encryption, Transport, Transports};
use fast_peer_core::utp::{Header, Kind, MAX_HALF_OPEN, Utp};

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "utp-crossed-calls",
        about: "a peer that called in vain is called by whom it wanted: they don't wait for its next try",
        play: crossed_calls,
    },
    Scenario {
        name: "utp-flood",
        about: "strangers under forged addresses ask for streams: they get no more than they send, and keep nobody out",
        play: flood,
    },
    Scenario {
        name: "utp-mixed",
        about: "clients with TCP alone, uTP alone, both and obfuscation get a torrent from one seeder and each other",
        play: mixed,
    },
    Scenario {
        name: "utp-only",
        about: "a swarm without TCP, where datagrams are lost, overtake each other and come twice",
        play: only,
    },
];

const UTP: Transports = Transports { tcp: false, utp: true };

const BOTH: Transports = Transports { tcp: true, utp: true };

fn setup(transports: Transports, encryption: Encryption, access: Access) -> Setup {
    Setup { config: Config { transports, encryption, ..settings() }, ..Setup::new(access) }
}

fn join(world: &mut World, plan: Plan, members: &[(&str, Setup)]) -> Vec<(HostId, TorrentId)> {
    world.add_tracker("tracker.test", Access::FAST, ANNOUNCE_INTERVAL);
    let content =
        world.add_content(&Plan { trackers: vec![vec!["http://tracker.test/announce".to_owned()]], ..plan });
    let mut share = |name: &str, setup: &Setup| {
        let host = world.add_client(name, setup);
        let has = if name == "seeder" { Has::All } else { Has::Nothing };
        (host, world.share(host, content, has, &[]))
    };
    members.iter().map(|(name, setup)| share(name, setup)).collect()
}

/// Nothing that came in another order than it was sent, or was changed, would pass for a message or a piece.
fn undamaged(world: &World, members: &[(HostId, TorrentId)]) -> Result<(), Failure> {
    for (host, _) in members {
        let failed = world.stats(*host).failed;
        ensure(failed == 0, || format!("{failed} pieces of {} failed", world.name(*host)))?;
    }
    Ok(())
}

fn transports(world: &World, member: (HostId, TorrentId)) -> Vec<Transport> {
    let session = world.session(member.0);
    let peers = session.torrent(member.1).into_iter().flat_map(|torrent| torrent.peers());
    peers.filter_map(|(peer, _)| session.transport(peer.conn())).collect()
}

fn only(world: &mut World, notes: &mut Notes) -> Result<(), Failure> {
    let access = Access { loss_ppm: 10_000, duplicate_ppm: 5_000, jitter: Duration::from_millis(5), ..HOME };
    let alone = setup(UTP, PLAIN, access);
    let members = ["seeder", "a", "b", "c"].map(|name| (name, alone.clone()));
    let members = join(world, Plan::small(64 << 10, 4 << 20), &members);
    let end = complete(world, &members[1..], secs(120))?;
    notes.add(format!("complete at {end} ms"));
    let carried = transports(world, members[0]);
    ensure(carried.iter().all(|by| *by == Transport::Utp), || "something else carries a connection".into())?;
    undamaged(world, &members)
}

fn mixed(world: &mut World, notes: &mut Notes) -> Result<(), Failure> {
    let members = [
        ("seeder", setup(BOTH, Encryption::default(), HOME)),
        ("tcp", setup(TCP, PLAIN, HOME)),
        ("utp", setup(UTP, PLAIN, HOME)),
        ("both", setup(BOTH, PLAIN, HOME)),
        ("obfuscated utp", setup(UTP, Encryption::default(), HOME)),
        ("obfuscated", setup(BOTH, Encryption::default(), HOME)),
    ];
    let members = join(world, Plan::small(64 << 10, 8 << 20), &members);
    world.run_for(secs(3));
    let carried = transports(world, members[0]);
    let both = [Transport::Tcp, Transport::Utp].iter().all(|by| carried.contains(by));
    ensure(both, || format!("the seeder's connections are {carried:?}"))?;
    let end = complete(world, &members[1..], secs(120))?;
    notes.add(format!("complete at {end} ms"));
    undamaged(world, &members)
}

fn crossed_calls(world: &mut World, notes: &mut Notes) -> Result<(), Failure> {
    let setup = setup(UTP, PLAIN, HOME);
    let content = world.add_content(&Plan::small(64 << 10, 1 << 20));
    let [seeder, leecher] = ["seeder", "leecher"].map(|name| world.add_client(name, &setup));
    world.set_reach(leecher, Reach::Dark);
    let sown = world.share(seeder, content, Has::All, &[leecher]);
    // Its next call would come after 3 s.
    world.run_for(Duration::from_millis(1200));
    world.set_reach(leecher, Reach::Normal);
    let wanted = world.share(leecher, content, Has::Nothing, &[seeder]);
    world.run_for(Duration::from_millis(500));
    ensure(!transports(world, (seeder, sown)).is_empty(), || "they are not connected".into())?;
    let end = complete(world, &[(leecher, wanted)], secs(10))?;
    notes.add(format!("complete at {end} ms"));
    Ok(())
}

/// Rows U-01 and U-02; what leaves for each address is up to INV-S-38.
fn flood(world: &mut World, notes: &mut Notes) -> Result<(), Failure> {
    let setup = setup(UTP, PLAIN, HOME);
    let members =
        join(world, Plan::small(64 << 10, 1 << 20), &[("seeder", setup.clone()), ("leecher", setup)]);
    let seeder = members[0].0;
    for n in 0..5 * MAX_HALF_OPEN as u16 {
        let mut syn = BytesMut::new();
        let (kind, seq) = (Kind::Syn, n ^ 0x5555);
        Header { kind, connection: n, timestamp: 1, difference: 0, window: 1 << 20, seq, ack: 0 }
            .encode(&mut syn);
        let [high, low] = n.to_be_bytes();
        world.forge(([12, 0, high, low], 6881).into(), seeder, syn.freeze());
        if n % 64 == 0 {
            world.run_for(Duration::from_millis(10));
        }
    }
    let (streams, half_open) = world.session(seeder).utp().map(Utp::counts).unwrap_or_default();
    notes.add(format!("{half_open} half-open, {streams} streams"));
    ensure(streams <= 2 && half_open <= MAX_HALF_OPEN, || {
        format!("{streams} streams, {half_open} half-open")
    })?;
    complete(world, &members[1..], secs(60))?;
    undamaged(world, &members)
}
