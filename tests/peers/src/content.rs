//! What the torrents of the tests hold, made anew from nothing but its name.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use sha1::{Digest, Sha1};

use crate::bencode::Value;
use crate::http::escape;

/// A kind of content, each with its own way to go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Content {
    /// A folder with empty files, a file of one byte, odd sizes, sub-folders, names beyond ASCII, and names so long that
    /// its info dictionary takes two pieces of metadata (BEP 9).
    Folder,
    /// Pieces that end inside of a block, with a length that no block divides.
    OddPieces,
    /// Pieces of hundreds of blocks.
    LargePieces,
    /// One file whose last piece and last block are short.
    Single,
    /// Less than one block.
    Tiny,
}

impl Content {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Folder, Self::OddPieces, Self::LargePieces, Self::Single, Self::Tiny];

    /// The payload of this kind: the same at each call.
    pub fn payload(self) -> Payload {
        let file = |length| noise(self as u64, length);
        match self {
            Self::Folder => {
                let mut files = BTreeMap::from([
                    ("empty first".to_owned(), Vec::new()),
                    ("middle/one byte".to_owned(), noise(1, 1)),
                    ("middle/deeper/exactly four pieces".to_owned(), noise(2, 4 * 32_768)),
                    ("middle/deeper/empty".to_owned(), Vec::new()),
                    ("ünïcødé/名前.bin".to_owned(), noise(3, 1_234_567)),
                    ("zero at the end".to_owned(), Vec::new()),
                ]);
                let (folder, name) = ("a long name ".repeat(19), "another long name ".repeat(13));
                for number in 0..40 {
                    let path = format!("small/{}/{name}{number:02}", folder.trim_end());
                    files.insert(path, noise(100 + number, 997 * number as usize));
                }
                Payload::folder("folder of files", 32_768, files)
            }
            Self::OddPieces => Payload::file("odd pieces.bin", 50_000, file(3_333_333)),
            Self::LargePieces => Payload::file("large pieces.bin", 8 << 20, file((20 << 20) + 77)),
            Self::Single => Payload::file("single.bin", 65_536, file((5 << 20) + 12_345)),
            Self::Tiny => Payload::file("tiny.bin", 16_384, file(1_000)),
        }
    }
}

/// The bytes that a torrent describes.
#[derive(Clone, Debug)]
pub struct Payload {
    name: &'static str,
    piece_length: usize,
    files: Vec<(PathBuf, Vec<u8>)>,
    is_folder: bool,
}

impl Payload {
    /// The name of its file or folder.
    pub fn name(&self) -> &str {
        self.name
    }

    /// How many bytes it has.
    pub fn length(&self) -> usize {
        self.files.iter().map(|(_, bytes)| bytes.len()).sum()
    }

