//! The files of one simulated host: what is in them, what of it would survive a power cut, and how long it takes.
//!
//! Operations on storage are done one after another, hashing beside them one after another too. Names of files survive
//! a power cut at once; of the bytes only what was synced is sure to, and of each later write the whole is kept, lost
//! or turned into junk by chance.

use super::runs::{Run, Runs};
use bytes::{BufMut as _, Bytes, BytesMut};
use core::time::Duration;
use fast_peer_core::id::TorrentId;
use fast_peer_core::lengths::{FileIndex, FileSpan};
use fast_peer_core::machine::Timestamp;
use fast_peer_core::rng::Rng;
use fast_peer_core::store::op::{
    DiskError, DiskOp, DiskOutput, HashInput, HashOp, HashOutput, Sha1State, ZEROS, leaf,
};
use fast_peer_core::store::payload::Payload;
use std::collections::BTreeMap;

/// How fast a disk is, and what is wrong with it.
#[derive(Clone, Copy, Debug)]
pub struct DiskModel {
    /// What every operation takes at least.
    pub access: Duration,
    /// Bytes a second read or written.
    pub bytes_per_s: u64,
    /// Bytes a second hashed.
    pub hash_bytes_per_s: u64,
    /// The bytes that it can hold.
    pub capacity: u64,
    /// How many in a million operations fail.
    pub error_ppm: u64,
    /// How many in a million operations take as long as `slow` says.
    pub slow_ppm: u64,
    /// What a slow operation takes.
    pub slow: Duration,
}

impl Default for DiskModel {
    fn default() -> Self {
        Self {
            access: Duration::from_micros(100),
            bytes_per_s: 500_000_000,
            hash_bytes_per_s: 1_500_000_000,
            capacity: u64::MAX,
            error_ppm: 0,
            slow_ppm: 0,
            slow: Duration::from_secs(2),
        }
    }
}

/// A disk with the files of some torrents.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) model: DiskModel,
    torrents: BTreeMap<TorrentId, Files>,
    rng: Rng,
    storage_free_at: Timestamp,
    hashing_free_at: Timestamp,
}

#[derive(Debug)]
struct Files {
    files: Vec<File>,
    /// Whether what is read comes as bytes, or may come as a length.
    real: bool,
}

#[derive(Clone, Debug, Default)]
struct File {
    exists: bool,
    runs: Runs,
    /// What survives.
    durable: Runs,
    /// Where it was written since the last sync.
    unsynced: Vec<(u64, u64)>,
    /// What can't be read before it is written again, as begin and end.
    bad: Vec<(u64, u64)>,
}

impl Disk {
    pub(crate) fn new(model: DiskModel, rng: Rng) -> Self {
        Self {
            model,
            torrents: BTreeMap::new(),
            rng,
            storage_free_at: Timestamp::ZERO,
            hashing_free_at: Timestamp::ZERO,
        }
    }

    /// Makes room for the files of a torrent, empty. Zeros are `real` or stand for content.
    pub(crate) fn add_torrent(&mut self, torrent: TorrentId, files: usize, real: bool) {
        self.torrents.insert(torrent, Files { files: vec![File::default(); files], real });
    }

    /// Puts content into a file before anything starts.
    pub(crate) fn fill(&mut self, torrent: TorrentId, file: FileIndex, at: u64, data: &Payload) {
        let file = self.file_mut(torrent, file);
        file.exists = true;
        file.runs.write(at, data);
        file.durable.write(at, data);
    }

    /// Turns bytes of a file into junk, for good.
    pub(crate) fn damage(&mut self, torrent: TorrentId, span: FileSpan) {
        let file = self.file_mut(torrent, span.file);
        let junk = Payload::Content(junk(span.len.into()));
        file.runs.write(span.offset, &junk);
        file.durable.write(span.offset, &junk);
    }

    /// Makes a part of a file one that can't be read until it is written again.
    pub(crate) fn spoil(&mut self, torrent: TorrentId, span: FileSpan) {
        let (file, len) = (self.file_mut(torrent, span.file), u64::from(span.len));
        file.runs.erase(span.offset, len);
        file.durable.erase(span.offset, len);
        file.bad.push((span.offset, span.offset + len));
    }

