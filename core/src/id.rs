//! Names of things: torrents, peers, connections, jobs.

use core::fmt;

/// A v1 infohash: the SHA-1 of the raw bytes of `info`. In a swarm of a v2-only torrent, the first 20 bytes of its
/// SHA-256 stand here (BEP 52).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InfoHash(pub [u8; 20]);

/// A v2 infohash: the SHA-256 of the raw bytes of `info` (BEP 52).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InfoHashV2(pub [u8; 32]);

/// What a peer calls itself in its handshake (BEP 20). Chosen by the remote, so proof of nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub [u8; 20]);

impl InfoHashV2 {
    /// The form in which trackers, handshakes and the DHT name a v2 torrent (BEP 52).
    pub fn truncated(self) -> InfoHash {
        InfoHash(*self.0.first_chunk().expect("32 bytes hold 20"))
    }
}

/// The hashes of one torrent's `info`, by which it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InfoHashes {
    /// Of a hybrid: one torrent in two swarms (BEP 52).
    Hybrid(InfoHash, InfoHashV2),
    /// Of a torrent of BEP 3.
    V1(InfoHash),
    /// Of a torrent of BEP 52 alone.
    V2(InfoHashV2),
}

impl InfoHashes {
    /// Of what is there; nothing if there is neither.
    pub fn new(v1: Option<InfoHash>, v2: Option<InfoHashV2>) -> Option<Self> {
        Some(match (v1, v2) {
            (Some(v1), Some(v2)) => Self::Hybrid(v1, v2),
            (Some(v1), None) => Self::V1(v1),
            (None, v2) => Self::V2(v2?),
        })
    }

    /// The v1 infohash, if there is one.
    pub const fn v1(self) -> Option<InfoHash> {
        match self {
            Self::Hybrid(v1, _) | Self::V1(v1) => Some(v1),
            Self::V2(_) => None,
        }
    }

    /// The v2 infohash, if there is one.
    pub const fn v2(self) -> Option<InfoHashV2> {
        match self {
            Self::Hybrid(_, v2) | Self::V2(v2) => Some(v2),
            Self::V1(_) => None,
        }
    }

    /// Whether a torrent that has `all` has these.
    pub fn are_among(self, all: Self) -> bool {
        self.v1().is_none_or(|v1| all.v1() == Some(v1)) && self.v2().is_none_or(|v2| all.v2() == Some(v2))
    }

    /// The hash under which trackers, handshakes and the DHT know the torrent. A hybrid has a second swarm under the
    /// truncated v2 hash.
    pub fn swarm(self) -> InfoHash {
        match self {
            Self::Hybrid(v1, _) | Self::V1(v1) => v1,
            Self::V2(v2) => v2.truncated(),
        }
    }
}

pub(crate) fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// All digits in lower case; with a precision (`{:.4}`) only as many digits, as traces do.
macro_rules! show_hex {
    ($($name:ident),*) => {$(
        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                let digits = f.precision().unwrap_or(2 * self.0.len());
                $crate::id::hex(&self.0[..(digits / 2).min(self.0.len())], f)
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }
    )*};
}

pub(crate) use show_hex;

show_hex!(InfoHash, InfoHashV2, PeerId);

macro_rules! number {
    ($($(#[$doc:meta])* $name:ident $prefix:literal,)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    )*};
}

number! {
    /// One connection to a peer, from the decision to dial or accept to its end. Never used twice.
    ConnId "c",
    /// One piece of work that a driver does for the core: a disk operation, a name look-up, a request. Never used twice.
    JobId "j",
    /// One search in the DHT. Never used twice.
    LookupId "l",
    /// One torrent of a session. Never used twice.
    TorrentId "t",
}

#[cfg(test)]
mod tests {
    use super::{InfoHash, InfoHashV2, InfoHashes};
    use alloc::format;

    #[test]
    fn hashes_show_as_hex_whole_or_cut() {
        let hash = InfoHash([0xc1; 20]);
        assert_eq!(format!("{hash}"), "c1".repeat(20));
        assert_eq!(format!("{hash:.4}"), "c1c1");
    }

    #[test]
    fn a_v2_hash_is_named_by_its_first_20_bytes() {
        let hash = InfoHashV2(core::array::from_fn(|i| i as u8));
        assert_eq!(hash.truncated().0, core::array::from_fn(|i| i as u8));
    }

    #[test]
    fn a_swarm_has_the_v1_hash_if_there_is_one() {
        let (v1, v2) = (InfoHash([1; 20]), InfoHashV2([2; 32]));
        for (hashes, swarm) in [
            ((Some(v1), Some(v2)), Some(v1)),
            ((Some(v1), None), Some(v1)),
            ((None, Some(v2)), Some(InfoHash([2; 20]))),
            ((None, None), None),
        ] {
            let both = InfoHashes::new(hashes.0, hashes.1);
            assert_eq!(both.map(InfoHashes::swarm), swarm);
            assert_eq!(both.map_or((None, None), |both| (both.v1(), both.v2())), hashes);
        }
    }

    #[test]
    fn a_hash_is_among_those_of_its_torrent() {
        let (v1, v2) = (InfoHash([1; 20]), InfoHashV2([2; 32]));
        let hybrid = InfoHashes::Hybrid(v1, v2);
        assert!(InfoHashes::V1(v1).are_among(hybrid) && InfoHashes::V2(v2).are_among(hybrid));
        assert!(hybrid.are_among(hybrid) && !hybrid.are_among(InfoHashes::V1(v1)));
        assert!(!InfoHashes::V1(InfoHash([3; 20])).are_among(hybrid));
    }
}
