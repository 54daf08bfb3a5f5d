//! What torrents really hold, which only the world knows: the bytes against which everything else is checked.

use super::disk::{Disk, ZeroDigests};
use super::runs::Run;
use bendy::encoding::{Encoder, Error, SingleItemEncoder, UnsortedDictEncoder};
use bytes::{BufMut as _, Bytes, BytesMut};
use core::ops::Range;
use fast_peer_core::id::TorrentId;
use fast_peer_core::lengths::{BLOCK_LEN, FileIndex, FileMap, FileSpan, Lengths, PieceIndex};
use fast_peer_core::metainfo::{Metainfo, merkle};
use fast_peer_core::rng::Rng;
use fast_peer_core::store::op::zeros;
use fast_peer_core::store::payload::Payload;
use sha1::{Digest as _, Sha1};
use std::sync::Arc;

/// How pieces lie in files, and which hashes a torrent has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// BEP 3.
    V1,
    /// BEP 52 alone.
    V2,
    /// BEP 52 with the hashes of BEP 3 beside it.
    Hybrid,
}

/// A torrent to be made up.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its name.
    pub name: &'static str,
    /// Its version.
    pub version: Version,
    /// The length of its pieces.
    pub piece_len: u32,
    /// The name and length of each file, in order of the names. A length without a name is padding.
    pub files: Vec<(Option<&'static str>, u64)>,
    /// Whether it has bytes, or only lengths.
    pub real: bool,
    /// Its trackers, in tiers.
    pub trackers: Vec<Vec<String>>,
    /// Whether its peers may only come from the trackers (BEP 27).
    pub private: bool,
    /// Bytes of its metadata that say nothing.
    pub ballast: usize,
}

impl Plan {
    /// A v1 torrent of one file with real bytes.
    pub fn small(piece_len: u32, len: u64) -> Self {
        Self {
            name: "small",
            version: Version::V1,
            piece_len,
            files: vec![(Some("file"), len)],
            real: true,
            trackers: vec![],
            private: false,
            ballast: 0,
        }
    }

    /// A v1 torrent of one file, of which only the length travels.
    pub fn large(piece_len: u32, len: u64) -> Self {
        Self { name: "large", real: false, ..Self::small(piece_len, len) }
    }
}

/// A torrent and its content.
#[derive(Debug)]
pub struct Content {
    metainfo: Arc<Metainfo>,
    /// Where in the torrent each file starts, pieces laid end to end.
    starts: Vec<u64>,
    /// The bytes of each file; without them, the content is as many zeros, which travel as lengths.
    files: Option<Vec<Bytes>>,
}

impl Content {
    /// Makes up the content of a torrent, and its hashes.
    pub(crate) fn make(plan: &Plan, rng: &mut Rng, digests: &mut ZeroDigests) -> Self {
        let lens: Vec<(u64, bool)> = match plan.version {
            Version::V1 | Version::V2 => {
                plan.files.iter().map(|(name, len)| (*len, name.is_none())).collect()
            }
            Version::Hybrid => with_pads(plan),
        };
        let files = plan.real.then(|| {
            let file = |&(len, pad): &(u64, bool)| {
                let mut bytes = vec![0; len as usize];
                if !pad {
                    rng.fill(&mut bytes);
                }
                Bytes::from(bytes)
            };
            lens.iter().map(file).collect::<Vec<_>>()
        });
        let torrent = encode(plan, &lens, files.as_deref(), digests);
        let metainfo = Metainfo::parse(&torrent).expect("a torrent made here is valid");
        let found: Vec<_> = metainfo.files().iter().map(|file| (file.len, file.attributes.pad)).collect();
        assert_eq!(found, lens, "the files are as planned");
        let starts = starts(metainfo.file_map());
        Self { metainfo: Arc::new(metainfo), starts, files }
    }

    /// What its torrent file says.
    pub fn metainfo(&self) -> &Arc<Metainfo> {
        &self.metainfo
    }

    /// The lengths of its pieces.
    pub fn lengths(&self) -> &Lengths {
        self.metainfo.lengths()
    }

    /// Whether it has bytes, or only lengths.
    pub(crate) fn is_real(&self) -> bool {
        self.files.is_some()
    }

    /// The true bytes of a part of a piece, as bytes.
    pub(crate) fn bytes(&self, piece: PieceIndex, begin: u32, len: u32) -> Bytes {
        match self.read(piece, begin, len) {
            Payload::Content(bytes) => bytes,
            Payload::Length(len) => zeros(len),
        }
    }

