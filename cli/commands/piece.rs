//! `piece`: one piece of a torrent, and nothing else.

use super::progress::{self, Progress};
use super::{create, link};
use crate::engine::{self, Engine, interrupted};
use crate::exit::{Exit, Failure};
use crate::network::Network;
use crate::output::{Output, one_line, size};
use crate::storage;
use crate::way::HostPort;
use fast_peer_core::id::{JobId, TorrentId};
use fast_peer_core::lengths::PieceIndex;
use fast_peer_core::metainfo::Metainfo;
use fast_peer_core::pieces::Priority;
use fast_peer_core::session::{NewContent, NewTorrent, Notice};
use fast_peer_core::store::op::{DiskOp, DiskOutput};
use fast_peer_io::disk::{Disk as _, Files, StorageSpec};
use serde_json::json;
use std::ffi::OsString;
use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, interval};

/// Download one piece of a torrent, and check it
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Torrent file, http(s) URL of one, magnet link, or infohash
    torrent: OsString,
    /// The number of the piece; they count from 0
    index: u32,
    /// The file to write, - for standard output
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    /// Replace the file if it is there already
    #[arg(short, long)]
    force: bool,
    /// A peer to connect to; may be repeated
    #[arg(long, value_name = "HOST:PORT", value_parser = HostPort::parse)]
    peer: Vec<HostPort>,
    /// A tracker to ask besides the torrent's own; may be repeated
    #[arg(long, value_name = "URL")]
    tracker: Vec<String>,
    /// Give up when nothing has come for so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    stop_timeout: u64,
    #[command(flatten)]
    network: Network,
    #[command(flatten)]
    progress: progress::Args,
}

/// A piece in a folder.
struct Stored {
    torrent: Arc<Metainfo>,
    piece: PieceIndex,
    storage: StorageSpec,
}

impl Args {
    pub(crate) fn run(self, out: &mut Output) -> Result<(), Failure> {
        engine::block_on(async {
            let outside = self.network.way.open()?;
            let mut new = link::find(&outside, &self.torrent).await?;
            new.peers.extend(outside.resolve(&self.peer).await?);
            if let Some(content) = &new.content {
                self.piece_of(&content.metainfo)?;
            }
            let to_file = self.out.as_os_str() != "-";
            if to_file && !self.force {
                create::refuse_to_replace(&self.out)?;
            }
            let folder = tempfile::tempdir();
            let folder = folder.map_err(|error| Failure::io(Exit::Directory, "temporary folder", &error))?;
            let (mut engine, _) = self.network.start(&outside).await?;
            let mut progress = Progress::new(&self.progress);
            let stored = self.download(&mut engine, new, folder.path(), &mut progress).await;
            progress.end();
            engine.stop().await?;
            let Stored { torrent, piece, storage } = stored?;
            let bytes = read_back(&torrent, piece, storage).await?;
            if !to_file {
                return out.bytes(&bytes);
            }
            create::write(&self.out, &bytes, self.force)?;
            self.report(&torrent, bytes.len(), out)
        })
    }

    fn piece_of(&self, torrent: &Metainfo) -> Result<PieceIndex, Failure> {
        let count = torrent.lengths().piece_count();
        let piece = torrent.lengths().piece(self.index);
        piece.ok_or_else(|| {
            let message =
                format!("there is no piece {}: the torrent has {count}, counted from 0", self.index);
            Failure::new(Exit::Option, message)
        })
    }

    async fn download(
        &self,
        engine: &mut Engine,
        mut new: NewTorrent,
        folder: &Path,
        progress: &mut Progress,
    ) -> Result<Stored, Failure> {
        new.trackers.extend(self.tracker.iter().map(|url| vec![url.clone()]));
        let (id, stored) = match new.content.take() {
            Some(content) => {
                let (content, stored) = self.choose(content, folder)?;
                new.content = Some(content);
                (engine.add(new, stored.storage.clone()), stored)
            }
            None => {
                let (hash, patience) = (new.hashes.swarm(), Duration::from_secs(self.stop_timeout));
                let id = engine.add_link(new);
                let content = link::told(engine, id, hash, Some(patience), progress).await?;
                let (content, stored) = self.choose(content, folder)?;
                engine.set_content(id, content, stored.storage.clone());
                (id, stored)
            }
        };
        self.wait(engine, id, &stored, progress).await?;
        Ok(stored)
    }

