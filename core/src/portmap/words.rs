//! How ports may be mapped, and what there is to say about it.

use super::packet::{Protocol, nat_pmp_result, pcp_result};
use alloc::string::String;
use core::fmt;
use core::net::{Ipv4Addr, SocketAddrV4};

/// What the user allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// NAT-PMP or PCP, or UPnP where neither works.
    Auto,
    /// NAT-PMP or PCP.
    NatPmp,
    /// Routers are left alone.
    #[default]
    Off,
    /// UPnP.
    Upnp,
}

impl Mode {
    /// The methods, in the order in which they are tried.
    pub const fn methods(self) -> &'static [Method] {
        match self {
            Self::Auto => &[Method::Pcp, Method::NatPmp, Method::Upnp],
            Self::NatPmp => &[Method::Pcp, Method::NatPmp],
            Self::Off => &[],
            Self::Upnp => &[Method::Upnp],
        }
    }
}

/// A protocol by which a router is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// RFC 6886.
    NatPmp,
    /// RFC 6887.
    Pcp,
    /// The Internet Gateway Device of UPnP.
    Upnp,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NatPmp => "NAT-PMP",
            Self::Pcp => "PCP",
            Self::Upnp => "UPnP",
        })
    }
}

/// Why there is no mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// We are elsewhere.
    Moved,
    /// NAT-PMP's result code.
    NatPmp(u16),
    /// The router does not answer.
    NoAnswer,
    /// There is no router, as far as the system knows.
    NoRouter,
    /// PCP's result code.
    Pcp(u8),
    /// The router granted nothing, or ended what it had granted.
    TakenBack,
    /// UPnP did not work.
    Upnp(UpnpError),
    /// The router does not speak this protocol.
    WrongVersion,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Moved => f.write_str("this host is in another network now"),
            Self::NatPmp(code) => write!(f, "refused: {} (code {code})", nat_pmp_result(*code)),
            Self::NoAnswer => f.write_str("no answer"),
            Self::NoRouter => f.write_str("no router is known"),
            Self::Pcp(code) => write!(f, "refused: {} (code {code})", pcp_result(*code)),
            Self::TakenBack => f.write_str("the router took it back"),
            Self::Upnp(error) => error.fmt(f),
            Self::WrongVersion => f.write_str("the router does not speak it"),
        }
    }
}

/// What a driver is to ask by UPnP. It looks for a router, within seconds, if it knows none that serves `local`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpnpRequest {
    /// Let others in.
    Map {
        /// Where to.
        local: SocketAddrV4,
        /// What.
        protocol: Protocol,
        /// Through which port outside.
        external: u16,
        /// For how long; zero for ever.
        lifetime_s: u32,
    },
    /// No more.
    Unmap {
        /// Who asks.
        local: Ipv4Addr,
        /// What.
        protocol: Protocol,
        /// Through which port outside.
        external: u16,
    },
}

impl fmt::Display for UpnpRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Map { local, protocol, external, lifetime_s } => {
                write!(f, "map {protocol} {external} to {local} for {lifetime_s} s")
            }
            Self::Unmap { protocol, external, .. } => write!(f, "unmap {protocol} {external}"),
        }
    }
}

/// Why UPnP did not work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpnpError {
    /// Somebody else has the port outside.
    #[error("the port is taken")]
    Conflict,
    /// No router answered in time.
    #[error("no router answers")]
    NoRouter,
    /// The router takes mappings for ever only.
    #[error("the router only grants permanent mappings")]
    OnlyPermanent,
    /// The router refuses, as it says, or can't be spoken to.
    #[error("{0}")]
    Refused(String),
}
