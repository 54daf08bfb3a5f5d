use super::{Action, Event, Metadata, Progress};
use crate::id::{ConnId, InfoHash, InfoHashes};
use crate::machine::{Machine as _, Outbox, Timestamp};
use crate::metainfo::{Assembly, AssemblyError, Error, Metainfo};
use crate::rng::Rng;
use crate::wire::{MAX_METADATA_LEN, METADATA_PIECE_LEN, Offence, metadata_piece_count, metadata_piece_len};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use core::time::Duration;
use proptest::prelude::*;
use sha1::{Digest as _, Sha1};

const A: ConnId = ConnId(1);
const B: ConnId = ConnId(2);
const C: ConnId = ConnId(3);

#[test]
fn every_piece_is_asked_for_as_soon_as_a_peer_offers_them() {
    let mut end = End::new(3);
    assert_eq!(end.offer(A), asks(A, 0..3));
    assert_eq!(end.data(A, 0), []);
    assert_eq!(end.metadata.progress(), Some(Progress { sources: 1, pieces_have: 1, pieces: 3 }));
    end.data(A, 2);
    let said = end.data(A, 1);
    let [Action::Read { job: 0, assembly }] = &said[..] else { panic!("{said:?}") };
    assert_eq!(assembly.len(), end.info.len());
    let metainfo = end.read(0, assembly.clone());
    assert_eq!(metainfo, [Action::Known(Arc::clone(end.metadata.metainfo().unwrap()))]);
    assert_eq!(end.metadata.metainfo().unwrap().info(), &end.info);
    assert_eq!((end.metadata.progress(), end.metadata.poll_timeout()), (None, None));
}

#[test]
fn peers_are_asked_for_different_pieces() {
    let mut end = End::new(100);
    assert_eq!(end.offer(A), asks(A, 0..64));
    assert_eq!(end.offer(B), asks(B, 64..100));
    assert_eq!(end.offer(C), []);
    assert_eq!(end.data(A, 0), [], "nothing is left to ask for");
    assert_eq!(end.at(2999), []);
    assert_eq!(
        end.at(3000),
        asks(C, 1..65),
        "what is owed for three seconds is asked of who has nothing to do"
    );
}

#[test]
fn a_peer_that_rejects_is_left_alone_for_a_minute() {
    let mut end = End::new(3);
    end.offer(A);
    assert_eq!(end.offer(B), []);
    assert_eq!(end.event(Event::Rejected { peer: A, piece: 7 }), [], "it was never asked for that");
    assert_eq!(end.event(Event::Rejected { peer: A, piece: 1 }), asks(B, 0..3));
    assert_eq!(end.event(Event::Gone { peer: B }), []);
    assert_eq!(end.at(59_999), []);
    assert_eq!(end.at(60_000), asks(A, 0..3));
}

#[test]
fn a_silent_peer_is_given_up_and_may_still_answer() {
    let mut end = End::new(3);
    end.offer(A);
    assert_eq!(end.at(9999), []);
    assert_eq!(end.at(10_000), []);
    assert_eq!(end.offer(B), asks(B, 0..3), "what it owed is free");
    assert_eq!(end.data(A, 0), [], "late, not hostile");
    assert_eq!(end.metadata.progress(), Some(Progress { sources: 2, pieces_have: 1, pieces: 3 }));
}

#[test]
fn what_a_peer_sent_stays_when_it_leaves() {
    let mut end = End::new(3);
    end.offer(A);
    end.data(A, 1);
    assert_eq!(end.event(Event::Gone { peer: A }), []);
    let said = end.offer(B);
    assert_eq!(said, [0, 2].map(|piece| Action::Ask { peer: B, piece }));
}

#[test]
fn who_alone_sent_wrong_metadata_is_a_liar() {
    let mut end = End::new(2);
    end.offer(A);
    end.send(A, 0, &end.wrong(0));
    let said = end.data(A, 1);
    assert_eq!(end.read_all(said), [Action::Liar(A)]);
    assert_eq!(end.offer(B), asks(B, 0..2));
}

