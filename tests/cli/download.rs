//! Downloads between processes.

use crate::support::{Content, Ran, Seeder, args, command, download, files, run};
use serde_json::Value;
use std::fs;

fn complete(ran: &Ran) -> Value {
    let last = ran.text();
    serde_json::from_str(last.lines().last().expect("it reports")).expect("it reports in JSON")
}

#[test]
fn files_of_all_sizes_arrive() {
    let content = Content::folder(&[
        ("a empty", 0),
        ("b one", 1),
        ("c piece", 32 << 10),
        ("d/e/odd", 100_003),
        ("f block", 16 << 10),
        ("g/empty", 0),
        ("h tail", 33),
    ]);
    let seeder = Seeder::start(&content);
    let ran = Ran::from(download(&content, &seeder).output().unwrap()).ends_with(0);
    assert_eq!(complete(&ran)["event"], "complete");
    content.assert_copied();
    // A second run finds everything in place and fetches nothing.
    let again = Ran::from(download(&content, &seeder).output().unwrap()).ends_with(0);
    assert_eq!(complete(&again)["downloaded"], 0);
    content.assert_copied();
}

#[test]
fn a_file_can_have_another_name() {
    let content = Content::file(50_000);
    let seeder = Seeder::start(&content);
    // The order of the seed: the option first.
    let args = args![
        "download",
        "-o",
        "other name",
        &content.torrent,
        "-d",
        content.place(),
        "--peer",
        seeder.addr(),
        "--bind",
        "127.0.0.1",
        "--port",
        "0",
        "--stop-timeout",
        "20",
    ];
    run(args).ends_with(0);
    assert_eq!(fs::read(content.place().join("other name")).unwrap(), content.bytes());
}

#[test]
fn one_file_goes_to_standard_output() {
    let content = Content::file(300_001);
    let seeder = Seeder::start(&content);
    let ran = Ran::from(download(&content, &seeder).args(["-o", "-"]).output().unwrap()).ends_with(0);
    assert!(ran.stdout == content.bytes());
}

#[test]
fn only_selected_files_are_completed() {
    let content = Content::folder(&[("a", 50_000), ("b", 50_000), ("c", 50_000)]);
    let seeder = Seeder::start(&content);
    let ran = Ran::from(download(&content, &seeder).args(["--files", "2"]).output().unwrap()).ends_with(0);
    let downloaded = complete(&ran)["downloaded"].as_u64().unwrap();
    // The file lies in pieces 1 to 3 of 5.
    assert_eq!(downloaded, 3 * (32 << 10));
    let folder = content.place().join("content");
    let names: Vec<_> = files(&folder).into_iter().map(|(path, _)| path).collect();
    assert_eq!(names, [std::path::Path::new("b")]);
    assert_eq!(fs::read(folder.join("b")).unwrap(), fs::read(content.original().join("b")).unwrap());
    Ran::from(download(&content, &seeder).output().unwrap()).ends_with(0);
    content.assert_copied();
}

#[test]
fn only_what_is_damaged_is_fetched_and_nothing_is_shortened() {
    let content = Content::file(200_000);
    let seeder = Seeder::start(&content);
    let mut damaged = content.bytes();
    damaged[2 * (32 << 10) + 5] ^= 0xff;
    damaged.extend(b"not the torrent's");
    fs::create_dir_all(content.place()).unwrap();
    let path = content.place().join("file.bin");
    fs::write(&path, &damaged).unwrap();
    let ran = Ran::from(download(&content, &seeder).arg("--check").output().unwrap()).ends_with(0);
    let checked: Value = serde_json::from_str(ran.text().lines().next().unwrap()).unwrap();
    assert_eq!(
        (&checked["event"], &checked["good"], &checked["pieces"]),
        (&"checked".into(), &6.into(), &7.into())
    );
    assert_eq!(complete(&ran)["downloaded"], 32 << 10);
    let mut repaired = content.bytes();
    repaired.extend(b"not the torrent's");
    assert!(fs::read(&path).unwrap() == repaired);
}

#[test]
fn one_peer_a_piece_is_enough() {
    let content = Content::file(1 << 20);
    let (one, other) = (Seeder::start(&content), Seeder::start(&content));
    let mut both = download(&content, &one);
    both.args(["--peer", &other.addr(), "--peers-per-piece", "1"]);
    let ran = Ran::from(both.output().unwrap()).ends_with(0);
    let complete = complete(&ran);
    assert_eq!(complete["bytes"], 1 << 20);
    assert_eq!(complete["payload"]["bytes"], complete["downloaded"]);
    content.assert_copied();
}

#[test]
fn a_list_of_torrents_is_worked_through() {
    let (one, two) = (Content::file(40_000), Content::folder(&[("x", 40_001)]));
    let (first, second) = (Seeder::start(&one), Seeder::start(&two));
    let list = one.root().join("list");
    let lines = format!("# both\n{}\n\n{}\n", one.torrent.display(), two.torrent.display());
    fs::write(&list, lines).unwrap();
    let args = args![
        "--json",
        "download",
        "-i",
        &list,
        "-d",
        one.place(),
        "--peer",
        first.addr(),
        "--peer",
        second.addr(),
        "--bind",
        "127.0.0.1",
        "--port",
        "0",
        "--stop-timeout",
        "20",
    ];
    let ran = run(args).ends_with(0);
    assert_eq!(ran.text().lines().count(), 2, "{}", ran.text());
    assert_eq!(
        files(&one.place()),
        [("content/x".into(), fs::read(two.original().join("x")).unwrap()), ("file.bin".into(), one.bytes()),]
    );
}

