//! `magnet`: a link taken apart, or made from a torrent.

use super::Source;
use crate::exit::Failure;
use crate::output::Output;
use crate::view;
use fast_peer_core::magnet::Magnet;
use std::ffi::OsString;

/// Take a magnet link apart, or make one from a torrent file
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Magnet link, torrent file, or - for a torrent file on standard input
    source: OsString,
}

impl Args {
    pub(crate) fn run(self, out: &mut Output) -> Result<(), Failure> {
        match Source::read(&self.source)? {
            Source::Magnet(magnet) if out.is_json() => out.json(&view::magnet_json(&magnet)),
            Source::Magnet(magnet) => view::show_magnet(&magnet, out),
            Source::Torrent(torrent) if out.is_json() => {
                out.json(&view::magnet_json(&Magnet::from(&*torrent)))
            }
            Source::Torrent(torrent) => out.line(Magnet::from(&*torrent)),
        }
    }
}
