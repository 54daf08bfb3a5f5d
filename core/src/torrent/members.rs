//! The peers of a torrent.

use super::choking::Standing;
use super::known_peers::{Parting, Refusal};
use super::{Action, Phase, Torrent, handshake};
use crate::bitfield::Bitfield;
use crate::id::ConnId;
use crate::lengths::{Block, PieceIndex};
use crate::machine::{Machine as _, Outbox, Timestamp};
use crate::peer::{self, Peer, Setup};
use crate::pieces::{Receipt, Style};
use crate::session::{Intake, NetError, Notice, Reason, WriteBatch};
use crate::store;
use crate::store::payload::Payload;
use crate::wire::{self, Handshake, MAX_EXTENDED_LEN};
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::BytesMut;
use core::net::{IpAddr, SocketAddr};

/// A connection, and what the torrent keeps about it.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) peer: Peer,
    /// What they have.
    pub(super) has: Bitfield,
    /// How many of the pieces that we want they have.
    pub(super) interesting: u32,
    /// Where it listens; as long as that is not known of one that connected to us, where it connected from.
    pub(super) endpoint: SocketAddr,
    /// The entry in the set of deadlines.
    pub(super) due: Option<Timestamp>,
    /// Whether the session was asked to write, and no pull has come back empty since.
    pub(super) wants_write: bool,
    /// Whether it is counted as one that blocks come from.
    owes: bool,
    pub(super) choking: Standing,
}

impl Torrent {
    /// Whether more connections are welcome.
    pub(crate) fn has_place(&self) -> bool {
        self.phase == Phase::Running && !self.check_only && self.members.len() < self.common.max_peers
    }

    /// The next peer to dial, if one is due.
    pub(crate) fn next_to_dial(&mut self, now: Timestamp) -> Option<SocketAddr> {
        if !self.has_place() {
            return None;
        }
        self.known.next_to_dial(now, 1).pop()
    }

    /// When [`next_to_dial`](Self::next_to_dial) may have another.
    pub(crate) fn dial_due(&self) -> Option<Timestamp> {
        if self.has_place() { self.known.poll_timeout().map(|due| due.at) } else { None }
    }

    pub(crate) fn dial(&mut self, now: Timestamp, conn: ConnId, remote: SocketAddr) {
        let peer = Peer::outgoing(now, conn, remote, self.peer_setup());
        self.join(now, peer);
    }

    pub(crate) fn accept(&mut self, now: Timestamp, conn: ConnId, remote: SocketAddr) -> Result<(), Reason> {
        if self.phase != Phase::Running || self.check_only {
            return Err(Reason::UnknownTorrent);
        }
        if self.members.len() >= self.common.max_peers {
            return Err(Reason::Full);
        }
        self.known.accept(remote).map_err(reason_of)?;
        let peer = Peer::incoming(now, conn, remote, self.peer_setup());
        self.join(now, peer);
        Ok(())
    }

    fn peer_setup(&self) -> Setup {
        Setup {
            ours: handshake(&self.common, self.info_hash()),
            map: Arc::clone(&self.map),
            listen_port: self.listen_port,
            max_requests: self.common.max_requests,
            client: self.common.client.clone(),
        }
    }

    fn join(&mut self, now: Timestamp, peer: Peer) {
        let has = Bitfield::none(self.map.lengths().piece_count());
        let conn = peer.conn();
        let endpoint = peer.remote();
        self.members.insert(
            conn,
            Member {
                peer,
                has,
                interesting: 0,
                endpoint,
                due: None,
                wants_write: false,
                owes: false,
                choking: Standing::new(now),
            },
        );
        self.file_due(conn);
    }

    pub(crate) fn handle_connected(&mut self, now: Timestamp, conn: ConnId, out: &mut Outbox<Action>) {
        self.tell(now, conn, peer::Event::Connected);
        self.settle(now, out);
    }

