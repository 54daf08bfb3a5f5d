//! What is hashed, written, read and synced, and when.
//!
//! Blocks come in as they arrive. Runs of them are hashed in order and written while they are in memory; a block leaves
//! memory when both are done. A piece counts as *verified* when its hash passed and as *stored* when besides all of it is
//! written: only then may it be announced, since only then can it be served. A stored piece of which something can't be
//! read is looked at once more, and *lost* if it is not what it was.
//!
//! ```text
//! block ──► held ──► hashing ──► hashed ─┐
//!             └────► writing ──► written ┴─► released; last one: verified or failed, then stored
//! ```

mod check;
pub mod expected;
pub mod op;
mod open_piece;
pub mod payload;
#[cfg(test)]
mod tests;

use crate::bitfield::Bitfield;
use crate::lengths::{Block, FileIndex, FileMap, FileSpan, PieceIndex};
use crate::machine::{Deadline, Machine, Outbox, Timestamp};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use check::Check;
use core::time::Duration;
use expected::Expected;
use op::{DiskError, DiskOp, DiskOutput, HashInput, HashOp, HashOutput, Sha1State};
use open_piece::OpenPiece;
use payload::Payload;

/// The storage decisions of one torrent.
#[derive(Debug)]
pub struct Store {
    map: Arc<FileMap>,
    expected: Expected,
    wanted: Vec<bool>,
    open: BTreeMap<PieceIndex, OpenPiece>,
    /// Counts the pieces opened, so that an answer to a failed attempt is not taken for one to the next.
    attempts: u32,
    jobs: BTreeMap<u32, Job>,
    next_job: u32,
    /// Bytes of blocks in memory.
    pinned: u64,
    budget: u64,
    /// Write jobs under way.
    writes_out: u32,
    /// For each file, its pieces that are not stored.
    pieces_left: Vec<u32>,
    /// Wanted files that are not complete under their final name.
    unfinished: BTreeSet<FileIndex>,
    completed: bool,
    dirty: BTreeSet<FileIndex>,
    check: Option<Check>,
    stored: Bitfield,
    doubts: Doubts,
    /// Pieces that failed before: when one passes, the digests of its blocks tell who lied.
    suspects: BTreeSet<PieceIndex>,
    trouble: Option<Trouble>,
    flush: Option<Flush>,
}

/// What can happen to a [`Store`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A block of a piece that is neither verified nor being judged arrived.
    Block {
        /// Which.
        block: Block,
        /// Its bytes.
        payload: Payload,
    },
    /// Look at the files that are there, and find the pieces that are good.
    Check,
    /// An operation ended.
    Done {
        /// Which.
        job: u32,
        /// How.
        result: Result<DiskOutput, DiskError>,
    },
    /// Bring everything under way to an end and make it durable.
    Flush,
    /// Read a part of a stored piece for a peer.
    Read {
        /// Comes back with the answer.
        token: u64,
        /// The piece.
        piece: PieceIndex,
        /// Where in the piece.
        begin: u32,
        /// How much.
        len: u32,
    },
}

/// What a [`Store`] can ask for or say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The check is over; every good piece was named.
    Checked,
    /// Every wanted file is durable under its final name.
    Completed,
    /// The digests of the blocks of a piece that passed after it had failed.
    Digests {
        /// The piece.
        piece: PieceIndex,
        /// A digest a block.
        digests: Vec<[u8; 20]>,
    },
    /// A piece does not match its hash; its blocks are forgotten.
    Failed {
        /// The piece.
        piece: PieceIndex,
        /// A digest a block, unless they could not be read back.
        digests: Vec<[u8; 20]>,
    },
    /// What [`Event::Flush`] asked for is done.
    Flushed,
    /// The check found this piece good.
    Found(PieceIndex),
    /// What else could be lost has been looked at, and what is may be taken in again. Before that, a write could put
    /// zeros where something was, which would then be read without an error.
    LookedAt,
    /// A stored piece can't be read any more, or has become another: it is missing again. [`Action::LookedAt`] follows.
    Lost(PieceIndex),
    /// Execute this.
    Op {
        /// To be named in the answer.
        job: u32,
        /// What.
        op: DiskOp,
    },
    /// The answer to [`Event::Read`].
    Read {
        /// As given.
        token: u64,
        /// The bytes.
        result: Result<Payload, DiskError>,
    },
    /// What failed works again.
    Recovered,
    /// A verified piece is written in full.
    Stored(PieceIndex),
    /// Something can't be read or written. Writes are tried again by and by.
    Trouble(DiskError),
    /// A piece matches its hash.
    Verified(PieceIndex),
}

