use super::{Agreed, Error, Initiator, Method, Methods, Responder, torrent_mark};
use crate::id::InfoHash;
use crate::rng::Rng;
use alloc::vec::Vec;
use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

const OURS: InfoHash = InfoHash([0x11; 20]);
const OTHER: InfoHash = InfoHash([0x22; 20]);
const FIRST: &[u8] = b"\x13BitTorrent protocol and so on";

fn torrents(mark: [u8; 20]) -> Option<InfoHash> {
    [OTHER, OURS].into_iter().find(|torrent| torrent_mark(*torrent) == mark)
}

/// Both ends, what is on its way to each, and what they came to.
struct Pair {
    initiator: Initiator,
    responder: Responder,
    to_initiator: BytesMut,
    to_responder: BytesMut,
}

impl Pair {
    fn new(seed: u64, offered: Methods, allowed: Methods) -> Self {
        Self::about(OURS, seed, offered, allowed)
    }

    fn about(torrent: InfoHash, seed: u64, offered: Methods, allowed: Methods) -> Self {
        let rng = Rng::from_number(seed);
        let mut out = Vec::new();
        let initiator =
            Initiator::new(torrent, offered, Bytes::from_static(FIRST), rng.fork("initiator"), &mut out);
        let responder = Responder::new(allowed, rng.fork("responder"));
        let to_responder = out.as_slice().into();
        Self { initiator, responder, to_initiator: BytesMut::new(), to_responder }
    }

    /// Lets bytes through in chunks of these lengths, over and over, until both agreed.
    fn run(&mut self, chunks: &[usize]) -> Result<[Agreed; 2], Error> {
        let (mut theirs, mut ours) = (BytesMut::new(), BytesMut::new());
        let (mut initiated, mut responded) = (None, None);
        for chunk in chunks.iter().cycle().take(20_000) {
            let mut out = Vec::new();
            ours.extend(self.to_responder.split_to(self.to_responder.len().min(*chunk)));
            if responded.is_none() {
                responded = self.responder.handle_bytes(&mut ours, &mut out, torrents)?;
            }
            self.to_initiator.extend(core::mem::take(&mut out));
            theirs.extend(self.to_initiator.split_to(self.to_initiator.len().min(*chunk)));
            if initiated.is_none() {
                initiated = self.initiator.handle_bytes(&mut theirs, &mut out)?;
            }
            self.to_responder.extend(out);
            if initiated.is_some() && responded.is_some() {
                break;
            }
        }
        let both = [initiated, responded].map(|end| end.expect("they agree"));
        assert!(theirs.is_empty() && ours.is_empty(), "nothing follows yet");
        Ok(both)
    }
}

#[test]
fn the_method_is_one_that_both_allow_and_plain_if_it_can_be() {
    for (offered, allowed, method) in [
        (Methods::ALL, Methods::ALL, Some(Method::Plain)),
        (Methods::ALL, Methods::RC4, Some(Method::Rc4)),
        (Methods::ALL, Methods::PLAIN, Some(Method::Plain)),
        (Methods::RC4, Methods::ALL, Some(Method::Rc4)),
        (Methods::RC4, Methods::PLAIN, None),
        (Methods::PLAIN, Methods::RC4, None),
        (Methods::PLAIN, Methods::ALL, Some(Method::Plain)),
        (Methods(0), Methods::ALL, None),
        (Methods(4), Methods::ALL, None),
        (Methods(7), Methods::RC4, Some(Method::Rc4)),
    ] {
        match Pair::new(1, offered, allowed).run(&[4096]) {
            Ok([initiated, responded]) => {
                assert_eq!((Some(initiated.method), Some(responded.method)), (method, method));
                assert_eq!(initiated.decipher.is_some(), method == Some(Method::Rc4));
                assert_eq!((&responded.first[..], responded.torrent), (FIRST, OURS));
            }
            Err(error) => assert_eq!((error, method), (Error::NoMethod, None), "{offered:?} {allowed:?}"),
        }
    }
}

#[test]
fn a_torrent_that_nobody_shares_is_refused() {
    let mut pair = Pair::about(InfoHash([0x33; 20]), 2, Methods::ALL, Methods::ALL);
    assert_eq!(pair.run(&[4096]).unwrap_err(), Error::UnknownTorrent);
}

