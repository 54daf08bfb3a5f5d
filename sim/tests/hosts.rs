//! The real driver on a few simulated hosts: what happens when things go wrong at the same time.
//!
//! Every scenario runs twice from its seed, and both runs must leave the same trace. `HOSTS_SEED=7` runs them all from
//! another seed than the usual one.

use fast_peer_core::session::{Config, DhtConfig, Encryption, Event, Notice, Policy};
use fast_peer_core::torrent::known_peers::Source;
use fast_peer_io::driver::Ended;
use fast_peer_io::net::{Listener as _, Net as _};
use sim::hosts::{
    Client, Content, Crash, Family, PORT, Protocol, Setup, SimNet, SimStream, Sought, World, check,
};
use std::cell::Cell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[test]
fn http_tracker() {
    check(seed(), Family::V4, |world| from_tracker_to_files(world, Protocol::Http));
}

#[test]
fn udp_tracker() {
    check(seed(), Family::V4, |world| from_tracker_to_files(world, Protocol::Udp));
}

#[test]
fn ipv6() {
    check(seed(), Family::V6, |world| from_tracker_to_files(world, Protocol::Http));
}

#[test]
fn ipv6_with_a_udp_tracker() {
    check(seed(), Family::V6, |world| from_tracker_to_files(world, Protocol::Udp));
}

#[test]
fn local_peers() {
    check(seed(), Family::V4, from_call_to_files);
    check(seed(), Family::V6, from_call_to_files);
}

#[test]
fn distributed_hash_table() {
    check(seed(), Family::V4, from_node_to_files);
    check(seed(), Family::V6, from_node_to_files);
}

/// With a proxy between it and all others, a leecher finds and gets everything by that alone; it waits while the proxy is
/// gone, and goes on when it is back (INV-S-31).
#[test]
fn proxy_dies_and_returns() {
    for protocol in [Protocol::Http, Protocol::Udp] {
        check(seed(), Family::V4, |world| by_a_proxy_that_dies(world, protocol));
        check(seed(), Family::V6, |world| by_a_proxy_that_dies(world, protocol));
    }
}

/// The name of a node is looked up by the proxy as well.
#[test]
fn distributed_hash_table_by_a_proxy() {
    check(seed(), Family::V4, |world| {
        let (proxy, way) = world.proxy("proxy.example");
        let content = world.content(&[]);
        let node = world.client("node.example", with_dht(&world.content(&[]), vec![]));
        let near = with_dht(&content, vec![(node.ip().to_string(), PORT)]);
        let seeder = world.client("seeder", Setup { disk: content.full_disk(), ..near });
        world.until("the seeder is announced", LATER, || {
            seeder.has_said(|notice| matches!(notice, Notice::DhtAsked { summary, .. } if summary.stored > 0))
        });
        assert!(seeder.sought().addresses.contains(&node.ip()), "without a proxy it shows whom it seeks");
        let named = with_dht(&content, vec![("node.example".to_owned(), PORT)]);
        let leecher = world.client("leecher", Setup { proxy: Some(way), ..named });
        world.until("the leecher is complete", LATER, || leecher.is_complete());
        assert!(leecher.has_said(|notice| matches!(notice, Notice::Peers { source: Source::Dht, .. })));
        assert_eq!(leecher.sought(), only(proxy, "proxy.example"));
    });
}

/// Two that dial each other at once have one connection in the end, and both get what they lack.
#[test]
fn connect_and_accept_race() {
    check(seed(), Family::V4, |world| {
        let content = world.content(&[]);
        let half = |odd| content.disk_with(move |piece| piece % 2 == odd);
        let slow = Config { up_bytes_per_s: Some(SLOW), ..Config::default() };
        let setup = |odd, peer| {
            let peers = vec![SocketAddr::new(peer, PORT)];
            Setup { disk: half(odd), peers, config: slow.clone(), ..Setup::new(&content) }
        };
        let (left_setup, right_setup) = (setup(0, world.ip(2)), setup(1, world.ip(1)));
        let (left, right) = (world.client("left", left_setup), world.client("right", right_setup));

        // Neither hears of the other's dial before both have dialled.
        world.hold(left.ip(), right.ip());
        world.until("both dial", SOON, || left.connections() > 0 && right.connections() > 0);
        world.release(left.ip(), right.ip());
        world.until("both have something new", SOON, || {
            [&left, &right].iter().all(|client| client.bytes_have() > content.bytes().len() as u64 * 5 / 8)
        });
        assert_eq!((left.connections(), right.connections()), (1, 1));
        assert!(world.trace().text().contains("already connected to this peer"), "there was a second");
        world.until("both are complete", LATER, || left.is_complete() && right.is_complete());
    });
}

