use super::expected::Expected;
use super::op::{DiskError, DiskOp, DiskOutput, HashInput, HashOp, HashOutput, leaf};
use super::payload::Payload;
use super::{Action, Event, Store};
use crate::lengths::{FileMap, FileSpan, PieceIndex};
use crate::machine::{Machine as _, Outbox, Timestamp};
use crate::metainfo::merkle;
use crate::rng::Rng;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use core::time::Duration;
use proptest::prelude::*;
use sha1::{Digest as _, Sha1};

/// A disk in memory that executes operations when told to, in any order.
struct Bench {
    map: Arc<FileMap>,
    store: Store,
    content: Vec<Vec<u8>>,
    files: BTreeMap<u32, Vec<u8>>,
    finished: Vec<u32>,
    waiting: VecDeque<(u32, DiskOp)>,
    said: Vec<Action>,
    now: Timestamp,
    full: bool,
    writes: usize,
    reads_back: usize,
}

impl Bench {
    fn v1(files: &[(u64, bool)], piece_len: u64, budget: u64) -> Self {
        let map = Arc::new(FileMap::contiguous(files, piece_len).unwrap());
        let content = Self::content(&map);
        let hashes: Vec<u8> =
            map.lengths().pieces().flat_map(|p| Sha1::digest(piece_bytes(&map, &content, p))).collect();
        Self::new(map, content, Expected::Sha1(hashes.into()), budget)
    }

    fn v2(files: &[u64], piece_len: u64) -> Self {
        let map = Arc::new(FileMap::per_file(files, piece_len).unwrap());
        let content = Self::content(&map);
        let roots = map.lengths().pieces().map(|piece| {
            let bytes = piece_bytes(&map, &content, piece);
            let leaves: Vec<_> = bytes.chunks(1 << 14).map(leaf).collect();
            let file = map.spans(piece, 0, 1).next().unwrap().file;
            let one_piece = map.file_len(file) <= piece_len;
            let width =
                if one_piece { leaves.len().next_power_of_two() as u32 } else { (piece_len >> 14) as u32 };
            let hash = merkle::root(&leaves, 0, width);
            merkle::PieceRoot { hash, len: bytes.len() as u32, width }
        });
        let expected = Expected::Merkle(roots.collect());
        Self::new(map, content, expected, 1 << 20)
    }

    fn content(map: &FileMap) -> Vec<Vec<u8>> {
        let mut rng = Rng::from_number(5);
        (0..map.file_count())
            .map(crate::lengths::FileIndex)
            .map(|file| {
                let mut bytes = vec![0; map.file_len(file) as usize];
                if !map.is_pad(file) {
                    rng.fill(&mut bytes);
                }
                bytes
            })
            .collect()
    }

    fn new(map: Arc<FileMap>, content: Vec<Vec<u8>>, expected: Expected, budget: u64) -> Self {
        let wanted = vec![true; content.len()];
        Self {
            store: Store::new(Arc::clone(&map), expected, wanted, budget),
            map,
            content,
            files: BTreeMap::new(),
            finished: vec![],
            waiting: VecDeque::new(),
            said: vec![],
            now: Timestamp::ZERO,
            full: false,
            writes: 0,
            reads_back: 0,
        }
    }

    fn piece(&self, index: u32) -> PieceIndex {
        self.map.lengths().piece(index).unwrap()
    }

    fn event(&mut self, event: Event) {
        let mut out = Outbox::new();
        self.store.handle_event(self.now, event, &mut out);
        self.take(out);
    }

    fn take(&mut self, out: Outbox<Action>) {
        for action in out {
            match action {
                Action::Op { job, op } => self.waiting.push_back((job, op)),
                said => self.said.push(said),
            }
        }
    }

    fn block(&mut self, piece: u32, number: u32, corrupt: bool) {
        let block = self.map.lengths().block(self.piece(piece), number).unwrap();
        let mut bytes = spans_bytes(&self.content, self.map.spans(block.piece(), block.begin(), block.len()));
        if corrupt {
            bytes[0] ^= 1;
        }
        self.event(Event::Block { block, payload: Payload::Content(bytes.into()) });
    }

