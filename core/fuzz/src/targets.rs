//! One function a target: it takes any bytes, and panics where a promise of the core is broken.

use bendy::encoding::{Encoder, Error, SingleItemEncoder};
use fast_peer_core::bencode::{Document, Limits, Value};
use fast_peer_core::magnet::{self, Magnet};
use fast_peer_core::metainfo::{self, Metainfo};

/// Takes any bytes.
pub type Target = fn(&[u8]);

/// All targets by name; the corpus of each lies in the folder of that name in `core/fuzz/corpus`.
pub const TARGETS: &[(&str, Target)] =
    &[("bencode", bencode), ("magnet", magnet), ("metainfo", metainfo), ("path_sanitise", path_sanitise)];

/// What is read without a quirk is what bendy writes for the same values.
pub fn bencode(data: &[u8]) {
    let Ok(document) = Document::parse(data, Limits::FILE) else { return };
    assert!(document.end() <= data.len());
    if document.quirks().is_empty() {
        let mut encoder = Encoder::new();
        encoder.emit_with(|to| encode(document.root(), to)).expect("canonical values can be written");
        assert_eq!(encoder.get_output().expect("one value was written"), document.raw());
    }
}

/// A link that is read can be written, and is then read alike.
pub fn magnet(data: &[u8]) {
    let Ok(link) = str::from_utf8(data) else { return };
    let Ok(magnet) = Magnet::parse(link) else { return };
    assert!(magnet.swarm_hash().is_some());
    let written = magnet.to_string();
    if written.len() <= magnet::MAX_BYTES {
        assert_eq!(Magnet::parse(&written), Ok(magnet));
    }
}

/// A torrent that is read has harmless paths and a hash for every piece, and its `info` alone makes the same torrent.
pub fn metainfo(data: &[u8]) {
    let Ok(torrent) = Metainfo::parse(data) else { return };
    for file in torrent.files() {
        file.path.iter().for_each(|component| assert_harmless(component));
        file.symlink.iter().flatten().for_each(|component| assert_harmless(component));
    }
    for piece in torrent.lengths().pieces() {
        assert_eq!(torrent.piece_hash(piece).is_some(), torrent.info_hash().is_some());
        if let Some(root) = torrent.piece_root(piece) {
            assert!(root.len > 0 && root.leaf_count() <= root.width);
        }
        let len = torrent.lengths().piece_len(piece);
        let spans: u64 = torrent.file_map().spans(piece, 0, len).map(|span| u64::from(span.len)).sum();
        assert_eq!(spans, u64::from(len));
    }
    let alone = Metainfo::from_info(torrent.info().clone()).expect("its info was read before");
    assert_eq!(alone.swarm_hash(), torrent.swarm_hash());
    assert_eq!(alone.files(), torrent.files());
    assert!(Magnet::from(&torrent).swarm_hash().is_some());
}

/// A component stays one component, and cleaning it again changes nothing.
pub fn path_sanitise(data: &[u8]) {
    let clean = metainfo::sanitise_or_underscore(data);
    assert_harmless(&clean);
    assert_eq!(metainfo::sanitise_or_underscore(clean.as_bytes()), clean);
}

fn assert_harmless(component: &str) {
    assert!(!matches!(component, "" | "." | ".."), "{component:?}");
    assert!(!component.contains(['/', '\\']) && !component.chars().any(char::is_control), "{component:?}");
    assert!(component.len() <= 255, "{component:?}");
}

fn encode(value: Value<'_>, to: SingleItemEncoder<'_>) -> Result<(), Error> {
    match value {
        Value::Int(int) => to.emit_int(int),
        Value::Bytes(bytes) => to.emit_bytes(bytes),
        Value::List(list) => {
            to.emit_list(|to| list.iter().try_for_each(|item| to.emit_with(|to| encode(item, to))))
        }
        Value::Dict(dict) => to.emit_dict(|mut to| {
            dict.iter().try_for_each(|(key, value)| to.emit_pair_with(key, |to| encode(value, to)))
        }),
    }
}