/// A peer that dies in the middle of every block harms nobody.
#[test]
fn reset_in_mid_block() {
    check(seed(), Family::V4, |world| {
        let content = world.content(&[]);
        let resets = Rc::new(Cell::new(0));
        let fake = {
            let (content, resets) = (Rc::clone(&content), Rc::clone(&resets));
            world.host("fake", move |net| break_off(net, Rc::clone(&content), Rc::clone(&resets)))
        };
        let seeder = slow_seeder(world, &content);
        let peers = vec![SocketAddr::new(fake, PORT), seeder.addr()];
        // It would wait in vain for the handshake of one that obfuscates, until the seeder has told everything.
        let encryption = Encryption { outgoing: Policy::Off, ..Encryption::default() };
        let config = Config { encryption, ..Config::default() };
        let leecher = world.client("leecher", Setup { peers, config, ..Setup::new(&content) });
        world.until("a block breaks off", SOON, || resets.get() > 0);
        world.until("the leecher is complete", LATER, || leecher.is_complete());
    });
}

/// A seeder that crashes and comes back is found again.
#[test]
fn crash_and_return_of_the_only_seeder() {
    check(seed(), Family::V4, |world| {
        let (content, seeder, leecher) = half_way(world);
        world.crash(&seeder, Crash::Process);
        world.until("the leecher notices", SOON, || leecher.connections() == 0);
        world.pass(Duration::from_secs(3));
        assert!(leecher.bytes_have() < content.bytes().len() as u64);
        world.restart(&seeder);
        world.until("the leecher is complete", LATER, || leecher.is_complete());
    });
}

/// When nothing arrives for a while, the transfer goes on afterwards.
#[test]
fn hold_and_release() {
    check(seed(), Family::V4, |world| {
        let (_, seeder, leecher) = half_way(world);
        let outage = Duration::from_secs(1 + world.rng("outage").below(30));
        world.hold(seeder.ip(), leecher.ip());
        world.pass(Duration::from_secs(1));
        let before = leecher.bytes_have();
        world.pass(outage);
        assert_eq!(leecher.bytes_have(), before, "nothing arrives");
        world.release(seeder.ip(), leecher.ip());
        world.until("the leecher is complete", LATER, || leecher.is_complete());
    });
}

/// What was downloaded before a crash is not downloaded again.
#[test]
fn crash_and_restart_of_a_leecher_with_its_disk() {
    check(seed(), Family::V4, |world| {
        let (content, _, leecher) = half_way(world);
        world.crash(&leecher, Crash::Process);
        world.pass(Duration::from_secs(1));
        world.restart(&leecher);
        world.until("the check ends", SOON, || leecher.found().is_some());
        let found = leecher.found().unwrap_or_default();
        // Of what was verified, the last pieces may not have reached the disk.
        assert!(found >= content.piece_count() / 4, "{found} pieces are on the disk");
        world.until("the leecher is complete", LATER, || leecher.is_complete());
    });
}

/// After a power cut nothing is taken for good that is not.
#[test]
fn power_cut_of_a_leecher() {
    check(seed(), Family::V4, |world| {
        let (_, _, leecher) = half_way(world);
        world.crash(&leecher, Crash::Power);
        world.restart(&leecher);
        world.until("the check ends", SOON, || leecher.found().is_some());
        world.until("the leecher is complete", LATER, || leecher.is_complete());
    });
}

