//! How many connections a client has, to whom, and whom it bans: INV-S-15 and INV-S-17.

use super::{Bounds, Observation, Verdict, hold};
use core::net::{IpAddr, SocketAddr};
use fast_peer_core::address;
use fast_peer_core::id::ConnId;
use fast_peer_core::session::{Notice, Reason};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug)]
pub(super) struct Connections {
    own: SocketAddr,
    bounds: Bounds,
    open: BTreeMap<ConnId, Connection>,
    half_open: u32,
    torrents: usize,
    own_dials: u32,
    banned: BTreeSet<SocketAddr>,
}

#[derive(Debug)]
struct Connection {
    remote: SocketAddr,
    honest: bool,
    half_open: bool,
}

impl Connections {
    pub(super) fn new(own: SocketAddr, bounds: Bounds) -> Self {
        Self {
            own,
            bounds,
            open: BTreeMap::new(),
            half_open: 0,
            torrents: 0,
            own_dials: 0,
            banned: BTreeSet::new(),
        }
    }

    pub(super) fn add_torrent(&mut self) {
        self.torrents += 1;
    }

    pub(super) fn observe(&mut self, observation: &Observation<'_>) -> Verdict {
        match *observation {
            Observation::Accepted { conn, remote, honest } => {
                self.open.insert(conn, Connection { remote, honest, half_open: false });
                self.check_counts()?;
            }
            Observation::Dialled { conn, remote, honest } => {
                // That an address is its own, a client only learns by dialling it.
                self.own_dials += u32::from(remote == self.own);
                hold(self.own_dials as usize <= self.torrents, "INV-S-15", || {
                    "it dials itself again".into()
                })?;
                hold(is_routable(remote), "INV-S-15", || format!("it dials {remote}"))?;
                hold(!self.banned.contains(&remote), "INV-S-15", || {
                    format!("it dials {remote}, once banned")
                })?;
                // A connection is about one torrent, so there may be one for each.
                let same = self.open.values().filter(|connection| connection.remote == remote).count();
                hold(same < self.torrents, "INV-S-15", || format!("it dials {remote} again"))?;
                self.open.insert(conn, Connection { remote, honest, half_open: true });
                self.half_open += 1;
                self.check_counts()?;
            }
            Observation::Connected { conn } => {
                if let Some(connection) = self.open.get_mut(&conn) {
                    self.half_open -= u32::from(connection.half_open);
                    connection.half_open = false;
                }
            }
            Observation::Dropped { conn, reason } => {
                let honest = self.open.get(&conn).is_none_or(|connection| connection.honest);
                let accused = matches!(reason, Reason::Offence(_) | Reason::Banned);
                hold(!(honest && accused), "INV-S-17", || format!("it says of an honest peer: {reason}"))?;
                if reason == Reason::Outranked {
                    let is_local = self.open.get(&conn).is_some_and(|it| address::is_local(it.remote.ip()));
                    hold(!is_local, "INV-S-15", || "it gives up a peer that is near".into())?;
                    let is_full = self.open.len() > self.bounds.connections_per_torrent as usize;
                    hold(is_full, "INV-S-15", || "it makes room where there is some".into())?;
                }
            }
            Observation::Gone { conn } => {
                if let Some(connection) = self.open.remove(&conn) {
                    self.half_open -= u32::from(connection.half_open);
                }
            }
            Observation::Notice { notice: Notice::Banned { remote, .. }, honest } => {
                hold(!honest, "INV-S-17", || format!("it bans the honest {remote}"))?;
                self.banned.insert(*remote);
            }
            _ => {}
        }
        Ok(())
    }

    fn check_counts(&self) -> Verdict {
        let (count, half_open) = (self.open.len(), self.half_open);
        hold(count <= self.bounds.connections as usize, "INV-S-15", || format!("{count} connections"))?;
        hold(half_open <= self.bounds.half_open, "INV-S-15", || format!("{half_open} half-open connections"))
    }
}

fn is_routable(remote: SocketAddr) -> bool {
    let bad_ip = match remote.ip() {
        IpAddr::V4(ip) => ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unspecified() || ip.is_multicast(),
    };
    remote.port() != 0 && !bad_ip
}