    /// A connection is gone by the remote's doing.
    pub(crate) fn handle_lost(
        &mut self,
        now: Timestamp,
        conn: ConnId,
        error: Option<NetError>,
        out: &mut Outbox<Action>,
    ) {
        let Some(member) = self.members.get(&conn) else { return };
        let parting = if member.peer.is_open() { Parting::Lost } else { Parting::Failed };
        self.known.handle_disconnected(now, member.peer.remote(), parting);
        tracing::debug!(%conn, ?error, "connection lost");
        self.leave(now, conn);
        self.settle(now, out);
    }

    pub(crate) fn handle_bytes(
        &mut self,
        now: Timestamp,
        conn: ConnId,
        input: &mut BytesMut,
        out: &mut Outbox<Action>,
    ) -> Intake {
        let Some(member) = self.members.get_mut(&conn) else { return Intake::Closed };
        let intake = member.peer.handle_bytes(now, input, &mut self.pending.peer);
        self.collect(conn);
        self.settle(now, out);
        intake
    }

    pub(crate) fn handle_payload(
        &mut self,
        now: Timestamp,
        conn: ConnId,
        payload: Payload,
        out: &mut Outbox<Action>,
    ) {
        let Some(member) = self.members.get_mut(&conn) else { return };
        self.totals.down_bytes += u64::from(payload.len());
        member.peer.handle_payload(now, payload, &mut self.pending.peer);
        self.collect(conn);
        self.settle(now, out);
    }

    /// Appends what is to be written to a connection; see [`Peer::poll_stream`].
    pub(crate) fn poll_stream(
        &mut self,
        now: Timestamp,
        conn: ConnId,
        payload_budget: usize,
        batch: &mut WriteBatch,
        out: &mut Outbox<Action>,
    ) {
        let Some(member) = self.members.get_mut(&conn) else { return };
        let (before, up_bytes) = (batch.len(), member.peer.up_bytes());
        member.peer.poll_stream(now, payload_budget, &self.completed, batch, &mut self.pending.peer);
        let up_bytes = member.peer.up_bytes() - up_bytes;
        self.totals.up_bytes += up_bytes;
        member.choking.up.add(now, up_bytes);
        member.wants_write = batch.len() > before;
        for action in self.pending.peer.drain(..) {
            self.pending.peers.push_back((conn, action));
        }
        self.file_due(conn);
        self.settle(now, out);
    }

    pub(crate) fn next_upload_len(&self, conn: ConnId) -> Option<usize> {
        self.members.get(&conn)?.peer.next_upload_len()
    }

    pub(crate) fn member(&self, conn: ConnId) -> Option<&Peer> {
        self.members.get(&conn).map(|member| &member.peer)
    }

    /// Hands an event to a peer.
    pub(super) fn tell(&mut self, now: Timestamp, conn: ConnId, event: peer::Event) {
        let Some(member) = self.members.get_mut(&conn) else { return };
        member.peer.handle_event(now, event, &mut self.pending.peer);
        self.collect(conn);
    }

    /// Takes what a peer said, to be translated by [`settle`](Torrent::settle).
    pub(super) fn collect(&mut self, conn: ConnId) {
        self.pending.peers.extend(self.pending.peer.drain(..).map(|action| (conn, action)));
        self.pending.touched.insert(conn);
    }

    /// Gives a peer more to do, sees to its writes, and files its deadline.
    pub(super) fn after_touch(&mut self, now: Timestamp, conn: ConnId, out: &mut Outbox<Action>) {
        self.refill(now, conn);
        let Some(member) = self.members.get_mut(&conn) else { return };
        let owes = member.peer.outstanding() > 0;
        self.downloading = self.downloading + usize::from(owes) - usize::from(member.owes);
        member.owes = owes;
        if !member.wants_write && member.peer.wants_write(&[]) {
            member.wants_write = true;
            out.push_back(Action::WantWrite { conn });
        }
        self.file_due(conn);
    }

