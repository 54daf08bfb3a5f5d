//! Runs named scenarios by hand: `cargo run -p sim -- --scenario liar --seed 7 --trace`.

mod network;
mod paths;

use clap::{Parser, Subcommand};
use sim::swarm::{self, Keep, Scenario};
use std::process::ExitCode;

/// Runs simulated swarms.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// The scenario to run; all of them without it.
    #[arg(long)]
    scenario: Option<String>,
    /// The seed to start from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds to run, one after another.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Print every line of the run.
    #[arg(long)]
    trace: bool,
    /// Print nothing but the scenario, the seed and the hash of the trace.
    #[arg(long, conflicts_with = "trace")]
    hash_only: bool,
    /// Print the scenarios.
    #[arg(long)]
    list: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A network of DHT nodes.
    Dht(network::DhtArgs),
    /// Streams of uTP on many paths.
    Utp(paths::UtpArgs),
}

fn main() -> ExitCode {
    let args = Args::parse();
    match &args.command {
        Some(Command::Dht(args)) => return network::run(args),
        Some(Command::Utp(args)) => return paths::run_tables(args),
        None => {}
    }
    let scenarios = swarm::all();
    if args.list {
        scenarios.iter().for_each(|scenario| println!("{:16} {}", scenario.name, scenario.about));
        return ExitCode::SUCCESS;
    }
    let named = |scenario: &&Scenario| args.scenario.as_deref().is_none_or(|name| name == scenario.name);
    let chosen: Vec<_> = scenarios.iter().filter(named).collect();
    if chosen.is_empty() {
        eprintln!("no scenario has this name; --list shows them");
        return ExitCode::from(2);
    }
    let keep = if args.trace { Keep::Print } else { Keep::Nothing };
    let mut failed = false;
    for scenario in chosen {
        for seed in args.seed..args.seed.saturating_add(args.seeds) {
            let outcome = scenario.run(seed, keep);
            failed |= outcome.failure.is_some();
            if args.hash_only {
                println!("{} {} {}", outcome.name, outcome.seed, outcome.hash);
            } else {
                println!("{outcome}");
            }
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
