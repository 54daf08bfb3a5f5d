//! Whom a client tells of whom: INV-S-29 and INV-S-39.

use super::{Facts, Observation, Verdict, hold};
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use fast_peer_core::id::{ConnId, TorrentId};
use fast_peer_core::machine::Timestamp;
use fast_peer_core::session::Notice;
use fast_peer_core::wire::{ExtendedHandshake, Extension, Frame, Message, PexMessage};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The peers that a client met, and what it told of them.
#[derive(Debug, Default)]
pub(super) struct Discovery {
    torrents: Vec<Torrent>,
    talks: BTreeMap<ConnId, Talk>,
    /// Where it dialled and got through.
    dialled: BTreeSet<SocketAddr>,
    /// Whom it let in.
    let_in: BTreeSet<IpAddr>,
    /// The ports from which these came: nobody listens there.
    passing: BTreeSet<SocketAddr>,
}

#[derive(Debug)]
struct Torrent {
    facts: Arc<Facts>,
    id: TorrentId,
    /// Whether the client knows that it is private, if it is.
    known: bool,
}

#[derive(Debug)]
struct Talk {
    remote: SocketAddr,
    torrent: Option<usize>,
    /// Under which id the peer takes messages about others.
    their_id: Option<u8>,
    told_at: Option<Timestamp>,
    told: BTreeSet<SocketAddr>,
}

impl Discovery {
    pub(super) fn add_torrent(&mut self, facts: &Arc<Facts>, id: TorrentId, known: bool) {
        self.torrents.push(Torrent { facts: facts.clone(), id, known });
    }

    pub(super) fn observe(&mut self, at: Timestamp, observation: &Observation<'_>) -> Verdict {
        match *observation {
            Observation::Accepted { conn, remote, .. } => {
                self.let_in.insert(remote.ip());
                self.passing.insert(remote);
                self.talks.insert(conn, Talk::new(remote));
            }
            Observation::Connected { conn } => {
                if let Some(talk) = self.talks.get(&conn) {
                    self.dialled.insert(talk.remote);
                }
            }
            Observation::Datagram { data, .. } => return self.on_datagram(data),
            Observation::Dialled { conn, remote, .. } => {
                self.talks.insert(conn, Talk::new(remote));
            }
            Observation::Gone { conn } => drop(self.talks.remove(&conn)),
            Observation::Notice { notice: Notice::Metadata { torrent, .. }, .. } => {
                let known = self.torrents.iter_mut().find(|it| it.id == *torrent);
                known.into_iter().for_each(|it| it.known = true);
            }
            Observation::Seen { conn, frame: Frame::Message(Message::Extended { id: 0, payload }) } => {
                if let (Some(talk), Ok(theirs)) =
                    (self.talks.get_mut(&conn), ExtendedHandshake::parse(payload))
                {
                    talk.their_id = theirs.ids.id(Extension::UtPex).or(talk.their_id);
                }
            }
            // Of connections by uTP no more is seen.
            Observation::UtpCame { from, .. } => {
                self.dialled.insert(from);
                self.let_in.insert(from.ip());
            }
            Observation::Sent { conn, frame, .. } => return self.on_sent(at, conn, frame),
            _ => {}
        }
        Ok(())
    }

    fn on_datagram(&self, data: &[u8]) -> Verdict {
        let lower = data.to_ascii_lowercase();
        let names = |torrent: &&Torrent| {
            let hash = torrent.facts.info_hash;
            contains(data, &hash.0) || contains(&lower, hash.to_string().as_bytes())
        };
        let private = self.torrents.iter().filter(|torrent| torrent.known && torrent.facts.private);
        let leak = private.into_iter().find(names);
        hold(leak.is_none(), "INV-S-29", || {
            format!("a datagram names private {}", leak.map_or(TorrentId(0), |torrent| torrent.id))
        })
    }

