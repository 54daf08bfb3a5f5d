//! What must hold after every step of every run, whatever happens to the swarm.
//!
//! Checkers see what no client sees: every frame, every file, and who is honest. They never see how a client came to
//! its decisions, only what it was told and what it did, so that a mistake in a client's own books can't hide from
//! them. Each rule has the number under which it is known, and a test that breaks it and sees it fire.

mod accounts;
mod connections;
mod contract;
mod conversation;
mod discovery;
mod filter;
mod metadata;
mod obfuscation;
mod rates;
mod storage;
mod utp;

use bytes::Bytes;
use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;
use fast_peer_core::bitfield::Bitfield;
use fast_peer_core::id::{ConnId, InfoHash, TorrentId};
use fast_peer_core::ip_filter::IpFilter;
use fast_peer_core::lengths::Lengths;
use fast_peer_core::machine::{Deadline, Timestamp};
use fast_peer_core::session::{Encryption, Notice, Reason};
use fast_peer_core::wire::{Frame, RawBlock};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule's number.
    pub rule: &'static str,
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub who: String,
    /// How.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, at, who, what } = self;
        write!(f, "{rule} broken by {who} at {} ms: {what}", at.to_string().trim_start())
    }
}

/// What a bystander notes about one client, with what the bystander knows besides.
#[derive(Clone, Debug)]
pub(crate) enum Observation<'a> {
    /// What the client counts of a torrent's blocks, and what a bystander counts.
    Accounts { counted: Account, seen: Account },
    /// A connection is being opened from outside.
    Accepted { conn: ConnId, remote: SocketAddr, honest: bool },
    /// A part of a block leaves; `good` if these are the bytes of the torrent.
    BlockSent { piece: u32, begin: u32, good: bool },
    /// What the client believes of the peers of a torrent.
    Books { torrent: TorrentId, peers: &'a [BookEntry] },
    /// A connection is open.
    Connected { conn: ConnId },
    /// A datagram leaves for something else than a tracker; without an address it goes to a multicast group.
    Datagram { to: Option<SocketAddr>, data: &'a [u8] },
    /// An operation is given to the disk: `on_files` unless it is about bytes in memory alone.
    DiskOp { torrent: TorrentId, on_files: bool },
    /// A connection is to be opened.
    Dialled { conn: ConnId, remote: SocketAddr, honest: bool },
    /// The client closes a connection.
    Dropped { conn: ConnId, reason: Reason },
    /// A connection is gone, whoever closed it.
    Gone { conn: ConnId },
    /// The client was told something; not yet what it makes of it.
    Input,
    /// The client tells its user something; `honest` says whether the remote in it, if there is one, is.
    Notice { notice: &'a Notice, honest: bool },
    /// Bytes leave that are no content of a block, as everybody on the way sees them.
    Packet { conn: ConnId, bytes: &'a [u8] },
    /// A frame leaves; `false_claim` names a piece that it announces without having it. If it repeats a request,
    /// `unsent` says how many requests wait to be sent.
    Sent { conn: ConnId, frame: &'a Frame, false_claim: Option<u32>, unsent: u32 },
    /// So many bytes leave for peers.
    SentBytes { len: u64 },
    /// The client has used up a frame.
    Seen { conn: ConnId, frame: &'a Frame },
    /// The client has said everything about its last input: in so many outputs; `more` if it had still something when
    /// asked once more.
    Settled { outputs: u32, more: bool, deadline: Option<Deadline> },
    /// The user blocks these addresses, in place of those before.
    SetIpFilter { filter: &'a Arc<IpFilter> },
    /// The user limits the rate of sending.
    SetUpLimit { bytes_per_s: Option<u64> },
    /// The user stops the client.
    Stopping,
    /// A part of a piece was written.
    Written { torrent: TorrentId, piece: u32, begin: u32, len: u32 },
    /// A packet of uTP came.
    UtpCame { from: SocketAddr, data: &'a [u8] },
    /// A packet of uTP leaves.
    UtpSent { to: SocketAddr, data: &'a [u8] },
    /// Time had come, and the client did what was due.
    TimedOut,
    /// The client counts a piece as had; `good` if the disk holds its bytes.
    Verified { torrent: TorrentId, piece: u32, good: bool },
}

/// What a client believes of one of its peers.
#[derive(Clone, Debug)]
pub(crate) struct BookEntry {
    pub(crate) conn: ConnId,
    pub(crate) has: Bitfield,
    pub(crate) we_choke: bool,
    /// Requests that were made, or will be, and not answered.
    pub(crate) outstanding: usize,
    /// Those of them that were made.
    pub(crate) owed: BTreeSet<RawBlock>,
    /// A block that is arriving, and not among them.
    pub(crate) arriving: Option<RawBlock>,
    /// Whether something that was decided is not written yet.
    pub(crate) unwritten: bool,
}

/// Bytes of the blocks of one torrent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Account {
    /// What came.
    pub(crate) received: u64,
    /// What was sent.
    pub(crate) sent: u64,
    /// What came and is kept: in pieces that were verified, or of which more has to come.
    pub(crate) useful: u64,
}

/// What the checkers know about a torrent.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// What handshakes call it.
    pub(crate) info_hash: InfoHash,
    pub(crate) lengths: Lengths,
    /// The metadata.
    pub(crate) info: Bytes,
    /// Whether its peers may only come from its trackers.
    pub(crate) private: bool,
}

/// What a client was configured to keep to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) connections: u32,
    pub(crate) connections_per_torrent: u32,
    pub(crate) half_open: u32,
    /// Peers of one torrent, regular and optimistic slots together.
    pub(crate) unchoked: u32,
    /// The bytes of messages that may leave at once under a rate limit, besides a burst of a quarter of a second.
    pub(crate) messages: u64,
    pub(crate) stop_within: Duration,
    pub(crate) encryption: Encryption,
    /// Whether it may have connections by uTP, of which a bystander reads no message.
    pub(crate) utp: bool,
}

/// How a rule was broken.
#[derive(Debug, PartialEq, Eq)]
struct Breach {
    rule: &'static str,
    what: String,
}

type Verdict = Result<(), Breach>;

fn hold(holds: bool, rule: &'static str, what: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(Breach { rule, what: what() }) }
}

/// The checkers of one client.
#[derive(Debug)]
pub(crate) struct Checkers {
    conversations: conversation::Conversations,
    connections: connections::Connections,
    contract: contract::Contract,
    discovery: discovery::Discovery,
    filter: filter::Filter,
    metadata: metadata::Metadata,
    obfuscation: obfuscation::Obfuscation,
    rates: rates::Rates,
    storage: storage::Storage,
    utp: utp::Utp,
    checks: u64,
}

impl Checkers {
    pub(crate) fn new(own: SocketAddr, bounds: Bounds) -> Self {
        Self {
            conversations: conversation::Conversations::new(bounds),
            connections: connections::Connections::new(own, bounds),
            contract: contract::Contract::new(bounds),
            discovery: discovery::Discovery::default(),
            filter: filter::Filter::default(),
            metadata: metadata::Metadata::default(),
            obfuscation: obfuscation::Obfuscation::new(bounds),
            rates: rates::Rates::new(bounds),
            storage: storage::Storage::default(),
            utp: utp::Utp::default(),
            checks: 0,
        }
    }

    /// The client shares a torrent, of which it wants these pieces; whether it knows the metadata.
    pub(crate) fn add_torrent(
        &mut self,
        facts: &Arc<Facts>,
        torrent: TorrentId,
        wanted: Bitfield,
        knows_metadata: bool,
    ) {
        self.connections.add_torrent();
        self.discovery.add_torrent(facts, torrent, knows_metadata);
        self.metadata.add_torrent(facts, torrent, knows_metadata);
        self.conversations.add_torrent(facts, torrent, wanted);
    }

    /// Whether somebody owes a block already that is now asked of `conn`.
    pub(crate) fn is_owed(&self, conn: ConnId, block: RawBlock) -> bool {
        self.conversations.is_owed(conn, block)
    }

    /// How many observations were checked.
    pub(crate) fn checks(&self) -> u64 {
        self.checks
    }

    /// Takes an observation in and says whether it may be.
    pub(crate) fn observe(
        &mut self,
        at: Timestamp,
        who: &str,
        observation: &Observation<'_>,
    ) -> Result<(), Box<Violation>> {
        self.checks += 1;
        self.contract
            .observe(at, observation)
            .and_then(|()| self.connections.observe(observation))
            .and_then(|()| self.conversations.observe(at, observation))
            .and_then(|()| self.discovery.observe(at, observation))
            .and_then(|()| self.filter.observe(observation))
            .and_then(|()| self.metadata.observe(observation))
            .and_then(|()| self.obfuscation.observe(observation))
            .and_then(|()| self.storage.observe(observation))
            .and_then(|()| self.rates.observe(at, observation))
            .and_then(|()| self.utp.observe(observation))
            .and_then(|()| accounts::observe(observation))
            .map_err(|Breach { rule, what }| Box::new(Violation { rule, at, who: who.to_owned(), what }))
    }
}

#[cfg(test)]
mod tests {
    use super::{Bounds, Breach, Checkers, Duration, Observation, Timestamp, Verdict};
    use crate::swarm::builder::PLAIN;

    pub(super) const BOUNDS: Bounds = Bounds {
        connections: 4,
        connections_per_torrent: 3,
        half_open: 2,
        unchoked: 2,
        messages: 1000,
        stop_within: Duration::from_secs(5),
        encryption: PLAIN,
        utp: false,
    };

    /// Fails unless the verdict names `rule`.
    #[track_caller]
    pub(super) fn expect_breach(verdict: Verdict, rule: &str) {
        match verdict {
            Err(Breach { rule: broken, what }) => assert_eq!(broken, rule, "{what}"),
            Ok(()) => panic!("{rule} did not fire"),
        }
    }

    #[test]
    fn a_violation_says_who_when_and_how() {
        let mut checkers = Checkers::new(([11, 0, 0, 1], 6881).into(), BOUNDS);
        let at = Timestamp::from_micros(2_500);
        let lie = Observation::BlockSent { piece: 3, begin: 16384, good: false };
        let violation = checkers.observe(at, "B", &lie).unwrap_err();
        assert!(violation.to_string().starts_with("INV-S-03 broken by B at 2.500 ms: "), "{violation}");
        assert_eq!(checkers.checks(), 1);
    }
}
