//! What a torrent describes: files, pieces, their hashes, and where to look for peers (BEP 3, 12, 19, 27, 47, 52).
//!
//! The infohash is taken over the bytes of `info` as they stand, never over a re-encoding. Names are made harmless on
//! the way in, so whatever holds a [`Metainfo`] may use its paths.

mod assembly;
pub mod create;
mod error;
mod info;
pub mod merkle;
mod names;
mod path;
mod symlink;
pub(crate) mod url;
mod wrap;

pub use assembly::{Assembled, Assembly, AssemblyError};
pub use error::Error;
pub use names::MAX_RENAMES;
pub use path::{FilePath, sanitise, sanitise_or_underscore};
pub use url::{show_endpoint, tracker as tracker_url, web_seed as web_seed_url};
pub use wrap::wrap_info;

use crate::bencode::{Dict, Document, Limits, Value};
use crate::id::{InfoHash, InfoHashV2, InfoHashes};
use crate::lengths::{BLOCK_LEN, FileMap, Lengths, PieceIndex};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use merkle::{Hash, PieceLayer, PieceRoot};

/// The most bytes that a torrent file, or `info` alone, may have (limit L4).
pub const MAX_BYTES: usize = 16 << 20;
/// The most components that a path below the torrent's own folder may have (limit L7).
pub const MAX_DEPTH: usize = 100;
/// The most files that a torrent may have, padding counted (limit L7).
pub const MAX_FILES: usize = 1_000_000;
/// The most trackers that are kept of a torrent or a magnet link.
pub const MAX_TRACKERS: usize = 100;
/// The most web seeds that are kept of a torrent or a magnet link.
pub const MAX_WEB_SEEDS: usize = 1_000;
/// The most DHT nodes that are kept of a torrent or a magnet link.
pub const MAX_NODES: usize = 100;

/// A torrent: v1, v2 or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metainfo {
    info: Bytes,
    v1: Option<InfoHash>,
    v2: Option<InfoHashV2>,
    name: String,
    files: Vec<File>,
    map: FileMap,
    /// Twenty bytes a piece, nothing without v1.
    pieces: Bytes,
    private: bool,
    /// The lengths of the files that have a piece layer, by root. Equal files share both.
    layered: BTreeMap<Hash, u64>,
    layers: BTreeMap<Hash, PieceLayer>,
    trackers: Vec<Vec<String>>,
    web_seeds: Vec<String>,
    nodes: Vec<(String, u16)>,
    comment: Option<String>,
    created_by: Option<String>,
    creation_date: Option<u64>,
}

/// A file of a torrent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its path below the folder of downloads, unlike that of any other file that is stored. In a torrent of several
    /// files the first component is the torrent's name.
    pub path: FilePath,
    /// Its length in bytes.
    pub len: u64,
    /// What it is besides its bytes.
    pub attributes: Attributes,
    /// Where a link shows: the path of a file or directory of the same torrent. A link to anything else has none, and
    /// there is nothing to create for it.
    pub symlink: Option<FilePath>,
    /// The root of its hash tree (BEP 52), if the torrent is v2 and the file not empty.
    pub pieces_root: Option<Hash>,
}

/// The attributes of a file (BEP 47).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// It is a program.
    pub executable: bool,
    /// It is hidden, on systems that have such an attribute.
    pub hidden: bool,
    /// It is padding: zeros that nobody stores.
    pub pad: bool,
    /// It is a symbolic link.
    pub symlink: bool,
}

impl Metainfo {
    /// Reads a torrent file. Bytes behind its dictionary are ignored, as other clients do.
    pub fn parse(input: &[u8]) -> Result<Self, Error> {
        if input.len() > MAX_BYTES {
            return Err(Error::TooLong);
        }
        let input = Bytes::copy_from_slice(input);
        let document = Document::parse(&input, Limits::FILE)?;
        let root = document.root().as_dict().ok_or(Error::NotDictionary)?;
        let info = root.get(b"info").and_then(Value::as_dict).ok_or(Error::MissingInfo)?;
        let mut metainfo = Self::new(&input, info)?;
        // Absent layers are asked of peers, as when a magnet link was the start; wrong ones are an error.
        if let Some(layers) = root.get(b"piece layers").and_then(Value::as_dict) {
            for (pieces_root, hashes) in layers {
                let pieces_root = pieces_root.try_into().map_err(|_| Error::InvalidPieceLayer)?;
                let hashes = hashes.as_bytes().ok_or(Error::InvalidPieceLayer)?;
                metainfo.insert_layer(pieces_root, hashes)?;
            }
        }
        metainfo.read_sources(root);
        metainfo.comment = text(root, b"comment.utf-8", b"comment");
        metainfo.created_by = text(root, b"created by.utf-8", b"created by");
        let date = root.get(b"creation date").and_then(Value::as_int);
        metainfo.creation_date = date.and_then(|date| u64::try_from(date).ok());
        Ok(metainfo)
    }

