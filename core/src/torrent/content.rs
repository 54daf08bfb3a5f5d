//! What a torrent is made of once its metadata is known: pieces, files, and who may have them.

use super::choker::Choker;
use super::new::NewContent;
use super::smart_ban::SmartBan;
use super::{Common, Member};
use crate::bitfield::Bitfield;
use crate::id::ConnId;
use crate::lengths::{FileIndex, FileMap, PieceIndex};
use crate::machine::Timestamp;
use crate::metainfo::Metainfo;
use crate::pieces::{Picker, Priority};
use crate::rng::Rng;
use crate::store::Store;
use crate::store::expected::Expected;
use crate::store::op::DiskError;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::net::SocketAddr;

/// The pieces and files of a torrent.
#[derive(Debug)]
pub struct Content {
    metainfo: Arc<Metainfo>,
    pub(super) map: Arc<FileMap>,
    pub(super) picker: Picker,
    pub(super) store: Store,
    pub(super) choker: Choker,
    pub(super) smart_ban: SmartBan<SocketAddr>,
    /// Pieces that are stored: these may be announced and served.
    pub(super) stored: Bitfield,
    /// The stored pieces in the order in which they came; each peer has a cursor into it.
    pub(super) completed: Vec<PieceIndex>,
    /// Pieces that were stored and are missing again, before they may be fetched.
    pub(super) lost: Vec<PieceIndex>,
    /// Whether peers sent any of them.
    pub(super) downloaded: bool,
    /// When peers that nothing else is written to are told of completed pieces.
    pub(super) haves_due: Option<Timestamp>,
    pub(super) reads: BTreeMap<u64, (ConnId, u64)>,
    pub(super) next_read: u64,
    pub(super) trouble: Option<DiskError>,
    /// Whether the disk is at rest for good.
    pub(super) flushed: bool,
    /// Whether requests wait for blocks to be written.
    pub(super) short_of_memory: bool,
    /// Bytes of blocks that may wait in memory.
    pub(super) budget: u64,
}

impl Content {
    pub(super) fn new(new: NewContent, common: &Common, rng: &Rng) -> Self {
        let map = Arc::new(new.metainfo.file_map().clone());
        let lengths = map.lengths();
        let expected = if new.metainfo.info_hash().is_some() {
            let hashes: Vec<u8> =
                lengths.pieces().filter_map(|p| new.metainfo.piece_hash(p)).flatten().collect();
            Expected::Sha1(hashes.into())
        } else {
            Expected::Merkle(lengths.pieces().filter_map(|p| new.metainfo.piece_root(p)).collect())
        };
        let files = (0..map.file_count()).map(FileIndex);
        let priority =
            |file: FileIndex| new.priorities.get(file.as_usize()).copied().unwrap_or(Priority::Normal);
        let whole_files = new.pieces.is_none();
        let wanted = files.clone().map(|file| whole_files && priority(file) != Priority::Skip).collect();
        let mut picker = Picker::new(lengths.clone(), new.order, rng.fork("picker"));
        picker.set_peers_per_piece(common.peers_per_piece);
        match new.pieces {
            None => piece_priorities(&map, priority, new.first_last)
                .into_iter()
                .for_each(|(piece, priority)| picker.set_priority(piece, priority)),
            Some(pieces) => {
                let others = lengths.pieces().filter(|piece| !pieces.contains(piece));
                others.for_each(|piece| picker.set_priority(piece, Priority::Skip));
            }
        }
        let turn_bytes = TURN_PIECES * u64::from(lengths.piece_len_max());
        Self {
            picker,
            store: Store::new(Arc::clone(&map), expected, wanted, common.store_budget),
            choker: Choker::new(common.upload_slots, turn_bytes, rng.fork("choker")),
            smart_ban: SmartBan::new(),
            stored: Bitfield::none(lengths.piece_count()),
            completed: Vec::new(),
            lost: Vec::new(),
            downloaded: false,
            haves_due: None,
            reads: BTreeMap::new(),
            next_read: 0,
            trouble: None,
            flushed: false,
            short_of_memory: false,
            budget: common.store_budget,
            metainfo: new.metainfo,
            map,
        }
    }

    /// What the torrent file says, or what peers told.
    pub fn metainfo(&self) -> &Arc<Metainfo> {
        &self.metainfo
    }

    /// Which blocks are missing, asked for and here.
    pub fn picker(&self) -> &Picker {
        &self.picker
    }

    /// What is being hashed and written.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The pieces that may be announced and served.
    pub fn stored(&self) -> &Bitfield {
        &self.stored
    }

    /// How many bytes of `file` are stored from its start on without a gap.
    pub fn stored_prefix(&self, file: FileIndex) -> u64 {
        let Some((first, last)) = self.map.pieces_of(file) else { return 0 };
        let lengths = self.map.lengths();
        let pieces = (first.get()..=last.get()).filter_map(|index| lengths.piece(index));
        let spans = pieces.take_while(|piece| self.stored.has(*piece)).flat_map(|piece| {
            self.map.spans(piece, 0, lengths.piece_len(piece)).filter(|span| span.file == file)
        });
        spans.map(|span| u64::from(span.len)).sum()
    }

    pub(super) fn is_wanted(&self, piece: PieceIndex) -> bool {
        self.picker.priority(piece) != Priority::Skip
    }

    /// Bytes of pieces that are not verified, wanted or not.
    pub(super) fn missing_bytes(&self) -> u64 {
        let lengths = self.map.lengths();
        let missing = lengths.pieces().filter(|piece| !self.picker.have().has(*piece));
        missing.map(|piece| u64::from(lengths.piece_len(piece))).sum()
    }

    /// Whether there is memory for more blocks.
    pub(super) fn takes_data(&self) -> bool {
        !self.store.in_trouble() && self.store.pinned() < self.budget
    }

    /// Whether neither side has anything that the other wants (BEP 21).
    pub(super) fn is_useless(&self, member: &Member) -> bool {
        let gives_only = member.has.is_all() || member.peer.is_upload_only();
        self.picker.is_complete() && gives_only && member.peer.is_open()
    }
}

/// What each piece is worth: as much as the dearest file that it holds a part of.
fn piece_priorities(
    map: &FileMap,
    priority: impl Fn(FileIndex) -> Priority,
    first_last: bool,
) -> Vec<(PieceIndex, Priority)> {
    let mut worth = vec![Priority::Skip; map.lengths().piece_count() as usize];
    for file in (0..map.file_count()).map(FileIndex).filter(|file| !map.is_pad(*file)) {
        let Some((first, last)) = map.pieces_of(file) else { continue };
        let of_file = priority(file);
        for piece in &mut worth[first.as_usize()..=last.as_usize()] {
            *piece = of_file.max(*piece);
        }
        if first_last && of_file != Priority::Skip {
            worth[first.as_usize()] = Priority::High;
            worth[last.as_usize()] = Priority::High;
        }
    }
    map.lengths().pieces().zip(worth).filter(|(_, priority)| *priority != Priority::Normal).collect()
}

/// The pieces that a taker may have from a seeder before it makes room for others.
const TURN_PIECES: u64 = 20;
