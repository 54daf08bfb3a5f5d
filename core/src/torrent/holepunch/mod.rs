//! Peers behind routers that let nobody in are brought together by a third (BEP 55).
//!
//! Who can't reach a peer asks the one that told of it, the *relay*, which tells both to connect at the same time: then
//! each router takes the packets of the other side for answers. A torrent plays all three parts.
//!
//! ```text
//! initiator                    relay                     target
//!     │ ──── rendezvous T ────▶ │                          │
//!     │ ◀───── connect T ────── │ ────── connect I ───────▶ │
//!     │ ◀══════════ both open a uTP connection ══════════▶  │
//! ```
//!
//! None of them believes much: whoever could make us connect to any address at will could aim us at a victim.

#[cfg(test)]
mod tests;

use crate::address::{Subnet, canonical, is_dialable, is_local, stands_for_name};
use crate::id::ConnId;
use crate::machine::{Deadline, Machine, Outbox, Timestamp};
use crate::wire::{HolepunchError, HolepunchMessage};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::ops::RangeInclusive;
use core::time::Duration;

/// The attempts of one torrent, and what it does for others.
#[derive(Debug, Default)]
pub struct Holepunch {
    members: BTreeMap<ConnId, Member>,
    /// Who told of a peer that can be reached like this.
    relays: BTreeMap<SocketAddr, BTreeSet<ConnId>>,
    /// Those that a relay was asked for, and those that are being connected to.
    attempts: BTreeMap<SocketAddr, Attempt>,
    /// The attempts of the last hour.
    tried: BTreeMap<SocketAddr, Tried>,
    /// In the order in which they came.
    own: VecDeque<SocketAddr>,
    /// How often others made us connect.
    obeyed: Count,
}

#[derive(Debug)]
struct Member {
    /// Where others can reach it.
    addr: SocketAddr,
    speaks: bool,
    /// How often it asked us to bring it together with somebody.
    asked: Count,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Attempt {
    relay: ConnId,
    /// Whether it is we who asked for it.
    ours: bool,
    stage: Stage,
    until: Timestamp,
}

/// ```text
/// asking ──the relay says so──▶ opening ──nothing came through──▶ over
///    │                             └──it broke off──▶ answered ──────▲
///    └──an error, or nothing─────────────────────────────────────────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Asking,
    Opening,
    /// Our connection is no more. Theirs may stay.
    Answered,
}

/// What was tried to reach one peer.
#[derive(Clone, Debug)]
struct Tried {
    /// The relays that we asked: each connection has a name of its own, so none is mistaken for one that left.
    asked: Vec<ConnId>,
    /// How often a relay made us connect.
    obeyed: u8,
    /// Until when that counts.
    until: Timestamp,
}

/// So many within a minute.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    since: Timestamp,
    count: u32,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// There is a connection to this address, whoever opened it.
    Connected {
        /// The address.
        addr: SocketAddr,
    },
    /// A connection to this address did not come about, or came to nothing.
    DialFailed {
        /// The address.
        addr: SocketAddr,
        /// Whether there was an answer, so that the peer can be reached.
        answered: bool,
        /// Whether there is a place for a connection to it, or no relay is asked for one.
        has_place: bool,
    },
    /// A member that told of a peer is connected to it no more.
    Dropped {
        /// Who told.
        peer: ConnId,
        /// Of whom.
        addr: SocketAddr,
    },
    /// A member left.
    Gone {
        /// Who.
        peer: ConnId,
    },
    /// A member that speaks the extension said this.
    Heard {
        /// Who.
        peer: ConnId,
        /// What.
        message: HolepunchMessage,
    },
    /// There is a member, or there is news of it.
    Member {
        /// Who.
        peer: ConnId,
        /// Where others can reach it: for uTP the other end of the connection, as its router has it.
        addr: SocketAddr,
        /// Whether it takes messages of the extension.
        speaks: bool,
    },
    /// What [`Action::Open`] asked for is not done.
    NotOpened {
        /// The address.
        addr: SocketAddr,
    },
    /// We are here ourselves.
    Own {
        /// Our address, as others see it.
        addr: SocketAddr,
    },
    /// A member told of a peer that speaks the extension (the flag 0x08 of BEP 11).
    Told {
        /// Who told.
        peer: ConnId,
        /// Of whom.
        addr: SocketAddr,
    },
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is left at that.
    GaveUp {
        /// Whom we can't reach.
        addr: SocketAddr,
        /// Why.
        why: GiveUp,
    },
    /// Open a uTP connection to this address now. If none is wanted, or may be, say [`Event::NotOpened`], and if nothing
    /// comes of it [`Event::DialFailed`].
    Open {
        /// Where to.
        addr: SocketAddr,
    },
    /// Tell a member.
    Send {
        /// Whom.
        peer: ConnId,
        /// What.
        message: HolepunchMessage,
    },
}

