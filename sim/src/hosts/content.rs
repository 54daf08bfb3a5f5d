//! What is shared.

use super::disk::Storage;
use fast_peer_core::metainfo::Metainfo;
use fast_peer_core::metainfo::create::{self, Create};
use fast_peer_core::rng::Rng;
use fast_peer_core::store::op::Sha1State;
use fast_peer_io::disk::{FileSpec, StorageSpec};
use std::path::PathBuf;
use std::sync::Arc;

/// A torrent and its bytes.
#[derive(Debug)]
pub struct Content {
    metainfo: Arc<Metainfo>,
    bytes: Vec<u8>,
}

impl Content {
    /// Three files of a little more than a mebibyte in all, most pieces of which lie in one file and some in two.
    pub(super) fn new(rng: &mut Rng, trackers: &[&str]) -> Self {
        let lens = [600_000 + rng.below(100_000), 1 + rng.below(9), 400_000 + rng.below(100_000)];
        let bytes: Vec<u8> = (0..lens.iter().sum()).map(|_| rng.next_u32() as u8).collect();
        let hash = |piece: &[u8]| {
            let mut state = Sha1State::new();
            state.update(piece);
            state.finish()
        };
        let files = ["a", "b", "c"].iter().zip(lens).map(|(name, len)| (vec![(*name).into()], len));
        let create = Create {
            name: "shared".into(),
            content: create::Content::Folder(files.collect()),
            piece_len: PIECE_LEN as u32,
            piece_hashes: bytes.chunks(PIECE_LEN).flat_map(hash).collect(),
            trackers: trackers.iter().map(|tracker| vec![(*tracker).into()]).collect(),
            web_seeds: vec![],
            comment: None,
            created_by: None,
            creation_date: None,
            private: false,
            source: None,
        };
        let file = create.encode().expect("three files make a torrent");
        let metainfo = Metainfo::parse(&file).expect("what was written can be read");
        Self { metainfo: Arc::new(metainfo), bytes }
    }

    /// The torrent.
    pub fn metainfo(&self) -> &Arc<Metainfo> {
        &self.metainfo
    }

    /// All bytes, file after file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many pieces there are.
    pub fn piece_count(&self) -> u32 {
        self.bytes.len().div_ceil(PIECE_LEN) as u32
    }

    /// A disk with everything.
    pub fn full_disk(&self) -> Storage {
        let storage = Storage::default();
        self.files(&self.bytes).for_each(|(path, bytes)| storage.put(path, bytes.to_vec()));
        storage
    }

    /// A disk with the pieces that `has` names.
    pub fn disk_with(&self, has: impl Fn(u32) -> bool) -> Storage {
        let mut bytes = self.bytes.clone();
        for (piece, bytes) in bytes.chunks_mut(PIECE_LEN).enumerate() {
            if !has(piece as u32) {
                bytes.fill(0);
            }
        }
        let storage = Storage::default();
        for (mut path, bytes) in self.files(&bytes) {
            path.set_extension("part");
            storage.put(path, bytes.to_vec());
        }
        storage
    }

    /// Whether `storage` has every file under its own name, byte for byte.
    pub fn is_on(&self, storage: &Storage) -> bool {
        self.files(&self.bytes).all(|(path, bytes)| storage.read(&path).is_some_and(|found| found == bytes))
    }

    pub(super) fn storage_spec(&self) -> StorageSpec {
        let files = self.metainfo.files().iter().map(|file| FileSpec {
            path: file.path.components().collect(),
            len: file.len,
            pad: file.attributes.pad,
            wanted: true,
        });
        StorageSpec::new(ROOT.into(), self.metainfo.name(), files.collect())
    }

    /// Where each file lies, and which of `bytes` are in it.
    fn files<'c>(&'c self, mut bytes: &'c [u8]) -> impl Iterator<Item = (PathBuf, &'c [u8])> {
        self.metainfo.files().iter().map(move |file| {
            let (content, rest) = bytes.split_at(file.len as usize);
            bytes = rest;
            let path = PathBuf::from(ROOT).join(file.path.components().collect::<PathBuf>());
            (path, content)
        })
    }
}

const PIECE_LEN: usize = 32 << 10;

const ROOT: &str = "downloads";
