//! A small tracker, for demonstrations and simulated swarms.

use super::answer::MAX_PEERS;
use super::packet::{self, AnnouncePacket, Request};
use super::url::unescape;
use super::{AnnounceEvent, ScrapeCounts};
use crate::id::InfoHash;
use crate::machine::Timestamp;
use crate::rng::Rng;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use bendy::encoding::{Encoder, Error, SingleItemEncoder};
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use sha1::{Digest as _, Sha1};

/// A tracker over HTTP and UDP that keeps its peers in memory.
///
/// It answers at once and never asks to be woken: who was not heard of for too long is dropped when the torrent is next
/// asked for.
#[derive(Debug)]
pub struct TrackerServer {
    interval: Duration,
    rng: Rng,
    secret: u64,
    torrents: BTreeMap<InfoHash, Torrent>,
}

#[derive(Debug, Default)]
struct Torrent {
    peers: BTreeMap<SocketAddr, Peer>,
    /// The peers by the time at which they were last heard of.
    heard: BTreeSet<(Timestamp, SocketAddr)>,
    seeders: u32,
    completed: u32,
}

#[derive(Clone, Copy, Debug)]
struct Peer {
    heard_at: Timestamp,
    seeds: bool,
}

/// An announce, however it came.
#[derive(Clone, Copy, Debug)]
struct Announced {
    info_hash: InfoHash,
    addr: SocketAddr,
    left: u64,
    event: Option<AnnounceEvent>,
    num_want: Option<u32>,
}

impl TrackerServer {
    /// A tracker without torrents, to which peers shall come back every `interval`. It serves any torrent that a peer
    /// names, up to a limit.
    pub fn new(interval: Duration, mut rng: Rng) -> Self {
        Self { interval, secret: rng.next_u64(), rng, torrents: BTreeMap::new() }
    }

