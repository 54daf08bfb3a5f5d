//! Where a torrent's peers come from: what its [`Discovery`](super::discovery::Discovery) has to know.

use super::discovery::{Event, Need, Trackers, Us, useful_peers};
use super::{Action, Phase, Torrent};
use crate::machine::{Machine as _, Outbox, Timestamp};

/// How a torrent stands, as far as it matters to whether the DHT is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    trackers: Trackers,
    us: Us,
    has_open: bool,
    need: Need,
}

impl Torrent {
    pub(crate) fn handle_discovery(&mut self, now: Timestamp, event: Event, out: &mut Outbox<Action>) {
        self.discovery.handle_event(now, event, &mut self.pending.discovery);
        self.settle(now, out);
    }

    /// Tells the discovery what has changed; false if nothing has.
    pub(super) fn tell_discovery(&mut self, now: Timestamp) -> bool {
        if !self.online {
            return false;
        }
        let stands = self.stands();
        if self.told == Some(stands) {
            return false;
        }
        let is_first = self.told.replace(stands).is_none();
        let Told { trackers, us, has_open, need } = stands;
        let start = is_first.then_some(Event::Start);
        for event in [Event::Trackers(trackers), Event::Peers { has_open, need }, Event::Us(us)]
            .into_iter()
            .chain(start)
        {
            self.discovery.handle_event(now, event, &mut self.pending.discovery);
        }
        true
    }

    fn stands(&self) -> Told {
        let is_complete = self.content.as_ref().is_some_and(|content| content.picker.is_complete());
        let is_seed = is_complete && self.content.as_ref().is_some_and(|content| content.stored.is_all());
        // Whoever is only being dialled may not be there: many such addresses are no success yet.
        let open = self.members.values().filter(|member| member.peer.is_open()).count();
        let need = if is_complete || open >= useful_peers(self.common.max_peers) {
            Need::Enough
        } else if self.known.has_ready() || open < self.members.len() {
            Need::Trying
        } else {
            Need::Starving
        };
        let trackers = if self.announcer.has_hope() {
            Trackers::Alive
        } else if self.announcer.is_empty() {
            Trackers::None
        } else {
            Trackers::Dead
        };
        Told {
            trackers,
            us: Us { port: self.listen_port, seed: is_seed && self.phase >= Phase::Running },
            has_open: open > 0,
            need,
        }
    }
}
