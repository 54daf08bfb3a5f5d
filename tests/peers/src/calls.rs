//! Ears on the switch: who calls into the local network for peers (BEP 14).

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use anyhow::{Context, Result, bail};

use crate::client::PORT;
use crate::namespace::{Family, Network};

/// Hears all calls of a network from its making on.
#[derive(Debug)]
pub struct Calls {
    sockets: [UdpSocket; 2],
    callers: BTreeSet<IpAddr>,
}

impl Calls {
    /// Begins to listen.
    pub fn new(network: &Network) -> Result<Self> {
        let IpAddr::V4(address) = network.address(Family::V4) else { bail!("no IPv4") };
        // Bound to the group, a socket hears nothing else.
        let socket4 = UdpSocket::bind((GROUP4, CALL_PORT)).context("cannot listen for calls")?;
        socket4.join_multicast_v4(&GROUP4, &address)?;
        let socket6 = UdpSocket::bind((GROUP6, CALL_PORT)).context("cannot listen for calls")?;
        socket6.join_multicast_v6(&GROUP6, 0)?;
        let sockets = [socket4, socket6];
        for socket in &sockets {
            socket.set_nonblocking(true)?;
        }
        Ok(Self { sockets, callers: BTreeSet::new() })
    }

    /// Who has called so far for peers with this torrent, in hexadecimal.
    pub fn callers(&mut self, infohash: &str) -> Result<&BTreeSet<IpAddr>> {
        let mut buffer = [0; 2048];
        for socket in &self.sockets {
            loop {
                match socket.recv_from(&mut buffer) {
                    Ok((length, from)) => {
                        if is_call(&buffer[..length], infohash) {
                            self.callers.insert(from.ip());
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(&self.callers)
    }
}

/// Whether this is a whole call for a torrent, by one who listens on the port that all clients of the tests have.
fn is_call(datagram: &[u8], infohash: &str) -> bool {
    let Ok(text) = str::from_utf8(datagram) else { return false };
    let header = |name: &str| {
        let mut headers = text.split("\r\n").filter_map(|line| line.split_once(':'));
        headers.find(|(key, _)| key.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value.trim())
    };
    text.starts_with("BT-SEARCH * HTTP/1.1\r\n")
        && text.contains("\r\n\r\n")
        && header("Port") == PORT.to_string()
        && header("Infohash").eq_ignore_ascii_case(infohash)
}

const CALL_PORT: u16 = 6771;
const GROUP4: Ipv4Addr = Ipv4Addr::new(239, 192, 152, 143);
const GROUP6: Ipv6Addr = Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0xefc0, 0x988f);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_by_hand() {
        let infohash = "aa".repeat(20);
        let call = format!(
            "BT-SEARCH * HTTP/1.1\r\nHost: 239.192.152.143:6771\r\nPort: 6881\r\n\
             Infohash: {}\r\ncookie: 1\r\n\r\n\r\n",
            infohash.to_uppercase()
        );
        assert!(is_call(call.as_bytes(), &infohash));
        assert!(!is_call(call.as_bytes(), &"ab".repeat(20)));
        assert!(!is_call(call.replace("6881", "6882").as_bytes(), &infohash));
        assert!(!is_call(call.trim_end().as_bytes(), &infohash));
    }
}
