//! Announces over HTTP (BEP 3, 7, 21, 23, 24, 31).

use super::Announce;
use super::answer::{self, Answer, MAX_PEERS, MAX_TEXT_LEN, RetryIn, TrackerError};
use super::url::{TrackerUrl, escape};
use crate::bencode::{Dict, Document, Limits, Value};
use crate::text;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write as _;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

/// The URL that carries `announce` to the tracker at `url`.
///
/// The infohash and the peer id come first of what is added: some trackers insist.
pub fn announce_url(url: &TrackerUrl, announce: &Announce) -> String {
    let Announce { info_hash, peer_id, port, ip, uploaded, downloaded, left, encryption, request } = announce;
    let mut text = String::from(url.as_str());
    text.push(if url.path_and_query().contains('?') { '&' } else { '?' });
    text.push_str("info_hash=");
    escape(&info_hash.0, &mut text);
    text.push_str("&peer_id=");
    escape(&peer_id.0, &mut text);
    let mut add = |name: &str, value: &dyn core::fmt::Display| {
        write!(text, "&{name}={value}").expect("writing to a string does not fail");
    };
    add("port", &named_port(*port));
    if let Some(ip) = ip {
        add("ip", ip);
    }
    add("uploaded", uploaded);
    add("downloaded", downloaded);
    add("left", left);
    if let Some(event) = request.event {
        add("event", &event.name());
    }
    add("compact", &1);
    add("numwant", &request.num_want);
    add("key", &format_args!("{:08x}", request.key));
    add("no_peer_id", &1);
    if *encryption {
        add("supportcrypto", &1);
    }
    if let Some(id) = &request.tracker_id {
        text.push_str("&trackerid=");
        escape(id, &mut text);
    }
    text
}

/// Some trackers refuse whoever can't be connected to, as port 0 would say. Nothing listens on port 1 either (BEP 3 has no
/// word for it).
pub(super) fn named_port(port: u16) -> u16 {
    port.max(1)
}

/// Reads what an HTTP tracker answered to an announce.
pub fn parse_announce(status: u16, body: &[u8]) -> Result<Answer, TrackerError> {
    let document = document(status, body)?;
    let dict = answer_dict(status, &document)?;
    let text = |key| dict.get(key).and_then(Value::as_bytes).map(|bytes| text::clean(bytes, MAX_TEXT_LEN));
    let count = |key| number(dict, key).and_then(|count| u32::try_from(count).ok());
    let tracker_id = dict.get(b"tracker id").or_else(|| dict.get(b"trackerid")).and_then(Value::as_bytes);
    Ok(Answer {
        external_ip: dict.get(b"external ip").and_then(Value::as_bytes).and_then(external_ip),
        interval: answer::interval(number(dict, b"interval")),
        leechers: count(b"incomplete"),
        min_interval: number(dict, b"min interval").map(answer::min_interval),
        peers: peers(dict),
        seeders: count(b"complete"),
        tracker_id: tracker_id.filter(|id| id.len() <= MAX_TEXT_LEN).map(Vec::from),
        warning: text(b"warning message"),
    })
}

/// Reads the body of an answer, be it to an announce or a scrape.
pub(super) fn document(status: u16, body: &[u8]) -> Result<Document<'_>, TrackerError> {
    Document::parse(body.trim_ascii_start(), LIMITS).map_err(|_| {
        if !is_success(status) {
            TrackerError::HttpStatus(status)
        } else if body.trim_ascii_start().starts_with(b"<") {
            TrackerError::WebPage
        } else {
            TrackerError::Malformed
        }
    })
}

/// The dictionary of an answer that is no refusal.
pub(super) fn answer_dict<'d>(status: u16, document: &'d Document<'_>) -> Result<Dict<'d>, TrackerError> {
    let dict = document.root().as_dict().ok_or(TrackerError::Malformed)?;
    if let Some(reason) = dict.get(b"failure reason") {
        let reason = text::clean(reason.as_bytes().unwrap_or_default(), MAX_TEXT_LEN);
        return Err(TrackerError::Refused { reason, retry_in: retry_in(dict) });
    }
    // Some trackers put the reason of an error status into the body, none puts an answer there.
    if is_success(status) { Ok(dict) } else { Err(TrackerError::HttpStatus(status)) }
}

