//! Magnet links: the hash of a torrent and hints on where to find it (BEP 9, 53).

use crate::id::{InfoHash, InfoHashV2, InfoHashes};
use crate::metainfo::{MAX_FILES, MAX_NODES, MAX_TRACKERS, MAX_WEB_SEEDS, Metainfo, url};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{format, vec};
use core::fmt;

/// The most bytes that a link may have.
pub const MAX_BYTES: usize = 64 << 10;
/// The most peers that are kept of a link.
pub const MAX_PEERS: usize = 100;

/// What a magnet link says. At least one of the hashes is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Magnet {
    /// The v1 infohash (`xt=urn:btih:`).
    pub info_hash: Option<InfoHash>,
    /// The v2 infohash (`xt=urn:btmh:1220`). With both hashes it is one hybrid torrent.
    pub info_hash_v2: Option<InfoHashV2>,
    /// The name to show until the metadata is there (`dn`). Anything may stand in it.
    pub name: Option<String>,
    /// The trackers (`tr`), each a tier of its own.
    pub trackers: Vec<String>,
    /// The URLs of web seeds (`ws`).
    pub web_seeds: Vec<String>,
    /// Peers (`x.pe`): host, which may be a name, and port.
    pub peers: Vec<(String, u16)>,
    /// Nodes of the DHT (`dht`): host and port.
    pub nodes: Vec<(String, u16)>,
    /// The numbers of the files to download (`so`): first and last of each range, in order and apart from each other.
    /// Without any, all files.
    pub select_only: Vec<(u32, u32)>,
}

/// Why a text is no magnet link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A hash has a wrong length, or digits that are none.
    #[error("a hash is malformed")]
    InvalidHash,
    /// There is no hash of a torrent.
    #[error("there is no hash of a torrent")]
    MissingHash,
    /// It does not start with `magnet:?`.
    #[error("it does not start with 'magnet:?'")]
    NotMagnet,
    /// More than [`MAX_BYTES`] bytes.
    #[error("longer than {MAX_BYTES} bytes")]
    TooLong,
}

impl Magnet {
    /// Reads a link. What is unknown or malformed in it is left out, but for the hashes.
    pub fn parse(link: &str) -> Result<Self, Error> {
        if link.len() > MAX_BYTES {
            return Err(Error::TooLong);
        }
        let (scheme, query) = link.split_once('?').ok_or(Error::NotMagnet)?;
        if !scheme.eq_ignore_ascii_case("magnet:") {
            return Err(Error::NotMagnet);
        }
        let mut magnet = Self::default();
        for parameter in query.split('&') {
            let Some((name, value)) = parameter.split_once('=') else { continue };
            // Some writers number the parameters that repeat: `tr.1`.
            let name = match name.split_once('.') {
                Some((plain, number)) if number.bytes().all(|byte| byte.is_ascii_digit()) => plain,
                _ => name,
            };
            if let Some(value) = url::unescape(value) {
                magnet.read(&name.to_ascii_lowercase(), &value)?;
            }
        }
        magnet.select_only = merge_ranges(magnet.select_only);
        if magnet.info_hash.is_none() && magnet.info_hash_v2.is_none() {
            return Err(Error::MissingHash);
        }
        Ok(magnet)
    }

    /// The hash under which trackers, handshakes and the DHT know the torrent.
    pub fn swarm_hash(&self) -> Option<InfoHash> {
        Some(self.hashes()?.swarm())
    }

    /// The hashes by which the torrent is known; a link that was read has at least one.
    pub fn hashes(&self) -> Option<InfoHashes> {
        InfoHashes::new(self.info_hash, self.info_hash_v2)
    }

    fn read(&mut self, name: &str, value: &[u8]) -> Result<(), Error> {
        let endpoint = || {
            let (host, port) = url::host_and_port(str::from_utf8(value).ok()?)?;
            Some((host.to_string(), port))
        };
        match name {
            "xt" => self.read_topic(value)?,
            "dn" if !value.is_empty() => self.name = Some(String::from_utf8_lossy(value).into_owned()),
            "tr" => keep(&mut self.trackers, url::tracker(value), MAX_TRACKERS),
            "ws" => keep(&mut self.web_seeds, url::web_seed(value, false), MAX_WEB_SEEDS),
            "x.pe" => keep(&mut self.peers, endpoint(), MAX_PEERS),
            "dht" => keep(&mut self.nodes, endpoint(), MAX_NODES),
            "so" => self.select_only.extend(str::from_utf8(value).iter().flat_map(|list| ranges(list))),
            _ => {}
        }
        Ok(())
    }

