//! `download -o -`: one file to standard output, in order.

use super::{link, progress};
use crate::engine::{Engine, interrupted};
use crate::exit::{Exit, Failure};
use crate::network::Network;
use crate::output::Output;
use crate::storage;
use crate::way::Outside;
use fast_peer_core::id::TorrentId;
use fast_peer_core::lengths::FileIndex;
use fast_peer_core::metainfo::Metainfo;
use fast_peer_core::pieces::Priority;
use fast_peer_core::session::{NewContent, NewTorrent};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
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
    let streamed = stream(&mut engine, setup, known, folder.path(), out).await;
    engine.stop().await?;
    streamed
}

async fn stream(
    engine: &mut Engine,
    setup: Setup<'_>,
    known: Option<NewContent>,
    folder: &Path,
    out: &mut Output,
) -> Result<(), Failure> {
    let Setup { mut new, choose, stop_after, progress, .. } = setup;
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
    pump(engine, id, &content.metainfo, FileIndex(file as u32), path, stop_after, out).await
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

async fn pump(
    engine: &mut Engine,
    id: TorrentId,
    torrent: &Metainfo,
    file: FileIndex,
    path: PathBuf,
    stop_after: Option<Duration>,
    out: &mut Output,
) -> Result<(), Failure> {
    let (mut tick, mut written, mut last) = (interval(TICK), 0_u64, Instant::now());
    let len = torrent.file_map().file_len(file);
    let mut stop = std::pin::pin!(interrupted());
    let mut open: Option<File> = None;
    while written < len {
        tokio::select! {
            biased;
            _ = &mut stop => {
                return Err(Failure::new(Exit::Unfinished, "stopped before the end of the file"));
            }
            notice = engine.notice() => if notice.is_none() {
                return Err(Failure::new(Exit::Unknown, "the session ended"));
            },
            _ = tick.tick() => {}
        }
        let ready = engine
            .with_session(|session| session.content(id).map_or(0, |content| content.stored_prefix(file)));
        if ready <= written {
            if stop_after.is_some_and(|patience| last.elapsed() >= patience) {
                let seconds = last.elapsed().as_secs();
                return Err(Failure::new(Exit::Timeout, format!("nothing came for {seconds} s")));
            }
            continue;
        }
        last = Instant::now();
        if open.is_none() {
            let mut part = path.clone().into_os_string();
            part.push(".part");
            open = Some(
                File::open(&part)
                    .or_else(|_| File::open(&path))
                    .map_err(|e| Failure::io(Exit::Open, path.display(), &e))?,
            );
        }
        if let Some(file) = &mut open {
            let mut bytes = Vec::new();
            let read = file.take(ready - written).read_to_end(&mut bytes);
            read.map_err(|error| Failure::io(Exit::Io, path.display(), &error))?;
            written += bytes.len() as u64;
            out.bytes(&bytes)?;
            out.flush()?;
        }
    }
    Ok(())
}

/// How often to look for more; a notice is looked at as well.
const TICK: Duration = Duration::from_millis(50);
