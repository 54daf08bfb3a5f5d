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
use core::net::{IpAddr, SocketAddr};
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

    /// Whether we give up our call `ours` for a call of its peer.
    fn yields_to(&self, ours: ConnId, theirs: PeerId) -> bool {
        let Some(member) = self.members.get(&ours) else { return true };
        // Theirs has got through. At their end it is not the same with ours, or nothing of theirs would have come here.
        if member.peer.is_connecting() {
            return true;
        }
        // Both ends of a call that a relay brought about may have failed before.
        let failed = !member.punched && self.known.failures(member.peer.remote()) > 0;
        yields(self.common.peer_id, theirs, failed)
    }

    /// Takes in a peer that called us from `remote`, and has this id.
    pub(crate) fn accept(
        &mut self,
        now: Timestamp,
        conn: ConnId,
        (remote, theirs): (SocketAddr, Option<PeerId>),
        by_utp: bool,
        out: &mut Outbox<Action>,
    ) -> Result<(), Reason> {
        if !self.online {
            return Err(Reason::UnknownTorrent);
        }
        // First of all, so that nobody else takes its place.
        if let Some(ours) = self.call_that_yields(remote, theirs) {
            self.disconnect(now, ours, Reason::Duplicate, out);
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

    /// Our call that we give up for one from `remote`: streams of uTP come from the port to which ours go, so both ends see
    /// at once that they called each other. A call that nobody answers also makes room where an address has no more: a
    /// router may let nobody in to them.
    fn call_that_yields(&self, remote: SocketAddr, theirs: Option<PeerId>) -> Option<ConnId> {
        let same =
            self.dialling(remote).filter(|ours| theirs.is_some_and(|theirs| self.yields_to(*ours, theirs)));
        let is_full = !self.known.has_room_for_link(remote.ip());
        same.or_else(|| self.connecting_to(remote.ip()).filter(|_| is_full))
    }

    /// A connection to an address that we open, and that has not come about.
    fn connecting_to(&self, ip: IpAddr) -> Option<ConnId> {
        let ip = ip.to_canonical();
        let mut peers = self.members.values().map(|member| &member.peer);
        let ours = peers.find(|peer| peer.is_connecting() && peer.remote().ip().to_canonical() == ip);
        ours.map(Peer::conn)
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

/// Whether one end gives up its call for that of the other. Where two of our kind call each other the call of the lower id
/// stays, whatever failed before. Others may always insist on their own: after a failure we give in.
fn yields(ours: PeerId, theirs: PeerId, failed: bool) -> bool {
    let is_our_kind = ours.0[..3] == theirs.0[..3];
    theirs < ours || failed && !is_our_kind
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

#[cfg(test)]
mod tests {
    use super::yields;
    use crate::id::PeerId;

    #[test]
    fn of_two_that_call_each_other_one_gives_in() {
        let (low, high) = (PeerId(*b"-FP0100-aaaaaaaaaaaa"), PeerId(*b"-FP0200-aaaaaaaaaaaa"));
        for (low_failed, high_failed) in [(false, false), (false, true), (true, false), (true, true)] {
            assert!(!yields(low, high, low_failed) && yields(high, low, high_failed));
        }
        // One that never does.
        let other = PeerId(*b"-LT2110-aaaaaaaaaaaa");
        assert!(!yields(low, other, false) && yields(low, other, true));
    }
}
