//! Threads that execute disk operations: one that writes (several would fight over the file system's locks), some that
//! read, and one a core that hashes. They keep nothing between two jobs.

use super::files::{OpenFiles, Storage, content};
use super::order::Order;
use super::{Disk, StorageSpec};
use bytes::Bytes;
use fast_peer_core::id::{JobId, TorrentId};
use fast_peer_core::lengths::{BLOCK_LEN, FileSpan};
use fast_peer_core::store::op::{DiskError, DiskOp, DiskOutput, HashInput, HashOp, HashOutput, leaf};
use fast_peer_core::store::payload::Payload;
use std::any::Any;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::task::{Context, Poll, ready};
use std::thread;
use tokio::sync::mpsc as answers;

/// How a [`DiskPool`] works.
#[derive(Clone, Copy, Debug)]
pub struct DiskSettings {
    /// Files that may be open at once.
    pub open_files: usize,
    /// Threads that hash.
    pub hashers: usize,
    /// Threads that read.
    pub readers: usize,
}

impl Default for DiskSettings {
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self { open_files: 128, hashers: cores, readers: 4 }
    }
}

/// The disk of this host. Dropping it drops the jobs that wait; its threads end after the jobs that run.
#[derive(Debug)]
pub struct DiskPool {
    files: Arc<OpenFiles>,
    storages: BTreeMap<TorrentId, Arc<Storage>>,
    order: Order<Job>,
    writer: mpsc::Sender<Job>,
    readers: mpsc::Sender<Job>,
    hashers: mpsc::Sender<Job>,
    abandoned: Arc<AtomicBool>,
    done: answers::UnboundedReceiver<Done>,
    /// Kept to answer jobs that no thread is needed for.
    answer: answers::UnboundedSender<Done>,
}

#[derive(Debug)]
struct Job {
    id: JobId,
    storage: Arc<Storage>,
    op: DiskOp,
}

/// An answer, or the panic of the thread that should have given it.
type Done = (JobId, thread::Result<Result<DiskOutput, DiskError>>);

impl DiskPool {
    /// Starts the threads.
    pub fn new(settings: DiskSettings) -> io::Result<Self> {
        let (answer, done) = answers::unbounded_channel();
        let abandoned = Arc::new(AtomicBool::new(false));
        let start = |name: &str, count: usize| {
            let (sender, receiver) = mpsc::channel();
            let receiver = Arc::new(Mutex::new(receiver));
            for _ in 0..count.max(1) {
                let (receiver, answer) = (Arc::clone(&receiver), answer.clone());
                let abandoned = Arc::clone(&abandoned);
                let work = move || work(&receiver, &answer, &abandoned);
                thread::Builder::new().name(name.to_owned()).spawn(work)?;
            }
            io::Result::Ok(sender)
        };
        Ok(Self {
            files: Arc::new(OpenFiles::new(settings.open_files)),
            storages: BTreeMap::new(),
            order: Order::new(),
            writer: start("disk write", 1)?,
            readers: start("disk read", settings.readers)?,
            hashers: start("hash", settings.hashers)?,
            abandoned,
            done,
            answer,
        })
    }

    fn hand_out(&self, job: Job) {
        let queue = match job.op {
            DiskOp::Finish { .. } | DiskOp::Write { .. } => &self.writer,
            DiskOp::Hash(_) => &self.hashers,
            DiskOp::Read { .. } | DiskOp::Stat { .. } | DiskOp::Sync { .. } => &self.readers,
        };
        queue.send(job).expect("a thread waits for jobs as long as there is somebody to send them");
    }
}

impl Disk for DiskPool {
    fn add_torrent(&mut self, torrent: TorrentId, storage: StorageSpec) {
        let files = &self.files;
        self.storages
            .entry(torrent)
            .or_insert_with(|| Arc::new(Storage::new(torrent, storage, Arc::clone(files))));
    }

    fn remove_torrent(&mut self, torrent: TorrentId) {
        if let Some(storage) = self.storages.remove(&torrent) {
            storage.close();
        }
    }

    fn submit(&mut self, job: JobId, torrent: TorrentId, op: DiskOp) {
        let Some(storage) = self.storages.get(&torrent) else {
            let answer = (job, Ok(Err(DiskError::Missing)));
            return self.answer.send(answer).expect("the other end is in here too");
        };
        let ready = Job { id: job, storage: Arc::clone(storage), op: op.clone() };
        if let Some(ready) = self.order.admit(job, torrent, &op, ready) {
            self.hand_out(ready);
        }
    }

