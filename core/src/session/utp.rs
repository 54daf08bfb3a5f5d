//! What carries connections: TCP, which the driver does, or a stream of uTP.
//!
//! A connection that we open is tried by both, one a little after the other, and goes on with the first that comes about.
//! The driver knows a connection only as long as TCP carries it or is tried.

use super::cutter::{Cut, Cutter};
use super::{Action, Config, Due, Intake, NetError, Reason, Segment, Session, WriteBatch};
use crate::address::stands_for_name;
use crate::id::{ConnId, TorrentId};
use crate::lengths::BLOCK_LEN;
use crate::machine::{Machine as _, Timestamp};
use crate::store::payload::Payload;
use crate::torrent::known_peers::UtpHint;
use crate::utp::{self, End, StreamId};
use crate::wire::{HANDSHAKE_LEN, PIECE_HEAD_LEN};
use bytes::Bytes;
use core::net::SocketAddr;
use core::time::Duration;

/// What carries one connection, or is tried.
#[derive(Debug, Default)]
pub(super) struct Carrier {
    /// Whether the driver has it or opens it.
    pub(super) tcp: bool,
    pub(super) stream: Option<StreamId>,
    /// What is tried next, and when.
    next: Option<(Timestamp, Transport)>,
    cutter: Cutter,
    /// When bytes that were left for later are looked at.
    cut_due: Option<Timestamp>,
    /// Whether our handshake was written to the stream.
    greeted: bool,
}

/// How a connection is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ways {
    /// By whatever there is; this is known of uTP.
    Any(UtpHint),
    /// By uTP, while the other end does the same.
    Punch,
}

/// What can carry a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// uTP (BEP 29).
    Utp,
}

impl core::fmt::Display for Transport {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Utp => "uTP",
        })
    }
}

/// How uTP is where every connection may be a stream, and as many are on their way out or in.
pub(super) fn for_session(config: &Config) -> utp::Config {
    let max_streams = config.utp.max_streams.max(config.max_connections.saturating_mul(2));
    utp::Config { max_streams, ..config.utp }
}

impl Carrier {
    /// That of a connection that somebody opened by TCP.
    pub(super) fn tcp() -> Self {
        Self { tcp: true, ..Self::default() }
    }
}

impl Session {
    /// What carries a connection; nothing if there is none, or it is being opened.
    pub fn transport(&self, conn: ConnId) -> Option<Transport> {
        let entry = self.conns.get(&conn).filter(|entry| !entry.half_open)?;
        Some(if entry.carrier.stream.is_some() { Transport::Utp } else { Transport::Tcp })
    }

    /// How the streams of uTP are, those that are closed and not forgotten among them; nothing without uTP.
    pub fn utp(&self) -> Option<&utp::Utp> {
        self.utp.as_ref()
    }

    /// Begins to open a connection that was noted.
    pub(super) fn open_carrier(&mut self, now: Timestamp, conn: ConnId, ways: Ways) {
        // A proxy's answer bears the true address, and nobody here knows that it is the name's.
        let by_utp = self.utp.is_some()
            && self.conns.get(&conn).is_some_and(|entry| !stands_for_name(entry.remote.ip()));
        let (first, second) = match (self.config.transports.tcp, by_utp, ways) {
            (false, ..) | (.., Ways::Punch) => (Transport::Utp, None),
            (true, false, _) => (Transport::Tcp, None),
            (true, true, Ways::Any(hint)) => match hint {
                UtpHint::Worked => (Transport::Utp, Some((now + HEAD_START, Transport::Tcp))),
                UtpHint::Told => (Transport::Tcp, Some((now + TOLD_HEAD_START, Transport::Utp))),
                UtpHint::Unknown => (Transport::Tcp, Some((now + HEAD_START, Transport::Utp))),
            },
        };
        if let Some(entry) = self.conns.get_mut(&conn) {
            entry.carrier.next = second;
            self.due.extend(second.map(|(at, _)| (at, Due::Carrier(conn))));
            self.try_carrier(now, conn, first);
        }
    }

