//! Networks of DHT nodes: up to a million production nodes in one thread, and who attacks them.
//!
//! [`World`] is a discrete-event world of its own. A link between two nodes has a delay, which the seed draws for each
//! pair, and loses packets; rates don't matter for packets this small. Packets are the real bytes. A node is woken when
//! it wants to be, and never otherwise, and a few of them are watched: after each of their steps everything is checked
//! that must always hold (`watch`).

mod addresses;
mod attacker;
mod tally;
mod trial;
mod watch;
mod wheel;
mod world;

pub use attacker::Attack;
pub use tally::Tally;
pub use trial::{Settled, Start, Torrent};
pub use world::{Options, World};
