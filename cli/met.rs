//! Peers that an earlier run of a torrent met, to begin with: a file for each torrent, an address a line.

use crate::paths;
use fast_peer_core::id::InfoHash;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Whoever was met; lines that are no addresses are passed over.
pub(crate) fn load(torrent: InfoHash) -> Vec<SocketAddr> {
    let Some(path) = path(torrent) else { return vec![] };
    match read(&path) {
        Ok(text) => text.lines().filter_map(|line| line.parse().ok()).take(MAX_PEERS).collect(),
        Err(error) => {
            if error.kind() != ErrorKind::NotFound {
                tracing::debug!("{}: {error}", path.display());
            }
            vec![]
        }
    }
}

/// Remembers these, and nobody else. The next run can do without.
pub(crate) fn save(torrent: InfoHash, peers: impl IntoIterator<Item = SocketAddr>) {
    let text: String = peers.into_iter().take(MAX_PEERS).map(|peer| format!("{peer}\n")).collect();
    let Some(path) = path(torrent).filter(|_| !text.is_empty()) else { return };
    if let Err(error) = paths::replace(&path, text.as_bytes()) {
        tracing::debug!("{}: {error}", path.display());
    }
}

/// Remembers nobody.
pub(crate) fn forget(torrent: InfoHash) {
    let Some(path) = path(torrent) else { return };
    if let Err(error) = std::fs::remove_file(&path)
        && error.kind() != ErrorKind::NotFound
    {
        tracing::debug!("{}: {error}", path.display());
    }
}

fn read(path: &PathBuf) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_LEN).read_to_string(&mut text)?;
    Ok(text)
}

fn path(torrent: InfoHash) -> Option<PathBuf> {
    Some(paths::cache()?.join("peers").join(torrent.to_string()))
}

/// As many as are dialled in the first seconds.
const MAX_PEERS: usize = 100;

/// More than as many lines take.
const MAX_LEN: u64 = 64 * 100;
