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
    use super::{InfoHash, InfoHashV2};
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
}
