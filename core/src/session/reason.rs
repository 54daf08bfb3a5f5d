//! Why connections end.

use crate::mse;
use crate::wire::Offence;

/// Why the session closes a connection, or gives up opening it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Reason {
    /// Its address or endpoint is banned.
    #[error("the peer is banned")]
    Banned,
    /// It did not come about in time.
    #[error("no connection in time")]
    ConnectTimeout,
    /// There is another connection to the same peer.
    #[error("already connected to this peer")]
    Duplicate,
    /// The user's filter blocks its address.
    #[error("the IP filter blocks the address")]
    Filtered,
    /// The torrent has all the connections that it may have.
    #[error("no place is left for another peer")]
    Full,
    /// It sent no handshake in time.
    #[error("no handshake in time")]
    HandshakeTimeout,
    /// Nothing was heard for too long.
    #[error("nothing heard for too long")]
    Idle,
    /// Neither side has anything that the other wants.
    #[error("both sides are complete")]
    NothingToTrade,
    /// It begins without obfuscation, which is required.
    #[error("the peer does not obfuscate its connection")]
    NotObfuscated,
    /// The two ends did not come to an obfuscated connection.
    #[error("no obfuscated connection: {0}")]
    Obfuscation(mse::Error),
    /// Too many that were accepted have begun to obfuscate and not come to an end (row P-19).
    #[error("too many peers agree on obfuscation at once")]
    ObfuscationBusy,
    /// It does not begin as BitTorrent does, and nothing is to be obfuscated.
    #[error("the peer obfuscates its connection, which is turned off")]
    ObfuscationOff,
    /// The remote broke the protocol.
    #[error("{0}")]
    Offence(#[from] Offence),
    /// The other transport was faster.
    #[error("connected by the other transport")]
    OtherTransport,
    /// The session itself answered.
    #[error("connected to ourselves")]
    Ourselves,
    /// The torrent is full, and another peer ranks higher (BEP 40).
    #[error("another peer takes its place")]
    Outranked,
    /// The torrent turned out to be private, and the peer was not named by its trackers.
    #[error("the torrent is private")]
    Private,
    /// The session or the torrent stops.
    #[error("stopping")]
    Stopping,
    /// It asked for a torrent that is not here.
    #[error("the peer wants a torrent that is not here")]
    UnknownTorrent,
}