#[derive(Debug)]
enum Job {
    Blame { piece: PieceIndex },
    CheckHash { piece: PieceIndex },
    CheckStat { file: FileIndex },
    Finish { file: FileIndex },
    Hash { piece: PieceIndex, attempt: u32, to: u32 },
    Read { token: u64, piece: PieceIndex },
    Recheck { piece: PieceIndex },
    Sync { file: FileIndex },
    Write { piece: PieceIndex, attempt: u32, from: u32, to: u32, op: DiskOp },
}

/// Stored pieces that are looked at once more.
#[derive(Debug, Default)]
struct Doubts {
    waiting: BTreeSet<PieceIndex>,
    under_way: BTreeSet<PieceIndex>,
    /// Files that have lost a piece: all of their pieces are looked at.
    files: BTreeSet<FileIndex>,
}

#[derive(Debug)]
struct Trouble {
    retry_at: Timestamp,
    attempts: u32,
    waiting: Vec<Job>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flush {
    Draining,
    Syncing,
}

impl Store {
    /// A store with nothing verified. `wanted` says of each file whether it is to be completed; `budget` is how many
    /// bytes may wait in memory before the store asks for haste.
    ///
    /// # Panics
    /// If `wanted` has not one entry a file.
    pub fn new(map: Arc<FileMap>, expected: Expected, wanted: Vec<bool>, budget: u64) -> Self {
        assert_eq!(wanted.len(), map.file_count() as usize, "one entry a file");
        let files = (0..map.file_count()).map(FileIndex);
        let pieces_left = files
            .clone()
            .map(|file| map.pieces_of(file).map_or(0, |(first, last)| last.get() - first.get() + 1))
            .collect();
        let unfinished = files.filter(|file| wanted[file.as_usize()] && !map.is_pad(*file)).collect();
        let stored = Bitfield::none(map.lengths().piece_count());
        Self {
            map,
            expected,
            wanted,
            open: BTreeMap::new(),
            attempts: 0,
            jobs: BTreeMap::new(),
            next_job: 0,
            pinned: 0,
            budget,
            writes_out: 0,
            pieces_left,
            unfinished,
            completed: false,
            dirty: BTreeSet::new(),
            check: None,
            stored,
            doubts: Doubts::default(),
            suspects: BTreeSet::new(),
            trouble: None,
            flush: None,
        }
    }

    /// Bytes of blocks that are in memory because they are not both hashed and written. Changes with
    /// [`Event::Block`] and [`Event::Done`].
    pub fn pinned(&self) -> u64 {
        self.pinned
    }

    /// Whether writes fail at the moment.
    pub fn in_trouble(&self) -> bool {
        self.trouble.is_some()
    }

    /// Whether every wanted file is complete under its final name.
    pub fn is_completed(&self) -> bool {
        self.unfinished.is_empty()
    }

    /// Whether the check of the files that were there still runs, and how many pieces it has looked at.
    pub fn checking(&self) -> Option<u32> {
        self.check.as_ref().map(Check::looked_at)
    }

    /// Pieces with blocks that are neither stored nor forgotten.
    pub fn open_pieces(&self) -> usize {
        self.open.len()
    }

    fn submit(&mut self, job: Job, op: DiskOp, out: &mut Outbox<Action>) {
        self.writes_out += u32::from(matches!(job, Job::Write { .. }));
        let id = self.next_job;
        self.next_job = self.next_job.wrapping_add(1);
        self.jobs.insert(id, job);
        out.push_back(Action::Op { job: id, op });
    }

    fn spans(&self, piece: PieceIndex, begin: u32, len: u32) -> Vec<FileSpan> {
        self.map.spans(piece, begin, len).collect()
    }