    /// The runs at a place of a file.
    pub(crate) fn runs(&self, torrent: TorrentId, span: FileSpan) -> impl Iterator<Item = Run> + '_ {
        self.torrents[&torrent].files[span.file.as_usize()].runs.read(span.offset, span.len.into())
    }

    /// What would be left after the power came back, and is left from now on.
    pub(crate) fn lose_power(&mut self) {
        for file in self.torrents.values_mut().flat_map(|torrent| &mut torrent.files) {
            for (at, len) in core::mem::take(&mut file.unsynced) {
                match self.rng.below(3) {
                    0 => {
                        let mut offset = at;
                        for run in file.runs.read(at, len) {
                            write_run(&mut file.durable, offset, &run);
                            offset += run.len();
                        }
                    }
                    1 => {}
                    _ => file.durable.write(at, &Payload::Content(junk(len))),
                }
            }
            file.runs = file.durable.clone();
        }
    }

    /// Forgets what was being done.
    pub(crate) fn be_idle(&mut self, now: Timestamp) {
        (self.storage_free_at, self.hashing_free_at) = (now, now);
    }

    /// Starts an operation; says when it ends.
    pub(crate) fn start(&mut self, now: Timestamp, op: &DiskOp) -> Timestamp {
        let (free_at, rate) = if touches_storage(op) {
            (&mut self.storage_free_at, self.model.bytes_per_s)
        } else {
            (&mut self.hashing_free_at, self.model.hash_bytes_per_s)
        };
        let moved = Duration::from_micros(1_000_000 * bytes_of(op) / rate.max(1));
        let slow = self.model.slow_ppm > 0 && self.rng.chance(self.model.slow_ppm, 1_000_000);
        let access = if slow { self.model.slow } else { self.model.access };
        *free_at = now.max(*free_at) + access + moved;
        *free_at
    }

    /// Does an operation at the moment when it ends.
    pub(crate) fn finish(
        &mut self,
        torrent: TorrentId,
        op: DiskOp,
        zeros: &mut ZeroDigests,
    ) -> Result<DiskOutput, DiskError> {
        if touches_storage(&op)
            && self.model.error_ppm > 0
            && self.rng.chance(self.model.error_ppm, 1_000_000)
        {
            return Err(DiskError::Io(EIO));
        }
        match op {
            DiskOp::Finish { file } => {
                self.file_mut(torrent, file).exists = true;
                Ok(DiskOutput::Done)
            }
            DiskOp::Hash(HashOp::Leaves { input }) => {
                let leaves = match input {
                    HashInput::Memory(blocks) => blocks.iter().map(|block| zeros.leaf(block)).collect(),
                    HashInput::Stored(spans) => {
                        let stored = self.read(torrent, &spans)?;
                        (0..stored.len())
                            .step_by(LEAF_LEN)
                            .map(|at| zeros.leaf(&stored.slice(at..stored.len().min(at + LEAF_LEN as u32))))
                            .collect()
                    }
                };
                Ok(DiskOutput::Hash(HashOutput::Leaves(leaves)))
            }
            DiskOp::Hash(HashOp::Sha1 { mut state, input, finish }) => {
                match input {
                    HashInput::Memory(blocks) => {
                        for block in &blocks {
                            state = zeros.extend(state, block);
                        }
                    }
                    HashInput::Stored(spans) => state = zeros.extend(state, &self.read(torrent, &spans)?),
                }
                let output = if finish { HashOutput::Sha1(state.finish()) } else { HashOutput::State(state) };
                Ok(DiskOutput::Hash(output))
            }
            DiskOp::Metadata(assembly) => Ok(DiskOutput::Metadata(assembly.read())),
            DiskOp::Read { spans } => self.read(torrent, &spans).map(DiskOutput::Read),
            DiskOp::Stat { file } => {
                let file = self.file_mut(torrent, file);
                Ok(DiskOutput::Stat(file.exists.then(|| file.runs.end())))
            }
            DiskOp::Sync { file } => {
                let file = self.file_mut(torrent, file);
                for (at, len) in core::mem::take(&mut file.unsynced) {
                    let mut offset = at;
                    for run in file.runs.read(at, len) {
                        write_run(&mut file.durable, offset, &run);
                        offset += run.len();
                    }
                }
                Ok(DiskOutput::Done)
            }
            DiskOp::Write { spans, data } => self.write(torrent, &spans, &data).map(|()| DiskOutput::Done),
        }
    }

    fn write(&mut self, torrent: TorrentId, spans: &[FileSpan], data: &[Payload]) -> Result<(), DiskError> {
        let all = self.torrents.values().flat_map(|torrent| &torrent.files);
        let stored: u64 = all.map(|file| file.runs.stored()).sum();
        let torrent = self.torrents.get_mut(&torrent).expect("a torrent's files are added first");
        let files = &mut torrent.files;
        let real = || spans.iter().filter(|span| !span.pad);
        let new: u64 =
            real().map(|span| files[span.file.as_usize()].runs.missing(span.offset, span.len.into())).sum();
        if stored.saturating_add(new) > self.model.capacity {
            return Err(DiskError::Full);
        }
        let mut data = data.iter().cloned();
        let mut rest: Option<Payload> = None;
        for span in spans {
            let (mut at, end) = (span.offset, span.offset + u64::from(span.len));
            while at < end {
                let part = rest.take().or_else(|| data.next()).expect("the data fill the spans");
                let len = u64::from(part.len()).min(end - at) as u32;
                if len < part.len() {
                    rest = Some(part.slice(len..part.len()));
                }
                if !span.pad {
                    let file = &mut files[span.file.as_usize()];
                    file.exists = true;
                    file.heal(at, at + u64::from(len));
                    file.runs.write(at, &part.slice(0..len));
                }
                at += u64::from(len);
            }
            if !span.pad {
                files[span.file.as_usize()].unsynced.push((span.offset, span.len.into()));
            }
        }
        assert!(rest.is_none() && data.next().is_none(), "the spans hold the data");
        Ok(())
    }

    fn read(&self, torrent: TorrentId, spans: &[FileSpan]) -> Result<Payload, DiskError> {
        let mut runs = Vec::new();
        for span in spans {
            let file = &self.torrents[&torrent].files[span.file.as_usize()];
            if span.pad {
                runs.push(Run::Zeros(span.len.into()));
            } else if file.is_bad(span.offset, span.offset + u64::from(span.len)) {
                return Err(DiskError::Io(EIO));
            } else if span.offset + u64::from(span.len) <= file.runs.end() {
                runs.extend(file.runs.read(span.offset, span.len.into()));
            } else {
                return Err(DiskError::Missing);
            }
        }
        let len: u64 = runs.iter().map(Run::len).sum();
        if !self.torrents[&torrent].real && runs.iter().all(|run| matches!(run, Run::Zeros(_))) {
            return Ok(Payload::Length(len as u32));
        }
        if let [Run::Bytes(bytes)] = runs.as_slice() {
            return Ok(Payload::Content(bytes.clone()));
        }
        let mut content = BytesMut::with_capacity(len as usize);
        for run in runs {
            match run {
                Run::Bytes(bytes) => content.put_slice(&bytes),
                Run::Hole(len) => content.put_bytes(JUNK, len as usize),
                Run::Zeros(len) => content.put_bytes(0, len as usize),
            }
        }
        Ok(Payload::Content(content.freeze()))
    }

    fn file_mut(&mut self, torrent: TorrentId, file: FileIndex) -> &mut File {
        let torrent = self.torrents.get_mut(&torrent).expect("a torrent's files are added first");
        &mut torrent.files[file.as_usize()]
    }
}