    fn read_topic(&mut self, topic: &[u8]) -> Result<(), Error> {
        if let Some(hash) = topic.strip_prefix(b"urn:btih:") {
            let hash = unhex(hash).or_else(|| unbase32(hash)).ok_or(Error::InvalidHash)?;
            self.info_hash = Some(InfoHash(hash));
        } else if let Some(hash) = topic.strip_prefix(b"urn:btmh:") {
            // The code of SHA-256 and its length.
            let hash = hash.strip_prefix(b"1220").and_then(unhex).ok_or(Error::InvalidHash)?;
            self.info_hash_v2 = Some(InfoHashV2(hash));
        }
        Ok(())
    }
}

impl From<&Metainfo> for Magnet {
    fn from(metainfo: &Metainfo) -> Self {
        Self {
            info_hash: metainfo.info_hash(),
            info_hash_v2: metainfo.info_hash_v2(),
            name: Some(metainfo.name().to_string()),
            trackers: metainfo.trackers().concat(),
            web_seeds: metainfo.web_seeds().to_vec(),
            peers: vec![],
            nodes: metainfo.nodes().to_vec(),
            select_only: vec![],
        }
    }
}

/// The link.
impl fmt::Display for Magnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut link = String::from("magnet:?");
        let mut put = |name: &str, value: &[u8], also_plain: &[u8]| {
            if !link.ends_with('?') {
                link.push('&');
            }
            link.push_str(name);
            link.push('=');
            url::escape(value, |byte| url::is_unreserved(byte) || also_plain.contains(&byte), &mut link);
        };
        if let Some(hash) = self.info_hash {
            put("xt", format!("urn:btih:{hash}").as_bytes(), b":");
        }
        if let Some(hash) = self.info_hash_v2 {
            put("xt", format!("urn:btmh:1220{hash}").as_bytes(), b":");
        }
        if let Some(name) = &self.name {
            put("dn", name.as_bytes(), b"");
        }
        for (name, urls) in [("tr", &self.trackers), ("ws", &self.web_seeds)] {
            urls.iter().for_each(|url| put(name, url.as_bytes(), b""));
        }
        for (name, endpoints) in [("x.pe", &self.peers), ("dht", &self.nodes)] {
            for (host, port) in endpoints {
                put(name, url::show_endpoint(host, *port).as_bytes(), b":[]");
            }
        }
        if !self.select_only.is_empty() {
            put("so", show_ranges(&self.select_only).as_bytes(), b",");
        }
        f.write_str(&link)
    }
}

/// File numbers as `so` has them: `0,2,4,6-8`.
pub fn show_ranges(ranges: &[(u32, u32)]) -> String {
    let shown: Vec<String> = ranges
        .iter()
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") })
        .collect();
    shown.join(",")
}

fn keep<T>(all: &mut Vec<T>, one: Option<T>, limit: usize) {
    if all.len() < limit {
        all.extend(one);
    }
}

/// BEP 53: numbers and ranges of them, both ends counted. Malformed and impossible ones are left out.
fn ranges(list: &str) -> impl Iterator<Item = (u32, u32)> + '_ {
    let number = |text: &str| text.parse().ok().filter(|number| (*number as usize) < MAX_FILES);
    list.split(',').filter_map(move |item| {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        let (first, last) = (number(first)?, number(last)?);
        (first <= last).then_some((first, last))
    })
}

