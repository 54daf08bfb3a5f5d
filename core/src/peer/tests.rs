mod end;

use super::{Action, CONNECT_TIMEOUT, Event, HANDSHAKE_TIMEOUT, Hello, IDLE_TIMEOUT, KEEP_ALIVE, Offer};
use crate::bitfield::Bitfield;
use crate::session::Reason;
use crate::store::payload::Payload;
use crate::wire::{Extension, ExtensionIds, HolepunchMessage, MetadataMessage, Offence, Reserved};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use core::time::Duration;
use end::{End, arrived, extended, greeting, handshake, hello, piece, request};
use proptest::prelude::*;

const PLAIN: Reserved = Reserved::NONE;
const FAST: Reserved = Reserved::NONE.with_fast();
const EXTENDED: Reserved = Reserved::NONE.with_extended();
const TICK: Duration = Duration::from_micros(1);

const UNCHOKE: &[u8] = &[0, 0, 0, 1, 1];
const CHOKE: &[u8] = &[0, 0, 0, 1, 0];
const INTERESTED: &[u8] = &[0, 0, 0, 1, 2];
const HAVE_ALL: &[u8] = &[0, 0, 0, 1, 0x0e];
const HAVE_NONE: &[u8] = &[0, 0, 0, 1, 0x0f];

#[test]
fn who_dials_speaks_first() {
    let mut end = End::new(true, PLAIN);
    assert_eq!(end.written(), b"");
    end.event(Event::Connected);
    // BEP 3: 19, the name of the protocol, eight reserved bytes, infohash, peer id.
    assert_eq!(end.written(), handshake(PLAIN, 7, 1));
    assert_eq!(end.bytes(&handshake(PLAIN, 7, 2)), [Action::Greeted(greeting(PLAIN, 7, 2))]);
    assert!(end.peer.is_open());
}

#[test]
fn who_is_dialled_answers() {
    let mut end = End::new(false, PLAIN);
    assert_eq!(end.written(), b"");
    end.bytes(&handshake(PLAIN, 7, 2));
    assert_eq!(end.written(), handshake(PLAIN, 7, 1));
}

#[test]
fn a_handshake_of_another_torrent_or_our_own_ends_it() {
    for (theirs, reason) in [
        (handshake(PLAIN, 8, 2), Offence::UnknownInfoHash.into()),
        (handshake(PLAIN, 7, 1), Reason::Ourselves),
        (b"\x13BitTorrent protoco!".to_vec(), Offence::HandshakeProtocol.into()),
    ] {
        let mut end = End::new(false, PLAIN);
        assert_eq!(end.bytes(&theirs), [Action::Disconnect(reason)]);
        assert_eq!(end.bytes(UNCHOKE), [], "it is closed");
    }
}

#[test]
fn what_they_have_comes_in_three_forms() {
    let mut end = End::open(FAST);
    assert_eq!(end.bytes(HAVE_ALL), [Action::Bitfield(Bitfield::all(10))]);
    assert_eq!(end.bytes(HAVE_NONE), [Action::Bitfield(Bitfield::none(10))]);
    // Ten pieces are ten bits and six spare ones (BEP 3).
    let bits = Bitfield::from_wire(&[0x80, 0x40], 10).unwrap();
    assert_eq!(end.bytes(&[0, 0, 0, 3, 5, 0x80, 0x40]), [Action::Bitfield(bits)]);
    assert_eq!(end.bytes(&[0, 0, 0, 5, 4, 0, 0, 0, 9]), [Action::Have(end.block(9, 0).piece())]);
}

#[test]
fn what_we_have_comes_in_three_forms() {
    let one = Bitfield::from_wire(&[0x80, 0], 10).unwrap();
    for (reserved, have, expected) in [
        (FAST, Bitfield::all(10), HAVE_ALL),
        (FAST, Bitfield::none(10), HAVE_NONE),
        (FAST, one.clone(), &[0, 0, 0, 3, 5, 0x80, 0]),
        (PLAIN, one, &[0, 0, 0, 3, 5, 0x80, 0]),
        (PLAIN, Bitfield::all(10), &[0, 0, 0, 3, 5, 0xff, 0xc0]),
        (PLAIN, Bitfield::none(10), b""),
    ] {
        let mut end = End::open(reserved);
        end.event(Event::Hello(Hello { have, ..hello() }));
        assert_eq!(end.written(), expected);
    }
}

