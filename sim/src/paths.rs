//! `sim utp`: how fast a stream is on many paths, how long it lets queues become, and what it leaves to others.

use clap::Args;
use core::time::Duration;
use sim::utp::{Control, Flow, Path, Plan, run};
use std::process::ExitCode;

/// Sends streams of uTP over many paths, alone and beside others.
#[derive(Debug, Args)]
pub(crate) struct UtpArgs {
    /// What the narrowest link carries, in Mbit/s.
    #[arg(long, default_value_t = 20)]
    rate: u64,
    /// How long each run takes, in seconds of the simulation.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// What is drawn from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub(crate) fn run_tables(args: &UtpArgs) -> ExitCode {
    alone(args);
    beside(args);
    together(args);
    ExitCode::SUCCESS
}

/// Throughput and queueing delay of a stream that is alone.
fn alone(args: &UtpArgs) {
    println!("alone: % of {} Mbit/s, mean / 95 % queueing delay in ms", args.rate);
    print!("{:>6} {:>6}", "rtt", "buffer");
    LOSSES.iter().for_each(|lost| print!("{:>17} % lost", *lost as f64 / 100.0));
    println!();
    for rtt in RTTS {
        for buffer in BUFFERS {
            print!("{rtt:>6} {buffer:>6}");
            for lost in LOSSES {
                let flows = [(Flow::Utp(None), Duration::ZERO)];
                let outcome = run(path(args, rtt, buffer, lost), plan(args, &flows));
                let (mean, high) = (outcome.mean_delay.as_millis(), outcome.high_delay.as_millis());
                print!("{:>12.1} {mean:>4} /{high:>4}", outcome.permille(0) as f64 / 10.0);
            }
            println!();
        }
    }
}

/// What a TCP keeps of what it has alone when a stream of uTP comes later.
fn beside(args: &UtpArgs) {
    println!("beside a TCP that was there before: % that it keeps, % of the link that uTP has");
    print!("{:>6} {:>6}", "rtt", "buffer");
    for control in CONTROLS {
        LOSSES[..2]
            .iter()
            .for_each(|lost| print!("{:>9} {} %", format!("{control:?}"), *lost as f64 / 100.0));
    }
    println!();
    for rtt in RTTS {
        for buffer in BUFFERS {
            print!("{rtt:>6} {buffer:>6}");
            for control in CONTROLS {
                for lost in &LOSSES[..2] {
                    let path = path(args, rtt, buffer, *lost);
                    let tcp = (Flow::Tcp(control), Duration::ZERO);
                    let alone = run(path, plan(args, &[tcp]));
                    let both = [tcp, (Flow::Utp(None), Duration::from_secs(5))];
                    let both = run(path, plan(args, &both));
                    let kept = both.carried[0] * 100 / alone.carried[0].max(1);
                    print!("{kept:>8}{:>6.1}", both.permille(1) as f64 / 10.0);
                }
            }
            println!();
        }
    }
}

/// What three streams make of one path.
fn together(args: &UtpArgs) {
    println!(
        "three streams: % of the link that each has, when all begin at once and when one comes after the other"
    );
    for rtt in RTTS {
        for buffer in BUFFERS {
            print!("{rtt:>6} {buffer:>6}");
            for gap in [0, 4] {
                let flows = [0, 1, 2].map(|i| (Flow::Utp(None), Duration::from_secs(i * gap)));
                let outcome = run(path(args, rtt, buffer, 0), plan(args, &flows));
                print!("    ");
                (0..3).for_each(|flow| print!("{:>6.1}", outcome.permille(flow) as f64 / 10.0));
            }
            println!();
        }
    }
}

fn path(args: &UtpArgs, rtt: u64, buffer: u64, lost: u64) -> Path {
    let (rtt, buffer) = (Duration::from_millis(rtt), Duration::from_millis(buffer));
    Path { rate_bytes_per_s: args.rate * 125_000, rtt, buffer, lost }
}

fn plan<'a>(args: &UtpArgs, flows: &'a [(Flow, Duration)]) -> Plan<'a> {
    let until = Duration::from_secs(args.seconds);
    Plan { flows, measured_from: until / 4, until, seed: args.seed }
}

const CONTROLS: [Control; 2] = [Control::Reno, Control::Cubic];

/// In milliseconds.
const RTTS: [u64; 4] = [10, 50, 100, 300];
const BUFFERS: [u64; 4] = [20, 50, 100, 500];

/// Of ten thousand packets.
const LOSSES: [u64; 4] = [0, 100, 200, 500];
