//! How peers become members: by our call or by theirs.

use super::choking::Standing;
use super::known_peers::{Refusal, Source, UtpHint};
use super::members::Member;
use super::{Action, Phase, Torrent, handshake};
use crate::bitfield::Bitfield;
use crate::id::{ConnId, PeerId};
use crate::machine::{Outbox, Timestamp};
use crate::peer::{Peer, Setup};
use crate::session::Reason;
use alloc::sync::Arc;
use core::net::SocketAddr;
use core::time::Duration;

impl Torrent {
    /// Whether more connections are welcome.
    pub(crate) fn has_place(&self) -> bool {
        self.online && self.members.len() < self.common.max_peers
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
        self.join(now, peer, false);
    }

    /// Whether the last obfuscated connection to `remote` failed.
    pub(crate) fn dials_plain(&self, remote: SocketAddr) -> bool {
        self.known.dials_plain(remote)
    }

    /// What is known of reaching `remote` by uTP.
    pub(crate) fn utp_hint(&self, remote: SocketAddr) -> UtpHint {
        self.known.utp_hint(remote)
    }

    /// An obfuscated connection to `remote` failed: it is dialled again without, and at once.
    pub(crate) fn dial_plain(&mut self, remote: SocketAddr) {
        // Without a network that says nothing.
        if !self.network_is_down || remote.ip().is_loopback() {
            self.known.dial_plain(remote);
        }
    }

    /// The connection to `remote` that we open and that has not greeted us.
    pub(crate) fn dialling(&self, remote: SocketAddr) -> Option<ConnId> {
        let ours = self.members.values().find(|member| {
            let peer = &member.peer;
            peer.is_outgoing() && !peer.is_open() && peer.remote() == remote
        });
        ours.map(|member| member.peer.conn())
    }

    /// Whether we give up our call `ours` for a call of its peer. Where two of our kind call each other the one of the lower
    /// id stays; with others, which may always insist on their own, the next call decides. Both ends of a call that a relay
    /// brought about may have failed before.
    pub(crate) fn yields_to(&self, ours: ConnId, theirs: PeerId) -> bool {
        let Some(member) = self.members.get(&ours) else { return true };
        theirs < self.common.peer_id || !member.punched && self.known.failures(member.peer.remote()) > 0
    }

    pub(crate) fn accept(
        &mut self,
        now: Timestamp,
        conn: ConnId,
        remote: SocketAddr,
        by_utp: bool,
        out: &mut Outbox<Action>,
    ) -> Result<(), Reason> {
        if !self.online {
            return Err(Reason::UnknownTorrent);
        }
        let leaves = if self.members.len() < self.common.max_peers {
            None
        } else {
            Some(self.outranked_by(now, remote).ok_or(Reason::Full)?)
        };
        self.known.accept(remote).map_err(reason_of)?;
        if let Some(other) = leaves {
            self.disconnect(now, other, Reason::Outranked, out);
            self.settle(now, out);
        }
        let peer = Peer::incoming(now, conn, remote, self.peer_setup());
        self.join(now, peer, by_utp);
        Ok(())
    }

    /// The member that makes room in a full torrent for a peer with which a connection has a higher priority (BEP 40):
    /// that of the lowest, among those of which nobody has had anything for a while. Who is near, or was named by the
    /// user, stays.
    fn outranked_by(&self, now: Timestamp, newcomer: SocketAddr) -> Option<ConnId> {
        self.content.as_ref().filter(|_| self.phase == Phase::Running)?;
        let priority = self.known.place().priority_of(newcomer)?;
        let idle = self.members.values().filter(|member| {
            let peer = &member.peer;
            let wanted = peer.outstanding() > 0 || peer.owes() || peer.they_want() && !peer.we_choke();
            let busy =
                wanted || member.choking.down.bytes_per_s(now) > 0 || member.choking.up.bytes_per_s(now) > 0;
            let settled = peer.is_open() && now.since(peer.opened()) >= SETTLED_AFTER;
            settled && !busy && !self.known.sources(member.endpoint).has(Source::Manual)
        });
        let ranked = idle.filter_map(|member| {
            Some((self.known.place().priority_of(member.peer.remote())?, member.peer.conn()))
        });
        ranked.min().filter(|(lowest, _)| *lowest < priority).map(|(_, conn)| conn)
    }

    fn peer_setup(&self) -> Setup {
        Setup {
            ours: handshake(&self.common, self.info_hash(), self.common.dht && !self.is_private()),
            map: self.content.as_ref().map(|content| Arc::clone(&content.map)),
            listen_port: self.listen_port,
            max_requests: self.common.max_requests,
            client: self.common.client.clone(),
        }
    }

    fn join(&mut self, now: Timestamp, peer: Peer, by_utp: bool) {
        let has = Bitfield::none(self.piece_count());
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
                obfuscated: false,
                by_utp,
                punched: false,
                choking: Standing::new(now),
            },
        );
        self.file_due(conn);
    }
}

/// Why a connection ends that the known peers have no place for.
pub(super) fn reason_of(refusal: Refusal) -> Reason {
    match refusal {
        Refusal::Banned => Reason::Banned,
        _ => Reason::Duplicate,
    }
}

/// How long a peer has time to show what it is good for, before another may take its place.
const SETTLED_AFTER: Duration = Duration::from_secs(60);
