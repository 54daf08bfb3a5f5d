//! The BitTorrent protocol as pure state machines.
//!
//! Facts go in, each with the time at which it holds; decisions come out. Nothing in here reads a clock, draws
//! randomness of its own, opens a file or a socket, so that one seed gives one run, whoever drives it: tokio,
//! a simulated network or a recording.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod address;
pub mod bencode;
pub mod bitfield;
mod crc32c;
pub mod dht;
pub mod id;
pub mod ip_filter;
#[cfg(test)]
mod laws;
pub mod lengths;
pub mod lsd;
pub mod machine;
pub mod magnet;
pub mod metadata;
pub mod metainfo;
pub mod mse;
pub mod peer;
pub mod pex;
pub mod pieces;
pub mod portmap;
pub mod rng;
pub mod session;
pub mod store;
pub mod text;
pub mod torrent;
pub mod tracker;
pub mod utp;
pub mod wire;