    fn on_sent(&mut self, at: Timestamp, conn: ConnId, frame: &Frame) -> Verdict {
        let Some(talk) = self.talks.get_mut(&conn) else { return Ok(()) };
        let (id, payload) = match frame {
            Frame::Handshake(handshake) => {
                talk.torrent = self.torrents.iter().position(|it| it.facts.info_hash == handshake.info_hash);
                return Ok(());
            }
            Frame::Message(Message::Extended { id: id @ 1.., payload }) => (*id, payload),
            _ => return Ok(()),
        };
        if Some(id) != talk.their_id {
            return Ok(());
        }
        let torrent = talk.torrent.map(|index| &self.torrents[index]);
        let private = torrent.is_some_and(|torrent| torrent.known && torrent.facts.private);
        hold(!private, "INV-S-29", || format!("it tells {conn} of peers of a private torrent"))?;
        let Ok(message) = PexMessage::parse(payload) else {
            return hold(false, "INV-S-39", || format!("it tells {conn} something that nobody can read"));
        };
        let PexMessage { added, dropped } = &message;
        let rested = talk.told_at.is_none_or(|told| at.since(told) >= INTERVAL);
        hold(rested, "INV-S-39", || format!("it tells {conn} of peers twice within a minute"))?;
        let most = if talk.told_at.is_none() { MAX_FIRST } else { MAX_TOLD };
        hold(added.len() <= most && dropped.len() <= MAX_TOLD, "INV-S-39", || {
            format!("it tells of {} peers that came and {} that left", added.len(), dropped.len())
        })?;
        for (addr, _) in added {
            let met = self.dialled.contains(addr)
                || self.let_in.contains(&addr.ip()) && !self.passing.contains(addr);
            hold(met, "INV-S-39", || format!("it tells of {addr}, where it never was"))?;
            hold(!dropped.contains(addr), "INV-S-39", || format!("{addr} came and left"))?;
            hold(talk.told.insert(*addr), "INV-S-39", || format!("it tells of {addr} twice"))?;
        }
        for addr in dropped {
            hold(talk.told.remove(addr), "INV-S-39", || {
                format!("it takes {addr} back, of which it never told")
            })?;
        }
        talk.told_at = Some(at);
        Ok(())
    }
}

impl Talk {
    fn new(remote: SocketAddr) -> Self {
        Self { remote, torrent: None, their_id: None, told_at: None, told: BTreeSet::new() }
    }
}

fn contains(data: &[u8], part: &[u8]) -> bool {
    data.windows(part.len()).any(|window| window == part)
}

/// How often a peer may be told (BEP 11).
const INTERVAL: Duration = Duration::from_secs(60);

/// Peers in one list of a message (BEP 11).
const MAX_TOLD: usize = 50;

/// Peers in the first message (BEP 11 leaves it open).
const MAX_FIRST: usize = 100;

#[cfg(test)]
mod tests {
    use super::super::tests::expect_breach;
    use super::{
        ConnId, Discovery, ExtendedHandshake, Extension, Facts, Frame, Message, Observation, PexMessage,
        SocketAddr, Timestamp, TorrentId, Verdict,
    };
    use bytes::Bytes;
    use core::time::Duration;
    use fast_peer_core::id::{InfoHash, PeerId};
    use fast_peer_core::lengths::Lengths;
    use fast_peer_core::wire::{ExtensionIds, Handshake, PexFlags, Reserved};
    use std::sync::Arc;

    const C: ConnId = ConnId(1);

    /// A client that talks to a peer which takes messages about others.
    fn talking(private: bool, known: bool) -> Discovery {
        let facts = Facts {
            info_hash: InfoHash([7; 20]),
            lengths: Lengths::contiguous(3, 16384).unwrap(),
            info: Bytes::new(),
            private,
        };
        let mut discovery = Discovery::default();
        discovery.add_torrent(&Arc::new(facts), TorrentId(0), known);
        for (conn, n) in [(C, 2), (ConnId(2), 3)] {
            see(&mut discovery, &Observation::Dialled { conn, remote: peer(n), honest: true });
            see(&mut discovery, &Observation::Connected { conn });
        }
        let remote = SocketAddr::new(peer(4).ip(), 50_000);
        see(&mut discovery, &Observation::Accepted { conn: ConnId(3), remote, honest: true });
        let (reserved, peer_id) = (Reserved::NONE.with_extended(), PeerId([1; 20]));
        let handshake = Handshake { reserved, info_hash: InfoHash([7; 20]), peer_id };
        sent(&mut discovery, 0, &Frame::Handshake(handshake)).unwrap();
        let mut ids = ExtensionIds::NONE;
        ids.set(Extension::UtPex, 9);
        let payload = ExtendedHandshake { ids, ..ExtendedHandshake::default() }.encode().into();
        let frame = Frame::Message(Message::Extended { id: 0, payload });
        see(&mut discovery, &Observation::Seen { conn: C, frame: &frame });
        discovery
    }