    /// Whether `part` is what stands in `piece` from `begin`.
    pub(crate) fn matches(&self, piece: PieceIndex, begin: u32, part: &Payload) -> bool {
        match (part, &self.files) {
            (Payload::Length(_), files) => files.is_none(),
            (Payload::Content(bytes), None) => bytes.iter().all(|byte| *byte == 0),
            (Payload::Content(bytes), Some(_)) => {
                let mut rest = &bytes[..];
                self.spans(piece, begin, part.len()).all(|span| {
                    let (part, after) = rest.split_at(span.len as usize);
                    rest = after;
                    part == &self.file_bytes(span)[..]
                })
            }
        }
    }

    /// Whether a disk holds the true bytes of `piece`.
    pub(crate) fn is_on(&self, disk: &Disk, torrent: TorrentId, piece: PieceIndex) -> bool {
        let len = self.lengths().piece_len(piece);
        self.spans(piece, 0, len).filter(|span| !span.pad).all(|span| {
            let mut at = span.offset;
            disk.runs(torrent, span).all(|run| {
                let here = FileSpan { offset: at, len: run.len() as u32, ..span };
                at += run.len();
                match (&run, &self.files) {
                    (Run::Hole(_), _) => false,
                    (run, None) => run.is_zero(),
                    (Run::Bytes(bytes), Some(_)) => *bytes == self.file_bytes(here),
                    (Run::Zeros(_), Some(_)) => self.file_bytes(here).iter().all(|byte| *byte == 0),
                }
            })
        })
    }

    /// Puts the true bytes of `piece` on a disk.
    pub(crate) fn fill(&self, disk: &mut Disk, torrent: TorrentId, piece: PieceIndex) {
        let len = self.lengths().piece_len(piece);
        for span in self.spans(piece, 0, len).filter(|span| !span.pad) {
            let data = match &self.files {
                None => Payload::Length(span.len),
                Some(_) => Payload::Content(self.file_bytes(span)),
            };
            disk.fill(torrent, span.file, span.offset, &data);
        }
    }

    /// The parts of pieces that a run of a file's bytes belongs to: piece, begin and length.
    pub(crate) fn places(&self, span: FileSpan) -> impl Iterator<Item = (PieceIndex, u32, u32)> + '_ {
        let start = self.starts[span.file.as_usize()] + span.offset;
        let (mut at, end) = (start, start + u64::from(span.len));
        let piece_len = u64::from(self.lengths().piece_len_max());
        core::iter::from_fn(move || {
            let piece = self.lengths().piece(u32::try_from(at / piece_len).ok()?).filter(|_| at < end)?;
            let begin = at % piece_len;
            let len = (piece_len - begin).min(end - at);
            at += len;
            Some((piece, begin as u32, len as u32))
        })
    }

    /// The pieces that hold bytes of these files.
    pub(crate) fn pieces_of(&self, files: Range<u32>) -> impl Iterator<Item = PieceIndex> + '_ {
        let ends = files.filter_map(|file| self.metainfo.file_map().pieces_of(FileIndex(file)));
        ends.flat_map(|(first, last)| first.get()..=last.get())
            .filter_map(|piece| self.lengths().piece(piece))
    }

    fn read(&self, piece: PieceIndex, begin: u32, len: u32) -> Payload {
        if self.files.is_none() {
            return Payload::Length(len);
        }
        let mut parts = self.spans(piece, begin, len).map(|span| self.file_bytes(span));
        let first = parts.next().expect("a part of a piece is not empty");
        if first.len() == len as usize {
            return Payload::Content(first);
        }
        let mut whole = BytesMut::from(&first[..]);
        parts.for_each(|part| whole.put_slice(&part));
        Payload::Content(whole.freeze())
    }

    pub(super) fn spans(
        &self,
        piece: PieceIndex,
        begin: u32,
        len: u32,
    ) -> impl Iterator<Item = FileSpan> + '_ {
        self.metainfo.file_map().spans(piece, begin, len)
    }

    fn file_bytes(&self, span: FileSpan) -> Bytes {
        let files = self.files.as_ref().expect("only content has bytes");
        files[span.file.as_usize()].slice(span.offset as usize..span.offset as usize + span.len as usize)
    }
}

/// The lengths of a hybrid's files with the padding that puts each of them on a piece of its own.
fn with_pads(plan: &Plan) -> Vec<(u64, bool)> {
    let piece_len = u64::from(plan.piece_len);
    let mut lens = Vec::new();
    for (i, (_, len)) in plan.files.iter().enumerate() {
        lens.push((*len, false));
        let gap = len.next_multiple_of(piece_len) - len;
        if gap > 0 && i + 1 < plan.files.len() {
            lens.push((gap, true));
        }
    }
    lens
}