/// A session that is told to stop tells its trackers, and is quick about it.
#[test]
fn graceful_stop() {
    for protocol in [Protocol::Http, Protocol::Udp] {
        check(seed(), Family::V4, |world| {
            let tracker = world.tracker("tracker.example", protocol);
            let content = world.content(&[&tracker.url()]);
            let torrent = content.metainfo().swarm_hash();
            let seeder = slow_seeder(world, &content);
            world.until("the seeder announces itself", SOON, || tracker.counts(torrent).seeders == 1);
            let leecher = world.client("leecher", Setup::new(&content));
            world.until("some pieces are there", SOON, || leecher.bytes_have() > 0);

            leecher.event(Event::Stop);
            world.until("the leecher ends", STOP_LIMIT, || leecher.ended().is_some());
            assert_eq!(leecher.ended(), Some(Ended::Clean));
            assert!(leecher.has_said(|notice| *notice == Notice::Stopped));
            assert_eq!(tracker.stopped(), [leecher.ip()]);
            assert_eq!(tracker.counts(torrent).leechers, 0);
            world.until("the seeder notices", SOON, || seeder.connections() == 0);

            // What was on its way when the session stopped is on the disk.
            world.restart(&leecher);
            world.until("the leecher is complete", LATER, || leecher.is_complete());
        });
    }
}

/// A tracker that cannot be reached does not hold up a stop for longer than it may.
#[test]
fn stop_without_the_tracker() {
    for protocol in [Protocol::Http, Protocol::Udp] {
        check(seed(), Family::V4, |world| {
            let tracker = world.tracker("tracker.example", protocol);
            let content = world.content(&[&tracker.url()]);
            let torrent = content.metainfo().swarm_hash();
            let seeder = slow_seeder(world, &content);
            world.until("the seeder announces itself", SOON, || tracker.counts(torrent).seeders == 1);
            let tracker_ip = world.ip(1);
            world.hold(tracker_ip, seeder.ip());
            seeder.event(Event::Stop);
            world.until("the seeder ends", STOP_LIMIT, || seeder.ended().is_some());
            assert_eq!(seeder.ended(), Some(Ended::Clean));
        });
    }
}

fn seed() -> u64 {
    std::env::var("HOSTS_SEED").map_or(1, |seed| seed.parse().expect("a seed is a number"))
}

/// A leecher that knows nothing but a tracker finds the seeder, and everything arrives.
/// With nothing but a call into the local network (BEP 14).
fn from_call_to_files(world: &mut World) {
    let content = world.content(&[]);
    let setup = || Setup { local: true, ..Setup::new(&content) };
    world.client("seeder", Setup { disk: content.full_disk(), ..setup() });
    let leecher = world.client("leecher", setup());
    world.until("the leecher is complete", LATER, || leecher.is_complete());
    assert!(leecher.has_said(|notice| matches!(notice, Notice::Peers { source: Source::Lsd, .. })));
}

/// With nothing but the address of one node of the DHT (BEP 5).
fn from_node_to_files(world: &mut World) {
    let content = world.content(&[]);
    let node = world.client("node", with_dht(&world.content(&[]), vec![]));
    let setup = || with_dht(&content, vec![(node.ip().to_string(), PORT)]);
    let seeder = world.client("seeder", Setup { disk: content.full_disk(), ..setup() });
    world.until("the seeder is announced", LATER, || {
        seeder.has_said(|notice| matches!(notice, Notice::DhtAsked { summary, .. } if summary.stored > 0))
    });
    let leecher = world.client("leecher", setup());
    world.until("the leecher is complete", LATER, || leecher.is_complete());
    assert!(leecher.has_said(|notice| matches!(notice, Notice::Peers { source: Source::Dht, .. })));
}

fn with_dht(content: &Rc<Content>, bootstrap: Vec<(String, u16)>) -> Setup {
    let dht = Some(DhtConfig { bootstrap, ..DhtConfig::default() });
    Setup { config: Config { dht, ..Config::default() }, ..Setup::new(content) }
}

fn from_tracker_to_files(world: &mut World, protocol: Protocol) {
    let tracker = world.tracker("tracker.example", protocol);
    let content = world.content(&[&tracker.url()]);
    let torrent = content.metainfo().swarm_hash();
    let seeder = world.client("seeder", Setup { disk: content.full_disk(), ..Setup::new(&content) });
    world.until("the seeder announces itself", SOON, || tracker.counts(torrent).seeders == 1);
    world.until("the seeder hears of it", SOON, || {
        seeder.has_said(|notice| matches!(notice, Notice::TrackerAnswered { .. }))
    });
    let leecher = world.client("leecher", Setup::new(&content));
    world.until("the leecher is complete", LATER, || leecher.is_complete());
    world.until("the tracker learns of it", SOON, || {
        let counts = tracker.counts(torrent);
        (counts.seeders, counts.completed) == (2, 1)
    });
}