    /// The piece alone, whatever files it belongs to.
    fn choose(&self, content: NewContent, folder: &Path) -> Result<(NewContent, Stored), Failure> {
        let torrent = content.metainfo;
        let piece = self.piece_of(&torrent)?;
        let nothing = vec![Priority::Skip; torrent.files().len()];
        let storage = storage::storage(&torrent, folder, None, &nothing);
        let content = NewContent { pieces: Some(vec![piece]), ..NewContent::new(Arc::clone(&torrent)) };
        Ok((content, Stored { torrent, piece, storage }))
    }

    /// Waits until the piece has its right bytes in the files.
    async fn wait(
        &self,
        engine: &mut Engine,
        id: TorrentId,
        stored: &Stored,
        progress: &mut Progress,
    ) -> Result<(), Failure> {
        let patience = Duration::from_secs(self.stop_timeout);
        let (mut received, mut last) = (0, Instant::now());
        let mut shown = None;
        let mut tick = interval(TICK);
        let mut stop = std::pin::pin!(interrupted());
        loop {
            tokio::select! {
                biased;
                _ = &mut stop => return Err(Failure::new(Exit::Unfinished, "stopped before the piece was there")),
                notice = engine.notice() => match notice {
                    Some(Notice::DiskTrouble { error, .. }) => {
                        return Err(Failure::new(Exit::Io, format!("temporary folder: {error}")));
                    }
                    Some(
                        notice @ (Notice::TrackerFailed { .. } | Notice::HashFailed { .. } | Notice::Banned { .. }),
                    ) => progress.say(&format!("fast-peer: {}", one_line(&notice.to_string()))),
                    Some(_) => {}
                    None => return Err(Failure::new(Exit::Unknown, "the session ended")),
                },
                _ = tick.tick() => {}
            }
            if engine.with_session(|session| {
                session.content(id).is_some_and(|content| content.stored().has(stored.piece))
            }) {
                return Ok(());
            }
            let Some(status) = engine.status(id) else { continue };
            if shown.is_none_or(|shown: Instant| shown.elapsed() >= SHOW_EVERY) {
                shown = Some(Instant::now());
                progress.show(&[(stored.torrent.name().to_owned(), status.clone())]);
            }
            if status.down_bytes > received {
                (received, last) = (status.down_bytes, Instant::now());
            } else if last.elapsed() >= patience {
                let why =
                    status.waiting.map_or_else(|| String::from("no reason known"), |why| why.to_string());
                return Err(Failure::new(
                    Exit::Timeout,
                    format!("nothing came for {} s: {why}", self.stop_timeout),
                ));
            }
        }
    }

    fn report(&self, torrent: &Metainfo, len: usize, out: &mut Output) -> Result<(), Failure> {
        let path = self.out.display().to_string();
        if out.is_json() {
            return out.json(&json!({
                "info_hash": torrent.swarm_hash().to_string(),
                "piece": self.index,
                "bytes": len,
                "out": path,
            }));
        }
        out.line(one_line(&format!("{path}: piece {}, {}", self.index, size(len as u64))))
    }
}

/// The bytes of a stored piece, from wherever its files lie.
async fn read_back(torrent: &Metainfo, piece: PieceIndex, storage: StorageSpec) -> Result<Vec<u8>, Failure> {
    let mut disk =
        Files::new().map_err(|error| Failure::io(Exit::Unknown, "starting the disk's threads", &error))?;
    let (id, len) = (TorrentId(0), torrent.lengths().piece_len(piece));
    disk.add_torrent(id, storage);
    let spans = torrent.file_map().spans(piece, 0, len).collect();
    disk.submit(JobId(0), id, DiskOp::Read { spans });
    match poll_fn(|cx| disk.poll_done(cx)).await.1 {
        Ok(DiskOutput::Read(payload)) => {
            Ok(payload.content().expect("what a disk read has content").to_vec())
        }
        Ok(other) => unreachable!("a read is answered with {other:?}"),
        Err(error) => Err(Failure::new(Exit::Io, format!("temporary folder: {error}"))),
    }
}

/// How often the piece is looked for; after each notice as well.
const TICK: Duration = Duration::from_millis(20);

/// How often progress is looked at.
const SHOW_EVERY: Duration = Duration::from_millis(500);
