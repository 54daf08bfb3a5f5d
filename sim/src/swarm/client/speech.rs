//! What a client says: it is pulled, sent, and read along.

use super::{Client, Shared};
use crate::swarm::checkers::Observation;
use crate::swarm::links::{Phase, Socket};
use crate::swarm::observe::{Shown, Spoken};
use crate::swarm::streams::LOW_WATER;
use crate::swarm::trace::{Topic, Way};
use crate::swarm::world::{HostId, Role, World};
use fast_peer_core::bitfield::Bitfield;
use fast_peer_core::id::ConnId;
use fast_peer_core::lengths::{BLOCK_LEN, PieceIndex};
use fast_peer_core::peer::Peer;
use fast_peer_core::session::{Segment, Transmit, WriteBatch};
use fast_peer_core::utp::is_utp;
use fast_peer_core::wire::{Frame, Message};

impl World {
    pub(super) fn pull_datagram(&mut self, host: HostId) -> bool {
        let now = self.now;
        let mut buffer = core::mem::take(&mut self.datagram);
        buffer.clear();
        let client = self.client_mut(host);
        let transmit = client.session.poll_transmit(now, &mut buffer, 1);
        client.want_send = transmit.is_some();
        if let Some(Transmit { to, .. }) = transmit {
            self.line(host, Way::Out, Topic::Lookup, format_args!("datagram to={to} len={}", buffer.len()));
            let data = buffer.split().freeze();
            let to_tracker =
                self.host_at(to.ip()).is_some_and(|to| matches!(self.host(to).role, Role::Tracker(_)));
            if !to_tracker {
                self.observe(host, &Observation::Datagram { to: Some(to), data: &data });
            }
            if self.client(host).session.utp().is_some() && is_utp(&data) {
                self.observe(host, &Observation::UtpSent { to, data: &data });
            }
            self.send_datagram(host, to, data);
        }
        self.datagram = buffer;
        transmit.is_some()
    }

    /// Has a session fill a socket as far as it takes bytes. Returns how many segments came.
    pub(super) fn pull(&mut self, host: HostId, socket: Socket) -> u32 {
        let (now, sockets) = (self.now, self.sockets);
        let stream = self.stream(socket.stream);
        let (end, direction) =
            (&stream.ends[socket.side as usize], &mut stream.directions[socket.side as usize]);
        let (conn, room) = (end.conn, direction.room(&sockets));
        if end.phase != Phase::Open {
            return 0;
        }
        direction.wants = room < LOW_WATER;
        if direction.wants {
            return 0;
        }
        let mut batch = core::mem::replace(&mut self.batch, WriteBatch::overheard());
        self.client_mut(host).session.poll_stream(now, conn, room as usize, &mut batch);
        let len = batch.len() as u64;
        let mut segments = 0;
        while let Some(segment) = batch.segments.front().cloned() {
            batch.advance(segment.len());
            if let Segment::Inline(bytes) = &segment {
                self.observe(host, &Observation::Packet { conn, bytes });
                self.meddle(socket, bytes);
            }
            self.send(socket, segment);
            segments += 1;
        }
        assert!(batch.is_empty(), "what was pulled is in segments");
        let said = batch.take_said();
        let noise = len - said.iter().map(|segment| segment.len() as u64).sum::<u64>();
        if noise > 0 {
            self.line(host, Way::Out, Topic::Message, format_args!("{conn} noise len={noise}"));
            self.stream(socket.stream).direction_mut(socket.side).noise += noise;
        }
        said.iter().for_each(|segment| self.say(host, conn, socket, segment));
        self.batch = batch;
        if len > 0 {
            self.observe(host, &Observation::SentBytes { len });
            // A pull that brings something may not have brought everything.
            self.client_mut(host).pulls.push_back(socket);
            self.flush(socket);
        }
        segments
    }