/// Why no connection came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GiveUp {
    /// There was an answer, and yet no connection that was of use.
    #[error("it broke the connection off")]
    BrokenOff,
    /// The relay said nothing in time, or left.
    #[error("the relay did not answer")]
    NoAnswer,
    /// Both sides opened a connection, and no packet came through: a router gives each connection another port.
    #[error("no packet came through its router, or ours")]
    NotThrough,
    /// The relay will not, or can't.
    #[error("the relay answered: {0}")]
    Refused(HolepunchError),
    /// We have no place for it, or want no connection to it.
    #[error("we want no more connections, or none to it")]
    Unwanted,
}

impl Holepunch {
    /// Nobody is there yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many attempts are under way.
    pub fn attempts(&self) -> usize {
        self.attempts.len()
    }

    /// Panics unless the bounds hold. For tests and simulators.
    pub fn check_invariants(&self) {
        assert!(self.attempts.len() <= MAX_ATTEMPTS, "{} attempts", self.attempts.len());
        assert!(self.relays.len() <= MAX_TARGETS, "{} peers to reach like this", self.relays.len());
        assert!(self.tried.len() <= MAX_TRIED, "{} peers tried", self.tried.len());
        assert!(self.tried.values().all(|tried| tried.asked.len().max(tried.obeyed.into()) <= MAX_TRIES));
        assert!(self.own.len() <= MAX_OWN, "{} addresses of our own", self.own.len());
        for relays in self.relays.values() {
            assert!(!relays.is_empty() && relays.len() <= MAX_RELAYS);
            assert!(relays.iter().all(|relay| self.members.contains_key(relay)), "a relay is a member");
        }
        assert!(
            self.attempts
                .values()
                .all(|attempt| self.members.contains_key(&attempt.relay) || attempt.stage != Stage::Asking)
        );
    }

    fn on_dial_failed(
        &mut self,
        now: Timestamp,
        addr: SocketAddr,
        answered: bool,
        has_place: bool,
        out: &mut Outbox<Action>,
    ) {
        if let Some(attempt) = self.attempts.get_mut(&addr) {
            match (attempt.stage, answered) {
                (Stage::Opening, true) => attempt.stage = Stage::Answered,
                (Stage::Opening, false) => self.give_up(addr, GiveUp::NotThrough, out),
                (Stage::Asking | Stage::Answered, _) => {}
            }
            return;
        }
        let addr = self.told_of(addr);
        if answered || !has_place || self.attempts.contains_key(&addr) || self.is_member(addr) {
            return;
        }
        let asked = self.tried.get(&addr).map_or(&[][..], |tried| &tried.asked);
        if asked.len() >= MAX_TRIES || self.attempts.len() >= MAX_ATTEMPTS || self.own.contains(&addr) {
            return;
        }
        let able = |relay: &&ConnId| self.members.get(relay).is_some_and(|member| member.speaks);
        let mut relays = self.relays.get(&addr).into_iter().flatten().filter(able);
        // Each time another one.
        let Some(&relay) = relays.find(|relay| !asked.contains(relay)) else { return };
        if self.tried.len() >= MAX_TRIED && !self.tried.contains_key(&addr) {
            let oldest = self.tried.iter().min_by_key(|(_, tried)| tried.until).map(|(addr, _)| *addr);
            oldest.map(|addr| self.tried.remove(&addr));
        }
        self.note_tried(now, addr).asked.push(relay);
        let until = now + ANSWER_WITHIN;
        self.attempts.insert(addr, Attempt { relay, ours: true, stage: Stage::Asking, until });
        out.push_back(Action::Send { peer: relay, message: HolepunchMessage::Rendezvous(addr) });
    }

