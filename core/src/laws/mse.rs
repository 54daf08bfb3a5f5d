//! What the two ends of an obfuscated handshake promise. They take bytes and no other facts and wait for no time, so of the
//! laws of machines these are left: they are deterministic, they end with whatever comes, and then they are silent.

use crate::id::InfoHash;
use crate::mse::{Agreed, Error, Initiator, Methods, Responder, torrent_mark};
use crate::rng::Rng;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::{Bytes, BytesMut};

const OURS: InfoHash = InfoHash([7; 20]);

#[test]
fn both_ends_of_an_obfuscated_handshake_keep_the_laws() {
    let (mut agreed, mut failed) = (0, 0);
    for seed in 0..200 {
        let lives = [(); 2].map(|()| live(&Rng::from_number(seed)));
        assert_eq!(lives[0], lives[1], "seed {seed}");
        agreed += usize::from(lives[0].ends_with("agreed agreed"));
        failed += usize::from(lives[0].contains("failed"));
    }
    assert!(agreed > 30 && failed > 10, "{agreed} agreed, {failed} failed");
}

/// Both ends, with a way between them that cuts as it likes and in some lives spoils a byte. Returns all that was said.
fn live(root: &Rng) -> String {
    let mut rng = root.fork("world");
    let spoils = rng.chance(1, 2);
    let (mut told, mut out) = (String::new(), Vec::new());
    let first = Bytes::from_static(b"first words");
    let mut initiator = Initiator::new(OURS, Methods::ALL, first, root.fork("initiator"), &mut out);
    let mut responder = Responder::new(Methods::RC4, root.fork("responder"));
    let (mut ways, mut inputs) = ([out, Vec::new()], [BytesMut::new(), BytesMut::new()]);
    let mut ends = ["open", "open"];
    for _ in 0..400 {
        let side = rng.below(2) as usize;
        let count = (rng.below(200) as usize).min(ways[side].len());
        let mut part: Vec<u8> = ways[side].drain(..count).collect();
        if spoils && !part.is_empty() && rng.chance(1, 8) {
            part[rng.below(count as u64) as usize] ^= 1 << rng.below(8);
        }
        let (input, mut said) = (&mut inputs[side], Vec::new());
        input.extend_from_slice(&part);
        let left = input.len();
        let result = match side {
            0 => {
                responder.handle_bytes(input, &mut said, |mark| (mark == torrent_mark(OURS)).then_some(OURS))
            }
            _ => initiator.handle_bytes(input, &mut said),
        };
        told += &format!("{side} {said:?} {result:?} ");
        if ends[side] != "open" {
            assert!(said.is_empty() && matches!(result, Ok(None)), "it is over, but says {said:?}");
            assert_eq!(input.len(), left, "what comes behind is not its own");
        }
        ends[side] = match (ends[side], result) {
            ("open", result) => name(&result),
            (end, _) => end,
        };
        ways[1 - side].extend(said);
    }
    told + &ends.join(" ")
}

fn name(result: &Result<Option<Agreed>, Error>) -> &'static str {
    match result {
        Ok(None) => "open",
        Ok(Some(_)) => "agreed",
        Err(_) => "failed",
    }
}
