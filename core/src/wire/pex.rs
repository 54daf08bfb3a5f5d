//! Peers tell each other of peers (BEP 11).

use super::offence::Offence;
use crate::bencode::{Dict, Document, Limits, Value};
use alloc::vec::Vec;
use bendy::encoding::{Encoder, Error, SingleItemEncoder};
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest message about other peers (limit L10).
pub const MAX_PEX_LEN: usize = 64 * 1024;

/// How many addresses are read of each list of a message.
pub const MAX_PEX_PEERS: usize = 100;

/// What is said about a peer besides its address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PexFlags(pub u8);

impl PexFlags {
    /// It takes obfuscated connections.
    pub const OBFUSCATES: u8 = 0x01;
    /// It wants nothing any more: a seed, or a partial one.
    pub const SEED: u8 = 0x02;
    /// It speaks uTP.
    pub const UTP: u8 = 0x04;
    /// It speaks the holepunch extension (BEP 55), so the teller can bring about a connection to it.
    pub const HOLEPUNCH: u8 = 0x08;
    /// The teller connected to it, so it can be reached.
    pub const REACHABLE: u8 = 0x10;

    /// Whether all bits of `flag` are set.
    pub const fn has(self, flag: u8) -> bool {
        self.0 & flag == flag
    }

    /// The words for what is said, in alphabetical order.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let all = [
            (Self::OBFUSCATES, "encryption"),
            (Self::HOLEPUNCH, "holepunch"),
            (Self::REACHABLE, "reachable"),
            (Self::SEED, "seed"),
            (Self::UTP, "uTP"),
        ];
        all.into_iter().filter(move |(flag, _)| self.has(*flag)).map(|(_, name)| name)
    }
}

/// A message of peer exchange.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PexMessage {
    /// Peers that the sender is connected to and had not told of.
    pub added: Vec<(SocketAddr, PexFlags)>,
    /// Peers that the sender told of and is not connected to any more.
    pub dropped: Vec<SocketAddr>,
}

impl PexMessage {
    /// Reads the payload of an extended message: the first [`MAX_PEX_PEERS`] of each list. What is left over at the end
    /// of a list, or has no port, is left out.
    pub fn parse(payload: &[u8]) -> Result<Self, Offence> {
        if payload.len() > MAX_PEX_LEN {
            return Err(Offence::BadPex);
        }
        let document = Document::parse(payload, Limits::WIRE).map_err(|_| Offence::BadPex)?;
        let dict = document.root().as_dict().ok_or(Offence::BadPex)?;
        let flagged = |addrs: Vec<SocketAddr>, flags: &[u8]| {
            let flags = flags.iter().copied().chain(core::iter::repeat(0)).map(PexFlags);
            addrs.into_iter().zip(flags).filter(|(addr, _)| addr.port() != 0).collect::<Vec<_>>()
        };
        let mut message = Self {
            added: flagged(v4(bytes(dict, b"added")), bytes(dict, b"added.f")),
            dropped: v4(bytes(dict, b"dropped")),
        };
        message.added.extend(flagged(v6(bytes(dict, b"added6")), bytes(dict, b"added6.f")));
        message.dropped.extend(v6(bytes(dict, b"dropped6")));
        message.dropped.retain(|addr| addr.port() != 0);
        Ok(message)
    }

    /// The payload of an extended message. IPv4 comes before IPv6.
    pub fn encode(&self) -> Vec<u8> {
        self.try_encode().expect("the keys are written in order")
    }

    fn try_encode(&self) -> Result<Vec<u8>, Error> {
        let family = |v4: bool| self.added.iter().filter(move |(addr, _)| addr.is_ipv4() == v4);
        let dropped = |v4: bool| self.dropped.iter().filter(move |addr| addr.is_ipv4() == v4);
        let flags = |v4| family(v4).map(|(_, flags)| flags.0).collect::<Vec<u8>>();
        let addrs = |v4| compact(family(v4).map(|(addr, _)| addr));
        let mut encoder = Encoder::new();
        encoder.emit_dict(|mut dict| {
            let put = |bytes: Vec<u8>| move |to: SingleItemEncoder<'_>| to.emit_bytes(&bytes);
            // Some readers want the first two whatever they hold.
            dict.emit_pair_with(b"added", put(addrs(true)))?;
            dict.emit_pair_with(b"added.f", put(flags(true)))?;
            if family(false).next().is_some() {
                dict.emit_pair_with(b"added6", put(addrs(false)))?;
                dict.emit_pair_with(b"added6.f", put(flags(false)))?;
            }
            if dropped(true).next().is_some() {
                dict.emit_pair_with(b"dropped", put(compact(dropped(true))))?;
            }
            if dropped(false).next().is_some() {
                dict.emit_pair_with(b"dropped6", put(compact(dropped(false))))?;
            }
            Ok(())
        })?;
        encoder.get_output()
    }
}

/// One line, as traces show it.
impl fmt::Display for PexMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("pex")?;
        self.added.iter().try_for_each(|(addr, _)| write!(f, " +{addr}"))?;
        self.dropped.iter().try_for_each(|addr| write!(f, " -{addr}"))
    }
}

fn bytes<'d>(dict: Dict<'d>, key: &[u8]) -> &'d [u8] {
    dict.get(key).and_then(Value::as_bytes).unwrap_or_default()
}