    fn note_tried(&mut self, now: Timestamp, addr: SocketAddr) -> &mut Tried {
        let until = now + TRIED_FOR;
        let tried = self.tried.entry(addr).or_insert(Tried { asked: Vec::new(), obeyed: 0, until });
        tried.until = until;
        tried
    }

    /// No connection was opened: that the peer can't be reached like this did not show, and nobody was bothered by us.
    fn on_not_opened(&mut self, addr: SocketAddr, out: &mut Outbox<Action>) {
        let attempt = self.attempts.get(&addr).filter(|attempt| attempt.stage == Stage::Opening);
        let Some(&Attempt { relay, ours, .. }) = attempt else { return };
        if let Some(tried) = self.tried.get_mut(&addr) {
            if ours {
                tried.asked.retain(|asked| *asked != relay);
            } else {
                tried.obeyed = tried.obeyed.saturating_sub(1);
            }
            if tried.asked.is_empty() && tried.obeyed == 0 {
                self.tried.remove(&addr);
            }
        }
        self.give_up(addr, GiveUp::Unwanted, out);
    }

    fn give_up(&mut self, addr: SocketAddr, why: GiveUp, out: &mut Outbox<Action>) {
        self.attempts.remove(&addr);
        out.push_back(Action::GaveUp { addr, why });
    }

    /// The address by which relays know a peer: its router can have given it another port than the one on which it listens,
    /// of which trackers tell.
    fn told_of(&self, addr: SocketAddr) -> SocketAddr {
        if self.relays.contains_key(&addr) {
            return addr;
        }
        self.relays.range(ports_of(addr.ip())).next().map_or(addr, |(told, _)| *told)
    }

    /// Whether a relay made us connect there often enough: a connection to one port can keep us from another.
    fn is_worn_out(&self, addr: SocketAddr) -> bool {
        let there: usize =
            self.tried.range(ports_of(addr.ip())).map(|(_, tried)| usize::from(tried.obeyed)).sum();
        let here = self.tried.get(&addr).map_or(0, |tried| usize::from(tried.obeyed));
        here >= MAX_TRIES || there >= MAX_OBEYED_PER_IP && !is_local(addr.ip())
    }

    fn on_heard(
        &mut self,
        now: Timestamp,
        peer: ConnId,
        message: HolepunchMessage,
        out: &mut Outbox<Action>,
    ) {
        // BEP 55: who did not say that it speaks the extension is not heard.
        if !self.members.get(&peer).is_some_and(|member| member.speaks) {
            return;
        }
        match message {
            HolepunchMessage::Connect(addr) => self.on_connect(now, peer, canonical(addr), out),
            HolepunchMessage::Error(addr, error) => {
                let addr = canonical(addr);
                let asked = |attempt: &Attempt| (attempt.relay, attempt.stage) == (peer, Stage::Asking);
                if self.attempts.get(&addr).is_some_and(asked) {
                    self.give_up(addr, GiveUp::Refused(error), out);
                }
            }
            HolepunchMessage::Rendezvous(addr) => self.on_rendezvous(now, peer, canonical(addr), out),
        }
    }

    /// A relay says that somebody connects to us, or that we may connect to whom we asked for.
    fn on_connect(&mut self, now: Timestamp, relay: ConnId, addr: SocketAddr, out: &mut Outbox<Action>) {
        if let Some(attempt) = self.attempts.get_mut(&addr) {
            if attempt.relay == relay && attempt.stage == Stage::Asking {
                (attempt.stage, attempt.until) = (Stage::Opening, now + OPEN_WITHIN);
                out.push_back(Action::Open { addr });
            }
            return;
        }
        let pointless = !has_meaning(addr)
            || self.is_strange(relay, addr)
            || self.own.contains(&addr)
            || self.is_member(addr);
        let remembered = self.tried.len() < MAX_TRIED || self.tried.contains_key(&addr);
        if pointless
            || !remembered
            || self.is_worn_out(addr)
            || self.attempts.len() >= MAX_ATTEMPTS
            || !self.obeyed.admit(now, MAX_OBEYED)
        {
            return;
        }
        self.note_tried(now, addr).obeyed += 1;
        let until = now + OPEN_WITHIN;
        self.attempts.insert(addr, Attempt { relay, ours: false, stage: Stage::Opening, until });
        out.push_back(Action::Open { addr });
    }

