//! Where others see us: what peers and nodes say about it, together.

use super::Session;
use crate::dht::votes::Votes;
use crate::torrent::priority::Place;
use core::net::{IpAddr, SocketAddr};

/// Votes about our addresses.
#[derive(Debug, Default)]
pub(super) struct Seen {
    v4: Votes,
    v6: Votes,
}

impl Seen {
    /// What most agree on. We listen on `port`.
    pub(super) fn place(&self, port: u16) -> Place {
        let v4 = self.v4.elected().and_then(|ip| if let IpAddr::V4(ip) = ip { Some(ip) } else { None });
        let v6 = self.v6.elected().and_then(|ip| if let IpAddr::V6(ip) = ip { Some(ip) } else { None });
        Place { v4, v6, port }
    }
}

impl Session {
    /// Somebody says at which address it sees us.
    pub(super) fn on_seen(&mut self, by: SocketAddr, ip: IpAddr) {
        let before = self.seen.place(self.listen_port);
        let votes = match ip.to_canonical() {
            IpAddr::V4(_) => &mut self.seen.v4,
            IpAddr::V6(_) => &mut self.seen.v6,
        };
        if votes.cast(by, ip) && self.seen.place(self.listen_port) != before {
            self.tell_place();
        }
    }

    /// We are elsewhere.
    pub(super) fn forget_seen(&mut self) {
        self.seen = Seen::default();
        self.tell_place();
    }

    pub(super) fn tell_place(&mut self) {
        let (now, place) = (self.now, self.seen.place(self.listen_port));
        self.torrents.values_mut().for_each(|slot| slot.torrent.set_place(now, place));
    }
}
