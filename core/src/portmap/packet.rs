//! What is said to a router and what it answers: NAT-PMP (RFC 6886) and the MAP and ANNOUNCE opcodes of PCP (RFC 6887).

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::net::Ipv4Addr;

/// What is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// Streams.
    Tcp,
    /// Datagrams.
    Udp,
}

impl Protocol {
    /// Both of them, in the order in which they are mapped.
    pub const ALL: [Self; 2] = [Self::Tcp, Self::Udp];

    /// Its number in PCP, which is that of the IP header.
    const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    /// The opcode that maps it in NAT-PMP (RFC 6886, 3.3).
    const fn opcode(self) -> u8 {
        match self {
            Self::Udp => 1,
            Self::Tcp => 2,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

/// What tells our mapping from those of others on this host (RFC 6887, 11.1).
pub type Nonce = [u8; 12];

/// A question to a router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// NAT-PMP: what is your address outside?
    Address,
    /// NAT-PMP: map a port, or forget a mapping.
    NatPmp(Wish),
    /// PCP: the same.
    Pcp {
        /// Our address, from which the request has to come.
        client: Ipv4Addr,
        /// Whose mapping it is.
        nonce: Nonce,
        /// Which address outside we had; unspecified if none.
        external_ip: Ipv4Addr,
        /// What is wanted.
        wish: Wish,
    },
}

/// A mapping as it is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Of what.
    pub protocol: Protocol,
    /// Our port.
    pub internal: u16,
    /// The port outside that would be best; zero for any.
    pub external: u16,
    /// How long; zero takes it back.
    pub lifetime_s: u32,
}

impl Request {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Address => vec![NAT_PMP, 0],
            Self::NatPmp(wish) => {
                let mut data = vec![NAT_PMP, wish.protocol.opcode(), 0, 0];
                data.extend(wish.internal.to_be_bytes());
                data.extend(wish.external.to_be_bytes());
                data.extend(wish.lifetime_s.to_be_bytes());
                data
            }
            Self::Pcp { client, nonce, external_ip, wish } => {
                let mut data = vec![PCP, MAP, 0, 0];
                data.extend(wish.lifetime_s.to_be_bytes());
                data.extend(client.to_ipv6_mapped().octets());
                data.extend(nonce);
                data.extend([wish.protocol.number(), 0, 0, 0]);
                data.extend(wish.internal.to_be_bytes());
                data.extend(wish.external.to_be_bytes());
                data.extend(external_ip.to_ipv6_mapped().octets());
                data
            }
        }
    }
}

/// What a router says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The seconds since it began to remember mappings.
    pub epoch_s: u32,
    /// What it says.
    pub body: Body,
}

/// What an [`Answer`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// NAT-PMP: the router's address outside, answered or called out.
    Address(Result<Ipv4Addr, u16>),
    /// NAT-PMP: what became of a wish.
    NatPmp {
        /// Of what.
        protocol: Protocol,
        /// How it went, or the result code.
        result: Result<Granted, u16>,
    },
    /// PCP: what became of a wish.
    Pcp {
        /// Whose mapping it is.
        nonce: Nonce,
        /// Of what.
        protocol: Protocol,
        /// The router's address outside; nothing if it has none of IPv4.
        external_ip: Option<Ipv4Addr>,
        /// How it went, or the result code.
        result: Result<Granted, u8>,
    },
    /// PCP: the router has started, or what it knew is no longer so.
    PcpAnnounce,
    /// Our version of the protocol is none that it speaks.
    WrongVersion,
}

/// A mapping as the router made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// Our port.
    pub internal: u16,
    /// The port outside.
    pub external: u16,
    /// How long; zero if it is gone.
    pub lifetime_s: u32,
}

impl Answer {
    /// Reads one; nothing if it is none that concerns us. What comes after is left aside, as options of PCP are.
    pub fn parse(data: &[u8]) -> Option<Self> {
        // RFC 6887, 7: longer messages are invalid.
        if data.len() > MAX_LEN {
            return None;
        }
        match *data.first()? {
            NAT_PMP => Self::parse_nat_pmp(data),
            _ => Self::parse_pcp(data),
        }
    }

