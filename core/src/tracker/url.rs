//! Addresses of trackers, and the lists in which torrents name them.

use alloc::borrow::ToOwned as _;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv6Addr};
use core::ops::Range;

/// The most trackers of a torrent.
pub const MAX_TRACKERS: usize = 128;

/// How a tracker is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    /// HTTP in the clear.
    Http,
    /// HTTP over TLS.
    Https,
    /// BEP 15.
    Udp,
}

/// Why a tracker's URL is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// The query has arguments that an announce adds: a lure to send somebody's server what a torrent's maker chose.
    #[error("the URL already carries arguments of an announce")]
    Arguments,
    /// The host is missing or is no host.
    #[error("the URL names no valid host")]
    Host,
    /// The host's name is not plain ASCII, so that it may look like another.
    #[error("the host's name has letters outside ASCII")]
    HostLetters,
    /// It leads to this machine, but not to a tracker.
    #[error("a tracker on this machine must have a path that starts with /announce")]
    LoopbackPath,
    /// The port is no number from 1 to 65535, or is missing where there is no usual one.
    #[error("the URL names no valid port")]
    Port,
    /// It is neither http, https nor udp.
    #[error("not an http, https or udp URL")]
    Scheme,
    /// It is longer than anybody needs.
    #[error("the URL is longer than {MAX_URL_LEN} bytes")]
    TooLong,
}

/// A tracker's URL, checked.
///
/// The path and query often hold a passkey, so it shows itself without them.
#[derive(Clone, PartialEq, Eq)]
pub struct TrackerUrl {
    text: String,
    scheme: Scheme,
    host: Range<usize>,
    port: u16,
    path: usize,
}

impl TrackerUrl {
    /// Reads a URL, space around it ignored.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let text = text.trim_matches(|c: char| c.is_ascii_whitespace() || c.is_ascii_control());
        if text.len() > MAX_URL_LEN {
            return Err(UrlError::TooLong);
        }
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::Scheme)?;
        let scheme = SCHEMES.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(scheme));
        let (name, scheme) = scheme.ok_or(UrlError::Scheme)?;
        let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (user, place) = authority.rsplit_once('@').map_or(("", authority), |(user, place)| (user, place));
        let (host, port) = split_port(place)?;
        check_host(host)?;
        let usual = match scheme {
            Scheme::Http => Some(80),
            Scheme::Https => Some(443),
            Scheme::Udp => None,
        };
        let port = match port {
            "" => usual.ok_or(UrlError::Port)?,
            digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().ok().filter(|port| *port != 0).ok_or(UrlError::Port)?
            }
            _ => return Err(UrlError::Port),
        };

        let mut text = [name, "://"].concat();
        if !user.is_empty() {
            escape_unprintable(user, &mut text);
            text.push('@');
        }
        let host_start = text.len();
        text.push_str(&host.to_ascii_lowercase());
        let host = host_start..text.len();
        if usual != Some(port) {
            text.push_str(&alloc::format!(":{port}"));
        }
        let path_start = text.len();
        if scheme != Scheme::Udp && !path.starts_with('/') {
            text.push('/');
        }
        escape_unprintable(path, &mut text);
        // Escapes are longer than what they stand for.
        if text.len() > MAX_URL_LEN {
            return Err(UrlError::TooLong);
        }
        let url = Self { text, scheme, host, port, path: path_start };
        url.check_query()?;
        url.check_loopback()?;
        Ok(url)
    }

    /// The whole URL, secrets included.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// How the tracker is asked.
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host's name or address, an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        let host = &self.text[self.host.clone()];
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }

    /// The host's address, if it is one rather than a name.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host().parse().ok()
    }

    /// The port, never 0.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The path without the query.
    pub fn path(&self) -> &str {
        let path = self.path_and_query();
        path.split_once('?').map_or(path, |(path, _)| path)
    }

    /// What follows the host and port: for UDP perhaps nothing.
    pub fn path_and_query(&self) -> &str {
        &self.text[self.path..]
    }

    /// What comes before the path: scheme, host, port, perhaps a user.
    pub(super) fn origin(&self) -> &str {
        &self.text[..self.path]
    }

    fn check_query(&self) -> Result<(), UrlError> {
        let Some((_, query)) = self.path_and_query().split_once('?') else { return Ok(()) };
        let mut names = query.split('&').map(|pair| pair.split('=').next().unwrap_or_default());
        let ours = |name: &str| {
            let name = unescape(name.as_bytes());
            ARGUMENTS.iter().any(|argument| argument.as_bytes().eq_ignore_ascii_case(&name))
        };
        if names.any(ours) { Err(UrlError::Arguments) } else { Ok(()) }
    }

    /// A URL that leads to this machine's own services could be made to do something there.
    fn check_loopback(&self) -> Result<(), UrlError> {
        let name = self.host().trim_end_matches('.');
        let here = name == "localhost"
            || name.ends_with(".localhost")
            || self.ip().is_some_and(|ip| {
                let ip = ip.to_canonical();
                ip.is_loopback() || ip.is_unspecified()
            });
        if here && self.scheme != Scheme::Udp && !self.path().starts_with("/announce") {
            return Err(UrlError::LoopbackPath);
        }
        Ok(())
    }
}

