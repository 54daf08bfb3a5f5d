//! The life of a store.

use super::Subject;
use crate::lengths::{FileMap, PieceIndex};
use crate::machine::{Machine, Outbox, Timestamp};
use crate::metainfo::merkle;
use crate::rng::Rng;
use crate::store::expected::Expected;
use crate::store::op::{self, DiskError, DiskOp, DiskOutput, HashInput, HashOp, HashOutput};
use crate::store::payload::Payload;
use crate::store::{self, Store};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt::Debug;
use sha1::{Digest as _, Sha1};

/// A store over a disk of zeros that often fails and sometimes lies.
#[derive(Debug)]
pub(super) struct Storing {
    store: Store,
    map: Arc<FileMap>,
    fresh: bool,
    checking: bool,
    good: BTreeSet<PieceIndex>,
    jobs: BTreeMap<u32, DiskOp>,
}

impl Subject for Storing {
    type Input = store::Event;
    type Machine = Store;

    fn new(_now: Timestamp, rng: &mut Rng) -> Self {
        let files = [300_000, 0, 500_000, 40_000];
        let piece_len = 20 << 14;
        let v2 = rng.chance(1, 2);
        let map = if v2 {
            FileMap::per_file(&files, piece_len)
        } else {
            FileMap::contiguous(&[(300_000, false), (27_680, true), (0, false), (512_320, false)], piece_len)
        };
        let map = Arc::new(map.unwrap());
        let lens = map.lengths().pieces().map(|piece| map.lengths().piece_len(piece));
        let expected = if v2 {
            Expected::Merkle(lens.map(root_of_zeros).collect())
        } else {
            Expected::Sha1(lens.flat_map(|len| Sha1::digest(vec![0; len as usize])).collect())
        };
        let wanted = (0..map.file_count()).map(|_| rng.chance(3, 4)).collect();
        let store = Store::new(Arc::clone(&map), expected, wanted, rng.below(600_000));
        Self { store, map, fresh: true, checking: false, good: BTreeSet::new(), jobs: BTreeMap::new() }
    }

    fn machine(&mut self) -> &mut Store {
        &mut self.store
    }

    fn draw(&self, rng: &mut Rng) -> store::Event {
        let lengths = self.map.lengths();
        let piece = lengths.piece(rng.below(lengths.piece_count().into()) as u32).unwrap();
        match rng.below(64) {
            0 => store::Event::Flush,
            1 => store::Event::Read { token: rng.next_u64(), piece, begin: 0, len: 1 << 14 },
            2 => store::Event::Done { job: rng.next_u32() | 1 << 31, result: Ok(DiskOutput::Done) },
            3..=9 if self.fresh => store::Event::Check,
            3..=45 if !self.checking && !self.good.contains(&piece) => {
                let number = rng.below(lengths.block_count(piece).into()) as u32;
                let block = lengths.block(piece, number).unwrap();
                let bytes = if rng.chance(1, 100) {
                    vec![1; block.len() as usize].into()
                } else {
                    op::zeros(block.len())
                };
                store::Event::Block { block, payload: Payload::Content(bytes) }
            }
            _ => match self.jobs.iter().nth(rng.below(self.jobs.len() as u64) as usize) {
                Some((job, op)) => store::Event::Done { job: *job, result: execute(op, rng) },
                None => store::Event::Flush,
            },
        }
    }

    fn feed(&mut self, now: Timestamp, input: &store::Event, out: &mut Outbox<store::Action>) {
        match input {
            store::Event::Done { job, .. } => {
                self.jobs.remove(job);
            }
            store::Event::Check => (self.fresh, self.checking) = (false, true),
            _ => self.fresh = false,
        }
        self.store.handle_event(now, input.clone(), out);
    }

    fn hear(&mut self, said: &store::Action) {
        match said {
            store::Action::Checked => self.checking = false,
            store::Action::Found(piece) | store::Action::Verified(piece) => {
                assert!(self.good.insert(*piece), "a piece is found good once");
            }
            store::Action::Lost(piece) => {
                assert!(self.good.remove(piece), "only what is there can be lost");
            }
            store::Action::Op { job, op } => {
                assert!(self.jobs.insert(*job, op.clone()).is_none(), "a job's number is used once");
            }
            _ => {}
        }
    }
}

pub(super) fn root_of_zeros(len: u32) -> merkle::PieceRoot {
    let blocks: Vec<u32> = (0..len).step_by(1 << 14).map(|begin| (len - begin).min(1 << 14)).collect();
    let leaves: Vec<_> = blocks.iter().map(|len| op::leaf(&op::zeros(*len))).collect();
    let width = (leaves.len() as u32).next_power_of_two();
    merkle::PieceRoot { hash: merkle::root(&leaves, 0, width), len, width }
}

pub(super) fn execute(op: &DiskOp, rng: &mut Rng) -> Result<DiskOutput, DiskError> {
    match rng.below(40) {
        0 | 1 => return Err(DiskError::Full),
        2 => return Err(DiskError::Io(5)),
        3 => return Ok(DiskOutput::Stat(None)),
        4 => return Ok(DiskOutput::Hash(HashOutput::Sha1([0; 20]))),
        _ => {}
    }
    Ok(match op {
        DiskOp::Hash(hash) => {
            let (HashOp::Leaves { input } | HashOp::Sha1 { input, .. }) = hash;
            let slices: Vec<Bytes> = match input {
                HashInput::Memory(data) => data.iter().filter_map(|data| data.content().cloned()).collect(),
                HashInput::Stored(spans) => {
                    let len = spans.iter().map(|span| span.len).sum::<u32>();
                    (0..len).step_by(1 << 14).map(|at| op::zeros((len - at).min(1 << 14))).collect()
                }
            };
            DiskOutput::Hash(hash.clone().compute(slices.iter().map(|slice| &slice[..])))
        }
        DiskOp::Metadata(_) => unreachable!("this is not the store's business"),
        DiskOp::Read { spans } => DiskOutput::Read(Payload::Length(spans.iter().map(|span| span.len).sum())),
        DiskOp::Stat { .. } => DiskOutput::Stat(rng.chance(3, 4).then(|| rng.below(600_000))),
        DiskOp::Finish { .. } | DiskOp::Sync { .. } | DiskOp::Write { .. } => DiskOutput::Done,
    })
}
