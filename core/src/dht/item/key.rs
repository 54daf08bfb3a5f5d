//! Signing, and checking what others signed (Ed25519, RFC 8032).

use core::fmt;
use ed25519_dalek::hazmat::{ExpandedSecretKey, raw_sign};
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::Sha512;

/// What it takes to publish items under a key.
pub struct SecretKey {
    expanded: ExpandedSecretKey,
    /// Always that of `expanded`: signing with another one would give the key away.
    public: VerifyingKey,
}

impl SecretKey {
    /// The key that comes of a seed, as most programs keep it.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self::new(ExpandedSecretKey::from(seed))
    }

    /// The key in the form that BEP 44 shows and libtorrent keeps: the scalar, and the prefix with which it hashes.
    pub fn from_expanded(bytes: &[u8; 64]) -> Self {
        Self::new(ExpandedSecretKey::from_bytes(bytes))
    }

    /// The public key, which names what is published.
    pub fn public(&self) -> [u8; 32] {
        self.public.to_bytes()
    }

    pub(super) fn sign(&self, message: &[u8]) -> [u8; 64] {
        raw_sign::<Sha512>(&self.expanded, message, &self.public).to_bytes()
    }

    fn new(expanded: ExpandedSecretKey) -> Self {
        Self { public: VerifyingKey::from(&expanded), expanded }
    }
}

/// The secret stays out of logs.
impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey")
    }
}

/// Whether `signature` is that of `key` over `message`. Keys with which one signature fits many messages are refused.
pub(super) fn is_signed(key: &[u8; 32], signature: &[u8; 64], message: &[u8]) -> bool {
    let Ok(key) = VerifyingKey::from_bytes(key) else { return false };
    key.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
}