#[cfg(test)]
mod tests {
    use super::super::tests::{BOUNDS, expect_breach};
    use super::{ConnId, Connections, Notice, Observation, Reason, SocketAddr, Verdict};
    use fast_peer_core::id::TorrentId;
    use fast_peer_core::wire::Offence;

    fn own() -> SocketAddr {
        ([11, 0, 0, 1], 6881).into()
    }

    fn peer(n: u8) -> SocketAddr {
        ([11, 0, 0, n], 6881).into()
    }

    fn fresh() -> Connections {
        let mut connections = Connections::new(own(), BOUNDS);
        connections.add_torrent();
        connections
    }

    fn dial(connections: &mut Connections, n: u64, remote: SocketAddr) -> Verdict {
        connections.observe(&Observation::Dialled { conn: ConnId(n), remote, honest: true })
    }

    #[test]
    fn s15_addresses_that_nobody_dials() {
        for remote in [([11, 0, 0, 2], 0).into(), ([224, 0, 0, 1], 6881).into(), ([0; 4], 6881).into()] {
            expect_breach(dial(&mut fresh(), 1, remote), "INV-S-15");
        }
    }

    #[test]
    fn s15_its_own_address_once_more() {
        let mut connections = fresh();
        dial(&mut connections, 1, own()).unwrap();
        connections.observe(&Observation::Gone { conn: ConnId(1) }).unwrap();
        expect_breach(dial(&mut connections, 2, own()), "INV-S-15");
    }

    #[test]
    fn s15_a_second_connection_to_one_peer() {
        let mut connections = fresh();
        dial(&mut connections, 1, peer(2)).unwrap();
        expect_breach(dial(&mut connections, 2, peer(2)), "INV-S-15");
    }

    #[test]
    fn s15_too_many_connections() {
        let mut connections = fresh();
        for n in 1..=4 {
            let remote = peer(n as u8 + 1);
            let accepted = Observation::Accepted { conn: ConnId(n), remote, honest: true };
            connections.observe(&accepted).unwrap();
        }
        let fifth = Observation::Accepted { conn: ConnId(5), remote: peer(9), honest: true };
        expect_breach(connections.observe(&fifth), "INV-S-15");

        let mut connections = fresh();
        dial(&mut connections, 1, peer(2)).unwrap();
        dial(&mut connections, 2, peer(3)).unwrap();
        expect_breach(dial(&mut connections, 3, peer(4)), "INV-S-15");
    }

    #[test]
    fn s15_room_is_made_where_there_is_some_or_by_one_that_is_near() {
        let drop_first = |near: bool, count: u64| {
            let mut connections = fresh();
            for n in 1..=count {
                let remote = if near && n == 1 { ([10, 0, 0, 9], 6881).into() } else { peer(n as u8 + 1) };
                connections
                    .observe(&Observation::Accepted { conn: ConnId(n), remote, honest: true })
                    .expect("there is room for them");
            }
            connections.observe(&Observation::Dropped { conn: ConnId(1), reason: Reason::Outranked })
        };
        expect_breach(drop_first(false, 3), "INV-S-15");
        expect_breach(drop_first(true, 4), "INV-S-15");
        drop_first(false, 4).expect("the torrent is full with three");
    }

    #[test]
    fn s15_a_banned_peer_is_not_dialled() {
        let mut connections = fresh();
        let notice = Notice::Banned { torrent: TorrentId(0), remote: peer(2) };
        connections.observe(&Observation::Notice { notice: &notice, honest: false }).unwrap();
        expect_breach(dial(&mut connections, 1, peer(2)), "INV-S-15");
    }

    #[test]
    fn s17_an_honest_peer_is_banned_or_accused() {
        let notice = Notice::Banned { torrent: TorrentId(0), remote: peer(2) };
        let mut connections = fresh();
        expect_breach(
            connections.observe(&Observation::Notice { notice: &notice, honest: true }),
            "INV-S-17",
        );
        dial(&mut connections, 1, peer(2)).unwrap();
        let dropped =
            Observation::Dropped { conn: ConnId(1), reason: Reason::Offence(Offence::InvalidRequest) };
        expect_breach(connections.observe(&dropped), "INV-S-17");
        let idle = Observation::Dropped { conn: ConnId(1), reason: Reason::Idle };
        connections.observe(&idle).expect("silence is no accusation");
    }
}
