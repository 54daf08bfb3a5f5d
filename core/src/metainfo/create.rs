//! Writing v1 torrents (BEP 3). What is written is canonical; the caller hashes the pieces.

use crate::lengths::{Lengths, LengthsError};
use alloc::string::String;
use alloc::vec::Vec;
use bendy::encoding::{Encoder, UnsortedDictEncoder};

/// A torrent to be written.
#[derive(Clone, Debug)]
pub struct Create {
    /// The name of the file, or of the folder of the files.
    pub name: String,
    /// What it is about.
    pub content: Content,
    /// The length of the pieces in bytes, see [`default_piece_len`].
    pub piece_len: u32,
    /// The SHA-1 of each piece, end to end.
    pub piece_hashes: Vec<u8>,
    /// The trackers in tiers (BEP 12).
    pub trackers: Vec<Vec<String>>,
    /// The URLs of web seeds (BEP 19).
    pub web_seeds: Vec<String>,
    /// What to say about the torrent.
    pub comment: Option<String>,
    /// The program that makes the torrent.
    pub created_by: Option<String>,
    /// When the torrent is made, in seconds since 1970.
    pub creation_date: Option<u64>,
    /// Whether peers may only come from the trackers (BEP 27).
    pub private: bool,
    /// A word that gives the torrent an infohash of its own at one tracker.
    pub source: Option<String>,
}

/// The files of a torrent to be written.
#[derive(Clone, Debug)]
pub enum Content {
    /// One file of this length, called as the torrent is.
    File(u64),
    /// Files in a folder: the components of the path below it, and the length.
    Folder(Vec<(Vec<String>, u64)>),
}

impl Content {
    /// The lengths of the files in order.
    pub fn lens(&self) -> impl Iterator<Item = u64> + '_ {
        let (one, many) = match self {
            Self::File(len) => (Some(*len), &[][..]),
            Self::Folder(files) => (None, &files[..]),
        };
        one.into_iter().chain(many.iter().map(|(_, len)| *len))
    }
}

/// Why a torrent cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// The piece length or the number of pieces is outside the limits.
    #[error("{0}")]
    Lengths(#[from] LengthsError),
    /// A folder has no files.
    #[error("there are no files")]
    NoFiles,
}

impl Create {
    /// The bytes of the torrent file.
    pub fn encode(&self) -> Result<Vec<u8>, CreateError> {
        if self.content.lens().next().is_none() {
            return Err(CreateError::NoFiles);
        }
        let total =
            self.content.lens().try_fold(0_u64, u64::checked_add).ok_or(LengthsError::TotalTooLong)?;
        let lengths = Lengths::contiguous(total, u64::from(self.piece_len))?;
        assert_eq!(self.piece_hashes.len(), lengths.piece_count() as usize * 20, "a SHA-1 for each piece");
        let mut encoder = Encoder::new();
        encoder.emit_and_sort_dict(|dict| self.write(dict)).expect("no key is written twice");
        Ok(encoder.get_output().expect("one value was written"))
    }

    fn write(&self, dict: &mut UnsortedDictEncoder) -> Result<(), bendy::encoding::Error> {
        let mut urls = self.trackers.iter().flatten();
        if let Some(first) = urls.next() {
            dict.emit_pair(b"announce", first)?;
        }
        // BEP 12: a client that knows the list ignores `announce`, so the list is there only if it says more.
        if urls.next().is_some() {
            dict.emit_pair(b"announce-list", &self.trackers)?;
        }
        if let Some(comment) = &self.comment {
            dict.emit_pair(b"comment", comment)?;
        }
        if let Some(created_by) = &self.created_by {
            dict.emit_pair(b"created by", created_by)?;
        }
        if let Some(date) = self.creation_date {
            dict.emit_pair(b"creation date", date)?;
        }
        if !self.web_seeds.is_empty() {
            dict.emit_pair(b"url-list", &self.web_seeds)?;
        }
        dict.emit_pair_with(b"info", |info| info.emit_unsorted_dict(|info| self.write_info(info)))
    }

