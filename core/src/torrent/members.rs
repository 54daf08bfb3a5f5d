//! The peers of a torrent.

use super::choking::Standing;
use super::joining::reason_of;
use super::known_peers::{Parting, UtpHint};
use super::{Action, Content, Phase, Torrent, holepunch};
use crate::bitfield::Bitfield;
use crate::id::ConnId;
use crate::lengths::{Block, MAX_PIECES, PieceIndex};
use crate::machine::{Machine as _, Outbox, Timestamp};
use crate::metadata;
use crate::peer::{self, Hello, Peer};
use crate::pex;
use crate::pieces::{Order, Receipt, Style};
use crate::session::{Intake, NetError, Notice, Reason, WriteBatch};
use crate::store;
use crate::store::payload::Payload;
use crate::tracker::AnnouncerEvent;
use crate::wire::{self, Handshake, MAX_EXTENDED_LEN};
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::BytesMut;
use core::net::{IpAddr, SocketAddr};

/// A connection, and what the torrent keeps about it.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) peer: Peer,
    /// What they have, as far as the torrent's pieces are known.
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
    pub(super) owes: bool,
    /// Whether what it says is obfuscated.
    pub(super) obfuscated: bool,
    /// Whether uTP carries it.
    pub(super) by_utp: bool,
    /// Whether a relay brings it about, so that the other end opens a connection too.
    pub(super) punched: bool,
    pub(super) choking: Standing,
}

impl Torrent {
    /// The torrent's pieces are known: every peer that came before takes them in, and says what it has of them.
    pub(super) fn introduce_members(&mut self, now: Timestamp) {
        let Some(content) = &mut self.content else { return };
        for member in self.members.values_mut() {
            member.has = Bitfield::none(content.map.lengths().piece_count());
            if member.peer.handshake().is_some() {
                content.picker.peer_joined(&member.has);
            }
        }
        let map = Arc::clone(&content.map);
        for conn in self.members.keys().copied().collect::<Vec<_>>() {
            self.tell(now, conn, peer::Event::Pieces(Arc::clone(&map)));
        }
    }

    /// The files are checked: peers that came before are told what we have, and asked for what we lack.
    pub(super) fn trade_with_members(&mut self, now: Timestamp, out: &mut Outbox<Action>) {
        let Some(content) = self.content.as_mut().filter(|_| !self.members.is_empty()) else { return };
        if !content.completed.is_empty() {
            content.haves_due.get_or_insert(now);
        }
        for member in self.members.values_mut() {
            member.interesting = content.picker.interesting(&member.has);
            if member.peer.they_want() {
                content.choker.handle_interested(now);
            }
        }
        for conn in self.members.keys().copied().collect::<Vec<_>>() {
            self.update_interest(now, conn);
            self.drop_if_useless(now, conn, out);
        }
        self.pending.touched.extend(self.members.keys());
        self.rechoke_if_due(now);
    }

    pub(crate) fn handle_connected(
        &mut self,
        now: Timestamp,
        conn: ConnId,
        by_utp: bool,
        out: &mut Outbox<Action>,
    ) {
        if let Some(member) = self.members.get_mut(&conn) {
            member.by_utp = by_utp;
            let hint = if by_utp { UtpHint::Worked } else { UtpHint::Unknown };
            self.known.note_utp(member.peer.remote(), hint);
            self.known.note_answered(member.peer.remote());
        }
        self.tell(now, conn, peer::Event::Connected);
        self.settle(now, out);
    }

    /// What a connection says is obfuscated from now on.
    pub(crate) fn note_obfuscated(&mut self, now: Timestamp, conn: ConnId, out: &mut Outbox<Action>) {
        if let Some(member) = self.members.get_mut(&conn) {
            member.obfuscated = true;
            self.update_contact(now, conn);
        }
        self.settle(now, out);
    }

