//! Vectors that the BEPs publish, and packets that were captured, against the core's own reading of them.
//!
//! The corpus must be in `../shared` or where `FAST_PEER_SHARED` points.

use bytes::{Bytes, BytesMut};
use fast_peer_core::dht::bloom::Bloom;
use fast_peer_core::dht::item::{Item, MutableLink, SecretKey, immutable_target, mutable_target};
use fast_peer_core::dht::message::{Malformed, Message};
use fast_peer_core::dht::node_id::NodeId;
use fast_peer_core::id::InfoHash;
use fast_peer_core::mse::{self, Initiator, Method, Methods, Responder, torrent_mark};
use fast_peer_core::rng::Rng;
use fast_peer_core::utp::{Header, Kind, Packet, is_utp};
use fast_peer_core::wire::{Decoder, Frame};
use peers::corpus::{read_json, shared};
use serde_json::Value;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

/// Packets that nobody can answer, and why.
const REFUSED: &[(&str, Malformed)] = &[
    // Without a transaction there is nothing that an answer could be paired with.
    ("d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:y1:qe", Malformed::Garbage),
];

#[test]
fn every_packet_of_the_dht_is_read_without_loss() {
    let bep_5 = vectors("bep5_krpc.json");
    let captured = vectors("dht_packets.json");
    let printed =
        list(&bep_5["messages"]).iter().map(|message| text(&message["bencoded"]).as_bytes().to_vec());
    let sent = list(&captured["packets"]).iter().map(|packet| unhex(text(&packet["bytes"])));
    let (mut read, mut refused) = (0, 0);
    for packet in printed.chain(sent) {
        let shown = packet.escape_ascii().to_string();
        match Message::parse(&packet) {
            Ok(message) => {
                assert_eq!(message.encode().escape_ascii().to_string(), shown);
                read += 1;
            }
            Err(error) => {
                assert!(REFUSED.contains(&(&shown, error)), "{shown}: {error}");
                refused += 1;
            }
        }
    }
    assert_eq!((read, refused), (10 + 15, REFUSED.len()));
}

#[test]
fn the_filter_of_bep_33_comes_out() {
    let published = fs::read_to_string(path("bep33_bloom.txt")).expect("the corpus has this file");
    let rows = published.lines().filter(|line| {
        let mut words = line.split_whitespace().peekable();
        words.peek().is_some()
            && words.all(|word| word.len() == 8 && word.bytes().all(|digit| digit.is_ascii_hexdigit()))
    });
    let expected = unhex(&rows.flat_map(str::split_whitespace).collect::<String>());
    let mut bloom = Bloom::new();
    (0..=255).for_each(|i| bloom.insert(Ipv4Addr::new(192, 0, 2, i).into()));
    (0..=0x3e7).for_each(|i| bloom.insert(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, i).into()));
    assert_eq!(bloom.as_bytes()[..], expected);
    assert!(published.contains("should be 1224.9308") && bloom.estimate() == 1225);
}

#[test]
fn the_names_of_bep_42_suit_their_addresses() {
    let published = vectors("bep42_node_id.json");
    for vector in list(&published["valid"]) {
        let ip: IpAddr = text(&vector["ip"]).parse().expect("an address");
        let id = NodeId(array(&vector["node_id"]));
        assert_eq!(u64::from(id.0[19]), vector["rand"], "{ip}");
        assert!(id.is_secure_for(ip), "{ip}");
        assert!(!id.is_secure_for(Ipv4Addr::new(8, 8, 8, 8).into()), "{ip}");
    }
    assert_eq!(list(&published["valid"]).len(), 5);
}

#[test]
fn the_items_of_beps_44_and_46_are_signed_alike() {
    let published = vectors("bep44_items.json");
    for vector in list(&published["bep44"]) {
        let (value, target) = (text(&vector["value"]).as_bytes(), NodeId(array(&vector["target_ID"])));
        if vector["public_key"].is_null() {
            assert_eq!(immutable_target(value), target);
            assert_eq!(Item::immutable(value).map(|item| item.target()), Ok(target));
            continue;
        }
        let key = SecretKey::from_expanded(&array(&vector["private_key"]));
        assert_eq!(key.public(), array(&vector["public_key"]));
        let salt = vector["salt"].as_str().unwrap_or_default().as_bytes();
        let item = Item::sign(&key, salt, vector["seq"].as_i64().expect("a number"), value).expect("an item");
        assert_eq!(item.target(), target);
        assert_eq!(item.part(None).signature, Some(&array(&vector["signature"])));
        assert_eq!(Item::from_put(&item.put(b"", None)), Ok(item));
    }
    for vector in list(&published["bep46"]) {
        let salt = unhex(vector["salt"].as_str().unwrap_or_default());
        let link = MutableLink { key: array(&vector["public_key"]), salt };
        assert_eq!(link.target(), NodeId(array(&vector["target_ID"])));
        assert_eq!(mutable_target(&link.key, &link.salt), link.target());
        assert_eq!(MutableLink::parse(&link.to_string()), Some(link));
    }
    assert_eq!((list(&published["bep44"]).len(), list(&published["bep46"]).len()), (3, 2));
}

