//! Clients: each is started with one torrent, and asked whether it has everything.

mod aria2;
mod fast_peer;
mod libtorrent;
mod qbittorrent;
mod rqbit;
mod transmission;

pub(crate) use self::fast_peer::METADATA;
pub use self::fast_peer::program as fast_peer_program;
pub(crate) use self::libtorrent::python as libtorrent_python;

use std::fmt::{self, Debug, Display};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::namespace::Host;
use crate::process::Process;

/// A client that torrents can be given to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// aria2c.
    Aria2,
    /// The client of this repository.
    FastPeer,
    /// libtorrent-rasterbar, by its Python binding.
    Libtorrent,
    /// qbittorrent-nox, an older libtorrent with settings of its own.
    Qbittorrent,
    /// librqbit, in a program of its own.
    Rqbit,
    /// transmission-daemon.
    Transmission,
}

impl Kind {
    /// Those that others wrote.
    pub const OTHERS: [Self; 5] =
        [Self::Aria2, Self::Libtorrent, Self::Qbittorrent, Self::Rqbit, Self::Transmission];

    /// Whether it can be handed the address of a peer.
    pub fn takes_peers(self) -> bool {
        !matches!(self, Self::Aria2 | Self::Transmission)
    }

    /// Whether it makes the files of a torrent that have no bytes.
    pub fn makes_empty_files(self) -> bool {
        self != Self::Transmission
    }

    /// Whether it can do its part over this kind of link.
    pub fn speaks(self, link: Link) -> bool {
        match link {
            Link::Encrypted | Link::Rc4 => self != Self::Rqbit,
            Link::Plaintext => matches!(self, Self::FastPeer | Self::Libtorrent),
            Link::Tcp => true,
            Link::Utp => self != Self::Aria2,
        }
    }

    /// Starts it.
    pub fn start(self, job: &Job<'_>) -> Result<Box<dyn Client>> {
        Ok(match self {
            Self::Aria2 => Box::new(aria2::Aria2::start(job)?),
            Self::FastPeer => Box::new(fast_peer::FastPeer::start(job)?),
            Self::Libtorrent => Box::new(libtorrent::Libtorrent::start(job)?),
            Self::Qbittorrent => Box::new(qbittorrent::Qbittorrent::start(job)?),
            Self::Rqbit => Box::new(rqbit::Rqbit::start(job)?),
            Self::Transmission => Box::new(transmission::Transmission::start(job)?),
        })
    }
}

impl Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Aria2 => "aria2",
            Self::FastPeer => "fast-peer",
            Self::Libtorrent => "libtorrent",
            Self::Qbittorrent => "qbittorrent",
            Self::Rqbit => "rqbit",
            Self::Transmission => "transmission",
        })
    }
}

/// What two peers speak through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Link {
    /// TCP, on which all clients insist on encryption, if only of the handshake where they can tell the difference.
    Encrypted,
    /// TCP, on which clients insist on encryption and offer none but that of the handshake.
    Plaintext,
    /// TCP, on which clients that can tell the difference insist on RC4.
    Rc4,
    /// TCP, encrypted or not as the clients like.
    Tcp,
    /// uTP; the hosts refuse TCP.
    Utp,
}

/// How a client may find peers beside trackers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Discovery<'a> {
    /// Nodes of the DHT, of which all but Transmission are told the first alone. Without any it stays out.
    pub dht: &'a [SocketAddr],
    /// Whether it calls into the local network (BEP 14).
    pub lsd: bool,
    /// Whether it hears of peers from peers, and tells them of others (BEP 11).
    pub pex: bool,
}

/// Whether a client starts with the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// It lacks everything.
    Leech,
    /// It has everything.
    Seed,
}

/// How a client learns of its torrent.
#[derive(Clone, Debug)]
pub enum Source {
    /// By the metainfo file.
    File(PathBuf),
    /// By a magnet link.
    Magnet(String),
}

impl Source {
    /// As an argument of a command.
    pub fn argument(&self) -> &str {
        match self {
            Self::File(path) => path.to_str().expect("the tests' own paths are UTF-8"),
            Self::Magnet(uri) => uri,
        }
    }
}

/// What a client is to do.
#[derive(Clone, Debug)]
pub struct Job<'a> {
    /// Where it runs.
    pub host: &'a Host,
    /// A folder for its settings and logs.
    pub home: &'a Path,
    /// The folder in which the payload's file or folder lies, or will lie.
    pub folder: &'a Path,
    /// The name of the payload's file or folder.
    pub name: &'a str,
    /// The infohash in hexadecimal.
    pub infohash: &'a str,
    /// Whether it starts with the payload.
    pub role: Role,
    /// Its torrent.
    pub source: &'a Source,
    /// What it may speak through.
    pub link: Link,
    /// Peers that it is told of.
    pub peers: &'a [SocketAddr],
    /// How it may find others.
    pub discovery: Discovery<'a>,
    /// Bytes a second that it may send and receive at most.
    pub rate: Option<u32>,
    /// What it is to get.
    pub want: Want,
}

impl Discovery<'_> {
    /// The node by which it joins the DHT.
    pub fn node(&self) -> Option<SocketAddr> {
        self.dht.first().copied()
    }
}

/// What a leecher is after. All but the payload is asked of fast-peer alone, which has a command for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Want {
    /// The addresses of peers, by one lookup for an infohash in the DHT.
    Lookup,
    /// The torrent file of a magnet link.
    Metadata,
    /// The payload.
    Payload,
    /// The addresses of peers, from the DHT.
    Peers,
}

/// A client at work. Dropping it ends it.
pub trait Client {
    /// Whether it says that it has the whole payload. Then it also shares it, unless it has ended. Fails when it has
    /// ended without the payload.
    fn is_complete(&mut self) -> Result<bool>;

    /// The program.
    fn process(&self) -> &Process;
}

/// The port on which every client listens for peers.
pub const PORT: u16 = 6881;
/// The port of a client's remote control.
const CONTROL_PORT: u16 = 8080;
