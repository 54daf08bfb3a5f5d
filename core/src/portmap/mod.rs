//! Having the router let peers in: NAT-PMP (RFC 6886), PCP (RFC 6887), or UPnP, which a driver speaks.
//!
//! One machine asks for one port, as TCP and as UDP, by the first method that works. Only what comes from the router's
//! own address and port counts; there is one question at a time, and what is kept does not grow.

mod answers;
mod event;
mod packet;
#[cfg(test)]
mod tests;
mod words;

pub use event::{Action, Event, Mapping, Router};
pub use packet::{Answer, Body, Granted, MAX_LEN, Nonce, Protocol, Request, Wish};
pub use words::{Method, Mode, UpnpError, UpnpRequest, Why};

use crate::machine::{Deadline, Machine, Outbox, Timestamp};
use crate::rng::Rng;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use core::time::Duration;

/// Asks one router for one port.
///
/// ```text
///                       ┌──── renewed at half of its time ───┐
///        Start          ▼  no answer, refused      Stop      │
///  off ────────▶ asking by a method ──▶ the next ─────┐   mapped ─┬─▶ stopping ──▶ off
///   ▲               ▲            │ answered           │      ▲    │
///   │               │            └────────────────────┼──────┘    │ lost
///   │               └── resting ◀── none is left ─────┘           │
///   │                                                             ▼
///   │                                                   asking by the first method
/// ```
///
/// With PCP the epoch in each answer tells whether the router has forgotten what it granted (RFC 6887, 8.5), with
/// NAT-PMP likewise (RFC 6886, 3.6); both call it out when they start. Then everything is asked for again.
#[derive(Debug)]
pub struct PortMapper {
    mode: Mode,
    rng: Rng,
    place: Option<Place>,
    stage: Stage,
    /// One for each protocol.
    leases: Vec<Lease>,
    flight: Option<Flight>,
    external_ip: Option<Ipv4Addr>,
    epoch: Option<Epoch>,
    /// When what the router forgot was last asked for again.
    recovered_at: Option<Timestamp>,
    tried: Vec<(Method, Why)>,
    /// Rounds in a row in which nothing worked.
    vain: u32,
    next_job: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    router: Router,
    port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Off,
    Asking(Method),
    Resting { until: Timestamp },
    Stopping(Method),
}

#[derive(Debug)]
struct Lease {
    protocol: Protocol,
    nonce: Nonce,
    /// The port outside that it has, or last had, or should have.
    external: u16,
    /// When to ask for it.
    due: Timestamp,
    /// Until when it is held, if it is.
    held_until: Option<Timestamp>,
    /// Ports that somebody else had, in a row.
    conflicts: u32,
    /// The router grants it for ever or not at all.
    permanent: bool,
    /// The router granted the other one, and not this.
    refused: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Address,
    Map(usize),
    Unmap(usize),
}

/// A question that is not answered yet.
#[derive(Clone, Copy, Debug)]
struct Flight {
    ask: Ask,
    /// How often it was sent.
    sent: u32,
    wait: Duration,
    /// When to send it again; a job of UPnP is always answered.
    due: Option<Timestamp>,
    job: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Epoch {
    server_s: u32,
    at: Timestamp,
}

impl PortMapper {
    /// Asks nobody yet, and later for the port of these protocols.
    pub fn new(mode: Mode, protocols: &[Protocol], rng: Rng) -> Self {
        Self {
            mode,
            rng,
            place: None,
            stage: Stage::Off,
            leases: protocols.iter().copied().map(Lease::new).collect(),
            flight: None,
            external_ip: None,
            epoch: None,
            recovered_at: None,
            tried: Vec::new(),
            vain: 0,
            next_job: 0,
        }
    }

    /// The port outside at which others reach us, if the router maps one. Becomes so by [`Action::Mapped`].
    pub fn external_port(&self, protocol: Protocol) -> Option<u16> {
        let lease = self.leases.iter().find(|lease| lease.protocol == protocol);
        lease.filter(|lease| lease.held_until.is_some()).map(|lease| lease.external)
    }

    /// Whether the router is being asked for a port that it has not given yet. Becomes otherwise by [`Action::Mapped`],
    /// [`Action::Failed`] and [`Action::Refused`].
    pub fn is_undecided(&self, protocol: Protocol) -> bool {
        let is_open =
            |lease: &Lease| lease.protocol == protocol && lease.held_until.is_none() && !lease.refused;
        matches!(self.stage, Stage::Asking(_)) && self.leases.iter().any(is_open)
    }

    /// Whether what is sent from `from` is for this machine.
    pub fn is_from_router(&self, from: SocketAddr) -> bool {
        self.gateway() == Some(from)
    }

