//! What a port mapper makes of what it hears.

use super::packet::{Answer, Body, Granted, Protocol};
use super::{
    Action, Ask, Epoch, FIRST_PORT, LEASE_S, LIFETIME_MIN, MAX_CONFLICTS, Mapping, Method, NAT_PMP_WAIT,
    PCP_WAIT, PortMapper, RECOVERY_GAP, RECOVERY_SPREAD, REST_MAX, Stage, UpnpError, Why,
};
use crate::machine::{Outbox, Timestamp};
use core::net::{Ipv4Addr, SocketAddr};
use core::time::Duration;

impl PortMapper {
    pub(super) fn on_datagram(
        &mut self,
        now: Timestamp,
        from: SocketAddr,
        data: &[u8],
        out: &mut Outbox<Action>,
    ) {
        if !self.is_from_router(from) {
            return;
        }
        let (Stage::Asking(method) | Stage::Stopping(method)) = self.stage else { return };
        let Some(Answer { epoch_s, body }) = Answer::parse(data) else { return };
        let speaks = match body {
            Body::WrongVersion => return self.on_wrong_version(now, method, out),
            Body::Pcp { .. } | Body::PcpAnnounce => Method::Pcp,
            Body::Address(_) | Body::NatPmp { .. } => Method::NatPmp,
        };
        if speaks != method {
            // A router that speaks both calls out in one of them.
            if matches!(body, Body::PcpAnnounce | Body::Address(Ok(_))) {
                self.recover(now);
            }
            return;
        }
        self.check_epoch(now, method, epoch_s);
        match body {
            Body::Address(result) => self.on_address(now, result, out),
            Body::NatPmp { protocol, result } => {
                if let Some(at) = self.at(protocol).filter(|at| self.is_asked(*at)) {
                    let result = result.map_err(Why::NatPmp);
                    self.on_result(now, at, Method::NatPmp, result, out);
                }
            }
            Body::Pcp { nonce, protocol, external_ip, result } => {
                if let Some(at) = self.at(protocol).filter(|at| self.leases[*at].nonce == nonce) {
                    if result.is_ok() {
                        self.external_ip = external_ip.filter(|ip| !ip.is_unspecified());
                    }
                    self.on_result(now, at, Method::Pcp, result.map_err(Why::Pcp), out);
                }
            }
            Body::PcpAnnounce | Body::WrongVersion => {}
        }
    }

    fn at(&self, protocol: Protocol) -> Option<usize> {
        self.leases.iter().position(|lease| lease.protocol == protocol)
    }

    fn is_asked(&self, at: usize) -> bool {
        let asked = self.flight.map(|flight| flight.ask);
        asked == Some(Ask::Map(at)) || asked == Some(Ask::Unmap(at))
    }

    fn on_wrong_version(&mut self, now: Timestamp, method: Method, out: &mut Outbox<Action>) {
        // Once a method has worked, this can only be somebody else's word or a router in trouble.
        if !matches!(self.stage, Stage::Asking(_)) || self.flight.is_none() || self.holds_any() {
            return;
        }
        match method {
            Method::Pcp => self.fail(now, method, Why::WrongVersion, out),
            Method::NatPmp => {
                // RFC 6887, appendix A: the router speaks PCP only, and our question in that was lost.
                self.tried.retain(|(method, why)| (*method, why) != (Method::Pcp, &Why::NoAnswer));
                self.fail(now, method, Why::WrongVersion, out);
            }
            Method::Upnp => {}
        }
    }

    fn on_address(&mut self, now: Timestamp, result: Result<Ipv4Addr, u16>, out: &mut Outbox<Action>) {
        let Stage::Asking(method) = self.stage else { return };
        let asked = self.flight.is_some_and(|flight| flight.ask == Ask::Address);
        match result {
            Ok(ip) => {
                if asked {
                    self.flight = None;
                }
                let is_news = self.external_ip.replace(ip) != Some(ip);
                if is_news {
                    // A router that has another address may have other mappings too.
                    self.renew_all(now);
                }
            }
            Err(code) if asked => self.fail(now, method, Why::NatPmp(code), out),
            Err(_) => {}
        }
    }

    /// What became of a mapping that was asked for, or is to be taken back.
    fn on_result(
        &mut self,
        now: Timestamp,
        at: usize,
        method: Method,
        result: Result<Granted, Why>,
        out: &mut Outbox<Action>,
    ) {
        let Some(place) = self.place else { return };
        let asked = self.is_asked(at);
        if let Ok(granted) = &result
            && granted.internal != place.port
        {
            return;
        }
        if let Stage::Stopping(_) = self.stage {
            if asked {
                (self.flight, self.leases[at].held_until) = (None, None);
            }
            return;
        }
        if asked {
            self.flight = None;
        }
        match result {
            Ok(Granted { external, lifetime_s, .. }) if external != 0 && lifetime_s != 0 => {
                self.on_mapped(now, at, method, external, Duration::from_secs(lifetime_s.into()), out);
            }
            Ok(_) => self.on_refused(now, at, method, Why::TakenBack, out),
            Err(why) if asked => self.on_refused(now, at, method, why, out),
            Err(_) => {}
        }
    }

