//! Without a tracker: magnet links, the DHT, and what is kept between runs.

use crate::support::{Content, NOBODY, Nodes, Ran, Seeder, Tracker, args, command, files, run};
use serde_json::Value;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

/// Options with which nothing but loopback is used, and the run ends when nothing comes.
fn here() -> [OsString; 6] {
    args!["--bind", "127.0.0.1", "--port", "0", "--stop-timeout", "20"]
}

fn link(content: &Content) -> String {
    run(args!["magnet", &content.torrent]).ends_with(0).text().trim().to_owned()
}

/// The JSON values of the lines of a text.
fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// A seeder that has told the nodes where it is.
fn announced(content: &Content, nodes: &Nodes) -> Seeder {
    let seeder = Seeder::with_nodes(content, nodes);
    let hash = content.info_hash();
    // Bounded by how long a lookup may take, and by the number of tries.
    let is_found = |_| nodes.run(args!["dht", "get-peers", &hash]).text().contains(&seeder.addr());
    assert!((0..200).any(is_found), "no node heard of the seeder");
    seeder
}

#[test]
fn a_magnet_link_and_a_node_are_enough() {
    let (nodes, content) = (Nodes::start(3), Content::folder(&[("a", 300_000), ("b", 50_000)]));
    let seeder = announced(&content, &nodes);
    let cache = content.root().join("cache");
    let download = |source: &str, more: &[OsString]| {
        let args = args!["--json", "download", source, "-d", content.place()];
        let mut download = nodes.command(args.iter().chain(&here()).chain(more));
        Ran::from(download.env("XDG_CACHE_HOME", &cache).output().unwrap()).ends_with(0)
    };
    let downloaded = |ran: Ran| lines(&ran.text()).pop().unwrap()["downloaded"].clone();
    assert_eq!(downloaded(download(&link(&content), &[])), 350_000);
    content.assert_copied();
    // What peers told is kept: nobody has to be asked what the link means.
    drop((seeder, nodes));
    let alone = |args: &[OsString]| {
        let ran = command(args).env("XDG_CACHE_HOME", &cache).output().unwrap();
        Ran::from(ran).ends_with(0)
    };
    let hash = content.info_hash();
    let args = args!["--json", "download", &hash, "-d", content.place()];
    assert_eq!(downloaded(alone(&args)), 0);
    assert!(alone(&args!["info", "--fetch", &hash]).text().contains("Name: content\n"));
    let mut seed =
        command(args!["--json", "seed", &hash, content.place(), "--bind", "127.0.0.1", "--port", "0"]);
    seed.env("XDG_CACHE_HOME", &cache);
    let said = run(args!["handshake", &hash, Seeder::spawn(seed).addr(), "--json"]).ends_with(0).json();
    assert_eq!(said["complete"], true, "{said}");
    // A damaged file is as good as none.
    let kept = cache.join("fast-peer/metadata").join(format!("{hash}.torrent"));
    let mut bytes = fs::read(&kept).unwrap();
    let last = bytes.len() - 10;
    bytes[last] ^= 1;
    fs::write(&kept, bytes).unwrap();
    let args = args!["info", "--fetch", &hash, "--stop-timeout", "1", "--port", "0", "--bind", "127.0.0.1"];
    let ran = command(&args).env("XDG_CACHE_HOME", &cache).output().unwrap();
    assert!(Ran::from(ran).ends_with(2).stderr.contains("no metadata came in time"));
}