impl File {
    fn is_bad(&self, from: u64, to: u64) -> bool {
        self.bad.iter().any(|bad| bad.0 < to && from < bad.1)
    }

    fn heal(&mut self, from: u64, to: u64) {
        let left = self.bad.iter().flat_map(|bad| [(bad.0, bad.1.min(from)), (bad.0.max(to), bad.1)]);
        self.bad = left.filter(|bad| bad.0 < bad.1).collect();
    }
}

fn write_run(runs: &mut Runs, at: u64, run: &Run) {
    match run {
        Run::Bytes(bytes) => runs.write(at, &Payload::Content(bytes.clone())),
        Run::Hole(len) => runs.erase(at, *len),
        Run::Zeros(len) => {
            let mut at = at;
            let mut left = *len;
            while left > 0 {
                let part = left.min(u64::from(u32::MAX));
                runs.write(at, &Payload::Length(part as u32));
                (at, left) = (at + part, left - part);
            }
        }
    }
}

/// All but what is done with bytes in memory.
fn touches_storage(op: &DiskOp) -> bool {
    match op {
        DiskOp::Hash(HashOp::Leaves { input } | HashOp::Sha1 { input, .. }) => {
            !matches!(input, HashInput::Memory(_))
        }
        DiskOp::Metadata(_) => false,
        _ => true,
    }
}

