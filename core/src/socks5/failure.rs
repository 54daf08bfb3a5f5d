//! Why a proxy did not do what was asked.

/// A proxy's refusal (RFC 1928 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Reply {
    /// It speaks of no such kind of address (8).
    #[error("the proxy does not know this kind of address")]
    AddressType,
    /// It does not do this (7), as most do not relay datagrams.
    #[error("the proxy does not do this")]
    Command,
    /// The remote refused (5).
    #[error("connection refused, says the proxy")]
    ConnectionRefused,
    /// It went wrong in general (1).
    #[error("the proxy failed")]
    General,
    /// The host is out of reach (4).
    #[error("the host can't be reached, says the proxy")]
    HostUnreachable,
    /// The network is out of reach (3).
    #[error("the network can't be reached, says the proxy")]
    NetworkUnreachable,
    /// Its rules forbid it (2).
    #[error("the proxy's rules forbid this")]
    NotAllowed,
    /// A code without a meaning.
    #[error("the proxy answered {0}, which means nothing")]
    Other(u8),
    /// On its way the connection lived too long (6).
    #[error("the time to live expired, says the proxy")]
    TtlExpired,
}

impl Reply {
    /// What the code means; none for success.
    pub fn of(code: u8) -> Option<Self> {
        Some(match code {
            0 => return None,
            1 => Self::General,
            2 => Self::NotAllowed,
            3 => Self::NetworkUnreachable,
            4 => Self::HostUnreachable,
            5 => Self::ConnectionRefused,
            6 => Self::TtlExpired,
            7 => Self::Command,
            8 => Self::AddressType,
            other => Self::Other(other),
        })
    }
}

/// How a talk with a proxy failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Failure {
    /// The proxy ended the talk.
    #[error("the proxy closed the connection")]
    Ended,
    /// It wants a name and a password, and there are none.
    #[error("the proxy wants a name and a password")]
    LoginMissing,
    /// It did not like the name and password.
    #[error("the proxy refused the name and password")]
    LoginRefused,
    /// It did what was asked, and says by a name that is none, or an address of no known kind, where.
    #[error("the proxy's answer holds no address that can be read")]
    NoAddress,
    /// It wants to be shown who we are in a way that is not known here.
    #[error("the proxy wants a login of a kind that is not known here")]
    NoMethod,
    /// What it says is no SOCKS5.
    #[error("it is no SOCKS5 proxy")]
    NotSocks5,
    /// It refused what was asked.
    #[error(transparent)]
    Refused(#[from] Reply),
    /// It took too long.
    #[error("the proxy did not answer in time")]
    TimedOut,
}