    /// Answers the HTTP request for `target`, such as `/announce?info_hash=...`, with a bencoded body.
    pub fn handle_http(&mut self, now: Timestamp, target: &str, remote: IpAddr) -> Vec<u8> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let answer = match path.rsplit('/').next().unwrap_or_default() {
            "announce" => self.http_announce(now, query, remote),
            "scrape" => Ok(self.http_scrape(now, query)),
            _ => Err("there is only announce and scrape here"),
        };
        answer.unwrap_or_else(|reason| {
            bencode(|to| to.emit_dict(|mut dict| dict.emit_pair(b"failure reason", reason)))
        })
    }

    /// Answers a datagram of the UDP tracker protocol (BEP 15); nothing to what is none.
    pub fn handle_udp(&mut self, now: Timestamp, data: &[u8], remote: SocketAddr) -> Option<Vec<u8>> {
        let (connection, transaction, request) = packet::parse_request(data)?;
        let period = now.as_micros() / CONNECTION_PERIOD_US;
        if request == Request::Connect {
            let id = self.connection_id(remote, period);
            return Some(packet::reply(packet::CONNECT, transaction, &id.to_be_bytes()));
        }
        let known = [Some(period), period.checked_sub(1)].into_iter().flatten();
        if !known.into_iter().any(|period| self.connection_id(remote, period) == connection) {
            return Some(packet::reply(packet::ERROR, transaction, b"connection id mismatch"));
        }
        Some(match request {
            Request::Announce(announce) => self.udp_announce(now, transaction, &announce, remote),
            Request::Connect => return None,
            Request::Scrape(torrents) => {
                let counts = torrents.iter().map(|hash| self.counts(now, *hash).unwrap_or_default());
                let counts = counts.flat_map(|it| [it.seeders, it.completed, it.leechers]);
                let body: Vec<u8> = counts.flat_map(u32::to_be_bytes).collect();
                packet::reply(packet::SCRAPE, transaction, &body)
            }
        })
    }

    /// How many peers `torrent` has, if anybody has asked for it.
    pub fn counts(&mut self, now: Timestamp, torrent: InfoHash) -> Option<ScrapeCounts> {
        let expiry = self.expiry();
        let torrent = self.torrents.get_mut(&torrent)?;
        torrent.expire(now, expiry);
        Some(torrent.counts())
    }

    fn http_announce(
        &mut self,
        now: Timestamp,
        query: &str,
        remote: IpAddr,
    ) -> Result<Vec<u8>, &'static str> {
        let port = number(query, "port").and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
        let announced = Announced {
            info_hash: arguments(query, "info_hash")
                .next()
                .and_then(hash)
                .ok_or("info_hash is not 20 bytes")?,
            addr: SocketAddr::new(remote.to_canonical(), port.ok_or("port is not from 1 to 65535")?),
            left: number(query, "left").ok_or("left is not a number")?,
            event: match arguments(query, "event").next().as_deref() {
                Some(b"completed") => Some(AnnounceEvent::Completed),
                Some(b"stopped") => Some(AnnounceEvent::Stopped),
                _ => None,
            },
            num_want: number(query, "numwant").and_then(|want| u32::try_from(want).ok()),
        };
        let counts = self.take_in(now, &announced)?;
        let peers = self.choose(&announced, |_| true);
        Ok(bencode(|to| {
            to.emit_dict(|mut dict| {
                dict.emit_pair(b"complete", counts.seeders)?;
                dict.emit_pair(b"incomplete", counts.leechers)?;
                dict.emit_pair(b"interval", self.interval.as_secs())?;
                dict.emit_pair_with(b"peers", |to| to.emit_bytes(&compact(&peers, SocketAddr::is_ipv4)))?;
                dict.emit_pair_with(b"peers6", |to| to.emit_bytes(&compact(&peers, SocketAddr::is_ipv6)))
            })
        }))
    }

    fn http_scrape(&mut self, now: Timestamp, query: &str) -> Vec<u8> {
        let asked: BTreeSet<InfoHash> = arguments(query, "info_hash").filter_map(hash).collect();
        let known: Vec<_> =
            asked.into_iter().filter_map(|hash| Some((hash, self.counts(now, hash)?))).collect();
        bencode(|to| {
            to.emit_dict(|mut dict| {
                dict.emit_pair_with(b"files", |to| {
                    to.emit_dict(|mut files| {
                        known.iter().try_for_each(|(hash, counts)| {
                            files.emit_pair_with(&hash.0, |to| {
                                to.emit_dict(|mut file| {
                                    file.emit_pair(b"complete", counts.seeders)?;
                                    file.emit_pair(b"downloaded", counts.completed)?;
                                    file.emit_pair(b"incomplete", counts.leechers)
                                })
                            })
                        })
                    })
                })
            })
        })
    }

    fn udp_announce(
        &mut self,
        now: Timestamp,
        transaction: u32,
        announce: &AnnouncePacket,
        remote: SocketAddr,
    ) -> Vec<u8> {
        let AnnouncePacket { info_hash, left, event, num_want, port } = *announce;
        if port == 0 {
            return packet::reply(packet::ERROR, transaction, b"port is not from 1 to 65535");
        }
        let addr = SocketAddr::new(remote.ip().to_canonical(), port);
        let announced = Announced { info_hash, addr, left, event, num_want };
        let counts = match self.take_in(now, &announced) {
            Ok(counts) => counts,
            Err(reason) => return packet::reply(packet::ERROR, transaction, reason.as_bytes()),
        };
        let interval = u32::try_from(self.interval.as_secs()).unwrap_or(u32::MAX);
        let mut body = [interval, counts.leechers, counts.seeders].map(u32::to_be_bytes).concat();
        // BEP 15: the family of the packet is that of the peers.
        let same_family = |peer: &SocketAddr| peer.is_ipv4() == addr.is_ipv4();
        body.extend(compact(&self.choose(&announced, same_family), same_family));
        packet::reply(packet::ANNOUNCE, transaction, &body)
    }

    /// Notes what an announce tells; the torrent's counts after it.
    fn take_in(&mut self, now: Timestamp, announced: &Announced) -> Result<ScrapeCounts, &'static str> {
        if self.torrents.len() >= MAX_TORRENTS && !self.torrents.contains_key(&announced.info_hash) {
            return Err("this tracker has as many torrents as it can take");
        }
        let expiry = self.expiry();
        let torrent = self.torrents.entry(announced.info_hash).or_default();
        torrent.expire(now, expiry);
        torrent.remove(announced.addr);
        if announced.event == Some(AnnounceEvent::Completed) {
            torrent.completed = torrent.completed.saturating_add(1);
        }
        if announced.event != Some(AnnounceEvent::Stopped) {
            torrent.insert(announced.addr, Peer { heard_at: now, seeds: announced.left == 0 });
        }
        Ok(torrent.counts())
    }

    /// As many peers as were asked for, any of them, but not the one who asks.
    fn choose(&mut self, announced: &Announced, fits: impl Fn(&SocketAddr) -> bool) -> Vec<SocketAddr> {
        let Some(torrent) = self.torrents.get(&announced.info_hash) else { return Vec::new() };
        if announced.event == Some(AnnounceEvent::Stopped) {
            return Vec::new();
        }
        let want = announced.num_want.map_or(DEFAULT_WANT, |want| want as usize).min(MAX_PEERS);
        let mut peers: Vec<_> =
            torrent.peers.keys().copied().filter(|peer| *peer != announced.addr && fits(peer)).collect();
        for i in 0..want.min(peers.len()) {
            let other = i + self.rng.below((peers.len() - i) as u64) as usize;
            peers.swap(i, other);
        }
        peers.truncate(want);
        peers
    }

    /// A peer that missed one announce and half of the next is gone.
    fn expiry(&self) -> Duration {
        self.interval.saturating_mul(5) / 2
    }

    /// Proves that whoever sends it receives what is sent to `remote`, and needs no memory (BEP 15).
    fn connection_id(&self, remote: SocketAddr, period: u64) -> u64 {
        let mut sha1 = Sha1::new().chain_update(self.secret.to_be_bytes()).chain_update(period.to_be_bytes());
        match remote.ip().to_canonical() {
            IpAddr::V4(ip) => sha1.update(ip.octets()),
            IpAddr::V6(ip) => sha1.update(ip.octets()),
        }
        let digest = sha1.chain_update(remote.port().to_be_bytes()).finalize();
        u64::from_be_bytes(*digest.first_chunk().expect("a digest has 20 bytes"))
    }
}

