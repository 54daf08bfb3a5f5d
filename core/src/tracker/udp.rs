//! The client of the UDP tracker protocol (BEP 15, 41): one machine for all torrents and all trackers.

use super::Announce;
use super::answer::{self, Answer, MAX_PEERS, MAX_TEXT_LEN, TrackerError};
use super::packet;
use super::scrape::{MAX_SCRAPE, ScrapeCounts};
use crate::address::names;
use crate::id::InfoHash;
use crate::machine::{Deadline, Machine, Outbox, Timestamp};
use crate::rng::Rng;
use crate::text;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;

/// One question to a tracker, named by who asks. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AskId(pub u64);

/// What to ask a tracker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// An announce.
    Announce {
        /// What to announce.
        announce: Announce,
        /// What follows host and port in the tracker's URL (BEP 41).
        path_and_query: String,
    },
    /// The counts of these torrents, the first [`MAX_SCRAPE`] of them.
    Scrape(Vec<InfoHash>),
}

/// What a tracker answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UdpReply {
    /// To an announce. The peers are of the family over which it was asked.
    Announced(Answer),
    /// To a scrape: counts in the order of the question, perhaps fewer.
    Scraped(Vec<ScrapeCounts>),
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UdpEvent {
    /// Ask a tracker, at all these addresses of it.
    Ask {
        /// The question's name.
        id: AskId,
        /// Usually one address of each family; with none the question is done at once.
        to: Vec<SocketAddr>,
        /// What to ask.
        question: Question,
        /// After this long it is given up.
        patience: Duration,
    },
    /// An answer is no longer wanted; nothing more is said about this question.
    Cancel {
        /// Which.
        id: AskId,
    },
    /// A datagram came, from a tracker or not.
    Datagram {
        /// Its sender.
        from: SocketAddr,
        /// Its bytes.
        data: Bytes,
    },
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UdpAction {
    /// An address answered a question. The other may follow.
    Answered {
        /// Which question.
        id: AskId,
        /// Who answered.
        from: SocketAddr,
        /// What.
        reply: UdpReply,
    },
    /// Nothing more will be said about a question.
    Done {
        /// Which.
        id: AskId,
        /// Why no address answered, if none did.
        error: Option<TrackerError>,
    },
    /// Send a datagram.
    Send {
        /// Where to.
        to: SocketAddr,
        /// Its bytes.
        data: Vec<u8>,
    },
}

impl fmt::Display for UdpAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered { id, from, reply: UdpReply::Announced(answer) } => {
                write!(f, "ask {} announced from={from} peers={}", id.0, answer.peers.len())
            }
            Self::Answered { id, from, reply: UdpReply::Scraped(counts) } => {
                write!(f, "ask {} scraped from={from} torrents={}", id.0, counts.len())
            }
            Self::Done { id, error: None } => write!(f, "ask {} done", id.0),
            Self::Done { id, error: Some(error) } => write!(f, "ask {} failed: {error}", id.0),
            Self::Send { to, data } => write!(f, "send to={to} len={}", data.len()),
        }
    }
}

/// Exchanges with UDP trackers.
///
/// Before a tracker answers anything it wants to see that the asker's address is no forgery: a *connect* brings a
/// connection id that is good for a minute. All questions to one address share it.
///
/// ```text
///                 ┌────────── connect ──────────┐   id came    ┌───────────── ask ───────────┐
///  question ──no─▶│ sent again after 15·2ⁿ s    │─────────────▶│ sent again after 15·2ⁿ s    │──▶ answered
///           id    └─────────────────────────────┘   n := 0     └─────────────────────────────┘
///                                ▲                                  │ the id went stale: n stays
///                                └──────────────────────────────────┘ the tracker forgot it: once
/// ```
#[derive(Debug)]
pub struct UdpTrackers {
    rng: Rng,
    asks: BTreeMap<AskId, Ask>,
    endpoints: BTreeMap<SocketAddr, Endpoint>,
}