/// Neither of two can be blamed before the right metadata shows who was wrong.
#[test]
fn after_a_failure_each_peer_is_asked_alone_and_digests_name_the_liar() {
    let mut end = End::new(100);
    end.offer(A);
    end.offer(B);
    (0..64).for_each(|piece| drop(end.data(A, piece)));
    (64..99).for_each(|piece| drop(end.data(B, piece)));
    let said = end.send(B, 99, &end.wrong(99));
    let said = end.read_all(said);
    assert_eq!(said, [asks(A, 0..64), asks(B, 0..64)].concat());
    assert_eq!(end.offer(C), asks(C, 0..64), "three at once");
    let mut said = vec![];
    for piece in 0..100 {
        said = end.data(A, piece);
    }
    let said = end.read_all(said);
    assert_eq!(said[0], Action::Liar(B));
    assert!(matches!(said[..], [_, Action::Known(_)]), "{said:?}");
}

#[test]
fn each_claimed_length_has_a_draft() {
    let mut end = End::new(3);
    assert_eq!(end.event(Event::Offer { peer: A, len: 1 }), asks(A, 0..1));
    assert_eq!(end.offer(B), asks(B, 0..3));
    let said = end.send(A, 0, b"x");
    assert_eq!(end.read_all(said), [Action::Liar(A)]);
    assert_eq!(end.event(Event::Offer { peer: A, len: 2 }), asks(A, 0..1), "it claims something else");
    assert_eq!(end.event(Event::Offer { peer: A, len: 2 }), []);
    (0..2).for_each(|piece| drop(end.data(B, piece)));
    let said = end.data(B, 2);
    assert!(matches!(end.read_all(said)[..], [Action::Known(_)]));
}

/// P-20: what is claimed costs nothing, and all that comes stays within limit L4: what is farthest from its end goes.
#[test]
fn bombs_share_the_memory_of_one() {
    let mut end = End::new(3);
    end.event(Event::Offer { peer: A, len: MAX_METADATA_LEN });
    end.event(Event::Offer { peer: B, len: MAX_METADATA_LEN - 1 });
    assert_eq!(end.metadata.unproved_bytes(), 0);
    let piece = [0; METADATA_PIECE_LEN as usize];
    for number in 0..1000 {
        end.send(A, number, &piece);
    }
    assert_eq!(end.offer(C), asks(C, 0..3), "nobody waits for them");
    end.data(C, 0);
    for number in 0..23 {
        end.send(B, number, &piece);
        assert_eq!(end.metadata.unproved_bytes(), (1000 + 1 + number + 1) * METADATA_PIECE_LEN);
    }
    let said = end.send(B, 23, &piece);
    assert_eq!(end.metadata.unproved_bytes(), 1001 * METADATA_PIECE_LEN, "B has the least of its own");
    assert_eq!(said, [], "and is left alone for a minute");
    assert_eq!(end.send(B, 24, &piece), []);
    end.data(C, 1);
    let said = end.data(C, 2);
    assert!(matches!(end.read_all(said)[..], [Action::Known(_)]));
}

/// What a bomb sent until it fell silent does not push out what comes.
#[test]
fn a_draft_that_nobody_goes_on_with_gives_way_first() {
    let mut end = End::new(100);
    end.event(Event::Offer { peer: A, len: MAX_METADATA_LEN });
    let most = metadata_piece_count(MAX_METADATA_LEN) - 1;
    for piece in 0..most {
        end.send(A, piece, &vec![7; METADATA_PIECE_LEN as usize]);
    }
    end.at(4000);
    end.offer(B);
    for piece in 0..99 {
        let said = end.data(B, piece);
        assert!(said.iter().all(|it| matches!(it, Action::Ask { peer: B, .. })), "{piece}: {said:?}");
    }
    assert!(end.metadata.unproved_bytes() < 100 * METADATA_PIECE_LEN, "the bomb is still there");
    assert!(matches!(end.data(B, 99)[..], [Action::Read { .. }]));
}

