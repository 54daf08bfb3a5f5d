//! Whom a torrent may make this host ask.
//!
//! Whoever writes a torrent chooses its trackers, so each request is one that a stranger sends from inside the user's
//! network. A request may go to addresses that peers could be at; to this host itself only where a tracker answers; and
//! no answer can send it closer to this host than it already was. What counts is the address that is connected to,
//! not the name that led there.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How far an address reaches, from this host outwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reach {
    /// This host.
    Loopback,
    /// The same wire; clouds keep their keys at such an address.
    LinkLocal,
    /// A network that is nobody's in particular.
    Private,
    /// The internet.
    Global,
}

/// Who named the URL of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Author {
    /// A torrent.
    Torrent,
    /// The user, who may ask whom they like.
    User,
}

/// Why a request is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It holds a name and a password.
    Credentials,
    /// From https to http.
    Downgrade,
    /// A redirect leads closer to this host than the server that sent it is.
    Inwards,
    /// A torrent may ask this host for announces only.
    Loopback,
    /// A torrent may not ask neighbours on the wire.
    LinkLocal,
    /// No host is at such an address.
    NoHost,
    /// It is no URL.
    NotAUrl,
    /// Neither http nor https.
    Scheme,
}

/// How far `addr` reaches; none if no single host can be at it.
pub(super) fn reach(addr: IpAddr) -> Option<Reach> {
    match addr {
        IpAddr::V4(addr) => reach_v4(addr),
        IpAddr::V6(addr) => reach_v6(addr),
    }
}

/// Whether a request for `path`, named by `author`, may be sent to `addr`. `from` is the reach of the server that
/// redirected to it.
pub(super) fn may_ask(
    author: Author,
    addr: IpAddr,
    path: &str,
    from: Option<Reach>,
) -> Result<Reach, Refusal> {
    let reach = reach(addr).ok_or(Refusal::NoHost)?;
    if from.is_some_and(|from| reach < from) {
        return Err(Refusal::Inwards);
    }
    match (author, reach) {
        (Author::Torrent, Reach::LinkLocal) => Err(Refusal::LinkLocal),
        (Author::Torrent, Reach::Loopback) if !path.starts_with("/announce") => Err(Refusal::Loopback),
        _ => Ok(reach),
    }
}

fn reach_v4(addr: Ipv4Addr) -> Option<Reach> {
    match addr.octets() {
        // RFC 6890: this network, benchmarks' neighbours, multicast, reserved and broadcast.
        [0 | 224..=255, ..] => None,
        [127, ..] => Some(Reach::Loopback),
        [169, 254, ..] => Some(Reach::LinkLocal),
        // RFC 1918, and RFC 6598 behind a carrier's translator.
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Some(Reach::Private),
        _ => Some(Reach::Global),
    }
}