    /// The session gives a connection up.
    pub(crate) fn hang_up(&mut self, now: Timestamp, conn: ConnId, reason: Reason, out: &mut Outbox<Action>) {
        self.disconnect(now, conn, reason, out);
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
        let connecting = member.peer.is_connecting();
        let parting = if member.peer.is_open() {
            Parting::Lost
        } else if error == Some(NetError::Proxy) {
            Parting::Undecided
        } else if error == Some(NetError::Moved)
            || self.network_is_down && !member.peer.remote().ip().is_loopback()
        {
            Parting::Down
        } else {
            Parting::Failed
        };
        if self.content.as_ref().is_some_and(|content| content.is_useless(member)) {
            self.known.note_seed(member.endpoint);
        }
        self.known.handle_disconnected(now, member.peer.remote(), parting);
        tracing::debug!(%conn, ?error, "connection lost");
        if parting == Parting::Failed {
            self.on_dial_failed(now, conn, !connecting);
        }
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
        let completed = self.content.as_ref().map_or(&[][..], |content| &content.completed);
        member.peer.poll_stream(now, payload_budget, completed, batch, &mut self.pending.peer);
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
            peer::Action::DhtPort(port) => {
                if let Some(member) = self.members.get(&conn) {
                    out.push_back(Action::Node(SocketAddr::new(member.peer.remote().ip(), port)));
                }
            }
            peer::Action::DontHave(piece) => self.on_dont_have(now, conn, piece),
            peer::Action::Disconnect(reason) => self.disconnect(now, conn, reason, out),
            peer::Action::Extended => self.on_extended(now, conn, out),
            peer::Action::Freed(block) => {
                if let Some(content) = &mut self.content {
                    content.picker.released(block, conn);
                    self.pending.work = true;
                }
            }
            peer::Action::Greeted(theirs) => self.on_greeted(now, conn, theirs, out),
            peer::Action::Have(piece) => self.on_have(now, conn, piece, out),
            peer::Action::Holepunch(message) => {
                if self.members.contains_key(&conn) {
                    self.tell_punch(now, holepunch::Event::Heard { peer: conn, message });
                }
            }
            peer::Action::Interested(want) => self.on_interested(now, conn, want),
            peer::Action::ListenPort(port) => self.on_listen_port(now, conn, port, out),
            peer::Action::Metadata(message) => self.on_metadata_message(now, conn, message),
            peer::Action::Pex(message) => {
                if self.members.contains_key(&conn) {
                    self.tell_pex(now, pex::Event::Heard { peer: conn, message });
                }
            }
            peer::Action::Read { token, piece, begin, len } => {
                let Some(content) = &mut self.content else { return };
                let read = content.next_read;
                content.next_read += 1;
                content.reads.insert(read, (conn, token));
                let event = store::Event::Read { token: read, piece, begin, len };
                content.store.handle_event(now, event, &mut self.pending.store);
            }
            peer::Action::Requested(block) => {
                // BEP 6: what is allowed while choked is for those that have hardly anything.
                let is_poor = |member: &Member| (member.has.ones() as usize) < ALLOWED_FAST;
                let may = self.members.get(&conn).is_some_and(|it| !it.peer.we_choke() || is_poor(it));
                let stored = self.content.as_ref().is_some_and(|content| content.stored.has(block.piece()));
                let serve = may && stored;
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
            // Who has another address than before, or lost its network for a while, knows nothing of the other one.
            let other_stays = other_stays && !other.peer.is_silent(now);
            let goes = if other_stays { conn } else { other.peer.conn() };
            self.disconnect(now, goes, Reason::Duplicate, out);
            if other_stays {
                return;
            }
        }
        let offer = self.offer();
        let Some(member) = self.members.get(&conn) else { return };
        let remote = member.peer.remote();
        self.known.handle_connected(remote);
        let hello = match &mut self.content {
            None => {
                Hello { have: Bitfield::none(0), told: 0, allowed: Vec::new(), upload_only: false, offer }
            }
            Some(content) => {
                content.picker.peer_joined(&member.has);
                // A seed helps newcomers most by sending each piece once, to whom it unchoked; its uplink is what all
                // wait for.
                let allowed = match member.peer.remote().ip().to_canonical() {
                    IpAddr::V4(ip) if !content.picker.is_complete() => {
                        wire::allowed_fast(ip, theirs.info_hash, content.map.lengths(), ALLOWED_FAST)
                    }
                    IpAddr::V4(_) | IpAddr::V6(_) => Vec::new(),
                };
                Hello {
                    have: content.stored.clone(),
                    told: content.completed.len(),
                    allowed: allowed.into_iter().filter(|piece| content.stored.has(*piece)).collect(),
                    upload_only: content.picker.is_complete(),
                    offer,
                }
            }
        };
        self.tell(now, conn, peer::Event::Hello(hello));
        self.tell_punch(now, holepunch::Event::Connected { addr: remote });
        self.update_contact(now, conn);
    }

