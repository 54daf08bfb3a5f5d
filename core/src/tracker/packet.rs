//! The packets of the UDP tracker protocol (BEP 15, 41), both ways.

use super::http::named_port;
use super::{Announce, AnnounceEvent};
use crate::id::InfoHash;
use alloc::vec::Vec;
use core::net::IpAddr;

pub(super) const CONNECT: u32 = 0;
pub(super) const ANNOUNCE: u32 = 1;
pub(super) const SCRAPE: u32 = 2;
pub(super) const ERROR: u32 = 3;

/// A request, as a server reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Announce(AnnouncePacket),
    Connect,
    Scrape(Vec<InfoHash>),
}

/// The parts of an announce that a server uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AnnouncePacket {
    pub(super) info_hash: InfoHash,
    pub(super) left: u64,
    pub(super) event: Option<AnnounceEvent>,
    pub(super) num_want: Option<u32>,
    pub(super) port: u16,
}

pub(super) fn connect(transaction: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(16);
    head(PROTOCOL_ID, CONNECT, transaction, &mut out);
    out
}

/// `path_and_query` is that of the tracker's URL; if there is any it goes along as BEP 41 asks.
pub(super) fn announce(
    connection: u64,
    transaction: u32,
    announce: &Announce,
    path_and_query: &str,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(98 + path_and_query.len() + 2);
    head(connection, ANNOUNCE, transaction, &mut out);
    out.extend(announce.info_hash.0);
    out.extend(announce.peer_id.0);
    out.extend(announce.downloaded.to_be_bytes());
    out.extend(announce.left.to_be_bytes());
    out.extend(announce.uploaded.to_be_bytes());
    // BEP 15 knows no `paused`.
    let event: u32 = match announce.request.event {
        None | Some(AnnounceEvent::Paused) => 0,
        Some(AnnounceEvent::Completed) => 1,
        Some(AnnounceEvent::Started) => 2,
        Some(AnnounceEvent::Stopped) => 3,
    };
    out.extend(event.to_be_bytes());
    // Our address: 0 says that of the packet.
    out.extend(match announce.ip {
        Some(IpAddr::V4(ip)) => ip.octets(),
        _ => [0; 4],
    });
    out.extend(announce.request.key.to_be_bytes());
    out.extend(announce.request.num_want.to_be_bytes());
    out.extend(named_port(announce.port).to_be_bytes());
    // BEP 41: what is longer than an option is joined from several.
    for part in path_and_query.as_bytes().chunks(255) {
        out.extend([URL_DATA, part.len() as u8]);
        out.extend(part);
    }
    out
}

pub(super) fn scrape(connection: u64, transaction: u32, torrents: &[InfoHash]) -> Vec<u8> {
    let mut out = Vec::with_capacity(16 + 20 * torrents.len());
    head(connection, SCRAPE, transaction, &mut out);
    torrents.iter().for_each(|hash| out.extend(hash.0));
    out
}

/// The connection id, the transaction and what is asked, if these are the bytes of a request.
pub(super) fn parse_request(packet: &[u8]) -> Option<(u64, u32, Request)> {
    let mut reader = Reader(packet);
    let (connection, action, transaction) = (reader.u64()?, reader.u32()?, reader.u32()?);
    let request = match action {
        CONNECT if connection == PROTOCOL_ID => Request::Connect,
        ANNOUNCE => {
            let (info_hash, _peer_id) = (InfoHash(reader.take()?), reader.take::<20>()?);
            let (_downloaded, left, _uploaded) = (reader.u64()?, reader.u64()?, reader.u64()?);
            let event = match reader.u32()? {
                1 => Some(AnnounceEvent::Completed),
                2 => Some(AnnounceEvent::Started),
                3 => Some(AnnounceEvent::Stopped),
                _ => None,
            };
            let (_ip, _key) = (reader.u32()?, reader.u32()?);
            // -1 leaves the number to the tracker.
            let num_want = Some(reader.u32()?).filter(|want| *want <= i32::MAX as u32);
            let port = u16::from_be_bytes(reader.take()?);
            Request::Announce(AnnouncePacket { info_hash, left, event, num_want, port })
        }
        SCRAPE => Request::Scrape(reader.0.as_chunks().0.iter().map(|hash| InfoHash(*hash)).collect()),
        _ => return None,
    };
    Some((connection, transaction, request))
}

/// The action and transaction of a reply, and what follows them.
pub(super) fn parse_reply(packet: &[u8]) -> Option<(u32, u32, &[u8])> {
    let mut reader = Reader(packet);
    Some((reader.u32()?, reader.u32()?, reader.0))
}

/// The first numbers of a body, and what follows them.
pub(super) fn numbers<const N: usize>(body: &[u8]) -> Option<([u32; N], &[u8])> {
    let mut reader = Reader(body);
    let mut numbers = [0; N];
    for number in &mut numbers {
        *number = reader.u32()?;
    }
    Some((numbers, reader.0))
}

pub(super) fn reply(action: u32, transaction: u32, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + body.len());
    out.extend(action.to_be_bytes());
    out.extend(transaction.to_be_bytes());
    out.extend(body);
    out
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }
}

fn head(connection: u64, action: u32, transaction: u32, out: &mut Vec<u8>) {
    out.extend(connection.to_be_bytes());
    out.extend(action.to_be_bytes());
    out.extend(transaction.to_be_bytes());
}