impl fmt::Display for TrackerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(redacted(&self.text))
    }
}

impl fmt::Debug for TrackerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrackerUrl({self})")
    }
}

/// The scheme, host and port of `url`: what a log may show. Without the scheme if a user stands before the host.
pub fn redacted(url: &str) -> &str {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url[start..].find(['/', '?', '#']).map_or(url.len(), |at| start + at);
    match url[start..end].rfind('@') {
        Some(at) => &url[start + at + 1..end],
        None => &url[..end],
    }
}

/// The tiers of a torrent or magnet link (BEP 12): without empty ones, what stands there twice or is refused, and with
/// several URLs in one string taken apart. At most [`MAX_TRACKERS`] are taken.
pub fn parse_tiers<'a, T: IntoIterator<Item = &'a str>>(
    tiers: impl IntoIterator<Item = T>,
) -> Vec<Vec<TrackerUrl>> {
    let mut known: Vec<TrackerUrl> = Vec::new();
    let mut parsed = Vec::new();
    for tier in tiers {
        let from = known.len();
        for text in tier {
            for url in text.split_ascii_whitespace().filter_map(|text| TrackerUrl::parse(text).ok()) {
                if known.len() < MAX_TRACKERS && !known.contains(&url) {
                    known.push(url);
                }
            }
        }
        if known.len() > from {
            parsed.push(known[from..].to_owned());
        }
    }
    parsed
}

/// What the escapes of a URL stand for; an escape that is none stands for itself.
pub(super) fn unescape(text: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let (mut rest, mut bytes) = (text, Vec::with_capacity(text.len()));
    while let [first, after @ ..] = rest {
        let escaped = match after {
            [high, low, ..] if *first == b'%' => {
                digit(*high).zip(digit(*low)).map(|(high, low)| high << 4 | low)
            }
            _ => None,
        };
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    bytes
}

/// Appends `bytes` with all escaped but what never needs it (RFC 3986, 2.3).
pub(super) fn escape(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            out.push(char::from(*byte));
        } else {
            escape_byte(*byte, out);
        }
    }
}

fn escape_unprintable(text: &str, out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte) {
            out.push(char::from(byte));
        } else {
            escape_byte(byte, out);
        }
    }
}

fn escape_byte(byte: u8, out: &mut String) {
    out.push('%');
    for digit in [byte >> 4, byte & 0xf] {
        out.push(char::from_digit(u32::from(digit), 16).expect("four bits are a digit").to_ascii_uppercase());
    }
}

