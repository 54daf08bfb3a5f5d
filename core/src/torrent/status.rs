//! A torrent's state in a few numbers, and what it waits for.

use super::{Content, Phase, Torrent};
use crate::id::TorrentId;
use crate::machine::{Machine as _, Timestamp};
use crate::metadata;
use crate::store::op::DiskError;
use crate::tracker::TrackerStatus;
use core::fmt;
use core::time::Duration;

/// A summary of a torrent at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Which torrent.
    pub torrent: TorrentId,
    /// Pieces that are verified and wanted.
    pub pieces_have: u32,
    /// Pieces that are wanted.
    pub pieces_wanted: u32,
    /// Bytes of the pieces that are verified and wanted.
    pub bytes_have: u64,
    /// Bytes of the pieces that are wanted.
    pub bytes_wanted: u64,
    /// Pieces that the check of the files has looked at; nothing if it is over.
    pub checking: Option<u32>,
    /// Whether every wanted file is complete under its final name.
    pub complete: bool,
    /// Open connections.
    pub peers: u32,
    /// Those of them that have everything.
    pub seeds: u32,
    /// Connections that are being opened.
    pub connecting: u32,
    /// Addresses known.
    pub known: u32,
    /// Those of them that are not dialled as the user's filter blocks them.
    pub filtered: u32,
    /// Bytes of blocks received, asked for or not.
    pub down_bytes: u64,
    /// Bytes of blocks sent.
    pub up_bytes: u64,
    /// Those of them that were of no use: nobody asked for them, they were here already, or their piece failed.
    pub wasted_bytes: u64,
    /// How far the metadata is; nothing once it is known.
    pub metadata: Option<metadata::Progress>,
    /// Why nothing comes, if nothing comes.
    pub waiting: Option<Waiting>,
}

/// Why a torrent makes no progress at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// Every peer that has something for us refuses to serve us.
    Choked {
        /// How many they are.
        peers: u32,
    },
    /// Connections are being opened.
    Connecting {
        /// How many.
        peers: u32,
    },
    /// It is not said yet what is wanted of the torrent and where that goes.
    Content,
    /// The DHT is being asked.
    Dht {
        /// How many nodes were.
        nodes: u32,
    },
    /// Files can't be written.
    Disk(DiskError),
    /// Peers are asked for the metadata.
    Metadata {
        /// How many of its pieces are here.
        have: u32,
        /// How many pieces there are, by what peers say.
        all: u32,
        /// How many say that they have it.
        peers: u32,
    },
    /// No connected peer has the metadata.
    NoMetadata {
        /// How many are connected.
        peers: u32,
    },
    /// No address is left to try before some time has passed.
    NoPeers {
        /// The time until a tracker is asked again, if there is one.
        next_announce: Option<Duration>,
        /// The time until the DHT is asked again, if it may be.
        next_lookup: Option<Duration>,
        /// How many addresses are known that the user's filter blocks.
        filtered: u32,
    },
    /// No connected peer has a piece that is missing.
    NothingNew {
        /// How many are connected.
        peers: u32,
        /// How many missing pieces no connected peer has.
        pieces: u32,
    },
    /// Peers owe us blocks and send none.
    Silent {
        /// How many.
        peers: u32,
    },
    /// A tracker is being asked.
    Tracker,
    /// What the hash names is no torrent.
    Useless,
}

/// So many of something.
struct Count(u32, &'static str);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(count, name) = self;
        write!(f, "{count} {name}{}", if *count == 1 { "" } else { "s" })
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Choked { peers: 1 } => f.write_str("the only useful peer chokes us"),
            Self::Choked { peers } => write!(f, "all {peers} useful peers choke us"),
            Self::Connecting { peers } => write!(f, "connecting to {}", Count(*peers, "peer")),
            Self::Content => f.write_str("waiting to be told what to download"),
            Self::Dht { nodes: 0 } => f.write_str("looking for a first node of the DHT"),
            Self::Dht { nodes } => write!(f, "asking {} of the DHT", Count(*nodes, "node")),
            Self::Disk(error) => write!(f, "{error}; trying again"),
            Self::Metadata { have, all, peers } => {
                write!(f, "metadata {have}/{all} pieces from {}", Count(*peers, "peer"))
            }
            Self::NoMetadata { peers: 1 } => f.write_str("the only peer does not have the metadata"),
            Self::NoMetadata { peers } => write!(f, "none of {peers} peers has the metadata"),
            Self::NoPeers { next_announce: None, next_lookup: None, filtered: 0 } => {
                f.write_str("no peers, and no tracker to ask for some")
            }
            Self::NoPeers { next_announce, next_lookup, filtered } => {
                f.write_str("no peers")?;
                match filtered {
                    0 => {}
                    1 => f.write_str("; the IP filter blocks 1 address")?,
                    filtered => write!(f, "; the IP filter blocks {filtered} addresses")?,
                }
                for (who, time) in [("tracker", next_announce), ("DHT", next_lookup)] {
                    if let Some(time) = time {
                        write!(f, "; the {who} is asked again in {} s", time.as_secs())?;
                    }
                }
                Ok(())
            }
            Self::NothingNew { peers, pieces } => {
                match peers {
                    1 => f.write_str("the only peer does not have what is missing")?,
                    peers => write!(f, "none of {peers} peers has what is missing")?,
                }
                write!(f, " ({})", Count(*pieces, "piece"))
            }
            Self::Silent { peers: 1 } => f.write_str("the only peer owes blocks and sends none"),
            Self::Silent { peers } => write!(f, "{peers} peers owe blocks and send none"),
            Self::Tracker => f.write_str("asking the tracker"),
            Self::Useless => f.write_str("the hash does not name a torrent"),
        }
    }
}