#[test]
fn what_they_have_waits_until_the_pieces_are_known() {
    for (said, has) in [
        (HAVE_ALL, Some(Bitfield::all(10))),
        (HAVE_NONE, Some(Bitfield::none(10))),
        (&[0, 0, 0, 3, 5, 0x80, 0x40], Bitfield::from_wire(&[0x80, 0x40], 10)),
        (&[0, 0, 0, 5, 4, 0, 0, 0, 9], Bitfield::from_wire(&[0, 0x40], 10)),
        (UNCHOKE, None),
    ] {
        let mut end = End::without_pieces(FAST);
        assert_eq!(end.bytes(said), []);
        let map = Arc::clone(&end.map);
        assert_eq!(end.event(Event::Pieces(map)), Vec::from_iter(has.map(Action::Bitfield)));
        let next = end.block(3, 0).piece();
        assert_eq!(end.bytes(&[0, 0, 0, 5, 4, 0, 0, 0, 3]), [Action::Have(next)]);
    }
}

#[test]
fn what_does_not_fit_the_pieces_is_found_out_then() {
    for (said, offence) in [
        (&[0, 0, 0, 4, 5, 0, 0, 0][..], Offence::BadBitfield),
        (&[0, 0, 0, 5, 4, 0, 0, 0, 10], Offence::HaveOutOfRange),
    ] {
        let mut end = End::without_pieces(FAST);
        assert_eq!(end.bytes(said), []);
        let map = Arc::clone(&end.map);
        assert_eq!(end.event(Event::Pieces(map)), [Action::Disconnect(offence.into())]);
    }
}

#[test]
fn before_the_pieces_are_known_requests_are_refused_and_blocks_dropped() {
    let mut end = End::without_pieces(FAST);
    let block = end.block(0, 0);
    assert_eq!(end.bytes(&request(6, block)), []);
    assert_eq!(end.written(), request(16, block));
    assert_eq!(end.bytes(&request(8, block)), []);
    assert_eq!(end.bytes(&request(16, block)), []);
    assert_eq!(end.bytes(&piece(block)), []);
    assert_eq!((end.written(), end.peer.wasted_bytes()), (vec![], 1 << 14));
    // BEP 6: what may be asked for while choked can be named by then.
    assert_eq!(end.bytes(&[0, 0, 0, 5, 0x11, 0, 0, 0, 7]), []);
    let map = Arc::clone(&end.map);
    assert_eq!(end.event(Event::Pieces(map)), []);
    assert_eq!(end.peer.allowed_to_us(), [end.block(7, 0).piece()]);
}

#[test]
fn breaches_have_names() {
    for (reserved, bytes, offence) in [
        (PLAIN, HAVE_ALL, Offence::FastNotAgreed),
        (PLAIN, &[0, 0, 0, 1, 20], Offence::FrameTooShort),
        (PLAIN, &[0, 0, 0, 3, 20, 1, 0], Offence::ExtendedNotAgreed),
        (FAST, &[0, 0, 0, 5, 4, 0, 0, 0, 10], Offence::HaveOutOfRange),
        (FAST, &[0, 0, 0, 4, 5, 0, 0, 0], Offence::BadBitfield),
        (FAST, &[0, 0, 0, 13, 6, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 1], Offence::InvalidRequest),
        (FAST, &[0xff; 5], Offence::FrameTooLong),
    ] {
        assert_eq!(End::open(reserved).bytes(bytes), [Action::Disconnect(offence.into())]);
    }
}

#[test]
fn a_request_while_choked_is_rejected_or_ignored() {
    for (reserved, reject) in [(FAST, true), (PLAIN, false)] {
        let mut end = End::open(reserved);
        let block = end.block(0, 0);
        assert_eq!(end.bytes(&request(6, block)), []);
        assert_eq!(end.written(), if reject { request(16, block) } else { vec![] });
        for _ in 1..1000 {
            assert_eq!(end.bytes(&request(6, block)), []);
        }
        let last = end.bytes(&request(6, block));
        assert_eq!(last, [Action::Disconnect(Offence::ChokedRequests.into())]);
    }
}

