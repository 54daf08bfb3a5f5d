//! The disk as the driver sees it: jobs go in, answers come out, exactly one each. The store in `core` decides what is
//! done when; a [`Disk`] executes.

mod files;
mod order;
mod pool;
mod sys;

pub use pool::{Files, Settings};

use fast_peer_core::id::{JobId, TorrentId};
use fast_peer_core::store::op::{DiskError, DiskOp, DiskOutput};
use std::path::PathBuf;
use std::task::{Context, Poll};

/// Executes disk operations.
pub trait Disk: 'static {
    /// Says where the files of `torrent` lie; comes before its first job. What was said first counts.
    fn add_torrent(&mut self, torrent: TorrentId, storage: StorageSpec);

    /// The torrent is gone: no further jobs of it come. Those under way are still answered.
    fn remove_torrent(&mut self, torrent: TorrentId);

    /// Takes in a job without waiting for anything. Operations on one file keep their order.
    fn submit(&mut self, job: JobId, torrent: TorrentId, op: DiskOp);

    /// The next answer. Only one task asks.
    fn poll_done(&mut self, cx: &mut Context<'_>) -> Poll<(JobId, Result<DiskOutput, DiskError>)>;
}

/// Where the content of one torrent lies.
#[derive(Clone, Debug)]
pub struct StorageSpec {
    /// The folder that nothing of the torrent ever leaves.
    pub root: PathBuf,
    /// Relative to `root`: the one sparse file that holds what pieces have of files that are not wanted.
    pub parts: PathBuf,
    /// The files, pads counted, in the order of the torrent.
    pub files: Vec<FileSpec>,
}

/// One file of a [`StorageSpec`].
#[derive(Clone, Debug)]
pub struct FileSpec {
    /// Relative to the root, and free of `..` and the like: core's sanitiser has been over it.
    pub path: PathBuf,
    /// Its length when it is complete.
    pub len: u64,
    /// Whether it is padding, which is never stored.
    pub pad: bool,
    /// Whether the user wants it under its name.
    pub wanted: bool,
}

impl StorageSpec {
    /// The files of the torrent called `name` under `root`.
    pub fn new(root: PathBuf, name: &str, files: Vec<FileSpec>) -> Self {
        let mut end = name.len().min(PARTS_NAME_MAX);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        Self { root, parts: format!(".{}.fast-peer-parts", &name[..end]).into(), files }
    }
}

/// Bytes of a torrent's name in the name of its parts file: with the rest it stays below the 255 of most file systems.
const PARTS_NAME_MAX: usize = 200;
