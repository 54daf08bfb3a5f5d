//! What is written and what counts as had: INV-S-01 and INV-S-06.

use super::{Observation, Verdict, hold};
use fast_peer_core::id::TorrentId;
use fast_peer_core::session::Notice;
use std::collections::BTreeMap;

/// What was written of each piece since it last failed its hash or was lost: runs of begin and end, apart from each other.
#[derive(Debug, Default)]
pub(super) struct Storage {
    written: BTreeMap<(TorrentId, u32), Vec<(u32, u32)>>,
}

impl Storage {
    pub(super) fn observe(&mut self, observation: &Observation<'_>) -> Verdict {
        match *observation {
            Observation::Written { torrent, piece, begin, len } => {
                let runs = self.written.entry((torrent, piece)).or_default();
                add_run(runs, begin, begin + len)?;
            }
            Observation::Notice {
                notice: Notice::HashFailed { torrent, piece } | Notice::PieceLost { torrent, piece },
                ..
            } => {
                self.written.remove(&(*torrent, piece.get()));
            }
            Observation::Verified { piece, good, .. } => {
                hold(good, "INV-S-01", || format!("piece {piece} counts as had and is not on disk"))?;
            }
            _ => {}
        }
        Ok(())
    }
}

fn add_run(runs: &mut Vec<(u32, u32)>, begin: u32, end: u32) -> Verdict {
    let at = runs.partition_point(|run| run.1 <= begin);
    let twice = runs.get(at).is_some_and(|run| run.0 < end);
    hold(!twice, "INV-S-06", || format!("bytes {begin}..{end} of a piece are written twice"))?;
    let joins_next = runs.get(at).is_some_and(|run| run.0 == end);
    let joins_last = at > 0 && runs[at - 1].1 == begin;
    match (joins_last, joins_next) {
        (true, true) => {
            runs[at - 1].1 = runs[at].1;
            runs.remove(at);
        }
        (true, false) => runs[at - 1].1 = end,
        (false, true) => runs[at].0 = begin,
        (false, false) => runs.insert(at, (begin, end)),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::expect_breach;
    use super::{Notice, Observation, Storage, TorrentId, Verdict};
    use fast_peer_core::lengths::Lengths;

    const T: TorrentId = TorrentId(0);

    fn write(storage: &mut Storage, begin: u32, len: u32) -> Verdict {
        storage.observe(&Observation::Written { torrent: T, piece: 2, begin, len })
    }

    #[test]
    fn s01_a_piece_that_is_not_there() {
        let bad = Observation::Verified { torrent: T, piece: 1, good: false };
        expect_breach(Storage::default().observe(&bad), "INV-S-01");
    }

    #[test]
    fn s06_a_block_written_twice() {
        let mut storage = Storage::default();
        for begin in [0, 32, 16, 64] {
            write(&mut storage, begin, 16).unwrap();
        }
        for (begin, len) in [(0, 16), (8, 1), (40, 16), (56, 16)] {
            expect_breach(write(&mut storage, begin, len), "INV-S-06");
        }
        write(&mut storage, 48, 16).expect("the gap was never written");
    }

    #[test]
    fn s06_counts_anew_after_a_failed_hash() {
        let mut storage = Storage::default();
        write(&mut storage, 0, 16).unwrap();
        let piece = Lengths::contiguous(100, 10).unwrap().piece(2).unwrap();
        let failed = Notice::HashFailed { torrent: T, piece };
        storage.observe(&Observation::Notice { notice: &failed, honest: true }).unwrap();
        write(&mut storage, 0, 16).unwrap();
    }
}