#[test]
fn patience_has_an_end_and_says_why() {
    let content = Content::file(1000);
    let args = args![
        "download",
        &content.torrent,
        "-d",
        content.place(),
        "--bind",
        "127.0.0.1",
        "--port",
        "0",
        "--stop-timeout",
        "1",
    ];
    let ran = run(args).ends_with(2);
    assert!(ran.stderr.contains("no peers, and no tracker to ask for some"), "{}", ran.stderr);
}

#[cfg(unix)]
#[test]
fn an_interrupted_download_goes_on_where_it_was() {
    use std::io::{BufRead as _, BufReader};
    use std::process::Stdio;

    let content = Content::file(2 << 20);
    let slow = Seeder::with(&content, &args!["--limit-up", "300K"]);
    let mut child = download(&content, &slow)
        .args(["--progress", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
    let has_something = |line: String| {
        let progress: Value = serde_json::from_str(&line).expect("progress is JSON");
        progress["have"].as_u64().unwrap() > 0
    };
    assert!(stderr.by_ref().any(|line| has_something(line.unwrap())), "it makes progress");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    // Whatever else it says has to go somewhere.
    let rest: Vec<String> = stderr.map(Result::unwrap).collect();
    let stopped = Ran::from(child.wait_with_output().unwrap()).ends_with(7);
    assert_eq!(stopped.json()["exit"]["name"], "unfinished", "{rest:?}");
    assert!(!content.place().join("file.bin").exists() && content.place().join("file.bin.part").exists());

    let fast = Seeder::start(&content);
    let ran = Ran::from(download(&content, &fast).output().unwrap()).ends_with(0);
    let downloaded = complete(&ran)["downloaded"].as_u64().unwrap();
    assert!(downloaded > 0 && downloaded < 2 << 20, "{downloaded}");
    content.assert_copied();
}

#[test]
fn a_list_of_addresses_is_left_alone() {
    let content = Content::file(50_000);
    let seeder = Seeder::start(&content);
    let list = content.root().join("list.dat");
    fs::write(&list, "# all\n000.000.000.000 - 255.255.255.255 , 000 , everybody\nnonsense\n").unwrap();
    // Nobody is there, and nobody is asked.
    let args = args![
        "download",
        &content.torrent,
        "-d",
        content.place(),
        "--peer",
        "203.0.113.5:6881",
        "--bind",
        "127.0.0.1",
        "--port",
        "0",
        "--no-dht",
        "--no-lsd",
        "--stop-timeout",
        "1",
        "--ip-filter",
        &list,
    ];
    let ran = run(args);
    let skipped =
        format!("fast-peer: {}: line 3 is skipped, as it is no range of addresses\n", list.display());
    assert!(ran.stderr.contains(&skipped), "{}", ran.stderr);
    assert!(ran.stderr.contains("the IP filter blocks 1 address"), "{}", ran.stderr);
    assert_ne!(ran.code, 0);
    // This machine is never blocked.
    let mut here = download(&content, &seeder);
    Ran::from(here.env("FAST_PEER_IP_FILTER", &list).output().unwrap()).ends_with(0);
    content.assert_copied();
}

#[test]
fn a_piece_comes_alone() {
    let content = Content::folder(&[("a", 10_000), ("b", 30_000), ("c", 30_001)]);
    let seeder = Seeder::start(&content);
    let all: Vec<u8> = files(&content.original()).into_iter().flat_map(|(_, bytes)| bytes).collect();
    let network = args!["--peer", seeder.addr(), "--bind", "127.0.0.1", "--port", "0"];
    for (index, piece) in all.chunks(32 << 10).enumerate() {
        let out = content.root().join(format!("piece{index}"));
        let args = args!["--json", "download_piece", "-o", &out, &content.torrent, index.to_string()];
        let ran = run(args.iter().chain(&network)).ends_with(0).json();
        assert_eq!((&ran["piece"], &ran["bytes"]), (&index.into(), &piece.len().into()));
        assert!(fs::read(&out).unwrap() == piece, "{index}");
        let args = args!["piece", &content.torrent, index.to_string(), "-o", "-"];
        assert!(run(args.iter().chain(&network)).ends_with(0).stdout == piece, "{index}");
    }
}

#[test]
fn the_sample_is_downloaded_as_the_readme_says() {
    let data = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data"));
    let torrent = data.join("sample.torrent");
    let mut seeder = command(args!["--json", "seed", &torrent, data, "--bind", "127.0.0.1", "--port", "0"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(seeder.stdout.take().unwrap()), &mut line)
        .unwrap();
    let port = serde_json::from_str::<Value>(&line).unwrap()["port"].as_u64().unwrap();
    let copies = tempfile::tempdir().unwrap();
    let args = args![
        "download",
        &torrent,
        "-d",
        copies.path(),
        "--peer",
        format!("127.0.0.1:{port}"),
        "--bind",
        "127.0.0.1",
        "--port",
        "0",
        "--stop-timeout",
        "20",
    ];
    let ran = run(args);
    seeder.kill().unwrap();
    seeder.wait().unwrap();
    ran.ends_with(0);
    assert_eq!(files(&copies.path().join("sample")), files(&data.join("sample")));
}
