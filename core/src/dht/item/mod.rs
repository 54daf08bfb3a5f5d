//! Small values that the table keeps for anybody (BEP 44), and torrents that change (BEP 46).

mod key;
mod link;
#[cfg(test)]
mod tests;

pub use key::SecretKey;
pub use link::MutableLink;

use super::message::{ErrorCode, ItemPart, Put, Signed};
use super::node_id::NodeId;
use crate::bencode::{Limits, Raw, Writer};
use crate::id::InfoHash;
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt;
use sha1::{Digest as _, Sha1};

/// A value that can be stored, and what proves that it belongs where it is stored. Whoever has an item has one that was
/// checked.
#[derive(Clone, PartialEq, Eq)]
pub struct Item {
    value: Bytes,
    /// Of an item that a key names; another is named by its hash.
    proof: Option<Proof>,
}

#[derive(Clone, PartialEq, Eq)]
struct Proof {
    key: [u8; 32],
    salt: Bytes,
    seq: i64,
    signature: [u8; 64],
}

/// Why an item is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ItemError {
    /// The signature is not that of this key over this value.
    #[error("the signature does not fit")]
    BadSignature,
    /// Another item is stored than the one that it was to replace.
    #[error("another item is stored than the one to replace")]
    CasMismatch,
    /// There is no value, or a key without signature and number.
    #[error("a part is missing")]
    Incomplete,
    /// The number is below zero.
    #[error("the number is negative")]
    NegativeSeq,
    /// The value is not bencode.
    #[error("the value is not bencode")]
    NotBencode,
    /// The salt has more than [`MAX_SALT_LEN`] bytes.
    #[error("the salt is longer than {MAX_SALT_LEN} bytes")]
    SaltTooBig,
    /// An item is stored that is as new, or newer.
    #[error("an item with a higher number is stored")]
    SeqTooLow,
    /// The value has more than [`MAX_VALUE_LEN`] bytes.
    #[error("the value is longer than {MAX_VALUE_LEN} bytes")]
    ValueTooBig,
    /// It belongs somewhere else.
    #[error("this item is not the one that was asked for")]
    WrongTarget,
}

impl ItemError {
    /// What to answer to a put that is not taken for this reason.
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::BadSignature => ErrorCode::BAD_SIGNATURE,
            Self::CasMismatch => ErrorCode::CAS_MISMATCH,
            Self::Incomplete | Self::NegativeSeq | Self::NotBencode | Self::WrongTarget => {
                ErrorCode::PROTOCOL
            }
            Self::SaltTooBig => ErrorCode::SALT_TOO_BIG,
            Self::SeqTooLow => ErrorCode::SEQ_TOO_LOW,
            Self::ValueTooBig => ErrorCode::VALUE_TOO_BIG,
        }
    }
}

impl Item {
    /// An item that its own hash names. `value` is bencoded.
    pub fn immutable(value: &[u8]) -> Result<Self, ItemError> {
        check_value(value)?;
        Ok(Self { value: Bytes::copy_from_slice(value), proof: None })
    }

    /// Item number `seq` of `key` and `salt`, which replaces those with lower numbers. `value` is bencoded.
    pub fn sign(key: &SecretKey, salt: &[u8], seq: i64, value: &[u8]) -> Result<Self, ItemError> {
        check_signed(salt, seq, value)?;
        let signature = key.sign(&signed_bytes(salt, seq, value));
        Ok(Self::signed(key.public(), salt, seq, signature, value))
    }

    /// What somebody wants to have stored.
    pub fn from_put(put: &Put<'_>) -> Result<Self, ItemError> {
        match put.signed {
            Some(Signed { key, salt, seq, signature, .. }) => {
                Self::verified(key, salt, seq, signature, put.value)
            }
            None => Self::immutable(put.value),
        }
    }

    /// What somebody answered who was asked for the item at `target`; if a key names it then with this salt.
    pub fn from_reply(target: NodeId, salt: &[u8], part: &ItemPart<'_>) -> Result<Self, ItemError> {
        let value = part.value.ok_or(ItemError::Incomplete)?;
        let Some(key) = part.key else {
            let here = immutable_target(value) == target;
            return if here { Self::immutable(value) } else { Err(ItemError::WrongTarget) };
        };
        if mutable_target(key, salt) != target {
            return Err(ItemError::WrongTarget);
        }
        let (seq, signature) = part.seq.zip(part.signature).ok_or(ItemError::Incomplete)?;
        Self::verified(key, salt, seq, signature, value)
    }

    /// Where it is stored.
    pub fn target(&self) -> NodeId {
        match &self.proof {
            Some(proof) => mutable_target(&proof.key, &proof.salt),
            None => immutable_target(&self.value),
        }
    }

    /// The value, bencoded.
    pub const fn value(&self) -> &Bytes {
        &self.value
    }