#[test]
fn a_link_can_name_peers_and_files() {
    let content = Content::folder(&[("a", 50_000), ("b", 60_000), ("c", 70_000)]);
    let seeder = Seeder::start(&content);
    let link = format!("{}&x.pe={}&so=1&ws=http://{NOBODY}/", link(&content), seeder.addr());
    let download = |more: &[OsString]| {
        let args = args!["--json", "download", &link, "-d", content.place()];
        run(args.iter().chain(&here()).chain(more)).ends_with(0)
    };
    download(&[]);
    let names = || {
        let found = files(&content.place().join("content"));
        found.into_iter().map(|(path, _)| path.display().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(), ["b"]);
    // What is typed counts more than the link.
    download(&args!["--files", "1,3"]);
    assert_eq!(names(), ["a", "b", "c"]);
    content.assert_copied();
}

#[test]
fn a_hash_and_a_peer_are_enough() {
    let content = Content::file(200_000);
    let seeder = Seeder::start(&content);
    let hash = content.info_hash();
    let from = args!["--peer", seeder.addr()];
    let args = args!["download", &hash, "-d", content.place()];
    run(args.iter().chain(&here()).chain(&from)).ends_with(0);
    content.assert_copied();
    let args = args!["download", &hash, "-o", "-"];
    assert!(run(args.iter().chain(&here()).chain(&from)).ends_with(0).stdout == content.bytes());
    let out = content.root().join("piece");
    let args = args!["magnet_download_piece", "-o", &out, &hash, "2"];
    run(args.iter().chain(&here()).chain(&from)).ends_with(0);
    assert!(fs::read(&out).unwrap() == content.bytes()[2 * (32 << 10)..3 * (32 << 10)]);
    let args = args!["piece", "-o", "-", &hash, "7"];
    let wrong = run(args.iter().chain(&here()).chain(&from)).ends_with(28);
    assert!(wrong.stderr.contains("there is no piece 7: the torrent has 7"), "{}", wrong.stderr);
}

#[test]
fn a_link_that_nobody_knows_says_what_it_waits_for() {
    let folder = tempfile::tempdir().unwrap();
    let here = args!["--bind", "127.0.0.1", "--port", "0", "--stop-timeout", "1", "--progress", "json"];
    for args in [
        &args!["download", "00".repeat(20), "-d", folder.path()][..],
        &args!["metadata", "00".repeat(20), "-o", "-"],
        &args!["piece", "00".repeat(20), "0", "-o", "-"],
    ] {
        let stderr = run(args.iter().chain(&here)).ends_with(2).stderr;
        let progress: Vec<Value> =
            stderr.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let waits = |line: &Value| line["waiting"] == "no peers, and no tracker to ask for some";
        assert!(!progress.is_empty() && progress.iter().all(waits), "{stderr}");
        assert!(progress.iter().all(|line| line["metadata"]["have"] == 0), "{stderr}");
        let last = stderr.lines().last().unwrap();
        assert!(last.starts_with("fast-peer: ") && last.ends_with("no tracker to ask for some"), "{stderr}");
    }
}

#[test]
fn the_metadata_becomes_a_torrent_file() {
    let content = Content::file(100_000);
    let seeder = Seeder::start(&content);
    let out = content.root().join("fetched.torrent");
    let link = format!("{}&tr=http%3A%2F%2F{NOBODY}%2Fannounce", link(&content));
    let more = args!["--peer", seeder.addr()];
    let args = args!["metadata", &link, "-o", &out, "--json"];
    let said = run(args.iter().chain(&here()).chain(&more)).ends_with(0).json();
    assert_eq!(said["info_hash"].as_str().unwrap(), content.info_hash());
    let fetched = run(args!["info", "--json", "--hashes", &out]).ends_with(0).json();
    let original = run(args!["info", "--json", "--hashes", &content.torrent]).ends_with(0).json();
    assert_eq!(fetched["piece_hashes"], original["piece_hashes"]);
    assert_eq!(fetched["trackers"][0][0], format!("http://{NOBODY}/announce"));
    // What is there is kept, unless it may go.
    run(args.iter().chain(&here()).chain(&more)).ends_with(13);
    let to_stdout = args!["metadata", &link, "-o", "-"];
    assert!(run(to_stdout.iter().chain(&here()).chain(&more)).ends_with(0).stdout == fs::read(&out).unwrap());
    let hashes = run(args!["magnet_info", &link].iter().chain(&here()).chain(&more)).ends_with(0).text();
    assert!(hashes.contains("Piece Hashes:\n"), "{hashes}");
    // Nothing is asked of anybody unless it is wished.
    let offline = run(args!["info", &link].iter().chain(&more)).ends_with(0).text();
    assert!(!offline.contains("Piece Length"), "{offline}");
}

#[test]
fn a_handshake_finds_its_peer() {
    let (nodes, content, tracker) = (Nodes::start(2), Content::file(100_000), Tracker::start());
    let seeder = announced(&content, &nodes);
    let said = nodes.run(args!["magnet_handshake", link(&content), "--json"]).ends_with(0).json();
    assert_eq!(said["address"].as_str().unwrap(), seeder.addr());
    let has = |said: &Value, name: &str| said["extensions"].as_array().unwrap().contains(&name.into());
    assert!(has(&said, "dht") && has(&said, "ut_pex") && has(&said, "ut_metadata"), "{said}");
    // The switches are seen from outside.
    let plain = Seeder::with(&content, &args!["--no-pex", "--tracker", tracker.http()]);
    tracker.wait_for(&content.info_hash(), |counts| counts.seeders == 1);
    let args = args!["handshake", content.info_hash(), "--json", "--tracker", tracker.http()];
    let said = run(args).ends_with(0).json();
    assert_eq!(said["address"].as_str().unwrap(), plain.addr());
    assert!(!has(&said, "dht") && !has(&said, "ut_pex") && has(&said, "ut_metadata"), "{said}");
    let named = format!("{}&x.pe={NOBODY}", link(&content));
    run(args!["handshake", named, "--json"]).ends_with(6);
}

#[test]
fn peers_are_named_with_their_source() {
    let (nodes, content, tracker) = (Nodes::start(2), Content::file(400_000), Tracker::start());
    let seeder = announced(&content, &nodes);
    let more = args!["--tracker", tracker.http()];
    let from_both = nodes.run(args!["peers", &content.torrent, "--json"].iter().chain(&more)).ends_with(0);
    let said = lines(&from_both.text());
    let dht = said.iter().find(|line| line["source"] == "dht").unwrap();
    assert_eq!(dht["address"].as_str().unwrap(), seeder.addr());
    assert!(said.iter().any(|line| line["tracker"] == *tracker.http().strip_suffix("/announce").unwrap()));
    assert!(said.last().unwrap()["dht"]["answered"].as_u64().unwrap() >= 2);
    let text = nodes.run(args!["peers", &content.info_hash(), "--source", "dht"]).ends_with(0).text();
    assert!(text.starts_with(&format!("{} dht\n", seeder.addr())), "{text}");

    // A peer tells of the others that it knows.
    let other = Seeder::with(&content, &args!["--limit-up", "1K"]);
    let slow = Content::file(400_000);
    let args = args![
        "download",
        &slow.torrent,
        "-d",
        slow.place(),
        "--peer",
        other.addr(),
        "--bind",
        "127.0.0.1",
        "--port",
        "0",
    ];
    let mut leecher = command(args).spawn().unwrap();
    let pex = args!["--source", "pex", "--timeout", "3"];
    let by_hash = args!["peers", content.info_hash(), "--peer", other.addr()];
    let by_link = args!["peers", format!("{}&x.pe={}", link(&content), other.addr())];
    let told = [&by_hash[..], &by_link].map(|args| {
        // Both ends of the download obfuscate and speak uTP.
        let is_told = |_| run(args.iter().chain(&pex)).text().contains(" pex (encryption, ");
        (0..20).any(is_told)
    });
    leecher.kill().and_then(|()| leecher.wait()).unwrap();
    assert_eq!(told, [true; 2], "no peer told of another");
}

#[test]
fn switches_can_be_set_in_the_environment() {
    for (value, says) in [
        ("yes", "there is no tracker to ask"),
        ("1", "there is no tracker to ask"),
        ("maybe", "--no-dht"),
        // Then there is the DHT, and nobody in it.
        ("off", "of the DHT"),
    ] {
        let mut peers = command(args!["peers", "00".repeat(20)]);
        peers.env("FAST_PEER_NO_DHT", value).env("FAST_PEER_DHT_BOOTSTRAP", format!("{NOBODY},127.0.0.1:2"));
        let ran = Ran::from(peers.output().unwrap());
        assert!(ran.code != 0 && ran.stderr.contains(says), "{value}: {}", ran.stderr);
    }
}

#[test]
fn a_private_torrent_is_looked_for_at_its_trackers_alone() {
    let (nodes, content) = (Nodes::start(2), Content::file(1000));
    let private = content.root().join("private.torrent");
    run(args!["create", "-p", content.original(), "-o", &private]).ends_with(0);
    let refused = nodes.run(args!["peers", &private, "--source", "dht"]).ends_with(28);
    assert!(refused.stderr.contains("private"), "{}", refused.stderr);
    nodes.run(args!["peers", &private]).ends_with(28);
    nodes.run(args!["handshake", &private]).ends_with(28);
}

#[test]
fn nodes_answer_what_they_are_asked() {
    let nodes = Nodes::start(4);
    let (first, place) = (nodes.first(), "5a".repeat(20));
    let pong = nodes.run(args!["dht", "ping", &first, "--json"]).ends_with(0).json();
    assert_eq!(pong["address"], *first);
    let silent = nodes.run(args!["dht", "ping", NOBODY]).ends_with(2);
    assert!(silent.stderr.contains("no node answered there"), "{}", silent.stderr);
    let found = nodes.run(args!["dht", "find-node", &place]).ends_with(0).text();
    assert!(found.contains(&format!("{} {first}\n", pong["id"].as_str().unwrap())), "{found}");
    assert!(found.lines().count() > 4 && found.ends_with(" nodes answered\n"), "{found}");
    let stats = nodes.run(args!["dht", "stats", "--json"]).ends_with(0).text();
    assert!(lines(&stats)[0]["nodes"].as_u64().unwrap() > 0, "{stats}");

    let announce = args!["dht", "announce", &place, "--port", "4242", "--seed", "--json"];
    assert!(nodes.run(announce).ends_with(0).json()["stored"].as_u64().unwrap() > 0);
    let peers = nodes.run(args!["dht", "get-peers", &place]).ends_with(0).text();
    assert!(peers.starts_with("127.0.0.1:4242\n# "), "{peers}");
    let counted = nodes.run(args!["dht", "scrape", &place]).ends_with(0).text();
    assert_eq!(counted, format!("{place}: about 1 seeders and 0 leechers\n"));
    let sampled = nodes.run(args!["dht", "sample", "00".repeat(20)]).ends_with(0).text();
    assert!(sampled.contains(&format!("{place}\n")), "{sampled}");

    let nobody = command(args!["dht", "get-peers", &place, "--dht-bootstrap", NOBODY, "--timeout", "2"]);
    let nobody = { nobody }.output().map(Ran::from).unwrap().ends_with(2);
    assert!(nobody.stderr.contains("of the DHT"), "{}", nobody.stderr);
}

#[test]
fn values_are_kept_and_replaced() {
    let (nodes, folder) = (Nodes::start(3), tempfile::tempdir().unwrap());
    let put = |more: &[OsString]| nodes.run(args!["--json", "dht", "put"].iter().chain(more));
    let said = |ran: Ran| lines(&ran.ends_with(0).text());
    let fixed = said(put(&args!["hello"]));
    // sha1sum of `5:hello`.
    let place = "e28910ea0adb94dd45ced75fbff3e135c01bc437";
    assert_eq!(fixed[0]["target"], place);
    assert!(fixed[1]["stored"].as_u64().unwrap() > 0, "{fixed:?}");
    assert!(nodes.run(args!["dht", "get", place]).ends_with(0).text().contains("Value: \"hello\"\n"));
    nodes.run(args!["dht", "get", "00".repeat(20)]).ends_with(2);

    let key = folder.path().join("key");
    let first = said(put(&args!["one", "--generate-key", &key, "--salt", "s"]));
    assert_eq!((&first[0]["seq"], &first[0]["salt"]), (&1.into(), &"s".into()));
    assert_eq!(said(put(&args!["two", "--key-file", &key, "--salt", "s"]))[0]["seq"], 2);
    put(&args!["x", "--generate-key", &key]).ends_with(13);
    let old = put(&args!["old", "--key-file", &key, "--salt", "s", "--seq", "1"]).ends_with(6);
    assert!(old.stderr.contains("nodes took the value"), "{}", old.stderr);
    put(&args!["x", "--key-file", &key, "--salt", "s", "--seq", "9", "--cas", "1"]).ends_with(6);
    let public = first[0]["key"].as_str().unwrap();
    let got = nodes.run(args!["--json", "dht", "get", public, "--salt", "s"]).ends_with(0).json();
    assert_eq!((&got["value"], &got["seq"]), (&"two".into(), &2.into()));

    // A torrent that changes (BEP 46).
    let hash = "61".repeat(20);
    let value = "d2:ih20:aaaaaaaaaaaaaaaaaaaae";
    said(put(&args!["--bencode", value, "--key-file", &key]));
    let link = format!("magnet:?xs=urn:btpk:{public}");
    assert_eq!(nodes.run(args!["--json", "dht", "get", link]).ends_with(0).json()["info_hash"], *hash);
}

/// But those of a private torrent come from its trackers alone (BEP 27).
#[test]
fn peers_are_kept_between_runs() {
    let content = Content::file(200_000);
    let private = content.root().join("private.torrent");
    run(args!["create", "-p", content.original(), "-s", "32K", "-o", &private]).ends_with(0);
    let download = |torrent: &PathBuf, more: &[OsString]| {
        if content.place().exists() {
            fs::remove_dir_all(content.place()).unwrap();
        }
        let args = args!["download", torrent, "-d", content.place(), "--stop-timeout", "2"];
        let args = args.into_iter().chain(args!["--bind", "127.0.0.1", "--port", "0"]);
        let mut download = command(args.chain(more.iter().cloned()));
        let download = download.env("XDG_CACHE_HOME", content.root().join("cache")).output();
        Ran::from(download.unwrap())
    };
    for (torrent, again) in [(&content.torrent, 0), (&private, 2)] {
        let seed = args!["--json", "seed", torrent, content.root(), "--bind", "127.0.0.1", "--port", "0"];
        let seeder = Seeder::spawn(command(seed));
        download(torrent, &args!["--peer", seeder.addr()]).ends_with(0);
        content.assert_copied();
        download(torrent, &[]).ends_with(again);
    }
}

#[test]
fn nodes_are_kept_between_runs() {
    let (nodes, folder) = (Nodes::start(3), tempfile::tempdir().unwrap());
    let find = |bootstrap: &str| {
        let args = args!["dht", "find-node", "00".repeat(20), "--dht-bootstrap", bootstrap];
        command(args).env("XDG_CACHE_HOME", folder.path()).output().map(Ran::from).unwrap()
    };
    find(NOBODY).ends_with(2);
    let file = folder.path().join("fast-peer/dht");
    assert!(!file.exists(), "nobody was known");
    find(&nodes.first()).ends_with(0);
    let text = find(NOBODY).ends_with(0).text();
    assert!(text.contains(&nodes.first()), "{text}");
    fs::write(&file, "nonsense").unwrap();
    let warned = find(&nodes.first()).ends_with(0);
    assert_eq!(warned.stderr.lines().count(), 1, "{}", warned.stderr);
    assert!(warned.stderr.contains("starting without the nodes in it"), "{}", warned.stderr);
    assert_eq!(find(NOBODY).ends_with(0).stderr, "", "it was replaced");
}

#[test]
fn the_prototypes_command_downloads() {
    let (nodes, content) = (Nodes::start(2), Content::file(70_000));
    let _seeder = announced(&content, &nodes);
    let folder = tempfile::tempdir().unwrap();
    let mut dht = nodes.command(args!["dht", "-o", "out.bin", link(&content)]);
    dht.current_dir(folder.path()).env("FAST_PEER_BIND", "127.0.0.1").env("FAST_PEER_PORT", "0");
    Ran::from(dht.env("FAST_PEER_STOP_TIMEOUT", "20").output().unwrap()).ends_with(0);
    assert!(fs::read(folder.path().join("out.bin")).unwrap() == content.bytes());
}

#[test]
fn the_demo_needs_no_tracker() {
    let said = run(args!["demo", "--trackerless", "--json"]).ends_with(0).json();
    assert_eq!((&said["tracker"], &said["nodes"]), (&Value::Null, &32.into()));
    let text = run(args!["demo", "--trackerless"]).ends_with(0).text();
    assert!(text.contains("DHT:     32 nodes\n") && text.contains("every byte is right"), "{text}");
}

/// BEP 27: what peers told once is enough to know that nobody else may be asked, and that no peer is kept.
#[test]
fn a_link_that_turned_out_private_is_left_to_its_trackers() {
    let (nodes, content) = (Nodes::start(2), Content::private(100_000));
    let (seeder, hash) = (Seeder::start(&content), content.info_hash());
    let cache = content.root().join("cache");
    let ran = |args: &[OsString]| {
        let ran = nodes.command(args).env("XDG_CACHE_HOME", &cache).output().unwrap();
        Ran::from(ran)
    };
    let met = cache.join("fast-peer/peers").join(&hash);
    fs::create_dir_all(met.parent().unwrap()).unwrap();
    fs::write(&met, format!("{}\n", seeder.addr())).unwrap();
    let download = args!["download", &hash, "-d", content.place(), "--peer", seeder.addr()];
    ran(&[&download[..], &here()].concat()).ends_with(0);
    content.assert_copied();
    assert!(!met.exists(), "it keeps peers of a private torrent");
    for source in ["dht", "pex", "lsd"] {
        let refused = ran(&args!["peers", &hash, "--source", source]).ends_with(28);
        assert!(refused.stderr.contains("private"), "{}", refused.stderr);
    }
}

#[test]
fn a_link_says_whom_to_tell_of_what_is_seeded() {
    let (content, tracker) = (Content::file(100_000), Tracker::start());
    let (seeder, hash) = (Seeder::start(&content), content.info_hash());
    let cache = content.root().join("cache");
    let link = format!("{}&tr={}&x.pe={}", link(&content), tracker.http(), seeder.addr());
    let args = args!["download", &link, "-d", content.place()];
    let mut download = command(args.iter().chain(&here()));
    Ran::from(download.env("XDG_CACHE_HOME", &cache).output().unwrap()).ends_with(0);
    let seeded = args!["--json", "seed", &link, content.place(), "--bind", "127.0.0.1", "--port", "0"];
    let mut seed = command(&seeded);
    seed.env("XDG_CACHE_HOME", &cache);
    let _second = Seeder::spawn(seed);
    tracker.wait_for(&hash, |counts| counts.seeders == 1);
}

#[test]
fn progress_is_shown_as_it_is_asked_for() {
    let content = Content::file(300_000);
    let seeder = Seeder::start(&content);
    let out = content.root().join("piece");
    let piece = args!["piece", "-f", "-o", &out, &content.torrent, "2"];
    let stream = args!["download", &content.torrent, "-o", "-"];
    for args in [&piece[..], &stream] {
        let said = |more: &[OsString]| {
            let from = args!["--peer", seeder.addr(), "--tracker", format!("http://{NOBODY}/announce")];
            run(args.iter().chain(&here()).chain(&from).chain(more)).ends_with(0).stderr
        };
        let json = said(&args!["--progress", "json"]);
        assert!(!json.is_empty() && lines(&json).iter().all(|line| line["wanted"].is_u64()), "{json}");
        assert_eq!(said(&args!["--quiet"]), "");
    }
}

#[test]
fn no_key_is_left_of_a_value_that_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    run(args!["dht", "put", "no bencode", "--bencode", "--generate-key", &key]).ends_with(28);
    assert!(!key.exists(), "there is a key without a value");
}
