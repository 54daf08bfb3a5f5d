//! Making a torrent file of an info dictionary that came without one.

use alloc::string::String;
use alloc::vec::Vec;
use bendy::encoding::{Encoder, ToBencode};

/// The bytes of a torrent file around `info`, which stays as it is: its hash is the torrent's name.
pub fn wrap_info(info: &[u8], trackers: &[Vec<String>], web_seeds: &[String]) -> Vec<u8> {
    let mut file = Vec::with_capacity(info.len() + 64);
    file.push(b'd');
    let mut pair = |key: &str, value: &[u8]| {
        file.extend_from_slice(&encoded(&key));
        file.extend_from_slice(value);
    };
    let mut urls = trackers.iter().flatten();
    if let Some(first) = urls.next() {
        pair("announce", &encoded(first));
    }
    // BEP 12: a client that knows the list ignores `announce`, so the list is there only if it says more.
    if urls.next().is_some() {
        pair("announce-list", &encoded(&trackers));
    }
    pair("info", info);
    if !web_seeds.is_empty() {
        pair("url-list", &encoded(&web_seeds));
    }
    file.push(b'e');
    file
}

fn encoded(value: &impl ToBencode) -> Vec<u8> {
    let mut encoder = Encoder::new();
    encoder.emit(value).expect("texts and lists of them can be written");
    encoder.get_output().expect("one value was written")
}

#[cfg(test)]
mod tests {
    use super::wrap_info;
    use crate::metainfo::Metainfo;
    use alloc::string::String;
    use alloc::vec;

    /// Keys out of order, as the hash is that of these bytes and no others.
    const INFO: &[u8] = b"d4:name1:n6:lengthi1e12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaae";

    #[test]
    fn the_info_stays_as_it_is() {
        let tiers =
            [vec![String::from("http://a/"), String::from("http://b/")], vec![String::from("udp://c:1")]];
        let file = wrap_info(INFO, &tiers, &[String::from("http://w/")]);
        let torrent = Metainfo::parse(&file).unwrap();
        assert_eq!(torrent.info(), INFO);
        assert_eq!(torrent.trackers(), tiers);
        assert_eq!(torrent.web_seeds(), ["http://w/"]);
        let bare = wrap_info(INFO, &[], &[]);
        assert_eq!(bare, [b"d4:info", INFO, b"e"].concat());
    }
}
