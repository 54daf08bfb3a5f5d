//! Peers behind routers that let nobody in.

use super::super::builder::{TCP, settings};
use super::super::nat::NatKind;
use super::super::scenario::{Failure, Notes, Scenario, complete, ensure};
use super::{Access, HOME, Has, HostId, Plan, Setup, TorrentId, World, secs};
use fast_peer_core::machine::Timestamp;
use fast_peer_core::session::{Config, Transport, Transports};
use fast_peer_core::torrent::holepunch::GiveUp;

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "holepunch",
        about: "a seeder and a leecher behind routers are brought together by a peer that knows both",
        play: holepunch,
    },
    Scenario {
        name: "holepunch-symmetric",
        about: "where the routers give each connection another port it is given up soon, and the relay passes pieces on",
        play: symmetric,
    },
    Scenario {
        name: "holepunch-tcp",
        about: "without uTP nobody tries to bring peers together",
        play: without_utp,
    },
    Scenario {
        name: "one-way-calls",
        about: "a peer whose router lets nobody in calls one that calls it in vain at that time",
        play: one_way,
    },
];

type Member = (HostId, TorrentId);

fn one_way(world: &mut World, notes: &mut Notes) -> Result<(), Failure> {
    let content = world.add_content(&Plan::small(64 << 10, 1 << 20));
    let config = Config { transports: TCP, ..settings() };
    let setup = Setup { config, ..Setup::new(HOME) };
    let [seeder, leecher] = ["seeder", "leecher"].map(|name| world.add_client(name, &setup));
    world.set_nat(leecher, NatKind::KeepsPorts);
    world.share(seeder, content, Has::All, &[leecher]);
    world.run_for(secs(1));
    let wanted = world.share(leecher, content, Has::Nothing, &[seeder]);
    let from = world.now();
    let end = complete(world, &[(leecher, wanted)], secs(5))?;
    notes.add(format!("complete after {} ms", end.since(from).as_millis()));
    Ok(())
}

/// A seeder and a leecher behind routers, and two peers that both can reach, which get the torrent and pass it on at
/// this rate.
struct Split {
    seeder: Member,
    leecher: Member,
}

impl Split {
    fn new(world: &mut World, (kind, transports): (NatKind, Transports), plan: &Plan, rate: u64) -> Self {
        let config = Config { transports, ..settings() };
        let home = Setup { config: config.clone(), ..Setup::new(HOME) };
        let rate = Some(rate);
        let limited = Config { down_bytes_per_s: rate, up_bytes_per_s: rate, ..config };
        let between = Setup { config: limited, ..Setup::new(Access::FAST) };
        let content = world.add_content(plan);
        let relay = world.add_client("relay", &between);
        let relay = (relay, world.share(relay, content, Has::Nothing, &[]));
        let join = |world: &mut World, name: &str, has| {
            let host = world.add_client(name, &home);
            world.set_nat(host, kind);
            (host, world.share(host, content, has, &[relay.0]))
        };
        let seeder = join(world, "seeder", Has::All);
        // The seeder hears of this one, and then of nobody else for a minute: it does not call the leecher by itself.
        let limit = world.now() + secs(60);
        world.run_to(limit, |world| has_open(world, relay));
        world.run_for(secs(5));
        let bystander = world.add_client("bystander", &between);
        world.share(bystander, content, Has::Nothing, &[relay.0]);
        world.run_for(secs(5));
        let leecher = join(world, "leecher", Has::Nothing);
        Self { seeder, leecher }
    }

    /// Why each of the two did not reach the other through a relay: the seeder the leecher, the leecher the seeder.
    fn unpunched(&self, world: &World) -> [Vec<GiveUp>; 2] {
        let (seeder, leecher) = (self.seeder.0, self.leecher.0);
        [(seeder, leecher), (leecher, seeder)].map(|(host, other)| {
            let other = world.addr(other).ip();
            let unpunched = world.stats(host).unpunched.iter().filter(|(remote, _)| remote.ip() == other);
            unpunched.map(|(_, why)| *why).collect()
        })
    }