/// A question at all the addresses that still owe an answer.
#[derive(Debug)]
struct Ask {
    question: Question,
    give_up_at: Timestamp,
    legs: Vec<Leg>,
    answered: bool,
    error: Option<TrackerError>,
}

/// A question at one address.
#[derive(Debug)]
struct Leg {
    to: SocketAddr,
    transaction: u32,
    /// BEP 15's n.
    attempt: u32,
    /// When to ask again; nothing while a connection is on its way.
    resend_at: Option<Timestamp>,
    reconnected: bool,
}

/// What is known of one address. It is kept while it has a connection or owes an answer.
#[derive(Debug, Default)]
struct Endpoint {
    connection: Option<Connection>,
    connecting: Option<Connecting>,
}

#[derive(Clone, Copy, Debug)]
struct Connection {
    id: u64,
    until: Timestamp,
}

#[derive(Debug)]
struct Connecting {
    transaction: u32,
    attempt: u32,
    resend_at: Timestamp,
}

impl UdpTrackers {
    /// Nothing asked. Transactions are drawn from `rng`, so that nobody who does not see our packets can answer.
    pub fn new(rng: Rng) -> Self {
        Self { rng, asks: BTreeMap::new(), endpoints: BTreeMap::new() }
    }

    /// Whether a datagram from this address may be a tracker's. Others share the socket.
    pub fn knows(&self, from: SocketAddr) -> bool {
        self.endpoints.contains_key(&canonical(from))
    }

    fn on_ask(
        &mut self,
        now: Timestamp,
        id: AskId,
        to: &[SocketAddr],
        ask: Ask,
        out: &mut Outbox<UdpAction>,
    ) {
        self.asks.insert(id, ask);
        for to in to.iter().copied().map(canonical) {
            let leg =
                Leg { to, transaction: self.rng.next_u32(), attempt: 0, resend_at: None, reconnected: false };
            let ask = self.asks.get_mut(&id).expect("just inserted");
            if ask.legs.iter().all(|other| other.to != to) {
                ask.legs.push(leg);
                self.advance_leg(now, id, to, out);
            }
        }
        self.end_if_done(id, out);
    }

    /// Sends the question, or the connect that it takes first.
    fn advance_leg(&mut self, now: Timestamp, id: AskId, to: SocketAddr, out: &mut Outbox<UdpAction>) {
        let Some(ask) = self.asks.get_mut(&id) else { return };
        let Some(leg) = ask.legs.iter_mut().find(|leg| leg.to == to) else { return };
        let endpoint = self.endpoints.entry(to).or_default();
        if let Some(connection) = endpoint.connection.filter(|connection| now < connection.until) {
            leg.resend_at = Some(now + resend_after(leg.attempt));
            let data = match &ask.question {
                Question::Announce { announce, path_and_query } => {
                    packet::announce(connection.id, leg.transaction, announce, path_and_query)
                }
                Question::Scrape(torrents) => {
                    let torrents = &torrents[..torrents.len().min(MAX_SCRAPE)];
                    packet::scrape(connection.id, leg.transaction, torrents)
                }
            };
            out.push_back(UdpAction::Send { to, data });
            return;
        }
        leg.resend_at = None;
        endpoint.connection = None;
        if endpoint.connecting.is_none() {
            let transaction = self.rng.next_u32();
            let resend_at = now + resend_after(leg.attempt);
            endpoint.connecting = Some(Connecting { transaction, attempt: leg.attempt, resend_at });
            out.push_back(UdpAction::Send { to, data: packet::connect(transaction) });
        }
    }