#[test]
fn a_choke_withdraws_what_was_not_sent_and_without_fast_all() {
    for (reserved, freed) in [(FAST, 1), (PLAIN, 3)] {
        let mut end = End::downloading(reserved, 2);
        end.event(Event::Assigned(vec![end.block(5, 0)]));
        let said = end.bytes(CHOKE);
        assert_eq!(said.len(), freed);
        assert!(said.contains(&Action::Freed(end.block(5, 0))));
        assert_eq!(end.written(), b"");
    }
}

#[test]
fn a_reject_frees_its_block_and_fifty_bogus_ones_are_borne() {
    let mut end = End::downloading(FAST, 1);
    let block = end.block(0, 0);
    assert_eq!(end.bytes(&request(16, block)), [Action::Freed(block)]);
    for _ in 0..50 {
        assert_eq!(end.bytes(&request(16, block)), []);
    }
    let reason = Offence::RejectNotRequested.into();
    assert_eq!(end.bytes(&request(16, block)), [Action::Disconnect(reason)]);
}

#[test]
fn a_block_that_was_asked_for_arrives_even_late() {
    let mut end = End::downloading(PLAIN, 2);
    let [first, second] = [end.block(0, 0), end.block(1, 0)];
    assert_eq!(end.bytes(&piece(first)), [arrived(first)]);
    assert_eq!(end.bytes(CHOKE), [Action::Freed(second)]);
    assert_eq!(end.bytes(&piece(second)), [arrived(second)], "late, not hostile");
    assert_eq!((end.peer.down_bytes(), end.peer.wasted_bytes()), (2 << 14, 0));
}

#[test]
fn a_block_nobody_asked_for_is_dropped_and_the_seventeenth_is_too_much() {
    let mut end = End::open(PLAIN);
    let block = end.block(0, 0);
    for _ in 0..16 {
        assert_eq!(end.bytes(&piece(block)), []);
    }
    assert_eq!(end.peer.wasted_bytes(), 16 << 14);
    let reason = Offence::BlockNotRequested.into();
    assert_eq!(end.bytes(&piece(block)), [Action::Disconnect(reason)]);
}

#[test]
fn the_queue_holds_500_requests_and_2000_more_are_refused() {
    let mut end = End::open(FAST);
    end.event(Event::SetChoke(false));
    assert_eq!(end.written(), UNCHOKE);
    let block = end.block(0, 0);
    for _ in 0..500 {
        assert_eq!(end.bytes(&request(6, block)), [Action::Requested(block)]);
        end.event(Event::Serve(block));
    }
    end.written();
    assert_eq!(end.bytes(&request(6, block)), []);
    assert_eq!(end.written(), request(16, block), "the 501st is refused");
    for _ in 1..2000 {
        assert_eq!(end.bytes(&request(6, block)), []);
    }
    let reason = Offence::RequestFlood.into();
    assert_eq!(end.bytes(&request(6, block)), [Action::Disconnect(reason)]);
}

#[test]
fn a_served_request_is_read_and_written() {
    let mut end = End::open(PLAIN);
    end.event(Event::SetChoke(false));
    let block = end.block(3, 1);
    assert_eq!(end.bytes(&request(6, block)), [Action::Requested(block)]);
    let read = Action::Read { token: 0, piece: block.piece(), begin: 1 << 14, len: 1 << 14 };
    assert_eq!(end.event(Event::Serve(block)), [read]);
    end.event(Event::Read { token: 0, payload: Some(Payload::Length(1 << 14)) });
    assert_eq!(end.written(), [UNCHOKE, &piece(block)].concat());
    assert_eq!(end.peer.up_bytes(), 1 << 14);
}