impl Torrent {
    fn insert(&mut self, addr: SocketAddr, peer: Peer) {
        if self.peers.len() >= MAX_PEERS_KEPT
            && let Some((_, oldest)) = self.heard.first().copied()
        {
            self.remove(oldest);
        }
        self.heard.insert((peer.heard_at, addr));
        self.seeders += u32::from(peer.seeds);
        self.peers.insert(addr, peer);
    }

    fn remove(&mut self, addr: SocketAddr) {
        if let Some(peer) = self.peers.remove(&addr) {
            self.heard.remove(&(peer.heard_at, addr));
            self.seeders -= u32::from(peer.seeds);
        }
    }

    fn expire(&mut self, now: Timestamp, expiry: Duration) {
        while let Some((_, addr)) = self.heard.first().copied().filter(|(at, _)| *at + expiry < now) {
            self.remove(addr);
        }
    }

    fn counts(&self) -> ScrapeCounts {
        let leechers = self.peers.len() as u32 - self.seeders;
        ScrapeCounts { seeders: self.seeders, completed: self.completed, leechers, downloaders: None }
    }
}

/// The values of an argument of a query, in order.
fn arguments<'q>(query: &'q str, name: &'q str) -> impl Iterator<Item = Vec<u8>> + 'q {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(move |(key, _)| *key == name).map(|(_, value)| unescape(value.as_bytes()))
}

