//! `sim dht`: trials of networks of DHT nodes, and their figures.

use clap::{Args, ValueEnum};
use core::time::Duration;
use sim::dht::{Attack, Options, Start, Tally, Torrent, World};
use std::process::ExitCode;

/// Lets a network of DHT nodes grow, and looks up what was announced in it.
#[derive(Debug, Args)]
pub(crate) struct DhtArgs {
    /// How many nodes there are.
    #[arg(long, default_value_t = 1000)]
    nodes: usize,
    /// How many torrents are announced, and looked up.
    #[arg(long, default_value_t = 1000)]
    lookups: usize,
    /// At last, of a hundred nodes so many leave each minute, and as many others join. Lookups follow 1, 5 and 12 minutes
    /// after the announce.
    #[arg(long, default_value_t = 0)]
    churn: u32,
    /// Then somebody tries to hide what is announced, and stays to the end.
    #[arg(long)]
    attack: Option<AttackArg>,
    /// How many of a hundred nodes are attackers, if they are anywhere.
    #[arg(long, default_value_t = 20)]
    attackers: u8,
    /// Torrents are also looked up by nodes that just start: with a saved table, and with one address.
    #[arg(long)]
    cold: bool,
    /// The shortest delay of a link in milliseconds, one way.
    #[arg(long, default_value_t = 20)]
    min_delay: u64,
    /// The longest.
    #[arg(long, default_value_t = 140)]
    max_delay: u64,
    /// Of a thousand packets so many are lost.
    #[arg(long, default_value_t = 5)]
    loss: u32,
    /// Tables without wide rows: for networks that would not fit into memory.
    #[arg(long)]
    narrow: bool,
    /// One of so many nodes is watched.
    #[arg(long, default_value_t = 500)]
    watch_every: u32,
    /// What the network is drawn from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AttackArg {
    /// As close to one torrent as BEP 42 allows, on 64 /24s in 16 /16s.
    Eclipse,
    /// Anywhere.
    Sybils,
}

pub(crate) fn run(args: &DhtArgs) -> ExitCode {
    let delay = (Duration::from_millis(args.min_delay), Duration::from_millis(args.max_delay));
    let options = Options {
        seed: args.seed,
        delay,
        loss_permille: args.loss,
        wide: !args.narrow,
        watch_every: args.watch_every.max(1),
    };
    let mut world = World::new(options);
    let mut clock = Clock::new();
    let settled = world.settle(args.nodes);
    println!(
        "{} nodes joined in {} s and settled in {} s more; {} found their neighbours",
        world.population(),
        settled.joined_in.as_secs(),
        settled.settled_in.as_secs(),
        settled.bootstrapped,
    );
    println!(
        "a table knows {} nodes in {} bytes{}",
        world.known() / world.population(),
        world.table_bytes() / world.population(),
        memory()
            .map_or(String::new(), |bytes| format!("; {} bytes a node in all", bytes / world.population())),
    );
    clock.show(&world);
    look_up(&mut world, args.lookups, args.cold);
    clock.show(&world);
    if let Some(attack) = args.attack {
        let attack = match attack {
            AttackArg::Eclipse => Attack::Eclipse,
            AttackArg::Sybils => Attack::Sybils(args.attackers.min(90)),
        };
        let torrents = (args.lookups / LOOKUPS_EACH).clamp(1, MAX_ATTACKED);
        let (tally, planted) = world.attacked(attack, torrents, LOOKUPS_EACH);
        println!("of the nodes named close to a torrent {}.{} % are attackers", planted / 10, planted % 10);
        show("under attack", &tally);
        clock.show(&world);
    }
    if args.churn > 0 {
        come_and_go(&mut world, args.lookups, args.churn);
        clock.show(&world);
    }
    println!("{} checks, {} rules broken", world.checks(), world.breaches().len());
    world.breaches().iter().take(10).for_each(|breach| println!("{breach}"));
    if world.breaches().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Look-ups in a network at peace.
fn look_up(world: &mut World, lookups: usize, cold: bool) {
    let torrents = announce(world, lookups);
    let placed = world.placed_permille(&torrents);
    println!("of the closest 8 nodes {}.{} % hold the peer", placed / 10, placed % 10);
    show("look up", &world.look_up_all(&torrents));
    if cold {
        // Who starts again has forgotten what was announced to it.
        let torrents = &torrents[..torrents.len().min(world.population() / 50)];
        for gone in [0, 30, 60] {
            let name = format!("with a saved table, {gone} % gone");
            show(&name, &world.cold_starts(torrents, Start::Saved { gone }));
        }
        show("with one address", &world.cold_starts(torrents, Start::OneNode));
    }
}

/// Look-ups while nodes come and go.
fn come_and_go(world: &mut World, lookups: usize, percent_per_min: u32) {
    println!("{percent_per_min} % leave each minute");
    world.churn(WARM_UP, percent_per_min);
    let torrents = announce(world, lookups);
    let mut since = 0;
    for minute in [1, 5, 12] {
        world.churn(Duration::from_secs(60 * (minute - since)), percent_per_min);
        since = minute;
        let placed = world.placed_permille(&torrents);
        println!("after {minute} min {}.{} % of the closest 8 nodes hold the peer", placed / 10, placed % 10);
        show("look up", &world.look_up_all(&torrents));
    }
}

fn announce(world: &mut World, count: usize) -> Vec<Torrent> {
    let (torrents, announced) = world.announce(count);
    let stored = announced.stored as usize / announced.lookups.max(1);
    println!("announce: stored at {stored} nodes; {}", announced.steps());
    torrents
}

fn show(what: &str, tally: &Tally) {
    println!("{what}: {tally}");
}

/// How fast the simulation runs.
struct Clock {
    started: std::time::Instant,
    events: u64,
}

impl Clock {
    fn new() -> Self {
        Self { started: now(), events: 0 }
    }

    fn show(&mut self, world: &World) {
        let took = self.started.elapsed();
        let events = world.events() - self.events;
        let rate = u128::from(events) * 1000 / took.as_millis().max(1);
        println!(
            "  at {} s: {events} events in {} s, {rate} a second, {} packets so far",
            world.elapsed().as_secs(),
            took.as_secs(),
            world.packets(),
        );
        *self = Self { started: now(), events: world.events() };
    }
}

#[expect(clippy::disallowed_methods, reason = "how long the simulation takes is not part of it")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

/// The memory of this process, where the system tells.
fn memory() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: usize = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// So long nodes come and go before anything is announced.
const WARM_UP: Duration = Duration::from_secs(120);

/// Each torrent that is hidden takes minutes.
const MAX_ATTACKED: usize = 4;

/// How many nodes look up a torrent that somebody tries to hide.
const LOOKUPS_EACH: usize = 50;
