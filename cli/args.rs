//! The command line as a whole. Each command has its arguments in its own module.

use crate::commands;
use crate::exit::Failure;
use crate::logging::Logging;
use crate::output::Output;
use clap::builder::BoolishValueParser;
use clap::{ArgAction, CommandFactory as _, Parser, Subcommand};

/// A BitTorrent client.
#[derive(Debug, Parser)]
#[command(name = "fast-peer", version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Cli {
    /// Print results and errors as JSON, one value a line
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) logging: Logging,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Completions(commands::completions::Args),
    Create(commands::create::Args),
    Decode(commands::decode::Args),
    Demo(commands::demo::Args),
    Dht(commands::dht::Args),
    #[command(alias = "magnet_download")]
    Download(commands::download::Args),
    #[command(aliases = ["nhandshake", "magnet_handshake"])]
    Handshake(commands::handshake::Args),
    Info(commands::info::Args),
    /// Show what a magnet link leads to; `info --fetch --hashes` is the same
    #[command(name = "magnet_info", hide = true)]
    MagnetInfo(commands::info::Args),
    #[command(alias = "magnet_parse")]
    Magnet(commands::magnet::Args),
    Man(commands::man::Args),
    Metadata(commands::metadata::Args),
    Peers(commands::peers::Args),
    #[command(aliases = ["download_piece", "magnet_download_piece"])]
    Piece(commands::piece::Args),
    Scrape(commands::scrape::Args),
    Seed(commands::seed::Args),
    Verify(commands::verify::Args),
}

impl Command {
    pub(crate) fn run(self, out: &mut Output) -> Result<(), Failure> {
        match self {
            Self::Completions(args) => args.run(out),
            Self::Create(args) => args.run(out),
            Self::Decode(args) => args.run(out),
            Self::Demo(args) => args.run(out),
            Self::Dht(args) => args.run(out),
            Self::Download(args) => args.run(out),
            Self::Handshake(args) => args.run(out),
            Self::Info(args) => args.run(out),
            Self::MagnetInfo(args) => args.run_fetching(out),
            Self::Magnet(args) => args.run(out),
            Self::Man(args) => args.run(out),
            Self::Metadata(args) => args.run(out),
            Self::Peers(args) => args.run(out),
            Self::Piece(args) => args.run(out),
            Self::Scrape(args) => args.run(out),
            Self::Seed(args) => args.run(out),
            Self::Verify(args) => args.run(out),
        }
    }
}

/// The whole command line; each long flag can also be set in the environment, as `FAST_PEER_` and its name. A hidden
/// flag only restates a default, which is no setting.
pub(crate) fn command() -> clap::Command {
    with_environment(Cli::command())
}

fn with_environment(command: clap::Command) -> clap::Command {
    command.mut_args(from_environment).mut_subcommands(with_environment)
}

fn from_environment(arg: clap::Arg) -> clap::Arg {
    match arg.get_long() {
        Some(long) if !arg.is_hide_set() => {
            let variable = format!("FAST_PEER_{}", long.to_uppercase().replace('-', "_"));
            let arg = arg.env(variable).hide_env_values(true);
            // 1, yes and on are true as well.
            let is_switch = matches!(arg.get_action(), ArgAction::SetTrue);
            if is_switch { arg.value_parser(BoolishValueParser::new()) } else { arg }
        }
        _ => arg,
    }
}

#[cfg(test)]
mod tests {
    use super::{Cli, command};
    use clap::{FromArgMatches as _, error::ErrorKind};

    #[test]
    fn the_definitions_hold_together() {
        command().debug_assert();
    }

    #[test]
    fn old_names_still_work() {
        let parsed = command().try_get_matches_from(["fast-peer", "magnet_parse", "magnet:?"]);
        assert!(Cli::from_arg_matches(&parsed.unwrap()).is_ok());
        let unknown = command().try_get_matches_from(["fast-peer", "no-such-command"]);
        assert_eq!(unknown.unwrap_err().kind(), ErrorKind::InvalidSubcommand);
    }
}