fn number(query: &str, name: &str) -> Option<u64> {
    str::from_utf8(&arguments(query, name).next()?).ok()?.parse().ok()
}

fn hash(bytes: Vec<u8>) -> Option<InfoHash> {
    bytes.try_into().ok().map(InfoHash)
}

/// The compact form of the peers that fit (BEP 7, 23).
fn compact(peers: &[SocketAddr], fits: impl Fn(&SocketAddr) -> bool) -> Vec<u8> {
    let mut out = Vec::new();
    for peer in peers.iter().filter(|peer| fits(peer)) {
        match peer.ip() {
            IpAddr::V4(ip) => out.extend(ip.octets()),
            IpAddr::V6(ip) => out.extend(ip.octets()),
        }
        out.extend(peer.port().to_be_bytes());
    }
    out
}

fn bencode(write: impl FnOnce(SingleItemEncoder<'_>) -> Result<(), Error>) -> Vec<u8> {
    let mut encoder = Encoder::new();
    let written = encoder.emit_with(write).and_then(|()| encoder.get_output());
    written.expect("the keys are written in order")
}

/// Enough for a demonstration, and a bound for whoever makes torrents up.
const MAX_TORRENTS: usize = 1_000;

const MAX_PEERS_KEPT: usize = 10_000;

/// For those who don't say.
const DEFAULT_WANT: usize = 50;

/// A connection id is good for the period in which it was given and the next: 2 to 4 minutes, where BEP 15 asks for 2.
const CONNECTION_PERIOD_US: u64 = 120 * 1_000_000;

#[cfg(test)]
mod tests {
    use super::{CONNECTION_PERIOD_US, MAX_PEERS_KEPT, MAX_TORRENTS, TrackerServer};
    use crate::id::{InfoHash, PeerId};
    use crate::machine::Timestamp;
    use crate::rng::Rng;
    use crate::tracker::{
        Announce, AnnounceEvent, AnnounceRequest, Answer, MAX_PEERS, ScrapeCounts, TrackerError, TrackerUrl,
        announce_url, packet, parse_announce, parse_scrape, scrape_url,
    };
    use alloc::format;
    use alloc::string::String;
    use alloc::vec::Vec;
    use core::net::{IpAddr, SocketAddr};
    use core::time::Duration;
    use proptest::prelude::*;

    const HASH: InfoHash = InfoHash([0xaa; 20]);

    fn server() -> TrackerServer {
        TrackerServer::new(Duration::from_secs(120), Rng::from_number(1))
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn an_announce(addr: SocketAddr, left: u64, event: Option<AnnounceEvent>) -> Announce {
        let request = AnnounceRequest { event, key: 1, num_want: 200, tracker_id: None };
        Announce {
            info_hash: HASH,
            peer_id: PeerId([b'p'; 20]),
            port: addr.port(),
            ip: None,
            uploaded: 0,
            downloaded: 0,
            left,
            encryption: false,
            request,
        }
    }

    fn target(url: &str) -> &str {
        url.strip_prefix("http://t.example").unwrap()
    }

    fn http(
        server: &mut TrackerServer,
        now: u64,
        from: &str,
        left: u64,
        event: Option<AnnounceEvent>,
    ) -> Answer {
        let addr: SocketAddr = from.parse().unwrap();
        let url = TrackerUrl::parse("http://t.example/announce").unwrap();
        let url = announce_url(&url, &an_announce(addr, left, event));
        let body = server.handle_http(at(now), target(&url), addr.ip());
        parse_announce(200, &body).unwrap()
    }

    fn names(answer: &Answer) -> Vec<String> {
        let mut names: Vec<_> = answer.peers.iter().map(|peer| format!("{peer}")).collect();
        names.sort();
        names
    }

    #[test]
    fn peers_find_each_other_over_http() {
        let mut server = server();
        assert!(http(&mut server, 0, "10.0.0.1:1", 0, None).peers.is_empty(), "nobody is told of himself");
        let second = http(&mut server, 1, "10.0.0.2:2", 5, None);
        assert_eq!(names(&second), ["10.0.0.1:1"]);
        assert_eq!((second.seeders, second.leechers), (Some(1), Some(1)));
        assert_eq!(second.interval, Duration::from_secs(120));
        let third = http(&mut server, 2, "[2001:db8::3]:3", 5, None);
        assert_eq!(names(&third), ["10.0.0.1:1", "10.0.0.2:2"]);
        assert_eq!(names(&http(&mut server, 3, "10.0.0.2:2", 5, None)), ["10.0.0.1:1", "[2001:db8::3]:3"]);
    }

    #[test]
    fn who_stops_or_falls_silent_is_gone() {
        let mut server = server();
        http(&mut server, 0, "10.0.0.1:1", 0, None);
        http(&mut server, 0, "10.0.0.2:2", 5, None);
        assert!(http(&mut server, 1, "10.0.0.2:2", 5, Some(AnnounceEvent::Stopped)).peers.is_empty());
        assert_eq!(names(&http(&mut server, 300, "10.0.0.3:3", 5, None)), ["10.0.0.1:1"]);
        let later = http(&mut server, 301, "10.0.0.3:3", 5, None);
        assert!(later.peers.is_empty(), "two and a half intervals are too long");
        assert_eq!((later.seeders, later.leechers), (Some(0), Some(1)));
    }

    #[test]
    fn scrapes_count() {
        let mut server = server();
        http(&mut server, 0, "10.0.0.1:1", 9, None);
        http(&mut server, 0, "10.0.0.2:2", 9, None);
        http(&mut server, 1, "10.0.0.1:1", 0, Some(AnnounceEvent::Completed));
        let url = TrackerUrl::parse("http://t.example/announce").unwrap();
        let other = InfoHash([0xbb; 20]);
        let url = scrape_url(&url, &[HASH, other]).unwrap();
        let body = server.handle_http(at(2), target(&url), IpAddr::from([10, 0, 0, 9]));
        let counts = ScrapeCounts { seeders: 1, completed: 1, leechers: 1, downloaders: None };
        assert_eq!(parse_scrape(200, &body, &[HASH, other]), Ok([Some(counts), None].into()));
    }

    #[test]
    fn bad_requests_are_told_why() {
        for (target, reason) in [
            ("/announce", "info_hash is not 20 bytes"),
            ("/announce?info_hash=%aa&port=1&left=0", "info_hash is not 20 bytes"),
            ("/announce?info_hash=aaaaaaaaaaaaaaaaaaaa&port=0&left=0", "port is not from 1 to 65535"),
            ("/announce?info_hash=aaaaaaaaaaaaaaaaaaaa&port=1", "left is not a number"),
            ("/", "there is only announce and scrape here"),
        ] {
            let body = server().handle_http(at(0), target, IpAddr::from([10, 0, 0, 1]));
            let refused = TrackerError::Refused { reason: String::from(reason), retry_in: None };
            assert_eq!(parse_announce(200, &body), Err(refused), "{target}");
        }
    }

    /// Connects at `connect`, announces at `now`.
    fn udp(server: &mut TrackerServer, connect: u64, now: u64, from: &str) -> Vec<u8> {
        let from: SocketAddr = from.parse().unwrap();
        let reply = server.handle_udp(at(connect), &packet::connect(7), from).unwrap();
        assert_eq!(reply[..8], [0, 0, 0, 0, 0, 0, 0, 7]);
        let id = u64::from_be_bytes(reply[8..].try_into().unwrap());
        server.handle_udp(at(now), &packet::announce(id, 8, &an_announce(from, 5, None), ""), from).unwrap()
    }

    #[test]
    fn peers_of_one_family_find_each_other_over_udp() {
        let mut server = server();
        udp(&mut server, 0, 0, "10.0.0.1:258");
        udp(&mut server, 0, 0, "[2001:db8::1]:1");
        let reply = udp(&mut server, 0, 1, "10.0.0.2:2");
        // BEP 15: action 1, transaction, interval, leechers, seeders, peers.
        let expected = [0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0, 120, 0, 0, 0, 3, 0, 0, 0, 0, 10, 0, 0, 1, 1, 2];
        assert_eq!(reply, expected);
        let reply = udp(&mut server, 0, 1, "[2001:db8::2]:2");
        assert_eq!(reply[20..], *b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\0\x01");
    }

    #[test]
    fn a_connection_id_is_of_one_address_and_some_minutes() {
        let mut server = server();
        let period = CONNECTION_PERIOD_US / 1_000_000;
        assert_eq!(udp(&mut server, 0, 2 * period - 1, "10.0.0.1:1")[3], 1);
        assert_eq!(udp(&mut server, 0, 2 * period, "10.0.0.1:1")[..8], [0, 0, 0, 3, 0, 0, 0, 8]);
        let here = "10.0.0.1:1".parse().unwrap();
        let id = server.handle_udp(at(0), &packet::connect(7), here).unwrap();
        let id = u64::from_be_bytes(id[8..].try_into().unwrap());
        for elsewhere in ["10.0.0.2:1", "10.0.0.1:2"] {
            let elsewhere: SocketAddr = elsewhere.parse().unwrap();
            let scrape = packet::scrape(id, 9, &[HASH]);
            let reply = server.handle_udp(at(0), &scrape, elsewhere).unwrap();
            assert_eq!((reply[3], &reply[8..]), (3, &b"connection id mismatch"[..]));
        }
    }

    #[test]
    fn answers_and_memory_are_bounded() {
        let mut server = server();
        for peer in 0..MAX_PEERS_KEPT as u32 + 10 {
            let remote = IpAddr::from((0x0a00_0000 + peer).to_be_bytes());
            let target = "/announce?info_hash=aaaaaaaaaaaaaaaaaaaa&port=1&left=0&numwant=0";
            server.handle_http(at(0), target, remote);
        }
        let hash = InfoHash([b'a'; 20]);
        assert_eq!(server.counts(at(0), hash).unwrap().seeders, MAX_PEERS_KEPT as u32);
        let target = "/announce?info_hash=aaaaaaaaaaaaaaaaaaaa&port=2&left=0&numwant=5000";
        let body = server.handle_http(at(0), target, IpAddr::from([10, 0, 0, 1]));
        let peers = parse_announce(200, &body).unwrap().peers;
        let different: alloc::collections::BTreeSet<_> = peers.iter().collect();
        assert_eq!((peers.len(), different.len()), (MAX_PEERS, MAX_PEERS));
        for torrent in 0..MAX_TORRENTS + 10 {
            let target = format!("/announce?info_hash={torrent:020}&port=2&left=0");
            server.handle_http(at(0), &target, IpAddr::from([10, 0, 0, 1]));
        }
        assert_eq!(server.torrents.len(), MAX_TORRENTS);
    }

    proptest! {
        #[test]
        fn arbitrary_requests_are_answered_or_ignored(
            target in "/(announce|scrape)\\?[a-z_=&%0-9]{0,40}",
            data in prop::collection::vec(any::<u8>(), 0..140),
        ) {
            let mut server = server();
            prop_assert!(server.handle_http(at(0), &target, IpAddr::from([10, 0, 0, 1])).starts_with(b"d"));
            let reply = server.handle_udp(at(0), &data, "10.0.0.1:1".parse().unwrap());
            // Without a connection id nobody gets more than he sent.
            prop_assert!(reply.is_none_or(|reply| reply.len() <= data.len().max(30)));
        }
    }
}
