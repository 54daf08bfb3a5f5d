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
        // Also what an earlier run wrote, and this one only found; it may be on a medium that cannot be written.
        match self.open(place, Access::Read).and_then(|open| open.sync_data()) {
            Ok(()) => {}
            // Some systems sync only what is open for writing.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                self.open(place, Access::Write)?.sync_data()?;
            }
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
        let part = part_name(&spec.path);
        match sys::open(&self.spec.root, &part, Access::Read) {
            Ok(_) => {
                sys::rename(&self.spec.root, &part, &spec.path)?;
                self.unsynced().extend(spec.path.parent().map(Path::to_owned));
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // It had its name from the start.
                sys::open(&self.spec.root, &spec.path, Access::Read).map(drop)
            }
            Err(error) => Err(error),
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

#[cfg(test)]
mod tests {
    use super::{OpenFiles, Storage};
    use crate::disk::{FileSpec, StorageSpec};
    use crate::scratch::Scratch;
    use bytes::Bytes;
    use fast_peer_core::id::TorrentId;
    use fast_peer_core::lengths::{FileIndex, FileSpan};
    use fast_peer_core::store::payload::Payload;
    use std::fs;
    use std::io::{self, ErrorKind};
    use std::sync::Arc;

    const PAD: u32 = 2;
    const SKIPPED: u32 = 3;
    const EMPTY: u32 = 4;

    /// Two files of ten bytes, one in a folder; six of padding; ten bytes that nobody wants; one empty file.
    fn storage(scratch: &Scratch) -> Storage {
        let file = |path: &str, len, pad, wanted| FileSpec { path: path.into(), len, pad, wanted };
        let files = vec![
            file("a", 10, false, true),
            file("folder/deep/b", 10, false, true),
            file(".pad/6", 6, true, true),
            file("folder/skipped", 10, false, false),
            file("folder/empty", 0, false, true),
        ];
        let spec = StorageSpec::new(scratch.path().join("root"), "name", files);
        Storage::new(TorrentId(1), spec, Arc::new(OpenFiles::new(1)))
    }

    fn span(file: u32, offset: u64, len: u32) -> FileSpan {
        FileSpan { file: FileIndex(file), offset, len, pad: file == PAD }
    }

    fn data(parts: &[&'static [u8]]) -> Vec<Payload> {
        parts.iter().map(|part| Payload::Content(Bytes::from_static(part))).collect()
    }

    fn read(storage: &Storage, spans: &[FileSpan]) -> io::Result<Vec<u8>> {
        let mut buf = vec![b'?'; spans.iter().map(|span| span.len as usize).sum()];
        storage.read(spans, &mut buf).map(|()| buf)
    }

    fn kind<T>(result: io::Result<T>) -> ErrorKind {
        result.err().expect("an error").kind()
    }

    #[test]
    fn a_file_has_its_own_name_when_it_is_finished() {
        let scratch = Scratch::new();
        let storage = storage(&scratch);
        let all = [span(0, 8, 2), span(1, 0, 10), span(PAD, 0, 6), span(SKIPPED, 0, 1)];
        storage.write(&all, &data(&[b"xy0", b"123456789ppp", b"ppps"])).unwrap();
        assert_eq!(scratch.read("root/a.part"), b"\0\0\0\0\0\0\0\0xy");
        assert_eq!(scratch.read("root/folder/deep/b.part"), b"0123456789");
        assert_eq!(scratch.read("root/.name.fast-peer-parts"), [&[0; 26][..], b"s"].concat());
        assert!(!scratch.path().join("root/.pad").exists());
        assert_eq!(read(&storage, &all).unwrap(), b"xy0123456789\0\0\0\0\0\0s");

        storage.finish(FileIndex(1)).unwrap();
        assert_eq!(scratch.read("root/folder/deep/b"), b"0123456789");
        assert!(!scratch.path().join("root/folder/deep/b.part").exists());
        assert_eq!(read(&storage, &[span(1, 3, 2)]).unwrap(), b"34");
        storage.finish(FileIndex(1)).unwrap();
        storage.write(&[span(1, 0, 1)], &data(&[b"!"])).unwrap();
        assert_eq!(scratch.read("root/folder/deep/b"), b"!123456789");
        for file in [0, 1, PAD, SKIPPED, EMPTY] {
            storage.sync(FileIndex(file)).unwrap();
        }
        assert!(storage.unsynced().is_empty());

        storage.finish(FileIndex(EMPTY)).unwrap();
        assert_eq!(scratch.read("root/folder/empty"), b"");
        storage.finish(FileIndex(SKIPPED)).unwrap();
        storage.finish(FileIndex(PAD)).unwrap();
        assert!(!scratch.path().join("root/folder/skipped").exists());
    }

    #[test]
    fn what_was_there_is_kept() {
        let scratch = Scratch::new();
        scratch.write("root/a", b"longer than ten");
        scratch.write("root/folder/deep/b", b"short");
        let storage = storage(&scratch);
        assert_eq!(storage.stat(FileIndex(0)).unwrap(), Some(15));
        assert_eq!(storage.stat(FileIndex(1)).unwrap(), Some(5));
        assert_eq!(kind(read(&storage, &[span(1, 0, 10)])), ErrorKind::UnexpectedEof);
        storage.write(&[span(0, 9, 1), span(1, 9, 1)], &data(&[b"xy"])).unwrap();
        assert_eq!(scratch.read("root/a"), b"longer thxn ten");
        assert_eq!(scratch.read("root/folder/deep/b"), b"short\0\0\0\0y");
        storage.finish(FileIndex(0)).unwrap();
    }

    #[test]
    fn no_file_is_replaced() {
        let scratch = Scratch::new();
        let storage = storage(&scratch);
        storage.write(&[span(0, 0, 1)], &data(&[b"x"])).unwrap();
        scratch.write("root/a", b"the user's");
        assert_eq!(kind(storage.finish(FileIndex(0))), ErrorKind::AlreadyExists);
        assert_eq!(scratch.read("root/a"), b"the user's");
    }

    #[test]
    fn what_is_not_there_is_missing() {
        let scratch = Scratch::new();
        let storage = storage(&scratch);
        for file in [0, 1, SKIPPED, EMPTY] {
            assert_eq!(storage.stat(FileIndex(file)).unwrap(), None);
            assert_eq!(kind(read(&storage, &[span(file, 0, 1)])), ErrorKind::NotFound);
        }
        assert_eq!(kind(storage.finish(FileIndex(0))), ErrorKind::NotFound);
        assert!(!scratch.path().join("root").exists());
    }

    #[test]
    fn a_skipped_file_that_is_there_is_used() {
        let scratch = Scratch::new();
        scratch.write("root/folder/skipped.part", b"0123");
        let storage = storage(&scratch);
        assert_eq!(read(&storage, &[span(SKIPPED, 1, 2)]).unwrap(), b"12");
        storage.write(&[span(SKIPPED, 9, 1)], &data(&[b"9"])).unwrap();
        assert_eq!(scratch.read("root/folder/skipped.part"), b"0123\0\0\0\0\09");
        assert_eq!(storage.stat(FileIndex(SKIPPED)).unwrap(), Some(10));
    }

    #[test]
    fn the_parts_file_says_how_much_it_has() {
        let scratch = Scratch::new();
        let storage = storage(&scratch);
        storage.write(&[span(SKIPPED, 2, 3)], &data(&[b"abc"])).unwrap();
        assert_eq!(storage.stat(FileIndex(SKIPPED)).unwrap(), Some(5));
        assert_eq!(read(&storage, &[span(SKIPPED, 0, 5)]).unwrap(), b"\0\0abc");
        assert_eq!(kind(read(&storage, &[span(SKIPPED, 4, 2)])), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_root_that_went_away_is_not_made_again() {
        let scratch = Scratch::new();
        let storage = storage(&scratch);
        storage.write(&[span(0, 0, 1)], &data(&[b"x"])).unwrap();
        fs::remove_dir_all(scratch.path().join("root")).unwrap();
        assert_eq!(kind(storage.write(&[span(1, 0, 1)], &data(&[b"x"]))), ErrorKind::NotFound);
        assert!(!scratch.path().join("root").exists());
    }

    #[cfg(unix)]
    mod planted {
        use super::{FileIndex, SKIPPED, Scratch, data, kind, read, scratch_with_canary, span, storage};
        use std::io::ErrorKind;
        use std::os::unix::fs::symlink;

        /// Whatever is at `path` below the root, no operation on file `file` passes it.
        fn refuses_all(scratch: &Scratch, file: u32) {
            let storage = storage(scratch);
            let denied = ErrorKind::PermissionDenied;
            assert_eq!(kind(storage.write(&[span(file, 0, 6)], &data(&[b"poison"]))), denied);
            assert_eq!(kind(read(&storage, &[span(file, 0, 6)])), denied);
            assert_eq!(kind(storage.stat(FileIndex(file))), denied);
            assert_eq!(kind(storage.sync(FileIndex(file))), denied);
            assert_eq!(scratch.read("outside/canary"), b"canary");
            assert_eq!(std::fs::read_dir(scratch.path().join("outside")).unwrap().count(), 1);
        }

        #[test]
        fn links_lead_nowhere() {
            for (link, to, file) in [
                ("a", "../outside/canary", 0),
                ("a", "../outside/new", 0),
                ("a", "b", 0),
                ("folder", "../outside", 1),
                ("folder", ".", 1),
            ] {
                let scratch = scratch_with_canary();
                symlink(to, scratch.path().join("root").join(link)).unwrap();
                refuses_all(&scratch, file);
            }
            let scratch = scratch_with_canary();
            symlink("../outside/new", scratch.path().join("root/a.part")).unwrap();
            refuses_all(&scratch, 0);
            let scratch = scratch_with_canary();
            let parts = scratch.path().join("root/.name.fast-peer-parts");
            symlink("../outside/new", parts).unwrap();
            refuses_all(&scratch, SKIPPED);
        }

        #[test]
        fn the_root_itself_may_be_a_link() {
            let scratch = Scratch::new();
            scratch.write("elsewhere/x", b"");
            symlink("elsewhere", scratch.path().join("root")).unwrap();
            storage(&scratch).write(&[span(0, 0, 1)], &data(&[b"x"])).unwrap();
            assert_eq!(scratch.read("elsewhere/a.part").len(), 10);
        }

        #[test]
        fn folders_files_and_pipes_in_the_way_hold_nobody_up() {
            let scratch = scratch_with_canary();
            std::fs::create_dir(scratch.path().join("root/a")).unwrap();
            refuses_all(&scratch, 0);
            let scratch = scratch_with_canary();
            scratch.write("root/folder", b"file");
            refuses_all(&scratch, 1);
            let scratch = scratch_with_canary();
            let pipe = scratch.path().join("root/a");
            rustix::fs::mknodat(
                rustix::fs::CWD,
                &pipe,
                rustix::fs::FileType::Fifo,
                rustix::fs::Mode::from_raw_mode(0o600),
                0,
            )
            .unwrap();
            refuses_all(&scratch, 0);
        }
    }

    #[cfg(unix)]
    fn scratch_with_canary() -> Scratch {
        let scratch = Scratch::new();
        scratch.write("outside/canary", b"canary");
        fs::create_dir(scratch.path().join("root")).unwrap();
        scratch
    }
}