    /// A member wants to be brought together with somebody.
    fn on_rendezvous(&mut self, now: Timestamp, from: ConnId, target: SocketAddr, out: &mut Outbox<Action>) {
        let Some(asker) = self.members.get_mut(&from) else { return };
        if !asker.asked.admit(now, MAX_ASKED) {
            return;
        }
        let asker = asker.addr;
        let found = self.members.iter().find(|(_, member)| member.addr == target);
        let error = match found {
            _ if self.own.contains(&target) => HolepunchError::NoSelf,
            _ if !has_meaning(target) || !has_meaning(asker) || target == asker || !meets(asker, target) => {
                HolepunchError::NoSuchPeer
            }
            None => HolepunchError::NotConnected,
            Some((_, member)) if !member.speaks => HolepunchError::NoSupport,
            Some((other, _)) => {
                let to_asker = HolepunchMessage::Connect(target);
                out.push_back(Action::Send { peer: *other, message: HolepunchMessage::Connect(asker) });
                out.push_back(Action::Send { peer: from, message: to_asker });
                return;
            }
        };
        let message = HolepunchMessage::Error(target, error);
        out.push_back(Action::Send { peer: from, message });
    }

    fn on_told(&mut self, peer: ConnId, addr: SocketAddr) {
        // Nobody else could bring us together, and would take the place of who can.
        let speaks = self.members.get(&peer).is_some_and(|member| member.speaks);
        if !speaks || !has_meaning(addr) || self.is_strange(peer, addr) {
            return;
        }
        let is_new = !self.relays.contains_key(&addr);
        let of_teller = self.relays.values().filter(|relays| relays.contains(&peer)).count();
        if is_new && (self.relays.len() >= MAX_TARGETS || of_teller >= MAX_TARGETS_PER_RELAY) {
            return;
        }
        let relays = self.relays.entry(addr).or_default();
        if relays.len() < MAX_RELAYS {
            relays.insert(peer);
        }
    }

    fn on_gone(&mut self, peer: ConnId, out: &mut Outbox<Action>) {
        self.members.remove(&peer);
        self.relays.retain(|_, relays| {
            relays.remove(&peer);
            !relays.is_empty()
        });
        let waits = |attempt: &Attempt| attempt.relay == peer && attempt.stage == Stage::Asking;
        let lost = self.attempts.iter().filter(|(_, attempt)| waits(attempt)).map(|(addr, _)| *addr);
        for addr in lost.collect::<Vec<_>>() {
            self.give_up(addr, GiveUp::NoAnswer, out);
        }
    }

    /// Whether a stranger names somebody on our own network, of whom it can't know.
    fn is_strange(&self, teller: ConnId, addr: SocketAddr) -> bool {
        let near = self.members.get(&teller).is_some_and(|member| is_local(member.addr.ip()));
        is_local(addr.ip()) && !near
    }

    fn is_member(&self, addr: SocketAddr) -> bool {
        self.members.values().any(|member| member.addr == addr)
    }
}

/// Everything at one IP address.
fn ports_of(ip: IpAddr) -> RangeInclusive<SocketAddr> {
    SocketAddr::new(ip, 0)..=SocketAddr::new(ip, u16::MAX)
}

/// Whether a peer could be there, whoever says so.
fn has_meaning(addr: SocketAddr) -> bool {
    is_dialable(addr) && !stands_for_name(addr.ip())
}

/// Whether packets from one could get to the other: both are public and of one family, or both are on one network.
fn meets(a: SocketAddr, b: SocketAddr) -> bool {
    a.is_ipv4() == b.is_ipv4() && Subnet::of(a.ip()).is_some() == Subnet::of(b.ip()).is_some()
}

impl Count {
    /// Counts one more, if so many may be within a minute.
    fn admit(&mut self, now: Timestamp, most: u32) -> bool {
        if now.since(self.since) >= MINUTE {
            *self = Self { since: now, count: 0 };
        }
        let admitted = self.count < most;
        self.count += u32::from(admitted);
        admitted
    }
}

