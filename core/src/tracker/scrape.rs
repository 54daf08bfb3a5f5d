//! Scrapes: how many peers a torrent has, without joining them (BEP 48).

use super::answer::TrackerError;
use super::http::{answer_dict, document, number};
use super::url::{Scheme, TrackerUrl, escape};
use crate::bencode::Dict;
use crate::id::InfoHash;
use alloc::string::String;
use alloc::vec::Vec;

/// The most torrents of one scrape: as many as fit in a datagram (BEP 15).
pub const MAX_SCRAPE: usize = 74;

/// How many peers a torrent has, as a tracker counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrapeCounts {
    /// How many have everything.
    pub seeders: u32,
    /// How often the whole torrent was downloaded.
    pub completed: u32,
    /// How many miss something.
    pub leechers: u32,
    /// How many miss something and still want it (BEP 21), if the tracker tells.
    pub downloaders: Option<u32>,
}

/// The URL that scrapes `torrents`, the first [`MAX_SCRAPE`] of them, at the HTTP tracker with this announce URL; `None`
/// if the tracker has no scrape.
pub fn scrape_url(url: &TrackerUrl, torrents: &[InfoHash]) -> Option<String> {
    // BEP 48: `announce` at the start of the last part of the path becomes `scrape`.
    let (folder, page) = url.path().rsplit_once('/').filter(|_| url.scheme() != Scheme::Udp)?;
    let suffix = page.strip_prefix("announce")?;
    let query = &url.path_and_query()[url.path().len()..];
    let mut text = [url.origin(), folder, "/scrape", suffix, query].concat();
    for (i, hash) in torrents.iter().take(MAX_SCRAPE).enumerate() {
        text.push(if i == 0 && query.is_empty() { '?' } else { '&' });
        text.push_str("info_hash=");
        escape(&hash.0, &mut text);
    }
    Some(text)
}

/// Reads what an HTTP tracker answered to a scrape of `torrents`: the counts of each, or `None` where it has none.
pub fn parse_scrape(
    status: u16,
    body: &[u8],
    torrents: &[InfoHash],
) -> Result<Vec<Option<ScrapeCounts>>, TrackerError> {
    let document = document(status, body)?;
    let files = answer_dict(status, &document)?.get(b"files").and_then(|files| files.as_dict());
    let files = files.ok_or(TrackerError::Malformed)?;
    Ok(torrents.iter().map(|hash| files.get(&hash.0)?.as_dict().map(counts)).collect())
}

fn counts(file: Dict<'_>) -> ScrapeCounts {
    let count = |key| number(file, key).and_then(|count| u32::try_from(count).ok());
    ScrapeCounts {
        seeders: count(b"complete").unwrap_or(0),
        completed: count(b"downloaded").unwrap_or(0),
        leechers: count(b"incomplete").unwrap_or(0),
        downloaders: count(b"downloaders"),
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_SCRAPE, ScrapeCounts, parse_scrape, scrape_url};
    use crate::id::InfoHash;
    use crate::tracker::{TrackerError, TrackerUrl};
    use alloc::string::String;

    const A: InfoHash = InfoHash([b'a'; 20]);
    const B: InfoHash = InfoHash([b'b'; 20]);

    fn url(announce: &str) -> Option<String> {
        scrape_url(&TrackerUrl::parse(announce).unwrap(), &[A])
    }

    #[test]
    fn the_table_of_bep_48() {
        let scraped = "aaaaaaaaaaaaaaaaaaaa";
        for (announce, scrape) in [
            ("http://example.com/announce", Some("http://example.com/scrape?info_hash=")),
            ("http://example.com/x/announce", Some("http://example.com/x/scrape?info_hash=")),
            ("http://example.com/announce.php", Some("http://example.com/scrape.php?info_hash=")),
            ("http://example.com/a", None),
            ("http://example.com/announce?x2%0644", Some("http://example.com/scrape?x2%0644&info_hash=")),
            ("http://example.com/announce?x=2/4", Some("http://example.com/scrape?x=2/4&info_hash=")),
            ("http://example.com/x%064announce", None),
            ("http://example.com/s3cret/announce", Some("http://example.com/s3cret/scrape?info_hash=")),
            ("udp://example.com:1/announce", None),
        ] {
            assert_eq!(url(announce), scrape.map(|scrape| [scrape, scraped].concat()), "{announce}");
        }
    }

    #[test]
    fn several_torrents_share_a_request() {
        let url = TrackerUrl::parse("http://example.com/announce").unwrap();
        let text = scrape_url(&url, &[A, B]).unwrap();
        assert!(text.ends_with("?info_hash=aaaaaaaaaaaaaaaaaaaa&info_hash=bbbbbbbbbbbbbbbbbbbb"), "{text}");
        assert_eq!(scrape_url(&url, &[A; 100]).unwrap().matches("info_hash=").count(), MAX_SCRAPE);
    }

    #[test]
    fn counts_come_in_the_order_of_the_question() {
        let body = b"d5:filesd20:bbbbbbbbbbbbbbbbbbbbd8:completei5e10:downloadedi50e11:downloadersi3e\
            10:incompletei-1eeee";
        let counts = ScrapeCounts { seeders: 5, completed: 50, leechers: 0, downloaders: Some(3) };
        assert_eq!(parse_scrape(200, body, &[A, B]), Ok([None, Some(counts)].into()));
    }

    #[test]
    fn refusals_and_nonsense_are_told_apart() {
        assert_eq!(parse_scrape(200, b"de", &[A]), Err(TrackerError::Malformed));
        assert_eq!(parse_scrape(404, b"", &[A]), Err(TrackerError::HttpStatus(404)));
        let refused = parse_scrape(200, b"d14:failure reason2:noe", &[A]);
        assert!(matches!(refused, Err(TrackerError::Refused { reason, .. }) if reason == "no"));
    }
}
