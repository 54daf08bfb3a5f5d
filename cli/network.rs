//! Options of all commands that connect to peers.

use fast_peer_core::session::Config;
use std::net::IpAddr;
use std::ops::RangeInclusive;

/// How to use the network.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Network {
    /// Port for incoming peers, TCP and UDP: one, or a range of which the first free one is taken
    #[arg(long, value_name = "PORT[-PORT]", default_value = "6881-6999", value_parser = ports)]
    pub(crate) port: RangeInclusive<u16>,
    /// Address to listen on; may be repeated [default: all]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) bind: Vec<IpAddr>,
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
}

impl Network {
    pub(crate) fn config(&self) -> Config {
        let defaults = Config::default();
        let max_peers = self.max_peers as usize;
        Config {
            max_peers,
            max_connections: defaults.max_connections.max(max_peers),
            max_requests: self.requests_per_peer,
            peers_per_piece: self.peers_per_piece.map_or(usize::MAX, |most| most as usize),
            upload_slots: self.upload_slots as usize,
            down_bytes_per_s: self.limit_down,
            up_bytes_per_s: self.limit_up,
            ..defaults
        }
    }

    pub(crate) fn addrs(&self) -> &[IpAddr] {
        if self.bind.is_empty() { &crate::engine::ANY } else { &self.bind }
    }
}

/// `6881`, or `6881-6999`.
fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
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