    fn on_datagram(&mut self, now: Timestamp, from: SocketAddr, data: &[u8], out: &mut Outbox<UdpAction>) {
        let Some((action, transaction, body)) = packet::parse_reply(data) else { return };
        // It comes from where the name leads.
        let (family, from) = (from, self.named(from, transaction).unwrap_or(from));
        let Some(endpoint) = self.endpoints.get_mut(&from) else { return };
        if endpoint.connecting.as_ref().is_some_and(|connecting| connecting.transaction == transaction) {
            match action {
                packet::CONNECT => {
                    let Some(id) = body.first_chunk() else { return };
                    let connection = Connection { id: u64::from_be_bytes(*id), until: now + CONNECTION_LIFE };
                    *endpoint = Endpoint { connection: Some(connection), connecting: None };
                    self.ask_waiting(now, from, out);
                }
                packet::ERROR => {
                    endpoint.connecting = None;
                    self.fail_waiting(from, &refusal(body), out);
                }
                _ => {}
            }
            return;
        }
        let owed = self.asks.iter_mut().find_map(|(id, ask)| {
            let leg = ask.legs.iter().position(|leg| leg.to == from && leg.transaction == transaction)?;
            Some((*id, leg, ask))
        });
        let Some((id, leg, ask)) = owed else { return };
        let outcome = match (action, &ask.question) {
            (packet::ANNOUNCE, Question::Announce { .. }) => announced(body, family).map(UdpReply::Announced),
            (packet::SCRAPE, Question::Scrape(torrents)) => {
                Ok(UdpReply::Scraped(scraped(body, torrents.len())))
            }
            (packet::ERROR, _) if is_forgotten_connection(body) && !ask.legs[leg].reconnected => {
                let leg = &mut ask.legs[leg];
                // An echo of the refusal must not count as a second one.
                (leg.transaction, leg.reconnected, leg.attempt) = (self.rng.next_u32(), true, 0);
                endpoint.connection = None;
                return self.advance_leg(now, id, from, out);
            }
            (packet::ERROR, _) => Err(refusal(body)),
            _ => return,
        };
        ask.legs.remove(leg);
        match outcome {
            Ok(reply) => {
                ask.answered = true;
                out.push_back(UdpAction::Answered { id, from, reply });
            }
            Err(error) => ask.note(error),
        }
        self.end_if_done(id, out);
    }

    /// What stands for the name of `from`, as far as the transaction tells; none if `from` was asked itself.
    fn named(&self, from: SocketAddr, transaction: u32) -> Option<SocketAddr> {
        if self.endpoints.contains_key(&from) {
            return None;
        }
        let owes = |to: &SocketAddr, endpoint: &Endpoint| {
            endpoint.connecting.as_ref().is_some_and(|connecting| connecting.transaction == transaction)
                || self
                    .asks
                    .values()
                    .flat_map(|ask| &ask.legs)
                    .any(|leg| leg.to == *to && leg.transaction == transaction && leg.resend_at.is_some())
        };
        self.endpoints.range(names()).find(|(to, endpoint)| owes(to, endpoint)).map(|(to, _)| *to)
    }

    /// A connection came: everything that waited for it is asked, with BEP 15's n back at 0.
    fn ask_waiting(&mut self, now: Timestamp, to: SocketAddr, out: &mut Outbox<UdpAction>) {
        for id in self.waiting(to) {
            if let Some(leg) =
                self.asks.get_mut(&id).and_then(|ask| ask.legs.iter_mut().find(|leg| leg.to == to))
            {
                leg.attempt = 0;
            }
            self.advance_leg(now, id, to, out);
        }
    }

    fn fail_waiting(&mut self, to: SocketAddr, error: &TrackerError, out: &mut Outbox<UdpAction>) {
        for id in self.waiting(to) {
            if let Some(ask) = self.asks.get_mut(&id) {
                ask.legs.retain(|leg| leg.to != to);
                ask.note(error.clone());
            }
            self.end_if_done(id, out);
        }
    }

    /// The questions that wait for a connection to `to`.
    fn waiting(&self, to: SocketAddr) -> Vec<AskId> {
        let waits = |ask: &Ask| ask.legs.iter().any(|leg| leg.to == to && leg.resend_at.is_none());
        self.asks.iter().filter(|(_, ask)| waits(ask)).map(|(id, _)| *id).collect()
    }