    pub(super) fn on_peer_action(
        &mut self,
        now: Timestamp,
        conn: ConnId,
        action: peer::Action,
        out: &mut Outbox<Action>,
    ) {
        match action {
            peer::Action::Arrived { block, payload } => self.on_block(now, conn, block, payload),
            peer::Action::Bitfield(has) => self.on_bitfield(now, conn, has, out),
            peer::Action::Disconnect(reason) => self.disconnect(now, conn, reason, out),
            peer::Action::Freed(block) => {
                self.picker.released(block, conn);
                self.pending.work = true;
            }
            peer::Action::Greeted(theirs) => self.on_greeted(now, conn, theirs, out),
            peer::Action::Have(piece) => self.on_have(now, conn, piece, out),
            peer::Action::Interested(want) => self.on_interested(now, conn, want),
            peer::Action::ListenPort(port) => self.on_listen_port(now, conn, port, out),
            peer::Action::Read { token, piece, begin, len } => {
                let read = self.next_read;
                self.next_read += 1;
                self.reads.insert(read, (conn, token));
                let event = store::Event::Read { token: read, piece, begin, len };
                self.store.handle_event(now, event, &mut self.pending.store);
            }
            peer::Action::Requested(block) => {
                let serve = self.stored.has(block.piece());
                let event = if serve { peer::Event::Serve(block) } else { peer::Event::Refuse(block) };
                self.tell(now, conn, event);
            }
        }
    }

    fn on_greeted(&mut self, now: Timestamp, conn: ConnId, theirs: Handshake, out: &mut Outbox<Action>) {
        let same = |member: &Member| {
            member.peer.conn() != conn
                && member.peer.is_open()
                && member.peer.handshake().is_some_and(|other| other.peer_id == theirs.peer_id)
        };
        if let Some(other) = self.members.values().find(|member| same(member)) {
            // Both sides dialled at once: both must drop the same connection, so the one that the lower id dialled stays.
            let ours_is_lower = self.common.peer_id < theirs.peer_id;
            let other_stays = other.peer.is_outgoing() == self.members[&conn].peer.is_outgoing()
                || other.peer.is_outgoing() == ours_is_lower;
            let goes = if other_stays { conn } else { other.peer.conn() };
            self.disconnect(now, goes, Reason::Duplicate, out);
            if other_stays {
                return;
            }
        }
        let Some(member) = self.members.get_mut(&conn) else { return };
        self.known.handle_connected(member.peer.remote());
        self.picker.peer_joined(&member.has);
        // A seed helps newcomers most by sending each piece once, to whom it unchoked; its uplink is what all wait for.
        let allowed = match member.peer.remote().ip().to_canonical() {
            IpAddr::V4(ip) if !self.picker.is_complete() => {
                wire::allowed_fast(ip, theirs.info_hash, self.map.lengths(), ALLOWED_FAST)
            }
            IpAddr::V4(_) | IpAddr::V6(_) => Vec::new(),
        };
        let hello = peer::Event::Hello {
            have: self.stored.clone(),
            told: self.completed.len(),
            allowed: allowed.into_iter().filter(|piece| self.stored.has(*piece)).collect(),
            upload_only: self.picker.is_complete(),
        };
        self.tell(now, conn, hello);
    }

    fn on_bitfield(&mut self, now: Timestamp, conn: ConnId, has: Bitfield, out: &mut Outbox<Action>) {
        let Some(member) = self.members.get_mut(&conn) else { return };
        self.picker.peer_left(&member.has);
        self.picker.peer_joined(&has);
        member.interesting = self.picker.interesting(&has);
        member.has = has;
        self.update_interest(now, conn);
        self.drop_if_useless(now, conn, out);
    }

    fn on_have(&mut self, now: Timestamp, conn: ConnId, piece: PieceIndex, out: &mut Outbox<Action>) {
        let Some(member) = self.members.get_mut(&conn) else { return };
        if !member.has.insert(piece) {
            return;
        }
        self.picker.peer_has(piece);
        if member.has.is_all() {
            self.picker.peer_became_seed();
        }
        let full = member.has.is_all();
        member.interesting += u32::from(self.picker.wants(piece));
        self.update_interest(now, conn);
        if full {
            self.drop_if_useless(now, conn, out);
        }
    }

