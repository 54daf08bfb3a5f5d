//! Connections that a third peer brings about (BEP 55): what the torrent tells its [`Holepunch`](super::holepunch), and
//! does for it.

use super::holepunch::{self, Event};
use super::{Action, Torrent};
use crate::id::ConnId;
use crate::machine::{Machine as _, Outbox, Timestamp};
use crate::peer;
use crate::session::Notice;
use core::net::{IpAddr, SocketAddr};

impl Torrent {
    /// Begins to open a connection that a relay brings about, unless it may not be or is not wanted; then
    /// [`handle_not_punched`](Self::handle_not_punched) follows.
    pub(crate) fn begin_punch(&mut self, now: Timestamp, remote: SocketAddr) -> bool {
        self.punch.is_some() && self.has_place() && self.known.dial_now(now, remote)
    }

    /// A connection that we open is one that a relay brings about: the other end opens one too.
    pub(crate) fn note_punched(&mut self, conn: ConnId) {
        if let Some(member) = self.members.get_mut(&conn) {
            member.punched = true;
        }
    }

    /// No connection to `remote` is opened.
    pub(crate) fn handle_not_punched(
        &mut self,
        now: Timestamp,
        remote: SocketAddr,
        out: &mut Outbox<Action>,
    ) {
        self.tell_punch(now, Event::NotOpened { addr: remote });
        self.settle(now, out);
    }

    pub(super) fn tell_punch(&mut self, now: Timestamp, event: Event) {
        if let Some(punch) = &mut self.punch {
            punch.handle_event(now, event, &mut self.pending.punch);
        }
    }

    /// Where others see us.
    pub(super) fn tell_own(&mut self, now: Timestamp) {
        let (place, port) = (*self.known.place(), self.listen_port);
        let v4 = place.v4.map(IpAddr::V4);
        for ip in v4.into_iter().chain(place.v6.map(IpAddr::V6)).filter(|_| port != 0) {
            self.tell_punch(now, Event::Own { addr: SocketAddr::new(ip, port) });
        }
    }

    /// A connection that we opened did not come about, or was of no use: then there had been an answer.
    pub(super) fn on_dial_failed(&mut self, now: Timestamp, conn: ConnId, answered: bool) {
        let peer = self.members.get(&conn).map(|member| &member.peer);
        if let Some(peer) = peer.filter(|peer| peer.is_outgoing()) {
            let addr = peer.remote();
            // The one that failed still has its place.
            let has_place = self.online && self.members.len() <= self.common.max_peers;
            self.tell_punch(now, Event::DialFailed { addr, answered, has_place });
        }
    }

    /// A peer told of another one that speaks the extension.
    pub(super) fn on_told(&mut self, now: Timestamp, peer: ConnId, addr: SocketAddr) {
        self.tell_punch(now, Event::Told { peer, addr });
        // It was named by somebody else before, and could not be reached.
        if self.known.failures(addr) > 0 {
            let has_place = self.has_place();
            self.tell_punch(now, Event::DialFailed { addr, answered: false, has_place });
        }
    }

    pub(super) fn on_punch_action(
        &mut self,
        now: Timestamp,
        action: holepunch::Action,
        out: &mut Outbox<Action>,
    ) {
        tracing::debug!(torrent = %self.id, "{action}");
        match action {
            holepunch::Action::GaveUp { addr, why } => {
                let notice = Notice::HolepunchFailed { torrent: self.id, remote: addr, why };
                out.push_back(Action::Notice(notice));
            }
            holepunch::Action::Open { addr } => out.push_back(Action::Punch { remote: addr }),
            holepunch::Action::Send { peer, message } => {
                self.tell(now, peer, peer::Event::Holepunch(message));
            }
        }
    }
}