    /// Opens a connection for a torrent by uTP at once, as its other end does (BEP 55), if there may be one more.
    pub(super) fn punch(&mut self, now: Timestamp, id: TorrentId, remote: SocketAddr) {
        let Some(slot) = self.torrents.get_mut(&id) else { return };
        if let Some(conn) = slot.torrent.dialling(remote) {
            // By uTP too, so that its packets and theirs meet.
            return slot.torrent.note_punched(conn);
        }
        let has_place = self.utp.is_some()
            && self.conns.len() < self.config.max_connections
            && self.half_open < self.config.max_half_open.saturating_add(PUNCH_RESERVE);
        if has_place && slot.torrent.begin_punch(now, remote) {
            self.open(now, id, remote, Ways::Punch);
        } else {
            self.with_torrent(now, id, |torrent, out| torrent.handle_not_punched(now, remote, out));
        }
    }

    /// What a connection has to do now: another try, or bytes that were left for later.
    pub(super) fn on_carrier_due(&mut self, now: Timestamp, conn: ConnId) {
        self.try_next(now, conn);
        self.cut(now, conn, Bytes::new());
        self.drain_utp(now);
    }

    /// TCP carries a connection that we opened.
    pub(super) fn on_tcp_open(&mut self, now: Timestamp, conn: ConnId) {
        let Some(entry) = self.conns.get_mut(&conn).filter(|entry| entry.half_open && entry.carrier.tcp)
        else {
            return;
        };
        let stream = entry.carrier.stream.take();
        self.stop_trying(conn);
        if let Some(stream) = stream {
            self.close_stream(now, stream, false);
        }
        self.on_connected(now, conn, Transport::Tcp);
    }

    /// TCP does not come about.
    pub(super) fn on_tcp_failed(&mut self, now: Timestamp, conn: ConnId, error: NetError) {
        let Some(entry) = self.conns.get_mut(&conn).filter(|entry| entry.carrier.tcp) else { return };
        entry.carrier.tcp = false;
        if error == NetError::Proxy {
            // By way of a proxy that can't be used uTP comes about no more, and what the proxy did not do is not held
            // against the peer.
            if let Some(stream) = entry.carrier.stream.take() {
                self.close_stream(now, stream, true);
            }
            return self.on_lost(now, conn, Some(error));
        }
        self.on_try_failed(now, conn, error);
    }

    pub(super) fn on_utp_datagram(&mut self, now: Timestamp, from: SocketAddr, data: Bytes) {
        if self.filter.blocks(from.ip()) {
            return;
        }
        if let Some(utp) = &mut self.utp {
            utp.handle_datagram(now, from, data, &mut self.pending.utp);
            self.drain_utp(now);
        }
    }

    pub(super) fn on_utp_timeout(&mut self, now: Timestamp) {
        if let Some(utp) = &mut self.utp {
            utp.handle_timeout(now, &mut self.pending.utp);
            self.drain_utp(now);
        }
    }

    /// Ends what carried a connection that is no more.
    pub(super) fn end_carrier(&mut self, conn: ConnId, carrier: &Carrier, reason: Reason) {
        self.forget_carrier(conn, carrier);
        if carrier.tcp {
            self.actions.push_back(Action::Disconnect { conn, reason });
        }
        if let Some(stream) = carrier.stream {
            tracing::debug!(%conn, %stream, %reason, "disconnect");
            let at_once = matches!(reason, Reason::Banned | Reason::Offence(_));
            self.close_stream(self.now, stream, at_once);
        }
    }

    pub(super) fn forget_carrier(&mut self, conn: ConnId, carrier: &Carrier) {
        let dues = [carrier.next.map(|(at, _)| at), carrier.cut_due];
        for at in dues.into_iter().flatten() {
            self.due.remove(&(at, Due::Carrier(conn)));
        }
        if let Some(stream) = &carrier.stream {
            self.streams.remove(stream);
        }
    }