    fn write_info(&self, info: &mut UnsortedDictEncoder) -> Result<(), bendy::encoding::Error> {
        match &self.content {
            Content::File(len) => info.emit_pair(b"length", len)?,
            Content::Folder(files) => info.emit_pair_with(b"files", |list| {
                list.emit_list(|list| {
                    files.iter().try_for_each(|(path, len)| {
                        list.emit_dict(|mut file| {
                            file.emit_pair(b"length", len)?;
                            file.emit_pair(b"path", path)
                        })
                    })
                })
            })?,
        }
        info.emit_pair(b"name", &self.name)?;
        info.emit_pair(b"piece length", self.piece_len)?;
        info.emit_pair_with(b"pieces", |pieces| pieces.emit_bytes(&self.piece_hashes))?;
        if self.private {
            info.emit_pair(b"private", 1)?;
        }
        if let Some(source) = &self.source {
            info.emit_pair(b"source", source)?;
        }
        Ok(())
    }
}

/// A piece length that makes about a thousand to two thousand pieces of `total` bytes: a power of two from 16 KiB to
/// 16 MiB.
pub fn default_piece_len(total: u64) -> u32 {
    1 << (total / 1024).max(1).ilog2().clamp(14, 24)
}

#[cfg(test)]
mod tests {
    use super::{Content, Create, CreateError, default_piece_len};
    use crate::bencode::{Document, Limits};
    use crate::metainfo::Metainfo;
    use alloc::string::String;
    use alloc::vec;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn create(content: Content, piece_hashes: Vec<u8>) -> Create {
        Create {
            name: "name".into(),
            content,
            piece_len: 16384,
            piece_hashes,
            trackers: vec![],
            web_seeds: vec![],
            comment: None,
            created_by: None,
            creation_date: None,
            private: false,
            source: None,
        }
    }

    #[test]
    fn a_plain_file_is_written_as_bep_3_says() {
        let bytes = create(Content::File(1), vec![b'h'; 20]).encode().unwrap();
        let expected =
            b"d4:infod6:lengthi1e4:name4:name12:piece lengthi16384e6:pieces20:hhhhhhhhhhhhhhhhhhhhee";
        assert_eq!(bytes, expected);
    }

    #[test]
    fn every_field_comes_back() {
        let files = vec![(vec!["a".into(), "b".into()], 16384), (vec!["c".into()], 1)];
        let torrent = Create {
            trackers: vec![vec!["http://a/x".into(), "udp://b:1".into()], vec!["http://c/x".into()]],
            web_seeds: vec!["http://w/".into()],
            comment: Some("what it is".into()),
            created_by: Some("fast-peer".into()),
            creation_date: Some(1_234_567),
            private: true,
            source: Some("there".into()),
            ..create(Content::Folder(files), vec![7; 40])
        };
        let bytes = torrent.encode().unwrap();
        let document = Document::parse(&bytes, Limits::FILE).unwrap();
        assert!(document.quirks().is_empty(), "canonical");
        let info = document.root().as_dict().unwrap().get(b"info").unwrap().as_dict().unwrap();
        assert_eq!(info.get(b"source").unwrap().as_str(), Some("there"));

        let read = Metainfo::parse(&bytes).unwrap();
        assert_eq!(read.name(), "name");
        let paths: Vec<String> = read.files().iter().map(|file| file.path.as_str().into()).collect();
        assert_eq!(paths, ["name/a/b", "name/c"]);
        assert_eq!((read.lengths().total(), read.lengths().piece_count()), (16385, 2));
        assert_eq!((read.trackers(), read.web_seeds()), (&torrent.trackers[..], &torrent.web_seeds[..]));
        assert_eq!((read.comment(), read.created_by()), (Some("what it is"), Some("fast-peer")));
        assert_eq!((read.creation_date(), read.is_private()), (Some(1_234_567), true));
    }

    #[test]
    fn what_no_client_would_take_is_not_written() {
        assert_eq!(create(Content::Folder(vec![]), vec![]).encode(), Err(CreateError::NoFiles));
        let files = vec![(vec!["a".into()], u64::MAX), (vec!["b".into()], 1)];
        assert!(matches!(create(Content::Folder(files), vec![]).encode(), Err(CreateError::Lengths(_))));
    }

    proptest! {
        #[test]
        fn a_default_makes_a_thousand_or_two_pieces(total in 0_u64..1 << 40) {
            let len = default_piece_len(total);
            prop_assert!(len.is_power_of_two() && (16384..=16 << 20).contains(&len));
            if (16 << 20..16 << 30).contains(&total) {
                prop_assert!((1024..=2048).contains(&total.div_ceil(u64::from(len))));
            }
        }
    }
}