fn bytes_of(op: &DiskOp) -> u64 {
    let of_spans = |spans: &[FileSpan]| spans.iter().map(|span| u64::from(span.len)).sum();
    match op {
        DiskOp::Hash(HashOp::Leaves { input } | HashOp::Sha1 { input, .. }) => match input {
            HashInput::Memory(data) => data.iter().map(|part| u64::from(part.len())).sum(),
            HashInput::Stored(spans) => of_spans(spans),
        },
        DiskOp::Read { spans } | DiskOp::Write { spans, .. } => of_spans(spans),
        DiskOp::Metadata(assembly) => assembly.len() as u64,
        DiskOp::Finish { .. } | DiskOp::Stat { .. } | DiskOp::Sync { .. } => 0,
    }
}

fn junk(len: u64) -> Bytes {
    Bytes::from(vec![JUNK; len as usize])
}

/// Digests of blocks that travel as lengths, which stand for zeros: each is computed once a run.
#[derive(Debug, Default)]
pub(crate) struct ZeroDigests {
    states: BTreeMap<u64, Sha1State>,
    leaves: BTreeMap<u32, [u8; 32]>,
}

impl ZeroDigests {
    /// The SHA-1 of `len` zeros.
    pub(crate) fn sha1(&mut self, len: u64) -> [u8; 20] {
        self.state(len).finish()
    }

    /// `state` after `data`.
    fn extend(&mut self, mut state: Sha1State, data: &Payload) -> Sha1State {
        match data {
            Payload::Content(bytes) => state.update(bytes),
            Payload::Length(len) if self.state(state.taken()) == state => {
                return self.state(state.taken() + u64::from(*len));
            }
            Payload::Length(len) => update_with_zeros(&mut state, u64::from(*len)),
        }
        state
    }

    fn leaf(&mut self, block: &Payload) -> [u8; 32] {
        match block {
            Payload::Content(bytes) => leaf(bytes),
            Payload::Length(len) => *self.leaves.entry(*len).or_insert_with(|| leaf(&ZEROS[..*len as usize])),
        }
    }

    fn state(&mut self, len: u64) -> Sha1State {
        let (from, state) = match self.states.range(..=len).next_back() {
            Some((from, state)) => (*from, state.clone()),
            None => (0, Sha1State::new()),
        };
        if from == len {
            return state;
        }
        let mut state = state;
        update_with_zeros(&mut state, len - from);
        self.states.insert(len, state.clone());
        state
    }
}

fn update_with_zeros(state: &mut Sha1State, mut len: u64) {
    while len > 0 {
        let part = len.min(ZEROS.len() as u64);
        state.update(&ZEROS[..part as usize]);
        len -= part;
    }
}

/// What holes and ruined bytes read as.
const JUNK: u8 = 0xa5;

const EIO: i32 = 5;

/// A block is a leaf (BEP 52).
const LEAF_LEN: usize = fast_peer_core::lengths::BLOCK_LEN as usize;

#[cfg(test)]
mod tests {
    use super::*;

    const T: TorrentId = TorrentId(0);

    fn disk(model: DiskModel) -> Disk {
        let mut disk = Disk::new(model, Rng::from_number(1));
        disk.add_torrent(T, 2, false);
        disk
    }

    fn span(file: u32, offset: u64, len: u32) -> FileSpan {
        FileSpan { file: FileIndex(file), offset, len, pad: false }
    }

    fn run(disk: &mut Disk, op: DiskOp) -> Result<DiskOutput, DiskError> {
        disk.finish(T, op, &mut ZeroDigests::default())
    }

    fn write(disk: &mut Disk, spans: Vec<FileSpan>, data: &[u8]) -> Result<DiskOutput, DiskError> {
        run(disk, DiskOp::Write { spans, data: vec![Payload::Content(Bytes::copy_from_slice(data))] })
    }

