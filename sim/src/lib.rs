//! Simulators of BitTorrent swarms.
//!
//! [`swarm`] is a world of its own over the pure core: thousands of peers in one thread, no sockets, no files.
#![forbid(unsafe_code)]

pub mod swarm;
