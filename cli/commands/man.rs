//! `man`: the manual pages.

use crate::args;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use std::io;

/// Print the manual page of fast-peer, or of one of its commands
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The command to print the page of, such as: seed; dht ping
    command: Vec<String>,
}

impl Args {
    pub(crate) fn run(self, out: &mut Output) -> Result<(), Failure> {
        let mut all = args::command();
        all.build();
        let mut page = &all;
        for name in &self.command {
            let found = page.find_subcommand(name);
            page = found.ok_or_else(|| {
                Failure::new(Exit::Option, format!("there is no command '{}'", self.command.join(" ")))
            })?;
        }
        let mut text = vec![];
        render(page.clone(), &mut text).expect("a vector takes everything");
        out.bytes(&text)
    }
}

fn render(page: clap::Command, to: &mut Vec<u8>) -> io::Result<()> {
    Man::new(page).render(to)?;
    let mut exits = Roff::new();
    exits.control("SH", ["EXIT STATUS"]);
    for exit in Exit::ALL {
        exits.control("TP", []);
        exits.text([bold(exit.code().to_string())]);
        exits.text([roman(format!("{} ({})", exit.meaning(), exit.name()))]);
    }
    exits.to_writer(to)
}

#[cfg(test)]
mod tests {
    use super::render;
    use crate::args;

    #[test]
    fn the_page_lists_commands_and_exit_codes() {
        let mut page = vec![];
        render(args::command(), &mut page).unwrap();
        let page = String::from_utf8(page).unwrap();
        for part in ["fast\\-peer\\-decode(1)", "EXIT STATUS", "disk_full"] {
            assert!(page.contains(part), "{part}");
        }
    }
}
