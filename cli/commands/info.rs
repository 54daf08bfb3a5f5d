//! `info`: what a torrent or magnet link says.

use super::{Source, link};
use crate::exit::Failure;
use crate::output::Output;
use crate::view;
use std::ffi::OsString;
use std::sync::Arc;

/// Show what a torrent or magnet link says
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Torrent file, magnet link, infohash, or - for a torrent file on standard input
    source: OsString,
    /// Ask peers what a magnet link or an infohash leads to. Without this nothing is sent to anybody
    #[arg(long)]
    fetch: bool,
    /// List the files as well
    #[arg(long)]
    files: bool,
    /// List the hashes of the pieces as well
    #[arg(long)]
    hashes: bool,
    #[command(flatten)]
    asking: link::Asking,
}

impl Args {
    /// As the prototype's `magnet_info`.
    pub(crate) fn run_fetching(self, out: &mut Output) -> Result<(), Failure> {
        Self { fetch: true, hashes: true, ..self }.run(out)
    }

    pub(crate) fn run(self, out: &mut Output) -> Result<(), Failure> {
        let torrent = match Source::read(&self.source)? {
            Source::Torrent(torrent) => Arc::from(torrent),
            Source::Magnet(magnet) if self.fetch => self.asking.torrent(&magnet)?,
            Source::Magnet(magnet) if out.is_json() => return out.json(&view::magnet_json(&magnet)),
            Source::Magnet(magnet) => return view::show_magnet(&magnet, out),
        };
        if out.is_json() {
            let mut json = view::torrent_json(&torrent);
            if self.hashes {
                json["piece_hashes"] = view::piece_hashes(&torrent).into();
            }
            return out.json(&json);
        }
        view::show_torrent(&torrent, out)?;
        if self.files {
            view::show_files(&torrent, out)?;
        }
        if self.hashes {
            out.line("Piece Hashes:")?;
            for hash in view::piece_hashes(&torrent) {
                out.line(hash.as_deref().unwrap_or("unknown until peers send the piece layer"))?;
            }
        }
        Ok(())
    }
}
