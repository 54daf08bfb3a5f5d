//! Who is served: what the choker needs to know, and what its choice changes.

use super::choker::{Candidate, Goal};
use super::rate::RateMeter;
use super::{Phase, Torrent};
use crate::id::ConnId;
use crate::machine::Timestamp;
use crate::peer;
use alloc::vec::Vec;
use core::time::Duration;

/// What the choker judges a member by.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) down: RateMeter,
    pub(super) up: RateMeter,
    since: Timestamp,
    /// What they had taken when they were unchoked last.
    up_before: u64,
}

impl Standing {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { down: RateMeter::new(RATE_WINDOW), up: RateMeter::new(RATE_WINDOW), since: now, up_before: 0 }
    }
}

impl Torrent {
    pub(super) fn on_interested(&mut self, now: Timestamp, conn: ConnId, want: bool) {
        let Some(content) = &mut self.content else { return };
        if want {
            content.choker.handle_interested(now);
        } else {
            content.choker.handle_gone(now, conn);
        }
        self.rechoke_if_due(now);
    }

    /// A member left.
    pub(super) fn free_slot(&mut self, now: Timestamp, conn: ConnId) {
        let Some(content) = &mut self.content else { return };
        content.choker.handle_gone(now, conn);
        self.rechoke_if_due(now);
    }

    /// Deals the upload slots anew, if it is time.
    pub(super) fn rechoke_if_due(&mut self, now: Timestamp) {
        let Some(content) = self.content.as_mut().filter(|_| self.phase == Phase::Running) else { return };
        if content.choker.poll_timeout().is_none_or(|due| due.at > now) {
            return;
        }
        let goal = if content.picker.is_complete() { Goal::Spread } else { Goal::Reciprocate };
        let open = self.members.values().filter(|member| member.peer.is_open());
        let candidates: Vec<Candidate> = open
            .map(|member| Candidate {
                conn: member.peer.conn(),
                ip: member.peer.remote().ip(),
                interested: member.peer.they_want(),
                snubbed: member.peer.is_snubbed(),
                down_rate_bytes_per_s: member.choking.down.bytes_per_s(now),
                up_rate_bytes_per_s: member.choking.up.bytes_per_s(now),
                connected_at: member.peer.opened(),
                unchoked: !member.peer.we_choke(),
                since: member.choking.since,
                uploaded: member.peer.up_bytes() - member.choking.up_before,
            })
            .collect();
        let unchoked = content.choker.rechoke(now, goal, &candidates);
        let changed: Vec<(ConnId, bool)> = candidates
            .iter()
            .map(|candidate| (candidate, unchoked.contains(&candidate.conn)))
            .filter(|(candidate, serve)| candidate.unchoked != *serve)
            .map(|(candidate, serve)| (candidate.conn, serve))
            .collect();
        for (conn, serve) in changed {
            if let Some(member) = self.members.get_mut(&conn) {
                member.choking.since = now;
                member.choking.up_before = member.peer.up_bytes();
            }
            self.tell(now, conn, peer::Event::SetChoke(!serve));
        }
    }
}

/// The time over which a peer's rate is judged.
const RATE_WINDOW: Duration = Duration::from_secs(20);
