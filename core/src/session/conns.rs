//! Connections: who may come, who may read, who may write.

use super::link::Link;
use super::utp::{Carrier, Transport};
use super::{Due, Intake, NetError, Reason, Session, WriteBatch};
use crate::address::is_local;
use crate::id::{ConnId, TorrentId};
use crate::ip_filter::IpFilter;
use crate::machine::{Deadline, Timestamp};
use crate::mse::MAX_INITIATION;
use crate::store::payload::Payload;
use crate::wire::{Decoder, HANDSHAKE_LEN};
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::BytesMut;
use core::net::SocketAddr;
use core::time::Duration;

/// One connection, as far as it concerns the session.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) remote: SocketAddr,
    owner: Owner,
    /// Whether it is being opened.
    pub(super) half_open: bool,
    /// Bytes that it may still read.
    pub(super) credit: u32,
    starving: bool,
    pub(super) link: Link,
    pub(super) carrier: Carrier,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// It was accepted, and its handshake has not named a torrent yet.
    Greeting {
        until: Timestamp,
    },
    Torrent(TorrentId),
}

impl Conn {
    pub(super) fn dialled(torrent: TorrentId, remote: SocketAddr, link: Link) -> Self {
        let (owner, carrier) = (Owner::Torrent(torrent), Carrier::default());
        Self { remote, owner, half_open: true, credit: 0, starving: false, link, carrier }
    }

    /// Whose connection this was and where to, if it came about but could not be obfuscated.
    pub(super) fn failed_to_obfuscate(&self) -> Option<(TorrentId, SocketAddr)> {
        let failed = !self.half_open && self.link.is_dialling();
        self.torrent().filter(|_| failed).map(|torrent| (torrent, self.remote))
    }

    pub(super) fn torrent(&self) -> Option<TorrentId> {
        match self.owner {
            Owner::Greeting { .. } => None,
            Owner::Torrent(torrent) => Some(torrent),
        }
    }
}

impl Session {
    /// A remote has connected by TCP. Answers with the connection's name, or nothing: then the driver closes it at once.
    pub fn handle_incoming(&mut self, now: Timestamp, remote: SocketAddr) -> Option<ConnId> {
        self.set_now(now);
        if !self.config.transports.tcp {
            return None;
        }
        self.take_in(now, remote, Carrier::tcp())
    }

    /// Notes a connection that a remote opened, unless there are too many.
    pub(super) fn take_in(&mut self, now: Timestamp, remote: SocketAddr, carrier: Carrier) -> Option<ConnId> {
        let same_ip = self.conns.values().filter(|conn| conn.remote.ip() == remote.ip());
        let crowded = self.conns.len() >= self.config.max_connections
            || !is_local(remote.ip()) && same_ip.count() >= MAX_PER_ADDRESS;
        if crowded || self.filter.blocks(remote.ip()) || self.stop_by.is_some() || self.stopped {
            return None;
        }
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        let until = now + GREETING_TIMEOUT;
        let owner = Owner::Greeting { until };
        self.due.insert((until, Due::Greeting(conn)));
        let (credit, link) = (GREETING_CREDIT, Link::ACCEPTED);
        self.streams.extend(carrier.stream.map(|stream| (stream, conn)));
        let half_open = false;
        self.conns.insert(conn, Conn { remote, owner, half_open, credit, starving: false, link, carrier });
        self.give_credit(now, conn);
        Some(conn)
    }

    /// Takes the control bytes that were read from a connection; what is used up is removed from the front.
    ///
    /// What is left over stays with the driver, which appends what it reads next.
    pub fn handle_bytes(&mut self, now: Timestamp, conn: ConnId, input: &mut BytesMut) -> Intake {
        self.set_now(now);
        let before = input.len();
        let open = self.agree(now, conn, input);
        let torrent = if open { self.torrent_of(now, conn, input) } else { None };
        let Some(torrent) = torrent else {
            self.use_up(now, conn, before - input.len());
            return if self.conns.contains_key(&conn) { Intake::NeedMore } else { Intake::Closed };
        };
        let intake = self
            .with_torrent(now, torrent, |torrent, out| torrent.handle_bytes(now, conn, input, out))
            .unwrap_or(Intake::Closed);
        self.use_up(now, conn, before - input.len());
        if self.conns.contains_key(&conn) { intake } else { Intake::Closed }
    }

