//! The 68 bytes with which each side starts (BEP 3).

use crate::id::{InfoHash, PeerId};
use bytes::{BufMut as _, BytesMut};
use core::fmt;

/// The length of a handshake in bytes.
pub const HANDSHAKE_LEN: usize = 68;

/// How a handshake begins: the name of the protocol, after its length. The reserved bits follow.
pub const HANDSHAKE_START: &[u8; 20] = b"\x13BitTorrent protocol";

/// The length of the part that ends with the infohash, after which an acceptor can answer.
pub(super) const INFO_HASH_END: usize = 48;

/// The handshake's eight bytes of extension bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reserved(pub [u8; 8]);

impl Reserved {
    /// No extension.
    pub const NONE: Self = Self([0; 8]);

    const EXTENDED: (usize, u8) = (5, 0x10);
    const DHT: (usize, u8) = (7, 0x01);
    const FAST: (usize, u8) = (7, 0x04);
    const V2: (usize, u8) = (7, 0x10);

    /// Whether the sender has a DHT node (BEP 5).
    pub const fn dht(self) -> bool {
        self.has(Self::DHT)
    }

    /// Whether the sender speaks the extension protocol (BEP 10).
    pub const fn extended(self) -> bool {
        self.has(Self::EXTENDED)
    }

    /// Whether the sender speaks the fast extension (BEP 6).
    pub const fn fast(self) -> bool {
        self.has(Self::FAST)
    }

    /// Whether the sender can switch the connection to the v2 swarm of a hybrid torrent (BEP 52).
    pub const fn v2(self) -> bool {
        self.has(Self::V2)
    }

    /// These bits and the DHT's.
    pub const fn with_dht(self) -> Self {
        self.with(Self::DHT)
    }

    /// These bits and the extension protocol's.
    pub const fn with_extended(self) -> Self {
        self.with(Self::EXTENDED)
    }

    /// These bits and the fast extension's.
    pub const fn with_fast(self) -> Self {
        self.with(Self::FAST)
    }

    /// These bits and that of v2.
    pub const fn with_v2(self) -> Self {
        self.with(Self::V2)
    }

    const fn has(self, (byte, mask): (usize, u8)) -> bool {
        self.0[byte] & mask != 0
    }

    const fn with(mut self, (byte, mask): (usize, u8)) -> Self {
        self.0[byte] |= mask;
        self
    }
}

/// What each side says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The extensions that the sender speaks.
    pub reserved: Reserved,
    /// The torrent that the connection is about.
    pub info_hash: InfoHash,
    /// What the sender calls itself.
    pub peer_id: PeerId,
}

impl Handshake {
    /// Reads a handshake whose first 20 bytes are known to name the protocol.
    pub(super) fn parse(bytes: &[u8; HANDSHAKE_LEN]) -> Self {
        let (head, peer_id) = bytes.split_last_chunk().expect("68 bytes end with 20");
        let (head, info_hash) = head.split_last_chunk().expect("48 bytes end with 20");
        let reserved = head.last_chunk().expect("28 bytes end with 8");
        Self { reserved: Reserved(*reserved), info_hash: InfoHash(*info_hash), peer_id: PeerId(*peer_id) }
    }
}

/// Appends `handshake` to `out`.
pub fn encode_handshake(handshake: &Handshake, out: &mut BytesMut) {
    out.reserve(HANDSHAKE_LEN);
    out.put_slice(HANDSHAKE_START);
    out.put_slice(&handshake.reserved.0);
    out.put_slice(&handshake.info_hash.0);
    out.put_slice(&handshake.peer_id.0);
}

impl fmt::Display for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "handshake ih={:.4}..", self.info_hash)
    }
}

#[cfg(test)]
mod tests {
    use super::Reserved;

    #[test]
    fn each_extension_has_its_bit() {
        // BEP 10: byte 5, 0x10. BEP 5, 6, 52: byte 7, 0x01, 0x04, 0x10.
        assert_eq!(Reserved::NONE.with_extended(), Reserved([0, 0, 0, 0, 0, 0x10, 0, 0]));
        assert_eq!(Reserved::NONE.with_dht(), Reserved([0, 0, 0, 0, 0, 0, 0, 0x01]));
        assert_eq!(Reserved::NONE.with_fast(), Reserved([0, 0, 0, 0, 0, 0, 0, 0x04]));
        assert_eq!(Reserved::NONE.with_v2(), Reserved([0, 0, 0, 0, 0, 0, 0, 0x10]));
    }

    #[test]
    fn each_extension_is_read_alone() {
        type Read = fn(Reserved) -> bool;
        let reads: [Read; 4] = [Reserved::dht, Reserved::extended, Reserved::fast, Reserved::v2];
        let sets = [Reserved::with_dht, Reserved::with_extended, Reserved::with_fast, Reserved::with_v2]
            .map(|set| set(Reserved::NONE));
        for (i, set) in sets.into_iter().enumerate() {
            assert_eq!(reads.map(|read| read(set)), core::array::from_fn(|j| i == j));
        }
        assert!(reads.iter().all(|read| read(Reserved([0xff; 8]))));
    }
}