    /// What carries the connection between the two behind routers.
    fn between(&self, world: &World) -> Option<Transport> {
        let session = world.session(self.leecher.0);
        let ip = world.addr(self.seeder.0).ip();
        let mut peers = session.torrent(self.leecher.1).into_iter().flat_map(|torrent| torrent.peers());
        let seeder = peers.find(|(peer, _)| peer.is_open() && peer.remote().ip() == ip);
        seeder.and_then(|(peer, _)| session.transport(peer.conn()))
    }
}

fn has_open(world: &World, (host, torrent): Member) -> bool {
    let mut peers = world.session(host).torrent(torrent).into_iter().flat_map(|torrent| torrent.peers());
    peers.any(|(peer, _)| peer.is_open())
}

/// By TCP and uTP where the routers keep ports: then a relay that was reached by TCP knows where a peer is.
fn variant(world: &World, kind: NatKind) -> (NatKind, Transports) {
    if world.seed().is_multiple_of(2) {
        (kind, Transports { tcp: false, utp: true })
    } else {
        let keeps = if kind == NatKind::OnePort { NatKind::KeepsPorts } else { kind };
        (keeps, Transports::default())
    }
}

fn holepunch(world: &mut World, notes: &mut Notes) -> Result<(), Failure> {
    let variant = variant(world, NatKind::OnePort);
    // By the others alone it would take minutes.
    let split = Split::new(world, variant, &Plan::small(64 << 10, 4 << 20), 8_000);
    let from = world.now();
    let met = world.run_to(from + secs(40), |world| split.between(world).is_some());
    ensure(met && split.between(world) == Some(Transport::Utp), || {
        format!("what connects the two is {:?}", split.between(world))
    })?;
    notes.add(format!("connected after {} ms", world.now().since(from).as_millis()));
    let end = complete(world, &[split.leecher], secs(60))?;
    notes.add(format!("complete after {} ms", end.since(from).as_millis()));
    // Each of the two opened a connection, and one of them is left.
    let failed = split.unpunched(world).concat();
    ensure(failed.is_empty(), || format!("it failed before: {failed:?}"))
}

fn symmetric(world: &mut World, notes: &mut Notes) -> Result<(), Failure> {
    let variant = variant(world, NatKind::Symmetric);
    // More than half an hour's worth of pieces.
    let split = Split::new(world, variant, &Plan::large(256 << 10, 12 << 20), 6_000);
    let mut met = false;
    let limit = world.now() + secs(7_200);
    let done = world.run_to(limit, |world| {
        met |= split.between(world).is_some();
        world.is_complete(split.leecher.0, split.leecher.1)
    });
    notes.add(format!("complete after {} s", world.now().since(Timestamp::ZERO).as_secs()));
    ensure(done, || "the relay did not pass the torrent on".into())?;
    ensure(!met, || "a connection came about".into())?;
    let [seeder, leecher] = split.unpunched(world);
    notes.add(format!("given up: by the seeder {seeder:?}, by the leecher {leecher:?}"));
    // Two an hour that it wants itself, and two that the other wants.
    for (name, tried) in [("seeder", &seeder), ("leecher", &leecher)] {
        ensure((1..=4).contains(&tried.len()), || format!("the {name} tried {} times", tried.len()))?;
        // A relay that reads so slowly can be late.
        let known = tried.iter().all(|why| matches!(why, GiveUp::NotThrough | GiveUp::NoAnswer));
        ensure(known && tried.contains(&GiveUp::NotThrough), || {
            format!("the {name} gave up for another reason: {tried:?}")
        })?;
    }
    Ok(())
}

fn without_utp(world: &mut World, _: &mut Notes) -> Result<(), Failure> {
    let variant = (NatKind::KeepsPorts, TCP);
    let split = Split::new(world, variant, &Plan::small(64 << 10, 1 << 20), 20_000);
    complete(world, &[split.leecher], secs(300))?;
    ensure(split.between(world).is_none(), || "a connection came about".into())?;
    let tried = split.unpunched(world).concat().len();
    ensure(tried == 0, || format!("it was tried {tried} times"))
}