    /// Takes the block that [`handle_bytes`](Self::handle_bytes) announced, in full.
    pub fn handle_payload(&mut self, now: Timestamp, conn: ConnId, payload: Payload) {
        self.set_now(now);
        let len = payload.len() as usize;
        let Some(torrent) = self.conns.get(&conn).and_then(Conn::torrent) else { return };
        self.with_torrent(now, torrent, |torrent, out| torrent.handle_payload(now, conn, payload, out));
        self.use_up(now, conn, len);
    }

    /// Appends what is to be written to a connection now; blocks as far as `budget` bytes go, messages always.
    ///
    /// A pull is an input: what it brings counts as said. After [`Action::WantWrite`](super::Action::WantWrite) the driver
    /// pulls whenever the connection can take more, until a pull brings nothing.
    pub fn poll_stream(&mut self, now: Timestamp, conn: ConnId, budget: usize, batch: &mut WriteBatch) {
        self.set_now(now);
        self.initiate(now, conn);
        let Some(entry) = self.conns.get_mut(&conn) else { return };
        let words = entry.link.write(batch);
        self.up.owe(words as u64);
        let Some(torrent) = entry.torrent().filter(|_| entry.link.is_open()) else { return };
        let Some(slot) = self.torrents.get_mut(&torrent) else { return };
        let (_, own_limit) = slot.torrent.limits();
        let granted = self.up.take(now, budget as u64);
        let allowed = own_limit.take(now, granted);
        batch.seal();
        let (before, from) = (batch.len(), batch.segments.len());
        self.with_torrent(now, torrent, |torrent, out| {
            torrent.poll_stream(now, conn, allowed as usize, batch, out);
        });
        if let Some(entry) = self.conns.get_mut(&conn) {
            entry.link.encipher(batch, from);
        }
        let written = (batch.len() - before) as u64;
        let Some(slot) = self.torrents.get_mut(&torrent) else { return };
        // Messages go out in any case; what they take comes off the blocks.
        let own_limit = slot.torrent.limits().1;
        own_limit.put_back(allowed.saturating_sub(written));
        own_limit.owe(written.saturating_sub(allowed));
        self.up.put_back(granted.saturating_sub(written));
        self.up.owe(written.saturating_sub(granted));
        if written == 0 && slot.torrent.next_upload_len(conn).is_some_and(|len| len <= budget) {
            self.throttled.insert(conn);
        }
    }

    /// Appends the lengths of the blocks that will probably arrive next on a connection, after the one that is
    /// arriving, if the peer answers in order. A driver may read accordingly; a wrong guess costs no more than a copy.
    pub fn read_plan(&self, conn: ConnId, plan: &mut Vec<u32>) {
        let torrent = self.conns.get(&conn).and_then(Conn::torrent).and_then(|id| self.torrents.get(&id));
        if let Some(peer) = torrent.and_then(|slot| slot.torrent.member(conn)) {
            peer.read_plan(plan);
        }
    }

    pub(super) fn on_connected(&mut self, now: Timestamp, conn: ConnId, by: Transport) {
        let Some(entry) = self.conns.get_mut(&conn).filter(|entry| entry.half_open) else { return };
        entry.half_open = false;
        self.half_open -= 1;
        let Some(torrent) = entry.torrent() else { return };
        self.with_torrent(now, torrent, |torrent, out| {
            torrent.handle_connected(now, conn, by == Transport::Utp, out);
        });
        self.grant(now, conn);
        self.dial_crowded(now);
    }

    pub(super) fn on_lost(&mut self, now: Timestamp, conn: ConnId, error: Option<NetError>) {
        let Some(entry) = self.forget(conn) else { return };
        self.forget_carrier(conn, &entry.carrier);
        let Some(torrent) = entry.torrent() else { return };
        self.with_torrent(now, torrent, |torrent, out| torrent.handle_lost(now, conn, error, out));
        if error != Some(NetError::Moved) {
            self.fall_back(now, &entry);
        }
        self.dial_crowded(now);
    }