    fn see(discovery: &mut Discovery, observation: &Observation<'_>) {
        discovery.observe(Timestamp::ZERO, observation).unwrap();
    }

    fn sent(discovery: &mut Discovery, secs: u64, frame: &Frame) -> Verdict {
        let at = Timestamp::ZERO + Duration::from_secs(secs);
        discovery.observe(at, &Observation::Sent { conn: C, frame, false_claim: None, unsent: 0 })
    }

    fn tell(discovery: &mut Discovery, secs: u64, added: &[SocketAddr], dropped: &[SocketAddr]) -> Verdict {
        let added = added.iter().map(|addr| (*addr, PexFlags::default())).collect();
        let message = PexMessage { added, dropped: dropped.to_vec() };
        let frame = Frame::Message(Message::Extended { id: 9, payload: message.encode().into() });
        sent(discovery, secs, &frame)
    }

    fn peer(n: u8) -> SocketAddr {
        ([11, 0, 0, n], 6881).into()
    }

    #[test]
    fn s29_peers_of_a_private_torrent() {
        expect_breach(tell(&mut talking(true, true), 0, &[peer(3)], &[]), "INV-S-29");
        tell(&mut talking(true, false), 0, &[peer(3)], &[]).expect("nobody could know");
    }

    #[test]
    fn s29_datagrams_that_name_a_private_torrent() {
        let call = format!("Infohash: {}", "07".repeat(20));
        for data in [call.as_bytes(), &[&b"d9:info_hash20:"[..], &[7; 20]].concat()] {
            let datagram = Observation::Datagram { to: None, data };
            expect_breach(talking(true, true).observe(Timestamp::ZERO, &datagram), "INV-S-29");
            see(&mut talking(false, true), &datagram);
        }
    }

    #[test]
    fn s39_two_messages_within_a_minute() {
        let mut discovery = talking(false, true);
        tell(&mut discovery, 0, &[peer(3)], &[]).unwrap();
        expect_breach(tell(&mut discovery, 59, &[peer(4)], &[]), "INV-S-39");
        tell(&mut discovery, 60, &[peer(4)], &[peer(3)]).unwrap();
    }

    #[test]
    fn s39_more_than_a_message_may_hold() {
        let mut discovery = talking(false, true);
        let crowd: Vec<SocketAddr> = (0..160).map(|n| ([11, 0, 1, n], 6881).into()).collect();
        for addr in &crowd {
            let conn = ConnId(100 + u64::from(addr.port()));
            see(&mut discovery, &Observation::Dialled { conn, remote: *addr, honest: true });
            see(&mut discovery, &Observation::Connected { conn });
        }
        expect_breach(tell(&mut talking(false, true), 0, &crowd[..101], &[]), "INV-S-39");
        tell(&mut discovery, 0, &crowd[..100], &[]).unwrap();
        expect_breach(tell(&mut discovery, 60, &crowd[100..151], &[]), "INV-S-39");
        let mut discovery = discovery;
        expect_breach(tell(&mut discovery, 60, &[], &crowd[..51]), "INV-S-39");
    }

    #[test]
    fn s39_addresses_where_nobody_was_met() {
        let passing = SocketAddr::new(peer(4).ip(), 50_000);
        for addr in [peer(9), passing] {
            expect_breach(tell(&mut talking(false, true), 0, &[addr], &[]), "INV-S-39");
        }
        tell(&mut talking(false, true), 0, &[peer(3), peer(4)], &[]).unwrap();
    }

    #[test]
    fn s39_an_address_that_came_and_left_or_never_came() {
        expect_breach(tell(&mut talking(false, true), 0, &[peer(3)], &[peer(3)]), "INV-S-39");
        expect_breach(tell(&mut talking(false, true), 0, &[], &[peer(3)]), "INV-S-39");
        let mut discovery = talking(false, true);
        tell(&mut discovery, 0, &[peer(3)], &[]).unwrap();
        expect_breach(tell(&mut discovery, 60, &[peer(3)], &[]), "INV-S-39");
    }
}
