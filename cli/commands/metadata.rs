//! `metadata`: what a magnet link leads to, as a torrent file.

use super::{Source, create, link};
use crate::engine;
use crate::exit::{Exit, Failure};
use crate::network::Network;
use crate::output::{Output, one_line};
use fast_peer_core::metainfo::wrap_info;
use fast_peer_core::session::NewContent;
use serde_json::json;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

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
    /// A peer to connect to; may be repeated
    #[arg(long, value_name = "HOST:PORT", value_parser = super::download::peer)]
    peer: Vec<SocketAddr>,
    /// A tracker to ask besides the link's own; may be repeated
    #[arg(long, value_name = "URL")]
    tracker: Vec<String>,
    /// Give up after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..))]
    stop_timeout: u64,
    #[command(flatten)]
    network: Network,
}

impl Args {
    pub(crate) fn run(self, out: &mut Output) -> Result<(), Failure> {
        engine::refuse_proxy()?;
        let Source::Magnet(magnet) = Source::read(&self.magnet)? else {
            return Err(Failure::new(Exit::Magnet, "this is a torrent file already: name a magnet link"));
        };
        let to_file = self.out.as_os_str() != "-";
        if to_file && !self.force {
            create::refuse_to_replace(&self.out)?;
        }
        let mut new = link::linked(&magnet)?;
        let trackers: Vec<_> = new.trackers.iter().chain([&self.tracker]).cloned().collect();
        let content = match new.content.take() {
            Some(content) => content,
            None => {
                new.peers.extend(&self.peer);
                new.trackers.clone_from(&trackers);
                let patience = Duration::from_secs(self.stop_timeout);
                engine::block_on(link::fetch(new, &self.network, Some(patience)))?
            }
        };
        let NewContent { metainfo: torrent, .. } = content;
        let trackers: Vec<_> = trackers.into_iter().filter(|tier| !tier.is_empty()).collect();
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
