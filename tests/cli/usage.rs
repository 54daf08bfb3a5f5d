//! Arguments, inputs and the sample: what needs no peers.

use crate::support::{Content, NOBODY, args, command, files, run};
use std::fs;
use std::path::Path;

fn sample() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/sample.torrent"))
}

fn data() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data"))
}

#[test]
fn the_sample_says_what_it_is() {
    let info = run(args!["info", sample(), "--json"]).ends_with(0).json();
    assert_eq!(info["info_hash"], "7c39e972ab4912f754a614454fdac686e9d4885b");
    assert_eq!((&info["piece_count"], &info["length"]), (&2.into(), &21_474.into()));
    let text = run(args!["info", "--files", sample()]).ends_with(0).text();
    assert!(text.contains("Info Hash: 7c39e972ab4912f754a614454fdac686e9d4885b\n"), "{text}");
    assert!(text.contains("sample/words.txt"), "{text}");
}

#[test]
fn the_sample_matches_its_files() {
    let good = run(args!["verify", sample(), data()]).ends_with(0);
    assert_eq!(good.text(), "sample: 2 of 2 pieces are good\n");
    let good = run(args!["verify", sample(), data().join("sample"), "--json"]).ends_with(0).json();
    assert_eq!((&good["good"], &good["bad"]), (&2.into(), &serde_json::json!([])));
}

#[test]
fn verifying_finds_damage_and_changes_nothing() {
    let content = Content::folder(&[("a", 40_000), ("b", 50_000)]);
    let path = content.original().join("b");
    let mut bytes = fs::read(&path).unwrap();
    bytes[49_999] ^= 1;
    fs::write(&path, bytes).unwrap();
    let before = files(content.root());
    let bad = run(args!["--json", "verify", &content.torrent, content.root()]).ends_with(32);
    let first = bad.text();
    let first: serde_json::Value = serde_json::from_str(first.lines().next().unwrap()).unwrap();
    assert_eq!((&first["good"], &first["bad"]), (&2.into(), &serde_json::json!([2])));
    assert_eq!(files(content.root()), before);
}

#[test]
fn wrong_inputs_have_their_exit_codes() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let no_bencode = path("no-bencode", b"hello");
    let no_torrent = path("no-torrent", b"d4:infod4:name1:xee");
    let missing = folder.path().join("missing");
    let link = format!("magnet:?xt=urn:btih:{}", "0".repeat(39));
    let hash = "0".repeat(40);
    let no_key = path("no-key", b"0123");
    for (args, code) in [
        (&args!["download", &no_bencode][..], 25),
        (&args!["download", &no_torrent], 26),
        (&args!["download", &missing], 15),
        (&args!["download", &link], 27),
        (&args!["download", sample(), sample(), "-o", "x"], 28),
        (&args!["download", sample(), "--files", "4"], 28),
        (&args!["download", sample(), "--port", "9-1"], 28),
        (&args!["download", sample(), "--limit-down", "fast"], 28),
        (&args!["seed", &no_torrent], 26),
        (&args!["verify", sample(), &missing], 15),
        (&args!["handshake", sample(), "nowhere"], 28),
        (&args!["handshake", &missing, "127.0.0.1:1"], 15),
        (&args!["peers", sample()], 28),
        (&args!["scrape", sample()], 28),
        (&args!["piece", sample(), "2", "-o", "x"], 28),
        (&args!["piece", sample(), "0"], 28),
        (&args!["piece", sample(), "0", "-o", sample()], 13),
        (&args!["piece", &link, "0", "-o", "x"], 27),
        (&args!["metadata", &link, "-o", "x"], 27),
        (&args!["metadata", sample(), "-o", "x"], 27),
        (&args!["metadata", &hash, "-o", sample()], 13),
        (&args!["seed", &hash], 27),
        (&args!["info", "--fetch", &link], 27),
        (&args!["handshake", &hash], 28),
        (&args!["peers", &hash, "--source", "dht", "--no-dht"], 28),
        (&args!["peers", &hash, "--source", "rumour"], 28),
        (&args!["download", sample(), "--dht-bootstrap", "nowhere"], 28),
        (&args!["dht", "ping", "nowhere"], 28),
        (&args!["dht", "find-node", "12"], 28),
        (&args!["dht", "announce", &hash], 28),
        (&args!["dht", "get", "12"], 28),
        (&args!["dht", "get-peers", &link], 27),
        (&args!["dht", "put", "x".repeat(1000)], 28),
        (&args!["dht", "put", "--bencode", "x"], 28),
        (&args!["dht", "put", "x", "--seq", "1"], 28),
        (&args!["dht", "put", "x", "--key-file", &no_key], 28),
        (&args!["dht", "put", "x", "--key-file", &missing], 15),
        (&args!["dht", "-o", "x", &link], 27),
        (&args!["download", sample(), "--ip-filter", &missing], 15),
        (&args!["download", sample(), "--ip-filter", &no_bencode], 28),
        (&args!["peers", sample(), "--ip-filter", &missing], 15),
        (&args!["dht", "ping", NOBODY, "--ip-filter", &no_bencode], 28),
        (&args!["handshake", sample(), NOBODY, "--ip-filter", &missing], 15),
    ] {
        let mut json = vec!["--json".into()];
        json.extend(args.iter().cloned());
        let ran = command(&json).current_dir(folder.path()).output().map(crate::support::Ran::from).unwrap();
        assert_eq!(ran.code, code, "{args:?}: {}", ran.stderr);
        assert_eq!(ran.json()["exit"]["code"], code, "{args:?}");
        assert!(ran.stderr.starts_with("fast-peer: ") && ran.stderr.lines().count() == 1, "{}", ran.stderr);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "nothing was created");
}

