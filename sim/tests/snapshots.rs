//! Traces of small encounters, for a person to read: what changes in them is what changed in the protocol.

use core::time::Duration;
use fast_peer_core::mse::Methods;
use fast_peer_core::session::{Encryption, Event, Policy};
use sim::swarm::{Access, Behaviour, Pair, Plan, Topic, World};

/// What peers say to each other.
const PEERS: &[Topic] = &[Topic::Command, Topic::Message, Topic::Notice, Topic::Stream];

/// And what happens on disk.
const ALL_OF_A_BLOCK: &[Topic] = &[Topic::Command, Topic::Disk, Topic::Message, Topic::Notice, Topic::Stream];

/// What is asked of trackers.
const TRACKERS: &[Topic] = &[Topic::Command, Topic::Lookup, Topic::Notice];

fn check(name: &str, world: &World) {
    let mut settings = insta::Settings::new();
    settings.set_snapshot_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, world.trace()));
}

/// Two pieces of two blocks, the last of them short.
fn plan() -> Plan {
    Plan::small(32768, 60_000)
}

#[test]
fn a_small_download() {
    let mut pair = Pair::new(&plan(), ALL_OF_A_BLOCK, true);
    pair.complete(500);
    check("download", &pair.world);
}

/// Two pieces of metadata, and then the files.
#[test]
fn a_download_from_a_magnet_link() {
    let plan = Plan { ballast: 20_000, ..plan() };
    let mut pair = Pair::with_magnet(&plan, ALL_OF_A_BLOCK);
    pair.complete(500);
    check("magnet", &pair.world);
}

#[test]
fn a_choke_takes_requests_back() {
    let mut pair = Pair::new(&plan(), PEERS, false);
    let flip = Some(Duration::from_millis(500));
    let fake = pair.world.add_fake("C", Access::FAST, pair.content, Behaviour::Choker { flip });
    pair.add_peer(fake);
    pair.world.run_for(Duration::from_millis(1_600));
    pair.add_peer(pair.a);
    pair.complete(500);
    check("choke", &pair.world);
}

#[test]
fn a_reject_frees_a_block_for_another_peer() {
    let mut pair = Pair::new(&plan(), PEERS, false);
    let fake = pair.world.add_fake("C", Access::FAST, pair.content, Behaviour::FalseHaver);
    pair.add_peer(fake);
    pair.world.run_for(Duration::from_millis(120));
    pair.add_peer(pair.a);
    pair.complete(500);
    check("reject", &pair.world);
}

#[test]
fn a_piece_that_fails_its_hash_is_fetched_again() {
    let mut pair = Pair::new(&plan(), PEERS, false);
    let fake = pair.world.add_fake("C", Access::FAST, pair.content, Behaviour::Liar { one_in: 1 });
    pair.add_peer(fake);
    pair.world.run_for(Duration::from_millis(300));
    pair.add_peer(pair.a);
    pair.complete(500);
    check("hash_failure", &pair.world);
}

/// The first try is obfuscated, and everything on it is sent by RC4.
#[test]
fn a_download_over_an_obfuscated_connection() {
    let [any, rc4] =
        [Methods::ALL, Methods::RC4].map(|methods| Encryption { methods, ..Encryption::default() });
    let mut pair = Pair::with_encryption(&plan(), PEERS, [rc4, any], true);
    pair.complete(500);
    check("obfuscated", &pair.world);
}

/// The first try is obfuscated, and the second one isn't.
#[test]
fn a_peer_that_does_not_obfuscate_is_dialled_again() {
    let plain = Encryption { incoming: Policy::Off, outgoing: Policy::Off, methods: Methods::ALL };
    let mut pair = Pair::with_encryption(&plan(), PEERS, [plain, Encryption::default()], true);
    pair.complete(500);
    check("not_obfuscated", &pair.world);
}

/// Started, completed, stopped.
fn announces(url: &str) -> Pair {
    let plan = Plan { trackers: vec![vec![url.to_owned()]], ..plan() };
    let mut pair = Pair::with_tracker(&plan, TRACKERS, "tracker.test");
    pair.complete(1000);
    pair.world.run_for(Duration::from_secs(1));
    pair.world.command(pair.b, Event::Stop);
    let b = pair.b;
    pair.drive(500, |world| world.stats(b).stopped.is_some());
    pair
}

#[test]
fn announces_over_http() {
    check("announce_http", &announces("http://tracker.test/announce").world);
}

#[test]
fn announces_over_udp() {
    check("announce_udp", &announces("udp://tracker.test:6881").world);
}