    fn poll_done(&mut self, cx: &mut Context<'_>) -> Poll<(JobId, Result<DiskOutput, DiskError>)> {
        let (job, result) = ready!(self.done.poll_recv(cx)).expect("the other end is in here too");
        for free in self.order.ended(job) {
            self.hand_out(free);
        }
        Poll::Ready((job, result.unwrap_or_else(|panic: Box<dyn Any + Send>| resume_unwind(panic))))
    }
}

impl Drop for DiskPool {
    fn drop(&mut self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }
}

/// Does one job after another until there will be no more.
fn work(jobs: &Mutex<mpsc::Receiver<Job>>, answer: &answers::UnboundedSender<Done>, abandoned: &AtomicBool) {
    loop {
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { id, storage, op }) = next else { return };
        if abandoned.load(Ordering::Relaxed) {
            return;
        }
        let result =
            catch_unwind(AssertUnwindSafe(|| execute(&storage, op).map_err(|error| disk_error(&error))));
        if answer.send((id, result)).is_err() {
            return;
        }
    }
}

/// Does one job, on this thread.
fn execute(storage: &Storage, op: DiskOp) -> io::Result<DiskOutput> {
    Ok(match op {
        DiskOp::Finish { file } => {
            storage.finish(file)?;
            DiskOutput::Done
        }
        DiskOp::Hash(op) => DiskOutput::Hash(hash(storage, op)?),
        DiskOp::Read { spans } => {
            let mut buf = vec![0; total(&spans)];
            storage.read(&spans, &mut buf)?;
            DiskOutput::Read(Payload::Content(Bytes::from(buf)))
        }
        DiskOp::Stat { file } => DiskOutput::Stat(storage.stat(file)?),
        DiskOp::Sync { file } => {
            storage.sync(file)?;
            DiskOutput::Done
        }
        DiskOp::Write { spans, data } => {
            storage.write(&spans, &data)?;
            DiskOutput::Done
        }
    })
}

fn hash(storage: &Storage, op: HashOp) -> io::Result<HashOutput> {
    match op {
        HashOp::Leaves { input: HashInput::Memory(ref data) }
        | HashOp::Sha1 { input: HashInput::Memory(ref data), .. } => {
            let data = data.clone();
            Ok(op.compute(data.iter().map(|payload| &content(payload)[..])))
        }
        HashOp::Leaves { input: HashInput::Stored(spans) } => {
            let mut leaves = Vec::with_capacity(total(&spans).div_ceil(BLOCK_LEN as usize));
            read_on(storage, &spans, |run| leaves.extend(run.chunks(BLOCK_LEN as usize).map(leaf)))?;
            Ok(HashOutput::Leaves(leaves))
        }
        HashOp::Sha1 { mut state, input: HashInput::Stored(spans), finish } => {
            read_on(storage, &spans, |run| state.update(run))?;
            Ok(if finish { HashOutput::Sha1(state.finish()) } else { HashOutput::State(state) })
        }
    }
}

/// Shows what these runs hold, in slices that are whole blocks but for the last.
fn read_on(storage: &Storage, spans: &[FileSpan], mut show: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buf = vec![0; total(spans).min(READ_LEN)];
    let mut filled = 0;
    for span in spans {
        let mut done = 0;
        while done < span.len {
            let count = (span.len - done).min((buf.len() - filled) as u32);
            let part = FileSpan { offset: span.offset + u64::from(done), len: count, ..*span };
            storage.read(&[part], &mut buf[filled..filled + count as usize])?;
            (done, filled) = (done + count, filled + count as usize);
            if filled == buf.len() {
                show(&buf);
                filled = 0;
            }
        }
    }
    if filled > 0 {
        show(&buf[..filled]);
    }
    Ok(())
}

fn total(spans: &[FileSpan]) -> usize {
    spans.iter().map(|span| span.len as usize).sum()
}

fn disk_error(error: &io::Error) -> DiskError {
    match error.kind() {
        ErrorKind::FileTooLarge | ErrorKind::QuotaExceeded | ErrorKind::StorageFull => DiskError::Full,
        ErrorKind::NotFound | ErrorKind::UnexpectedEof => DiskError::Missing,
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => DiskError::Denied,
        _ => DiskError::Io(error.raw_os_error().unwrap_or(0)),
    }
}

/// What is read at once to be hashed: blocks that fit the processor's cache.
const READ_LEN: usize = 16 * BLOCK_LEN as usize;