    fn on_block(&mut self, block: Block, payload: Payload, out: &mut Outbox<Action>) {
        assert_eq!(payload.len(), block.len(), "the decoder checks lengths");
        let piece = block.piece();
        let lengths = self.map.lengths();
        let open = self.open.entry(piece).or_insert_with(|| {
            self.attempts = self.attempts.wrapping_add(1);
            OpenPiece::new(lengths.block_count(piece), self.expected.is_v2(), self.attempts)
        });
        if !open.put(block.number(), payload) {
            return;
        }
        self.pinned += u64::from(block.len());
        self.write_from(piece, Some(block.number()), out);
        self.hash_next(piece, false, out);
        self.relieve(out);
    }

    /// When memory is short and no write is under way that could help, starts whatever lets blocks go, however short
    /// the runs are.
    fn relieve(&mut self, out: &mut Outbox<Action>) {
        if !self.is_short() || self.writes_out > 0 || self.trouble.is_some() {
            return;
        }
        for piece in self.open.keys().copied().collect::<Vec<_>>() {
            self.write_from(piece, None, out);
            self.hash_next(piece, true, out);
        }
    }

    fn is_short(&self) -> bool {
        self.pinned > self.budget
    }

    /// Writes the run around block `near` if it is long enough, or every run.
    fn write_from(&mut self, piece: PieceIndex, near: Option<u32>, out: &mut Outbox<Action>) {
        let Some(open) = self.open.get_mut(&piece) else { return };
        let (attempt, runs) = (open.attempt, open.take_writes(near));
        for (from, to, data) in runs {
            let (begin, len) = self.bytes_of(piece, from, to);
            let op = DiskOp::Write { spans: self.spans(piece, begin, len), data };
            let job = Job::Write { piece, attempt, from, to, op: op.clone() };
            match &mut self.trouble {
                Some(trouble) if !trouble.waiting.is_empty() => trouble.waiting.push(job),
                _ => self.submit(job, op, out),
            }
        }
    }

    /// Hands the next run of blocks to the digest, if there is one that is worth a job, or any `however_short`.
    fn hash_next(&mut self, piece: PieceIndex, however_short: bool, out: &mut Outbox<Action>) {
        let Some(open) = self.open.get_mut(&piece) else { return };
        let attempt = open.attempt;
        let Some(run) = open.take_hash(however_short) else { return };
        let (begin, len) = self.bytes_of(piece, run.from, run.to);
        let input = match run.data {
            Some(data) => HashInput::Memory(data),
            None => HashInput::Stored(self.spans(piece, begin, len)),
        };
        let op = match run.state {
            Some(state) => HashOp::Sha1 { state, input, finish: run.finish },
            None => HashOp::Leaves { input },
        };
        self.submit(Job::Hash { piece, attempt, to: run.to }, DiskOp::Hash(op), out);
    }

    /// Where in `piece` the blocks `from..to` lie, and how long they are.
    fn bytes_of(&self, piece: PieceIndex, from: u32, to: u32) -> (u32, u32) {
        let lengths = self.map.lengths();
        let begin = lengths.block(piece, from).expect("the run lies in the piece").begin();
        let last = lengths.block(piece, to - 1).expect("the run lies in the piece");
        (begin, last.begin() + last.len() - begin)
    }

