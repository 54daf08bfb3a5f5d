//! What commands need that talk about a torrent without downloading it: its hash, and where its peers may be.

use super::{Source, is_web_address, link, load};
use crate::engine;
use crate::exit::{Exit, Failure};
use crate::output::one_line;
use crate::trackers::Tracker;
use crate::way::Outside;
use fast_peer_core::id::{InfoHash, PeerId};
use fast_peer_core::metainfo::Metainfo;
use fast_peer_core::rng::Rng;
use fast_peer_core::session::Config;
use fast_peer_core::tracker::{TrackerError, TrackerUrl, parse_tiers};
use fast_peer_io::http::Author;
use std::ffi::OsStr;

/// The peers of a torrent, taken together.
pub(super) struct Swarm {
    /// The torrent's name, or its hash if it has none.
    pub(super) name: String,
    pub(super) info_hash: InfoHash,
    pub(super) trackers: Vec<TrackerUrl>,
    /// Hosts and ports of peers that a link names.
    pub(super) peers: Vec<(String, u16)>,
    /// All about the torrent, unless only its hash is known here.
    pub(super) torrent: Option<Box<Metainfo>>,
}

impl Swarm {
    /// That of a torrent file, an http(s) URL of one, a magnet link, or a bare infohash.
    pub(super) async fn find(outside: &Outside, source: &OsStr) -> Result<Self, Failure> {
        let found = if is_web_address(source) {
            Source::Torrent(Box::new(load(outside, source).await?))
        } else {
            Source::read(source)?
        };
        let tiers = |tiers: Vec<Vec<String>>| {
            let parsed = parse_tiers(tiers.iter().map(|tier| tier.iter().map(String::as_str)));
            parsed.into_iter().flatten().collect()
        };
        Ok(match found {
            Source::Torrent(torrent) => Self {
                name: torrent.name().to_owned(),
                info_hash: torrent.swarm_hash(),
                trackers: tiers(torrent.trackers().to_vec()),
                peers: vec![],
                torrent: Some(torrent),
            },
            Source::Magnet(magnet) => {
                // What peers told before may say that the torrent is private.
                let torrent = magnet.hashes().and_then(link::kept).map(Box::new);
                let truncated = magnet.info_hash_v2.map(|hash| hash.truncated());
                let info_hash = magnet.info_hash.or(truncated).expect("a link without a hash is refused");
                let name = magnet.name.unwrap_or_else(|| info_hash.to_string());
                let (trackers, peers) = (tiers(vec![magnet.trackers]), magnet.peers);
                Self { name, info_hash, trackers, peers, torrent }
            }
        })
    }
}

/// A tracker's URL, as an argument.
pub(super) fn tracker_url(text: &str) -> Result<TrackerUrl, String> {
    TrackerUrl::parse(text).map_err(|error| format!("{text}: {error}"))
}

/// The trackers that torrents name, and those that the user adds, which may be asked whatever they are.
pub(super) fn all_trackers<'a>(
    outside: &Outside,
    named: impl IntoIterator<Item = &'a TrackerUrl>,
    added: &[TrackerUrl],
) -> Result<Vec<Tracker>, Failure> {
    let mut urls: Vec<(TrackerUrl, Author)> = added.iter().map(|url| (url.clone(), Author::User)).collect();
    for url in named {
        if urls.iter().all(|(known, _)| known != url) {
            urls.push((url.clone(), Author::Torrent));
        }
    }
    if urls.is_empty() {
        return Err(Failure::new(Exit::Option, "there is no tracker to ask; --tracker names one"));
    }
    urls.into_iter().map(|(url, author)| Tracker::new(outside, url, author)).collect()
}

/// Tells which trackers did not answer; a failure if no other did.
pub(super) fn judge(answered: bool, failed: &[(&TrackerUrl, TrackerError)]) -> Result<(), Failure> {
    let timed_out = failed.iter().all(|(_, error)| *error == TrackerError::TimedOut);
    let exit = if timed_out { Exit::Timeout } else { Exit::Network };
    if let ([(url, error)], false) = (failed, answered) {
        return Err(Failure::new(exit, format!("{url}: {error}")));
    }
    for (url, error) in failed {
        eprintln!("fast-peer: {}", one_line(&format!("{url}: {error}")));
    }
    if answered {
        return Ok(());
    }
    Err(Failure::new(exit, format!("none of {} trackers answered", failed.len())))
}

/// What this run calls itself.
pub(super) fn peer_id() -> Result<PeerId, Failure> {
    let mut rng = Rng::new(engine::random_seed()?);
    let mut id = [0; 20];
    let (prefix, rest) = id.split_at_mut(8);
    prefix.copy_from_slice(&Config::default().peer_id_prefix);
    rest.fill_with(|| b'a' + rng.below(26) as u8);
    Ok(PeerId(id))
}