impl Torrent {
    /// Looks at everything once: meant for a person's pace, not for every event.
    pub(crate) fn status(&self, now: Timestamp) -> Status {
        let open = || self.members.values().filter(|member| member.peer.is_open());
        let wasted: u64 = self.members.values().map(|member| member.peer.wasted_bytes()).sum();
        let mut status = Status {
            torrent: self.id,
            pieces_have: 0,
            pieces_wanted: 0,
            bytes_have: 0,
            bytes_wanted: 0,
            checking: None,
            complete: false,
            peers: open().count() as u32,
            seeds: 0,
            connecting: self.members.values().filter(|member| member.peer.is_connecting()).count() as u32,
            known: self.known.len() as u32,
            filtered: self.known.filtered() as u32,
            down_bytes: self.totals.down_bytes,
            up_bytes: self.totals.up_bytes,
            wasted_bytes: self.totals.wasted_bytes + wasted,
            metadata: self.metadata.progress(),
            waiting: self.waiting(now),
        };
        let Some(content) = &self.content else { return status };
        let lengths = content.map.lengths();
        for piece in lengths.pieces().filter(|piece| content.is_wanted(*piece)) {
            let len = u64::from(lengths.piece_len(piece));
            status.pieces_wanted += 1;
            status.bytes_wanted += len;
            if content.picker.have().has(piece) {
                status.pieces_have += 1;
                status.bytes_have += len;
            }
        }
        status.checking = content.store.checking();
        status.complete =
            content.store.is_completed() && content.picker.is_complete() && self.phase >= Phase::Running;
        status.seeds = open().filter(|member| member.has.is_all()).count() as u32;
        status
    }

    /// What keeps the torrent from progress, if anything does.
    pub(crate) fn waiting(&self, now: Timestamp) -> Option<Waiting> {
        if !self.online {
            return None;
        }
        let open = || self.members.values().filter(|member| member.peer.is_open());
        let count = |peers: usize| peers as u32;
        let peers = count(open().count());
        match &self.content {
            None if self.metadata.is_useless() => return Some(Waiting::Useless),
            None => match self.metadata.progress() {
                None => return Some(Waiting::Content),
                Some(progress) if progress.sources > 0 => {
                    let metadata::Progress { sources: peers, pieces_have: have, pieces: all } = progress;
                    return Some(Waiting::Metadata { have, all, peers });
                }
                Some(_) if peers > 0 => return Some(Waiting::NoMetadata { peers }),
                Some(_) => {}
            },
            Some(content) => {
                if self.phase != Phase::Running || content.picker.is_complete() {
                    return None;
                }
                if let Some(error) = content.trouble.filter(|_| content.store.in_trouble()) {
                    return Some(Waiting::Disk(error));
                }
                let useful = || open().filter(|member| member.interesting > 0);
                let owing = || useful().filter(|member| member.peer.owes());
                if owing().any(|member| !member.peer.is_snubbed()) {
                    return None;
                }
                if owing().next().is_some() {
                    return Some(Waiting::Silent { peers: count(owing().count()) });
                }
                if useful().next().is_some() {
                    return Some(Waiting::Choked { peers: count(useful().count()) });
                }
                if peers > 0 {
                    return Some(Waiting::NothingNew { peers, pieces: content.picker.unavailable() });
                }
            }
        }
        if !self.members.is_empty() {
            return Some(Waiting::Connecting { peers: count(self.members.len()) });
        }
        if self.announcer.trackers().any(|tracker| tracker.announcing) {
            return Some(Waiting::Tracker);
        }
        if self.discovery.is_asking() {
            // The session knows how many they are.
            return Some(Waiting::Dht { nodes: 0 });
        }
        let next_announce = self.announcer.trackers().filter_map(|tracker| tracker.ready_at).min();
        let next_lookup = self.discovery.poll_timeout().map(|due| due.at);
        let [next_announce, next_lookup] = [next_announce, next_lookup].map(|at| Some(at?.since(now)));
        Some(Waiting::NoPeers { next_announce, next_lookup, filtered: self.known.filtered() as u32 })
    }

    /// The torrent's trackers, in the order in which they are asked.
    pub fn trackers(&self) -> impl Iterator<Item = TrackerStatus<'_>> {
        self.announcer.trackers()
    }

    /// What trackers are told: bytes sent, bytes received, bytes missing.
    pub(crate) fn announce_totals(&self) -> (u64, u64, u64) {
        let left = self.content.as_ref().map_or(UNKNOWN_LEFT, Content::missing_bytes);
        (self.totals.up_bytes, self.totals.down_bytes, left)
    }
}

/// Any number but 0, which would make us a seed. Other clients say the same before they know the length.
const UNKNOWN_LEFT: u64 = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::Waiting;
    use alloc::string::ToString as _;

    #[test]
    fn what_is_waited_for_can_be_read() {
        for (waiting, text) in [
            (Waiting::Dht { nodes: 0 }, "looking for a first node of the DHT"),
            (Waiting::Dht { nodes: 1 }, "asking 1 node of the DHT"),
            (Waiting::Dht { nodes: 38 }, "asking 38 nodes of the DHT"),
            (Waiting::Metadata { have: 7, all: 12, peers: 3 }, "metadata 7/12 pieces from 3 peers"),
            (Waiting::NoMetadata { peers: 1 }, "the only peer does not have the metadata"),
            (Waiting::NothingNew { peers: 2, pieces: 1 }, "none of 2 peers has what is missing (1 piece)"),
            (
                Waiting::NoPeers { next_announce: None, next_lookup: None, filtered: 2 },
                "no peers; the IP filter blocks 2 addresses",
            ),
            (Waiting::Silent { peers: 1 }, "the only peer owes blocks and sends none"),
        ] {
            assert_eq!(waiting.to_string(), text);
        }
    }
}
