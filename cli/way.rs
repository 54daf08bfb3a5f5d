//! By which way others are reached: an interface, a proxy, or whatever the system likes. Options of every command that uses
//! the network.

use crate::exit::{Exit, Failure};
use fast_peer_core::dht::message::Family;
use fast_peer_core::socks5::Login;
use fast_peer_io::net::{Exempt, Interface, Net as _, Proxy, Real, Via, resolve_error};
use percent_encoding::percent_decode_str;
use std::env;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// By which way to reach others.
#[derive(Clone, Debug, Default, clap::Args)]
#[group(skip)]
pub(crate) struct Way {
    /// Stay on one interface, named by its name or by an address that it has; several addresses of it may be named.
    /// Nothing leaves by another, names of hosts included. 0.0.0.0 is every interface, but IPv4 alone, and :: is IPv6
    /// alone; names are looked up as ever then [default: all]
    #[arg(long, value_name = "NAME|ADDRESS", alias = "bind")]
    interface: Vec<String>,
    /// SOCKS5 proxy for everything but servers in NO_PROXY: socks5h://USER:PASSWORD@HOST:PORT, with or without login and
    /// port. With socks5:// names are looked up here, past the proxy. Nobody can connect to this host then [default:
    /// ALL_PROXY]
    #[arg(long, value_name = "URL")]
    // Read later: what clap says of a value that is wrong shows it, and a password with it.
    proxy: Option<String>,
}

/// What the user says of a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    /// None, whatever the environment says.
    Direct,
    Proxy(Proxy),
}

/// The network beyond.
#[derive(Clone, Debug)]
pub(crate) struct Outside {
    pub(crate) net: Via<Real>,
    /// The addresses to listen on.
    pub(crate) addrs: Vec<IpAddr>,
}

impl Way {
    /// The network as these options show it.
    pub(crate) fn open(&self) -> Result<Outside, Failure> {
        let failed = |error: std::io::Error| {
            let exit =
                if error.kind() == std::io::ErrorKind::InvalidInput { Exit::Option } else { Exit::Network };
            Failure::io(exit, "--interface", &error)
        };
        let interface = Interface::find(&self.interface).map_err(failed)?;
        let (real, addrs) = match interface {
            Some(interface) => {
                let addrs = interface.listens();
                (Real::on(interface), addrs)
            }
            None if self.interface.is_empty() => (Real::default(), ANY.to_vec()),
            None => {
                let addrs: Vec<IpAddr> = self.interface.iter().filter_map(|text| text.parse().ok()).collect();
                let (v4, v6) = (addrs.contains(&ANY[0]), addrs.contains(&ANY[1]));
                let real = match (v4, v6) {
                    (true, false) => Real::of(Family::V4),
                    (false, true) => Real::of(Family::V6),
                    _ => Real::default(),
                };
                (real, ANY.into_iter().filter(|any| addrs.contains(any)).collect())
            }
        };
        let net = match self.proxy()? {
            Some(proxy) => Via::proxy(real, Proxy { exempt: exempt(), ..proxy }),
            None => Via::direct(real),
        };
        let addrs = if net.is_proxied() { ANY.to_vec() } else { addrs };
        Ok(Outside { net, addrs })
    }

    fn proxy(&self) -> Result<Option<Proxy>, Failure> {
        let from_environment = || {
            let set =
                ["all_proxy", "ALL_PROXY"].into_iter().filter_map(|name| Some((name, env::var_os(name)?)));
            let (name, value) = set.into_iter().find(|(_, value)| !value.is_empty())?;
            let read = value.to_str().ok_or_else(|| String::from("it is no text")).and_then(proxy);
            Some(read.map_err(|why| Failure::new(Exit::Option, format!("{name}: {why}"))))
        };
        let wanted = match &self.proxy {
            Some(url) => {
                Some(proxy(url).map_err(|why| Failure::new(Exit::Option, format!("--proxy: {why}")))?)
            }
            None => from_environment().transpose()?,
        };
        Ok(match wanted {
            Some(Wanted::Proxy(proxy)) => Some(proxy),
            Some(Wanted::Direct) | None => None,
        })
    }
}

impl Outside {
    /// The network of this host by itself, for what nobody else takes part in.
    pub(crate) fn direct(addrs: &[IpAddr]) -> Self {
        Self { net: Via::direct(Real::default()), addrs: addrs.to_vec() }
    }

    /// Where hosts are that the user named: the first address of each.
    pub(crate) async fn resolve(&self, hosts: &[HostPort]) -> Result<Vec<SocketAddr>, Failure> {
        let mut addrs = vec![];
        for host in hosts {
            addrs.push(host.resolve(self).await?);
        }
        Ok(addrs)
    }
}

/// A host that the user named, and a port of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostPort {
    /// A name or an address, which has no brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl HostPort {
    /// `peer.example:6881`, `192.0.2.1:6881`, `[2001:db8::1]:6881`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text} is no host and port: write HOST:PORT");
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
        Ok(Self { host: host_of(host).ok_or_else(wrong)?, port })
    }

    /// Its first address.
    pub(crate) async fn resolve(&self, outside: &Outside) -> Result<SocketAddr, Failure> {
        if let Ok(ip) = self.host.parse() {
            return Ok(SocketAddr::new(ip, self.port));
        }
        let failed = |error| {
            let why = resolve_error(&error);
            Failure::new(Exit::NameResolution, format!("{}: {why}", self.host))
        };
        let ips = outside.net.resolve(&self.host).await.map_err(failed)?;
        let first = ips.first().ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))?;
        Ok(SocketAddr::new(*first, self.port))
    }
}

