//! Putting an info dictionary together that came from peers in pieces (BEP 9).

use super::{Error, MAX_BYTES, Metainfo};
use crate::id::{InfoHash, InfoHashV2, InfoHashes};
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// An info dictionary in parts, and the hashes that it must have.
///
/// Reading one takes as long as hashing and reading up to [`MAX_BYTES`] does, so it is a job for a driver.
#[derive(Clone, PartialEq, Eq)]
pub struct Assembly {
    parts: Vec<Bytes>,
    hashes: InfoHashes,
}

/// What came of an [`Assembly`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assembled {
    /// The torrent, if the parts are what the hashes name.
    pub metainfo: Result<Arc<Metainfo>, AssemblyError>,
    /// The SHA-1 of each part, to find out who sent a wrong one.
    pub digests: Vec<[u8; 20]>,
}

/// Why parts are no torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssemblyError {
    /// They are what the hashes name, but more than a dictionary, or one of another version than the hashes are.
    #[error("the metadata does not fit the kind of its hash")]
    Inconsistent,
    /// They are what the hashes name, but that describes no torrent.
    #[error("the metadata describes no torrent: {0}")]
    Malformed(#[from] Error),
    /// They are something else than what the hashes name.
    #[error("the metadata is not what its hash names")]
    WrongHash,
}

impl Assembly {
    /// These parts, one after another, which must have `hashes`.
    pub fn new(parts: Vec<Bytes>, hashes: InfoHashes) -> Self {
        Self { parts, hashes }
    }

    /// How many bytes there are.
    #[expect(clippy::len_without_is_empty, reason = "there is no empty dictionary")]
    pub fn len(&self) -> usize {
        self.parts.iter().map(Bytes::len).sum()
    }

    /// Puts the parts together and reads them, if they have the hashes. Each part is let go as soon as it is copied.
    pub fn read(self) -> Assembled {
        let digests = self.parts.iter().map(|part| Sha1::digest(part).into()).collect();
        Assembled { metainfo: self.metainfo(), digests }
    }

    fn metainfo(self) -> Result<Arc<Metainfo>, AssemblyError> {
        if !self.has_hashes() {
            return Err(AssemblyError::WrongHash);
        }
        let len = self.len();
        if len > MAX_BYTES {
            return Err(Error::TooLong.into());
        }
        let mut info = Vec::with_capacity(len);
        self.parts.into_iter().for_each(|part| info.extend_from_slice(&part));
        let metainfo = Metainfo::from_info(info.into())?;
        // What follows the dictionary is hashed here and not where torrent files are read.
        if metainfo.info().len() != len || !self.hashes.are_among(metainfo.hashes()) {
            return Err(AssemblyError::Inconsistent);
        }
        Ok(Arc::new(metainfo))
    }

    fn has_hashes(&self) -> bool {
        let v1 = self.hashes.v1().is_none_or(|hash| {
            let mut sha1 = Sha1::new();
            self.parts.iter().for_each(|part| sha1.update(part));
            hash == InfoHash(sha1.finalize().into())
        });
        v1 && self.hashes.v2().is_none_or(|hash| {
            let mut sha256 = Sha256::new();
            self.parts.iter().for_each(|part| sha256.update(part));
            hash == InfoHashV2(sha256.finalize().into())
        })
    }
}

/// Never the bytes.
impl fmt::Debug for Assembly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Assembly({self})")
    }
}

/// `len=31235`.
impl fmt::Display for Assembly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "len={}", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::{Assembly, AssemblyError};
    use crate::id::{InfoHash, InfoHashV2, InfoHashes};
    use crate::metainfo::Error;
    use alloc::vec::Vec;
    use bytes::Bytes;
    use sha1::Sha1;
    use sha2::{Digest as _, Sha256};

    const INFO: &[u8] = b"d6:lengthi3e4:name1:n12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaae";

    fn v1(info: &[u8]) -> InfoHashes {
        InfoHashes::V1(InfoHash(Sha1::digest(info).into()))
    }

    fn parts(info: &[u8]) -> Vec<Bytes> {
        info.chunks(16).map(Bytes::copy_from_slice).collect()
    }

    #[test]
    fn parts_that_have_the_hash_are_a_torrent() {
        let assembled = Assembly::new(parts(INFO), v1(INFO)).read();
        let metainfo = assembled.metainfo.unwrap();
        assert_eq!((metainfo.name(), &metainfo.info()[..]), ("n", INFO));
        assert_eq!(metainfo.hashes(), v1(INFO));
        let digests: Vec<[u8; 20]> = INFO.chunks(16).map(|part| Sha1::digest(part).into()).collect();
        assert_eq!(assembled.digests, digests);
    }

    #[test]
    fn every_hash_counts() {
        let [good, bad] = [Sha256::digest(INFO), Sha256::digest(b"x")].map(|hash| InfoHashV2(hash.into()));
        let sha1 = InfoHash(Sha1::digest(INFO).into());
        for (hashes, error) in [
            (v1(b"x"), AssemblyError::WrongHash),
            (InfoHashes::V2(bad), AssemblyError::WrongHash),
            (InfoHashes::Hybrid(sha1, bad), AssemblyError::WrongHash),
            // The bytes have the hash, but as they are of v1 alone they don't have a v2 hash.
            (InfoHashes::V2(good), AssemblyError::Inconsistent),
        ] {
            assert_eq!(Assembly::new(parts(INFO), hashes).read().metainfo, Err(error), "{hashes:?}");
        }
    }

    #[test]
    fn the_right_hash_of_something_else_is_no_torrent() {
        let trailing = [INFO, b"x"].concat();
        for (bytes, error) in [
            (&b"de"[..], AssemblyError::Malformed(Error::PieceLength)),
            (b"le", AssemblyError::Malformed(Error::NotDictionary)),
            (&trailing, AssemblyError::Inconsistent),
        ] {
            let read = Assembly::new(parts(bytes), v1(bytes)).read();
            assert_eq!(read.metainfo, Err(error), "{}", bytes.escape_ascii());
        }
    }
}
