//! Every scenario of the swarm simulator, twice with one seed: it passes, and both runs leave the same trace.
//! `SIM_SEED` names another seed than 1.

use sim::swarm::{self, Keep};

fn holds(name: &str) {
    let seed = std::env::var("SIM_SEED").map_or(1, |seed| seed.parse().expect("a seed is a number"));
    let scenarios = swarm::all();
    let scenario = scenarios.iter().find(|scenario| scenario.name == name).expect("the scenario exists");
    let first = scenario.run(seed, Keep::Nothing);
    println!("{first}");
    assert!(first.failure.is_none(), "{first}");
    let second = scenario.run(seed, Keep::Nothing);
    assert_eq!(first.hash, second.hash, "seed {seed} of {name} gives two traces");
}

macro_rules! scenarios {
    ($($test:ident $name:literal,)*) => {
        $(#[test] fn $test() { holds($name); })*

        #[test]
        fn every_scenario_is_tested() {
            let tested = [$($name),*];
            for scenario in swarm::all() {
                assert!(tested.contains(&scenario.name), "{} is not tested", scenario.name);
            }
        }
    };
}

scenarios! {
    cable_cut "cable-cut",
    choker "choker",
    crowd "crowd",
    disk_errors "disk-errors",
    disk_full "disk-full",
    false_haver "false-haver",
    files "files",
    flooder "flooder",
    hybrid "hybrid",
    liar "liar",
    lossy_links "lossy-links",
    many_torrents "many-torrents",
    mute "mute",
    power_cut "power-cut",
    rate_limits "rate-limits",
    resets "resets",
    seeder_leaves "seeder-leaves",
    staller "staller",
    stop "stop",
    tracker_down "tracker-down",
    udp_tracker "udp-tracker",
    v2 "v2",
}
