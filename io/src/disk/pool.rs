//! Threads that execute disk operations: one that writes (several would fight over the file system's locks), some that
//! read, and one a core that hashes. They keep nothing between two jobs.

use super::files::{OpenFiles, Storage, content};
use super::order::Order;
use super::{Disk, StorageSpec};
use bytes::Bytes;
use fast_peer_core::id::{JobId, TorrentId};
use fast_peer_core::lengths::{BLOCK_LEN, FileSpan};
use fast_peer_core::metainfo::Assembly;
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

/// How [`Files`] work.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Files that may be open at once.
    pub open_files: usize,
    /// Threads that hash.
    pub hashers: usize,
    /// Threads that read.
    pub readers: usize,
}

impl Default for Settings {
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self { open_files: 128, hashers: cores, readers: 4 }
    }
}

/// The files of this host. Dropping this drops the jobs that wait; the threads end after the jobs that run.
#[derive(Debug)]
pub struct Files {
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
    task: Task,
}

#[derive(Debug)]
enum Task {
    /// Comes before anybody knows where the torrent's files are.
    Metadata(Assembly),
    OnFiles(Arc<Storage>, DiskOp),
}

/// An answer, or the panic of the thread that should have given it.
type Done = (JobId, thread::Result<Result<DiskOutput, DiskError>>);

impl Files {
    /// Starts the threads, as many as suit this host.
    pub fn new() -> io::Result<Self> {
        Self::with(Settings::default())
    }

    /// Starts the threads.
    pub fn with(settings: Settings) -> io::Result<Self> {
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
        let queue = match &job.task {
            Task::OnFiles(_, DiskOp::Finish { .. } | DiskOp::Write { .. }) => &self.writer,
            Task::OnFiles(_, DiskOp::Read { .. } | DiskOp::Stat { .. } | DiskOp::Sync { .. }) => {
                &self.readers
            }
            Task::OnFiles(_, DiskOp::Hash(_) | DiskOp::Metadata(_)) | Task::Metadata(_) => &self.hashers,
        };
        queue.send(job).expect("a thread waits for jobs as long as there is somebody to send them");
    }
}