/// BEP 6: every request has an answer, one that was taken back too.
#[test]
fn a_cancel_is_answered_by_a_reject_under_fast() {
    for (reserved, reject) in [(FAST, true), (PLAIN, false)] {
        let mut end = End::open(reserved);
        end.event(Event::SetChoke(false));
        end.written();
        let block = end.block(0, 0);
        end.bytes(&request(6, block));
        end.event(Event::Serve(block));
        end.bytes(&request(8, block));
        assert_eq!(end.written(), if reject { request(16, block) } else { vec![] });
        assert_eq!(end.peer.queued_uploads(), 0);
    }
}

#[test]
fn reqq_limits_our_requests() {
    let mut end = End::open(EXTENDED);
    end.bytes(UNCHOKE);
    end.event(Event::Interest(true));
    assert!(end.peer.room() > 3);
    // BEP 10: `reqq` is how many requests the sender queues.
    end.bytes(b"\x00\x00\x00\x0d\x14\x00d4:reqqi3ee");
    assert_eq!(end.peer.room(), 3);
}

#[test]
fn metadata_is_asked_for_and_given_under_their_id() {
    let mut end = End::open(EXTENDED);
    let ask = MetadataMessage::Request { piece: 2 };
    end.event(Event::Metadata(ask.clone()));
    assert_eq!(end.written(), b"", "they know no metadata messages");
    end.bytes(&extended(0, b"d1:md11:ut_metadatai7eee"));
    assert_eq!(end.peer.their_id(Extension::UtMetadata), Some(7));
    end.event(Event::Metadata(ask));
    assert_eq!(end.written(), extended(7, b"d8:msg_typei0e5:piecei2ee"));
    let data = MetadataMessage::Data { piece: 0, total_len: Some(3), data: Bytes::from_static(b"abc") };
    end.event(Event::Metadata(data));
    let expected = extended(7, b"d8:msg_typei1e5:piecei0e10:total_sizei3eeabc");
    assert_eq!(end.peer.next_upload_len(), Some(expected.len()));
    assert_eq!(end.written(), expected);
    assert_eq!(end.peer.next_upload_len(), None);
}

#[test]
fn metadata_messages_are_read_once_we_have_said_that_we_take_them() {
    let id = Extension::UtMetadata.our_id();
    let request = extended(id, b"d8:msg_typei0e5:piecei2ee");
    let mut end = End::open(EXTENDED);
    assert_eq!(end.bytes(&request), []);
    end.event(Event::Hello(hello()));
    assert_eq!(end.bytes(&request), [Action::Metadata(MetadataMessage::Request { piece: 2 })]);
    assert_eq!(end.bytes(&extended(id, b"de")), [Action::Disconnect(Offence::BadMetadata.into())]);
}

/// A peer that takes and sends the small extensions, under the ids 3 and 4.
fn chatty(reserved: Reserved) -> End {
    let mut end = End::downloading(reserved.with_extended(), 3);
    let offer =
        Offer { ids: ExtensionIds::ours([Extension::LtDonthave, Extension::UploadOnly]), metadata_len: None };
    end.event(Event::Hello(Hello { offer, ..hello() }));
    end.written();
    end.bytes(&extended(0, b"d1:md11:lt_donthavei3e11:upload_onlyi4eee"));
    end
}

#[test]
fn a_piece_is_taken_back() {
    let id = Extension::LtDonthave.our_id();
    let lost = extended(id, &[0, 0, 0, 1]);
    // BEP 54: without the fast extension what was asked for is given up, and with it a reject follows.
    let mut end = chatty(PLAIN);
    let block = end.block(1, 0);
    assert_eq!(end.bytes(&lost), [Action::Freed(block), Action::DontHave(block.piece())]);
    assert_eq!(end.peer.outstanding(), 2);
    assert_eq!(end.bytes(&piece(block)), [arrived(block)], "it was on its way");
    let mut end = chatty(FAST);
    assert_eq!(end.bytes(&lost), [Action::DontHave(block.piece())]);
    assert_eq!(end.bytes(&request(16, block)), [Action::Freed(block)]);
    // What was not sent yet is given up in any case, and what is allowed or suggested is so no more.
    let mut end = chatty(FAST);
    end.bytes(&[0, 0, 0, 5, 0x11, 0, 0, 0, 1]);
    end.bytes(&[0, 0, 0, 5, 0x0d, 0, 0, 0, 1]);
    let more = end.block(1, 1);
    end.event(Event::Assigned(vec![more]));
    assert_eq!(end.bytes(&lost), [Action::Freed(more), Action::DontHave(more.piece())]);
    assert_eq!((end.peer.allowed_to_us().len(), end.peer.suggested().count()), (0, 0));
    assert_eq!(end.bytes(&extended(id, b"abc")), []);
    assert_eq!(
        end.bytes(&extended(id, &[0, 0, 0, 10])),
        [Action::Disconnect(Offence::HaveOutOfRange.into())]
    );
}