    fn on_done(
        &mut self,
        now: Timestamp,
        job: u32,
        result: Result<DiskOutput, DiskError>,
        out: &mut Outbox<Action>,
    ) {
        let Some(job) = self.jobs.remove(&job) else { return };
        self.writes_out -= u32::from(matches!(job, Job::Write { .. }));
        match (job, result) {
            (Job::Blame { piece }, result) => self.on_blame(piece, result, out),
            (Job::CheckHash { piece }, result) => {
                let good = self.is_good(piece, result);
                self.on_check_hash(piece, good, out);
            }
            (Job::CheckStat { file }, result) => {
                let len = if let Ok(DiskOutput::Stat(len)) = result { len } else { None };
                self.on_check_stat(file, len, out);
            }
            (Job::Hash { piece, attempt, .. } | Job::Write { piece, attempt, .. }, Ok(_))
                if !self.is_current(piece, attempt) => {}
            (Job::Hash { piece, to, .. }, Ok(DiskOutput::Hash(output))) => {
                self.on_hash(piece, to, output, out);
            }
            (Job::Hash { piece, attempt, .. }, _) => {
                // What memory let go could not be read back.
                if self.is_current(piece, attempt) {
                    self.fail(piece, Vec::new(), out);
                }
            }
            (Job::Read { token, piece }, result) => {
                let result = result.and_then(|output| match output {
                    DiskOutput::Read(payload) => Ok(payload),
                    _ => Err(DiskError::Missing),
                });
                if let Err(error) = result {
                    out.push_back(Action::Trouble(error));
                    self.doubt(piece, out);
                }
                out.push_back(Action::Read { token, result });
            }
            (Job::Recheck { piece }, result) => {
                // Who may not read learns nothing.
                let good = matches!(result, Err(DiskError::Denied)) || self.is_good(piece, result);
                self.on_recheck(piece, good, out);
            }
            (Job::Write { piece, from, to, .. }, Ok(_)) => {
                self.recovered(out);
                self.on_written(piece, from, to, out);
            }
            (Job::Sync { file }, Ok(_)) => {
                self.recovered(out);
                self.dirty.remove(&file);
                if self.pieces_left[file.as_usize()] == 0 && self.is_wanted(file) {
                    self.submit(Job::Finish { file }, DiskOp::Finish { file }, out);
                }
            }
            (Job::Finish { file }, Ok(_)) => {
                self.recovered(out);
                // It may have lost a piece meanwhile.
                if self.pieces_left[file.as_usize()] == 0 {
                    self.unfinished.remove(&file);
                }
                self.say_completed(out);
            }
            (job @ (Job::Write { .. } | Job::Sync { .. } | Job::Finish { .. }), Err(error)) => {
                self.on_trouble(now, job, error, out);
            }
        }
        self.relieve(out);
        self.flush_next(out);
    }

    fn is_current(&self, piece: PieceIndex, attempt: u32) -> bool {
        self.open.get(&piece).is_some_and(|open| open.attempt == attempt)
    }

    fn on_written(&mut self, piece: PieceIndex, from: u32, to: u32, out: &mut Outbox<Action>) {
        let (begin, len) = self.bytes_of(piece, from, to);
        self.dirty.extend(self.map.spans(piece, begin, len).filter(|span| !span.pad).map(|span| span.file));
        let Some(open) = self.open.get_mut(&piece) else { return };
        let released = open.written(from, to, self.pinned > self.budget);
        self.release(released);
        self.settle(piece, out);
    }

    fn on_hash(&mut self, piece: PieceIndex, to: u32, output: HashOutput, out: &mut Outbox<Action>) {
        let Some(open) = self.open.get_mut(&piece) else { return };
        let (released, digest) = open.hashed(to, output);
        self.release(released);
        let Some(digest) = digest else { return self.hash_next(piece, self.is_short(), out) };
        let good = self.expected.matches(piece, &digest);
        let open = self.open.get_mut(&piece).expect("it was there above");
        open.judge(good);
        if good {
            out.push_back(Action::Verified(piece));
        }
        self.settle(piece, out);
    }

    /// Ends a piece that is judged and written.
    fn settle(&mut self, piece: PieceIndex, out: &mut Outbox<Action>) {
        let Some(open) = self.open.get_mut(&piece) else { return };
        if !open.is_written() || open.blaming {
            return;
        }
        let Some(good) = open.verdict() else { return };
        if good && !self.suspects.contains(&piece) {
            self.open.remove(&piece);
            self.stored(piece, out);
            return;
        }
        open.blaming = true;
        let spans = self.spans(piece, 0, self.map.lengths().piece_len(piece));
        let op = DiskOp::Hash(HashOp::Leaves { input: HashInput::Stored(spans) });
        self.submit(Job::Blame { piece }, op, out);
    }

    fn on_blame(
        &mut self,
        piece: PieceIndex,
        result: Result<DiskOutput, DiskError>,
        out: &mut Outbox<Action>,
    ) {
        let leaves =
            if let Ok(DiskOutput::Hash(HashOutput::Leaves(leaves))) = result { leaves } else { Vec::new() };
        // They are only compared with each other; what a SHA-1 has for that will do.
        let digests = leaves.iter().map(|leaf| *leaf.first_chunk().expect("32 bytes hold 20")).collect();
        if self.open.get(&piece).and_then(OpenPiece::verdict) == Some(true) {
            self.open.remove(&piece);
            self.suspects.remove(&piece);
            out.push_back(Action::Digests { piece, digests });
            self.stored(piece, out);
        } else {
            self.fail(piece, digests, out);
        }
    }

