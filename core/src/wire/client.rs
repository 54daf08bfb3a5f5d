//! Which program a peer runs, as its peer id says (BEP 20).

use crate::id::PeerId;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

/// The name and version that a peer id shows, such as `qBittorrent 4.5.2`, if it follows a known style. Only letters,
/// digits, dots, dashes and spaces come out, whatever the peer wrote.
pub fn client_name(id: &PeerId) -> Option<String> {
    azureus(&id.0).or_else(|| mainline(&id.0)).or_else(|| shadow(&id.0))
}

/// `-qB4520-`: two letters, four characters of version.
fn azureus(id: &[u8; 20]) -> Option<String> {
    let [b'-', code @ .., a, b, c, d, b'-'] = id.first_chunk::<8>()? else { return None };
    let version = [digit(*a)?, digit(*b)?, digit(*c)?, digit(*d)?];
    let name = match AZUREUS.iter().find(|(known, _)| *known == code) {
        Some((_, name)) => name,
        None => {
            str::from_utf8(code).ok().filter(|code| code.bytes().all(|byte| byte.is_ascii_alphanumeric()))?
        }
    };
    Some(with_version(name, &version))
}

/// `M7-9-2--`, `A2-1-36-0-`: letters, then decimal numbers between dashes.
fn mainline(id: &[u8; 20]) -> Option<String> {
    let (name, rest) = match &id[..] {
        [b'M', rest @ ..] => ("BitTorrent", rest),
        [b'A', b'2', b'-', rest @ ..] => ("aria2", rest),
        _ => return None,
    };
    let mut parts = rest.split(|byte| *byte == b'-').map(|part| str::from_utf8(part).ok()?.parse().ok());
    Some(with_version(name, &[parts.next()??, parts.next()??, parts.next()??]))
}

/// `S58B-----`: a letter, up to five characters of version, and dashes up to the ninth character.
fn shadow(id: &[u8; 20]) -> Option<String> {
    let [letter, version @ .., b'-', b'-', b'-'] = id.first_chunk::<9>()? else { return None };
    let (_, name) = SHADOW.iter().find(|(known, _)| known == letter)?;
    let written = version.iter().position(|byte| *byte == b'-').unwrap_or(version.len());
    let (version, padding) = version.split_at(written);
    let version: Vec<u8> = version.iter().map(|byte| digit(*byte)).collect::<Option<_>>()?;
    let whole = !version.is_empty() && padding.iter().all(|byte| *byte == b'-');
    whole.then(|| with_version(name, &version))
}

/// A character of a version: digits, then letters from ten on.
fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'A'..=b'Z' => Some(byte - b'A' + 10),
        b'a'..=b'z' => Some(byte - b'a' + 36),
        _ => None,
    }
}

/// The name with the version's numbers, but for zeros after the second.
fn with_version(name: &str, version: &[u8]) -> String {
    let said = version.iter().rposition(|number| *number != 0).map_or(0, |last| last + 1);
    let mut text = String::from(name);
    for (i, number) in version[..said.max(2).min(version.len())].iter().enumerate() {
        text.push_str(if i == 0 { " " } else { "." });
        text.push_str(&number.to_string());
    }
    text
}

const AZUREUS: [(&[u8; 2], &str); 32] = [
    (b"AG", "Ares"),
    (b"AZ", "Vuze"),
    (b"BC", "BitComet"),
    (b"BI", "BiglyBT"),
    (b"BT", "BitTorrent"),
    (b"DE", "Deluge"),
    (b"FD", "Free Download Manager"),
    (b"FP", "fast-peer"),
    (b"FW", "FrostWire"),
    (b"FX", "Freebox"),
    (b"GT", "anacrolix torrent"),
    (b"HL", "Halite"),
    (b"KG", "KGet"),
    (b"KT", "KTorrent"),
    (b"LT", "libtorrent"),
    (b"PI", "PicoTorrent"),
    (b"RN", "rain"),
    (b"SD", "Xunlei"),
    (b"TL", "Tribler"),
    (b"TR", "Transmission"),
    (b"TX", "Tixati"),
    (b"UM", "uTorrent for Mac"),
    (b"UT", "uTorrent"),
    (b"UW", "uTorrent Web"),
    (b"WD", "WebTorrent Desktop"),
    (b"WW", "WebTorrent"),
    (b"XL", "Xunlei"),
    (b"ZO", "Zona"),
    (b"lt", "rTorrent"),
    (b"qB", "qBittorrent"),
    (b"rQ", "rqbit"),
    (b"st", "SharkTorrent"),
];

const SHADOW: [(u8, &str); 7] = [
    (b'A', "ABC"),
    (b'O', "Osprey Permaseed"),
    (b'Q', "BTQueue"),
    (b'R', "Tribler"),
    (b'S', "Shadow"),
    (b'T', "BitTornado"),
    (b'U', "UPnP NAT"),
];

#[cfg(test)]
mod tests {
    use super::client_name;
    use crate::id::PeerId;
    use alloc::string::String;
    use proptest::prelude::*;

    fn name(start: &str) -> Option<String> {
        let mut id = [b'x'; 20];
        id[..start.len()].copy_from_slice(start.as_bytes());
        client_name(&PeerId(id))
    }

    #[test]
    fn known_styles_are_read() {
        for (start, client) in [
            ("-qB4520-", "qBittorrent 4.5.2"),
            ("-LT20B0-", "libtorrent 2.0.11"),
            ("-TR3000-", "Transmission 3.0"),
            ("-FP0100-", "fast-peer 0.1"),
            ("-ZZ1234-", "ZZ 1.2.3.4"),
            ("M7-9-2--", "BitTorrent 7.9.2"),
            ("A2-1-36-0-", "aria2 1.36"),
            ("S58B-----", "Shadow 5.8.11"),
            ("T03I-----", "BitTornado 0.3.18"),
        ] {
            assert_eq!(name(start).as_deref(), Some(client), "{start}");
        }
    }

    #[test]
    fn other_ids_have_no_name() {
        for start in
            ["", "-qB45", "-q 4520-", "-qB4 20-", "M7-9", "M7-900-2--", "S--------", "S5-8-----", "V58B-----"]
        {
            assert_eq!(name(start), None, "{start}");
        }
    }

    proptest! {
        #[test]
        fn a_name_is_fit_to_print(id in any::<[u8; 20]>(), style in 0..4_usize) {
            let mut id = id;
            match style {
                0 => (id[0], id[7]) = (b'-', b'-'),
                1 => (id[0], id[2], id[4]) = (b'M', b'-', b'-'),
                2 => (id[0], id[6], id[7], id[8]) = (b'S', b'-', b'-', b'-'),
                _ => {}
            }
            if let Some(name) = client_name(&PeerId(id)) {
                prop_assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b" .-".contains(&byte)));
            }
        }
    }
}