#[test]
fn who_claims_another_length_is_left_alone_for_a_minute() {
    let mut end = End::new(3);
    end.event(Event::Offer { peer: A, len: 5 });
    assert_eq!(end.offer(A), []);
    assert_eq!(end.offer(A), [], "it said so before");
    assert_eq!(end.at(59_999), []);
    assert_eq!(end.at(60_000), asks(A, 0..3));
    assert_eq!(end.event(Event::Offer { peer: A, len: 5 }), []);
    assert_eq!(end.at(119_999), []);
    assert_eq!(end.at(120_000), asks(A, 0..1));
}

#[test]
fn a_draft_that_takes_too_long_gives_way_if_another_waits() {
    let mut end = End::new(3);
    for n in 0..8 {
        end.event(Event::Offer { peer: ConnId(10 + n), len: 50_000 + n as u32 });
    }
    assert_eq!(end.offer(A), [], "there are eight already");
    for second in [9, 18] {
        // They send just enough not to be called silent.
        end.now = Timestamp::from_micros(u64::from(second) * 1_000_000);
        for n in 0..8 {
            end.send(ConnId(10 + n), second / 9 - 1, &[0; METADATA_PIECE_LEN as usize]);
        }
        assert_eq!(end.at(u64::from(second) * 1000), []);
    }
    assert_eq!(end.at(19_999), []);
    assert_eq!(end.at(20_000), asks(A, 0..3));
}

#[test]
fn pieces_nobody_asked_for_are_borne_sixteen_times() {
    let mut end = End::new(3);
    end.offer(A);
    for _ in 0..16 {
        assert_eq!(end.data(A, 9), []);
    }
    let accused = Action::Accuse { peer: A, offence: Offence::MetadataNotRequested };
    assert_eq!(end.data(A, 9), [accused]);
    assert_eq!(end.data(B, 0), [], "who offers nothing is not known here");
}

#[test]
fn a_piece_of_a_wrong_length_is_an_offence() {
    let mut end = End::new(3);
    end.offer(A);
    let accused = Action::Accuse { peer: A, offence: Offence::BadMetadata };
    assert_eq!(end.send(A, 1, b"short"), [accused]);
    assert_eq!(end.metadata.unproved_bytes(), 0);
}

#[test]
fn what_the_hash_names_may_be_no_torrent() {
    let info = Bytes::from_static(b"de");
    let mut end = End::of(info);
    end.offer(A);
    let said = end.data(A, 0);
    let error = AssemblyError::Malformed(Error::PieceLength);
    assert_eq!(end.read_all(said), [Action::Useless(error)]);
    assert!(end.metadata.is_useless());
    assert_eq!(end.offer(B), []);
}

#[test]
fn a_job_without_an_answer_costs_the_draft() {
    let mut end = End::new(1);
    end.offer(A);
    assert_eq!(end.data(A, 0).len(), 1);
    assert_eq!(end.event(Event::Read { job: 5, result: None }), []);
    assert_eq!(end.event(Event::Read { job: 0, result: None }), asks(A, 0..1));
}

#[test]
fn metadata_from_elsewhere_ends_the_search() {
    let mut end = End::new(1);
    end.offer(A);
    let metainfo = Arc::new(Metainfo::from_info(end.info.clone()).unwrap());
    assert_eq!(end.event(Event::Known(Arc::clone(&metainfo))), [Action::Known(metainfo)]);
    assert_eq!(end.data(A, 0), []);
    assert_eq!(end.metadata.info_len(), Some(end.info.len() as u32));
}