fn v4(list: &[u8]) -> Vec<SocketAddr> {
    let (chunks, _) = list.as_chunks::<6>();
    let read = |[a, b, c, d, high, low]: &[u8; 6]| {
        SocketAddr::from((Ipv4Addr::new(*a, *b, *c, *d), u16::from_be_bytes([*high, *low])))
    };
    chunks.iter().take(MAX_PEX_PEERS).map(read).collect()
}

fn v6(list: &[u8]) -> Vec<SocketAddr> {
    let (chunks, _) = list.as_chunks::<18>();
    let read = |chunk: &[u8; 18]| {
        let (ip, port) = chunk.split_first_chunk::<16>().expect("18 bytes hold 16");
        SocketAddr::from((Ipv6Addr::from(*ip), u16::from_be_bytes([port[0], port[1]])))
    };
    chunks.iter().take(MAX_PEX_PEERS).map(read).collect()
}

fn compact<'a>(addrs: impl Iterator<Item = &'a SocketAddr>) -> Vec<u8> {
    let mut list = Vec::new();
    for addr in addrs {
        match addr.ip() {
            IpAddr::V4(ip) => list.extend(ip.octets()),
            IpAddr::V6(ip) => list.extend(ip.octets()),
        }
        list.extend(addr.port().to_be_bytes());
    }
    list
}

#[cfg(test)]
mod tests {
    use super::{MAX_PEX_LEN, MAX_PEX_PEERS, PexFlags, PexMessage};
    use crate::wire::Offence;
    use alloc::format;
    use alloc::string::ToString as _;
    use alloc::vec;
    use alloc::vec::Vec;
    use core::net::{IpAddr, SocketAddr};
    use proptest::prelude::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_message_is_read_and_written() {
        let hand = b"d5:added12:\xcb\x00\x71\x05\x1a\xe1\xcb\x00\x71\x06\x00\x017:added.f2:\x12\x00\
            6:added618:\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x1a\xe18:added6.f1:\x10\
            7:dropped6:\xcb\x00\x71\x07\x1a\xe18:dropped618:\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02\x00\x05e";
        let message = PexMessage {
            added: vec![
                (addr("203.0.113.5:6881"), PexFlags(PexFlags::SEED | PexFlags::REACHABLE)),
                (addr("203.0.113.6:1"), PexFlags::default()),
                (addr("[2001:db8::1]:6881"), PexFlags(PexFlags::REACHABLE)),
            ],
            dropped: vec![addr("203.0.113.7:6881"), addr("[2001:db8::2]:5")],
        };
        assert_eq!(PexMessage::parse(hand).as_ref(), Ok(&message));
        assert_eq!(message.encode(), hand);
        let line =
            "pex +203.0.113.5:6881 +203.0.113.6:1 +[2001:db8::1]:6881 -203.0.113.7:6881 -[2001:db8::2]:5";
        assert_eq!(message.to_string(), line);
    }

    #[test]
    fn what_is_careless_is_read_as_far_as_it_goes() {
        // No flags, a list that is cut, a port of zero, a list that is none.
        let careless = b"d5:added14:\xcb\x00\x71\x05\x1a\xe1\xcb\x00\x71\x06\x00\x00\xcb\x007:droppedi5ee";
        let expected = PexMessage { added: vec![(addr("203.0.113.5:6881"), PexFlags(0))], dropped: vec![] };
        assert_eq!(PexMessage::parse(careless), Ok(expected));
        assert_eq!(PexMessage::parse(b"de"), Ok(PexMessage::default()));
    }

    /// Limit L10.
    #[test]
    fn a_message_is_bounded() {
        for payload in [&b""[..], b"le", b"d5:added", b"i1e"] {
            assert_eq!(PexMessage::parse(payload), Err(Offence::BadPex));
        }
        let of = |bytes: usize| format!("d5:added{bytes}:{}e", "x".repeat(bytes)).into_bytes();
        let longest = of(MAX_PEX_LEN - 15);
        assert_eq!(longest.len(), MAX_PEX_LEN);
        assert_eq!(PexMessage::parse(&longest).unwrap().added.len(), MAX_PEX_PEERS);
        assert_eq!(PexMessage::parse(&of(MAX_PEX_LEN - 14)), Err(Offence::BadPex));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            added in prop::collection::vec((any::<IpAddr>(), 1_u16.., any::<u8>()), 0..40),
            dropped in prop::collection::vec((any::<IpAddr>(), 1_u16..), 0..40),
        ) {
            let mut message = PexMessage {
                added: added.into_iter().map(|(ip, port, flags)| ((ip, port).into(), PexFlags(flags))).collect(),
                dropped: dropped.into_iter().map(SocketAddr::from).collect(),
            };
            message.added.sort_by_key(|(addr, _)| addr.is_ipv6());
            message.dropped.sort_by_key(SocketAddr::is_ipv6);
            prop_assert_eq!(PexMessage::parse(&message.encode()), Ok(message));
        }

        #[test]
        fn arbitrary_lists_are_read(added in prop::collection::vec(any::<u8>(), 0..80)) {
            let payload = [format!("d6:added6{}:", added.len()).as_bytes(), &added, b"e"].concat();
            let read: Vec<_> = PexMessage::parse(&payload).unwrap().added;
            prop_assert!(read.len() <= added.len() / 18);
        }
    }
}