    #[test]
    fn a_write_goes_over_files_and_past_pads() {
        let mut disk = disk(DiskModel::default());
        let pad = FileSpan { pad: true, ..span(0, 0, 2) };
        write(&mut disk, vec![span(0, 3, 2), pad, span(1, 0, 1)], b"ab\0\0c").unwrap();
        let read = run(&mut disk, DiskOp::Read { spans: vec![span(0, 3, 2), pad, span(1, 0, 1)] }).unwrap();
        assert_eq!(read, DiskOutput::Read(Payload::Content(Bytes::from_static(b"ab\0\0c"))));
        assert_eq!(run(&mut disk, DiskOp::Stat { file: FileIndex(0) }), Ok(DiskOutput::Stat(Some(5))));
        let beyond = run(&mut disk, DiskOp::Read { spans: vec![span(1, 1, 1)] });
        assert_eq!(beyond, Err(DiskError::Missing));
    }

    #[test]
    fn a_full_disk_takes_overwrites_only() {
        let mut disk = disk(DiskModel { capacity: 4, ..DiskModel::default() });
        write(&mut disk, vec![span(0, 0, 4)], b"abcd").unwrap();
        write(&mut disk, vec![span(0, 1, 2)], b"xy").unwrap();
        assert_eq!(write(&mut disk, vec![span(0, 3, 2)], b"zz"), Err(DiskError::Full));
        disk.model.capacity = 5;
        write(&mut disk, vec![span(0, 3, 2)], b"zz").unwrap();
    }

    #[test]
    fn a_length_hashes_like_as_many_zeros() {
        let (mut zeros, mut plain) = (ZeroDigests::default(), Sha1State::new());
        let mut state = Sha1State::new();
        for len in [16384, 16384, 100] {
            state = zeros.extend(state, &Payload::Length(len));
            plain.update(&vec![0; len as usize]);
        }
        assert_eq!((&state, zeros.sha1(32868)), (&plain, plain.clone().finish()));
        let odd = zeros.extend(Sha1State::new(), &Payload::Content(Bytes::from_static(b"x")));
        let mixed = zeros.extend(odd, &Payload::Length(5));
        let mut plain = Sha1State::new();
        plain.update(b"x\0\0\0\0\0");
        assert_eq!(mixed, plain);
        assert_eq!(zeros.leaf(&Payload::Length(7)), leaf(&[0; 7]));
    }

    #[test]
    fn a_hole_never_passes_for_content() {
        let mut disk = disk(DiskModel::default());
        run(&mut disk, DiskOp::Write { spans: vec![span(0, 2, 2)], data: vec![Payload::Length(2)] }).unwrap();
        let read = run(&mut disk, DiskOp::Read { spans: vec![span(0, 0, 4)] });
        assert_eq!(read, Ok(DiskOutput::Read(Payload::Content(Bytes::from_static(&[JUNK, JUNK, 0, 0])))));
    }

    #[test]
    fn a_power_cut_spares_what_was_synced_and_nothing_else_for_sure() {
        let mut outcomes = std::collections::BTreeSet::new();
        for seed in 0..40 {
            let mut disk = Disk::new(DiskModel::default(), Rng::from_number(seed));
            disk.add_torrent(T, 1, true);
            write(&mut disk, vec![span(0, 0, 2)], b"ab").unwrap();
            run(&mut disk, DiskOp::Sync { file: FileIndex(0) }).unwrap();
            write(&mut disk, vec![span(0, 2, 2)], b"cd").unwrap();
            disk.lose_power();
            let runs: Vec<_> = disk.runs(T, span(0, 0, 4)).collect();
            assert_eq!(runs[0], Run::Bytes(Bytes::from_static(b"ab")));
            outcomes.insert(format!("{:?}", runs[1]));
        }
        assert_eq!(outcomes.len(), 3, "kept, lost and ruined: {outcomes:?}");
    }

    #[test]
    fn operations_wait_for_those_before_them() {
        let mut disk = disk(DiskModel { bytes_per_s: 1000, access: Duration::ZERO, ..DiskModel::default() });
        let read = DiskOp::Read { spans: vec![span(0, 0, 10)] };
        assert_eq!(disk.start(Timestamp::ZERO, &read), Timestamp::from_micros(10_000));
        assert_eq!(disk.start(Timestamp::from_micros(5_000), &read), Timestamp::from_micros(20_000));
        let hash = HashInput::Memory(vec![Payload::Length(10)]);
        let hash = DiskOp::Hash(HashOp::Leaves { input: hash });
        assert_eq!(disk.start(Timestamp::ZERO, &hash), Timestamp::ZERO, "hashing goes on beside");
    }
}