fn reach_v6(addr: Ipv6Addr) -> Option<Reach> {
    let tail = |at: usize| {
        let octets = addr.octets();
        Ipv4Addr::new(octets[at], octets[at + 1], octets[at + 2], octets[at + 3])
    };
    match addr.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => None,
        [0, 0, 0, 0, 0, 0, 0, 1] => Some(Reach::Loopback),
        // Forms of an IPv4 address: compatible (RFC 4291), mapped, translated (RFC 6052, RFC 8215), 6to4 (RFC 3056).
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0x64, 0xff9b, ..] => reach_v4(tail(12)),
        [0x2002, ..] => reach_v4(tail(2)),
        [0xfe80..=0xfebf, ..] => Some(Reach::LinkLocal),
        // Unique local (RFC 4193), and site local before it.
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => Some(Reach::Private),
        [0xff00..=0xffff, ..] => None,
        _ => Some(Reach::Global),
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Credentials => "the URL holds a password",
            Self::Downgrade => "redirected from https to http",
            Self::Inwards => "redirected from a public to a local address",
            Self::Loopback => "this host is asked for announces only",
            Self::LinkLocal => "it leads to a link-local address",
            Self::NoHost => "it leads to an address that no host has",
            Self::NotAUrl => "not a URL",
            Self::Scheme => "neither http nor https",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Author, Reach, Refusal, may_ask, reach};

    #[test]
    fn addresses_reach_as_far_as_their_registries_say() {
        use Reach::{Global, LinkLocal, Loopback, Private};
        for (addr, expected) in [
            ("1.1.1.1", Some(Global)),
            ("9.255.255.255", Some(Global)),
            ("11.0.0.0", Some(Global)),
            ("100.63.255.255", Some(Global)),
            ("100.128.0.0", Some(Global)),
            ("172.15.0.1", Some(Global)),
            ("172.32.0.1", Some(Global)),
            ("223.255.255.255", Some(Global)),
            ("10.0.0.1", Some(Private)),
            ("100.64.0.1", Some(Private)),
            ("172.16.0.1", Some(Private)),
            ("172.31.255.255", Some(Private)),
            ("192.168.0.1", Some(Private)),
            ("169.254.169.254", Some(LinkLocal)),
            ("127.0.0.1", Some(Loopback)),
            ("127.255.255.254", Some(Loopback)),
            ("0.0.0.0", None),
            ("0.1.2.3", None),
            ("224.0.0.1", None),
            ("255.255.255.255", None),
            ("2606:4700::1", Some(Global)),
            ("fd00:ec2::254", Some(Private)),
            ("fec0::1", Some(Private)),
            ("fe80::1", Some(LinkLocal)),
            ("febf::1", Some(LinkLocal)),
            ("::1", Some(Loopback)),
            ("::127.0.0.1", Some(Loopback)),
            ("::ffff:127.0.0.1", Some(Loopback)),
            ("::ffff:10.0.0.1", Some(Private)),
            ("::ffff:1.1.1.1", Some(Global)),
            ("64:ff9b::169.254.169.254", Some(LinkLocal)),
            ("64:ff9b:1::10.0.0.1", Some(Private)),
            ("2002:7f00:1::", Some(Loopback)),
            ("::", None),
            ("ff02::1", None),
        ] {
            assert_eq!(reach(addr.parse().unwrap()), expected, "{addr}");
        }
    }

    #[test]
    fn what_a_torrent_may_ask() {
        use Reach::{Global, LinkLocal, Loopback, Private};
        for (addr, path, from, expected) in [
            ("1.1.1.1", "/x", None, Ok(Global)),
            ("1.1.1.1", "/x", Some(Global), Ok(Global)),
            ("1.1.1.1", "/x", Some(Private), Ok(Global)),
            ("1.1.1.1", "/x", Some(Loopback), Ok(Global)),
            ("10.0.0.1", "/announce", None, Ok(Private)),
            ("10.0.0.1", "/tracker.php", None, Ok(Private)),
            ("10.0.0.1", "/announce", Some(Private), Ok(Private)),
            ("10.0.0.1", "/announce", Some(Global), Err(Refusal::Inwards)),
            ("169.254.169.254", "/latest/meta-data", None, Err(Refusal::LinkLocal)),
            ("169.254.169.254", "/announce", Some(Global), Err(Refusal::Inwards)),
            ("fe80::1", "/announce", None, Err(Refusal::LinkLocal)),
            ("127.0.0.1", "/announce?x=1", None, Ok(Loopback)),
            ("127.0.0.1", "/announce.php", Some(Loopback), Ok(Loopback)),
            ("127.0.0.1", "/", None, Err(Refusal::Loopback)),
            ("127.0.0.1", "/admin?/announce", None, Err(Refusal::Loopback)),
            ("::1", "/shutdown", None, Err(Refusal::Loopback)),
            ("::ffff:127.0.0.1", "/shutdown", None, Err(Refusal::Loopback)),
            ("127.0.0.1", "/announce", Some(Global), Err(Refusal::Inwards)),
            ("127.0.0.1", "/announce", Some(Private), Err(Refusal::Inwards)),
            ("0.0.0.0", "/announce", None, Err(Refusal::NoHost)),
            ("255.255.255.255", "/announce", None, Err(Refusal::NoHost)),
        ] {
            let found = may_ask(Author::Torrent, addr.parse().unwrap(), path, from);
            assert_eq!(found, expected, "{addr}{path} from {from:?}");
        }
        assert_eq!(may_ask(Author::User, "127.0.0.1".parse().unwrap(), "/a.torrent", None), Ok(Loopback));
        assert_eq!(may_ask(Author::User, "169.254.1.1".parse().unwrap(), "/a.torrent", None), Ok(LinkLocal));
        let redirected = may_ask(Author::User, "127.0.0.1".parse().unwrap(), "/a.torrent", Some(Global));
        assert_eq!(redirected, Err(Refusal::Inwards));
    }
}
