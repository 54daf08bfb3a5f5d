//! Finding peers in the local network by calls to a multicast group (BEP 14).
//!
//! One machine for all torrents of a session. A call names as many torrents as fit a packet; the driver sends it to the
//! group of each address family that it has joined. Nobody knows who calls there, so what is heard is bounded, and
//! whoever is named has to prove by a handshake that it shares the torrent.

mod packet;
#[cfg(test)]
mod tests;

pub use packet::{Announcement, MAX_COOKIE_LEN, MAX_LEN, MAX_TORRENTS};

use crate::id::InfoHash;
use crate::machine::{Deadline, Machine, Outbox, Timestamp};
use crate::rng::Rng;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;

/// A multicast group (BEP 14).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// That of IPv4.
    V4,
    /// That of IPv6.
    V6,
}

impl Group {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// Its address and port: where calls go, and where who listens is bound.
    pub fn addr(self) -> SocketAddr {
        match self {
            Self::V4 => (Ipv4Addr::new(239, 192, 152, 143), PORT).into(),
            Self::V6 => (Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0xefc0, 0x988f), PORT).into(),
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "v4",
            Self::V6 => "v6",
        })
    }
}

/// The calls of one session.
#[derive(Debug)]
pub struct Lsd {
    /// The torrents, and when each is to be called.
    torrents: BTreeMap<InfoHash, Timestamp>,
    /// The same in order of time.
    due: BTreeSet<(Timestamp, InfoHash)>,
    /// Where peers reach us; zero if none does.
    port: u16,
    cookie: String,
    called_at: Option<Timestamp>,
    heard: Heard,
}

/// How many calls of others were heard within a second.
#[derive(Debug, Default)]
struct Heard {
    since: Timestamp,
    count: u32,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Something was sent to a group.
    Datagram {
        /// By whom.
        from: SocketAddr,
        /// What.
        data: Bytes,
    },
    /// Peers reach us at this port.
    Listening {
        /// The port.
        port: u16,
    },
    /// The network is another one: nobody there has heard of us.
    NetworkChanged,
    /// A torrent is there that may be called out.
    Shared {
        /// Its hash.
        torrent: InfoHash,
    },
    /// A torrent is not to be called out any more.
    Unshared {
        /// Its hash.
        torrent: InfoHash,
    },
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this to a group.
    Call {
        /// Which.
        group: Group,
        /// The datagram.
        data: Bytes,
    },
    /// A peer of a torrent of ours called.
    Found {
        /// The torrent.
        torrent: InfoHash,
        /// Where the peer listens.
        peer: SocketAddr,
    },
}

impl Lsd {
    /// Knows no torrent. What we know our own calls by is drawn from `rng`.
    pub fn new(mut rng: Rng) -> Self {
        Self {
            torrents: BTreeMap::new(),
            due: BTreeSet::new(),
            port: 0,
            cookie: format!("{:08x}", rng.next_u32()),
            called_at: None,
            heard: Heard::default(),
        }
    }

    fn on_datagram(&mut self, now: Timestamp, from: SocketAddr, data: &[u8], out: &mut Outbox<Action>) {
        if now.since(self.heard.since) >= SECOND {
            self.heard = Heard { since: now, count: 0 };
        }
        self.heard.count += 1;
        if self.heard.count > MAX_HEARD_PER_S {
            return;
        }
        let Some(call) = Announcement::parse(data) else { return };
        if call.cookie.as_ref() == Some(&self.cookie) {
            return;
        }
        let peer = SocketAddr::new(from.ip(), call.port);
        let ours = call.torrents.into_iter().filter(|torrent| self.torrents.contains_key(torrent));
        out.extend(ours.map(|torrent| Action::Found { torrent, peer }));
    }

    /// Calls the torrents that waited longest, as many as fit.
    fn call(&mut self, now: Timestamp, out: &mut Outbox<Action>) {
        let due = self.due.iter().take_while(|(at, _)| *at <= now).take(MAX_TORRENTS);
        let torrents: Vec<InfoHash> = due.map(|(_, torrent)| *torrent).collect();
        torrents.iter().for_each(|torrent| self.file(*torrent, Some(now + INTERVAL)));
        let call = Announcement { port: self.port, torrents, cookie: Some(self.cookie.clone()) };
        out.extend(Group::ALL.map(|group| Action::Call { group, data: call.encode(group).into() }));
        self.called_at = Some(now);
    }

    /// Sees to it that a torrent is called at `at`, or not any more.
    fn file(&mut self, torrent: InfoHash, at: Option<Timestamp>) {
        let before = match at {
            Some(at) => self.torrents.insert(torrent, at),
            None => self.torrents.remove(&torrent),
        };
        self.due.extend(at.map(|at| (at, torrent)));
        if let Some(before) = before.filter(|before| Some(*before) != at) {
            self.due.remove(&(before, torrent));
        }
    }
}

impl Machine for Lsd {
    type Event = Event;
    type Action = Action;

    fn handle_event(&mut self, now: Timestamp, event: Event, out: &mut Outbox<Action>) {
        match event {
            Event::Datagram { from, data } => self.on_datagram(now, from, &data, out),
            Event::Listening { port } => self.port = port,
            Event::NetworkChanged => {
                for torrent in self.torrents.keys().copied().collect::<Vec<_>>() {
                    self.file(torrent, Some(now));
                }
            }
            Event::Shared { torrent } if self.torrents.contains_key(&torrent) => {}
            Event::Shared { torrent } => self.file(torrent, Some(now)),
            Event::Unshared { torrent } => self.file(torrent, None),
        }
    }

    fn handle_timeout(&mut self, now: Timestamp, out: &mut Outbox<Action>) {
        if self.poll_timeout().is_some_and(|due| due.at <= now) {
            self.call(now, out);
        }
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        if self.port == 0 {
            return None;
        }
        let (due, _) = self.due.first()?;
        let rested = self.called_at.map_or(Timestamp::ZERO, |at| at + GAP);
        Some(Deadline { at: rested.max(*due), why: "local call" })
    }
}

const PORT: u16 = 6771;

/// How often a torrent is called (BEP 14).
const INTERVAL: Duration = Duration::from_secs(300);

/// How much time passes between two calls at least (BEP 14).
const GAP: Duration = Duration::from_secs(60);

/// Datagrams that are looked at in a second.
const MAX_HEARD_PER_S: u32 = 10;

const SECOND: Duration = Duration::from_secs(1);