    fn fail(&mut self, piece: PieceIndex, digests: Vec<[u8; 20]>, out: &mut Outbox<Action>) {
        if let Some(open) = self.open.remove(&piece) {
            self.release(open.held());
            self.suspects.insert(piece);
            out.push_back(Action::Failed { piece, digests });
        }
    }

    fn stored(&mut self, piece: PieceIndex, out: &mut Outbox<Action>) {
        out.push_back(Action::Stored(piece));
        self.count_stored(piece, out);
    }

    /// Looks whether a stored piece is still what it was.
    fn doubt(&mut self, piece: PieceIndex, out: &mut Outbox<Action>) {
        if self.stored.has(piece) && !self.doubts.holds(piece) {
            self.doubts.waiting.insert(piece);
            self.look_on(out);
        }
    }

    fn look_on(&mut self, out: &mut Outbox<Action>) {
        while self.doubts.under_way.len() < MAX_LOOKS
            && let Some(piece) = self.doubts.waiting.pop_first()
        {
            self.doubts.under_way.insert(piece);
            let op = self.whole_hash(piece);
            self.submit(Job::Recheck { piece }, op, out);
        }
    }

    fn on_recheck(&mut self, piece: PieceIndex, good: bool, out: &mut Outbox<Action>) {
        self.doubts.under_way.remove(&piece);
        if !good {
            self.lose(piece, out);
        }
        self.look_on(out);
        if self.doubts.under_way.is_empty() && !core::mem::take(&mut self.doubts).files.is_empty() {
            out.push_back(Action::LookedAt);
        }
    }

    /// A piece is missing again. What befell it may have befallen all of its files.
    fn lose(&mut self, piece: PieceIndex, out: &mut Outbox<Action>) {
        self.stored.remove(piece);
        for span in self.spans(piece, 0, self.map.lengths().piece_len(piece)) {
            self.pieces_left[span.file.as_usize()] += 1;
            if self.is_wanted(span.file) {
                self.unfinished.insert(span.file);
            }
            if self.doubts.files.insert(span.file)
                && let Some((first, last)) = self.map.pieces_of(span.file)
            {
                let all = self.map.lengths().pieces();
                let others = all.skip(first.as_usize()).take(last.as_usize() + 1 - first.as_usize());
                let others = others.filter(|it| self.stored.has(*it) && !self.doubts.under_way.contains(it));
                self.doubts.waiting.extend(others.collect::<Vec<_>>());
            }
        }
        out.push_back(Action::Lost(piece));
    }

    /// What [`whole_hash`](Self::whole_hash) came to.
    fn is_good(&self, piece: PieceIndex, result: Result<DiskOutput, DiskError>) -> bool {
        match result {
            Ok(DiskOutput::Hash(output)) => self.expected.matches_output(piece, output),
            _ => false,
        }
    }

    /// Hashes what the disk holds of a piece.
    fn whole_hash(&self, piece: PieceIndex) -> DiskOp {
        let input = HashInput::Stored(self.spans(piece, 0, self.map.lengths().piece_len(piece)));
        DiskOp::Hash(if self.expected.is_v2() {
            HashOp::Leaves { input }
        } else {
            HashOp::Sha1 { state: Sha1State::new(), input, finish: true }
        })
    }

    /// Finishes the files whose last missing piece this was.
    fn count_stored(&mut self, piece: PieceIndex, out: &mut Outbox<Action>) {
        self.stored.insert(piece);
        let spans = self.spans(piece, 0, self.map.lengths().piece_len(piece));
        for span in spans {
            let left = &mut self.pieces_left[span.file.as_usize()];
            *left -= 1;
            if *left == 0 && self.is_wanted(span.file) {
                self.submit(Job::Sync { file: span.file }, DiskOp::Sync { file: span.file }, out);
            }
        }
    }

    fn is_wanted(&self, file: FileIndex) -> bool {
        self.wanted[file.as_usize()] && !self.map.is_pad(file)
    }

    fn release(&mut self, bytes: u64) {
        self.pinned -= bytes;
    }