    /// Blocks these addresses in place of those before, for whoever is here as well.
    pub(super) fn set_ip_filter(&mut self, now: Timestamp, filter: Arc<IpFilter>) {
        self.filter = Arc::clone(&filter);
        let strangers = self.conns.iter().filter(|(_, conn)| conn.torrent().is_none());
        let blocked = strangers.filter(|(_, conn)| filter.blocks(conn.remote.ip())).map(|(conn, _)| *conn);
        blocked.collect::<Vec<_>>().into_iter().for_each(|conn| self.turn_away(conn, Reason::Filtered));
        for id in self.torrents.keys().copied().collect::<Vec<_>>() {
            self.with_torrent(now, id, |torrent, out| torrent.set_ip_filter(now, &filter, out));
        }
        self.tell_dht(now, crate::dht::Event::SetIpFilter(filter));
        self.dial_crowded(now);
    }

    pub(super) fn on_greeting_timeout(&mut self, conn: ConnId) {
        if self.conns.get(&conn).is_some_and(|entry| entry.torrent().is_none()) {
            self.turn_away(conn, Reason::HandshakeTimeout);
        }
    }

    /// Ends a connection; returns what was noted of it.
    pub(super) fn end(&mut self, conn: ConnId, reason: Reason) -> Option<Conn> {
        let entry = self.forget(conn)?;
        self.end_carrier(conn, &entry.carrier, reason);
        Some(entry)
    }

    /// Drops a connection from the books; returns the entry.
    fn forget(&mut self, conn: ConnId) -> Option<Conn> {
        let entry = self.conns.remove(&conn)?;
        self.half_open -= usize::from(entry.half_open);
        self.responding -= usize::from(entry.link.is_responding());
        self.throttled.remove(&conn);
        if entry.starving {
            self.starving.retain(|other| *other != conn);
        }
        if let Owner::Greeting { until } = entry.owner {
            self.due.remove(&(until, Due::Greeting(conn)));
        }
        Some(entry)
    }

    /// Lets torrents dial that had no place.
    pub(super) fn dial_crowded(&mut self, now: Timestamp) {
        // Their turn to stop is near.
        if self.stop_by.is_some() {
            return;
        }
        while self.conns.len() < self.config.max_connections && self.half_open < self.config.max_half_open {
            let Some(id) = self.crowded.pop_first() else { return };
            self.dial(now, id);
            self.file_due(id);
        }
    }

    /// The torrent of a connection; that of an accepted one shows in its handshake.
    fn torrent_of(&mut self, now: Timestamp, conn: ConnId, input: &mut BytesMut) -> Option<TorrentId> {
        let entry = self.conns.get(&conn)?;
        let (remote, until) = match entry.owner {
            Owner::Torrent(torrent) => return Some(torrent),
            Owner::Greeting { until } => (entry.remote, until),
        };
        let agreed = entry.link.agreed().map(|(torrent, _)| torrent);
        let by_utp = entry.carrier.stream.is_some();
        let Some(info_hash) = Decoder::peek_info_hash(input) else {
            // A decoder sees at the first byte whether this can become a handshake.
            let start = &input[..input.len().min(HANDSHAKE_LEN - 1)];
            if let Err(offence) = Decoder::new().decode(&mut BytesMut::from(start)) {
                self.turn_away(conn, offence.into());
            }
            return None;
        };
        let about = agreed.is_none_or(|torrent| torrent == info_hash).then_some(info_hash);
        let Some(&torrent) = about.and_then(|hash| self.by_hash.get(&hash)) else {
            self.turn_away(conn, Reason::UnknownTorrent);
            return None;
        };
        // Where both ends called each other, the ids decide.
        let theirs = Decoder::peek_peer_id(input);
        if theirs.is_none() && self.torrents.get(&torrent)?.torrent.dialling(remote).is_some() {
            return None;
        }
        let accepted = self.with_torrent(now, torrent, |torrent, out| {
            torrent.accept(now, conn, (remote, theirs), by_utp, out)
        })?;
        if let Err(reason) = accepted {
            // The end that dialled is still there, and would dial again.
            let is_ours = input
                .get(HANDSHAKE_LEN - 20..HANDSHAKE_LEN)
                .is_some_and(|peer_id| peer_id == self.common.peer_id.0);
            if is_ours && let Some(slot) = self.torrents.get_mut(&torrent) {
                slot.torrent.learn_own(remote.ip());
            }
            self.turn_away(conn, if is_ours { Reason::Ourselves } else { reason });
            return None;
        }
        self.due.remove(&(until, Due::Greeting(conn)));
        self.conns.get_mut(&conn)?.owner = Owner::Torrent(torrent);
        if agreed.is_some() {
            self.note_obfuscated(now, torrent, conn);
        }
        self.grant(now, conn);
        Some(torrent)
    }