fn split_port(place: &str) -> Result<(&str, &str), UrlError> {
    let after_brackets = place.rfind(']').map_or(0, |at| at + 1);
    let (host, port) =
        place.split_at(place[after_brackets..].find(':').map_or(place.len(), |at| after_brackets + at));
    Ok((host, port.strip_prefix(':').unwrap_or(port)))
}

fn check_host(host: &str) -> Result<(), UrlError> {
    if let Some(address) = host.strip_prefix('[') {
        let address = address.strip_suffix(']').and_then(|address| address.parse::<Ipv6Addr>().ok());
        return address.map(|_| ()).ok_or(UrlError::Host);
    }
    let xn = |label: &str| label.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("xn--"));
    if !host.is_ascii() || host.split('.').any(xn) {
        return Err(UrlError::HostLetters);
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    let good = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    if name.len() <= 253 && name.split('.').all(good) { Ok(()) } else { Err(UrlError::Host) }
}

const MAX_URL_LEN: usize = 2048;

const SCHEMES: [(&str, Scheme); 3] = [("http", Scheme::Http), ("https", Scheme::Https), ("udp", Scheme::Udp)];

/// What an announce or scrape adds to a URL and a torrent must not.
const ARGUMENTS: [&str; 9] =
    ["corrupt", "downloaded", "event", "info_hash", "key", "left", "peer_id", "port", "uploaded"];

