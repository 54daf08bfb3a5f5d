//! What real clients said in extension messages and in calls to the local network, as the core reads it.
//!
//! The corpus must be in `../shared` or where `FAST_PEER_SHARED` points.

use fast_peer_core::id::InfoHash;
use fast_peer_core::lsd::Announcement;
use fast_peer_core::wire::{
    Decoder, ExtendedHandshake, Extension, Frame, HANDSHAKE_LEN, Message, MetadataMessage, PexMessage,
};
use peers::corpus::{read_json, shared};
use serde_json::Value;

/// Every stream is read to its end, or to where the capture ends.
#[test]
fn extended_handshakes_of_real_clients_say_what_they_mean() {
    let handshakes = read_json(&shared().join("corpus/vectors/wire_handshakes.json"));
    let (mut read, mut others) = (0, 0);
    for side in list(&handshakes["conversations"]).iter().flat_map(|talk| list(&talk["sides"])) {
        // A stream whose start was not captured can't be cut into messages.
        if side["handshake"] != true {
            continue;
        }
        let (mut decoder, mut input) = (Decoder::new(), unhex(text(&side["stream"])).as_slice().into());
        let Ok(Some(Frame::Handshake(handshake))) = decoder.decode(&mut input) else {
            panic!("a handshake has {HANDSHAKE_LEN} bytes");
        };
        assert!(handshake.reserved.extended() && handshake.reserved.fast() && handshake.reserved.dht());
        while let Some(frame) = decoder.decode(&mut input).expect("real clients keep to the protocol") {
            let Frame::Message(Message::Extended { id, payload }) = frame else { continue };
            if id != 0 {
                others += 1;
                continue;
            }
            let theirs = ExtendedHandshake::parse(&payload).expect("a dictionary");
            assert_eq!(theirs.metadata_size, Some(19_009));
            assert_eq!(theirs.ids.id(Extension::UtMetadata), Some(2));
            assert_eq!(theirs.ids.id(Extension::UtPex), Some(1));
            assert_eq!(theirs.request_queue, Some(255));
            assert!(theirs.port.is_some() && theirs.your_ip.is_some());
            assert!(theirs.client.is_some_and(|name| name.contains("Torrent")));
            read += 1;
        }
    }
    assert_eq!((read, others), (16, 11));
}

/// What is sent under ids that we never gave out means something else: it must not be taken for what we know.
#[test]
fn messages_of_other_extensions_are_told_apart_by_their_ids_alone() {
    // Comments have the shape of metadata messages, as the capture shows.
    let comments = b"d8:msg_typei1e8:commentslee";
    assert!(MetadataMessage::parse(&comments[..].into()).is_err(), "there is no piece");
    assert_eq!(PexMessage::parse(comments), Ok(PexMessage::default()));
    assert_eq!(Extension::from_our_id(6), None);
}

#[test]
fn captured_calls_are_read_and_written_alike() {
    let captured = read_json(&shared().join("corpus/vectors/lsd_bep14.json"));
    let calls = list(&captured["payloads"]);
    assert_eq!(calls.len(), 2);
    for call in calls {
        let call = text(call);
        let hash = InfoHash(unhex("ED4F1085E885F98F9A69B70EE89EB988B8FD9115").try_into().expect("20 bytes"));
        let read = Announcement::parse(call.as_bytes()).expect("it is a call");
        assert_eq!(read, Announcement { port: 61_197, torrents: vec![hash], cookie: None });
        let ours = read.encode(fast_peer_core::lsd::Group::V4);
        assert!(ours.eq_ignore_ascii_case(call.as_bytes()), "{}", ours.escape_ascii());
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

fn unhex(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks(2).map(|pair| str::from_utf8(pair).expect("digits"));
    pairs.map(|pair| u8::from_str_radix(pair, 16).expect("digits")).collect()
}