    fn update_interest(&mut self, now: Timestamp, conn: ConnId) {
        let Some(member) = self.members.get(&conn) else { return };
        let want = member.interesting > 0;
        if member.peer.we_want() != want {
            self.tell(now, conn, peer::Event::Interest(want));
        }
    }

    /// Two complete peers have nothing to trade (BEP 21).
    pub(super) fn drop_if_useless(&mut self, now: Timestamp, conn: ConnId, out: &mut Outbox<Action>) {
        let Some(member) = self.members.get(&conn) else { return };
        if self.picker.is_complete() && member.has.is_all() && member.peer.is_open() {
            self.disconnect(now, conn, Reason::NothingToTrade, out);
        }
    }

    fn on_listen_port(&mut self, now: Timestamp, conn: ConnId, port: u16, out: &mut Outbox<Action>) {
        let Some(member) = self.members.get_mut(&conn).filter(|member| !member.peer.is_outgoing()) else {
            return;
        };
        match self.known.handle_listen_port(now, member.peer.remote(), port) {
            Ok(listens) => member.endpoint = listens,
            Err(refusal) => self.disconnect(now, conn, reason_of(refusal), out),
        }
    }

    /// Whether there is memory for more blocks.
    pub(crate) fn takes_data(&self) -> bool {
        !self.store.in_trouble() && self.store.pinned() < self.common.store_budget
    }

    /// How many bytes one connection may read ahead: together they stay near the budget of memory.
    pub(crate) fn read_window(&self) -> u32 {
        let share = self.common.store_budget / (self.downloading as u64).max(1);
        // A message is used up when it is whole: the longest must fit into what is left when more is granted.
        let bitfield = Bitfield::byte_len(self.map.lengths().piece_count()) as u32;
        let least = 2 * (bitfield.max(MAX_EXTENDED_LEN) + 16);
        u32::try_from(share).unwrap_or(u32::MAX).clamp(least, READ_WINDOW_MAX.max(least))
    }

    fn on_block(&mut self, now: Timestamp, conn: ConnId, block: Block, payload: Payload) {
        if let Some(member) = self.members.get_mut(&conn) {
            member.choking.down.add(now, u64::from(block.len()));
        }
        match self.picker.received(block, conn) {
            Receipt::Duplicate => {
                if let Some(member) = self.members.get_mut(&conn) {
                    member.peer.count_wasted(block.len());
                }
            }
            Receipt::New { cancel } => {
                if let Some(member) = self.members.get(&conn) {
                    self.senders.entry(conn).or_insert(member.endpoint);
                    if self.senders.len() > MAX_SENDERS {
                        self.senders.pop_first();
                    }
                }
                for other in cancel.iter().copied() {
                    self.tell(now, other, peer::Event::Cancel(block));
                }
                self.pending.work |= self.picker.has_place(block.piece());
                let event = store::Event::Block { block, payload };
                self.store.handle_event(now, event, &mut self.pending.store);
            }
        }
    }

    /// Asks a peer for as much as it has room for.
    fn refill(&mut self, now: Timestamp, conn: ConnId) {
        let Some(member) = self.members.get(&conn) else { return };
        let room = member.peer.room();
        if room == 0 || self.phase != Phase::Running {
            return;
        }
        self.idle.insert(conn);
        if !self.takes_data() {
            self.short_of_memory = true;
            return;
        }
        let rate = member.peer.rate_bytes_per_s().max(1);
        let alone = u64::from(self.map.lengths().piece_len_max()) / rate < ALONE_SECONDS;
        let style = if alone { Style::Striped } else { Style::Shared };
        let only = member.peer.they_choke().then(|| member.peer.allowed_to_us());
        let (mut blocks, endgame) = (Vec::new(), self.picker.in_endgame());
        self.picker.pick(conn, &member.has, style, only, room, &mut blocks);
        if !blocks.is_empty() {
            self.idle.remove(&conn);
            self.tell(now, conn, peer::Event::Assigned(blocks));
        }
        // Only in endgame is there work for those that had none: blocks that others owe.
        self.pending.work |= self.picker.in_endgame() && !endgame;
    }

