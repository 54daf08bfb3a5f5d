//! What a port mapper is told, and what it says.

use super::packet::Protocol;
use super::words::{Method, UpnpError, UpnpRequest, Why};
use alloc::vec::Vec;
use bytes::Bytes;
use core::net::{Ipv4Addr, SocketAddr};
use core::time::Duration;

/// The way out of the local network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Router {
    /// Our own address, as the router sees it.
    pub local: Ipv4Addr,
    /// The router's; without it only UPnP is tried, which finds routers by itself.
    pub gateway: Option<Ipv4Addr>,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// There is no router any more.
    Away,
    /// A datagram came, to us or to all hosts of the network.
    Datagram {
        /// Its sender.
        from: SocketAddr,
        /// Its bytes.
        data: Bytes,
    },
    /// Have this port mapped. Said again it makes sure that the mappings are there; with another router or port it
    /// starts anew.
    Start {
        /// By whom.
        router: Router,
        /// Which port.
        port: u16,
    },
    /// Take the mappings back; [`Action::Stopped`] follows.
    Stop,
    /// A job of UPnP ended.
    UpnpDone {
        /// Which.
        job: u64,
        /// What the router's address outside is, if it told.
        result: Result<Option<Ipv4Addr>, UpnpError>,
    },
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing worked.
    Failed {
        /// Each method that was tried, and what it came to.
        tried: Vec<(Method, Why)>,
        /// When all of them are tried again.
        retry_in: Duration,
    },
    /// A mapping is gone.
    Lost {
        /// Of what.
        protocol: Protocol,
        /// Why.
        why: Why,
    },
    /// A mapping is there, again or for the first time.
    Mapped(Mapping),
    /// The router refused one of the two while it keeps the other.
    Refused {
        /// Which.
        protocol: Protocol,
        /// Why.
        why: Why,
    },
    /// Send a datagram.
    Send {
        /// To the router.
        to: SocketAddr,
        /// What.
        data: Vec<u8>,
    },
    /// Everything is taken back.
    Stopped,
    /// Ask by UPnP, and come back with `UpnpDone`.
    Upnp {
        /// What to answer with. Never used twice.
        job: u64,
        /// What to ask.
        request: UpnpRequest,
    },
}

/// A port that leads to ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Of what.
    pub protocol: Protocol,
    /// Who made it.
    pub method: Method,
    /// The router's address outside, if it is known. There may be another router behind it.
    pub external_ip: Option<Ipv4Addr>,
    /// The port outside.
    pub external: u16,
    /// For how long it is granted.
    pub lifetime: Duration,
}
