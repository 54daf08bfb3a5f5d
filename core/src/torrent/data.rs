//! What becomes of blocks: the store's side of a torrent.

use super::smart_ban::Sent;
use super::{Action, HAVE_DELAY, Phase, Torrent};
use crate::lengths::PieceIndex;
use crate::machine::{Machine as _, Outbox, Timestamp};
use crate::peer;
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
        match action {
            store::Action::Checked => self.on_checked(now, out),
            store::Action::Completed => self.on_completed(now, out),
            store::Action::Digests { piece, digests } => {
                let liars = self.smart_ban.passed(piece, &digests);
                self.ban_all(now, liars, out);
            }
            store::Action::Failed { piece, digests } => self.on_failed(now, piece, &digests, out),
            store::Action::Flushed => {
                self.flushed = true;
                self.end_if_stopped(out);
            }
            store::Action::Found(piece) => {
                self.picker.set_have(piece);
                self.stored.insert(piece);
            }
            store::Action::Op { job, op } => out.push_back(Action::Disk { job, op }),
            store::Action::Read { token, result } => {
                if let Some((conn, token)) = self.reads.remove(&token) {
                    self.tell(now, conn, peer::Event::Read { token, payload: result.ok() });
                }
            }
            store::Action::Recovered => {
                self.trouble = None;
                self.pending.work = true;
            }
            store::Action::Stored(piece) => {
                self.stored.insert(piece);
                self.completed.push(piece);
                self.haves_due.get_or_insert(now + HAVE_DELAY);
            }
            store::Action::Trouble(error) => {
                self.trouble = Some(error);
                out.push_back(Action::Notice(Notice::DiskTrouble { torrent: self.id, error }));
            }
            store::Action::Verified(piece) => {
                self.picker.verified(piece);
                self.forget_interest(now, piece);
                if self.picker.is_complete() {
                    for conn in self.members.keys().copied().collect::<Vec<_>>() {
                        self.drop_if_useless(now, conn, out);
                    }
                }
            }
        }
        if self.short_of_memory && self.store.pinned() <= self.common.store_budget / 2 {
            self.short_of_memory = false;
            self.pending.work = true;
        }
    }

    fn on_checked(&mut self, now: Timestamp, out: &mut Outbox<Action>) {
        out.push_back(Action::Notice(Notice::Checked { torrent: self.id, pieces: self.stored.ones() }));
        if self.phase != Phase::Checking {
            return;
        }
        self.phase = Phase::Running;
        if self.check_only {
            return;
        }
        if self.picker.is_complete() {
            out.push_back(Action::Notice(Notice::Seeding { torrent: self.id }));
        }
        self.announcer.handle_event(now, AnnouncerEvent::Start, &mut self.pending.announcer);
    }

    fn on_completed(&mut self, now: Timestamp, out: &mut Outbox<Action>) {
        // Without a wanted file there can be wanted pieces.
        if !self.picker.is_complete() {
            return;
        }
        out.push_back(Action::Notice(Notice::Completed { torrent: self.id }));
        // BEP 3: `completed` is not said of what was complete when it was started.
        if self.stored.is_all() && !self.completed.is_empty() {
            self.announcer.handle_event(now, AnnouncerEvent::Completed, &mut self.pending.announcer);
        }
    }

    fn on_failed(
        &mut self,
        now: Timestamp,
        piece: PieceIndex,
        digests: &[[u8; 20]],
        out: &mut Outbox<Action>,
    ) {
        self.totals.wasted_bytes += u64::from(self.map.lengths().piece_len(piece));
        let contributors = self.picker.failed(piece).into_iter();
        let sent: Vec<Sent<SocketAddr>> = contributors
            .filter_map(|(number, conn)| {
                let digest = *digests.get(number as usize)?;
                Some(Sent { number, sender: *self.senders.get(&conn)?, digest })
            })
            .collect();
        out.push_back(Action::Notice(Notice::HashFailed { torrent: self.id, piece }));
        let liars = self.smart_ban.failed(piece, &sent);
        self.ban_all(now, liars, out);
        self.pending.work = true;
    }

    fn ban_all(&mut self, now: Timestamp, liars: Vec<SocketAddr>, out: &mut Outbox<Action>) {
        for liar in liars {
            self.ban(now, liar, out);
        }
    }
}
