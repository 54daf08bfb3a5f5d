//! The fast-peer command: arguments in, results and exit codes out. What they mean is decided in the crates below.

mod args;
mod commands;
mod engine;
mod exit;
mod logging;
mod met;
mod network;
mod output;
mod paths;
mod port_map;
mod storage;
mod trackers;
mod utp;
mod view;
mod way;

use clap::FromArgMatches as _;
use exit::{Exit, Failure};
use output::Output;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Usage errors come before there are options to ask.
    let json_wanted = std::env::args_os().any(|arg| arg == "--json");
    let parsed = args::command().try_get_matches().and_then(|matches| args::Cli::from_arg_matches(&matches));
    match parsed {
        Ok(cli) => {
            let mut out = Output::new(cli.json);
            let done =
                cli.logging.start().and_then(|()| cli.command.run(&mut out)).and_then(|()| out.flush());
            finish(done, &mut out)
        }
        Err(error) if error.use_stderr() => {
            let message = error.to_string();
            // The first line says what is wrong; the usage below it is for people only.
            let (first, usage) = message.split_once('\n').unwrap_or((&message, ""));
            let first = first.strip_prefix("error: ").unwrap_or(first);
            let code = finish(Err(Failure::new(Exit::Option, first)), &mut Output::new(json_wanted));
            if !json_wanted {
                eprint!("{usage}");
            }
            code
        }
        Err(help) => {
            let mut out = Output::new(false);
            let done = out.text(&help.render()).and_then(|()| out.flush());
            finish(done, &mut out)
        }
    }
}

/// Tells what went wrong, on standard error and with `--json` on standard output as well.
fn finish(done: Result<(), Failure>, out: &mut Output) -> ExitCode {
    let Err(failure) = done else { return Exit::Success.into() };
    // A reader that has seen enough, such as `head`, is no failure and wants to hear no more.
    if failure.is_closed_pipe() {
        return Exit::Success.into();
    }
    eprintln!("fast-peer: {}", output::one_line(&failure.message));
    if out.is_json() {
        // When this cannot be written either, the exit code still tells.
        let _: Result<(), Failure> = out.json(&failure.to_json()).and_then(|()| out.flush());
    }
    failure.exit.into()
}