#[cfg(test)]
mod tests {
    use super::{MAX_TRACKERS, Scheme, TrackerUrl, UrlError, escape, parse_tiers, redacted, unescape};
    use alloc::format;
    use alloc::string::{String, ToString as _};
    use alloc::vec;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn parse(text: &str) -> TrackerUrl {
        TrackerUrl::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn urls_are_taken_apart() {
        let url = parse("\t HTTP://Tracker.Example:80/a/announce?passkey=s3cret#top\n");
        assert_eq!(url.as_str(), "http://tracker.example/a/announce?passkey=s3cret");
        assert_eq!((url.scheme(), url.host(), url.port()), (Scheme::Http, "tracker.example", 80));
        assert_eq!((url.path(), url.path_and_query()), ("/a/announce", "/a/announce?passkey=s3cret"));
        assert_eq!(url.to_string(), "http://tracker.example");
        let url = parse("udp://[2001:db8::1]:6969");
        assert_eq!((url.host(), url.port(), url.path_and_query()), ("2001:db8::1", 6969, ""));
        assert_eq!(url.ip(), Some("2001:db8::1".parse().unwrap()));
        assert_eq!(parse("https://t.example").as_str(), "https://t.example/");
        assert_eq!(parse("http://t.example?a=b").as_str(), "http://t.example/?a=b");
        assert_eq!(parse("http://t.example/ü x").as_str(), "http://t.example/%C3%BC%20x");
        assert_eq!(parse("http://me:pw@t.example:8080/a").to_string(), "t.example:8080");
    }

    #[test]
    fn bad_urls_are_refused() {
        for (text, error) in [
            ("", UrlError::Scheme),
            ("tracker.example/announce", UrlError::Scheme),
            ("file:///etc/passwd", UrlError::Scheme),
            ("wss://t.example/announce", UrlError::Scheme),
            ("http:///announce", UrlError::Host),
            ("http://a..b/announce", UrlError::Host),
            ("http://a b/announce", UrlError::Host),
            ("http://a%2eb/announce", UrlError::Host),
            ("http://[::g]/announce", UrlError::Host),
            ("http://[::1/announce", UrlError::Host),
            ("udp://t.example/announce", UrlError::Port),
            ("udp://t.example:0", UrlError::Port),
            ("http://t.example:65536/", UrlError::Port),
            ("http://t.example:+80/", UrlError::Port),
            ("http://[::2]x:80/", UrlError::Host),
            ("http://127.0.0.1/", UrlError::LoopbackPath),
            ("http://127.9.9.9:8080/api/shutdown", UrlError::LoopbackPath),
            ("http://[::1]/rpc", UrlError::LoopbackPath),
            ("http://[::ffff:127.0.0.1]/rpc", UrlError::LoopbackPath),
            ("http://LOCALHOST./rpc", UrlError::LoopbackPath),
        ] {
            assert_eq!(TrackerUrl::parse(text), Err(error), "{text}");
        }
        for part in ["a".repeat(2048), "é".repeat(400)] {
            assert_eq!(TrackerUrl::parse(&format!("http://t.example/{part}")), Err(UrlError::TooLong));
        }
        parse("http://127.0.0.1:6969/announce");
        parse("udp://127.0.0.1:6969");
    }

    #[test]
    fn urls_with_arguments_of_an_announce_are_refused() {
        for query in [
            "info_hash=a",
            "x=1&info_hash=a",
            "INFO_HASH",
            "info%5Fhash=a",
            "event=stopped",
            "a&port=1",
            "%6beY=1",
        ] {
            let url = format!("http://t.example/announce?{query}");
            assert_eq!(TrackerUrl::parse(&url), Err(UrlError::Arguments), "{url}");
        }
        parse("http://t.example/announce?passkey=1&reporting=2&a=info_hash");
    }

    #[test]
    fn hosts_that_can_look_like_others_are_refused() {
        for host in [
            "tracker\u{435}.example",
            "xn--trcker-9ta.example",
            "www.XN--p1ai",
            "трекер.рф",
            "tracker\u{3002}example",
            "tr\u{200b}acker.example",
            "tra\u{ff43}ker.example",
            "\u{130}.example",
        ] {
            let url = format!("http://{host}/announce");
            assert_eq!(TrackerUrl::parse(&url), Err(UrlError::HostLetters), "{url}");
        }
    }

    #[test]
    fn tiers_are_cleaned() {
        let tiers = [
            vec![],
            vec!["http://a.example/announce", " http://A.example/announce "],
            vec!["not a url"],
            vec!["http://a.example/announce", "udp://b.example:1 udp://c.example:2\nhttp://d.example/"],
        ];
        let names: Vec<Vec<String>> = parse_tiers(tiers)
            .into_iter()
            .map(|tier| tier.into_iter().map(|url| url.to_string()).collect())
            .collect();
        assert_eq!(
            names,
            [vec!["http://a.example"], vec!["udp://b.example:1", "udp://c.example:2", "http://d.example"]]
        );
        let many: Vec<String> = (0..500).map(|i| format!("http://t{i}.example/")).collect();
        let tiers = parse_tiers(many.iter().map(|url| [url.as_str()]));
        assert_eq!(tiers.len(), MAX_TRACKERS);
    }

    #[test]
    fn logs_show_no_secret() {
        assert_eq!(redacted("http://t.example:1/s3cret/announce"), "http://t.example:1");
        assert_eq!(redacted("http://t.example?s3cret"), "http://t.example");
        assert_eq!(redacted("http://me:s3cret@t.example/"), "t.example");
        assert_eq!(redacted("s3cret@nonsense"), "nonsense");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(http|https|udp)://[a-zA-Z0-9@:/?#&=.%\\[\\] é-]{0,30}") {
            if let Ok(url) = TrackerUrl::parse(&text) {
                prop_assert_eq!(TrackerUrl::parse(url.as_str()), Ok(url.clone()));
                prop_assert!(url.as_str().bytes().all(|byte| byte.is_ascii_graphic()));
                prop_assert!(url.port() != 0 && !url.host().is_empty());
            }
        }

        #[test]
        fn what_is_escaped_comes_back(bytes in prop::collection::vec(any::<u8>(), 0..30)) {
            let mut text = String::new();
            escape(&bytes, &mut text);
            prop_assert_eq!(unescape(text.as_bytes()), bytes);
        }
    }
}