    fn on_trouble(&mut self, now: Timestamp, job: Job, error: DiskError, out: &mut Outbox<Action>) {
        if let Some(trouble) = self.trouble.as_mut().filter(|trouble| !trouble.waiting.is_empty()) {
            return trouble.waiting.push(job);
        }
        let attempts = self.trouble.as_ref().map_or(0, |trouble| trouble.attempts).saturating_add(1);
        let wait = RETRY_FIRST.saturating_mul(attempts).min(RETRY_LAST);
        self.trouble = Some(Trouble { retry_at: now + wait, attempts, waiting: vec![job] });
        out.push_back(Action::Trouble(error));
    }

    fn say_completed(&mut self, out: &mut Outbox<Action>) {
        if self.unfinished.is_empty() && self.check.is_none() && !self.completed {
            self.completed = true;
            out.push_back(Action::Completed);
        }
    }

    fn recovered(&mut self, out: &mut Outbox<Action>) {
        if self.trouble.as_ref().is_some_and(|trouble| trouble.waiting.is_empty()) {
            self.trouble = None;
            out.push_back(Action::Recovered);
        }
    }

    fn flush_next(&mut self, out: &mut Outbox<Action>) {
        if !self.jobs.is_empty() && self.flush.is_some() {
            return;
        }
        match self.flush {
            None => {}
            Some(Flush::Draining) if !self.dirty.is_empty() && self.trouble.is_none() => {
                self.flush = Some(Flush::Syncing);
                for file in self.dirty.clone() {
                    self.submit(Job::Sync { file }, DiskOp::Sync { file }, out);
                }
            }
            Some(_) => {
                self.flush = None;
                out.push_back(Action::Flushed);
            }
        }
    }
}

impl Machine for Store {
    type Event = Event;
    type Action = Action;

    fn handle_event(&mut self, now: Timestamp, event: Event, out: &mut Outbox<Action>) {
        match event {
            Event::Block { block, payload } => self.on_block(block, payload, out),
            Event::Check => self.start_check(out),
            Event::Done { job, result } => self.on_done(now, job, result, out),
            Event::Flush => {
                self.flush = Some(Flush::Draining);
                self.flush_next(out);
            }
            Event::Read { token, piece, .. } if self.doubts.holds(piece) => {
                out.push_back(Action::Read { token, result: Err(DiskError::Missing) });
            }
            Event::Read { token, piece, begin, len } => {
                let op = DiskOp::Read { spans: self.spans(piece, begin, len) };
                self.submit(Job::Read { token, piece }, op, out);
            }
        }
    }

    fn handle_timeout(&mut self, now: Timestamp, out: &mut Outbox<Action>) {
        let Some(trouble) = self.trouble.as_mut().filter(|t| t.retry_at <= now && !t.waiting.is_empty())
        else {
            return;
        };
        let waiting = core::mem::take(&mut trouble.waiting);
        let left = &self.pieces_left;
        // A file that lost a piece meanwhile is finished when that is back.
        let due = |job: &Job| !matches!(job, Job::Finish { file } if left[file.as_usize()] > 0);
        for job in waiting.into_iter().filter(due).collect::<Vec<_>>() {
            let op = match &job {
                Job::Write { op, .. } => op.clone(),
                Job::Sync { file } => DiskOp::Sync { file: *file },
                Job::Finish { file } => DiskOp::Finish { file: *file },
                Job::Blame { .. }
                | Job::CheckHash { .. }
                | Job::CheckStat { .. }
                | Job::Hash { .. }
                | Job::Read { .. }
                | Job::Recheck { .. } => unreachable!("only what changes files waits"),
            };
            self.submit(job, op, out);
        }
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let trouble = self.trouble.as_ref().filter(|trouble| !trouble.waiting.is_empty())?;
        Some(Deadline { at: trouble.retry_at, why: "disk retry" })
    }
}

impl Doubts {
    fn holds(&self, piece: PieceIndex) -> bool {
        self.waiting.contains(&piece) || self.under_way.contains(&piece)
    }
}

/// Pieces that are looked at once more at a time: the disk has others to serve.
const MAX_LOOKS: usize = 4;

/// The wait before the first new try at a write that failed; each further one waits as much longer.
const RETRY_FIRST: Duration = Duration::from_secs(2);

/// The longest wait before a new try: a disk that has space again is noticed within it.
const RETRY_LAST: Duration = Duration::from_secs(20);