/// A host without the brackets of an IPv6 address.
fn host_of(text: &str) -> Option<String> {
    match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(ip) => Some(ip.parse::<Ipv6Addr>().ok()?.to_string()),
        None if text.is_empty() || text.contains([':', '[', ']']) => None,
        None => Some(text.to_owned()),
    }
}

/// A proxy's URL. An empty one says that there is to be none.
fn proxy(url: &str) -> Result<Wanted, String> {
    if url.is_empty() {
        return Ok(Wanted::Direct);
    }
    // No error shows the URL: there can be a password in it.
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(String::from("it has no scheme: write socks5h://HOST:PORT"));
    };
    let looks_up = match scheme.to_ascii_lowercase().as_str() {
        "socks5h" => true,
        "socks5" => false,
        "http" | "https" => {
            return Err(String::from(
                "an HTTP proxy carries no datagrams and few peers; name a SOCKS5 proxy, socks5h://HOST:PORT",
            ));
        }
        other if other.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)) => {
            return Err(format!("{other} is no kind of proxy that is known here; write socks5h://HOST:PORT"));
        }
        _ => return Err(String::from("it has no scheme: write socks5h://HOST:PORT")),
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let (login, place) = match authority.rsplit_once('@') {
        Some((login, place)) => (Some(login), place),
        None => (None, authority),
    };
    let login = login.map(|login| {
        let (name, password) = login.split_once(':').unwrap_or((login, ""));
        let decode = |text| percent_decode_str(text).decode_utf8().ok();
        let login =
            decode(name).zip(decode(password)).and_then(|(name, password)| Login::new(&name, &password));
        login.ok_or_else(|| String::from("name and password have 1 to 255 bytes each"))
    });
    let wrong = || String::from("it names no host: write socks5h://HOST:PORT");
    let (host, port) = match place.rsplit_once(':') {
        // The last colon of an IPv6 address is inside of its brackets.
        Some((host, port)) if !port.contains(']') => {
            (host, port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?)
        }
        _ => (place, DEFAULT_PORT),
    };
    let host = host_of(host).filter(|host| !host.contains(['/', '?', '#'])).ok_or_else(wrong)?;
    Ok(Wanted::Proxy(Proxy { host, port, login: login.transpose()?, looks_up, exempt: Exempt::default() }))
}

/// The web servers that are asked directly.
fn exempt() -> Exempt {
    let set = ["no_proxy", "NO_PROXY"].into_iter().filter_map(|name| env::var(name).ok());
    Exempt::parse(&set.into_iter().find(|list| !list.is_empty()).unwrap_or_default())
}

/// Every address of this machine.
const ANY: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];

/// That of SOCKS (RFC 1928 section 3).
const DEFAULT_PORT: u16 = 1080;

#[cfg(test)]
mod tests {
    use super::{HostPort, Wanted, proxy};
    use fast_peer_core::socks5::Login;
    use fast_peer_io::net::{Exempt, Proxy};

    fn is(host: &str, port: u16, login: Option<(&str, &str)>, looks_up: bool) -> Result<Wanted, String> {
        let login = login.map(|(name, password)| Login::new(name, password).unwrap());
        Ok(Wanted::Proxy(Proxy { host: host.to_owned(), port, login, looks_up, exempt: Exempt::default() }))
    }

    #[test]
    fn proxies_have_a_scheme_and_a_host() {
        for (url, expected) in [
            ("socks5h://127.0.0.1:9050", is("127.0.0.1", 9050, None, true)),
            ("SOCKS5://proxy.example", is("proxy.example", 1080, None, false)),
            ("socks5h://[2001:db8::1]/", is("2001:db8::1", 1080, None, true)),
            ("socks5h://me:a%40b%3A@[::1]:9/", is("::1", 9, Some(("me", "a@b:")), true)),
            ("", Ok(Wanted::Direct)),
        ] {
            assert_eq!(proxy(url), expected, "{url}");
        }
        for url in [
            "127.0.0.1:9050",
            "http://proxy.example:3128",
            "socks4://proxy.example",
            "socks5h://",
            "socks5h://:1",
            "socks5h://a:0",
            "socks5h://a:70000",
            "socks5h://secret@a",
            "socks5h://a/b",
            "socks5h://::1:2",
        ] {
            let why = proxy(url).unwrap_err();
            assert!(!why.contains("secret"), "{why}");
        }
        assert!(proxy("http://p").unwrap_err().contains("SOCKS5"));
    }

    #[test]
    fn hosts_have_a_port() {
        for (text, host, port) in
            [("a.example:1", "a.example", 1), ("192.0.2.1:6881", "192.0.2.1", 6881), ("[::1]:2", "::1", 2)]
        {
            assert_eq!(HostPort::parse(text), Ok(HostPort { host: host.to_owned(), port }), "{text}");
        }
        for text in ["", "a", "a:", ":1", "a:0", "a:70000", "::1:2", "[::1]", "[a]:1", "[::1:2", "a b]:1"] {
            assert!(HostPort::parse(text).is_err(), "{text}");
        }
    }
}
