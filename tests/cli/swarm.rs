//! Peers and trackers.

use crate::support::{Content, NOBODY, Ran, Seeder, Tracker, args, command, files, run};
use serde_json::{Value, json};
use std::fs;

#[test]
fn the_demo_shares_files_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let temp = folder.path().join("temp");
    fs::create_dir(&temp).unwrap();
    let ran = Ran::from(command(args!["demo"]).env("TMPDIR", &temp).output().unwrap()).ends_with(0);
    assert!(ran.text().contains("every byte is right"), "{}", ran.text());
    assert_eq!(fs::read_dir(&temp).unwrap().count(), 0);

    let kept = folder.path().join("kept");
    let said = run(args!["demo", "--json", "--keep", &kept]).ends_with(0).json();
    assert_eq!(said["files"], 3);
    let sent: u64 =
        said["seeders"].as_array().unwrap().iter().map(|it| it["uploaded"].as_u64().unwrap()).sum();
    assert!(sent >= said["bytes"].as_u64().unwrap());
    assert_eq!(files(&kept.join("downloaded")), files(&kept.join("seeded")));
    run(args!["verify", kept.join("demo.torrent"), kept.join("downloaded")]).ends_with(0);
    run(args!["demo", "--keep", &kept]).ends_with(13);
}

#[test]
fn a_handshake_shows_the_peer() {
    let content = Content::file(100_000);
    let seeder = Seeder::start(&content);
    let said = run(args!["handshake", &content.torrent, seeder.addr(), "--json"]).ends_with(0).json();
    assert!(said["client"].as_str().unwrap().starts_with("fast-peer "), "{said}");
    assert!(said["peer_id"].as_str().unwrap().starts_with("2d4650"), "{said}");
    assert_eq!(
        (&said["port"], &said["pieces"], &said["piece_count"]),
        (&seeder.port.into(), &4.into(), &4.into())
    );
    let text = run(args!["nhandshake", &content.torrent, seeder.addr()]).ends_with(0).text();
    assert!(text.contains("Pieces: all of 4\n") && text.contains("Extensions: extended fast"), "{text}");

    // By its hash alone, the torrent's number of pieces is not known.
    let said = run(args!["--json", "handshake", content.info_hash(), seeder.addr()]).ends_with(0).json();
    assert_eq!((&said["complete"], &said["piece_count"]), (&true.into(), &Value::Null));
    let link = format!("magnet:?xt=urn:btih:{}", content.info_hash());
    run(args!["handshake", link, seeder.addr()]).ends_with(0);

    let other = run(args!["handshake", "0".repeat(40), seeder.addr()]).ends_with(6);
    assert!(other.stderr.contains("it may not have this torrent"), "{}", other.stderr);
}

#[test]
fn a_handshake_shows_whether_the_peer_encrypts() {
    let content = Content::file(100_000);
    let greet = |seeder: &Seeder, policy: &str, method: &str| {
        let options = args!["--encryption", policy, "--encryption-method", method, "--json"];
        let greeting = args!["handshake", &content.torrent, seeder.addr()];
        run(greeting.iter().chain(&options))
    };
    let seeder = Seeder::start(&content);
    for (policy, method, encryption) in
        [("off", "any", "none"), ("prefer", "any", "handshake"), ("require", "rc4", "rc4")]
    {
        let said = greet(&seeder, policy, method).ends_with(0).json();
        assert_eq!((&said["encryption"], &said["pieces"]), (&encryption.into(), &4.into()), "{said}");
    }
    let plain = Seeder::with(&content, &args!["--encryption", "off"]);
    assert_eq!(greet(&plain, "prefer", "any").ends_with(0).json()["encryption"], "none");
    let refused = greet(&plain, "require", "any").ends_with(6);
    assert!(refused.stderr.contains("no encrypted connection"), "{}", refused.stderr);
    let forced = Seeder::with(&content, &args!["--encryption", "require"]);
    greet(&forced, "off", "any").ends_with(6);
}

