//! `completions`: scripts that complete the command line in a shell.

use crate::args;
use crate::exit::Failure;
use crate::output::Output;
use clap_complete::Shell;

/// Print a script that completes fast-peer's command line
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell to print it for
    shell: Shell,
}

impl Args {
    pub(crate) fn run(self, out: &mut Output) -> Result<(), Failure> {
        let mut script = vec![];
        clap_complete::generate(self.shell, &mut args::command(), "fast-peer", &mut script);
        out.bytes(&script)
    }
}