    /// Executes the operation at place `at` of those waiting.
    fn execute(&mut self, at: usize) {
        let (job, op) = self.waiting.remove(at).unwrap();
        let result = self.perform(op);
        self.event(Event::Done { job, result });
    }

    fn settle(&mut self) {
        while !self.waiting.is_empty() {
            self.execute(0);
        }
    }

    fn perform(&mut self, op: DiskOp) -> Result<DiskOutput, DiskError> {
        match op {
            DiskOp::Finish { file } => {
                assert!(!self.finished.contains(&file.0), "a file is finished once");
                self.files.entry(file.0).or_default();
                self.finished.push(file.0);
                Ok(DiskOutput::Done)
            }
            DiskOp::Hash(op) => {
                let input = match &op {
                    HashOp::Leaves { input } | HashOp::Sha1 { input, .. } => input,
                };
                let bytes = match input {
                    HashInput::Memory(data) => {
                        data.iter().flat_map(|d| d.content().unwrap().to_vec()).collect()
                    }
                    HashInput::Stored(spans) => {
                        self.reads_back += 1;
                        self.read(spans)?
                    }
                };
                Ok(DiskOutput::Hash(op.compute(bytes.chunks(1 << 14))))
            }
            DiskOp::Metadata(_) => unreachable!("this is not the store's business"),
            DiskOp::Read { spans } => Ok(DiskOutput::Read(Payload::Content(self.read(&spans)?.into()))),
            DiskOp::Stat { file } => {
                Ok(DiskOutput::Stat(self.files.get(&file.0).map(|bytes| bytes.len() as u64)))
            }
            DiskOp::Sync { .. } => Ok(DiskOutput::Done),
            DiskOp::Write { spans, data } => {
                if self.full {
                    return Err(DiskError::Full);
                }
                self.writes += 1;
                let mut bytes: VecDeque<u8> =
                    data.iter().flat_map(|d| d.content().unwrap().to_vec()).collect();
                for span in spans {
                    let part: Vec<u8> = bytes.drain(..span.len as usize).collect();
                    if span.pad {
                        continue;
                    }
                    let file = self.files.entry(span.file.0).or_default();
                    let end = span.offset as usize + part.len();
                    if file.len() < end {
                        file.resize(end, 0);
                    }
                    file[span.offset as usize..end].copy_from_slice(&part);
                }
                assert!(bytes.is_empty(), "the data fills the runs");
                Ok(DiskOutput::Done)
            }
        }
    }

    fn read(&self, spans: &[FileSpan]) -> Result<Vec<u8>, DiskError> {
        let mut bytes = vec![];
        for span in spans {
            let (from, to) = (span.offset as usize, span.offset as usize + span.len as usize);
            if span.pad {
                bytes.resize(bytes.len() + span.len as usize, 0);
            } else {
                let file = self.files.get(&span.file.0).ok_or(DiskError::Missing)?;
                bytes.extend_from_slice(file.get(from..to).ok_or(DiskError::Missing)?);
            }
        }
        Ok(bytes)
    }

    fn assert_complete(&self) {
        for (file, bytes) in self.content.iter().enumerate() {
            if !self.map.is_pad(crate::lengths::FileIndex(file as u32)) {
                assert!(self.finished.contains(&(file as u32)), "file {file} is finished");
                assert!(self.files[&(file as u32)] == *bytes, "file {file} is what it should be");
            }
        }
        assert!(self.said.contains(&Action::Completed));
        assert_eq!(self.store.pinned(), 0);
        assert_eq!(self.store.open_pieces(), 0);
    }
}

fn spans_bytes(content: &[Vec<u8>], spans: impl Iterator<Item = FileSpan>) -> Vec<u8> {
    spans.flat_map(|s| content[s.file.as_usize()][s.offset as usize..][..s.len as usize].to_vec()).collect()
}