fn starts(map: &FileMap) -> Vec<u64> {
    let piece_len = u64::from(map.lengths().piece_len_max());
    (0..map.file_count())
        .map(|index| {
            let file = FileIndex(index);
            let Some((first, _)) = map.pieces_of(file) else { return 0 };
            let mut begin = 0;
            for span in map.spans(first, 0, map.lengths().piece_len(first)) {
                if span.file == file {
                    break;
                }
                begin += u64::from(span.len);
            }
            u64::from(first.get()) * piece_len + begin
        })
        .collect()
}

fn encode(plan: &Plan, lens: &[(u64, bool)], files: Option<&[Bytes]>, digests: &mut ZeroDigests) -> Vec<u8> {
    let v1 = (plan.version != Version::V2).then(|| piece_hashes(plan, lens, files, digests));
    let trees: Vec<Tree> = match plan.version {
        Version::V1 => vec![],
        Version::V2 | Version::Hybrid => {
            let real = (0..lens.len()).filter(|index| !lens[*index].1);
            real.map(|index| Tree::of(plan.piece_len, lens[index].0, files.map(|files| &files[index])))
                .collect()
        }
    };
    let mut encoder = Encoder::new();
    let written = encoder.emit_and_sort_dict(|dict| {
        dict.emit_pair_with(b"info", |to| {
            to.emit_unsorted_dict(|info| write_info(plan, lens, v1.as_deref(), &trees, info))
        })?;
        if !trees.is_empty() {
            let layers: std::collections::BTreeMap<_, _> = trees
                .iter()
                .filter(|tree| tree.layer.len() > 32)
                .map(|tree| (tree.root, &tree.layer))
                .collect();
            dict.emit_pair_with(b"piece layers", |to| {
                to.emit_dict(|mut dict| {
                    layers
                        .iter()
                        .try_for_each(|(root, layer)| dict.emit_pair_with(root, |to| to.emit_bytes(layer)))
                })
            })?;
        }
        if plan.trackers.is_empty() { Ok(()) } else { dict.emit_pair(b"announce-list", &plan.trackers) }
    });
    written.and_then(|()| encoder.get_output()).expect("keys are written once and in order")
}

fn write_info(
    plan: &Plan,
    lens: &[(u64, bool)],
    v1: Option<&[u8]>,
    trees: &[Tree],
    info: &mut UnsortedDictEncoder,
) -> Result<(), Error> {
    info.emit_pair(b"name", plan.name)?;
    info.emit_pair(b"piece length", plan.piece_len)?;
    if plan.private {
        info.emit_pair(b"private", 1)?;
    }
    if plan.ballast > 0 {
        info.emit_pair_with(b"x", |to| to.emit_bytes(&vec![b'x'; plan.ballast]))?;
    }
    if let Some(pieces) = v1 {
        info.emit_pair_with(b"pieces", |to| to.emit_bytes(pieces))?;
        info.emit_pair_with(b"files", |to| write_files(plan, lens, to))?;
    }
    if plan.version != Version::V1 {
        info.emit_pair(b"meta version", 2)?;
        info.emit_pair_with(b"file tree", |to| {
            to.emit_unsorted_dict(|tree| {
                plan.files.iter().zip(trees).try_for_each(|((name, len), node)| {
                    let name = name.expect("v2 has no padding");
                    tree.emit_pair_with(name.as_bytes(), |to| {
                        to.emit_dict(|mut dict| dict.emit_pair_with(b"", |to| write_leaf(*len, node, to)))
                    })
                })
            })
        })?;
    }
    Ok(())
}

fn write_files(plan: &Plan, lens: &[(u64, bool)], to: SingleItemEncoder<'_>) -> Result<(), Error> {
    let mut names = plan.files.iter().filter_map(|(name, _)| *name);
    to.emit_list(|list| {
        lens.iter().enumerate().try_for_each(|(index, (len, pad))| {
            list.emit_dict(|mut file| {
                if *pad {
                    // BEP 47: the attribute and the folder that clients expect.
                    file.emit_pair(b"attr", "p")?;
                    file.emit_pair(b"length", len)?;
                    return file.emit_pair(b"path", vec![".pad".to_owned(), format!("{index}")]);
                }
                let name = names.next().expect("every file that is no padding has a name");
                file.emit_pair(b"length", len)?;
                file.emit_pair(b"path", vec![name])
            })
        })
    })
}

fn write_leaf(len: u64, tree: &Tree, to: SingleItemEncoder<'_>) -> Result<(), Error> {
    to.emit_dict(|mut leaf| {
        leaf.emit_pair(b"length", len)?;
        if len > 0 {
            leaf.emit_pair_with(b"pieces root", |to| to.emit_bytes(&tree.root))?;
        }
        Ok(())
    })
}

