//! Peers that can't reach each other are brought together by one that both know (BEP 55).

use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A message of the holepunch extension. The address is that of the peer which the receiver of the message is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HolepunchMessage {
    /// From the relay to both: connect to this peer at once.
    Connect(SocketAddr),
    /// From the relay to who asked: nothing will come of it.
    Error(SocketAddr, HolepunchError),
    /// To the relay: bring me together with this peer.
    Rendezvous(SocketAddr),
}

/// Why a relay does not bring two peers together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum HolepunchError {
    /// 1: there can't be a peer at that address.
    #[error("there is no such peer")]
    NoSuchPeer,
    /// 2: the relay has no connection to it.
    #[error("the relay is not connected to it")]
    NotConnected,
    /// 3: it does not speak the extension.
    #[error("it does not know how")]
    NoSupport,
    /// 4: it is the relay itself.
    #[error("it is the relay itself")]
    NoSelf,
    /// Any other number.
    #[error("error {0}")]
    Other(u32),
}

impl HolepunchError {
    /// Its number on the wire.
    pub const fn code(self) -> u32 {
        match self {
            Self::NoSuchPeer => 1,
            Self::NotConnected => 2,
            Self::NoSupport => 3,
            Self::NoSelf => 4,
            Self::Other(code) => code,
        }
    }

    /// The error with this number.
    pub const fn from_code(code: u32) -> Self {
        match code {
            1 => Self::NoSuchPeer,
            2 => Self::NotConnected,
            3 => Self::NoSupport,
            4 => Self::NoSelf,
            code => Self::Other(code),
        }
    }
}

impl HolepunchMessage {
    /// Reads the payload of an extended message; nothing if it makes no sense, or is of a kind that a later version may
    /// have. Some leave the error's number out where there is no error, so that 8 or 20 bytes are enough.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let (&[kind, family], rest) = payload.split_first_chunk()?;
        let (ip, rest): (IpAddr, _) = match family {
            V4 => rest.split_first_chunk::<4>().map(|(ip, rest)| (Ipv4Addr::from(*ip).into(), rest))?,
            V6 => rest.split_first_chunk::<16>().map(|(ip, rest)| (Ipv6Addr::from(*ip).into(), rest))?,
            _ => return None,
        };
        let (port, rest) = rest.split_first_chunk()?;
        let addr = SocketAddr::new(ip, u16::from_be_bytes(*port));
        match kind {
            RENDEZVOUS => Some(Self::Rendezvous(addr)),
            CONNECT => Some(Self::Connect(addr)),
            ERROR => {
                let code = rest.first_chunk().map_or(0, |code| u32::from_be_bytes(*code));
                Some(Self::Error(addr, HolepunchError::from_code(code)))
            }
            _ => None,
        }
    }

    /// The payload of an extended message: 12 bytes for an address of IPv4, 24 for one of IPv6.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, addr, code) = match self {
            Self::Rendezvous(addr) => (RENDEZVOUS, addr, 0),
            Self::Connect(addr) => (CONNECT, addr, 0),
            Self::Error(addr, error) => (ERROR, addr, error.code()),
        };
        let mut payload = Vec::with_capacity(24);
        payload.push(kind);
        match addr.ip().to_canonical() {
            IpAddr::V4(ip) => {
                payload.push(V4);
                payload.extend_from_slice(&ip.octets());
            }
            IpAddr::V6(ip) => {
                payload.push(V6);
                payload.extend_from_slice(&ip.octets());
            }
        }
        payload.extend_from_slice(&addr.port().to_be_bytes());
        payload.extend_from_slice(&code.to_be_bytes());
        payload
    }
}

impl fmt::Display for HolepunchMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(addr) => write!(f, "connect {addr}"),
            Self::Error(addr, error) => write!(f, "error {addr}: {error}"),
            Self::Rendezvous(addr) => write!(f, "rendezvous {addr}"),
        }
    }
}

const RENDEZVOUS: u8 = 0;
const CONNECT: u8 = 1;
const ERROR: u8 = 2;
const V4: u8 = 0;
const V6: u8 = 1;

#[cfg(test)]
mod tests {
    use super::{HolepunchError, HolepunchMessage};
    use alloc::vec::Vec;
    use core::net::SocketAddr;
    use proptest::prelude::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn messages_are_written_as_bep_55_has_them() {
        let v4 = addr("203.0.113.5:6881");
        for (message, bytes) in [
            (HolepunchMessage::Rendezvous(v4), &b"\x00\x00\xcb\x00\x71\x05\x1a\xe1\0\0\0\0"[..]),
            (HolepunchMessage::Connect(v4), b"\x01\x00\xcb\x00\x71\x05\x1a\xe1\0\0\0\0"),
            (
                HolepunchMessage::Error(v4, HolepunchError::NotConnected),
                b"\x02\x00\xcb\x00\x71\x05\x1a\xe1\0\0\0\x02",
            ),
            (
                HolepunchMessage::Connect(addr("[2001:db8::1]:1")),
                b"\x01\x01\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\0\x01\0\0\0\0",
            ),
        ] {
            assert_eq!(message.encode(), bytes);
            assert_eq!(HolepunchMessage::parse(bytes), Some(message));
            if !matches!(message, HolepunchMessage::Error(..)) {
                assert_eq!(
                    HolepunchMessage::parse(&bytes[..bytes.len() - 4]),
                    Some(message),
                    "without a number"
                );
            }
        }
        let mapped = HolepunchMessage::Connect(addr("[::ffff:203.0.113.5]:6881"));
        assert_eq!(mapped.encode(), HolepunchMessage::Connect(v4).encode());
    }

    #[test]
    fn what_makes_no_sense_is_nothing() {
        let whole = HolepunchMessage::Connect(addr("[2001:db8::1]:1")).encode();
        for len in 0..20 {
            assert_eq!(HolepunchMessage::parse(&whole[..len]), None, "{len}");
        }
        for (at, byte) in [(0, 3), (0, 255), (1, 2)] {
            let mut wrong: Vec<u8> = whole.clone();
            wrong[at] = byte;
            assert_eq!(HolepunchMessage::parse(&wrong), None);
        }
        let error = HolepunchMessage::Error(addr("1.2.3.4:5"), HolepunchError::Other(0));
        assert_eq!(HolepunchMessage::parse(&error.encode()[..8]), Some(error));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            kind in 0..3_u8, ip in any::<core::net::IpAddr>(), port in any::<u16>(), code in any::<u32>(),
        ) {
            let addr = SocketAddr::new(ip.to_canonical(), port);
            let message = match kind {
                0 => HolepunchMessage::Rendezvous(addr),
                1 => HolepunchMessage::Connect(addr),
                _ => HolepunchMessage::Error(addr, HolepunchError::from_code(code)),
            };
            prop_assert_eq!(HolepunchMessage::parse(&message.encode()), Some(message));
        }

        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Some(message) = HolepunchMessage::parse(&bytes) {
                prop_assert_eq!(HolepunchMessage::parse(&message.encode()).map(|again| again.encode()),
                    Some(message.encode()));
            }
        }
    }
}