    pub(super) fn turn_away(&mut self, conn: ConnId, reason: Reason) {
        self.end(conn, reason);
    }

    /// Counts bytes that a driver read. Those of a stream counted when they came.
    fn use_up(&mut self, now: Timestamp, conn: ConnId, bytes: usize) {
        if self.conns.get(&conn).is_some_and(|entry| entry.carrier.stream.is_none()) {
            self.spend(now, conn, bytes);
        }
    }

    /// Counts bytes that were read, and lets the connection read on in time.
    pub(super) fn spend(&mut self, now: Timestamp, conn: ConnId, bytes: usize) {
        let Some(entry) = self.conns.get_mut(&conn) else { return };
        entry.credit = entry.credit.saturating_sub(u32::try_from(bytes).unwrap_or(u32::MAX));
        if !entry.starving {
            self.grant(now, conn);
        }
    }

    /// Lets a connection read as much as memory and limits allow; puts it in the queue if that is nothing.
    fn grant(&mut self, now: Timestamp, conn: ConnId) {
        let Some(entry) = self.conns.get_mut(&conn) else { return };
        let Owner::Torrent(torrent) = entry.owner else { return };
        let Some(slot) = self.torrents.get_mut(&torrent) else { return };
        let full = slot.torrent.read_window();
        if entry.credit > full / 2 {
            return;
        }
        let wanted = u64::from(full - entry.credit);
        let granted = if slot.torrent.takes_data() {
            let granted = self.down.take(now, wanted);
            let both = slot.torrent.limits().0.take(now, granted);
            self.down.put_back(granted - both);
            both
        } else {
            0
        };
        if granted > 0 {
            entry.credit += u32::try_from(granted).expect("no more than was wanted");
        }
        if granted < wanted && !entry.starving {
            entry.starving = true;
            self.starving.push_back(conn);
        }
        if granted > 0 {
            self.give_credit(now, conn);
        }
    }

    /// Lets those read that had to wait.
    pub(super) fn feed(&mut self, now: Timestamp) {
        for _ in 0..self.starving.len() {
            let Some(conn) = self.starving.pop_front() else { return };
            if let Some(entry) = self.conns.get_mut(&conn) {
                entry.starving = false;
                self.grant(now, conn);
            }
        }
    }

    /// Lets those write that had to wait.
    pub(super) fn unthrottle(&mut self, now: Timestamp) {
        let ready = core::mem::take(&mut self.throttled);
        ready.into_iter().for_each(|conn| self.want_write(conn));
        self.drain_utp(now);
    }

    /// When a limit next lets somebody read or write who waits for it.
    pub(super) fn limits_due(&self) -> Option<Deadline> {
        let torrent = |conn: &ConnId| {
            self.conns.get(conn).and_then(Conn::torrent).and_then(|id| self.torrents.get(&id))
        };
        let mut next = None;
        // Those that wait for memory are let on when a block is written.
        let readers = self.starving.iter().filter_map(torrent).filter(|slot| slot.torrent.takes_data());
        for slot in readers {
            next = Deadline::earlier(next, slot.torrent.down_due());
            next = Deadline::earlier(next, self.down.poll_timeout());
        }
        for slot in self.throttled.iter().filter_map(torrent) {
            next = Deadline::earlier(next, slot.torrent.up_due());
            next = Deadline::earlier(next, self.up.poll_timeout());
        }
        next
    }
}

/// How long an accepted connection may take to name a torrent, however slowly its bytes drip in (limit L8).
const GREETING_TIMEOUT: Duration = Duration::from_secs(10);

/// What an accepted connection may send before it has named a torrent.
const GREETING_CREDIT: u32 = MAX_INITIATION as u32 + 1024;

/// Connections of one public address: several people may live behind it.
const MAX_PER_ADDRESS: usize = 4;
