//! What becomes of blocks: the store's side of a torrent.

use super::smart_ban::Sent;
use super::{Action, HAVE_DELAY, Phase, Torrent, Work};
use crate::lengths::PieceIndex;
use crate::machine::{Machine as _, Outbox, Timestamp};
use crate::peer;
use crate::pieces::Priority;
use crate::session::Notice;
use crate::store;
use crate::tracker::AnnouncerEvent;
use alloc::vec::Vec;
use core::net::SocketAddr;

impl Torrent {
    pub(super) fn on_store_action(
        &mut self,
        now: Timestamp,
        action: store::Action,
        out: &mut Outbox<Action>,
    ) {
        let Some(content) = &mut self.content else { return };
        match action {
            store::Action::Checked => self.on_checked(now, out),
            store::Action::Completed => self.on_completed(now, out),
            store::Action::Digests { piece, digests } => {
                let liars = content.smart_ban.passed(piece, &digests);
                self.ban_all(now, liars, out);
            }
            store::Action::Failed { piece, digests } => self.on_failed(now, piece, &digests, out),
            store::Action::Flushed => {
                content.flushed = true;
                self.end_if_stopped(out);
            }
            store::Action::Found(piece) => {
                content.picker.set_have(piece);
                content.stored.insert(piece);
                content.completed.push(piece);
            }
            store::Action::LookedAt => self.on_looked_at(now),
            store::Action::Lost(piece) => self.on_lost(now, piece, out),
            store::Action::Op { job, op } => out.push_back(Action::Disk { work: Work::Store(job), op }),
            store::Action::Read { token, result } => {
                if let Some((conn, token)) = content.reads.remove(&token) {
                    self.tell(now, conn, peer::Event::Read { token, payload: result.ok() });
                }
            }
            store::Action::Recovered => {
                content.trouble = None;
                self.pending.work = true;
            }
            store::Action::Stored(piece) => {
                content.stored.insert(piece);
                content.completed.push(piece);
                content.downloaded = true;
                content.haves_due.get_or_insert(now + HAVE_DELAY);
            }
            store::Action::Trouble(error) => {
                content.trouble = Some(error);
                out.push_back(Action::Notice(Notice::DiskTrouble { torrent: self.id, error }));
            }
            store::Action::Verified(piece) => self.on_verified(now, piece, out),
        }
        if let Some(content) = &mut self.content
            && content.short_of_memory
            && content.store.pinned() <= content.budget / 2
        {
            content.short_of_memory = false;
            self.pending.work = true;
        }
    }

    /// Tells peers that nothing else is written to of completed pieces.
    pub(super) fn tell_haves_if_due(&mut self, now: Timestamp, out: &mut Outbox<Action>) {
        let Some(content) = &mut self.content else { return };
        if self.phase != Phase::Running || content.haves_due.is_none_or(|at| at > now) {
            return;
        }
        content.haves_due = None;
        for member in self.members.values_mut() {
            if !member.wants_write && member.peer.wants_write(&content.completed) {
                member.wants_write = true;
                out.push_back(Action::WantWrite { conn: member.peer.conn() });
            }
        }
    }

    fn on_checked(&mut self, now: Timestamp, out: &mut Outbox<Action>) {
        let Some(content) = &mut self.content else { return };
        if self.seed_only {
            for piece in content.map.lengths().pieces().filter(|piece| !content.stored.has(*piece)) {
                content.picker.set_priority(piece, Priority::Skip);
            }
        }
        let pieces = content.stored.ones();
        out.push_back(Action::Notice(Notice::Checked { torrent: self.id, pieces }));
        if self.phase != Phase::Checking {
            return;
        }
        self.phase = Phase::Running;
        if self.check_only {
            return;
        }
        if content.picker.is_complete() {
            out.push_back(Action::Notice(Notice::Seeding { torrent: self.id }));
        }
        self.go_online(now);
        self.trade_with_members(now, out);
        self.tell_upload_only(now);
    }

    fn on_completed(&mut self, now: Timestamp, out: &mut Outbox<Action>) {
        // Without a wanted file there can be wanted pieces.
        let Some(content) = self.content.as_ref().filter(|content| content.picker.is_complete()) else {
            return;
        };
        out.push_back(Action::Notice(Notice::Completed { torrent: self.id }));
        // BEP 3: `completed` is not said of what was complete when it was started.
        if content.stored.is_all() && content.downloaded {
            self.announcer.handle_event(now, AnnouncerEvent::Completed, &mut self.pending.announcer);
        }
    }

    fn on_verified(&mut self, now: Timestamp, piece: PieceIndex, out: &mut Outbox<Action>) {
        let Some(content) = &mut self.content else { return };
        content.picker.verified(piece);
        let complete = content.picker.is_complete();
        self.forget_interest(now, piece);
        if complete {
            for conn in self.members.keys().copied().collect::<Vec<_>>() {
                self.drop_if_useless(now, conn, out);
            }
            self.tell_upload_only(now);
        }
    }

    fn on_failed(
        &mut self,
        now: Timestamp,
        piece: PieceIndex,
        digests: &[[u8; 20]],
        out: &mut Outbox<Action>,
    ) {
        let Some(content) = &mut self.content else { return };
        self.totals.wasted_bytes += u64::from(content.map.lengths().piece_len(piece));
        let contributors = content.picker.failed(piece).into_iter();
        let sent: Vec<Sent<SocketAddr>> = contributors
            .filter_map(|(number, conn)| {
                let digest = *digests.get(number as usize)?;
                Some(Sent { number, sender: *self.senders.get(&conn)?, digest })
            })
            .collect();
        out.push_back(Action::Notice(Notice::HashFailed { torrent: self.id, piece }));
        let liars = content.smart_ban.failed(piece, &sent);
        self.ban_all(now, liars, out);
        self.pending.work = true;
    }

    /// A piece that was stored is missing again: nobody is to believe otherwise.
    fn on_lost(&mut self, now: Timestamp, piece: PieceIndex, out: &mut Outbox<Action>) {
        let Some(content) = &mut self.content else { return };
        let place = content.completed.iter().position(|completed| *completed == piece);
        let place = place.expect("what was stored is on the list of completed pieces");
        content.completed.remove(place);
        content.stored.remove(piece);
        content.lost.push(piece);
        out.push_back(Action::Notice(Notice::PieceLost { torrent: self.id, piece }));
        for conn in self.members.keys().copied().collect::<Vec<_>>() {
            self.tell(now, conn, peer::Event::Lost { piece, place });
        }
    }

    /// What was lost is fetched once more, if files may be written.
    fn on_looked_at(&mut self, now: Timestamp) {
        let Some(content) = &mut self.content else { return };
        for piece in core::mem::take(&mut content.lost) {
            if self.seed_only {
                content.picker.set_priority(piece, Priority::Skip);
            }
            content.picker.set_lost(piece);
            if content.picker.wants(piece) {
                let having = self.members.values_mut().filter(|member| member.has.has(piece));
                having.for_each(|member| member.interesting += 1);
            }
        }
        for conn in self.members.keys().copied().collect::<Vec<_>>() {
            self.update_interest(now, conn);
        }
        self.tell_upload_only(now);
        self.pending.work = true;
    }

    fn ban_all(&mut self, now: Timestamp, liars: Vec<SocketAddr>, out: &mut Outbox<Action>) {
        for liar in liars {
            self.ban(now, liar, out);
        }
    }
}