    /// Lets a connection read so much.
    pub(super) fn give_credit(&mut self, now: Timestamp, conn: ConnId) {
        let Some(entry) = self.conns.get(&conn) else { return };
        let bytes = entry.credit;
        match (entry.carrier.stream, &mut self.utp) {
            (Some(stream), Some(utp)) => {
                utp.set_credit(stream, bytes, &mut self.pending.utp);
                self.drain_utp(now);
            }
            _ => self.actions.push_back(Action::ReadCredit { conn, bytes }),
        }
    }

    /// A connection has something to say.
    pub(super) fn want_write(&mut self, conn: ConnId) {
        match self.conns.get(&conn).and_then(|entry| entry.carrier.stream) {
            Some(_) => self.pending.pulls.push_back(conn),
            None => self.actions.push_back(Action::WantWrite { conn }),
        }
    }

    /// Does what follows from what the streams said, and from what they were told.
    pub(super) fn drain_utp(&mut self, now: Timestamp) {
        if core::mem::replace(&mut self.pending.draining_utp, true) {
            return;
        }
        loop {
            if let Some(action) = self.pending.utp.pop_front() {
                self.on_utp_action(now, action);
            } else if !self.pending.settling && !self.pending.pulls.is_empty() {
                self.settle_all(now);
            } else {
                break;
            }
        }
        self.pending.draining_utp = false;
    }

    /// Moves what a connection has to say into its stream, as far as there is room.
    pub(super) fn pull(&mut self, now: Timestamp, conn: ConnId) {
        let Some(stream) = self.conns.get(&conn).and_then(|entry| entry.carrier.stream) else { return };
        let Some(room) = self.utp.as_mut().map(|utp| utp.room(stream)).filter(|room| *room > 0) else {
            return;
        };
        let mut batch = WriteBatch::default();
        // A block is written whole or not at all, and one that is longer than the window must not wait for ever.
        self.poll_stream(now, conn, room.max(BLOCK_LEN as usize + PIECE_HEAD_LEN), &mut batch);
        let Some(utp) = self.utp.as_mut().filter(|_| !batch.is_empty()) else { return };
        batch.seal();
        let data = batch.segments.drain(..).map(|segment| match segment {
            Segment::Inline(bytes) | Segment::Payload(Payload::Content(bytes)) => bytes,
            // Only a simulated peer has no content, and its torrent is all zeros.
            Segment::Payload(Payload::Length(len)) => alloc::vec![0; len as usize].into(),
        });
        let out = &mut self.pending.utp;
        match self.conns.get_mut(&conn).filter(|entry| !entry.carrier.greeted) {
            None => utp.write(now, stream, data, out),
            Some(entry) => {
                // Some hear nothing that is in one packet with the handshake before another packet comes (Transmission).
                let parts = data.flat_map(|mut data| {
                    let rest = data.split_off(data.len().min(HANDSHAKE_LEN));
                    [data, rest]
                });
                entry.carrier.greeted = entry.link.is_open();
                utp.write_apart(now, stream, parts, out);
            }
        }
        // There may be more, until a pull brings nothing.
        self.pending.pulls.push_back(conn);
        self.drain_utp(now);
    }

    fn on_utp_action(&mut self, now: Timestamp, action: utp::Action) {
        match action {
            utp::Action::Closed { stream, end } => {
                let Some(conn) = self.streams.remove(&stream) else { return };
                let Some(entry) = self.conns.get_mut(&conn) else { return };
                entry.carrier.stream = None;
                let error = match end {
                    End::Finished => None,
                    End::Reset => Some(NetError::Reset),
                    End::TimedOut => Some(NetError::TimedOut),
                };
                if entry.half_open {
                    self.on_try_failed(now, conn, error.unwrap_or(NetError::Refused));
                } else {
                    self.on_lost(now, conn, error);
                }
            }
            utp::Action::Connected { stream } => self.on_utp_open(now, stream),
            utp::Action::Incoming { stream, from } => {
                let carrier = Carrier { stream: Some(stream), ..Carrier::default() };
                if self.take_in(now, from, carrier).is_none() {
                    self.close_stream(now, stream, true);
                }
            }
            utp::Action::Received { stream, data } => {
                if let Some(conn) = self.streams.get(&stream).copied() {
                    self.cut(now, conn, data);
                }
            }
            utp::Action::WantSend => self.actions.push_back(Action::WantSend),
            utp::Action::Writable { stream, .. } => {
                self.pending.pulls.extend(self.streams.get(&stream).copied());
            }
        }
    }

