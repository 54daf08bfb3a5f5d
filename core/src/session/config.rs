//! What is fixed when a session starts.

use super::dht::DhtConfig;
use super::link::Encryption;
use crate::id::PeerId;
use crate::ip_filter::IpFilter;
use crate::portmap::{self, Protocol};
use crate::rng::Rng;
use crate::utp;
use alloc::string::String;
use alloc::sync::Arc;
use core::net::IpAddr;

/// The settings of a session that do not change while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What the client calls itself to peers (BEP 10, `v`).
    pub client: String,
    /// The eight bytes with which peer ids start (BEP 20).
    pub peer_id_prefix: [u8; 8],
    /// Connections in all (limit L9).
    pub max_connections: usize,
    /// Connections of one torrent (limit L9).
    pub max_peers: usize,
    /// Connections that are being opened at once (limit L9).
    pub max_half_open: usize,
    /// Requests kept out with one peer (limit L2).
    pub max_requests: u32,
    /// Peers that fetch one piece together, but for the endgame.
    pub peers_per_piece: usize,
    /// Peers of one torrent that are served at once.
    pub upload_slots: usize,
    /// Whether peers tell each other of peers (BEP 11).
    pub pex: bool,
    /// Whether peers are looked for in the local network (BEP 14).
    pub lsd: bool,
    /// How the router may be asked to let peers in.
    pub port_map: portmap::Mode,
    /// Bytes of blocks that may wait in memory to be hashed and written, a torrent.
    pub store_budget: u64,
    /// The port at which peers are told to reach us, whatever the session listens on: somebody else lets them through from
    /// there.
    pub announce_port: Option<u16>,
    /// The address at which trackers are told that we are, where theirs of us would be wrong (BEP 3, 15). Many don't
    /// believe it.
    pub announce_ip: Option<IpAddr>,
    /// Whether connections are obfuscated (MSE/PE).
    pub encryption: Encryption,
    /// What carries connections.
    pub transports: Transports,
    /// How uTP's streams are.
    pub utp: utp::Config,
    /// How to take part in the DHT; nothing means not at all.
    pub dht: Option<DhtConfig>,
    /// Addresses of peers and nodes that nothing is sent to and nothing taken from. Trackers and web servers are not among
    /// them: whoever names those means them.
    pub ip_filter: Arc<IpFilter>,
    /// Bytes a second received; nothing means no limit.
    pub down_bytes_per_s: Option<u64>,
    /// Bytes a second sent; nothing means no limit.
    pub up_bytes_per_s: Option<u64>,
}

/// What connections to peers are carried by, those that we open and those that others open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transports {
    /// TCP.
    pub tcp: bool,
    /// uTP (BEP 29).
    pub utp: bool,
}

impl Transports {
    /// Whether there is one.
    pub(super) const fn any(self) -> bool {
        self.tcp || self.utp
    }

    /// Of which protocols the port has to be open: nodes and trackers use UDP in any case.
    pub(super) const fn protocols(self) -> &'static [Protocol] {
        if self.tcp { &Protocol::ALL } else { &[Protocol::Udp] }
    }
}

impl Default for Transports {
    /// Both.
    fn default() -> Self {
        Self { tcp: true, utp: true }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            client: String::from("fast-peer 0.1.0"),
            peer_id_prefix: *b"-FP0100-",
            max_connections: 200,
            max_peers: 50,
            max_half_open: 30,
            max_requests: 250,
            peers_per_piece: usize::MAX,
            upload_slots: 8,
            pex: true,
            lsd: true,
            port_map: portmap::Mode::Off,
            store_budget: 8 << 20,
            announce_port: None,
            announce_ip: None,
            encryption: Encryption::default(),
            transports: Transports::default(),
            // What was promised can't be taken back, and who asked has not shown what for.
            utp: utp::Config { initial_credit: 16 << 10, ..utp::Config::default() },
            dht: None,
            ip_filter: Arc::default(),
            down_bytes_per_s: None,
            up_bytes_per_s: None,
        }
    }
}

impl Config {
    /// A peer id: the prefix and twelve letters and digits, which need no escaping anywhere.
    pub(super) fn peer_id(&self, rng: &mut Rng) -> PeerId {
        let mut id = [0; 20];
        let (prefix, rest) = id.split_at_mut(8);
        prefix.copy_from_slice(&self.peer_id_prefix);
        for byte in rest {
            *byte = ALPHANUMERIC[rng.below(ALPHANUMERIC.len() as u64) as usize];
        }
        PeerId(id)
    }
}

const ALPHANUMERIC: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
