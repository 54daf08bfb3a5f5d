//! The files of torrents: which are open, under which name, and what lies where in them.
//!
//! A file that is not complete has `.part` behind its name. Padding is never stored. What pieces hold of a file that is
//! not wanted goes to one sparse file for the whole torrent, unless there is something under the file's own name.

use super::StorageSpec;
use super::sys::{self, Access};
use bytes::Bytes;
use fast_peer_core::id::TorrentId;
use fast_peer_core::lengths::{FileIndex, FileSpan};
use fast_peer_core::store::payload::Payload;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, ErrorKind, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Open files of all torrents, the longest unused of which is closed when there are too many.
#[derive(Debug)]
pub(super) struct OpenFiles {
    limit: usize,
    open: Mutex<Lru>,
}

#[derive(Debug, Default)]
struct Lru {
    files: BTreeMap<Key, Open>,
    uses: u64,
}

type Key = (TorrentId, Place);

#[derive(Clone, Debug)]
struct Open {
    file: Arc<File>,
    writable: bool,
    last_use: u64,
}

/// In which file of the disk something lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// Its own.
    Own(u32),
    /// The one for what is not wanted.
    Parts,
}

/// The files of one torrent.
#[derive(Debug)]
pub(super) struct Storage {
    id: TorrentId,
    spec: StorageSpec,
    /// Where each file would start if all were one.
    starts: Vec<u64>,
    /// For each file that is not wanted, whether it lies under its own name nevertheless. Asked once: what was written to
    /// one place must not be looked for in the other.
    own: Vec<OnceLock<bool>>,
    files: Arc<OpenFiles>,
    /// Whether the root was there, or was made. If it goes away then, a disk was pulled out: making it again would write
    /// to the disk below.
    root_seen: AtomicBool,
    /// Folders with names in them that may not be durable.
    unsynced: Mutex<BTreeSet<PathBuf>>,
}

impl OpenFiles {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), open: Mutex::default() }
    }

    fn lru(&self) -> MutexGuard<'_, Lru> {
        // Each change is one call of the map.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, key: Key, writable: bool) -> Option<Arc<File>> {
        let mut lru = self.lru();
        lru.uses += 1;
        let now = lru.uses;
        let open = lru.files.get_mut(&key).filter(|open| open.writable || !writable)?;
        open.last_use = now;
        Some(Arc::clone(&open.file))
    }

    fn keep(&self, key: Key, file: File, writable: bool) -> Arc<File> {
        let file = Arc::new(file);
        let mut lru = self.lru();
        let last_use = lru.uses;
        // Another thread may have been faster; both files are as good, unless one cannot be written.
        if writable || !lru.files.contains_key(&key) {
            lru.files.insert(key, Open { file: Arc::clone(&file), writable, last_use });
        }
        while lru.files.len() > self.limit {
            let oldest = lru.files.iter().min_by_key(|(_, open)| open.last_use).map(|(key, _)| *key);
            lru.files.remove(&oldest.expect("there are more than the limit"));
        }
        file
    }

    fn close(&self, torrent: TorrentId) {
        self.lru().files.retain(|(of, _), _| *of != torrent);
    }
}

impl Storage {
    pub(super) fn new(id: TorrentId, spec: StorageSpec, files: Arc<OpenFiles>) -> Self {
        let ends = spec.files.iter().scan(0, |end, file| {
            *end += file.len;
            Some(*end)
        });
        let starts = ends.zip(&spec.files).map(|(end, file)| end - file.len).collect();
        let own = spec.files.iter().map(|_| OnceLock::new()).collect();
        let (root_seen, unsynced) = (AtomicBool::new(false), Mutex::default());
        Self { id, spec, starts, own, files, root_seen, unsynced }
    }

    /// Fills `buf` with what these runs hold, one after another.
    pub(super) fn read(&self, spans: &[FileSpan], mut buf: &mut [u8]) -> io::Result<()> {
        for span in spans {
            let (part, rest) = buf.split_at_mut(span.len as usize);
            if span.pad {
                part.fill(0);
            } else {
                let (place, offset) = self.locate(span);
                sys::read_exact_at(&*self.open(place, Access::Read)?, part, offset)?;
            }
            buf = rest;
        }
        Ok(())
    }

    /// Writes `data`, which fills these runs one after another.
    pub(super) fn write(&self, spans: &[FileSpan], data: &[Payload]) -> io::Result<()> {
        let mut data = data.iter().map(content);
        let mut rest: &[u8] = &[];
        let mut slices = Vec::new();
        for span in spans {
            slices.clear();
            let mut left = span.len as usize;
            while left > 0 {
                if rest.is_empty() {
                    rest = data.next().expect("data is as long as its spans");
                }
                let (now, later) = rest.split_at(left.min(rest.len()));
                slices.push(IoSlice::new(now));
                left -= now.len();
                rest = later;
            }
            if !span.pad {
                let (place, offset) = self.locate(span);
                sys::write_all_at(&*self.open(place, Access::Create)?, &mut slices, offset)?;
            }
        }
        Ok(())
    }