    /// Tries what is left to be tried, if it is time.
    fn try_next(&mut self, now: Timestamp, conn: ConnId) {
        let Some(entry) = self.conns.get_mut(&conn) else { return };
        if let Some((_, transport)) = entry.carrier.next.take_if(|(at, _)| *at <= now) {
            self.try_carrier(now, conn, transport);
        }
    }

    fn try_carrier(&mut self, now: Timestamp, conn: ConnId, transport: Transport) {
        let Some(entry) = self.conns.get_mut(&conn) else { return };
        let remote = entry.remote;
        match (transport, &mut self.utp) {
            (Transport::Utp, Some(utp)) => match utp.connect(now, remote, &mut self.pending.utp) {
                Some(stream) => {
                    entry.carrier.stream = Some(stream);
                    self.streams.insert(stream, conn);
                    self.drain_utp(now);
                }
                None => self.on_try_failed(now, conn, NetError::Unreachable),
            },
            _ => {
                entry.carrier.tcp = true;
                self.actions.push_back(Action::Connect { conn, remote });
            }
        }
    }

    /// One try has failed: goes on with the other, or gives the connection up.
    fn on_try_failed(&mut self, now: Timestamp, conn: ConnId, error: NetError) {
        let Some(entry) = self.conns.get_mut(&conn) else { return };
        if entry.carrier.tcp || entry.carrier.stream.is_some() {
            return;
        }
        match entry.carrier.next.take() {
            Some((at, transport)) => {
                self.due.remove(&(at, Due::Carrier(conn)));
                self.try_carrier(now, conn, transport);
            }
            None => self.on_lost(now, conn, Some(error)),
        }
    }

    /// One try has come about, so no other follows.
    fn stop_trying(&mut self, conn: ConnId) {
        let Some(entry) = self.conns.get_mut(&conn) else { return };
        if let Some((at, _)) = entry.carrier.next.take() {
            self.due.remove(&(at, Due::Carrier(conn)));
        }
    }

    fn close_stream(&mut self, now: Timestamp, stream: StreamId, at_once: bool) {
        self.streams.remove(&stream);
        let Some(utp) = &mut self.utp else { return };
        if at_once {
            utp.reset(stream, &mut self.pending.utp);
        } else {
            utp.close(now, stream, &mut self.pending.utp);
        }
        self.drain_utp(now);
    }

    fn on_utp_open(&mut self, now: Timestamp, stream: StreamId) {
        let Some(conn) = self.streams.get(&stream).copied() else { return };
        let Some(entry) = self.conns.get_mut(&conn) else { return };
        let tcp = core::mem::take(&mut entry.carrier.tcp);
        self.stop_trying(conn);
        if tcp {
            self.actions.push_back(Action::Disconnect { conn, reason: Reason::OtherTransport });
        }
        self.on_connected(now, conn, Transport::Utp);
    }