fn by_a_proxy_that_dies(world: &mut World, protocol: Protocol) {
    let (proxy, way) = world.proxy("proxy.example");
    let tracker = world.tracker("tracker.example", protocol);
    let content = world.content(&[&tracker.url()]);
    let torrent = content.metainfo().swarm_hash();
    let seeder = slow_seeder(world, &content);
    world.until("the seeder announces itself", SOON, || tracker.counts(torrent).seeders == 1);
    let setup = Setup { proxy: Some(way), local: false, ..Setup::new(&content) };
    let leecher = world.client("leecher", setup);
    let half = content.bytes().len() as u64 / 2;
    world.until("half is there", LATER, || leecher.bytes_have() >= half);
    world.kill(proxy);
    world.until("the leecher notices", SOON, || leecher.connections() == 0);
    // What is there already is hashed and counted.
    world.pass(Duration::from_secs(1));
    let before = leecher.bytes_have();
    world.pass(Duration::from_secs(20));
    assert_eq!(leecher.bytes_have(), before, "nothing arrives");
    assert!(world.trace().text().contains("can't be used"), "it is said why");
    world.revive(proxy);
    world.until("the leecher is complete", LATER, || leecher.is_complete());
    assert_eq!(leecher.sought(), only(proxy, "proxy.example"));
    let seeks = seeder.sought();
    assert!(seeks.names.contains("tracker.example") && !seeks.addresses.contains(&proxy), "it has no proxy");
}

/// Nobody but a proxy, and no name but its.
fn only(proxy: IpAddr, name: &str) -> Sought {
    Sought { addresses: [proxy].into(), names: [name.to_owned()].into() }
}

fn slow_seeder(world: &mut World, content: &Rc<Content>) -> Client {
    let config = Config { up_bytes_per_s: Some(SLOW), ..Config::default() };
    world.client("seeder", Setup { disk: content.full_disk(), config, ..Setup::new(content) })
}

/// A seeder, and a leecher that has about half of what it wants.
fn half_way(world: &mut World) -> (Rc<Content>, Client, Client) {
    let content = world.content(&[]);
    let seeder = slow_seeder(world, &content);
    let peers = vec![seeder.addr()];
    let leecher = world.client("leecher", Setup { peers, ..Setup::new(&content) });
    let half = content.bytes().len() as u64 / 2;
    world.until("half is there", LATER, || leecher.bytes_have() >= half);
    (content, seeder, leecher)
}

/// Offers everything to whoever connects, and breaks off in the middle of the first block.
async fn break_off(net: SimNet, content: Rc<Content>, resets: Rc<Cell<u32>>) -> turmoil::Result {
    let listener = net.listen((Ipv4Addr::UNSPECIFIED, PORT).into()).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        // A leecher that hangs up first ends this too.
        if half_a_block(stream, &content).await.is_ok() {
            resets.set(resets.get() + 1);
        }
    }
}

async fn half_a_block(mut stream: SimStream, content: &Content) -> io::Result<()> {
    // BEP 3: 19, the protocol's name, eight reserved bytes, the infohash, the peer id.
    let mut handshake = [0; 68];
    stream.read_exact(&mut handshake).await?;
    handshake[20..28].fill(0);
    handshake[48..].copy_from_slice(b"-XX0000-breaks it of");
    stream.write_all(&handshake).await?;
    let mut bitfield = vec![0; content.piece_count().div_ceil(8) as usize];
    (0..content.piece_count()).for_each(|piece| bitfield[piece as usize / 8] |= 0x80 >> (piece % 8));
    stream.write_u32(1 + bitfield.len() as u32).await?;
    stream.write_u8(5).await?;
    stream.write_all(&bitfield).await?;
    stream.write_all(&[0, 0, 0, 1, 1]).await?;
    loop {
        let mut message = vec![0; stream.read_u32().await? as usize];
        stream.read_exact(&mut message).await?;
        if let [6, request @ ..] = &message[..] {
            stream.write_u32(9 + (16 << 10)).await?;
            stream.write_u8(7).await?;
            stream.write_all(&request[..8]).await?;
            return stream.write_all(&[b'?'; 5_000]).await;
        }
    }
}

/// Bytes a second: what is shared takes several seconds.
const SLOW: u64 = 200_000;

const SOON: Duration = Duration::from_secs(30);

const LATER: Duration = Duration::from_secs(180);

/// Five seconds for the session, and a moment for the driver.
const STOP_LIMIT: Duration = Duration::from_millis(5_010);
