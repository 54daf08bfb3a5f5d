//! Telling the peers of a torrent of each other, and believing them as far as it goes (BEP 11).
//!
//! Each peer that takes such messages is told, once a minute at most, what has changed since it was told last. A peer
//! is mentioned if others can reach it: we dialled it, or it said where it listens.

use crate::address::{is_local, stands_for_name};
use crate::id::ConnId;
use crate::machine::{Deadline, Machine, Outbox, Timestamp};
use crate::wire::{Offence, PexFlags, PexMessage};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

/// The peer exchange of one torrent.
#[derive(Debug, Default)]
pub struct Pex {
    peers: BTreeMap<ConnId, Peer>,
}

#[derive(Debug, Default)]
struct Peer {
    contact: Option<(SocketAddr, PexFlags)>,
    listener: Option<Listener>,
    heard: Heard,
}

/// What a peer has been told.
#[derive(Debug)]
struct Listener {
    /// Where it is, seen from here.
    remote: SocketAddr,
    told: BTreeSet<SocketAddr>,
    /// It is told nothing before this.
    next_at: Timestamp,
    first: bool,
    /// Whether there may be something to tell.
    stale: bool,
}

/// How often a peer spoke.
#[derive(Debug, Default)]
struct Heard {
    taken_at: Option<Timestamp>,
    since: Timestamp,
    count: u32,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Others can reach a peer here.
    Contact {
        /// Who.
        peer: ConnId,
        /// Where it listens.
        addr: SocketAddr,
        /// What else there is to say of it.
        flags: PexFlags,
    },
    /// A peer left.
    Gone {
        /// Who.
        peer: ConnId,
    },
    /// A peer told of others.
    Heard {
        /// Who.
        peer: ConnId,
        /// What it said.
        message: PexMessage,
    },
    /// A peer takes messages about others.
    Listens {
        /// Who.
        peer: ConnId,
        /// The other end of its connection.
        remote: SocketAddr,
    },
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A peer broke the protocol.
    Accuse {
        /// Who.
        peer: ConnId,
        /// How.
        offence: Offence,
    },
    /// Take these addresses in. There is one, or one that was dropped.
    Learn {
        /// Who named them.
        peer: ConnId,
        /// Their addresses, and what it said of each.
        peers: Vec<(SocketAddr, PexFlags)>,
        /// Those to which it is connected no more.
        dropped: Vec<SocketAddr>,
    },
    /// Tell a peer.
    Tell {
        /// Whom.
        peer: ConnId,
        /// What.
        message: PexMessage,
    },
}

impl Pex {
    /// Nobody is there yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn on_heard(&mut self, now: Timestamp, peer: ConnId, message: &PexMessage, out: &mut Outbox<Action>) {
        let heard = &mut self.peers.entry(peer).or_default().heard;
        if now.since(heard.since) >= INTERVAL {
            (heard.since, heard.count) = (now, 0);
        }
        heard.count += 1;
        if heard.count > MAX_HEARD {
            out.push_back(Action::Accuse { peer, offence: Offence::PexFlood });
            return;
        }
        // Clocks and queues make a minute shorter; what comes much too soon is not believed.
        if heard.taken_at.is_some_and(|at| now.since(at) < INTERVAL_MIN) {
            return;
        }
        heard.taken_at = Some(now);
        let PexMessage { added, dropped } = message;
        if !added.is_empty() || !dropped.is_empty() {
            out.push_back(Action::Learn { peer, peers: added.clone(), dropped: dropped.clone() });
        }
    }

    /// There is something new to tell everybody but the one that it is about.
    fn make_stale(&mut self, about: ConnId) {
        let others = self.peers.iter_mut().filter(|(peer, _)| **peer != about);
        others.filter_map(|(_, peer)| peer.listener.as_mut()).for_each(|listener| listener.stale = true);
    }

    fn tell(&mut self, now: Timestamp, peer: ConnId, out: &mut Outbox<Action>) {
        let Some(listener) = self.peers.get(&peer).and_then(|peer| peer.listener.as_ref()) else { return };
        let contacts = self.peers.iter().filter(|(other, _)| **other != peer);
        let current: BTreeMap<SocketAddr, PexFlags> = contacts
            .filter_map(|(_, other)| other.contact)
            .filter(|(addr, _)| listener.may_know(*addr))
            .collect();
        let Some(listener) = self.peers.get_mut(&peer).and_then(|peer| peer.listener.as_mut()) else {
            return;
        };
        let most = if listener.first { MAX_FIRST } else { MAX_TOLD };
        let mut added = current.iter().filter(|(addr, _)| !listener.told.contains(*addr));
        let message = PexMessage {
            added: added.by_ref().take(most).map(|(addr, flags)| (*addr, *flags)).collect(),
            dropped: listener
                .told
                .iter()
                .filter(|addr| !current.contains_key(*addr))
                .take(MAX_TOLD)
                .copied()
                .collect(),
        };
        listener.stale = added.next().is_some() || message.dropped.len() == MAX_TOLD;
        if message == PexMessage::default() {
            return;
        }
        listener.told.retain(|addr| !message.dropped.contains(addr));
        listener.told.extend(message.added.iter().map(|(addr, _)| *addr));
        (listener.first, listener.next_at) = (false, now + TELL_EVERY);
        out.push_back(Action::Tell { peer, message });
    }
}