fn piece_bytes(map: &FileMap, content: &[Vec<u8>], piece: PieceIndex) -> Vec<u8> {
    spans_bytes(content, map.spans(piece, 0, map.lengths().piece_len(piece)))
}

#[test]
fn a_piece_in_order_is_hashed_and_written_without_reading_back() {
    let mut bench = Bench::v1(&[(1 << 20, false)], 1 << 20, 8 << 20);
    bench.event(Event::Check);
    bench.settle();
    (0..64).for_each(|number| bench.block(0, number, false));
    bench.settle();
    assert_eq!(bench.writes, 4, "runs of 256 KiB");
    assert_eq!(bench.reads_back, 0);
    let piece = bench.piece(0);
    assert_eq!(
        bench.said,
        [Action::Checked, Action::Verified(piece), Action::Stored(piece), Action::Completed]
    );
    bench.assert_complete();
}

#[test]
fn a_corrupt_block_fails_the_piece_and_the_digests_show_which() {
    let mut bench = Bench::v1(&[(65536, false)], 65536, 8 << 20);
    bench.event(Event::Check);
    (0..4).for_each(|number| bench.block(0, number, number == 2));
    bench.settle();
    let Some(Action::Failed { digests: bad, .. }) = bench.said.last().cloned() else {
        panic!("it failed: {:?}", bench.said)
    };
    (0..4).for_each(|number| bench.block(0, number, false));
    bench.settle();
    let digests = bench.said.iter().find_map(|action| match action {
        Action::Digests { digests, .. } => Some(digests.clone()),
        _ => None,
    });
    let wrong: Vec<usize> = (0..4).filter(|i| digests.as_ref().unwrap()[*i] != bad[*i]).collect();
    assert_eq!(wrong, [2]);
    bench.assert_complete();
}

#[test]
fn blocks_that_memory_let_go_are_read_back() {
    let mut bench = Bench::v1(&[(1 << 20, false)], 1 << 20, 4 << 14);
    bench.event(Event::Check);
    for number in (0..64).rev() {
        bench.block(0, number, false);
        bench.settle();
        assert!(bench.store.pinned() <= 5 << 14, "{} bytes", bench.store.pinned());
    }
    assert!(bench.reads_back > 0);
    bench.assert_complete();
}

#[test]
fn a_full_disk_loses_nothing_and_goes_on_when_there_is_space() {
    let mut bench = Bench::v1(&[(1 << 19, false)], 1 << 18, 8 << 20);
    bench.event(Event::Check);
    bench.settle();
    bench.full = true;
    (0..16).for_each(|number| bench.block(0, number, false));
    bench.settle();
    assert_eq!(bench.said.iter().filter(|said| **said == Action::Trouble(DiskError::Full)).count(), 1);
    assert!(bench.store.in_trouble());
    (0..16).for_each(|number| bench.block(1, number, false));
    bench.settle();
    for _ in 0..3 {
        let due = bench.store.poll_timeout().unwrap();
        assert!(due.at > bench.now);
        bench.now = due.at;
        let mut out = Outbox::new();
        bench.store.handle_timeout(due.at, &mut out);
        bench.take(out);
        bench.settle();
    }
    assert!(!bench.said.iter().any(|said| matches!(said, Action::Stored(_) | Action::Recovered)));
    bench.full = false;
    bench.now = bench.store.poll_timeout().unwrap().at + Duration::from_secs(1);
    let mut out = Outbox::new();
    bench.store.handle_timeout(bench.now, &mut out);
    bench.take(out);
    bench.settle();
    assert!(bench.said.contains(&Action::Recovered));
    assert!(!bench.store.in_trouble());
    bench.assert_complete();
}

