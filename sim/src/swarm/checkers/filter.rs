//! Nothing goes to a blocked address, and nothing comes from there: INV-S-15.

use super::{Observation, Verdict, hold};
use core::net::SocketAddr;
use fast_peer_core::id::ConnId;
use fast_peer_core::ip_filter::IpFilter;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Whom a client talks to, and whom it may not.
#[derive(Debug, Default)]
pub(super) struct Filter {
    filter: Arc<IpFilter>,
    conns: BTreeMap<ConnId, SocketAddr>,
}

impl Filter {
    pub(super) fn observe(&mut self, observation: &Observation<'_>) -> Verdict {
        match *observation {
            Observation::Accepted { conn, remote, .. } | Observation::Dialled { conn, remote, .. } => {
                self.conns.insert(conn, remote);
                self.check(remote, "has a connection with")
            }
            Observation::Datagram { to: Some(to), .. } => self.check(to, "sends a datagram to"),
            Observation::Gone { conn } => {
                self.conns.remove(&conn);
                Ok(())
            }
            Observation::Seen { conn, .. } => self.check_conn(conn, "listens to"),
            Observation::Sent { conn, .. } => self.check_conn(conn, "sends something to"),
            Observation::SetIpFilter { filter } => {
                self.filter = Arc::clone(filter);
                Ok(())
            }
            Observation::Settled { .. } => {
                self.conns.values().try_for_each(|remote| self.check(*remote, "keeps a connection with"))
            }
            _ => Ok(()),
        }
    }

    fn check_conn(&self, conn: ConnId, does: &str) -> Verdict {
        self.conns.get(&conn).map_or(Ok(()), |remote| self.check(*remote, does))
    }

    fn check(&self, remote: SocketAddr, does: &str) -> Verdict {
        hold(!self.filter.blocks(remote.ip()), "INV-S-15", || format!("it {does} {remote}, which is blocked"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::expect_breach;
    use super::{Arc, ConnId, Filter, Observation, SocketAddr};
    use fast_peer_core::ip_filter::{Builder, IpFilter};
    use fast_peer_core::wire::{Frame, Message};

    fn peer(n: u8) -> SocketAddr {
        ([11, 0, n, 1], 6881).into()
    }

    fn blocks_second() -> Arc<IpFilter> {
        let mut builder = Builder::new();
        builder.line(b"11.0.2.0/24").unwrap();
        Arc::new(builder.build())
    }

    fn filtering() -> Filter {
        let mut filter = Filter::default();
        filter.observe(&Observation::SetIpFilter { filter: &blocks_second() }).unwrap();
        filter
    }

    #[test]
    fn s15_a_blocked_address_is_dialled_let_in_or_written_to() {
        let (conn, honest) = (ConnId(1), true);
        let of = |remote| {
            [Observation::Dialled { conn, remote, honest }, Observation::Accepted { conn, remote, honest }]
        };
        for observation in of(peer(2)) {
            expect_breach(filtering().observe(&observation), "INV-S-15");
        }
        for observation in of(peer(3)) {
            filtering().observe(&observation).unwrap();
        }
        let datagram = |to| Observation::Datagram { to, data: b"d" };
        expect_breach(filtering().observe(&datagram(Some(peer(2)))), "INV-S-15");
        filtering().observe(&datagram(Some(peer(3)))).unwrap();
        filtering().observe(&datagram(None)).unwrap();
    }

    #[test]
    fn s15_a_connection_outlives_the_filter() {
        let settled = Observation::Settled { outputs: 0, more: false, deadline: None };
        let frame = Frame::Message(Message::KeepAlive);
        let conn = ConnId(1);
        let mut filter = Filter::default();
        filter.observe(&Observation::Dialled { conn, remote: peer(2), honest: true }).unwrap();
        filter.observe(&settled).unwrap();
        filter.observe(&Observation::SetIpFilter { filter: &blocks_second() }).unwrap();
        expect_breach(filter.observe(&settled), "INV-S-15");
        expect_breach(filter.observe(&Observation::Seen { conn, frame: &frame }), "INV-S-15");
        let sent = Observation::Sent { conn, frame: &frame, false_claim: None, unsent: 0 };
        expect_breach(filter.observe(&sent), "INV-S-15");
        filter.observe(&Observation::Gone { conn }).unwrap();
        filter.observe(&settled).unwrap();
    }
}