#[test]
fn who_was_told_of_a_piece_hears_that_it_is_gone() {
    for (reserved, rejects) in [(FAST, true), (PLAIN, false)] {
        let mut end = chatty(reserved);
        end.peer.told = 3;
        end.event(Event::SetChoke(false));
        end.written();
        let block = end.block(1, 0);
        end.bytes(&request(6, block));
        assert!(matches!(end.event(Event::Serve(block))[..], [Action::Read { token: 0, .. }]));
        // One behind those that they were told of is none of their business.
        let piece = end.block(2, 0).piece();
        end.event(Event::Lost { piece, place: 3 });
        assert_eq!((end.written(), end.peer.told), (vec![], 3));
        let piece = block.piece();
        end.event(Event::Lost { piece, place: 0 });
        // BEP 54: a reject follows where both are fast.
        let reject = if rejects { request(16, block) } else { vec![] };
        assert_eq!(end.written(), [extended(3, &[0, 0, 0, 1]), reject].concat());
        assert_eq!(end.peer.told, 2, "those behind it have moved up");
        let payload = Some(Payload::Length(block.len()));
        end.event(Event::Read { token: 0, payload });
        assert_eq!(end.written(), b"", "what was read is of no use");
    }
}

#[test]
fn pieces_are_taken_back_only_so_often() {
    let mut end = chatty(FAST);
    let lost = extended(Extension::LtDonthave.our_id(), &[0, 0, 0, 9]);
    for _ in 0..1000 {
        assert_eq!(end.bytes(&lost).len(), 1);
    }
    assert_eq!(end.bytes(&lost), [Action::Disconnect(Offence::MessageFlood.into())]);
}

#[test]
fn peers_are_brought_together_under_the_ids_of_both_sides() {
    let message = HolepunchMessage::Connect("203.0.113.5:6881".parse().unwrap());
    let mut end = chatty(PLAIN);
    let id = Extension::UtHolepunch.our_id();
    assert_eq!(end.bytes(&extended(id, &message.encode())), [], "we did not say that we take it");
    let ids = ExtensionIds::ours([Extension::UtHolepunch]);
    end.event(Event::Offer(Offer { ids, ..Offer::default() }));
    end.written();
    assert_eq!(end.bytes(&extended(id, &message.encode())), [Action::Holepunch(message)]);
    assert_eq!(end.bytes(&extended(id, b"what?")), []);
    end.event(Event::Holepunch(message));
    assert_eq!(end.written(), b"", "they did not say that they take it");
    end.bytes(&extended(0, b"d1:md12:ut_holepunchi7eee"));
    end.event(Event::Holepunch(message));
    assert_eq!(end.written(), extended(7, &message.encode()));
}

#[test]
fn who_wants_nothing_more_says_so() {
    let mut end = chatty(PLAIN);
    assert!(!end.peer.is_upload_only());
    let id = Extension::UploadOnly.our_id();
    assert_eq!(end.bytes(&extended(id, &[1])), [Action::Extended]);
    assert!(end.peer.is_upload_only());
    assert_eq!(end.bytes(&extended(id, b"")), [], "it says nothing");
    end.bytes(&extended(id, &[0]));
    assert!(!end.peer.is_upload_only());
    end.bytes(&extended(0, b"d11:upload_onlyi1ee"));
    assert!(end.peer.is_upload_only());
    // We say it under their id, or by another handshake.
    end.event(Event::UploadOnly(true));
    assert_eq!(end.written(), extended(4, &[1]));
    let mut end = End::open(EXTENDED);
    end.event(Event::Hello(hello()));
    end.written();
    end.event(Event::UploadOnly(true));
    assert_eq!(end.written(), extended(0, b"d1:md11:ut_metadatai4ee11:upload_onlyi1ee"));
    let mut end = End::open(PLAIN);
    end.event(Event::UploadOnly(true));
    assert_eq!(end.written(), b"");
}