fn piece_hashes(
    plan: &Plan,
    lens: &[(u64, bool)],
    files: Option<&[Bytes]>,
    digests: &mut ZeroDigests,
) -> Vec<u8> {
    let map = FileMap::contiguous(lens, plan.piece_len.into()).expect("a plan keeps to the limits");
    let hash = |piece: PieceIndex| {
        let len = map.lengths().piece_len(piece);
        let Some(files) = files else { return digests.sha1(len.into()) };
        let mut sha1 = Sha1::new();
        for span in map.spans(piece, 0, len) {
            let from = span.offset as usize;
            sha1.update(&files[span.file.as_usize()][from..from + span.len as usize]);
        }
        sha1.finalize().into()
    };
    map.lengths().pieces().flat_map(hash).collect()
}

/// The hashes of one file in v2.
struct Tree {
    root: merkle::Hash,
    layer: Vec<u8>,
}

impl Tree {
    fn of(piece_len: u32, len: u64, file: Option<&Bytes>) -> Self {
        let block_len = u64::from(BLOCK_LEN);
        let leaves: Vec<merkle::Hash> = (0..len.div_ceil(block_len))
            .map(|number| {
                let (from, to) = (number * block_len, len.min((number + 1) * block_len));
                match file {
                    Some(bytes) => merkle::leaf(&bytes[from as usize..to as usize]),
                    None => merkle::leaf(&zeros((to - from) as u32)),
                }
            })
            .collect();
        let per_piece = piece_len / BLOCK_LEN;
        if len <= u64::from(piece_len) {
            let width = (leaves.len() as u32).next_power_of_two();
            return Self { root: merkle::root(&leaves, 0, width), layer: vec![] };
        }
        let nodes: Vec<_> =
            leaves.chunks(per_piece as usize).map(|leaves| merkle::root(leaves, 0, per_piece)).collect();
        let width = (nodes.len() as u32).next_power_of_two();
        Self { root: merkle::root(&nodes, per_piece.trailing_zeros(), width), layer: nodes.concat() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::disk::DiskModel;

    fn make(plan: &Plan) -> Content {
        Content::make(plan, &mut Rng::from_number(1), &mut ZeroDigests::default())
    }

    fn many(version: Version, real: bool) -> Plan {
        let files = vec![(Some("a"), 40_000), (Some("b"), 0), (Some("c"), 70_000), (Some("d"), 3)];
        Plan { version, files, real, ..Plan::small(32768, 0) }
    }

    #[test]
    fn hashes_of_every_version_are_those_of_the_content() {
        for version in [Version::V1, Version::V2, Version::Hybrid] {
            for real in [true, false] {
                let content = make(&many(version, real));
                let metainfo = content.metainfo();
                for piece in content.lengths().pieces() {
                    let bytes = content.bytes(piece, 0, content.lengths().piece_len(piece));
                    if let Some(hash) = metainfo.piece_hash(piece) {
                        assert_eq!(hash, <[u8; 20]>::from(Sha1::digest(&bytes)), "{version:?} {piece}");
                    }
                    if version != Version::V1 {
                        let root = metainfo.piece_root(piece).unwrap();
                        let leaves: Vec<_> =
                            bytes[..root.len as usize].chunks(16384).map(merkle::leaf).collect();
                        assert!(root.verify(&leaves), "{version:?} {piece}");
                    }
                }
            }
        }
    }

    #[test]
    fn places_are_the_way_back_from_spans() {
        for version in [Version::V1, Version::V2, Version::Hybrid] {
            let content = make(&many(version, true));
            for piece in content.lengths().pieces() {
                let mut begin = 0;
                for span in content.spans(piece, 0, content.lengths().piece_len(piece)) {
                    let back: Vec<_> = content.places(span).collect();
                    assert_eq!(back, [(piece, begin, span.len)], "{version:?}");
                    begin += span.len;
                }
            }
        }
    }

    #[test]
    fn only_the_true_bytes_match() {
        for real in [true, false] {
            let content = make(&many(Version::Hybrid, real));
            let mut disk = Disk::new(DiskModel::default(), Rng::from_number(2));
            let torrent = TorrentId(4);
            disk.add_torrent(torrent, content.metainfo().files().len(), real);
            let piece = content.lengths().piece(1).unwrap();
            assert!(!content.is_on(&disk, torrent, piece));
            content.fill(&mut disk, torrent, piece);
            assert!(content.is_on(&disk, torrent, piece));
            let span = content.spans(piece, 5, 1).next().unwrap();
            disk.damage(torrent, span);
            assert!(!content.is_on(&disk, torrent, piece));

            assert!(content.matches(piece, 3, &content.read(piece, 3, 900)));
            let mut wrong = content.bytes(piece, 3, 900).to_vec();
            wrong[899] ^= 1;
            assert!(!content.matches(piece, 3, &Payload::Content(wrong.into())));
        }
    }
}
