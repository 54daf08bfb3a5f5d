//! Runs the fast-peer binary against clients that others wrote, each on a host of its own in a network of namespaces.
//!
//! `tests/harness.rs` proves the adapters by letting the others exchange torrents among themselves; `tests/interop.rs`
//! is the matrix of fast-peer with each of them, and `tests/trackerless.rs` what they do without trackers. All need root
//! and what `install` installs. `tests/corpus.rs` and `tests/vectors.rs` read what others wrote.

pub mod bencode;
pub mod calls;
pub mod case;
pub mod client;
pub mod content;
pub mod corpus;
pub mod dht;
pub mod http;
pub mod namespace;
pub mod process;
pub mod router;
pub mod runner;
pub mod tracker;
