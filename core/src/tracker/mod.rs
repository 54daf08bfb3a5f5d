//! Trackers: announce and scrape over HTTP and UDP, tiers and back-off (BEP 3, 7, 12, 15, 21, 23, 24, 31, 41, 48).
//!
//! An [`Announcer`] per torrent decides when to tell which tracker what. It asks for an
//! [`Announce`](AnnouncerAction::Announce), which its parent carries out after the URL's [`Scheme`]:
//!
//! - `http` and `https`: a request for [`announce_url`], whose answer [`parse_announce`] reads. Which address family it
//!   goes over is up to the HTTP client; the answer can name peers of both.
//! - `udp`: the parent looks the host up and hands the first address of each family to [`UdpTrackers`], one machine
//!   for all torrents. Over UDP the family of the packets is that of the peers in the answer, and tells the tracker our
//!   own address (BEP 7, 15), so both are asked at once, each on timers of its own: a host that drops IPv6 delays
//!   nothing. The first answer goes to the announcer as [`Answered`](AnnouncerEvent::Answered); the peers of both are
//!   used. Only when every address failed does the announcer hear [`Failed`](AnnouncerEvent::Failed).
//!
//! Whatever happens, each announce that was asked for and not cancelled is answered once, by one of these two events.
//!
//! [`TrackerServer`] is the other side, for demonstrations and simulated swarms.

mod announcer;
mod answer;
mod http;
mod packet;
mod scrape;
mod server;
mod udp;
mod url;

pub use announcer::{
    ANNOUNCE_PATIENCE, AnnounceId, Announcer, AnnouncerAction, AnnouncerEvent, STOP_PATIENCE, TrackerStatus,
};
pub use answer::{Answer, MAX_PEERS, RetryIn, TrackerError};
pub use http::{announce_url, parse_announce};
pub use scrape::{MAX_SCRAPE, ScrapeCounts, parse_scrape, scrape_url};
pub use server::TrackerServer;
pub use udp::{AskId, Question, UdpAction, UdpEvent, UdpReply, UdpTrackers};
pub use url::{MAX_TRACKERS, Scheme, TrackerUrl, UrlError, parse_tiers, redacted};

use crate::id::{InfoHash, PeerId};
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

/// What an announce tells beyond the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AnnounceEvent {
    /// The last missing piece came in.
    Completed,
    /// All that is wanted is there, but not all there is (BEP 21).
    Paused,
    /// The first announce to this tracker.
    Started,
    /// The last announce to this tracker.
    Stopped,
}

impl AnnounceEvent {
    /// Its name in an announce over HTTP.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Paused => "paused",
            Self::Started => "started",
            Self::Stopped => "stopped",
        }
    }
}

/// The part of an announce that the [`Announcer`] decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnounceRequest {
    /// What happened, if anything.
    pub event: Option<AnnounceEvent>,
    /// A number by which a tracker knows us again at another address.
    pub key: u32,
    /// How many peers to name.
    pub num_want: u32,
    /// What the tracker asked to be told again.
    pub tracker_id: Option<Vec<u8>>,
}

impl fmt::Display for AnnounceRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.event.map_or("regular", AnnounceEvent::name))?;
        write!(f, " want={}", self.num_want)
    }
}

/// A whole announce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announce {
    /// The torrent.
    pub info_hash: InfoHash,
    /// What we call ourselves.
    pub peer_id: PeerId,
    /// Where we accept connections; zero if nobody can connect to us.
    pub port: u16,
    /// The address at which we do, where the tracker would take another for it.
    pub ip: Option<IpAddr>,
    /// Payload bytes sent since the torrent started.
    pub uploaded: u64,
    /// Payload bytes received since the torrent started.
    pub downloaded: u64,
    /// Bytes still missing. While the length is unknown any number but 0 will do, which would mean a seed.
    pub left: u64,
    /// Whether encrypted connections are understood.
    pub encryption: bool,
    /// What the announcer decided.
    pub request: AnnounceRequest,
}
