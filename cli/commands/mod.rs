//! A module a command: its arguments, and what it does with them.

pub(crate) mod completions;
pub(crate) mod create;
pub(crate) mod decode;
pub(crate) mod demo;
pub(crate) mod dht;
pub(crate) mod download;
mod finder;
pub(crate) mod handshake;
pub(crate) mod info;
mod link;
pub(crate) mod magnet;
pub(crate) mod man;
pub(crate) mod metadata;
pub(crate) mod peers;
pub(crate) mod piece;
mod progress;
pub(crate) mod scrape;
pub(crate) mod seed;
mod stream;
mod swarm;
pub(crate) mod verify;

use crate::exit::{Exit, Failure};
use crate::way::Outside;
use fast_peer_core::id::InfoHash;
use fast_peer_core::magnet::Magnet;
use fast_peer_core::metainfo::{self, Metainfo};
use fast_peer_core::session::{HttpError, NetError};
use fast_peer_io::http::{Author, Client, Fetch};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// What a user names a torrent by.
pub(crate) enum Source {
    Magnet(Magnet),
    /// Boxed because it is much the larger.
    Torrent(Box<Metainfo>),
}

impl Source {
    /// A magnet link, the hash of a torrent, the path of a torrent file, or `-` for a torrent file on standard input.
    pub(crate) fn read(source: &OsStr) -> Result<Self, Failure> {
        let is_link = source
            .to_str()
            .and_then(|text| text.get(..7))
            .is_some_and(|head| head.eq_ignore_ascii_case("magnet:"));
        if is_link {
            let link = source.to_str().unwrap_or_default();
            let magnet = Magnet::parse(link);
            return magnet
                .map(Self::Magnet)
                .map_err(|error| Failure::new(Exit::Magnet, format!("magnet link: {error}")));
        }
        if let Some(info_hash) = source.to_str().and_then(parse_hash).filter(|_| !Path::new(source).exists())
        {
            return Ok(Self::Magnet(Magnet { info_hash: Some(info_hash), ..Magnet::default() }));
        }
        // One byte more than a torrent may have, so that the reader can tell.
        let bytes = read_input(source, metainfo::MAX_BYTES as u64 + 1)?;
        Ok(Self::Torrent(Box::new(parse(source, &bytes)?)))
    }
}

/// The torrent that a user names: a file, standard input, or a web address.
pub(crate) async fn load(outside: &Outside, source: &OsStr) -> Result<Metainfo, Failure> {
    let Some(url) = source.to_str().filter(|_| is_web_address(source)) else {
        return match Source::read(source)? {
            Source::Torrent(torrent) => Ok(*torrent),
            Source::Magnet(_) => {
                Err(Failure::new(Exit::Magnet, "a magnet link names no files by itself: name a torrent file"))
            }
        };
    };
    let fetch = Fetch { url, author: Author::User, max_body: metainfo::MAX_BYTES };
    let answer =
        Client::new(outside.net.clone(), crate::engine::tls()?).get(fetch).await.map_err(|error| {
            let exit = match error {
                HttpError::Net(NetError::NoNameServer | NetError::NoSuchName) => Exit::NameResolution,
                HttpError::Net(NetError::TimedOut) => Exit::Timeout,
                _ => Exit::Network,
            };
            Failure::new(exit, format!("{url}: {error}"))
        })?;
    if answer.status != 200 {
        return Err(Failure::new(Exit::Network, format!("{url}: the server answered {}", answer.status)));
    }
    parse(source, &answer.body)
}

/// The same, if it holds the hashes of all its pieces: a v2 torrent need not (BEP 52).
pub(crate) async fn load_whole(outside: &Outside, source: &OsStr) -> Result<Metainfo, Failure> {
    let torrent = load(outside, source).await?;
    refuse_without_hashes(&source.display().to_string(), &torrent)?;
    Ok(torrent)
}

/// Refuses a torrent that lacks hashes of its pieces.
pub(crate) fn refuse_without_hashes(source: &str, torrent: &Metainfo) -> Result<(), Failure> {
    if torrent.missing_layers().next().is_some() {
        return Err(Failure::new(Exit::Torrent, format!("{source}: it lacks the hashes of its pieces")));
    }
    Ok(())
}

fn is_web_address(source: &OsStr) -> bool {
    let starts_with = |head: &[u8]| {
        let start = source.as_encoded_bytes().get(..head.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(head))
    };
    starts_with(b"http://") || starts_with(b"https://")
}

fn parse(source: &OsStr, bytes: &[u8]) -> Result<Metainfo, Failure> {
    Metainfo::parse(bytes).map_err(|error| {
        let exit = match error {
            metainfo::Error::Bencode(_) => Exit::Bencode,
            _ => Exit::Torrent,
        };
        Failure::new(exit, format!("{}: {error}", source.display()))
    })
}

/// The bytes of a file, or of standard input for `-`; at most `limit`.
pub(crate) fn read_input(source: &OsStr, limit: u64) -> Result<Vec<u8>, Failure> {
    let mut bytes = vec![];
    let read = if source == "-" {
        io::stdin().lock().take(limit).read_to_end(&mut bytes)
    } else {
        let file = File::open(Path::new(source));
        let file = file.map_err(|error| Failure::io(Exit::Open, source.display(), &error))?;
        file.take(limit).read_to_end(&mut bytes)
    };
    read.map_err(|error| Failure::io(Exit::Io, source.display(), &error))?;
    Ok(bytes)
}

/// Forty hexadecimal digits.
fn parse_hash(text: &str) -> Option<InfoHash> {
    unhex(text).map(InfoHash)
}

/// Two hexadecimal digits a byte, and no byte more or less.
fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let bytes: Option<Vec<u8>> =
        pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    bytes.filter(|_| rest.is_empty())?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::parse_hash;

    #[test]
    fn a_bare_hash_has_forty_digits() {
        let hash = parse_hash("00112233445566778899aABBccddeeff00112233").unwrap();
        assert_eq!(hash.to_string(), "00112233445566778899aabbccddeeff00112233");
        for text in
            ["", "00", "0", "g0112233445566778899aabbccddeeff00112233", &"0".repeat(41), &"0".repeat(64)]
        {
            assert!(parse_hash(text).is_none(), "{text}");
        }
    }
}
