//! Runs the fuzz targets over the inputs that are committed for them: seeds, and whatever once broke a promise.

#[expect(unreachable_pub, reason = "the fuzz package exports them to its binaries")]
#[path = "../fuzz/src/targets.rs"]
mod targets;

use std::fs;
use std::path::Path;

#[test]
fn every_input_of_the_corpus_passes_its_target() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, target) in targets::TARGETS {
        let folder = fs::read_dir(corpus.join(name)).expect("each target has a corpus");
        let mut inputs: Vec<_> = folder.map(|input| input.expect("the corpus can be read").path()).collect();
        inputs.sort();
        assert!(!inputs.is_empty(), "{name}: no inputs");
        for input in inputs {
            eprintln!("{name}: {}", input.display());
            target(&fs::read(&input).expect("the corpus can be read"));
        }
    }
}

#[test]
fn every_corpus_has_its_target() {
    let corpus =
        fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")).expect("there is a corpus");
    for folder in corpus {
        let name = folder.expect("the corpus can be read").file_name();
        assert!(targets::TARGETS.iter().any(|(target, _)| *target == name), "{}", name.display());
    }
}
