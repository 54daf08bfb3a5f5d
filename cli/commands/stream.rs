//! `download -o -`: one file to standard output, in order.

use super::link;
use super::progress::{self, Progress};
use crate::engine::{Engine, interrupted};
use crate::exit::{Exit, Failure};
use crate::network::Network;
use crate::output::{Output, one_line};
use crate::storage;
use crate::way::Outside;
use fast_peer_core::id::TorrentId;
use fast_peer_core::lengths::FileIndex;
use fast_peer_core::metainfo::Metainfo;
use fast_peer_core::pieces::Priority;
use fast_peer_core::session::{NewContent, NewTorrent, Notice, Session};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, interval};

/// What to stream.
pub(super) struct Setup<'a> {
    pub(super) new: NewTorrent,
    /// Says what is wanted of the torrent.
    pub(super) choose: &'a dyn Fn(NewContent) -> Result<NewContent, Failure>,
    pub(super) stop_after: Option<Duration>,
    pub(super) network: &'a Network,
    pub(super) outside: &'a Outside,
    pub(super) progress: &'a progress::Args,
}

/// Downloads into a folder that goes away, and writes every byte as soon as it and all before it are verified.
pub(super) async fn run(mut setup: Setup<'_>, out: &mut Output) -> Result<(), Failure> {
    let known = setup.new.content.take().map(setup.choose).transpose()?;
    if let Some(content) = &known {
        only_file(content)?;
    }
    let folder =
        tempfile::tempdir().map_err(|error| Failure::io(Exit::Directory, "temporary folder", &error))?;
    let (mut engine, _) = setup.network.start(setup.outside).await?;
    let mut progress = Progress::new(setup.progress);
    let streamed = stream(&mut engine, setup, known, folder.path(), &mut progress, out).await;
    progress.end();
    engine.stop().await?;
    streamed
}

async fn stream(
    engine: &mut Engine,
    setup: Setup<'_>,
    known: Option<NewContent>,
    folder: &Path,
    progress: &mut Progress,
    out: &mut Output,
) -> Result<(), Failure> {
    let Setup { mut new, choose, stop_after, .. } = setup;
    let storage =
        |content: &NewContent| storage::storage(&content.metainfo, folder, None, &content.priorities);
    let (id, content) = match known {
        Some(content) => {
            new.content = Some(content.clone());
            (engine.add(new, storage(&content)), content)
        }
        None => {
            let hash = new.hashes.swarm();
            let id = engine.add_link(new);
            let content = choose(link::told(engine, id, hash, stop_after, progress).await?)?;
            only_file(&content)?;
            engine.set_content(id, content.clone(), storage(&content));
            (id, content)
        }
    };
    let file = only_file(&content)?;
    let path = folder.join(&storage(&content).files[file].path);
    let (torrent, file) = (Arc::clone(&content.metainfo), FileIndex(file as u32));
    Pump { engine, id, torrent, file, path, stop_after, progress }.run(out).await
}

/// The number of the file that is wanted.
fn only_file(content: &NewContent) -> Result<usize, Failure> {
    let NewContent { metainfo: torrent, priorities, .. } = content;
    let wanted: Vec<usize> = (0..torrent.files().len())
        .filter(|at| priorities.get(*at).is_none_or(|priority| *priority != Priority::Skip))
        .collect();
    match wanted[..] {
        [file] => Ok(file),
        _ => Err(Failure::new(Exit::Option, "standard output takes one file: choose it with --files")),
    }
}

/// A file on its way to standard output.
struct Pump<'a> {
    engine: &'a mut Engine,
    id: TorrentId,
    torrent: Arc<Metainfo>,
    file: FileIndex,
    path: PathBuf,
    stop_after: Option<Duration>,
    progress: &'a mut Progress,
}

impl Pump<'_> {
    async fn run(mut self, out: &mut Output) -> Result<(), Failure> {
        let (mut tick, mut show) = (interval(TICK), interval(SHOW_EVERY));
        let (mut written, mut last) = (0_u64, Instant::now());
        let len = self.torrent.file_map().file_len(self.file);
        let mut stop = std::pin::pin!(interrupted());
        let mut open: Option<File> = None;
        while written < len {
            tokio::select! {
                biased;
                _ = &mut stop => {
                    return Err(Failure::new(Exit::Unfinished, "stopped before the end of the file"));
                }
                notice = self.engine.notice() => match notice {
                    Some(notice) => self.on_notice(&notice)?,
                    None => return Err(Failure::new(Exit::Unknown, "the session ended")),
                },
                _ = show.tick() => self.show(),
                _ = tick.tick() => {}
            }
            let ready = self.ready();
            if ready <= written {
                if self.stop_after.is_some_and(|patience| last.elapsed() >= patience) {
                    let seconds = last.elapsed().as_secs();
                    return Err(Failure::new(Exit::Timeout, format!("nothing came for {seconds} s")));
                }
                continue;
            }
            last = Instant::now();
            let file = match &mut open {
                Some(file) => file,
                none => none.insert(self.open()?),
            };
            let mut bytes = Vec::new();
            let read = file.take(ready - written).read_to_end(&mut bytes);
            read.map_err(|error| Failure::io(Exit::Io, self.path.display(), &error))?;
            written += bytes.len() as u64;
            out.bytes(&bytes)?;
            out.flush()?;
        }
        Ok(())
    }

    fn on_notice(&self, notice: &Notice) -> Result<(), Failure> {
        match notice {
            Notice::DiskTrouble { error, .. } => {
                Err(Failure::new(Exit::Io, format!("temporary folder: {error}")))
            }
            Notice::TrackerFailed { .. } | Notice::HashFailed { .. } | Notice::Banned { .. } => {
                self.progress.say(&format!("fast-peer: {}", one_line(&notice.to_string())));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn show(&mut self) {
        if let Some(status) = self.engine.status(self.id) {
            self.progress.show(&[(self.torrent.name().to_owned(), status)]);
        }
    }

    /// How many of the file's bytes are there, without a gap before them.
    fn ready(&self) -> u64 {
        let content = |session: &Session| {
            session.content(self.id).map_or(0, |content| content.stored_prefix(self.file))
        };
        self.engine.with_session(content)
    }

    /// The file, whether it is complete or not.
    fn open(&self) -> Result<File, Failure> {
        let mut part = self.path.clone().into_os_string();
        part.push(".part");
        let opened = File::open(&part).or_else(|_| File::open(&self.path));
        opened.map_err(|error| Failure::io(Exit::Open, self.path.display(), &error))
    }
}

/// How often to look for more; a notice is looked at as well.
const TICK: Duration = Duration::from_millis(50);

/// How often progress is looked at.
const SHOW_EVERY: Duration = Duration::from_millis(500);