    /// Writes it below `folder`.
    pub fn write(&self, folder: &Path) -> Result<()> {
        for (path, bytes) in &self.files {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().context("a file lies in a folder")?)?;
            fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    /// The same without its empty files.
    pub fn without_empty_files(mut self) -> Self {
        self.files.retain(|(_, bytes)| !bytes.is_empty());
        self
    }

    /// Fails unless `folder` holds exactly this payload, byte for byte, and nothing else.
    pub fn compare(&self, folder: &Path) -> Result<()> {
        let mut unexpected = Vec::new();
        list(folder, &mut unexpected)?;
        for (path, wanted) in &self.files {
            let full = folder.join(path);
            let found = fs::read(&full).with_context(|| format!("cannot read {}", full.display()))?;
            ensure!(
                found.len() == wanted.len(),
                "{} has {} bytes, not {}",
                path.display(),
                found.len(),
                wanted.len()
            );
            let difference = found.iter().zip(wanted).position(|(a, b)| a != b);
            ensure!(difference.is_none(), "{} differs at byte {difference:?}", path.display());
            unexpected.retain(|other| *other != full);
        }
        ensure!(unexpected.is_empty(), "left behind: {unexpected:?}");
        Ok(())
    }

    /// The torrent of this payload.
    pub fn torrent(&self, announce: Option<&str>) -> Torrent {
        let all: Vec<u8> = self.files.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect();
        let hashes = all.chunks(self.piece_length).flat_map(Sha1::digest).collect::<Vec<u8>>();
        let mut info = BTreeMap::from([
            ("name", Value::bytes(self.name)),
            ("piece length", Value::Integer(self.piece_length as i64)),
            ("pieces", Value::Bytes(hashes)),
        ]);
        if self.is_folder {
            let file = |(path, bytes): &(PathBuf, Vec<u8>)| {
                let parts = path.iter().skip(1).map(|part| Value::bytes(part.as_encoded_bytes()));
                Value::dictionary([
                    ("length", Value::Integer(bytes.len() as i64)),
                    ("path", Value::List(parts.collect())),
                ])
            };
            info.insert("files", Value::List(self.files.iter().map(file).collect()));
        } else {
            info.insert("length", Value::Integer(all.len() as i64));
        }
        let info = Value::Dictionary(info);
        let encoded = info.encode();
        let infohash = Sha1::digest(&encoded).into();
        let mut torrent = BTreeMap::from([("info", info)]);
        if let Some(url) = announce {
            torrent.insert("announce", Value::bytes(url));
        }
        let bytes = Value::Dictionary(torrent).encode();
        Torrent { bytes, info: encoded, infohash, name: self.name, announce: announce.map(str::to_owned) }
    }

    fn file(name: &'static str, piece_length: usize, bytes: Vec<u8>) -> Self {
        Self { name, piece_length, files: vec![(name.into(), bytes)], is_folder: false }
    }

    fn folder(name: &'static str, piece_length: usize, files: BTreeMap<String, Vec<u8>>) -> Self {
        let files = files.into_iter().map(|(path, bytes)| (Path::new(name).join(path), bytes)).collect();
        Self { name, piece_length, files, is_folder: true }
    }
}

/// A metainfo file.
#[derive(Clone, Debug)]
pub struct Torrent {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The bytes of its info dictionary.
    pub info: Vec<u8>,
    /// The SHA-1 of its info dictionary.
    pub infohash: [u8; 20],
    announce: Option<String>,
    name: &'static str,
}

impl Torrent {
    /// The infohash in hexadecimal.
    pub fn hex(&self) -> String {
        self.infohash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// A magnet link (BEP 9) with the torrent's tracker.
    pub fn magnet(&self) -> String {
        let name = escape(self.name.as_bytes());
        let tracker = self.announce.iter().map(|url| format!("&tr={}", escape(url.as_bytes())));
        format!("magnet:?xt=urn:btih:{}&dn={name}{}", self.hex(), tracker.collect::<String>())
    }
}

/// Bytes that don't compress and don't repeat: SplitMix64 from a seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend((word ^ (word >> 31)).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() { list(&path, files)? } else { files.push(path) }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torrent_by_hand() {
        let payload = Payload::file("a", 4, b"abcde".to_vec());
        let torrent = payload.torrent(Some("http://t/announce"));
        let [first, second] = [&b"abcd"[..], b"e"].map(Sha1::digest);
        let mut wanted =
            b"d8:announce17:http://t/announce4:infod6:lengthi5e4:name1:a12:piece lengthi4e6:pieces40:"
                .to_vec();
        wanted.extend(first);
        wanted.extend(second);
        wanted.extend(b"ee");
        assert_eq!(torrent.bytes, wanted);
        let magnet = format!("magnet:?xt=urn:btih:{}&dn=a&tr=http%3A%2F%2Ft%2Fannounce", torrent.hex());
        assert_eq!(torrent.magnet(), magnet);
    }

    #[test]
    fn the_kinds_are_what_they_say() {
        let block = 16_384;
        for content in Content::ALL {
            let payload = content.payload();
            let empty = payload.files.iter().filter(|(_, bytes)| bytes.is_empty()).count();
            match content {
                Content::Folder => {
                    assert!(payload.is_folder && empty >= 3);
                    assert!(payload.torrent(None).info.len() > block);
                }
                Content::LargePieces => assert!(payload.piece_length / block >= 100),
                Content::OddPieces => assert_ne!(payload.piece_length % block, 0),
                Content::Single => assert_ne!(payload.length() % payload.piece_length % block, 0),
                Content::Tiny => assert!(payload.length() < block),
            }
        }
    }

    #[test]
    fn comparing_sees_every_difference() -> Result<()> {
        let folder = std::env::temp_dir().join(format!("peers-compare-{}", std::process::id()));
        let payload = Content::Folder.payload();
        payload.write(&folder)?;
        payload.compare(&folder)?;

        let victim = folder.join(payload.name()).join("middle/one byte");
        fs::write(&victim, [!noise(1, 1)[0]])?;
        assert!(payload.compare(&folder).is_err_and(|error| error.to_string().contains("differs")));
        fs::write(&victim, [])?;
        assert!(payload.compare(&folder).is_err_and(|error| error.to_string().contains("0 bytes")));
        fs::remove_file(&victim)?;
        assert!(payload.compare(&folder).is_err());
        payload.write(&folder)?;
        fs::write(folder.join("left over"), [])?;
        assert!(payload.compare(&folder).is_err_and(|error| error.to_string().contains("left behind")));
        fs::remove_dir_all(folder)?;
        Ok(())
    }
}
