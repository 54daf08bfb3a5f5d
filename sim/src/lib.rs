//! Simulators of BitTorrent swarms.
//!
//! [`swarm`] is a world of its own over the pure core: thousands of peers in one thread, no sockets, no files.
//! [`dht`] is another one, for networks of up to a million DHT nodes.
//! [`utp`] sends streams over a narrow link, beside others.
//! [`hosts`] runs the real driver on a few hosts, over a simulated network.
#![forbid(unsafe_code)]

pub mod dht;
pub mod hosts;
pub mod swarm;
pub mod utp;