#[test]
fn what_is_there_is_found_and_only_what_is_good() {
    let mut bench = Bench::v1(&[(40000, false), (0, false), (70000, false)], 16384, 8 << 20);
    let mut second = bench.content[2].clone();
    second[30000] ^= 1;
    second.truncate(65000);
    bench.files.insert(0, bench.content[0].clone());
    bench.files.insert(2, second);
    bench.event(Event::Check);
    bench.settle();
    let found: Vec<u32> = bench
        .said
        .iter()
        .filter_map(|said| if let Action::Found(piece) = said { Some(piece.get()) } else { None })
        .collect();
    // Byte 30,000 of the second file is byte 70,000 of the torrent: piece 4. It ends at 105,000: piece 6 is cut.
    assert_eq!(found, [0, 1, 2, 3, 5]);
    assert_eq!(bench.finished, [1, 0], "the first file is whole and the empty one is made");
    for piece in [4, 6] {
        bench.block(piece, 0, false);
    }
    bench.settle();
    bench.assert_complete();
}

#[test]
fn a_flush_waits_for_what_is_under_way_and_syncs_it() {
    let mut bench = Bench::v1(&[(1 << 19, false)], 1 << 18, 8 << 20);
    bench.event(Event::Check);
    bench.settle();
    (0..16).for_each(|number| bench.block(0, number, false));
    bench.event(Event::Flush);
    assert!(!bench.said.contains(&Action::Flushed));
    let synced = |bench: &Bench| bench.waiting.iter().any(|(_, op)| matches!(op, DiskOp::Sync { .. }));
    while !synced(&bench) {
        bench.execute(0);
    }
    bench.settle();
    assert_eq!(bench.said.last(), Some(&Action::Flushed));
}

#[test]
fn an_answer_to_another_question_is_no_digest() {
    let mut bench = Bench::v1(&[(16384, false)], 16384, 8 << 20);
    bench.event(Event::Check);
    bench.settle();
    bench.block(0, 0, false);
    let at = bench.waiting.iter().position(|(_, op)| matches!(op, DiskOp::Hash(_))).unwrap();
    let (job, _) = bench.waiting.remove(at).unwrap();
    bench.event(Event::Done { job, result: Ok(DiskOutput::Hash(HashOutput::Leaves(vec![]))) });
    bench.event(Event::Done { job, result: Ok(DiskOutput::Done) });
    bench.settle();
    assert!(!bench.said.iter().any(|said| matches!(said, Action::Verified(_))));
}

proptest! {
    /// Whatever the shape of the torrent, the order of blocks and the order of answers: every file ends up right, and
    /// nothing is said to be good that is not.
    #[test]
    fn any_order_gives_the_right_files(
        files in prop::collection::vec((0_u64..90_000, prop::bool::weighted(0.2)), 1..5),
        piece_len in prop::sample::select(vec![16384_u64, 20_000, 65536, 131_072]),
        budget in prop::sample::select(vec![20_000_u64, 1 << 20]),
        seed in any::<u64>(),
    ) {
        prop_assume!(files.iter().any(|(len, _)| *len > 0));
        let bench = Bench::v1(&files, piece_len, budget);
        download(bench, seed);
    }

    #[test]
    fn any_order_gives_the_right_files_of_v2(
        files in prop::collection::vec(0_u64..90_000, 1..5),
        piece_len in prop::sample::select(vec![16384_u64, 32768, 65536]),
        seed in any::<u64>(),
    ) {
        prop_assume!(files.iter().any(|len| *len > 0));
        download(Bench::v2(&files, piece_len), seed);
    }
}

fn download(mut bench: Bench, seed: u64) {
    let mut rng = Rng::from_number(seed);
    bench.event(Event::Check);
    bench.settle();
    let lengths = bench.map.lengths().clone();
    // A piece of nothing but padding is there from the start.
    let missing = lengths.pieces().filter(|piece| !bench.said.contains(&Action::Found(*piece)));
    let mut blocks: Vec<_> = missing.flat_map(|piece| lengths.blocks(piece)).collect();
    rng.shuffle(&mut blocks);
    let mut corrupt = rng.chance(1, 2);
    let mut done = 0;
    while let Some(block) = blocks.pop() {
        bench.block(block.piece().get(), block.number(), core::mem::take(&mut corrupt));
        while !bench.waiting.is_empty() && rng.chance(2, 3) {
            let at = rng.below(bench.waiting.len() as u64) as usize;
            bench.execute(at);
        }
        if blocks.is_empty() {
            while !bench.waiting.is_empty() {
                let at = rng.below(bench.waiting.len() as u64) as usize;
                bench.execute(at);
            }
        }
        for said in &bench.said[done..] {
            if let Action::Failed { piece, .. } = said {
                blocks.extend(lengths.blocks(*piece));
            }
        }
        done = bench.said.len();
    }
    bench.assert_complete();
    let good = |said: &&Action| matches!(said, Action::Verified(_) | Action::Found(_));
    let verified = bench.said.iter().filter(good).count();
    assert_eq!(verified as u32, lengths.piece_count(), "each piece once");
}