    fn parse_nat_pmp(data: &[u8]) -> Option<Self> {
        let opcode = data.get(1)?.checked_sub(RESPONSE)?;
        let result = u16_at(data, 2)?;
        let epoch_s = u32_at(data, 4)?;
        let body = match (opcode, result) {
            (_, NAT_PMP_WRONG_VERSION) => Body::WrongVersion,
            (0, 0) => Body::Address(Ok(Ipv4Addr::from_bits(u32_at(data, 8)?))),
            (0, code) => Body::Address(Err(code)),
            _ => {
                let protocol = Protocol::ALL.into_iter().find(|it| it.opcode() == opcode)?;
                let granted = || {
                    Some(Granted {
                        internal: u16_at(data, 8)?,
                        external: u16_at(data, 10)?,
                        lifetime_s: u32_at(data, 12)?,
                    })
                };
                let result = if result == 0 { Ok(granted()?) } else { Err(result) };
                Body::NatPmp { protocol, result }
            }
        };
        Some(Self { epoch_s, body })
    }

    fn parse_pcp(data: &[u8]) -> Option<Self> {
        let opcode = data.get(1)?.checked_sub(RESPONSE)?;
        let result = *data.get(3)?;
        // RFC 6887, 9: what speaks another version still answers in a form that begins like this one.
        if result == PCP_WRONG_VERSION {
            return Some(Self { epoch_s: u32_at(data, 8).unwrap_or(0), body: Body::WrongVersion });
        }
        if data[0] != PCP || data.len() < HEADER_LEN || !data.len().is_multiple_of(4) {
            return None;
        }
        let epoch_s = u32_at(data, 8)?;
        let body = match opcode {
            ANNOUNCE if result == 0 => Body::PcpAnnounce,
            MAP => {
                let nonce: Nonce = *data.get(HEADER_LEN..)?.first_chunk()?;
                let number = *data.get(36)?;
                let protocol = Protocol::ALL.into_iter().find(|it| it.number() == number)?;
                let granted = Granted {
                    internal: u16_at(data, 40)?,
                    external: u16_at(data, 42)?,
                    lifetime_s: u32_at(data, 4)?,
                };
                let external_ip: [u8; 16] = *data.get(44..)?.first_chunk()?;
                let external_ip = core::net::Ipv6Addr::from(external_ip).to_ipv4_mapped();
                let result = if result == 0 { Ok(granted) } else { Err(result) };
                Body::Pcp { nonce, protocol, external_ip, result }
            }
            _ => return None,
        };
        Some(Self { epoch_s, body })
    }
}

/// What a result code of NAT-PMP says (RFC 6886, 3.5).
pub(super) const fn nat_pmp_result(code: u16) -> &'static str {
    match code {
        2 => "it is not allowed here, or switched off",
        3 => "the router has no address outside yet",
        4 => "it has no room for more mappings",
        5 => "it does not map this protocol",
        _ => "it says no more",
    }
}

/// What a result code of PCP says (RFC 6887, 7.4).
pub(super) const fn pcp_result(code: u8) -> &'static str {
    match code {
        2 => "it is not allowed here",
        3 => "it found the request malformed",
        4 => "it does not map ports",
        5 | 6 => "it does not know an option",
        7 => "the router has no network outside yet",
        8 => "it has no room for more mappings",
        9 => "it does not map this protocol",
        10 => "this host has too many mappings",
        11 => "it has no such port outside",
        12 => "there is another router in between",
        13 => "there are too many remote peers",
        _ => "it says no more",
    }
}

fn u16_at(data: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*data.get(at..)?.first_chunk()?))
}

fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*data.get(at..)?.first_chunk()?))
}

/// The longest answer that is looked at (RFC 6887, 7).
pub const MAX_LEN: usize = 1100;

const NAT_PMP: u8 = 0;
const PCP: u8 = 2;
const ANNOUNCE: u8 = 0;
const MAP: u8 = 1;
/// The bit that tells answers from requests.
const RESPONSE: u8 = 128;
const HEADER_LEN: usize = 24;
const NAT_PMP_WRONG_VERSION: u16 = 1;
const PCP_WRONG_VERSION: u8 = 1;

#[cfg(test)]
mod tests {
    use super::{Answer, Body, Granted, Protocol, Request, Wish};
    use alloc::vec;
    use alloc::vec::Vec;
    use core::net::Ipv4Addr;
    use proptest::prelude::{any, prop, proptest};

    const WISH: Wish = Wish { protocol: Protocol::Tcp, internal: 6881, external: 6882, lifetime_s: 1200 };

    #[test]
    fn nat_pmp_is_written_as_in_rfc_6886() {
        assert_eq!(Request::Address.encode(), [0, 0], "3.2");
        let written = Request::NatPmp(WISH).encode();
        assert_eq!(written, [0, 2, 0, 0, 0x1a, 0xe1, 0x1a, 0xe2, 0, 0, 4, 0xb0], "3.3");
    }