    fn on_bitfield(&mut self, now: Timestamp, conn: ConnId, has: Bitfield, out: &mut Outbox<Action>) {
        let (Some(member), Some(content)) = (self.members.get_mut(&conn), &mut self.content) else { return };
        content.picker.peer_left(&member.has);
        content.picker.peer_joined(&has);
        member.interesting = content.picker.interesting(&has);
        member.has = has;
        self.update_interest(now, conn);
        self.update_contact(now, conn);
        self.drop_if_useless(now, conn, out);
    }

    fn on_have(&mut self, now: Timestamp, conn: ConnId, piece: PieceIndex, out: &mut Outbox<Action>) {
        let (Some(member), Some(content)) = (self.members.get_mut(&conn), &mut self.content) else { return };
        if !member.has.insert(piece) {
            return;
        }
        content.picker.peer_has(piece);
        let full = member.has.is_all();
        if full {
            content.picker.peer_became_seed();
        }
        member.interesting += u32::from(content.picker.wants(piece));
        self.update_interest(now, conn);
        if full {
            self.update_contact(now, conn);
            self.drop_if_useless(now, conn, out);
        }
    }

    fn on_dont_have(&mut self, now: Timestamp, conn: ConnId, piece: PieceIndex) {
        let (Some(member), Some(content)) = (self.members.get_mut(&conn), &mut self.content) else { return };
        if !member.has.has(piece) {
            return;
        }
        if member.has.is_all() {
            content.picker.peer_left(&member.has);
            member.has.remove(piece);
            content.picker.peer_joined(&member.has);
        } else {
            member.has.remove(piece);
            content.picker.peer_lost(piece);
        }
        member.interesting -= u32::from(content.picker.wants(piece));
        self.update_interest(now, conn);
        self.update_contact(now, conn);
        self.pending.work = true;
    }

    /// Tells peers whether we want nothing more, if that has changed (BEP 21).
    pub(super) fn tell_upload_only(&mut self, now: Timestamp) {
        let Some(content) = self.content.as_ref().filter(|_| self.phase == Phase::Running) else { return };
        let upload_only = content.picker.is_complete();
        if upload_only != core::mem::replace(&mut self.told_upload_only, upload_only) {
            self.known.set_seeding(upload_only);
            let partial_seed = AnnouncerEvent::PartialSeed(upload_only && !content.picker.have().is_all());
            self.announcer.handle_event(now, partial_seed, &mut self.pending.announcer);
            for conn in self.members.keys().copied().collect::<Vec<_>>() {
                self.tell(now, conn, peer::Event::UploadOnly(upload_only));
            }
        }
    }

    /// Wants of a peer what can be asked for: nothing before the files are checked.
    pub(super) fn update_interest(&mut self, now: Timestamp, conn: ConnId) {
        let Some(member) = self.members.get(&conn).filter(|_| self.phase == Phase::Running) else { return };
        let want = member.interesting > 0;
        if member.peer.we_want() != want {
            self.tell(now, conn, peer::Event::Interest(want));
        }
    }

