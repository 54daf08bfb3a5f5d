//! `metadata`: what a magnet link leads to, as a torrent file.

use super::{Source, create, link};
use crate::exit::{Exit, Failure};
use crate::output::{Output, one_line};
use fast_peer_core::metainfo::wrap_info;
use serde_json::json;
use std::ffi::OsString;
use std::path::PathBuf;

/// Ask peers for the metadata of a magnet link, and write it as a torrent file
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Magnet link, or infohash
    magnet: OsString,
    /// The torrent file to write; - is standard output
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    /// Replace the file if it is there
    #[arg(short, long)]
    force: bool,
    #[command(flatten)]
    asking: link::Asking,
}

impl Args {
    pub(crate) fn run(self, out: &mut Output) -> Result<(), Failure> {
        let Source::Magnet(magnet) = Source::read(&self.magnet)? else {
            return Err(Failure::new(Exit::Magnet, "this is a torrent file already: name a magnet link"));
        };
        let to_file = self.out.as_os_str() != "-";
        if to_file && !self.force {
            create::refuse_to_replace(&self.out)?;
        }
        let torrent = self.asking.torrent(&magnet)?;
        let trackers = magnet.trackers.iter().chain(&self.asking.tracker);
        let trackers: Vec<_> = trackers.map(|url| vec![url.clone()]).collect();
        let bytes = wrap_info(torrent.info(), &trackers, &magnet.web_seeds);
        if !to_file {
            return out.bytes(&bytes);
        }
        create::write(&self.out, &bytes, self.force)?;
        let path = self.out.display().to_string();
        if out.is_json() {
            let (hash, len) = (torrent.swarm_hash().to_string(), bytes.len());
            return out
                .json(&json!({ "name": torrent.name(), "info_hash": hash, "bytes": len, "out": path }));
        }
        out.line(one_line(&format!("{path}: {}", torrent.name())))
    }
}
