//! Torrents that are named by a link: what they hold is asked of peers, and kept for the next time.

use super::progress::{self, Progress};
use super::{Source, is_web_address, load, refuse_without_hashes};
use crate::engine::{self, Engine, interrupted};
use crate::exit::{Exit, Failure};
use crate::network::Network;
use crate::output::one_line;
use crate::paths;
use crate::way::{HostPort, Outside};
use fast_peer_core::id::{InfoHash, InfoHashes, TorrentId};
use fast_peer_core::magnet::Magnet;
use fast_peer_core::metainfo::{Metainfo, wrap_info};
use fast_peer_core::session::{NewContent, NewTorrent, Notice};
use fast_peer_core::wire::MAX_METADATA_LEN;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, interval, sleep_until};

/// Whom to ask for what a link names, and for how long.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Asking {
    /// A peer to connect to; may be repeated
    #[arg(long, value_name = "HOST:PORT", value_parser = HostPort::parse)]
    peer: Vec<HostPort>,
    /// A tracker to ask besides the link's own; may be repeated
    #[arg(long, value_name = "URL")]
    pub(crate) tracker: Vec<String>,
    /// Give up when nothing has come for so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..))]
    stop_timeout: u64,
    #[command(flatten)]
    network: Network,
    #[command(flatten)]
    progress: progress::Args,
}

impl Asking {
    /// What a link names: as it was kept, or else as peers tell.
    pub(crate) fn torrent(&self, magnet: &Magnet) -> Result<Arc<Metainfo>, Failure> {
        let mut new = linked(magnet)?;
        if let Some(content) = new.content {
            return Ok(content.metainfo);
        }
        new.trackers.extend(self.tracker.iter().map(|url| vec![url.clone()]));
        engine::block_on(async {
            let outside = self.network.way.open()?;
            new.peers.extend(outside.resolve(&self.peer).await?);
            let mut engine = self.network.start_briefly(&outside).await?;
            let hash = new.hashes.swarm();
            let id = engine.add_link(new);
            let patience = Some(Duration::from_secs(self.stop_timeout));
            let mut progress = Progress::new(&self.progress);
            let told = told(&mut engine, id, hash, patience, &mut progress).await;
            progress.end();
            engine.stop().await?;
            Ok(told?.metainfo)
        })
    }
}

/// The torrent that a user names: by a file, standard input, a web address, a magnet link, or its hash. What it holds is
/// not known in the last two cases, unless peers have told before.
pub(crate) async fn find(outside: &Outside, source: &OsStr) -> Result<NewTorrent, Failure> {
    let found = if is_web_address(source) {
        Source::Torrent(Box::new(load(outside, source).await?))
    } else {
        Source::read(source)?
    };
    match found {
        Source::Magnet(magnet) => linked(&magnet),
        Source::Torrent(torrent) => {
            refuse_without_hashes(&source.display().to_string(), &torrent)?;
            Ok(NewTorrent::new(Arc::new(*torrent)))
        }
    }
}

/// The torrent of a link.
pub(crate) fn linked(magnet: &Magnet) -> Result<NewTorrent, Failure> {
    let new = NewTorrent::try_from(magnet);
    let mut new = new.map_err(|error| Failure::new(Exit::Magnet, format!("magnet link: {error}")))?;
    if let Some(torrent) = kept(new.hashes) {
        let mut content = NewContent::new(Arc::new(torrent));
        if !new.select_only.is_empty() {
            content.select(&new.select_only);
        }
        new.content = Some(content);
    }
    Ok(new)
}

/// Waits until peers have told what a torrent holds, and keeps it; for `patience` after each piece that came.
pub(crate) async fn told(
    engine: &mut Engine,
    id: TorrentId,
    hash: InfoHash,
    patience: Option<Duration>,
    progress: &mut Progress,
) -> Result<NewContent, Failure> {
    let patience = patience.unwrap_or(FOREVER);
    let (mut end, mut pieces) = (Instant::now() + patience, 0);
    let mut tick = interval(TICK);
    let mut stop = std::pin::pin!(interrupted());
    let told = loop {
        tokio::select! {
            biased;
            _ = &mut stop => break Err(Failure::new(Exit::Unfinished, "stopped before peers told the metadata")),
            notice = engine.notice() => match notice {
                Some(Notice::Metadata { torrent, content }) if torrent == id => break Ok(*content),
                Some(Notice::MetadataUseless { error, .. }) => {
                    break Err(Failure::new(Exit::Torrent, format!("{hash}: {error}")));
                }
                Some(notice @ Notice::TrackerFailed { .. }) => {
                    progress.say(&format!("fast-peer: {}", one_line(&notice.to_string())));
                }
                Some(_) => {}
                None => break Err(Failure::new(Exit::Unknown, "the session ended")),
            },
            () = sleep_until(end) => {
                let why = engine.status(id).and_then(|status| status.waiting);
                let why = why.map_or_else(|| String::from("no reason known"), |waiting| waiting.to_string());
                break Err(Failure::new(Exit::Timeout, format!("{hash}: no metadata came in time: {why}")));
            }
            _ = tick.tick() => {
                if let Some(status) = engine.status(id) {
                    let have = status.metadata.map_or(0, |metadata| metadata.pieces_have);
                    if have > pieces {
                        (pieces, end) = (have, Instant::now() + patience);
                    }
                    progress.show(&[(hash.to_string(), status)]);
                }
            }
        }
    };
    let content = told?;
    refuse_without_hashes(&hash.to_string(), &content.metainfo)?;
    keep(&content.metainfo);
    Ok(content)
}

/// Keeps what peers told, so that they need not be asked again.
pub(crate) fn keep(torrent: &Metainfo) {
    let Some(path) = path(torrent.swarm_hash()) else { return };
    if let Err(error) = paths::replace(&path, &wrap_info(torrent.info(), &[], &[])) {
        tracing::debug!("{}: {error}", path.display());
    }
}

/// What peers told at another time.
pub(super) fn kept(hashes: InfoHashes) -> Option<Metainfo> {
    let mut bytes = vec![];
    File::open(path(hashes.swarm())?).ok()?.take(MAX_KEPT).read_to_end(&mut bytes).ok()?;
    // Whatever happened to the file, its hash tells.
    let torrent = Metainfo::parse(&bytes).ok().filter(|torrent| hashes.are_among(torrent.hashes()))?;
    refuse_without_hashes("kept metadata", &torrent).is_ok().then_some(torrent)
}

/// Whether what peers told of a torrent was kept.
pub(super) fn is_kept(hash: InfoHash) -> bool {
    path(hash).is_some_and(|path| path.exists())
}

fn path(hash: InfoHash) -> Option<PathBuf> {
    Some(paths::cache()?.join("metadata").join(format!("{hash}.torrent")))
}

/// The longest metadata that peers can tell, and what a torrent file has around it.
const MAX_KEPT: u64 = MAX_METADATA_LEN as u64 + 64;

/// Nobody waits for longer.
const FOREVER: Duration = Duration::from_secs(365 * 86_400);

/// How often progress is looked at.
const TICK: Duration = Duration::from_millis(500);