    /// Two complete peers have nothing to trade (BEP 21).
    pub(super) fn drop_if_useless(&mut self, now: Timestamp, conn: ConnId, out: &mut Outbox<Action>) {
        let (Some(member), Some(content)) = (self.members.get(&conn), &self.content) else { return };
        if content.is_useless(member) {
            self.disconnect(now, conn, Reason::NothingToTrade, out);
        }
    }

    fn on_listen_port(&mut self, now: Timestamp, conn: ConnId, port: u16, out: &mut Outbox<Action>) {
        let Some(member) = self.members.get(&conn).filter(|member| !member.peer.is_outgoing()) else {
            return;
        };
        let remote = member.peer.remote();
        // Their call has got through, and ours to there has not.
        let ours = self.dialling(SocketAddr::new(remote.ip(), port));
        let in_vain = |ours: &ConnId| self.members.get(ours).is_some_and(|ours| ours.peer.is_connecting());
        if let Some(ours) = ours.filter(in_vain) {
            self.disconnect(now, ours, Reason::Duplicate, out);
        }
        match self.known.handle_listen_port(now, remote, port) {
            Ok(listens) => {
                if let Some(member) = self.members.get_mut(&conn) {
                    member.endpoint = listens;
                }
            }
            Err(refusal) => self.disconnect(now, conn, reason_of(refusal), out),
        }
    }

    /// Whether there is memory for more blocks.
    pub(crate) fn takes_data(&self) -> bool {
        self.content.as_ref().is_none_or(Content::takes_data)
    }

    /// How many bytes one connection may read ahead: together they stay near the budget of memory.
    pub(crate) fn read_window(&self) -> u32 {
        let share = self.common.store_budget / (self.downloading as u64).max(1);
        // A message is used up when it is whole: the longest must fit into what is left when more is granted.
        let pieces = if self.content.is_some() { self.piece_count() } else { MAX_PIECES };
        let least = 2 * ((Bitfield::byte_len(pieces) as u32).max(MAX_EXTENDED_LEN) + 16);
        u32::try_from(share).unwrap_or(u32::MAX).clamp(least, READ_WINDOW_MAX.max(least))
    }

    /// How many pieces there are, as far as that is known.
    pub(super) fn piece_count(&self) -> u32 {
        self.content.as_ref().map_or(0, |content| content.map.lengths().piece_count())
    }

    fn on_block(&mut self, now: Timestamp, conn: ConnId, block: Block, payload: Payload) {
        self.remember_sender(conn);
        let Some(content) = &mut self.content else { return };
        if let Some(member) = self.members.get_mut(&conn) {
            member.choking.down.add(now, u64::from(block.len()));
        }
        match content.picker.received(block, conn) {
            Receipt::Duplicate => {
                if let Some(member) = self.members.get_mut(&conn) {
                    member.peer.count_wasted(block.len());
                }
            }
            Receipt::New { cancel } => {
                self.pending.work |= content.picker.has_place(block.piece());
                let event = store::Event::Block { block, payload };
                content.store.handle_event(now, event, &mut self.pending.store);
                for other in cancel.iter().copied() {
                    self.tell(now, other, peer::Event::Cancel(block));
                }
            }
        }
    }

    /// Notes where a peer is that sends something which may turn out wrong when it has left.
    pub(super) fn remember_sender(&mut self, conn: ConnId) {
        if let Some(member) = self.members.get(&conn) {
            self.senders.entry(conn).or_insert(member.endpoint);
            if self.senders.len() > MAX_SENDERS {
                self.senders.pop_first();
            }
        }
    }

