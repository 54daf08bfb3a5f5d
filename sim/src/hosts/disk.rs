//! A disk in memory that outlives the processes of its host.

use fast_peer_core::id::{JobId, TorrentId};
use fast_peer_core::lengths::{BLOCK_LEN, FileIndex, FileSpan};
use fast_peer_core::rng::Rng;
use fast_peer_core::store::op::{DiskError, DiskOp, DiskOutput, HashInput, HashOp};
use fast_peer_core::store::payload::Payload;
use fast_peer_io::disk::{Disk, FileSpec, StorageSpec};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// The files of one host.
#[derive(Clone, Debug, Default)]
pub struct Storage(Rc<RefCell<Vec<File>>>);

#[derive(Debug, Default)]
struct File {
    /// What processes see.
    path: PathBuf,
    content: Vec<u8>,
    /// What a power cut leaves; without a name there is nothing to find.
    durable_path: Option<PathBuf>,
    durable: Vec<u8>,
    /// Where the two may differ, in the order of the writes.
    unsynced: Vec<Range<usize>>,
}

impl Storage {
    /// What is in the file at `path`.
    pub fn read(&self, path: &Path) -> Option<Vec<u8>> {
        self.0.borrow().iter().find(|file| file.path == path).map(|file| file.content.clone())
    }

    /// Puts a file there, durably.
    pub fn put(&self, path: PathBuf, content: Vec<u8>) {
        let mut files = self.0.borrow_mut();
        files.retain(|file| file.path != path);
        let (durable_path, durable) = (Some(path.clone()), content.clone());
        files.push(File { path, content, durable_path, durable, unsynced: vec![] });
    }

    /// Loses any part of what was not synced: of writes, and of names.
    pub(super) fn cut_power(&self, rng: &mut Rng) {
        self.0.borrow_mut().retain_mut(|file| {
            for range in file.unsynced.drain(..) {
                if rng.chance(1, 2) {
                    file.durable.resize(file.durable.len().max(range.end), 0);
                    file.durable[range.clone()].copy_from_slice(&file.content[range]);
                }
            }
            file.content = file.durable.clone();
            if file.durable_path.as_ref() != Some(&file.path) && rng.chance(1, 2) {
                file.durable_path = Some(file.path.clone());
            }
            file.path = file.durable_path.clone().unwrap_or_default();
            file.durable_path.is_some()
        });
    }

    /// Does something with the file under its own name or, as long as it is incomplete, the other.
    fn with<R>(&self, spec: &Place, act: impl FnOnce(&mut File) -> R) -> Option<R> {
        let mut files = self.0.borrow_mut();
        let find = |path: &Path| files.iter().position(|file| file.path == path);
        let at = find(&spec.path).or_else(|| find(&spec.part))?;
        Some(act(&mut files[at]))
    }

    /// The same, and the file is there at its full length afterwards.
    fn with_new<R>(&self, spec: &Place, act: impl FnOnce(&mut File) -> R) -> R {
        if self.with(spec, |_| ()).is_none() {
            self.0.borrow_mut().push(File { path: spec.part.clone(), ..File::default() });
        }
        let sized = |file: &mut File| {
            file.content.resize(file.content.len().max(spec.len), 0);
            act(file)
        };
        self.with(spec, sized).expect("it was made just now")
    }
}

/// Where one file of a torrent lies.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    part: PathBuf,
    len: usize,
    pad: bool,
}

impl Place {
    fn new(root: &Path, spec: &FileSpec) -> Self {
        assert!(spec.wanted, "the scenarios of this simulator want every file");
        let path = root.join(&spec.path);
        let mut part = path.clone().into_os_string();
        part.push(".part");
        let len = usize::try_from(spec.len).expect("it fits memory");
        Self { path, part: part.into(), len, pad: spec.pad }
    }
}

/// The disk as one process has it: jobs wait their turn, one after another, and are lost with the process.
#[derive(Debug)]
pub struct SimDisk {
    storage: Storage,
    torrents: BTreeMap<TorrentId, Vec<Place>>,
    jobs: VecDeque<(Instant, JobId, TorrentId, DiskOp)>,
    sleep: Option<Pin<Box<Sleep>>>,
    waiting: Option<Waker>,
    rng: Rng,
}

impl SimDisk {
    pub(super) fn new(storage: Storage, rng: Rng) -> Self {
        Self { storage, torrents: BTreeMap::new(), jobs: VecDeque::new(), sleep: None, waiting: None, rng }
    }