/// An integer, or a string of digits as some trackers write it.
pub(super) fn number(dict: Dict<'_>, key: &[u8]) -> Option<i64> {
    let value = dict.get(key)?;
    value.as_int().or_else(|| value.as_str()?.trim().parse().ok())
}

fn is_success(status: u16) -> bool {
    (200..300).contains(&status)
}

/// BEP 31: minutes, or `never`. The examples write the minutes as a string.
fn retry_in(dict: Dict<'_>) -> Option<RetryIn> {
    if dict.get(b"retry in")?.as_bytes() == Some(b"never") {
        return Some(RetryIn::Never);
    }
    let minutes = u64::try_from(number(dict, b"retry in")?).ok()?;
    Some(RetryIn::After(Duration::from_secs(60 * minutes.min(MAX_RETRY_MIN))))
}

fn external_ip(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(ip) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::from(ip));
    }
    let ip = <[u8; 16]>::try_from(bytes).ok()?;
    Some(IpAddr::from(ip).to_canonical())
}

/// Each family has half of the room, and what the other leaves.
fn peers(dict: Dict<'_>) -> Vec<SocketAddr> {
    let mut peers: Vec<SocketAddr> = match dict.get(b"peers") {
        Some(Value::Bytes(compact)) => answer::compact_v4(compact).take(MAX_PEERS).collect(),
        Some(Value::List(list)) => list.iter().filter_map(listed).take(MAX_PEERS).collect(),
        _ => Vec::new(),
    };
    let compact = dict.get(b"peers6").and_then(Value::as_bytes).unwrap_or_default();
    let six: Vec<_> = answer::compact_v6(compact).take(MAX_PEERS).collect();
    peers.truncate(MAX_PEERS - six.len().min(MAX_PEERS / 2));
    peers.extend(six);
    peers.truncate(MAX_PEERS);
    peers
}

/// A peer of a list of dictionaries. Its address is text; the names of hosts that BEP 3 allows are not looked up.
fn listed(value: Value<'_>) -> Option<SocketAddr> {
    let dict = value.as_dict()?;
    let ip = dict.get(b"ip")?.as_str()?.parse().ok()?;
    answer::peer(ip, number(dict, b"port")?.try_into().ok()?)
}

/// Enough for some thousand peers in dictionaries.
const LIMITS: Limits = Limits { depth: 16, tokens: 50_000 };

const MAX_RETRY_MIN: u64 = 24 * 60;

#[cfg(test)]
mod tests {
    use super::{MAX_TEXT_LEN, announce_url, parse_announce};
    use crate::id::{InfoHash, PeerId};
    use crate::tracker::{
        Announce, AnnounceEvent, AnnounceRequest, Answer, MAX_PEERS, RetryIn, TrackerError, TrackerUrl,
    };
    use alloc::format;
    use alloc::string::String;
    use alloc::vec;
    use alloc::vec::Vec;
    use core::net::SocketAddr;
    use core::time::Duration;
    use proptest::prelude::*;

    fn an_announce(event: Option<AnnounceEvent>) -> Announce {
        Announce {
            info_hash: InfoHash(
                *b"\x12\x34\x56\x78\x9a\xbc\xde\xf1\x23\x45\x67\x89\xab\xcd\xef\x12\x34\x56\x78\x9a",
            ),
            peer_id: PeerId(*b"-FP0100-0123456789ab"),
            port: 6881,
            ip: None,
            uploaded: 1,
            downloaded: 2,
            left: 3,
            encryption: true,
            request: AnnounceRequest { event, key: 0xbeef, num_want: 200, tracker_id: None },
        }
    }