    #[test]
    fn nat_pmp_is_read_as_in_rfc_6886() {
        let address = [0, 128, 0, 0, 0, 0, 1, 0, 203, 0, 113, 7];
        let body = Body::Address(Ok(Ipv4Addr::new(203, 0, 113, 7)));
        assert_eq!(Answer::parse(&address), Some(Answer { epoch_s: 256, body }));
        let mapped = [0, 129, 0, 0, 0, 0, 0, 9, 0x1a, 0xe1, 0x1a, 0xe2, 0, 0, 4, 0xb0];
        let granted = Granted { internal: 6881, external: 6882, lifetime_s: 1200 };
        let body = Body::NatPmp { protocol: Protocol::Udp, result: Ok(granted) };
        assert_eq!(Answer::parse(&mapped), Some(Answer { epoch_s: 9, body }));
        let refused = [0, 130, 0, 2, 0, 0, 0, 9];
        let body = Body::NatPmp { protocol: Protocol::Tcp, result: Err(2) };
        assert_eq!(Answer::parse(&refused), Some(Answer { epoch_s: 9, body }));
        let version = [0, 129, 0, 1, 0, 0, 0, 9];
        assert_eq!(Answer::parse(&version), Some(Answer { epoch_s: 9, body: Body::WrongVersion }));
    }

    /// RFC 6887, 7.1 and 11.1.
    #[test]
    fn pcp_is_written_as_in_rfc_6887() {
        let client = Ipv4Addr::new(192, 168, 1, 7);
        let external_ip = Ipv4Addr::UNSPECIFIED;
        let written = Request::Pcp { client, nonce: *b"twelve bytes", external_ip, wish: WISH }.encode();
        let mut expected = vec![2, 1, 0, 0, 0, 0, 4, 0xb0];
        expected.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 168, 1, 7]);
        expected.extend(b"twelve bytes");
        expected.extend([6, 0, 0, 0, 0x1a, 0xe1, 0x1a, 0xe2]);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0]);
        assert_eq!(written, expected);
    }

    #[test]
    fn pcp_is_read_as_in_rfc_6887() {
        let granted = Granted { internal: 6881, external: 6882, lifetime_s: 1200 };
        let answer = pcp_answer(0);
        let body = Body::Pcp {
            nonce: *b"twelve bytes",
            protocol: Protocol::Tcp,
            external_ip: Some(Ipv4Addr::new(203, 0, 113, 7)),
            result: Ok(granted),
        };
        assert_eq!(Answer::parse(&answer), Some(Answer { epoch_s: 77, body }));
        let with_option = [answer.clone(), vec![2, 0, 0, 0]].concat();
        assert_eq!(Answer::parse(&with_option), Answer::parse(&answer));
        let Some(Answer { body: Body::Pcp { result, .. }, .. }) = Answer::parse(&pcp_answer(8)) else {
            panic!("a refusal is an answer");
        };
        assert_eq!(result, Err(8));
        let announce = [vec![2, 128, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5], vec![0; 12]].concat();
        assert_eq!(Answer::parse(&announce), Some(Answer { epoch_s: 5, body: Body::PcpAnnounce }));
    }

    #[test]
    fn requests_odd_lengths_and_other_versions_are_no_answers() {
        assert_eq!(Answer::parse(&Request::NatPmp(WISH).encode()), None);
        assert_eq!(Answer::parse(&pcp_answer(0)[..59]), None);
        assert_eq!(Answer::parse(&[pcp_answer(0), vec![0; 2]].concat()), None);
        assert_eq!(Answer::parse(&[pcp_answer(0), vec![0; 1044]].concat()), None, "RFC 6887, 7: 1100 bytes");
        let mut other = pcp_answer(0);
        other[0] = 3;
        assert_eq!(Answer::parse(&other), None);
        other[3] = 1;
        assert_eq!(Answer::parse(&other).map(|answer| answer.body), Some(Body::WrongVersion));
    }

    fn pcp_answer(result: u8) -> Vec<u8> {
        let mut data = vec![2, 129, 0, result, 0, 0, 4, 0xb0, 0, 0, 0, 77];
        data.extend([0; 12]);
        data.extend(b"twelve bytes");
        data.extend([6, 0, 0, 0, 0x1a, 0xe1, 0x1a, 0xe2]);
        data.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 203, 0, 113, 7]);
        data
    }

    proptest! {
        #[test]
        fn anything_can_be_read(data in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Answer::parse(&data);
        }
    }
}