#[test]
fn the_latest_suggestions_are_kept() {
    let mut end = End::open(FAST);
    for piece in [3, 4, 3, 200] {
        assert_eq!(end.bytes(&[0, 0, 0, 5, 0x0d, 0, 0, 0, piece]), []);
    }
    let suggested: Vec<u32> = end.peer.suggested().map(|piece| piece.get()).collect();
    assert_eq!(suggested, [4, 3]);
    let plain = &[0, 0, 0, 5, 0x0d, 0, 0, 0, 3];
    assert_eq!(End::open(PLAIN).bytes(plain), [Action::Disconnect(Offence::FastNotAgreed.into())]);
}

/// P-20: who asks and never reads costs no more than the longest metadata has pieces.
#[test]
fn metadata_that_waits_is_bounded() {
    let mut end = End::open(EXTENDED);
    end.bytes(&extended(0, b"d1:md11:ut_metadatai7eee"));
    let data = MetadataMessage::Data { piece: 0, total_len: None, data: Bytes::from_static(b"x") };
    for _ in 0..1024 {
        end.event(Event::Metadata(data.clone()));
    }
    end.event(Event::Metadata(data));
    let written = end.written();
    let refused = extended(7, b"d8:msg_typei2e5:piecei0ee");
    assert!(written.starts_with(&refused), "the next one is refused");
    assert_eq!(written.windows(5).filter(|part| part == b"i0eex").count(), 1024);
}

#[test]
fn a_connection_has_15_seconds_to_open() {
    let mut end = End::new(true, PLAIN);
    assert_eq!(end.at(CONNECT_TIMEOUT - TICK), []);
    assert_eq!(end.at(CONNECT_TIMEOUT), [Action::Disconnect(Reason::ConnectTimeout)]);
    assert_eq!(CONNECT_TIMEOUT.as_secs(), 15);
}

#[test]
fn a_handshake_has_10_seconds_however_it_drips_in() {
    let mut end = End::new(false, PLAIN);
    for (second, byte) in handshake(PLAIN, 7, 2)[..9].iter().enumerate() {
        assert_eq!(end.at(Duration::from_secs(1 + second as u64)), []);
        assert_eq!(end.bytes(&[*byte]), []);
    }
    assert_eq!(end.at(HANDSHAKE_TIMEOUT - TICK), []);
    assert_eq!(end.at(HANDSHAKE_TIMEOUT), [Action::Disconnect(Reason::HandshakeTimeout)]);
    assert_eq!(HANDSHAKE_TIMEOUT.as_secs(), 10);
}

#[test]
fn silence_is_kept_alive_at_90_seconds_and_ended_at_150() {
    let mut end = End::open(PLAIN);
    assert_eq!(end.at(KEEP_ALIVE - TICK), []);
    assert_eq!(end.written(), b"");
    assert_eq!(end.at(KEEP_ALIVE), []);
    assert_eq!(end.written(), [0; 4], "BEP 3: a length of zero");
    assert_eq!(end.at(IDLE_TIMEOUT - TICK), []);
    assert_eq!(end.at(IDLE_TIMEOUT), [Action::Disconnect(Reason::Idle)]);
    assert_eq!((KEEP_ALIVE.as_secs(), IDLE_TIMEOUT.as_secs()), (90, 150));
}

#[test]
fn a_peer_that_owes_for_20_seconds_loses_its_requests() {
    let mut end = End::downloading(PLAIN, 2);
    assert_eq!(end.at(Duration::from_secs(20) - TICK), []);
    let freed = [end.block(0, 0), end.block(1, 0)].map(Action::Freed);
    assert_eq!(end.at(Duration::from_secs(20)), freed);
    assert!(end.peer.is_snubbed());
}