    #[test]
    fn an_announce_is_a_url() {
        let url = TrackerUrl::parse("http://t.example/announce").unwrap();
        assert_eq!(
            announce_url(&url, &an_announce(Some(AnnounceEvent::Started))),
            "http://t.example/announce\
             ?info_hash=%124Vx%9A%BC%DE%F1%23Eg%89%AB%CD%EF%124Vx%9A&peer_id=-FP0100-0123456789ab&port=6881\
             &uploaded=1&downloaded=2&left=3&event=started&compact=1&numwant=200&key=0000beef&no_peer_id=1\
             &supportcrypto=1"
        );
    }

    #[test]
    fn a_passkey_and_a_tracker_id_are_kept() {
        let url = TrackerUrl::parse("https://t.example/s3cret/announce.php?user=7").unwrap();
        let mut announce = an_announce(None);
        announce.encryption = false;
        announce.request.tracker_id = Some(b"a&b".to_vec());
        let text = announce_url(&url, &announce);
        assert!(text.starts_with("https://t.example/s3cret/announce.php?user=7&info_hash=%124Vx"), "{text}");
        assert!(
            text.ends_with("&left=3&compact=1&numwant=200&key=0000beef&no_peer_id=1&trackerid=a%26b"),
            "{text}"
        );
    }

    #[test]
    fn where_we_are_is_told_as_far_as_it_is_known() {
        let url = TrackerUrl::parse("http://t.example/announce").unwrap();
        let mut announce = an_announce(None);
        announce.ip = Some("2001:db8::7".parse().unwrap());
        assert!(announce_url(&url, &announce).contains("&port=6881&ip=2001:db8::7&uploaded=1"));
        (announce.ip, announce.port) = (None, 0);
        assert!(announce_url(&url, &announce).contains("&port=1&uploaded=1"));
    }

    fn parse(body: &[u8]) -> Result<Answer, TrackerError> {
        parse_announce(200, body)
    }

