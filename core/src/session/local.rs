//! Torrents in the local network (BEP 14).

use super::{Action, Session};
use crate::id::TorrentId;
use crate::lsd;
use crate::machine::{Machine as _, Timestamp};
use crate::torrent::known_peers::Source;
use alloc::vec;

impl Session {
    /// Calls a torrent out as long as its peers may come from anywhere.
    pub(super) fn call_or_not(&mut self, now: Timestamp, id: TorrentId) {
        let Some(slot) = self.torrents.get_mut(&id) else { return };
        let call = slot.torrent.is_discoverable();
        if call != slot.called {
            slot.called = call;
            let torrent = slot.torrent.info_hash();
            let event = if call { lsd::Event::Shared { torrent } } else { lsd::Event::Unshared { torrent } };
            self.tell_lsd(now, event);
        }
    }

    pub(super) fn tell_lsd(&mut self, now: Timestamp, event: lsd::Event) {
        if let Some(lsd) = &mut self.lsd {
            lsd.handle_event(now, event, &mut self.pending.lsd);
            self.drain_lsd(now);
        }
    }

    pub(super) fn drain_lsd(&mut self, now: Timestamp) {
        while let Some(action) = self.pending.lsd.pop_front() {
            match action {
                lsd::Action::Call { group, data } => {
                    self.actions.push_back(Action::Multicast { group, data });
                }
                lsd::Action::Found { torrent, peer } => {
                    if let Some(id) = self.by_hash.get(&torrent).copied() {
                        self.with_torrent(now, id, |torrent, out| {
                            torrent.on_peers_found(now, vec![peer], Source::Lsd, None, out);
                        });
                    }
                }
            }
        }
    }
}