    /// The length of what is there of `file`.
    pub(super) fn stat(&self, file: FileIndex) -> io::Result<Option<u64>> {
        if self.spec.files[file.as_usize()].pad {
            return Ok(None);
        }
        let place = self.place(file);
        // Not kept open: a torrent may have more files than can be.
        let found = match place {
            Place::Own(_) => self.open_own(file, Access::Read),
            Place::Parts => sys::open(&self.spec.root, &self.spec.parts, Access::Read),
        };
        let len = match found {
            Ok(found) => found.metadata()?.len(),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(match place {
            Place::Own(_) => Some(len),
            Place::Parts => len
                .checked_sub(self.starts[file.as_usize()])
                .filter(|len| *len > 0)
                .map(|len| len.min(self.spec.files[file.as_usize()].len)),
        })
    }

    /// Makes what was written to `file` durable, and its name.
    pub(super) fn sync(&self, file: FileIndex) -> io::Result<()> {
        if self.spec.files[file.as_usize()].pad {
            return Ok(());
        }
        let place = self.place(file);
        match self.open(place, Access::Write) {
            Ok(open) => open.sync_data()?,
            // Nothing was ever written to it.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        }
        let path = match place {
            Place::Own(index) => &self.spec.files[index as usize].path,
            Place::Parts => &self.spec.parts,
        };
        for folder in path.ancestors().skip(1) {
            if self.unsynced().contains(folder) {
                sys::sync_folder(&self.spec.root, folder)?;
                self.unsynced().remove(folder);
            }
        }
        Ok(())
    }

    /// Gives `file`, which is complete, its own name; makes it if it is empty.
    pub(super) fn finish(&self, file: FileIndex) -> io::Result<()> {
        let spec = &self.spec.files[file.as_usize()];
        if spec.pad || self.place(file) == Place::Parts {
            return Ok(());
        }
        if spec.len == 0 {
            // There is nothing to be incomplete.
            return self.create(&spec.path).map(drop);
        }
        match sys::rename(&self.spec.root, &part_name(&spec.path), &spec.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // It had its name from the start.
                sys::open(&self.spec.root, &spec.path, Access::Read).map(drop)
            }
            result => {
                self.unsynced().extend(spec.path.parent().map(Path::to_owned));
                result
            }
        }
    }

    /// Forgets the open files.
    pub(super) fn close(&self) {
        self.files.close(self.id);
    }

    fn unsynced(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.unsynced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn locate(&self, span: &FileSpan) -> (Place, u64) {
        let place = self.place(span.file);
        let start = if place == Place::Parts { self.starts[span.file.as_usize()] } else { 0 };
        (place, start + span.offset)
    }

    fn place(&self, file: FileIndex) -> Place {
        let here = || match self.open_own(file, Access::Read) {
            Ok(_) => true,
            Err(error) => error.kind() != ErrorKind::NotFound,
        };
        let own = self.spec.files[file.as_usize()].wanted || *self.own[file.as_usize()].get_or_init(here);
        if own { Place::Own(file.0) } else { Place::Parts }
    }

    fn open(&self, place: Place, access: Access) -> io::Result<Arc<File>> {
        let (key, writable) = ((self.id, place), access != Access::Read);
        if let Some(open) = self.files.find(key, writable) {
            return Ok(open);
        }
        let file = match place {
            Place::Own(index) => self.open_own(FileIndex(index), access)?,
            Place::Parts if access == Access::Create => self.create(&self.spec.parts)?,
            Place::Parts => sys::open(&self.spec.root, &self.spec.parts, access)?,
        };
        Ok(self.files.keep(key, file, writable))
    }

    /// The file under its own name or, as long as it is incomplete, under the other.
    fn open_own(&self, file: FileIndex, access: Access) -> io::Result<File> {
        let spec = &self.spec.files[file.as_usize()];
        let found = match access {
            Access::Create | Access::Write => sys::open(&self.spec.root, &spec.path, Access::Write),
            Access::Read => sys::open(&self.spec.root, &spec.path, Access::Read),
        };
        let found = match (found, access) {
            (Err(error), Access::Create) if error.kind() == ErrorKind::NotFound => {
                self.create(&part_name(&spec.path))
            }
            (Err(error), _) if error.kind() == ErrorKind::NotFound => {
                match sys::open(&self.spec.root, &part_name(&spec.path), access) {
                    // It may have got its own name between the two looks.
                    Err(error) if error.kind() == ErrorKind::NotFound => {
                        sys::open(&self.spec.root, &spec.path, access)
                    }
                    found => found,
                }
            }
            (found, _) => found,
        }?;
        // Holes cost nothing, and the length is right from the start. What is too long stays so: it is not ours to cut.
        if access == Access::Create && found.metadata()?.len() < spec.len {
            found.set_len(spec.len)?;
        }
        Ok(found)
    }

    /// Opens a file for writing, and makes it and the folders above it if they are not there.
    fn create(&self, path: &Path) -> io::Result<File> {
        if !self.root_seen.load(Ordering::Relaxed) {
            sys::make_root(&self.spec.root)?;
            self.root_seen.store(true, Ordering::Relaxed);
        }
        let file = match sys::open(&self.spec.root, path, Access::Write) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                sys::open(&self.spec.root, path, Access::Create)?
            }
            found => return found,
        };
        self.unsynced().extend(path.ancestors().skip(1).map(Path::to_owned));
        Ok(file)
    }
}

/// The bytes of a payload.
pub(super) fn content(payload: &Payload) -> &Bytes {
    payload.content().expect("only recordings and simulated swarms go without content")
}

fn part_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    name.into()
}