    /// Whether nothing is mapped and nobody is asked. Becomes so with [`Action::Stopped`].
    pub fn is_off(&self) -> bool {
        self.stage == Stage::Off
    }

    fn gateway(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.place?.router.gateway?.into(), ROUTER_PORT))
    }

    fn on_start(&mut self, now: Timestamp, place: Place, out: &mut Outbox<Action>) {
        if matches!(self.stage, Stage::Stopping(_)) {
            return;
        }
        if self.place == Some(place) && matches!(self.stage, Stage::Asking(_)) {
            // It may be another router at the same address, or the same that slept as we did.
            return self.renew_all(now);
        }
        self.lose_all(Why::Moved, out);
        for lease in &mut self.leases {
            // Nobody has to see that it was us at the other place.
            self.rng.fill(&mut lease.nonce);
            (lease.external, lease.conflicts, lease.permanent) = (place.port, 0, false);
        }
        self.place = Some(place);
        self.vain = 0;
        self.start_round(now, out);
    }

    /// There is no router here: those that were asked before are elsewhere.
    fn on_away(&mut self, out: &mut Outbox<Action>) {
        if !matches!(self.stage, Stage::Stopping(_)) {
            self.lose_all(Why::Moved, out);
            (self.stage, self.place, self.flight) = (Stage::Off, None, None);
        }
    }

    fn on_stop(&mut self, out: &mut Outbox<Action>) {
        let Stage::Asking(method) = self.stage else {
            if !matches!(self.stage, Stage::Stopping(_)) {
                self.end(out);
            }
            return;
        };
        self.stage = Stage::Stopping(method);
        // What was just asked for may be granted without our hearing of it.
        if let Some(Flight { ask: Ask::Map(at), job: None, .. }) = self.flight {
            self.leases[at].held_until.get_or_insert(Timestamp::ZERO);
        }
        // A job of UPnP is waited for: there is no telling what it will have done.
        if self.flight.is_some_and(|flight| flight.job.is_none()) {
            self.flight = None;
        }
    }

    fn end(&mut self, out: &mut Outbox<Action>) {
        (self.stage, self.place, self.flight) = (Stage::Off, None, None);
        self.leases.iter_mut().for_each(|lease| lease.held_until = None);
        out.push_back(Action::Stopped);
    }

    /// Tries all methods from the first on.
    fn start_round(&mut self, now: Timestamp, out: &mut Outbox<Action>) {
        self.tried.clear();
        self.try_next(now, out);
    }

    fn try_next(&mut self, now: Timestamp, out: &mut Outbox<Action>) {
        (self.flight, self.external_ip, self.epoch) = (None, None, None);
        let untried = |method: &&Method| self.tried.iter().all(|(tried, _)| tried != *method);
        let Some(&method) = self.mode.methods().iter().find(untried) else {
            let exponent = self.vain.min(REST_DOUBLINGS);
            let rest = REST * (1 << exponent);
            let retry_in = rest + self.jitter(rest / 8);
            self.vain = self.vain.saturating_add(1);
            self.stage = Stage::Resting { until: now + retry_in };
            let tried = core::mem::take(&mut self.tried);
            return out.push_back(Action::Failed { tried, retry_in });
        };
        self.stage = Stage::Asking(method);
        self.leases.iter_mut().for_each(|lease| (lease.due, lease.refused) = (now, false));
    }

    fn fail(&mut self, now: Timestamp, method: Method, why: Why, out: &mut Outbox<Action>) {
        self.tried.push((method, why));
        self.try_next(now, out);
    }

    fn lose_all(&mut self, why: Why, out: &mut Outbox<Action>) {
        for lease in &mut self.leases {
            if lease.held_until.take().is_some() {
                out.push_back(Action::Lost { protocol: lease.protocol, why: why.clone() });
            }
        }
    }

    fn holds_any(&self) -> bool {
        self.leases.iter().any(|lease| lease.held_until.is_some())
    }

    /// Asks what is to be asked, one thing after the other.
    fn proceed(&mut self, now: Timestamp, out: &mut Outbox<Action>) {
        while self.flight.is_none() {
            match self.stage {
                Stage::Off | Stage::Resting { .. } => return,
                Stage::Asking(method) => {
                    let Some(ask) = self.next_ask(now, method) else { return };
                    self.ask(now, method, ask, out);
                }
                Stage::Stopping(method) => {
                    let held = self.leases.iter().position(|lease| lease.held_until.is_some());
                    match held {
                        Some(at) => self.ask(now, method, Ask::Unmap(at), out),
                        None => return self.end(out),
                    }
                }
            }
        }
    }

    fn next_ask(&self, now: Timestamp, method: Method) -> Option<Ask> {
        if method == Method::NatPmp && self.external_ip.is_none() {
            return Some(Ask::Address);
        }
        self.leases.iter().position(|lease| lease.due <= now).map(Ask::Map)
    }

    fn ask(&mut self, now: Timestamp, method: Method, ask: Ask, out: &mut Outbox<Action>) {
        if method == Method::Upnp {
            let job = self.next_job;
            self.next_job += 1;
            self.flight = Some(Flight { ask, sent: 1, wait: Duration::ZERO, due: None, job: Some(job) });
            if let Some(request) = self.upnp_request(ask) {
                out.push_back(Action::Upnp { job, request });
            }
            return;
        }
        if self.gateway().is_none() {
            return self.fail(now, method, Why::NoRouter, out);
        }
        let wait = match (method, ask) {
            (Method::Pcp, Ask::Map(_)) => PCP_WAIT - PCP_WAIT / 10 + self.jitter(PCP_WAIT / 5),
            _ => NAT_PMP_WAIT,
        };
        self.flight = Some(Flight { ask, sent: 0, wait, due: Some(now), job: None });
        self.send(now, method, out);
    }

    /// Sends the question that is not answered, and waits twice as long each time (RFC 6886, 3.1; RFC 6887, 8.1.1).
    fn send(&mut self, now: Timestamp, method: Method, out: &mut Outbox<Action>) {
        let (Some(to), Some(mut flight)) = (self.gateway(), self.flight) else { return };
        let Some(request) = self.request(method, flight.ask) else { return };
        if flight.sent > 0 {
            let (doubled, most) =
                (2 * flight.wait, if method == Method::Pcp { PCP_MAX } else { NAT_PMP_MAX });
            flight.wait = doubled.min(most);
            if method == Method::Pcp {
                flight.wait = flight.wait - flight.wait / 10 + self.jitter(flight.wait / 5);
            }
        }
        flight.sent += 1;
        flight.due = Some(now + flight.wait);
        self.flight = Some(flight);
        out.push_back(Action::Send { to, data: request.encode() });
    }

    fn request(&self, method: Method, ask: Ask) -> Option<Request> {
        let place = self.place?;
        let (at, external_lifetime) = match ask {
            Ask::Address => return Some(Request::Address),
            Ask::Map(at) => (at, LEASE_S),
            Ask::Unmap(at) => (at, 0),
        };
        let lease = &self.leases[at];
        // Both documents want no port with what is taken back.
        let external = if external_lifetime == 0 { 0 } else { lease.external };
        let wish =
            Wish { protocol: lease.protocol, internal: place.port, external, lifetime_s: external_lifetime };
        Some(match method {
            Method::Pcp => Request::Pcp {
                client: place.router.local,
                nonce: lease.nonce,
                external_ip: self.external_ip.filter(|_| external != 0).unwrap_or(Ipv4Addr::UNSPECIFIED),
                wish,
            },
            Method::NatPmp | Method::Upnp => Request::NatPmp(wish),
        })
    }

    fn upnp_request(&self, ask: Ask) -> Option<UpnpRequest> {
        let place = self.place?;
        let (Ask::Map(at) | Ask::Unmap(at)) = ask else { return None };
        let lease = &self.leases[at];
        let (protocol, external) = (lease.protocol, lease.external);
        let local = place.router.local;
        Some(match ask {
            Ask::Unmap(_) => UpnpRequest::Unmap { local, protocol, external },
            _ => UpnpRequest::Map {
                local: SocketAddrV4::new(local, place.port),
                protocol,
                external,
                lifetime_s: if lease.permanent { 0 } else { LEASE_S },
            },
        })
    }

    /// The question was not answered in time.
    fn on_silence(&mut self, now: Timestamp, flight: Flight, out: &mut Outbox<Action>) {
        let (Stage::Asking(method) | Stage::Stopping(method)) = self.stage else { return };
        let tries = match (method, flight.ask) {
            (_, Ask::Unmap(at)) if flight.sent >= UNMAP_TRIES => {
                self.leases[at].held_until = None;
                self.flight = None;
                return;
            }
            // Until it has to go: then everything starts anew.
            (_, Ask::Unmap(_)) => u32::MAX,
            (_, Ask::Map(at)) if self.leases[at].held_until.is_some() => u32::MAX,
            (Method::Pcp, _) => PCP_TRIES,
            _ => NAT_PMP_TRIES,
        };
        match flight.ask {
            _ if flight.sent < tries => self.send(now, method, out),
            // The router lives; it has nothing to say to this one.
            Ask::Map(at) if self.holds_any() => {
                self.flight = None;
                self.on_refused(now, at, method, Why::NoAnswer, out);
            }
            _ => self.fail(now, method, Why::NoAnswer, out),
        }
    }

    fn jitter(&mut self, most: Duration) -> Duration {
        Duration::from_micros(self.rng.below(most.as_micros() as u64))
    }

    fn do_what_is_due(&mut self, now: Timestamp, out: &mut Outbox<Action>) {
        if let Stage::Resting { until } = self.stage
            && until <= now
        {
            self.start_round(now, out);
        }
        if matches!(self.stage, Stage::Asking(_))
            && self.leases.iter().any(|lease| lease.held_until.is_some_and(|until| until <= now))
        {
            self.lose_all(Why::NoAnswer, out);
            self.start_round(now, out);
        }
        if let Some(flight) = self.flight
            && flight.due.is_some_and(|due| due <= now)
        {
            self.on_silence(now, flight, out);
        }
        self.proceed(now, out);
    }
}

