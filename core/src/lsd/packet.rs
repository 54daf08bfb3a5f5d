//! The text of an announcement (BEP 14).

use super::Group;
use crate::id::InfoHash;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write as _;

/// The longest announcement: it has to fit one packet (BEP 14).
pub const MAX_LEN: usize = 1400;

/// How many torrents fit one announcement.
pub const MAX_TORRENTS: usize = (MAX_LEN - OVERHEAD) / LINE_LEN;

/// An announcement: these torrents are shared at this port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The port at which the sender takes connections.
    pub port: u16,
    /// The torrents.
    pub torrents: Vec<InfoHash>,
    /// What the sender knows its own announcements by, at most [`MAX_COOKIE_LEN`] bytes.
    pub cookie: Option<String>,
}

impl Announcement {
    /// Reads a datagram; nothing if it is no announcement of a torrent. Header names may be in any case, lines may end
    /// with a line feed alone, and what is unknown is passed over.
    pub fn parse(data: &[u8]) -> Option<Self> {
        let text = str::from_utf8(data.get(..data.len().min(MAX_READ))?).ok()?;
        let mut lines = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
        lines.next()?.starts_with("BT-SEARCH * HTTP/").then_some(())?;
        let (mut port, mut torrents, mut cookie) = (None, Vec::new(), None);
        for line in lines.take_while(|line| !line.is_empty()) {
            let Some((name, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            if name.eq_ignore_ascii_case("port") {
                port = value.parse().ok().filter(|port| *port != 0);
            } else if name.eq_ignore_ascii_case("infohash") && torrents.len() < MAX_TORRENTS {
                torrents.extend(unhex(value));
            } else if name.eq_ignore_ascii_case("cookie") && value.len() <= MAX_COOKIE_LEN {
                cookie = Some(String::from(value));
            }
        }
        Some(Self { port: port?, torrents, cookie }).filter(|it| !it.torrents.is_empty())
    }

    /// The datagram, as it goes to `group`.
    pub fn encode(&self, group: Group) -> Vec<u8> {
        let mut text = String::new();
        let written =
            write!(text, "BT-SEARCH * HTTP/1.1\r\nHost: {}\r\nPort: {}\r\n", group.addr(), self.port)
                .and_then(|()| self.torrents.iter().try_for_each(|hash| write!(text, "Infohash: {hash}\r\n")))
                .and_then(|()| self.cookie.iter().try_for_each(|cookie| write!(text, "cookie: {cookie}\r\n")))
                .and_then(|()| text.write_str("\r\n\r\n"));
        written.expect("a string takes everything");
        text.into_bytes()
    }
}

fn unhex(digits: &str) -> Option<InfoHash> {
    let (pairs, []) = digits.as_bytes().as_chunks::<2>() else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let bytes: Option<Vec<u8>> =
        pairs.iter().map(|[high, low]| Some((digit(*high)? << 4 | digit(*low)?) as u8)).collect();
    Some(InfoHash(bytes?.try_into().ok()?))
}

/// The most bytes of a cookie.
pub const MAX_COOKIE_LEN: usize = 32;

/// What is read of a datagram: nobody's packets are longer.
const MAX_READ: usize = 2048;

/// `Infohash: `, 40 digits and the end of the line.
const LINE_LEN: usize = 10 + 40 + 2;

/// The first line, the longest host and port, and the cookie.
const OVERHEAD: usize = 22 + 32 + 13 + 10 + MAX_COOKIE_LEN + 4;

#[cfg(test)]
mod tests {
    use super::{Announcement, MAX_COOKIE_LEN, MAX_LEN, MAX_TORRENTS};
    use crate::id::InfoHash;
    use crate::lsd::Group;
    use alloc::format;
    use alloc::string::String;
    use alloc::vec;
    use proptest::prelude::*;

    /// The form of BEP 14, as clients send it.
    #[test]
    fn an_announcement_is_read_and_written() {
        let text = format!(
            "BT-SEARCH * HTTP/1.1\r\nHost: 239.192.152.143:6771\r\nPort: 61197\r\nInfohash: {}\r\n\
             Infohash: {}\r\ncookie: 1f00ba23\r\n\r\n\r\n",
            "ed".repeat(20),
            "4f".repeat(20)
        );
        let announcement = Announcement {
            port: 61197,
            torrents: vec![InfoHash([0xed; 20]), InfoHash([0x4f; 20])],
            cookie: Some(String::from("1f00ba23")),
        };
        assert_eq!(Announcement::parse(text.as_bytes()).as_ref(), Some(&announcement));
        assert_eq!(announcement.encode(Group::V4), text.as_bytes());
        let six = String::from_utf8(announcement.encode(Group::V6)).unwrap();
        assert!(six.contains("\r\nHost: [ff15::efc0:988f]:6771\r\n"));
    }

    #[test]
    fn careless_writers_are_understood() {
        let text = format!("BT-SEARCH * HTTP/1.0\nINFOHASH:{}\njunk\nX: y\nport:  7 \n", "ED".repeat(20));
        let expected = Announcement { port: 7, torrents: vec![InfoHash([0xed; 20])], cookie: None };
        assert_eq!(Announcement::parse(text.as_bytes()), Some(expected));
    }

    #[test]
    fn what_is_no_announcement_is_nothing() {
        let hash = "ed".repeat(20);
        for text in [
            String::new(),
            String::from("BT-SEARCH * HTTP/1.1\r\n\r\n"),
            format!("M-SEARCH * HTTP/1.1\r\nPort: 1\r\nInfohash: {hash}\r\n\r\n"),
            format!("BT-SEARCH * HTTP/1.1\r\nInfohash: {hash}\r\n\r\n"),
            format!("BT-SEARCH * HTTP/1.1\r\nPort: 0\r\nInfohash: {hash}\r\n\r\n"),
            format!("BT-SEARCH * HTTP/1.1\r\nPort: 65536\r\nInfohash: {hash}\r\n\r\n"),
            format!("BT-SEARCH * HTTP/1.1\r\nPort: 1\r\nInfohash: {hash}0\r\n\r\n"),
            format!("BT-SEARCH * HTTP/1.1\r\nPort: 1\r\nInfohash: {}\r\n\r\n", "xx".repeat(20)),
            format!("BT-SEARCH * HTTP/1.1\r\nPort: 1\r\n\r\nInfohash: {hash}\r\n"),
        ] {
            assert_eq!(Announcement::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(Announcement::parse(&[0xff; 60]), None);
    }

    #[test]
    fn the_longest_fits_a_packet() {
        let announcement = Announcement {
            port: u16::MAX,
            torrents: vec![InfoHash([0xaa; 20]); MAX_TORRENTS],
            cookie: Some("c".repeat(MAX_COOKIE_LEN)),
        };
        for group in [Group::V4, Group::V6] {
            let data = announcement.encode(group);
            assert!((MAX_LEN - 60..=MAX_LEN).contains(&data.len()), "{}", data.len());
            assert_eq!(Announcement::parse(&data).as_ref(), Some(&announcement));
        }
        let twice = String::from_utf8(announcement.encode(Group::V4)).unwrap();
        let twice = twice.replace("Port", &format!("Infohash: {}\r\nPort", "bb".repeat(20)));
        assert_eq!(Announcement::parse(twice.as_bytes()).unwrap().torrents.len(), MAX_TORRENTS);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            port in 1_u16..,
            hashes in prop::collection::vec(any::<[u8; 20]>(), 1..MAX_TORRENTS),
            cookie in prop::option::of("[0-9a-zA-Z]{1,32}"),
        ) {
            let announcement = Announcement { port, torrents: hashes.into_iter().map(InfoHash).collect(), cookie };
            for group in [Group::V4, Group::V6] {
                let read = Announcement::parse(&announcement.encode(group));
                prop_assert_eq!(read.as_ref(), Some(&announcement));
            }
        }

        #[test]
        fn arbitrary_lines_are_read_or_not(lines in "(BT-SEARCH \\* HTTP/1.1\r\n)?((Port|Infohash|cookie|é)(: ?)[0-9a-f]{0,41}\r?\n){0,6}") {
            if let Some(read) = Announcement::parse(lines.as_bytes()) {
                prop_assert!(read.port != 0 && !read.torrents.is_empty());
            }
        }
    }
}
