//! The bodies of the fuzz targets; `core/tests/fuzz_corpus.rs` runs them over the committed corpus as well.

pub mod targets;
