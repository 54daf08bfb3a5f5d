//! Every named scenario ends as it should, and the same twice.

use sim::swarm::{self, Keep, Outcome};

/// Plays a scenario twice with one seed, side by side, and expects the same good end.
fn play(name: &str, seed: u64) -> Outcome {
    let scenario = swarm::all().into_iter().find(|scenario| scenario.name == name);
    let scenario = scenario.unwrap_or_else(|| panic!("there is no scenario {name}"));
    let (outcome, again) = std::thread::scope(|scope| {
        let again = scope.spawn(|| scenario.run(seed, Keep::Nothing));
        let outcome = scenario.run(seed, Keep::Nothing);
        (outcome, again.join().expect("a run that passes once passes twice"))
    });
    println!("{outcome}");
    assert_eq!(outcome.hash, again.hash, "seed {seed} of {name} runs in two ways");
    assert_eq!(outcome.failure, None, "cargo run -p sim -- --scenario {name} --seed {seed} --trace");
    outcome
}

/// A test for each scenario, so that they run in parallel and are reported apart.
macro_rules! scenarios {
    ($($test:ident $name:literal $seeds:expr,)*) => {
        $(#[test]
        fn $test() {
            for seed in $seeds {
                play($name, seed);
            }
        })*

        #[test]
        fn every_scenario_is_played() {
            let played = [$($name),*];
            for scenario in swarm::all() {
                assert!(played.contains(&scenario.name), "{} has no test", scenario.name);
            }
        }
    };
}

scenarios! {
    address_change "address-change" 1..=4,
    cable_cut "cable-cut" 1..=3,
    canonical_peers "canonical-peers" 1..=3,
    choker "choker" 1..=3,
    crowd "crowd" 1..=1,
    dht_only "dht-only" 1..=3,
    dht_private "dht-private" 1..=2,
    dht_private_magnet "dht-private-magnet" 1..=2,
    dht_saved "dht-saved" 1..=2,
    disk_errors "disk-errors" 1..=6,
    disk_full "disk-full" 1..=3,
    false_haver "false-haver" 1..=3,
    files "files" 1..=6,
    flooder "flooder" 1..=2,
    holepunch "holepunch" 1..=20,
    holepunch_symmetric "holepunch-symmetric" 1..=20,
    holepunch_tcp "holepunch-tcp" 1..=1,
    hybrid "hybrid" 1..=3,
    interface_down "interface-down" 1..=4,
    ip_filter "ip-filter" 1..=3,
    liar "liar" 1..=8,
    local_peers "local-peers" 1..=4,
    lossy_links "lossy-links" 1..=6,
    lost_piece "lost-piece" 1..=6,
    magnet "magnet" 1..=2,
    magnet_bombs "magnet-bombs" 1..=1,
    magnet_crowd "magnet-crowd" 1..=2,
    magnet_liars "magnet-liars" 1..=6,
    magnet_seeder_leaves "magnet-seeder-leaves" 1..=2,
    many_torrents "many-torrents" 1..=2,
    middlebox "middlebox" 1..=3,
    mute "mute" 1..=2,
    obfuscated "obfuscated" 1..=4,
    obfuscation_flood "obfuscation-flood" 1..=2,
    partial_seeds "partial-seeds" 1..=3,
    peer_exchange "peer-exchange" 1..=2,
    peer_exchange_chain "peer-exchange-chain" 1..=1,
    power_cut "power-cut" 1..=6,
    private "private" 1..=2,
    private_magnet "private-magnet" 1..=2,
    rate_limits "rate-limits" 1..=3,
    resets "resets" 1..=3,
    seeder_leaves "seeder-leaves" 1..=2,
    sleep "sleep" 1..=4,
    staller "staller" 1..=3,
    stop "stop" 1..=4,
    tracker_down "tracker-down" 1..=4,
    trackers_dead "trackers-dead" 1..=3,
    udp_tracker "udp-tracker" 1..=4,
    one_way_calls "one-way-calls" 1..=4,
    utp_crossed_calls "utp-crossed-calls" 1..=6,
    utp_flood "utp-flood" 1..=2,
    utp_mixed "utp-mixed" 1..=4,
    utp_only "utp-only" 1..=4,
    v2 "v2" 1..=3,
}

#[test]
fn another_seed_is_another_run() {
    assert_ne!(play("files", 1).hash, play("files", 2).hash);
}

#[test]
fn keeping_lines_changes_nothing() {
    let scenario = swarm::all().into_iter().find(|scenario| scenario.name == "files").expect("it is there");
    let kept = scenario.run(1, Keep::Topics(&[swarm::Topic::Message])).hash;
    assert_eq!(kept, scenario.run(1, Keep::Nothing).hash);
}