    fn end_if_done(&mut self, id: AskId, out: &mut Outbox<UdpAction>) {
        if self.asks.get(&id).is_some_and(|ask| ask.legs.is_empty()) {
            let ask = self.asks.remove(&id).expect("just found");
            let error = ask.error.filter(|_| !ask.answered);
            out.push_back(UdpAction::Done { id, error });
        }
    }

    fn resend_connects(&mut self, now: Timestamp, out: &mut Outbox<UdpAction>) {
        let mut dead = Vec::new();
        for (to, endpoint) in &mut self.endpoints {
            let Some(connecting) = endpoint.connecting.as_mut().filter(|it| it.resend_at <= now) else {
                continue;
            };
            if connecting.attempt == MAX_ATTEMPT {
                endpoint.connecting = None;
                dead.push(*to);
                continue;
            }
            connecting.attempt += 1;
            connecting.resend_at = now + resend_after(connecting.attempt);
            out.push_back(UdpAction::Send { to: *to, data: packet::connect(connecting.transaction) });
        }
        for to in dead {
            self.fail_waiting(to, &TrackerError::TimedOut, out);
        }
    }

    fn resend_asks(&mut self, now: Timestamp, out: &mut Outbox<UdpAction>) {
        let is_due = |leg: &Leg| leg.resend_at.is_some_and(|at| at <= now);
        let due = self
            .asks
            .iter()
            .flat_map(|(id, ask)| ask.legs.iter().filter(|leg| is_due(leg)).map(|leg| (*id, leg.to)));
        for (id, to) in due.collect::<Vec<_>>() {
            let Some(ask) = self.asks.get_mut(&id) else { continue };
            let Some(at) = ask.legs.iter().position(|leg| leg.to == to) else { continue };
            if ask.legs[at].attempt == MAX_ATTEMPT {
                ask.legs.remove(at);
                ask.note(TrackerError::TimedOut);
                self.end_if_done(id, out);
            } else {
                ask.legs[at].attempt += 1;
                self.advance_leg(now, id, to, out);
            }
        }
    }

    /// Lets go of connects that nobody waits for, of connection ids that went stale, and of addresses that owe nothing
    /// else.
    fn tidy(&mut self, now: Timestamp) {
        // Whether any question to an address waits for a connection.
        let mut owed: BTreeMap<SocketAddr, bool> = BTreeMap::new();
        for leg in self.asks.values().flat_map(|ask| &ask.legs) {
            *owed.entry(leg.to).or_default() |= leg.resend_at.is_none();
        }
        self.endpoints.retain(|to, endpoint| {
            endpoint.connection = endpoint.connection.filter(|connection| now < connection.until);
            let waited = owed.get(to).copied();
            if waited != Some(true) {
                endpoint.connecting = None;
            }
            endpoint.connection.is_some() || waited.is_some()
        });
    }
}

impl Machine for UdpTrackers {
    type Event = UdpEvent;
    type Action = UdpAction;

    fn handle_event(&mut self, now: Timestamp, event: UdpEvent, out: &mut Outbox<UdpAction>) {
        match event {
            UdpEvent::Ask { id, to, question, patience } => {
                let error =
                    to.is_empty().then(|| TrackerError::Unreachable(String::from("it has no address")));
                let give_up_at = now + patience;
                let ask = Ask { question, give_up_at, legs: Vec::new(), answered: false, error };
                self.on_ask(now, id, &to, ask, out);
            }
            UdpEvent::Cancel { id } => {
                self.asks.remove(&id);
            }
            UdpEvent::Datagram { from, data } => self.on_datagram(now, canonical(from), &data, out),
        }
        self.tidy(now);
    }