#[test]
fn payloads_without_content_are_decided_on_alike() {
    let mut bench = Bench::v1(&[(65536, false)], 65536, 8 << 20);
    bench.event(Event::Check);
    bench.settle();
    for number in 0..4 {
        let block = bench.map.lengths().block(bench.piece(0), number).unwrap();
        bench.event(Event::Block { block, payload: Payload::Length(16384) });
    }
    let ops: Vec<_> = bench.waiting.iter().map(|(_, op)| alloc::format!("{op}")).collect();
    assert_eq!(ops, ["write f0:0+65536", "hash from=0 len=65536 end"]);
    let zeros = Payload::Content(Bytes::from(vec![0; 3]));
    assert_eq!(alloc::format!("{zeros} {}", zeros.slice(1..3)), "len=3 len=2");
}

#[test]
fn a_piece_that_cannot_be_read_back_is_lost_and_taken_in_again() {
    for mut bench in
        [Bench::v1(&[(100_000, false), (60_000, false)], 1 << 16, 1 << 20), Bench::v2(&[100_000], 1 << 16)]
    {
        bench.event(Event::Check);
        for piece in bench.map.lengths().pieces() {
            (0..bench.map.lengths().block_count(piece))
                .for_each(|number| bench.block(piece.get(), number, false));
        }
        bench.settle();
        bench.said.clear();
        bench.finished.clear();
        bench.files.get_mut(&0).unwrap()[70_000] ^= 1;
        let piece = bench.piece(1);
        let read = |token| Event::Read { token, piece, begin: 0, len: 1 << 14 };

        // As long as it can be read nobody looks, and what failed only once is forgotten.
        bench.event(read(7));
        bench.settle();
        bench.files.get_mut(&0).unwrap()[70_000] ^= 1;
        bench.event(read(8));
        let (job, _) = bench.waiting.pop_front().unwrap();
        bench.event(Event::Done { job, result: Err(DiskError::Io(5)) });
        bench.settle();
        assert!(!bench.said.contains(&Action::Lost(piece)), "{:?}", bench.said);

        // With the file all of its pieces are gone, and nobody is given what a write puts in their place.
        let len = bench.files.remove(&0).unwrap().len();
        bench.event(read(9));
        bench.execute(0);
        bench.files.insert(0, vec![0; len]);
        bench.said.clear();
        bench.event(read(10));
        assert_eq!(bench.said, [Action::Read { token: 10, result: Err(DiskError::Missing) }]);
        bench.settle();
        let other = bench.piece(0);
        assert_eq!(bench.said[1..], [Action::Lost(piece), Action::Lost(other), Action::LookedAt]);
        bench.said.clear();
        for (lost, completed) in [(piece, false), (other, true)] {
            let blocks = bench.map.lengths().block_count(lost);
            (0..blocks).for_each(|number| bench.block(lost.get(), number, false));
            bench.settle();
            assert_eq!(bench.said, [Action::Verified(lost), Action::Stored(lost)], "it was completed before");
            assert_eq!(bench.store.is_completed(), completed);
            bench.said.clear();
        }
        let mut finished = bench.finished.clone();
        finished.sort_unstable();
        let spans = bench.map.spans(piece, 0, bench.map.lengths().piece_len(piece));
        assert_eq!(finished, spans.map(|span| span.file.0).collect::<Vec<_>>());
    }
}