    fn execute(&self, torrent: TorrentId, op: DiskOp) -> Result<DiskOutput, DiskError> {
        let places = match self.torrents.get(&torrent) {
            Some(places) => &places[..],
            // This comes before anybody knows where the torrent's files are.
            None if matches!(op, DiskOp::Metadata(_)) => &[],
            None => return Err(DiskError::Missing),
        };
        match op {
            DiskOp::Finish { file } => self.finish(&places[file.as_usize()]),
            DiskOp::Hash(op) => self.hash(places, op),
            DiskOp::Metadata(assembly) => Ok(DiskOutput::Metadata(assembly.read())),
            DiskOp::Read { spans } => {
                Ok(DiskOutput::Read(Payload::Content(self.read(places, &spans)?.into())))
            }
            DiskOp::Stat { file } => {
                let len = self.storage.with(place(places, file), |file| file.content.len() as u64);
                Ok(DiskOutput::Stat(len))
            }
            DiskOp::Sync { file } => {
                self.storage.with(place(places, file), |file| {
                    file.durable.clone_from(&file.content);
                    file.durable_path = Some(file.path.clone());
                    file.unsynced.clear();
                });
                Ok(DiskOutput::Done)
            }
            DiskOp::Write { spans, data } => {
                self.write(places, &spans, &data);
                Ok(DiskOutput::Done)
            }
        }
    }

    fn finish(&self, place: &Place) -> Result<DiskOutput, DiskError> {
        if place.pad {
            return Ok(DiskOutput::Done);
        }
        let rename = |file: &mut File| file.path.clone_from(&place.path);
        if place.len == 0 {
            self.storage.with_new(place, rename);
            return Ok(DiskOutput::Done);
        }
        self.storage.with(place, rename).map(|()| DiskOutput::Done).ok_or(DiskError::Missing)
    }

    fn hash(&self, places: &[Place], op: HashOp) -> Result<DiskOutput, DiskError> {
        let (HashOp::Leaves { input } | HashOp::Sha1 { input, .. }) = &op;
        let stored;
        let slices: Vec<&[u8]> = match input {
            HashInput::Memory(data) => data.iter().map(content).collect(),
            HashInput::Stored(spans) => {
                stored = self.read(places, spans)?;
                stored.chunks(BLOCK_LEN as usize).collect()
            }
        };
        Ok(DiskOutput::Hash(op.clone().compute(slices)))
    }

    fn read(&self, places: &[Place], spans: &[FileSpan]) -> Result<Vec<u8>, DiskError> {
        let mut found = Vec::new();
        for span in spans {
            if span.pad {
                found.resize(found.len() + span.len as usize, 0);
                continue;
            }
            let copied = self.storage.with(place(places, span.file), |file| {
                file.content.get(range(span)).map(|run| found.extend_from_slice(run))
            });
            copied.flatten().ok_or(DiskError::Missing)?;
        }
        Ok(found)
    }

    fn write(&self, places: &[Place], spans: &[FileSpan], data: &[Payload]) {
        let mut rest = data.iter().map(content).collect::<Vec<_>>().concat();
        for span in spans {
            let later = rest.split_off(span.len as usize);
            if !span.pad {
                self.storage.with_new(place(places, span.file), |file| {
                    file.content[range(span)].copy_from_slice(&rest);
                    file.unsynced.push(range(span));
                });
            }
            rest = later;
        }
        assert!(rest.is_empty(), "data is as long as its spans");
    }
}

impl Disk for SimDisk {
    fn add_torrent(&mut self, torrent: TorrentId, storage: StorageSpec) {
        let places = || storage.files.iter().map(|file| Place::new(&storage.root, file)).collect();
        self.torrents.entry(torrent).or_insert_with(places);
    }

    fn remove_torrent(&mut self, torrent: TorrentId) {
        self.torrents.remove(&torrent);
    }

    fn submit(&mut self, job: JobId, torrent: TorrentId, op: DiskOp) {
        let free = self.jobs.back().map_or_else(Instant::now, |(due, ..)| *due);
        let due = free.max(Instant::now()) + Duration::from_micros(self.rng.below(JOB_MAX_US));
        self.jobs.push_back((due, job, torrent, op));
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
    }

    fn poll_done(&mut self, cx: &mut Context<'_>) -> Poll<(JobId, Result<DiskOutput, DiskError>)> {
        let Some((due, ..)) = self.jobs.front() else {
            self.waiting = Some(cx.waker().clone());
            return Poll::Pending;
        };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(*due)));
        ready!(sleep.as_mut().poll(cx));
        self.sleep = None;
        let (_, job, torrent, op) = self.jobs.pop_front().expect("the first job is due");
        Poll::Ready((job, self.execute(torrent, op)))
    }
}