impl Machine for Holepunch {
    type Event = Event;
    type Action = Action;

    fn handle_event(&mut self, now: Timestamp, event: Event, out: &mut Outbox<Action>) {
        match event {
            Event::Connected { addr } => {
                let addr = canonical(addr);
                self.attempts.remove(&addr);
                self.tried.remove(&addr);
            }
            Event::DialFailed { addr, answered, has_place } => {
                self.on_dial_failed(now, canonical(addr), answered, has_place, out);
            }
            Event::Dropped { peer, addr } => {
                let addr = canonical(addr);
                if let Some(relays) = self.relays.get_mut(&addr) {
                    relays.remove(&peer);
                    if relays.is_empty() {
                        self.relays.remove(&addr);
                    }
                }
            }
            Event::Gone { peer } => self.on_gone(peer, out),
            Event::Heard { peer, message } => self.on_heard(now, peer, message, out),
            Event::Member { peer, addr, speaks } => {
                let addr = canonical(addr);
                let member =
                    self.members.entry(peer).or_insert(Member { addr, speaks, asked: Count::default() });
                (member.addr, member.speaks) = (addr, speaks);
            }
            Event::NotOpened { addr } => self.on_not_opened(canonical(addr), out),
            Event::Own { addr } => {
                let addr = canonical(addr);
                self.own.retain(|own| *own != addr);
                if self.own.len() >= MAX_OWN {
                    self.own.pop_front();
                }
                self.own.push_back(addr);
            }
            Event::Told { peer, addr } => self.on_told(peer, canonical(addr)),
        }
    }

    fn handle_timeout(&mut self, now: Timestamp, out: &mut Outbox<Action>) {
        let late = self.attempts.iter().filter(|(_, attempt)| attempt.until <= now);
        for (addr, attempt) in late.map(|(addr, attempt)| (*addr, *attempt)).collect::<Vec<_>>() {
            let why = match attempt.stage {
                Stage::Answered => GiveUp::BrokenOff,
                Stage::Asking => GiveUp::NoAnswer,
                Stage::Opening => GiveUp::NotThrough,
            };
            self.give_up(addr, why, out);
        }
        self.tried.retain(|_, tried| tried.until > now);
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let attempts = self.attempts.values().map(|attempt| attempt.until).min();
        let tried = self.tried.values().map(|tried| tried.until).min();
        let attempts = attempts.map(|at| Deadline { at, why: "holepunch" });
        Deadline::earlier(attempts, tried.map(|at| Deadline { at, why: "holepunch may be tried again" }))
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GaveUp { addr, why } => write!(f, "holepunch {addr} gave up: {why}"),
            Self::Open { addr } => write!(f, "holepunch open {addr}"),
            Self::Send { peer, message } => write!(f, "{peer} holepunch {message}"),
        }
    }
}

/// How often we ask to reach a peer like this within [`TRIED_FOR`], by another relay the second time; and how often we are
/// made to connect to one.
const MAX_TRIES: usize = 2;

/// How often we are made to connect to peers of one public IP address within that time: several may share it.
const MAX_OBEYED_PER_IP: usize = 4;

/// How long an attempt counts.
const TRIED_FOR: Duration = Duration::from_secs(60 * 60);

/// Attempts under way.
pub const MAX_ATTEMPTS: usize = 8;

/// Peers of which it is known who can bring us together.
pub const MAX_TARGETS: usize = 200;

/// Those that one relay named.
pub const MAX_TARGETS_PER_RELAY: usize = 50;

/// Relays that are remembered of one peer.
pub const MAX_RELAYS: usize = 4;

/// Peers of which it is remembered that they were tried. While there are so many, strangers' wishes are not obeyed.
pub const MAX_TRIED: usize = 256;

/// Connections to addresses that relays name, within a minute: whoever names them may mean harm to who is there.
pub const MAX_OBEYED: u32 = 10;

/// Rendezvous of one member within a minute.
pub const MAX_ASKED: u32 = 10;

/// Addresses of our own that are remembered.
const MAX_OWN: usize = 16;

/// How long a relay may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// How long the connection may take, after which nothing came through.
const OPEN_WITHIN: Duration = Duration::from_secs(20);

const MINUTE: Duration = Duration::from_secs(60);