/// What stands in the place of a connection id before there is one.
const PROTOCOL_ID: u64 = 0x0417_2710_1980;

/// BEP 41: the path and query of the URL.
const URL_DATA: u8 = 2;

#[cfg(test)]
mod tests {
    use super::{AnnouncePacket, Request, announce, connect, parse_reply, parse_request, scrape};
    use crate::id::{InfoHash, PeerId};
    use crate::tracker::{Announce, AnnounceEvent, AnnounceRequest};
    use alloc::format;
    use alloc::string::String;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn an_announce() -> Announce {
        Announce {
            info_hash: InfoHash([0xaa; 20]),
            peer_id: PeerId([b'p'; 20]),
            port: 6881,
            ip: None,
            uploaded: 3,
            downloaded: 1,
            left: 0x1_0000_0002,
            encryption: true,
            request: AnnounceRequest {
                event: Some(AnnounceEvent::Started),
                key: 0xdead_beef,
                num_want: 200,
                tracker_id: None,
            },
        }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn requests_have_the_layout_of_bep_15() {
        assert_eq!(hex(&connect(0x1234_5678)), "0000041727101980 00000000 12345678".replace(' ', ""));
        let expected = [
            "0102030405060708 00000001 12345678",
            &"aa".repeat(20),
            &"70".repeat(20),
            "0000000000000001 0000000100000002 0000000000000003",
            "00000002 00000000 deadbeef 000000c8 1ae1",
        ];
        let expected = expected.concat().replace(' ', "");
        assert_eq!(hex(&announce(0x0102_0304_0506_0708, 0x1234_5678, &an_announce(), "")), expected);
        let torrents = [InfoHash([0xaa; 20]), InfoHash([0xbb; 20])];
        let expected = ["010203040506070800000002ffffffff", &"aa".repeat(20), &"bb".repeat(20)].concat();
        assert_eq!(hex(&scrape(0x0102_0304_0506_0708, u32::MAX, &torrents)), expected);
    }

    #[test]
    fn where_we_are_has_its_place() {
        let told = |ip: &str, port| {
            let announce = Announce { ip: Some(ip.parse().unwrap()), port, ..an_announce() };
            let packet = super::announce(0, 0, &announce, "");
            (hex(&packet[84..88]), hex(&packet[96..98]))
        };
        assert_eq!(told("192.0.2.1", 6881), (String::from("c0000201"), String::from("1ae1")));
        assert_eq!(told("2001:db8::1", 0), (String::from("00000000"), String::from("0001")));
    }

    #[test]
    fn events_have_the_numbers_of_bep_15() {
        for (event, number) in [
            (None, 0),
            (Some(AnnounceEvent::Completed), 1),
            (Some(AnnounceEvent::Started), 2),
            (Some(AnnounceEvent::Stopped), 3),
            (Some(AnnounceEvent::Paused), 0),
        ] {
            let mut it = an_announce();
            it.request.event = event;
            assert_eq!(announce(1, 2, &it, "")[80..84], [0, 0, 0, number]);
        }
    }

    #[test]
    fn the_path_goes_along_as_in_bep_41() {
        let packet = announce(1, 2, &an_announce(), "/dir?a=b&c=d");
        assert_eq!(packet[98..], *b"\x02\x0c/dir?a=b&c=d");
        let long = "x".repeat(300);
        let packet = announce(1, 2, &an_announce(), &long);
        assert_eq!(
            (packet[98..100].to_vec(), packet[355..357].to_vec()),
            (Vec::from([2, 255]), Vec::from([2, 45]))
        );
        assert_eq!(packet.len(), 98 + 2 + 255 + 2 + 45);
    }

    #[test]
    fn a_server_reads_what_a_client_writes() {
        let announced = Request::Announce(AnnouncePacket {
            info_hash: InfoHash([0xaa; 20]),
            left: 0x1_0000_0002,
            event: Some(AnnounceEvent::Started),
            num_want: Some(200),
            port: 6881,
        });
        assert_eq!(parse_request(&announce(7, 8, &an_announce(), "/a")), Some((7, 8, announced)));
        assert_eq!(parse_request(&connect(8)), Some((super::PROTOCOL_ID, 8, Request::Connect)));
        let torrents = [InfoHash([1; 20]), InfoHash([2; 20])];
        assert_eq!(parse_request(&scrape(7, 8, &torrents)), Some((7, 8, Request::Scrape(torrents.into()))));
        let mut default = an_announce();
        default.request.num_want = u32::MAX;
        let read = parse_request(&announce(7, 8, &default, ""));
        assert!(matches!(read, Some((_, _, Request::Announce(AnnouncePacket { num_want: None, .. })))));
    }

    #[test]
    fn short_packets_and_other_actions_are_no_requests() {
        let whole = announce(7, 8, &an_announce(), "");
        assert!((0..98).all(|len| parse_request(&whole[..len]).is_none()));
        let mut strange = whole;
        strange[11] = 9;
        assert_eq!(parse_request(&strange), None);
        assert_eq!(parse_request(&[0; 16]), None, "a connect needs the protocol's number");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..140)) {
            prop_assert!(parse_request(&bytes).is_none() || bytes.len() >= 16);
            prop_assert_eq!(parse_reply(&bytes).is_some(), bytes.len() >= 8);
        }
    }
}
