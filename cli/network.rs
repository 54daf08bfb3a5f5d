//! Options of all commands that connect to peers, or use the DHT.

use crate::engine::Engine;
use crate::exit::{Exit, Failure};
use crate::output::one_line;
use crate::port_map::PortMap;
use crate::way::{HostPort, Outside, Way};
use fast_peer_core::ip_filter::{Builder, IpFilter};
use fast_peer_core::mse::Methods;
use fast_peer_core::portmap::Mode;
use fast_peer_core::session::{Config, DhtConfig, Encryption, Policy, Transports};
use fast_peer_io::ip_filter;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

/// How to use the network.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Network {
    /// Port for incoming peers, TCP and UDP: one, or a range of which the first free one is taken
    #[arg(long, value_name = "PORT[-PORT]", default_value = "6881-6999", value_parser = ports)]
    pub(crate) port: RangeInclusive<u16>,
    /// The port that trackers, nodes and peers are told, where another is let through to this host
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    announce_port: Option<u16>,
    /// The address that trackers are told, where they would take another for it; many don't believe it
    #[arg(long, value_name = "ADDRESS")]
    announce_ip: Option<IpAddr>,
    #[command(flatten)]
    pub(crate) way: Way,
    /// How to have the router let peers in; never with only loopback addresses to listen on, nor by way of a proxy, and not
    /// by UPnP with --interface
    #[arg(long, value_name = "HOW", default_value = "auto")]
    port_map: PortMap,
    /// Bytes a second to receive at most; K and M are powers of 1000, Ki and Mi of 1024
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub(crate) limit_down: Option<u64>,
    /// Bytes a second to send at most
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub(crate) limit_up: Option<u64>,
    /// Connections of one torrent
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) max_peers: u32,
    /// Requests to keep out with one peer
    #[arg(long, value_name = "N", default_value_t = 250, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub(crate) requests_per_peer: u32,
    /// Peers that may fetch one piece together, but for the last blocks of a download [default: no limit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) peers_per_piece: Option<u32>,
    /// Peers to serve at once
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) upload_slots: u32,
    #[command(flatten)]
    filtering: Filtering,
    #[command(flatten)]
    transporting: Transporting,
    #[command(flatten)]
    encrypting: Encrypting,
    #[command(flatten)]
    bootstrap: Bootstrap,
    /// Don't look for peers in the DHT
    #[arg(long)]
    no_dht: bool,
    /// Don't tell peers of others, and don't listen to what they tell
    #[arg(long)]
    no_pex: bool,
    /// Don't look for peers in the local network
    #[arg(long)]
    no_lsd: bool,
}

/// What carries connections to peers.
#[derive(Clone, Copy, Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Transporting {
    /// What carries connections to peers, those that we open and those that they open
    #[arg(long, value_name = "TRANSPORT", default_value = "both")]
    transport: Carry,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Carry {
    /// TCP, and uTP where that is slow or fails
    Both,
    /// TCP alone
    Tcp,
    /// uTP alone, which gives way to other traffic
    Utp,
}

impl Transporting {
    pub(crate) const fn config(&self) -> Transports {
        Transports {
            tcp: matches!(self.transport, Carry::Both | Carry::Tcp),
            utp: matches!(self.transport, Carry::Both | Carry::Utp),
        }
    }
}

/// Whether connections to peers are obfuscated.
#[derive(Clone, Copy, Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Encrypting {
    /// Whether to encrypt connections to peers, so that they don't look like BitTorrent (MSE). It hides them from routers,
    /// not from who watches closely
    #[arg(long, value_name = "POLICY", default_value = "prefer")]
    encryption: Encrypt,
    /// What to encrypt: by any method, the handshake at least; by RC4, everything, which takes some processor time
    #[arg(long, value_name = "METHOD", default_value = "any")]
    encryption_method: EncryptBy,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Encrypt {
    /// Never
    Off,
    /// Where the peer can
    Prefer,
    /// Always; who can't is no peer
    Require,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum EncryptBy {
    /// What the peer likes; the handshake alone, if it doesn't mind
    Any,
    /// Everything
    Rc4,
}

impl Encrypting {
    pub(crate) const fn config(&self) -> Encryption {
        let policy = match self.encryption {
            Encrypt::Off => Policy::Off,
            Encrypt::Prefer => Policy::Prefer,
            Encrypt::Require => Policy::Require,
        };
        let methods = match self.encryption_method {
            EncryptBy::Any => Methods::ALL,
            EncryptBy::Rc4 => Methods::RC4,
        };
        Encryption { incoming: policy, outgoing: policy, methods }
    }
}

/// Whom to have nothing to do with.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Filtering {
    /// List of addresses to have nothing to do with, as peers and nodes of the DHT: eMule's .dat, PeerGuardian's .p2p,
    /// or an address, range or CIDR network a line, compressed by gzip or not; may be repeated. Loopback and private
    /// addresses are never blocked, and trackers are asked wherever they are
    #[arg(long, value_name = "FILE")]
    ip_filter: Vec<PathBuf>,
}

impl Filtering {
    /// Whom the user wants nothing to do with. A list that can't be read whole is an error: it would block less than the
    /// user thinks.
    pub(crate) fn read(&self) -> Result<Arc<IpFilter>, Failure> {
        let mut builder = Builder::new();
        for path in &self.ip_filter {
            let shown = path.display();
            let report = ip_filter::read(path, &mut builder).map_err(|error| {
                let exit = if error.kind() == ErrorKind::FileTooLarge { Exit::Option } else { Exit::Open };
                Failure::io(exit, &shown, &error)
            })?;
            let Some((line, why)) = report.first_bad else { continue };
            if report.ranges == 0 {
                let message = format!("{shown}: it is no list of addresses to block: line {line} is {why}");
                return Err(Failure::new(Exit::Option, message));
            }
            let message = match report.bad_lines {
                1 => format!("{shown}: line {line} is skipped, as it is {why}"),
                bad => format!("{shown}: {bad} lines are skipped; the first is line {line}, as it is {why}"),
            };
            eprintln!("fast-peer: {}", one_line(&message));
        }
        Ok(Arc::new(builder.build()))
    }
}