    /// Reads an `info` dictionary that came from peers (BEP 9). The caller has checked its hash.
    pub fn from_info(info: Bytes) -> Result<Self, Error> {
        if info.len() > MAX_BYTES {
            return Err(Error::TooLong);
        }
        let document = Document::parse(&info, Limits::FILE)?;
        Self::new(&info, document.root().as_dict().ok_or(Error::NotDictionary)?)
    }

    fn new(input: &Bytes, info: Dict<'_>) -> Result<Self, Error> {
        let parsed = info::parse(info)?;
        let piece_len = u64::from(parsed.map.lengths().piece_len_max());
        let mut layered = BTreeMap::new();
        for file in parsed.files.iter().filter(|file| file.len > piece_len) {
            let twin = file.pieces_root.and_then(|root| layered.insert(root, file.len));
            if twin.is_some_and(|len| len != file.len) {
                return Err(Error::InvalidPieceLayer);
            }
        }
        Ok(Self {
            info: input.slice_ref(info.raw()),
            v1: parsed.v1,
            v2: parsed.v2,
            name: parsed.name,
            files: parsed.files,
            map: parsed.map,
            pieces: input.slice_ref(parsed.pieces),
            private: parsed.private,
            layered,
            layers: BTreeMap::new(),
            trackers: vec![],
            web_seeds: vec![],
            nodes: vec![],
            comment: None,
            created_by: None,
            creation_date: None,
        })
    }

    /// The name of the file, or of the folder of the files. Harmless as a component of a path.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The v1 infohash, unless the torrent is v2 only.
    pub const fn info_hash(&self) -> Option<InfoHash> {
        self.v1
    }

    /// The v2 infohash, unless the torrent is v1 only.
    pub const fn info_hash_v2(&self) -> Option<InfoHashV2> {
        self.v2
    }

    /// The hashes by which the torrent is known.
    pub fn hashes(&self) -> InfoHashes {
        InfoHashes::new(self.v1, self.v2).expect("a torrent is v1 or v2")
    }

    /// The hash under which trackers, handshakes and the DHT know the torrent, see [`InfoHashes::swarm`].
    pub fn swarm_hash(&self) -> InfoHash {
        self.hashes().swarm()
    }

    /// The `info` dictionary as it stands, to serve to peers (BEP 9).
    pub const fn info(&self) -> &Bytes {
        &self.info
    }

    /// Whether peers may only come from the trackers (BEP 27).
    pub const fn is_private(&self) -> bool {
        self.private
    }

    /// All files in order, padding included; a [`FileIndex`](crate::lengths::FileIndex) counts them.
    pub fn files(&self) -> &[File] {
        &self.files
    }

    /// Where the pieces lie in the files.
    pub const fn file_map(&self) -> &FileMap {
        &self.map
    }

    /// The lengths of the pieces.
    pub const fn lengths(&self) -> &Lengths {
        self.map.lengths()
    }

    /// The bytes of all files, padding not counted.
    pub fn len_without_padding(&self) -> u64 {
        self.files.iter().filter(|file| !file.attributes.pad).map(|file| file.len).sum()
    }

    /// The SHA-1 of `piece`, unless the torrent is v2 only.
    pub fn piece_hash(&self, piece: PieceIndex) -> Option<[u8; 20]> {
        let (hashes, _) = self.pieces.as_chunks::<20>();
        hashes.get(piece.as_usize()).copied()
    }

    /// What the SHA-256 leaves of `piece` have to lead to, in v2 and hybrid torrents. `None` while the piece layer
    /// of its file is missing, see [`Metainfo::missing_layers`].
    pub fn piece_root(&self, piece: PieceIndex) -> Option<PieceRoot> {
        // In a hybrid, too, each piece starts with bytes of one file, and only padding follows them.
        let span = self.map.spans(piece, 0, 1).next()?;
        let file = &self.files[span.file.as_usize()];
        let root = file.pieces_root?;
        let piece_len = u64::from(self.lengths().piece_len_max());
        if file.len <= piece_len {
            let len = file.len as u32;
            return Some(PieceRoot { hash: root, len, width: len.div_ceil(BLOCK_LEN).next_power_of_two() });
        }
        let hash = self.layers.get(&root)?.nodes()[(span.offset / piece_len) as usize];
        let len = (file.len - span.offset).min(piece_len) as u32;
        Some(PieceRoot { hash, len, width: piece_len as u32 / BLOCK_LEN })
    }

