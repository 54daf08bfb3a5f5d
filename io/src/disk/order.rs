//! Which jobs may run beside each other: those of one file range keep their order, all others overtake freely.

use fast_peer_core::id::{JobId, TorrentId};
use fast_peer_core::lengths::FileIndex;
use fast_peer_core::store::op::{DiskOp, HashInput, HashOp};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

/// What a job touches.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Footprint {
    torrent: TorrentId,
    ranges: Vec<(FileIndex, Range<u64>)>,
    changes: bool,
}

/// Jobs that run, and those that have to wait for them.
#[derive(Debug)]
pub(super) struct Order<J> {
    running: BTreeMap<JobId, Footprint>,
    /// In the order in which they came.
    waiting: VecDeque<(JobId, Footprint, J)>,
}

impl<J> Order<J> {
    pub(super) fn new() -> Self {
        Self { running: BTreeMap::new(), waiting: VecDeque::new() }
    }

    /// A job came; gives it back if it may run now.
    pub(super) fn admit(&mut self, id: JobId, torrent: TorrentId, op: &DiskOp, job: J) -> Option<J> {
        let Some(footprint) = Footprint::of(torrent, op) else { return Some(job) };
        let mut before = self.running.values().chain(self.waiting.iter().map(|(_, other, _)| other));
        if before.any(|other| other.conflicts(&footprint)) {
            self.waiting.push_back((id, footprint, job));
            return None;
        }
        self.running.insert(id, footprint);
        Some(job)
    }

    /// A job ended; gives those that may run now.
    pub(super) fn ended(&mut self, id: JobId) -> Vec<J> {
        let mut free = Vec::new();
        if self.running.remove(&id).is_none() || self.waiting.is_empty() {
            return free;
        }
        for (id, footprint, job) in std::mem::take(&mut self.waiting) {
            let mut before = self.running.values().chain(self.waiting.iter().map(|(_, other, _)| other));
            if before.any(|other| other.conflicts(&footprint)) {
                self.waiting.push_back((id, footprint, job));
            } else {
                self.running.insert(id, footprint);
                free.push(job);
            }
        }
        free
    }
}

impl Footprint {
    /// None for what touches no file, and for a sync: what it covers has ended before it came.
    fn of(torrent: TorrentId, op: &DiskOp) -> Option<Self> {
        let (spans, changes) = match op {
            DiskOp::Finish { file } => {
                return Some(Self { torrent, ranges: vec![(*file, 0..u64::MAX)], changes: true });
            }
            DiskOp::Stat { file } => {
                return Some(Self { torrent, ranges: vec![(*file, 0..u64::MAX)], changes: false });
            }
            DiskOp::Hash(HashOp::Leaves { input } | HashOp::Sha1 { input, .. }) => match input {
                HashInput::Memory(_) => return None,
                HashInput::Stored(spans) => (spans, false),
            },
            DiskOp::Read { spans } => (spans, false),
            DiskOp::Metadata(_) | DiskOp::Sync { .. } => return None,
            DiskOp::Write { spans, .. } => (spans, true),
        };
        let ranges =
            spans.iter().map(|span| (span.file, span.offset..span.offset + u64::from(span.len))).collect();
        Some(Self { torrent, ranges, changes })
    }

    fn conflicts(&self, other: &Self) -> bool {
        let overlap = |(file, range): &(FileIndex, Range<u64>)| {
            other.ranges.iter().any(|(f, r)| f == file && r.start < range.end && range.start < r.end)
        };
        (self.changes || other.changes) && self.torrent == other.torrent && self.ranges.iter().any(overlap)
    }
}

#[cfg(test)]
mod tests {
    use super::Order;
    use fast_peer_core::id::{JobId, TorrentId};
    use fast_peer_core::lengths::{FileIndex, FileSpan};
    use fast_peer_core::store::op::DiskOp;

    const T: TorrentId = TorrentId(0);

    fn spans(file: u32, offset: u64, len: u32) -> Vec<FileSpan> {
        vec![FileSpan { file: FileIndex(file), offset, len, pad: false }]
    }

    fn read(file: u32, offset: u64, len: u32) -> DiskOp {
        DiskOp::Read { spans: spans(file, offset, len) }
    }

    fn write(file: u32, offset: u64, len: u32) -> DiskOp {
        DiskOp::Write { spans: spans(file, offset, len), data: vec![] }
    }

    fn finish(file: u32) -> DiskOp {
        DiskOp::Finish { file: FileIndex(file) }
    }

    #[test]
    fn reads_run_beside_each_other_and_beside_writes_elsewhere() {
        let mut order = Order::new();
        let ops = [read(0, 0, 10), read(0, 5, 10), write(0, 15, 5), write(1, 0, 10), write(0, 20, 1)];
        for (i, op) in ops.iter().enumerate() {
            assert_eq!(order.admit(JobId(i as u64), T, op, i), Some(i));
        }
        assert_eq!(order.admit(JobId(9), TorrentId(1), &write(0, 0, 100), 9), Some(9));
    }

    #[test]
    fn what_overlaps_a_write_waits_for_it_and_for_those_before() {
        let mut order = Order::new();
        assert_eq!(order.admit(JobId(0), T, &read(0, 0, 10), 0), Some(0));
        assert_eq!(order.admit(JobId(1), T, &write(0, 9, 10), 1), None);
        assert_eq!(order.admit(JobId(2), T, &read(0, 18, 10), 2), None);
        assert_eq!(order.admit(JobId(3), T, &finish(0), 3), None);
        assert_eq!(order.admit(JobId(4), T, &read(0, 100, 1), 4), None);
        assert_eq!(order.ended(JobId(0)), [1]);
        assert_eq!(order.ended(JobId(1)), [2]);
        assert_eq!(order.ended(JobId(2)), [3]);
        assert_eq!(order.ended(JobId(3)), [4]);
        assert!(order.running.len() == 1 && order.waiting.is_empty());
    }
}