    /// Asks a peer for as much as it has room for.
    fn refill(&mut self, now: Timestamp, conn: ConnId) {
        let (Some(member), Some(content)) = (self.members.get(&conn), &mut self.content) else { return };
        let room = member.peer.room();
        if room == 0 || self.phase != Phase::Running {
            return;
        }
        self.idle.insert(conn);
        if !content.takes_data() {
            content.short_of_memory = true;
            return;
        }
        let rate = member.peer.rate_bytes_per_s().max(1);
        let alone = u64::from(content.map.lengths().piece_len_max()) / rate < ALONE_SECONDS;
        let style = if alone { Style::Striped } else { Style::Shared };
        let only = member.peer.they_choke().then(|| member.peer.allowed_to_us());
        let (mut blocks, endgame) = (Vec::new(), content.picker.in_endgame());
        if only.is_none() && content.picker.order() == Order::Rarest {
            let wanted = |piece: &PieceIndex| content.picker.wants(*piece);
            let suggested: Vec<PieceIndex> = member.peer.suggested().filter(wanted).collect();
            if !suggested.is_empty() {
                content.picker.pick(conn, &member.has, style, Some(&suggested), room, &mut blocks);
            }
        }
        let room = room - blocks.len();
        content.picker.pick(conn, &member.has, style, only, room, &mut blocks);
        // Only in endgame is there work for those that had none: blocks that others owe.
        self.pending.work |= content.picker.in_endgame() && !endgame;
        if !blocks.is_empty() {
            self.idle.remove(&conn);
            self.tell(now, conn, peer::Event::Assigned(blocks));
        }
    }

    /// A connection from there was our own.
    pub(crate) fn learn_own(&mut self, ip: IpAddr) {
        self.known.learn_own(SocketAddr::new(ip, self.listen_port));
    }

    pub(super) fn disconnect(
        &mut self,
        now: Timestamp,
        conn: ConnId,
        reason: Reason,
        out: &mut Outbox<Action>,
    ) {
        let Some(member) = self.members.get(&conn) else { return };
        let (remote, endpoint, outgoing) = (member.peer.remote(), member.endpoint, member.peer.is_outgoing());
        let (is_open, is_connecting) = (member.peer.is_open(), member.peer.is_connecting());
        let parting = match reason {
            Reason::Ourselves => {
                self.known.learn_own(endpoint);
                if !outgoing {
                    // The end that dialled hears no more of it than that it is closed.
                    self.learn_own(remote.ip());
                }
                Parting::Failed
            }
            Reason::ConnectTimeout
            | Reason::HandshakeTimeout
            | Reason::NotObfuscated
            | Reason::Obfuscation(_)
            | Reason::Offence(_) => Parting::Failed,
            Reason::NothingToTrade => {
                self.known.note_seed(endpoint);
                Parting::Useless
            }
            // One that nobody answered says nothing of them.
            Reason::Duplicate if !is_connecting => Parting::Useless,
            _ if is_open => Parting::Lost,
            _ => Parting::Undecided,
        };
        self.known.handle_disconnected(now, remote, parting);
        if !is_open && parting == Parting::Failed {
            self.on_dial_failed(now, conn, reason != Reason::ConnectTimeout);
        }
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
        if let Some(content) = &mut self.content {
            content.picker.peer_gone(conn);
            if member.peer.handshake().is_some() {
                content.picker.peer_left(&member.has);
            }
        }
        self.free_slot(now, conn);
        self.tell_metadata(now, metadata::Event::Gone { peer: conn });
        self.tell_pex(now, pex::Event::Gone { peer: conn });
        self.tell_punch(now, holepunch::Event::Gone { peer: conn });
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

/// Pieces that a newcomer may have while choked (BEP 6).
const ALLOWED_FAST: usize = 5;

/// What one connection may read ahead, unless messages are longer.
const READ_WINDOW_MAX: u32 = 1 << 20;

/// Connections of which the address is remembered, for when what they sent turns out wrong.
const MAX_SENDERS: usize = 4096;

/// A peer that needs this many seconds for a piece shares it with others.
const ALONE_SECONDS: u64 = 3;
