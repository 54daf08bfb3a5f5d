//! Links to torrents that change (BEP 46).

use super::{MAX_SALT_LEN, mutable_target};
use crate::dht::node_id::NodeId;
use alloc::vec::Vec;
use core::fmt;

/// A magnet link to whatever torrent a key points to: `magnet:?xs=urn:btpk:<key>&s=<salt>`, both in hex.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MutableLink {
    /// The public key.
    pub key: [u8; 32],
    /// What tells apart the items of one key. May be empty.
    pub salt: Vec<u8>,
}

impl MutableLink {
    /// Reads a link; other parameters in it are ignored.
    pub fn parse(link: &str) -> Option<Self> {
        let (scheme, query) = link.split_at_checked(SCHEME.len())?;
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            return None;
        }
        let mut parameters = query.split('&').filter_map(|parameter| parameter.split_once('='));
        let topic = parameters.clone().find_map(|(name, value)| {
            let (urn, key) = value.split_at_checked(URN.len())?;
            (name == "xs" && urn.eq_ignore_ascii_case(URN)).then_some(key)
        });
        let salt = parameters.find(|(name, _)| *name == "s").map_or("", |(_, salt)| salt);
        let salt = unhex(salt).filter(|salt| salt.len() <= MAX_SALT_LEN)?;
        Some(Self { key: unhex(topic?)?.try_into().ok()?, salt })
    }

    /// Where the item is stored that says which torrent it is.
    pub fn target(&self) -> NodeId {
        mutable_target(&self.key, &self.salt)
    }
}

/// The link.
impl fmt::Display for MutableLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SCHEME)?;
        f.write_str("xs=urn:btpk:")?;
        crate::id::hex(&self.key, f)?;
        if self.salt.is_empty() {
            return Ok(());
        }
        f.write_str("&s=")?;
        crate::id::hex(&self.salt, f)
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_bytes().as_chunks() else { return None };
    let digit = |digit: u8| char::from(digit).to_digit(16);
    pairs.iter().map(|[high, low]| Some((digit(*high)? << 4 | digit(*low)?) as u8)).collect()
}

const SCHEME: &str = "magnet:?";

const URN: &str = "urn:btpk:";