    fn on_mapped(
        &mut self,
        now: Timestamp,
        at: usize,
        method: Method,
        external: u16,
        lifetime: Duration,
        out: &mut Outbox<Action>,
    ) {
        self.vain = 0;
        // Whatever the router grants, it is not asked without a break, and seen to be alive now and then.
        let lifetime = lifetime.clamp(LIFETIME_MIN, Duration::from_secs(LEASE_S.into()));
        // RFC 6887, 11.2.1: between a half and five eighths.
        let renew_in = lifetime / 2 + self.jitter(lifetime / 8);
        let lease = &mut self.leases[at];
        (lease.external, lease.due) = (external, now + renew_in);
        (lease.held_until, lease.conflicts, lease.refused) = (Some(now + lifetime), 0, false);
        let (protocol, external_ip) = (lease.protocol, self.external_ip);
        // Others are told of one port for both.
        self.leases.iter_mut().filter(|lease| lease.held_until.is_none()).for_each(|lease| {
            lease.external = external;
        });
        out.push_back(Action::Mapped(Mapping { protocol, method, external_ip, external, lifetime }));
    }

    pub(super) fn on_refused(
        &mut self,
        now: Timestamp,
        at: usize,
        method: Method,
        why: Why,
        out: &mut Outbox<Action>,
    ) {
        if self.leases[at].held_until.is_some() {
            self.lose_all(why, out);
            self.start_round(now, out);
        } else if self.holds_any() {
            let lease = &mut self.leases[at];
            (lease.due, lease.refused) = (now + REST_MAX, true);
            out.push_back(Action::Refused { protocol: lease.protocol, why });
        } else {
            self.fail(now, method, why, out);
        }
    }

    pub(super) fn on_upnp(
        &mut self,
        now: Timestamp,
        job: u64,
        result: Result<Option<Ipv4Addr>, UpnpError>,
        out: &mut Outbox<Action>,
    ) {
        let Some(flight) = self.flight.filter(|flight| flight.job == Some(job)) else { return };
        self.flight = None;
        let stopping = matches!(self.stage, Stage::Stopping(_));
        match (flight.ask, result) {
            (Ask::Map(at), Ok(_)) if stopping => {
                self.leases[at].held_until.get_or_insert(now);
            }
            (Ask::Map(at), Ok(ip)) => {
                self.external_ip = ip;
                let lifetime = Duration::from_secs(LEASE_S.into());
                self.on_mapped(now, at, Method::Upnp, self.leases[at].external, lifetime, out);
            }
            (Ask::Map(_), Err(_)) if stopping => {}
            (Ask::Map(at), Err(error)) => self.on_upnp_refused(now, at, error, out),
            (Ask::Unmap(at), _) => self.leases[at].held_until = None,
            (Ask::Address, _) => {}
        }
    }

    fn on_upnp_refused(&mut self, now: Timestamp, at: usize, error: UpnpError, out: &mut Outbox<Action>) {
        let lease = &mut self.leases[at];
        let held = lease.held_until.is_some();
        match error {
            UpnpError::Conflict if !held && lease.conflicts < MAX_CONFLICTS => {
                lease.conflicts += 1;
                lease.external = FIRST_PORT + self.rng.below(u64::from(u16::MAX - FIRST_PORT)) as u16;
            }
            UpnpError::OnlyPermanent if !lease.permanent => lease.permanent = true,
            error => self.on_refused(now, at, Method::Upnp, Why::Upnp(error), out),
        }
    }

    /// Looks whether the router has forgotten what it granted since it last said something.
    fn check_epoch(&mut self, now: Timestamp, method: Method, server_s: u32) {
        let Some(last) = self.epoch.replace(Epoch { server_s, at: now }) else { return };
        let (server, before) = (u64::from(server_s), u64::from(last.server_s));
        let passed = now.since(last.at).as_secs();
        let valid = match method {
            // RFC 6887, 8.5.
            Method::Pcp => {
                let there = server.saturating_sub(before);
                server + 1 >= before && passed + 2 >= there - there / 16 && there + 2 >= passed - passed / 16
            }
            // RFC 6886, 3.6.
            _ => server + 2 >= before + passed * 7 / 8,
        };
        if !valid {
            self.recover(now);
        }
    }

    /// The router has forgotten what it granted, or may have.
    fn recover(&mut self, now: Timestamp) {
        if self.recovered_at.is_some_and(|at| now.since(at) < RECOVERY_GAP) {
            return;
        }
        self.recovered_at = Some(now);
        // All hosts of the network see this at the same time.
        let after = self.jitter(RECOVERY_SPREAD);
        self.renew_all(now + after);
    }

    /// Has all mappings asked for again at `at`, however rarely a silent router was asked before.
    pub(super) fn renew_all(&mut self, at: Timestamp) {
        self.leases.iter_mut().filter(|lease| lease.held_until.is_some()).for_each(|lease| lease.due = at);
        if let Some(flight) = self.flight.as_mut().filter(|flight| flight.job.is_none()) {
            (flight.sent, flight.wait, flight.due) =
                (0, NAT_PMP_WAIT.max(flight.wait.min(PCP_WAIT)), Some(at));
        }
    }
}
