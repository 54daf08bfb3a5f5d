//! The commands that need no network, run as a user runs them.

use serde_json::Value;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

#[test]
fn a_torrent_is_made_shown_and_turned_into_a_link() {
    let folder = Folder::new("made");
    fs::create_dir_all(folder.path("album/disc 1")).unwrap();
    fs::write(folder.path("album/disc 1/track.flac"), vec![7; 40_000]).unwrap();
    fs::write(folder.path("album/cover.png"), vec![9; 5]).unwrap();
    let made = folder.run(&[
        "create",
        "album",
        "-s",
        "16K",
        "-p",
        "-t",
        "http://t.example/a,udp://u.example:1",
        "-t",
        "http://v.example/a",
        "-w",
        "http://w.example/",
        "-c",
        "mine",
        "-r",
        "there",
    ]);
    assert_eq!(text(&made.stderr), "");
    let shown = folder.run(&["info", "--json", "--hashes", "album.torrent"]);
    let json: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(json["files"][0]["path"], "album/cover.png");
    assert_eq!(json["files"][1]["path"], "album/disc 1/track.flac");
    assert_eq!((&json["length"], &json["piece_count"]), (&40_005.into(), &3.into()));
    assert_eq!(json["trackers"][0][1], "udp://u.example:1");
    assert_eq!(json["web_seeds"][0], "http://w.example/");
    assert_eq!((&json["private"], &json["comment"]), (&true.into(), &"mine".into()));
    // sha1sum of 5 bytes of 9 and 16,379 of 7, of 16,384 of 7, and of 7,237 of 7.
    let hashes = [
        "a7b03b58df4498f7103d4a5bf64d0d36c784a689",
        "e6d25d2582fcd098d2ad8ca23837b3c2819975cf",
        "d39388577e4639950823021c480066ab22ff85c5",
    ];
    assert_eq!(json["piece_hashes"].as_array().unwrap()[..], hashes.map(Value::from));

    let link = folder.run(&["magnet", "album.torrent"]);
    let link = text(&link.stdout);
    let hash = json["info_hash"].as_str().unwrap();
    assert!(link.starts_with(&format!("magnet:?xt=urn:btih:{hash}&dn=album&tr=")), "{link}");
    let back = folder.run(&["magnet_parse", "--json", link.trim()]);
    let back: Value = serde_json::from_slice(&back.stdout).unwrap();
    assert_eq!((&back["info_hash"], &back["name"]), (&json["info_hash"], &json["name"]));

    let again = folder.run(&["create", "album"]);
    assert_eq!(again.status.code(), Some(13), "a torrent that is there is kept");
    assert!(folder.run(&["create", "album", "--force"]).status.success());
}

#[test]
fn failures_have_a_code_a_line_and_a_json_form() {
    let folder = Folder::new("failures");
    fs::write(folder.path("broken.torrent"), "d4:info").unwrap();
    fs::write(folder.path("empty.torrent"), "de").unwrap();
    for (args, code, name) in [
        (&["info", "missing.torrent"][..], 15, "open"),
        (&["info", "broken.torrent"], 25, "bencode"),
        (&["info", "empty.torrent"], 26, "torrent"),
        (&["info", "magnet:?xt=urn:btih:1"], 27, "magnet"),
        (&["decode", "i03e"], 25, "bencode"),
        (&["create", "missing"], 15, "open"),
        (&["man", "missing"], 28, "option"),
        (&["no-such-command"], 28, "option"),
        (&["info"], 28, "option"),
    ] {
        let plain = folder.run(args);
        assert_eq!((plain.status.code(), text(&plain.stdout)), (Some(code), String::new()), "{args:?}");
        assert!(text(&plain.stderr).starts_with("fast-peer: "), "{args:?}");
        let json = folder.run(&[args, &["--json"]].concat());
        assert_eq!((json.status.code(), text(&json.stderr).lines().count()), (Some(code), 1), "{args:?}");
        let form: Value = serde_json::from_slice(&json.stdout).unwrap();
        assert_eq!((&form["exit"]["code"], &form["exit"]["name"]), (&code.into(), &name.into()), "{args:?}");
    }
}

#[test]
fn decode_takes_text_files_and_standard_input() {
    let folder = Folder::new("decode");
    fs::write(folder.path("value"), b"d1:xi2e1:a2:\xff\x00e\n").unwrap();
    assert_eq!(text(&folder.run(&["decode", "l4:spami-3ee"]).stdout), "[\"spam\",-3]\n");
    assert_eq!(folder.run(&["decode", "value"]).status.code(), Some(25), "strict unless told otherwise");
    assert_eq!(folder.run(&["decode", "--lenient", "--strict", "value"]).status.code(), Some(25));
    let lenient = folder.run(&["decode", "--lenient", "value"]);
    assert_eq!(text(&lenient.stdout), "{\"x\":2,\"a\":\"hex:ff00\"}\n");
    let warnings = ["unsorted keys", "something follows the value at byte 15"];
    let warnings = warnings.map(|warning| format!("fast-peer: not canonical: {warning}\n")).concat();
    assert_eq!(text(&lenient.stderr), warnings);

    let mut piped =
        folder.command(&["decode", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    piped.stdin.take().unwrap().write_all(b"4:spam").unwrap();
    assert_eq!(text(&piped.wait_with_output().unwrap().stdout), "\"spam\"\n");
}

#[test]
fn flags_can_be_set_in_the_environment() {
    let folder = Folder::new("environment");
    let shown = folder.command(&["magnet", LINK]).env("FAST_PEER_JSON", "true").output().unwrap();
    assert!(serde_json::from_slice::<Value>(&shown.stdout).is_ok());
}

#[test]
fn a_reader_that_stops_early_is_no_failure() {
    let folder = Folder::new("pipe");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let shown = folder.command(&["completions", "bash"]).stdout(writer).output().unwrap();
    assert_eq!((shown.status.success(), text(&shown.stderr)), (true, String::new()));
}

#[test]
fn help_completions_and_the_manual_name_every_command() {
    let folder = Folder::new("help");
    for args in [&["--help"][..], &["completions", "zsh"], &["man"]] {
        let shown = folder.run(args);
        assert!(shown.status.success());
        for command in ["completions", "create", "decode", "dht", "info", "magnet", "man", "metadata"] {
            assert!(text(&shown.stdout).contains(command), "{args:?}: {command}");
        }
    }
    assert!(text(&folder.run(&["man", "dht", "find-node"]).stdout).contains("closest to a place"));
    assert_eq!(folder.run(&["man", "dht", "missing"]).status.code(), Some(28));
}

/// A folder of its own for a test, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("offline-{name}"));
        // Left behind by a run that was killed.
        let _: std::io::Result<()> = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.0.join(relative)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fast-peer"));
        command.current_dir(&self.0).args(args);
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _: std::io::Result<()> = fs::remove_dir_all(&self.0);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("what people read is UTF-8")
}

const LINK: &str = "magnet:?xt=urn:btih:cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd";