    fn handle_timeout(&mut self, now: Timestamp, out: &mut Outbox<UdpAction>) {
        let given_up: Vec<_> =
            self.asks.iter().filter(|(_, ask)| ask.give_up_at <= now).map(|(id, _)| *id).collect();
        for id in given_up {
            if let Some(ask) = self.asks.get_mut(&id) {
                ask.legs.clear();
                ask.note(TrackerError::TimedOut);
            }
            self.end_if_done(id, out);
        }
        self.tidy(now);
        self.resend_connects(now, out);
        self.resend_asks(now, out);
        self.tidy(now);
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let asks = self.asks.values().flat_map(|ask| {
            let resends = ask
                .legs
                .iter()
                .filter_map(|leg| Some(Deadline { at: leg.resend_at?, why: "ask tracker again" }));
            resends.chain([Deadline { at: ask.give_up_at, why: "give up on tracker" }])
        });
        let endpoints = self.endpoints.values().flat_map(|endpoint| {
            let stale =
                endpoint.connection.map(|connection| Deadline { at: connection.until, why: "connection id" });
            let connect = endpoint.connecting.as_ref();
            stale
                .into_iter()
                .chain(connect.map(|it| Deadline { at: it.resend_at, why: "connect to tracker again" }))
        });
        asks.chain(endpoints).min_by_key(|deadline| deadline.at)
    }
}

impl Ask {
    /// What a tracker says tells more than that it says nothing.
    fn note(&mut self, error: TrackerError) {
        if self.error.is_none() || self.error == Some(TrackerError::TimedOut) {
            self.error = Some(error);
        }
    }
}

/// One address, whichever way it is written.
fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

fn announced(body: &[u8], from: SocketAddr) -> Result<Answer, TrackerError> {
    // Some trackers answer so for a torrent that they do not serve.
    let Some(([interval, leechers, seeders], peers)) = packet::numbers(body) else {
        return Err(TrackerError::Refused { reason: String::from("an empty answer"), retry_in: None });
    };
    // BEP 15: the family of the packet decides, nothing in it does.
    let peers = match from {
        SocketAddr::V4(_) => answer::compact_v4(peers).take(MAX_PEERS).collect(),
        SocketAddr::V6(_) => answer::compact_v6(peers).take(MAX_PEERS).collect(),
    };
    Ok(Answer {
        interval: answer::interval(Some(i64::from(interval as i32))),
        leechers: Some(leechers),
        seeders: Some(seeders),
        peers,
        ..Answer::default()
    })
}

fn scraped(body: &[u8], asked: usize) -> Vec<ScrapeCounts> {
    let (counts, _) = body.as_chunks::<12>();
    let counts = counts.iter().take(asked.min(MAX_SCRAPE)).filter_map(|bytes| packet::numbers(bytes));
    let counts = counts.map(|([seeders, completed, leechers], _)| ScrapeCounts {
        seeders,
        completed,
        leechers,
        downloaders: None,
    });
    counts.collect()
}

fn refusal(body: &[u8]) -> TrackerError {
    let said = body.split(|byte| *byte == 0).next().unwrap_or_default();
    let reason =
        if said.is_empty() { String::from("no reason given") } else { text::clean(said, MAX_TEXT_LEN) };
    TrackerError::Refused { reason, retry_in: None }
}

/// Nothing but its words tells this error from others. They differ: `Connection ID missmatch.`, `bad connection id`.
fn is_forgotten_connection(body: &[u8]) -> bool {
    body.windows(CONNECTION_ID.len()).any(|words| words.eq_ignore_ascii_case(CONNECTION_ID))
}

/// BEP 15: 15·2ⁿ seconds.
fn resend_after(attempt: u32) -> Duration {
    Duration::from_secs(15 << attempt.min(MAX_ATTEMPT))
}

const MAX_ATTEMPT: u32 = 8;

/// BEP 15: a client may use a connection id for a minute.
const CONNECTION_LIFE: Duration = Duration::from_secs(60);

const CONNECTION_ID: &[u8] = b"connection id";

#[cfg(test)]
mod tests;