/// Row P-19: the search ends, whatever comes.
#[test]
fn padding_that_never_ends_is_borne_for_512_bytes() {
    let mut pair = Pair::new(3, Methods::ALL, Methods::ALL);
    let (mut input, mut out) = (BytesMut::from(&[9; 96 + 512 + 19][..]), Vec::new());
    assert!(pair.responder.handle_bytes(&mut input, &mut out, torrents).unwrap().is_none());
    assert!(out.len() <= 96 + 512 + 19, "no more is written than came");
    input.extend([9]);
    let ended = pair.responder.handle_bytes(&mut input, &mut out, torrents);
    assert_eq!(ended.unwrap_err(), Error::Padding);

    let mut input = BytesMut::from(&[9; 96 + 512 + 7][..]);
    assert!(pair.initiator.handle_bytes(&mut input, &mut out).unwrap().is_none());
    input.extend([9]);
    assert_eq!(pair.initiator.handle_bytes(&mut input, &mut out).unwrap_err(), Error::Padding);
}

#[test]
fn the_first_answer_is_never_longer_than_what_it_answers() {
    for seed in 0..50 {
        let mut responder = Responder::new(Methods::ALL, Rng::from_number(seed));
        let came = 96 + seed as usize;
        let (mut input, mut out) = (BytesMut::from(&[5; 200][..came]), Vec::new());
        assert!(responder.handle_bytes(&mut input, &mut out, torrents).unwrap().is_none());
        assert!((96..=came).contains(&out.len()), "{} for {came}", out.len());
    }
}

#[test]
fn bad_keys_end_it() {
    for key in [[0; 96], [0xff; 96]] {
        let mut pair = Pair::new(4, Methods::ALL, Methods::ALL);
        let (mut to_initiator, mut to_responder) = (BytesMut::from(&key[..]), BytesMut::from(&key[..]));
        let mut out = Vec::new();
        let ended = pair.responder.handle_bytes(&mut to_responder, &mut out, torrents);
        assert_eq!(ended.unwrap_err(), Error::BadKey);
        let ended = pair.initiator.handle_bytes(&mut to_initiator, &mut out);
        assert_eq!((ended.unwrap_err(), out.is_empty()), (Error::BadKey, true));
    }
}

#[test]
fn an_echo_is_no_responder() {
    let (mut out, rng) = (Vec::new(), Rng::from_number(6));
    let mut initiator = Initiator::new(OURS, Methods::ALL, Bytes::from_static(FIRST), rng, &mut out);
    let mut echo = out.as_slice().into();
    assert_eq!(initiator.handle_bytes(&mut echo, &mut out).unwrap_err(), Error::BadKey);
}

proptest! {
    /// However the bytes are cut, and whatever follows, each byte is deciphered once.
    #[test]
    fn streams_come_through(
        seed: u64,
        rc4: bool,
        chunks in prop::collection::vec(1_usize..300, 1..20),
        said in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..10),
    ) {
        let allowed = if rc4 { Methods::RC4 } else { Methods::PLAIN };
        let mut pair = Pair::new(seed, Methods::ALL, allowed);
        let [mut initiated, mut responded] = pair.run(&chunks).unwrap();
        prop_assert_eq!(&responded.first[..], FIRST);
        for words in said {
            let ends = [(&mut initiated, &mut responded)];
            for (from, to) in ends {
                let mut on_the_way = words.clone();
                from.encipher.iter_mut().for_each(|cipher| cipher.apply(&mut on_the_way));
                prop_assert!(!rc4 || words.len() < 8 || on_the_way != words);
                to.decipher.iter_mut().for_each(|cipher| cipher.apply(&mut on_the_way));
                prop_assert_eq!(&on_the_way, &words);
                to.encipher.iter_mut().for_each(|cipher| cipher.apply(&mut on_the_way));
                from.decipher.iter_mut().for_each(|cipher| cipher.apply(&mut on_the_way));
                prop_assert_eq!(&on_the_way, &words);
            }
        }
    }

    /// Whatever comes, it ends or waits.
    #[test]
    fn noise_does_no_harm(noise in prop::collection::vec(any::<u8>(), 0..2000)) {
        let mut pair = Pair::new(5, Methods::ALL, Methods::ALL);
        let mut out = Vec::new();
        let _ = pair.initiator.handle_bytes(&mut BytesMut::from(&noise[..]), &mut out);
        let _ = pair.responder.handle_bytes(&mut BytesMut::from(&noise[..]), &mut out, torrents);
        prop_assert!(out.len() <= 4 * (96 + 512 + 40));
    }
}
