//! `verify`: compare files with the hashes of their torrent.

use super::load_whole;
use crate::engine::{self, Engine};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::storage;
use crate::way::{Outside, Way};
use fast_peer_core::pieces::Priority;
use fast_peer_core::session::{Config, NewContent, NewTorrent, Notice};
use serde_json::json;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

/// Check files against the hashes of their torrent
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Torrent file or http(s) URL of one
    torrent: OsString,
    /// Its file or folder, or the folder that holds it
    #[arg(default_value = ".")]
    data: PathBuf,
    #[command(flatten)]
    way: Way,
}

impl Args {
    pub(crate) fn run(self, out: &mut Output) -> Result<(), Failure> {
        engine::block_on(self.verify(out))
    }

    async fn verify(self, out: &mut Output) -> Result<(), Failure> {
        let torrent = Arc::new(load_whole(&self.way.open()?, &self.torrent).await?);
        // Nothing is wanted under a name, so nothing is created or renamed.
        let priorities = vec![Priority::Skip; torrent.files().len()];
        let wanted = vec![Priority::Normal; torrent.files().len()];
        let spec = storage::existing(&torrent, &self.data, &wanted)?;
        let (mut engine, _) = Engine::start(&Outside::direct(&[]), Config::default(), None).await?;
        let content = NewContent { priorities, ..NewContent::new(Arc::clone(&torrent)) };
        let new = NewTorrent { check_only: true, ..content.into() };
        let id = engine.add(new, spec);
        let good = loop {
            match engine.notice().await {
                Some(Notice::Checked { torrent, pieces }) if torrent == id => break pieces,
                Some(Notice::DiskTrouble { error, .. }) => {
                    return Err(Failure::new(Exit::Io, format!("{}: {error}", self.data.display())));
                }
                Some(_) => {}
                None => return Err(Failure::new(Exit::Unknown, "the session ended")),
            }
        };
        let have = engine.with_session(|session| session.content(id).map(|content| content.stored().clone()));
        engine.stop().await?;
        let all = torrent.lengths().piece_count();
        let bad: Vec<u32> = have
            .iter()
            .flat_map(|have| torrent.lengths().pieces().filter(|piece| !have.has(*piece)))
            .map(|piece| piece.get())
            .collect();
        if out.is_json() {
            out.json(&json!({ "name": torrent.name(), "pieces": all, "good": good, "bad": bad }))?;
        } else {
            out.checked(torrent.name(), good, all)?;
        }
        out.flush()?;
        match bad.first() {
            None => Ok(()),
            Some(first) => {
                let count = bad.len();
                let message = format!(
                    "{}: {count} pieces are missing or wrong, the first is {first}",
                    self.data.display()
                );
                Err(Failure::new(Exit::Checksum, message))
            }
        }
    }
}
