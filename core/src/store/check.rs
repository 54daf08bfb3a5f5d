//! Looking at the files that are there when a torrent starts.

use super::op::DiskOp;
use super::{Action, Job, Store};
use crate::lengths::{FileIndex, FileSpan, PieceIndex};
use crate::machine::Outbox;
use alloc::vec;
use alloc::vec::Vec;

/// A check under way: first what is there of each file, then the hash of each piece that could be whole.
#[derive(Debug)]
pub(super) struct Check {
    /// What is there of each file.
    found: Vec<u64>,
    next_file: u32,
    next_piece: u32,
    under_way: u32,
}

impl Check {
    pub(super) fn looked_at(&self) -> u32 {
        self.next_piece.saturating_sub(self.under_way)
    }
}

impl Store {
    pub(super) fn start_check(&mut self, out: &mut Outbox<Action>) {
        let files = self.map.file_count();
        self.check =
            Some(Check { found: vec![0; files as usize], next_file: 0, next_piece: 0, under_way: 0 });
        self.check_next(out);
    }

    pub(super) fn on_check_stat(&mut self, file: FileIndex, len: Option<u64>, out: &mut Outbox<Action>) {
        let Some(check) = &mut self.check else { return };
        check.under_way -= 1;
        check.found[file.as_usize()] = len.unwrap_or(0);
        self.check_next(out);
    }

    pub(super) fn on_check_hash(&mut self, piece: PieceIndex, good: bool, out: &mut Outbox<Action>) {
        let Some(check) = &mut self.check else { return };
        check.under_way -= 1;
        if good {
            out.push_back(Action::Found(piece));
            self.count_stored(piece, out);
        }
        self.check_next(out);
    }

    /// Keeps enough jobs under way to occupy the workers.
    fn check_next(&mut self, out: &mut Outbox<Action>) {
        loop {
            let Some(check) = &mut self.check else { return };
            if check.under_way >= UNDER_WAY {
                return;
            }
            if check.next_file < self.map.file_count() {
                let file = FileIndex(check.next_file);
                check.next_file += 1;
                if !self.map.is_pad(file) {
                    check.under_way += 1;
                    self.submit(Job::CheckStat { file }, DiskOp::Stat { file }, out);
                }
                continue;
            }
            if check.next_piece == 0 && check.under_way > 0 {
                return; // Which pieces can be whole shows when every file was looked at.
            }
            let Some(piece) = self.map.lengths().piece(check.next_piece) else {
                if check.under_way == 0 {
                    self.end_check(out);
                }
                return;
            };
            check.next_piece += 1;
            let spans: Vec<FileSpan> =
                self.map.spans(piece, 0, self.map.lengths().piece_len(piece)).collect();
            let there = |span: &FileSpan| {
                span.pad || span.offset + u64::from(span.len) <= check.found[span.file.as_usize()]
            };
            if !spans.iter().all(there) {
                continue;
            }
            check.under_way += 1;
            let op = self.whole_hash(piece);
            self.submit(Job::CheckHash { piece }, op, out);
        }
    }

    fn end_check(&mut self, out: &mut Outbox<Action>) {
        self.check = None;
        out.push_back(Action::Checked);
        // Empty files have no piece that could complete them.
        for file in (0..self.map.file_count()).map(FileIndex) {
            if self.map.file_len(file) == 0 && self.is_wanted(file) {
                self.submit(Job::Finish { file }, DiskOp::Finish { file }, out);
            }
        }
        self.say_completed(out);
    }
}

/// Jobs of a check at once.
const UNDER_WAY: u32 = 32;