impl Disk for Files {
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
        if let DiskOp::Metadata(assembly) = op {
            return self.hand_out(Job { id: job, task: Task::Metadata(assembly) });
        }
        let Some(storage) = self.storages.get(&torrent) else {
            let answer = (job, Ok(Err(DiskError::Missing)));
            return self.answer.send(answer).expect("the other end is in here too");
        };
        let ready = Job { id: job, task: Task::OnFiles(Arc::clone(storage), op.clone()) };
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

impl Drop for Files {
    fn drop(&mut self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }
}

/// Does one job after another until there will be no more.
fn work(jobs: &Mutex<mpsc::Receiver<Job>>, answer: &answers::UnboundedSender<Done>, abandoned: &AtomicBool) {
    loop {
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { id, task }) = next else { return };
        if abandoned.load(Ordering::Relaxed) {
            return;
        }
        let result = catch_unwind(AssertUnwindSafe(|| match task {
            Task::Metadata(assembly) => Ok(DiskOutput::Metadata(assembly.read())),
            Task::OnFiles(storage, op) => execute(&storage, op).map_err(|error| disk_error(&error)),
        }));
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
        DiskOp::Metadata(assembly) => DiskOutput::Metadata(assembly.read()),
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

#[cfg(test)]
mod tests {
    use super::{Files, Settings, disk_error};
    use crate::disk::{Disk as _, FileSpec, StorageSpec};
    use crate::scratch::Scratch;
    use bytes::Bytes;
    use fast_peer_core::id::{JobId, TorrentId};
    use fast_peer_core::lengths::{FileIndex, FileSpan};
    use fast_peer_core::store::op::{
        DiskError, DiskOp, DiskOutput, HashInput, HashOp, HashOutput, Sha1State, leaf,
    };
    use fast_peer_core::store::payload::Payload;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::future::poll_fn;
    use std::io::{Error, ErrorKind};

    const T: TorrentId = TorrentId(7);

    fn span(file: u32, offset: u64, len: u32) -> FileSpan {
        FileSpan { file: FileIndex(file), offset, len, pad: false }
    }

    fn write(spans: Vec<FileSpan>, data: &[u8]) -> DiskOp {
        DiskOp::Write { spans, data: vec![Payload::Content(Bytes::copy_from_slice(data))] }
    }

    fn files(scratch: &Scratch, lens: &[u64]) -> Files {
        let mut files = Files::with(Settings { open_files: 2, hashers: 2, readers: 2 }).unwrap();
        let spec = |(i, len): (usize, &u64)| FileSpec {
            path: format!("{i}").into(),
            len: *len,
            pad: false,
            wanted: true,
        };
        let specs = lens.iter().enumerate().map(spec).collect();
        files.add_torrent(T, StorageSpec::new(scratch.path().to_owned(), "t", specs));
        files
    }

    /// All answers to these, which were given without a wait between them.
    fn run(files: &mut Files, ops: Vec<DiskOp>) -> Vec<Result<DiskOutput, DiskError>> {
        let count = ops.len();
        for (i, op) in ops.into_iter().enumerate() {
            files.submit(JobId(i as u64), T, op);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let answers: BTreeMap<_, _> = runtime.block_on(async {
            let mut answers = BTreeMap::new();
            while answers.len() < count {
                let (job, result) = poll_fn(|cx| files.poll_done(cx)).await;
                assert!(answers.insert(job, result).is_none(), "{job} is answered once");
            }
            answers
        });
        answers.into_values().collect()
    }

    #[test]
    fn hashes_of_files_are_those_of_their_bytes() {
        let scratch = Scratch::new();
        let mut disk = files(&scratch, &[300_000, 70_000]);
        let content: Vec<u8> = (0..370_000_u32).map(|i| (i * 7 % 251) as u8).collect();
        let spans = vec![span(0, 0, 300_000), span(1, 0, 70_000)];
        let pad = FileSpan { pad: true, ..span(9, 0, 100) };
        let stored = vec![spans[0], pad, spans[1]];
        let padded = [&content[..300_000], &[0; 100], &content[300_000..]].concat();
        let mut half = Sha1State::new();
        half.update(b"before");
        let mut whole = half.clone();
        whole.update(&padded);
        let input = HashInput::Stored(stored);
        let answers = run(
            &mut disk,
            vec![
                write(spans, &content),
                DiskOp::Hash(HashOp::Leaves { input: input.clone() }),
                DiskOp::Hash(HashOp::Sha1 { state: half.clone(), input: input.clone(), finish: true }),
                DiskOp::Hash(HashOp::Sha1 { state: half.clone(), input, finish: false }),
                DiskOp::Hash(HashOp::Sha1 {
                    state: half,
                    input: HashInput::Memory(vec![Payload::Content(padded.clone().into())]),
                    finish: true,
                }),
            ],
        );
        let digest = Ok(DiskOutput::Hash(HashOutput::Sha1(whole.clone().finish())));
        assert_eq!(
            answers[1],
            Ok(DiskOutput::Hash(HashOutput::Leaves(padded.chunks(16384).map(leaf).collect())))
        );
        assert_eq!(answers[2], digest);
        assert_eq!(answers[3], Ok(DiskOutput::Hash(HashOutput::State(whole))));
        assert_eq!(answers[4], digest);
    }

    #[test]
    fn every_job_is_answered() {
        let scratch = Scratch::new();
        let mut disk = files(&scratch, &[10]);
        let file = FileIndex(0);
        let nothing = DiskOp::Read { spans: vec![span(0, 0, 1)] };
        let all =
            vec![DiskOp::Stat { file }, nothing.clone(), DiskOp::Finish { file }, DiskOp::Sync { file }];
        let missing = Err(DiskError::Missing);
        assert_eq!(
            run(&mut disk, all),
            [Ok(DiskOutput::Stat(None)), missing.clone(), missing.clone(), Ok(DiskOutput::Done)]
        );
        disk.remove_torrent(T);
        assert_eq!(run(&mut disk, vec![nothing]), [missing]);
    }

    #[test]
    fn errors_get_the_names_that_the_store_knows() {
        for (error, expected) in [
            (Error::from_raw_os_error(28), DiskError::Full),
            (Error::from_raw_os_error(122), DiskError::Full),
            (Error::from_raw_os_error(27), DiskError::Full),
            (Error::from_raw_os_error(13), DiskError::Denied),
            (Error::from_raw_os_error(1), DiskError::Denied),
            (Error::from_raw_os_error(30), DiskError::Denied),
            (Error::from_raw_os_error(2), DiskError::Missing),
            (ErrorKind::UnexpectedEof.into(), DiskError::Missing),
            (Error::from_raw_os_error(5), DiskError::Io(5)),
        ] {
            assert_eq!(disk_error(&error), expected, "{error}");
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Finish(u32),
        Read(u32, u64, u32),
        Sync(u32),
        Write(u32, u64, Vec<u8>),
    }

    fn step() -> impl Strategy<Value = Step> {
        let at = (0_u32..3, 0_u64..90);
        prop_oneof![
            1 => (0_u32..3).prop_map(Step::Finish),
            1 => (0_u32..3).prop_map(Step::Sync),
            4 => (at.clone(), 1_u32..10).prop_map(|((file, offset), len)| Step::Read(file, offset, len)),
            4 => (at, prop::collection::vec(any::<u8>(), 1..10))
                .prop_map(|((file, offset), data)| Step::Write(file, offset, data)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// However the threads share the work, it looks as if one had done it in order.
        #[test]
        fn one_file_range_keeps_its_order(steps in prop::collection::vec(step(), 1..60)) {
            let scratch = Scratch::new();
            let mut disk = files(&scratch, &[100; 3]);
            let start = [span(0, 0, 100), span(1, 0, 100), span(2, 0, 100)];
            prop_assert_eq!(run(&mut disk, vec![write(start.to_vec(), &[0; 300])]), [Ok(DiskOutput::Done)]);
            let mut model = vec![vec![0; 100]; 3];
            let (mut ops, mut expected) = (vec![], vec![]);
            for step in steps {
                let mut output = DiskOutput::Done;
                ops.push(match step {
                    Step::Finish(file) => DiskOp::Finish { file: FileIndex(file) },
                    Step::Read(file, offset, len) => {
                        let found = &model[file as usize][offset as usize..][..len as usize];
                        output = DiskOutput::Read(Payload::Content(Bytes::copy_from_slice(found)));
                        DiskOp::Read { spans: vec![span(file, offset, len)] }
                    }
                    Step::Sync(file) => DiskOp::Sync { file: FileIndex(file) },
                    Step::Write(file, offset, data) => {
                        model[file as usize][offset as usize..][..data.len()].copy_from_slice(&data);
                        write(vec![span(file, offset, data.len() as u32)], &data)
                    }
                });
                expected.push(Ok(output));
            }
            prop_assert_eq!(run(&mut disk, ops), expected);
        }
    }
}
