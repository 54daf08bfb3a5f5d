use super::merkle::{self, Hash};
use super::{Attributes, Error, MAX_BYTES, MAX_DEPTH, Metainfo};
use crate::bencode::{self, ErrorKind};
use crate::lengths::PieceIndex;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{format, vec};
use bytes::Bytes;
use proptest::prelude::*;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// A key and its bencoded value.
type Pair = (&'static str, Vec<u8>);

/// A bencoded string.
fn s(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    [format!("{}:", bytes.len()).as_bytes(), bytes].concat()
}

fn i(int: i64) -> Vec<u8> {
    format!("i{int}e").into_bytes()
}

fn l(items: &[Vec<u8>]) -> Vec<u8> {
    [b"l", &items.concat()[..], b"e"].concat()
}

/// A dictionary with its keys in the order given.
fn d(pairs: &[Pair]) -> Vec<u8> {
    let pairs: Vec<u8> = pairs.iter().flat_map(|(key, value)| [s(key), value.clone()].concat()).collect();
    [b"d", &pairs[..], b"e"].concat()
}

fn torrent(info: Vec<u8>) -> Vec<u8> {
    d(&[("info", info)])
}

/// `info` of a single file, with `more` in place of or behind the usual keys.
fn single(more: &[Pair]) -> Vec<u8> {
    let mut pairs =
        vec![("length", i(5)), ("name", s("file")), ("piece length", i(16384)), ("pieces", s([b'h'; 20]))];
    for (key, value) in more {
        pairs.retain(|(usual, _)| usual != key);
        pairs.push((key, value.clone()));
    }
    d(&pairs.into_iter().filter(|(_, value)| !value.is_empty()).collect::<Vec<_>>())
}

/// `info` of v1 with these files: path and length, and more keys.
fn folder(files: &[(&[&str], i64, &[Pair])]) -> Vec<u8> {
    let total: i64 = files.iter().map(|(_, len, _)| len).sum();
    let entries: Vec<Vec<u8>> = files
        .iter()
        .map(|(path, len, more)| {
            let path: Vec<Vec<u8>> = path.iter().map(s).collect();
            d(&[&[("length", i(*len)), ("path", l(&path))], *more].concat())
        })
        .collect();
    let pieces = vec![b'h'; (total as usize).div_ceil(16384) * 20];
    d(&[("files", l(&entries)), ("name", s("t")), ("piece length", i(16384)), ("pieces", s(pieces))])
}

fn read_info(info: Vec<u8>) -> Result<Metainfo, Error> {
    Metainfo::parse(&torrent(info))
}

fn paths(metainfo: &Metainfo) -> Vec<String> {
    metainfo.files().iter().map(|file| file.path.to_string()).collect()
}

fn error(info: Vec<u8>) -> Error {
    read_info(info).unwrap_err()
}

#[test]
fn a_single_file() {
    let info = single(&[("private", i(1))]);
    let read = Metainfo::parse(&[&torrent(info.clone())[..], b"\n"].concat()).unwrap();
    assert_eq!((read.name(), paths(&read)), ("file", vec!["file".to_string()]));
    assert_eq!(read.info_hash().unwrap().0, <[u8; 20]>::from(Sha1::digest(&info)));
    assert_eq!((read.info_hash_v2(), read.swarm_hash()), (None, read.info_hash().unwrap()));
    assert_eq!(read.info(), &info);
    assert!(read.is_private());
    let piece = read.lengths().piece(0).unwrap();
    assert_eq!((read.lengths().piece_len(piece), read.piece_hash(piece)), (5, Some([b'h'; 20])));
    assert_eq!(read.piece_root(piece), None);
}

/// BEP 3: the hash is over the bytes as they are, "regardless of it being invalid".
#[test]
fn the_infohash_is_over_the_bytes_as_they_stand() {
    let info =
        b"d4:name4:file06:lengthi05e12:piece lengthi16384e6:pieces20:hhhhhhhhhhhhhhhhhhhh4:name5:twicee";
    let read = read_info(info.to_vec()).unwrap();
    assert_eq!(read.info_hash().unwrap().0, <[u8; 20]>::from(Sha1::digest(info)));
    assert_eq!(read.name(), "file");
    let same = Metainfo::from_info(Bytes::from_static(info)).unwrap();
    assert_eq!(same.info_hash(), read.info_hash());
}

#[test]
fn what_makes_no_torrent_is_told_apart() {
    assert!(matches!(
        Metainfo::parse(b"d4:info"),
        Err(Error::Bencode(bencode::Error { offset: 7, kind: ErrorKind::UnexpectedEnd }))
    ));
    assert_eq!(Metainfo::parse(b"4:text").unwrap_err(), Error::NotDictionary);
    assert_eq!(Metainfo::parse(b"de").unwrap_err(), Error::MissingInfo);
    assert_eq!(Metainfo::parse(&torrent(s("info"))).unwrap_err(), Error::MissingInfo);
    assert_eq!(Metainfo::parse(&vec![b'd'; MAX_BYTES + 1]).unwrap_err(), Error::TooLong);
    let none = || vec![];
    for (change, expected) in [
        (("name", none()), Error::MissingName),
        (("name", i(1348)), Error::MissingName),
        (("name", s("..")), Error::MissingName),
        (("name", s("\0\0\0\0")), Error::MissingName),
        (("piece length", none()), Error::PieceLength),
        (("piece length", s("16384")), Error::PieceLength),
        (("piece length", i(0)), Error::PieceLength),
        (("piece length", i(-16384)), Error::PieceLength),
        (("piece length", i((1 << 32) + 16384)), Error::PieceLength),
        (("length", none()), Error::InvalidLength),
        (("length", s("5")), Error::InvalidLength),
        (("length", i(-425)), Error::InvalidLength),
        (("pieces", none()), Error::MissingPieces),
        (("pieces", i(1)), Error::MissingPieces),
        (("pieces", s([b'h'; 24])), Error::WrongPieceCount),
        (("pieces", s([b'h'; 40])), Error::WrongPieceCount),
        (("pieces", s("")), Error::WrongPieceCount),
        (("meta version", i(3)), Error::UnknownVersion),
        (("file tree", d(&[])), Error::MissingMetaVersion),
        (("files", l(&[])), Error::NoFiles),
        (("files", l(&[s("file")])), Error::InvalidPath),
        (("files", l(&[d(&[("length", i(5))])])), Error::MissingName),
        (("files", l(&[d(&[("length", i(5)), ("path", l(&[i(1)]))])])), Error::InvalidPath),
        (("files", l(&[d(&[("length", i(-45)), ("path", l(&[s("a")]))])])), Error::InvalidLength),
    ] {
        let shown = format!("{}: {}", change.0, change.1.escape_ascii());
        assert_eq!(error(single(&[change])), expected, "{shown}");
    }
    let too_many = single(&[("length", i(1_759_218_597_889))]);
    assert!(matches!(error(too_many), Error::TooManyPieces(_)));
    let half = i64::MAX / 2 + 1;
    assert_eq!(
        error(single(&[("files", l(&vec![d(&[("length", i(half)), ("path", l(&[s("a")]))]); 4]))])),
        Error::InvalidLength,
        "the sum of the lengths overflows"
    );
}

#[test]
fn odd_piece_lengths_and_empty_torrents_are_fine_in_v1() {
    let odd = read_info(single(&[("piece length", i(3)), ("pieces", s([b'h'; 40]))])).unwrap();
    assert_eq!(odd.lengths().piece_count(), 2);
    let largest = read_info(single(&[("piece length", i(536_854_528))])).unwrap();
    assert_eq!(largest.lengths().piece_len_max(), 536_854_528);
    let empty = read_info(single(&[("length", i(0)), ("pieces", s(""))])).unwrap();
    assert_eq!((empty.lengths().piece_count(), empty.files().len()), (0, 1));
}

#[test]
fn paths_stay_below_the_folder_and_apart() {
    let read = read_info(folder(&[
        (&["..", "..", "bar"], 1, &[]),
        (&["/foobar"], 1, &[]),
        (&["", ""], 1, &[]),
        (&["dir", "f.txt"], 1, &[]),
        (&["dir", "F.txt"], 1, &[]),
        (&["dir"], 1, &[]),
    ]))
    .unwrap();
    let expected = ["t/_/_/bar", "t/foobar", "t/_/_.1", "t/dir/f.txt", "t/dir/F.1.txt", "t/dir.1"];
    assert_eq!(paths(&read), expected);

    let files = l(&[d(&[("length", i(5)), ("path", l(&[s("a")]))])]);
    let unnamed = read_info(single(&[("name", s("..")), ("files", files)])).unwrap();
    assert_eq!(unnamed.name(), unnamed.info_hash().unwrap().to_string());

    let deep = vec!["d"; MAX_DEPTH];
    assert!(read_info(folder(&[(&deep, 1, &[])])).is_ok());
    assert_eq!(error(folder(&[(&[&deep[..], &["d"]].concat(), 1, &[])])), Error::DirectoryTooDeep);
    let alike: Vec<_> = (0..118).map(|_| (&["a"][..], 0, &[][..])).collect();
    assert_eq!(error(folder(&alike)), Error::TooManyRenames);
}

#[test]
fn utf_8_forms_of_names_win() {
    let read = read_info(single(&[
        ("name", s(b"\x95\xca")),
        ("name.utf-8", s("別")),
        ("files", l(&[d(&[("length", i(5)), ("path", l(&[s(b"\x95")])), ("path.utf-8", l(&[s("の")]))])])),
    ]));
    assert_eq!(paths(&read.unwrap()), ["別/の"]);
}

#[test]
fn attributes_padding_and_links() {
    let read = read_info(folder(&[
        (&["a"], 5, &[("attr", s("xh?"))]),
        (&[], 16379, &[("attr", s("p"))]),
        (&["_____padding_file_0_"], 7, &[]),
        (&["l"], 0, &[("attr", s("l")), ("symlink path", l(&[s(".."), s("a")]))]),
        (&["out"], 0, &[("attr", s("l")), ("symlink path", l(&[s(".."), s("etc")]))]),
        (&["bare"], 0, &[("attr", s("l"))]),
    ]))
    .unwrap();
    let files = read.files();
    assert_eq!(files[0].attributes, Attributes { executable: true, hidden: true, ..Attributes::default() });
    assert_eq!((files[1].path.to_string(), files[1].attributes.pad), (".pad/16379".into(), true));
    assert!(files[2].attributes.pad, "BitComet's");
    assert_eq!(files[3].symlink.as_ref().unwrap().as_str(), "t/a");
    assert!(files[4].attributes.symlink && files[4].symlink.is_none());
    assert!(!files[5].attributes.symlink, "a link without a target is an empty file");
    assert_eq!((read.lengths().total(), read.len_without_padding()), (16391, 5));
}

#[test]
fn sources_are_read_from_every_form_they_come_in() {
    let read = |pairs: &[Pair]| Metainfo::parse(&d(&[pairs, &[("info", single(&[]))]].concat())).unwrap();
    let lists = read(&[
        ("announce", s("http://ignored/")),
        (
            "announce-list",
            l(&[l(&[s("http://a/"), s("junk"), s(" udp://b:1 ")]), l(&[]), s("http://flat/"), i(7)]),
        ),
        ("comment", s("")),
        ("comment.utf-8", s(b"c\xff")),
        ("created by", s("me")),
        ("creation date", i(1_234_567)),
        ("nodes", l(&[l(&[s("127.0.0.1"), i(6881)]), l(&[s("bad"), i(0)]), l(&[s("short")]), i(1)])),
        ("url-list", l(&[s("http://w/a b"), s(""), i(-1), s("http://w/a b"), l(&[])])),
    ]);
    assert_eq!(lists.trackers(), [vec!["http://a/", "udp://b:1"], vec!["http://flat/"]]);
    assert_eq!((lists.comment(), lists.created_by()), (Some("c\u{fffd}"), Some("me")));
    assert_eq!(lists.creation_date(), Some(1_234_567));
    assert_eq!(lists.nodes(), [("127.0.0.1".into(), 6881)]);
    assert_eq!(lists.web_seeds(), ["http://w/a%20b"]);

    let plain = read(&[
        ("announce", s("\t http://a/")),
        ("announce-list", l(&[l(&[s("nothing")])])),
        ("creation date", i(-1)),
        ("private", i(1)),
        ("url-list", s("http://w")),
    ]);
    assert_eq!(plain.trackers(), [["http://a/"]]);
    assert_eq!(plain.web_seeds(), ["http://w"]);
    assert_eq!((plain.creation_date(), plain.is_private(), plain.comment()), (None, false, None));
}

/// The leaf of a file tree for `len` bytes of `a`, and its piece layer.
fn tree_file(len: usize, piece_len: usize) -> (Vec<u8>, Hash, Vec<u8>) {
    let leaves: Vec<Hash> = vec![b'a'; len].chunks(16384).map(merkle::leaf).collect();
    let root = merkle::root(&leaves, 0, (leaves.len() as u32).next_power_of_two());
    let per_piece = piece_len / 16384;
    let layer =
        leaves.chunks(per_piece).flat_map(|leaves| merkle::root(leaves, 0, per_piece as u32)).collect();
    let properties = d(&[("length", i(len as i64)), ("pieces root", s(root))]);
    (d(&[("", properties)]), root, layer)
}

fn tree_info(tree: Vec<u8>) -> Vec<u8> {
    d(&[("file tree", tree), ("meta version", i(2)), ("name", s("t")), ("piece length", i(32768))])
}

fn leaves_of(piece: &[u8]) -> Vec<Hash> {
    piece.chunks(16384).map(merkle::leaf).collect()
}

#[test]
fn pieces_of_v2_are_proved_by_their_leaves() {
    let (long, root, layer) = tree_file(80_000, 32768);
    let (short, ..) = tree_file(20_000, 32768);
    let empty = d(&[("", d(&[("length", i(0))]))]);
    let info = tree_info(d(&[("a", long), ("b", empty), ("c", d(&[("d", short)]))]));
    let layers = [&b"d"[..], &s(root), &s(&layer), b"e"].concat();
    let read = Metainfo::parse(&d(&[("info", info.clone()), ("piece layers", layers)])).unwrap();
    assert_eq!(paths(&read), ["t/a", "t/b", "t/c/d"]);
    assert_eq!(read.info_hash(), None);
    let hash = <[u8; 32]>::from(Sha256::digest(&info));
    assert_eq!((read.info_hash_v2().unwrap().0, &read.swarm_hash().0[..]), (hash, &hash[..20]));
    assert_eq!(read.missing_layers().count(), 0);

    let pieces: Vec<PieceIndex> = read.lengths().pieces().collect();
    assert_eq!(pieces.len(), 4, "three of the long file, one of the short");
    for piece in pieces {
        let len = read.lengths().piece_len(piece);
        let expected = read.piece_root(piece).unwrap();
        assert_eq!((expected.len, read.piece_hash(piece)), (len, None));
        assert!(expected.verify(&leaves_of(&vec![b'a'; len as usize])), "piece {piece}");
        assert!(!expected.verify(&leaves_of(&vec![b'b'; len as usize])), "piece {piece}");
    }

    let mut bare = Metainfo::from_info(info.into()).unwrap();
    assert_eq!(bare.missing_layers().collect::<Vec<_>>(), [(&root, 80_000)]);
    assert_eq!(bare.piece_root(bare.lengths().piece(0).unwrap()), None);
    assert_eq!(bare.insert_layer(&root, &layer[32..]), Err(Error::InvalidPieceLayer));
    bare.insert_layer(&root, &layer).unwrap();
    assert_eq!(bare.missing_layers().count(), 0);
}

#[test]
fn the_file_of_a_tree_with_one_leaf_has_no_folder() {
    let (file, ..) = tree_file(5, 32768);
    let read = read_info(tree_info(d(&[("/one", file.clone())]))).unwrap();
    assert_eq!(paths(&read), ["one"]);
    let read = read_info(tree_info(d(&[("dir", d(&[("one", file)]))]))).unwrap();
    assert_eq!(paths(&read), ["t/dir/one"]);
}

#[test]
fn trees_that_make_no_torrent_are_told_apart() {
    let leaf = |properties: &[Pair]| d(&[("f", d(&[("", d(properties))]))]);
    let (file, root, layer) = tree_file(80_000, 32768);
    for (tree, expected) in [
        (d(&[]), Error::NoFiles),
        (d(&[("f", i(1))]), Error::InvalidFileTree),
        (d(&[("f", d(&[("length", i(5))]))]), Error::InvalidFileTree),
        (d(&[("", file.clone())]), Error::InvalidFileTree),
        (d(&[("f", d(&[("", i(1))]))]), Error::InvalidFileTree),
        (leaf(&[("length", i(-1))]), Error::InvalidLength),
        (leaf(&[("length", i((1 << 44) - 16384)), ("pieces root", s([1; 32]))]), Error::InvalidLength),
        (leaf(&[("length", i(5))]), Error::MissingPiecesRoot),
        (leaf(&[("length", i(5)), ("pieces root", s([1; 31]))]), Error::MissingPiecesRoot),
        (leaf(&[("length", i(5)), ("pieces root", s([1; 33]))]), Error::MissingPiecesRoot),
        (leaf(&[("length", i(5)), ("pieces root", s([0; 32]))]), Error::MissingPiecesRoot),
        (leaf(&[("attr", s("p")), ("length", i(5)), ("pieces root", s([1; 32]))]), Error::PadInTree),
    ] {
        assert_eq!(error(tree_info(tree.clone())), expected, "{}", tree.escape_ascii());
    }
    let canonical = tree_info(d(&[("a", file.clone()), ("b", file.clone())]));
    assert!(read_info(canonical).is_ok(), "equal files share a root");
    let unsorted = tree_info(d(&[("b", file.clone()), ("a", file.clone())]));
    assert!(matches!(error(unsorted), Error::NotCanonical(quirks) if quirks.unsorted_keys));
    for piece_len in [8192, 32767, 1 << 29] {
        let info = d(&[
            ("file tree", d(&[("a", file.clone())])),
            ("meta version", i(2)),
            ("name", s("t")),
            ("piece length", i(piece_len)),
        ]);
        assert_eq!(error(info), Error::PieceLength, "{piece_len}");
    }
    let other_len = leaf(&[("length", i(90_000)), ("pieces root", s(root))]);
    let two_lengths = [&b"d1:a"[..], &file, &other_len[1..]].concat();
    assert_eq!(error(tree_info(two_lengths)), Error::InvalidPieceLayer, "one root, two lengths");

    let info = tree_info(d(&[("f", file)]));
    for layers in [
        [&s([1; 32])[..], &s(&layer)].concat(),
        [&s([&root[..], &[0]].concat())[..], &s(&layer)].concat(),
        [&s(root)[..], &i(1)].concat(),
        [&s(root)[..], &s(&layer[1..])].concat(),
        [&s(root)[..], &s([&layer[..], &[0; 32]].concat())].concat(),
        [&s(root)[..], &s(vec![0; layer.len()])].concat(),
    ] {
        let layers = [b"d", &layers[..], b"e"].concat();
        let read = Metainfo::parse(&d(&[("info", info.clone()), ("piece layers", layers)]));
        assert_eq!(read.unwrap_err(), Error::InvalidPieceLayer);
    }
}

/// `info` of a hybrid with two files of 20,000 bytes, the v1 half as given: path, length, padding.
fn hybrid(flat: &[(&str, i64, bool)]) -> Vec<u8> {
    let (file, ..) = tree_file(20_000, 32768);
    let total: i64 = flat.iter().map(|(_, len, _)| len).sum();
    let entries: Vec<Vec<u8>> = flat
        .iter()
        .map(|(name, len, pad)| {
            let mut pairs = vec![("length", i(*len)), ("path", l(&[s(name)]))];
            if *pad {
                pairs.insert(0, ("attr", s("p")));
            }
            d(&pairs)
        })
        .collect();
    d(&[
        ("file tree", d(&[("a", file.clone()), ("b", file)])),
        ("files", l(&entries)),
        ("meta version", i(2)),
        ("name", s("t")),
        ("piece length", i(32768)),
        ("pieces", s(vec![b'h'; (total as usize).div_ceil(32768) * 20])),
    ])
}

#[test]
fn the_halves_of_a_hybrid_agree_or_are_refused() {
    let pad = ("12768", 12_768, true);
    for flat in [
        &[("a", 20_000, false), pad, ("b", 20_000, false)][..],
        &[("a", 20_000, false), pad, ("b", 20_000, false), pad],
        &[("a", 20_000, false), ("empty", 0, false), pad, ("b", 20_000, false)],
    ] {
        let read = read_info(hybrid(flat)).unwrap();
        assert!(read.info_hash().is_some() && read.info_hash_v2().is_some());
        assert_eq!(read.swarm_hash(), read.info_hash().unwrap());
        for piece in read.lengths().pieces() {
            assert_eq!(read.piece_hash(piece), Some([b'h'; 20]));
            let root = read.piece_root(piece).unwrap();
            assert_eq!((root.len, root.width), (20_000, 2), "padding has no leaves");
            assert!(root.verify(&leaves_of(&[b'a'; 20_000])));
        }
    }
    for flat in [
        &[("a", 20_000, false), ("b", 20_000, false)][..],
        &[("a", 20_000, false), ("12779", 12_779, true), ("b", 20_000, false)],
        &[("a", 20_000, false), ("45536", 45_536, true), ("b", 20_000, false)],
        &[("a", 20_000, false), pad, ("c", 20_000, false)],
        &[("a", 20_000, false), pad, ("b", 20_001, false)],
        &[("b", 20_000, false), pad, ("a", 20_000, false)],
        &[("a", 20_000, false), pad, ("b", 20_000, false), pad, ("c", 1, false)],
        &[("a", 20_000, false)],
    ] {
        assert_eq!(error(hybrid(flat)), Error::InconsistentFiles, "{flat:?}");
    }
}

proptest! {
    /// A torrent with one byte changed gets far into the parser.
    #[test]
    fn no_bytes_panic(at in any::<prop::sample::Index>(), byte in any::<u8>(), kind in 0..3) {
        let mut bytes = torrent(match kind {
            0 => folder(&[(&["a", "b"], 20_000, &[("attr", s("x"))]), (&["l"], 0, &[("attr", s("l")), ("symlink path", l(&[s("a")]))])]),
            1 => tree_info(d(&[("a", tree_file(80_000, 32768).0), ("b", tree_file(5, 32768).0)])),
            _ => hybrid(&[("a", 20_000, false), ("12768", 12_768, true), ("b", 20_000, false)]),
        });
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(read) = Metainfo::parse(&bytes) {
            for piece in read.lengths().pieces() {
                prop_assert_eq!(read.piece_hash(piece).is_some(), read.info_hash().is_some());
                let root = read.piece_root(piece);
                prop_assert!(root.is_none_or(|root| root.leaf_count() <= root.width));
            }
        }
    }
}
