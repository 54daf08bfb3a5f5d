//! `download -o -`: one file to standard output, in order.

use crate::engine::{Engine, interrupted};
use crate::exit::{Exit, Failure};
use crate::network::Network;
use crate::output::Output;
use crate::storage;
use fast_peer_core::id::TorrentId;
use fast_peer_core::lengths::FileIndex;
use fast_peer_core::metainfo::Metainfo;
use fast_peer_core::pieces::Priority;
use fast_peer_core::session::{NewContent, NewTorrent};
use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::{Instant, interval};

/// What to stream.
pub(super) struct Setup {
    pub(super) content: NewContent,
    pub(super) new: NewTorrent,
    pub(super) stop_after: Option<Duration>,
}

/// Downloads into a folder that goes away, and writes every byte as soon as it and all before it are verified.
pub(super) async fn run(setup: &Setup, network: &Network, out: &mut Output) -> Result<(), Failure> {
    let NewContent { metainfo: torrent, priorities, .. } = &setup.content;
    let wanted: Vec<usize> = (0..torrent.files().len())
        .filter(|at| priorities.get(*at).is_none_or(|priority| *priority != Priority::Skip))
        .collect();
    let [file] = wanted[..] else {
        return Err(Failure::new(Exit::Option, "standard output takes one file: choose it with --files"));
    };
    let folder =
        tempfile::tempdir().map_err(|error| Failure::io(Exit::Directory, "temporary folder", &error))?;
    let storage = storage::storage(torrent, folder.path(), None, priorities);
    let path = folder.path().join(&storage.files[file].path);
    let (mut engine, _) =
        Engine::start(network.config(), network.addrs(), Some(network.port.clone())).await?;
    let id = engine.add(setup.new.clone(), storage);
    let streamed = pump(&mut engine, id, torrent, FileIndex(file as u32), path, setup.stop_after, out).await;
    engine.stop().await?;
    streamed
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