impl Machine for PortMapper {
    type Event = Event;
    type Action = Action;

    fn handle_event(&mut self, now: Timestamp, event: Event, out: &mut Outbox<Action>) {
        match event {
            Event::Away => self.on_away(out),
            Event::Datagram { from, data } => self.on_datagram(now, from, &data, out),
            Event::Start { router, port } => self.on_start(now, Place { router, port }, out),
            Event::Stop => self.on_stop(out),
            Event::UpnpDone { job, result } => self.on_upnp(now, job, result, out),
        }
        self.do_what_is_due(now, out);
    }

    fn handle_timeout(&mut self, now: Timestamp, out: &mut Outbox<Action>) {
        self.do_what_is_due(now, out);
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let waits = self.flight.and_then(|flight| flight.due);
        let mut next = waits.map(|at| Deadline { at, why: "the router's answer" });
        match self.stage {
            Stage::Resting { until } => {
                next = Deadline::earlier(next, Some(Deadline { at: until, why: "ask the router again" }));
            }
            Stage::Asking(_) => {
                for lease in &self.leases {
                    let renew = self.flight.is_none().then_some(lease.due);
                    let renew = renew.map(|at| Deadline { at, why: "renew a port mapping" });
                    let ends = lease.held_until.map(|at| Deadline { at, why: "end of a port mapping" });
                    next = Deadline::earlier(Deadline::earlier(next, renew), ends);
                }
            }
            Stage::Off | Stage::Stopping(_) => {}
        }
        next
    }
}

