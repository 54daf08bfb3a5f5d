//! The client side of SOCKS5 (RFC 1928, 1929): asking a proxy for a connection or for a relay of datagrams, and the head
//! that each relayed datagram bears.
//!
//! A [`Negotiation`] is one talk with a proxy over a stream of its own. After [`Action::Done`] the stream of a
//! [`Command::Connect`] belongs to the remote, and that of a [`Command::Associate`] keeps the relay alive: when it ends,
//! nothing is relayed any more.

mod destination;
mod failure;
mod negotiation;
mod relayed;
#[cfg(test)]
mod tests;

pub use destination::{Destination, MAX_NAME_LEN, Name};
pub use failure::{Failure, Reply};
pub use negotiation::{Action, Command, Event, Login, MAX_LOGIN_LEN, Negotiation, PATIENCE};
pub use relayed::{MAX_HEAD_LEN, NotRelayed, Relayed};