    /// Takes in what came of a stream: messages, and blocks by themselves.
    fn cut(&mut self, now: Timestamp, conn: ConnId, mut data: Bytes) {
        self.spend(now, conn, data.len());
        loop {
            let Some(entry) = self.conns.get_mut(&conn) else { return };
            let link = &mut entry.link;
            match entry.carrier.cutter.take(&mut data, |bytes| link.decipher_bytes(bytes)) {
                Cut::Block(block) => self.handle_payload(now, conn, Payload::Content(block)),
                Cut::Control => {}
                Cut::Wait if entry.carrier.cut_due.is_some_and(|at| at <= now) => {}
                Cut::Wait => return,
            }
            let Some(entry) = self.conns.get_mut(&conn) else { return };
            entry.carrier.cut_due = None;
            if !entry.carrier.cutter.has_control() {
                continue;
            }
            let mut control = entry.carrier.cutter.control();
            let intake = self.handle_bytes(now, conn, &mut control);
            let Some(entry) = self.conns.get_mut(&conn) else { return };
            entry.carrier.cutter.put_back(control, intake);
            if intake == Intake::Again {
                // Others have their turn first.
                entry.carrier.cut_due = Some(now);
                self.due.insert((now, Due::Carrier(conn)));
                return;
            }
        }
    }
}

/// How many connections that relays bring about may be opened at a time beyond the limit: their other ends have begun and
/// don't wait, and it is where few can be reached that all places are taken.
const PUNCH_RESERVE: usize = 8;

/// How long one try has before the other begins too.
const HEAD_START: Duration = Duration::from_millis(250);

