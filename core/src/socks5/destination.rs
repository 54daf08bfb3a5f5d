//! Where to, as SOCKS5 writes it: an address, or a name that the proxy looks up.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A host's name of 1 to [`MAX_NAME_LEN`] bytes of visible ASCII, which the proxy looks up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// Nothing if it is too long, empty, or holds what no name has.
    pub fn new(name: &str) -> Option<Self> {
        let fits =
            (1..=MAX_NAME_LEN).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| Self(String::from(name)))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One end of a connection or of a datagram's way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Destination {
    /// An address.
    Addr(SocketAddr),
    /// A name and a port.
    Name(Name, u16),
}

impl Destination {
    /// Its port.
    pub fn port(&self) -> u16 {
        match self {
            Self::Addr(addr) => addr.port(),
            Self::Name(_, port) => *port,
        }
    }

    /// Appends ATYP, address and port (RFC 1928 section 5).
    pub(super) fn encode(&self, to: &mut Vec<u8>) {
        match self {
            Self::Addr(addr) => match addr.ip() {
                IpAddr::V4(ip) => {
                    to.push(IPV4);
                    to.extend(ip.octets());
                }
                IpAddr::V6(ip) => {
                    to.push(IPV6);
                    to.extend(ip.octets());
                }
            },
            Self::Name(name, _) => {
                to.push(DOMAIN);
                to.push(u8::try_from(name.0.len()).expect("a name has 255 bytes at most"));
                to.extend(name.0.bytes());
            }
        }
        to.extend(self.port().to_be_bytes());
    }

    /// Reads ATYP, address and port, and says how long they are; an error if they can't be read, however it goes on.
    /// Nothing while there is too little.
    pub(super) fn parse(data: &[u8]) -> Result<Option<(Self, usize)>, Unreadable> {
        let Some(len) = Self::len(data)? else { return Ok(None) };
        let Some((address, port)) = data.get(1..len).and_then(<[u8]>::split_last_chunk) else {
            return Ok(None);
        };
        let port = u16::from_be_bytes(*port);
        let ip: IpAddr = match data[0] {
            IPV4 => {
                <[u8; 4]>::try_from(address).map(Ipv4Addr::from).expect("its length is that of IPv4").into()
            }
            IPV6 => {
                <[u8; 16]>::try_from(address).map(Ipv6Addr::from).expect("its length is that of IPv6").into()
            }
            _ => {
                let name = str::from_utf8(&address[1..]).ok().and_then(Name::new).ok_or(Unreadable)?;
                return Ok(Some((Self::Name(name, port), len)));
            }
        };
        Ok(Some((Self::Addr(SocketAddr::new(ip, port)), len)))
    }

    /// How many bytes they are, once the first two show it.
    pub(super) fn len(data: &[u8]) -> Result<Option<usize>, Unreadable> {
        Ok(match data {
            [IPV4, ..] => Some(1 + 4 + 2),
            [IPV6, ..] => Some(1 + 16 + 2),
            [DOMAIN, len, ..] => Some(2 + usize::from(*len) + 2),
            [DOMAIN] | [] => None,
            _ => return Err(Unreadable),
        })
    }
}

/// An address type that there is none of, or no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

impl From<SocketAddr> for Destination {
    fn from(addr: SocketAddr) -> Self {
        Self::Addr(addr)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addr(addr) => addr.fmt(f),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// The longest name: its length is written in one byte (RFC 1928 section 5).
pub const MAX_NAME_LEN: usize = 255;

const DOMAIN: u8 = 3;
const IPV4: u8 = 1;
const IPV6: u8 = 4;