fn merge_ranges(mut ranges: Vec<(u32, u32)>) -> Vec<(u32, u32)> {
    ranges.sort_unstable();
    let mut merged: Vec<(u32, u32)> = vec![];
    for (first, last) in ranges {
        match merged.last_mut() {
            // Numbers stay below the number of files, so there is one after each.
            Some(before) if first <= before.1 + 1 => before.1 = before.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
}

fn unhex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    let bytes: Option<Vec<u8>> =
        pairs.iter().map(|[high, low]| Some(url::hex_digit(*high)? << 4 | url::hex_digit(*low)?)).collect();
    bytes?.try_into().ok()
}

/// RFC 4648, in upper or lower case: 8 digits make 5 bytes.
fn unbase32(digits: &[u8]) -> Option<[u8; 20]> {
    let mut bytes = Vec::with_capacity(20);
    for eight in digits.chunks(8) {
        let value = eight.iter().try_fold(0_u64, |value, digit| {
            let digit = match digit.to_ascii_uppercase() {
                letter @ b'A'..=b'Z' => letter - b'A',
                number @ b'2'..=b'7' => number - b'2' + 26,
                _ => return None,
            };
            Some(value << 5 | u64::from(digit))
        })?;
        bytes.extend_from_slice(&value.to_be_bytes()[3..]);
    }
    if digits.len() == 32 { bytes.try_into().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::{Error, MAX_BYTES, Magnet};
    use crate::id::{InfoHash, InfoHashV2};
    use crate::metainfo::MAX_TRACKERS;
    use alloc::string::{String, ToString};
    use alloc::vec::Vec;
    use alloc::{format, vec};
    use proptest::prelude::*;

    const HASH: &str = "xt=urn:btih:cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd";

    fn read(query: &str) -> Magnet {
        Magnet::parse(&format!("magnet:?{query}&{HASH}")).unwrap()
    }

    #[test]
    fn hashes_in_every_form() {
        let hash = |link: &str| Magnet::parse(link).map(|magnet| (magnet.info_hash, magnet.info_hash_v2));
        let (v1, v2) = (Some(InfoHash([0x61; 20])), Some(InfoHashV2([0x62; 32])));
        let hex = "61".repeat(20);
        let base32 = "MFQWCYLBMFQWCYLBMFQWCYLBMFQWCYLB";
        let long = "62".repeat(32);
        for link in [
            format!("magnet:?xt=urn:btih:{hex}"),
            format!("MAGNET:?XT=urn:btih:{hex}"),
            format!("magnet:?xt=urn%3Abtih%3A{hex}"),
            format!("magnet:?xt.1=urn:btih:{base32}&"),
            format!("magnet:?xt=urn:btih:{}", base32.to_lowercase()),
            format!("magnet:?xt=urn:ed2k:354B15E68FB8F36D7CD88FF94116CDC1&empty&=&xt=urn:btih:{hex}"),
        ] {
            assert_eq!(hash(&link), Ok((v1, None)), "{link}");
        }
        assert_eq!(hash(&format!("magnet:?xt=urn:btmh:1220{long}")), Ok((None, v2)));
        let hybrid = Magnet::parse(&format!("magnet:?xt=urn:btmh:1220{long}&xt=urn:btih:{hex}")).unwrap();
        assert_eq!((hybrid.info_hash, hybrid.info_hash_v2, hybrid.swarm_hash()), (v1, v2, v1));
    }

    #[test]
    fn what_is_no_magnet_link_is_told_apart() {
        for (link, error) in [
            ("", Error::NotMagnet),
            ("magnet:", Error::NotMagnet),
            ("http://a/?xt=urn:btih:", Error::NotMagnet),
            ("magnet://?xt=urn:btih:1", Error::NotMagnet),
            ("magnet:?", Error::MissingHash),
            ("magnet:?xt", Error::MissingHash),
            ("magnet:?xt=foo&dn=a", Error::MissingHash),
            ("magnet:?xt=urn:sha1:YNCKHTQCWBTRNJIV4WNAE52SJUQCZO5C", Error::MissingHash),
            ("magnet:?xt=urn:btih:", Error::InvalidHash),
            ("magnet:?xt=urn:btih:ababababababababababab", Error::InvalidHash),
            ("magnet:?xt=urn:btih:MFQWCYLBMFQWCYLBMFQWCYLBMFQWCY1B", Error::InvalidHash),
            ("magnet:?xt=urn:btih:MFQWCYLBMFQWCYLBMFQWCYLBMFQWCYLBMFQWCYLB", Error::InvalidHash),
            ("magnet:?xt=urn:btih:zdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd", Error::InvalidHash),
            ("magnet:?xt=urn:btmh:1114cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd", Error::InvalidHash),
            ("magnet:?xt=urn:btmh:1220cdcd", Error::InvalidHash),
        ] {
            assert_eq!(Magnet::parse(link), Err(error), "{link}");
        }
        let long = format!("magnet:?{HASH}&dn={}", "x".repeat(MAX_BYTES));
        assert_eq!(Magnet::parse(&long), Err(Error::TooLong));
    }

    #[test]
    fn hints_are_read_and_junk_is_left_out() {
        let magnet = read(
            "dn=A%20B+%28c%29&tr=udp%3A%2F%2Fa%3A80&tr.1=http://b&tr.x=http://c&tr=junk&tr=%zz&ws=http://w/f\
             &x.pe=1.2.3.4:5&x.pe=[2001:db8::2]:55013&x.pe=peer.example:6881&x.pe=1.2.3.4&dht=router:43&dht=x:0",
        );
        assert_eq!(magnet.name.as_deref(), Some("A B (c)"));
        assert_eq!(magnet.trackers, ["udp://a:80", "http://b"]);
        assert_eq!(magnet.web_seeds, ["http://w/f"]);
        let peers = [("1.2.3.4", 5), ("2001:db8::2", 55013), ("peer.example", 6881)];
        assert_eq!(magnet.peers, peers.map(|(host, port)| (host.to_string(), port)));
        assert_eq!(magnet.nodes, [("router".to_string(), 43)]);

        let many: Vec<String> = (0..MAX_TRACKERS + 5).map(|i| format!("tr=http://t{i}/")).collect();
        assert_eq!(read(&many.join("&")).trackers.len(), MAX_TRACKERS);
    }

    #[test]
    fn selected_files_are_merged_ranges() {
        for (so, ranges) in [
            ("so=0,2,4,6-8", vec![(0, 0), (2, 2), (4, 4), (6, 8)]),
            ("so=0,2-4,3-5", vec![(0, 0), (2, 5)]),
            ("so=2-4&so=1", vec![(1, 4)]),
            ("so=100000000&so=10&so=0-2147483648", vec![(10, 10)]),
            ("so=3-&so=-3&so=5-4&so=,,1", vec![(1, 1)]),
            ("so=\"1,2\"&so=&so=+1", vec![]),
        ] {
            assert_eq!(read(so).select_only, ranges, "{so}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_alike(
            v1 in any::<Option<[u8; 20]>>(),
            v2 in any::<[u8; 32]>(),
            name in prop::option::of("\\PC{1,12}"),
            ports in prop::collection::vec(1_u16.., 0..4),
            so in prop::collection::btree_set(0_u32..60, 0..6),
        ) {
            let magnet = Magnet {
                info_hash: v1.map(InfoHash),
                info_hash_v2: Some(InfoHashV2(v2)),
                name,
                trackers: ports.iter().map(|port| format!("udp://t.example:{port}/a?b=c&d")).collect(),
                web_seeds: ports.iter().map(|port| format!("http://w/%20{port}")).collect(),
                peers: ports.iter().map(|port| ("::1".to_string(), *port)).collect(),
                nodes: ports.iter().map(|port| ("node.example".to_string(), *port)).collect(),
                select_only: super::merge_ranges(so.into_iter().map(|number| (number, number)).collect()),
            };
            prop_assert_eq!(Magnet::parse(&magnet.to_string()), Ok(magnet));
        }

        #[test]
        fn no_text_panics(query in "(xt=urn:btih:|so=|x\\.pe=|tr=|%|&|=|[0-9a-f,:\\[\\]-]){0,24}") {
            match Magnet::parse(&format!("magnet:?{query}")) {
                Ok(magnet) => prop_assert!(magnet.swarm_hash().is_some()),
                Err(error) => prop_assert!(matches!(error, Error::InvalidHash | Error::MissingHash)),
            }
        }
    }
}