/// How to get into the DHT.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Bootstrap {
    /// A node to get into the DHT by, in place of the well-known ones; may be repeated, or several with commas
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', value_parser = HostPort::parse)]
    dht_bootstrap: Vec<HostPort>,
}

impl Bootstrap {
    /// How to take part in the DHT; one that is `read_only` asks and answers nothing.
    pub(crate) fn config(&self, read_only: bool) -> DhtConfig {
        let well_known = || ROUTERS.map(|(host, port)| (host.to_owned(), port)).to_vec();
        let named = self.dht_bootstrap.iter().map(|node| (node.host.clone(), node.port));
        let bootstrap = if self.dht_bootstrap.is_empty() { well_known() } else { named.collect() };
        DhtConfig { bootstrap, read_only, ..DhtConfig::default() }
    }
}

impl Network {
    /// Starts a session that takes part in swarms; where it listens is told as well.
    pub(crate) async fn start(&self, outside: &Outside) -> Result<(Engine, Option<u16>), Failure> {
        self.start_with(outside, self.config()?).await
    }

    /// Starts a session that does not stay for long: nodes need not remember it.
    pub(crate) async fn start_briefly(&self, outside: &Outside) -> Result<Engine, Failure> {
        let mut config = self.config()?;
        config.dht.iter_mut().for_each(|dht| dht.read_only = true);
        config.port_map = Mode::Off;
        Ok(self.start_with(outside, config).await?.0)
    }

    pub(crate) async fn start_with(
        &self,
        outside: &Outside,
        config: Config,
    ) -> Result<(Engine, Option<u16>), Failure> {
        let (mut engine, port) = Engine::start(outside, config, Some(self.port.clone())).await?;
        engine.keep();
        Ok((engine, port))
    }

    pub(crate) fn config(&self) -> Result<Config, Failure> {
        let defaults = Config::default();
        let max_peers = self.max_peers as usize;
        Ok(Config {
            max_peers,
            max_connections: defaults.max_connections.max(max_peers),
            max_requests: self.requests_per_peer,
            peers_per_piece: self.peers_per_piece.map_or(usize::MAX, |most| most as usize),
            upload_slots: self.upload_slots as usize,
            pex: !self.no_pex,
            lsd: !self.no_lsd,
            transports: self.transporting.config(),
            encryption: self.encrypting.config(),
            port_map: self.port_map.mode(),
            dht: (!self.no_dht).then(|| self.bootstrap.config(false)),
            down_bytes_per_s: self.limit_down,
            up_bytes_per_s: self.limit_up,
            announce_port: self.announce_port,
            announce_ip: self.announce_ip,
            ip_filter: self.filtering.read()?,
            ..defaults
        })
    }
}

/// `6881`, or `6881-6999`.
pub(crate) fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let number = |text: &str| text.parse::<u16>().map_err(|_| format!("{text} is no port (0 to 65535)"));
    match text.split_once('-') {
        None => number(text).map(|port| port..=port),
        Some((first, last)) => {
            let (first, last) = (number(first)?, number(last)?);
            if first > last { Err(format!("{first} is above {last}")) } else { Ok(first..=last) }
        }
    }
}

/// A number of bytes with an optional unit. Zero means no limit, as with aria2 and curl.
pub(crate) fn rate(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = match unit.trim_end_matches("/s").trim_end_matches('B').to_ascii_lowercase().as_str() {
        "" => 1,
        "k" => 1000,
        "ki" => 1 << 10,
        "m" => 1_000_000,
        "mi" => 1 << 20,
        "g" => 1_000_000_000,
        "gi" => 1 << 30,
        _ => return Err(format!("{text} is no rate: write a number, and K, Ki, M or Mi behind it")),
    };
    let number: u64 = number.parse().map_err(|_| format!("{text} does not begin with a number"))?;
    let rate = number.checked_mul(unit).ok_or_else(|| format!("{text} is too large"))?;
    Ok(if rate == 0 { u64::MAX } else { rate })
}

/// Nodes that are always there, run by those who make clients.
const ROUTERS: [(&str, u16); 5] = [
    ("router.bittorrent.com", 6881),
    ("router.utorrent.com", 6881),
    ("dht.transmissionbt.com", 6881),
    ("dht.libtorrent.org", 25401),
    ("dht.aelitis.com", 6881),
];

#[cfg(test)]
mod tests {
    use super::{ports, rate};

    #[test]
    fn rates_have_units() {
        for (text, bytes) in
            [("1", 1), ("1k", 1000), ("2Ki", 2048), ("3M", 3_000_000), ("4MiB/s", 4 << 20), ("0", u64::MAX)]
        {
            assert_eq!(rate(text), Ok(bytes), "{text}");
        }
        for text in ["", "K", "1x", "-1", "99999999999999999999", "18446744073709551615K"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ports_come_alone_or_in_ranges() {
        assert_eq!(ports("6881"), Ok(6881..=6881));
        assert_eq!(ports("6881-6999"), Ok(6881..=6999));
        for text in ["", "x", "70000", "2-1", "1-"] {
            assert!(ports(text).is_err(), "{text}");
        }
    }
}
