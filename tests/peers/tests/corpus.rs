//! Torrents and magnet links that others made, and what libtorrent says about them.
//!
//! The binary must stand beside this test (`cargo build` before `cargo test -p peers`), the corpus in `../shared` or
//! where `FAST_PEER_SHARED` points.

use fast_peer_core::lengths::PieceIndex;
use fast_peer_core::metainfo::{FilePath, Metainfo, merkle};
use peers::corpus::{read_json, shared};
use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs};

/// A place where we say something else than libtorrent, on purpose.
struct Difference {
    /// The name of the torrent without `.torrent`, or the id of the magnet link.
    id: &'static str,
    key: &'static str,
    /// What we say, as JSON.
    ours: &'static str,
}

const fn differs(id: &'static str, key: &'static str, ours: &'static str) -> Difference {
    Difference { id, key, ours }
}

const TOLERATED: &[(&str, &[Difference])] = &[
    (
        "there is nothing wrong with a torrent of empty files: they are created",
        &[
            differs("arvidn_libtorrent--zero", "accepts", "true"),
            differs("arvidn_libtorrent--zero2", "accepts", "true"),
            differs("fbdtemme_torrenttools--collection", "accepts", "true"),
            differs("fbdtemme_torrenttools--dht-node", "accepts", "true"),
            differs("fbdtemme_torrenttools--http-seeds", "accepts", "true"),
            differs("fbdtemme_torrenttools--test_file.txt", "accepts", "true"),
        ],
    ),
    (
        "libtorrent renames the second of two equal paths too, but its view shows the names from before",
        &[
            differs("arvidn_libtorrent--empty_path_multi", "files/2/path", r#""temp/_.1""#),
            differs("arvidn_libtorrent--v2_invalid_filename2", "files/1/path", r#""test/_.1""#),
            differs(
                "transmission_transmission--dup-files",
                "files/2/path",
                r#""ThisIsMyTorrent/file1.1.txt""#,
            ),
        ],
    ),
    (
        "a space behind a tracker's URL is no reason to lose the tracker",
        &[
            differs("aria2_aria2--single", "trackers", r#"[["http://aria.rednoah.com/announce.php"]]"#),
            differs(
                "aria2_aria2--test",
                "trackers",
                r#"[["http://tracker1"],["http://tracker2"],["http://tracker3"]]"#,
            ),
            differs(
                "aria2_aria2--utf8",
                "trackers",
                r#"[["http://tracker1"],["http://tracker2"],["http://tracker3"]]"#,
            ),
        ],
    ),
    (
        "a parameter without a value does not swallow the one behind it",
        &[differs("288aac04", "name", r#""Display Name""#), differs("1965bb77", "name", r#""Display Name""#)],
    ),
    ("a peer may be given by name (BEP 9)", &[differs("cebab514", "peers", r#"[["foo.com",1337]]"#)]),
    (
        "a hash of zeros is a hash",
        &[differs("7af7dc42", "info_hash", r#""0000000000000000000000000000000000000000""#)],
    ),
];

#[test]
fn torrents_are_read_as_libtorrent_reads_them() {
    let expected = read_folder(&shared().join("corpus/expected"));
    let torrents = expected.into_iter().filter(|path| !path.ends_with("magnets.json"));
    let mut comparison = Comparison::default();
    for path in torrents {
        let expected = read_json(&path);
        let theirs = &expected["libtorrent"];
        let file = expected["file"].as_str().expect("each view names its torrent");
        let id = file.strip_suffix(".torrent").expect("torrents end in .torrent");
        let rejected = theirs["error"].as_str().unwrap_or_default();
        let exit = if rejected.contains("[bdecode:") { 25 } else { 26 };
        let input = shared().join("corpus/torrents").join(file);
        let ours = view(input.as_os_str(), exit);
        comparison.add(id, torrent_keys(&ours), torrent_keys(&their_torrent(theirs)));
    }
    comparison.finish(161);
}

#[test]
fn magnet_links_are_read_as_libtorrent_reads_them() {
    let mut comparison = Comparison::default();
    for magnet in read_json(&shared().join("corpus/expected/magnets.json")).as_array().expect("a list") {
        let id = magnet["id"].as_str().expect("each link has an id");
        let link = magnet["uri"].as_str().expect("each link is a text");
        let ours = view(link.as_ref(), 27);
        comparison.add(id, magnet_keys(ours), magnet_keys(their_magnet(&magnet["libtorrent"])));
    }
    comparison.finish(91);
}

#[test]
fn content_passes_the_hashes_of_its_torrent() {
    let corpus = shared().join("corpus");
    let mut checked = 0;
    for entry in read_json(&corpus.join("content/INDEX.json")).as_array().expect("a list") {
        let torrent = entry["torrent"].as_str().expect("each entry names its torrent");
        let torrent = Metainfo::parse(&fs::read(corpus.join(torrent)).unwrap()).expect("libtorrent takes it");
        let payload = entry["payload"].as_str().expect("each entry says where its payload is");
        let content = match payload.strip_prefix("content/") {
            Some(folder) => Content::In(corpus.join("content").join(folder)),
            None if payload.starts_with("every file is all zero bytes") => Content::Zeros,
            None => continue,
        };
        for piece in torrent.lengths().pieces() {
            check_piece(&torrent, piece, &content);
        }
        checked += 1;
    }
    assert_eq!(checked, 13, "torrents with content at hand");
}

/// Where the bytes of files come from.
enum Content {
    In(PathBuf),
    Zeros,
}

impl Content {
    fn read(&self, path: &FilePath, from: u64, len: u64) -> Vec<u8> {
        match self {
            Self::Zeros => vec![0; len as usize],
            Self::In(folder) => {
                let file = folder.join(path.as_str());
                let bytes = fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
                bytes[from as usize..(from + len) as usize].to_vec()
            }
        }
    }
}

fn check_piece(torrent: &Metainfo, piece: PieceIndex, content: &Content) {
    let mut bytes = vec![];
    for span in torrent.file_map().spans(piece, 0, torrent.lengths().piece_len(piece)) {
        let file = &torrent.files()[span.file.as_usize()];
        bytes.extend(content.read(&file.path, span.offset, span.len.into()));
    }
    let name = torrent.name();
    if let Some(hash) = torrent.piece_hash(piece) {
        assert_eq!(hash, <[u8; 20]>::from(Sha1::digest(&bytes)), "{name}: piece {piece}");
    }
    if torrent.info_hash_v2().is_some() {
        let root = torrent.piece_root(piece).expect("the corpus has all piece layers of these");
        let leaves: Vec<_> = bytes[..root.len as usize].chunks(16 << 10).map(merkle::leaf).collect();
        assert!(root.verify(&leaves), "{name}: piece {piece}");
    }
}

/// All that differs is collected first, so that one run shows everything.
#[derive(Default)]
struct Comparison {
    ids: Vec<String>,
    tolerated: usize,
    unexplained: Vec<String>,
}

impl Comparison {
    fn add(&mut self, id: &str, ours: BTreeMap<String, Value>, theirs: BTreeMap<String, Value>) {
        let mut keys: Vec<&String> = ours.keys().chain(theirs.keys()).collect();
        // Where only one side accepts, there is nothing else to compare.
        if ours["accepts"] != theirs["accepts"] {
            keys.retain(|key| *key == "accepts");
        }
        keys.sort();
        keys.dedup();
        for key in keys {
            let (our, their) = (ours.get(key), theirs.get(key));
            if our == their {
                continue;
            }
            let shown = our.map(Value::to_string).unwrap_or_default();
            let mut known = TOLERATED.iter().flat_map(|(_, differences)| *differences);
            if known.any(|known| known.id == id && known.key == key && known.ours == shown) {
                self.tolerated += 1;
            } else {
                self.unexplained.push(format!(
                    "{id}: {key}: we say {shown}, libtorrent {}",
                    their.unwrap_or(&Value::Null)
                ));
            }
        }
        self.ids.push(id.to_string());
    }

    fn finish(self, count: usize) {
        assert!(self.unexplained.is_empty(), "\n{}", self.unexplained.join("\n"));
        assert_eq!(self.ids.len(), count, "the corpus is complete");
        let all = TOLERATED.iter().flat_map(|(_, differences)| *differences);
        let ours = all.filter(|difference| self.ids.iter().any(|id| id == difference.id)).count();
        assert_eq!(self.tolerated, ours, "every difference in the table is still there");
    }
}

/// What the binary says; where it refuses, it must do so with `exit` and one line.
fn view(input: &std::ffi::OsStr, exit: i32) -> Value {
    let binary = binary();
    let Output { status, stdout, stderr } =
        Command::new(&binary).args(["info", "--json"]).arg(input).output().expect("the binary runs");
    let json: Value = serde_json::from_slice(&stdout).expect("standard output is JSON");
    if status.success() {
        assert_eq!(stderr, b"", "{}", input.display());
        return json;
    }
    let stderr = String::from_utf8(stderr).expect("messages are UTF-8");
    assert_eq!(status.code(), Some(exit), "{}: {stderr}", input.display());
    assert!(stderr.starts_with("fast-peer: ") && stderr.matches('\n').count() == 1, "one line: {stderr}");
    assert_eq!(json["exit"]["code"], exit);
    json
}

fn accepted(view: &Value) -> BTreeMap<String, Value> {
    BTreeMap::from([("accepts".into(), view.get("exit").is_none().into())])
}

/// The keys to compare of a view in our form.
fn torrent_keys(view: &Value) -> BTreeMap<String, Value> {
    let mut keys = accepted(view);
    if view.get("exit").is_some() {
        return keys;
    }
    for (key, value) in view.as_object().expect("a view is an object") {
        if key != "files" {
            keys.insert(key.clone(), value.clone());
        }
    }
    // libtorrent shuffles within a tier, and the corpus sorts.
    let tiers = keys.get_mut("trackers").and_then(Value::as_array_mut).expect("trackers are a list");
    for tier in tiers {
        tier.as_array_mut().expect("a tier is a list").sort_by_key(Value::to_string);
    }
    // libtorrent shows padding that v2 implies; in v1 it is part of the torrent.
    let is_v2 = !view["info_hash_v2"].is_null();
    let files = view["files"].as_array().expect("files are a list").iter();
    let shown = files.filter(|file| !is_v2 || !file["attr"].as_str().is_some_and(|attr| attr.contains('p')));
    for (i, file) in shown.enumerate() {
        for (key, value) in file.as_object().expect("a file is an object") {
            keys.insert(format!("files/{i}/{key}"), value.clone());
        }
    }
    keys
}

/// libtorrent's view of a torrent in our form.
fn their_torrent(view: &Value) -> Value {
    if view["accepts"] == false {
        return json!({ "exit": {} });
    }
    let mut ours = view.clone();
    let object = ours.as_object_mut().expect("a view is an object");
    for key in ["accepts", "http_seeds", "length_without_pads"] {
        object.remove(key);
    }
    object.insert("length".into(), view["length_without_pads"].clone());
    for key in ["comment", "created_by"] {
        object.insert(key.into(), if view[key] == "" { Value::Null } else { view[key].clone() });
    }
    ours
}

fn magnet_keys(mut view: Value) -> BTreeMap<String, Value> {
    let mut keys = accepted(&view);
    if view.get("exit").is_none() {
        let object = view.as_object_mut().expect("a view is an object");
        object.remove("magnet");
        keys.extend(std::mem::take(object));
    }
    keys
}

/// libtorrent's view of a magnet link in our form.
fn their_magnet(view: &Value) -> Value {
    if view["accepts"] == false {
        return json!({ "exit": {} });
    }
    let mut ours = view.clone();
    let object = ours.as_object_mut().expect("a view is an object");
    object.remove("accepts");
    if view["name"] == "" {
        object.insert("name".into(), Value::Null);
    }
    if let Some(files) = view["select_only"].as_array() {
        let numbers: Vec<u64> = files.iter().filter_map(Value::as_u64).collect();
        object.insert("select_only".into(), in_ranges(&numbers).into());
    }
    ours
}

/// `0,2,4,6-8` of 0, 2, 4, 6, 7, 8.
fn in_ranges(numbers: &[u64]) -> String {
    let runs = numbers.chunk_by(|before, after| before + 1 == *after);
    let shown = runs.map(|run| match run {
        [one] => one.to_string(),
        run => format!("{}-{}", run[0], run[run.len() - 1]),
    });
    shown.collect::<Vec<_>>().join(",")
}

/// This test lies in `deps`, one folder below the binary.
fn binary() -> PathBuf {
    let test = env::current_exe().expect("a test knows where it is");
    let folder = test.ancestors().nth(2).expect("a test lies two folders deep");
    let binary = folder.join(format!("fast-peer{}", env::consts::EXE_SUFFIX));
    assert!(binary.is_file(), "{}: not there; run `cargo build` first", binary.display());
    binary
}

fn read_folder(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.expect("the folder can be read").path()).collect();
    paths.sort();
    paths
}