    /// Its number, if it is an item that a key names.
    pub fn seq(&self) -> Option<i64> {
        self.proof.as_ref().map(|proof| proof.seq)
    }

    /// The key that names it, if one does.
    pub fn key(&self) -> Option<&[u8; 32]> {
        self.proof.as_ref().map(|proof| &proof.key)
    }

    /// What tells apart the items of one key.
    pub fn salt(&self) -> &[u8] {
        self.proof.as_ref().map_or(&[], |proof| &proof.salt)
    }

    /// The torrent that it points to, if it does (BEP 46).
    pub fn info_hash(&self) -> Option<InfoHash> {
        let mut pairs = Raw::parse(&self.value, Limits::WIRE).ok()?.pairs()?;
        let (_, hash) = pairs.find(|(key, _)| *key == b"ih")?;
        Some(InfoHash(hash.as_bytes()?.try_into().ok()?))
    }

    /// As an answer to who asked for it. Who has number `seq` or a higher one only hears which number this is.
    pub fn part(&self, seq: Option<i64>) -> ItemPart<'_> {
        let Some(proof) = &self.proof else {
            return ItemPart { value: Some(&self.value), ..ItemPart::default() };
        };
        if seq.is_some_and(|seq| seq >= proof.seq) {
            return ItemPart { seq: Some(proof.seq), ..ItemPart::default() };
        }
        ItemPart {
            key: Some(&proof.key),
            seq: Some(proof.seq),
            signature: Some(&proof.signature),
            value: Some(&self.value),
        }
    }

    /// As a query that asks to store it, in place of the item with number `cas` only if that is given.
    pub fn put<'a>(&'a self, token: &'a [u8], cas: Option<i64>) -> Put<'a> {
        let signed = self.proof.as_ref().map(|proof| Signed {
            cas,
            key: &proof.key,
            salt: &proof.salt,
            seq: proof.seq,
            signature: &proof.signature,
        });
        Put { signed, token, value: &self.value }
    }

    fn verified(
        key: &[u8; 32],
        salt: &[u8],
        seq: i64,
        signature: &[u8; 64],
        value: &[u8],
    ) -> Result<Self, ItemError> {
        check_signed(salt, seq, value)?;
        if !key::is_signed(key, signature, &signed_bytes(salt, seq, value)) {
            return Err(ItemError::BadSignature);
        }
        Ok(Self::signed(*key, salt, seq, *signature, value))
    }

    fn signed(key: [u8; 32], salt: &[u8], seq: i64, signature: [u8; 64], value: &[u8]) -> Self {
        let salt = Bytes::copy_from_slice(salt);
        let proof = Some(Proof { key, salt, seq, signature });
        Self { value: Bytes::copy_from_slice(value), proof }
    }
}

/// One line, as traces show it.
impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "item target={:.8} len={}", self.target(), self.value.len())?;
        self.seq().map_or(Ok(()), |seq| write!(f, " seq={seq}"))
    }
}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Item({self})")
    }
}

/// Where an item that its own hash names is stored.
pub fn immutable_target(value: &[u8]) -> NodeId {
    NodeId(Sha1::digest(value).into())
}

/// Where an item that a key names is stored.
pub fn mutable_target(key: &[u8; 32], salt: &[u8]) -> NodeId {
    NodeId(Sha1::new().chain_update(key).chain_update(salt).finalize().into())
}

fn check_value(value: &[u8]) -> Result<(), ItemError> {
    if value.len() > MAX_VALUE_LEN {
        return Err(ItemError::ValueTooBig);
    }
    let whole = Raw::parse(value, Limits::WIRE).is_ok_and(|parsed| parsed.raw().len() == value.len());
    if whole { Ok(()) } else { Err(ItemError::NotBencode) }
}

fn check_signed(salt: &[u8], seq: i64, value: &[u8]) -> Result<(), ItemError> {
    check_value(value)?;
    if salt.len() > MAX_SALT_LEN {
        return Err(ItemError::SaltTooBig);
    }
    if seq < 0 { Err(ItemError::NegativeSeq) } else { Ok(()) }
}

/// What a signature covers: the pairs of a dictionary without its head and end.
fn signed_bytes(salt: &[u8], seq: i64, value: &[u8]) -> Vec<u8> {
    let mut to = Writer::with_capacity(MAX_SALT_LEN + value.len() + 48);
    if !salt.is_empty() {
        to.bytes(b"salt");
        to.bytes(salt);
    }
    to.bytes(b"seq");
    to.int(seq);
    to.bytes(b"v");
    to.raw(value);
    to.finish()
}

/// BEP 44: a bencoded value is no longer.
pub const MAX_VALUE_LEN: usize = 1000;

/// BEP 44: a salt is no longer.
pub const MAX_SALT_LEN: usize = 64;
