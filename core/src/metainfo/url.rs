//! The little that torrents and magnet links need to know of URLs (RFC 3986).

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write as _;

/// The URL of a tracker, the white space around it gone, if it is one that a client could ever talk to.
///
/// Spaces and control characters within are refused: they would let a torrent write lines of its own into a request.
pub fn tracker(raw: &[u8]) -> Option<String> {
    let url = str::from_utf8(raw).ok()?.trim();
    let schemes = ["http://", "https://", "udp://", "ws://", "wss://"];
    let rest = schemes.iter().find_map(|scheme| strip_prefix_no_case(url, scheme))?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (_, host_and_port) = authority.rsplit_once('@').unwrap_or(("", authority));
    let clean = url.chars().all(|c| c > ' ' && !c.is_control());
    (clean && is_host_and_port(host_and_port)).then(|| url.to_string())
}

/// The URL of a web seed (BEP 19) with what may not stand in a URL escaped; `None` if it is empty. That of several
/// files is a folder and ends in a slash.
pub fn web_seed(raw: &[u8], is_folder: bool) -> Option<String> {
    let raw = raw.trim_ascii();
    if raw.is_empty() {
        return None;
    }
    let mut url = String::with_capacity(raw.len() + 1);
    escape(raw, |byte| byte.is_ascii_graphic() && !br#""<>\^`{|}"#.contains(&byte), &mut url);
    if is_folder && !url.ends_with('/') {
        url.push('/');
    }
    Some(url)
}

/// `host` and `port` of `host:port`, where the host may be a name, an IPv4 address or an IPv6 address in brackets.
/// The brackets are gone.
pub(crate) fn host_and_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    is_host_and_port(text).then_some((host.trim_matches(['[', ']']), port))
}

/// `host:port`, an IPv6 address in brackets.
pub fn show_endpoint(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Writes `bytes` to `out`, percent-escaping all that are not `plain`.
pub(crate) fn escape(bytes: &[u8], plain: impl Fn(u8) -> bool, out: &mut String) {
    for byte in bytes {
        if plain(*byte) {
            out.push(char::from(*byte));
        } else {
            write!(out, "%{byte:02X}").expect("a String takes everything");
        }
    }
}

/// Whether a byte means only itself anywhere in a URL.
pub(crate) fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// Undoes the escapes of a query's value, where `+` stands for a space; `None` if one is malformed.
pub(crate) fn unescape(text: &str) -> Option<Cow<'_, [u8]>> {
    if !text.contains(['%', '+']) {
        return Some(Cow::Borrowed(text.as_bytes()));
    }
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => hex_digit(bytes.next()?)? << 4 | hex_digit(bytes.next()?)?,
            b'+' => b' ',
            byte => byte,
        });
    }
    Some(Cow::Owned(out))
}

/// What the digit of a hexadecimal number stands for.
pub(crate) fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

fn is_host_and_port(text: &str) -> bool {
    let (host_is_fine, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((address, port)) = rest.split_once(']') else { return false };
            (address.parse::<core::net::Ipv6Addr>().is_ok(), port)
        }
        None => {
            let (host, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            (!host.is_empty() && host.bytes().all(is_name), port)
        }
    };
    let port_is_fine = match port.strip_prefix(':') {
        Some(digits) => digits.parse::<u16>().is_ok() && digits.bytes().all(|byte| byte.is_ascii_digit()),
        None => port.is_empty(),
    };
    host_is_fine && port_is_fine
}

fn strip_prefix_no_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, rest) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::{host_and_port, is_unreserved, tracker, unescape, web_seed};
    use alloc::string::String;
    use proptest::prelude::*;

    #[test]
    fn trackers_need_a_scheme_a_host_and_no_control_characters() {
        for (raw, url) in [
            ("http://t.example/announce", Some("http://t.example/announce")),
            ("\t http://t.example/announce ", Some("http://t.example/announce")),
            ("HTTP://2", Some("HTTP://2")),
            ("udp://t.example:80", Some("udp://t.example:80")),
            ("wss://t.example", Some("wss://t.example")),
            ("https://user:pass@t.example:8443/a?b=c", Some("https://user:pass@t.example:8443/a?b=c")),
            ("http://[2001:db8::1]:80/announce", Some("http://[2001:db8::1]:80/announce")),
            ("", None),
            ("tracker.example:80/announce", None),
            ("ftp://1", None),
            ("httpabc", None),
            ("http://", None),
            ("http:///announce", None),
            ("http://http.was.great!", None),
            ("http://t.example:x/", None),
            ("http://t.example:65536/", None),
            ("http://[2001:db8::1/", None),
            ("http://t.example/a\r\nHost: evil", None),
            ("<!DOCTYPE html><html>", None),
        ] {
            assert_eq!(tracker(raw.as_bytes()).as_deref(), url, "{raw:?}");
        }
        assert_eq!(tracker(b"http://t.example/\xff"), None);
    }

    #[test]
    fn web_seeds_are_escaped_once() {
        let seed = |raw: &str, is_folder| web_seed(raw.as_bytes(), is_folder);
        assert_eq!(seed("http://a/b c%20d", false).as_deref(), Some("http://a/b%20c%20d"));
        assert_eq!(seed("http://a/é\n", false).as_deref(), Some("http://a/%C3%A9"));
        assert_eq!(seed("http://a/b", true).as_deref(), Some("http://a/b/"));
        assert_eq!(seed("http://a/b/", true).as_deref(), Some("http://a/b/"));
        assert_eq!(seed("", true), None);
    }

    #[test]
    fn hosts_and_ports() {
        assert_eq!(host_and_port("1.2.3.4:80"), Some(("1.2.3.4", 80)));
        assert_eq!(host_and_port("[2001:db8::2]:55013"), Some(("2001:db8::2", 55013)));
        assert_eq!(host_and_port("router.example:6881"), Some(("router.example", 6881)));
        for wrong in ["", ":1", "host", "host:0", "host:65536", "2001:db8::2:55013", "a b:1", "host:+1"] {
            assert_eq!(host_and_port(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn broken_escapes_are_refused() {
        assert_eq!(unescape("a%20b+c%2B").as_deref(), Some(&b"a b c+"[..]));
        for wrong in ["%", "%2", "%zz", "%+1"] {
            assert_eq!(unescape(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn escaping_is_undone(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut text = String::new();
            super::escape(&bytes, is_unreserved, &mut text);
            let undone = unescape(&text);
            prop_assert_eq!(undone.as_deref(), Some(&bytes[..]));
        }
    }
}