    fn peers(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_answer_of_bep_7_is_read() {
        let answer = parse(b"d8:intervali1800e5:peers6:iiiipp6:peers618:iiiiiiiiiiiiiiiippe").unwrap();
        assert_eq!(answer.interval, Duration::from_secs(1800));
        let six = "[6969:6969:6969:6969:6969:6969:6969:6969]:28784";
        assert_eq!(answer.peers, peers(&["105.105.105.105:28784", six]));
    }

    #[test]
    fn everything_that_is_practised_is_read() {
        let body = b"d8:completei5e11:external ip4:\xcb\x00\x71\x0510:incompletei7e8:intervali900e\
            12:min intervali300e5:peers0:10:tracker id2:xy15:warning message9:\x1b[1mhurryee";
        let answer = parse(body).unwrap();
        assert_eq!(
            answer,
            Answer {
                external_ip: Some("203.0.113.5".parse().unwrap()),
                interval: Duration::from_secs(900),
                leechers: Some(7),
                min_interval: Some(Duration::from_secs(300)),
                peers: vec![],
                seeders: Some(5),
                tracker_id: Some(b"xy".to_vec()),
                warning: Some(String::from("\u{fffd}[1mhurry")),
            }
        );
    }

    #[test]
    fn peers_in_dictionaries_are_read() {
        let body = b"d8:interval4:12005:peersl\
            d2:ip11:203.0.113.57:peer id20:aaaaaaaaaaaaaaaaaaaa4:porti6881ee\
            d2:ip11:2001:db8::14:port4:6882e\
            d2:ip12:host.example4:porti1ee\
            d2:ip11:203.0.113.54:porti65536ee\
            d4:porti1ee\
            i5e0:ee";
        let answer = parse(body).unwrap();
        assert_eq!(answer.peers, peers(&["203.0.113.5:6881", "[2001:db8::1]:6882"]));
        assert_eq!(answer.interval, Duration::from_secs(1200));
    }

    #[test]
    fn wrong_types_and_numbers_cost_only_themselves() {
        let answer = parse(b"d8:completei-1e8:intervalle10:incomplete2:no5:peersi5e6:peers6lee").unwrap();
        assert_eq!(answer, Answer { interval: Duration::from_secs(1800), ..Answer::default() });
    }

    #[test]
    fn refusals_say_why_and_until_when() {
        let refused = |body: &[u8], status| match parse_announce(status, body) {
            Err(TrackerError::Refused { reason, retry_in }) => (reason, retry_in),
            other => panic!("{other:?}"),
        };
        let minutes = |minutes: u64| Some(RetryIn::After(Duration::from_secs(60 * minutes)));
        let why = || String::from("no");
        assert_eq!(refused(b"d14:failure reason2:noe", 200), (why(), None));
        assert_eq!(refused(b"d14:failure reason2:noe", 403), (why(), None));
        assert_eq!(refused(b"d14:failure reason2:no8:retry in5:nevere", 200), (why(), Some(RetryIn::Never)));
        assert_eq!(refused(b"d14:failure reason2:no8:retry in2:10e", 200), (why(), minutes(10)));
        assert_eq!(refused(b"d14:failure reason2:no8:retry ini10ee", 200), (why(), minutes(10)));
        assert_eq!(refused(b"d14:failure reason2:no8:retry ini9999999ee", 200), (why(), minutes(1440)));
        assert_eq!(refused(b"d14:failure reason2:no8:retry ini-1ee", 200), (why(), None));
        let long = format!("d14:failure reason1000:{}e", "x".repeat(1000));
        assert_eq!(refused(long.as_bytes(), 200).0.len(), MAX_TEXT_LEN);
    }

    #[test]
    fn what_is_no_answer_has_a_name() {
        for (status, body, error) in [
            (200, &b"  <!DOCTYPE html><p>Welcome"[..], TrackerError::WebPage),
            (200, b"", TrackerError::Malformed),
            (200, b"i5e", TrackerError::Malformed),
            (200, b"d8:interval", TrackerError::Malformed),
            (404, b"<html>", TrackerError::HttpStatus(404)),
            (503, b"d8:intervali900ee", TrackerError::HttpStatus(503)),
        ] {
            assert_eq!(parse_announce(status, body), Err(error));
        }
    }

    #[test]
    fn no_more_peers_are_taken_than_the_limit() {
        let body = |four: usize, six: usize| {
            let (four, six) = (vec![1; 6 * four], vec![1; 18 * six]);
            let head = format!("d5:peers{}:", four.len());
            let middle = format!("6:peers6{}:", six.len());
            [head.as_bytes(), &four, middle.as_bytes(), &six, b"e"].concat()
        };
        for (four, six, taken_four, taken_six) in [
            (1000, 1000, 100, 100),
            (1000, 3, 197, 3),
            (3, 1000, 3, 197),
            (1000, 0, 200, 0),
            (50, 60, 50, 60),
        ] {
            let peers = parse(&body(four, six)).unwrap().peers;
            let v4 = peers.iter().filter(|peer| peer.is_ipv4()).count();
            assert_eq!((v4, peers.len() - v4), (taken_four, taken_six), "{four} and {six}");
        }
        let listed = "d2:ip7:1.2.3.44:porti1ee".repeat(1000);
        assert_eq!(parse(format!("d5:peersl{listed}ee").as_bytes()).unwrap().peers.len(), MAX_PEERS);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_read_or_refused(
            body in prop::collection::vec(any::<u8>(), 0..200),
            key in prop::sample::select(&["peers", "peers6", "interval", "min interval", "external ip", "retry in"][..]),
        ) {
            let _: Result<_, _> = parse(&body);
            let head = format!("d{}:{key}", key.len());
            if let Ok(answer) = parse(&[head.as_bytes(), &body, b"e"].concat()) {
                let interval = answer.interval.as_secs();
                prop_assert!((60..=86_400).contains(&interval) && answer.peers.len() <= MAX_PEERS);
            }
        }
    }
}