    pub(super) fn disconnect(
        &mut self,
        now: Timestamp,
        conn: ConnId,
        reason: Reason,
        out: &mut Outbox<Action>,
    ) {
        let Some(member) = self.members.get(&conn) else { return };
        let parting = match reason {
            Reason::Ourselves => {
                self.known.learn_own(member.endpoint);
                Parting::Failed
            }
            Reason::ConnectTimeout | Reason::HandshakeTimeout | Reason::Offence(_) => Parting::Failed,
            Reason::Duplicate | Reason::NothingToTrade => Parting::Useless,
            _ => Parting::Lost,
        };
        self.known.handle_disconnected(now, member.peer.remote(), parting);
        out.push_back(Action::Disconnect { conn, reason });
        self.leave(now, conn);
    }

    fn leave(&mut self, now: Timestamp, conn: ConnId) {
        let Some(member) = self.members.remove(&conn) else { return };
        if let Some(at) = member.due {
            self.due.remove(&(at, conn));
        }
        self.downloading -= usize::from(member.owes);
        self.idle.remove(&conn);
        self.pending.touched.remove(&conn);
        self.totals.wasted_bytes += member.peer.wasted_bytes();
        self.picker.peer_gone(conn);
        if member.peer.handshake().is_some() {
            self.picker.peer_left(&member.has);
        }
        self.free_slot(now, conn);
        self.pending.work = true;
    }

    /// Ends every connection to an address that lied about data.
    pub(super) fn ban(&mut self, now: Timestamp, remote: SocketAddr, out: &mut Outbox<Action>) {
        if self.known.is_banned(remote) {
            return; // It lied about several pieces before the first lie was proved.
        }
        self.known.ban(remote);
        out.push_back(Action::Notice(Notice::Banned { torrent: self.id, remote }));
        let banned = self.members.values().filter(|member| self.known.is_banned(member.endpoint));
        for conn in banned.map(|member| member.peer.conn()).collect::<Vec<_>>() {
            self.disconnect(now, conn, Reason::Banned, out);
        }
    }

    /// A piece that we have now interests us no more.
    pub(super) fn forget_interest(&mut self, now: Timestamp, piece: PieceIndex) {
        let mut bored = Vec::new();
        for (conn, member) in self.members.iter_mut().filter(|(_, member)| member.has.has(piece)) {
            member.interesting -= 1;
            if member.interesting == 0 {
                bored.push(*conn);
            }
        }
        bored.into_iter().for_each(|conn| self.update_interest(now, conn));
    }

    /// Sees to it that the set of deadlines has an entry for the peer that is not late.
    pub(super) fn file_due(&mut self, conn: ConnId) {
        let Some(member) = self.members.get_mut(&conn) else { return };
        let Some(next) = member.peer.poll_timeout() else { return };
        if let Some(filed) = member.due {
            if filed <= next.at {
                return;
            }
            self.due.remove(&(filed, conn));
        }
        member.due = Some(next.at);
        self.due.insert((next.at, conn));
    }
}

/// Why a connection ends that the known peers have no place for.
fn reason_of(refusal: Refusal) -> Reason {
    match refusal {
        Refusal::Banned => Reason::Banned,
        _ => Reason::Duplicate,
    }
}

/// Pieces that a newcomer may have while choked (BEP 6).
const ALLOWED_FAST: usize = 5;

/// What one connection may read ahead, unless messages are longer.
const READ_WINDOW_MAX: u32 = 1 << 20;

/// Connections of which the address is remembered, for when a piece fails.
const MAX_SENDERS: usize = 4096;

/// A peer that needs this many seconds for a piece shares it with others.
const ALONE_SECONDS: u64 = 3;