    /// The roots and lengths of the files whose piece layer still has to come from peers (BEP 52). Files no longer
    /// than a piece have none.
    pub fn missing_layers(&self) -> impl Iterator<Item = (&Hash, u64)> {
        self.layered
            .iter()
            .filter(|(root, _)| !self.layers.contains_key(*root))
            .map(|(root, len)| (root, *len))
    }

    /// Takes in the piece layer of the files with the root `pieces_root`: its hashes end to end. It is checked.
    pub fn insert_layer(&mut self, pieces_root: &Hash, hashes: &[u8]) -> Result<(), Error> {
        let len = *self.layered.get(pieces_root).ok_or(Error::InvalidPieceLayer)?;
        let layer = PieceLayer::check(hashes, pieces_root, len, self.lengths().piece_len_max());
        self.layers.insert(*pieces_root, layer.ok_or(Error::InvalidPieceLayer)?);
        Ok(())
    }

    /// The trackers in tiers (BEP 12).
    pub fn trackers(&self) -> &[Vec<String>] {
        &self.trackers
    }

    /// The URLs of web seeds (BEP 19); those of a torrent of several files end in a slash.
    pub fn web_seeds(&self) -> &[String] {
        &self.web_seeds
    }

    /// Nodes of the DHT that the torrent recommends (BEP 5): host, which may be a name, and port.
    pub fn nodes(&self) -> &[(String, u16)] {
        &self.nodes
    }

    /// What its author says about the torrent. Anything may stand in it.
    pub fn comment(&self) -> Option<&str> {
        self.comment.as_deref()
    }

    /// The program that made the torrent. Anything may stand in it.
    pub fn created_by(&self) -> Option<&str> {
        self.created_by.as_deref()
    }

    /// When the torrent was made, in seconds since 1970.
    pub const fn creation_date(&self) -> Option<u64> {
        self.creation_date
    }

    fn read_sources(&mut self, root: Dict<'_>) {
        let mut room = MAX_TRACKERS;
        for tier in root.get(b"announce-list").and_then(Value::as_list).into_iter().flatten() {
            // A URL that stands where a list of them belongs is a tier of its own.
            let urls = tier.as_list().map_or_else(|| vec![tier], |tier| tier.iter().collect());
            let urls = urls.into_iter().filter_map(|tracker| url::tracker(tracker.as_bytes()?));
            let urls: Vec<String> = urls.take(room).collect();
            room -= urls.len();
            if !urls.is_empty() {
                self.trackers.push(urls);
            }
        }
        if self.trackers.is_empty() {
            let announce = root.get(b"announce").and_then(Value::as_bytes).and_then(url::tracker);
            self.trackers.extend(announce.map(|announce| vec![announce]));
        }

        let seeds = match root.get(b"url-list") {
            Some(Value::List(seeds)) => seeds.iter().filter_map(Value::as_bytes).collect(),
            Some(Value::Bytes(seed)) => vec![seed],
            _ => vec![],
        };
        let mut seen = BTreeSet::new();
        let seeds = seeds.into_iter().filter_map(|seed| url::web_seed(seed, self.files.len() > 1));
        self.web_seeds = seeds.filter(|seed| seen.insert(seed.clone())).take(MAX_WEB_SEEDS).collect();

        let nodes = root.get(b"nodes").and_then(Value::as_list).into_iter().flatten();
        self.nodes = nodes.filter_map(node).take(MAX_NODES).collect();
    }
}

/// `[host, port]`.
fn node(value: Value<'_>) -> Option<(String, u16)> {
    let mut pair = value.as_list()?.iter();
    let host = pair.next()?.as_str()?;
    let port = u16::try_from(pair.next()?.as_int()?).ok().filter(|port| *port != 0)?;
    Some((host.to_string(), port))
}

/// A text for people, bytes that are not UTF-8 replaced; `None` if it is empty.
fn text(root: Dict<'_>, utf8: &[u8], plain: &[u8]) -> Option<String> {
    let text = |key| root.get(key).and_then(Value::as_bytes).filter(|text: &&[u8]| !text.is_empty());
    text(utf8).or_else(|| text(plain)).map(|text| String::from_utf8_lossy(text).into_owned())
}

#[cfg(test)]
mod tests;