/// The same where another peer says that uTP works.
const TOLD_HEAD_START: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::{Carrier, PUNCH_RESERVE, Segment, WriteBatch};
    use crate::id::PeerId;
    use crate::machine::Timestamp;
    use crate::magnet::Magnet;
    use crate::metainfo::Metainfo;
    use crate::session::{Action, Config, Event, NetError, NewContent, NewTorrent, Session, Transports};
    use crate::wire::{Handshake, Reserved, encode_handshake};
    use alloc::format;
    use alloc::sync::Arc;
    use alloc::vec::Vec;
    use bytes::{Bytes, BytesMut};

    const LINK: &str = "magnet:?xt=urn:btih:c12fe1c06bba254a9dc9f519b335aa7c1367a88a";

    const OTHER_LINK: &str = "magnet:?xt=urn:btih:d12fe1c06bba254a9dc9f519b335aa7c1367a88a";

    /// Whether a session with this configuration says that peers may be brought together by it, and with it.
    fn tells_of_holepunch(config: Config) -> bool {
        let mut session = Session::new(config, [1; 32], Timestamp::ZERO);
        let new = NewTorrent::try_from(&Magnet::parse(LINK).unwrap()).unwrap();
        let info_hash = new.hashes.swarm();
        session.add_torrent(Timestamp::ZERO, new);
        let remote = "198.51.100.7:6881".parse().unwrap();
        let conn = session.take_in(Timestamp::ZERO, remote, Carrier::tcp()).unwrap();
        let reserved = Reserved::NONE.with_extended();
        let mut bytes = BytesMut::new();
        encode_handshake(&Handshake { reserved, info_hash, peer_id: PeerId([2; 20]) }, &mut bytes);
        session.handle_bytes(Timestamp::ZERO, conn, &mut bytes);
        let mut batch = WriteBatch::default();
        session.poll_stream(Timestamp::ZERO, conn, 0, &mut batch);
        batch.seal();
        let said = batch.segments.iter().filter_map(|segment| match segment {
            Segment::Inline(bytes) => Some(&bytes[..]),
            Segment::Payload(_) => None,
        });
        let said = said.collect::<Vec<_>>().concat();
        let says = |word: &[u8]| said.windows(word.len()).any(|part| part == word);
        assert!(says(b"11:ut_metadata"));
        says(b"12:ut_holepunch")
    }

    #[test]
    fn peers_are_brought_together_where_there_is_utp_and_they_may_tell_of_each_other() {
        assert!(tells_of_holepunch(Config::default()));
        let transports = Transports { tcp: true, utp: false };
        assert!(!tells_of_holepunch(Config { transports, ..Config::default() }));
        assert!(!tells_of_holepunch(Config { pex: false, ..Config::default() }));
    }

    #[test]
    fn a_busy_dialler_has_places_left_for_those_that_relays_bring() {
        let config = Config { max_half_open: 1, ..Config::default() };
        let mut session = Session::new(config, [1; 32], Timestamp::ZERO);
        let new = NewTorrent::try_from(&Magnet::parse(LINK).unwrap()).unwrap();
        let id = session.add_torrent(Timestamp::ZERO, new);
        for n in 0..20 {
            session.punch(Timestamp::ZERO, id, ([45, 1, n, 1], 6881).into());
        }
        assert_eq!(session.connections(), (1 + PUNCH_RESERVE, 1 + PUNCH_RESERVE));
    }

    /// BEP 27.
    #[test]
    fn a_torrent_that_turns_out_private_leaves_those_that_relays_brought() {
        let info = b"d6:lengthi1e4:name1:n12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaa7:privatei1ee";
        let metainfo = Metainfo::from_info(Bytes::from_static(info)).unwrap();
        let mut session = Session::new(Config::default(), [1; 32], Timestamp::ZERO);
        let link = format!("magnet:?xt=urn:btih:{}", metainfo.hashes().swarm());
        let mut new = NewTorrent::try_from(&Magnet::parse(&link).unwrap()).unwrap();
        new.peers.push("198.51.100.7:6881".parse().unwrap());
        let id = session.add_torrent(Timestamp::ZERO, new);
        session.punch(Timestamp::ZERO, id, "45.1.1.1:6881".parse().unwrap());
        assert_eq!(session.connections(), (2, 2));
        session.set_content(Timestamp::ZERO, id, NewContent::new(Arc::new(metainfo)));
        assert_eq!(session.connections(), (1, 1));
    }

    #[test]
    fn a_dial_that_is_given_up_leaves_its_place_to_another_torrent() {
        let transports = Transports { tcp: true, utp: false };
        let config = Config { max_half_open: 1, transports, ..Config::default() };
        let mut session = Session::new(config, [1; 32], Timestamp::ZERO);
        for (n, link) in [(1, LINK), (2, OTHER_LINK)] {
            let mut new = NewTorrent::try_from(&Magnet::parse(link).unwrap()).unwrap();
            new.peers.push(([198, 51, 100, n], 6881).into());
            session.add_torrent(Timestamp::ZERO, new);
        }
        let (mut dialled, mut ended) = (0, 0);
        while ended == 0 {
            while let Some(action) = session.poll_action() {
                dialled += usize::from(matches!(action, Action::Connect { .. }));
                ended += usize::from(matches!(action, Action::Disconnect { .. }));
            }
            if ended == 0 {
                assert_eq!(dialled, 1);
                session.handle_timeout(session.poll_timeout().unwrap().at);
            }
        }
        assert_eq!(dialled, 2, "it is dialled in the same moment");
    }

    #[test]
    fn a_proxy_that_cannot_be_used_ends_both_tries() {
        let mut session = Session::new(Config::default(), [1; 32], Timestamp::ZERO);
        let mut new = NewTorrent::try_from(&Magnet::parse(LINK).unwrap()).unwrap();
        new.peers.push("198.51.100.7:6881".parse().unwrap());
        session.add_torrent(Timestamp::ZERO, new);
        let (mut dialled, mut now) = (None, Timestamp::ZERO);
        while session.streams.is_empty() || dialled.is_none() {
            now = session.poll_timeout().unwrap().at;
            session.handle_timeout(now);
            while let Some(action) = session.poll_action() {
                if let Action::Connect { conn, .. } = action {
                    dialled = Some(conn);
                }
            }
        }
        let mut data = BytesMut::new();
        assert!(session.poll_transmit(now, &mut data, 1).is_some(), "it is called by uTP too");
        let conn = dialled.unwrap();
        session.handle_event(now, Event::ConnectFailed { conn, error: NetError::Proxy });
        assert!(session.streams.is_empty() && !session.conns.contains_key(&conn));
    }
}