impl Machine for Pex {
    type Event = Event;
    type Action = Action;

    fn handle_event(&mut self, now: Timestamp, event: Event, out: &mut Outbox<Action>) {
        match event {
            Event::Contact { peer, addr, flags } => {
                let before = self.peers.entry(peer).or_default().contact.replace((addr, flags));
                if before.is_none_or(|(before, _)| before != addr) {
                    self.make_stale(peer);
                }
            }
            Event::Gone { peer } => {
                if self.peers.remove(&peer).is_some_and(|peer| peer.contact.is_some()) {
                    self.make_stale(peer);
                }
            }
            Event::Heard { peer, message } => self.on_heard(now, peer, &message, out),
            Event::Listens { peer, remote } => {
                let (told, next_at) = (BTreeSet::new(), now + FIRST_AFTER);
                let listener = Listener { remote, told, next_at, first: true, stale: true };
                self.peers.entry(peer).or_default().listener.get_or_insert(listener);
            }
        }
    }

    fn handle_timeout(&mut self, now: Timestamp, out: &mut Outbox<Action>) {
        let due = |peer: &Peer| peer.listener.as_ref().and_then(Listener::due_at).is_some_and(|at| at <= now);
        let due: Vec<ConnId> =
            self.peers.iter().filter(|(_, peer)| due(peer)).map(|(peer, _)| *peer).collect();
        due.into_iter().for_each(|peer| self.tell(now, peer, out));
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let listeners = self.peers.values().filter_map(|peer| peer.listener.as_ref());
        let at = listeners.filter_map(Listener::due_at).min()?;
        Some(Deadline { at, why: "peer exchange" })
    }
}

impl Listener {
    fn due_at(&self) -> Option<Timestamp> {
        self.stale.then_some(self.next_at)
    }

    /// Whether an address means something where it is, and is not its own.
    fn may_know(&self, addr: SocketAddr) -> bool {
        addr != self.remote
            && !stands_for_name(addr.ip())
            && (!is_local(addr.ip()) || is_local(self.remote.ip()))
    }
}

/// A peer may be told once in this time (BEP 11).
const INTERVAL: Duration = Duration::from_secs(60);

/// How often a peer is told. One message can wait behind blocks and the next not, and they are to be a minute apart when
/// they leave.
const TELL_EVERY: Duration = Duration::from_secs(65);

/// How long after it said that it listens: by then there is more to tell.
const FIRST_AFTER: Duration = Duration::from_secs(1);

/// How soon after a message the next one is believed.
const INTERVAL_MIN: Duration = Duration::from_secs(45);

/// Messages of one peer within a minute, before it is sent away (limit L10).
const MAX_HEARD: u32 = 6;

/// Peers added, and peers dropped, in one message (BEP 11).
const MAX_TOLD: usize = 50;

/// Peers added in the first message, which may be longer (BEP 11).
const MAX_FIRST: usize = 100;

#[cfg(test)]
mod tests;