impl Lease {
    const fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            nonce: [0; 12],
            external: 0,
            due: Timestamp::ZERO,
            held_until: None,
            conflicts: 0,
            permanent: false,
            refused: false,
        }
    }
}

/// The address of the group in which routers call out that they have started, and its port (RFC 6886, 3.2.1).
pub const CALLS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(224, 0, 0, 1)), 5350);

/// Where a router takes questions.
const ROUTER_PORT: u16 = 5351;

/// For how long mappings are asked for. Routers tell that they forgot them with the next renewal at the latest, and
/// what a client leaves behind that dies does not stay for long: so less than the two hours of RFC 6886.
pub const LEASE_S: u32 = 20 * 60;

/// The least that a grant is taken to last.
const LIFETIME_MIN: Duration = Duration::from_secs(10);

/// RFC 6886, 3.1.
const NAT_PMP_WAIT: Duration = Duration::from_millis(250);
const NAT_PMP_MAX: Duration = Duration::from_secs(64);

/// RFC 6887, 8.1.1: IRT and MRT.
const PCP_WAIT: Duration = Duration::from_secs(3);
const PCP_MAX: Duration = Duration::from_secs(1024);

/// Questions in PCP before NAT-PMP is tried: who speaks only PCP says so then, and it goes back.
const PCP_TRIES: u32 = 1;

/// Questions in NAT-PMP before UPnP is tried: 3.75 s rather than the two minutes of RFC 6886, since many routers speak
/// nothing but UPnP.
const NAT_PMP_TRIES: u32 = 4;

/// How often a router is told that a mapping is not needed, if it does not answer.
const UNMAP_TRIES: u32 = 3;

/// The first wait after nothing worked; each is twice as long as the one before, up to an hour.
const REST: Duration = Duration::from_secs(60);
const REST_DOUBLINGS: u32 = 6;
const REST_MAX: Duration = Duration::from_secs(3600);

/// Ports of others that are met before UPnP is given up.
const MAX_CONFLICTS: u32 = 4;

/// Random ports are drawn from here on.
const FIRST_PORT: u16 = 10_000;

/// What a router forgot is asked for again so often at most, whatever is said in its name.
const RECOVERY_GAP: Duration = Duration::from_secs(10);

/// RFC 6887, 8.5: within five seconds.
const RECOVERY_SPREAD: Duration = Duration::from_secs(5);
