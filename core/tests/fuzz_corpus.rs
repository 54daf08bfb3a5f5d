//! Runs the fuzz targets over the inputs that are committed for them, which are seeds and whatever once broke a promise,
//! and over inputs that are almost like those. `FUZZ_CASES=1000000` makes it a million of these for each target.

#[expect(unreachable_pub, reason = "the fuzz package exports them to its binaries")]
#[path = "../fuzz/src/targets.rs"]
mod targets;

use fast_peer_core::rng::Rng;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn every_input_of_the_corpus_passes_its_target() {
    for (name, target) in targets::TARGETS {
        for (input, data) in inputs(name) {
            eprintln!("{name}: {}", input.display());
            target(&data);
        }
    }
}

#[test]
fn mutants_of_the_corpus_pass_their_target() {
    let cases = env::var("FUZZ_CASES").map_or(10_000, |cases| cases.parse().expect("FUZZ_CASES is a number"));
    for (name, target) in targets::TARGETS {
        let inputs: Vec<_> = inputs(name).into_iter().map(|(_, data)| data).collect();
        for case in 0..cases {
            let mut rng = Rng::from_number(case);
            let mutant = mutant(&inputs, &mut rng);
            let passes = std::panic::catch_unwind(|| target(&mutant)).is_ok();
            assert!(passes, "{name}, case {case}: {:?}", mutant.escape_ascii().to_string());
        }
    }
}

/// An input with a few bytes changed, lost, added, repeated or taken from another.
fn mutant(inputs: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
    let pick = |rng: &mut Rng| &inputs[rng.below(inputs.len() as u64) as usize];
    let mut data = pick(rng).clone();
    for _ in 0..=rng.below(4) {
        let at = rng.below(data.len() as u64 + 1) as usize;
        let end = data.len().min(at + rng.below(9) as usize);
        match rng.below(6) {
            0 => drop(data.drain(at..end)),
            1 => data.insert(at, rng.next_u32() as u8),
            2 => data[at..end].iter_mut().for_each(|byte| *byte ^= 1 << rng.below(8)),
            3 => data[at..end].iter_mut().for_each(|byte| *byte = TELLING[rng.below(13) as usize]),
            4 => data.splice(at..at, data[at..end].to_vec()).for_each(drop),
            _ => {
                let other = pick(rng);
                let from = rng.below(other.len() as u64 + 1) as usize;
                data.splice(at.., other[from..].iter().copied()).for_each(drop);
            }
        }
    }
    data.truncate(MAX_MUTANT);
    data
}

fn inputs(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let folder = fs::read_dir(corpus.join(target)).expect("each target has a corpus");
    let mut inputs: Vec<_> = folder.map(|input| input.expect("the corpus can be read").path()).collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "{target}: no inputs");
    let read = |path: PathBuf| {
        let data = fs::read(&path).expect("the corpus can be read");
        (path, data)
    };
    inputs.into_iter().map(read).collect()
}

/// Bytes that mean something to one reader or another.
const TELLING: &[u8; 13] = b"0129:-dilek\0\xff";

/// What grows by repetition stays as short as a datagram.
const MAX_MUTANT: usize = 1 << 16;

#[test]
fn every_corpus_has_its_target() {
    let corpus =
        fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")).expect("there is a corpus");
    for folder in corpus {
        let name = folder.expect("the corpus can be read").file_name();
        assert!(targets::TARGETS.iter().any(|(target, _)| *target == name), "{}", name.display());
    }
}
