//! When a peer is dialled again.

use super::{KnownPeers, Source, State, UtpHint};
use crate::address::{canonical, is_dialable, is_local, stands_for_name};
use crate::machine::{Deadline, Timestamp};
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parting {
    /// Our own network is down, which says nothing about the peer.
    Down,
    /// Nothing came of it.
    Failed,
    /// It was of use, and broke off.
    Lost,
    /// It ended before anything showed about the peer.
    Undecided,
    /// There was nothing to trade, as between two seeds.
    Useless,
}

impl KnownPeers {
    /// Lets every peer that once worked, or that the user added, be dialled again soon: the network came back.
    pub fn retry_soon(&mut self, now: Timestamp) {
        let waiting: Vec<SocketAddr> = self.waiting.iter().map(|(_, addr)| *addr).collect();
        for addr in waiting {
            let known = self.peers.get_mut(&addr).expect("who waits is known");
            if known.proven || known.sources.has(Source::Manual) {
                known.failures = 0;
                let until = now + Duration::from_micros(self.rng.below(RETRY_SPREAD.as_micros() as u64));
                self.set_state(addr, State::Waiting(until));
            }
        }
    }

    /// Notes that `addr`, whether known or not, is dialled at once, as a relay says that it waits for that (BEP 55); `false` if
    /// it may not be. As after [`next_to_dial`](Self::next_to_dial), this must end in
    /// [`handle_disconnected`](Self::handle_disconnected). If nobody answers, all is as it was before: a relay could keep
    /// us from others with what it says.
    pub fn dial_now(&mut self, now: Timestamp, addr: SocketAddr) -> bool {
        let addr = canonical(addr);
        let shunned = self.filter.blocks(addr.ip())
            || self.peers.get(&addr).is_some_and(|it| self.is_shunned(addr, it));
        let nobody = !is_dialable(addr) || stands_for_name(addr.ip()) || self.own.contains(&addr);
        let busy =
            self.links.contains_key(&addr) || self.is_linked(addr) || !self.has_room_for_link(addr.ip());
        if shunned || nobody || busy || self.bans.is_banned(addr) {
            return false;
        }
        self.link(addr, addr);
        if let Some(known) = self.peers.get_mut(&addr) {
            known.tried_at = Some(now);
            known.turn = Some(if let State::Waiting(until) = known.state { until } else { now });
            let teller = known.teller;
            self.set_state(addr, State::Dialling);
            if let Some(teller) = teller {
                self.tellers.entry(teller).or_default().dialling += 1;
            }
        }
        true
    }

    /// Notes that somebody answers at `addr`, which is being dialled: what comes of it is the peer's own doing.
    pub fn note_answered(&mut self, addr: SocketAddr) {
        if let Some(known) = self.peers.get_mut(&canonical(addr)) {
            known.turn = None;
        }
    }

    /// Makes those ready whose time has come.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        while let Some(&(at, addr)) = self.waiting.first()
            && at <= now
        {
            self.make_ready(addr);
        }
    }

    /// When the next address becomes ready.
    pub fn poll_timeout(&self) -> Option<Deadline> {
        self.waiting.first().map(|(at, _)| Deadline { at: *at, why: "dial again" })
    }

    /// What is left of a peer after its connection or dial.
    pub(super) fn part(&mut self, now: Timestamp, addr: SocketAddr, parting: Parting) {
        let Some(known) = self.peers.get_mut(&addr) else { return };
        if let Some(turn) = known.turn.take() {
            self.rest(addr, turn);
            if turn <= now {
                self.make_ready(addr);
            }
            return;
        }
        let wait = match parting {
            Parting::Down => DOWN_WAIT,
            Parting::Failed => {
                known.failures = known.failures.saturating_add(1);
                known.plain = false;
                known.utp = UtpHint::Unknown;
                if known.proven && known.failures > PROVEN_FAILURES {
                    known.proven = false;
                    known.failures = 1;
                }
                let nth = usize::from(known.failures - 1);
                let named = known.sources.has(Source::Manual) || is_local(addr.ip());
                let waits = match known.proven {
                    _ if named => NAMED_WAITS,
                    true => PROVEN_WAITS,
                    false => STRANGER_WAITS,
                };
                waits[nth.min(waits.len() - 1)]
            }
            Parting::Lost => {
                known.failures = 0;
                // Also if it was the other end that dialled.
                known.proven = true;
                if known.sources.has(Source::Manual) || is_local(addr.ip()) {
                    NAMED_WAITS[0]
                } else {
                    PROVEN_WAITS[0]
                }
            }
            Parting::Undecided => PROVEN_WAITS[0],
            Parting::Useless => {
                known.failures = 0;
                USELESS_WAIT
            }
        };
        // Later than the table says by up to a quarter, so that peers that broke off together don't return together.
        let jitter = self.rng.below(wait.as_micros() as u64 / 4);
        let until = now + wait + Duration::from_micros(jitter);
        self.rest(addr, until);
    }
}

/// How long we wait to dial an address again to which no connection ever worked, by failures in a row. At most three
/// dials fall into any hour, each of them twice where an obfuscated connection fails first.
pub(super) const STRANGER_WAITS: [Duration; 5] = [
    Duration::from_secs(60),
    Duration::from_secs(15 * 60),
    Duration::from_secs(60 * 60),
    Duration::from_secs(2 * 60 * 60),
    Duration::from_secs(4 * 60 * 60),
];

/// The same for one to which a connection worked.
pub(super) const PROVEN_WAITS: [Duration; 5] = [
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(20),
    Duration::from_secs(40),
    Duration::from_secs(60),
];

/// The same for one that the user named, or that is near: nobody else can aim us at it.
const NAMED_WAITS: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
];

/// After how many failures in a row it counts as a stranger again.
const PROVEN_FAILURES: u8 = 10;

/// How long we wait while our own network is down. When it is back nobody waits for long.
const DOWN_WAIT: Duration = Duration::from_secs(30);

/// How long we wait to dial a peer again that had nothing to trade.
pub(super) const USELESS_WAIT: Duration = Duration::from_secs(30 * 60);

/// Over how long the dials are spread when the network came back.
const RETRY_SPREAD: Duration = Duration::from_secs(5);