#[test]
fn a_proxy_that_carries_no_peers_is_refused() {
    for args in [
        &args!["download", sample()][..],
        &args!["seed", sample(), data()],
        &args!["peers", sample()],
        &args!["scrape", sample()],
        &args!["handshake", sample(), "127.0.0.1:1"],
        &args!["piece", sample(), "0", "-o", "-"],
        &args!["dht", "stats"],
        &args!["metadata", "00".repeat(20), "-o", "-"],
        &args!["verify", sample(), data()],
    ] {
        let ran = command(args).env("ALL_PROXY", "http://127.0.0.1:9").output().unwrap();
        assert_eq!(ran.status.code(), Some(28), "{args:?}");
        let said = String::from_utf8_lossy(&ran.stderr);
        assert!(said.contains("ALL_PROXY") && said.contains("SOCKS5"), "{args:?}: {said}");
        let named = run([args, &args!["--proxy", "socks4://127.0.0.1:9"][..]].concat()).ends_with(28);
        assert!(named.stderr.contains("socks4"), "{args:?}: {}", named.stderr);
    }
    for args in [
        args!["peers", sample(), "--proxy", "socks5h://me:secret@host:0"],
        args!["peers", sample(), "--proxy", "me:secret@host"],
    ] {
        let ran = run([&args[..], &args!["--json"][..]].concat()).ends_with(28);
        assert!(!ran.stderr.contains("secret") && !ran.text().contains("secret"), "{}", ran.stderr);
    }
}

#[test]
fn a_proxy_that_is_not_there_is_not_passed_by() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let peer = listener.local_addr().unwrap().to_string();
    let args = args!["handshake", sample(), &peer];
    let ran = command(&args).env("all_proxy", "socks5h://127.0.0.1:9").output().unwrap();
    assert_eq!(ran.status.code(), Some(6));
    assert!(String::from_utf8_lossy(&ran.stderr).contains("127.0.0.1:9 can't be used"), "{ran:?}");
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "nobody came");
    let node = run(args!["dht", "node", "--proxy", "socks5h://127.0.0.1:9", "--port", "0"]).ends_with(28);
    assert!(node.stderr.contains("behind a proxy"), "{}", node.stderr);
    // Whoever says that there is to be none is believed.
    let args = args!["handshake", sample(), NOBODY, "--proxy", ""];
    let ran = command(&args).env("ALL_PROXY", "socks5h://127.0.0.1:9").output().unwrap();
    assert!(String::from_utf8_lossy(&ran.stderr).contains("refused"), "{ran:?}");
}

#[test]
fn an_interface_that_is_not_there_is_an_error() {
    for (interface, said) in [("tun99", "tun99"), ("192.0.2.254", "no interface has the address 192.0.2.254")]
    {
        let ran = run(args!["handshake", sample(), NOBODY, "--interface", interface]).ends_with(6);
        assert!(ran.stderr.contains(said), "{}", ran.stderr);
    }
}

#[test]
fn old_names_and_orders_of_arguments_work() {
    let link = "magnet:?xt=urn:btih:7c39e972ab4912f754a614454fdac686e9d4885b&dn=sample";
    let magnet = run(args!["magnet_parse", link]).ends_with(0).text();
    assert!(magnet.contains("Info Hash: 7c39e972ab4912f754a614454fdac686e9d4885b"), "{magnet}");
    // The option before the torrent, the number behind it; what is wrong is the number.
    let piece = run(args!["download_piece", "-o", "x", sample(), "9"]).ends_with(28);
    assert!(piece.stderr.contains("there is no piece 9"), "{}", piece.stderr);
    let refused = run(args!["nhandshake", sample(), NOBODY]).ends_with(6);
    assert!(refused.stderr.contains("refused"), "{}", refused.stderr);
}

#[test]
fn the_log_goes_where_it_is_sent() {
    let content = Content::file(100_000);
    let log = content.root().join("log");
    let good = run(args!["verify", &content.torrent, content.root(), "-vv", "--log-file", &log]).ends_with(0);
    assert_eq!(good.stderr, "");
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.contains("checked: 4 pieces are good"), "{text}");
    let loud = run(args!["verify", &content.torrent, content.root(), "-vv"]).ends_with(0);
    assert!(loud.stderr.contains("checked: 4 pieces are good"), "{}", loud.stderr);
    let quiet = run(args!["verify", &content.torrent, content.root()]).ends_with(0);
    assert_eq!(quiet.stderr, "");
}