#[test]
fn messages_that_say_nothing_are_counted() {
    let mut end = End::open(PLAIN);
    // 5,000, and two for each of the ten pieces.
    assert_eq!(end.bytes(&[0; 4 * 5020]), []);
    assert_eq!(end.bytes(&[0; 4]), [Action::Disconnect(Offence::MessageFlood.into())]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A whole conversation, cut into arbitrary parts.
    #[test]
    fn any_split_gives_the_same_actions(cuts in prop::collection::vec(1_usize..20_000, 0..40)) {
        let whole = End::downloading(FAST, 2);
        let conversation = [
            HAVE_ALL,
            INTERESTED,
            &piece(whole.block(0, 0)),
            &[0, 0, 0, 5, 4, 0, 0, 0, 3],
            &piece(whole.block(7, 0)),
            &request(6, whole.block(2, 0)),
            CHOKE,
            &request(16, whole.block(1, 0)),
            &[0, 0, 0, 5, 4, 0, 0, 0, 10],
        ]
        .concat();
        let expected = End::downloading(FAST, 2).bytes(&conversation);
        prop_assert_eq!(expected.len(), 6);
        let (mut parts, mut rest, mut said) = (End::downloading(FAST, 2), &conversation[..], vec![]);
        for cut in cuts.into_iter().chain([usize::MAX]) {
            let (part, left) = rest.split_at(cut.min(rest.len()));
            said.extend(parts.bytes(part));
            rest = left;
        }
        prop_assert_eq!(said, expected);
    }

    /// BEP 6: every request gets one answer, a block or a reject, whatever comes between.
    #[test]
    fn every_request_gets_one_answer(
        steps in prop::collection::vec((0..8_u8, 0..10_u32, 0..2_u32), 0..80),
        allowed in 0..10_u32,
    ) {
        let mut end = End::open(FAST);
        let allowed = vec![end.block(allowed, 0).piece()];
        end.event(Event::Hello(Hello { allowed, have: Bitfield::all(10), ..hello() }));
        end.written();
        let (mut asked, mut answers) = (vec![], vec![]);
        let (mut reads, mut wanted) = (vec![], vec![]);
        for (step, piece, number) in steps {
            let block = end.block(piece, number);
            let said = match step {
                0 | 1 => {
                    asked.push(block);
                    end.bytes(&request(6, block))
                }
                2 => end.bytes(&request(8, block)),
                3 => end.event(Event::SetChoke(number == 0)),
                4 if !wanted.is_empty() => end.event(Event::Serve(wanted.remove(0))),
                5 if !wanted.is_empty() => end.event(Event::Refuse(wanted.remove(0))),
                6 if !reads.is_empty() => {
                    let (token, len) = reads.remove(0);
                    let payload = (number == 0).then(|| Payload::Content(vec![0; len as usize].into()));
                    end.event(Event::Read { token, payload })
                }
                _ => {
                    answers.extend(end.answers());
                    vec![]
                }
            };
            end.note(said, &mut reads, &mut wanted);
        }
        // In the end everything is answered.
        loop {
            answers.extend(end.answers());
            let said = if let Some(block) = wanted.pop() {
                end.event(Event::Serve(block))
            } else if let Some((token, len)) = reads.pop() {
                end.event(Event::Read { token, payload: Some(Payload::Content(vec![0; len as usize].into())) })
            } else {
                break;
            };
            end.note(said, &mut reads, &mut wanted);
        }
        answers.extend(end.answers());
        asked.sort_unstable();
        answers.sort_unstable();
        prop_assert_eq!(answers, asked);
    }

    #[test]
    fn arbitrary_bytes_end_a_connection_once_at_most(
        bytes in prop::collection::vec(prop_oneof![Just(0_u8), 0_u8..24, any::<u8>()], 0..300),
        handshaken in any::<bool>(),
    ) {
        let mut end = if handshaken { End::open(FAST) } else { End::new(false, FAST) };
        let said = end.bytes(&bytes);
        let ends = said.iter().filter(|action| matches!(action, Action::Disconnect(_))).count();
        prop_assert!(ends <= 1);
    }
}