    /// Reads along what a client sends.
    fn say(&mut self, host: HostId, conn: ConnId, socket: Socket, segment: &Segment) {
        let mut said = core::mem::take(&mut self.said);
        self.stream(socket.stream).direction_mut(socket.side).watch.feed(segment, |spoken| said.push(spoken));
        let is_request = |spoken: &&Spoken| {
            matches!(spoken, Spoken::Frame { frame: Frame::Message(Message::Request(_)), .. })
        };
        // The session counts as sent what was pulled with this one and comes behind it.
        let mut behind = said.iter().filter(is_request).count() as u32;
        for spoken in said.drain(..) {
            behind -= u32::from(is_request(&&spoken));
            match spoken {
                Spoken::Frame { frame, end } => {
                    self.line(host, Way::Out, Topic::Message, format_args!("{conn} {}", Shown(&frame)));
                    let exchange = Shown(&frame).is_exchange();
                    self.client_mut(host).stats.exchanges += u32::from(exchange);
                    let false_claim = self.false_claim(host, conn, &frame);
                    let unsent = behind + self.unsent(host, conn, &frame);
                    self.observe(host, &Observation::Sent { conn, frame: &frame, false_claim, unsent });
                    let direction = self.stream(socket.stream).direction_mut(socket.side);
                    direction.frames.push_back((end + direction.noise, frame));
                }
                Spoken::Block { piece, begin, part } => {
                    let client = self.client_mut(host);
                    client.stats.served += u64::from(part.len());
                    if let Some(account) = client.account_of(conn) {
                        account.sent += u64::from(part.len());
                    }
                    let good = client.content_of(conn).is_some_and(|content| {
                        let piece = content.lengths().piece(piece);
                        piece.is_some_and(|piece| content.matches(piece, begin, &part))
                    });
                    self.observe(host, &Observation::BlockSent { piece, begin, good });
                }
            }
        }
        self.said = said;
    }

    /// A piece that a client announces in `frame` without having it.
    fn false_claim(&mut self, host: HostId, conn: ConnId, frame: &Frame) -> Option<u32> {
        let Client { conns, torrents, disk, .. } = self.client_mut(host);
        let conn = conns.get_mut(&conn)?;
        if let Frame::Handshake(handshake) = frame {
            let about = |shared: &Shared| shared.content.metainfo().swarm_hash() == handshake.info_hash;
            conn.torrent = torrents.iter().find(|(_, shared)| about(shared)).map(|(id, _)| *id);
            return None;
        }
        let torrent = conn.torrent?;
        let shared = torrents.get_mut(&torrent)?;
        let lengths = shared.content.clone();
        let lengths = lengths.lengths();
        let claimed = match frame {
            Frame::Message(Message::Have(piece)) => {
                let piece = lengths.piece(*piece)?;
                return (!shared.confirm(disk, torrent, piece)).then_some(piece.get());
            }
            Frame::Message(Message::HaveAll) => Bitfield::all(lengths.piece_count()),
            Frame::Message(Message::Bitfield(bits)) => Bitfield::from_wire(bits, lengths.piece_count())?,
            _ => return None,
        };
        let mut claimed = lengths.pieces().filter(|piece| claimed.has(*piece));
        claimed.find(|piece| !shared.confirm(disk, torrent, *piece)).map(PieceIndex::get)
    }

    /// The requests that wait to be sent, if `frame` repeats one that somebody owes already.
    fn unsent(&self, host: HostId, conn: ConnId, frame: &Frame) -> u32 {
        let client = self.client(host);
        let repeated = match frame {
            Frame::Message(Message::Request(block)) => client.checkers.is_owed(conn, *block),
            _ => false,
        };
        let torrent = client.conns.get(&conn).and_then(|conn| conn.torrent);
        let Some(torrent) = torrent.filter(|_| repeated).and_then(|id| client.session.torrent(id)) else {
            return 0;
        };
        let unsent = |peer: &Peer| peer.outstanding() as u64 - peer.owed_bytes() / u64::from(BLOCK_LEN);
        torrent.peers().map(|(peer, _)| unsent(peer)).sum::<u64>() as u32
    }
}
