//! Who tells us of peers, and how far each is believed.

use core::fmt;

/// Who told us of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A node of the DHT.
    Dht,
    /// The peer itself, which connected to us and said where it listens.
    Incoming,
    /// The local network (BEP 14).
    Lsd,
    /// The user, or a magnet link.
    Manual,
    /// Another peer (BEP 11).
    Pex,
    /// What was saved when the torrent last ran.
    Resume,
    /// A tracker.
    Tracker,
}

impl Source {
    /// The lowest is dialled first: the source that is hardest to poison. Class 1 is for peers that proved themselves.
    pub(super) const fn class(self) -> u8 {
        match self {
            Source::Manual => 0,
            Source::Incoming | Source::Lsd | Source::Resume => 2,
            Source::Tracker => 3,
            Source::Dht => 4,
            Source::Pex => 5,
        }
    }

    /// How many peers one teller may have named of those we know (limit L10 for PEX).
    pub(super) const fn told_limit(self) -> usize {
        match self {
            Source::Pex => 50,
            Source::Dht => 100,
            Source::Incoming | Source::Lsd | Source::Manual | Source::Resume | Source::Tracker => 1000,
        }
    }
}

/// A set of sources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sources(u8);

impl Sources {
    /// Whether `source` is in the set.
    pub const fn has(self, source: Source) -> bool {
        self.0 & (1 << source as u8) != 0
    }

    /// The sources in the set.
    pub(super) fn iter(self) -> impl Iterator<Item = Source> {
        ALL_SOURCES.into_iter().filter(move |source| self.has(*source))
    }

    pub(super) const fn insert(&mut self, source: Source) {
        self.0 |= 1 << source as u8;
    }

    pub(super) const fn remove(&mut self, source: Source) {
        self.0 &= !(1 << source as u8);
    }

    pub(super) const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dht => "DHT",
            Self::Incoming => "incoming",
            Self::Lsd => "LSD",
            Self::Manual => "by hand",
            Self::Pex => "PEX",
            Self::Resume => "resume",
            Self::Tracker => "tracker",
        })
    }
}

pub(super) const ALL_SOURCES: [Source; 7] = [
    Source::Dht,
    Source::Incoming,
    Source::Lsd,
    Source::Manual,
    Source::Pex,
    Source::Resume,
    Source::Tracker,
];