/// Conversations that the authors of Transmission recorded: each holds a handshake of BitTorrent to its last byte.
#[test]
fn recorded_obfuscated_handshakes_are_deciphered() {
    let recorded = vectors("mse_handshakes.json");
    let torrent = InfoHash(array(&recorded["info_hash"]));
    let rng = Rng::from_number(1);
    for case in list(&recorded["cases"]) {
        let (name, key) = (text(&case["test"]), array(&case["our_private_key"]));
        let received: Vec<u8> = list(&case["received"]).iter().flat_map(|part| unhex(text(part))).collect();
        let (mut input, mut out) = (BytesMut::from(&received[..]), vec![]);
        let agreed = if name.starts_with("outgoing") {
            let mut initiator =
                Initiator::with_key(key, torrent, Methods::ALL, Bytes::new(), rng.clone(), &mut out);
            initiator.handle_bytes(&mut input, &mut out)
        } else {
            let ours = Some(torrent).filter(|_| !name.ends_with("UnknownInfoHash"));
            let known = |mark| ours.filter(|torrent| torrent_mark(*torrent) == mark);
            Responder::with_key(key, Methods::ALL, rng.clone()).handle_bytes(&mut input, &mut out, known)
        };
        assert_eq!(out[..96], array::<96>(&case["our_public_key_derived"]), "{name}");
        let Some(peer_id) = case["expected_peer_id"].as_str() else {
            assert_eq!(agreed.expect_err("nobody shares it"), mse::Error::UnknownTorrent, "{name}");
            continue;
        };
        let agreed = agreed.expect("it is in order").expect("it is whole");
        assert_eq!((agreed.method, agreed.torrent), (Method::Rc4, torrent), "{name}");
        agreed.decipher.expect("it is enciphered").apply(&mut input);
        let mut said = agreed.first;
        said.unsplit(input);
        match Decoder::new().decode(&mut said) {
            Ok(Some(Frame::Handshake(theirs))) => {
                assert_eq!(
                    (theirs.info_hash, &theirs.peer_id.0[..]),
                    (torrent, peer_id.as_bytes()),
                    "{name}"
                );
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    assert_eq!(list(&recorded["cases"]).len(), 3);
}

#[test]
fn the_packets_of_utp_come_out() {
    let published = vectors("utp_packets.json");
    for vector in list(&published["vectors"]) {
        let (bytes, wanted) = (unhex(text(&vector["packet"])), &vector["header"]);
        let packet = Packet::parse(&bytes).expect("a packet");
        let number = |name: &str| wanted[name].as_u64().expect("a number");
        let kinds = [Kind::Data, Kind::Fin, Kind::State, Kind::Reset, Kind::Syn];
        let header = Header {
            kind: kinds[number("type") as usize],
            connection: number("connection_id") as u16,
            timestamp: number("timestamp_microseconds") as u32,
            difference: number("timestamp_difference_microseconds") as u32,
            window: number("wnd_size") as u32,
            seq: number("seq_nr") as u16,
            ack: number("ack_nr") as u16,
        };
        assert_eq!(packet.header, header);
        assert_eq!(packet.sack, numbers(&vector["selective_ack"]));
        assert_eq!(packet.payload, numbers(&vector["payload"]));
        assert_eq!(written(&packet), bytes);
    }
    assert_eq!(list(&published["vectors"]).len(), 6);
}

/// What was captured is cut off after 160 bytes, which is behind all that isn't payload.
#[test]
fn the_packets_of_a_captured_connection_are_read_to_the_last_byte() {
    let captured = vectors("utp_capture.json");
    let (mut read, mut others, mut refused, mut with_unknown) = (0, 0, 0, 0);
    for packet in list(&captured["packets"]) {
        let bytes = unhex(text(&packet["bytes"]));
        if !is_utp(&bytes) {
            assert_eq!(bytes[0], b'd', "it is of the DHT");
            others += 1;
            continue;
        }
        let Some(packet) = Packet::parse(&bytes) else {
            // A FIN without a clock or a window, whose extension says that it is longer than the packet.
            assert_eq!(text(&packet["bytes"]), "110353030000000000000000000000000000039a3ecb00");
            refused += 1;
            continue;
        };
        match bytes[1] {
            0 | 1 => assert_eq!(written(&packet), bytes),
            // The extension bits of old clients, and the reason for which one closes: nobody needs them.
            extension => {
                assert!(matches!((extension, bytes.len()), (2, 30) | (3, 26)), "{bytes:?}");
                assert_eq!(bytes[20], 0, "it is the only one");
                assert_eq!(written(&packet)[2..], bytes[2..20]);
                with_unknown += 1;
            }
        }
        read += 1;
    }
    assert_eq!((read, others, refused, with_unknown), (88, 3, 1, 2));
}

fn written(packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    if packet.sack.is_empty() {
        packet.header.encode(&mut bytes);
    } else {
        packet.header.encode_with_sack(packet.sack, &mut bytes);
    }
    bytes.extend_from_slice(packet.payload);
    bytes.to_vec()
}

fn numbers(list: &Value) -> Vec<u8> {
    let numbers = list.as_array().into_iter().flatten();
    numbers.map(|number| number.as_u64().expect("a number") as u8).collect()
}

fn vectors(name: &str) -> Value {
    read_json(&path(name))
}

fn path(name: &str) -> PathBuf {
    shared().join("corpus/vectors").join(name)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    unhex(text(value)).try_into().expect("so many bytes")
}

fn unhex(digits: &str) -> Vec<u8> {
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    assert!(rest.is_empty(), "an even number of digits");
    let byte = |pair: &[u8; 2]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
    pairs.iter().map(|pair| byte(pair).expect("hex digits")).collect()
}
