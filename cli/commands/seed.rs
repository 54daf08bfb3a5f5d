//! `seed`: share what is there.

use super::{link, load_whole};
use crate::engine::{Engine, interrupted};
use crate::exit::{Exit, Failure};
use crate::network::Network;
use crate::output::{Output, one_line};
use crate::port_map;
use crate::storage;
use crate::way::{HostPort, Outside};
use crate::{engine, output};
use fast_peer_core::id::TorrentId;
use fast_peer_core::metainfo::Metainfo;
use fast_peer_core::pieces::Priority;
use fast_peer_core::session::{NewContent, NewTorrent, Notice};
use serde_json::json;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, interval, sleep_until};

/// Share a torrent's files with its peers
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Torrent file or http(s) URL of one, or a magnet link or infohash of which peers have told the metadata before
    #[arg(required_unless_present = "torrents", value_name = "TORRENT")]
    torrent: Option<OsString>,
    /// Its file or folder, or the folder that holds it [default: the working folder]
    #[arg(value_name = "DATA")]
    data: Option<PathBuf>,
    /// Seed every torrent file of a folder; then the only other argument is the folder that holds the data
    #[arg(long, value_name = "DIR")]
    torrents: Option<PathBuf>,
    /// A peer to connect to; may be repeated
    #[arg(long, value_name = "HOST:PORT", value_parser = HostPort::parse)]
    peer: Vec<HostPort>,
    /// A tracker to tell besides the torrent's own; may be repeated
    #[arg(long, value_name = "URL")]
    tracker: Vec<String>,
    /// End when so many times the size is uploaded
    #[arg(long, value_name = "RATIO")]
    seed_ratio: Option<f64>,
    /// End after so many minutes
    #[arg(long, value_name = "MINUTES")]
    seed_time: Option<u64>,
    #[command(flatten)]
    network: Network,
}

impl Args {
    pub(crate) fn run(self, out: &mut Output) -> Result<(), Failure> {
        engine::block_on(self.seed(out))
    }

    async fn seed(self, out: &mut Output) -> Result<(), Failure> {
        let outside = self.network.way.open()?;
        let torrents = self.all_torrents(&outside).await?;
        let peers = outside.resolve(&self.peer).await?;
        let mut config = self.network.config()?;
        // Many torrents check their files at once and share the connections.
        config.max_connections = config.max_connections.max(500);
        let (mut engine, port) = self.network.start_with(&outside, config).await?;
        let mut names = BTreeMap::new();
        let mut total = 0;
        for (mut new, data) in torrents {
            let content = new.content.as_ref().expect("what is not known is refused");
            let torrent = Arc::clone(&content.metainfo);
            let priorities = vec![Priority::Normal; torrent.files().len()];
            let spec = storage::existing(&torrent, &data, &priorities)?;
            total += torrent.lengths().total();
            new.seed_only = true;
            new.peers.extend(&peers);
            new.trackers.extend(self.tracker.iter().map(|url| vec![url.clone()]));
            names.insert(engine.add(new, spec), torrent);
        }
        let result = self.watch(&mut engine, &names, total, port, out).await;
        engine.stop().await?;
        result
    }

    async fn watch(
        &self,
        engine: &mut Engine,
        names: &BTreeMap<TorrentId, Arc<Metainfo>>,
        total: u64,
        port: Option<u16>,
        out: &mut Output,
    ) -> Result<(), Failure> {
        let end = self.seed_time.map(|minutes| Instant::now() + Duration::from_secs(60 * minutes));
        let far = Instant::now() + Duration::from_secs(365 * 86_400);
        let mut stop = std::pin::pin!(interrupted());
        let mut tick = interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                biased;
                _ = &mut stop => return Ok(()),
                () = sleep_until(end.unwrap_or(far)) => return Ok(()),
                notice = engine.notice() => match notice {
                    Some(notice) => tell(&notice, names, port, out)?,
                    None => return Ok(()),
                },
                _ = tick.tick() => {
                    let up = |id: &TorrentId| engine.status(*id).map_or(0, |status| status.up_bytes);
                    let uploaded: u64 = names.keys().map(up).sum();
                    if self.seed_ratio.is_some_and(|ratio| uploaded as f64 >= ratio * total as f64) {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// What to seed, and where it is. What it holds is known of each.
    async fn all_torrents(&self, outside: &Outside) -> Result<Vec<(NewTorrent, PathBuf)>, Failure> {
        let Some(folder) = &self.torrents else {
            let source = self.torrent.as_ref().expect("the parser asks for one of both");
            let data = self.data.clone().unwrap_or_else(|| PathBuf::from("."));
            let mut new = link::find(outside, source).await?;
            let Some(content) = new.content else {
                let message =
                    format!("{}: what it holds is not known here: download it first", source.display());
                return Err(Failure::new(Exit::Magnet, message));
            };
            // Whatever files the link selects: what is shared is all that it names.
            new.content = Some(NewContent::new(content.metainfo));
            return Ok(vec![(new, data)]);
        };
        let data = self.torrent.as_ref().map_or_else(|| PathBuf::from("."), PathBuf::from);
        let entries = std::fs::read_dir(folder).map_err(|e| Failure::io(Exit::Open, folder.display(), &e))?;
        let mut paths = vec![];
        for entry in entries {
            let path = entry.map_err(|e| Failure::io(Exit::Io, folder.display(), &e))?.path();
            if path.extension().is_some_and(|extension| extension == "torrent") {
                paths.push(path);
            }
        }
        paths.sort();
        let mut torrents = vec![];
        for path in paths {
            let torrent = Arc::new(load_whole(outside, path.as_os_str()).await?);
            torrents.push((NewTorrent::new(torrent), data.clone()));
        }
        if torrents.is_empty() {
            return Err(Failure::new(Exit::Open, format!("{}: no torrent in it", folder.display())));
        }
        Ok(torrents)
    }
}

fn tell(
    notice: &Notice,
    names: &BTreeMap<TorrentId, Arc<Metainfo>>,
    port: Option<u16>,
    out: &mut Output,
) -> Result<(), Failure> {
    let name = |id: &TorrentId| names.get(id).map_or("?", |torrent| torrent.name());
    match notice {
        Notice::Seeding { torrent } if out.is_json() => {
            out.json(&json!({ "event": "seeding", "name": name(torrent), "port": port }))?;
        }
        Notice::Seeding { torrent } => {
            let port = port.map_or_else(String::new, |port| format!(" on port {port}"));
            out.line(format_args!("{}: seeding{port}", one_line(name(torrent))))?;
        }
        Notice::Checked { torrent, pieces } => {
            let all = names.get(torrent).map_or(0, |torrent| torrent.lengths().piece_count());
            if *pieces < all {
                let missing = all - pieces;
                return Err(Failure::new(
                    Exit::Checksum,
                    format!(
                        "{}: {missing} of {all} pieces are missing or wrong; download them first",
                        name(torrent)
                    ),
                ));
            }
        }
        Notice::DiskTrouble { .. } | Notice::PieceLost { .. } | Notice::TrackerFailed { .. } => {
            eprintln!("fast-peer: {}", output::one_line(&notice.to_string()));
        }
        _ => port_map::tell(notice, out)?,
    }
    out.flush()
}
