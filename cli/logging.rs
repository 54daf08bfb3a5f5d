//! What goes on inside, for whoever wants to know: on standard error, or in a file.

use crate::exit::{Exit, Failure};
use std::fs::File;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use tracing_subscriber::EnvFilter;

/// How much to log, and where to.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Logging {
    /// Log what happens; twice, log all that enters and leaves the protocol core. RUST_LOG chooses more finely
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Log to the end of a file rather than to standard error
    #[arg(long, global = true, value_name = "FILE")]
    log_file: Option<PathBuf>,
}

impl Logging {
    /// Logs from here on.
    pub(crate) fn start(&self) -> Result<(), Failure> {
        let log = tracing_subscriber::fmt().with_env_filter(self.filter()?);
        match &self.log_file {
            Some(path) => {
                let file = File::options().create(true).append(true).open(path);
                let file = file.map_err(|error| Failure::io(Exit::Create, path.display(), &error))?;
                log.with_ansi(false).with_writer(file).init();
            }
            None => {
                let colours = std::io::stderr().is_terminal()
                    && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
                log.with_ansi(colours).with_writer(std::io::stderr).init();
            }
        }
        Ok(())
    }

    fn filter(&self) -> Result<EnvFilter, Failure> {
        let usual = match self.verbose {
            0 => "warn",
            1 => "info",
            // Other crates' traces would bury ours.
            _ => "info,fast_peer=trace,fast_peer_core=trace,fast_peer_io=trace",
        };
        match std::env::var("RUST_LOG") {
            // What is on the command line was typed later.
            Ok(directives) if self.verbose == 0 && !directives.is_empty() => EnvFilter::try_new(directives)
                .map_err(|error| Failure::new(Exit::Option, format!("RUST_LOG: {error}"))),
            _ => Ok(EnvFilter::new(usual)),
        }
    }
}