fn place(places: &[Place], file: FileIndex) -> &Place {
    &places[file.as_usize()]
}

fn content(payload: &Payload) -> &[u8] {
    payload.content().expect("what goes through sockets has content")
}

fn range(span: &FileSpan) -> Range<usize> {
    let start = usize::try_from(span.offset).expect("it fits memory");
    start..start + span.len as usize
}

/// What one job takes at most.
const JOB_MAX_US: u64 = 2_000;

#[cfg(test)]
mod tests {
    use super::{SimDisk, Storage};
    use bytes::Bytes;
    use fast_peer_core::id::TorrentId;
    use fast_peer_core::lengths::{FileIndex, FileSpan};
    use fast_peer_core::rng::Rng;
    use fast_peer_core::store::op::{DiskError, DiskOp, DiskOutput};
    use fast_peer_core::store::payload::Payload;
    use fast_peer_io::disk::{Disk as _, FileSpec, StorageSpec};
    use std::path::Path;

    const FILE: FileIndex = FileIndex(0);

    fn disk(storage: &Storage) -> SimDisk {
        let mut disk = SimDisk::new(storage.clone(), Rng::from_number(1));
        let file = FileSpec { path: "a".into(), len: 100, pad: false, wanted: true };
        disk.add_torrent(TorrentId(0), StorageSpec::new("root".into(), "name", vec![file]));
        disk
    }

    fn run(disk: &SimDisk, op: DiskOp) -> Result<DiskOutput, DiskError> {
        disk.execute(TorrentId(0), op)
    }

    fn write(disk: &SimDisk, offset: u64, data: &'static [u8]) {
        let spans = vec![FileSpan { file: FILE, offset, len: data.len() as u32, pad: false }];
        let data = vec![Payload::Content(Bytes::from_static(data))];
        assert_eq!(run(disk, DiskOp::Write { spans, data }), Ok(DiskOutput::Done));
    }

    #[test]
    fn a_file_has_its_own_name_when_it_is_finished() {
        let storage = Storage::default();
        let disk = disk(&storage);
        assert_eq!(run(&disk, DiskOp::Stat { file: FILE }), Ok(DiskOutput::Stat(None)));
        assert_eq!(run(&disk, DiskOp::Finish { file: FILE }), Err(DiskError::Missing));
        write(&disk, 98, b"yz");
        assert_eq!(run(&disk, DiskOp::Stat { file: FILE }), Ok(DiskOutput::Stat(Some(100))));
        assert_eq!(storage.read(Path::new("root/a.part")), Some([&[0; 98][..], b"yz"].concat()));
        assert_eq!(run(&disk, DiskOp::Finish { file: FILE }), Ok(DiskOutput::Done));
        assert_eq!(storage.read(Path::new("root/a.part")), None);
        let spans = vec![FileSpan { file: FILE, offset: 97, len: 3, pad: false }];
        let found = DiskOutput::Read(Payload::Content(Bytes::from_static(b"\0yz")));
        assert_eq!(run(&disk, DiskOp::Read { spans }), Ok(found));
    }

    #[test]
    fn a_power_cut_loses_nothing_but_what_was_not_synced() {
        let (mut kept, mut lost) = (0, 0);
        for seed in 0..32 {
            let storage = Storage::default();
            let disk = disk(&storage);
            write(&disk, 0, b"synced");
            assert_eq!(run(&disk, DiskOp::Sync { file: FILE }), Ok(DiskOutput::Done));
            write(&disk, 50, b"not");
            storage.cut_power(&mut Rng::from_number(seed));
            let content = storage.read(Path::new("root/a.part")).expect("the name was synced");
            assert_eq!(&content[..6], b"synced");
            match &content[50..53] {
                b"not" => kept += 1,
                b"\0\0\0" => lost += 1,
                other => panic!("a write is there or not: {other:?}"),
            }
        }
        assert!(kept > 0 && lost > 0, "{kept} kept, {lost} lost");
    }

    #[test]
    fn a_power_cut_may_lose_a_name() {
        let is_there = |seed| {
            let storage = Storage::default();
            write(&disk(&storage), 0, b"not synced");
            storage.cut_power(&mut Rng::from_number(seed));
            storage.read(Path::new("root/a.part")).is_some()
        };
        assert!((0..32).any(is_there) && !(0..32).all(is_there));
    }
}