#[test]
fn only_what_is_proved_is_served_and_not_more_than_enough() {
    let mut end = End::new(3);
    let request = |piece| Event::Requested { peer: B, piece };
    let refused = |piece| [Action::Refuse { peer: B, piece }];
    assert_eq!(end.event(request(0)), refused(0));
    let metainfo = Arc::new(Metainfo::from_info(end.info.clone()).unwrap());
    end.event(Event::Known(metainfo));
    for piece in [2, 0, 1] {
        let from = (piece * METADATA_PIECE_LEN) as usize;
        let total_len = end.info.len() as u32;
        let to = from + metadata_piece_len(total_len, piece).unwrap() as usize;
        let data = end.info.slice(from..to);
        assert_eq!(end.event(request(piece)), [Action::Serve { peer: B, piece, total_len, data }]);
    }
    for piece in [0, 3, u32::MAX] {
        assert_eq!(end.event(request(piece)), refused(piece));
    }
    end.event(Event::Gone { peer: B });
    assert!(matches!(end.event(request(0))[..], [Action::Serve { .. }]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// P-20: whatever nine of ten peers do, the tenth is enough, within two minutes and the limit of memory; and it is
    /// never called a liar.
    #[test]
    fn one_honest_peer_of_ten_is_enough(seed in any::<u64>(), pieces in 1_u32..130, honest in 0_u64..10) {
        let mut rng = Rng::from_number(seed);
        let mut end = End::new(pieces);
        let len = end.info.len() as u32;
        let peers: Vec<Character> = (0..10)
            .map(|peer| if peer == honest { Character::Honest } else { Character::draw(&mut rng) })
            .collect();
        let mut inbox: BTreeMap<(u64, u64), Event> = BTreeMap::new();
        let mut number = 0;
        let mut post = |inbox: &mut BTreeMap<_, _>, at, event| {
            number += 1;
            inbox.insert((at, number), event);
        };
        for (peer, character) in peers.iter().enumerate() {
            let claim = character.claim(len, &mut rng);
            let event = Event::Offer { peer: ConnId(peer as u64), len: claim };
            post(&mut inbox, rng.below(500), event);
        }
        let (mut now, mut asked) = (0, 0);
        let mut said: Vec<Action> = vec![];
        while end.metadata.metainfo().is_none() {
            for action in core::mem::take(&mut said) {
                match action {
                    Action::Ask { peer, piece } => {
                        asked += 1;
                        if let Some((after, data)) = peers[peer.0 as usize].answer(&end.info, piece, &mut rng) {
                            let event = match data {
                                Some(data) => Event::Data { peer, piece, data },
                                None => Event::Rejected { peer, piece },
                            };
                            post(&mut inbox, now + after, event);
                        }
                    }
                    Action::Read { job, assembly } => {
                        post(&mut inbox, now + 2, Event::Read { job, result: Some(assembly.read()) });
                    }
                    Action::Liar(peer) | Action::Accuse { peer, .. } => {
                        prop_assert_ne!(peer.0, honest, "the honest one is blamed");
                        post(&mut inbox, now, Event::Gone { peer });
                    }
                    _ => {}
                }
            }
            prop_assert!(end.metadata.unproved_bytes() <= MAX_METADATA_LEN);
            let due = end.metadata.poll_timeout().map(|due| due.at.as_micros().div_ceil(1000));
            let next = inbox.first_key_value().map(|((at, _), _)| *at);
            now = due.into_iter().chain(next).min().expect("something goes on until it is there");
            prop_assert!(now <= 120_000, "it takes more than two minutes");
            prop_assert!(asked <= 10 * 64 * (4 + now / 10_000), "no peer is asked for more than 64 pieces in 10 s");
            end.now = Timestamp::from_micros(now * 1000);
            said = if due == Some(now) {
                end.at(now)
            } else {
                let (_, event) = inbox.pop_first().expect("it was just seen");
                end.event(event)
            };
        }
        let liars = said.iter().filter(|action| **action == Action::Liar(ConnId(honest))).count();
        prop_assert_eq!(liars, 0);
    }
}

/// How a peer behaves.
#[derive(Clone, Copy, Debug)]
enum Character {
    Bomber,
    Honest,
    Liar,
    Mute,
    OtherLen,
    Rejecter,
    Trickler,
}

impl Character {
    fn draw(rng: &mut Rng) -> Self {
        let all = [
            Self::Bomber,
            Self::Liar,
            Self::Mute,
            Self::OtherLen,
            Self::Rejecter,
            Self::Trickler,
            Self::Liar,
        ];
        all[rng.below(all.len() as u64) as usize]
    }

    fn claim(self, len: u32, rng: &mut Rng) -> u32 {
        match self {
            Self::Bomber => MAX_METADATA_LEN - rng.below(3) as u32,
            Self::OtherLen => 1 + rng.below(2 * u64::from(len)) as u32,
            _ => len,
        }
    }

    /// After how many milliseconds it answers, and what.
    fn answer(self, info: &[u8], piece: u32, rng: &mut Rng) -> Option<(u64, Option<Bytes>)> {
        let from = (piece * METADATA_PIECE_LEN) as usize;
        let right = info.get(from..).map(|rest| rest[..rest.len().min(METADATA_PIECE_LEN as usize)].to_vec());
        let junk = vec![7; METADATA_PIECE_LEN as usize];
        match self {
            Self::Honest => Some((100 + rng.below(200), right.map(Bytes::from))),
            Self::Liar => {
                let mut wrong = right?;
                if rng.chance(1, 3) {
                    wrong[0] ^= 1;
                }
                Some((rng.below(300), Some(wrong.into())))
            }
            Self::Mute => None,
            Self::Rejecter => Some((50, None)),
            Self::Trickler => Some((9_000 * (u64::from(piece) + 1), Some(right?.into()))),
            Self::Bomber | Self::OtherLen => Some((rng.below(5000), Some(junk.into()))),
        }
    }
}

/// The metadata of a torrent, and what a torrent does for it.
struct End {
    metadata: Metadata,
    info: Bytes,
    now: Timestamp,
}

impl End {
    /// Wants an info dictionary of so many pieces.
    fn new(pieces: u32) -> Self {
        let hashes = if pieces == 1 { 1 } else { (pieces - 1) * METADATA_PIECE_LEN / 20 + 1 };
        let mut info =
            alloc::format!("d6:lengthi{}e4:name1:n12:piece lengthi1e6:pieces{}:", hashes, 20 * hashes,)
                .into_bytes();
        info.resize(info.len() + 20 * hashes as usize, b'h');
        info.push(b'e');
        assert_eq!(metadata_piece_count(info.len() as u32), pieces);
        Self::of(info.into())
    }

    fn of(info: Bytes) -> Self {
        let hashes = InfoHashes::V1(InfoHash(Sha1::digest(&info).into()));
        Self { metadata: Metadata::wanted(hashes), info, now: Timestamp::ZERO }
    }

    fn event(&mut self, event: Event) -> Vec<Action> {
        let mut out = Outbox::new();
        self.metadata.handle_event(self.now, event, &mut out);
        out.into()
    }

    fn at(&mut self, millis: u64) -> Vec<Action> {
        self.now = Timestamp::ZERO + Duration::from_millis(millis);
        let mut out = Outbox::new();
        self.metadata.handle_timeout(self.now, &mut out);
        out.into()
    }

    fn offer(&mut self, peer: ConnId) -> Vec<Action> {
        let len = self.info.len() as u32;
        self.event(Event::Offer { peer, len })
    }

    /// A peer sends the right piece, if there is one of this number.
    fn data(&mut self, peer: ConnId, piece: u32) -> Vec<Action> {
        let from = (piece * METADATA_PIECE_LEN) as usize;
        let data = self
            .info
            .slice(from.min(self.info.len())..(from + METADATA_PIECE_LEN as usize).min(self.info.len()));
        self.event(Event::Data { peer, piece, data })
    }

    fn send(&mut self, peer: ConnId, piece: u32, data: &[u8]) -> Vec<Action> {
        self.event(Event::Data { peer, piece, data: Bytes::copy_from_slice(data) })
    }

    fn wrong(&self, piece: u32) -> Vec<u8> {
        vec![b'?'; metadata_piece_len(self.info.len() as u32, piece).unwrap() as usize]
    }

    fn read(&mut self, job: u32, assembly: Assembly) -> Vec<Action> {
        self.event(Event::Read { job, result: Some(assembly.read()) })
    }

    /// Does the only job that was said.
    fn read_all(&mut self, said: Vec<Action>) -> Vec<Action> {
        let [Action::Read { job, assembly }] = &said[..] else { panic!("{said:?}") };
        self.read(*job, assembly.clone())
    }
}

fn asks(peer: ConnId, pieces: core::ops::Range<u32>) -> Vec<Action> {
    pieces.map(|piece| Action::Ask { peer, piece }).collect()
}