#[test]
fn a_handshake_with_nonsense_is_refused() {
    use std::io::{Read as _, Write as _};

    let (hash, other) = ([0x11_u8; 20], [0x22_u8; 20]);
    let answer = |hash: &[u8; 20]| [b"\x13BitTorrent protocol", &[0; 8][..], hash, &[b'x'; 20]].concat();
    for (reply, code, why) in [
        (answer(&hash), 0, "Peer ID: 7878"),
        (answer(&other), 6, "for another torrent"),
        (b"HTTP/1.1 400 Bad Request\r\n".to_vec(), 6, "not BitTorrent's"),
    ] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let peer = std::thread::Builder::new().spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut greeting = [0; 68];
            stream.read_exact(&mut greeting).unwrap();
            stream.write_all(&reply).unwrap();
            greeting
        });
        let ran = run(args!["handshake", "11".repeat(20), addr, "--encryption", "off"]).ends_with(code);
        assert!(format!("{}{}", ran.text(), ran.stderr).contains(why), "{}{}", ran.text(), ran.stderr);
        assert_eq!(peer.unwrap().join().unwrap()[28..48], hash);
    }
}

#[test]
fn an_echo_is_no_peer() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let echo = std::thread::Builder::new().spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        // Ends when the other side does.
        let _: std::io::Result<u64> = std::io::copy(&mut &stream, &mut &stream);
    });
    let ran = run(args!["handshake", "11".repeat(20), addr, "--encryption", "off"]).ends_with(6);
    assert!(ran.stderr.contains("this client itself"), "{}", ran.stderr);
    echo.unwrap().join().unwrap();
}

#[test]
fn trackers_name_peers_and_count_them() {
    let (tracker, content) = (Tracker::start(), Content::file(100_000));
    let hash = content.info_hash();
    let seeder = Seeder::with(&content, &args!["--tracker", tracker.http()]);
    tracker.wait_for(&hash, |counts| counts.seeders == 1);

    let both = args!["--tracker", tracker.http(), "--tracker", tracker.udp()];
    let peers = args!["peers", &content.torrent, "--json"];
    let text = run(peers.iter().chain(&both)).ends_with(0).text();
    let mut said: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let summaries = said.split_off(2);
    for (tracker, url) in [tracker.http(), tracker.udp()].into_iter().map(host).enumerate() {
        let peer = json!({ "address": seeder.addr(), "source": "tracker", "tracker": url });
        assert!(said.contains(&peer), "{tracker}: {text}");
        let summary = summaries.iter().find(|line| line["tracker"] == *url).unwrap();
        assert_eq!(summary["seeders"], 1, "{text}");
    }
    // Whoever only asked has left again.
    tracker.wait_for(&hash, |counts| (counts.seeders, counts.leechers) == (1, 0));

    let args = args!["peers", &hash, "--tracker", tracker.udp()];
    let text = run(args).ends_with(0).text();
    let first = text.lines().next().unwrap();
    assert!(first.starts_with(&format!("{} tracker udp://127.0.0.1:", seeder.addr())), "{text}");
    assert!(text.contains(": 1 seeders, 1 leechers\n"), "{text}");

    for url in [tracker.http(), tracker.udp()] {
        let args = args!["scrape", &content.torrent, "--json", "--tracker", url];
        let said = run(args).ends_with(0).json();
        assert_eq!((&said["seeders"], &said["leechers"]), (&1.into(), &0.into()), "{said}");
    }
    let unknown = args!["scrape", "00".repeat(20), "--tracker", tracker.http()];
    assert!(run(unknown).ends_with(0).text().contains("not known there"));
}

#[test]
fn trackers_are_told_the_port_that_leads_here() {
    let (tracker, content) = (Tracker::start(), Content::file(100_000));
    let _seeder = Seeder::with(&content, &args!["--tracker", tracker.udp(), "--announce-port", "7777"]);
    tracker.wait_for(&content.info_hash(), |counts| counts.seeders == 1);
    let text = run(args!["peers", &content.torrent, "--tracker", tracker.udp()]).ends_with(0).text();
    assert!(text.starts_with("127.0.0.1:7777 tracker "), "{text}");
}

/// A tracker's URL as it is shown.
fn host(url: String) -> String {
    url.strip_suffix("/announce").unwrap().to_owned()
}

#[test]
fn trackers_that_do_not_answer_are_named() {
    let tracker = Tracker::start();
    let (dead, hash) = (format!("http://{NOBODY}/announce"), "00".repeat(20));
    for command in ["peers", "scrape"] {
        let ran = run(args![command, &hash, "--tracker", &dead]).ends_with(6);
        assert!(ran.stderr.contains(NOBODY), "{}", ran.stderr);
        let ran = run(args![command, &hash, "--tracker", &dead, "--tracker", tracker.http()]).ends_with(0);
        assert!(ran.stderr.contains(NOBODY), "{}", ran.stderr);
    }
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let silent = format!("udp://{}/announce", silent.local_addr().unwrap());
    run(args!["scrape", &hash, "--tracker", silent, "--timeout", "1"]).ends_with(2);
}
